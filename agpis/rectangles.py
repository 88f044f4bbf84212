"""The rectangle of a table with the largest sum."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

NEARLY = 0.9
"""Share of the best sum that a larger rectangle may have instead: plain blocks, which add nothing, belong to it."""

Cells = tuple[int, int, int, int]
"""A rectangle of a table: top, bottom, left, right, ends excluded."""


def largest_sum(score: NDArray[np.floating]) -> tuple[Cells, float]:
    """The rectangle of a table with the largest sum, and the sum.

    Looks at all there are: for tables of some 30 x 30.
    """
    sums = _sums(score)
    best = int(sums.argmax())
    return _rectangle(score, best), float(sums.flat[best])


def nearly_largest_sum(score: NDArray[np.floating]) -> Cells:
    """The largest rectangle of a table with nearly (NEARLY) the largest sum."""
    sums = _sums(score)
    most = float(sums.max())
    nearly = sums >= most - (1 - NEARLY) * abs(most)
    return _rectangle(score, int((_sizes(score.shape) * nearly).argmax()))


def _sums(score: NDArray[np.floating]) -> NDArray[np.float64]:
    """(stretches of columns, stretches of rows) of every rectangle, in the order of `_spans`."""
    total = np.zeros((score.shape[0] + 1, score.shape[1] + 1))
    total[1:, 1:] = score.cumsum(0).cumsum(1)
    (top, bottom), (left, right) = (_spans(length) for length in score.shape)
    # Turned about, for whole rows are copied faster than columns.
    strips = np.ascontiguousarray((total[bottom] - total[top]).T)  # (columns + 1, stretches of rows)
    sums: NDArray[np.float64] = strips[right] - strips[left]
    return sums


def _rectangle(score: NDArray[np.floating], at: int) -> Cells:
    """Number `at` of `_sums`."""
    (top, bottom), (left, right) = (_spans(length) for length in score.shape)
    column, row = divmod(at, len(top))
    return int(top[row]), int(bottom[row]), int(left[column]), int(right[column])


@functools.cache
def _spans(length: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """First and last + 1 of every stretch of a line."""
    first, last = np.triu_indices(length + 1, 1)
    return first, last


@functools.cache
def _sizes(shape: tuple[int, int]) -> NDArray[np.intp]:
    """Cells of every rectangle of a table (rows, columns), as `_sums` has them."""
    (top, bottom), (left, right) = (_spans(length) for length in shape)
    return np.outer(right - left, bottom - top)
