"""Keypoints of two pictures, matched and verified for one shift, scale and mirror, for pairs that are hard to tell.

ORB (Rublee et al., ICCV 2011) without its turning: copies stand upright, and descriptors that keep the direction tell
more apart. The mirrored picture's descriptors are taken of the same keypoints, so a mirrored copy is looked for at the
price of one more row of descriptors. Two matches fix a shift and a scale; of all pairs among the surest matches, the
transform that most matches agree with wins (RANSAC without the chance).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from agpis.alignment import Rect, Warp

Floats = NDArray[np.float32]

KEYPOINTS = 150
"""A picture, at most: with 300 a pair costs four times as much."""
STRONGEST, CELLS = 500, 5
"""The best of each of CELLS x CELLS parts of the picture in turn are kept, out of the STRONGEST: beside a scene of
strong texture that it was pasted on, a product keeps some."""
LEVELS, STEP = 3, 1.4
"""Of the pyramid: scales 1 to 0.51."""
DIGIT = 8
"""Bits that hold how many bits two words have in common: of 256, never all."""
SMALLEST_PATCH = 2
"""Pixels, OpenCV takes no less."""
RIM = 10
"""Letterbox pixels along a picture's edge without keypoints: less than half the patch, which then sees the edge."""
MIRROR = np.array([-1, 1], np.float32)
"""Of x and y."""
FAINT = 7
"""Grey levels a corner must stand out by."""
SUREST = 30
"""Matches out of which transforms are made: the nearest ones."""
APART = 10.0
"""Letterbox pixels between two matches that fix a transform."""
NEAR = 4.0
"""Letterbox pixels: a match this close to where the transform puts it agrees with it."""
SCALES = (0.3, 3.3)
"""Smallest and largest scale."""


class Found(NamedTuple):
    """A transform of the first letterbox into the second, and how many matches agree with it."""

    warp: Warp
    inliers: int


class Words(NamedTuple):
    """What is seen at keypoints, and where they are."""

    words: NDArray[np.uint8]
    """(n, 32) 256 bits each"""
    places: Floats
    """(n, 2) x and y in letterbox pixels"""

    def digits(self, *, turned: bool = False) -> Floats:
        """(n, 128) the bits, two in a number, `turned` the other way round; see `differing_bits`."""
        bits = np.unpackbits(self.words, axis=1)
        low, high = (bits[:, 128:], bits[:, :128]) if turned else (bits[:, :128], bits[:, 128:])
        digits: Floats = high * np.float32(1 << DIGIT)
        digits += low
        return digits

    def ones(self) -> NDArray[np.int32]:
        """(n,) bits that are 1."""
        ones: NDArray[np.int32] = np.unpackbits(self.words, axis=1).sum(1, dtype=np.int32)
        return ones


class Keypoints:
    """Keypoints of one letterboxed picture, uint8 (H, W, 3), within `visible`."""

    def __init__(self, pixels: NDArray[np.uint8], visible: Rect) -> None:
        left, top, right, bottom = (round(edge) for edge in visible)
        self._corner = np.array([left, top], np.float32)
        self._grey = cv2.cvtColor(np.ascontiguousarray(pixels[top:bottom, left:right]), cv2.COLOR_RGB2GRAY)
        chosen = _spread(_orb(SMALLEST_PATCH).detect(self._grey), self._grey.shape)
        for point in chosen:
            point.angle = 0.0
        self._points, words = _orb().compute(self._grey, chosen)
        self.plain = Words(_words(words), _places(self._points) + self._corner)

    @functools.cached_property
    def mirrored(self) -> Words:
        """The words of the mirrored picture, at their places in the picture as it is."""
        last = self._grey.shape[1] - 1
        for point in self._points:  # needed no more as they are
            point.pt = (last - point.pt[0], point.pt[1])
        flipped, words = _orb().compute(cv2.flip(self._grey, 1), self._points)
        return Words(_words(words), _places(flipped) * MIRROR + np.array([last + 1, 0], np.float32) + self._corner)

    @functools.cached_property
    def first(self) -> tuple[Floats, NDArray[np.int32], Floats]:
        """`digits` and `ones` of `plain`, then of `mirrored`, and their places, x of the mirrored ones negated.

        Only the first picture of a pair needs them, so that no scale is below 0.
        """
        plain, mirrored = self.plain, self.mirrored
        both = Words(
            np.concatenate([plain.words, mirrored.words]), np.concatenate([plain.places, mirrored.places * MIRROR])
        )
        return both.digits(), both.ones(), both.places

    @functools.cached_property
    def second(self) -> tuple[Floats, NDArray[np.int32]]:
        """`digits` turned and `ones` of `plain`, for the second picture of a pair."""
        return self.plain.digits(turned=True), self.plain.ones()


def hypothesis(a: Keypoints, b: Keypoints) -> Found | None:
    """The transform with most agreement, plain or mirrored; None where hardly anything matches."""
    count = len(a.plain.words)
    if min(count, len(b.plain.words)) < 2:
        return None
    # Plain and mirrored words compete: a keypoint of `b` takes the nearest of either kind.
    differing = differing_bits(a, b)
    chosen, taken = differing.argmin(1), differing.argmin(0)
    own = np.flatnonzero(taken[chosen] == np.arange(len(differing)))
    own = own[np.lexsort((differing[own, chosen[own]], own >= count))]  # plain ones first, of each the surest
    found = _agreed(a.first[2][own], b.plain.places[chosen[own]], int(np.count_nonzero(own < count)))
    return None if found is None else _refined(found)


def differing_bits(a: Keypoints, b: Keypoints) -> NDArray[np.int32]:
    """(2 n, m) bits by which the words of `a`, plain, then mirrored, differ from those of `b`.

    With two bits in a number, (x + D * x') * (y' + D * y) where D is 2 ** DIGIT, a product of half the length counts
    in its middle digit the bits that both have; float32 holds all three digits exactly.
    """
    digits, ones, _ = a.first
    turned, other_ones = b.second
    common = (digits @ turned.T).astype(np.int32)
    common >>= DIGIT
    common &= (1 << DIGIT) - 1
    common *= 2
    differing: NDArray[np.int32] = ones[:, None] + other_ones
    differing -= common
    return differing


class _Agreement(NamedTuple):
    """Matches (m, 2) and (m, 2), the first mirrored where `sign` is -1, and which of them one transform explains."""

    a: Floats
    b: Floats
    sign: float
    inliers: NDArray[np.bool_]


def _agreed(a: Floats, b: Floats, plain: int) -> _Agreement | None:
    """Of matches (m, 2) and (m, 2): those that the transform explains that most agree with; None where less than 3 do.

    The first `plain` are plain, the others mirrored with x negated; of each kind, the surest come first.
    """
    of_plain, of_mirrored = _pairs(min(plain, SUREST)), _pairs(min(len(a) - plain, SUREST))
    i, j = np.concatenate([of_plain, of_mirrored + plain], axis=1)
    (ax, ay), (bx, by) = a.T, b.T
    across_x, across_y, along_x, along_y = ax[i] - ax[j], ay[i] - ay[j], bx[i] - bx[j], by[i] - by[j]
    square = across_x * across_x + across_y * across_y
    scale = (across_x * along_x + across_y * along_y) / np.maximum(square, 1.0)
    usable = (square > APART**2) & (scale > SCALES[0]) & (scale < SCALES[1])
    usable &= np.abs(along_x - scale * across_x) < 2 * NEAR
    usable &= np.abs(along_y - scale * across_y) < 2 * NEAR
    i, j, scale = i[usable], j[usable], scale[usable, None]
    if not len(i):
        return None
    transforms = np.concatenate([np.ones_like(scale), -scale, (scale * (a[i] + a[j]) - (b[i] + b[j])) / 2], axis=1)
    off = np.abs(transforms @ _columns(a, b))  # (transforms, 2 matches): x, then y
    agree = np.maximum(off[:, : len(a)], off[:, len(a) :]) < NEAR
    mirrored = int(np.searchsorted(i, plain))
    agree[:mirrored, plain:] = agree[mirrored:, :plain] = False
    counts = agree @ np.ones(len(a), np.float32)
    best = int(counts.argmax())
    own, sign = (slice(plain), 1.0) if best < mirrored else (slice(plain, None), -1.0)
    # Any two agree on something.
    return None if counts[best] < 3 else _Agreement(a[own], b[own], sign, agree[best, own])


def _columns(a: Floats, b: Floats) -> Floats:
    """(4, 2 m): with (1, -scale, -shift of x, -shift of y), how far each match (m, 2) is off: x, then y."""
    columns: Floats = np.zeros((4, 2, len(a)), np.float32)
    columns[0], columns[1] = b.T, a.T
    columns[2, 0] = columns[3, 1] = 1
    return columns.reshape(4, -1)


def _refined(found: _Agreement) -> Found | None:
    """Least squares over the matches that agree, then over those that agree with that."""
    a, b, sign, inliers = found
    for _ in range(2):
        own_a, own_b = a[inliers], b[inliers]
        middle_a, middle_b = np.add.reduce(own_a) / len(own_a), np.add.reduce(own_b) / len(own_b)
        da, db = (own_a - middle_a).ravel(), (own_b - middle_b).ravel()
        factor = float(da @ db) / max(float(da @ da), 1e-6)
        shift = middle_b - factor * middle_a
        near = np.abs(b - factor * a - shift) < NEAR
        nearer = near[:, 0] & near[:, 1]
        if np.count_nonzero(nearer) < 2 or not SCALES[0] < factor < SCALES[1] or (nearer == inliers).all():
            break
        inliers = nearer
    if not SCALES[0] < factor < SCALES[1]:
        return None
    return Found(Warp(sign * factor, float(shift[0]), factor, float(shift[1])), int(np.count_nonzero(inliers)))


@functools.cache
def _pairs(count: int) -> NDArray[np.intp]:
    """(2, pairs): every two of `count`."""
    return np.array(np.triu_indices(count, 1))


def _words(words: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    return np.zeros((0, 32), np.uint8) if words is None else words


def _orb(patch: int = 31) -> cv2.ORB:
    """Keypoints are found with the SMALLEST_PATCH: it serves to turn them alone."""
    return cv2.ORB.create(
        nfeatures=STRONGEST, scaleFactor=STEP, nlevels=LEVELS, edgeThreshold=RIM, fastThreshold=FAINT, patchSize=patch
    )


def _spread(points: Sequence[cv2.KeyPoint], shape: Sequence[int]) -> list[cv2.KeyPoint]:
    """The best of every part of the picture (height, width), then the second best, up to KEYPOINTS."""
    ranked = np.argsort([-point.response for point in points], kind="stable")
    places = np.asarray(cv2.KeyPoint.convert(points), np.float32).reshape(-1, 2)[ranked]
    column, row = (places * (CELLS / np.array([shape[1], shape[0]]))).astype(int).T
    order = np.argsort(cell := row * CELLS + column, kind="stable")  # cell by cell, the best first
    first = np.searchsorted(cell[order], cell[order])
    rank = np.empty(len(ranked), int)
    rank[order] = np.arange(len(ranked)) - first
    return [points[at] for at in ranked[np.argsort(rank, kind="stable")[:KEYPOINTS]]]


def _places(points: Sequence[cv2.KeyPoint]) -> Floats:
    """(n, 2): OpenCV's points are pixel centres, ours are edges."""
    return np.asarray(cv2.KeyPoint.convert(points), np.float32).reshape(-1, 2) + np.float32(0.5)
