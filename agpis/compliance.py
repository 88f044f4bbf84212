"""Removal of images with non-compliant content (paper 3.3.1), and the rules that explain it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from agpis.data import Box, Finding
from agpis.errors import SettingsError
from agpis.rulebook import Rulebook


def removed(p_noncompliant: NDArray[np.floating], threshold: float) -> NDArray[np.bool_]:
    """Which images go: (n,) float in 0..1 -> (n,) bool, true where p_noncompliant is strictly above `threshold`.

    Raises SettingsError: `noncompliant_shape`, `noncompliant_nan`, `threshold` (outside 0..1).
    """
    p_noncompliant = np.asarray(p_noncompliant)
    if p_noncompliant.ndim != 1:
        raise SettingsError(
            "noncompliant_shape",
            f"p_noncompliant has shape {p_noncompliant.shape}; it must be (n,). Pass one value an image.",
        )
    if not 0.0 <= threshold <= 1.0:
        raise SettingsError("threshold", f"the non-compliance threshold is {threshold}; allowed is 0 to 1.")
    if np.isnan(p_noncompliant).any():
        # A comparison with NaN is false, so the image would slip through.
        raise SettingsError(
            "noncompliant_nan",
            f"p_noncompliant of image {int(np.isnan(p_noncompliant).argmax())} is not a number; allowed is 0 to 1. "
            "Leave unreadable images out before the check.",
        )
    result: NDArray[np.bool_] = p_noncompliant > threshold
    return result


def learned_findings(
    probabilities: NDArray[np.floating],
    rulebook: Rulebook,
    *,
    least: float = 0.5,
    most: int = 3,
    boxes: Mapping[str, Box] | None = None,
) -> tuple[Finding, ...]:
    """The rules that explain why one image was removed, the most probable first.

    `probabilities` (R,) float: one value for each of `rulebook.single_rules`, in that order. Rules of probability
    `least` and more are named, at most `most` of them; if none gets there, the most probable one alone, so that
    no removal stays without a reason. Equal probabilities keep the rulebook's order. `boxes`: where on the source
    image a rule was seen, by rule id.

    Raises SettingsError: `rule_probabilities` (their number is not that of the rulebook's learned single rules, or
    one is no number).
    """
    probabilities = np.asarray(probabilities, dtype=np.float64)
    ids = rulebook.single_rules
    if probabilities.shape != (len(ids),) or np.isnan(probabilities).any():
        raise SettingsError(
            "rule_probabilities",
            f"rule probabilities have shape {probabilities.shape} and {int(np.isnan(probabilities).sum())} values that "
            f"are not numbers; rulebook {rulebook.id!r} has {len(ids)} learned single rules. "
            "Use the rulebook the bundle was exported with.",
        )
    order = np.argsort(-probabilities, kind="stable")
    named = [i for i in order if probabilities[i] >= least][:most] or list(order[:1])
    return tuple(_finding(rulebook, ids[i], float(probabilities[i]), (boxes or {}).get(ids[i])) for i in named)


def _finding(rulebook: Rulebook, rule_id: str, probability: float, box: Box | None) -> Finding:
    rule = rulebook.rule(rule_id)
    return Finding(
        rule=rule.id,
        scope=rule.scope,
        severity=rule.severity,
        role=rule.role,
        message=rule.description,
        probability=probability,
        box=box,
    )
