"""Small plots as SVG text for the web pages: no script, no style attribute, colours by class (so also in the dark).

Texts are escaped here; every plot has a name and a description for screen readers, the numbers stand in a table beside
it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

WIDTH, HEIGHT = 720, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 24, 14, 30


@dataclass(frozen=True, slots=True)
class Point:
    """One place of a line: a share with its interval; None where there is nothing to say of it."""

    label: str
    value: float | None
    low: float = 0.0
    high: float = 0.0
    note: str = ""
    """Shown when pointed at."""


def share_chart(points: Sequence[Point], name: str) -> Markup:
    """A line of shares (0 to 1) with a shaded interval; gaps where a value is None."""
    top = _ceiling(max((p.high for p in points if p.value is not None), default=1.0))
    x, y = _scales(len(points), top)
    parts = _axis([0, top / 2, top], y, lambda v: f"{100 * v:g} %")
    for run in _runs(points):
        over = [f"{x(i):.1f},{y(points[i].high):.1f}" for i in run]
        under = [f"{x(i):.1f},{y(points[i].low):.1f}" for i in reversed(run)]
        if len(run) > 1:
            parts.append(f'<polygon class="area" points="{" ".join(over + under)}"/>')
            line = " ".join(f"{x(i):.1f},{y(points[i].value or 0):.1f}" for i in run)
            parts.append(f'<polyline class="line" points="{line}"/>')
        else:
            i = run[0]
            parts.append(
                f'<line class="whisker" x1="{x(i):.1f}" x2="{x(i):.1f}" y1="{y(points[i].low):.1f}" '
                f'y2="{y(points[i].high):.1f}"/>'
            )
        parts += [
            f'<circle class="dot" cx="{x(i):.1f}" cy="{y(points[i].value or 0):.1f}" r="3.5">'
            f"<title>{escape(points[i].note)}</title></circle>"
            for i in run
        ]
    return _svg(name, parts + _labels([p.label for p in points], x))


def count_chart(labels: Sequence[str], counts: Sequence[int], name: str) -> Markup:
    """Bars of counts."""
    top = max(1, _round_up(max(counts, default=0)))
    x, y = _scales(len(counts), top)
    width = max(2.0, min(40.0, 0.7 * (WIDTH - _LEFT - _RIGHT) / max(1, len(counts))))
    parts = _axis([0, top / 2, top] if top % 2 == 0 else [0, top], y, lambda v: f"{v:g}")
    for i, (label, count) in enumerate(zip(labels, counts, strict=True)):
        if count:
            parts.append(
                f'<rect class="column" x="{x(i) - width / 2:.1f}" y="{y(count):.1f}" width="{width:.1f}" '
                f'height="{y(0) - y(count):.1f}" rx="2"><title>{escape(label)}: {count}</title></rect>'
            )
    return _svg(name, parts + _labels(labels, x))


def interval_bar(value: float, low: float, high: float, top: float = 1.0) -> Markup:
    """A bar of a share with its interval as a whisker, for a row of a table; decoration: the row says the numbers."""
    scale = 200 / top
    v, a, b = (min(200.0, scale * n) for n in (value, low, high))
    return Markup(
        '<svg class="interval" viewBox="0 0 200 16" width="200" height="16" aria-hidden="true" focusable="false">'
        f'<rect class="track" width="200" height="8" y="4" rx="4"/><rect class="fill" width="{v:.1f}" height="8" y="4"'
        f' rx="4"/><line class="whisker" x1="{a:.1f}" x2="{b:.1f}" y1="8" y2="8"/>'
        f'<line class="whisker" x1="{a:.1f}" x2="{a:.1f}" y1="3" y2="13"/>'
        f'<line class="whisker" x1="{b:.1f}" x2="{b:.1f}" y1="3" y2="13"/></svg>'
    )  # numbers only


Scale = Callable[[float], float]


def _scales(count: int, top: float) -> tuple[Scale, Scale]:
    """Number of a place -> x, value -> y, both in the plot's units."""
    step = (WIDTH - _LEFT - _RIGHT) / max(1, count)
    tall = HEIGHT - _TOP - _BOTTOM
    return (lambda i: _LEFT + step * (i + 0.5)), (lambda v: _TOP + tall * (1 - v / top))


def _runs(points: Sequence[Point]) -> list[list[int]]:
    """Indices of neighbouring points that have a value."""
    runs: list[list[int]] = []
    for i, point in enumerate(points):
        if point.value is None:
            continue
        if runs and runs[-1][-1] == i - 1:
            runs[-1].append(i)
        else:
            runs.append([i])
    return runs


def _axis(values: Sequence[float], y: Scale, word: Callable[[float], str]) -> list[str]:
    parts = []
    for value in values:
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y(value) + 5:.1f}" text-anchor="end">{word(value)}</text>')
    return parts


def _labels(labels: Sequence[str], x: Scale) -> list[str]:
    every = max(1, math.ceil(len(labels) / 7))
    return [
        f'<text x="{x(i):.1f}" y="{HEIGHT - 7}" text-anchor="middle">{escape(label)}</text>'
        for i, label in enumerate(labels)
        if i % every == 0
    ]


def _ceiling(share: float) -> float:
    return next(top for top in (0.1, 0.2, 0.4, 0.6, 0.8, 1.0) if share <= top or top == 1.0)


def _round_up(count: int) -> int:
    """The next of 1, 2, 4, 6, 8, 10, 20, 40, ..."""
    power = int(10 ** max(0, len(str(count)) - 1))
    return next(n * power for n in (1, 2, 4, 6, 8, 10) if count <= n * power)


def _svg(name: str, parts: Sequence[str]) -> Markup:
    return Markup(
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(name)}">'
        f"{''.join(parts)}</svg>"
    )  # every text above went through escape()
