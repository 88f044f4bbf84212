"""Patch descriptors of two pictures, matched and verified for one consistent shift, scale and mirror.

Every patch of one picture names its nearest patch in the other. If the second picture is a copy, the pairs named
agree on one similarity transform x' = scale * mirror * x + shift; they vote for it in a Hough table (Ballard 1981),
and the winner, with and without mirror, is refined by least squares over the patches that agree with it.

A patch votes with its weight: 1 if nothing else in its own picture looks like it, 1/n if n patches do. White ground,
plain cloth and letterbox padding, alike in every picture, so have next to no voice.

Coordinates here are patches, from the centre of the grid: (0, 0) is the middle of the letterbox.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Indices = NDArray[np.intp]

SHARPNESS = 6.0
"""How fast the count of look-alikes falls with descriptor distance: exp(SHARPNESS * (cosine - 1))."""
SCALES = (1.18 ** np.arange(-6, 7)).astype(np.float32)
"""Scales of the Hough table: 0.37 to 2.7, a crop of 14 % of the area either way."""
VOTES = 128
"""Votes a pair: the heaviest ones. Light ones come from ground and only cost time."""
NEAR = 1.6
"""Patches: a named patch this close to where the transform puts it agrees with it (1 patch of rounding each way)."""
SEEN = 0.3
"""Share of a patch that must lie on the picture, not on padding."""


@dataclass(frozen=True, slots=True)
class Hypotheses:
    """For m pairs and both mirrors (index 0 plain, 1 mirrored): transforms and how well the patches support them."""

    scale: Floats
    """(m, 2)"""
    shift: Floats
    """(m, 2, 2): x and y, patches"""
    similarity: Floats
    """(m, 2): weighted mean cosine of patches and where they land"""
    margin: Floats
    """(m, 2): the same, less the best cosine each patch finds anywhere (0 at best)"""
    share: Floats
    """(m, 2): weighted share of patches in the overlap that name a patch near where they land"""
    cover: Floats
    """(m, 2): share of the weight that lies in the overlap, of the picture more covered"""
    mass: Floats
    """(m, 2): logarithm of the weight in the overlap: how much there is to tell from"""

    @property
    def best(self) -> Indices:
        """(m,): the mirror with more support."""
        support = self.share * np.exp(self.mass) * np.maximum(self.similarity, 0)
        result: Indices = support.argmax(1)
        return result


def weights(patches: Floats, visible: Floats) -> Floats:
    """Voice of each patch: (n, P, E) L2-normalised descriptors, (n, P) share on the picture -> (n, P) in 0..1."""
    alike = np.exp(SHARPNESS * (patches @ patches.transpose(0, 2, 1) - 1))
    # Patches of the padding count too: whatever looks like padding is plain ground.
    padding = np.where(visible > SEEN, 1.0, 4.0).astype(np.float32)
    crowd = (alike * padding[:, None, :]).sum(2)
    result: Floats = visible * (visible > SEEN) / np.maximum(crowd, 1.0)
    return result


def hypotheses(patches: Floats, weight: Floats, first: Indices, second: Indices, *, grid: int) -> Hypotheses:
    """Best transform of each pair (`first[i]`, `second[i]`), plain and mirrored.

    `patches` (n, grid * grid, E) float32 L2-normalised, row-major; `weight` (n, grid * grid) from `weights`.
    """
    wa, wb = weight[first], weight[second]  # (m, P)
    cosine = np.matmul(patches[first], patches[second].transpose(0, 2, 1))  # (m, P, P)
    # Padding takes no part on either side.
    cosine += np.where(wa > 0, 0, -2).astype(np.float32)[:, :, None]
    cosine += np.where(wb > 0, 0, -2).astype(np.float32)[:, None, :]
    place = _places(grid)
    names_b, names_a = cosine.argmax(2), cosine.argmax(1)
    a, b, vote = _votes(cosine, names_b, names_a, wa, wb)
    found = []
    for mirror in (1, -1):
        sign = np.array([mirror, 1], np.float32)
        scale, shift = _transform(place[a] * sign, place[b], vote, grid)
        there = _landing(
            cosine, names_b, wa, wb > 0, place, scale[:, None, None] * (place * sign) + shift[:, None], grid
        )
        back = _landing(
            cosine.transpose(0, 2, 1), names_a, wb, wa > 0, place,
            (place - shift[:, None]) * sign / scale[:, None, None], grid,
        )  # fmt: skip
        found.append((scale, shift, *_both(there, back)))
    return Hypotheses(*(np.stack(part, axis=1).astype(np.float32) for part in zip(*found, strict=True)))


def _places(grid: int) -> Floats:
    """(P, 2): x and y of each patch centre."""
    line = np.arange(grid, dtype=np.float32) - (grid - 1) / 2
    return np.stack([np.tile(line, grid), np.repeat(line, grid)], axis=1)


def _votes(
    cosine: Floats, names_b: Indices, names_a: Indices, wa: Floats, wb: Floats
) -> tuple[Indices, Indices, Floats]:
    """The VOTES heaviest of the named pairs, both ways: patch in a (m, v), patch in b (m, v), weight (m, v)."""
    m, count = names_b.shape
    every = np.broadcast_to(np.arange(count), (m, count))
    a, b = np.concatenate([every, names_a], 1), np.concatenate([names_b, every], 1)  # (m, 2 P)
    row = np.arange(m)[:, None]
    # The cosine above the usual one of the pair: descriptors of one product are all somewhat alike.
    usual = np.maximum(cosine, -1).mean((1, 2))[:, None]
    vote = np.sqrt(wa[row, a] * wb[row, b]) * np.maximum(cosine[row, a, b] - usual, 0)
    keep = np.argpartition(-vote, min(VOTES, 2 * count) - 1, axis=1)[:, :VOTES]
    return a[row, keep], b[row, keep], vote[row, keep].astype(np.float32)


def _transform(a: Floats, b: Floats, vote: Floats, grid: int) -> tuple[Floats, Floats]:
    """Scale (m,) and shift (m, 2) with most votes. `a` (already mirrored) and `b`: places (m, v, 2)."""
    m, bins, steps = len(a), 2 * grid + 3, len(SCALES)  # a bin is one patch; a rim of one for the smoothing
    shift = b[:, None] - SCALES[:, None, None] * a[:, None] + (grid + 1)  # (m, steps, v, 2)
    cell = np.rint(shift).astype(np.int32)
    inside = ((cell > 0) & (cell < bins - 1)).all(-1)
    table = (np.arange(m)[:, None] * steps + np.arange(steps))[:, :, None]
    flat = (table * bins + cell[..., 1]) * bins + cell[..., 0]
    count = np.bincount(flat[inside], np.broadcast_to(vote[:, None], inside.shape)[inside], m * steps * bins * bins)
    hough = count.astype(np.float32).reshape(m, steps, bins, bins)
    # Rounding spreads one transform over neighbouring bins.
    hough = hough[:, :, :-2] + hough[:, :, 1:-1] + hough[:, :, 2:]
    hough = hough[..., :-2] + hough[..., 1:-1] + hough[..., 2:]
    step, y, x = np.unravel_index(hough.reshape(m, -1).argmax(1), hough.shape[1:])
    scale, move = SCALES[step], np.stack([x, y], 1).astype(np.float32) - grid
    for reach in (NEAR, NEAR, 1.2):
        off = b - scale[:, None, None] * a - move[:, None]
        w = vote * (np.square(off).sum(-1) < reach**2)
        total = w.sum(1, keepdims=True) + 1e-9
        mean_a, mean_b = (w[..., None] * a).sum(1) / total, (w[..., None] * b).sum(1) / total
        da, db = a - mean_a[:, None], b - mean_b[:, None]
        saa, sab = (w * np.square(da).sum(-1)).sum(1), (w * (da * db).sum(-1)).sum(1)
        fitted = np.clip(sab / np.maximum(saa, 1e-9), SCALES[0], SCALES[-1])
        # Few patches in one spot do not fix a scale: half a vote holds the one from the table, three patches off.
        spread = saa / (saa + 0.5 * 9 * vote.max(1) + 1e-9)
        scale = (spread * fitted + (1 - spread) * scale).astype(np.float32)
        move = np.where(w.any(1, keepdims=True), mean_b - scale[:, None] * mean_a, move)
    return scale, move.astype(np.float32)


@dataclass(frozen=True, slots=True)
class _Support:
    similarity: Floats
    margin: Floats
    share: Floats
    cover: Floats
    mass: Floats


def _landing(
    cosine: Floats, names: Indices, weight: Floats, seen: NDArray[np.bool_], place: Floats, landing: Floats, grid: int
) -> _Support:
    """How well each patch fits where it lands: `landing` (m, P, 2) in the other picture, `seen` (m, P) there."""
    m, count = weight.shape
    row, patch = np.arange(m)[:, None], np.arange(count)
    spot = landing + (grid - 1) / 2
    inside = ((spot > -0.5) & (spot < grid - 0.5)).all(-1)
    low = np.clip(np.floor(spot), 0, grid - 2).astype(np.intp)
    corner = low[..., 1] * grid + low[..., 0]
    nearest = np.clip(np.rint(spot), 0, grid - 1).astype(np.intp)
    inside &= seen[row, nearest[..., 1] * grid + nearest[..., 0]]
    # A patch that lands between four others is compared with the best of them.
    fit = np.maximum.reduce([cosine[row, patch, corner + step] for step in (0, 1, grid, grid + 1)])
    top = np.take_along_axis(cosine, names[:, :, None], 2)[:, :, 0]
    agrees = np.square(place[names] - landing).sum(-1) < NEAR**2
    w = weight * inside
    mass = w.sum(1)
    safe = mass + 1e-6
    return _Support(
        similarity=(w * fit).sum(1) / safe,
        margin=(w * (fit - top)).sum(1) / safe,
        share=(w * agrees).sum(1) / safe,
        cover=mass / (weight.sum(1) + 1e-6),
        mass=mass,
    )


def _both(there: _Support, back: _Support) -> tuple[NDArray[np.floating], ...]:
    return (
        (there.similarity + back.similarity) / 2,
        (there.margin + back.margin) / 2,
        (there.share + back.share) / 2,
        np.maximum(there.cover, back.cover),
        np.log(np.minimum(there.mass, back.mass) + np.float32(1e-3)),
    )
