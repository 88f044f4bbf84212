"""How well a stranger among a product's images is told, and the `kinship` entry of a bundle's manifest fitted.

    python -m bench.kinship --bundle BUNDLE --source oxid --source grandnode [--data ../shared/data] [--out FIGURES]

To every product with at least two images, another product's first image (of another category) is added, three draws
each. Own images are the negatives. Printed: AUC of the margin, the share of products whose stranger has the lowest
margin, and the logistic fitted to margin (Newton steps, sources weighted alike). Name sources the bundle was not
trained on. FIGURES, the JSON of `bench.starter` or a new file, gets the entry: `python -m agpis.recipe figures` puts it
into a bundle.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agpis import catalogue
from agpis.bundle import Bundle, open_bundle
from agpis.bundle_manifest import Kinship
from agpis.fetch import Fetcher
from agpis.images import decode, letterbox
from agpis.kinship import features as compared
from agpis.kinship import margins
from agpis.metrics import auc
from bench.machine import machine

SHARE = 1 / 20
"""Of a merchant's images that are strangers: the prior of the shipped middle."""
REMOVED_FROM = 0.36
"""Probability from which an image is removed: that of the margin -0.26 with the shipped middle and width."""

COLOURS = 2.0
"""Weight of the colour signatures, chosen on smartstore and grandnode (bench/LOG.md)."""

Array = NDArray[np.float64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--source", action="append", required=True)
    parser.add_argument("--bundle", default=None)
    parser.add_argument("--out", type=Path, help="JSON to add the entry to")
    options = parser.parse_args()
    bundle = open_bundle(options.bundle)
    trained = set(bundle.manifest.trained_on)
    if overlap := sorted(trained & set(options.source)):
        raise SystemExit(f"{bundle.name} was trained on {', '.join(overlap)}; the figure would mislead.")
    print(f"machine: {machine()}\nbundle: {bundle.name}, seed 0")
    rng = np.random.default_rng(0)
    values, labels, weights = [], [], []
    for source in options.source:
        own, strange = measured(bundle, options.data / source / "catalog.jsonl", rng)
        values.append(np.r_[own, strange])
        labels.append(np.r_[np.zeros(len(own)), np.ones(len(strange))])
        weights.append(np.r_[np.full(len(own), 1 / len(own)), np.full(len(strange), 1 / len(strange))])
    middle, width = logistic(np.concatenate(values), np.concatenate(labels), np.concatenate(weights))
    print(f"fitted for as many strangers as kin: middle {middle:.3f}  width {width:.3f}")
    found = entry(middle, width, options.source)
    print(f"for a share of strangers of {SHARE:.0%}: middle {found.middle:.3f}  removed {found.removed:.3f}")
    if options.out:
        figures = json.loads(options.out.read_text("utf-8")) if options.out.exists() else {}
        figures["kinship"] = found.model_dump(mode="json")
        options.out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def measured(bundle: Bundle, path: Path, rng: np.random.Generator) -> tuple[Array, Array]:
    """Margins of the own images and of the strangers of one catalogue; prints how well they are told apart."""
    products = [p for p in catalogue.read(str(path)) if p.images]
    features = {}
    with Fetcher() as fetcher:
        for product in products:
            pictures = [decode(fetcher(i.location), target=448).pixels for i in product.images]
            tokens = bundle.image(np.stack([letterbox(p, bundle.size) for p in pictures])).tokens
            features[product.sku] = compared(tokens, bundle.manifest.token_layout, Kinship(colours=COLOURS))
    own: list[float] = []
    strange, lowest = [], []
    for product in products:
        if len(product.images) < 2:
            continue
        others = [p for p in products if p.category != product.category]
        for _ in range(3):
            other = others[int(rng.integers(len(others)))]
            found = margins(np.concatenate([features[product.sku], features[other.sku][:1]]))
            own += list(found[:-1])
            strange.append(found[-1])
            lowest.append(found.argmin() == len(found) - 1)
        own += list(margins(features[product.sku])) if len(product.images) >= 3 else []
    both, label = np.r_[own, strange], np.r_[np.zeros(len(own)), np.ones(len(strange))]
    told = f"AUC {auc(-both, label):.3f}  lowest {np.mean(lowest):.1%}"
    print(f"  {path.parent.name:11s} {len(strange):4d} strangers  {told}")
    return np.array(own), np.array(strange)


def logistic(margin: Array, strange: Array, weights: Array) -> tuple[float, float]:
    """Middle and width of the weighted logistic of being a stranger (n,) on the margin (n,), by Newton steps."""
    design = np.stack([np.ones_like(margin), margin], axis=1)
    beta = np.zeros(2)
    for _ in range(50):
        p = 1 / (1 + np.exp(-design @ beta))
        hessian = (design * (weights * p * (1 - p))[:, None]).T @ design + 1e-6 * np.eye(2)
        beta += np.linalg.solve(hessian, design.T @ (weights * (strange - p)))
    return float(-beta[0] / beta[1]), float(-1 / beta[1])


def entry(middle: float, width: float, sources: list[str]) -> Kinship:
    """The manifest's entry for a logistic that was fitted for as many strangers as kin, moved to `SHARE` (Bayes)."""
    moved = middle - width * math.log((1 - SHARE) / SHARE)
    return Kinship(
        middle=round(moved, 4),
        width=round(width, 4),
        colours=COLOURS,
        removed=round(moved + width * math.log((1 - REMOVED_FROM) / REMOVED_FROM), 4),
        data=f"strangers among the images of {', '.join(sources)}; python -m bench.kinship",
    )


if __name__ == "__main__":
    main()
