"""Which rule a rejected sequence breaks: a fitted multinomial logistic over what all models know of it.

The sequence model, stage 1 and the matcher are each a witness for some of the rules, none for all: stage 1 sees a badge
well and cannot know an order, and it holds a cut off product against every detail. `Sight` is what they know of one
sequence; `facts` are the numbers that speak for rules of several images; `shares` gives each rule its probability,
given that one is broken. The coefficients (`agpis.bundle_manifest.Naming`) are shared by all rules of a kind, so that
another rulebook's rules have them too; `fit` finds them on sequences that no part of the bundle was trained on
(`python -m bench.naming`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

from agpis import columns
from agpis.bundle_manifest import Naming, RuleUsual, Usual
from agpis.columns import Floats, Layout
from agpis.data import Role
from agpis.rulebook import Rule

FloatArray = NDArray[np.float32]

DETAIL = columns.VIEWS.index("detail")
LEAST = 1e-6
"""Probabilities are taken no nearer to 0 and 1."""
FAR = 4.0
"""Facts count no further than this many standard deviations from their mean."""

COMMON = ("images", "excess", "primary_first", "whole_first", "detail_least")
"""Facts that all these kinds have: they say what else it could be. Without them 0.65 instead of 0.70 of rules are named
rightly, on smartstore and grandnode in four folds over products."""
FACTS: Mapping[str, tuple[str, ...]] = {
    "duplicate": ("copy", "match", *COMMON),
    "same_view": ("copy", "match", "kin_most", "view_twice", *COMMON),
    "different_colour": ("colour_least", "kin_least", "colour_gap", "match_least", *COMMON),
    "different_product": ("colour_least", "kin_least", "match_least", "alone", *COMMON),
    "wrong_order": ("order", "order_primary", *COMMON),
    "primary_incomplete": ("incomplete", "detail_first", *COMMON),
    "redundant_views": ("copy", "later_views", "later_kin", "later_match", *COMMON),
    "missing_views": ("whole_most", "kin_least", *COMMON),
    "title_mismatch": ("title_first", "title_most", "copy", "kin_least", "whole_most", *COMMON),
    "irrelevant_image": ("title_least", "alone", "kin_least", "colour_least", "match_least", "primary_most", *COMMON),
}
"""The facts that speak for or against a kind of rule: id of a rule of the default rulebook, or a simulator's name.
Single rules have stage 1's largest logit over the images instead, as it is, as excess: in standard deviations from
what accepted sequences have (as a fact, of the rule with the largest), and how far it is above the other images'. All
have the log of the sequence model's share.
"""
RIDGE = 3.0
"""Strength of the pull to 0 of the facts' and the rules' own coefficients, in sequences; a fact counts by its standard
deviation. 1, 10 and 30 hardly differ on smartstore and grandnode; 100 is worse."""
LOOSE = 0.01
"""That of the kinds' biases, so that the fit has one solution."""


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """What the tokens of K images say in columns of known meaning (`agpis.models.comparison.TokenLayout`)."""

    views: FloatArray
    """(K, V) probability of each view."""
    kin: FloatArray
    """(K, K) cosines of the product embeddings."""
    colours: FloatArray | None
    """(K, K) likeness of the colour signatures, 0 to 1; None where the tokens carry none."""
    matches: FloatArray
    """(K, K) mean over the places of the one image of the best cosine in the other, the larger of both ways."""


@dataclass(frozen=True, slots=True, eq=False)
class Sight:
    """What is known of a sequence of K images beside its classes."""

    single_rules: tuple[str, ...]
    """R rules, of the bundle."""
    rules: FloatArray
    """(K, R) stage 1's probability of each."""
    p_primary: FloatArray
    """(K,)"""
    p_copy: FloatArray
    """(K, K) probability that two show the same photograph."""
    features: FloatArray
    """(K, D) mean tokens."""
    known: Known | None = None
    """None where the bundle's tokens have no layout."""
    titled: FloatArray | None = None
    """(K,) how much likelier than usual each image shows what the title names, log ratios (`agpis.titles`); None where
    that is not known."""
    roles: tuple[Role, ...] = ()
    """(R,) which images each rule speaks of; empty: all of them."""

    def concerned(self, count: int) -> FloatArray:
        """(count, R) 1 where a rule speaks of the image at that place of a sequence, else 0."""
        found = np.ones((count, len(self.single_rules)), np.float32)
        for rule, role in enumerate(self.roles):
            found[:, rule] = [role in ("any", "secondary" if place else "main") for place in range(count)]
        return found

    def placed(self) -> FloatArray:
        """`rules` (K, R) of images that are a sequence in this order: 0 where a rule does not speak of the place."""
        return np.asarray(self.rules * self.concerned(len(self.rules)), np.float32)


def known(tokens: FloatArray, layout: Layout | None, rules: int) -> Known | None:
    """What tokens (K, P, D) say of K images, where they are laid out as our image graphs' are; else None.

    Args:
        layout: `token_layout` of the manifest.
        rules: R, single rules of the bundle.
    """
    if layout is None or layout["knowledge"] != 2 + rules + len(columns.VIEWS):
        return None
    colours, covered = columns.signature(tokens, layout), columns.covered(tokens, layout)
    return Known(
        columns.views(tokens, layout, rules).astype(np.float32),
        columns.cosines(columns.embedding(tokens, layout)),
        None if colours is None else columns.cosines(colours),
        np.maximum(covered, covered.T).astype(np.float32),
    )


def _logit(p: npt.ArrayLike) -> Floats:
    return columns.log_odds(p, LEAST)


def kind_of(rule: Rule) -> str:
    """Whose coefficients a rule has: `single`, a name in FACTS, or for rules of no known kind their scope."""
    if rule.scope == "single":
        return "single"
    names = (rule.id, rule.simulate.name if rule.simulate else "")
    return next((name for name in names if name in FACTS), rule.scope)


def facts(sight: Sight) -> dict[str, float]:
    """The numbers of FACTS but `excess`, by name, of a sequence; what cannot be known of it is left out.

    Likenesses are cosines, `title` log ratios, the others log odds. `least` and `most` are over pairs of images, or
    over images; `order` says that the first image does not show the whole product but a later one does,
    `incomplete` that none does, `alone` how like the most solitary image is to the one nearest to it, `later_` of
    pairs without the first.
    """
    count = len(sight.p_primary)
    pairs = np.triu_indices(count, 1)
    primary = _logit(sight.p_primary)
    found: dict[str, float] = {"images": count, "primary_first": primary[0], "primary_most": primary.max()}
    if count > 1:
        found["order_primary"] = min(-primary[0], primary[1:].max())
        found["copy"] = _logit(sight.p_copy[pairs]).max()
    if sight.known is not None:
        found |= _facts_of_tokens(sight.known)
    if (titled := sight.titled) is not None:
        found |= {"title_first": titled[0], "title_most": titled.max(), "title_least": titled.min()}
    return {name: float(value) for name, value in found.items()}


def _facts_of_tokens(known: Known) -> dict[str, float]:
    count = len(known.views)
    pairs = np.triu_indices(count, 1)
    views, kin, matches = known.views, known.kin, known.matches
    whole, detail = _logit(views[:, columns.WHOLE].sum(axis=1)), _logit(views[:, DETAIL])
    found: dict[str, float] = {"whole_first": whole[0], "whole_most": whole.max()}
    found |= {"detail_first": detail[0], "detail_least": detail.min()}
    if count > 1:
        twice = views @ views.T  # (K, K) probability that two show one view
        found |= {"order": min(-whole[0], whole[1:].max()), "incomplete": min(-whole[0], -whole[1:].max())}
        found |= {"match": matches[pairs].max(), "match_least": matches[pairs].min()}
        found |= {"kin_most": kin[pairs].max(), "kin_least": kin[pairs].min(), "view_twice": twice[pairs].max()}
        found["alone"] = (kin - 3.0 * np.eye(count)).max(axis=1).min()
        if (colours := known.colours) is not None:
            found |= {"colour_least": colours[pairs].min(), "colour_gap": (kin - colours)[pairs].max()}
    if count > 2:
        later = (pairs[0][pairs[0] > 0], pairs[1][pairs[0] > 0])
        found |= {"later_views": twice[later].max(), "later_kin": kin[later].max(), "later_match": matches[later].max()}
    return found


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """A sequence as `fit` and `shares` see it."""

    share: Floats
    """(C,) log share of each of the C rules among them, of the sequence model."""
    logit: Floats
    """(R,) stage 1's largest logit over the images, of the bundle's single rules."""
    apart: Floats
    """(R,) how far an image's logit is above the mean of the others', the largest over the images; 0 of one image."""
    facts: Mapping[str, float]


def case_of(probabilities: NDArray[np.floating], sight: Sight) -> Case:
    """A sequence, from the sequence model's probabilities (C,) of the C rules that it may break."""
    p = np.maximum(np.asarray(probabilities, np.float64), 1e-9)
    return Case(np.log(p / p.sum()), _logit(sight.placed()).max(axis=0), _apart(sight), facts(sight))


def _apart(sight: Sight) -> Floats:
    logits, count = _logit(sight.rules), len(sight.rules)
    if count < 2:
        return np.zeros(logits.shape[1])
    gaps = logits - (logits.sum(axis=0) - logits) / (count - 1)
    found: Floats = np.where(sight.concerned(count) > 0, gaps, 0.0).max(axis=0)
    return found


def shares(case: Case, rules: Sequence[Rule], single_rules: Sequence[str], fitted: Naming) -> Floats:
    """Probability of each of C rules (C,), given that one of them is broken.

    Args:
        rules: C rules, in the order of `case.share`.
        single_rules: R rules of the bundle, in the order of `case.logit`.
    """
    scores = np.array(
        [
            sum(_weight(fitted, term) * value for term, value in terms.items())
            for terms in _terms(case, rules, single_rules, fitted)
        ]
    )
    odds = np.exp(scores - scores.max())
    found: Floats = odds / odds.sum()
    return found


Term = tuple[str, str]
"""Group and name of a coefficient: a kind and `bias` or a fact, a scope and `share`, `single` and `logit`, `excess` or
`apart`, `rule` and an id."""


def _terms(case: Case, rules: Sequence[Rule], single_rules: Sequence[str], usual: Naming) -> list[dict[Term, float]]:
    """What each rule's score is the weighted sum of."""
    excess = _excess(case, single_rules, usual)
    standard = _standard(case, excess, usual)
    found = []
    for share, rule in zip(case.share, rules, strict=True):
        kind = kind_of(rule)
        if usual.kinds and kind not in usual.kinds:  # no rule of the fit was of this kind
            kind = rule.scope
        terms: dict[Term, float] = {(kind, "bias"): 1.0, (rule.scope, "share"): float(share)}
        if rule.id in single_rules:
            place = list(single_rules).index(rule.id)
            terms |= {("single", "logit"): float(case.logit[place]), ("single", "excess"): float(excess[place])}
            terms["single", "apart"] = float(case.apart[place])
            terms["rule", rule.id] = 1.0
        terms |= {(kind, name): standard[name] for name in FACTS.get(kind, ()) if name in standard}
        found.append(terms)
    return found


def _weight(fitted: Naming, term: Term) -> float:
    group, name = term
    if group == "rule":
        return fitted.rules[name].bias if name in fitted.rules else 0.0
    return fitted.kinds.get(group, {}).get(name, 0.0)


def _excess(case: Case, single_rules: Sequence[str], fitted: Naming) -> Floats:
    """Stage 1's logits (R,) in standard deviations from what is usual; of rules that the fit did not know, from the
    mean of those it knew."""
    known_rules = list(fitted.rules.values())
    middle = Usual(
        mean=float(np.mean([rule.mean for rule in known_rules])),
        spread=float(np.mean([rule.spread for rule in known_rules])),
    )
    usual: list[Usual] = [fitted.rules.get(name, middle) for name in single_rules]
    found: Floats = (case.logit - np.array([u.mean for u in usual])) / np.array([u.spread for u in usual])
    return found


def _standard(case: Case, excess: Floats, fitted: Naming) -> dict[str, float]:
    """Facts in standard deviations from their mean; those that are not known are left out, as if they were usual."""
    values = {**case.facts, "excess": float(excess.max(initial=-FAR))}
    return {
        name: float(np.clip((values[name] - usual.mean) / usual.spread, -FAR, FAR))
        for name, usual in fitted.facts.items()
        if name in values
    }


# Fitting -------------------------------------------------------------------------------------------------------------


def fit(
    cases: Sequence[Case],
    broken: Sequence[str],
    accepted: Sequence[Case],
    rules: Sequence[Rule],
    single_rules: Sequence[str],
    data: str,
) -> Naming:
    """The coefficients under which the broken rules are likeliest, with a ridge.

    Args:
        cases: n rejected sequences, and the rule that each breaks.
        accepted: sequences that break none, for what is usual of stage 1's logits.
        rules, single_rules: as of `shares`.

    Raises:
        ValueError: there are no rejected sequences, fewer than two accepted ones, or a rule that is not in `rules`.
    """
    places = {rule.id: i for i, rule in enumerate(rules)}
    if not cases or len(accepted) < 2 or set(broken) - set(places):
        raise ValueError(
            f"found {len(cases)} rejected and {len(accepted)} accepted sequences, rules {sorted(set(broken))}; naming "
            "is fitted on rejected sequences of the rulebook's rules and at least two accepted ones"
        )
    usual = np.stack([case.logit for case in accepted])
    own = {name: RuleUsual(bias=0.0, **_usual(usual[:, r]).model_dump()) for r, name in enumerate(single_rules)}
    blank = Naming(facts={}, rules=own, kinds={}, data=data)
    names = dict.fromkeys(name for kind in FACTS.values() for name in kind)
    values: dict[str, list[float]] = {name: [] for name in names}
    excesses = [_excess(case, single_rules, blank) for case in cases]
    for case, excess in zip(cases, excesses, strict=True):
        for name, value in {**case.facts, "excess": float(excess.max(initial=-FAR))}.items():
            if name in values:
                values[name].append(value)
    blank = blank.model_copy(update={"facts": {name: _usual(np.array(v)) for name, v in values.items() if v}})

    terms = [_terms(case, rules, single_rules, blank) for case in cases]
    columns = {
        term: at for at, term in enumerate(dict.fromkeys(term for row in terms for rule in row for term in rule))
    }
    design = np.zeros((len(cases), len(rules), len(columns)))
    for row, of_case in enumerate(terms):
        for i, of_rule in enumerate(of_case):
            for term, value in of_rule.items():
                design[row, i, columns[term]] = value
    ridges = np.array([LOOSE if name == "bias" else RIDGE for _, name in columns])
    found = _newton(design, np.array([places[name] for name in broken]), ridges)
    kinds: dict[str, dict[str, float]] = {}
    for (group, name), at in columns.items():
        if group == "rule":
            own[name] = own[name].model_copy(update={"bias": round(float(found[at]), 4)})
        else:
            kinds.setdefault(group, {})[name] = round(float(found[at]), 4)
    for scope in ("pair", "multi"):  # for rules of no known kind: what those of their scope have in the mean
        biases = [kinds[kind]["bias"] for kind in {kind_of(rule) for rule in rules if rule.scope == scope}]
        kinds.setdefault(scope, {}).setdefault("bias", round(float(np.mean(biases)) if biases else 0.0, 4))
    return blank.model_copy(update={"rules": own, "kinds": kinds})


def _usual(values: Floats) -> Usual:
    return Usual(mean=round(float(values.mean()), 4), spread=round(max(float(values.std()), 1e-3), 4))


def _newton(design: Floats, broken: NDArray[np.intp], ridges: Floats) -> Floats:
    """Coefficients (F,) of the multinomial logistic of `broken` (n,) on `design` (n, C, F): Newton, steps halved."""
    count, classes, width = design.shape
    flat, own = design.reshape(count * classes, width), design[np.arange(count), broken]  # own (n, F)

    def loss(at: Floats) -> float:
        scores = (flat @ at).reshape(count, classes)
        highest = scores.max(axis=1)
        total = np.log(np.exp(scores - highest[:, None]).sum(axis=1)) + highest - own @ at
        return float(total.sum() + 0.5 * (ridges * at * at).sum())

    beta = np.zeros(width)
    value = loss(beta)
    for _ in range(50):
        scores = (flat @ beta).reshape(count, classes)
        p = np.exp(scores - scores.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        weighted = flat * p.reshape(-1, 1)
        mean = weighted.reshape(count, classes, width).sum(axis=1)  # (n, F)
        slope = mean.sum(axis=0) - own.sum(axis=0) + ridges * beta
        curve = weighted.T @ flat - mean.T @ mean + np.diag(ridges)
        step, scale = np.linalg.solve(curve, slope), 1.0
        while (tried := loss(beta - scale * step)) > value and scale > 1e-6:
            scale /= 2.0
        beta = beta - scale * step
        if value - tried < 1e-9 * max(1.0, value):
            break
        value = tried
    return beta
