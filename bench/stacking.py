"""How well p_qualified tells sequences apart, of the sequence model alone and stacked (`agpis.stacking`).

    python -m bench.stacking runs/foldA magento runs/foldB oxid,grandnode,saleor runs/foldC kickstart,smartstore \
        --into runs/starter --out F

Each bundle looks at simulated sequences of the sources named behind it, which it was not trained on. What is measured
is drawn in `Style.test()`, by trees fitted on the OTHER folds' sources in `Style.train()`: neither the products nor the
looks of the violations were seen. Intervals are bootstrapped over products. Each fold's bundle gets the trees that were
not fitted on its own sources (--write), for the benches that measure it; --into gets those fitted on all sources in
both styles. Calibration: one temperature and one shift on sequences in the paper's shares (4.1), fitted on trees that
did not see their source. About 2 minutes a source on one core.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from agpis import stacking, trees
from agpis.bundle import Bundle
from agpis.bundle_manifest import Stacking
from agpis.calibration import fit_qualified
from agpis.metrics import Interval, auc, bootstrap, expected_calibration_error, recall_at_precision
from agpis.simulate import SHARES, Style
from bench import folds
from bench.machine import machine
from bench.naming import Looked, kept

REJECTED, ACCEPTED = 900, 900  # sequences a source and style
SCOPES = ("single", "pair", "multi")
ROUNDS = 300


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Sequences of one source as the trees see them."""

    source: str
    features: NDArray[np.float32]
    """(n, F)."""
    alone: NDArray[np.float64]
    """(n,) p_qualified of the sequence model."""
    qualified: NDArray[np.bool_]
    """(n,)."""
    scope: tuple[str, ...]
    sku: tuple[str, ...]


def rows_of(source: str, bundle: Bundle, looks: Sequence[Looked]) -> Rows:
    """The features of drawn sequences."""
    scopes = stacking.scopes_of(bundle)
    rows = [
        stacking.features(look.classes[None], np.arange(len(look.sight.p_primary))[None], look.sight, scopes)
        for look in looks
    ]
    return Rows(
        source=source,
        features=np.concatenate(rows),
        alone=np.array([float(look.classes[0]) for look in looks]),
        qualified=np.array([look.rule == "qualified" for look in looks]),
        scope=tuple(look.scope for look in looks),
        sku=tuple(look.sku for look in looks),
    )


def shared(rows: Rows, rng: np.random.Generator) -> NDArray[np.intp]:
    """Numbers of sequences in the paper's shares: all qualified ones, and as many of the others as belong to them."""
    good = np.flatnonzero(rows.qualified)
    found = [good]
    for scope in SCOPES:
        of_scope = np.flatnonzero(np.array([s == scope for s in rows.scope]))
        wanted = round(len(good) * SHARES[scope] / SHARES["qualified"])
        found.append(rng.permutation(of_scope)[:wanted])
    return np.concatenate(found)


def fitted(parts: Sequence[Rows], seed: int, data: str) -> tuple[bytes, Stacking]:
    """Trees on all of `parts`, calibrated by trees that leave a source out in turn."""

    def trained(on: Sequence[Rows]) -> trees.Trees:
        return trees.fit(
            np.concatenate([part.features for part in on]), np.concatenate([part.qualified for part in on]), seed=seed
        )

    sources = sorted({part.source for part in parts})
    rng = np.random.default_rng(seed)
    p, good = [], []
    for source in sources if len(sources) > 1 else []:
        model = trained([part for part in parts if part.source != source])
        for part in parts:
            if part.source == source:
                picked = shared(part, rng)
                p.append(1.0 / (1.0 + np.exp(-model.logits(part.features[picked]))))
                good.append(part.qualified[picked])
    temperature, shift = 1.0, 0.0
    if p:
        both = np.concatenate(p)
        temperature, shift = fit_qualified(np.stack([both, 1.0 - both], axis=1), np.concatenate(good))
    entry = Stacking(features=stacking.FEATURES, temperature=temperature, shift=shift, data=data)
    return trees.to_onnx(trained(parts)), entry


def scored(bundle: Bundle, rows: Rows) -> NDArray[np.float64]:
    """Stacked p_qualified (n,) by the bundle's trees."""
    return bundle.stacked(rows.features).astype(np.float64)


def measured(p: NDArray[np.float64], rows: Rows, seed: int) -> dict[str, Interval]:
    """AUC overall and by scope, recall at precision 0.9 and expected calibration error in the paper's shares."""
    picked = shared(rows, np.random.default_rng(seed))
    p, good = p[picked], rows.qualified[picked]
    scope, sku = [rows.scope[i] for i in picked], [rows.sku[i] for i in picked]
    found = {"AUC": _auc(p, good, sku)}
    for name in SCOPES:
        some = np.array([s in ("qualified", name) for s in scope])
        found[f"AUC, {name}"] = _auc(p[some], good[some], [k for k, one in zip(sku, some, strict=True) if one])
    recall, error = recall_at_precision(p, good, 0.9), expected_calibration_error(p, good)
    found["recall at precision 0.9"] = Interval(recall, recall, recall)
    found["calibration error"] = Interval(error, error, error)
    return found


def _auc(p: NDArray[np.float64], good: NDArray[np.bool_], sku: Sequence[str]) -> Interval:
    return bootstrap(auc, p, good, groups=sku, rounds=ROUNDS)


def line(name: str, found: dict[str, Interval]) -> str:
    """A row of the table."""
    return f"{name:26s}" + "".join(f"{value.value:8.3f}" for value in found.values())


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table and writes the trees; see the module."""
    parser = argparse.ArgumentParser(
        prog="bench.stacking", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    folds.arguments(parser)
    parser.add_argument("--write", action="store_true", help="put the trees of the other folds into each fold's bundle")
    parser.add_argument("--into", type=Path, help="bundle that gets the trees fitted on all sources")
    parser.add_argument("--keep", type=Path, help="folder for what was looked at; taken from there the next time")
    parser.add_argument("--scale", type=float, default=1.0, help="factor on the number of sequences")
    parser.add_argument("--seed", type=int, default=500)
    options = parser.parse_args(arguments)
    cv2.setNumThreads(1)
    opened = folds.folds(parser, options)
    if len(opened) < 2 and (options.write or options.into):
        parser.error("--write and --into need two folds or more: trees are measured on sources they were not fitted on")
    rejected, accepted = (max(40, round(n * options.scale)) for n in (REJECTED, ACCEPTED))
    train: dict[str, list[Rows]] = {}
    test: dict[str, list[Rows]] = {}
    for fold in opened:
        for source in fold.sources:
            products = fold.products(source)
            for drawn, style, seed in ((train, Style.train(), options.seed), (test, Style.test(), options.seed + 1)):
                looks = kept(
                    options.keep, fold.bundle, source, products, rejected, accepted, seed, say=False, style=style
                )
                rows = rows_of(source, fold.bundle, looks)
                drawn.setdefault(fold.folder, []).append(rows)
            print(f"{source}: {len(rows.sku)} sequences a style, by {fold.folder}", flush=True)
    alone: list[dict[str, Interval]] = []
    stacked: list[dict[str, Interval]] = []
    print(f"\n{'source':26s}" + "".join(f"{name:>8s}" for name in ("AUC", *SCOPES, "R@P.9", "ECE")))
    for fold in opened:
        others = [rows for folder, parts in train.items() if folder != fold.folder for rows in parts]
        if others:
            names = ", ".join(rows.source for rows in others)
            data = f"simulated sequences of {names}, left out of the bundles that looked; python -m bench.stacking"
            graph, entry = fitted(others, options.seed, data)
            bundle = with_trees(fold, graph, entry, write=options.write)
        for rows in test[fold.folder]:
            alone.append(measured(rows.alone, rows, options.seed))
            print(line(f"{rows.source}, sequence model", alone[-1]), flush=True)
            if others:
                stacked.append(measured(scored(bundle, rows), rows, options.seed))
                print(line(f"{rows.source}, stacked", stacked[-1]), flush=True)
    for name, each in (("mean, sequence model", alone), ("mean, stacked", stacked)):
        if each:
            means = {key: Interval(float(np.mean([one[key].value for one in each])), 0.0, 0.0) for key in each[0]}
            print(line(name, means))
    print(machine())
    sources = [rows.source for parts in test.values() for rows in parts]
    plain = [
        {key: [round(v, 4) for v in (i.value, i.low, i.high)] for key, i in one.items()} for one in (stacked or alone)
    ]
    folds.add(options.out, {"metrics": {"stacking": dict(zip(sources, plain, strict=True))}})
    if options.into:
        both = [rows for drawn in (train, test) for parts in drawn.values() for rows in parts]
        data = f"simulated sequences of {', '.join(sources)}, left out of the bundles that looked; "
        trees.put(options.into, *fitted(both, options.seed, data + "python -m bench.stacking"))


def with_trees(fold: folds.Fold, graph: bytes, entry: Stacking, *, write: bool) -> Bundle:
    """The fold's bundle with these trees; on disk only where `write` says so."""
    if write:
        return trees.put(Path(fold.folder), graph, entry)
    return trees.lent(fold.bundle, graph, entry)


if __name__ == "__main__":
    main()
