"""Pixel check of a suspected duplicate: is the second picture the first one, moved, scaled, mirrored or recoloured?

A hypothesis from elsewhere says roughly where the pictures overlap. Both overlaps are cut out as small grey tiles,
contrast-normalised within a window (so recolouring, brightness and JPEG noise hardly count), and shift and scale of
each axis are refined by Gauss-Newton steps (inverse compositional, after Baker and Matthews, IJCV 2004, section 3.2).
What is left is the correlation of the two tiles: near 1 for copies, 0.1 to 0.4 for other views of a product.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.floating]

COARSE, FINE = 32, 80
"""Longer side of the tiles, in pixels."""
TRIAL_STEPS, STEPS = 2, 8
"""Most Gauss-Newton steps of a first trial and of a refinement."""
HOPELESS = 0.22
"""Correlation after the trial under which nothing more is done."""
PROMISING = 0.35
"""Correlation of the coarse tiles under which no hypothesis is looked at closer."""
SURE = 0.95
"""Correlation of the fine tiles from which on nothing is gained by refining again."""
WINDOW = {COARSE: 7, FINE: 9}
"""Width of the contrast window, in tile pixels."""
NOISE = 3.0
"""Grey levels that count as no contrast: about the noise of JPEG at quality 50."""
SMALLEST = 20.0
"""Overlaps narrower than this, in letterbox pixels, show too little to tell."""
BLOCKS = 10
"""The fine tile is cut into about BLOCKS x BLOCKS blocks, each judged on its own."""
TEXTURED = 0.05
"""Mean square of the normalised tile above which a block has something to compare."""


class Rect(NamedTuple):
    """Left, top, right, bottom; in letterbox pixels, edges at whole numbers."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def width(self) -> float:
        """In letterbox pixels."""
        return self.right - self.left

    @property
    def height(self) -> float:
        """In letterbox pixels."""
        return self.bottom - self.top


class Warp(NamedTuple):
    """Maps the first letterbox to the second: x' = sx * x + tx, y' = sy * y + ty. sx < 0 where mirrored."""

    sx: float
    tx: float
    sy: float
    ty: float

    def __call__(self, rect: Rect) -> Rect:
        """The rectangle in the second letterbox."""
        x = sorted((self.sx * rect.left + self.tx, self.sx * rect.right + self.tx))
        return Rect(x[0], self.sy * rect.top + self.ty, x[1], self.sy * rect.bottom + self.ty)

    def inverse(self) -> Warp:
        """From the second letterbox to the first."""
        return Warp(1 / self.sx, -self.tx / self.sx, 1 / self.sy, -self.ty / self.sy)


@dataclass(frozen=True, slots=True)
class Aligned:
    """Result for one pair. `warp` maps the first letterbox to the second."""

    warp: Warp
    correlation: float
    """Of the two normalised tiles, -1..1."""
    agreeing: float
    """Mean correlation of the textured blocks, each with one voice: outlines do not outweigh what is inside, 0..1."""
    textured: float
    """Share of all blocks that have texture, 0..1."""


NOT_ALIGNED = Aligned(Warp(1, 0, 1, 0), 0.0, 0.0, 0.0)


class Grey:
    """One letterboxed picture, (H, W, 3) uint8, ready for alignment: grey at full, half and quarter size.

    `visible` is where the picture lies in the letterbox; the rest is padding and never looked at.
    """

    def __init__(self, pixels: NDArray[np.uint8], visible: Rect) -> None:
        grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
        half = cv2.resize(grey, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        quarter = cv2.resize(half, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        self.levels = tuple(level.astype(np.float32) for level in (grey, half, quarter))
        self.visible = visible
        self.content = _content(self.levels[1], visible)

    def tile(self, left: float, top: float, sx: float, sy: float, shape: tuple[int, int]) -> Float:
        """(rows, columns) float32: column c, row r shows letterbox point left + sx * (c + .5), top + sy * (r + .5)."""
        level = 0 if abs(sx) < 1.5 else 1 if abs(sx) < 3 else 2
        f = 0.5**level
        matrix = np.array([[sx * f, 0, (left + sx / 2) * f - 0.5], [0, sy * f, (top + sy / 2) * f - 0.5]])
        tile: Float = cv2.warpAffine(
            self.levels[level],
            matrix,
            (shape[1], shape[0]),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        return tile


def hypotheses_from_content(a: Grey, b: Grey) -> list[Warp]:
    """Warps that lay the box around everything drawn in `a` over that of `b`, plain and mirrored.

    Right for copies of a product on plain ground that were padded, mirrored or recoloured. Empty where the two
    boxes differ in aspect by more than 8 %.
    """
    if a.content is None or b.content is None:
        return []
    sx, sy = b.content.width / a.content.width, b.content.height / a.content.height
    if not 0.92 < sx / sy < 1.087:
        return []
    s = (sx * sy) ** 0.5
    cx, cy = (a.content.left + a.content.right) / 2, (a.content.top + a.content.bottom) / 2
    dx, dy = (b.content.left + b.content.right) / 2, (b.content.top + b.content.bottom) / 2
    return [Warp(m * s, dx - m * s * cx, s, dy - s * cy) for m in (1, -1)]


def align(a: Grey, b: Grey, hypotheses: list[Warp]) -> Aligned:
    """The best of the refined hypotheses (warps from `a` to `b`), or NOT_ALIGNED if none is promising.

    All are refined a little on coarse tiles, the best of them further, and, if it is promising, on fine tiles.
    """
    tried = [_refine(a, b, warp, COARSE, TRIAL_STEPS) for warp in hypotheses]
    if not tried:
        return NOT_ALIGNED
    warp, value = max(tried, key=lambda one: one[1])
    if value < HOPELESS:
        return NOT_ALIGNED
    warp, value = _refine(a, b, warp, COARSE, STEPS)
    if value < PROMISING:
        return NOT_ALIGNED
    warp, value = _refine(a, b, warp, FINE, STEPS)
    if value < SURE:  # a shifted overlap shows other parts of the pictures: from there the steps may go on
        warp, _ = _refine(a, b, warp, FINE, STEPS)
    return _judge(a, b, warp)


def _content(half: Float, visible: Rect) -> Rect | None:
    """The box around all contrast within the visible part, in letterbox pixels; None if the picture is plain."""
    left, top, right, bottom = (int(v) for v in (-(-visible.left // 2), -(-visible.top // 2), *_halved(visible)))
    inner = half[top:bottom, left:right]
    if min(inner.shape) < SMALLEST / 2:
        return None
    edges = np.maximum(
        np.abs(np.diff(inner, axis=0, append=inner[-1:])), np.abs(np.diff(inner, axis=1, append=inner[:, -1:]))
    )
    drawn = edges > 12  # grey levels: a product's outline, not the ground's noise or a soft shadow
    rows, columns = np.flatnonzero(drawn.any(1)), np.flatnonzero(drawn.any(0))
    if len(rows) < SMALLEST / 2 or len(columns) < SMALLEST / 2:
        return None
    x, y = (left + columns[[0, -1]]) * 2.0, (top + rows[[0, -1]]) * 2.0
    return Rect(float(x[0]), float(y[0]), float(x[1]) + 2, float(y[1]) + 2)


def _halved(visible: Rect) -> tuple[float, float]:
    return visible.right // 2, visible.bottom // 2


def overlap(a: Rect, warp: Warp, b: Rect) -> Rect:
    """The part of `a` that `warp` lays on `b`."""
    back = warp.inverse()(b)
    return Rect(max(a.left, back.left), max(a.top, back.top), min(a.right, back.right), min(a.bottom, back.bottom))


def _region(a: Grey, b: Grey, warp: Warp) -> Rect:
    """The part of the overlap where either picture has something drawn: tiles of mere ground waste resolution."""
    shared = overlap(a.visible, warp, b.visible)
    back = warp.inverse()
    drawn = [content for content in (a.content, back(b.content) if b.content else None) if content]
    if not drawn:
        return shared
    margin = 4.0  # letterbox pixels of ground around the outline
    # Two pixels less than the overlap: the rim is blended with whatever the other picture has around it.
    shared = Rect(shared.left + 2, shared.top + 2, shared.right - 2, shared.bottom - 2)
    # The smaller of the two: in a pasted copy everything around it is drawn too.
    inner = min(drawn, key=lambda r: r.width * r.height)
    return Rect(
        max(shared.left, inner.left - margin),
        max(shared.top, inner.top - margin),
        min(shared.right, inner.right + margin),
        min(shared.bottom, inner.bottom + margin),
    )


def _shape(region: Rect, longest: int) -> tuple[int, int]:
    """Rows and columns of the tile for a region."""
    f = longest / max(region.width, region.height)
    return max(8, round(region.height * f)), max(8, round(region.width * f))


def _normalised(tile: Float, window: int) -> Float:
    mean = cv2.blur(tile, (window, window))
    square = cv2.sqrBoxFilter(tile, cv2.CV_32F, (window, window))
    result: Float = (tile - mean) / np.sqrt(np.maximum(square - mean * mean, 0) + NOISE**2)
    return result


def _pair(a: Grey, b: Grey, region: Rect, warp: Warp, shape: tuple[int, int], window: int) -> tuple[Float, Float]:
    sx, sy = region.width / shape[1], region.height / shape[0]
    first = a.tile(region.left, region.top, sx, sy, shape)
    return _normalised(first, window), _second(b, region, warp, shape, window)


def _second(b: Grey, region: Rect, warp: Warp, shape: tuple[int, int], window: int) -> Float:
    sx, sy = region.width / shape[1], region.height / shape[0]
    left, top = warp.sx * region.left + warp.tx, warp.sy * region.top + warp.ty
    return _normalised(b.tile(left, top, warp.sx * sx, warp.sy * sy, shape), window)


def _correlation(first: Float, second: Float) -> float:
    square = float(np.vdot(first, first)) * float(np.vdot(second, second))
    # A tile with less than this much contrast is plain; plain tiles of two products are alike and prove nothing.
    return float(np.vdot(first, second)) / square**0.5 if square > (0.02 * first.size) ** 2 else 0.0


def _refine(a: Grey, b: Grey, warp: Warp, longest: int, steps: int) -> tuple[Warp, float]:
    """Gauss-Newton over shift and scale of both axes on the tiles of the starting overlap; best step kept."""
    region = _region(a, b, warp)
    if min(region.width, region.height) < SMALLEST:
        return warp, 0.0
    shape, window = _shape(region, longest), WINDOW[longest]
    first, second = _pair(a, b, region, warp, shape, window)
    best, value = warp, _correlation(first, second)
    # Tile coordinates run from -1 to 1, so that shift and scale steps are of one size.
    y = ((2 * np.arange(shape[0], dtype=np.float32) + 1) / shape[0] - 1)[:, None]
    x = (2 * np.arange(shape[1], dtype=np.float32) + 1) / shape[1] - 1
    gx = cv2.Sobel(first, cv2.CV_32F, 1, 0, ksize=1, scale=shape[1] / 4)
    gy = cv2.Sobel(first, cv2.CV_32F, 0, 1, ksize=1, scale=shape[0] / 4)
    slopes = np.stack([gx * x, gx, gy * y, gy]).reshape(4, -1)  # (4, rows * columns)
    hessian = (slopes @ slopes.T).astype(np.float64)
    # The small constant keeps plain tiles, which have no slope, invertible.
    inverse = np.linalg.inv(hessian + np.diag(hessian.diagonal() * 1e-3 + 1e-3))
    cx, cy, hx, hy = _centre(region)
    for _ in range(steps):
        dsx, dx, dsy, dy = (inverse @ (slopes @ (second - first).ravel())).tolist()
        if max(abs(dsx), abs(dsy), abs(dx), abs(dy)) > 0.35:
            break
        # Inverse compositional: warp after the inverse of the step, both about the region's centre.
        sx, sy = warp.sx / (1 + dsx), warp.sy / (1 + dsy)
        mx, my = warp.sx * cx + warp.tx - sx * dx * hx, warp.sy * cy + warp.ty - sy * dy * hy
        warp = Warp(sx, mx - sx * cx, sy, my - sy * cy)
        if not 0.25 < abs(sx) < 4 or not 0.8 < abs(sx) / sy < 1.25:
            break
        second = _second(b, region, warp, shape, window)
        now = _correlation(first, second)
        if now > value:
            best, value = warp, now
        if max(abs(dsx), abs(dsy), abs(dx), abs(dy)) < 0.2 / longest:
            break
    return best, value


def _centre(region: Rect) -> tuple[float, float, float, float]:
    """Centre and half sizes."""
    return (
        (region.left + region.right) / 2,
        (region.top + region.bottom) / 2,
        region.width / 2,
        region.height / 2,
    )


def _judge(a: Grey, b: Grey, warp: Warp) -> Aligned:
    region = _region(a, b, warp)
    if min(region.width, region.height) < SMALLEST:
        return NOT_ALIGNED
    shape = _shape(region, FINE)
    first, second = _pair(a, b, region, warp, shape, WINDOW[FINE])
    size = FINE // BLOCKS
    rows, columns = max(1, shape[0] // size), max(1, shape[1] // size)

    def blocks(values: Float) -> Float:
        whole = values[: rows * size, : columns * size]
        sums: Float = whole.reshape(rows, -1, columns, whole.shape[1] // columns).mean((1, 3))
        return sums

    xx, yy, xy = blocks(first * first), blocks(second * second), blocks(first * second)
    textured = np.maximum(xx, yy) > TEXTURED
    each = np.clip(xy / np.sqrt(xx * yy + TEXTURED**2 / 4), 0, 1)
    return Aligned(
        warp=warp,
        correlation=_correlation(first, second),
        agreeing=float(each[textured].mean()) if textured.any() else 0.0,
        textured=float(textured.mean()),
    )
