"""p_qualified out of all that the bundle's models know of a sequence: stacked generalisation (Wolpert, Neural Networks
5(2), 1992, https://doi.org/10.1016/S0893-6080(05)80023-1).

The sequence model sees each image through a few pooled tokens. Stage 1 and the matcher know more of some things: how
surely two images show one photograph, how like their colours are, how likely each rule is broken in each image. A
second model hears them all, the sequence model's classes among them: boosted trees (`agpis.trees`), fitted on sequences
of sources that no other part of the bundle was trained on (`python -m bench.stacking`). Its features are numbers of
known meaning and name no rule, so that they mean the same for another rulebook.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agpis import columns
from agpis.bundle import Bundle
from agpis.columns import Floats
from agpis.errors import BundleError
from agpis.naming import Sight

FloatArray = NDArray[np.float32]

LEAST = 1e-6
"""Probabilities are taken no nearer to 0 and 1."""
SCOPES = ("single", "pair", "multi")
IMAGE = ("primary", "whole", "detail", "aside", "broken", "worst", "view")
"""Of each image, in log odds but the last: p_primary, that it shows the whole product, a detail, or neither; that any
single rule is broken which speaks of its place, the likeliest of them; probability of its view."""
PAIR = ("copy", "kin", "colours", "matches", "twice")
"""Of two images: log odds that they are copies; cosines of the product embeddings and of the colour signatures; how
well the places of one are found in the other; probability that they show one view."""
FEATURES: tuple[str, ...] = (
    "images",
    "qualified",
    *(f"{scope}_share" for scope in SCOPES),
    *(f"{name}_{of}" for name in IMAGE for of in ("first", "rest_most", "rest_least")),
    "second_worst",
    "apart_most",
    "apart_second",
    "apart_worst",
    *(
        f"{name}_{of}"
        for name in PAIR
        for of in ("least", "most", "median", "first_least", "first_most", "loneliest", "first_best")
    ),
    "recoloured_most",
    "recoloured_least",
    "found_most",
    "order",
    "order_primary",
    "titled",
    "title_first",
    "title_most",
    "title_least",
)
"""`first`: of the primary. `least`, `most`: over the other images, over pairs, or over pairs with the primary.
`loneliest`: of the image whose nearest is farthest, that; `first_best`: of the primary, its nearest. `apart`: how far
a rule's log odds are above the other images'. `recoloured`: kin without colours; `found`: matches without kin;
`order`: that a later image should be the primary. `titled`: 1 where it is known how well images show what the title
names, else 0; `title`: how well, else 0."""
ASIDE = tuple(columns.VIEWS.index(view) for view in ("pack", "back", "multi", "lifestyle"))
DETAIL = columns.VIEWS.index("detail")


def p_qualified(bundle: Bundle, classes: FloatArray, order: NDArray[np.integer], sight: Sight) -> FloatArray:
    """p_qualified (S,) of S sequences of L of the n images of a product: stacked where the bundle has `stacking` and
    there is a pair of images; else the sequence model's.

    Args:
        classes: (S, C) of the sequence model, the first `qualified`.
        order: (S, L) positions in `sight`, the primary first.
        sight: of n images.

    Raises:
        BundleError: `graph_signature`, the bundle's stacking was fitted for other features or other tokens.
    """
    if bundle.manifest.stacking is None:
        return classes[:, 0]
    found = rows(bundle, classes, order, sight)
    return classes[:, 0] if found is None else bundle.stacked(found)


def rows(bundle: Bundle, classes: FloatArray, order: NDArray[np.integer], sight: Sight) -> FloatArray | None:
    """The features (S, F) of sequences as `p_qualified` gets them; None where there is no pair of images, or where
    nothing in the bundle was fitted on them and its tokens have no layout.

    Raises BundleError as `p_qualified` does.
    """
    if order.shape[1] < 2:
        return None
    stacking, weighing = bundle.manifest.stacking, bundle.manifest.weighing
    there = sight.known is not None and sight.known.colours is not None
    wide = len(weighing.stacked) if weighing is not None else 0
    if (stacking is not None and (stacking.features != FEATURES or not there)) or (
        wide and (wide != len(FEATURES) or not there)
    ):
        raise BundleError(
            "graph_signature",
            f"{bundle.folder}: stacking was fitted by another version of AGPIS or on tokens of another layout. Fit it "
            "again: python -m bench.stacking, or agpis renew",
        )
    return features(classes, order, sight, scopes_of(bundle)) if there else None


def rescaled(classes: FloatArray, p: float) -> FloatArray:
    """Class probabilities (C,) in which `qualified`, the first, has `p`, and the others share the rest as they did."""
    rest = float(classes[1:].sum())
    found = classes * ((1.0 - p) / rest) if rest > 0.0 else np.full_like(classes, (1.0 - p) / max(1, len(classes) - 1))
    found[0] = p
    return np.asarray(found, np.float32)


def features(classes: FloatArray, order: NDArray[np.integer], sight: Sight, scopes: Floats) -> FloatArray:
    """What is known of S sequences of L of the n images of a product, (S, len(FEATURES)).

    Args:
        classes: (S, C) of the sequence model, the first `qualified`.
        order: (S, L) positions in `sight`, the primary first.
        sight: of n images, with colours.
        scopes: (3, C) of `scopes_of`.
    """
    known = sight.known
    assert known is not None
    assert known.colours is not None
    count, length = order.shape
    views = known.views.astype(np.float64)
    rules = sight.rules.astype(np.float64)[order] * sight.concerned(length)  # (S, L, R)
    of_place = {
        "broken": _log_odds(1.0 - np.prod(1.0 - rules, axis=2)),
        "worst": _log_odds(rules).max(axis=2),
    }
    of_image = {
        "primary": _log_odds(sight.p_primary),
        "whole": _log_odds(views[:, columns.WHOLE].sum(axis=1)),
        "detail": _log_odds(views[:, DETAIL]),
        "aside": _log_odds(views[:, ASIDE].sum(axis=1)),
        "view": views.max(axis=1),
    }
    found: list[Floats] = [np.full(count, float(length)), _log_odds(classes[:, 0])]
    found += [np.log(np.maximum(classes @ scope, LEAST)) for scope in scopes]
    for name in IMAGE:
        values = of_place[name] if name in of_place else of_image[name][order]  # (S, L)
        found += [values[:, 0], values[:, 1:].max(axis=1), values[:, 1:].min(axis=1)]
    all_rules = _log_odds(rules).reshape(count, -1)
    found.append(np.partition(all_rules, -2, axis=1)[:, -2] if all_rules.shape[1] > 1 else all_rules[:, 0])
    found += _apart(_log_odds(sight.rules)[order], sight.concerned(length))
    of_pair = {
        "copy": _log_odds(sight.p_copy),
        "kin": known.kin.astype(np.float64),
        "colours": known.colours.astype(np.float64),
        "matches": known.matches.astype(np.float64),
        "twice": views @ views.T,
    }
    upper, own = np.triu_indices(length, 1), np.eye(length, dtype=bool)
    pairs: dict[str, Floats] = {}
    for name in PAIR:
        table = of_pair[name][order[:, :, None], order[:, None, :]]  # (S, L, L)
        values = np.sort(table[:, upper[0], upper[1]], axis=1)
        best = np.where(own, -np.inf, table).max(axis=2)  # (S, L)
        first = table[:, 0, 1:]
        found += [values[:, 0], values[:, -1], values[:, values.shape[1] // 2]]
        found += [first.min(axis=1), first.max(axis=1), best.min(axis=1), best[:, 0]]
        pairs[name] = table[:, upper[0], upper[1]]
    recoloured = pairs["kin"] - pairs["colours"]
    found += [recoloured.max(axis=1), recoloured.min(axis=1), (pairs["matches"] - pairs["kin"]).max(axis=1)]
    for name in ("whole", "primary"):
        values = of_image[name][order]
        found.append(np.minimum(-values[:, 0], values[:, 1:].max(axis=1)))
    titled = np.zeros((count, length)) if sight.titled is None else sight.titled.astype(np.float64)[order]
    found += [np.full(count, float(sight.titled is not None)), titled[:, 0], titled.max(axis=1), titled.min(axis=1)]
    return np.stack(found, axis=1).astype(np.float32)


def _apart(logits: Floats, concerned: FloatArray) -> list[Floats]:
    """How far an image's log odds of a rule, (S, L, R), are above the mean of the other images': the largest (S,), the
    second, and that of the likeliest rule. A shop whose pictures are all dark is told from a dark picture."""
    count, length, _ = logits.shape
    others = (logits.sum(axis=1, keepdims=True) - logits) / (length - 1)
    gaps = np.where(concerned > 0, logits - others, -np.inf).reshape(count, -1)
    worst = np.where(concerned > 0, logits, -np.inf).reshape(count, -1).argmax(axis=1)
    second = np.partition(gaps, -2, axis=1)[:, -2] if gaps.shape[1] > 1 else gaps[:, 0]
    return [gaps.max(axis=1), np.where(np.isfinite(second), second, 0.0), gaps[np.arange(count), worst]]


def scopes_of(bundle: Bundle) -> Floats:
    """(3, C) 1 where a class is a rule of the scope, in the order of SCOPES."""
    scope = {rule.id: rule.scope for rule in bundle.rulebook.rules}
    return np.array([[float(scope.get(name) == wanted) for name in bundle.classes] for wanted in SCOPES])


def _log_odds(probability: NDArray[np.floating]) -> Floats:
    return columns.log_odds(probability, LEAST)
