"""The record of a run: what it was asked, and which shards are finished. Written so that a kill loses nothing.

`manifest.json` holds the question and, at the end, the totals; while the run goes on, each finished shard is one line
of `manifest.journal`, appended and flushed after the shard file has its final name. A torn last line is a shard that
was not finished: it is made again, under the same name.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from agpis.data import Decision
from agpis.errors import OutputError, output_error
from agpis.shards import replace_file

FORMAT_VERSION = 1
NAME = "manifest.json"
JOURNAL = "manifest.journal"


@dataclass(frozen=True, slots=True)
class Shard:
    """One finished shard file: `count` products from position `start` of the catalogue."""

    name: str
    start: int
    count: int
    images: int
    statuses: dict[str, int]
    reasons: dict[str, int]
    """Removed images by reason code."""


@dataclass(slots=True)
class Totals:
    """Sums over shards."""

    products: int = 0
    images: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)

    def row(self) -> dict[str, Any]:
        """JSON-ready, the most frequent first."""
        return {
            "products": self.products,
            "images": self.images,
            "statuses": dict(self.statuses.most_common()),
            "reasons": dict(self.reasons.most_common()),
        }

    def add(self, shard: Shard) -> None:
        """Count a finished shard."""
        self.products += shard.count
        self.images += shard.images
        self.statuses.update(shard.statuses)
        self.reasons.update(shard.reasons)


def describe(name: str, start: int, decisions: list[Decision]) -> Shard:
    """The manifest's line for a shard of these decisions."""
    reasons = Counter(c.reason for d in decisions for c in d.candidates if c.outcome == "removed")
    return Shard(
        name=name,
        start=start,
        count=len(decisions),
        images=sum(len(d.candidates) for d in decisions),
        statuses=dict(Counter(d.status for d in decisions)),
        reasons=dict(reasons),
    )


class Manifest:
    """The manifest of an output folder, new or resumed.

    Raises OutputError: `other_run` when the folder holds the output of another question, `bad_manifest` when its
    manifest cannot be read, and the writing errors of `agpis.shards`.
    """

    def __init__(self, folder: Path, question: dict[str, Any]) -> None:
        self.folder = folder
        self.question = question
        self.shards: list[Shard] = []
        self.totals = Totals()
        self.complete = False
        self._journal: IO[bytes] | None = None
        path = folder / NAME
        if path.exists():
            self._resume(path)
        else:
            if any(folder.glob("part-*")):
                raise OutputError("not_empty", f"{folder} holds part-* files but no {NAME}. Choose another folder.")
            replace_file(path, self._content())

    def _resume(self, path: Path) -> None:
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["format_version"] != FORMAT_VERSION:
                raise OutputError(
                    "bad_manifest",
                    f"{path} has format version {content['format_version']}; this AGPIS writes {FORMAT_VERSION}. "
                    "Choose another folder.",
                )
            shards = [Shard(**shard) for shard in content["shards"]]
            self.complete = bool(content["complete"])
            found = content["question"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise OutputError("bad_manifest", f"{path} cannot be read ({error}). Choose another folder.") from error
        if found != self.question:
            keys = sorted(k for k in {*found, *self.question} if found.get(k) != self.question.get(k))
            raise OutputError(
                "other_run",
                f"{self.folder} holds a run with another {', '.join(keys)}: "
                + "; ".join(f"{k} was {found.get(k)!r}, is {self.question.get(k)!r}" for k in keys)
                + ". Choose another folder, or repeat the first command to go on.",
            )
        for line in self._journal_lines():
            shards.append(line)
        for shard in shards:
            if shard.start != self.totals.products:
                break
            self.shards.append(shard)
            self.totals.add(shard)

    def _journal_lines(self) -> list[Shard]:
        path = self.folder / JOURNAL
        if not path.exists():
            return []
        lines = []
        for line in path.read_bytes().split(b"\n")[:-1]:
            try:
                lines.append(Shard(**json.loads(line)))
            except (ValueError, TypeError):
                break  # torn by a kill: this shard and all behind it are made again
        return lines

    def append(self, shard: Shard) -> None:
        """List a shard whose file has its final name."""
        path = self.folder / JOURNAL
        try:
            if self._journal is None:
                # Rewritten whole once, so that a torn line never stays in front of a good one.
                known = b"".join(json.dumps(asdict(s)).encode() + b"\n" for s in self.shards)
                replace_file(path, known)
                replace_file(self.folder / NAME, self._content(shards=[]))
                self._journal = path.open("ab")
            self._journal.write(json.dumps(asdict(shard)).encode() + b"\n")
            self._journal.flush()
            os.fsync(self._journal.fileno())
        except OSError as error:
            raise output_error(error, path) from error
        self.shards.append(shard)
        self.totals.add(shard)

    def finish(self, extra: dict[str, Any]) -> None:
        """Write the whole manifest, marked complete, and drop the journal."""
        self.close()
        self.complete = True
        replace_file(self.folder / NAME, self._content(**extra))
        (self.folder / JOURNAL).unlink(missing_ok=True)

    def close(self) -> None:
        """Close the journal; the run can be resumed."""
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    def _content(self, shards: list[Shard] | None = None, **extra: Any) -> bytes:
        content = {
            "format_version": FORMAT_VERSION,
            "complete": self.complete,
            "question": self.question,
            "totals": self.totals.row() if self.complete else None,
            **extra,
            "shards": [asdict(shard) for shard in (self.shards if shards is None else shards)],
        }
        return json.dumps(content, indent=1, ensure_ascii=False).encode()
