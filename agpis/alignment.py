"""Pixel check of a suspected duplicate: is the second picture the first one, moved, scaled, mirrored or recoloured?

A hypothesis from elsewhere says roughly where the pictures overlap. Both overlaps are cut out as small grey tiles,
contrast-normalised within a window (so recolouring, brightness and JPEG noise hardly count), and shift and scale of
each axis are refined by Gauss-Newton steps (inverse compositional, after Baker and Matthews, IJCV 2004, section 3.2).
What is left is the correlation of the two tiles: near 1 for copies, 0.1 to 0.4 for other views of a product.

`align` does that for every pair, `verify` looks closer at a few: it finds the rectangle that both pictures share (a
crop pasted on a scene shares no more), aligns it with one scale for both axes, since copies are not stretched but other
views, seen from another side, are, and asks whether one plain change of colour explains all of it (`recolouring.py`).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from agpis import recolouring
from agpis.rectangles import Cells, largest_sum

Float = NDArray[np.floating]

COARSE, FINE = 32, 80
"""Longer side of the tiles, in pixels."""
TRIAL_STEPS, STEPS = 2, 8
"""Most Gauss-Newton steps of a first trial and of a refinement."""
HOPELESS = 0.22
"""Correlation after the trial under which nothing more is done."""
DOUBTFUL = 0.3
"""The same for a hypothesis of few keypoints."""
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
ALIKE = 0.45
"""Correlation of a block from which on it speaks for lying in the shared rectangle."""
HARDLY = 3.0
"""`misfit` from which on nobody asks where exactly the pictures agree."""
ROUNDS = 2
"""Of looking for the shared rectangle and aligning it, at most."""
SETTLED = 3.0
"""Letterbox pixels: where no edge of the shared rectangle moved further, aligning it again moves little."""
CLOSE_STEPS = 5
"""Most Gauss-Newton steps of a closer look: of 5,376 copies some take more and gain 0.01 at most by them."""
LOST = 0.45
"""Correlation under which a closer look goes on no more after two steps: copies then have 0.58 at least."""
UNLIKE = 0.55
"""Correlation of the shared rectangle under which nothing more is done: of 5,376 copies, but for one that was laid in
a wrong place, none had less than 0.58."""


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

    @property
    def likeness(self) -> float:
        """Both in one number, as `Verified.likeness`."""
        return _likeness(self.correlation, self.agreeing)


NOT_ALIGNED = Aligned(Warp(1, 0, 1, 0), 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Verified:
    """Closer look at one pair. `warp` maps the first letterbox to the second, with one scale for both axes."""

    warp: Warp
    shared: Rect
    """What both pictures show, in the first letterbox."""
    correlation: float
    """Of the normalised tiles of the shared rectangle, -1..1."""
    agreeing: float
    """Mean correlation of its textured blocks, 0..1."""
    weakest: float
    """A fifth of these blocks correlate less than this, 0..1."""
    evidence: float
    """How much agrees: logarithm of the letterbox pixels of the shared rectangle, each weighted with its contrast and
    how much it agrees beyond ALIKE. 2 is one edge, 5 and more a product."""
    misfit: float
    """How badly one plain change of colour explains one picture by the other, 0 to `recolouring.MISFIT`: logarithm of 1
    + what is left, squared, and the strength of the edit, unless the white ground shows it too."""
    residual: float
    """What the edit leaves, root mean square, 0 to `recolouring.RESIDUAL`; 1 is usual noise."""
    same: float
    """Share of what both show, white ground left out, that is equal without any edit, 0..1. A mark laid over a copy
    spoils its `misfit`, which hears what is off; most of the picture is as it was all the same."""

    @property
    def likeness(self) -> float:
        """Correlation of the tiles and mean correlation of the blocks in one number: they nearly are one."""
        return _likeness(self.correlation, self.agreeing)


def _likeness(correlation: float, agreeing: float) -> float:
    return (4 * correlation + 3 * agreeing) / 7


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
        self.pixels = pixels
        self._colours: list[NDArray[np.uint8]] = []
        self.content = _content(self.levels[1], visible)

    @property
    def colours(self) -> list[NDArray[np.uint8]]:
        """The pixels at full, half and quarter size."""
        if not self._colours:
            self._colours = [self.pixels]
            for _ in range(2):
                self._colours.append(
                    np.asarray(
                        cv2.resize(self._colours[-1], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.uint8
                    )
                )
        return self._colours

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
    spread = cv2.sqrBoxFilter(tile, cv2.CV_32F, (window, window))
    spread -= mean * mean
    np.maximum(spread, 0, out=spread)
    spread += NOISE**2
    result: Float = np.subtract(tile, mean, out=mean)
    result /= np.sqrt(spread, out=spread)
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
    return (warp, 0.0) if _too_small(region) else _descend(a, b, warp, region, longest, steps)


def _too_small(region: Rect) -> bool:
    return min(region.width, region.height) < SMALLEST


def _descend(
    a: Grey, b: Grey, warp: Warp, region: Rect, longest: int, steps: int, *, one_scale: bool = False
) -> tuple[Warp, float]:
    """Gauss-Newton steps on the tiles of `region`: warp of the best one and its correlation.

    `one_scale`: both axes share a scale, in size; `warp` must be such a one.
    """
    shape, window = _shape(region, longest), WINDOW[longest]
    first, second = _pair(a, b, region, warp, shape, window)
    best, value = warp, _correlation(first, second)
    # Tile coordinates run from -1 to 1, so that shift and scale steps are of one size.
    y = ((2 * np.arange(shape[0], dtype=np.float32) + 1) / shape[0] - 1)[:, None]
    x = (2 * np.arange(shape[1], dtype=np.float32) + 1) / shape[1] - 1
    gx = cv2.Sobel(first, cv2.CV_32F, 1, 0, ksize=1, scale=shape[1] / 4)
    gy = cv2.Sobel(first, cv2.CV_32F, 0, 1, ksize=1, scale=shape[0] / 4)
    scales = [gx * x + gy * y] if one_scale else [gx * x, gy * y]
    slopes = np.stack([gx, gy, *scales]).reshape(2 + len(scales), -1)  # (3 or 4, rows * columns)
    hessian = np.einsum("ik,jk->ij", slopes, slopes).astype(np.float64)
    # The small constant keeps plain tiles, which have no slope, invertible.
    inverse = np.linalg.inv(hessian + np.diag(hessian.diagonal() * 1e-3 + 1e-3))
    cx, cy, hx, hy = _centre(region)
    patience, least = (1, LOST) if one_scale else (2, HOPELESS)
    for step in range(steps):
        dx, dy, *grown = (inverse @ (slopes @ (second - first).ravel())).tolist()
        dsx, dsy = grown[0], grown[-1]
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
        if (step >= patience and value < least) or max(abs(dsx), abs(dsy), abs(dx), abs(dy)) < 0.2 / longest:
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
    return NOT_ALIGNED if _too_small(region) else Aligned(warp, *_agreement(a, b, region, warp)[:2])


def _agreement(a: Grey, b: Grey, region: Rect, warp: Warp) -> tuple[float, float, float]:
    """Correlation of the fine tiles of `region`, mean and lowest fifth of that of their textured blocks."""
    first, second = _pair(a, b, region, warp, _shape(region, FINE), WINDOW[FINE])
    found = _Blocks(first, second)
    each = np.sort(found.each[found.textured])
    if not len(each):
        return _correlation(first, second), 0.0, 0.0
    return _correlation(first, second), float(each.mean()), float(each[len(each) // 5])


class _Blocks:
    """Two normalised fine tiles, compared block by block: arrays (rows, columns)."""

    def __init__(self, first: Float, second: Float) -> None:
        down, across = _means(first.shape[0]), _means(first.shape[1])
        xx, yy, self.product = down @ np.stack([first * first, second * second, first * second]) @ across.T
        self.energy = (xx + yy) / 2
        self.textured = np.maximum(xx, yy) > TEXTURED
        self.each = np.clip(self.product / np.sqrt(xx * yy + TEXTURED**2 / 4), 0, 1)


@functools.cache
def _means(length: int) -> Float:
    """(blocks, length): the mean of each block of a fine tile's pixels along one side; what is left over counts not."""
    size = FINE // BLOCKS
    count = max(1, length // size)
    means = np.repeat(np.eye(count, dtype=np.float32) / size, size, axis=1)
    return np.pad(means, ((0, 0), (0, length - count * size)))


def hopeless(a: Grey, b: Grey, warp: Warp) -> bool:
    """Whether coarse tiles say that nothing will come of `verify`, at a fifth of its price."""
    return _refine(a, b, warp, COARSE, TRIAL_STEPS)[1] < DOUBTFUL


def verify(a: Grey, b: Grey, warp: Warp) -> Verified | None:
    """A closer look at `warp` (from `a` to `b`, near the truth); None where too little is left to compare."""
    warp = _with_one_scale(warp, overlap(a.visible, warp, b.visible))
    common = _common(a, b, warp)
    for _ in range(ROUNDS):
        if common is None:
            return None
        before = common.agreeing
        warp, value = _descend(a, b, warp, before, FINE, CLOSE_STEPS, one_scale=True)
        if value < UNLIKE:
            whole = overlap(a.visible, warp, b.visible)
            return Verified(
                warp, whole, value, 0.0, 0.0, common.evidence, recolouring.MISFIT, recolouring.RESIDUAL, 0.0
            )
        common = _common(a, b, warp)
        if value >= SURE or (common and np.abs(np.subtract(before, common.agreeing)).max() < SETTLED):
            break
    if common is None:
        return None
    region, whole = common.agreeing, overlap(a.visible, warp, b.visible)
    found = recolouring.explain(*_swatches(a, b, warp, region))
    inside = _part(region, found.cells, recolouring.SWATCH, recolouring.SWATCH)
    agreement = _agreement(a, b, region if _too_small(inside) else inside, warp)
    shared = _extent(a, b, warp, whole, found.edit) if found.misfit < HARDLY else whole
    return Verified(warp, shared, *agreement, common.evidence, found.misfit, found.residual, found.same)


class _Common(NamedTuple):
    agreeing: Rect
    """Where the pictures agree, in the first letterbox"""
    evidence: float


def _with_one_scale(warp: Warp, region: Rect) -> Warp:
    """The nearest warp that stretches neither axis more than the other, about the middle of `region`."""
    scale = (abs(warp.sx) * warp.sy) ** 0.5
    sx = scale if warp.sx > 0 else -scale
    cx, cy, _, _ = _centre(region)
    return Warp(sx, warp.sx * cx + warp.tx - sx * cx, scale, warp.sy * cy + warp.ty - scale * cy)


def _common(a: Grey, b: Grey, warp: Warp) -> _Common | None:
    """Where in the overlap the pictures agree; all of it where hardly any does."""
    region = _region(a, b, warp)
    if _too_small(region):
        return None
    found = _Blocks(*_pair(a, b, region, warp, _shape(region, FINE), WINDOW[FINE]))
    rows, columns = found.each.shape
    cells, score = largest_sum(found.product - ALIKE * found.energy)
    agreeing = _part(region, cells, rows, columns)
    pixels = region.height / rows * region.width / columns  # a block
    pixels *= max(1.0, warp.sy) ** 2  # of the picture that shows it larger
    return _Common(region if _too_small(agreeing) else agreeing, float(np.log1p(max(score, 0) * pixels)))


def _part(region: Rect, cells: Cells, rows: int, columns: int) -> Rect:
    """Some of the `rows` x `columns` cells of a region."""
    top, bottom, left, right = cells
    down, across = region.height / rows, region.width / columns
    x, y = region.left, region.top
    return Rect(x + left * across, y + top * down, x + right * across, y + bottom * down)


def _extent(a: Grey, b: Grey, warp: Warp, whole: Rect, edit: NDArray[np.float32]) -> Rect:
    """The rectangle of the `whole` overlap in which the edit explains the colours, plain ground too."""
    cells = recolouring.extent(*_swatches(a, b, warp, whole), edit)
    shared = _part(whole, cells, recolouring.SWATCH, recolouring.SWATCH)
    return whole if _too_small(shared) else shared


def _swatches(a: Grey, b: Grey, warp: Warp, region: Rect) -> tuple[recolouring.Swatch, recolouring.Swatch]:
    """Colours of both pictures in a region of the first letterbox."""
    sx, sy = region.width / recolouring.SWATCH, region.height / recolouring.SWATCH
    left, top = warp.sx * region.left + warp.tx, warp.sy * region.top + warp.ty
    # FINER pixels a cell: how many make one of the picture that shows the region smaller
    coarser = recolouring.FINER / min(1.0, warp.sy)
    grain = coarser / sx, coarser / sy
    first = recolouring.swatch(a.colours, region.left, region.top, sx, sy, grain)
    return first, recolouring.swatch(b.colours, left, top, warp.sx * sx, warp.sy * sy, grain)
