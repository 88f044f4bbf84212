"""p_qualified out of the sequence model's answer and stage 1's evidence together: a logistic regression on verdicts.

The sequence model sees dimly what stage 1 has measured: how sure the matcher is that two images are copies, how unlike
the others an image is, how nearly it was removed, how fit the primary is. Without reviews these are multiplied with
hand-set powers (`agpis.case`); with reviews of what stage 1 submitted their weights can be fitted, which also
calibrates. A ridge pulls the weights to the plain product of probabilities, the choice where there is little data.

The features of `agpis.stacking` may be heard besides, each less its mean, with weights that the ridge pulls to 0: what
in a shop's sequences its own reviewers mind, which no simulation knew.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from agpis.bundle_manifest import Weighing
from agpis.columns import Floats, log_odds

FEATURES = ("p_qualified", "kin", "apart", "clean", "p_primary", "margin")
"""Log odds of the sequence model's p_qualified; log probability that every image shows the product, that no two are
copies, that none breaks a rule on its own; log odds of the primary's p_primary, and how far they are above those of the
next-best image."""
PRIOR = np.array([1.0, 1.0, 1.0, 0.0, 0.0, 0.0])
"""The product of p_qualified, kin and apart, nearly: log odds are not log probabilities."""
RISING = 4
"""The first features can only speak for a sequence: a fit that says otherwise has met chance, and leaves them out."""
RIDGES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
"""Strengths that are tried, in sequences of average weight; a weight counts by its feature's standard deviation."""
FOLDS = 5
LEAST = 1e-4
"""Probabilities are taken no nearer to 0 and 1."""


def features(
    p_qualified: npt.ArrayLike, kin: npt.ArrayLike, apart: npt.ArrayLike, clean: npt.ArrayLike,
    p_primary: npt.ArrayLike, next_best: npt.ArrayLike,
) -> Floats:  # fmt: skip
    """Features (S, 6) of S sequences of one length.

    Args:
        p_qualified: (S,) of the sequence model.
        kin: (S, K) probability that the image shows the product.
        apart: (S, pairs) probability that the pair are no copies.
        clean: (S, K) probability that the image breaks no rule on its own.
        p_primary: (S,) of the first image.
        next_best: (S,) the largest p_primary of the product's other images; 0 where there is none.
    """
    p, lead = np.asarray(p_qualified, np.float64), _log_odds(p_primary)
    return np.stack([_log_odds(p), *(_log(part) for part in (kin, apart, clean)), lead, lead - _log_odds(next_best)], 1)


def _log(probabilities: npt.ArrayLike) -> Floats:
    found: Floats = np.log(np.clip(np.asarray(probabilities, np.float64), LEAST, 1.0)).sum(axis=1)
    return found


def _log_odds(probability: npt.ArrayLike) -> Floats:
    return log_odds(probability, LEAST)


def p_qualified(rows: Floats, weighing: Weighing, stacked: npt.NDArray[np.floating] | None = None) -> Floats:
    """Features (S, 6), and (S, F) of `agpis.stacking` where these are heard and known -> (S,) p_qualified."""
    logits = rows @ np.array([getattr(weighing, name) for name in FEATURES]) + weighing.bias
    if weighing.stacked and stacked is not None:
        logits = logits + (stacked - np.array(weighing.means)) @ np.array(weighing.stacked)
    found: Floats = 1.0 / (1.0 + np.exp(-logits))
    return found


def fit(
    rows: Floats,
    accepted: npt.ArrayLike,
    products: Sequence[str],
    *,
    stacked: npt.ArrayLike | None = None,
    weights: npt.ArrayLike | None = None,
    prior: float | None = None,
    data: str = "",
) -> tuple[Weighing, Floats]:
    """Weights by penalised likelihood, the ridge chosen by cross-validation over products.

    Args:
        rows: (n, 6) features.
        accepted: (n,) bool, what the reviewers said.
        products: (n,) all rows of one are on one side of a fold.
        stacked: (n, F) of `agpis.stacking`, heard too.
        weights: (n,) of the rows, where one upload has several; None: all alike.
        prior: share of accepted sequences where it will be used; None: that of the rows.

    Returns:
        The fit on everything, and p_qualified (n,) of each row by a fit without its product, at the chosen ridge, as
        the rows' share has it.

    Raises:
        ValueError: all verdicts say the same, or there are fewer products than folds.
    """
    x, y = np.asarray(rows, np.float64), np.asarray(accepted, bool)
    means = np.zeros(0)
    if stacked is not None:
        more = np.asarray(stacked, np.float64)
        means = more.mean(axis=0)
        x = np.concatenate([x, more - means], axis=1)
    w = np.ones(len(y)) if weights is None else np.asarray(weights, np.float64)
    names, of = np.unique(np.asarray(products), return_inverse=True)
    if y.all() or not y.any() or len(names) < FOLDS:
        raise ValueError(
            f"weighing needs accepted and rejected sequences of at least {FOLDS} products; found {int(y.sum())} of "
            f"{len(y)} accepted, {len(names)} products"
        )
    w = w / w.mean()
    folds = np.random.default_rng(0).permutation(len(names))[of] % FOLDS
    best, outside, ridge = np.inf, np.zeros(len(y)), RIDGES[-1]
    for tried in RIDGES:
        logits = np.zeros(len(y))
        for fold in range(FOLDS):
            inside = folds != fold
            coefficients = _fit(x[inside], y[inside], w[inside], tried)
            logits[~inside] = x[~inside] @ coefficients[1:] + coefficients[0]
        loss = _loss(logits, y, w)
        if loss < best:
            best, outside, ridge = loss, 1.0 / (1.0 + np.exp(-logits)), tried
    bias, *found = _fit(x, y, w, ridge)
    if prior is not None:
        share = float(w[y].sum() / w.sum())
        bias += np.log(prior / (1.0 - prior)) - np.log(share / (1.0 - share))
    rounded = {name: round(float(value), 4) for name, value in zip(FEATURES, found, strict=False)}
    said = f"{len(y)} sequences of {len(names)} products, ridge {ridge:g}"
    said += f"; {data}" if data else ""
    said += f", moved to {prior:g} accepted" if prior is not None else ""
    entry = Weighing(
        bias=round(float(bias), 4),
        stacked=tuple(round(float(value), 6) for value in found[len(FEATURES) :]),
        means=tuple(round(float(value), 6) for value in means),
        data=said,
        **rounded,
    )
    return entry, outside


def _loss(logits: Floats, y: npt.NDArray[np.bool_], w: Floats) -> float:
    """Weighted log loss."""
    return float((w * np.logaddexp(0.0, np.where(y, -logits, logits))).mean())


def log_loss(p: npt.ArrayLike, accepted: npt.ArrayLike, weights: npt.ArrayLike) -> float:
    """Weighted mean of -log of the probability of what was said, of p_qualified (n,), verdicts (n,) and weights."""
    w = np.asarray(weights, np.float64)
    return _loss(log_odds(np.asarray(p, np.float64), 1e-9), np.asarray(accepted, bool), w / w.mean())


def _fit(x: Floats, y: npt.NDArray[np.bool_], w: Floats, ridge: float) -> Floats:
    """Bias and weights (1 + F,). A rising feature that falls is left out and the rest fitted again."""
    free = np.ones(x.shape[1], bool)
    while True:
        found = _newton(x, y, w, ridge, free)
        falling = free & (np.arange(x.shape[1]) < RISING) & (found[1:] < 0.0)
        if not falling.any():
            return found
        free &= ~falling


def _newton(x: Floats, y: npt.NDArray[np.bool_], w: Floats, ridge: float, free: npt.NDArray[np.bool_]) -> Floats:
    """Newton's method with halved steps; weights that are not free are 0."""
    design = np.column_stack([np.ones(len(y)), x])
    used = np.concatenate([[True], free])
    prior = np.concatenate([[0.0], PRIOR, np.zeros(x.shape[1] - len(PRIOR))])
    design, target = design[:, used], prior[used]
    strength = ridge * np.concatenate([[0.0], np.maximum(x.var(axis=0), 1e-6)])[used]

    def loss(at: Floats) -> float:
        logits = design @ at
        return float((w * np.logaddexp(0.0, np.where(y, -logits, logits))).sum() + 0.5 * strength @ (at - target) ** 2)

    beta = target.copy()
    value = loss(beta)
    for _ in range(100):
        p = 1.0 / (1.0 + np.exp(-(design @ beta)))
        slope = design.T @ (w * (p - y)) + strength * (beta - target)
        curve = (design.T * (w * p * (1.0 - p))) @ design + np.diag(strength) + 1e-9 * np.eye(len(beta))
        step = np.linalg.solve(curve, slope)
        scale = 1.0
        while (tried := loss(beta - scale * step)) > value and scale > 1e-6:
            scale /= 2.0
        beta = beta - scale * step
        if value - tried < 1e-9 * max(1.0, value):
            break
        value = tried
    result = np.zeros(1 + x.shape[1])
    result[used] = beta
    return result
