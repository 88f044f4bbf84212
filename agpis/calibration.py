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
