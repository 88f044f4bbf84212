"""Does an image show the same product as the product's other images? Evidence of the set, beyond the paper.

The paper judges each candidate alone (3.3.1), so another product's faultless photograph passes. Here each image is
compared with the others of its product: its mean likeness to them, less their likeness among themselves. Measured by
`python -m bench.planted` and fitted by `python -m bench.kinship` on sources that the image graph was not trained on.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]

MIDDLE, WIDTH = -0.16, 0.045
"""Margin at which a stranger is as likely as not, and the logistic's width. By hand, below the fit of
`python -m bench.kinship` (-0.09, 0.07 for as many strangers as kin), because strangers are rare: an image of margin 0
must keep its sequence's p_qualified as it is (2 % doubt)."""


def margins(features: FloatArray) -> FloatArray:
    """(n, D) features of one product's images -> (n,) likeness to the others less their own likeness; 0 if n < 3.

    Likeness is the cosine of two features, -1 to 1. With two images neither can be told to be the stranger.
    """
    count = len(features)
    if count < 3:
        return np.zeros(count, np.float32)
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-9)
    likeness = unit @ unit.T
    np.fill_diagonal(likeness, 0.0)
    to_others = likeness.sum(axis=1)
    among_others = likeness.sum() - 2 * to_others
    result: FloatArray = to_others / (count - 1) - among_others / ((count - 1) * (count - 2))
    return result


def p_stranger(features: FloatArray) -> FloatArray:
    """(n, D) features -> (n,) probability that an image shows another product than the rest do."""
    margin = margins(features)
    if len(margin) < 3:
        return np.zeros_like(margin)
    result: FloatArray = 1.0 / (1.0 + np.exp((margin - MIDDLE) / WIDTH))
    return result


def strangers(features: FloatArray, threshold: float) -> dict[int, float]:
    """Images that go, the surest first: position -> probability. The rest is compared anew after each."""
    left = list(range(len(features)))
    gone: dict[int, float] = {}
    while len(left) >= 3:
        found = p_stranger(features[left])
        worst = int(found.argmax())
        if found[worst] <= threshold:
            break
        gone[left.pop(worst)] = float(found[worst])
    return gone
