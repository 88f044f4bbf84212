"""What watching found -> one self-contained HTML page: lines over time, drift against the record, rules that rise.

No script and nothing from elsewhere; the Content-Security-Policy allows this page's own style only. It follows the
reader's light or dark setting.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from agpis.charts import Point, share_chart
from agpis.drift import FAR, LITTLE, Drift
from agpis.proportions import p_value, percent
from agpis.shards import replace_file
from agpis.watched import Period, RuleChange, Watch

PSI_TOP = 0.5
"""Right end of the bars of PSI; larger ones end there with a mark."""


def write_page(watch: Watch, path: Path, *, title: str = "AGPIS monitor") -> None:
    """Write the page. Raises OutputError."""
    environment = Environment(
        loader=PackageLoader("agpis", "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters.update(percent=percent, p_value=p_value)
    template = environment.get_template("monitor.html")
    style = "".join(template.blocks["style"](template.new_context()))
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    html = template.render(
        title=title,
        csp=f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'",
        watch=watch,
        lines=lines,
        bins=bins,
        psi=psi_bar,
        change=change_bar,
        reach=reach,
        little=LITTLE,
        far=FAR,
    )
    replace_file(path, html.encode("utf-8", "xmlcharrefreplace"))


# Pictures ------------------------------------------------------------------------------------------------------------


def lines(periods: Sequence[Period], name: str) -> Markup:
    """A share over time."""
    points = []
    for one in periods:
        if found := one.share:
            note = f"{one.label}: {found} of {found.total:.0f}"
            points.append(Point(one.label, found.value, found.low, found.high, note))
        else:
            points.append(Point(one.label, None))
    return share_chart(points, name)


def bins(drift: Drift) -> Markup:
    """The record's distribution (outline) under that of the window (filled); decoration, the row says the numbers."""
    count = len(drift.shares_before)
    top = max(*drift.shares_before, *drift.shares_after, 1e-9)
    step = 160 / count
    parts = []
    for place, (old, new) in enumerate(zip(drift.shares_before, drift.shares_after, strict=True)):
        for kind, share in (("now", new), ("record", old)):
            tall = 34 * share / top
            parts.append(
                f'<rect class="{kind}" x="{place * step + 1:.1f}" y="{35 - tall:.1f}" width="{step - 2:.1f}" '
                f'height="{tall:.1f}"/>'
            )
    return _svg("bins", 160, 36, parts)


def psi_bar(drift: Drift) -> Markup:
    """PSI with its interval, and the marks of a little and of far."""
    value, low, high = (200 * min(1.0, v / PSI_TOP) for v in (drift.psi.value, drift.psi.low, drift.psi.high))
    kind = "far" if drift.words == "moved far" else "some" if drift.words == "moved" else "calm"
    parts = ['<rect class="track" y="6" width="200" height="8" rx="4"/>']
    parts.append(f'<rect class="{kind}" y="6" width="{max(value, 2):.1f}" height="8" rx="4"/>')
    for mark in (LITTLE, FAR):
        at = 200 * mark / PSI_TOP
        parts.append(f'<line class="tick" x1="{at:.0f}" x2="{at:.0f}" y1="2" y2="18"/>')
    parts += _whisker(low, high)
    return _svg("psi", 200, 20, parts)


def reach(changes: Sequence[RuleChange]) -> float:
    """The largest bound of the differences of a table, for one scale of its bars."""
    return max((max(abs(one.low), abs(one.high)) for one in changes), default=0.0) or 1.0


def change_bar(change: RuleChange, far: float) -> Markup:
    """A difference of shares with its interval about 0; `far` is half the width."""
    value, low, high = (100 * (1 + v / far) for v in (change.difference, change.low, change.high))
    told = change.corrected < 0.05 and not change.words.startswith("too few")
    kind = ("up" if change.difference > 0 else "down") if told else "calm"
    parts = ['<line class="zero" x1="100" x2="100" y1="0" y2="20"/>', *_whisker(low, high)]
    parts.append(f'<circle class="{kind}" cx="{value:.1f}" cy="10" r="4.5"/>')
    return _svg("change", 200, 20, parts)


def _whisker(low: float, high: float) -> list[str]:
    ends = [(low, high, 10, 10), (low, low, 6, 14), (high, high, 6, 14)]
    return [f'<line class="whisker" x1="{a:.1f}" x2="{b:.1f}" y1="{c}" y2="{d}"/>' for a, b, c, d in ends]


def _svg(kind: str, width: int, height: int, parts: Sequence[str]) -> Markup:
    return Markup(
        f'<svg class="{escape(kind)}" viewBox="0 0 {width} {height}" preserveAspectRatio="xMinYMid" '
        f'aria-hidden="true" focusable="false">{"".join(parts)}</svg>'
    )  # numbers and classes only
