"""Verdicts in a spreadsheet: a cell's text to the type that the field has, and back. See docs/samples.md.

A list is its items with `|` between them, or a JSON list; a box is `x,y,w,h`; accepted is one of WORDS. A cell that
cannot be read stays the text that it is, and `agpis.verdicts.verdict_of` then says what is wrong with it.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from agpis.catalogue.csv_text import Table, column
from agpis.errors import CatalogueError, TrainingError

LISTS = ("sequence", "candidates", "rules", "corrected")
WORDS: dict[str, bool] = {
    **dict.fromkeys(("true", "yes", "1", "accepted", "accept", "approved", "ok"), True),
    **dict.fromkeys(("false", "no", "0", "rejected", "reject", "refused"), False),
}
"""What a cell of `accepted` may say, letter case ignored."""
BETWEEN = "|"


def read_cells(path: Path, header: Sequence[str]) -> Iterator[tuple[int, dict[str, str] | str]]:
    """Line and cells by column name (as `column` writes it) of a separated text file; why a bad row is one.

    The delimiter (comma, semicolon, tab, |) and the encoding are found from the file. Raises TrainingError
    `samples_format` where no line has the columns `header`.
    """
    wanted = {column(name) for name in header}
    try:
        table = Table(str(path), lambda names: wanted <= set(names), "the columns " + ", ".join(header))
        for row in table.head_and_rows()[1]:
            if row.blank:
                continue
            if row.error is not None:
                yield row.line, row.error.message
                continue
            try:
                values = [table.value(cell) for cell in row.cells]
            except UnicodeError:
                yield row.line, "a cell holds bytes that are no text in the file's encoding"
                continue
            yield row.line, dict(zip(table.columns, values, strict=False))
    except CatalogueError as error:
        raise TrainingError("samples_format", f"{path}: {error.message}") from error


def typed(row: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a verdict from texts; empty cells are left out, but for the title, which may be empty."""
    found: dict[str, Any] = {}
    for name, value in row.items():
        if not isinstance(value, str):
            found[name] = value
        elif value.strip() or name == "title":
            found[name] = _typed(name, value.strip())
    return found


def _typed(name: str, text: str) -> Any:
    try:
        if name in LISTS:
            return json.loads(text) if text.startswith("[") else [part.strip() for part in text.split(BETWEEN)]
        if name == "accepted":
            return WORDS.get(text.casefold(), text)
        if name == "image_index":
            return int(text)
        if name == "p_qualified":
            return float(text)
        if name == "box":
            return json.loads(text) if text.startswith("{") else dict(zip("xywh", _four(text), strict=True))
    except ValueError:
        pass
    return text


def _four(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def csv_text(rows: Iterable[dict[str, Any]], columns: Sequence[str]) -> str:
    """A header line and the rows as CSV; `typed` reads every cell back as it was."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_cell(row.get(name)) for name in columns])
    return file.getvalue()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        plain = all(item and item == item.strip() and BETWEEN not in item for item in value)
        plain = plain and not (value and value[0].startswith("["))
        return BETWEEN.join(value) if plain else json.dumps(list(value), ensure_ascii=False)
    if isinstance(value, dict):
        return ",".join(str(value[key]) for key in "xywh")
    return str(value)
