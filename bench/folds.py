"""Folds on a command line: bundles, each with the sources that were left out of its training, and the JSON file that
the benches of them add their figures to.

    python -m bench.NAME FOLDER SOURCES [FOLDER SOURCES ...] [--data FOLDER] [--out FIGURES]

`python -m agpis.recipe figures --figures FIGURES` puts what is in the file into a bundle.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agpis.bundle import Bundle, open_bundle
from agpis.simulate import Catalogued, held_out, load


@dataclass(frozen=True, slots=True)
class Fold:
    """An opened bundle and what it may be measured on."""

    folder: str
    bundle: Bundle
    sources: tuple[str, ...]
    data: Path
    """Folder of catalogues."""

    def catalogue(self, source: str) -> Path:
        """The catalog.jsonl of a source."""
        return self.data / source / "catalog.jsonl"

    def products(self, source: str, *, details: bool = True) -> list[Catalogued]:
        """The products of a source, see `agpis.simulate.load`; only those of held-out styles where the bundle was
        trained on the others."""
        found = load([self.catalogue(source)], details=details)
        if source in self.bundle.manifest.trained_on:
            found = [product for product in found if held_out(product, self.bundle.manifest.hold_out)]
        return found


def arguments(parser: argparse.ArgumentParser, *, threads: int = 1) -> None:
    """Adds the folds, --data, --out and --threads."""
    parser.add_argument(
        "folds", nargs="+", metavar="FOLDER SOURCES", help="a bundle, then the sources left out of it, comma-separated"
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of catalogues")
    parser.add_argument("--out", type=Path, help="JSON of figures to add to; it need not exist")
    parser.add_argument("--threads", type=int, default=threads)


def folds(parser: argparse.ArgumentParser, options: argparse.Namespace) -> list[Fold]:
    """Opens the bundles. Ends the program (SystemExit) where the words are no pairs, a source is named twice or a
    bundle was trained on all of a source that it should be measured on."""
    if len(options.folds) % 2:
        parser.error("give a folder and its sources, in turn")
    pairs = [(folder, names.split(",")) for folder, names in zip(options.folds[::2], options.folds[1::2], strict=True)]
    named = [name for _, names in pairs for name in names]
    if twice := sorted({name for name in named if named.count(name) > 1}):
        parser.error(f"{', '.join(twice)} named twice; each source is measured by one bundle")
    found = []
    for folder, names in pairs:
        bundle = open_bundle(folder, threads=options.threads)
        seen = sorted(set(names) & set(bundle.manifest.trained_on))
        if seen and not bundle.manifest.hold_out:
            raise SystemExit(f"{folder} was trained on {', '.join(seen)}; its figures would mislead.")
        found.append(Fold(folder, bundle, tuple(names), options.data))
    return found


def add(path: Path | None, made: Mapping[str, Mapping[str, Any]]) -> None:
    """Sets the entries of `made`, two levels deep, in a JSON file, which need not exist; without a path nothing."""
    if path is None:
        return
    figures = json.loads(path.read_text("utf-8")) if path.exists() else {}
    for name, entries in made.items():
        figures[name] = {**figures.get(name, {}), **entries}
    path.write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
