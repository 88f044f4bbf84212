"""Does an image show the same product as the product's other images? Evidence of the set, beyond the paper.

The paper judges each candidate alone (3.3.1), so another product's faultless photograph passes. Here each image is
compared with the others of its product: its mean likeness to them, less their likeness among themselves. Where it is
known how well each shows what the title names (`agpis.titles`), that counts too. Measured by
`python -m bench.planted`, fitted by `python -m bench.kinship`, both on sources that the image graph was not trained on;
the fit is in the bundle's manifest (`agpis.bundle_manifest.Kinship`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agpis.bundle_manifest import Kinship
from agpis.columns import Layout, cosines, signature, unit

FloatArray = NDArray[np.float32]

FURTHEST = 3.0
"""Log ratio beyond which an image fits the title no better or worse than the others."""


def features(tokens: FloatArray, layout: Layout | None, fitted: Kinship) -> FloatArray:
    """What images are compared by, (n, F): the cosine of two is that of their mean tokens, and `fitted.colours` times
    that of their colour signatures, over the sum of the weights.

    Args:
        tokens: (n, P, D).
        layout: columns of the tokens (`agpis.models.comparison.TokenLayout`); without one, or without a signature in
            it, the mean tokens alone count.
    """
    mean: FloatArray = tokens.mean(axis=1)
    colours = signature(tokens, layout)
    if colours is None or not fitted.colours:
        return mean
    return np.concatenate([unit(mean), np.float32(np.sqrt(fitted.colours)) * unit(colours)], axis=1)


def margins(features: FloatArray, titled: FloatArray | None = None, weight: float = 0.0) -> FloatArray:
    """(n, D) features of one product's images -> (n,) likeness to the others less their own likeness; 0 if n < 3.

    Likeness is the cosine of two features, -1 to 1. With two images neither can be told to be the stranger. `titled`
    (n,) of `agpis.bundle.Bundle.titled`, less the others' mean, is added with `weight`.
    """
    count = len(features)
    if count < 3:
        return np.zeros(count, np.float32)
    likeness = cosines(features)
    np.fill_diagonal(likeness, 0.0)
    to_others = likeness.sum(axis=1)
    among_others = likeness.sum() - 2 * to_others
    result: FloatArray = to_others / (count - 1) - among_others / ((count - 1) * (count - 2))
    if titled is not None and weight:
        others = (titled.sum() - titled) / (count - 1)
        result = result + np.float32(weight) * np.clip(titled - others, -FURTHEST, FURTHEST)
    return result


def p_stranger(features: FloatArray, fitted: Kinship, titled: FloatArray | None = None) -> FloatArray:
    """(n, D) features -> (n,) probability that an image shows another product than the rest do."""
    margin = margins(features, titled, fitted.titles)
    if len(margin) < 3:
        return np.zeros_like(margin)
    result: FloatArray = 1.0 / (1.0 + np.exp((margin - fitted.middle) / fitted.width))
    return result


def strangers(features: FloatArray, fitted: Kinship, titled: FloatArray | None = None) -> dict[int, float]:
    """Images that go, the surest first: position -> probability. The rest is compared anew after each."""
    left = list(range(len(features)))
    gone: dict[int, float] = {}
    while len(left) >= 3:
        named = None if titled is None else titled[left]
        found = margins(features[left], named, fitted.titles)
        worst = int(found.argmin())
        if found[worst] >= fitted.removed:
            break
        doubt = float(p_stranger(features[left], fitted, named)[worst])
        gone[left.pop(worst)] = doubt
    return gone
