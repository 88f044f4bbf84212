"""Reading of verdicts: lines of JSON or rows of Parquet to `Verdict`, or why they are none. See docs/samples.md."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agpis.data import Box, Verdict
from agpis.errors import TrainingError
from agpis.verdict_cells import read_cells, typed

SAMPLE_CODES: dict[str, str] = {
    "bad_json": "the line is not a JSON object",
    "missing_field": "sku, title, sequence or accepted is not there",
    "bad_field": "a field has another type than a verdict's, or a name that no verdict has; or a CSV row is broken",
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


SUFFIXES = (".jsonl", ".parquet", ".csv")
"""Of files of verdicts."""
HEADER = ("sku", "sequence", "accepted")
"""Columns that the header line of a .csv file must have."""


def read_verdicts(path: str | Path) -> Iterator[Verdict | BadSample]:
    """Verdicts of a .jsonl, .parquet or .csv file with the fields of `agpis.data.Verdict`, one after the other.

    A line that is no verdict comes out as a BadSample in its place. Uris are relative to `base`, and where that is
    empty to the file's folder. Raises TrainingError (`samples_not_found`, `samples_format`).
    """
    path = Path(path)
    for place, row in read_rows(path):
        if isinstance(row, BadSample):
            yield row
        else:
            yield verdict_of(typed(row) if path.suffix == ".csv" else row, place=place, base=str(path.parent))


def read_rows(path: Path, header: Sequence[str] = HEADER) -> Iterator[tuple[str, dict[str, Any] | BadSample]]:
    """Place and row of a .jsonl, .parquet or .csv file, whatever its columns; the cells of .csv are texts.

    Args:
        header: columns by which the header line of a .csv is known.

    Raises TrainingError (`samples_not_found`, `samples_format`).
    """
    if not path.is_file():
        raise TrainingError(
            "samples_not_found", f"found no file at {path}; give the path of a {_suffixes(' or ')} file"
        )
    if path.suffix not in SUFFIXES:
        raise TrainingError(
            "samples_format", f"{path}: found the suffix {path.suffix!r}, allowed are {_suffixes(', ')}"
        )
    rows = _csv(path, header) if path.suffix == ".csv" else (_jsonl if path.suffix == ".jsonl" else _parquet)(path)
    for number, row in rows:
        yield f"{path.name}, {'row' if path.suffix == '.parquet' else 'line'} {number}", row


def _suffixes(last: str) -> str:
    return f"{', '.join(SUFFIXES[:-1])}{last}{SUFFIXES[-1]}"


def _csv(path: Path, header: Sequence[str]) -> Iterator[tuple[int, dict[str, Any] | BadSample]]:
    for number, row in read_cells(path, header):
        place = f"{path.name}, line {number}"
        yield number, BadSample(place, "bad_field", f"{place}: {row}") if isinstance(row, str) else dict(row)


def _jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any] | BadSample]]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise ValueError(f"found {type(row).__name__}")
            except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError too
                message = f"line {number}: wanted one JSON object a line ({error})"
                yield number, BadSample(f"{path.name}, line {number}", "bad_json", message)
                continue
            yield number, row


def _parquet(path: Path) -> Iterator[tuple[int, dict[str, Any] | BadSample]]:
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
    if row.get("sku") == "":
        missing.insert(0, "sku")
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
    if verdict.time and moment_of(verdict.time) is None:
        return BadSample(
            place,
            "bad_time",
            f"{place}: found time {verdict.time!r}, wanted ISO 8601 such as 2024-05-31T12:00:00+00:00",
        )
    return verdict


def _fits(name: str, value: object) -> bool:
    if name in _TEXTS:
        return is_text(value)
    if name in _LISTS:
        return isinstance(value, list | tuple) and all(is_text(item) for item in value)
    if name == "accepted":
        return isinstance(value, bool)
    if name == "image_index":
        return isinstance(value, int) and not isinstance(value, bool)
    if name == "p_qualified":
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, dict) and set(value) == set("xywh") and all(type(v) is int for v in value.values())


def is_text(value: object) -> bool:
    """Whether it is a text. Half of a surrogate pair, which JSON can spell, is none: it cannot be hashed or shown."""
    return isinstance(value, str) and (value.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in value))


def moment_of(text: str) -> datetime | None:
    """ISO 8601 as a moment in UTC (taken for UTC where it names no zone); None where it is no such."""
    try:
        return in_utc(datetime.fromisoformat(text))
    except (ValueError, OverflowError):  # the latter: year 1 or 9999, moved over the edge by its zone
        return None


def in_utc(moment: datetime) -> datetime:
    """The same moment in UTC; taken for UTC where it names no zone."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
