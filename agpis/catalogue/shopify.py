"""Shopify product CSV, current and legacy headers.

Rows of one product follow each other and share the handle. The first describes the product; the others add a
variant, an image or both. Image position 1 is the main image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial as bound

from agpis.catalogue import files
from agpis.catalogue.csv_text import Row, Table, unquote
from agpis.catalogue.parts import Arrangement, Part, broken, distinct, unique
from agpis.data import ErrorInfo, Image, Product

HANDLE = ("url handle", "handle")
SOURCE = ("product image url", "image src")
CATEGORY = ("product category", "type", "custom product type", "standardized product type")
ROW_LIMIT = 20_000
"""Rows of one product; Shopify allows 2,048 variants and 250 images."""


def is_header(columns: Sequence[str]) -> bool:
    """Whether the (normalised) columns are Shopify's."""
    return any(name in columns for name in HANDLE) and any(name in columns for name in SOURCE)


def parts(source: str, base: str | None = None) -> Iterator[Part]:
    """The file, one part a product; sku is the handle. Raises CatalogueError."""
    advice = "rows of one product must follow each other: sort the file by handle, or export it anew"
    return unique(_groups(_Columns.of(source, base)), "handle_not_contiguous", advice)


@dataclass(frozen=True, slots=True)
class _Slot:
    """An image as it stands in the rows of a product."""

    row: int
    uri: str
    source: str
    """Carrier text of the URL."""
    alt: str
    """Carrier text of the alternative text."""


@dataclass(frozen=True, slots=True)
class _Columns:
    table: Table
    base: str
    handle: int
    source: int
    title: int | None
    category: tuple[int, ...]
    position: int | None
    alt: int | None
    variant: int | None

    @classmethod
    def of(cls, source: str, base: str | None) -> _Columns:
        table = Table(source, is_header, "`URL handle` and `Product image URL` (or `Handle` and `Image Src`)")
        handle, image = table.index(*HANDLE), table.index(*SOURCE)
        assert handle is not None  # by is_header
        assert image is not None
        return cls(
            table=table,
            base=files.folder_of(source) if base is None else base,
            handle=handle,
            source=image,
            title=table.index("title"),
            category=tuple(index for name in CATEGORY if (index := table.index(name)) is not None),
            position=table.index("image position"),
            alt=table.index("image alt text"),
            variant=table.index("variant image url", "variant image"),
        )


def _groups(columns: _Columns) -> Iterator[Part]:
    table = columns.table
    head, rows = table.head_and_rows()
    yield Part(lambda: head)
    group: list[Row] = []
    handle = ""
    overfull = False
    for row in rows:
        if row.blank:
            if group:
                yield _part(columns, handle, group)
            group, handle = [], ""
            yield Part(bound(table.raw, [row]))
            continue
        own = unquote(row.cells[columns.handle]).strip() if columns.handle < len(row.cells) else ""
        if own and own == handle:
            if len(group) < ROW_LIMIT:
                group.append(row)
                continue
            if not overfull:
                overfull = True
                yield _overfull(columns, handle, group)
            yield Part(bound(table.raw, [row]))
            continue
        if group and not overfull:
            yield _part(columns, handle, group)
        group, handle, overfull = [row], own, False
        if not own:
            error = row.error or ErrorInfo("missing_sku", f"{row.place}: the row has no handle")
            product = Product(sku=row.place, title="", error=error)
            yield Part(bound(table.raw, [row]), product, row.place)
            group, handle = [], ""
    if group and not overfull:
        yield _part(columns, handle, group)


def _overfull(columns: _Columns, handle: str, group: list[Row]) -> Part:
    place = group[0].place
    message = f"more than {ROW_LIMIT:,} rows of the handle {handle!r}; Shopify allows 2,048 variants and 250 images"
    return Part(lambda: columns.table.raw(group), broken(place, "too_many_rows", message), place)


def _part(columns: _Columns, handle: str, group: list[Row]) -> Part:
    product, slots = _product(columns, group)
    return Part(
        raw=lambda: columns.table.raw(group),
        product=product,
        place=group[0].place,
        rewrite=lambda arrangement: columns.table.raw(_rewritten(columns, group, product, slots, arrangement)),
    )


def _product(columns: _Columns, group: list[Row]) -> tuple[Product, list[_Slot]]:
    table, place = columns.table, group[0].place
    bad = next((row.error for row in group if row.error is not None), None)
    try:
        sku = table.value(group[0].cells[columns.handle])
        if bad is not None:  # the handle of a row with shifted cells is believed when a sound row has the same
            sound = any(row.error is None for row in group)
            return Product(sku=sku if sound else place, title="", error=bad), []
        title = _first_value(table, group, columns.title)
        category = next(filter(None, (_first_value(table, group, index) for index in columns.category)), "")
        slots = _slots(columns, group)
        alts = [table.value(slot.alt) for slot in slots]
    except UnicodeError:
        return broken(place, "bad_encoding", "bytes that are no text in this file's encoding; save it as UTF-8"), []
    except _PositionError as error:
        return broken(place, "bad_position", str(error), sku=sku), []
    images = (Image(slot.uri, columns.base, alt) for slot, alt in zip(slots, alts, strict=True))
    return Product(sku=sku, title=title, category=category, images=distinct(list(images))), slots


class _PositionError(ValueError):
    """An image position that is no number."""


def _slots(columns: _Columns, group: list[Row]) -> list[_Slot]:
    """Images in position order; those without position behind, in file order."""
    found: list[tuple[float, _Slot]] = []
    for number, row in enumerate(group):
        uri = columns.table.value(row.cells[columns.source])
        if not uri:
            continue
        position = float("inf")
        text = columns.table.value(row.cells[columns.position]) if columns.position is not None else ""
        if text:
            try:
                position = int(float(text))  # "1.0" is what spreadsheets make of 1
            except (ValueError, OverflowError):
                raise _PositionError(
                    f"the image position in {row.place} is {text!r}; it must be a whole number from 1"
                ) from None
        alt = row.cells[columns.alt] if columns.alt is not None else ""
        found.append((position, _Slot(number, uri, unquote(row.cells[columns.source]), alt)))
    return [slot for _, slot in sorted(found, key=lambda pair: pair[0])]


def _first_value(table: Table, group: list[Row], index: int | None) -> str:
    if index is None:
        return ""
    return next(filter(None, (table.value(row.cells[index]) for row in group)), "")


def _rewritten(
    columns: _Columns, group: list[Row], product: Product, slots: list[_Slot], arrangement: Arrangement
) -> list[Row]:
    """The rows with the new gallery: image i+1 in the i-th row kept for images, positions 1..n.

    Rows that only carried an image are the first to go when there are fewer images than rows with one.
    """
    table = columns.table
    first = {slot.uri: slot for slot in reversed(slots)}
    gallery = [first[product.images[index].uri] for index in arrangement.order]
    carriers = sorted(slot.row for slot in slots)
    surplus = len(carriers) - len(gallery)
    by_need = sorted(carriers, key=lambda number: (not _only_image(columns, group, number), -number))
    vacated = set(by_need[:surplus])
    kept = iter(enumerate(gallery, start=1))
    rows: list[Row] = []
    for number, row in enumerate(group):
        cells = list(row.cells)
        if number in vacated:
            if _only_image(columns, group, number):
                continue
            for index in (columns.source, columns.position, columns.alt):
                table.put(cells, index, "")
        elif number in carriers:
            position, slot = next(kept)
            table.put(cells, columns.source, slot.source)
            table.put(cells, columns.position, str(position))
            table.put(cells, columns.alt, unquote(slot.alt))
        _mend_variant(columns, cells, first, arrangement)
        rows.append(Row(row.line, cells, row.end))
    rows[-1].end = group[-1].end  # a file without a last line end stays without
    return rows


def _only_image(columns: _Columns, group: list[Row], number: int) -> bool:
    """Whether the row is there for its image alone."""
    own = {columns.handle, columns.source, columns.position, columns.alt, columns.title}
    return number > 0 and not any(
        unquote(cell).strip() for index, cell in enumerate(group[number].cells) if index not in own
    )


def _mend_variant(columns: _Columns, cells: list[str], slots: dict[str, _Slot], arrangement: Arrangement) -> None:
    """Shopify adds a variant's image to the gallery: one that was removed would come back. It gives way to the
    image that it duplicates, or to none (the variant then shows the main image)."""
    if columns.variant is None:
        return
    try:
        uri = columns.table.value(cells[columns.variant])
    except UnicodeError:
        return
    if uri in arrangement.removed:
        kept = arrangement.removed[uri]
        stays = kept is not None and kept in slots and kept not in arrangement.removed
        columns.table.put(cells, columns.variant, slots[kept].source if stays and kept is not None else "")
