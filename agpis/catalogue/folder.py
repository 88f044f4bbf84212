"""A folder with a sub-folder a product: its name is the sku, its pictures are the images in natural order of names.

Beside the pictures may lie product.json (`title`, `category`, `sku`) or title.txt (title, then category on the second
line). Pictures directly in the folder are one more product, named after the folder. What begins with a dot is not seen.
Nothing is moved or renamed on writing: the output is a JSON Lines catalogue of the same pictures in their new order.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from agpis.catalogue import files
from agpis.catalogue.jsonl import as_object
from agpis.catalogue.parts import Decisions, Part, broken, read_parts, unique
from agpis.data import Decision, ErrorInfo, Image, Product
from agpis.errors import CatalogueError

SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif"),
    *(".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif"),
)
"""Names that end so are candidates. heic is among them so that it is reported as unreadable instead of overlooked."""
_TEXT_LIMIT = 1 << 20  # bytes of product.json or title.txt


def read(source: str, base: str | None = None) -> Iterator[Product]:
    """The products, in natural order of folder names; uri is the path within the folder. Raises CatalogueError."""
    return read_parts(unique(_parts(source, base)))


def write(
    source: str, decisions: Iterable[Decision], out: str, *, only_sequence: bool = False, partial: bool = False
) -> None:
    """Writes a JSON Lines catalogue of the new order; image paths are relative to it where both are on this machine.

    A product that stays as it is has all its images, in their old order. Raises CatalogueError, OutputError.
    """
    merge = Decisions(decisions, only_sequence=only_sequence, partial=partial)
    with files.replacing(out) as sink:
        for product in read(source):
            arrangement = merge.arrangement(product)
            order = range(len(product.images)) if arrangement is None else arrangement.order
            images = [_seen_from(out, product.images[index]) for index in order]
            row: dict[str, Any] = {"sku": product.sku, "title": product.title, "category": product.category}
            sink.write(json.dumps(row | {"images": images}, ensure_ascii=False).encode("utf-8", "replace") + b"\n")
        merge.finish()


def _seen_from(out: str, image: Image) -> str:
    here = files.local_path(out)
    if here is None or files.protocol(image.location) != "file":
        return image.location
    return Path(os.path.relpath(image.location, here.parent)).as_posix()


def _parts(source: str, base: str | None) -> Iterator[Part]:
    listing = _Listing(source)
    folder = str(listing.root if base is None else base)
    names, folders = listing.of("")
    if any(_is_image(name) for name in names):
        yield _part(listing, "", listing.name, names, folder)
    for name in folders:
        yield _part(listing, name, name, listing.of(name)[0], folder)


def _part(listing: _Listing, inside: str, sku: str, names: list[str], base: str) -> Part:
    prefix = f"{inside}/" if inside else ""
    place = f"folder {inside or sku}"
    images = tuple(Image(prefix + name, base) for name in names if _is_image(name))
    title, category, error = sku, "", None
    if "product.json" in names:
        row = as_object(listing.text(prefix + "product.json"), f"{prefix}product.json")
        wrong = next(
            (k for k in ("sku", "title", "category") if isinstance(row, dict) and not _is_text(row.get(k))), ""
        )
        if isinstance(row, Product):
            error = row.error
        elif wrong:
            error = ErrorInfo("wrong_type", f"{prefix}product.json: `{wrong}` must be text, in quotes")
        else:
            sku, title, category = row.get("sku") or sku, row.get("title") or title, row.get("category") or ""
    elif "title.txt" in names:
        try:
            lines = [line.strip() for line in listing.text(prefix + "title.txt").decode("utf-8-sig").splitlines()]
            title, category = (*(line for line in lines if line), "", "")[:2]
            title = title or sku
        except UnicodeDecodeError:
            error = ErrorInfo("bad_encoding", f"{prefix}title.txt is no UTF-8; save it as UTF-8")
    try:
        "".join([sku, *(image.uri for image in images)]).encode()
    except UnicodeEncodeError:
        safe = sku.encode("utf-8", "backslashreplace").decode()
        product = broken(f"folder {safe}", "bad_encoding", "a file name is no UTF-8; rename it", sku=safe)
        return Part(lambda: b"", product, place)
    return Part(lambda: b"", Product(sku, title, category, images, error), place)


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def _is_text(value: Any) -> bool:
    return value is None or isinstance(value, str)


def natural(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """Sort key in which 2.jpg comes before 10.jpg."""
    pieces = re.split(r"([0-9]+)", name.casefold())
    return [(0, int(p), "") if n % 2 else (1, 0, p) for n, p in enumerate(pieces) if p], name


class _Listing:
    """Names of files and folders below a folder, on disk or in a bucket."""

    def __init__(self, source: str) -> None:
        self._path = files.local_path(source)
        self._source = source
        if not files.is_folder(source):
            code = "source_unreadable" if self._path is None or self._path.exists() else "source_not_found"
            raise CatalogueError(code, f"{source} is no folder; the format `folder` reads a folder of product folders")
        if self._path is not None:
            self.root: str | Path = self._path
            self.name = self._path.resolve().name
        else:
            self._system, self._inside = files.filesystem(source.rstrip("/"))
            self.root = source.rstrip("/")
            self.name = str(self.root).rsplit("/", 1)[-1]

    def of(self, inside: str) -> tuple[list[str], list[str]]:
        """Files and folders in a folder, in natural order; nothing that begins with a dot."""
        try:
            if self._path is not None:
                with os.scandir(self._path / inside) as entries:
                    found = [(entry.name, entry.is_dir()) for entry in entries]
            else:
                listed = self._system.ls(f"{self._inside}/{inside}".rstrip("/"), detail=True)
                found = [(each["name"].rstrip("/").rsplit("/", 1)[-1], each["type"] == "directory") for each in listed]
        except OSError as error:
            raise CatalogueError("source_unreadable", f"{self._source}/{inside} cannot be read: {error}") from error
        names = sorted((name, is_folder) for name, is_folder in found if not name.startswith("."))
        files_here = sorted((name for name, is_folder in names if not is_folder), key=natural)
        return files_here, sorted((name for name, is_folder in names if is_folder), key=natural)

    def text(self, name: str) -> bytes:
        """The bytes of a small file."""
        return files.head(f"{self.root}/{name}", _TEXT_LIMIT)
