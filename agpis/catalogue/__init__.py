"""Catalogues in and out: what a shop exports, read as products and written back with another order of images.

`read` streams products, `write` merges decisions into a copy of the source that differs in image columns only,
`guess` names the format by the content. docs/catalogues.md says what each format reads and changes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from agpis.catalogue import amazon, files, folder, google_merchant, jsonl, magento, parquet, shopify, woocommerce
from agpis.catalogue.csv_text import DELIMITERS, IsHeader, Table
from agpis.catalogue.parts import CODES, Decisions, Part, read_parts, write_parts
from agpis.data import Decision, Product
from agpis.errors import CatalogueError

__all__ = ["CODES", "FORMATS", "Format", "guess", "read", "write"]

_HEAD = 1 << 16  # bytes looked at for the format


class Writer(Protocol):
    """The signature of a format's `write`."""

    def __call__(
        self,
        source: str,
        decisions: Iterable[Decision],
        out: str,
        *,
        only_sequence: bool = False,
        partial: bool = False,
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class Format:
    """One catalogue format."""

    read: Callable[[str, str | None], Iterator[Product]]
    write: Writer
    says: str
    """What it is, for messages."""
    is_header: IsHeader | None = None
    """For separated text: whether column names are this format's."""


def _of_parts(
    parts: Callable[[str, str | None], Iterator[Part]], says: str, is_header: IsHeader | None = None
) -> Format:
    """A format whose file is a row of parts, of which the products' image cells alone are rewritten."""

    def read(source: str, base: str | None) -> Iterator[Product]:
        return read_parts(parts(source, base))

    def write(
        source: str, decisions: Iterable[Decision], out: str, *, only_sequence: bool = False, partial: bool = False
    ) -> None:
        write_parts(parts(source, None), Decisions(decisions, only_sequence=only_sequence, partial=partial), out)

    return Format(read, write, says, is_header)


FORMATS: dict[str, Format] = {
    "folder": Format(folder.read, folder.write, "a folder with a sub-folder a product"),
    "jsonl": _of_parts(jsonl.parts, "JSON Lines with `sku` and `images`"),
    "parquet": Format(parquet.read, parquet.write, "Parquet with `sku` and `images`"),
    "shopify": _of_parts(shopify.parts, "CSV with `Handle` and `Image Src`", shopify.is_header),
    "amazon": _of_parts(amazon.parts, "flat file with `item_sku`, or listings JSON", amazon.is_header),
    "google_merchant": _of_parts(
        google_merchant.parts, "text or XML with `id` and `image_link`", google_merchant.is_header
    ),
    "magento": _of_parts(magento.parts, "CSV with `sku` and `base_image`", magento.is_header),
    "woocommerce": _of_parts(woocommerce.parts, "CSV with `SKU` and `Images`", woocommerce.is_header),
}
"""Every format by its name."""


def read(source: str | Path, format: str | None = None, *, base: str | None = None) -> Iterator[Product]:
    """The products of a catalogue, streamed in its order; memory does not grow with it.

    `source`: path, file URL, http(s), s3 or gs. `format`: a key of FORMATS, by default guessed from the content.
    `base`: folder or URL that relative image addresses are relative to, by default where the catalogue lies.
    A line that cannot be read is a product with `error` and, where the sku is not known, its place ("line 17") as sku.
    Raises CatalogueError when the whole cannot be read; see `CODES`.
    """
    name = os.fspath(source)
    return _format(name, format).read(name, base)


def write(
    source: str | Path,
    decisions: Iterable[Decision],
    out: str | Path,
    *,
    format: str | None = None,
    only_sequence: bool = False,
    partial: bool = False,
) -> None:
    """Writes `source` to `out` with the images in the order of the decisions; every other byte stays.

    `decisions`: one a product that `read` gives, in that order, streamed. The sequence comes first, spare images
    follow in their old order (not with `only_sequence`), images with outcome `removed` are left out. A product whose
    decision is not `generated` stays as it was. `partial`: decisions may end early, what is behind stays as it was.
    `out` is written under a temporary name and renamed last; it may be `source` itself.
    Raises CatalogueError (`decision_mismatch`, `decisions_missing`, `decisions_surplus` among others) and OutputError.
    """
    name = os.fspath(source)
    chosen = _format(name, format)
    chosen.write(name, decisions, os.fspath(out), only_sequence=only_sequence, partial=partial)


def guess(source: str | Path) -> str:
    """The name of the source's format, by its content. Raises CatalogueError naming what was found."""
    name = os.fspath(source)
    if files.is_folder(name):
        return "folder"
    head = files.head(name, _HEAD)
    if not head.strip(b"\xef\xbb\xbf\xff\xfe \t\r\n\0"):
        raise CatalogueError("empty_catalogue", f"{name} is empty; a catalogue holds at least one product")
    if head.startswith(parquet.MAGIC):
        return "parquet"
    if head.startswith((b"\x1f\x8b", b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        kind = "gzip" if head.startswith(b"\x1f\x8b") else "a zip archive or an Excel workbook"
        raise CatalogueError("compressed", f"{name} is {kind}; unpack it, or save the sheet as CSV (UTF-8)")
    if google_merchant.is_xml(head):
        return "google_merchant"
    return _guess_json(name, head) or _guess_table(name)


def _guess_json(name: str, head: bytes) -> str | None:
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"["):
        raise CatalogueError(
            "unknown_format", f"{name} is one JSON array; write one product a line (JSON Lines), without the brackets"
        )
    lines = [line for line in text.split(b"\n")[:20] if line.lstrip().startswith(b"{")]
    if not text.startswith(b"{") and not lines:
        return None
    if _parsed(lines[0]) is None and b'"messages"' in text:
        return "amazon"  # a listings feed that is spread over lines, or longer than what was looked at
    first = next((value for value in map(_parsed, lines) if value is not None), None)
    return "amazon" if amazon.is_listing(first) else "jsonl"


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _guess_table(name: str) -> str:
    tables = {key: each.is_header for key, each in FORMATS.items() if each.is_header is not None}
    matched: list[str] = []

    def is_header(columns: Any) -> bool:
        matched[:] = [key for key, test in tables.items() if test(columns)]
        return bool(matched)

    try:
        Table(name, is_header, "the columns of a known format")
    except CatalogueError as error:
        if error.code != "missing_column":
            raise
        known = "; ".join(f"{key}: {each.says}" for key, each in FORMATS.items())
        separators = ", ".join(map(repr, DELIMITERS))
        raise CatalogueError(
            "unknown_format", f"{error.message}. Formats: {known}. Separators: {separators}. Or name the format"
        ) from error
    return matched[0]


def _format(name: str, format: str | None) -> Format:
    chosen = guess(name) if format is None else format
    if chosen not in FORMATS:
        raise CatalogueError("unknown_format", f"there is no format {chosen!r}; allowed are {', '.join(FORMATS)}")
    return FORMATS[chosen]
