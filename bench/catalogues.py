"""Does the whole job run through every catalogue, and is a shop's CSV treated as the catalogue it came from?

    python -m bench.catalogues [--data ../shared/data] [--bundle BUNDLE] [--limit N] [source ...]

For each FOLDER/catalog.jsonl: `generate` on it, `generate` on the same products as a Shopify CSV, the two compared
decision by decision, and the CSV that comes out compared with the one that went in, cell by cell outside the image
columns. Exits with 1 when a product failed, a decision differs or another cell changed.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from agpis import catalogue
from agpis.data import Decision, Product
from agpis.engine import Options, Summary, generate
from agpis.shards import read_decisions
from bench.machine import machine

COLUMNS = (
    "Title",
    "URL handle",
    "Description",
    "Product category",
    "SKU",
    "Product image URL",
    "Image position",
    "Image alt text",
)
IMAGE_COLUMNS = frozenset(("Product image URL", "Image position", "Image alt text"))


def to_shopify(products: list[Product], path: Path) -> None:
    """The products as Shopify exports them today: one row an image, the product's own cells in its first row."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for product in products:
            about = [product.title, product.sku, f'A "{product.title}", as it is', product.category, product.sku]
            for position, image in enumerate(product.images, 1):
                cells = about if position == 1 else ["", product.sku, "", "", ""]
                writer.writerow([*cells, str(Path(image.location).resolve()), position, f"view {position}"])


def other_cells(path: Path) -> list[list[str]]:
    """The first row of every product without its image columns."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [[row[c] for c in COLUMNS if c not in IMAGE_COLUMNS] for row in rows if row["Title"]]


def comparable(decision: Decision) -> Decision:
    """The decision with the images' names reduced to their file names, which both catalogues share."""
    names = {c.uri: Path(c.uri).name for c in decision.candidates}

    def named(uri: str | None) -> str | None:
        return names.get(uri, uri) if uri else uri

    candidates = tuple(
        replace(
            c,
            uri=names[c.uri],
            duplicate_of=named(c.duplicate_of),
            findings=tuple(replace(f, message="", other=named(f.other) or "") for f in c.findings),
        )
        for c in decision.candidates
    )
    return replace(decision, sequence=tuple(names[u] for u in decision.sequence), candidates=candidates)


def run(source: Path, out: Path, bundle: str | None, limit: int | None) -> tuple[Summary, list[Decision], float]:
    """One `generate`, its decisions and its seconds."""
    start = time.perf_counter()
    summary = generate(str(source), out, Options(bundle=bundle, limit=limit, report=False))
    seconds = time.perf_counter() - start
    return summary, list(read_decisions(sorted(out.glob("part-*")))), seconds


def check(folder: Path, work: Path, bundle: str | None, limit: int | None) -> list[str]:
    """Run one catalogue both ways, print a line, return what is wrong."""
    source = folder / "catalog.jsonl"
    summary, decisions, seconds = run(source, work / "jsonl", bundle, limit)
    totals = summary.totals
    statuses = "  ".join(f"{name} {count}" for name, count in totals.statuses.most_common())
    shop = work / "products.csv"
    to_shopify(list(catalogue.read(str(source)))[:limit], shop)
    again, from_shop, _ = run(shop, work / "shopify", bundle, limit)
    wrong = [f"{d.sku}: {d.error.code}: {d.error.message}" for d in decisions if d.error]
    pairs = zip(decisions, from_shop, strict=True)
    wrong += [f"{a.sku}: another decision from the Shopify CSV" for a, b in pairs if comparable(a) != comparable(b)]
    if again.catalogue is None or other_cells(shop) != other_cells(again.catalogue):
        wrong.append("the Shopify CSV changed outside its image columns")
    unread = sum(count for code, count in totals.reasons.items() if code in ("unreadable", "not_found", "truncated"))
    print(
        f"{folder.name:11s} {totals.products:5d} products {totals.images:5d} images {seconds:6.1f} s"
        f"  unreadable {unread}  problems {len(wrong)}  {statuses}"
    )
    reasons = "  ".join(f"{name} {count}" for name, count in totals.reasons.most_common(9))
    print(f"{'':11s} removed: {reasons or 'none'}")
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="*", help="names of catalogues; all if left out")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--bundle", default=None)
    parser.add_argument("--limit", type=int, default=None, help="only the first N products of each")
    options = parser.parse_args()
    print(f"machine: {machine()}")
    folders = sorted(path.parent for path in options.data.glob("*/catalog.jsonl"))
    wrong = []
    for folder in folders:
        if not options.sources or folder.name in options.sources:
            with tempfile.TemporaryDirectory() as work:
                wrong += [f"{folder.name}: {w}" for w in check(folder, Path(work), options.bundle, options.limit)]
    for problem in wrong[:40]:
        print(problem)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
