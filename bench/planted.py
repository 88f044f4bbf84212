"""Does the chosen sequence avoid a planted wrong candidate?

    python -m bench.planted --bundle BUNDLE --source oxid [--source grandnode ...] [--data ../shared/data]

To every product of the sources with at least two images, one wrong candidate is added at a random place: an image of
its own with a banner, with a watermark or blurred, a crop of it, or another product's photograph. K is 3, or 2 where
the product has two images. The whole pipeline decides. `avoided` is the share of chosen sequences without the planted
image; `chance` is what choosing K of the candidates at random would give; `coverage` the share of products that got a
sequence at all. Violations are drawn in the test style: fonts, words and emblems that no training has seen.
Name only sources the bundle was not trained on; the command refuses others when the bundle says so.
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

from agpis import catalogue
from agpis.data import Decision, Image, Product
from agpis.fetch import Fetcher
from agpis.images import decode
from agpis.metrics import bootstrap
from agpis.pipeline import Pipeline, Settings
from agpis.simulate.single import SINGLE
from agpis.simulate.style import Style
from bench.machine import machine

KINDS = ("banner", "watermark", "blur", "crop", "other_product")
SEEDS = [0, 1, 2]


@dataclass(frozen=True)
class Case:
    """One product with one planted candidate."""

    product: Product
    planted: str
    kind: str
    k: int
    source: str
    seed: int


def plant(product: Product, kind: str, others: list[Product], rng: np.random.Generator, fetcher: Fetcher) -> Product:
    """The product with a wrong candidate, uri `planted`, at a random place among its own."""
    if kind == "other_product":
        other = others[int(rng.integers(len(others)))]
        data = fetcher(other.images[0].location)
    else:
        original = product.images[int(rng.integers(len(product.images)))]
        pixels = decode(fetcher(original.location), name=original.uri).pixels
        if kind == "crop":
            pixels = crop(pixels, rng)
        else:
            pixels = SINGLE[kind](pixels, rng, Style.test()).pixels
        file = io.BytesIO()
        Pillow.fromarray(pixels).save(file, "JPEG", quality=int(rng.integers(80, 95)))
        data = file.getvalue()
    images = list(product.images)
    images.insert(int(rng.integers(len(images) + 1)), Image("planted", data=data))
    return replace(product, sku=f"{product.sku} + {kind}", images=tuple(images))


def crop(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A window of 30 to 80 % of the area."""
    height, width = pixels.shape[:2]
    side = np.sqrt(rng.uniform(0.3, 0.8))
    h, w = int(height * side), int(width * side)
    top, left = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
    return pixels[top : top + h, left : left + w]


def cases(data: Path, sources: list[str], seeds: list[int], fetcher: Fetcher) -> Iterator[Case]:
    """Every product of two images and more, with every kind, in every seed."""
    for source in sources:
        products = [p for p in catalogue.read(str(data / source / "catalog.jsonl")) if p.images]
        several = [product for product in products if len(product.images) >= 2]
        for seed in seeds:
            rng = np.random.default_rng(seed)
            for product in several:
                others = [p for p in products if p.category != product.category] or [
                    p for p in products if p != product
                ]
                for kind in KINDS:
                    planted = plant(product, kind, others, rng, fetcher)
                    yield Case(planted, "planted", kind, max(2, min(3, len(product.images) - 1)), source, seed)


def decide(found: list[Case], bundle: str | None, settings: Settings) -> list[tuple[Case, Decision]]:
    """Decisions for all cases; one pipeline a K."""
    answers = []
    for k in sorted({case.k for case in found}):
        part = [case for case in found if case.k == k]
        decisions = Pipeline(bundle, replace(settings, images=k))(case.product for case in part)
        answers += list(zip(part, decisions, strict=True))
    return answers


def line(name: str, answers: list[tuple[Case, Decision]]) -> dict[str, object]:
    """Print one row of the table."""
    chosen = [(case, decision) for case, decision in answers if decision.status == "generated"]
    avoided = np.array([float("planted" not in decision.sequence) for _, decision in chosen])
    chance = np.mean([1 - case.k / len(case.product.images) for case, _ in answers])
    if not len(avoided):
        print(f"  {name:24s} {len(answers):5d} no sequence at all")
        return {"name": name, "cases": len(answers), "avoided": None}
    # A product's five kinds and three seeds are not independent: whole products are drawn.
    groups = [f"{case.source}/{case.product.sku.rpartition(' + ')[0]}" for case, _ in chosen]
    found = bootstrap(lambda values, _: float(values.mean()), avoided, avoided > 0, groups=groups)
    coverage = len(chosen) / len(answers)
    print(
        f"  {name:24s} {len(answers):5d}  avoided {found.value:6.1%} [{found.low:.1%}, {found.high:.1%}]"
        f"  chance {chance:6.1%}  coverage {coverage:6.1%}"
    )
    return {
        "name": name,
        "cases": len(answers),
        "avoided": found.value,
        "low": found.low,
        "high": found.high,
        "chance": float(chance),
        "coverage": coverage,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--source", action="append", required=True, help="catalogue that the bundle was not trained on")
    parser.add_argument("--bundle", default=None, help="folder of a bundle; the starter if left out")
    parser.add_argument("--search", default="best", choices=("best", "random"))
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    for name in ("threshold", "primary-threshold", "noncompliant-threshold", "duplicate-threshold"):
        parser.add_argument(f"--{name}", type=float, default=None, help="default: the bundle's")
    parser.add_argument("--json", type=Path, default=None, help="also write the rows here")
    options = parser.parse_args()
    bundle, _ = Pipeline(options.bundle).open()
    trained = set(bundle.manifest.trained_on)
    if overlap := sorted(trained & set(options.source)):
        raise SystemExit(f"{bundle.name} was trained on {', '.join(overlap)}; the figure would mislead.")
    print(
        f"machine: {machine()}\nbundle: {bundle.name}, seeds {options.seeds}\n"
        f"trained on: {', '.join(sorted(trained)) or 'unknown'}"
    )
    with Fetcher() as fetcher:
        found = list(cases(options.data, options.source, options.seeds, fetcher))
    settings = Settings(
        search=options.search,
        feedback="never",
        threshold=options.threshold,
        primary_threshold=options.primary_threshold,
        noncompliant_threshold=options.noncompliant_threshold,
        duplicate_threshold=options.duplicate_threshold,
    )
    answers = decide(found, options.bundle, settings)
    rows = [line(kind, [a for a in answers if a[0].kind == kind]) for kind in KINDS]
    rows += [line(source, [a for a in answers if a[0].source == source]) for source in options.source]
    rows.append(line("all", answers))
    if options.json:
        options.json.write_text(json.dumps({"bundle": bundle.name, "search": options.search, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
