"""WooCommerce product CSV: `Images` is a comma-separated list, the first is the main image, the rest the gallery.

A row of type `variation` carries its own single image; it is no product and stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial as bound

from agpis.catalogue import files
from agpis.catalogue.csv_text import Row, Table, unquote
from agpis.catalogue.parts import (
    Arrangement,
    Part,
    RowProduct,
    distinct,
    row_parts,
    unique,
)
from agpis.data import Image

# WooCommerce's importer takes a comma behind a backslash as part of the address (explode_values).
_COMMA = re.compile(r"\s*(?<!\\),\s*")


def is_header(columns: Sequence[str]) -> bool:
    """Whether the (normalised) columns are WooCommerce's."""
    return "images" in columns and "type" in columns and ("sku" in columns or "id" in columns)


def parts(source: str, base: str | None = None) -> Iterator[Part]:
    """The file, one part a row; sku is `SKU`, else `id:` and the ID. Raises CatalogueError."""
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
    return row_parts(table, bound(_row_product, columns), "the row has neither SKU nor ID")


def _row_product(columns: _Columns, row: Row) -> RowProduct | None:
    table = columns.table

    def cell(index: int | None) -> str:
        return "" if index is None else table.value(row.cells[index])

    if "variation" in re.split(r"\s*,\s*", cell(columns.kind).lower()):
        return None
    number = cell(columns.number)
    tokens = [token for token in _COMMA.split(unquote(row.cells[columns.images]).strip()) if token]
    uris = [table.value(token).replace("\\,", ",") for token in tokens]
    images = distinct(Image(uri, columns.base) for uri in uris)

    def rewritten(arrangement: Arrangement) -> list[str]:
        token_of = dict(zip(reversed(uris), reversed(tokens), strict=True))
        comma = _COMMA.search(unquote(row.cells[columns.images]).strip())
        cells = list(row.cells)
        joined = (comma.group() if comma else ", ").join(token_of[images[index].uri] for index in arrangement.order)
        table.put(cells, columns.images, joined)
        return cells

    return RowProduct(
        sku=cell(columns.sku) or (f"id:{number}" if number else ""),
        title=cell(columns.title),
        category=cell(columns.category),
        images=images,
        cells=rewritten,
    )
