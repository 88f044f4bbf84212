"""How far a turned picture can be told at all: products that look the same turned, and AUC of rotation without them.

    python -m bench.turned runs/s4/F1 smartstore,grandnode runs/s4/F2 magento,saleor runs/s4/F3 oxid,kickstart

Pictures take the way of clean ones (`agpis.simulate.finish`), drawn evenly from each source's; each is judged as it is
and turned by 90, 180 and 270 degrees. One looks the same as before where the correlation of its letterbox, reduced to
SIDE x SIDE pixels of three channels, with that of its turned self is above a bound: balls, phones from behind and
bands, but by eye also shirts and laptops upside down, so the share is an upper one. Printed, for each source and all:
the share of such pictures for each bound and turn, AUC of the rule `rotation` and of p_noncompliant, turned against
unturned, on all pictures and without those above each bound (with 95 % intervals, bootstrapped over products). The
simulator's rotations are half tilts (12 to 40 degrees), which this says nothing of. --out adds `metrics.turned` to a
JSON of figures (`bench.folds`). About 10 seconds a source on one core.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from agpis.bundle import Bundle
from agpis.images import Size, letterbox
from agpis.inputs import Pixels
from agpis.metrics import Interval, auc, bootstrap
from agpis.simulate import Stock
from agpis.simulate.drawing import Rng
from bench import folds
from bench.hard_pictures import clean_picture
from bench.machine import machine

RULE = "rotation"
SIDE = 24  # pixels: outlines and large parts are compared, no texture
BOUNDS = (0.8, 0.9, 0.95)
COUNT = 150  # pictures a source
TURNS = (90, 180, 270)


@dataclass(frozen=True, slots=True, eq=False)
class Turned:
    """n pictures, each as it is and in T = 3 turns."""

    skus: tuple[str, ...]
    """(n,) with their source."""
    same: NDArray[np.float64]
    """(n, T) correlation with the turned self."""
    scores: dict[str, NDArray[np.float64]]
    """Score -> (n, 1 + T), unturned first."""


def likeness(pixels: Pixels, turned: Pixels) -> float:
    """Correlation of two pictures' letterboxes at low resolution, -1 to 1; 1 where both are of one colour."""
    a, b = (
        cv2.resize(letterbox(p, Size(8 * SIDE, 8 * SIDE)), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        .astype(np.float64)
        .ravel()
        for p in (pixels, turned)
    )
    a, b = a - a.mean(), b - b.mean()
    norm = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / norm if norm > 0 else 1.0


def measured(bundle: Bundle, stock: Stock, rng: Rng, count: int) -> Turned:
    """`count` pictures of a source, looked at by a bundle that was not trained on it."""
    rule = bundle.single_rules.index(RULE)
    skus, same = [], []
    scores: dict[str, list[NDArray[np.float64]]] = {RULE: [], "noncompliant": []}
    for _ in range(count):
        product = stock.some(rng)
        picture = clean_picture(product.pictures[int(rng.integers(len(product.pictures)))], rng)
        turns = [np.ascontiguousarray(np.rot90(picture, degrees // 90)) for degrees in TURNS]
        skus.append(f"{product.source}/{product.sku}")
        same.append([likeness(picture, turned) for turned in turns])
        out = bundle.image(np.stack([letterbox(p, bundle.size) for p in (picture, *turns)]))
        scores[RULE].append(np.asarray(out.rules[:, rule], np.float64))
        scores["noncompliant"].append(np.asarray(out.p_noncompliant, np.float64))
    return Turned(tuple(skus), np.array(same), {name: np.array(rows) for name, rows in scores.items()})


def together(parts: Sequence[Turned]) -> Turned:
    """All sources' pictures as one."""
    return Turned(
        tuple(sku for part in parts for sku in part.skus),
        np.concatenate([part.same for part in parts]),
        {name: np.concatenate([part.scores[name] for part in parts]) for name in parts[0].scores},
    )


def told(found: Turned, score: str, bound: float) -> Interval:
    """AUC of the turned against the unturned, without turned pictures that look the same by more than `bound`."""
    kept = found.same <= bound
    values, skus = found.scores[score], np.array(found.skus)
    rows, _ = np.nonzero(kept)
    both = np.r_[values[:, 1:][kept], values[:, 0]]
    labels = np.r_[np.ones(len(rows), bool), np.zeros(len(values), bool)]
    return bootstrap(auc, both, labels, groups=[*skus[rows], *skus], rounds=300)


def printed(name: str, found: Turned) -> None:
    """Shares and AUC of one source, or all."""
    print(f"{name}: {len(found.skus)} pictures of {len(set(found.skus))} products")
    for bound in BOUNDS:
        above = found.same > bound
        by_turn = ", ".join(f"{turn} {share:.1%}" for turn, share in zip(TURNS, above.mean(axis=0), strict=True))
        print(f"  look the same, correlation above {bound:g}: {above.mean():.1%} ({by_turn}); ", end="")
        print(f"AUC if all others were told: {1.0 - above.mean() / 2:.3f}")
    for score in found.scores:
        without = ", ".join(f"without those above {bound:g} {told(found, score, bound)}" for bound in BOUNDS)
        print(f"  AUC of {score}: all {told(found, score, 1.0)}, {without}", flush=True)


def figures(found: Turned) -> dict[str, Any]:
    """JSON form."""
    return {
        "look the same": {f"above {bound:g}": round(float((found.same > bound).mean()), 4) for bound in BOUNDS},
        **{
            f"AUC of {score}": {
                name: [round(v, 4) for v in (part.value, part.low, part.high)]
                for name, part in (
                    ("all", told(found, score, 1.0)),
                    *((f"without those above {bound:g}", told(found, score, bound)) for bound in BOUNDS),
                )
            }
            for score in found.scores
        },
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the figures; see the module."""
    parser = argparse.ArgumentParser(
        prog="bench.turned", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    folds.arguments(parser)
    parser.add_argument("--count", type=int, default=COUNT, help="pictures a source")
    parser.add_argument("--seed", type=int, default=100)
    options = parser.parse_args(arguments)
    given = folds.folds(parser, options)
    cv2.setNumThreads(1)
    print(f"machine: {machine()}, seed {options.seed}")
    parts = []
    for fold in given:
        for source in fold.sources:
            stock = Stock(fold.products(source, details=False))
            parts.append(measured(fold.bundle, stock, np.random.default_rng(options.seed), options.count))
            printed(f"{source} ({fold.folder})", parts[-1])
    whole = together(parts)
    printed("all", whole)
    folds.add(options.out, {"metrics": {"turned": figures(whole)}})


if __name__ == "__main__":
    main()
