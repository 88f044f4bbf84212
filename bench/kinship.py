"""How well a stranger among a product's images is told, and the `kinship` entry of a bundle's manifest fitted.

    python -m bench.kinship runs/s4/F1 smartstore,grandnode runs/s4/F2 saleor,magento runs/s4/F3 oxid,kickstart

To every product with at least two images, another product's first image (of another category) is added, three draws
each. Own images are the negatives. Printed, for each weight of the colour signatures (--colours), and for the last of
them with titles heard (--titles): AUC of the margin and the share of products whose stranger has the lowest margin;
then, for the last column, the logistic fitted to the margin on each bundle's sources (Newton steps, sources weighed
alike) and the mean of the fits. --out adds the mean as `kinship` to a JSON of figures (`bench.folds`). 25 seconds for
the six sources on one core.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agpis import catalogue
from agpis.bundle import Bundle, FloatArray, ImageOutputs
from agpis.bundle_manifest import Kinship
from agpis.data import Product
from agpis.fetch import Fetcher
from agpis.images import decode, letterbox
from agpis.kinship import features, margins
from agpis.metrics import auc
from bench import folds
from bench.machine import machine

DRAWS = 3
"""Strangers that each product meets, one at a time."""
SHARE = 1 / 20
"""Of a merchant's images that are strangers: the prior of the shipped middle."""
REMOVED_FROM = 0.36
"""Probability from which an image is removed: that of the margin -0.26 with the shipped middle and width."""

COLOURS = (0.0, 2.0)
"""Weights of the colour signatures: none, and the one chosen on smartstore and grandnode (bench/LOG.md)."""

TITLES = 0.02
"""Weight of titles: of 0.02 and 0.05 the one that costs no source anything (bench/LOG.md)."""

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Margins:
    """Of the images of one source's products, with a stranger among them and, from three images on, without."""

    source: str
    own: Array
    strange: Array
    """(S,) one for each stranger."""
    lowest: float
    """Share of strangers with a smaller margin than every image of the product."""

    def __str__(self) -> str:
        label = np.r_[np.zeros(len(self.own)), np.ones(len(self.strange))]
        return f"{auc(-np.r_[self.own, self.strange], label):.3f}, {self.lowest:.0%}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints table and fits; see the module."""
    parser = argparse.ArgumentParser(
        prog="bench.kinship", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    folds.arguments(parser)
    parser.add_argument("--colours", type=float, nargs="+", default=COLOURS, help="weights; 0 is without colours")
    parser.add_argument("--titles", type=float, default=TITLES, help="weight of what titles name; 0 is without")
    options = parser.parse_args(arguments)
    asked = [Kinship(colours=weight) for weight in options.colours]
    if options.titles:
        asked.append(Kinship(colours=options.colours[-1], titles=options.titles))
    given = folds.folds(parser, options)
    print(f"machine: {machine()}, seed 0\n")
    heads = [f"colours {one.colours:g}{', titles' if one.titles else ''}: AUC, lowest" for one in asked]
    print(f"| source | strangers | {' | '.join(heads)} |\n|---|---|{'---|' * len(heads)}")
    entries: list[Kinship] = []
    for fold in given:
        rng, last = np.random.default_rng(0), []
        for source in fold.sources:
            found = measured(fold.bundle, fold.catalogue(source), asked, rng)
            cells = " | ".join(map(str, found))
            print(f"| {source} ({fold.folder}) | {len(found[-1].strange)} | {cells} |", flush=True)
            last.append(found[-1])
        entries.append(entry(*fitted(last), asked[-1], fold.sources))
    print()
    names = [fold.sources for fold in given]
    for sources, each in zip(names, entries, strict=True):
        print(f"{', '.join(sources)}: {said(each)}")
    whole = mean(entries, names)
    print(f"mean: {said(whole)}")
    folds.add(options.out, {"kinship": whole.model_dump(mode="json")})


def said(found: Kinship) -> str:
    """A fit in words."""
    return (
        f"for {SHARE:.0%} strangers middle {found.middle:.4f}, width {found.width:.4f}, removed {found.removed:.4f}, "
        f"colours {found.colours:g}, titles {found.titles:g}"
    )


def measured(bundle: Bundle, path: Path, asked: Sequence[Kinship], rng: np.random.Generator) -> list[Margins]:
    """Margins of the own images and of the strangers of one catalogue, by the weights of each of `asked`."""
    products = [p for p in catalogue.read(str(path)) if p.images]
    seen: dict[str, ImageOutputs] = {}
    with Fetcher() as fetcher:
        for product in products:
            pictures = [decode(fetcher(i.location), target=448).pixels for i in product.images]
            seen[product.sku] = bundle.image(np.stack([letterbox(p, bundle.size) for p in pictures]))
    several = [product for product in products if len(product.images) > 1]
    drawn = [(product, [_other(product, products, rng) for _ in range(DRAWS)]) for product in several]
    found = []
    for one in asked:
        of = partial(_margins_of, bundle, one, seen)
        own: list[float] = []
        strange, lowest = [], []
        for product, others in drawn:
            for other in others:
                values = of(product, other)
                own += list(values[:-1])
                strange.append(values[-1])
                lowest.append(values.argmin() == len(values) - 1)
            own += list(of(product)) if len(product.images) >= 3 else []
        found.append(Margins(path.parent.name, np.array(own), np.array(strange), float(np.mean(lowest))))
    return found


def _margins_of(
    bundle: Bundle, weights: Kinship, seen: Mapping[str, ImageOutputs], product: Product, other: Product | None = None
) -> Array:
    """Margins of a product's images, and of the first of another's among them."""
    outs = [seen[product.sku]] + ([] if other is None else [seen[other.sku]])
    most = [None, 1][: len(outs)]  # all of the product's, one of the other's
    tokens = np.concatenate([out.tokens[:count] for out, count in zip(outs, most, strict=True)])
    shown = [row for out, count in zip(outs, most, strict=True) for row in _things(out)[:count]]
    titled = bundle.titled(product.title, product.category, shown)
    rows = features(tokens, bundle.manifest.token_layout, weights)
    return np.asarray(margins(rows, titled, weights.titles), np.float64)


def _things(out: ImageOutputs) -> list[FloatArray | None]:
    return [None] * len(out.tokens) if out.things is None else list(out.things)


def _other(product: Product, products: Sequence[Product], rng: np.random.Generator) -> Product:
    others = [p for p in products if p.category != product.category] or [p for p in products if p.sku != product.sku]
    return others[int(rng.integers(len(others)))]


def fitted(found: Sequence[Margins]) -> tuple[float, float]:
    """Middle and width of the logistic for as many strangers as kin; sources weigh alike."""
    values = [np.r_[m.own, m.strange] for m in found]
    labels = [np.r_[np.zeros(len(m.own)), np.ones(len(m.strange))] for m in found]
    weights = [np.r_[np.full(len(m.own), 1 / len(m.own)), np.full(len(m.strange), 1 / len(m.strange))] for m in found]
    return logistic(np.concatenate(values), np.concatenate(labels), np.concatenate(weights))


def logistic(margin: Array, strange: Array, weights: Array) -> tuple[float, float]:
    """Middle and width of the weighted logistic of being a stranger (n,) on the margin (n,), by Newton steps."""
    design = np.stack([np.ones_like(margin), margin], axis=1)
    beta = np.zeros(2)
    for _ in range(50):
        p = 1 / (1 + np.exp(-design @ beta))
        hessian = (design * (weights * p * (1 - p))[:, None]).T @ design + 1e-6 * np.eye(2)
        beta += np.linalg.solve(hessian, design.T @ (weights * (strange - p)))
    return float(-beta[0] / beta[1]), float(-1 / beta[1])


def entry(middle: float, width: float, weights: Kinship, sources: Sequence[str]) -> Kinship:
    """The manifest's entry, with the weights of another, for a logistic that was fitted for as many strangers as kin,
    moved to `SHARE` (Bayes).

    Raises SystemExit where strangers are no less alike to a product's images than its own are.
    """
    if width <= 0:
        raise SystemExit(
            f"no margin tells the strangers of {', '.join(sources)}: fitted middle {middle}, width {width}"
        )
    moved = middle - width * math.log((1 - SHARE) / SHARE)
    return Kinship(
        middle=round(moved, 4),
        width=round(width, 4),
        colours=weights.colours,
        titles=weights.titles,
        removed=round(moved + width * math.log((1 - REMOVED_FROM) / REMOVED_FROM), 4),
        data=f"strangers among the images of {', '.join(sources)}; python -m bench.kinship",
    )


def mean(entries: Sequence[Kinship], sources: Sequence[Sequence[str]]) -> Kinship:
    """Of the fits of several bundles, each on its own sources, with the same weights; of one it is that."""
    if len(entries) == 1:
        return entries[0]
    named = "; ".join(", ".join(names) for names in sources)
    return Kinship(
        middle=round(float(np.mean([each.middle for each in entries])), 4),
        width=round(float(np.mean([each.width for each in entries])), 4),
        colours=entries[0].colours,
        titles=entries[0].titles,
        removed=round(float(np.mean([each.removed for each in entries])), 4),
        data=f"mean of the fits on {named} (each left out of its bundle); python -m bench.kinship",
    )


if __name__ == "__main__":
    main()
