"""ROC, precision-recall and reliability plots as PNG files, in colours that the colour-blind tell apart (Okabe-Ito).

Matplotlib is an extra and is loaded when a plot is drawn; figures are made without pyplot, so that no window, backend
or global state is involved.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from agpis.errors import MissingExtra, output_error
from agpis.metrics import Floats, Resample, precision_recall, recall_at_precision, reliability, roc
from agpis.shares import wilson

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#000000", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00")
LINES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1.5)), (0, (6, 1.5, 1.5, 1.5)), "--", ":")
"""Line styles: curves differ in print and to the colour-blind too."""
GREY = "#6e6e6e"
BANDS = 200
"""Bootstrap rounds of a band."""

_BAND = "\nBand: 95 % of bootstrap draws, over products."
_BARS = "\nBars: 95 % Wilson intervals; the larger the dot, the more sequences."
_STYLE = {
    "figure.dpi": 160,
    "figure.facecolor": "white",
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.8,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": "black",
    "ytick.labelcolor": "black",
    "figure.constrained_layout.w_pad": 0.12,  # inches; the last tick's label is wider than the axis
    "legend.frameon": True,  # without its edge: a white ground over the grid
    "legend.edgecolor": "none",
    "legend.facecolor": "white",
    "legend.framealpha": 0.85,
    "legend.fontsize": 9,
}


@dataclass(frozen=True, slots=True)
class Curve:
    """One line of a plot."""

    name: str
    scores: npt.ArrayLike
    """(n,) p_qualified."""
    positive: npt.ArrayLike
    """(n,) whether the reviewer accepted."""
    figure: str = ""
    """Put behind the name in the legend: "AUC 0.91 [0.89, 0.93]"."""
    resample: Resample | None = None
    """Draws of the 95 % band around the line; None: no band."""
    threshold: float | None = None
    """Marked on the line: where the bundle submits."""


def need_matplotlib() -> None:
    """Raises MissingExtra where plots cannot be drawn."""
    try:
        import matplotlib  # noqa: F401, here only to see whether it can be
    except ImportError:
        raise MissingExtra("matplotlib", "evaluate", "Drawing plots") from None


def draw_roc(path: Path, curves: Sequence[Curve], caption: str) -> None:
    """True against false positive rate; the first curve is drawn boldest. Raises OutputError, MissingExtra."""
    with _drawing(path, "Receiver operating characteristic", caption + _BAND, width=5.9) as figure:
        axes = figure.add_subplot()
        for index, curve in enumerate(curves):
            false, true = roc(curve.scores, curve.positive)
            _band(axes, curve, index, _roc_of)
            _line(axes, false, true, curve, index)
            scores, positive = np.asarray(curve.scores), np.asarray(curve.positive, dtype=bool)
            if curve.threshold is not None and positive.any() and not positive.all():
                at = [float((scores[kind] >= curve.threshold).mean()) for kind in (~positive, positive)]
                _mark(axes, at[0], at[1], curve, index)
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":", label="chance, AUC 0.5")
        _unit(axes, "Share of rejected sequences that pass", "Share of qualified sequences that pass")
        axes.set_aspect("equal")
        axes.legend(loc="lower right")


def draw_precision_recall(
    path: Path, curves: Sequence[Curve], caption: str, precisions: Sequence[float] = (0.80, 0.85, 0.90)
) -> None:
    """Precision against recall of `qualified`, with the recall at each wanted precision where there is one curve."""
    with _drawing(path, "Precision and recall of qualified sequences", caption + _BAND) as figure:
        axes = figure.add_subplot()
        share = float(np.mean(np.asarray(curves[0].positive, dtype=bool)))
        lowest = share
        for index, curve in enumerate(curves):
            precision, recall, thresholds = precision_recall(curve.scores, curve.positive)
            _band(axes, curve, index, _precision_recall_of)
            _line(axes, np.append(0.0, recall), np.append(precision[:1], precision), curve, index, "steps-pre")
            lowest = min(lowest, float(precision[recall > 0.05].min(initial=1.0)))
            if curve.threshold is not None and (submitted := int((thresholds >= curve.threshold).sum())):
                at = submitted - 1
                _mark(axes, float(recall[at]), float(precision[at]), curve, index)
        axes.axhline(share, color=GREY, linewidth=1, linestyle=":", label=f"everything submitted, {share:.3f}")
        for wanted in precisions if len(curves) == 1 else ():
            found = recall_at_precision(curves[0].scores, curves[0].positive, wanted)
            if found > 0:
                left = found > 0.4
                axes.plot([found], [wanted], "D", color="white", markeredgecolor=COLOURS[0], markersize=5, zorder=5)
                axes.annotate(
                    f"recall {found:.2f} at precision {wanted:.2f}",
                    (found, wanted),
                    xytext=(-7 if left else 7, 0),
                    textcoords="offset points",
                    ha="right" if left else "left",
                    va="center",
                    fontsize=8,
                    bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 1},
                )
        _unit(
            axes, "Recall: share of qualified sequences submitted", "Precision: share of submitted that are qualified"
        )
        axes.set_ylim(max(0.0, np.floor(10 * lowest - 0.5) / 10), 1.01)
        axes.legend(loc="lower left")


def draw_reliability(path: Path, curves: Sequence[Curve], caption: str, bins: int = 10) -> None:
    """Share accepted against p_qualified by bin, with 95 % Wilson intervals, and below how p_qualified is spread."""
    with _drawing(path, "Reliability of p_qualified", caption + _BARS, height=6.4) as figure:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3.2, 1))
        for index, curve in enumerate(curves):
            filled = [b for b in reliability(curve.scores, curve.positive, bins) if b.count]
            x, y = [np.array([getattr(b, name) for b in filled]) for name in ("confidence", "frequency")]
            counts = np.array([b.count for b in filled])
            intervals = [wilson(b.frequency * b.count, b.count) for b in filled]
            bars = [[i.value - i.low for i in intervals], [i.high - i.value for i in intervals]]
            colour = COLOURS[index]
            above.errorbar(x, y, bars, color=colour, linewidth=1.2, linestyle="none", alpha=0.8)
            above.plot(x, y, color=colour, linewidth=1.2, linestyle=LINES[index], marker="o", label=_label(curve))
            above.scatter(x, y, 30 + 160 * counts / counts.sum(), color=colour, zorder=3)
        above.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":", label="perfectly calibrated")
        _unit(above, "", "Share accepted by reviewers")
        above.set_ylim(-0.03, 1.03)
        above.legend(loc="upper left")
        edges = np.linspace(0, 1, 2 * bins + 1)
        if len(curves) == 1:
            scores, positive = np.asarray(curves[0].scores), np.asarray(curves[0].positive, dtype=bool)
            below.hist(
                [scores[positive], scores[~positive]],
                edges,
                stacked=True,
                color=(COLOURS[2], COLOURS[1]),
                label=[f"qualified, n = {int(positive.sum())}", f"rejected, n = {int((~positive).sum())}"],
                edgecolor="white",
                linewidth=0.6,
            )
        else:
            for index, curve in enumerate(curves):
                below.hist(
                    np.asarray(curve.scores),
                    edges,
                    histtype="step",
                    color=COLOURS[index],
                    linestyle=LINES[index],
                    label=_plain(curve.name),
                )
        below.set_xlabel("p_qualified")
        below.set_ylabel("Sequences")
        below.legend(loc="upper left")


# Parts ---------------------------------------------------------------------------------------------------------------


@contextmanager
def _drawing(path: Path, title: str, caption: str, width: float = 6.6, height: float = 5.6) -> Iterator[Figure]:
    """A figure with title and caption, saved when the block ends well."""
    need_matplotlib()
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        # An empty line for each of the caption's, so that the layout leaves room for it.
        room = "\n" * (1 + caption.count("\n"))
        figure.suptitle(f"{title}{room}", x=0.02, ha="left", fontweight="bold", fontsize=12)
        figure.text(0.02, 1 - 0.27 / height, _plain(caption), ha="left", va="top", fontsize=9, color=GREY)
        yield figure
        try:
            figure.savefig(path, metadata={"Software": None})
        except OSError as error:
            raise output_error(error, path) from error


def _line(axes: Axes, x: Floats, y: Floats, curve: Curve, index: int, drawstyle: str = "default") -> None:
    axes.plot(
        x,
        y,
        color=COLOURS[index],
        linestyle=LINES[index],
        linewidth=2.0 if index == 0 else 1.6,
        drawstyle=drawstyle,
        label=_label(curve),
        zorder=3 - 0.1 * index,
    )


def _mark(axes: Axes, x: float, y: float, curve: Curve, index: int) -> None:
    text = f"submitted from {curve.threshold:g} on"
    axes.plot([x], [y], "o", color=COLOURS[index], markersize=7, markeredgecolor="white", zorder=4, label=text)


def _label(curve: Curve) -> str:
    return _plain(f"{curve.name}, {curve.figure}" if curve.figure else curve.name)


def _plain(text: str) -> str:
    """Text without the sign that starts a formula in matplotlib."""
    return text.replace("$", r"\$")


def _unit(axes: Axes, x: str, y: str) -> None:
    axes.set_xlim(-0.01, 1.01)
    axes.set_ylim(-0.01, 1.01)
    axes.set_xlabel(x)
    axes.set_ylabel(y)


def _band(axes: Axes, curve: Curve, index: int, curve_of: Any) -> None:
    """The middle 95 % of the bootstrapped curves at every x."""
    if curve.resample is None:
        return
    scores, positive = np.asarray(curve.scores, dtype=np.float64), np.asarray(curve.positive, dtype=bool)
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.append(scores[order][1:] != scores[order][:-1], True))
    grid = np.linspace(0, 1, 201)
    drawn = []
    for weights in curve.resample.weights():
        for row in weights[:, order]:
            hits, submitted = np.cumsum(row * positive[order])[ends], np.cumsum(row)[ends]
            if 0 < hits[-1] < submitted[-1]:
                drawn.append(curve_of(hits, submitted, grid))
    if drawn:
        low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
        axes.fill_between(grid, low, high, color=COLOURS[index], alpha=0.12, linewidth=0)


def _roc_of(hits: Floats, submitted: Floats, grid: Floats) -> Floats:
    alarms = submitted - hits
    return np.asarray(np.interp(grid, np.append(0.0, alarms / alarms[-1]), np.append(0.0, hits / hits[-1])))


def _precision_recall_of(hits: Floats, submitted: Floats, grid: Floats) -> Floats:
    """Precision of the first threshold that reaches each recall."""
    some = submitted > 0
    recall, precision = hits[some] / hits[-1], hits[some] / submitted[some]
    return precision[np.minimum(np.searchsorted(recall, grid - 1e-12), len(recall) - 1)]
