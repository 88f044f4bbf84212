"""A catalogue as a stream of parts: the bytes between products, and products that can write themselves anew.

A text format says only how its file falls into parts (`parts(source)`); reading takes the products out of them,
writing is a merge of the parts with the decisions. Nothing is ever held but the part in hand.
"""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from agpis.catalogue import files
from agpis.catalogue.csv_text import Row, Table
from agpis.data import Decision, ErrorInfo, Image, Product
from agpis.errors import CatalogueError

CODES: dict[str, str] = {
    # the catalogue as a whole: CatalogueError
    "source_not_found": "The source does not exist.",
    "source_unreadable": "The source exists and cannot be read: no right, a server error, a broken connection.",
    "source_protocol": "The address has a protocol that AGPIS does not speak.",
    "empty_catalogue": "The source holds nothing.",
    "compressed": "The source is a gzip or zip archive, or an Excel workbook.",
    "unknown_format": "The content is none of the formats, or the format named is none.",
    "missing_column": "A column (or XML element) without which the format cannot be read is absent.",
    "bad_parquet": "The Parquet file is damaged, or a column has an unusable type.",
    "no_scratch": "The temporary folder is full or read-only (needed above about 500,000 products).",
    "decision_mismatch": "A decision does not belong to the product in hand: other sku, or an image it does not have.",
    "decisions_missing": "There are fewer decisions than products.",
    "decisions_surplus": "There are more decisions than products.",
    # one product: Product.error
    "missing_sku": "The line has no sku (handle, id).",
    "missing_images": "The line has no field `images`.",
    "wrong_type": "A field is of another type than the format asks for.",
    "invalid_json": "The line, or product.json, is not a JSON object.",
    "wrong_field_count": "The line has more or fewer fields than the header.",
    "unclosed_quote": "A quoted field is never closed.",
    "bad_position": "An image position is no whole number.",
    "duplicate_sku": "The sku stands earlier in the same catalogue.",
    "handle_not_contiguous": "Rows of a handle that already ended: rows of one product must follow each other.",
    "too_many_rows": "More rows of one product than any shop allows.",
    # either
    "bad_encoding": "Bytes that are no text in the file's encoding.",
    "bad_xml": "The XML is not well-formed from here on, or declares entities.",
}
"""Every code that reading or writing a catalogue can give, with what it means. Shown in docs/catalogues.md."""

_SEEN_CACHE = 32 * 1024  # KiB that sqlite may keep in memory; what is more goes to its temporary file


@dataclass(frozen=True, slots=True)
class Arrangement:
    """The new gallery of one product."""

    order: tuple[int, ...]
    """Positions in `Product.images`, in the new order; what is absent is left out."""
    removed: dict[str, str | None] = field(default_factory=dict)
    """Uri of each image with outcome `removed`: uri of the kept image that it duplicates, or None."""


@dataclass(slots=True)
class Part:
    """A piece of the file. Without a product it is copied as it is."""

    raw: Callable[[], bytes]
    """The bytes of the source."""
    product: Product | None = None
    place: str = ""
    """Where it stands: "line 17"."""
    rewrite: Callable[[Arrangement], bytes] | None = None
    """The bytes with another gallery."""


@dataclass(frozen=True, slots=True)
class RowProduct:
    """What a row of separated text says of its product."""

    sku: str
    """"" where the row has none."""
    title: str
    category: str
    images: tuple[Image, ...]
    cells: Callable[[Arrangement], list[str]]
    """Carrier text of the row's cells with another gallery."""


def row_parts(table: Table, read: Callable[[Row], RowProduct | None], no_sku: str) -> Iterator[Part]:
    """A file of separated text in which each row is a product: the bytes up to the header, then one part a row.

    `read` gives what a sound row says, None where it is no product, and may raise UnicodeError; `no_sku` is what is
    said of a row without a sku.
    """
    head, rows = table.head_and_rows()
    yield Part(lambda: head)
    for row in rows:
        yield _row_part(table, row, read, no_sku)


def _row_part(table: Table, row: Row, read: Callable[[Row], RowProduct | None], no_sku: str) -> Part:
    part = Part(lambda: table.raw([row]), place=row.place)
    if row.blank:
        return part
    if row.error is not None:
        part.product = Product(sku=row.place, title="", error=row.error)
        return part
    try:
        found = read(row)
    except UnicodeError:
        part.product = broken(row.place, "bad_encoding", "bytes that are no text in this file's encoding")
        return part
    if found is None:
        return part
    if not found.sku:
        part.product = broken(row.place, "missing_sku", no_sku)
        return part
    part.product = Product(sku=found.sku, title=found.title, category=found.category, images=found.images)
    part.rewrite = lambda arrangement: table.raw([Row(row.line, found.cells(arrangement), row.end)])
    return part


def broken(place: str, code: str, message: str, *, sku: str = "") -> Product:
    """A product that could not be read; its place stands in for a sku that is not known."""
    return Product(sku=sku or place, title="", error=ErrorInfo(code, f"{place}: {message}"))


def distinct(images: Iterable[Image]) -> tuple[Image, ...]:
    """Each uri once, at its first place."""
    first: dict[str, Image] = {}
    for image in images:
        first.setdefault(image.uri, image)
    return tuple(first.values())


def read_parts(parts: Iterable[Part]) -> Iterator[Product]:
    """The products of the parts, in order."""
    for part in parts:
        if part.product is not None:
            yield part.product


def write_parts(parts: Iterable[Part], decisions: Decisions, out: str) -> None:
    """Merges parts with decisions into the file `out`. Raises CatalogueError, OutputError."""
    with files.replacing(out) as sink:
        for part in parts:
            arrangement = decisions.arrangement(part.product) if part.product is not None else None
            sink.write(part.raw() if arrangement is None or part.rewrite is None else part.rewrite(arrangement))
        decisions.finish()


class Decisions:
    """The decisions, taken one for one with the products of the catalogue."""

    def __init__(self, decisions: Iterable[Decision], *, only_sequence: bool = False, partial: bool = False) -> None:
        self._decisions = iter(decisions)
        self._only_sequence = only_sequence
        self._partial = partial
        self._taken = 0

    def arrangement(self, product: Product) -> Arrangement | None:
        """What the next decision makes of `product`, None when it stays as it is.

        Raises CatalogueError `decision_mismatch` or `decisions_missing`.
        """
        decision = next(self._decisions, None)
        if decision is None:
            if self._partial:
                return None
            raise CatalogueError(
                "decisions_missing",
                f"there are {self._taken} decisions, and the catalogue goes on with {product.sku!r}; "
                "give one decision a product, or partial=True to leave the others as they are",
            )
        self._taken += 1
        if decision.sku != product.sku:
            raise CatalogueError(
                "decision_mismatch",
                f"decision {self._taken} is for {decision.sku!r}, the catalogue has {product.sku!r} there; "
                "decisions must come in the order of the catalogue that they were made from",
            )
        return arrange(product, decision, only_sequence=self._only_sequence)

    def finish(self) -> None:
        """Raises CatalogueError `decisions_surplus` when decisions are left."""
        left = next(self._decisions, None)
        if left is not None:
            raise CatalogueError(
                "decisions_surplus",
                f"the catalogue ends after {self._taken} products, and a decision for {left.sku!r} is left; "
                "give one decision a product",
            )


def arrange(product: Product, decision: Decision, *, only_sequence: bool = False) -> Arrangement | None:
    """The sequence, then the spare images in their old order; None when the product stays as it is.

    It stays when the decision is not `generated` or has no sequence, and when the order is the one it has.
    Raises CatalogueError `decision_mismatch` when the sequence names an image that the product does not have.
    """
    if product.error is not None or decision.status != "generated" or not decision.sequence:
        return None
    position = {image.uri: index for index, image in enumerate(product.images)}
    unknown = [uri for uri in decision.sequence if uri not in position]
    if unknown:
        raise CatalogueError(
            "decision_mismatch",
            f"the decision for {product.sku!r} names the image {unknown[0]!r}; the catalogue has "
            f"{', '.join(map(repr, position)) or 'none'}; use decisions made from this catalogue",
        )
    chosen = list(dict.fromkeys(decision.sequence))
    removed = {
        candidate.uri: candidate.duplicate_of
        for candidate in decision.candidates
        if candidate.outcome == "removed" and candidate.uri not in chosen
    }
    spare = [] if only_sequence else [uri for uri in position if uri not in chosen and uri not in removed]
    order = tuple(position[uri] for uri in (*chosen, *spare))
    return None if order == tuple(range(len(product.images))) else Arrangement(order, removed)


def unique(
    parts: Iterable[Part], code: str = "duplicate_sku", advice: str = "give each product its own"
) -> Iterator[Part]:
    """Passes the parts on; a product whose sku came before gets an error and its place behind the sku.

    Memory is constant: what was seen lies in a temporary database of 128-bit hashes, on disk once it is large.
    """
    with contextlib.closing(_Seen()) as seen:
        for part in parts:
            product = part.product
            if product is not None and product.sku != part.place:
                first = seen.first(product.sku, part.place)
                if first is not None:
                    message = f"{part.place}: {product.sku!r} stands already at {first}; {advice}"
                    error = product.error or ErrorInfo(code, message)
                    part.product = replace(product, sku=f"{product.sku} ({part.place})", error=error)
            yield part


class _Seen:
    """Keys seen so far, with the place of the first."""

    def __init__(self) -> None:
        # "" is sqlite's name for a temporary database: in memory while small, in a deleted file when not.
        # The reader may be handed from one thread to another, never used by two at once.
        self._db = sqlite3.connect("", check_same_thread=False, isolation_level=None)
        self._db.execute(f"PRAGMA cache_size=-{_SEEN_CACHE}")
        self._db.execute("PRAGMA journal_mode=OFF")
        self._db.execute("PRAGMA synchronous=OFF")
        self._db.execute("CREATE TABLE seen (key BLOB PRIMARY KEY, place TEXT) WITHOUT ROWID")
        self._db.execute("BEGIN")

    def first(self, key: str, place: str) -> str | None:
        """The place where `key` was first given, None when that is now."""
        digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        try:
            if self._db.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (digest, place)).rowcount:
                return None
        except sqlite3.Error as error:
            raise CatalogueError(
                "no_scratch",
                f"the skus seen so far cannot be kept in a temporary file: {error}; "
                "free some space, or name another folder in SQLITE_TMPDIR",
            ) from error
        row: Any = self._db.execute("SELECT place FROM seen WHERE key = ?", (digest,)).fetchone()
        return str(row[0])

    def close(self) -> None:
        self._db.close()
