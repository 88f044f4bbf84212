"""Whether one plain change of colour makes one picture's colours into another's: a copy's edit does, another colour of
the product does not.

Colours are compared on swatches: small, smoothed tiles of what both pictures show, as `alignment.py` lays one on the
other.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from agpis.rectangles import Cells, largest_sum

SWATCH = 20
"""Width and height of the tiles on which colours are compared, pixels."""
SLACK = np.array([0.35, 0.25, 20.0])
"""Usual strength of colour edits (standard deviations): of saturation and gain, about 1; of brightness, grey levels."""
CAST = np.array([0.08, 0.1, 6.0])
"""How much the three channels differ in these: a cast of colour."""
COLOUR_NOISE, COLOUR_LOOKS = 8.0, 8.0
"""Grey levels a copy's colour is off where the edit is known; independent looks at a tile, whose pixels are alike."""
OFF = 2.5
"""COLOUR_NOISE times this: pixels that are off by more do not belong to what both pictures show."""
KEPT = 0.7
"""Share of the rectangle that must belong to it, or all counts."""
MISFIT = 3.0
"""Most that `alignment.Verified.misfit` counts."""


def swatch(pixels: NDArray[np.uint8], left: float, top: float, sx: float, sy: float) -> NDArray[np.float64]:
    """(SWATCH * SWATCH, 3) colours of a rectangle, smoothed, in places as `alignment.Grey.tile` has them."""
    width = 2 * (int(abs(sy)) // 2) + 3
    matrix = np.array([[sx, 0, left + sx / 2 - 0.5], [0, sy, top + sy / 2 - 0.5]])
    found = cv2.warpAffine(
        cv2.blur(pixels, (width, width)),
        matrix,
        (SWATCH, SWATCH),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    colours: NDArray[np.float64] = found.reshape(-1, 3).astype(np.float64)
    return colours


def explain(first: NDArray[np.float64], second: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """The plain change of colour that best explains the second picture, and its misfit.

    `first`, `second`: swatches. Returns the edit (3, 3), as `_edit` has it, and `alignment.Verified.misfit`.

    Each channel becomes a mixture of itself, of grey (saturation) and of white (brightness), with the coefficients
    that are likeliest where edits are as strong as SLACK and CAST say (ridge regression about no change at all). A rim
    of the region that shows something else, as around a pasted crop, is left out.
    """
    used = np.ones(len(first))
    found, off = _edit(first, second, used)
    for _ in range(2):  # again without what is off: it bends the fit
        found, off = _edit(first, second, 1 / (1 + np.square(off / (OFF * COLOUR_NOISE))))
    top, bottom, left, right = _fitting(off)[0]
    if (bottom - top) * (right - left) >= KEPT * SWATCH**2:
        inside = np.zeros((SWATCH, SWATCH))
        inside[top:bottom, left:right] = 1.0
        used = inside.ravel()
    found, off = _edit(first, second, used)
    # A pixel or two that are wholly off do not decide.
    noise = np.square(np.minimum(off, 10 * COLOUR_NOISE) / COLOUR_NOISE)
    strength = found.ravel() @ _EDITS @ found.ravel() / 3 / COLOUR_LOOKS
    return found, min(MISFIT, float(np.sqrt((noise * used).sum() / used.sum() + strength)))


def extent(first: NDArray[np.float64], second: NDArray[np.float64], edit: NDArray[np.float64]) -> Cells:
    """The cells of two swatches (SWATCH * SWATCH, 3), in rows and columns, in which the edit explains the colours."""
    return _fitting(_off(first, second, edit))[1]


def _fitting(off: NDArray[np.float64]) -> tuple[Cells, Cells]:
    """The rectangle with most colours that fit and fewest that are off, and the largest that is nearly as good."""
    best, large, _ = largest_sum((OFF * COLOUR_NOISE - off).reshape(SWATCH, SWATCH))
    return best, large


_EDITS = np.linalg.inv(np.kron(np.diag(SLACK**2), np.ones((3, 3))) + np.kron(np.diag(CAST**2), np.eye(3)))
"""(9, 9) inverse covariance of edits: saturation of red, green, blue, then gain, then brightness."""


def _edit(
    first: NDArray[np.float64], second: NDArray[np.float64], used: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The likeliest edit of colours (n, 3) into others, as (3, 3) differences from none at all: saturation, gain and
    brightness by channel; and how far each colour (n,) is off after it. `used` (n,): weights, 0 to 1."""
    weight = used * (COLOUR_LOOKS / used.sum() / COLOUR_NOISE**2)
    normal, right = _EDITS.copy(), np.zeros(9)
    known = _known(first)
    for c in range(3):
        own = slice(c, 9, 3)
        weighed = (known[c] * weight[:, None]).T
        normal[own, own] += weighed @ known[c]
        right[own] += weighed @ (second[:, c] - first[:, c])
    found = np.asarray(np.linalg.solve(normal, right).reshape(3, 3), np.float64)
    return found, _off(first, second, found)


def _off(first: NDArray[np.float64], second: NDArray[np.float64], edit: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n,) how far colours are off after an edit, grey levels."""
    known = _known(first)
    made = np.stack([first[:, c] + known[c] @ edit[:, c] for c in range(3)], 1)
    # What is moved past black or white stays there.
    off: NDArray[np.float64] = np.sqrt(np.square(np.clip(made, 0, 255) - second).mean(1))
    return off


def _known(colours: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """By channel (n, 3): what an edit adds of it, of grey and of white."""
    grey = colours @ np.array([0.299, 0.587, 0.114])
    return [np.stack([colours[:, c] - grey, grey, np.ones_like(grey)], 1) for c in range(3)]
