"""Which pairs of sister products one edit of colours explains, so that no look at the pair can tell them from a copy.

Many shops show the colours of a product as one photograph in other colours. Where the whole picture could have been
edited so (`agpis.simulate.pair.colour_shifted`: saturation, contrast, brightness, a gain a channel, or grey, in the
simulator's own ranges), the same two pictures may be a product and its sister, or a picture and its copy. This is
judged by a bounded fit of those very parameters, not by the matcher that is measured.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from agpis import alignment, duplicates
from agpis.images import placement
from agpis.recolouring import Swatch, swatch
from bench.finders import SIZE, Pair

LOWER = (0.5, 0.75, -22.0, 0.85, 0.85, 0.85)
UPPER = (1.5, 1.25, 22.0, 1.12, 1.12, 1.12)
"""Of saturation, contrast, brightness (grey levels) and the gains of red, green and blue, as they are drawn there."""
SHARE = 0.95
"""Of colour-shifted copies that the fit leaves less of than the limit."""
CELLS = 24

Array = NDArray[np.float64]


def explained(pairs: Sequence[Pair], found: Sequence[duplicates.PairMatch]) -> NDArray[np.bool_]:
    """Sisters of which an edit leaves no more than of SHARE of the colour-shifted copies."""
    left = np.full(len(pairs), np.inf)
    for at, (pair, match) in enumerate(zip(pairs, found, strict=True)):
        alike = (match.statistics or {}).get("likeness", 0.0)
        if pair.kind == "colour_shifted" or (pair.kind == "sister" and alike > 0.8):
            left[at] = residue(pair, match)
    copies = left[[pair.kind == "colour_shifted" for pair in pairs]]
    limit = float(np.quantile(copies, SHARE))
    return np.array([pair.kind == "sister" for pair in pairs]) & (left <= limit)


def residue(pair: Pair, match: duplicates.PairMatch) -> float:
    """Root mean square of what the best edit leaves, grey levels, whichever picture is the edited one."""
    first, second = (_colours(pair, match, at) for at in (0, 1))
    return min(_left(first, second), _left(second, first))


def _colours(pair: Pair, match: duplicates.PairMatch, at: int) -> Swatch:
    """What both pictures show, of one of them."""
    shot, box = ((pair.a, match.box_a), (pair.b, match.box_b))[at]
    assert shot.boxed is not None
    height, width = shot.pixels.shape[:2]
    place = placement(width, height, SIZE)
    across, down = place.width / width, place.height / height
    grey = alignment.Grey(
        shot.boxed, alignment.Rect(place.left, place.top, place.left + place.width, place.top + place.height)
    )
    sx, sy = box.w * across / CELLS, box.h * down / CELLS
    left, top = place.left + box.x * across, place.top + box.y * down
    if at == 1 and match.mirrored:
        left, sx = left + box.w * across, -sx
    return swatch(grey.colours, left, top, sx, sy)


def _left(first: Swatch, second: Swatch) -> float:
    # Cells on an outline are off by a fraction of a pixel's shift: they say nothing of colours.
    flat = np.maximum(first.contrast, second.contrast).max(1) < 40
    if flat.sum() < CELLS:
        return float("inf")
    known, seen = (np.asarray(one.colours[flat], np.float64) for one in (first, second))
    mean, luma = first.colours.mean(0), known @ np.array([0.3, 0.59, 0.11])

    def off(parameters: Array, colours: Array) -> Array:
        saturation, contrast, brightness, *gains = parameters
        grey = colours.mean(1, keepdims=True)
        made = mean + (grey + (colours - grey) * saturation - mean) * contrast + brightness
        return np.asarray((np.clip(made * np.array(gains), 0, 255) - seen).ravel(), np.float64)

    best = np.inf
    for colours in (known, np.repeat(luma[:, None], 3, axis=1)):
        start = np.array([1.0, 1.0, 0.0, 1.0, 1.0, 1.0])
        fitted = least_squares(
            off, start, bounds=(LOWER, UPPER), args=(colours,), x_scale=np.array([1, 1, 50, 1, 1, 1])
        )
        best = min(best, float(np.sqrt(np.square(fitted.fun).mean())))
    return best
