"""Google Merchant Center product feed: text (TSV, CSV) and XML (RSS 2.0, Atom).

`image_link` is the main image, `additional_image_link` the others: in text one cell with commas between (a comma
inside a URL is written %2C) or several columns of that name, in XML one element each. `lifestyle_image_link` is
another matter and stays as it is.
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
    broken,
    distinct,
    row_parts,
    unique,
)
from agpis.catalogue.xml_text import Field, Item, Items, XmlError, tag_end
from agpis.data import Image, Product
from agpis.errors import CatalogueError

MAIN = "image_link"
MORE = "additional_image_link"
CATEGORY = ("product_type", "google_product_category")
ITEMS = ("item", "entry")
_COPY = 1 << 16  # bytes


def is_header(columns: Sequence[str]) -> bool:
    """Whether the (normalised) columns are Google's; `image link` is how spreadsheets write `image_link`."""
    names = {_name(column) for column in columns}
    return "id" in names and MAIN in names


def is_xml(head: bytes) -> bool:
    """Whether the first bytes of a file are XML."""
    text = head.removeprefix(b"\xef\xbb\xbf").removeprefix(b"\xff\xfe").removeprefix(b"\xfe\xff").replace(b"\0", b"")
    return text.lstrip().startswith(b"<")


def parts(source: str, base: str | None = None) -> Iterator[Part]:
    """The feed, one part a product; sku is `id`. Raises CatalogueError."""
    folder = files.folder_of(source) if base is None else base
    return unique(_items(source, folder) if is_xml(files.head(source, 256)) else _rows(source, folder))


def _name(column: str) -> str:
    return column.removeprefix("g:").replace(" ", "_")


# --- text -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Columns:
    table: Table
    base: str
    sku: int
    title: int | None
    category: tuple[int, ...]
    main: int
    more: tuple[int, ...]


def _rows(source: str, base: str) -> Iterator[Part]:
    table = Table(source, is_header, "`id` and `image_link`")
    names = [_name(column) for column in table.columns]
    columns = _Columns(
        table=table,
        base=base,
        sku=names.index("id"),
        title=names.index("title") if "title" in names else None,
        category=tuple(names.index(name) for name in CATEGORY if name in names),
        main=names.index(MAIN),
        more=tuple(index for index, name in enumerate(names) if name == MORE),
    )
    return row_parts(table, bound(_row_product, columns), "the row has no id")


def _row_product(columns: _Columns, row: Row) -> RowProduct:
    table = columns.table
    tokens = [unquote(row.cells[columns.main]).strip()]
    for index in columns.more:
        tokens += re.split(r"\s*,\s*", unquote(row.cells[index]).strip())
    tokens = [token for token in tokens if token]
    uris = [table.value(token) for token in tokens]
    images = distinct(Image(uri, columns.base) for uri in uris)

    def rewritten(arrangement: Arrangement) -> list[str]:
        token_of = dict(zip(reversed(uris), reversed(tokens), strict=True))
        return _rewritten_cells(columns, row, [token_of[images[index].uri] for index in arrangement.order])

    return RowProduct(
        sku=table.value(row.cells[columns.sku]),
        title="" if columns.title is None else table.value(row.cells[columns.title]),
        category=next(filter(None, (table.value(row.cells[index]) for index in columns.category)), ""),
        images=images,
        cells=rewritten,
    )


def _rewritten_cells(columns: _Columns, row: Row, gallery: list[str]) -> list[str]:
    cells = list(row.cells)
    columns.table.put(cells, columns.main, gallery[0])
    more = [token.replace(",", "%2C") for token in gallery[1:]]
    old = ",".join(unquote(row.cells[index]) for index in columns.more)
    comma = re.search(r"\s*,\s*", old) if len(columns.more) == 1 else None
    for place, index in enumerate(columns.more):
        last = place == len(columns.more) - 1
        columns.table.put(cells, index, (comma.group() if comma else ",").join(more if last else more[:1]))
        more = more[1:]
    return cells


# --- XML --------------------------------------------------------------------------------------------------------


def _items(source: str, base: str) -> Iterator[Part]:
    with files.open_source(source) as stream:
        items = Items(stream, ITEMS)
        count = 0
        try:
            for piece in items:
                if isinstance(piece, bytes):
                    yield Part(bound(items.encode, piece))
                else:
                    count += 1
                    yield _item_part(items, piece, f"item {count}, line {piece.line}", base)
        except (XmlError, UnicodeDecodeError) as error:
            line = error.line if isinstance(error, XmlError) else 1
            message = error.message if isinstance(error, XmlError) else error.reason
            if not count:
                raise CatalogueError(
                    "bad_xml", f"{source}, line {line}: {message}; the feed must be well-formed XML"
                ) from error
            text = f"{message}; the feed cannot be read from here on, the products behind are not in the output"
            rest, place = items.rest, f"item {count + 1}, line {line}"
            yield Part(lambda: items.encode(rest), broken(place, "bad_xml", text), place)
            while chunk := stream.read(_COPY):
                yield Part(bound(bytes, chunk))
            return
        if not count and items.root.rpartition(":")[2] not in ("rss", "feed", "RDF"):
            raise CatalogueError(
                "unknown_format", f"{source}: XML with the root <{items.root}>; a Google feed has <rss> or <feed>"
            )


def _item_part(items: Items, item: Item, place: str, base: str) -> Part:
    part = Part(lambda: items.encode(item.raw), place=place)

    def text(*names: str) -> str:
        # Atom and RSS have an <id> and <title> of their own; Google's, with a prefix, goes before.
        found = [each for name in names for each in item.fields if each.local == name and each.text]
        return next((each.text for each in found if ":" in each.name), found[0].text if found else "")

    sku = text("id")
    if not sku:
        part.product = broken(place, "missing_sku", "the item has no g:id")
        return part
    slots = [each for name in (MAIN, MORE) for each in item.fields if each.local == name and each.text]
    images = distinct(Image(each.text, base) for each in slots)
    category = next(filter(None, map(text, CATEGORY)), "")
    part.product = Product(sku=sku, title=text("title"), category=category, images=images)

    def rewrite(arrangement: Arrangement) -> bytes:
        first = {each.text: each for each in reversed(slots)}
        gallery = [first[images[index].uri] for index in arrangement.order]
        return items.encode(_rewritten_item(item.raw, slots, gallery))

    part.rewrite = rewrite
    return part


def _rewritten_item(raw: bytes, slots: list[Field], gallery: list[Field]) -> bytes:
    """Contents move from element to element; surplus elements go with the blanks before them."""
    inner = [_inner(raw, each) for each in gallery]
    changes: list[tuple[int, int, bytes]] = []
    for place, slot in enumerate(slots):
        if place >= len(inner):
            before = raw[: slot.start]
            changes.append((len(before.rstrip()) if _tag_before(before) else slot.start, slot.end, b""))
            continue
        opening, closing = _tags(raw, slot)
        if place == 0 and slot.local == MORE:  # an item without image_link gets one
            opening, closing = (tag.replace(MORE.encode(), MAIN.encode(), 1) for tag in (opening, closing))
        changes.append((slot.start, slot.end, opening + inner[place] + closing))
    for start, end, new in sorted(changes, reverse=True):
        raw = raw[:start] + new + raw[end:]
    return raw


def _tag_before(before: bytes) -> bool:
    return before.rstrip().endswith(b">")


def _tags(raw: bytes, slot: Field) -> tuple[bytes, bytes]:
    opening = raw[slot.start : tag_end(raw, slot.start)]
    closing = raw[raw.rindex(b"</", slot.start, slot.end) : slot.end]
    return opening, closing


def _inner(raw: bytes, slot: Field) -> bytes:
    return raw[tag_end(raw, slot.start) : raw.rindex(b"</", slot.start, slot.end)]
