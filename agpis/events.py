"""What a shop logged of a test -> the two arms of `agpis.abtest`: CSV, JSON Lines or Parquet.

Two forms, told apart by the columns:
  totals   arm, impressions, clicks and, where known, orders and unit; rows of the same arm (and unit) are added up
  events   arm, event (impression, click or order) and, where known, unit; one row an event

A unit is whom the arm was assigned to, such as a user. Streaming: only sums stay in memory, a row a unit.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from agpis.abtest import Arm
from agpis.errors import SettingsError, SourceError

COUNTS = ("impressions", "clicks", "orders")
EVENTS = {"impression": 0, "click": 1, "order": 2}
CONTROLS = ("a", "control")
"""Names that say by themselves which arm is the control; upper or lower case."""


@dataclass(slots=True)
class _Sums:
    """Of one arm."""

    counts: list[int] = field(default_factory=lambda: [0, 0, 0])
    units: dict[str, list[int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Arms:
    """The two arms of a file."""

    a: Arm
    b: Arm
    crossed: int
    """Units that were seen in both."""
    rows: int


def read_arms(path: str | Path, *, control: str | None = None, treatment: str | None = None) -> Arms:
    """The arms `control` and `treatment` of a .csv, .jsonl or .parquet file.

    Without names the control is the arm called a or control, the treatment the other one. Variances go by unit where
    some unit has several impressions. Raises SourceError (`events_not_found`, `events_format`, `bad_events`,
    `empty_events`, `one_arm`) and SettingsError (`unknown_arm`, `bad_counts`).
    """
    path = Path(path)
    sums: dict[str, _Sums] = {}
    rows, orders, unit_known = 0, False, True
    for place, row in _rows(path):
        rows += 1
        arm, unit, counts = _counts(place, row)
        orders = orders or "orders" in row or row.get("event") == "order"
        of_arm = sums.setdefault(arm, _Sums())
        unit_known = unit_known and unit is not None
        of_unit = of_arm.units.setdefault(unit, [0, 0, 0]) if unit_known and unit is not None else []
        for place_, count in enumerate(counts):
            of_arm.counts[place_] += count
            if of_unit:
                of_unit[place_] += count
    if not rows:
        raise SourceError("empty_events", f"{path}: found no row; a test needs events of two arms")
    first, second = _names(path, sums, control, treatment)
    repeated = any(counts[0] > 1 for name in (first, second) for counts in sums[name].units.values())
    by_unit = unit_known and repeated
    a, b = (_arm(name, sums[name], orders, by_unit) for name in (first, second))
    crossed = len(sums[first].units.keys() & sums[second].units.keys()) if unit_known else 0
    return Arms(a, b, crossed, rows)


def _arm(name: str, sums: _Sums, orders: bool, by_unit: bool) -> Arm:
    units = np.array(list(sums.units.values()), dtype=np.int64) if by_unit else None
    return Arm(name, sums.counts[0], sums.counts[1], sums.counts[2] if orders else None, units)


def _names(path: Path, sums: Mapping[str, _Sums], control: str | None, treatment: str | None) -> tuple[str, str]:
    found = sorted(sums)
    said = ", ".join(repr(name) for name in found[:10]) + (", ..." if len(found) > 10 else "")
    if len(found) == 1:
        raise SourceError("one_arm", f"{path}: found only the arm {said}; a test needs events of two arms")
    for option, name in (("--control", control), ("--treatment", treatment)):
        if name is not None and name not in sums:
            raise SettingsError("unknown_arm", f"{option} is {name!r}; {path} has the arms {said}")
    if control is None:
        named = [name for name in found if name.lower() in CONTROLS and name != treatment]
        others = [name for name in found if name != treatment]
        if len(named) != 1 and (treatment is None or len(others) != 1):
            raise SettingsError("unknown_arm", f"{path} has the arms {said}; name the control with --control")
        control = named[0] if len(named) == 1 else others[0]
    if treatment is None:
        others = [name for name in found if name != control]
        if len(others) != 1:
            raise SettingsError("unknown_arm", f"{path} has the arms {said}; name the new one with --treatment")
        treatment = others[0]
    if control == treatment:
        raise SettingsError("unknown_arm", f"--control and --treatment are both {control!r}; a test needs two arms")
    return control, treatment


def _counts(place: str, row: Mapping[str, Any]) -> tuple[str, str | None, tuple[int, ...]]:
    """Arm, unit (None where there is none) and the counts of one row."""
    arm, unit = row.get("arm"), row.get("unit")
    if arm is None or str(arm).strip() == "":
        raise SourceError("bad_events", f"{place}: found no arm; every row needs one")
    if "event" in row:
        event = row["event"]
        if event not in EVENTS:
            raise SourceError("bad_events", f"{place}: found event {event!r}, allowed are {', '.join(EVENTS)}")
        counts = tuple(int(number == EVENTS[event]) for number in range(3))
    else:
        counts = tuple(_count(place, name, row[name]) if name in row else 0 for name in COUNTS)
    return str(arm).strip(), None if unit is None or unit == "" else str(unit), counts


def _count(place: str, name: str, value: object) -> int:
    try:
        number = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else -1.0
        if number >= 0 and number == int(number):
            return int(value) if isinstance(value, int) else int(number)
    except (ValueError, OverflowError):
        pass
    raise SourceError("bad_events", f"{place}: found {name} {value!r:.40}; wanted a whole number, 0 or more")


# Files ---------------------------------------------------------------------------------------------------------------


def _rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Where it stands, and the row."""
    readers = {".csv": _csv, ".jsonl": _jsonl, ".parquet": _parquet}
    if not path.is_file():
        raise SourceError("events_not_found", f"found no file at {path}; give the path of a .csv, .jsonl or .parquet")
    if path.suffix not in readers:
        raise SourceError(
            "events_format", f"{path}: found the suffix {path.suffix!r}, allowed are {', '.join(readers)}"
        )
    return readers[path.suffix](path)


def _check(path: Path, columns: list[str]) -> None:
    known = set(columns)
    if "arm" in known and ("event" in known or {"impressions", "clicks"} <= known):
        return
    raise SourceError(
        "bad_events",
        f"{path}: found the columns {', '.join(map(str, columns)) or '(none)'}; wanted arm, impressions, clicks and, "
        "where known, orders and unit; or arm, event and, where known, unit",
    )


def _csv(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            if reader.fieldnames is None:
                return
            _check(path, list(reader.fieldnames))
            for row in reader:
                place = f"{path.name}, line {reader.line_num}"
                if None in row or None in row.values():
                    raise SourceError("bad_events", f"{place}: found another number of columns than in the first line")
                yield place, row
    except (UnicodeDecodeError, csv.Error) as error:
        raise SourceError("events_format", f"{path}: found no CSV in UTF-8 ({error}); save it again") from None


def _jsonl(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            place = f"{path.name}, line {number}"
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise SourceError("bad_events", f"{place}: wanted one JSON object a line ({error})") from None
            if not isinstance(row, dict):
                raise SourceError("bad_events", f"{place}: found {type(row).__name__}, wanted one JSON object a line")
            _check(path, list(row))
            yield place, row


def _parquet(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
    except pa.ArrowInvalid as error:
        raise SourceError("events_format", f"{path}: found no Parquet file ({error}); write it again") from None
    with file:
        _check(path, file.schema_arrow.names)
        wanted = [name for name in ("arm", "unit", "event", *COUNTS) if name in file.schema_arrow.names]
        number = 0
        for batch in file.iter_batches(batch_size=10_000, columns=wanted):
            for row in batch.to_pylist():
                number += 1
                yield f"{path.name}, row {number}", row
