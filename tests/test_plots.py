"""What the plots draw, read back from the figure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from statsmodels.stats.proportion import proportion_confint

from agpis.plots import Curve, draw_reliability

matplotlib = pytest.importorskip("matplotlib")


def test_bars_of_the_reliability_plot_are_wilson_intervals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.figure import Figure

    drawn: list[Figure] = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: drawn.append(self) or save(self, *a, **k))
    scores = np.repeat([0.05, 0.35, 0.95], [40, 10, 3])
    accepted = np.r_[np.arange(40) < 4, np.arange(10) < 5, [True] * 3]
    draw_reliability(tmp_path / "r.png", [Curve("one", scores, accepted)], "caption")
    (figure,) = drawn
    (bars,) = figure.axes[0].containers[0].lines[2]
    ends = np.array([segment[:, 1] for segment in bars.get_segments()])
    wanted = proportion_confint([4, 5, 3], [40, 10, 3], method="wilson")
    assert ends == pytest.approx(np.array(wanted).T, abs=1e-9)
