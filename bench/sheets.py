"""Contact sheets of what a bundle judges wrongly, out of this repository's own rendered sample products.

The pictures of `agpis/sample` that break no rule are the approved products; `agpis.simulate` breaks them, in the styles
that training does not use. These products may be among those that the bundle was trained on, and they are few: the
sheets are illustrations, the measurement is `bench.starter`'s. Written by `python -m bench.card --pictures docs/card`.
"""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from agpis import judge
from agpis.bundle import Bundle
from agpis.console import sample_catalogue
from agpis.images import letterbox
from agpis.listings import possible
from agpis.simulate import SHARES, VIEWS, Catalogued, Mix, Stock, Style, images, sequences
from agpis.simulate.stock import catalogued
from agpis.simulate.style import Pixels

RECORD = "sheets.json"
IMAGES, SEQUENCES = 400, 200
SEED = 7
MIX = Mix(doubled=0.0)
TILES = 12  # pictures a sheet
ROWS = 8  # sequences a sheet
LARGEST = 150_000  # bytes of a file
SIDE, GAP, LINE = 190, 8, 17  # px: of a tile, between tiles, of a line of text


@dataclass(frozen=True, slots=True)
class Tile:
    """One judged picture or sequence."""

    pictures: tuple[Pixels, ...]
    group: str
    """The true rule, or what else makes tiles alike: every group has its turn on the sheet."""
    off: float
    """How far from right, from 0 to 1."""
    lines: tuple[str, str]


@dataclass(frozen=True, slots=True)
class Sheet:
    """What was judged wrongly of one kind."""

    name: str
    what: str
    wrong: list[Tile]
    judged: int


def sample_products() -> list[Catalogued]:
    """The sample products, each with its pictures of which truth.jsonl says that they break no rule."""
    catalogue = sample_catalogue()
    folder = catalogue.parent
    truth = {row["sku"]: row["images"] for row in _rows(folder / "truth.jsonl")}
    found = []
    for row in _rows(catalogue):
        good = {fact["image"]: fact["view"] for fact in truth[row["sku"]] if not fact["rule"]}
        uris = [uri for uri in row["images"] if uri in good]
        # A quarter view shows the front; what the sample calls otherwise, the simulator does not know.
        views = [{"quarter": "front"}.get(good[uri], good[uri]) for uri in uris]
        product = catalogued(
            {name: row[name] for name in ("sku", "title", "category")},
            uris,
            lambda uri: (folder / uri).read_bytes(),
            views=[view if view in VIEWS else "unknown" for view in views],
            source="sample",
        )
        if product is not None:
            found.append(product)
    return found


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]


def judged_pictures(bundle: Bundle, stock: Stock, count: int = IMAGES) -> tuple[Sheet, Sheet]:
    """Broken pictures that the threshold lets through, and clean ones that it removes."""
    threshold = bundle.thresholds["noncompliant"]
    missed: list[Tile] = []
    removed: list[Tile] = []
    number = {True: 0, False: 0}
    for sample in images(stock, bundle.rulebook, np.random.default_rng(SEED), Style.test(), count, MIX):
        out = bundle.image(letterbox(sample.pixels, bundle.size)[None])
        p, named = float(out.p_noncompliant[0]), bundle.single_rules[int(out.rules[0].argmax())]
        number[sample.noncompliant] += 1
        if sample.noncompliant == (p > threshold):
            continue
        said = f"p {p:.3f}: {named}"
        for rule in sample.rules:  # one at most
            missed.append(Tile((sample.pixels,), rule, threshold - p, (f"true: {rule}", said)))
        if not sample.rules:
            lines = (f"true: clean ({sample.view})", said)
            removed.append(Tile((sample.pixels,), f"{sample.sku} {sample.view}", p, lines))
    return (
        Sheet("missed", "broken pictures that are let through", missed, number[True]),
        Sheet("removed", "clean pictures that are removed", removed, number[False]),
    )


def judged_sequences(bundle: Bundle, stock: Stock, count: int = SEQUENCES) -> Sheet:
    """Sequences on the wrong side of the threshold, with the rule and image that `agpis score` names."""
    rules, rng = possible(bundle.rulebook, stock), np.random.default_rng(SEED)
    samples = list(sequences(stock, rules, rng, Style.test(), SHARES, (3, 3), "en", count))
    wrong = []
    threshold = bundle.thresholds["qualified"]
    with tempfile.TemporaryDirectory() as folder:
        lines = []
        for i, sample in enumerate(samples):
            names = [f"{i}-{at}.png" for at in range(len(sample.pictures))]
            for name, pixels in zip(names, sample.pictures, strict=True):
                Image.fromarray(pixels).save(Path(folder, name), compress_level=1)
            lines.append({"sku": sample.sku, "title": sample.title, "category": sample.category, "images": names})
        for sample, line in zip(
            samples, judge.score(lines, bundle, bundle.rulebook, feedback=False, base=folder), strict=True
        ):
            p, first = line["p_qualified"], line["violations"][0]
            good = sample.rule == "qualified"
            if good == (p >= threshold):
                continue
            at = "" if sample.image_index is None else f", image {sample.image_index + 1}"
            blamed = f", image {line['images'].index(first['image']) + 1}" if first["image"] else ""
            title = f", title: {sample.title}" if sample.rule == "title_mismatch" else ""
            said = (f"true: {sample.rule}{at}{title}", f"p_qualified {p:.2f}: {first['rule']}{blamed}")
            wrong.append(Tile(sample.pictures, sample.rule, threshold - p if good else p, said))
    return Sheet("sequences", "sequences on the wrong side of the threshold", wrong, len(samples))


def chosen(tiles: Sequence[Tile], most: int) -> list[Tile]:
    """At most `most`, those furthest from right first, in turn from each group, the groups with most tiles first."""
    by_group: dict[str, list[Tile]] = {}
    for tile in sorted(tiles, key=lambda tile: -tile.off):
        by_group.setdefault(tile.group, []).append(tile)
    groups = sorted(by_group.values(), key=len, reverse=True)
    turns = [tile for turn in range(max(map(len, groups), default=0)) for g in groups for tile in g[turn : turn + 1]]
    return turns[:most]


def drawn(tiles: Sequence[Tile], columns: int) -> Image.Image:
    """The tiles with two lines of text below each, on white; a tile is as wide as its pictures are many."""
    font = ImageFont.load_default(12)
    wide = max(len(tile.pictures) for tile in tiles)
    width, height = wide * SIDE + (wide - 1) * GAP // 2, SIDE + 2 * LINE + 4
    rows = -(-len(tiles) // columns)
    sheet = Image.new("RGB", (columns * (width + GAP) + GAP, rows * (height + GAP) + GAP), "white")
    pen = ImageDraw.Draw(sheet)
    for i, tile in enumerate(tiles):
        left, top = GAP + i % columns * (width + GAP), GAP + i // columns * (height + GAP)
        for j, pixels in enumerate(tile.pictures):
            small = Image.fromarray(pixels)
            small.thumbnail((SIDE - 2, SIDE - 2))
            x = left + j * (SIDE + GAP // 2)
            pen.rectangle((x, top, x + SIDE - 1, top + SIDE - 1), outline=(200, 200, 200))
            sheet.paste(small, (x + (SIDE - small.width) // 2, top + (SIDE - small.height) // 2))
        for number, line in enumerate(tile.lines):
            pen.text((left, top + SIDE + 3 + number * LINE), line, fill=(30, 30, 30), font=font)
    return sheet


def as_jpeg(sheet: Image.Image) -> bytes:
    """JPEG of at most LARGEST bytes: as good a quality as that allows."""
    for quality in range(90, 20, -5):
        file = io.BytesIO()
        sheet.save(file, "JPEG", quality=quality, optimize=True)
        if file.tell() <= LARGEST:
            break
    return file.getvalue()


def write_sheets(bundle: Bundle, folder: Path, *, pictures: int = IMAGES, count: int = SEQUENCES) -> dict[str, Any]:
    """Writes the sheets, and what they show as RECORD, into `folder`; returns the record.

    A kind of which nothing was judged wrongly has no file. The record names the graphs by their checksums, so that a
    sheet of another bundle is noticed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stock = Stock(sample_products())
    sheets = (*judged_pictures(bundle, stock, pictures), judged_sequences(bundle, stock, count))
    record: dict[str, Any] = {
        "bundle": bundle.name,
        "graphs": {name: graph.sha256 for name, graph in bundle.manifest.graphs.items()},
        "products": len(stock.products),
        "sheets": [],
    }
    for sheet in sheets:
        path = folder / f"{sheet.name}.jpg"
        path.unlink(missing_ok=True)
        several = sheet.name == "sequences"
        shown = chosen(sheet.wrong, ROWS if several else TILES)
        if shown:
            path.write_bytes(as_jpeg(drawn(shown, 2 if several else 4)))
        record["sheets"].append(
            {
                "file": path.name if shown else "",
                "what": sheet.what,
                "wrong": len(sheet.wrong),
                "judged": sheet.judged,
                "shown": len(shown),
            }
        )
    (folder / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return record


def recorded(folder: Path) -> dict[str, Any]:
    """What the contact sheets in a folder show."""
    found: dict[str, Any] = json.loads((folder / RECORD).read_text("utf-8"))
    return found
