"""The rectangle of a table with the largest sum."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

NEARLY = 0.9
"""Share of the best sum that a larger rectangle may have instead: plain blocks, which add nothing, belong to it."""

Cells = tuple[int, int, int, int]
"""A rectangle of a table: top, bottom, left, right, ends excluded."""


def largest_sum(score: NDArray[np.floating]) -> tuple[Cells, Cells, float]:
    """The rectangle of a table with the largest sum, the largest one with nearly as much (NEARLY), and the sum.

    Looks at all there are: for tables of some 30 x 30.
    """
    total = np.zeros((score.shape[0] + 1, score.shape[1] + 1))
    total[1:, 1:] = score.cumsum(0).cumsum(1)
    top, bottom = _spans(score.shape[0])
    left, right = _spans(score.shape[1])
    strips = total[bottom] - total[top]
    scores = strips[:, right] - strips[:, left]
    best = int(scores.argmax())
    most = float(scores.flat[best])
    size = np.outer(bottom - top, right - left)
    large = int(np.where(scores >= most - (1 - NEARLY) * abs(most), size, 0).argmax())

    def rectangle(at: int) -> Cells:
        row, column = divmod(at, len(left))
        return int(top[row]), int(bottom[row]), int(left[column]), int(right[column])

    return rectangle(best), rectangle(large), most


@functools.cache
def _spans(length: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """First and last + 1 of every stretch of a line."""
    first, last = np.triu_indices(length + 1, 1)
    return first, last
