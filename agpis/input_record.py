"""A bundle's own record: what its products looked like when it was first used; a JSON file beside the bundle.

The bundle itself holds none: it is made before it has seen the merchant's products.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from agpis.errors import SourceError
from agpis.shards import replace_file
from agpis.tallies import DAY, Decided, Tallies, decided

FORMAT_VERSION = 1
PRODUCTS = 500
"""A first window with fewer products takes the days after it too, up to the window that is watched."""


@dataclass(frozen=True, slots=True)
class Record:
    """What a bundle's products looked like when it was first used."""

    bundle: str
    since: date
    until: date
    """Not included."""
    counted: Decided

    @property
    def words(self) -> str:
        """For a person."""
        return f"{self.since} to {self.until - DAY}, {self.counted.products} products"


def first_records(tallies: Tallies, before: date | None, days: int | None = None) -> dict[str, Record]:
    """Of each bundle its first `days` days, and those after until there are 500 products, but none from `before` on.

    Without `days` and `before` all of its decisions.
    """
    found = {}
    for name, by_day in tallies.decided.items():
        taken: list[date] = []
        products = 0
        for day in sorted(by_day):
            full = days is not None and day >= min(by_day) + days * DAY and products >= PRODUCTS
            if full or (before is not None and day >= before):
                break
            taken.append(day)
            products += by_day[day].products
        if taken:
            until = taken[-1] + DAY
            found[name] = Record(name, taken[0], until, decided(by_day, taken[0], until))
    return found


def write_records(records: Iterable[Record], path: Path) -> None:
    """Write records to a JSON file, to be kept beside the bundle. Raises OutputError."""
    rows = {one.bundle: {"since": str(one.since), "until": str(one.until), **one.counted.row()} for one in records}
    content = {"format_version": FORMAT_VERSION, "agpis": "record of monitor", "bundles": rows}
    replace_file(path, json.dumps(content, ensure_ascii=False).encode() + b"\n")


def read_records(path: Path) -> dict[str, Record]:
    """Records of a file that `write_records` made, by bundle. Raises SourceError `bad_record`."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format_version"] != FORMAT_VERSION:
            raise ValueError(f"format version {content['format_version']}, this AGPIS reads {FORMAT_VERSION}")
        return {
            name: Record(
                name, date.fromisoformat(row["since"]), date.fromisoformat(row["until"]), Decided.from_row(row)
            )
            for name, row in content["bundles"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SourceError(
            "bad_record",
            f"{path} is no record that `agpis monitor --write-record` wrote ({error!r:.200}); write it again",
        ) from error
