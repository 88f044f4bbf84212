"""Figures of `bench.starter` over left-out sources and training seeds, their targets, and benches' JSON as tables."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from agpis.bundle_manifest import Manifest


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of `bench.starter`."""

    path: tuple[str, ...]
    """Its name, and within a figure of several parts that of the part."""
    label: str
    target: float | None = None
    """What issue C demands of the mean over sources."""
    most: bool = False
    """Whether less is better, and a target the most that is allowed."""
    short: bool = False
    """Whether it stands in the README."""
    fitted: str = ""
    """The manifest's entry that the figure is better with, `choice` or `naming`."""

    def met(self, value: float) -> bool:
        """Whether the target is reached."""
        assert self.target is not None
        return value <= self.target if self.most else value >= self.target

    @property
    def wanted(self) -> str:
        """The target in words."""
        return "" if self.target is None else f"at {'most' if self.most else 'least'} {self.target:g}"


KINDS, RULES, VIEWS = "noncompliant AUC by kind", "sequence AUC by rule", "false alarms by view"
BLURRED, SHARP = "blurred pictures found blurred", "sharp pictures found blurred"
HARD = "false alarms on packs, prints and screens"
KIND_TARGET, ALARM_TARGET = 0.90, 0.05

ROWS = (
    Row(("primary top-1, some candidates wrong",), "primary: top-1 where some are wrong", 0.85, fitted="choice"),
    Row(("primary top-1, wrong ones planted",), "primary: top-1 with wrong ones planted", 0.90, fitted="choice"),
    Row(("noncompliant AUC",), "broken pictures: AUC"),
    Row(("noncompliant AUC, kinds evenly",), "broken pictures: AUC, kinds evenly", 0.97, short=True),
    Row(("found at the threshold",), "broken pictures found at the threshold", short=True),
    Row(("false alarms at the threshold",), "clean pictures removed at the threshold", most=True, short=True),
    Row((VIEWS, "pack"), "clean pictures of packs removed", ALARM_TARGET, most=True),
    Row((HARD, "packs"), "merchants' packs removed", ALARM_TARGET, most=True),
    Row(
        (HARD, "packs, label or cover drawn"),
        "clean pictures with a label or cover drawn removed",
        ALARM_TARGET,
        most=True,
    ),
    Row((HARD, "prints drawn"), "clean pictures with a print drawn removed", ALARM_TARGET, most=True),
    Row((HARD, "screens"), "merchants' devices with a screen removed", ALARM_TARGET, most=True),
    Row((HARD, "screens drawn"), "clean pictures with a screen drawn removed", ALARM_TARGET, most=True),
    Row((BLURRED, "plain"), "blurred pictures of the plainest products found blurred"),
    *(Row((BLURRED, f"{size} px"), f"blurred pictures {size} px long found blurred") for size in (300, 800, 2000)),
    Row((SHARP, "plain"), "sharp pictures of the plainest products found blurred", most=True),
    *(
        Row((SHARP, f"{size} px"), f"sharp pictures {size} px long found blurred", most=True)
        for size in (300, 800, 2000)
    ),
    Row(("sequence AUC",), "sequences: AUC", 0.90, short=True),
    Row(("sequence AUC, single",), "sequences: AUC, single rules", 0.92),
    Row(("sequence AUC, pair",), "sequences: AUC, pair rules", 0.92),
    Row(("sequence AUC, multi",), "sequences: AUC, multi rules", 0.85),
    Row(("sequence AUC, title of the same category",), "sequences: AUC, title of the same category"),
    Row(("recall at precision 0.80",), "sequences: recall at precision 0.80"),
    Row(("recall at precision 0.85",), "sequences: recall at precision 0.85"),
    Row(("recall at precision 0.90",), "sequences: recall at precision 0.90", 0.75, short=True),
    Row(("sequence calibration error",), "p_qualified: expected calibration error", most=True),
    Row(("rule named (top 1) of broken pictures",), "broken pictures: right rule named"),
    Row(("rule named (top 1) of rejected sequences",), "rejected sequences: right rule by the sequence model alone"),
    Row(("rule named, stage 1 heard too",), "rejected sequences: right rule named", 0.70, fitted="naming"),
    Row(("right image named of rejected sequences",), "rejected sequences: right image named", 0.80, fitted="naming"),
    Row(("right image named where the rule is right",), "rejected sequences: right image where the rule is right"),
    Row(("rule named by the feedback",), "rejected sequences: right rule in the feedback", fitted="naming"),
    Row(("evidence: centre of the box in the mark, all",), "boxes on removed pictures: centre within the mark"),
)
ELSEWHERE = (
    Row(
        ("choice", "mean over sources", "natural", "fitted"),
        "primary: top-1 where some candidates are wrong",
        0.85,
        short=True,
    ),
    Row(
        ("choice", "mean over sources", "planted", "fitted"),
        "primary: top-1 with wrong ones planted",
        0.9,
        short=True,
    ),
    Row(("naming", "together", "feedback shown: right rule"), "feedback names the right rule", 0.7, short=True),
    Row(("naming", "together", "feedback shown: right image"), "feedback names the right image", 0.8, short=True),
    Row(("duplicates", "AUC", "single"), "duplicates: AUC, single changes", 0.999, short=True),
    Row(
        ("duplicates", "recall at 1 % false alarms", "single"),
        "duplicates: recall at 1 % false alarms, single",
        0.995,
        short=True,
    ),
    Row(("duplicates", "AUC", "combined"), "duplicates: AUC, combinations", 0.97, short=True),
    Row(("duplicates", "boxes with IoU >= 0.5", "crop"), "duplicates: boxes of crops with IoU of at least 0.5", 0.8),
    Row(("duplicates", "ms a picture"), "duplicates: ms a picture beyond the image graph", 5.0, most=True),
    Row(("planted", "rows", "all", "avoided"), "planted wrong candidates kept out of the sequence", 0.95, short=True),
)
"""Figures of other benches by their path in the metrics, with issue C's targets."""
NO_FIGURE = {"samples"}
"""Counts, told apart from the figures."""


def listed(figure: Any) -> Any:
    """[figure, low, high] of {"value", "low", "high"}; all else as it is."""
    if isinstance(figure, Mapping) and set(figure) == {"value", "low", "high"}:
        return [figure["value"], figure["low"], figure["high"]]
    return figure


def value_of(figure: Any) -> float:
    """A figure, or the middle of one with its interval; nan where there is none."""
    figure = listed(figure)
    if isinstance(figure, (list, tuple)):
        figure = figure[0] if figure else None
    return float(figure) if isinstance(figure, (int, float)) else math.nan


def cell(figure: Any, digits: int = 3) -> str:
    """A figure, with its interval where it has one."""
    figure, value = listed(figure), value_of(figure)
    if math.isnan(value):
        return "-"
    if isinstance(figure, (list, tuple)) and len(figure) == 3:
        return f"{value:.{digits}f} [{figure[1]:.{digits}f}, {figure[2]:.{digits}f}]"
    return f"{value:.{digits}f}"


def at(figures: Mapping[str, Any], path: Sequence[str]) -> Any:
    """The figure of that path, through mappings and lists of rows with a `name`; None where it was not measured."""
    found: Any = figures
    for name in path:
        if isinstance(found, (list, tuple)):
            found = next((row for row in found if isinstance(row, Mapping) and row.get("name") == name), None)
        else:
            found = found.get(name) if isinstance(found, Mapping) else None
    return found


@dataclass(frozen=True, slots=True)
class Over:
    """A figure over the left-out sources."""

    mean: float
    spread: float
    """Standard deviation over sources; nan for one."""
    sources: int
    lowest: str
    """Source of the smallest value."""
    seeds: float
    """Mean over sources of the standard deviation over training seeds; nan for one seed."""

    def __str__(self) -> str:
        return f"{self.mean:.3f}" + ("" if math.isnan(self.spread) else f" ± {self.spread:.3f}")


def over(metrics: Mapping[str, Any], path: Sequence[str]) -> Over | None:
    """A figure over sources, each of its mean over training seeds; None where no source has it."""
    runs = [run.get("left_out", {}) for run in (metrics, *metrics.get("repeats", ()))]
    by_source: dict[str, list[float]] = {}
    for run in runs:
        for source, figures in run.items():
            value = value_of(at(figures, path))
            if not math.isnan(value):
                by_source.setdefault(source, []).append(value)
    if not by_source:
        return None
    means = {source: float(np.mean(values)) for source, values in by_source.items()}
    several = [float(np.std(values, ddof=1)) for values in by_source.values() if len(values) > 1]
    spread = float(np.std(list(means.values()), ddof=1)) if len(means) > 1 else math.nan
    seeds = float(np.mean(several)) if several else math.nan
    return Over(float(np.mean(list(means.values()))), spread, len(means), min(means, key=means.__getitem__), seeds)


def parts_over(metrics: Mapping[str, Any], name: str) -> dict[str, Over]:
    """The parts of a figure, each over the sources that have it, the smallest first."""
    names = {part for figures in metrics.get("left_out", {}).values() for part in figures.get(name) or {}}
    found = {part: figure for part in sorted(names) if (figure := over(metrics, (name, part))) is not None}
    return dict(sorted(found.items(), key=lambda item: item[1].mean))


def rows_of(metrics: Mapping[str, Any]) -> Iterator[tuple[Row, Over]]:
    """The rows that were measured; at the end those of figures that ROWS does not know."""
    for row in ROWS:
        if (found := over(metrics, row.path)) is not None:
            yield replace(row, label=row.label + how_fitted(metrics, row.fitted)), found
    known = {row.path[0] for row in ROWS} | NO_FIGURE
    others = {name: None for figures in metrics.get("left_out", {}).values() for name in figures if name not in known}
    for name in others:
        if (found := over(metrics, (name,))) is not None:
            yield Row((name,), name), found


def how_fitted(metrics: Mapping[str, Any], name: str) -> str:
    """Whether the measured bundles had that entry of the manifest, and from where, as the end of a label.

    `bench.starter` records it; where there is no record, the bundles are from before, and had none.
    """
    if not name:
        return ""
    runs = (run.get("how", {}) for run in (metrics, *metrics.get("repeats", ())))
    bundles = [bundle for run in runs for bundle in run.get("bundles", {}).values()]
    said = [(bundle.get("fitted", {}).get(name), bundle["left_out"]) for bundle in bundles]
    if all(data is None for data, _ in said):
        return f", without `{name}`"
    some = " where the bundle has one" if any(data is None for data, _ in said) else ""
    seen = any(set(re.split(r"[\s,;]+", data)) & set(left_out) for data, left_out in said if data is not None)
    return f", with `{name}`{some}" + (" (fitted on sources measured here: flattering)" if seen else "")


def merged(figures: Sequence[Mapping[str, Any]], more: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """One file of figures out of those of several training seeds and of other benches, for `agpis.recipe figures`."""
    chief = dict(figures[0])
    metrics = dict(chief.get("metrics", {}))
    others = [found["metrics"] for found in figures[1:]]
    repeats = [{key: found[key] for key in ("left_out", "how") if key in found} for found in others]
    if repeats:
        metrics["repeats"] = repeats
    for name, found in more.items():
        if "metrics" in found:
            metrics |= found["metrics"]
            for key in (set(found) & set(Manifest.model_fields)) - {"metrics"}:
                chief[key] = {**chief.get(key, {}), **found[key]}
        else:
            metrics[name] = dict(found)
    return {**chief, "metrics": metrics}


def stated(manifest: Manifest, figures: Mapping[str, Any]) -> Manifest:
    """The manifest with those figures, as `agpis.recipe figures` would leave it."""
    entries = {name: value for name, value in figures.items() if name in Manifest.model_fields}
    before = manifest.model_dump(mode="json")
    entries["thresholds"] = {**before["thresholds"], **entries.get("thresholds", {})}
    return Manifest.model_validate({**before, **entries})


# Tables --------------------------------------------------------------------------------------------------------------


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A Markdown table, and the empty line behind it."""
    first, *others = (f"| {' | '.join(row)} |" for row in (head, *rows))
    return [first, "|---" * len(head) + "|", *others, ""]


def verdict(met: bool) -> str:
    """Of a target."""
    return "met" if met else "not met"


def planted(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """`bench.planted`: how often the planted wrong candidate is kept out of the sequence."""
    cells = []
    for row in rows:
        share = [row["avoided"], row["low"], row["high"]] if row["avoided"] is not None else None
        beside = (cell(row.get(name)) for name in ("chance", "coverage"))
        cells.append([row["name"], str(row["cases"]), cell(share), *beside])
    return table(["planted", "cases", "avoided [95 %]", "by chance", "coverage"], cells)


def nested(found: Any) -> list[str]:
    """Figures in nested mappings: those with the same names make one table."""
    groups: dict[tuple[str, ...], list[list[str]]] = {}
    notes = []
    for path, figures in _leaves(found):
        names = tuple(name for name, value in figures.items() if _is_figure(value))
        notes += [f"{' '.join((*path, name))}: {value}" for name, value in figures.items() if isinstance(value, str)]
        if names:
            row = [", ".join(path), *(cell(figures[name]) for name in names)]
            groups.setdefault(names, []).append(row)
    lines = [*notes, ""] if notes else []
    for names, rows in groups.items():
        if len(names) > 8:  # too wide: one line a figure
            columns = [[name, *(row[i + 1] for row in rows)] for i, name in enumerate(names)]
            lines += table(["", *(row[0] for row in rows)], columns)
        else:
            lines += table(["", *names], rows)
    return lines


def _is_figure(value: Any) -> bool:
    value = listed(value)
    if isinstance(value, (list, tuple)):
        return 2 <= len(value) <= 3 and all(isinstance(part, (int, float)) for part in value)
    return isinstance(value, (int, float)) or value is None


def _leaves(found: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    if isinstance(found, Mapping) and not _is_figure(found):
        if any(_is_figure(value) or isinstance(value, str) for value in found.values()):
            yield path, found
        for name, value in found.items():
            yield from _leaves(value, (*path, str(name)))
    elif isinstance(found, (list, tuple)) and not _is_figure(found):
        for number, value in enumerate(found):
            name = value.get("name", number) if isinstance(value, Mapping) else number
            yield from _leaves(value, (*path, str(name)))


def is_planted(found: Any) -> bool:
    return isinstance(found, Mapping) and all("avoided" in row for row in found.get("rows") or [{}])
