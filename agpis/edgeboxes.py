"""The paper's pair matcher (3.3.2): EdgeBoxes proposals, features of a pretrained network, nearest neighbours.

EdgeBoxes (Zitnick & Dollar, ECCV 2014) wants the edges of a structured forest (Dollar & Zitnick, ICCV 2013). OpenCV
has the forest's code but not its trained file (a download), so the edges here are gradients of the smoothed picture
with their orientation, thinned to their crests. Proposals are a little looser.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Embed = Callable[[NDArray[np.uint8]], NDArray[np.floating]]
"""Crops uint8 (M, H, W, 3) -> features (M, D)."""

PROPOSALS = 24
"""Most proposals an image, the whole picture among them."""
NEIGHBOURS = 3
"""Nearest proposals of the other image that each proposal looks at."""
SMALLEST = 0.06
"""Share of the picture's area that a proposal has at least: a logo or button is no copy of the product."""
MOST_ALIKE = 0.7
"""Intersection over union above which the weaker of two proposals goes."""


@dataclass(frozen=True, slots=True)
class Proposals:
    """Boxes (M, 4) int: x, y, w, h in letterbox pixels, best first; and their L2-normalised features (M, D)."""

    boxes: NDArray[np.int64]
    features: NDArray[np.float32]


def propose(pixels: NDArray[np.uint8], visible: tuple[float, float, float, float]) -> NDArray[np.int64]:
    """Boxes (M, 4) int of uint8 (H, W, 3) within `visible` (left, top, right, bottom); the first is all of it."""
    left, top = int(np.ceil(visible[0])), int(np.ceil(visible[1]))
    picture = np.ascontiguousarray(pixels[top : int(visible[3]), left : int(visible[2])])
    height, width = picture.shape[:2]
    whole = np.array([[0, 0, width, height]])
    grey = cv2.GaussianBlur(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255, (0, 0), 1.0)
    gx, gy = cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)
    strength = cv2.magnitude(gx, gy)
    if min(width, height) >= 16 and strength.max() > 0.02:
        strength /= strength.max()
        # Orientation of the edge's normal modulo half a turn, as the structured forest gives it.
        orientation = np.mod(np.arctan2(gy, gx), np.pi).astype(np.float32)
        thin = _thinned(strength, orientation)
        finder = cv2.ximgproc.createEdgeBoxes(
            maxBoxes=4 * PROPOSALS, minBoxArea=SMALLEST * width * height, beta=MOST_ALIKE, edgeMinMag=0.1
        )
        found, _ = finder.getBoundingBoxes(thin, orientation)
        if len(found):
            whole = np.concatenate([whole, np.asarray(found, np.int64).reshape(-1, 4)])
    kept = _apart(whole)[:PROPOSALS]
    boxes: NDArray[np.int64] = kept + np.array([left, top, 0, 0])
    return boxes


def describe(pixels: NDArray[np.uint8], boxes: NDArray[np.int64], embed: Embed) -> Proposals:
    """Features of the crops. Each crop is stretched to the picture's own size, the input of the network."""
    size = pixels.shape[1], pixels.shape[0]
    crops = np.stack(
        [cv2.resize(pixels[y : y + h, x : x + w], size, interpolation=cv2.INTER_AREA) for x, y, w, h in boxes]
    )
    features = np.asarray(embed(crops), np.float32)
    return Proposals(boxes, features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-9))


def best_match(a: Proposals, b: Proposals) -> tuple[float, float, NDArray[np.int64], NDArray[np.int64]]:
    """Best pair of proposals: its cosine, the mean cosine of mutual neighbours, and both boxes (4,).

    Only pairs are looked at in which each is among the NEIGHBOURS nearest of the other.
    """
    cosine = a.features @ b.features.T
    near_b = np.argsort(-cosine, axis=1, kind="stable")[:, :NEIGHBOURS]
    near_a = np.argsort(-cosine, axis=0, kind="stable")[:NEIGHBOURS]
    mutual = np.zeros(cosine.shape, bool)
    np.put_along_axis(mutual, near_b, True, axis=1)
    other = np.zeros(cosine.shape, bool)
    np.put_along_axis(other, near_a, True, axis=0)
    mutual &= other
    i, j = np.unravel_index(np.where(mutual, cosine, -2).argmax(), cosine.shape)
    return float(cosine[i, j]), float(cosine[mutual].mean()), a.boxes[i], b.boxes[j]


def _thinned(strength: NDArray[np.float32], orientation: NDArray[np.float32]) -> NDArray[np.float32]:
    """Edges one pixel wide: what is weaker than a neighbour along its normal goes."""
    dx, dy = np.cos(orientation), np.sin(orientation)
    y, x = np.mgrid[: strength.shape[0], : strength.shape[1]].astype(np.float32)
    keep = np.ones(strength.shape, bool)
    for step in (-1, 1):
        beside = cv2.remap(strength, x + step * dx, y + step * dy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        keep &= strength >= beside
    thin: NDArray[np.float32] = np.where(keep, strength, 0).astype(np.float32)
    return thin


def _apart(boxes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Boxes in their order, without those that lie over an earlier one."""
    kept: list[int] = []
    x0, y0, w, h = boxes.T
    x1, y1 = x0 + w, y0 + h
    for i in range(len(boxes)):
        across = np.minimum(x1[i], x1[kept]) - np.maximum(x0[i], x0[kept])
        down = np.minimum(y1[i], y1[kept]) - np.maximum(y0[i], y0[kept])
        both = np.maximum(across, 0) * np.maximum(down, 0)
        if not (both > MOST_ALIKE * (w[i] * h[i] + w[kept] * h[kept] - both)).any():
            kept.append(i)
    return boxes[kept]
