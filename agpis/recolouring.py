"""Whether one plain change of colour makes one picture's colours into another's: a copy's edit does, another colour of
the product does not.

Colours are compared on swatches: small, smoothed tiles of what both pictures show, as `alignment.py` lays one on the
other. A cell may be off by as much as a shift of a fraction of a pixel makes of the contrast in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from agpis.rectangles import NEARLY, Cells, nearly_largest_sum

Floats = NDArray[np.float32]

SWATCH, FINER = 24, 3
"""Cells along width and height of a swatch; pixels along a cell."""
SLACK = np.array([0.35, 0.25, 20.0, 0.35])
"""Usual strength of colour edits (standard deviations): of saturation and gain, about 1; of brightness, grey levels;
and of what saturation adds where grey is the mean of the channels, not their luma."""
CAST = np.array([0.08, 0.1, 6.0, 0.08])
"""How much the three channels differ in these: a cast of colour."""
NOISE, CONTRAST = 5.0, 0.3
"""What a cell is off by where the edit is known: grey levels, and the share of the contrast in the cell."""
LOOKS = 40.0
"""Independent looks at a swatch, whose cells are alike."""
ROUNDS = 3
"""Of fitting an edit again without what is off, which bends the fit; fewer where nothing is."""
CLOSE, FAR = 0.15, 1.5
"""Residuals under and over which the other way need not be tried."""
DOUBTFUL = 2.5
"""NOISE times this: cells that are off by more weigh less."""
BLACK, WHITE = 5.0, 250.0
"""What an edit moves past these grey levels stays there: how far it moved is not known."""
RIM_OFF, RIM = 2.0, 5
"""Rows and columns at the rim, up to RIM a side, whose cells are off by RIM_OFF on average show something else."""
FIT = 20.0
"""Grey levels: cells that are off by more do not belong to what both pictures show."""
GROUND, PLAIN, SOME = 246.0, 12.0, 0.02
"""White ground: grey levels of the darkest channel and of contrast in a cell, and share of the cells it must have."""
A_FEW = 20
"""Cells that are not white ground, under which nothing is said of them."""
MOVED = 8.0
"""Grey levels by which an edit that changes the white ground too shows itself to be one of the whole picture."""
EDITED, EXACT = 0.02, 0.02
"""Weight of an edit's strength in the misfit, and the square of a difference too small to count."""
MISFIT, RESIDUAL = 4.0, 6.0
"""Most that `alignment.Verified.misfit` and `.residual` count."""


class Swatch(NamedTuple):
    """Cells of one picture, row-major; in memory one channel after the other: loops over three numbers are slow."""

    colours: Floats
    """(SWATCH * SWATCH, 3) mean colour, grey levels"""
    contrast: Floats
    """(SWATCH * SWATCH, 3) mean range of neighbours, a third of a cell or a pixel of the picture away, grey levels"""


class Explained(NamedTuple):
    """What the likeliest edit leaves."""

    edit: Floats
    """(3, 4) of the first picture into the second, as `_edit` has it"""
    cells: Cells
    """Without the rows and columns at the rim that show something else"""
    residual: float
    """`alignment.Verified.residual`"""
    misfit: float
    """`alignment.Verified.misfit`"""
    same: float
    """`alignment.Verified.same`"""


def swatch(
    levels: Sequence[NDArray[np.uint8]],
    left: float,
    top: float,
    sx: float,
    sy: float,
    grain: tuple[float, float] = (1.0, 1.0),
) -> Swatch:
    """The rectangle from (`left`, `top`) in cells of `sx` by `sy` pixels; `sx` < 0 turns it about.

    `levels`: the picture (H, W, 3) at full, half and quarter size. `grain`: FINER pixels a cell, x and y, that make one
    pixel of the coarser of the two pictures that are compared: it tells nothing finer.
    """
    sx, sy = sx / FINER, sy / FINER
    finest = min(abs(sx), abs(sy))
    level = 0 if finest < 1.5 else 1 if finest < 3 else 2
    f = 0.5**level
    matrix = np.array([[sx * f, 0, (left + sx / 2) * f - 0.5], [0, sy * f, (top + sy / 2) * f - 0.5]])
    fine = cv2.warpAffine(
        levels[level],
        matrix,
        (SWATCH * FINER, SWATCH * FINER),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    width, height = (2 * round(max(1.0, one)) + 1 for one in grain)
    if max(grain) > 1:
        fine = cv2.blur(fine, (width if grain[0] > 1 else 1, height if grain[1] > 1 else 1))
    around = np.ones((height, width), np.uint8)
    return Swatch(_cells(fine), _cells(cv2.subtract(cv2.dilate(fine, around), cv2.erode(fine, around))))


def explain(first: Swatch, second: Swatch) -> Explained:
    """The plain change of colour that best explains one picture by the other, whichever way leaves less.

    Each channel becomes a mixture of itself, of grey (saturation, about the luma or the mean of the channels, as
    programs differ in it) and of white (brightness), with the coefficients that are likeliest where edits are as strong
    as SLACK and CAST say (ridge regression about no change at all).
    """
    a, b = first.colours.T, second.colours.T  # (3, n), as all that follows
    tolerance = np.sqrt(NOISE**2 + np.square(CONTRAST * np.maximum(first.contrast.T, second.contrast.T)))
    there = best = _Fit(a, b, tolerance)
    if CLOSE < there.residual < FAR:  # what one picture lost at black or white, no edit brings back
        best = min(there, _Fit(b, a, tolerance), key=lambda fit: fit.residual)
    moved = max(_moved(one, other, best.cells) for one, other in ((first, second), (second, first)))
    strength = best.strength * (1 - min(1.0, moved / MOVED))
    misfit = float(np.log((best.residual**2 + EDITED * strength) / EXACT + 1))
    same = _same(a, b, tolerance, best.cells)
    return Explained(there.edit, best.cells, best.residual, min(MISFIT, misfit), same)


def _same(first: Floats, second: Floats, tolerance: Floats, cells: Cells) -> float:
    """Share of the cells showing something that are equal without any edit; 0 where they are under A_FEW."""
    a, b, allowed = (_within(values, cells) for values in (first, second, tolerance))
    shows = np.minimum.reduce([*a, *b]) < GROUND
    count = np.count_nonzero(shows)
    if count < A_FEW:
        return 0.0
    return float(np.count_nonzero(shows & (_mean_square((a - b) / allowed) < 1.0)) / count)


def _within(values: Floats, cells: Cells) -> Floats:
    """(3, rows, columns) of a swatch's values (3, SWATCH * SWATCH)."""
    top, bottom, left, right = cells
    return values.reshape(3, SWATCH, SWATCH)[:, top:bottom, left:right]


def _mean_square(values: Floats) -> Floats:
    """Over the channels, the first axis."""
    square = np.square(values)
    found: Floats = (square[0] + square[1] + square[2]) / 3
    return found


def extent(first: Swatch, second: Swatch, edit: Floats) -> Cells:
    """The largest rectangle of cells, in rows and columns, in which the edit explains the colours, plain ground too."""
    colours = first.colours.T
    made = np.clip(_made(_known(colours), colours, edit), 0, 255)
    score = (FIT - np.sqrt(_mean_square(made - second.colours.T))).reshape(SWATCH, SWATCH)
    if score.sum() >= NEARLY * score.clip(0).sum():  # no rectangle has more than all that speaks for it
        return 0, SWATCH, 0, SWATCH
    return nearly_largest_sum(score)


class _Fit:
    """An edit of the colours `first` into `second`, both (3, n), each of which may be off by `tolerance` (3, n)."""

    def __init__(self, first: Floats, second: Floats, tolerance: Floats) -> None:
        known, certain = _known(first), np.square(NOISE / tolerance)
        off = self._fit(known, first, second, tolerance, certain)
        self.cells = _without_rim(off)
        top, bottom, left, right = self.cells
        if (top, bottom, left, right) != (0, SWATCH, 0, SWATCH):
            inside = np.zeros((SWATCH, SWATCH), np.float32)
            inside[top:bottom, left:right] = 1.0
            off = self._fit(known, first, second, tolerance, certain * inside.ravel())
        within = np.minimum(off[top:bottom, left:right], RESIDUAL)
        self.residual = float(np.sqrt(np.square(within).mean()))
        edit = self.edit.ravel()
        self.strength = float(edit @ _EDITS.reshape(12, 12) @ edit) / 3

    def _fit(self, known: Floats, first: Floats, second: Floats, tolerance: Floats, certain: Floats) -> Floats:
        """Sets `edit`; how far each cell is off after it, (SWATCH, SWATCH), 1 being what it may be."""
        used, right = certain, (second - first)[:, :, None]
        white, black = second >= WHITE, second <= BLACK
        for rounds_left in reversed(range(ROUNDS)):
            self.edit = _edit(known, right, used)
            made = _made(known, first, self.edit)
            square = _mean_square((np.minimum(np.maximum(made, 0), 255) - second) / tolerance)
            if not rounds_left or square.max() < 1:
                break
            clipped = (made >= WHITE) & white | (made <= BLACK) & black
            used = certain / (1 + square / DOUBTFUL**2) * ~clipped
        off: Floats = np.sqrt(square)
        return off.reshape(SWATCH, SWATCH)


def _cells(fine: NDArray[np.uint8]) -> Floats:
    means = cv2.resize(fine.astype(np.float32), (SWATCH, SWATCH), interpolation=cv2.INTER_AREA)
    return np.asfortranarray(means.reshape(-1, 3))


_EDITS = np.linalg.inv(np.kron(np.ones((3, 3)), np.diag(SLACK**2)) + np.kron(np.eye(3), np.diag(CAST**2))).reshape(
    3, 4, 3, 4
)
"""Inverse covariance of edits, (3, 4) by (3, 4): of red, green and blue, saturation, gain, brightness and the mean."""
_CHANNELS = np.arange(3)
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""Weights of red, green and blue in grey (ITU-R BT.601)."""


def _edit(known: Floats, right: Floats, used: Floats) -> Floats:
    """The likeliest edit as (3, 4) differences from none at all, by channel, in the order of SLACK.

    `known` (3, 4, n); `right` (3, n, 1) what is to be added; `used` (3, n) weights, 0 to 1.
    """
    weight = used * (LOOKS / max(float(used[0].sum()), 1e-6) / NOISE**2)
    weighed = known * weight[:, None]
    normal = _EDITS.copy()
    normal[_CHANNELS, :, _CHANNELS] += weighed @ known.transpose(0, 2, 1)  # (3, 4, 4) by channel
    sums = (weighed @ right).astype(np.float64)
    return np.linalg.solve(normal.reshape(12, 12), sums.ravel()).reshape(3, 4).astype(np.float32)


def _made(known: Floats, colours: Floats, edit: Floats) -> Floats:
    """(3, n) colours after an edit, not yet cut off at black and white."""
    made: Floats = colours + (edit[:, None] @ known)[:, 0]
    return made


def _known(colours: Floats) -> Floats:
    """(3, 4, n) by channel: what an edit adds of it, of grey, of white and of how the mean differs from grey."""
    grey = LUMA @ colours
    known = np.ones((3, 4, colours.shape[1]), np.float32)
    known[:, 0], known[:, 1] = colours - grey, grey
    known[:, 3] = (colours[0] + colours[1] + colours[2]) / 3 - grey
    return known


def _without_rim(off: Floats) -> Cells:
    """The cells without the rows and columns at the rim that are off, the worst first."""
    top, bottom, left, right = 0, SWATCH, 0, SWATCH
    while True:
        inner = off[top:bottom, left:right]
        height, width = inner.shape
        rims = (
            float(inner[0].sum()) / width if top < RIM else 0.0,
            float(inner[-1].sum()) / width if SWATCH - bottom < RIM else 0.0,
            float(inner[:, 0].sum()) / height if left < RIM else 0.0,
            float(inner[:, -1].sum()) / height if SWATCH - right < RIM else 0.0,
        )
        worst = rims.index(max(rims))
        if rims[worst] < RIM_OFF:
            return top, bottom, left, right
        top, bottom = top + (worst == 0), bottom - (worst == 1)
        left, right = left + (worst == 2), right - (worst == 3)


def _moved(first: Swatch, second: Swatch, cells: Cells) -> float:
    """How far the white ground of the first picture is from white in the second, grey levels; 0 without such ground."""
    colours = _within(first.colours.T, cells)
    light = np.minimum.reduce(colours) >= GROUND
    white = light & (np.maximum.reduce(_within(first.contrast.T, cells)) < PLAIN) if light.any() else light
    if np.count_nonzero(white) < SOME * white.size:
        return 0.0
    return float(np.sqrt(_mean_square(_within(second.colours.T, cells) - colours)[white].mean()))
