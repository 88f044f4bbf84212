"""Which of a product's pictures is taken for the primary, and the manifest's `choice` fitted.

    python -m bench.primary runs/foldB oxid,grandnode,saleor runs/foldC kickstart,smartstore --out runs/figures.json

Each bundle is measured on the sources named behind it, which it should not be trained on. Three kinds of candidate
sets, shuffled. `natural`: a product's own pictures, where some would not be accepted as primary. `planted`: with a
close-up and two faulty versions of a good one, as `bench.starter` plants them. `upload`: with a close-up, faulty
versions, a crop and a harmless copy of any of its pictures, and another product's. Faults are drawn in `Style.test()`.
No threshold removes any before the choice. Printed: top-1 of

p_primary    the largest, as in the paper;
kinship      weighed by the probability that the picture shows the product, as a bundle without `choice` does;
nearest      the picture whose mean token is nearest to all others';
largest      the picture whose product has the largest box;
fitted       `agpis.choice`, fitted on the other sources of --fit (all if left out), never on the one measured.

Intervals: 95 %, bootstrap over products. --out writes the fit on all sources of --fit as `choice`, and the table as
`metrics.choice`, into the JSON of `bench.starter` or a new file; `python -m agpis.recipe figures` puts it into a
bundle. About 40 seconds for 100 products on one core.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from agpis import choice, duplicates, kinship
from agpis.bundle import Bundle
from agpis.bundle_manifest import Choice
from agpis.inputs import Pixels, stack
from agpis.metrics import Interval, Resample
from agpis.simulate import SINGLE, Catalogued, Stock, Style, copied
from agpis.simulate.drawing import ground
from agpis.simulate.multi import close_up
from agpis.simulate.stock import WHOLE
from bench import folds
from bench.machine import machine

KINDS = ("natural", "planted", "upload")
WAYS = ("p_primary", "kinship", "nearest", "largest")
HARMLESS = ("recoded", "mirrored", "padded")
"""Copies that are as fit to lead as their original."""
FEWEST = 30
"""Candidate sets of one kind and source that weigh as much, together, as any number of another's."""
RIDGE = 0.01
"""Of the fit, for features of unit spread and a mean log likelihood."""

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """n pictures to choose a primary among."""

    source: str
    kind: str
    group: str
    """Colours of one product are one."""
    good: NDArray[np.bool_]
    """(n,) whether the picture would be accepted as primary."""
    features: Array
    """(n, 10) of `agpis.choice`."""
    ways: Mapping[str, Array]
    """(n,) scores of each of WAYS."""


def planted(product: Catalogued, stock: Stock, rules: Sequence[str], rng: np.random.Generator) -> list[Pixels]:
    """A close-up and two faulty versions of the first good picture: none of them should lead."""
    whole = next(p for p, view in zip(product.pictures, product.views, strict=True) if view in WHOLE)
    return [close_up(whole, rng), *(_faulty(whole, rule, stock, rng) for rule in rng.choice(rules, 2, replace=False))]


def _faulty(pixels: Pixels, rule: str, stock: Stock, rng: np.random.Generator) -> Pixels:
    return SINGLE[str(rule)](pixels, rng, Style.test().having(stock.pool(rng))).pixels


def _uploaded(
    product: Catalogued, stock: Stock, rules: Sequence[str], rng: np.random.Generator
) -> tuple[list[Pixels], list[bool]]:
    """What may lie among a merchant's pictures, and whether it could lead."""

    def drawn() -> int:
        return int(rng.integers(len(product.pictures)))

    style, original = Style.test(), drawn()
    stranger = stock.unlike(product, rng) or stock.alike(product, rng)
    pictures = [close_up(product.pictures[drawn()], rng)]
    pictures += [_faulty(product.pictures[drawn()], rule, stock, rng) for rule in rng.choice(rules, 2, replace=False)]
    pictures.append(copied(product.pictures[drawn()], rng, style, "crop").pixels)
    pictures += [] if stranger is None else [stranger.pictures[int(rng.integers(len(stranger.pictures)))]]
    pictures.append(copied(product.pictures[original], rng, style, str(rng.choice(HARMLESS))).pixels)
    return pictures, [False] * (len(pictures) - 1) + [product.views[original] in WHOLE]


def collected(bundle: Bundle, stock: Stock, rng: np.random.Generator, rounds: int) -> Iterator[Candidates]:
    """Candidate sets of every product with a picture that may lead; planted and uploaded ones `rounds` times."""
    rules = [rule for rule in bundle.single_rules if rule in SINGLE]
    for product in stock.products:
        good = [view in WHOLE for view in product.views]
        if not any(good):
            continue
        own = list(product.pictures)
        if not all(good) and "unknown" not in product.views:
            yield _candidates(bundle, product, "natural", own, good, rng)
        for _ in range(rounds):
            wrong = planted(product, stock, rules, rng)
            yield _candidates(bundle, product, "planted", own + wrong, good + [False] * len(wrong), rng)
            more, fit = _uploaded(product, stock, rules, rng)
            yield _candidates(bundle, product, "upload", own + more, good + fit, rng)


def _candidates(
    bundle: Bundle, product: Catalogued, kind: str, pictures: list[Pixels], good: list[bool], rng: np.random.Generator
) -> Candidates:
    order = rng.permutation(len(pictures))
    pictures = [pictures[i] for i in order]
    features, _, ways = judged(bundle, pictures)
    group = product.style or product.sku
    return Candidates(product.source, kind, group, np.array(good)[order], features, ways)


def judged(bundle: Bundle, pictures: Sequence[Pixels]) -> tuple[Array, Array, dict[str, Array]]:
    """Features (n, 10) and looks (n, D) of the pictures, and the scores (n,) of WAYS."""
    small = stack(pictures, bundle.size)
    out = bundle.image(small)
    views = [
        duplicates.View(patches, picture.shape[1], picture.shape[0], bundle.size, pixels)
        for patches, picture, pixels in zip(out.patches, pictures, small, strict=True)
    ]
    matches = duplicates.match_pairs(views, calibration=bundle.calibration)
    p_copy = np.zeros((len(views), len(views)))
    for match in matches:
        p_copy[match.a, match.b] = p_copy[match.b, match.a] = match.probability
    parts = duplicates.crops(matches, bundle.thresholds["duplicate"], views)
    features = choice.features(
        out.p_primary, out.p_noncompliant, out.rules, out.tokens, p_copy, parts, bundle.manifest.token_layout
    )
    manifest = bundle.manifest
    strange = kinship.p_stranger(
        kinship.features(out.tokens, manifest.token_layout, manifest.kinship), manifest.kinship
    )
    boxes = [ground(pixels).box for pixels in small]
    ways = {
        "p_primary": out.p_primary,
        "kinship": out.p_primary * (1.0 - strange),
        "nearest": features[:, choice.FEATURES.index("alike")],
        "largest": [box.w * box.h for box in boxes],
    }
    seen = choice.looks(out.tokens, manifest.token_layout)
    return features, seen, {name: np.asarray(ways[name], np.float64) for name in WAYS}


def scores(bundle: Bundle, pictures: Sequence[Pixels]) -> tuple[Array, Array]:
    """What the bundle chooses the primary by, and p_primary: (n,) each."""
    features, seen, ways = judged(bundle, pictures)
    fitted = bundle.manifest.choice
    return ways["kinship"] if fitted is None else choice.scores(features, fitted, seen), ways["p_primary"]


def fit(sets: Sequence[Candidates], data: str = "") -> Choice:
    """Weights under which a good picture is likeliest to be drawn, in a softmax over the candidates of each set.

    Sources weigh alike, and so do the kinds within each, as long as there are FEWEST sets. All weights are 0 or more.
    """
    sets = [s for s in sets if s.good.any() and not s.good.all()]
    if not sets:
        raise ValueError("a choice is fitted on candidates some of which are good and some are not; found no such set")
    cells, counts = np.unique([f"{s.source} {s.kind}" for s in sets], return_counts=True)
    number = dict(zip(cells, counts, strict=True))
    weight = np.array([1.0 / max(FEWEST, number[f"{s.source} {s.kind}"]) for s in sets])
    weight /= weight.sum()
    inside = np.concatenate([s.features - s.features.mean(axis=0) for s in sets])
    spread = np.maximum(inside.std(axis=0), 1e-6)
    rows = [s.features / spread for s in sets]

    def loss(at: Array) -> tuple[float, Array]:
        value, slope = 0.5 * RIDGE * float(at @ at), RIDGE * at
        for x, candidates, w in zip(rows, sets, weight, strict=True):
            chance = choice.chances(x @ at, np.ones(len(x), bool))
            good = float(chance[candidates.good].sum()) + 1e-12
            value -= w * np.log(good)
            slope = slope - w * ((np.where(candidates.good, chance / good, 0.0) - chance) @ x)
        return value, slope

    start = np.zeros(len(choice.FEATURES))
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(0.0, None)] * len(start)).x / spread
    weights = {name: round(float(value), 4) for name, value in zip(choice.FEATURES, found, strict=True)}
    return Choice.model_validate(weights | {"data": data})


def right(sets: Sequence[Candidates], way: str | Choice) -> NDArray[np.bool_]:
    """(S,) whether the picture with the largest score is good."""
    found = [s.ways[way] if isinstance(way, str) else choice.scores(s.features, way) for s in sets]
    return np.array([bool(s.good[int(score.argmax())]) for s, score in zip(sets, found, strict=True)])


def table(sets: Sequence[Candidates], fits: Mapping[str, Choice]) -> dict[str, dict[str, dict[str, Any]]]:
    """Print top-1 by kind, source and way, and its mean over sources; `fits`: for each source one without it."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for kind in KINDS:
        by_way: dict[str, dict[str, tuple[float, Array]]] = {way: {} for way in (*WAYS, "fitted")}
        for source in dict.fromkeys(s.source for s in sets):
            part = [s for s in sets if s.source == source and s.kind == kind]
            resample = Resample(len(part), [s.group for s in part])
            for way, rows in by_way.items():
                chosen = fits.get(source) if way == "fitted" else way
                if part and chosen is not None:
                    ok = right(part, chosen)
                    rows[source] = float(ok.mean()), resample.spread(partial(_share, ok))
            number = f"{len(part)} sets of {len({s.group for s in part})} products"
            row = {way: _interval([rows[source]]) for way, rows in by_way.items() if source in rows}
            found.setdefault(source, {})[kind] = _printed(f"{source}, {kind} ({number})", row)
        row = {way: _interval(list(rows.values())) for way, rows in by_way.items() if rows}
        found.setdefault("mean over sources", {})[kind] = _printed(f"MEAN OVER SOURCES, {kind}", row)
    return found


def _share(ok: NDArray[np.bool_], drawn: Array) -> Array:
    """(rounds, S) how often each set is drawn -> (rounds,) share of right ones."""
    return np.asarray(drawn @ ok / drawn.sum(axis=1))


def _interval(parts: Sequence[tuple[float, Array]]) -> Interval:
    """Of the mean of figures (value, draws), whose sources are drawn from apart."""
    drawn = np.mean([draws for _, draws in parts], axis=0)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Interval(float(np.mean([value for value, _ in parts])), float(low), float(high))


def _printed(name: str, row: Mapping[str, Interval]) -> dict[str, list[float]]:
    print(f"{name}: " + "  ".join(f"{way} {value}" for way, value in row.items()), flush=True)
    return {way: [round(v, 4) for v in (value.value, value.low, value.high)] for way, value in row.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table; see the module."""
    parser = argparse.ArgumentParser(prog="bench.primary", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    folds.arguments(parser)
    parser.add_argument("--fit", default="", help="sources to fit on, comma-separated; all of the above if left out")
    parser.add_argument("--rounds", type=int, default=2, help="draws of planted and uploaded sets for each product")
    parser.add_argument("--seed", type=int, default=100)
    options = parser.parse_args(arguments)
    given = folds.folds(parser, options)
    cv2.setNumThreads(1)
    print(f"machine: {machine()}, seed {options.seed}, {options.rounds} rounds")
    sets: list[Candidates] = []
    for fold in given:
        for name in fold.sources:
            stock = Stock(fold.products(name, details=False))
            sets += collected(fold.bundle, stock, np.random.default_rng(options.seed), options.rounds)
    measured = list(dict.fromkeys(s.source for s in sets))
    to_fit = [name for name in options.fit.split(",") if name] or measured
    if unknown := sorted(set(to_fit) - set(measured)):
        parser.error(
            f"--fit names {', '.join(unknown)}, which no bundle is measured on; measured: {', '.join(measured)}"
        )
    fits = {}
    for source in measured:
        others = [s for s in sets if s.source in to_fit and s.source != source]
        if others:
            fits[source] = fit(others)
    found = table(sets, fits)
    whole = fit([s for s in sets if s.source in to_fit], f"{', '.join(to_fit)}; python -m bench.primary")
    print("fitted on " + "  ".join(f"{name} {value}" for name, value in whole.model_dump().items()))
    folds.add(options.out, {"choice": whole.model_dump(mode="json"), "metrics": {"choice": found}})


if __name__ == "__main__":
    main()
