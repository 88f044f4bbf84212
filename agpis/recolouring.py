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

from agpis.rectangles import NEARLY, Cells, largest_sum

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
    """Cells of one picture, row-major."""

    colours: Floats
    """(SWATCH * SWATCH, 3) mean colour, grey levels"""
    contrast: Floats
    """(SWATCH * SWATCH, 3) mean range of neighbours, a third of a cell or a pixel of the picture away, grey levels"""


class Explained(NamedTuple):
    """What the likeliest edit leaves."""

    edit: Floats
    """(4, 3) of the first picture into the second, as `_edit` has it"""
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
    tolerance = np.sqrt(NOISE**2 + np.square(CONTRAST * np.maximum(first.contrast, second.contrast)))
    there = best = _Fit(first.colours, second.colours, tolerance)
    if CLOSE < there.residual < FAR:  # what one picture lost at black or white, no edit brings back
        best = min(there, _Fit(second.colours, first.colours, tolerance), key=lambda fit: fit.residual)
    moved = max(_moved(a, b, best.cells) for a, b in ((first, second), (second, first)))
    strength = best.strength * (1 - min(1.0, moved / MOVED))
    misfit = float(np.log((best.residual**2 + EDITED * strength) / EXACT + 1))
    same = _same(first, second, tolerance, best.cells)
    return Explained(there.edit, best.cells, best.residual, min(MISFIT, misfit), same)


def _same(first: Swatch, second: Swatch, tolerance: Floats, cells: Cells) -> float:
    """Share of the cells showing something that are equal without any edit; 0 where they are under A_FEW."""
    top, bottom, left, right = cells
    inside = np.zeros((SWATCH, SWATCH), np.bool_)
    inside[top:bottom, left:right] = True
    shows = inside.ravel() & (np.minimum(first.colours, second.colours).min(1) < GROUND)
    if shows.sum() < A_FEW:
        return 0.0
    off = np.square((first.colours - second.colours) / tolerance)[shows].mean(1)
    return float((off < 1.0).mean())


def extent(first: Swatch, second: Swatch, edit: Floats) -> Cells:
    """The largest rectangle of cells, in rows and columns, in which the edit explains the colours, plain ground too."""
    made = np.clip(_made(_known(first.colours), first.colours, edit), 0, 255)
    off = np.sqrt(np.square(made - second.colours).mean(1))
    score = (FIT - off).reshape(SWATCH, SWATCH)
    if score.sum() >= NEARLY * score.clip(0).sum():  # no rectangle has more than all that speaks for it
        return 0, SWATCH, 0, SWATCH
    return largest_sum(score)[1]


class _Fit:
    """An edit of the colours `first` into `second`, both (n, 3), each of which may be off by `tolerance` (n, 3)."""

    def __init__(self, first: Floats, second: Floats, tolerance: Floats) -> None:
        known, certain = _known(first), np.square(NOISE / tolerance)
        off = self._fit(known, first, second, tolerance, certain)
        self.cells = _without_rim(off)
        top, bottom, left, right = self.cells
        if (top, bottom, left, right) != (0, SWATCH, 0, SWATCH):
            inside = np.zeros((SWATCH, SWATCH), np.float32)
            inside[top:bottom, left:right] = 1.0
            off = self._fit(known, first, second, tolerance, certain * inside.reshape(-1, 1))
        within = np.minimum(off[top:bottom, left:right], RESIDUAL)
        self.residual = float(np.sqrt(np.square(within).mean()))
        self.strength = float(self.edit.ravel() @ _EDITS @ self.edit.ravel()) / 3

    def _fit(self, known: Floats, first: Floats, second: Floats, tolerance: Floats, certain: Floats) -> Floats:
        """Sets `edit`; how far each cell is off after it, (SWATCH, SWATCH), 1 being what it may be."""
        used, right = certain, second - first
        for _ in range(ROUNDS):
            self.edit = _edit(known, right, used)
            made = _made(known, first, self.edit)
            off: Floats = np.sqrt(np.square((np.clip(made, 0, 255) - second) / tolerance).mean(1))
            if off.max() < 1:
                break
            clipped = np.where(made >= WHITE, second >= WHITE, (made <= BLACK) & (second <= BLACK))
            used = certain / (1 + np.square(off / DOUBTFUL))[:, None] * ~clipped
        return off.reshape(SWATCH, SWATCH)


def _cells(fine: NDArray[np.uint8]) -> Floats:
    means: Floats = cv2.resize(fine.astype(np.float32), (SWATCH, SWATCH), interpolation=cv2.INTER_AREA)
    return means.reshape(-1, 3)


_EDITS = np.linalg.inv(np.kron(np.diag(SLACK**2), np.ones((3, 3))) + np.kron(np.diag(CAST**2), np.eye(3)))
"""(12, 12) inverse covariance of edits: saturation of red, green, blue, then gain, then brightness, then the mean."""


def _edit(known: Floats, right: Floats, used: Floats) -> Floats:
    """The likeliest edit as (4, 3) differences from none at all, in the order of SLACK, by channel.

    `known` (3, n, 4); `right` (n, 3) what is to be added; `used` (n, 3) weights, 0 to 1.
    """
    weight = (used * (LOOKS / max(float(used[:, 0].sum()), 1e-6) / NOISE**2)).T  # (3, n)
    weighed = (known * weight[:, :, None]).transpose(0, 2, 1)  # (3, 4, n)
    own = weighed @ known  # (3, 4, 4) by channel
    normal, sums = _EDITS.copy(), np.zeros(12)
    for c in range(3):
        normal[c::3, c::3] += own[c]
        sums[c::3] = weighed[c] @ right[:, c]
    return np.asarray(np.linalg.solve(normal, sums).reshape(4, 3), np.float32)


def _made(known: Floats, colours: Floats, edit: Floats) -> Floats:
    """(n, 3) colours after an edit, not yet cut off at black and white."""
    made: Floats = colours + np.matmul(known, edit.T[:, :, None])[:, :, 0].T
    return made


def _known(colours: Floats) -> Floats:
    """(3, n, 4) by channel: what an edit adds of it, of grey, of white and of how the mean differs from grey."""
    grey = colours @ np.array([0.299, 0.587, 0.114], np.float32)
    known = np.ones((3, len(colours), 4), np.float32)
    known[:, :, 0], known[:, :, 1] = (colours - grey[:, None]).T, grey
    known[:, :, 3] = colours.mean(1) - grey
    return known


def _without_rim(off: Floats) -> Cells:
    """The cells without the rows and columns at the rim that are off, the worst first."""
    top, bottom, left, right = 0, SWATCH, 0, SWATCH
    while True:
        rows, columns = off[top:bottom, left:right].mean(1), off[top:bottom, left:right].mean(0)
        rims = (
            rows[0] if top < RIM else 0.0,
            rows[-1] if SWATCH - bottom < RIM else 0.0,
            columns[0] if left < RIM else 0.0,
            columns[-1] if SWATCH - right < RIM else 0.0,
        )
        worst = int(np.argmax(rims))
        if rims[worst] < RIM_OFF:
            return top, bottom, left, right
        top, bottom = top + (worst == 0), bottom - (worst == 1)
        left, right = left + (worst == 2), right - (worst == 3)


def _moved(first: Swatch, second: Swatch, cells: Cells) -> float:
    """How far the white ground of the first picture is from white in the second, grey levels; 0 without such ground."""
    top, bottom, left, right = cells
    inside = np.zeros((SWATCH, SWATCH), np.bool_)
    inside[top:bottom, left:right] = True
    white = inside.ravel() & (first.colours.min(1) >= GROUND) & (first.contrast.max(1) < PLAIN)
    if white.sum() < SOME * inside.sum():
        return 0.0
    return float(np.sqrt(np.square(second.colours[white] - first.colours[white]).mean()))
