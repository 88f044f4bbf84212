"""How often a rejected sequence's rule and image are named rightly, in a decision's violations and in its feedback.

    python -m bench.naming runs/foldU smartstore,oxid --fit smartstore,oxid,kickstart
    python -m bench.naming runs/foldA magento runs/foldB oxid,grandnode,saleor runs/foldC kickstart,smartstore --out F

Each bundle looks at sequences of the sources named behind it, drawn in `Style.test()`, rejected ones in the paper's
shares (4.1) and accepted ones for what is usual. The naming model (`agpis.naming`) is fitted on the sources of --fit
(all, where it is left out) but the one that is measured; with a single source, on the other products of it, in five
folds. Printed beside: what the hand-set weights name, and what the decoder's text names. Intervals are bootstrapped
over products. With --out the fit on all sources of --fit is written under `naming`, its figures under `metrics`, for
`python -m agpis.recipe figures --figures`. About 2 minutes a source on one core.
"""

from __future__ import annotations

import argparse
import hashlib
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from agpis import duplicates, evidence, naming
from agpis.bundle import Bundle
from agpis.bundle_manifest import Naming
from agpis.data import Box
from agpis.inputs import stack
from agpis.listings import possible
from agpis.metrics import Interval, Resample, mean_statistic
from agpis.rulebook import Rule, Rulebook
from agpis.simulate import SHARES, Catalogued, Stock, Style, sequences
from agpis.simulate.sequence_samples import Sample
from bench import folds
from bench.machine import machine

REJECTED, ACCEPTED = 1000, 250  # sequences a source
FOLDS = 5


@dataclass(frozen=True, slots=True, eq=False)
class Looked:
    """What a bundle knows of a drawn sequence, and what is true of it."""

    rule: str
    """`qualified` where none is broken."""
    image: int | None
    scope: str
    sku: str
    """With its source."""
    names: tuple[str, ...]
    """C classes of the bundle."""
    classes: naming.FloatArray
    """(C,)"""
    without: naming.FloatArray
    """(K, C) with each image masked."""
    sight: naming.Sight
    marks: tuple[Box | None, ...]
    """K places of what stage 1 holds against an image."""
    sizes: tuple[tuple[int, int], ...]
    """K widths and heights, pixels."""
    said: str
    """By the decoder."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a decision on a rejected sequence says."""

    rule: str
    """The likeliest violation."""
    image: int | None
    """Its image."""
    any_image: int | None
    """The image of the likeliest violation that has one."""
    words: str
    """The rulebook's, for the likeliest violation."""
    feedback: str
    """That is shown."""


def look(bundle: Bundle, sample: Sample, *, say: bool = True) -> Looked:
    """Runs all graphs on a sequence; `say`: the decoder too."""
    pixels = stack(list(sample.pictures), bundle.size)
    out, count = bundle.image(pixels), len(pixels)
    sizes = tuple((picture.shape[1], picture.shape[0]) for picture in sample.pictures)
    views = [
        duplicates.View(patches, *size, bundle.size, small)
        for patches, size, small in zip(out.patches, sizes, pixels, strict=True)
    ]
    p_copy = np.zeros((count, count), np.float32)
    for match in duplicates.match_pairs(views, calibration=bundle.calibration):
        p_copy[match.a, match.b] = p_copy[match.b, match.a] = match.probability
    known = naming.known(out.tokens, bundle.manifest.token_layout, len(bundle.single_rules))
    places = [None] * count if out.evidence is None else out.evidence
    tokens = np.repeat(out.tokens[None], count + 1, axis=0)
    shown = 1.0 - np.eye(count + 1, count, -1, dtype=np.float32)  # all images, then all but one
    classes = bundle.sequence(tokens, sample.title, sample.category, shown)
    return Looked(
        rule=sample.rule,
        image=sample.image_index,
        scope=bundle.rulebook.rule(sample.rule).scope if sample.rule in bundle.rulebook else sample.rule,
        sku=f"{sample.source}/{sample.sku}",
        names=bundle.classes,
        classes=classes[0],
        without=classes[1:],
        sight=naming.Sight(
            bundle.single_rules,
            out.rules,
            out.p_primary,
            p_copy,
            out.tokens.mean(axis=1),
            known,
            bundle.titled(sample.title, sample.category, [None] * count if out.things is None else list(out.things)),
            bundle.single_roles,
        ),
        marks=tuple(
            None if at is None else evidence.mark(at, *size, bundle.size)
            for at, size in zip(places, sizes, strict=True)
        ),
        sizes=sizes,
        said=bundle.feedback(out.tokens, sample.title, sample.category) if say else "",
    )


def told(looked: Looked, rulebook: Rulebook, fitted: Naming | None) -> Told:
    """What a decision would say of it; `fitted` None: by the hand-set weights."""
    found = evidence.objections(
        looked.classes, looked.names, rulebook, looked.sight, lambda: looked.without, fitted=fitted
    )
    first, image = found[0], found[0].image
    box = None if image is None or not evidence.has_place(first.rule) else looked.marks[image]
    size = (1, 1) if image is None else looked.sizes[image]
    words = evidence.in_the_rulebooks_words(first.rule, looked.sight, image, box, size)
    return Told(
        first.rule.id,
        image,
        next((objection.image for objection in found if objection.image is not None), None),
        words,
        evidence.shown(looked.said, words, rulebook)[0],
    )


def draw(
    bundle: Bundle,
    products: Sequence[Catalogued],
    rejected: int,
    accepted: int,
    seed: int,
    *,
    say: bool = True,
    style: Style | None = None,
) -> list[Looked]:
    """Sequences of one source's products, looked at by a bundle that was not trained on them; `style`: of the
    violations, that of tests where it is left out."""
    stock, rng = Stock(products), np.random.default_rng(seed)
    rules, total = possible(bundle.rulebook, stock), 1.0 - SHARES["qualified"]
    found = []
    for count, shares in (
        (rejected, {scope: share / total for scope, share in SHARES.items() if scope != "qualified"}),
        (accepted, {"qualified": 1.0}),
    ):
        for sample in sequences(stock, rules, rng, style or Style.test(), shares, (2, 3), "en", count):
            found.append(look(bundle, sample, say=say and sample.rule != "qualified"))
    return found


def kept(
    folder: Path | None,
    bundle: Bundle,
    source: str,
    products: Sequence[Catalogued],
    rejected: int,
    accepted: int,
    seed: int,
    *,
    say: bool = True,
    style: Style | None = None,
) -> list[Looked]:
    """`draw`, or what it gave for the same graphs and settings before. The folder is trusted: pickles."""
    if folder is None:
        return draw(bundle, products, rejected, accepted, seed, say=say, style=style)
    graphs = bundle.manifest.graphs
    names = sorted({bundle.manifest.roles[role] for role in ("rules", "tokens", "sequence")})
    asked = [graphs[name].sha256 for name in names]
    asked += [str(value) for value in (rejected, accepted, seed, say, (style or Style.test()).name, len(products))]
    path = folder / f"{source}-{hashlib.sha256(' '.join(asked).encode()).hexdigest()[:16]}.pickle"
    if path.is_file():
        looks: list[Looked] = pickle.loads(path.read_bytes())
        return looks
    looks = draw(bundle, products, rejected, accepted, seed, say=say, style=style)
    folder.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(looks))
    return looks


def rules_of(looked: Looked, rulebook: Rulebook) -> list[Rule]:
    """The rules among a sequence's classes, in their order."""
    return [rulebook.rule(name) for name in looked.names if name in rulebook]


def fit(looks: Sequence[Looked], rulebook: Rulebook, data: str) -> Naming:
    """The naming model of these sequences, rejected and accepted."""
    rules = rules_of(looks[0], rulebook)
    active = np.array([name in rulebook for name in looks[0].names])
    cases = [naming.case_of(looked.classes[active], looked.sight) for looked in looks]
    bad = [looked.rule in rulebook for looked in looks]
    return naming.fit(
        [case for case, broken in zip(cases, bad, strict=True) if broken],
        [looked.rule for looked, broken in zip(looks, bad, strict=True) if broken],
        [case for case, broken in zip(cases, bad, strict=True) if not broken],
        rules,
        looks[0].sight.single_rules,
        data,
    )


def crossed(by_source: dict[str, list[Looked]], name: str, fit_on: Sequence[str], rulebook: Rulebook) -> list[Told]:
    """What is told of a source's rejected sequences by a fit that saw none of its products that it is measured on."""
    rejected = [looked for looked in by_source[name] if looked.rule in rulebook]
    others = [looked for source in fit_on if source != name for looked in by_source[source]]
    if others:
        fitted = fit(others, rulebook, "")
        return [told(looked, rulebook, fitted) for looked in rejected]
    skus = sorted({looked.sku for looked in by_source[name]})
    fold = dict(zip(skus, np.random.default_rng(0).permutation(len(skus)) % FOLDS, strict=True))
    fits = [
        fit([looked for looked in by_source[name] if fold[looked.sku] != part], rulebook, "") for part in range(FOLDS)
    ]
    return [told(looked, rulebook, fits[fold[looked.sku]]) for looked in rejected]


def share(right: Sequence[bool], skus: Sequence[str]) -> Interval:
    """Share that is right, with its interval over products."""
    if not right:
        return Interval(float("nan"), float("nan"), float("nan"))
    return Resample(len(right), skus, 500, 0).interval(mean_statistic(np.asarray(right, np.float64)))


def figures(looks: Sequence[Looked], tolds: Sequence[Told], rulebook: Rulebook) -> dict[str, Interval]:
    """Shares of rejected sequences (n) of which rule and image are named rightly; images where one is to blame."""
    found: dict[str, Interval] = {}

    def add(name: str, right: Sequence[bool], of: Sequence[Looked]) -> None:
        found[name] = share(right, [looked.sku for looked in of])
        for scope in ("single", "pair", "multi"):
            part = [i for i, looked in enumerate(of) if looked.scope == scope]
            if part:
                found[f"{name}, {scope}"] = share([right[i] for i in part], [of[i].sku for i in part])

    pairs = list(zip(looks, tolds, strict=True))
    add("rule named", [t.rule == looked.rule for looked, t in pairs], looks)
    blamed = [(looked, t) for looked, t in pairs if looked.image is not None]
    of = [looked for looked, _ in blamed]
    add("right image named", [t.any_image == looked.image for looked, t in blamed], of)
    shown, decoded = [t.feedback for _, t in pairs], [looked.said for looked in looks]
    for what, texts in (("feedback shown", shown), ("decoder", decoded)):
        heard = [
            (looked, *evidence.spoken_of(text, rulebook)) for looked, text in zip(looks, texts, strict=True) if text
        ]
        add(f"{what}: right rule", [rule == looked.rule for looked, rule, _ in heard], [row[0] for row in heard])
        heard = [row for row in heard if row[0].image is not None]
        add(f"{what}: right image", [image == looked.image for looked, _, image in heard], [row[0] for row in heard])
    return found


def printed(title: str, before: dict[str, Interval], after: dict[str, Interval]) -> None:
    """The table of one source: hand-set weights, then the fit."""
    print(f"{title}\n  {'':36s}{'hand-set weights':24s}fitted")
    for name, value in after.items():
        same = name.startswith("decoder")
        print(f"  {name:36s}{before[name]!s:24s}{'' if same else value}", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the tables; see the module."""
    parser = argparse.ArgumentParser(
        prog="bench.naming", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    folds.arguments(parser)
    parser.add_argument("--fit", default="", help="sources to fit on, comma-separated; all where it is left out")
    parser.add_argument("--scale", type=float, default=1.0, help="factor on the number of sequences")
    parser.add_argument("--keep", type=Path, help="folder for what was looked at; taken from there the next time")
    parser.add_argument("--seed", type=int, default=300)
    options = parser.parse_args(arguments)
    given = folds.folds(parser, options)
    cv2.setNumThreads(1)
    by_source: dict[str, list[Looked]] = {}
    for fold in given:
        for name in fold.sources:
            by_source[name] = kept(
                options.keep,
                fold.bundle,
                name,
                fold.products(name),
                max(40, round(REJECTED * options.scale)),
                max(10, round(ACCEPTED * options.scale)),
                options.seed,
            )
    rulebook = given[0].bundle.rulebook
    fit_on = [name for name in options.fit.split(",") if name] or list(by_source)
    if unknown := sorted(set(fit_on) - set(by_source)):
        parser.error(f"--fit names {', '.join(unknown)}, which no bundle is given with")
    all_looks: list[Looked] = []
    all_before: list[Told] = []
    all_after: list[Told] = []
    metrics: dict[str, Any] = {}
    for name, looks in by_source.items():
        rejected = [looked for looked in looks if looked.rule in rulebook]
        before = [told(looked, rulebook, None) for looked in rejected]
        after = crossed(by_source, name, fit_on, rulebook)
        others = [other for other in fit_on if other != name]
        seen = ", ".join(others) if others else "its other products"
        found = figures(rejected, after, rulebook)
        printed(
            f"{name}: {len(rejected)} rejected sequences, fitted on {seen}", figures(rejected, before, rulebook), found
        )
        metrics[name] = plain(found)
        all_looks += rejected
        all_before += before
        all_after += after
    if len(by_source) > 1:
        found = figures(all_looks, all_after, rulebook)
        printed("together", figures(all_looks, all_before, rulebook), found)
        metrics["together"] = plain(found)
    print(machine())
    if options.out:
        entry = fit(
            [looked for name in fit_on for looked in by_source[name]],
            rulebook,
            f"simulated sequences of {', '.join(fit_on)}, left out of the bundles that looked; python -m bench.naming",
        )
        folds.add(options.out, {"naming": entry.model_dump(mode="json"), "metrics": {"naming": metrics}})


def plain(found: dict[str, Interval]) -> dict[str, list[float]]:
    """JSON form: value, low, high."""
    return {name: [round(v, 4) for v in (i.value, i.low, i.high)] for name, i in found.items()}


if __name__ == "__main__":
    main()
