"""Decisions on disk: shard files of rows (Parquet or JSONL), written whole or not at all.

A shard is written under a temporary name, flushed to the disk, then renamed; a reader never sees half of one.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from agpis.data import Decision
from agpis.errors import output_error

Format = Literal["parquet", "jsonl"]


def decision_schema() -> Any:
    """The pyarrow schema of a decision row: the fields of `agpis.data.Decision.row()`."""
    import pyarrow as pa

    box = pa.struct([(name, pa.int32()) for name in ("x", "y", "w", "h")])
    finding = pa.struct(
        [
            ("rule", pa.string()),
            ("scope", pa.string()),
            ("severity", pa.string()),
            ("role", pa.string()),
            ("message", pa.string()),
            ("value", pa.float64()),
            ("limit", pa.float64()),
            ("unit", pa.string()),
            ("probability", pa.float64()),
            ("box", box),
            ("other", pa.string()),
            ("other_box", box),
        ]
    )
    candidate = pa.struct(
        [
            ("uri", pa.string()),
            ("width", pa.int32()),
            ("height", pa.int32()),
            ("p_primary", pa.float64()),
            ("p_noncompliant", pa.float64()),
            ("findings", pa.list_(finding)),
            ("outcome", pa.string()),
            ("reason", pa.string()),
            ("duplicate_of", pa.string()),
        ]
    )
    violation = pa.struct(
        [("rule", pa.string()), ("scope", pa.string()), ("probability", pa.float64()), ("image", pa.string())]
    )
    return pa.schema(
        [
            ("sku", pa.string()),
            ("status", pa.string()),
            ("title", pa.string()),
            ("category", pa.string()),
            ("sequence", pa.list_(pa.string())),
            ("p_qualified", pa.float64()),
            ("violations", pa.list_(violation)),
            ("feedback", pa.string()),
            ("feedback_by", pa.string()),
            ("candidates", pa.list_(candidate)),
            ("error", pa.struct([("code", pa.string()), ("message", pa.string())])),
            ("bundle", pa.string()),
            ("rulebook", pa.string()),
        ]
    )


def replace_file(path: Path, content: bytes) -> None:
    """Write `content` to `path` so that a reader or a crash sees the old file or the new one. Raises OutputError."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise output_error(error, path) from error


def encode_rows(rows: list[dict[str, Any]], fmt: Format) -> bytes:
    """The bytes of one shard file."""
    if fmt == "jsonl":
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, schema=decision_schema()), sink, compression="zstd")
    return bytes(sink.getvalue())


def read_decisions(paths: Iterable[Path]) -> Iterator[Decision]:
    """Stream the decisions of shard files, in order; one batch of rows in memory at a time."""
    for path in paths:
        if path.suffix == ".jsonl":
            with path.open(encoding="utf-8") as file:
                for line in file:
                    yield Decision.from_row(json.loads(line))
        else:
            import pyarrow.parquet as pq

            with pq.ParquetFile(path) as parquet:
                for batch in parquet.iter_batches(batch_size=256):
                    for row in batch.to_pylist():
                        yield Decision.from_row(row)


def write_thumbnails(path: Path, decisions: Iterable[Decision]) -> None:
    """Keep the report's thumbnails of one shard beside it, until the report is written."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    column = [[c.thumbnail for c in decision.candidates] for decision in decisions]
    table = pa.table({"thumbnails": pa.array(column, type=pa.list_(pa.binary()))})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="none")
    replace_file(path, bytes(sink.getvalue()))


def read_thumbnails(path: Path) -> Iterator[list[bytes | None]]:
    """Inverse of `write_thumbnails`: one list a decision, in order."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as parquet:
        for batch in parquet.iter_batches(batch_size=64):
            yield from batch.column("thumbnails").to_pylist()
