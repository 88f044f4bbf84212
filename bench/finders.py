"""Simple finders of copies, which `bench.duplicates` compares ours with, and the pairs of pictures they look at."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from agpis import duplicates, edgeboxes
from agpis.data import Box
from agpis.edgeboxes import Embed
from agpis.images import Size, placement
from agpis.simulate.pair import KINDS

SIZE = Size(224, 224)

Pixels = NDArray[np.uint8]


@dataclass(eq=False)
class Shot:
    """A picture with what the finders need of it."""

    source: str
    sku: str
    style: str
    view: str
    pixels: Pixels
    boxed: Pixels | None = None
    patches: NDArray[np.float32] | None = None
    pooled: NDArray[np.float32] | None = None
    """Global feature of the network, L2-normalised."""
    proposals: edgeboxes.Proposals | None = None
    copied: bool = False

    def as_view(self, *, with_pixels: bool = True) -> duplicates.View:
        assert self.patches is not None
        height, width = self.pixels.shape[:2]
        return duplicates.View(self.patches, width, height, SIZE, self.boxed if with_pixels else None)


@dataclass
class Pair:
    """Two pictures; `kind` is a kind of copy, or `view`, `sister`, `other`."""

    a: Shot
    b: Shot
    kind: str
    box: Box | None = None

    @property
    def positive(self) -> bool:
        return self.kind in KINDS


def cosine(pair: Pair) -> float:
    assert pair.a.pooled is not None
    assert pair.b.pooled is not None
    return float(pair.a.pooled @ pair.b.pooled)


def perceptual_hash(pair: Pair) -> float:
    """64 bits of the low frequencies of 32 x 32 grey pixels; share of equal bits."""

    def bits(pixels: Pixels) -> NDArray[np.bool_]:
        grey = cv2.resize(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), (32, 32), interpolation=cv2.INTER_AREA)
        low = cv2.dct(grey.astype(np.float32))[:8, :8].ravel()
        return np.asarray(low > np.median(low[1:]), np.bool_)

    return float((bits(pair.a.pixels) == bits(pair.b.pixels)).mean())


class Local:
    """Local features at 512 pixels, matched both ways, similarity transform by RANSAC: inliers; mirrored tried too.

    A picture's features are kept for its other pairs. `seconds` is the mean of a pair alone: two pictures, one match.
    """

    def __init__(self, finder: Any, norm: int) -> None:
        self.finder, self.matcher = finder, cv2.BFMatcher(norm, crossCheck=True)
        self.known: dict[int, list[Any]] = {}
        self.describing = self.matching = 0.0
        self.pairs = 0

    @property
    def seconds(self) -> float:
        return self.matching / max(1, self.pairs) + 2 * self.describing / max(1, len(self.known))

    def __call__(self, pair: Pair) -> float:
        first, second = self._features(pair.a), self._features(pair.b)
        started = time.process_time()
        best = max(self._inliers(first[0], other) for other in second)
        self.matching += time.process_time() - started
        self.pairs += 1
        return float(best)

    def _features(self, shot: Shot) -> list[Any]:
        """Points and words of the picture and of its mirrored one."""
        if id(shot) not in self.known:
            started = time.process_time()
            f = min(1.0, 512 / max(shot.pixels.shape[:2]))
            grey = cv2.cvtColor(
                cv2.resize(shot.pixels, None, fx=f, fy=f, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY
            )
            both = [self.finder.detectAndCompute(one, None) for one in (grey, np.ascontiguousarray(grey[:, ::-1]))]
            self.known[id(shot)] = [(cv2.KeyPoint.convert(points), words) for points, words in both]
            self.describing += time.process_time() - started
        return self.known[id(shot)]

    def _inliers(self, first: Any, second: Any) -> int:
        (points, words), (points_b, words_b) = first, second
        if words is None or words_b is None:
            return 0
        matches = self.matcher.match(words, words_b)
        if len(matches) < 4:
            return 0
        a, b = points[[m.queryIdx for m in matches]], points_b[[m.trainIdx for m in matches]]
        _, inliers = cv2.estimateAffinePartial2D(a, b, ransacReprojThreshold=5, maxIters=1000)
        return 0 if inliers is None else int(inliers.sum())


def edge(pair: Pair, embed: Embed) -> tuple[float, float, Box]:
    for shot in (pair.a, pair.b):
        if shot.proposals is None:
            assert shot.boxed is not None
            place = placement(shot.pixels.shape[1], shot.pixels.shape[0], SIZE)
            visible = (place.left, place.top, place.left + place.width, place.top + place.height)
            boxes = edgeboxes.propose(shot.boxed, visible)
            shot.proposals = edgeboxes.describe(shot.boxed, boxes, embed)
    assert pair.a.proposals is not None
    assert pair.b.proposals is not None
    best, mutual, box, _ = edgeboxes.best_match(pair.a.proposals, pair.b.proposals)
    place = placement(pair.a.pixels.shape[1], pair.a.pixels.shape[0], SIZE)
    x, y, w, h = box.tolist()
    return best, mutual, place.to_source(x, y, w, h, pair.a.pixels.shape[1], pair.a.pixels.shape[0])
