"""Does an image show the same product as the product's other images? Evidence of the set, beyond the paper.

The paper judges each candidate alone (3.3.1), so another product's faultless photograph passes. Here each image is
compared with the others of its product: its mean likeness to them, less their likeness among themselves. Measured by
`python -m bench.planted` and fitted by `python -m bench.kinship` on sources that the image graph was not trained on.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]

MIDDLE, WIDTH = -0.30, 0.07
"""Margin at which a stranger is as likely as not, and the logistic's width. `python -m bench.kinship` fits -0.09 and
0.07 for as many strangers as kin; of 20 images of a merchant's about one is a stranger, which moves the middle by
-WIDTH * log(19) (Bayes)."""
REMOVED = -0.26
"""Images with a margin below this are removed: the limit that `python -m bench.planted` was measured with. That is
before the odds are even, because a stranger in a sequence costs more than a spare image that is not shown."""


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


def strangers(features: FloatArray, limit: float = REMOVED) -> dict[int, float]:
    """Images that go, the surest first: position -> probability. The rest is compared anew after each."""
    left = list(range(len(features)))
    gone: dict[int, float] = {}
    while len(left) >= 3:
        found = margins(features[left])
        worst = int(found.argmin())
        if found[worst] >= limit:
            break
        doubt = float(p_stranger(features[left])[worst])
        gone[left.pop(worst)] = doubt
    return gone
