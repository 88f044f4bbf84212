"""The paper's section 5.1 in simulation: how many submitted sequences a reviewer rejects, how many products get one.

    python -m bench.online --bundle BUNDLE --source magento [--source ...] --seeds 0 1 2 [--out online.json]

Every product with at least two pictures becomes a merchant's raw upload: its own pictures and planted ones, about
seven together (`bench.uploads`). What is wrong with each candidate is known, so a simulated reviewer can judge what is
submitted. Three ways of submitting, on the same products, candidates and stage 1:

- stage 1 alone: the primary and K-1 of what is left at random, everything submitted;
- stage 1 + 2: the same sequence, submitted where p_qualified >= 0.3 (the paper's system: 19.3 % rejected -> 13.6 %);
- stage 2 chooses: the sequence of highest p_qualified (the paper's future work), submitted by the same threshold.

K is 3, or 2 where the product has fewer than three pictures. Coverage is submitted sequences over all products.
Faults are drawn in the test style: fonts, words and emblems that no training has seen. The command refuses sources
that the bundle was trained on, unless `--seen-too`; such figures say only that the program runs. Of a bundle that was
trained without a share of each shop's styles (`agpis.recipe --hold-out`), only those styles' products are used: new
products of known shops, as in the paper.

Limits: candidates and faults are drawn by us, so the level of the reject rates means little beside the paper's, their
ratio more. The shop's own pictures count as good, also where one is a part of another or shows the same view twice.
Stage 1 is the paper's (primary, content, duplicates): what the set of images tells of another product's photograph
counts in p_qualified, so in stage 2. With `--strangers remove` stage 1 is this package's own, which removes the sure
ones.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from agpis.data import Decision
from agpis.metrics import auc, bootstrap
from agpis.pipeline import Pipeline, Settings
from agpis.simulate import held_out
from bench.machine import machine
from bench.uploads import RATES, REASONS, Case, Shop, review, upload, verdict

Search = Literal["random", "best"]
SEARCHES: tuple[Search, ...] = ("random", "best")
Answers = dict[Search, list[Decision]]  # for all cases
WANTED = (0.3, 0.5)  # fewer rejects than stage 1 alone, of (b) and (c); the paper: 1 - 13.6 / 19.3 = 0.3
KEPT = 0.9  # of the coverage of stage 1 alone
CURVE = tuple(round(0.01 * i, 2) for i in range(100))  # thresholds


@dataclass(slots=True)
class Judged:
    """What one search gave for all cases, and what the reviewer says of it."""

    p: NDArray[np.float64]
    """p_qualified (n,); -1 where stage 1 left no sequence."""
    broken: NDArray[np.bool_]
    """Whether there is a reason to reject (n,)."""
    rejected: NDArray[np.bool_]
    """Whether the reviewer rejects, errors included (n,)."""
    reasons: list[tuple[str, ...]]

    @classmethod
    def of(cls, cases: Sequence[Case], decisions: Sequence[Decision]) -> Judged:
        reasons = [review(c, d.sequence) if d.sequence else () for c, d in zip(cases, decisions, strict=True)]
        return cls(
            p=np.array([-1.0 if not d.sequence or d.p_qualified is None else d.p_qualified for d in decisions]),
            broken=np.array([bool(found) for found in reasons]),
            rejected=np.array([verdict(case, found) for case, found in zip(cases, reasons, strict=True)]),
            reasons=reasons,
        )


@dataclass(frozen=True, slots=True)
class Arm:
    """A way of submitting."""

    name: str
    search: Search
    threshold: float


def arms(threshold: float) -> list[Arm]:
    """The first is what the others are compared with."""
    return [
        Arm("(a) stage 1 alone", "random", 0.0),
        Arm("(b) stage 1 + 2", "random", threshold),
        Arm("(c) stage 2 chooses", "best", threshold),
        Arm("(c) all submitted", "best", 0.0),
    ]


def row(arm: Arm, judged: dict[Search, Judged], groups: Sequence[str], errors: bool) -> dict[str, Any]:
    """Reject rate, coverage, and coverage and reduction against stage 1 alone, each [value, low, high]."""
    base, own = judged["random"], judged[arm.search]
    a_bad, bad = (base.rejected, own.rejected) if errors else (base.broken, own.broken)
    a_in, submitted = base.p >= 0.0, own.p >= arm.threshold

    def interval(figure: Callable[[NDArray[np.int64]], float]) -> list[float]:
        index = np.arange(len(groups))
        found = bootstrap(lambda rows, _: figure(rows.astype(np.int64)), index, index >= 0, groups=groups)
        return [found.value, found.low, found.high]

    def rate(i: NDArray[np.int64]) -> float:
        return _ratio(bad[i] & submitted[i], submitted[i])

    return {
        "arm": arm.name,
        "threshold": arm.threshold,
        "submitted": int(submitted.sum()),
        "reject_rate": interval(rate),
        "coverage": interval(lambda i: float(submitted[i].mean())),
        "kept": interval(lambda i: _ratio(submitted[i], a_in[i])),
        "reduction": interval(lambda i: 1.0 - _ratio(rate(i), _ratio(a_bad[i] & a_in[i], a_in[i]))),
    }


def _ratio(part: NDArray[np.bool_] | float, whole: NDArray[np.bool_] | float) -> float:
    """Of counts or numbers; NaN where `whole` is 0."""
    below = float(np.sum(whole))
    return float(np.sum(part)) / below if below else float("nan")


def curve(judged: dict[Search, Judged], search: Search) -> list[dict[str, float]]:
    """Reject rate with the reviewer's errors, and the share of stage 1's coverage that is kept, at each threshold."""
    own, covered = judged[search], float((judged["random"].p >= 0.0).sum())
    return [
        {
            "threshold": threshold,
            "reject_rate": _ratio(own.rejected & (own.p >= threshold), own.p >= threshold),
            "kept": _ratio(own.p >= threshold, covered),
        }
        for threshold in CURVE
    ]


def strictest(points: Sequence[dict[str, float]], kept: float = KEPT) -> float:
    """The largest threshold of a curve that keeps this share of the coverage of stage 1 alone; 0 if none does. It is
    read off the cases it is reported on: an owner would set it on earlier ones."""
    return max((point["threshold"] for point in points if point["kept"] >= kept), default=0.0)


def reason_shares(arm: Arm, judged: dict[Search, Judged]) -> dict[str, float]:
    """Share of the submitted sequences with each reason (several may hold), and of the reviewer's wrong rejects."""
    own = judged[arm.search]
    chosen = np.flatnonzero(own.p >= arm.threshold)
    counts = Counter(reason for i in chosen for reason in own.reasons[i])
    counts["wrong reject"] = int((own.rejected & ~own.broken)[chosen].sum())
    return {reason: _ratio(counts[reason], len(chosen)) for reason in (*REASONS, "wrong reject")}


def separation(judged: Judged) -> dict[str, float]:
    """AUC of p_qualified among the sequences that stage 1 left: right against wrong, and against each reason."""
    there, right = judged.p >= 0.0, (judged.p >= 0.0) & ~judged.broken
    found = {"all": auc(judged.p[there], right[there])}
    for reason in REASONS:
        both = right | np.array([reason in reasons for reasons in judged.reasons])
        found[reason] = auc(judged.p[both], right[both])
    return found


def attainable(cases: Sequence[Case], decisions: Sequence[Decision]) -> float:
    """Share of the products with a sequence that also have a right one, behind stage 1's primary and of what it left:
    one minus this is the least reject rate, reviewer's errors apart, of any choice that submits everything."""
    right = []
    for case, decision in zip(cases, decisions, strict=True):
        if decision.sequence:
            first = decision.sequence[0]
            left = [c.uri for c in decision.candidates if c.outcome in ("selected", "spare")]
            right.append(any(not review(case, (first, *rest)) for rest in combinations(left, case.k - 1)))
    return float(np.mean(right)) if right else float("nan")


def simulate(
    bundle: str | None, shops: Sequence[Shop], seeds: Sequence[int], strangers: Literal["remove", "weigh"] = "weigh"
) -> tuple[list[Case], Answers]:
    """Every product in every seed through the pipeline, once a search; nothing is held back (threshold 0)."""
    cases: list[Case] = []
    answers: Answers = {"random": [], "best": []}
    for seed in seeds:
        drawn = [upload(product, shop, seed) for shop in shops for product in shop.uploads]
        for k in sorted({case.k for case in drawn}):
            part = [case for case in drawn if case.k == k]
            cases += part
            for search in SEARCHES:
                settings = Settings(images=k, search=search, threshold=0.0, seed=seed, strangers=strangers)
                answers[search] += Pipeline(bundle, settings)(case.product for case in part)
    for one, other in zip(*answers.values(), strict=True):
        stage1 = [(d.sequence[:1], [(c.uri, c.outcome == "removed") for c in d.candidates]) for d in (one, other)]
        if stage1[0] != stage1[1]:
            raise SystemExit(f"stage 1 decided product {one.sku} in two ways; the arms could not be compared.")
    return cases, answers


def report(cases: Sequence[Case], answers: Answers, threshold: float) -> dict[str, Any]:
    """All figures of a run."""
    judged = {search: Judged.of(cases, decisions) for search, decisions in answers.items()}
    groups = [case.key for case in cases]
    curves = {search: curve(judged, search) for search in judged}
    ways = arms(threshold)
    ways += [Arm(f"{way.name} at 90 %", way.search, strictest(curves[way.search])) for way in ways[1:3]]

    return {
        "cases": len(cases),
        "products": len(set(groups)),
        "candidates": float(np.mean([len(case.truth) for case in cases])),
        "left_in": _left_in(cases, answers["random"]),
        "statuses": dict(Counter(d.status for d in answers["random"])),
        "attainable": attainable(cases, answers["random"]),
        "arms": [row(way, judged, groups, True) for way in ways],
        "arms_without_errors": [row(way, judged, groups, False) for way in ways],
        "reasons": {way.name: reason_shares(way, judged) for way in ways},
        "separation": {search: separation(found) for search, found in judged.items()},
        "curve": curves,
        "by": {
            "source": _by([case.key.split("/")[0] for case in cases], ways[:3], judged),
            "seed": _by([str(case.seed) for case in cases], ways[:3], judged),
            "K": _by([str(case.k) for case in cases], ways[:3], judged),
        },
    }


def _by(values: Sequence[str], ways: Sequence[Arm], judged: dict[Search, Judged]) -> dict[str, list[list[float]]]:
    """For each value of the cases, of each arm: reject rate and coverage."""
    found: dict[str, list[list[float]]] = {}
    for value in sorted(set(values)):
        for own, threshold in ((judged[way.search], way.threshold) for way in ways):
            sent = (keep := np.array(values) == value) & (own.p >= threshold)
            found.setdefault(value, []).append([_ratio(own.rejected & sent, sent), _ratio(sent, keep)])
    return found


def _left_in(cases: Sequence[Case], decisions: Sequence[Decision]) -> dict[str, list[int]]:
    """By kind of candidate (`own`: the shop's own): how many there were, and how many stage 1 left in."""
    found: dict[str, list[int]] = {}
    for case, decision in zip(cases, decisions, strict=True):
        for candidate in decision.candidates:
            counts = found.setdefault(case.truth[candidate.uri].kind or "own", [0, 0])
            counts[0] += 1
            counts[1] += candidate.outcome != "removed"
    return dict(sorted(found.items()))


def show(found: dict[str, Any]) -> None:
    """Print what `report` gives."""
    print(f"{found['products']} products, {found['cases']} cases, {found['candidates']:.1f} candidates a case")
    print("kept by stage 1: " + ", ".join(f"{kind} {left}/{n}" for kind, (n, left) in found["left_in"].items()))
    print(f"status at threshold 0: {found['statuses']}")
    print(f"right sequence to be had behind stage 1's primary: {found['attainable']:.1%} of the sequences")
    for title, key in (
        (f"reviewer errs: {RATES.wrong_rejects:.0%} wrong rejects, {RATES.missed_faults:.0%} missed faults", "arms"),
        ("reviewer without errors", "arms_without_errors"),
    ):
        print(f"\n{title}\n  {'':28s} threshold  {'rejected':22s}  {'coverage':22s}  {'of (a)':22s}  reduction")
        for line in found[key]:
            figures = [line[name] for name in ("reject_rate", "coverage", "kept", "reduction")]
            cells = "  ".join(f"{f'{value:.1%} [{low:.1%}, {high:.1%}]':22s}" for value, low, high in figures)
            print(f"  {line['arm']:28s} {line['threshold']:9.2f}  {cells}")
    _table("reasons, share of the submitted", found["reasons"], ".1%")
    _table("p_qualified, AUC of right against wrong", found["separation"], ".3f")
    print("\nthreshold  (b) of (a)  rejected   (c) of (a)  rejected")
    for b, c in list(zip(found["curve"]["random"], found["curve"]["best"], strict=True))[::5]:
        cells = "   ".join(f"{point['kept']:10.1%}  {point['reject_rate']:8.1%}" for point in (b, c))
        print(f"{b['threshold']:9.2f}  {cells}")
    for name, parts in found["by"].items():
        print(f"\nby {name}: rejected / coverage of (a), (b), (c)")
        for value, rates in parts.items():
            print(f"  {value:11s} " + "   ".join(f"{rate:.1%} / {covered:.1%}" for rate, covered in rates))
    print()
    for line, wanted in zip(found["arms"][1:3], WANTED, strict=True):
        met = line["reduction"][0] >= wanted and line["kept"][0] >= KEPT
        print(
            f"{line['arm']}: wanted {wanted:.0%} fewer rejects at {KEPT:.0%} of the coverage, "
            f"found {line['reduction'][0]:.1%} at {line['kept'][0]:.1%}: {'met' if met else 'NOT met'}"
        )


def _table(title: str, rows: dict[str, dict[str, float]], form: str) -> None:
    print(f"\n{title}\n  {'':28s} " + " ".join(f"{name:>13s}" for name in next(iter(rows.values()))))
    for name, values in rows.items():
        print(f"  {name:28s} " + " ".join(f"{value:>13{form}}" for value in values.values()))


def lines(cases: Sequence[Case], answers: Answers) -> list[dict[str, Any]]:
    """One line a case, to look things up: candidates with their truth, and what each search chose."""
    found = []
    for case, *decisions in zip(cases, *answers.values(), strict=True):
        line: dict[str, Any] = {name: getattr(case, name) for name in ("key", "seed", "k", "right_title")}
        line["candidates"] = {uri: asdict(truth) for uri, truth in case.truth.items()}
        line["left"] = [c.uri for c in decisions[0].candidates if c.outcome != "removed"]
        for search, decision in zip(answers, decisions, strict=True):
            reasons = review(case, decision.sequence) if decision.sequence else ()
            line[search] = {"sequence": decision.sequence, "p_qualified": decision.p_qualified, "reasons": reasons}
        found.append(line)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--source", action="append", required=True, help="catalogue that the bundle was not trained on")
    parser.add_argument("--seen-too", action="store_true", help="allow sources that the bundle was trained on")
    parser.add_argument("--bundle", default=None, help="folder of a bundle; the starter if left out")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threshold", type=float, default=0.3, help="of p_qualified (paper 5.1: 0.3)")
    parser.add_argument("--strangers", choices=("weigh", "remove"), default="weigh", help="in stage 1")
    parser.add_argument("--out", type=Path, default=None, help="also write everything here, as JSON")
    options = parser.parse_args(arguments)
    bundle, _ = Pipeline(options.bundle).open()
    trained = bundle.manifest.trained_on
    hold_out = bundle.manifest.hold_out
    weighing = bundle.manifest.weighing.data if bundle.manifest.weighing is not None else ""
    _, _, weighed = weighing.partition("new styles of")  # of `bench.reviews draw --new`
    seen = sorted(source for source in options.source if (source in trained and not hold_out) or source in weighed)
    if seen and not options.seen_too:
        raise SystemExit(
            f"{bundle.name} was trained on {', '.join(seen)}; the figure would mislead. "
            "Name other sources, or pass --seen-too to try the program."
        )
    print(f"machine: {machine()}\nbundle: {bundle.name}, sources {', '.join(options.source)}, seeds {options.seeds}")
    print(f"trained on: {', '.join(trained) or 'unknown'}")
    if hold_out:
        print(f"only products of the {hold_out:.0%} of styles that were held out of training")
    if seen:
        print(f"SEEN IN TRAINING: {', '.join(seen)}; the figures say nothing about new shops.")
    begin = time.monotonic()
    shops = [Shop(options.data / source) for source in options.source]
    for shop in shops:
        if hold_out:
            shop.uploads = [product for product in shop.uploads if held_out(product, hold_out)]
    cases, answers = simulate(options.bundle, shops, options.seeds, options.strangers)
    if not cases:
        raise SystemExit(f"{', '.join(options.source)}: found no product with two pictures.")
    found = report(cases, answers, options.threshold)
    show(found)
    seconds = round(time.monotonic() - begin, 1)
    print(f"{seconds} s")
    if options.out:
        question = {name: getattr(options, name) for name in ("source", "seeds", "threshold")}
        measured = {"machine": machine(), "seconds": seconds, "bundle": bundle.name, "trained_on": trained}
        text = json.dumps(
            {**question, **measured, "rates": asdict(RATES), **found, "lines": lines(cases, answers)}, indent=1
        )
        options.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
