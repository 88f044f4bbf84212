"""A bundle on labelled samples: figures with intervals, operating points, plots; and against another bundle.

    from agpis.evaluate import evaluate_bundle
    print(evaluate_bundle("runs/mine", "verdicts.jsonl", Path("evaluation"), split="test"))

Everything is measured through the bundle on disk, so a figure is that of the thing shipped.
"""

from __future__ import annotations

import io
import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table

from agpis.bundle import open_bundle
from agpis.errors import SettingsError, TrainingError, output_error
from agpis.figures import (
    FEW,
    FIGURES,
    PRECISIONS,
    SCOPES,
    Comparison,
    Confusion,
    Figure,
    OperatingPoint,
    chrf,
    compare,
    confusions,
    figures_of,
    operating_point,
    scopes_of,
)
from agpis.metrics import Bin, Interval, Resample, expected_calibration_error, reliability
from agpis.plots import Curve, draw_precision_recall, draw_reliability, draw_roc, need_matplotlib
from agpis.rulebook import Rulebook
from agpis.samples import SPLITS, labelled
from agpis.scores import Scores, score_samples
from agpis.verdicts import BadSample, read_verdicts

BANDS = 200
"""Bootstrap rounds of the bands in the plots."""
WITHHELD = (0.10, 0.25)
"""Shares of all sequences that may be held back, for which a threshold is given."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Everything measured; `str()` is the table, `row()` the JSON form."""

    scores: Scores = field(repr=False)
    figures: tuple[Figure, ...]
    points: tuple[OperatingPoint, ...]
    confusions: tuple[Confusion, ...]
    """The most frequent ones."""
    bins: tuple[Bin, ...]
    """Reliability of p_qualified."""
    scopes: tuple[str, ...] = field(repr=False)
    """Of each sample: `qualified`, `single`, `pair`, `multi` or `other`."""
    rounds: int
    seed: int
    bad_lines: tuple[BadSample, ...] = ()
    """Lines of the file that were no samples."""
    comparison: Comparison | None = None

    def figure(self, name: str, about: str = "") -> Figure:
        """The figure of that name. KeyError where it was not measured."""
        for found in self.figures:
            if (found.name, found.about) == (name, about):
                return found
        raise KeyError(f"{name} {about}".strip())

    def row(self) -> dict[str, Any]:
        """Contents of evaluation.json; numbers that do not exist are null.

        `bundle`, `rulebook`: id and hash. `samples`: `scored`, `products`, `labels` (label -> number), `left_out`
        (code -> number) and `left_out_samples` (`place`, `code`, `message`). `interval`: how intervals were made.
        `meaning`: FIGURES. `figures`, `operating_points`, `confusions`, `reliability`: a list each, of the fields of
        `Figure` (and `few`), `OperatingPoint`, `Confusion`, `agpis.metrics.Bin`. `comparison`: null, or `first`,
        `second`, `counts`, `products` and `figures`, name -> the fields of `agpis.metrics.Difference`.
        """
        scores, left = self.scores, (*self.bad_lines, *self.scores.left_out)
        versus = self.comparison
        row = {
            "bundle": scores.bundle,
            "rulebook": scores.rulebook,
            "samples": {
                "scored": len(scores.samples),
                "products": len(set(scores.skus)),
                "labels": dict(Counter(sample.label for sample in scores.samples).most_common()),
                "left_out": dict(Counter(bad.code for bad in left).most_common()),
                "left_out_samples": [asdict(bad) for bad in left],
            },
            "interval": {"confidence": 0.95, "rounds": self.rounds, "seed": self.seed, "drawn": "sku"},
            "meaning": FIGURES,
            "figures": [{**asdict(figure), "few": figure.few} for figure in self.figures],
            "operating_points": [asdict(point) for point in self.points],
            "confusions": [asdict(confusion) for confusion in self.confusions],
            "reliability": [asdict(b) for b in self.bins],
            "comparison": None
            if versus is None
            else {
                "first": versus.first,
                "second": versus.second,
                "counts": versus.counts,
                "products": versus.products,
                "figures": {name: asdict(found) for name, found in versus.figures.items()},
            },
        }
        return {name: _without_nan(value) for name, value in row.items()}

    def __rich__(self) -> RenderableType:
        return Group(*_tables(self))

    def __str__(self) -> str:
        text = io.StringIO()
        Console(file=text, width=100).print(self)
        return text.getvalue()


def evaluate(
    scores: Scores,
    rulebook: Rulebook,
    *,
    precisions: Sequence[float] = PRECISIONS,
    withheld: Sequence[float] = WITHHELD,
    rounds: int = 1000,
    seed: int = 0,
) -> Evaluation:
    """All figures of scored samples. Figures that no sample speaks to (a rule, a text) are not in the result.

    Args:
        rulebook: that the labels are of.
        precisions: wanted ones to give a threshold for; 1 - the reject rate that is wanted of reviewers.
        withheld: shares of all sequences that may be held back, to give a threshold for.

    Raises:
        SettingsError: `bad_threshold`, where one of these is no share.
        MissingExtra: feedback was decoded and sacrebleu is not installed.
    """
    points = [operating_point(scores, threshold=scores.threshold, rounds=rounds, seed=seed)]
    points += [operating_point(scores, precision=wanted, rounds=rounds, seed=seed) for wanted in precisions]
    points += [operating_point(scores, withheld=wanted, rounds=rounds, seed=seed) for wanted in withheld]
    return Evaluation(
        scores=scores,
        figures=figures_of(scores, rulebook, rounds=rounds, seed=seed),
        points=tuple(points),
        confusions=confusions(scores),
        bins=reliability(scores.p_qualified, scores.qualified),
        scopes=tuple(scopes_of(scores, rulebook).tolist()),
        rounds=rounds,
        seed=seed,
    )


# A bundle and a file -------------------------------------------------------------------------------------------------


def evaluate_bundle(
    bundle_path: str | Path | None,
    samples_path: str | Path,
    out: Path,
    *,
    split: str | None = None,
    against: str | Path | None = None,
    feedback: bool | int = True,
    precisions: Sequence[float] = PRECISIONS,
    withheld: Sequence[float] = WITHHELD,
    rounds: int = 1000,
    seed: int = 0,
    threads: int = 0,
    progress: bool = True,
) -> Evaluation:
    """Scores the verdicts of a file with a bundle, and with another one to compare; writes and returns what was found.

    Args:
        bundle_path: folder of a bundle; None: the starter.
        samples_path: .jsonl or .parquet of verdicts, see `agpis.verdicts`.
        out: folder for evaluation.json and the plots, see `write_evaluation`.
        split: only samples of `train`, `validation` or `test`; None: all.
        against: another bundle to compare with.
        feedback: see `score_samples`; that of `against` is not decoded.
        threads: of the graphs and of decoding; 0: all cores.

    Raises:
        AgpisError: as `score_samples`, `evaluate`, `compare`, `write_evaluation` and `open_bundle` do.
    """
    if split is not None and split not in SPLITS:
        raise SettingsError("bad_split", f"found split {split!r}, allowed are {', '.join(SPLITS)} or none")
    need_matplotlib()
    if feedback:
        chrf([], [])  # a missing package is said now and not after an hour of scoring
    bundle = open_bundle(bundle_path, threads=threads)
    bad: list[BadSample] = []
    samples = labelled(read_verdicts(samples_path), bundle.rulebook, bad=bad)
    chosen = [sample for sample in samples if split in (None, sample.split)]
    if not chosen:
        raise TrainingError(
            "no_samples",
            f"{samples_path}: found no sample{f' of split {split!r}' if split else ''}; it has {len(samples)} samples "
            f"and {len(bad)} lines that are none",
        )
    scores = score_samples(bundle, chosen, feedback=feedback, seed=seed, threads=threads, progress=progress)
    options: dict[str, Any] = {"rounds": rounds, "seed": seed}
    found = evaluate(scores, bundle.rulebook, precisions=precisions, withheld=withheld, **options)
    found = replace(found, bad_lines=tuple(bad))
    if against is not None:
        second = open_bundle(against, threads=threads)
        other = score_samples(second, chosen, feedback=False, threads=threads, progress=progress)
        found = replace(found, comparison=compare(scores, other, rulebook=bundle.rulebook, **options))
    write_evaluation(found, out)
    return found


def write_evaluation(evaluation: Evaluation, folder: str | Path) -> None:
    """Writes roc.png, precision_recall.png, reliability.png and, last, evaluation.json (fields: `Evaluation.row`).

    Raises OutputError and MissingExtra.
    """
    folder = Path(folder)
    need_matplotlib()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(error, folder) from error
    scores, versus = evaluation.scores, evaluation.comparison
    good = scores.qualified
    bands = Resample(len(good), scores.skus, BANDS, evaluation.seed)
    whole = evaluation.figure("auc")
    caption = f"{len(good)} sequences of {len(set(scores.skus))} products: {int(good.sum())} qualified, "
    caption += f"{int((~good).sum())} rejected."

    def curve(name: str, figure: str, of: Scores = scores) -> Curve:
        return Curve(name, of.p_qualified, good, figure, bands, of.threshold)

    gained = ""
    first = curve(scores.bundle, f"AUC {whole.value:.3f}")
    if versus is None:
        scopes = np.array(evaluation.scopes)
        several = [replace(first, name=f"all, n = {len(good)}")]
        for scope in SCOPES:
            if (count := int((scopes == scope).sum())) >= FEW:
                kept = good | (scopes == scope)
                value = evaluation.figure("auc_scope", scope).value
                several.append(
                    Curve(f"{scope} rules, n = {count}", scores.p_qualified[kept], good[kept], f"AUC {value:.3f}")
                )
        curves = [first]
    else:
        gap = versus.figures["auc"]
        curves = several = [first, curve(versus.second, f"AUC {gap.second:.3f}", versus.other)]
        between = f"{gap.difference.value:+.3f} [{gap.difference.low:+.3f}, {gap.difference.high:+.3f}]"
        gained = f"\nDifference in AUC {between}, paired, p = {gap.p:.3f}."
    calibrated = [
        replace(c, figure=f"calibration error {expected_calibration_error(c.scores, c.positive):.3f}") for c in curves
    ]
    draw_roc(folder / "roc.png", several, caption + gained)
    draw_precision_recall(folder / "precision_recall.png", [replace(c, figure="") for c in curves], caption, PRECISIONS)
    draw_reliability(folder / "reliability.png", calibrated, caption)
    text = json.dumps(evaluation.row(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    try:
        (folder / "evaluation.json").write_text(text, encoding="utf-8")
    except OSError as error:
        raise output_error(error, folder / "evaluation.json") from error


# On screen and in JSON -----------------------------------------------------------------------------------------------


def _tables(evaluation: Evaluation) -> list[Table]:
    scores, versus = evaluation.scores, evaluation.comparison
    left = len(scores.left_out) + len(evaluation.bad_lines)
    title = f"{scores.bundle}: {len(scores.samples)} sequences of {len(set(scores.skus))} products"
    main = _table(title + (f", {left} left out" if left else ""), "figure", "value", "95 % interval", "n")
    section = ""
    for figure in evaluation.figures:
        if section and figure.name != section and "auc_rule" in (figure.name, section):
            main.add_section()
        section = figure.name
        digits = 1 if figure.name == "feedback_chrf" else 3
        value, low, high = (_number(x, digits) for x in (figure.value, figure.low, figure.high))
        kinds = {kind: "rejected" if kind == figure.about else kind for kind in figure.counts}
        counts = ", ".join(f"{n} {kinds[kind]}" for kind, n in figure.counts.items())
        name = _NAMES.get(figure.name, figure.name.replace("_", " ")).format(figure.about)
        main.add_row(name, value, f"{low} to {high}", counts + (" *" if figure.few else ""))
    if any(figure.few for figure in evaluation.figures):
        main.caption = f"* fewer than {FEW} samples of a kind: read the interval, not the value"
    points = _table("Operating points", "wanted", "threshold", "precision", "recall", "coverage")
    for point in evaluation.points:
        found = (point.precision, point.recall, point.coverage)
        chosen = "not reached" if point.threshold is None else f"{point.threshold:.4f}"
        points.add_row(point.wanted, chosen, _spread(found[0]), *(_number(x.value) for x in found[1:]))
    tables = [main, points]
    if evaluation.confusions:
        table = _table("Rules most often taken for others", "rule", "taken for", "times", "of")
        for entry in evaluation.confusions:
            table.add_row(entry.label, entry.predicted, str(entry.count), str(entry.of))
        tables.append(table)
    if versus is not None:
        table = _table("Compared, on the same samples", "figure", versus.first, versus.second, "difference", "p")
        for key, gap in versus.figures.items():
            name = _NAMES.get(key, key.replace("_", " "))
            table.add_row(name, _number(gap.first), _number(gap.second), _spread(gap.difference, "+"), _number(gap.p))
        tables.append(table)
    return tables


_NAMES = {
    "auc": "AUC",
    "auc_scope": "AUC, {} rules, balanced",
    "auc_rule": "AUC, {}",
    **{f"auc_{scope}": f"AUC, {scope} rules" for scope in SCOPES},
    "rule_top1": "right rule, likeliest",
    "rule_top3": "right rule, among three",
    "feedback_exact": "feedback equal",
    "feedback_chrf": "feedback chrF",
    "feedback_rule": "feedback names the rule",
    "brier": "Brier score",
}


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", caption_justify="left", box=box.SIMPLE_HEAD)
    for at, column in enumerate(columns):
        text = at == 0 or column in ("n", "taken for")
        table.add_column(column, justify="left" if text else "right", no_wrap=not text)
    return table


def _number(value: float, digits: int = 3) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "-"


def _spread(interval: Interval, sign: str = "") -> str:
    value, low, high = (
        f"{x:{sign}.3f}" if math.isfinite(x) else "-" for x in (interval.value, interval.low, interval.high)
    )
    return f"{value} ({low} to {high})" if value != "-" else "-"


def _without_nan(value: Any) -> Any:
    """The same with None for numbers that are not finite, which JSON has not."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


__all__ = [
    "Comparison",
    "Confusion",
    "Evaluation",
    "Figure",
    "OperatingPoint",
    "Scores",
    "compare",
    "evaluate",
    "evaluate_bundle",
    "operating_point",
    "score_samples",
    "write_evaluation",
]
