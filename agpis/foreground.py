"""Tells the product from a plain ground: the ground's colour, the mask of what is not ground, its box.

Works on any reduced scale; all lengths are pixels of the array given. Made for shop photographs: a ground of one
colour, perhaps with a soft gradient or shadow. On any other picture `Ground.plain` says that there is no such ground.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

U8 = NDArray[np.uint8]
Bool = NDArray[np.bool_]

RING = 0.015
"""Thickness of the ring along the picture's edge that stands for the ground, of the shorter side."""
SAME = 20
"""Pixels no further than this from the ground's colour in R, G and B may be ground."""
CLEAN = 6
"""The same on a perfectly flat ground, where only compression moves a pixel: lets a white product show on white."""
FLAT = 14
"""On a ground with `Ground.same` up to this, the mask ends where the product does."""
PLAIN_SHARE = 0.55
"""A ground is plain when this share of the ring has its colour: a product may run out of the frame on one side."""
SAMPLE = 2048
"""About so many pixels of the ring tell the ground's colour."""
SPECK = 0.0005
"""Parts of the mask smaller than this share of the picture are dust, noise or compression rings."""


@dataclass(frozen=True, slots=True)
class Ground:
    """The commonest colour along the picture's edge."""

    colour: tuple[int, int, int]
    share: float
    """Share of the ring that has it, within SAME."""
    same: int
    """How far a pixel may be from `colour` and be ground: CLEAN to SAME, by how flat the ring is."""

    @property
    def plain(self) -> bool:
        """Whether the picture has a ground of one colour at all."""
        return self.share >= PLAIN_SHARE

    @property
    def flat(self) -> bool:
        """Whether the ground is plain without the shades of a wall, floor or backdrop: only then is the mask exact."""
        return self.plain and self.same <= FLAT

    @property
    def neutral(self) -> bool:
        """Whether the ground is white, grey or black."""
        return max(self.colour) - min(self.colour) <= CLEAN

    @property
    def white(self) -> bool:
        """Whether the ground is (nearly) white."""
        return min(self.colour) >= 235


def ring(pixels: U8) -> U8:
    """The pixels along the edge of `pixels` (H, W, 3), as (N, 3); the corners once."""
    height, width = pixels.shape[:2]
    depth = max(1, round(RING * min(height, width)))
    if min(height, width) <= 2 * depth:
        return pixels.reshape(-1, 3)
    inner = pixels[depth:-depth]
    parts = (pixels[:depth], pixels[-depth:], inner[:, :depth], inner[:, -depth:])
    return np.concatenate([part.reshape(-1, 3) for part in parts])


def find_ground(edge: U8) -> Ground:
    """The ground out of the pixels of `ring` (N, 3)."""
    edge = np.ascontiguousarray(edge[:: 1 + len(edge) // SAMPLE])
    coarse = (edge >> 4).astype(np.int32)
    keys = (coarse[:, 0] << 8) | (coarse[:, 1] << 4) | coarse[:, 2]
    mode = int(np.bincount(keys, minlength=4096).argmax())
    centre = np.array([mode >> 8, (mode >> 4) & 15, mode & 15]) * 16 + 8
    for _ in range(2):  # the mode's bin may cut through a cluster: move to the cluster's middle
        near = edge[far(edge, centre) <= SAME]
        centre = near.mean(axis=0).round() if len(near) else centre
    apart = far(edge, centre)
    near = apart[apart <= SAME]
    spread = float(np.percentile(near, 90)) if len(near) else 0.0
    red, green, blue = (int(value) for value in centre)
    return Ground((red, green, blue), len(near) / max(1, len(edge)), round(min(SAME, CLEAN + 2 * spread)))


def far(pixels: U8, colour: NDArray[np.float64] | tuple[int, int, int]) -> U8:
    """Largest distance of R, G and B from `colour`, for pixels (..., 3): uint8 (...)."""
    shape = pixels.shape[:-1]
    flat = np.ascontiguousarray(pixels).reshape(1, -1, 3)
    apart = cv2.absdiff(flat, np.array([*colour, 0], dtype=np.float64))
    red, green, blue = cv2.split(apart)
    largest: U8 = cv2.max(cv2.max(red, green), blue)
    return largest.reshape(shape)


def mask(apart: U8, same: int) -> Bool:
    """What is not ground: True where a pixel is not joined to the edge by pixels of the ground's colour.

    `apart` (H, W) is the distance from that colour (`far`), `same` how far a pixel of the ground may be.
    Holes that show the ground through (a handle) count as product; so does a shadow that is no soft one.
    """
    # A ring of ground round the picture lets one flood reach every part of the ground.
    barrier = cv2.copyMakeBorder((apart > same).astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    cv2.floodFill(barrier, None, (0, 0), 2, flags=4)
    product = (barrier[1:-1, 1:-1] != 2).astype(np.uint8)
    _count, labels, stats, _centroids = cv2.connectedComponentsWithStats(product, connectivity=8)
    keep = stats[:, cv2.CC_STAT_AREA] >= max(2.0, SPECK * product.size)
    keep[0] = False
    result: Bool = keep[labels]
    return result


def bounds(product: Bool) -> tuple[int, int, int, int] | None:
    """Box (x, y, w, h) of the True pixels; None where there are none."""
    rows, columns = np.flatnonzero(product.any(axis=1)), np.flatnonzero(product.any(axis=0))
    if not len(rows):
        return None
    top, left = int(rows[0]), int(columns[0])
    return left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1
