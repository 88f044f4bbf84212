"""The choice of the primary fitted on what reviewers said of first images: a softmax over candidates (`agpis.choice`).

An accepted or corrected sequence says which image may lead, a rejected one for its first image which may not. A ridge
pulls the weights to those that the bundle has.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from agpis.bundle_manifest import Choice
from agpis.choice import FEATURES, chances
from agpis.columns import Floats
from agpis.replay import Lead

RIDGE = 10.0
"""Strength of the pull to the weights that there are, in uploads; a weight counts by its feature's spread."""
STEPS = 400
PLAIN = Choice(**{name: float(name == "primary") for name in FEATURES}, data="p_primary alone")
"""Of a bundle without one."""


def fit_choice(told: Sequence[Lead], start: Choice, data: str) -> Choice:
    """The weights under which the right images are likeliest to lead and the wrong ones not; none is below 0.

    Raises ValueError where nothing is told.
    """
    if not told:
        raise ValueError("a choice is fitted on uploads of which it is known what may lead")
    spread = np.maximum(np.concatenate([lead.features - lead.features.mean(axis=0) for lead in told]).std(axis=0), 1e-6)
    rows = [lead.features / spread for lead in told]
    middle = weights_of(start) * spread

    def loss(at: Floats) -> tuple[float, Floats]:
        value = 0.5 * RIDGE * float((at - middle) @ (at - middle))
        slope: Floats = RIDGE * (at - middle)
        for x, lead in zip(rows, told, strict=True):
            p = chances(x @ at, np.ones(len(x), bool))
            for places, wanted in ((lead.right, True), (lead.wrong, False)):
                if places:
                    inside = np.isin(np.arange(len(x)), list(places)) == wanted
                    good = float(p[inside].sum()) + 1e-9
                    value -= float(np.log(good))
                    slope = slope - (np.where(inside, p / good, 0.0) - p) @ x
        return value, slope

    beta, step = middle.copy(), 1.0 / (RIDGE + len(told))
    value, slope = loss(beta)
    for _ in range(STEPS):
        tried = np.maximum(beta - step * slope, 0.0)
        other, next_slope = loss(tried)
        if other > value:
            step /= 2.0
            if step < 1e-9:
                break
            continue
        done = value - other < 1e-9 * max(1.0, abs(value))
        beta, value, slope, step = tried, other, next_slope, step * 1.3
        if done:
            break
    found = {name: round(float(weight), 4) for name, weight in zip(FEATURES, beta / spread, strict=True)}
    return Choice(**found, data=data)


def led_rightly(told: Sequence[Lead], choice: Choice) -> Floats:
    """(n,) 1 where the image that would lead is a right one, or none of the wrong ones where these alone are known."""
    found = [(lead, int((lead.features @ weights_of(choice)).argmax())) for lead in told]
    return np.array([float(at in lead.right if lead.right else at not in lead.wrong) for lead, at in found])


def weights_of(choice: Choice) -> Floats:
    """(F,) in the order of FEATURES."""
    return np.array([getattr(choice, name) for name in FEATURES])
