"""What the measured checks look at, each computed once a picture and only when asked for.

All looking is done on `Measures.view`, the picture at most 512 pixels long: so a limit means the same for a picture of
4000 pixels and one of 400, and the cost does not grow with the picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from agpis.data import Box
from agpis.foreground import CLEAN, U8, Bool, Ground, bounds, far, find_ground, mask, ring
from agpis.images import Picture

VIEW = 512
"""Longest side of `Measures.view`, pixels: 256 to 512, since it is made by averaging blocks of whole pixels."""
RING_SAMPLE = 8192
"""About so many pixels along the edge are looked at."""
SHOWN = 384
"""Longest side of the picture as a gallery shows it, pixels: the scale in which blur is told."""
STRONGEST = 0.005
"""Share of the view's pixels whose gradients are the strongest edges."""
STEEPEST = 0.001
"""Pixels with less than half the slope that this share reaches are the feet of an edge, or no edge."""
FAINTEST = 12
"""Slope (8 times the levels a pixel) below which nothing is an edge but noise and compression."""
FRAME_DEPTH = 0.1
"""A frame is at most this thick, of the shorter side; what is thicker is a ground."""
FRAME_STRAIGHT = 0.9
"""Share of a side along which a frame ends at the same depth, within a pixel."""
FRAME_STEP = 24
"""How far what is inside a frame must be from the frame's colour, levels."""

SOLID = 0.3
"""A drawing is solid when more than this share of it is further than two pixels from its edge."""
SOLID_SHADE = 3
"""Width of one shade of a solid drawing, levels."""
STROKE_SHADE = 16
"""Width of one shade of thin strokes, levels: compression rings round them."""

_AROUND = np.ones((5, 5), np.uint8)


@dataclass(frozen=True, slots=True)
class Frame:
    """A band of one colour along the edges of a picture."""

    sides: tuple[str, ...]
    """Those of left, top, right, bottom that have it."""
    depth: float
    """Thickness, of the shorter side of the picture."""


class Measures:
    """Lazily measured properties of one picture."""

    def __init__(self, picture: Picture) -> None:
        self.picture = picture

    @cached_property
    def view(self) -> U8:
        """The picture, at most VIEW long: uint8 (h, w, 3)."""
        pixels = self.picture.pixels
        height, width = pixels.shape[:2]
        step = -(-max(height, width) // VIEW)
        if step == 1:
            return pixels
        # Whole blocks: several times faster than a broken factor. What does not fill a block is filled up.
        filled = cv2.copyMakeBorder(pixels, 0, -height % step, 0, -width % step, cv2.BORDER_REPLICATE)
        size = (filled.shape[1] // step, filled.shape[0] // step)
        view: U8 = cv2.resize(filled, size, interpolation=cv2.INTER_AREA)
        return view

    @cached_property
    def ring(self) -> U8:
        """Pixels along the edge of the picture, (N, 3), not averaged: means would hide a stain on the white."""
        edge = ring(self.picture.pixels)
        return np.ascontiguousarray(edge[:: 1 + len(edge) // RING_SAMPLE])

    @cached_property
    def ground(self) -> Ground:
        """The commonest colour along the edge."""
        return find_ground(self.ring)

    @cached_property
    def apart(self) -> U8:
        """How far each pixel of the view is from the ground's colour, (h, w)."""
        return far(self.view, self.ground.colour)

    @cached_property
    def ring_apart(self) -> U8:
        """How far each pixel of `ring` is from the ground's colour, (N,)."""
        return far(self.ring, self.ground.colour)

    @cached_property
    def product(self) -> Bool:
        """What is not ground, (h, w) of the view. Everything where the ground is not plain."""
        if not self.ground.plain:
            return np.ones(self.view.shape[:2], dtype=np.bool_)
        return mask(self.apart, self.ground.same)

    @cached_property
    def box(self) -> tuple[int, int, int, int] | None:
        """Box (x, y, w, h) of the product in the view; None where there is none."""
        return bounds(self.product)

    def source(self, box: tuple[int, int, int, int]) -> Box:
        """A box of the view in pixels of the source, at least one pixel large and within it."""
        height, width = self.view.shape[:2]
        right, down = self.picture.width / width, self.picture.height / height
        x, y = int(box[0] * right), int(box[1] * down)
        x, y = min(x, self.picture.width - 1), min(y, self.picture.height - 1)
        w = min(self.picture.width - x, max(1, round(box[2] * right)))
        h = min(self.picture.height - y, max(1, round(box[3] * down)))
        return Box(x, y, w, h)

    @cached_property
    def grey(self) -> NDArray[np.uint8]:
        """Luma of the view, (h, w)."""
        luma: NDArray[np.uint8] = cv2.cvtColor(self.view, cv2.COLOR_RGB2GRAY)
        return luma

    @cached_property
    def chroma(self) -> float:
        """99.5th percentile of (largest - smallest of R, G, B) over the view, levels."""
        red, green, blue = cv2.split(self.view)
        spread = cv2.subtract(cv2.max(cv2.max(red, green), blue), cv2.min(cv2.min(red, green), blue))
        return _percentile(spread, 99.5)

    @cached_property
    def content(self) -> float:
        """Share of the view that differs from the ground's colour, however faintly. 1 where the ground is not plain."""
        return float((self.apart > CLEAN).mean()) if self.ground.plain else 1.0

    @cached_property
    def blown(self) -> float:
        """Share of the product's pixels that are white in R, G and B."""
        product = self.product
        count = int(product.sum())
        if not count:
            return 0.0
        red, green, blue = cv2.split(self.view)
        return float(((cv2.min(cv2.min(red, green), blue) >= 253) & product).sum()) / count

    @cached_property
    def brightest(self) -> float | None:
        """95th percentile of the product's luma; None where there is no product."""
        product = self.product
        return _percentile(self.grey[product], 95) if product.any() else None

    @cached_property
    def blur(self) -> float | None:
        """Gaussian radius of the strongest edges, pixels of the picture shown SHOWN long; None without edges.

        A step of height h, blurred with radius s, has the slope h / (s sqrt(2 pi)); blurred once more with radius r
        it has h / (sqrt(s^2 + r^2) sqrt(2 pi)). In the quotient q of the two the height, and so the contrast of the
        product, drops out: s = r / sqrt(q^2 - 1). As in Zhuo and Sim, "Defocus map estimation from a single image",
        Pattern Recognition 44 (2011), equation 5; here the median over the strongest gradients, r = 1.
        """
        once = _slope(self.grey, _SMOOTH, _DERIVE)
        steep = np.cumsum(np.bincount(once.ravel())[::-1])[::-1]  # how many pixels reach each slope
        reached = [int(np.count_nonzero(steep >= max(20, share * once.size))) - 1 for share in (STRONGEST, STEEPEST)]
        strongest = max(FAINTEST, reached[0], reached[1] // 2)
        edges = np.flatnonzero(once >= strongest)
        if len(edges) < 20 or len(edges) > once.size // 2:
            return None
        twice = _slope(self.grey, _SMOOTH_TWICE, _DERIVE_TWICE)
        quotient = once.ravel()[edges] / np.maximum(twice.ravel()[edges] / _GAIN, 1.0)
        radius = float(np.median(1 / np.sqrt(np.maximum(quotient**2 - 1, 1e-3))))
        # One pixel of the view is so many of the picture as shown. Small pictures are shown as they are.
        shown = min(SHOWN, max(self.picture.width, self.picture.height))
        return radius * shown / float(max(self.grey.shape))

    @cached_property
    def touching(self) -> dict[str, float]:
        """For each side of the picture, the share of its length that the product covers; empty where unknown."""
        if not self.ground.flat:
            return {}
        product = self.product
        sides = {"left": product[:, 0], "top": product[0], "right": product[:, -1], "bottom": product[-1]}
        return {side: float(line.mean()) for side, line in sides.items()}

    @cached_property
    def frame(self) -> Frame | None:
        """A frame of one colour, on two sides or more.

        White round a photograph is no frame but a ground: a box or a rug photographed from above looks the same.
        A thin line of another colour in that white is one.
        """
        height, width = self.view.shape[:2]
        shorter = min(height, width)
        depth = int(FRAME_DEPTH * shorter)
        if depth < 3:
            return None
        view = self.view
        outer = np.concatenate([view[0], view[-1], view[:, 0], view[:, -1]])
        colour = find_ground(outer)
        if colour.share < FRAME_STRAIGHT:
            return None
        apart = far(view, colour.colour) > FRAME_STEP
        deep = depth + 3
        strips = {  # (deep, length): from the edge inwards, along the side
            "left": apart[:, :deep].T,
            "top": apart[:deep],
            "right": apart[:, ::-1][:, :deep].T,
            "bottom": apart[::-1][:deep],
        }
        found: dict[str, int] = {}
        for side, strip in strips.items():
            ends = _frame_depth(strip, depth, line=colour.white)
            if ends is not None:
                found[side] = ends
        if len(found) < 2:
            return None
        return Frame(tuple(found), max(found.values()) / shorter)

    @cached_property
    def flatness(self) -> float:
        """Share of what is drawn on the ground that has one of its three commonest shades: near 1 for drawings, text.

        Of a solid drawing, its inside counts, where a photograph shows shading and noise. Of thin strokes, which have
        no inside, a shade is the largest distance from the ground within two pixels, so that the soft edge of a letter
        counts as the ink it belongs to. R, G and B are looked at apart and the worst counts: a product in one strong
        colour is flat in the channel that is saturated. 0 where the ground is not plain or nothing is there.
        """
        if not self.ground.plain:
            return 0.0
        drawn = (self.apart > FRAME_STEP).astype(np.uint8)
        inside = cv2.erode(drawn, _AROUND, borderType=cv2.BORDER_CONSTANT, borderValue=0)
        count = cv2.countNonZero(drawn)
        if not count:
            return 0.0
        solid = cv2.countNonZero(inside) > SOLID * count
        worst = 1.0
        for channel, level in zip(cv2.split(self.view), self.ground.colour, strict=True):
            shades = channel if solid else cv2.dilate(cv2.absdiff(channel, float(level)), _AROUND)
            histogram = cv2.calcHist([shades], [0], inside if solid else drawn, [256], [0, 256]).ravel()
            worst = min(worst, _commonest(histogram, SOLID_SHADE if solid else STROKE_SHADE))
            if worst < 0.5:  # a photograph, whatever the other channels say
                break
        return worst


def _commonest(histogram: NDArray[np.float32], width: int) -> float:
    """Share of the three commonest shades, each `width` levels wide, in a histogram of levels."""
    total, covered = float(histogram.sum()), 0.0
    for _ in range(3):
        windows = np.convolve(histogram, np.ones(width), mode="valid")
        best = int(windows.argmax())
        covered += float(windows[best])
        histogram[best : best + width] = 0
    return covered / total


def _frame_depth(outside: Bool, depth: int, *, line: bool) -> int | None:
    """Where a frame ends, in pixels from the edge; `outside` (deep, length) is True where its colour is left.

    With `line`, the frame is a line in a margin of the ground's colour: it must end again within `depth`.
    """
    length = outside.shape[1]
    middle = outside[:, depth : length - depth]
    if not middle.shape[1]:
        return None
    ends = _straight(middle, depth)
    if ends is None or not line:
        return ends
    thick = _straight(~middle[ends:], depth - ends)
    return None if thick is None else ends + thick


def _straight(outside: Bool, depth: int) -> int | None:
    """Depth at which `outside` (deep, length) becomes True along nearly the whole length, from 1 to `depth`."""
    if depth < 1 or not len(outside):
        return None
    first = np.where(outside.any(axis=0), outside.argmax(axis=0), len(outside) + 9)
    ends = int(np.median(first))
    if not 1 <= ends <= depth or float((np.abs(first - ends) <= 1).mean()) < FRAME_STRAIGHT:
        return None
    return ends


# Sobel's kernels, and the same blurred with the binomial of variance 1, [1 4 6 4 1] / 16 (here without the / 16).
_BINOMIAL = np.array([1, 4, 6, 4, 1])
_SMOOTH, _DERIVE = np.array([1, 2, 1]), np.array([-1, 0, 1])
_SMOOTH_TWICE, _DERIVE_TWICE = np.convolve(_SMOOTH, _BINOMIAL), np.convolve(_DERIVE, _BINOMIAL)
_GAIN = 256


def _slope(grey: NDArray[np.uint8], smooth: NDArray[np.int_], derive: NDArray[np.int_]) -> NDArray[np.int32]:
    """Length of the gradient of (h, w), rounded."""
    across = cv2.sepFilter2D(grey, cv2.CV_32F, derive.astype(np.float32), smooth.astype(np.float32))
    down = cv2.sepFilter2D(grey, cv2.CV_32F, smooth.astype(np.float32), derive.astype(np.float32))
    slope: NDArray[np.int32] = cv2.magnitude(across, down).astype(np.int32)
    return slope


def _percentile(values: U8, percent: float) -> float:
    """Percentile of uint8 values by counting, which is faster than sorting."""
    counts = np.cumsum(np.bincount(values.ravel(), minlength=256))
    return float(np.searchsorted(counts, percent / 100 * counts[-1]))
