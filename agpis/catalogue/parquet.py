"""Parquet with the columns `sku`, `title`, `category`, `images` (list of text, or of {uri, alt}); others are kept.

Read in batches, written in row groups of at most 65,536 rows. A file that no decision changes is copied byte for byte.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from agpis.catalogue import files
from agpis.catalogue.jsonl import product_of, uri_of
from agpis.catalogue.parts import Arrangement, Decisions, Part, broken, read_parts, unique
from agpis.data import Decision, Product
from agpis.errors import CatalogueError

MAGIC = b"PAR1"
_COLUMNS = ("sku", "title", "category", "images")
_READ_ROWS = 1024
_WRITE_ROWS = 65_536


def read(source: str, base: str | None = None) -> Iterator[Product]:
    """The products. Raises CatalogueError."""
    with _opened(source) as file:
        columns = [name for name in _COLUMNS if name in file.schema_arrow.names]
        batches = _batches(file, source, _READ_ROWS, columns)
        folder = files.folder_of(source) if base is None else base
        yield from read_parts(unique(_parts(batches, folder)))


def write(
    source: str, decisions: Iterable[Decision], out: str, *, only_sequence: bool = False, partial: bool = False
) -> None:
    """Writes the same rows with another order of `images`. Raises CatalogueError, OutputError."""
    import pyarrow.parquet as pq

    merge = Decisions(decisions, only_sequence=only_sequence, partial=partial)
    with _opened(source) as file, files.replacing(out) as sink, contextlib.ExitStack() as stack:
        writer: Any = None
        for number, (batch, arrangements) in enumerate(_merged(file, source, merge)):
            changed = any(arrangement is not None for arrangement in arrangements)
            if changed and writer is None:
                group = file.metadata.row_group(0)
                codec = group.column(0).compression.lower()
                codec = "none" if codec == "uncompressed" else codec
                writer = stack.enter_context(pq.ParquetWriter(sink, file.schema_arrow, compression=codec))
                for before in islice(_batches(file, source, _WRITE_ROWS), number):
                    writer.write_batch(before)
            if writer is not None:
                writer.write_batch(_rewritten(batch, arrangements) if changed else batch)
        merge.finish()
        if writer is None:
            with files.open_source(source) as stream:
                shutil.copyfileobj(stream, sink)


def _merged(file: Any, source: str, merge: Decisions) -> Iterator[tuple[Any, list[tuple[Product, Arrangement] | None]]]:
    """Each batch with what becomes of its rows."""
    batches = _batches(file, source, _WRITE_ROWS)
    pending: list[Any] = []

    def kept() -> Iterator[Any]:
        for batch in batches:
            pending.append(batch)
            yield batch

    found: list[tuple[Product, Arrangement] | None] = []
    for part in unique(_parts(kept(), "")):
        assert part.product is not None  # every row is a product
        arrangement = merge.arrangement(part.product)
        found.append(None if arrangement is None else (part.product, arrangement))
        if len(found) == pending[0].num_rows:
            yield pending.pop(0), found
            found = []


def _rewritten(batch: Any, arrangements: list[tuple[Product, Arrangement] | None]) -> Any:
    import pyarrow as pa

    place = batch.schema.get_field_index("images")
    column, field = batch.column(place), batch.schema.field(place)
    pieces: list[Any] = []
    start = 0
    for number, change in enumerate(arrangements):
        if change is not None:
            product, arrangement = change
            entries = {uri_of(entry): entry for entry in reversed(column[number].as_py())}
            new = [entries[product.images[index].uri] for index in arrangement.order]
            pieces += [column.slice(start, number - start), pa.array([new], type=field.type)]
            start = number + 1
    return batch.set_column(place, field, pa.concat_arrays([*pieces, column.slice(start)]))


def _parts(batches: Iterable[Any], base: str) -> Iterator[Part]:
    number = 0
    for batch in batches:
        columns = {name: batch.column(name) for name in _COLUMNS if name in batch.schema.names}
        for row in _rows(columns, batch.num_rows):
            number += 1
            place = f"row {number}"
            if row is None:
                message = "bytes that are no UTF-8; Parquet text must be UTF-8"
                yield Part(lambda: b"", broken(place, "bad_encoding", message), place)
                continue
            if isinstance(row.get("sku"), int):  # the column's type is the file's choice, not a slip in one row
                row["sku"] = str(row["sku"])
            yield Part(lambda: b"", product_of(row, place, base), place)


def _rows(columns: dict[str, Any], count: int) -> Iterator[dict[str, Any] | None]:
    """The rows as dicts, None for one with text that is no UTF-8."""
    for start in range(0, count, _READ_ROWS):
        pieces = {name: column.slice(start, _READ_ROWS) for name, column in columns.items()}
        try:
            lists = [piece.to_pylist() for piece in pieces.values()]
        except UnicodeDecodeError:
            for place in range(min(_READ_ROWS, count - start)):
                try:
                    yield {name: piece[place].as_py() for name, piece in pieces.items()}
                except UnicodeDecodeError:
                    yield None
            continue
        for values in zip(*lists, strict=True):
            yield dict(zip(columns, values, strict=True))


@contextlib.contextmanager
def _opened(source: str) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with files.open_seekable(source) as stream:
        try:
            file = pq.ParquetFile(stream, pre_buffer=False)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise CatalogueError("bad_parquet", f"{source} is no readable Parquet file: {error}") from error
        with file:
            _check(source, file.schema_arrow)
            yield file


def _check(source: str, schema: Any) -> None:
    import pyarrow.types as types

    def is_text(kind: Any) -> bool:
        plain = kind.value_type if types.is_dictionary(kind) else kind
        return bool(types.is_string(plain) or types.is_large_string(plain) or plain == "string_view")

    missing = [name for name in ("sku", "images") if name not in schema.names]
    if missing:
        raise CatalogueError(
            "missing_column", f"{source}: no column {' or '.join(missing)}; found {', '.join(schema.names)}"
        )
    kinds = {name: schema.field(name).type for name in _COLUMNS if name in schema.names}
    images = kinds["images"]
    is_list = types.is_list(images) or types.is_large_list(images) or types.is_fixed_size_list(images)
    element: Any = images.value_type if is_list else images
    is_named = types.is_struct(element) and element.get_field_index("uri") >= 0
    if not is_list or not (is_text(element) or is_named):
        raise CatalogueError(
            "bad_parquet", f"{source}: `images` is {images}; it must be a list of text, or of struct<uri, alt>"
        )
    for name in ("sku", "title", "category"):
        kind = kinds.get(name)
        if kind is not None and not is_text(kind) and not (name == "sku" and types.is_integer(kind)):
            raise CatalogueError("bad_parquet", f"{source}: `{name}` is {kind}; it must be text")


def _batches(file: Any, source: str, size: int, columns: list[str] | None = None) -> Iterator[Any]:
    import pyarrow as pa

    try:
        yield from file.iter_batches(batch_size=size, columns=columns, use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise CatalogueError("bad_parquet", f"{source} is damaged: {error}") from error
