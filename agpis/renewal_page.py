"""Two bundles on the same held-out verdicts, and that on one page.

What is compared is p_qualified as `generate` would state it, stage 1's evidence included: each sequence goes through
both bundles again (`agpis.replay`). One that a bundle's stage 1 would not submit any more has p_qualified 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from jinja2 import Environment, PackageLoader, StrictUndefined

from agpis.bundle import Bundle
from agpis.columns import Floats
from agpis.data import Verdict
from agpis.figures import compare
from agpis.metrics import Difference, Interval, Resample, calibration_statistic, mean_statistic, threshold_for_withheld
from agpis.pipeline import Settings
from agpis.renewal_samples import Samples
from agpis.replay import Replayed, replay
from agpis.rulebook import Rulebook
from agpis.samples import Labelled, labelled
from agpis.scores import Scores
from agpis.shards import replace_file

COVERAGES = (0.9, 0.75)
"""Shares of the held-out sequences, those that a bundle is surest of, whose reject rate is compared."""
MEANING: Mapping[str, str] = {
    "auc": "AUC of p_qualified, accepted against rejected",
    "auc_single": "the same, against rejections for a rule on one image",
    "auc_pair": "the same, for two images that do not go together",
    "auc_multi": "the same, for the sequence as a whole or its title",
    **{f"rejected_at_{c:.0%}": f"rejected of the {c:.0%} that the bundle is surest of" for c in COVERAGES},
    "rejected": "rejected of what the bundle submits at its own threshold",
    "first_image": "first image right, where reviewers said which may be first",
    "coverage": "share that the bundle submits at its own threshold",
    "calibration_error": "expected calibration error of p_qualified",
}
"""Figures of a comparison, with what they mean."""
SHARES = ("rejected", "coverage", "first_image", *(f"rejected_at_{c:.0%}" for c in COVERAGES))
"""Figures that are shown in percent."""
DECIDING: Mapping[str, str] = {"auc": "AUC", "first_image": "first image right in"}
"""Those that decide on a promotion, in short."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """New against old on the same verdicts; `first` of a Difference is the new bundle."""

    new: str
    old: str
    thresholds: tuple[float, float]
    """p_qualified from which each submits, new and old."""
    verdicts: int
    products: int
    accepted: int
    removed: tuple[int, int]
    """Sequences that stage 1 of each would not submit any more, new and old."""
    figures: dict[str, Difference]
    """By name of MEANING."""

    @property
    def better(self) -> bool:
        """Whether the new bundle tells right sequences from wrong ones better, or puts the right image first more
        often, the whole interval above 0, and is not worse at the other, the whole interval below 0."""
        gains = [self.figures[name].difference for name in DECIDING if name in self.figures]
        return any(gain.low > 0.0 for gain in gains) and not any(gain.high < 0.0 for gain in gains)

    @property
    def why(self) -> str:
        """The figures that decide on a promotion."""
        said = []
        for name in DECIDING:
            if (gap := self.figures.get(name)) is not None and np.isfinite(gap.first):
                new, old, between, _ = _shown(gap, name in SHARES)
                said.append(f"{DECIDING[name]} {new} after {old}, difference {between}")
        return "; ".join(said)

    def row(self) -> dict[str, Any]:
        """JSON form; numbers that do not exist are null."""
        return {**asdict(self), "figures": {name: _row(gap) for name, gap in self.figures.items()}}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Comparison:
        """Inverse of `row`."""
        values: dict[str, Any] = {**row, "figures": {name: _gap(gap) for name, gap in row["figures"].items()}}
        for name in ("thresholds", "removed"):
            values[name] = tuple(values[name])
        return cls(**values)

    def lines(self) -> list[tuple[str, str, str, str, str]]:
        """Meaning, new, old, difference with its interval, and p of each figure, as they are shown."""
        return [(MEANING[name], *_shown(gap, name in SHARES)) for name, gap in self.figures.items()]

    def __str__(self) -> str:
        head = ("", self.new, self.old, "difference", "p")
        table = [head, *self.lines()]
        wide = [max(len(row[at]) for row in table) for at in range(len(head))]
        said = [f"{self.verdicts} held-out verdicts of {self.products} products, {self.accepted} accepted"]
        for first, *others in table:
            cells = [cell.rjust(width) for cell, width in zip(others, wide[1:], strict=True)]
            said.append("  ".join((first.ljust(wide[0]), *cells)).rstrip())
        return "\n".join(said)


def _row(gap: Difference) -> dict[str, Any]:
    numbers = {"first": gap.first, "second": gap.second, **asdict(gap.difference), "p": gap.p}
    return {name: value if np.isfinite(value) else None for name, value in numbers.items()}


def _gap(row: Mapping[str, Any]) -> Difference:
    number = {name: float("nan") if value is None else float(value) for name, value in row.items()}
    between = Interval(number["value"], number["low"], number["high"])
    return Difference(number["first"], number["second"], between, number["p"])


def _shown(gap: Difference, share: bool) -> tuple[str, str, str, str]:
    def number(value: float, sign: str = "") -> str:
        return "-" if not np.isfinite(value) else f"{100 * value:{sign}.1f} %" if share else f"{value:{sign}.3f}"

    between = gap.difference
    spread = f"{number(between.value, '+')} [{number(between.low, '+')}, {number(between.high, '+')}]"
    return number(gap.first), number(gap.second), spread, "-" if not np.isfinite(gap.p) else f"{gap.p:.3f}"


def compared(old: Bundle, new: Bundle, held: Sequence[Verdict], *, rounds: int = 1000, seed: int = 0) -> Comparison:
    """Both bundles on verdicts of products that neither was trained on; intervals are bootstrapped over products.

    The verdicts are of what the old one chose, which is where it is surest: that flatters the new one a little in AUC.

    Raises BundleError and RulebookError as `Pipeline` does.
    """
    rulebook = new.rulebook
    samples = labelled(held, rulebook)
    said = [_said(bundle, held) for bundle in (new, old)]
    scores = [_scores(bundle, rulebook, samples, one) for bundle, one in zip((new, old), said, strict=True)]
    versus = compare(scores[0], scores[1], rulebook=rulebook, rounds=rounds, seed=seed)
    figures = {name: gap for name, gap in versus.figures.items() if name in MEANING}
    resample = Resample(len(samples), scores[0].skus, rounds, seed)
    good = scores[0].qualified
    led = [one.led for one in said]
    known = ~np.isnan(led[0]) & ~np.isnan(led[1])
    if known.any():
        figures["first_image"] = resample.paired(*(mean_statistic(one, known) for one in led))
    p = [one.p_qualified for one in scores]
    for coverage in COVERAGES:
        limits = [threshold_for_withheld(one, 1.0 - coverage) for one in p]
        sent = [one >= limit for one, limit in zip(p, limits, strict=True)]
        figures[f"rejected_at_{coverage:.0%}"] = resample.paired(*(mean_statistic(~good, among) for among in sent))
    thresholds = new.thresholds["qualified"], old.thresholds["qualified"]
    sent = [one >= limit for one, limit in zip(p, thresholds, strict=True)]
    figures["rejected"] = resample.paired(*(mean_statistic(~good, among) for among in sent))
    figures["coverage"] = resample.paired(*(mean_statistic(among) for among in sent))
    figures["calibration_error"] = resample.paired(*(calibration_statistic(one, good) for one in p))
    return Comparison(
        new=new.name,
        old=old.name,
        thresholds=thresholds,
        verdicts=len(samples),
        products=len(set(scores[0].skus)),
        accepted=int(good.sum()),
        removed=(said[0].left_out, said[1].left_out),
        figures=figures,
    )


def _said(bundle: Bundle, held: Sequence[Verdict]) -> Replayed:
    return replay(bundle.folder, held, settings=Settings(threshold=0.0))


def _scores(bundle: Bundle, rulebook: Rulebook, samples: Sequence[Labelled], said: Replayed) -> Scores:
    """p_qualified as scores, 0 of what would not be submitted, for the figures that speak of nothing else."""
    p: Floats = np.zeros(len(samples))
    p[said.rows] = said.p_qualified
    probabilities: npt.NDArray[np.float32] = np.zeros((len(samples), len(rulebook.classes)), np.float32)
    probabilities[:, 0] = p
    return Scores(
        bundle=bundle.name,
        rulebook=rulebook.hash,
        classes=rulebook.classes,
        samples=tuple(samples),
        probabilities=probabilities,
        feedbacks=(None,) * len(samples),
        threshold=bundle.thresholds["qualified"],
    )


def write_page(found: Comparison, folder: Path, *, title: str, notes: Sequence[str], samples: Samples) -> None:
    """Writes comparison.html and comparison.md. Raises OutputError."""
    counts = {
        "trained on": sum(verdict.split == "train" for verdict in samples.train),
        "chosen and calibrated on": len(samples.validation),
        "held out": len(samples.held),
    }
    about = {
        "title": title,
        "found": found,
        "lines": found.lines(),
        "notes": list(notes),
        "counts": counts,
        "rules": _rules(samples),
        "better": found.better,
    }
    page = Environment(
        loader=PackageLoader("agpis", "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    ).get_template("renewal.html")
    replace_file(folder / "comparison.html", page.render(**about).encode())
    replace_file(folder / "comparison.md", _markdown(found, title, notes, counts).encode())


def _rules(samples: Samples) -> list[tuple[str, int]]:
    """How many verdicts name each rule first, the most first."""
    counts: dict[str, int] = {}
    for verdict in (*samples.train, *samples.held):
        if not verdict.accepted:
            rule = verdict.rules[0] if verdict.rules else "in words alone"
            counts[rule] = counts.get(rule, 0) + 1
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _markdown(found: Comparison, title: str, notes: Sequence[str], counts: Mapping[str, int]) -> str:
    lines = [f"# {title} against {found.old}", ""]
    lines += [f"{found.verdicts} held-out verdicts of {found.products} products, {found.accepted} accepted.", ""]
    lines += [f"| | {found.new} | {found.old} | difference, 95 % interval | p |", "|---|---|---|---|---|"]
    lines += ["| " + " | ".join(row) + " |" for row in found.lines()]
    lines += ["", *(f"- {name}: {number} samples" for name, number in counts.items()), *(f"- {note}" for note in notes)]
    return "\n".join(lines) + "\n"
