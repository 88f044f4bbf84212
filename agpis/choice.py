"""Which of a product's images leads: evidence of the whole set, weighed. Beyond the paper, which sees one image.

p_primary of one image does not tell an original from its watermarked copy, nor another product's faultless photograph
from the product's own. Ten pieces of evidence do better: what stage 1 says of the image, and how it stands to the
product's other images. A linear score of them, softmax over the candidates, is fitted by `python -m bench.primary` on
simulated candidate sets of sources that the image graph was not trained on; the fit is in the bundle's manifest
(`agpis.bundle_manifest.Choice`). What the reviewers of a shop want to see first is learned from their verdicts
(`agpis.leading`): there the image's mean token, its looks, is heard as well. p_primary itself, and the threshold under
which a product has no primary, stay the paper's.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt

from agpis import columns
from agpis.bundle_manifest import Choice
from agpis.columns import Floats, Layout
from agpis.errors import BundleError

FEATURES = ("primary", "clean", "unmarked", "whole", "alike", "colours", "found", "holds", "entire", "cleanest")
"""Of an image: log odds of p_primary; of breaking no rule; minus the log of the rules' probabilities summed; log odds
that its view may stand first. To the others, on average: cosine of the mean tokens; of the colour signatures; of each
of its places with the best place in the other; of each of the other's with the best in it. Then 0, or -1 where it is a
crop of another; 0, or less by how much lower the log odds are that a copy of it breaks a rule. The larger each is, the
more speaks for the image."""
LEAST = 1e-4
"""Probabilities are taken no nearer to 0 and 1: beyond lies the model's confidence, not evidence."""


def features(
    p_primary: npt.ArrayLike,
    p_noncompliant: npt.ArrayLike,
    rules: npt.ArrayLike,
    tokens: npt.ArrayLike,
    p_copy: npt.ArrayLike,
    parts: Collection[int] = (),
    layout: Layout | None = None,
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
        "alike": _to_others(columns.cosines(tokens.mean(axis=1))),
        "entire": np.array([-float(i in parts) for i in range(count)]),
        "cleanest": -(likeness * np.maximum(broken[:, None] - broken[None], 0.0)).max(axis=1, initial=0.0),
    }
    if layout:
        found |= _of_layout(tokens, layout, rules.shape[1])
    nothing = np.zeros(count)
    return np.stack([found.get(name, nothing) for name in FEATURES], axis=1)


def _of_layout(tokens: Floats, layout: Layout, rules: int) -> dict[str, Floats]:
    """Features out of columns whose meaning the manifest gives."""
    covered = columns.covered(tokens, layout)
    found = {
        "whole": _log_odds(columns.views(tokens, layout, rules)[:, columns.WHOLE].sum(axis=1)),
        "found": _to_others(covered),
        "holds": _to_others(covered.T),
    }
    if (colours := columns.signature(tokens, layout)) is not None:
        found["colours"] = _to_others(columns.cosines(colours))
    return found


def _to_others(values: Floats) -> Floats:
    """(n, n) -> (n,) mean of each row without the diagonal; 0 where there is no other."""
    count = len(values)
    return np.asarray((values.sum(axis=1) - np.diagonal(values)) / max(1, count - 1) if count > 1 else np.zeros(count))


def _log_odds(probability: npt.ArrayLike) -> Floats:
    return columns.log_odds(probability, LEAST)


def looks(tokens: npt.ArrayLike, layout: Layout | None = None) -> Floats:
    """Mean token (n, D) of each of n images with tokens (n, P, D); the knowledge token of a layout is left out."""
    found = np.asarray(tokens, np.float64)
    return np.asarray((found[:, : layout["side"] ** 2] if layout else found).mean(axis=1))


def scores(rows: Floats, fitted: Choice, seen: Floats | None = None) -> Floats:
    """Features (n, 10) and looks (n, D) -> (n,) scores; the differences between a product's images are log odds.

    Raises:
        ValueError: `fitted` has `looks`, and `seen` is not given.
        BundleError: `graph_signature`, the choice was fitted on tokens of another width.
    """
    found = rows @ np.array([getattr(fitted, name) for name in FEATURES])
    if fitted.looks:
        if seen is None:
            raise ValueError("this choice hears the images' looks; give them (agpis.choice.looks)")
        if seen.shape[1] != len(fitted.looks):
            raise BundleError(
                "graph_signature",
                f"the choice of the primary was fitted on tokens {len(fitted.looks)} wide; these are {seen.shape[1]} "
                "wide. Fit it again: agpis renew",
            )
        found = found + seen @ np.array(fitted.looks)
    return np.asarray(found)


def chances(score: Sequence[float] | Floats, eligible: npt.NDArray[np.bool_]) -> Floats:
    """(n,) probability that the image is the one to lead: softmax over the eligible, 0 for the others."""
    found = np.zeros(len(eligible))
    if eligible.any():
        of = np.asarray(score, np.float64)[eligible]
        odds = np.exp(of - of.max())
        found[eligible] = odds / odds.sum()
    return found
