"""Verdicts in, training samples out: the label, the text to be written, the split, and what could not be used.

Labels follow the paper's 4.1: qualified, the rules, other; of several rules the first named in the feedback. The split
is 80/10/10 by sku, by a hash: it does not depend on order, on other products, or on the run.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Literal, TypeVar, get_args

from agpis.data import Scope, Verdict
from agpis.errors import SettingsError, TrainingError
from agpis.rulebook import Rulebook
from agpis.verdicts import SAMPLE_CODES, BadSample, in_utc, moment_of, read_verdicts, verdict_of

__all__ = [
    "ACCEPTED",
    "OTHER",
    "QUALIFIED",
    "SAMPLE_CODES",
    "SPLITS",
    "BadSample",
    "Labelled",
    "Report",
    "Split",
    "TimeSplit",
    "balanced",
    "label_of",
    "labelled",
    "read_verdicts",
    "report",
    "split_by_time",
    "split_of",
    "verdict_of",
    "window",
]

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
QUALIFIED, OTHER = "qualified", "other"
Source = Literal["accepted", "rules", "feedback", "other"]
"""What a label was read from."""
V = TypeVar("V", bound=Verdict | BadSample)
ACCEPTED = "yes"
"""The feedback that the decoder learns to write for an accepted sequence (the paper, 3.4)."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """One sequence to train or measure on."""

    verdict: Verdict
    label: str
    """A class of the rulebook: `qualified`, a learned rule's id, or `other`."""
    text: str
    """What the decoder shall write: the feedback, or "yes"."""
    split: Split


# Labels --------------------------------------------------------------------------------------------------------------


def label_of(verdict: Verdict, rulebook: Rulebook) -> str:
    """The class of a verdict.

    Accepted is `qualified`. Else the first of `rules` that the models have a class for; else the rule whose name, id
    or phrasing stands first in the feedback (the longest, where several start there); else `other`.
    """
    return _read_label(verdict, rulebook)[0]


def _read_label(verdict: Verdict, rulebook: Rulebook) -> tuple[str, Source]:
    if verdict.accepted:
        return QUALIFIED, "accepted"
    known = rulebook.classes[1:-1]
    for rule in verdict.rules:
        if rule in known:
            return rule, "rules"
    named = _named(verdict.feedback, _patterns(rulebook))
    return (named, "feedback") if named else (OTHER, "other")


Patterns = tuple[tuple[str, re.Pattern[str]], ...]


@lru_cache(maxsize=1 << 16)
def _named(feedback: str, patterns: Patterns) -> str:
    """The rule that stands first in the feedback, "" where none does. Reviewers repeat themselves, hence the cache."""
    best: tuple[int, int] | None = None
    label = ""
    for rule, pattern in patterns:
        match = pattern.search(feedback)
        if match and (best is None or (match.start(), -len(match[0])) < best):
            best, label = (match.start(), -len(match[0])), rule
    return label


_compiled: dict[str, Patterns] = {}


def _patterns(rulebook: Rulebook) -> Patterns:
    """Learned rule -> what names it in a feedback; compiled once for the same rules."""
    if rulebook.hash not in _compiled:
        found = []
        for rule in rulebook.rules:
            if rule.learned:
                phrases = {rule.name, rule.id, rule.id.replace("_", " "), *rule.feedback.en, *rule.feedback.zh}
                parts = [_slotted(phrase) for phrase in sorted(phrases, key=lambda phrase: (-len(phrase), phrase))]
                found.append((rule.id, re.compile("|".join(parts), re.IGNORECASE)))
        _compiled[rulebook.hash] = tuple(found)
    return _compiled[rulebook.hash]


def _slotted(phrase: str) -> str:
    """A phrase as a regular expression; slots match a few words, and ASCII words only whole ones."""
    pieces = re.split(r"\{\w+\}", phrase.strip().rstrip(".。"))
    body = r".{0,40}?".join(re.escape(piece) for piece in pieces)
    before = r"\b" if re.match(r"[A-Za-z0-9_]", phrase) else ""
    after = r"\b" if re.match(r"[A-Za-z0-9_]", pieces[-1][-1:] or " ") else ""
    return f"{before}{body}{after}"


# Splits and windows --------------------------------------------------------------------------------------------------


def split_of(sku: str) -> Split:
    """80/10/10 by a hash of the sku: the same product is always on the same side, whatever else there is."""
    bucket = int.from_bytes(hashlib.sha256(sku.encode()).digest()[:8], "big") % 100
    return "train" if bucket < 80 else ("validation" if bucket < 90 else "test")


def labelled(
    verdicts: Iterable[Verdict | BadSample], rulebook: Rulebook, *, bad: list[BadSample] | None = None
) -> list[Labelled]:
    """Label and split verdicts; bad ones are put on the list `bad`.

    A verdict's own `split` is kept; rules have the ids that they have now (`Rule.was`). Raises TrainingError
    (`split_leak`) where one sku then stands on two sides.
    """
    samples: list[Labelled] = []
    sides: dict[str, Split] = {}
    for verdict in verdicts:
        if isinstance(verdict, BadSample):
            if bad is not None:
                bad.append(verdict)
            continue
        given = next((split for split in SPLITS if split == verdict.split), None)
        if verdict.split and given is None:
            raise TrainingError(
                "bad_split",
                f"sku {verdict.sku!r}: found split {verdict.split!r}, allowed are {', '.join(SPLITS)} or none",
            )
        split = given or split_of(verdict.sku)
        if sides.setdefault(verdict.sku, split) != split:
            raise TrainingError(
                "split_leak",
                f"sku {verdict.sku!r}: found in {sides[verdict.sku]} and in {split}; all samples of a product belong on"
                " one side: give all of them the same split, or none",
            )
        if any(rulebook.now(rule) != rule for rule in verdict.rules):
            verdict = replace(verdict, rules=tuple(dict.fromkeys(map(rulebook.now, verdict.rules))))
        text = ACCEPTED if verdict.accepted else verdict.feedback
        samples.append(Labelled(verdict, label_of(verdict, rulebook), text, split))
    return samples


def window(verdicts: Iterable[V], *, until: str | datetime | None = None, days: int | None = None) -> list[V]:
    """Verdicts of the last `days` days up to `until` (not included; default: now). The paper retrains on 3 months.

    With `days` None everything before `until`. A verdict without a time is in no window, unless both are None. Bad
    samples stay, to be counted. Raises SettingsError `bad_window`.
    """
    if until is None and days is None:
        return list(verdicts)
    end = datetime.now(UTC) if until is None else _end(until)
    start = end - _span(days) if days is not None else None

    def inside(verdict: Verdict) -> bool:
        moment = moment_of(verdict.time)
        return moment is not None and moment < end and (start is None or moment >= start)

    return [verdict for verdict in verdicts if isinstance(verdict, BadSample) or inside(verdict)]


def _end(until: str | datetime) -> datetime:
    end = moment_of(until) if isinstance(until, str) else in_utc(until)
    if end is None:
        raise SettingsError("bad_window", f"found until {until!r}, wanted ISO 8601 such as 2024-05-31")
    return end


def _span(days: int) -> timedelta:
    if not 1 <= days <= 36500:
        raise SettingsError("bad_window", f"found a window of {days} days, allowed is 1 to 36500")
    return timedelta(days=days)


@dataclass(frozen=True, slots=True)
class TimeSplit:
    """Verdicts of two neighbouring windows, each with its split; the numbers say what became of the others."""

    verdicts: tuple[Verdict | BadSample, ...]
    """With `split` set; bad samples stay, to be counted by `labelled`."""
    boundary: str
    """ISO 8601: end of the training window and start of the test window."""
    shared_skus: int
    """Products with verdicts in both windows."""
    dropped: int
    """Verdicts left out because their product is in the other window too."""
    outside: int
    """Verdicts before and after the two windows."""
    untimed: int
    """Verdicts without a time."""


def split_by_time(
    verdicts: Iterable[Verdict | BadSample],
    train_days: int = 90,
    test_days: int = 90,
    until: str | datetime | None = None,
    *,
    shared: Literal["test", "train"] = "test",
) -> TimeSplit:
    """The paper's 5.1: train on the `train_days` before `until`, test on the `test_days` that follow.

    A tenth of the training window's skus, by the hash of `split_of`, is for validation. Products with verdicts in both
    windows stay in the window `shared` alone, so that nothing leaks. Without `until` the test window ends with the
    latest verdict. A verdict's own `split` is not used. Raises SettingsError `bad_window`.
    """
    if shared not in ("test", "train"):
        raise SettingsError("bad_window", f"found shared {shared!r}, allowed are test, train")
    given = list(verdicts)
    moments = [moment_of(v.time) if isinstance(v, Verdict) else None for v in given]
    if until is None:
        latest = max((moment for moment in moments if moment is not None), default=None)
        if latest is None:
            raise SettingsError("bad_window", "found no verdict with a time; split by sku, or give the verdicts a time")
        boundary = latest - _span(test_days) + timedelta(microseconds=1)
    else:
        boundary = _end(until)
    start, end = boundary - _span(train_days), boundary + _span(test_days)
    sides: list[Literal["test", "train"] | None] = []
    skus: dict[str, set[str]] = {"train": set(), "test": set()}
    for verdict, moment in zip(given, moments, strict=True):
        inside = moment is not None and start <= moment < end
        sides.append(None if moment is None or not inside else "train" if moment < boundary else "test")
        if (side := sides[-1]) is not None and isinstance(verdict, Verdict):
            skus[side].add(verdict.sku)
    both = skus["train"] & skus["test"]
    kept: list[Verdict | BadSample] = []
    dropped = outside = untimed = 0
    for verdict, moment, side in zip(given, moments, sides, strict=True):
        if isinstance(verdict, BadSample):
            kept.append(verdict)
        elif moment is None:
            untimed += 1
        elif side is None:
            outside += 1
        elif verdict.sku in both and side != shared:
            dropped += 1
        else:
            validation = side == "train" and split_of(verdict.sku) == "validation"
            kept.append(replace(verdict, split="validation" if validation else side))
    return TimeSplit(tuple(kept), boundary.isoformat(), len(both), dropped, outside, untimed)


# Subsets and counts --------------------------------------------------------------------------------------------------


def balanced(samples: Sequence[Labelled], rulebook: Rulebook, scope: Scope, seed: int = 0) -> list[Labelled]:
    """The balanced subset of a scope (4.1): in each split as many qualified samples as ones that break a rule of it.

    All violating samples and as many drawn qualified ones, or the other way round where those are fewer; in the order
    of `samples`. Raises SettingsError `bad_scope`.
    """
    if scope not in get_args(Scope):
        raise SettingsError("bad_scope", f"found scope {scope!r}, allowed are {', '.join(get_args(Scope))}")
    rules = {rule.id for rule in rulebook.rules if rule.scope == scope}
    rng = random.Random(seed)
    chosen: list[int] = []
    for split in SPLITS:
        rows = [i for i, sample in enumerate(samples) if sample.split == split]
        qualified = [i for i in rows if samples[i].label == QUALIFIED]
        violating = [i for i in rows if samples[i].label in rules]
        few = min(len(qualified), len(violating))
        chosen += rng.sample(qualified, few) + rng.sample(violating, few)
    return [samples[i] for i in sorted(chosen)]


@dataclass(frozen=True, slots=True)
class Report:
    """What a set of samples holds: the paper's Table 1, and what else tells whether it can be trained on."""

    total: int
    k: int
    """Length of a sequence by the rulebook."""
    by_split: dict[str, int]
    by_scope: dict[str, dict[str, int]]
    """Split -> `qualified`, `single`, `pair`, `multi`, `other` -> number."""
    by_label: dict[str, dict[str, int]]
    """Split -> class of the rulebook -> number; a rule nobody has broken is there with 0."""
    scopes: dict[str, str]
    """Class -> its scope, in the order of the classes."""
    products: dict[str, int]
    """Split -> number of skus."""
    lengths: dict[int, int]
    """Images of a sequence -> number of sequences."""
    sources: dict[str, int]
    """What the label was read from: `accepted`, `rules`, `feedback`, `other` -> number."""
    reviewers: dict[str, int]
    """Reviewer -> number, the busiest first; "" for verdicts without one."""
    first: str
    """Time of the earliest verdict, ISO 8601 in UTC; "" where none has a time."""
    last: str
    untimed: int
    """Verdicts without a time."""
    bad: dict[str, int]
    """Code -> number of lines left out."""
    examples: dict[str, str]
    """Code -> message of the first such line."""

    def row(self) -> dict[str, Any]:
        """JSON-ready dict."""
        return {**asdict(self), "lengths": {str(length): n for length, n in self.lengths.items()}}

    def __str__(self) -> str:
        lines = [f"{self.total} samples of {sum(self.products.values())} products"]
        wide = max(14, 2 + max(len(label) for label in self.scopes))
        lines.append(" " * wide + "".join(f"{split:>11}{'':8}" for split in SPLITS).rstrip())
        lines.append(_line(wide, "samples", [self.by_split[split] for split in SPLITS]))
        lines.append(_line(wide, "products", [self.products[split] for split in SPLITS]))
        totals = [self.by_split[split] for split in SPLITS]
        for scope in dict.fromkeys(self.scopes.values()):
            lines.append(_line(wide, scope, [self.by_scope[split].get(scope, 0) for split in SPLITS], totals))
            rules = [label for label, its in self.scopes.items() if its == scope and label != scope]
            lines += [_line(wide, f"  {r}", [self.by_label[split][r] for split in SPLITS], totals) for r in rules]
        images = sum(length * n for length, n in self.lengths.items())
        longer = sum(n for length, n in self.lengths.items() if length > self.k)
        if self.total:
            lines.append(
                f"images a sequence: {images / self.total:.2f} on average, {min(self.lengths)} to {max(self.lengths)};"
                f" {longer} longer than K = {self.k}"
            )
        lines.append("labels from: " + ", ".join(f"{source} {n}" for source, n in self.sources.items()))
        lines.append(f"time: {self.first} to {self.last}" if self.first else "time: none")
        lines[-1] += f"; {self.untimed} without" if self.first and self.untimed else ""
        busiest = [f"{name or 'unnamed'} {n}" for name, n in list(self.reviewers.items())[:5]]
        lines.append(f"reviewers: {len(self.reviewers)} ({', '.join(busiest)}{', ...' * (len(self.reviewers) > 5)})")
        lines.append(f"left out: {sum(self.bad.values())}")
        lines += [f"  {n} {code}, the first: {self.examples[code]}" for code, n in self.bad.items()]
        return "\n".join(lines)


def _line(wide: int, name: str, numbers: Sequence[int], totals: Sequence[int] = ()) -> str:
    shares = [f"{n / total:8.1%}" if total else "" for n, total in zip(numbers, totals, strict=False)]
    cells = [f"{n:>11}{share:>8}" for n, share in zip(numbers, shares or [""] * len(numbers), strict=True)]
    return f"{name:<{wide}}" + "".join(cells).rstrip()


def report(samples: Sequence[Labelled], rulebook: Rulebook, bad: Sequence[BadSample] = ()) -> Report:
    """Counts of samples by split, scope and rule, with what they were made of and what was left out."""
    scopes: dict[str, str] = {rule.id: rule.scope for rule in rulebook.rules}
    by_label: dict[str, dict[str, int]] = {split: dict.fromkeys(rulebook.classes, 0) for split in SPLITS}
    by_scope: dict[str, dict[str, int]] = {
        split: dict.fromkeys((QUALIFIED, *get_args(Scope), OTHER), 0) for split in SPLITS
    }
    skus: dict[str, set[str]] = {split: set() for split in SPLITS}
    sources = dict.fromkeys(get_args(Source), 0)
    for sample in samples:
        by_label[sample.split][sample.label] += 1
        by_scope[sample.split][scopes.get(sample.label, sample.label)] += 1
        skus[sample.split].add(sample.verdict.sku)
        sources[_read_label(sample.verdict, rulebook)[1]] += 1
    moments = [moment for moment in (moment_of(sample.verdict.time) for sample in samples) if moment is not None]
    return Report(
        total=len(samples),
        k=rulebook.k,
        by_split={split: sum(by_label[split].values()) for split in SPLITS},
        by_scope=by_scope,
        by_label=by_label,
        scopes={label: scopes.get(label, label) for label in rulebook.classes},
        products={split: len(skus[split]) for split in SPLITS},
        lengths=dict(sorted(Counter(len(sample.verdict.sequence) for sample in samples).items())),
        sources=sources,
        reviewers=dict(Counter(sample.verdict.reviewer for sample in samples).most_common()),
        first=min(moments).isoformat() if moments else "",
        last=max(moments).isoformat() if moments else "",
        untimed=len(samples) - len(moments),
        bad=dict(sorted(Counter(sample.code for sample in bad).items())),
        examples={sample.code: sample.message for sample in reversed(bad)},
    )
