"""Calibration of p_qualified: one temperature and one shift, fitted where the model was not trained."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

TEMPERATURES = np.arange(0.4, 6.01, 0.2)
SHIFTS = np.arange(-4.0, 8.01, 0.1)


def fit_qualified(probabilities: npt.ArrayLike, qualified: npt.ArrayLike) -> tuple[float, float]:
    """Temperature and shift under which p_qualified is likeliest right, on a grid (Guo et al., ICML '17, section 4.2).

    Applied as `agpis.bundle.calibrated` does: log p / temperature, plus shift for the first class, softmax again.

    Args:
        probabilities: (n, C) class probabilities, `qualified` first.
        qualified: (n,) bool, what the reviewers said. Raises ValueError where all say the same.
    """
    logs = np.log(np.maximum(np.asarray(probabilities, np.float64), 1e-12))
    good = np.asarray(qualified, bool)
    if good.all() or not good.any():
        raise ValueError("calibration needs accepted and rejected sequences")
    best = (np.inf, 1.0, 0.0)
    for temperature in TEMPERATURES:
        scaled = logs / temperature
        others = scaled[:, 1:].max(1)
        others = others + np.log(np.exp(scaled[:, 1:] - others[:, None]).sum(1))
        logits = scaled[:, 0] + SHIFTS[:, None] - others  # (shifts, n)
        losses = np.logaddexp(0.0, np.where(good, -logits, logits)).mean(1)
        at = int(losses.argmin())
        best = min(best, (float(losses[at]), float(temperature), float(SHIFTS[at])))
    return round(best[1], 2), round(best[2], 2)


def fit_rules(logits: npt.ArrayLike, broken: npt.ArrayLike, known: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Scale and shift of each rule's logit under which its probability is likeliest right (Platt, 1999), by Newton.

    What a model learned of one rule carries over to other shops, of another rule not: the scale of that one becomes
    small, and so does its say in whether any rule is broken. A rule that ranks worse than chance gets the scale 0.

    Args:
        logits: (n, R).
        broken: (n, R) bool.
        known: (n, R) bool, where somebody judged.

    Returns:
        (R, 2): scale, at least 0, and shift. 1 and 0 where all judgements of a rule are the same.
    """
    x, y, judged = np.asarray(logits, np.float64), np.asarray(broken, bool), np.asarray(known, bool)
    found = np.tile([1.0, 0.0], (x.shape[1], 1))
    prior = np.array([0.1, 1e-6])  # as a tenth of a picture that asks for the scale 0.5: stays finite if separable
    for rule in range(x.shape[1]):
        rows = judged[:, rule]
        target = y[rows, rule].astype(np.float64)
        if not len(target) or target.min() == target.max():
            continue
        design = np.stack([x[rows, rule], np.ones(len(target))], axis=1)
        weights = np.array([0.0, np.log(target.mean() / (1.0 - target.mean()))])
        for _ in range(60):
            p = 1.0 / (1.0 + np.exp(-np.clip(design @ weights, -30.0, 30.0)))
            slope = design.T @ (p - target) + prior * (weights - np.array([0.5, 0.0]))
            curve = (design * (p * (1.0 - p) + 1e-9)[:, None]).T @ design + np.diag(prior)
            step = np.linalg.solve(curve, slope)
            weights = weights - step * min(1.0, 2.0 / max(1e-9, float(np.abs(step).max())))
            if np.abs(step).max() < 1e-8:
                break
        if weights[0] <= 0:
            weights = np.array([0.0, np.log(target.mean() / (1.0 - target.mean()))])
        found[rule] = weights
    return found
