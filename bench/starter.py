"""How good the starter is on sources that it was not trained on: leave one group of sources out, test on it.

    python -m bench.starter runs/foldA magento
    python -m bench.starter runs/foldA magento runs/foldB oxid,grandnode,saleor runs/foldC kickstart,smartstore \
        --out runs/figures.json

Each bundle is measured on the sources named behind it. Violations are drawn in `Style.test()`: other fonts, phrases,
emblems and strengths than in training. Intervals are bootstrapped over products. Thresholds for p_primary and
p_noncompliant are chosen on all left-out sources together; --out adds them and the figures to a JSON (`bench.folds`).
About 4 minutes a source on two cores.
"""

from __future__ import annotations

import argparse
import hashlib
import pickle
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from agpis import evidence, stacking
from agpis.bundle import Bundle, ImageOutputs, Qualified, calibrated
from agpis.calibration import fit_qualified
from agpis.images import letterbox
from agpis.listings import possible
from agpis.metrics import (
    Interval,
    auc,
    bootstrap,
    expected_calibration_error,
    recall_at_precision,
    threshold_for_false_alarms,
)
from agpis.simulate import SHARES, SINGLE, Mix, Stock, Style, images, sequences
from agpis.simulate.image_samples import ImageSample
from agpis.simulate.stock import WHOLE
from bench import folds
from bench.duplicates import iou
from bench.folds import Fold
from bench.hard_pictures import EACH, ENOUGH, blur_figures, clean_pictures, judged, measure_blur
from bench.hard_pictures import Looked as Blurred
from bench.machine import machine
from bench.measured import HARD
from bench.naming import Looked, look, share, told
from bench.primary import planted, scores

FALSE_ALARMS = 0.03  # share of clean pictures that may be removed, for the non-compliance threshold
IMAGES, SEQUENCES = 900, 700  # a source
SCOPES = ("single", "pair", "multi")
MIX = Mix(doubled=0.0, broken=0.6)
PLAIN = replace(MIX, harmless=0.0, further=0.0)
"""The pictures that the first starter's card was measured on."""
DECODED = 120  # rejected sequences a source that the decoder writes of
FEWEST = 5  # pictures of packs, prints or screens that a share of false alarms is told of
PART = 0.6  # of the picture: a mark over more of it has no place in it


@dataclass
class Seen:
    """Everything measured on one or more sources."""

    clean: list[float] = field(default_factory=list)
    clean_sku: list[str] = field(default_factory=list)
    broken: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    broken_sku: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    named: list[bool] = field(default_factory=list)
    hard: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    hard_sku: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    blur: list[Blurred] = field(default_factory=list)
    views: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    primary_natural: list[bool] = field(default_factory=list)
    primary_planted: list[bool] = field(default_factory=list)
    best_primary: list[float] = field(default_factory=list)
    bad_primary: list[float] = field(default_factory=list)
    classes: list[np.ndarray] = field(default_factory=list)
    qualified: list[float] = field(default_factory=list)
    alone: list[float] = field(default_factory=list)
    """p_qualified of the sequence model, without `stacking`."""
    rule: list[str] = field(default_factory=list)
    note: list[str] = field(default_factory=list)
    scope: list[str] = field(default_factory=list)
    sku: list[str] = field(default_factory=list)
    top_rule: list[str] = field(default_factory=list)
    feedback_rule: list[bool] = field(default_factory=list)
    feedback_image: list[bool] = field(default_factory=list)
    feedback_image_scope: list[str] = field(default_factory=list)
    decoded_rule: list[bool] = field(default_factory=list)
    named_rule: list[bool] = field(default_factory=list)
    named_scope: list[str] = field(default_factory=list)
    blamed: list[bool] = field(default_factory=list)
    blamed_named: list[bool] = field(default_factory=list)
    boxed: dict[str, list[bool]] = field(default_factory=lambda: defaultdict(list))
    overlap: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    centred: dict[str, list[bool]] = field(default_factory=lambda: defaultdict(list))

    def add(self, other: Seen) -> None:
        """Takes in another source's."""
        for name, value in vars(other).items():
            mine = getattr(self, name)
            if isinstance(value, dict):
                for key, items in value.items():
                    mine[key].extend(items)
            else:
                mine.extend(value)


def measure_images(bundle: Bundle, stock: Stock, seen: Seen, rng: np.random.Generator, count: int, mix: Mix) -> None:
    """Clean and broken pictures, rules drawn evenly, one each."""
    batch, samples = [], []
    for sample in images(stock, bundle.rulebook, rng, Style.test(), count, mix):
        batch.append(letterbox(sample.pixels, bundle.size))
        samples.append(sample)
        if len(batch) == 32 or len(samples) == count:
            out = bundle.image(np.stack(batch))
            for row, drawn in enumerate(samples[-len(batch) :]):
                p, name = float(out.p_noncompliant[row]), f"{drawn.source}/{drawn.sku}"
                if drawn.rules:
                    (rule,) = drawn.rules
                    seen.broken[rule].append(p)
                    seen.broken_sku[rule].append(name)
                    seen.named.append(bundle.single_rules[int(out.rules[row].argmax())] == rule)
                    if p > bundle.thresholds["noncompliant"]:
                        measure_box(bundle, seen, drawn, out, row)
                else:
                    seen.clean.append(p)
                    seen.clean_sku.append(name)
                    seen.views[drawn.view].append(p)
            batch = []


def measure_hard(
    fold: Fold, source: str, stock: Stock, seen: Seen, rng: np.random.Generator, count: int = ENOUGH, each: int = EACH
) -> None:
    """Clean packs, prints and screens, `count` a kind; plain and large pictures, sharp and blurred, `each` of them."""
    clean = list(clean_pictures(stock, rng, count))
    for picture, p in zip(clean, judged(fold.bundle, clean), strict=True):
        seen.hard[picture.kind].append(p)
        seen.hard_sku[picture.kind].append(picture.sku)
    seen.blur += measure_blur(fold.bundle, stock, fold.catalogue(source), rng, each)


def hard_figures(seen: Seen, threshold: float) -> dict[str, dict[str, Interval]]:
    """Of `measure_hard`, at a threshold of p_noncompliant; kinds with fewer than FEWEST pictures say nothing."""
    alarms = {
        kind: share([p > threshold for p in values], seen.hard_sku[kind])
        for kind, values in sorted(seen.hard.items())
        if len(values) >= FEWEST
    }
    return {HARD: alarms, **blur_figures(seen.blur, threshold)}


def measure_box(bundle: Bundle, seen: Seen, sample: ImageSample, out: ImageOutputs, row: int) -> None:
    """Evidence of a picture that is removed: a box where the fault has a place, none where it has not."""
    height, width = sample.pixels.shape[:2]
    scores = None if out.evidence is None else out.evidence[row]
    boxes = evidence.marks(out.rules[row], scores, bundle.rulebook, width, height, bundle.size)
    (rule,) = sample.rules
    true = sample.boxes.get(rule)
    local = true is not None and true.w * true.h <= PART * width * height
    seen.boxed[rule if local else f"{rule}, no place"].append(bool(boxes))
    for box in boxes.values():
        if true is not None and local:
            x, y = box.x + box.w / 2, box.y + box.h / 2
            seen.overlap[rule].append(iou(box, true))
            seen.centred[rule].append(true.x <= x < true.x + true.w and true.y <= y < true.y + true.h)


def measure_primary(bundle: Bundle, stock: Stock, seen: Seen, rng: np.random.Generator) -> None:
    """Top-1 of the bundle's choice among a product's pictures: natural where some would not be accepted, and with wrong
    ones planted. A `choice` that was fitted on this source flatters: `bench.primary` leaves it out."""
    rules = [rule for rule in bundle.single_rules if rule in SINGLE]
    for product in stock.products:
        good = [view in WHOLE for view in product.views]
        if not any(good):
            continue
        score, p = scores(bundle, product.pictures)
        if not all(good) and "unknown" not in product.views:
            seen.primary_natural.append(good[int(score.argmax())])
        seen.best_primary.append(float(p[good].max()))
        wrong = planted(product, stock, rules, rng)
        score, q = scores(bundle, [*product.pictures, *wrong])
        seen.primary_planted.append(([*good, False, False, False])[int(score.argmax())])
        seen.bad_primary.extend(float(value) for value in q[len(product.pictures) :])


def measure_sequences(bundle: Bundle, stock: Stock, seen: Seen, rng: np.random.Generator, count: int) -> None:
    """Sequences in the paper's shares; of rejected ones what is named, and what the decoder says of the first."""
    scopes = {rule.id: rule.scope for rule in bundle.rulebook.rules}
    decoded = 0
    for sample in sequences(stock, possible(bundle.rulebook, stock), rng, Style.test(), SHARES, (2, 3), "en", count):
        broken = sample.rule != "qualified"
        looked = look(bundle, sample, say=broken and decoded < DECODED)
        if broken:
            decoded += 1
            measure_blame(bundle, seen, looked)
        order = np.arange(len(sample.pictures))[None]
        heard = float(stacking.p_qualified(bundle, looked.classes[None], order, looked.sight)[0])
        p = stacking.rescaled(looked.classes, heard)
        seen.alone.append(float(looked.classes[0]))
        seen.classes.append(p)
        seen.qualified.append(float(p[0]))
        seen.rule.append(sample.rule)
        seen.note.append(sample.note)
        seen.scope.append("qualified" if sample.rule == "qualified" else scopes[sample.rule])
        seen.sku.append(f"{sample.source}/{sample.sku}")
        seen.top_rule.append(bundle.classes[1 + int(p[1:].argmax())])


def measure_blame(bundle: Bundle, seen: Seen, looked: Looked) -> None:
    """Rule and image that a decision would name of a rejected sequence, in its violations and in its feedback."""
    found = told(looked, bundle.rulebook, bundle.manifest.naming)
    named = found.rule == looked.rule
    seen.named_rule.append(named)
    seen.named_scope.append(looked.scope)
    rule, image = evidence.spoken_of(found.feedback, bundle.rulebook)
    seen.feedback_rule.append(rule == looked.rule)
    if looked.said:
        seen.decoded_rule.append(evidence.spoken_of(looked.said, bundle.rulebook)[0] == looked.rule)
    if looked.image is not None:
        seen.blamed.append(found.any_image == looked.image)
        seen.feedback_image.append(image == looked.image)
        seen.feedback_image_scope.append(looked.scope)
        if named:
            seen.blamed_named.append(found.image == looked.image)


def calibration(seen: Seen) -> dict[str, float]:
    """Temperature and shift of the classes under which p_qualified is likeliest right."""
    temperature, shift = fit_qualified(np.stack(seen.classes), np.asarray(seen.rule) == "qualified")
    return {"temperature": temperature, "shift": shift}


def _interval(positive: Sequence[float], negative: Sequence[float], groups: Sequence[str]) -> Interval:
    scores = [*positive, *negative]
    return bootstrap(auc, scores, [True] * len(positive) + [False] * len(negative), groups=groups, rounds=300)


def _share(values: Sequence[bool]) -> Interval:
    if not values:
        return Interval(float("nan"), float("nan"), float("nan"))
    rng = np.random.default_rng(0)
    array = np.asarray(values, dtype=float)
    means = array[rng.integers(len(array), size=(500, len(array)))].mean(1)
    return Interval(float(array.mean()), *(float(v) for v in np.quantile(means, [0.025, 0.975])))


def figures(seen: Seen, threshold: float | None = None) -> dict[str, Any]:
    """Named figures; those with intervals as (value, low, high)."""
    every = [p for values in seen.broken.values() for p in values]
    every_sku = [s for values in seen.broken_sku.values() for s in values]
    found: dict[str, Any] = {
        "noncompliant AUC": _interval(every, seen.clean, [*every_sku, *seen.clean_sku]),
        "noncompliant AUC, kinds evenly": float(np.mean([auc_of(v, seen.clean) for v in seen.broken.values()])),
        "noncompliant AUC by kind": {rule: auc_of(v, seen.clean) for rule, v in sorted(seen.broken.items())},
        "rule named (top 1) of broken pictures": _share(seen.named),
        "evidence: a box is drawn on removed pictures": _means(seen.boxed),
        "evidence: IoU with the mark": _means(seen.overlap),
        "evidence: centre of the box in the mark": _means(seen.centred),
        "evidence: centre of the box in the mark, all": _share([c for part in seen.centred.values() for c in part]),
        "primary top-1, some candidates wrong": _share(seen.primary_natural),
        "primary top-1, wrong ones planted": _share(seen.primary_planted),
        "primary AUC, acceptable against planted": _interval(
            seen.best_primary, seen.bad_primary, [str(i) for i in range(len(seen.best_primary) + len(seen.bad_primary))]
        ),
    }
    if threshold is not None:
        found["false alarms at the threshold"] = _share([p > threshold for p in seen.clean])
        found["found at the threshold"] = _share([p > threshold for p in every])
        found["false alarms by view"] = {
            view: float(np.mean([p > threshold for p in values])) for view, values in sorted(seen.views.items())
        }
        found |= hard_figures(seen, threshold)
    qualified = np.asarray(seen.qualified)
    scope, rule, note = np.asarray(seen.scope), np.asarray(seen.rule), np.asarray(seen.note)
    good = scope == "qualified"
    far = ~((rule == "title_mismatch") & (note == "same_category"))
    found["sequence AUC"] = bootstrap(
        auc, qualified[far], good[far], groups=list(np.asarray(seen.sku)[far]), rounds=300
    )
    alone = np.asarray(seen.alone)
    found["sequence AUC, sequence model alone"] = float(auc(alone[far], good[far]))
    for name in SCOPES:
        part = (good | (scope == name)) & far
        found[f"sequence AUC, {name}"] = bootstrap(
            auc, qualified[part], good[part], groups=list(np.asarray(seen.sku)[part]), rounds=300
        )
    found["sequence AUC by rule"] = {
        name: float(auc(qualified[good | ((rule == name) & far)], good[good | ((rule == name) & far)]))
        for name in sorted(set(seen.rule) - {"qualified"})
    }
    same = good | ((rule == "title_mismatch") & (note == "same_category"))
    found["sequence AUC, title of the same category"] = float(auc(qualified[same], good[same]))
    for precision in (0.80, 0.85, 0.90):
        found[f"recall at precision {precision:.2f}"] = recall_at_precision(qualified[far], good[far], precision)
    found["sequence calibration error"] = expected_calibration_error(qualified, good)
    bad = [i for i, name in enumerate(seen.rule) if name != "qualified"]
    found["rule named (top 1) of rejected sequences"] = _share([seen.top_rule[i] == seen.rule[i] for i in bad])
    found["rule named, stage 1 heard too"] = _share(seen.named_rule)
    found["rule named, stage 1 heard too, by scope"] = _by_scope(seen.named_rule, seen.named_scope)
    found["right image named of rejected sequences"] = _share(seen.blamed)
    found["right image named where the rule is right"] = _share(seen.blamed_named)
    found["rule named by the feedback"] = _share(seen.feedback_rule)
    found["rule named by the feedback, by scope"] = _by_scope(seen.feedback_rule, seen.named_scope)
    found["right image named by the feedback"] = _share(seen.feedback_image)
    found["right image named by the feedback, by scope"] = _by_scope(seen.feedback_image, seen.feedback_image_scope)
    found["rule named by the decoder alone"] = _share(seen.decoded_rule)
    found["samples"] = {
        "clean pictures": len(seen.clean),
        "broken pictures": len(every),
        "products": len(seen.best_primary),
        "sequences": len(seen.qualified),
        **{kind: len(values) for kind, values in sorted(seen.hard.items())},
        **{f"sharp and blurred, {kind}": n // 2 for kind, n in Counter(look.kind for look in seen.blur).items()},
    }
    return found


def _by_scope(values: Sequence[bool], scopes: Sequence[str]) -> dict[str, float]:
    by_scope = {name: [v for v, scope in zip(values, scopes, strict=True) if scope == name] for name in SCOPES}
    return {name: float(np.mean(part)) for name, part in by_scope.items() if part}


def _means(by_rule: Mapping[str, Sequence[float]]) -> dict[str, float]:
    return {rule: float(np.mean(values)) for rule, values in sorted(by_rule.items()) if values}


def auc_of(positive: Sequence[float], negative: Sequence[float]) -> float:
    """AUC of two lists of scores."""
    return float(auc([*positive, *negative], [True] * len(positive) + [False] * len(negative)))


def primary_threshold(seen: Seen) -> float:
    """The largest threshold under which at most 3 % of products lose their best acceptable picture."""
    return float(np.quantile(seen.best_primary, 0.03))


def printed(found: dict[str, Any]) -> None:
    """The table."""
    for name, value in found.items():
        if isinstance(value, dict):
            parts = (f"{key} {part:.2f}" if isinstance(part, float) else f"{key} {part}" for key, part in value.items())
            print(f"  {name}: " + ", ".join(parts))
        else:
            print(f"  {name}: {value if isinstance(value, Interval) else f'{value:.3f}'}")


def plain(value: Any) -> Any:
    """JSON form."""
    if isinstance(value, Interval):
        return [round(value.value, 4), round(value.low, 4), round(value.high, 4)]
    if isinstance(value, dict):
        return {key: plain(v) for key, v in value.items()}
    return round(value, 4) if isinstance(value, float) else value


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the tables; see the module."""
    parser = argparse.ArgumentParser(prog="bench.starter", description=__doc__)
    folds.arguments(parser, threads=2)
    parser.add_argument("--scale", type=float, default=1.0, help="factor on the number of samples")
    parser.add_argument("--seed", type=int, default=100)
    parser.add_argument("--plain", action="store_true", help="pictures without further looks and hard negatives")
    parser.add_argument("--keep", type=Path, help="folder of what was measured: another run with it goes on from there")
    options = parser.parse_args(arguments)
    given = folds.folds(parser, options)
    cv2.setNumThreads(1)
    by_source: dict[str, Seen] = {}
    bundles: dict[str, Any] = {}
    for fold in given:
        manifest = fold.bundle.manifest
        entries = {"choice": manifest.choice, "naming": manifest.naming, "stacking": manifest.stacking}
        bundles[fold.folder] = {
            "left_out": list(fold.sources),
            "trained_on": manifest.trained_on,
            "training": manifest.training,
            "fitted": {name: None if found is None else found.data for name, found in entries.items()},
        }
        for name in fold.sources:
            mix = PLAIN if options.plain else MIX
            by_source[name] = kept(options.keep, fold, name, options.scale, options.seed, mix)
            print(f"{name} ({fold.folder}), as it stands", flush=True)
            printed(figures(by_source[name], fold.bundle.thresholds["noncompliant"]))
    stacked = [fold.bundle.manifest for fold in given if fold.bundle.manifest.stacking is not None]
    if stacked and (len(stacked) < len(given) or len({manifest.qualified for manifest in stacked}) > 1):
        parser.error("bundles with and without stacking, or with another calibration of the sequence model")
    written = conclude(by_source, stacked[0].qualified if stacked else None)
    command = f"python -m bench.starter {' '.join(options.folds)} --scale {options.scale:g} --seed {options.seed}"
    command += " --plain" if options.plain else ""
    written["metrics"]["how"] = {"command": command, "machine": machine(), "bundles": bundles}
    folds.add(options.out, written)


def kept(folder: Path | None, fold: Fold, source: str, scale: float, seed: int, mix: Mix) -> Seen:
    """`measure`, or what it gave for this very bundle, source and settings before. The folder is trusted: pickles."""
    if folder is None:
        return measure(fold, source, scale, seed, mix)
    said = fold.bundle.manifest.model_dump(mode="json", exclude={"metrics"})
    asked = repr((said, source, scale, seed, mix, sorted(vars(Seen()))))
    path = folder / f"{source}-{hashlib.sha256(asked.encode()).hexdigest()[:16]}.pickle"
    if path.is_file():
        seen: Seen = pickle.loads(path.read_bytes())
        return seen
    found = measure(fold, source, scale, seed, mix)
    folder.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(found))
    return found


def measure(fold: Fold, source: str, scale: float, seed: int, mix: Mix = MIX) -> Seen:
    """Everything about the products of one source."""
    bundle, stock = fold.bundle, Stock(fold.products(source))
    rng, seen = np.random.default_rng(seed), Seen()
    measure_images(bundle, stock, seen, rng, max(100, round(IMAGES * scale)), mix)
    measure_primary(bundle, stock, seen, rng)
    measure_sequences(bundle, stock, seen, rng, max(100, round(SEQUENCES * scale)))
    part = max(0.5, scale)
    # Last: what was measured before stays as it was drawn.
    measure_hard(fold, source, stock, seen, rng, round(ENOUGH * part), round(EACH * part))
    return seen


def conclude(by_source: dict[str, Seen], given: Qualified | None = None) -> dict[str, Any]:
    """Calibration and thresholds on all left-out sources together, and the figures with them; prints the tables.

    `given`: of the sequence model, where `stacking` was fitted on it and is calibrated itself: it stays.
    """
    total = Seen()
    for seen in by_source.values():
        total.add(seen)
    sources = ", ".join(by_source)
    data = f"sequences in the paper's shares; left out: {sources}"
    tempered = given or Qualified(**calibration(total), data=data)
    for seen in (total, *by_source.values()) if given is None else ():
        again = calibrated(np.stack(seen.classes), tempered)
        seen.qualified[:] = [float(p) for p in again[:, 0]]
    noncompliant, primary = threshold_for_false_alarms(total.clean, FALSE_ALARMS), primary_threshold(total)
    for name, seen in by_source.items():
        print(f"{name}, calibrated, at the shipped threshold")
        printed(figures(seen, noncompliant))
    print(f"all left-out sources together; {tempered}; noncompliant > {noncompliant:.3f}, primary >", end=" ")
    print(f"{primary:.3f}")
    found = figures(total, noncompliant)
    printed(found)
    print(machine())
    return {
        "thresholds": {
            "primary": {"value": primary, "data": f"3 % of products lose their best picture; left out: {sources}"},
            "noncompliant": {
                "value": noncompliant,
                "data": f"{FALSE_ALARMS:.0%} false alarms on clean pictures; left out: {sources}",
            },
        },
        "qualified": tempered.model_dump(mode="json"),
        "metrics": {
            "left_out": {name: plain(figures(seen, noncompliant)) for name, seen in by_source.items()},
            "together": plain(found),
        },
    }


if __name__ == "__main__":
    main()
