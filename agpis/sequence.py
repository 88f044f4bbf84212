"""Choice of the ordered sequence: `random` (paper 3.3) or `best` (the search that paper 5.1 leaves to future work).

`best` scores every ordered choice in one call while there are at most `exact_limit` of them. Beyond that it is a
beam search: sequences grow by one image a step, the `beam` best of each length live on, and the winner is then
polished by exchanging and swapping images. With n candidates, k images and p possible primaries it scores at most

    p + (k - 1) * beam * (n - 1) + POLISH * k * n

sequences (linear in n) in at most k + POLISH calls of the score function.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from agpis.errors import SettingsError

Mode = Literal["random", "best"]
Chosen = tuple[int, ...]
Score = Callable[[list[Chosen]], NDArray[np.floating]]

TIE = 1e-6
"""Scores this close are equal: below the noise of float32 graphs. The merchant's order then decides."""
POLISH = 3
"""Most rounds of exchanging and swapping after a beam search."""


@dataclass(frozen=True, slots=True)
class Found:
    """The chosen images (the first is the primary), their score, and how many sequences were scored for it."""

    sequence: Chosen
    score: float
    evaluated: int


def search(
    candidates: Sequence[int],
    score: Score,
    *,
    primary: int,
    k: int,
    mode: Mode = "best",
    seed: int = 0,
    exact_limit: int = 400,
    beam: int = 8,
    primaries: Sequence[int] | None = None,
) -> Found | None:
    """An ordered choice of `k` of `candidates` (indices, in the merchant's order) that starts with `primary`.

    `score` takes a list of sequences and gives one float for each (larger is better); beam search passes sequences
    shorter than `k` too, all of one length in a call. `primaries` (only `best`): candidates that may take the first
    place instead of `primary`. None is returned when there are fewer than `k` candidates.
    Deterministic: scores within `TIE` of each other count as equal, then `primary` goes before other primaries, and
    the sequence that comes first in the merchant's order wins. `seed` only matters to `random`.

    Raises SettingsError: `sequence_length` (k < 1), `sequence_primary` (a primary that is no candidate),
    `sequence_candidates` (one twice), `search_mode`, `search_limits` (exact_limit or beam < 1), and
    `sequence_score` when the score function gives NaN or another number of values.
    """
    if mode not in ("random", "best"):
        raise SettingsError("search_mode", f"search mode is {mode!r}; allowed are 'random' and 'best'.")
    if k < 1:
        raise SettingsError("sequence_length", f"sequence length is {k}; allowed is 1 and more.")
    if exact_limit < 1 or beam < 1:
        raise SettingsError(
            "search_limits", f"exact_limit is {exact_limit} and beam is {beam}; both must be at least 1."
        )
    if len(set(candidates)) != len(candidates):
        raise SettingsError(
            "sequence_candidates", f"candidates {list(candidates)} name an image twice; each once only."
        )
    firsts = list(dict.fromkeys([primary, *(primaries or ())]))
    strangers = [p for p in firsts if p not in candidates]
    if strangers:
        raise SettingsError(
            "sequence_primary", f"primary {strangers[0]} is not among the candidates {list(candidates)}. Choose one."
        )
    if len(candidates) < k:
        return None
    counted = _Counted(score)
    if mode == "random":
        rest = [c for c in candidates if c != primary]
        chosen: Chosen = (primary, *random.Random(seed).sample(rest, k - 1))
        return Found(chosen, float(counted([chosen])[0]), counted.evaluated)
    if len(firsts) * math.perm(len(candidates) - 1, k - 1) <= exact_limit:
        sequences = list(_all(candidates, firsts, k))
        scores = counted(sequences)
        at = _first_best(scores)
        return Found(sequences[at], float(scores[at]), counted.evaluated)
    found, value = _polish(candidates, counted, firsts, *_grow(candidates, counted, firsts, k, beam))
    return Found(found, value, counted.evaluated)


class _Counted:
    """The score function, checked and counted."""

    def __init__(self, score: Score) -> None:
        self.score = score
        self.evaluated = 0

    def __call__(self, sequences: list[Chosen]) -> NDArray[np.float64]:
        scores = np.asarray(self.score(sequences), dtype=np.float64)
        self.evaluated += len(sequences)
        if scores.shape != (len(sequences),):
            raise SettingsError(
                "sequence_score",
                f"the score function gave shape {scores.shape} for {len(sequences)} sequences; "
                f"it must be ({len(sequences)},), one value a sequence.",
            )
        if np.isnan(scores).any():
            raise SettingsError(
                "sequence_score",
                f"the score of sequence {sequences[int(np.isnan(scores).argmax())]} is not a number. "
                "Check the sequence graph of the bundle.",
            )
        return scores


def _first_best(scores: NDArray[np.float64]) -> int:
    """Position of the first score that is within TIE of the largest."""
    return int((scores >= scores.max() - TIE).argmax())


def _all(candidates: Sequence[int], firsts: Sequence[int], k: int) -> Iterator[Chosen]:
    """Every sequence: primaries in their order, then the merchant's order."""
    for first in firsts:
        for rest in permutations([c for c in candidates if c != first], k - 1):
            yield (first, *rest)


def _grow(candidates: Sequence[int], score: _Counted, firsts: Sequence[int], k: int, beam: int) -> tuple[Chosen, float]:
    alive: list[Chosen] = [(first,) for first in firsts]
    if k == 1 or len(alive) > beam:
        # With one primary there is nothing to choose at length 1, and so nothing to score.
        alive, scores = _best(alive, score(alive), beam)
    for _ in range(k - 1):
        longer = [(*sequence, c) for sequence in alive for c in candidates if c not in sequence]
        alive, scores = _best(longer, score(longer), beam)
    return alive[0], float(scores[0])


def _best(sequences: list[Chosen], scores: NDArray[np.float64], beam: int) -> tuple[list[Chosen], NDArray[np.float64]]:
    """The `beam` best, best first; equals (to TIE) in the order they came."""
    order = np.argsort(-np.round(scores / TIE), kind="stable")[:beam]
    return [sequences[i] for i in order], scores[order]


def _polish(
    candidates: Sequence[int], score: _Counted, firsts: Sequence[int], sequence: Chosen, value: float
) -> tuple[Chosen, float]:
    """Exchange one image for an unused one, or swap two, as long as the score rises by more than TIE."""
    for _ in range(POLISH):
        unused = [c for c in candidates if c not in sequence]
        near = [(*sequence[:i], c, *sequence[i + 1 :]) for i in range(1, len(sequence)) for c in unused]
        near += [(c, *sequence[1:]) for c in unused if c in firsts]
        near += [_swapped(sequence, i, j) for j in range(1, len(sequence)) for i in range(1, j)]
        near += [_swapped(sequence, 0, j) for j in range(1, len(sequence)) if sequence[j] in firsts]
        if not near:
            break
        scores = score(near)
        at = _first_best(scores)
        if scores[at] <= value + TIE:
            break
        sequence, value = near[at], float(scores[at])
    return sequence, value


def _swapped(sequence: Chosen, i: int, j: int) -> Chosen:
    swapped = list(sequence)
    swapped[i], swapped[j] = swapped[j], swapped[i]
    return tuple(swapped)
