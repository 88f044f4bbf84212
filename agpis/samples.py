"""Verdicts in, training samples out: the label, the text to be written, the split, and what could not be used.

Labels follow the paper's 4.1: qualified, the rules, other; of several rules the first named in the feedback. The split
is 80/10/10 by sku, by a hash: it does not depend on order, on other products, or on the run.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

from agpis.data import Box, Verdict
from agpis.errors import SettingsError, TrainingError
from agpis.rulebook import Rulebook

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
QUALIFIED, OTHER = "qualified", "other"
ACCEPTED = "yes"
"""The feedback that the decoder learns to write for an accepted sequence (the paper, 3.4)."""

SAMPLE_CODES: dict[str, str] = {
    "bad_json": "the line is not a JSON object",
    "missing_field": "sku, title, sequence or accepted is not there",
    "bad_field": "a field has another type than a verdict's, or a name that no verdict has",
    "empty_sequence": "the sequence holds no image",
    "bad_index": "image_index is outside the sequence",
    "bad_time": "time is not ISO 8601",
    "contradiction": "accepted, but rules are named as broken",
}
"""Codes of BadSample, with what they mean."""


@dataclass(frozen=True, slots=True)
class BadSample:
    """A line that gives no sample: where it stands and why."""

    place: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Labelled:
    """One sequence to train or measure on."""

    verdict: Verdict
    label: str
    """A class of the rulebook: `qualified`, a learned rule's id, or `other`."""
    text: str
    """What the decoder shall write: the feedback, or "yes"."""
    split: Split


@dataclass(frozen=True, slots=True)
class Counts:
    """What a set of samples holds."""

    total: int
    by_split: dict[str, int]
    by_label: dict[str, dict[str, int]]
    """Split -> label -> number."""
    by_scope: dict[str, int]
    """`qualified`, `single`, `pair`, `multi`, `other` -> number."""
    bad: dict[str, int]
    """Code -> number of lines left out."""

    def __str__(self) -> str:
        lines = [f"{self.total} samples: " + ", ".join(f"{n} {split}" for split, n in self.by_split.items())]
        lines.append("scopes: " + ", ".join(f"{n} {scope}" for scope, n in self.by_scope.items()))
        for label in sorted({label for counts in self.by_label.values() for label in counts}):
            lines.append(f"  {label}: " + " / ".join(str(self.by_label[split].get(label, 0)) for split in SPLITS))
        if self.bad:
            lines.append("left out: " + ", ".join(f"{n} {code}" for code, n in sorted(self.bad.items())))
        return "\n".join(lines)


# Reading -------------------------------------------------------------------------------------------------------------


def read_verdicts(path: str | Path) -> Iterator[Verdict | BadSample]:
    """Verdicts of a .jsonl or .parquet file with the fields of `agpis.data.Verdict`, one after the other.

    A line that is no verdict comes out as a BadSample in its place. Uris are relative to `base`, and where that is
    empty to the file's folder. Raises TrainingError (`samples_not_found`, `samples_format`).
    """
    path = Path(path)
    if not path.is_file():
        raise TrainingError("samples_not_found", f"found no file at {path}; give the path of a .jsonl or .parquet file")
    if path.suffix not in (".jsonl", ".parquet"):
        raise TrainingError("samples_format", f"{path}: found the suffix {path.suffix!r}, allowed are .jsonl, .parquet")
    for number, row in _jsonl(path) if path.suffix == ".jsonl" else _parquet(path):
        place = f"{path.name}, line {number}" if path.suffix == ".jsonl" else f"{path.name}, row {number}"
        yield row if isinstance(row, BadSample) else verdict_of(row, place=place, base=str(path.parent))


def _jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any] | BadSample]]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise ValueError(f"found {type(row).__name__}")
            except ValueError as error:  # UnicodeDecodeError is one too
                message = f"line {number}: wanted one JSON object a line ({error})"
                yield number, BadSample(f"{path.name}, line {number}", "bad_json", message)
                continue
            yield number, row


def _parquet(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
    except pa.ArrowInvalid as error:
        raise TrainingError("samples_format", f"{path}: found no Parquet file ({error}); write it again") from None
    number = 0
    with file:
        for batch in file.iter_batches(batch_size=1000):
            for row in batch.to_pylist():
                number += 1
                yield number, {key: value for key, value in row.items() if value is not None}


_TEXTS = ("sku", "title", "category", "base", "feedback", "reviewer", "time", "bundle", "split")
_LISTS = ("sequence", "candidates", "rules", "corrected")
_FIELDS = tuple(field.name for field in fields(Verdict))


def verdict_of(row: dict[str, Any], *, place: str = "", base: str = "") -> Verdict | BadSample:
    """One row (JSON types) as a Verdict, or why it is none; `base` is used where the row has none."""
    missing = [name for name in ("sku", "title", "sequence", "accepted") if row.get(name) is None]
    if missing:
        return BadSample(place, "missing_field", f"{place}: found no {', '.join(missing)}; every verdict needs them")
    unknown = [name for name in row if name not in _FIELDS]
    if unknown:
        return BadSample(
            place,
            "bad_field",
            f"{place}: found {', '.join(unknown)}, allowed are {', '.join(_FIELDS)}; rename or drop it",
        )
    values: dict[str, Any] = {name: value for name, value in row.items() if value is not None}
    for name, value in values.items():
        if not _fits(name, value):
            return BadSample(place, "bad_field", f"{place}: found {name}: {value!r:.60}, which is no verdict's {name}")
    for name in _LISTS:
        if name in values:
            values[name] = tuple(values[name])
    if "box" in values:
        values["box"] = Box(**values["box"])
    verdict = Verdict(**{**values, "base": values.get("base") or base})
    if not verdict.sequence:
        return BadSample(place, "empty_sequence", f"{place}: found an empty sequence; at least one image is needed")
    if verdict.image_index is not None and not 0 <= verdict.image_index < len(verdict.sequence):
        return BadSample(
            place, "bad_index",
            f"{place}: found image_index {verdict.image_index}, allowed is 0 to {len(verdict.sequence) - 1}",
        )  # fmt: skip
    if verdict.accepted and verdict.rules:
        return BadSample(
            place,
            "contradiction",
            f"{place}: found accepted with broken rules {', '.join(verdict.rules)}; it is one or the other",
        )
    if verdict.time and _moment(verdict.time) is None:
        return BadSample(
            place,
            "bad_time",
            f"{place}: found time {verdict.time!r}, wanted ISO 8601 such as 2024-05-31T12:00:00+00:00",
        )
    return verdict


def _fits(name: str, value: object) -> bool:
    if name in _TEXTS:
        return isinstance(value, str)
    if name in _LISTS:
        return isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)
    if name == "accepted":
        return isinstance(value, bool)
    if name == "image_index":
        return isinstance(value, int) and not isinstance(value, bool)
    if name == "p_qualified":
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, dict) and set(value) == set("xywh") and all(type(v) is int for v in value.values())


# Labels --------------------------------------------------------------------------------------------------------------


def label_of(verdict: Verdict, rulebook: Rulebook) -> str:
    """The class of a verdict.

    Accepted is `qualified`. Else the first of `rules` that the models have a class for; else the rule whose name, id
    or phrasing stands first in the feedback (the longest, where several start there); else `other`.
    """
    if verdict.accepted:
        return QUALIFIED
    known = rulebook.classes[1:-1]
    for rule in verdict.rules:
        if rule in known:
            return rule
    best: tuple[int, int] | None = None
    label = OTHER
    for rule, pattern in _patterns(rulebook):
        match = pattern.search(verdict.feedback)
        if match and (best is None or (match.start(), -len(match[0])) < best):
            best, label = (match.start(), -len(match[0])), rule
    return label


@lru_cache(maxsize=8)
def _patterns_of(text: str) -> tuple[tuple[str, re.Pattern[str]], ...]:
    found = []
    for name, phrases in json.loads(text):
        parts = [_slotted(phrase) for phrase in sorted(phrases, key=len, reverse=True)]
        found.append((name, re.compile("|".join(parts), re.IGNORECASE)))
    return tuple(found)


def _patterns(rulebook: Rulebook) -> tuple[tuple[str, re.Pattern[str]], ...]:
    """Learned rule -> what names it in a feedback; compiled once for the same rules."""
    learned = [rule for rule in rulebook.rules if rule.learned]
    spoken = [
        (rule.id, [rule.name, rule.id, rule.id.replace("_", " "), *rule.feedback.en, *rule.feedback.zh])
        for rule in learned
    ]
    return _patterns_of(json.dumps(spoken))


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

    A verdict's own `split` is kept. Raises TrainingError (`split_leak`) where one sku then stands on two sides.
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
        text = ACCEPTED if verdict.accepted else verdict.feedback
        samples.append(Labelled(verdict, label_of(verdict, rulebook), text, split))
    return samples


def window(
    verdicts: Iterable[Verdict], *, until: str | datetime | None = None, days: int | None = None
) -> list[Verdict]:
    """Verdicts of the last `days` days up to `until` (not included; default: now). The paper retrains on 3 months.

    With `days` None everything before `until`. A verdict without a time is in no window, unless both are None.
    """
    if days is not None and days < 1:
        raise SettingsError("bad_window", f"found a window of {days} days, allowed is 1 or more")
    if until is None and days is None:
        return list(verdicts)
    end = datetime.now(UTC) if until is None else (_moment(until) if isinstance(until, str) else _aware(until))
    if end is None:
        raise SettingsError("bad_window", f"found until {until!r}, wanted ISO 8601 such as 2024-05-31")
    start = end - timedelta(days=days) if days is not None else None
    kept = []
    for verdict in verdicts:
        moment = _moment(verdict.time) if verdict.time else None
        if moment is not None and moment < end and (start is None or moment >= start):
            kept.append(verdict)
    return kept


def _moment(text: str) -> datetime | None:
    """ISO 8601 as a moment in UTC (taken for UTC where it names no zone); None where it is no such."""
    try:
        return _aware(datetime.fromisoformat(text))
    except ValueError:
        return None


def _aware(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def counts(samples: Sequence[Labelled], rulebook: Rulebook, bad: Sequence[BadSample] = ()) -> Counts:
    """How many samples by split, label and scope, and how many lines were left out for which reason."""
    scopes: dict[str, str] = {rule.id: rule.scope for rule in rulebook.rules}
    return Counts(
        total=len(samples),
        by_split={split: sum(s.split == split for s in samples) for split in SPLITS},
        by_label={split: dict(Counter(s.label for s in samples if s.split == split)) for split in SPLITS},
        by_scope=dict(Counter(scopes.get(s.label, s.label) for s in samples)),
        bad=dict(Counter(b.code for b in bad)),
    )
