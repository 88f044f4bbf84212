"""The choice of the primary fitted on what reviewers said of first images: a softmax over candidates (`agpis.choice`).

An accepted or corrected sequence says which image may lead, a rejected one for its first image which may not. A ridge
pulls the weights of the evidence to those that the bundle has, and the weights of the images' looks to 0; how strongly,
and whether looks are heard at all, is decided by what the fit says of products that it did not see.

Needs the extra `train` (scipy).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from agpis.bundle_manifest import Choice
from agpis.choice import FEATURES, scores
from agpis.columns import Floats
from agpis.errors import MissingExtra
from agpis.replay import Lead
from agpis.weighing import FOLDS

RIDGE = 10.0
"""Strength of the pull to the weights that there are, in uploads; a weight counts by its feature's spread."""
LOOKS = (None, 1000.0, 300.0, 100.0, 30.0, 10.0)
"""Strengths of the pull of the looks' weights to 0 that are tried; None: they are not heard."""
PLAIN = Choice.model_validate({**{name: float(name == "primary") for name in FEATURES}, "data": "p_primary alone"})
"""Of a bundle without one."""


@dataclass(frozen=True, slots=True, eq=False)
class Learned:
    """A choice, and how it does on products that it was not fitted on."""

    choice: Choice
    before: Floats
    """(n,) 1 where the image that would lead by the weights before is a right one, see `led_rightly`."""
    after: Floats
    """(n,) the same by the fit without the upload's product."""


def learned(told: Sequence[Lead], start: Choice, data: str) -> Learned:
    """The choice that uploads tell, cross-validated over their products.

    Raises:
        MissingExtra: scipy is not installed.
        ValueError: there are fewer products than folds.
    """
    names, of = np.unique([lead.sku for lead in told], return_inverse=True)
    if len(names) < FOLDS:
        raise ValueError(f"a choice is fitted on uploads of at least {FOLDS} products; found {len(names)}")
    folds = np.random.default_rng(0).permutation(len(names))[of] % FOLDS
    best, after, ridge = np.inf, np.zeros(len(told)), LOOKS[0]
    for tried in LOOKS:
        loss, right = 0.0, np.zeros(len(told))
        for fold in range(FOLDS):
            outside = [lead for lead, own in zip(told, folds, strict=True) if own == fold]
            found = fit_choice([lead for lead, own in zip(told, folds, strict=True) if own != fold], start, "", tried)
            loss += _Sets(outside).loss(_of(found, outside))
            right[folds == fold] = led_rightly(outside, found)
        if loss < best:
            best, after, ridge = loss, right, tried
    return Learned(fit_choice(told, start, data, ridge), led_rightly(told, start), after)


def fit_choice(told: Sequence[Lead], start: Choice, data: str, looks: float | None = None) -> Choice:
    """The weights under which the right images are likeliest to lead and the wrong ones not; none of the evidence's is
    below 0.

    Args:
        looks: strength of the pull of the looks' weights to 0; None: `looks` stays as `start` has it.

    Raises:
        MissingExtra: scipy is not installed.
        ValueError: nothing is told.
    """
    try:
        from scipy.optimize import minimize
    except ImportError as error:
        raise MissingExtra("scipy", "train", "Fitting the choice of the primary") from error
    if not told:
        raise ValueError("a choice is fitted on uploads of which it is known what may lead")
    sets = _Sets(told)
    rows, seen = _within([lead.features for lead in told]), _within([lead.looks for lead in told])
    spread = _spread(rows)
    middle, pull, offset = weights_of(start) * spread, np.full(len(spread), RIDGE), np.zeros(len(rows))
    before = np.array(start.looks) if len(start.looks) == seen.shape[1] else np.zeros(seen.shape[1])
    if looks is None:
        offset = seen @ before
        x = rows / spread
    else:
        own = _spread(seen)
        x = np.concatenate([rows / spread, seen / own], axis=1)
        middle, pull = np.concatenate([middle, np.zeros(len(own))]), np.concatenate([pull, np.full(len(own), looks)])

    def loss(at: Floats) -> tuple[float, Floats]:
        value, slope = sets.loss_and_slope(x @ at + offset)
        gap = at - middle
        return value + 0.5 * float(pull @ gap**2), x.T @ slope + pull * gap

    limits = [(0.0, None)] * len(spread) + [(None, None)] * (x.shape[1] - len(spread))
    found = minimize(loss, middle, jac=True, method="L-BFGS-B", bounds=limits, options={"maxiter": 400}).x
    weights: dict[str, Any] = {
        name: round(float(w), 4) for name, w in zip(FEATURES, found[: len(spread)] / spread, strict=True)
    }
    kept = before if looks is None else found[len(spread) :] / own
    return Choice(**weights, looks=tuple(round(float(w), 5) for w in kept) if kept.any() else (), data=data)


class _Sets:
    """Uploads as one table, to weigh all of their images at once."""

    def __init__(self, told: Sequence[Lead]) -> None:
        counts = np.array([len(lead.features) for lead in told])
        self.first = np.concatenate([[0], np.cumsum(counts)[:-1]])
        self.of = np.repeat(np.arange(len(told)), counts)
        self.right = np.concatenate([_places(lead.right, count) for lead, count in zip(told, counts, strict=True)])
        self.wrong = np.concatenate([_places(lead.wrong, count) for lead, count in zip(told, counts, strict=True)])

    def loss(self, z: Floats) -> float:
        return self.loss_and_slope(z)[0]

    def loss_and_slope(self, z: Floats) -> tuple[float, Floats]:
        """-log of the chance that a right image leads, and none of the wrong, of scores (N,); its slope (N,)."""
        odds = np.exp(z - np.maximum.reduceat(z, self.first)[self.of])
        p = odds / np.add.reduceat(odds, self.first)[self.of]
        value, slope = 0.0, np.zeros(len(z))
        for told, good in ((self.right, self.right), (self.wrong, ~self.wrong)):
            there = np.logical_or.reduceat(told, self.first)
            chance = np.add.reduceat(p * good, self.first) + 1e-9
            value -= float(np.log(chance[there]).sum())
            slope += there[self.of] * (p - p * good / chance[self.of])
        return value, slope


def _places(which: frozenset[int], count: int) -> npt.NDArray[np.bool_]:
    return np.isin(np.arange(count), list(which))


def _within(parts: Sequence[Floats]) -> Floats:
    """Each upload's rows less their mean: what all of its images share cannot choose among them."""
    return np.concatenate([part - part.mean(axis=0) for part in parts])


def _spread(rows: Floats) -> Floats:
    """Standard deviation of each column."""
    return np.asarray(np.maximum(rows.std(axis=0), 1e-6))


def _of(choice: Choice, told: Sequence[Lead]) -> Floats:
    """Scores (N,) of all images, upload by upload."""
    return np.concatenate([scores(lead.features, choice, lead.looks) for lead in told])


def led_rightly(told: Sequence[Lead], choice: Choice) -> Floats:
    """(n,) 1 where the image that would lead is a right one, or none of the wrong ones where these alone are known."""
    found = [(lead, int(scores(lead.features, choice, lead.looks).argmax())) for lead in told]
    return np.array([float(at in lead.right if lead.right else at not in lead.wrong) for lead, at in found])


def weights_of(choice: Choice) -> Floats:
    """(F,) in the order of FEATURES."""
    return np.array([getattr(choice, name) for name in FEATURES])
