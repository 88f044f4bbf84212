"""An output folder of `agpis generate`, read back: its decisions, and what the addresses in them are relative to."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agpis.catalogue.files import folder_of, is_folder
from agpis.data import Decision
from agpis.errors import OutputError
from agpis.manifest import NAME
from agpis.shards import read_decisions


@dataclass(frozen=True, slots=True)
class Output:
    """What a run left behind."""

    folder: Path
    base: str
    """Folder or URL that relative addresses of pictures are relative to; absolute."""
    shards: tuple[Path, ...]

    def decisions(self) -> Iterator[Decision]:
        """All decisions, in the catalogue's order, one batch in memory at a time."""
        return read_decisions(self.shards)


def open_output(folder: Path) -> Output:
    """The output of a run, finished or not: a shard has its name only when it is whole.

    Raises OutputError (`bad_manifest`) where `folder` is not such a folder.
    """
    path = folder / NAME
    try:
        question = json.loads(path.read_text(encoding="utf-8"))["question"]
        source, base = str(question["source"]), question["base"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OutputError(
            "bad_manifest", f"{folder} is not an output folder of `agpis generate`: {path} cannot be read ({error})."
        ) from error
    if base is None:
        base = source if is_folder(source) else folder_of(source)
    if "://" not in base:
        base = str(Path(base).resolve())
    return Output(folder, base, tuple(sorted(folder.glob("part-*"))))
