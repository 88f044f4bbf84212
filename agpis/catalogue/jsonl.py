"""JSON Lines: one product a line, `{"sku", "title", "category", "images": [...]}`.

An image is a text or `{"uri", "alt"}`. Other fields are not read, and kept on writing. Relative addresses are relative
to the folder of the file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial as bound
from typing import Any

from agpis.catalogue import files
from agpis.catalogue.json_text import member, reordered
from agpis.catalogue.parts import Arrangement, Part, broken, distinct, unique
from agpis.data import Image, Product
from agpis.errors import CatalogueError

LINE_LIMIT = 16 << 20
"""Bytes of one line."""
_BOM = b"\xef\xbb\xbf"


def parts(source: str, base: str | None = None) -> Iterator[Part]:
    """The file, one part a line. Raises CatalogueError."""
    return unique(_lines(source, files.folder_of(source) if base is None else base))


def _lines(source: str, base: str) -> Iterator[Part]:
    number = 1
    with files.open_source(source) as stream:
        while line := stream.readline(LINE_LIMIT):
            if number == 1 and line.startswith((b"\xff\xfe", b"\xfe\xff")):
                raise CatalogueError("bad_encoding", f"{source} is UTF-16; JSON Lines must be UTF-8")
            bom = _BOM if number == 1 and line.startswith(_BOM) else b""
            if line[len(bom) :].strip():
                yield _part(line, bom, f"line {number}", base)
            else:
                yield Part(bound(bytes, line))
            number += line.endswith(b"\n")
    if number == 1 and not files.head(source, 1):
        raise CatalogueError("empty_catalogue", f"{source} is empty; it must hold one product a line")


def _part(line: bytes, bom: bytes, place: str, base: str) -> Part:
    part = Part(lambda: line, place=place)
    row = as_object(line[len(bom) :], place)
    part.product = row if isinstance(row, Product) else product_of(row, place, base)
    if part.product.error is None:
        part.rewrite = bound(_rewritten, line, bom, part.product)
    return part


def as_object(raw: bytes, place: str) -> dict[str, Any] | Product:
    """The JSON object, or a product that says why there is none."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        return broken(place, "bad_encoding", f"byte {error.start + 1} is no UTF-8; JSON must be UTF-8")
    try:
        row = json.loads(text)
        json.dumps(row, ensure_ascii=False).encode() if "\\ud" in text.lower() else None
    except json.JSONDecodeError as error:
        return broken(place, "invalid_json", f"{error.msg} at character {error.pos + 1}")
    except UnicodeEncodeError:
        return broken(place, "bad_encoding", "half of a surrogate pair (\\ud800 to \\udfff) is no character")
    except (ValueError, RecursionError) as error:
        return broken(place, "invalid_json", f"{type(error).__name__}: {error}")
    if not isinstance(row, dict):
        return broken(place, "invalid_json", f"{_kind(row)} instead of an object in braces")
    return row


def product_of(row: dict[str, Any], place: str, base: str) -> Product:
    """A product out of the fields `sku`, `title`, `category`, `images`; with an error when one is wrong."""
    sku = row.get("sku")
    if sku is None or sku == "":
        return broken(place, "missing_sku", "no `sku`; each product needs one, as text")
    if not isinstance(sku, str):
        return broken(place, "wrong_type", f"`sku` is {_kind(sku)}; it must be text, in quotes")
    for key in ("title", "category"):
        if row.get(key) is not None and not isinstance(row[key], str):
            return broken(place, "wrong_type", f"`{key}` is {_kind(row[key])}; it must be text, in quotes", sku=sku)
    if row.get("images") is None:
        return broken(place, "missing_images", "no `images`; it must be a list, which may be empty", sku=sku)
    if not isinstance(row["images"], list):
        return broken(place, "wrong_type", f"`images` is {_kind(row['images'])}; it must be a list", sku=sku)
    images: list[Image] = []
    for number, entry in enumerate(row["images"], start=1):
        image = _image(entry, base)
        if image is None:
            message = f'image {number} is {_kind(entry)}; it must be text or {{"uri": "...", "alt": "..."}}'
            return broken(place, "wrong_type", message, sku=sku)
        images.append(image)
    return Product(sku, row.get("title") or "", row.get("category") or "", distinct(images))


def _image(entry: Any, base: str) -> Image | None:
    if isinstance(entry, str) and entry:
        return Image(entry, base)
    if not isinstance(entry, dict) or not isinstance(entry.get("uri"), str) or not entry["uri"]:
        return None
    alt = entry.get("alt")
    return Image(entry["uri"], base, alt or "") if alt is None or isinstance(alt, str) else None


def uri_of(entry: Any) -> str:
    """The uri of an entry of `images` that was read without error."""
    return str(entry["uri"]) if isinstance(entry, dict) else str(entry)


def _rewritten(line: bytes, bom: bytes, product: Product, arrangement: Arrangement) -> bytes:
    text = line[len(bom) :].decode("utf-8")
    found = member(text, "images")
    assert found is not None  # the product has images
    uris = [uri_of(entry) for entry in json.loads(text[found.start : found.end])]
    order = [uris.index(product.images[index].uri) for index in arrangement.order]
    return bom + (text[: found.start] + reordered(text, found.start, found.end, order) + text[found.end :]).encode()


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number"}
    return "null" if value is None else "empty text" if value == "" else names[type(value)]
