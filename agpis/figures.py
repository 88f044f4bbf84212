"""Figures of scored samples: the paper's (4.1) with intervals, operating points, confusions; two bundles compared.

Positive is `qualified`: precision is the share of submitted sequences that reviewers accept, recall the share of
acceptable ones that are submitted. Intervals are 95 %, bootstrapped over skus, since sequences of one product are not
independent.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from agpis.errors import MissingExtra, SettingsError
from agpis.metrics import (
    Difference,
    Interval,
    Resample,
    Statistic,
    auc_statistic,
    balanced_auc,
    calibration_statistic,
    mean_statistic,
    recall_statistic,
    threshold_for_precision,
    threshold_for_withheld,
)
from agpis.rulebook import Rulebook
from agpis.samples import ACCEPTED, QUALIFIED, Labelled, label_of
from agpis.scores import Scores

PRECISIONS = (0.80, 0.85, 0.90)
SCOPES = ("single", "pair", "multi")
FEW = 10
"""A figure with fewer samples of a kind is marked: its interval says more than its value."""

FIGURES: dict[str, str] = {
    "auc": "area under the ROC curve of p_qualified, qualified against rejected",
    **{
        f"recall_at_precision_{p:.2f}": f"largest recall of qualified sequences at a precision of at least {p:.2f}"
        for p in PRECISIONS
    },
    "auc_scope": "AUC of p_qualified on balanced subsets: as many qualified as violate a rule of the scope",
    "auc_rule": "AUC of p_qualified, all qualified against those that violate the rule",
    "rule_top1": "share of rejected whose label is the likeliest class but qualified",
    "rule_top3": "share of rejected whose label is among the three likeliest classes but qualified",
    "feedback_exact": "share of decoded feedbacks equal to the reviewer's, but for case, spaces and the last full stop",
    "feedback_chrf": "mean chrF of decoded feedbacks against the reviewer's (sacrebleu's chrF2, 0 to 100)",
    "feedback_rule": "share of decoded feedbacks that name the right rule, read as reviewers' feedback is",
    "calibration_error": "expected calibration error of p_qualified, ten equal bins",
    "brier": "Brier score of p_qualified: mean squared error, 0 is perfect",
}
"""Names of figures, with what they mean."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number."""

    name: str
    """One of FIGURES."""
    about: str
    """The scope or rule, where the figure is of one; else ""."""
    value: float
    """NaN where it does not exist, as an AUC without rejected samples."""
    low: float
    high: float
    """95 % interval."""
    counts: dict[str, int]
    """Samples behind it by kind."""

    @property
    def few(self) -> bool:
        """Whether fewer than FEW samples of a kind are behind it."""
        return min(self.counts.values()) < FEW


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """What a threshold on p_qualified gives. Chosen on these samples it flatters: confirm it on others."""

    wanted: str
    """Why this threshold."""
    threshold: float | None
    """Submitted where p_qualified >= threshold; None: no threshold gives what is wanted."""
    precision: Interval
    """Share of submitted that are qualified; 1 - precision is the paper's reject rate (5.1)."""
    recall: Interval
    """Share of qualified that are submitted."""
    coverage: Interval
    """Share of all that are submitted; the rest is withheld."""
    submitted: int


@dataclass(frozen=True, slots=True)
class Confusion:
    """Rejected samples of one label whose likeliest class but qualified is another."""

    label: str
    predicted: str
    count: int
    of: int
    """Samples of the label."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two bundles on the same samples: first minus second, paired, bootstrapped over skus."""

    first: str
    second: str
    figures: dict[str, Difference]
    """`auc`, `recall_at_precision_*`, and with a rulebook `auc_single`, `auc_pair`, `auc_multi`."""
    counts: dict[str, int]
    """Samples by kind: qualified, rejected, and those of each scope."""
    products: int
    other: Scores = field(repr=False)
    """Of the second bundle, for the plots."""


# Measuring -----------------------------------------------------------------------------------------------------------


def figures_of(scores: Scores, rulebook: Rulebook, *, rounds: int = 1000, seed: int = 0) -> tuple[Figure, ...]:
    """Every figure of FIGURES; those that no sample speaks to (a rule, a text) are left out. Raises MissingExtra."""
    resample = Resample(len(scores.samples), scores.skus, rounds, seed)
    p, good = scores.p_qualified, scores.qualified
    labels = np.array([sample.label for sample in scores.samples])
    of_scope = scopes_of(scores, rulebook)
    both = {"qualified": int(good.sum()), "rejected": int((~good).sum())}
    figures: list[Figure] = []

    def add(
        name: str, statistic: Statistic, counts: dict[str, int], about: str = "", value: float | None = None
    ) -> None:
        found = resample.interval(statistic)
        figures.append(Figure(name, about, found.value if value is None else value, found.low, found.high, counts))

    add("auc", auc_statistic(p, good), both)
    for precision in PRECISIONS:
        add(f"recall_at_precision_{precision:.2f}", recall_statistic(p, good, precision), both)
    for scope in SCOPES:
        broken = of_scope == scope
        if count := int(broken.sum()):
            # The interval is of the AUC against all qualified, which the mean over balanced subsets estimates.
            value = balanced_auc(p[good | broken], good[good | broken], seed=seed)
            counts = {"qualified": both["qualified"], scope: count}
            add("auc_scope", _auc_among(p, good, good | broken), counts, scope, value)
    for name, statistic, count in (*_rule_statistics(scores), *_feedback_statistics(scores, rulebook)):
        add(name, statistic, {"rejected": count})
    add("calibration_error", calibration_statistic(p, good), {"all": len(p)})
    add("brier", mean_statistic((p - good) ** 2), {"all": len(p)})
    for rule in scores.classes:
        broken = labels == rule
        if rule != QUALIFIED and broken.any():
            counts = {"qualified": both["qualified"], rule: int(broken.sum())}
            add("auc_rule", _auc_among(p, good, good | broken), counts, rule)
    return tuple(figures)


def scopes_of(scores: Scores, rulebook: Rulebook) -> npt.NDArray[np.str_]:
    """`qualified`, `single`, `pair`, `multi` or `other` of each sample, (n,)."""
    scopes: dict[str, str] = {rule.id: rule.scope for rule in rulebook.rules}
    return np.array([scopes.get(sample.label, sample.label) for sample in scores.samples])


def operating_point(
    scores: Scores,
    *,
    threshold: float | None = None,
    precision: float | None = None,
    withheld: float | None = None,
    rounds: int = 1000,
    seed: int = 0,
) -> OperatingPoint:
    """The threshold for exactly one wish, with what it gives.

    Args:
        threshold: on p_qualified, as the bundle's.
        precision: at least that, with the most recall.
        withheld: at most that share of all sequences not submitted.

    Raises:
        SettingsError: `bad_threshold`, unless exactly one is given and from 0 to 1.
    """
    wishes = {"threshold": threshold, "precision": precision, "withheld": withheld}
    given = [(name, value) for name, value in wishes.items() if value is not None]
    if len(given) != 1 or not 0 <= given[0][1] <= 1:
        raise SettingsError("bad_threshold", f"found {wishes}; give one of the three, from 0 to 1.")
    name, wish = given[0]
    p, good = scores.p_qualified, scores.qualified
    found: float | None = wish
    if name == "precision":
        found = threshold_for_precision(p, good, wish)
    elif name == "withheld":
        found = threshold_for_withheld(p, wish)
    wanted = {
        "threshold": f"the bundle's, {wish:g}" if wish == scores.threshold else f"threshold {wish:g}",
        "precision": f"precision at least {wish:g}",
        "withheld": f"at most {100 * wish:g} % withheld",
    }[name]
    if found is None:
        nothing = Interval(float("nan"), float("nan"), float("nan"))
        return OperatingPoint(wanted, None, nothing, nothing, nothing, 0)
    submitted = p >= found
    resample = Resample(len(p), scores.skus, rounds, seed)
    return OperatingPoint(
        wanted=wanted,
        threshold=found,
        precision=resample.interval(mean_statistic(good, submitted)),
        recall=resample.interval(mean_statistic(submitted, good)),
        coverage=resample.interval(mean_statistic(submitted)),
        submitted=int(submitted.sum()),
    )


def confusions(scores: Scores, most: int = 10) -> tuple[Confusion, ...]:
    """The most frequent wrong classes of rejected samples, `qualified` not counted as a class."""
    order = _ranked(scores)
    rejected = [(sample.label, scores.classes[row[0]]) for sample, row in zip(scores.samples, order, strict=True)]
    of = Counter(label for label, _ in rejected)
    pairs = Counter(pair for pair in rejected if pair[0] != QUALIFIED and pair[0] != pair[1])
    return tuple(Confusion(label, predicted, n, of[label]) for (label, predicted), n in pairs.most_common(most))


def compare(
    first: Scores, second: Scores, *, rulebook: Rulebook | None = None, rounds: int = 1000, seed: int = 0
) -> Comparison:
    """First minus second in AUC and recall at precision, on the same draws of skus; with a rulebook also AUC per scope.

    Raises SettingsError (`other_samples`) unless both scored the same samples in the same order.
    """
    keys = first.keys(), second.keys()
    if keys[0] != keys[1]:
        only = [list((Counter(keys[i]) - Counter(keys[1 - i])).elements()) for i in range(2)]
        example = next((str(key[0]) for part in only for key in part), "")
        raise SettingsError(
            "other_samples",
            f"found {len(keys[0])} samples of {first.bundle!r} and {len(keys[1])} of {second.bundle!r}; "
            f"{len(only[0])} and {len(only[1])} are not with the other"
            + (f" (the first: sku {example!r})" if example else ", but the order differs")
            + ". Score both bundles on the same file; where their rulebooks differ, keep to labels that both know.",
        )
    good, p = first.qualified, (first.p_qualified, second.p_qualified)
    resample = Resample(len(good), first.skus, rounds, seed)
    counts = {"qualified": int(good.sum()), "rejected": int((~good).sum())}
    figures = {"auc": resample.paired(*(auc_statistic(s, good) for s in p))}
    for precision in PRECISIONS:
        statistics = (recall_statistic(s, good, precision) for s in p)
        figures[f"recall_at_precision_{precision:.2f}"] = resample.paired(*statistics)
    if rulebook is not None:
        of_scope = scopes_of(first, rulebook)
        for scope in SCOPES:
            if count := int((of_scope == scope).sum()):
                counts[scope] = count
                among = good | (of_scope == scope)
                figures[f"auc_{scope}"] = resample.paired(*(_auc_among(s, good, among) for s in p))
    return Comparison(first.bundle, second.bundle, figures, counts, len(set(first.skus)), second)


def _auc_among(p: npt.NDArray[np.float64], good: npt.NDArray[np.bool_], among: npt.NDArray[np.bool_]) -> Statistic:
    inner = auc_statistic(p[among], good[among])
    return lambda weights: inner(weights[:, among])


def _ranked(scores: Scores) -> npt.NDArray[np.int64]:
    """Classes but qualified, the likeliest first, (n, C - 1)."""
    p = scores.probabilities.astype(np.float64)
    p[:, scores.classes.index(QUALIFIED)] = -1.0
    return np.argsort(-p, axis=1, kind="stable")[:, :-1]


def _rule_statistics(scores: Scores) -> list[tuple[str, Statistic, int]]:
    rejected = ~scores.qualified
    if not rejected.any():
        return []
    label = np.array([scores.classes.index(sample.label) for sample in scores.samples])
    right = _ranked(scores) == label[:, None]
    count = int(rejected.sum())
    return [(f"rule_top{n}", mean_statistic(right[:, :n].any(1), rejected), count) for n in (1, 3)]


# Feedback ------------------------------------------------------------------------------------------------------------


def normalised(text: str) -> str:
    """NFKC, letter case and spaces evened, the full stop at the end dropped."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split()).rstrip(".。 ")


def named_rule(text: str, sample: Labelled, rulebook: Rulebook) -> str:
    """The label that a decoded feedback stands for, by the rules that read reviewers' feedback; "yes" is qualified."""
    if normalised(text) == ACCEPTED:
        return QUALIFIED
    return label_of(replace(sample.verdict, accepted=False, rules=(), feedback=" ".join(text.split())), rulebook)


def chrf(texts: Sequence[str], references: Sequence[str]) -> npt.NDArray[np.float64]:
    """Sentence chrF2 of each text against its reference, (n,), 0 to 100. Raises MissingExtra."""
    try:
        from sacrebleu.metrics import CHRF
    except ImportError:
        raise MissingExtra("sacrebleu", "evaluate", "Measuring feedback text") from None
    metric = CHRF()
    pairs = zip(texts, references, strict=True)
    return np.array([metric.sentence_score(text, [reference]).score for text, reference in pairs], dtype=np.float64)


def _feedback_statistics(scores: Scores, rulebook: Rulebook) -> list[tuple[str, Statistic, int]]:
    """Of rejected samples whose feedback was decoded; text figures of those that the reviewer wrote a text for."""
    rejected = [
        (row, sample, text)
        for row, (sample, text) in enumerate(zip(scores.samples, scores.feedbacks, strict=True))
        if text is not None and sample.label != QUALIFIED
    ]
    written = [(row, sample, text) for row, sample, text in rejected if sample.text.strip()]
    found: list[tuple[str, Statistic, int]] = []

    def add(
        name: str, part: list[tuple[int, Labelled, str]], values: Sequence[float] | npt.NDArray[np.float64]
    ) -> None:
        whole, among = np.zeros(len(scores.samples)), np.zeros(len(scores.samples), dtype=bool)
        rows = [row for row, _, _ in part]
        whole[rows], among[rows] = values, True
        found.append((name, mean_statistic(whole, among), len(part)))

    if written:
        add("feedback_exact", written, [float(normalised(text) == normalised(s.text)) for _, s, text in written])
        add("feedback_chrf", written, chrf([text for _, _, text in written], [s.text for _, s, _ in written]))
    if rejected:
        add("feedback_rule", rejected, [float(named_rule(text, s, rulebook) == s.label) for _, s, text in rejected])
    return found
