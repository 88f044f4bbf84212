"""How well a stranger among a product's images is told, and the two constants of `agpis.kinship`.

    python -m bench.kinship --bundle BUNDLE --source oxid --source grandnode [--data ../shared/data]

To every product with at least two images, another product's first image (of another category) is added, three draws
each. Own images are the negatives. Printed: AUC of the margin, the share of products whose stranger has the lowest
margin, and the logistic fitted to margin (Newton steps, sources weighted alike). Name sources the bundle was not
trained on.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from agpis import catalogue
from agpis.bundle import open_bundle
from agpis.fetch import Fetcher
from agpis.images import decode, letterbox
from agpis.kinship import margins
from agpis.metrics import auc
from bench.machine import machine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--source", action="append", required=True)
    parser.add_argument("--bundle", default=None)
    options = parser.parse_args()
    bundle = open_bundle(options.bundle)
    trained = set(bundle.manifest.trained_on)
    if overlap := sorted(trained & set(options.source)):
        raise SystemExit(f"{bundle.name} was trained on {', '.join(overlap)}; the figure would mislead.")
    print(f"machine: {machine()}\nbundle: {bundle.name}, seed 0")
    rng = np.random.default_rng(0)
    values, labels, weights = [], [], []
    for source in options.source:
        products = [p for p in catalogue.read(str(options.data / source / "catalog.jsonl")) if p.images]
        features = {}
        with Fetcher() as fetcher:
            for product in products:
                pictures = [decode(fetcher(i.location), target=448).pixels for i in product.images]
                features[product.sku] = bundle.embed(np.stack([letterbox(p, bundle.size) for p in pictures]))
        own, strange, lowest = [], [], []
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
        both = np.r_[own, strange]
        label = np.r_[np.zeros(len(own)), np.ones(len(strange))]
        print(f"  {source:11s} {len(strange):4d} strangers  AUC {auc(-both, label):.3f}  lowest {np.mean(lowest):.1%}")
        values.append(both)
        labels.append(label)
        weights.append(np.r_[np.full(len(own), 1 / len(own)), np.full(len(strange), 1 / len(strange))])
    x, y, w = np.concatenate(values), np.concatenate(labels), np.concatenate(weights)
    design = np.stack([np.ones_like(x), x], axis=1)
    beta = np.zeros(2)
    for _ in range(50):
        p = 1 / (1 + np.exp(-design @ beta))
        hessian = (design * (w * p * (1 - p))[:, None]).T @ design + 1e-6 * np.eye(2)
        beta += np.linalg.solve(hessian, design.T @ (w * (y - p)))
    print(f"fitted: MIDDLE {-beta[0] / beta[1]:.3f}  WIDTH {-1 / beta[1]:.3f}")


if __name__ == "__main__":
    main()
