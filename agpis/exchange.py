"""Verdicts out of a store as samples to train on, and verdicts from elsewhere into a store.

    with open_store("reviews.db") as store:
        print(export_verdicts(store, Path("samples.jsonl"), since=moment("90d")))
        print(import_verdicts(Path("sheet.csv"), store, columns={"sku": "item no"}))

A file has the suffix .jsonl, .parquet or .csv; all three are what `agpis train` reads (docs/samples.md).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote

from agpis.catalogue.csv_text import column
from agpis.data import Decision, Verdict
from agpis.errors import SettingsError, TrainingError
from agpis.label_studio import labelling_config, read_annotations, tasks
from agpis.records import Added, Query
from agpis.rulebook import Rulebook
from agpis.settled import Settled, settle, with_corrections
from agpis.shards import replace_file
from agpis.store import Store
from agpis.verdict_cells import csv_text, typed
from agpis.verdicts import HEADER, SUFFIXES, BadSample, in_utc, moment_of, read_rows, verdict_of

FIELDS = tuple(field.name for field in fields(Verdict))
UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
NAMED = 10
"""Bad rows that are named on screen; all are kept in a file."""


def moment(text: str, now: datetime | None = None) -> datetime:
    """A point in time: `90d`, `12w` or `36h` ago, or ISO 8601 such as 2026-06-30, taken for UTC.

    Raises SettingsError `bad_window`.
    """
    ago = re.fullmatch(r"([1-9][0-9]{0,4})([hdw])", text)
    if ago is not None:
        return (in_utc(now) if now else datetime.now(UTC)) - int(ago[1]) * UNITS[ago[2]]
    found = moment_of(text)
    if found is None:
        raise SettingsError(
            "bad_window", f"found {text!r}; wanted a span such as 90d, 12w or 36h, or a date such as 2026-06-30."
        )
    return found


# Out -----------------------------------------------------------------------------------------------------------------


def samples_of(verdicts: Iterable[Verdict | BadSample]) -> Settled:
    """The samples to train on: one a sequence, and corrected sequences as approved ones (`agpis.settled`)."""
    return with_corrections(settle(verdicts))


def export_verdicts(
    store: Store,
    out: Path,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    every: bool = False,
) -> Settled:
    """Writes the verdicts of a store from `since` to before `until` to a file, whole or not at all.

    Args:
        out: .jsonl, .parquet or .csv.
        every: each verdict as it was given, for another store; else samples to train on, see `samples_of`. Verdicts
            that were undone are in neither.

    Raises:
        SettingsError: `bad_out`, another suffix.
        OutputError: the file cannot be written.
    """
    found = store.verdicts(since, until)
    settled = Settled(tuple(found), (), 0, 0, 0, ()) if every else samples_of(found)
    write_verdicts(settled.verdicts, out)
    return settled


def write_verdicts(verdicts: Sequence[Verdict], out: Path) -> None:
    """Writes verdicts by suffix; fields that say nothing are left out of JSON Lines. Raises as `export_verdicts`."""
    if out.suffix not in SUFFIXES:
        raise SettingsError("bad_out", f"{out}: found the suffix {out.suffix!r}, allowed are {', '.join(SUFFIXES)}.")
    rows = [asdict(verdict) for verdict in verdicts]
    if out.suffix == ".parquet":
        content = _parquet(rows)
    elif out.suffix == ".csv":
        content = csv_text(rows, FIELDS).encode()
    else:
        content = "".join(json.dumps(_said(row), ensure_ascii=False) + "\n" for row in rows).encode()
    replace_file(out, content)


def _said(row: dict[str, Any]) -> dict[str, Any]:
    """Without fields that may be left out and say nothing."""
    needed = ("sku", "title", "sequence", "accepted")
    return {name: value for name, value in row.items() if name in needed or value not in (None, "", ())}


def _parquet(rows: list[dict[str, Any]]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = pa.list_(pa.string())
    kinds: dict[str, Any] = dict.fromkeys(("sequence", "candidates", "rules", "corrected"), texts)
    kinds |= {"accepted": pa.bool_(), "image_index": pa.int32(), "p_qualified": pa.float64()}
    kinds["box"] = pa.struct([(name, pa.int32()) for name in "xywh"])
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in FIELDS])
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), sink, compression="zstd")
    return bytes(sink.getvalue())


def export_tasks(
    store: Store,
    out: Path,
    rulebook: Rulebook,
    *,
    count: int = 1000,
    bundle: str = "",
    root: Path | None = None,
    threshold: float = 0.3,
    blind: bool = False,
) -> int:
    """Writes open decisions, the least sure first, as tasks of Label Studio to `out` (.json), and the labelling
    configuration beside it (.xml). Returns the number of tasks.

    Args:
        root: folder that Label Studio serves local files from: pictures in it get addresses /data/local-files/?d=...;
            None: addresses are as they are, which serves for URLs.
        threshold, blind: see `agpis.label_studio.tasks`.

    Raises:
        SettingsError: `bad_out`, another suffix; `bad_root`, a picture lies outside of `root`.
        OutputError: the files cannot be written.
    """
    if out.suffix != ".json":
        raise SettingsError("bad_out", f"{out}: found the suffix {out.suffix!r}, allowed is .json.")
    found = list(islice(_open_decisions(store, bundle), count))
    rows = list(tasks(found, address=partial(_served, root), threshold=threshold, blind=blind))
    longest = max((len(row["data"]["images"]) for row in rows), default=rulebook.k)
    replace_file(out.with_suffix(".xml"), labelling_config(rulebook, longest).encode())
    replace_file(out, (json.dumps(rows, ensure_ascii=False, indent=1) + "\n").encode())
    return len(rows)


def _open_decisions(store: Store, bundle: str) -> Iterator[tuple[Decision, str]]:
    query, after = Query(bundle=bundle), None
    while page := store.find(query, after=after, limit=200):
        for listed in page:
            item = store.item(listed.id)
            yield item.decision, item.base
        after = page[-1].id


def _served(root: Path | None, location: str) -> str:
    if root is None or "://" in location:
        return location
    try:
        inside = Path(location).resolve().relative_to(root.resolve())
    except ValueError:
        raise SettingsError(
            "bad_root", f"{location} does not lie in {root}; give a folder that holds the pictures."
        ) from None
    return "/data/local-files/?d=" + quote(inside.as_posix())


# In ------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of the rows of a file."""

    added: Added
    bad: tuple[BadSample, ...]
    ignored: tuple[str, ...]
    """Columns that no field was taken from."""
    kept: Path | None
    """Where the bad rows are, with place and reason; None where there were none."""
    skipped: int = 0
    """Of Label Studio: annotations that were cancelled ..."""
    open: int = 0
    """... and tasks that nobody has annotated."""

    def __str__(self) -> str:
        lines = [f"{self.added.new} verdicts new, {self.added.known} known already, {len(self.bad)} rows bad"]
        if self.skipped or self.open:
            lines.append(f"{self.skipped} annotations cancelled, {self.open} tasks without one")
        if self.ignored:
            lines.append(f"columns not read: {', '.join(self.ignored)}")
        for code, count in Counter(bad.code for bad in self.bad).most_common():
            lines.append(f"  {count} {code}")
        lines += [f"  {bad.message}" for bad in self.bad[:NAMED]]
        if len(self.bad) > NAMED:
            lines.append(f"  and {len(self.bad) - NAMED} more")
        if self.kept is not None:
            lines.append(f"bad rows: {self.kept}")
        return "\n".join(lines)


def import_verdicts(
    path: Path,
    store: Store,
    *,
    columns: Mapping[str, str] | None = None,
    ignore: bool = False,
    base: str = "",
    reviewer: str = "",
    bad_rows: Path | None = None,
) -> Imported:
    """Puts the verdicts of a .csv, .jsonl or .parquet file into a store. Doing so again adds nothing.

    Args:
        columns: field of a verdict -> the file's column for it, where they differ.
        ignore: pass over columns that are no field; else they are refused, as a misspelt one would be lost.
        base: folder or URL that relative uris are relative to; "": what the row says, else the file's folder.
        reviewer: of rows that name none.
        bad_rows: where rows that are no verdicts are kept, one JSON object a line with `place`, `code`, `message` and
            `row`; None: the file's name with `.bad.jsonl`. Not written where there are none.

    Raises:
        SettingsError: `bad_columns`, a mapping that cannot be meant, or columns that are no field.
        TrainingError: `samples_not_found`, `samples_format`.
        OutputError: the bad rows cannot be kept; nothing is imported then.
    """
    reading = _Reading(path, dict(columns or {}), ignore, base or str(path.parent.resolve()), reviewer)
    # Twice over the file: bad rows are on the disk before anything is imported.
    bad = [(found, row) for found, row in reading.rows() if isinstance(found, BadSample)]
    kept = _keep(bad, bad_rows, path)
    added = store.import_verdicts(found for found, _ in reading.rows() if isinstance(found, Verdict))
    return Imported(added, tuple(one for one, _ in bad), tuple(sorted(reading.ignored)), kept)


def import_annotations(path: Path, store: Store, *, bad_rows: Path | None = None) -> Imported:
    """Puts the annotations of an export of Label Studio (JSON) into a store. Doing so again adds nothing.

    Args:
        bad_rows: as of `import_verdicts`; for tasks and annotations that give no verdict.

    Raises TrainingError (`samples_not_found`, `samples_format`) and OutputError.
    """
    found = read_annotations(path)
    kept = _keep([(bad, None) for bad in found.bad], bad_rows, path)
    return Imported(store.import_verdicts(found.verdicts), found.bad, (), kept, found.skipped, found.open)


def _keep(bad: Sequence[tuple[BadSample, Any]], to: Path | None, path: Path) -> Path | None:
    """Writes the bad rows down; returns where, None without any."""
    if not bad:
        return None
    lines = [json.dumps({**asdict(one), "row": row}, ensure_ascii=False, default=str) + "\n" for one, row in bad]
    to = to or path.with_name(path.name + ".bad.jsonl")
    replace_file(to, "".join(lines).encode(errors="backslashreplace"))
    return to


class _Reading:
    """The rows of a file as verdicts."""

    def __init__(self, path: Path, columns: dict[str, str], ignore: bool, base: str, reviewer: str) -> None:
        if foreign := sorted(set(columns) - set(FIELDS)):
            raise SettingsError(
                "bad_columns", f"no verdict has a field {', '.join(foreign)}; allowed are {', '.join(FIELDS)}."
            )
        self.path, self.ignore, self.base, self.reviewer = path, ignore, base, reviewer
        as_written = column if path.suffix == ".csv" else str
        self.columns = {as_written(theirs): ours for ours, theirs in columns.items()}
        if len(self.columns) < len(columns):
            raise SettingsError("bad_columns", "one column is named for two fields; name each once.")
        self.header = [columns.get(name, name) for name in HEADER]
        self.ignored: set[str] = set()

    def rows(self) -> Iterator[tuple[Verdict | BadSample, Any]]:
        """Each row's verdict, or why it is none, with the row as the file has it."""
        seen = False
        for place, row in read_rows(self.path, self.header):
            if isinstance(row, BadSample):
                yield row, None
                continue
            if not seen:
                seen = True
                self._check(row)
            yield self._verdict(place, row), row
        if not seen and not self.path.stat().st_size:
            raise TrainingError("samples_format", f"{self.path} is empty; it must hold at least one row.")

    def _check(self, row: Mapping[str, Any]) -> None:
        """That the header of a .csv has the columns that were named; rows of the others may leave out what is null."""
        missing = [theirs for theirs in self.columns if theirs not in row]
        if missing and self.path.suffix == ".csv":
            raise SettingsError(
                "bad_columns", f"{self.path} has no column {', '.join(missing)}; it has {', '.join(row)}."
            )

    def _verdict(self, place: str, row: Mapping[str, Any]) -> Verdict | BadSample:
        found = {field: row[theirs] for theirs, field in self.columns.items() if theirs in row}
        for name, value in row.items():
            if name in self.columns:
                continue
            if name in FIELDS and name not in found:
                found[name] = value
                continue
            if not self.ignore:
                raise SettingsError(
                    "bad_columns",
                    f"{place}: the column {name!r} is no field of a verdict, or one that another column is read for; "
                    f"say which it is (--column FIELD={name}) or pass over such columns (--ignore-others). Fields are "
                    f"{', '.join(FIELDS)}.",
                )
            self.ignored.add(name)
        verdict = verdict_of(typed(found), place=place, base=self.base)
        if isinstance(verdict, Verdict):
            if "\\u0000" in json.dumps(asdict(verdict)):
                return BadSample(place, "bad_field", f"{place}: found a NUL in a text, which no database holds")
            if not verdict.reviewer and self.reviewer:
                verdict = replace(verdict, reviewer=self.reviewer)
        return verdict
