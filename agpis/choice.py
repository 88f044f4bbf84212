"""Which of a product's images leads: evidence of the whole set, weighed. Beyond the paper, which sees one image.

p_primary of one image does not tell an original from its watermarked copy, nor another product's faultless photograph
from the product's own. Ten pieces of evidence do better: what stage 1 says of the image, and how it stands to the
product's other images. A linear score of them, softmax over the candidates, is fitted by `python -m bench.primary` on
simulated candidate sets of sources that the image graph was not trained on; the fit is in the bundle's manifest
(`agpis.bundle_manifest.Choice`). p_primary itself, and the threshold under which a product has no primary, stay the
paper's.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from agpis.bundle_manifest import Choice
from agpis.simulate.stock import VIEWS, WHOLE

Floats = npt.NDArray[np.float64]

FEATURES = ("primary", "clean", "unmarked", "whole", "alike", "colours", "found", "holds", "entire", "cleanest")
"""Of an image: log odds of p_primary; of breaking no rule; minus the log of the rules' probabilities summed; log odds
that its view may stand first. To the others, on average: cosine of the mean tokens; of the colour signatures; of each
of its places with the best place in the other; of each of the other's with the best in it. Then 0, or -1 where it is a
crop of another; 0, or less by how much lower the log odds are that a copy of it breaks a rule. The larger each is, the
more speaks for the image."""
LEAST = 1e-4
"""Probabilities are taken no nearer to 0 and 1: beyond lies the model's confidence, not evidence."""
SCALE = 4.0
"""Logits in a knowledge token are divided by this (`agpis.models.single`)."""


def features(
    p_primary: npt.ArrayLike,
    p_noncompliant: npt.ArrayLike,
    rules: npt.ArrayLike,
    tokens: npt.ArrayLike,
    p_copy: npt.ArrayLike,
    parts: Collection[int] = (),
    layout: Mapping[str, int] | None = None,
) -> Floats:
    """Features (n, 10) of one product's n images, in the order of FEATURES.

    An image that is alone has 0 in all that compares it. Without a layout nothing is known of views, colours and
    places: `whole`, `colours`, `found` and `holds` are 0 then.

    Args:
        p_primary: (n,) of the image graph, as the next three.
        p_noncompliant: (n,).
        rules: (n, R).
        tokens: (n, P, D).
        p_copy: (n, n) probability that two images show the same photograph, symmetric.
        parts: positions of images that are a crop of another one (`agpis.duplicates.crops`).
        layout: the manifest's `token_layout`.
    """
    tokens, rules = np.asarray(tokens, np.float64), np.asarray(rules, np.float64)
    count = len(tokens)
    broken = _log_odds(p_noncompliant)
    likeness = np.asarray(p_copy, np.float64) * (1.0 - np.eye(count))
    found = {
        "primary": _log_odds(p_primary),
        "clean": -broken,
        "unmarked": -np.log(rules.sum(axis=1) + LEAST),
        "alike": _to_others(_cosines(tokens.mean(axis=1))),
        "entire": np.array([-float(i in parts) for i in range(count)]),
        "cleanest": -(likeness * np.maximum(broken[:, None] - broken[None], 0.0)).max(axis=1, initial=0.0),
    }
    if layout:
        found |= _of_layout(tokens, layout, views_from=2 + rules.shape[1])
    nothing = np.zeros(count)
    return np.stack([found.get(name, nothing) for name in FEATURES], axis=1)


def _of_layout(tokens: Floats, layout: Mapping[str, int], views_from: int) -> dict[str, Floats]:
    """Features out of columns whose meaning the manifest gives; see `agpis.models.comparison.TokenLayout`."""
    places, signature = layout["side"] ** 2, layout.get("signature", 0)
    start = layout["learned"]
    grid = tokens[:, :places, start : start + layout["descriptor"]]  # (n, G, E) L2-normalised
    known = tokens[:, places]
    views = SCALE * known[:, views_from : layout["knowledge"]]  # (n, V) logits
    share = np.exp(views - views.max(axis=1, keepdims=True))
    share /= share.sum(axis=1, keepdims=True)
    # [a, b]: mean over the places of a of the best cosine in b. One image at a time: n * n * G * G would be gigabytes.
    covered = np.stack([(grid @ own.T).max(axis=1).mean(axis=1) for own in grid], axis=0)
    found = {
        "whole": _log_odds(share[:, [VIEWS.index(view) for view in WHOLE]].sum(axis=1)),
        "found": _to_others(covered),
        "holds": _to_others(covered.T),
    }
    if signature:
        found["colours"] = _to_others(_cosines(known[:, -signature:]))
    return found


def _to_others(values: Floats) -> Floats:
    """(n, n) -> (n,) mean of each row without the diagonal; 0 where there is no other."""
    count = len(values)
    return np.asarray((values.sum(axis=1) - np.diagonal(values)) / max(1, count - 1) if count > 1 else np.zeros(count))


def _cosines(vectors: Floats) -> Floats:
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    return np.asarray(unit @ unit.T)


def _log_odds(probability: npt.ArrayLike) -> Floats:
    p = np.clip(np.asarray(probability, np.float64), LEAST, 1.0 - LEAST)
    return np.asarray(np.log(p) - np.log1p(-p))


def scores(rows: Floats, fitted: Choice) -> Floats:
    """(n, 10) features -> (n,) scores; the differences between a product's images are log odds."""
    return np.asarray(rows @ np.array([getattr(fitted, name) for name in FEATURES]))


def chances(score: Sequence[float] | Floats, eligible: npt.NDArray[np.bool_]) -> Floats:
    """(n,) probability that the image is the one to lead: softmax over the eligible, 0 for the others."""
    found = np.zeros(len(eligible))
    if eligible.any():
        of = np.asarray(score, np.float64)[eligible]
        odds = np.exp(of - of.max())
        found[eligible] = odds / odds.sum()
    return found
