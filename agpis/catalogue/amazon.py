"""Amazon: the flat file (one column an image slot) and the JSON of the Listings API (one locator attribute a slot).

Flat file: up to a few lines of settings and labels, then the header with `item_sku` and `main_image_url`,
`other_image_url1` ... Newer templates name the columns `contribution_sku#1.value` and
`main_product_image_locator[marketplace_id=...]#1.media_location`. JSON: one listing a line, or a JSON_LISTINGS_FEED
with its `messages`. The swatch is another matter and stays as it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial as bound
from typing import Any

from agpis.catalogue import files
from agpis.catalogue.csv_text import Row, Table, unquote
from agpis.catalogue.json_text import ArrayStream, Member, member, members
from agpis.catalogue.jsonl import LINE_LIMIT, as_object
from agpis.catalogue.parts import (
    Arrangement,
    Part,
    RowProduct,
    broken,
    distinct,
    row_parts,
    unique,
)
from agpis.data import Image, Product
from agpis.errors import CatalogueError

SKU = ("item_sku", "contribution_sku", "sku", "seller_sku", "seller-sku")
TITLE = ("item_name", "item-name", "title")
CATEGORY = ("item_type", "item_type_keyword", "feed_product_type", "product_type")
MAIN = ("main_image_url", "main_product_image_locator")
_OTHER = re.compile(r"other_(?:image_url_?|product_image_locator_)(\d+)")
_MACHINE_NAME = re.compile(r"([a-z0-9_-]+)(?:\[[^\]]*\])*(?:#1)?(?:\.(?:value|media_location))?")


def is_header(columns: Sequence[str]) -> bool:
    """Whether the (normalised) columns are those of an Amazon flat file."""
    names = {_name(column) for column in columns}
    return not names.isdisjoint(SKU) and not names.isdisjoint(MAIN)


def is_listing(value: Any) -> bool:
    """Whether a JSON value is a listing with image locators, or a listings feed."""
    if not isinstance(value, dict):
        return False
    attributes = value.get("attributes")
    return isinstance(value.get("messages"), list) or (
        isinstance(attributes, dict) and any(_slot(key) is not None for key in attributes)
    )


def parts(source: str, base: str | None = None) -> Iterator[Part]:
    """The file, one part a product; sku is `item_sku` or `sku`. Raises CatalogueError."""
    folder = files.folder_of(source) if base is None else base
    start = files.head(source, 1 << 16).removeprefix(b"\xef\xbb\xbf").lstrip()
    if not start.startswith(b"{"):
        return unique(_rows(source, folder))
    first = start.split(b"\n", 1)[0]
    try:
        one_line = "messages" not in json.loads(first)
    except ValueError:
        one_line = b'"messages"' not in start
    return unique(_lines(source, folder) if one_line else _messages(source, folder))


def _slot(name: str) -> int | None:
    """0 for the main image, n for other image n, None for anything else."""
    if name in MAIN:
        return 0
    other = _OTHER.fullmatch(name)
    return int(other.group(1)) if other else None


def _name(column: str) -> str:
    found = _MACHINE_NAME.fullmatch(column)
    return found.group(1) if found else column


# --- flat file --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Columns:
    table: Table
    base: str
    sku: int
    title: int | None
    category: tuple[int, ...]
    slots: tuple[int, ...]
    """Columns of the main image and the others, in order."""


def _rows(source: str, base: str) -> Iterator[Part]:
    table = Table(source, is_header, "`item_sku` and `main_image_url`")
    names = [_name(column) for column in table.columns]
    first = {name: index for index, name in reversed(list(enumerate(names)))}  # a second marketplace's are left alone
    slots = sorted((slot, index) for name, index in first.items() if (slot := _slot(name)) is not None)
    columns = _Columns(
        table=table,
        base=base,
        sku=next(first[name] for name in SKU if name in first),
        title=next((first[name] for name in TITLE if name in first), None),
        category=tuple(first[name] for name in CATEGORY if name in first),
        slots=tuple(index for _, index in slots),
    )
    return row_parts(table, bound(_row_product, columns), "the row has no item_sku")


def _row_product(columns: _Columns, row: Row) -> RowProduct:
    table = columns.table
    found = [(table.value(row.cells[index]), unquote(row.cells[index])) for index in columns.slots]
    images = distinct(Image(uri, columns.base) for uri, _ in found if uri)

    def rewritten(arrangement: Arrangement) -> list[str]:
        text_of = dict(reversed(found))
        gallery = [text_of[images[index].uri] for index in arrangement.order]
        cells = list(row.cells)
        for place, index in enumerate(columns.slots):
            table.put(cells, index, gallery[place] if place < len(gallery) else "")
        return cells

    return RowProduct(
        sku=table.value(row.cells[columns.sku]),
        title="" if columns.title is None else table.value(row.cells[columns.title]),
        category=next(filter(None, (table.value(row.cells[index]) for index in columns.category)), ""),
        images=images,
        cells=rewritten,
    )


# --- JSON -------------------------------------------------------------------------------------------------------


def _lines(source: str, base: str) -> Iterator[Part]:
    number = 1
    with files.open_source(source) as stream:
        while line := stream.readline(LINE_LIMIT):
            if line.strip():
                yield _listing_part(line, f"line {number}", base)
            else:
                yield Part(bound(bytes, line))
            number += line.endswith(b"\n")


def _messages(source: str, base: str) -> Iterator[Part]:
    number = 0
    with files.open_source(source) as stream:
        try:
            for is_element, text in ArrayStream(stream, source, "messages"):
                raw = text.encode("utf-8", "surrogateescape")
                if is_element:
                    number += 1
                    yield _listing_part(raw, f"message {number}", base)
                else:
                    yield Part(bound(bytes, raw))
        except CatalogueError as error:
            if error.code != "invalid_json" or not number:
                raise
            place = f"message {number + 1}"
            text = f"{error.message}; the products behind are not in the output"
            yield Part(lambda: b"", broken(place, "invalid_json", text), place)


def _listing_part(raw: bytes, place: str, base: str) -> Part:
    part = Part(lambda: raw, place=place)
    row = as_object(raw, place)
    if isinstance(row, Product):
        part.product = row
        return part
    sku, attributes = row.get("sku"), row.get("attributes")
    if not isinstance(sku, str) or not sku.strip():
        part.product = broken(place, "missing_sku", f"`sku` is {sku!r}; it must be a text that is not empty")
        return part
    attributes = {} if attributes is None else attributes
    if not isinstance(attributes, dict):
        message = f"`attributes` is of type {type(attributes).__name__}; it must be an object"
        part.product = broken(place, "wrong_type", message, sku=sku)
        return part
    slots = sorted((slot, key) for key in attributes if (slot := _slot(key)) is not None and attributes[key])
    uris: list[str] = []
    for _, key in slots:
        try:
            uri = attributes[key][0]["media_location"]
        except (LookupError, TypeError):
            uri = None
        if not isinstance(uri, str):
            message = f'`{key}` must be [{{"media_location": "..."}}]'
            part.product = broken(place, "wrong_type", message, sku=sku)
            return part
        uris.append(uri)
    category = next((row[key] for key in ("productType", "product_type") if isinstance(row.get(key), str)), "")
    images = distinct(Image(uri, base) for uri in uris)
    part.product = Product(sku=sku.strip(), title=_text(attributes.get("item_name")), category=category, images=images)
    part.rewrite = bound(_rewritten, raw, uris, [key for _, key in slots], images)
    return part


def _text(value: Any) -> str:
    """The first `value` of a localised attribute."""
    if isinstance(value, list) and value and isinstance(value[0], dict) and isinstance(value[0].get("value"), str):
        return str(value[0]["value"])
    return ""


def _rewritten(
    raw: bytes, uris: list[str], keys: list[str], images: tuple[Image, ...], arrangement: Arrangement
) -> bytes:
    """Whole attribute values move between the attributes, surplus attributes go."""
    text = raw.decode("utf-8")
    outer = member(text, "attributes")
    assert outer is not None  # there are images, so there are attributes
    all_members = members(text, outer.start)
    by_key = {each.key: each for each in all_members}
    value_of = {uri: by_key[key] for uri, key in zip(reversed(uris), reversed(keys), strict=True)}
    values = [value_of[images[index].uri] for index in arrangement.order]
    # The main slot and then those that are there: a listing without a main image gives its first slot that name.
    changes: list[tuple[int, int, str]] = []
    names = list(keys)
    if _slot(names[0]) != 0:
        first = by_key[names[0]]
        changes.append((first.at, first.at + len(json.dumps(first.key)), json.dumps(MAIN[1])))
    for place, key in enumerate(names):
        here = by_key[key]
        if place < len(values):
            changes.append((here.start, here.end, text[values[place].start : values[place].end]))
        else:
            changes.append(_removal(all_members, here))
    for start, end, new in sorted(changes, reverse=True):
        text = text[:start] + new + text[end:]
    return text.encode("utf-8")


def _removal(all_members: list[Member], gone: Member) -> tuple[int, int, str]:
    """The member with one of the commas beside it. The main image is never removed, so a member stands before it or
    behind it."""
    place = all_members.index(gone)
    if place > 0:
        return all_members[place - 1].end, gone.end, ""
    return gone.at, all_members[place + 1].at, ""
