"""WooCommerce product CSV: `Images` is a comma-separated list, the first is the main image, the rest the gallery.

A row of type `variation` carries its own single image; it is no product and stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from agpis.catalogue import files
from agpis.catalogue.csv_text import Row, Table, unquote
from agpis.catalogue.parts import Arrangement, Decisions, Part, broken, distinct, read_parts, unique, write_parts
from agpis.data import Decision, Image, Product

# WooCommerce's importer takes a comma behind a backslash as part of the address (explode_values).
_COMMA = re.compile(r"\s*(?<!\\),\s*")


def is_header(columns: Sequence[str]) -> bool:
    """Whether the (normalised) columns are WooCommerce's."""
    return "images" in columns and "type" in columns and ("sku" in columns or "id" in columns)


def read(source: str, base: str | None = None) -> Iterator[Product]:
    """The products; sku is `SKU`, else `id:` and the ID. Raises CatalogueError."""
    return read_parts(parts(source, base))


def write(
    source: str, decisions: Iterable[Decision], out: str, *, only_sequence: bool = False, partial: bool = False
) -> None:
    """Writes the CSV with new `Images` cells. Raises CatalogueError, OutputError."""
    write_parts(parts(source), Decisions(decisions, only_sequence=only_sequence, partial=partial), out)


def parts(source: str, base: str | None = None) -> Iterator[Part]:
    """The file, one part a row."""
    return unique(_rows(source, base))


@dataclass(frozen=True, slots=True)
class _Columns:
    table: Table
    base: str
    sku: int | None
    number: int | None
    kind: int | None
    title: int | None
    category: int | None
    images: int


def _rows(source: str, base: str | None) -> Iterator[Part]:
    table = Table(source, is_header, "`Images`, `Type` and `SKU` or `ID`")
    images = table.index("images")
    assert images is not None  # by is_header
    columns = _Columns(
        table=table,
        base=files.folder_of(source) if base is None else base,
        sku=table.index("sku"),
        number=table.index("id"),
        kind=table.index("type"),
        title=table.index("name"),
        category=table.index("categories"),
        images=images,
    )
    head, rows = table.head_and_rows()
    yield Part(lambda: head)
    for row in rows:
        yield _part(columns, row)


def _part(columns: _Columns, row: Row) -> Part:
    table = columns.table
    part = Part(lambda: table.raw([row]), place=row.place)
    if row.blank:
        return part
    if row.error is not None:
        part.product = Product(sku=row.place, title="", error=row.error)
        return part

    def cell(index: int | None) -> str:
        return "" if index is None else table.value(row.cells[index])

    try:
        if "variation" in re.split(r"\s*,\s*", cell(columns.kind).lower()):
            return part
        number = cell(columns.number)
        sku = cell(columns.sku) or (f"id:{number}" if number else "")
        tokens = [token for token in _COMMA.split(unquote(row.cells[columns.images]).strip()) if token]
        uris = [table.value(token).replace("\\,", ",") for token in tokens]
        title, category = cell(columns.title), cell(columns.category)
    except UnicodeError:
        part.product = broken(row.place, "bad_encoding", "bytes that are no text in this file's encoding")
        return part
    if not sku:
        part.product = broken(row.place, "missing_sku", "the row has neither SKU nor ID")
        return part
    images = distinct(Image(uri, columns.base) for uri in uris)
    part.product = Product(sku=sku, title=title, category=category, images=images)

    def rewrite(arrangement: Arrangement) -> bytes:
        token_of = dict(zip(reversed(uris), reversed(tokens), strict=True))
        comma = _COMMA.search(unquote(row.cells[columns.images]).strip())
        cells = list(row.cells)
        joined = (comma.group() if comma else ", ").join(token_of[images[index].uri] for index in arrangement.order)
        table.put(cells, columns.images, joined)
        return table.raw([Row(row.line, cells, row.end)])

    part.rewrite = rewrite
    return part
