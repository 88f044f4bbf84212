"""Choice of the primary image (paper 3.3.1, eq. 1): the likeliest one, or none at all.

The paper's likelihood is p_primary of each image by itself. What the pipeline gives here instead, for the images whose
p_primary is above the bundle's threshold, is weighed by the product's other images (`agpis.kinship`, `agpis.choice`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agpis.errors import SettingsError


def choose_primary(p_primary: NDArray[np.floating], eligible: NDArray[np.bool_], threshold: float) -> int | None:
    """Index of the eligible image with the largest p_primary, or None if none lies above `threshold`.

    `p_primary` (n,) float in 0..1 and `eligible` (n,) bool stand in the merchant's order; equal probabilities go
    to the earlier image. An image is above the threshold when its probability is strictly larger. None means that
    the product gets no sequence (paper 3.3.1: "stops with no output"). No images at all gives None too.

    Raises SettingsError: `primary_shapes` (the two do not match), `primary_nan` (a probability is no number),
    `threshold` (outside 0..1).
    """
    p_primary, eligible = np.asarray(p_primary), np.asarray(eligible)
    if p_primary.ndim != 1 or p_primary.shape != eligible.shape or eligible.dtype != np.bool_:
        raise SettingsError(
            "primary_shapes",
            f"p_primary is {p_primary.dtype} of shape {p_primary.shape} and eligible {eligible.dtype} of shape "
            f"{eligible.shape}; both must be (n,), eligible bool. Pass one value an image.",
        )
    if not 0.0 <= threshold <= 1.0:
        raise SettingsError("threshold", f"the primary threshold is {threshold}; allowed is 0 to 1.")
    if np.isnan(p_primary).any():
        raise SettingsError(
            "primary_nan",
            f"p_primary of image {int(np.isnan(p_primary).argmax())} is not a number; allowed is 0 to 1. "
            "Leave unreadable images out before the choice.",
        )
    if not eligible.any():
        return None
    best = int(np.where(eligible, p_primary, -1.0).argmax())  # argmax takes the first of equals
    return best if p_primary[best] > threshold else None
