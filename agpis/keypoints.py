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
RIM = 10
"""Letterbox pixels along a picture's edge without keypoints: less than half the patch, which then sees the edge."""
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


class Keypoints:
    """Keypoints of one letterboxed picture, uint8 (H, W, 3), within `visible`; places in letterbox pixels."""

    def __init__(self, pixels: NDArray[np.uint8], visible: Rect) -> None:
        left, top, right, bottom = (round(edge) for edge in visible)
        grey = cv2.cvtColor(np.ascontiguousarray(pixels[top:bottom, left:right]), cv2.COLOR_RGB2GRAY)
        finder = cv2.ORB.create(
            nfeatures=STRONGEST, scaleFactor=STEP, nlevels=LEVELS, edgeThreshold=RIM, fastThreshold=FAINT
        )
        points, words = finder.compute(grey, [_upright(k, k.pt[0]) for k in _spread(finder.detect(grey), grey.shape)])
        last = grey.shape[1] - 1
        turned = [_upright(k, last - k.pt[0]) for k in points]
        flipped, mirrored = finder.compute(np.ascontiguousarray(grey[:, ::-1]), turned)
        self.words = _words(words)
        """(n, 32) uint8, 256 bits each"""
        self.mirrored = _words(mirrored)
        """The same of the mirrored picture"""
        self.signs = np.unpackbits(np.concatenate([self.words, self.mirrored]), axis=1).astype(np.float32) * 2 - 1
        """(2 n, 256) the bits of `words`, then of `mirrored`, as -1 and 1: products count the bits that are alike"""
        self.places = _places(points) + np.array([left, top], np.float32)
        """(n, 2) x and y"""
        self.mirrored_places = _places(flipped) * np.array([-1, 1], np.float32) + np.array(
            [left + last + 1, top], np.float32
        )
        """Of `mirrored`, in the picture as it is"""


def hypothesis(a: Keypoints, b: Keypoints) -> Found | None:
    """The transform with most agreement, plain or mirrored; None where hardly anything matches."""
    if min(len(a.words), len(b.words)) < 2:
        return None
    # Plain and mirrored words compete: a keypoint of `b` takes the nearest of either kind.
    alike = a.signs @ b.signs[: len(b.words)].T  # (2 n, m): 256 - 2 * bits that differ
    chosen, taken = alike.argmax(1), alike.argmax(0)
    mutual = taken[chosen] == np.arange(len(alike))
    nearness = alike[np.arange(len(alike)), chosen]
    kinds: list[_Agreement] = []
    for sign, places, part in (
        (1.0, a.places, slice(0, len(a.words))),
        (-1.0, a.mirrored_places, slice(len(a.words), None)),
    ):
        own = np.flatnonzero(mutual[part])
        own = own[np.argsort(-nearness[part][own], kind="stable")]  # the surest first
        kinds.append(_agreed(places[own] * np.array([sign, 1], np.float32), b.places[chosen[part][own]], sign))
    best = max(kinds, key=lambda one: int(one.inliers.sum()))
    return None if best.inliers.sum() < 3 else _refined(best)  # any two agree on something


class _Agreement(NamedTuple):
    """Matches (m, 2) and (m, 2), the first mirrored where `sign` is -1, and which of them one transform explains."""

    a: Floats
    b: Floats
    sign: float
    inliers: NDArray[np.bool_]


def _agreed(a: Floats, b: Floats, sign: float) -> _Agreement:
    """Of matches, the surest first: the transform that most of them agree with."""
    nothing = _Agreement(a, b, sign, np.zeros(len(a), np.bool_))
    if len(a) < 2:
        return nothing
    i, j = _pairs(min(len(a), SUREST))
    across, along = a[i] - a[j], b[i] - b[j]
    square = np.einsum("ij,ij->i", across, across)
    scale = np.einsum("ij,ij->i", across, along) / np.maximum(square, 1.0)
    stray = np.abs(along - scale[:, None] * across)
    usable = (square > APART**2) & (scale > SCALES[0]) & (scale < SCALES[1])
    usable &= (stray[:, 0] < 2 * NEAR) & (stray[:, 1] < 2 * NEAR)
    if not usable.any():
        return nothing
    i, j, scale = i[usable], j[usable], scale[usable, None]
    move = (b[i] + b[j] - scale * (a[i] + a[j])) / 2
    # (transforms, matches), one axis after the other
    agree = np.abs(b[:, 0] - scale * a[:, 0] - move[:, :1]) < NEAR
    agree &= np.abs(b[:, 1] - scale * a[:, 1] - move[:, 1:]) < NEAR
    return _Agreement(a, b, sign, agree[int(np.count_nonzero(agree, axis=1).argmax())])


def _refined(found: _Agreement) -> Found | None:
    """Least squares over the matches that agree, then over those that agree with that."""
    a, b, sign, inliers = found
    for _ in range(2):
        middle_a, middle_b = a[inliers].mean(0), b[inliers].mean(0)
        da, db = a[inliers] - middle_a, b[inliers] - middle_b
        factor = float((da * db).sum() / max(float(np.square(da).sum()), 1e-6))
        shift = middle_b - factor * middle_a
        nearer = np.abs(b - factor * a - shift).max(1) < NEAR
        if nearer.sum() < 2 or not SCALES[0] < factor < SCALES[1]:
            break
        inliers = nearer
    if not SCALES[0] < factor < SCALES[1]:
        return None
    return Found(Warp(sign * factor, float(shift[0]), factor, float(shift[1])), int(inliers.sum()))


@functools.cache
def _pairs(count: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    first, second = np.triu_indices(count, 1)
    return first, second


def _words(words: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    return np.zeros((0, 32), np.uint8) if words is None else words


def _spread(points: Sequence[cv2.KeyPoint], shape: Sequence[int]) -> list[cv2.KeyPoint]:
    """The best of every part of the picture (height, width), then the second best, up to KEYPOINTS."""
    ranked = sorted(points, key=lambda point: -point.response)
    places = np.asarray(cv2.KeyPoint.convert(ranked), np.float32).reshape(-1, 2)
    column, row = (places * (CELLS / np.array([shape[1], shape[0]]))).astype(int).T
    order = np.lexsort((np.arange(len(ranked)), cell := row * CELLS + column))  # cell by cell, the best first
    first = np.searchsorted(cell[order], cell[order])
    rank = np.empty(len(ranked), int)
    rank[order] = np.arange(len(ranked)) - first
    return [ranked[at] for at in np.argsort(rank, kind="stable")[:KEYPOINTS]]


def _upright(point: cv2.KeyPoint, x: float) -> cv2.KeyPoint:
    """The keypoint at another x, not turned."""
    return cv2.KeyPoint(x, point.pt[1], point.size, 0.0, point.response, point.octave)


def _places(points: Sequence[cv2.KeyPoint]) -> Floats:
    """(n, 2): OpenCV's points are pixel centres, ours are edges."""
    return np.asarray(cv2.KeyPoint.convert(points), np.float32).reshape(-1, 2) + np.float32(0.5)
