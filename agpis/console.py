"""What a run shows on screen: a progress bar on standard error, a summary on standard output.

On a pipe the summary is one line of JSON and nothing else is printed.
"""

from __future__ import annotations

import itertools
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from agpis import catalogue
from agpis.data import Decision
from agpis.errors import AgpisError
from agpis.manifest import Totals

if TYPE_CHECKING:
    from agpis.engine import Options, Summary

STATUS_TEXT = {
    "generated": "sequence generated",
    "below_threshold": "below the threshold: a reviewer should look",
    "no_primary": "no image fit to be the primary",
    "too_few_images": "fewer than K images left",
    "failed": "failed",
}


class _Bar(Progress):
    """A progress bar with a line of counters under it."""

    counters = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        if self.counters:
            yield Text(self.counters, style="dim", no_wrap=True, overflow="ellipsis")


class RunDisplay:
    """Context manager; `update` is the engine's progress callback, `close` prints the summary."""

    def __init__(self, source: str, options: Options) -> None:
        self._source = source
        self._options = options
        self._progress = _Bar(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=False),
            console=Console(stderr=True),
            disable=not sys.stderr.isatty(),
            transient=True,
        )
        self._task: TaskID | None = None
        self._start = 0.0
        self._fresh = 0
        self._resumed = 0
        self._statuses: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()

    def __enter__(self) -> RunDisplay:
        self._progress.__enter__()
        self._task = self._progress.add_task("products", total=None, rate="")
        self._start = time.perf_counter()
        if not self._progress.disable:
            threading.Thread(target=self._count, daemon=True, name="agpis-count").start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.__exit__(kind, error, trace)

    def _count(self) -> None:
        """The number of products, found while the first ones are judged: it only makes the time left known."""
        if "://" in self._source:
            return
        try:
            products = catalogue.read(self._source, self._options.source_format, base=self._options.base)
            total = sum(1 for _ in itertools.islice(products, self._options.limit))
        except AgpisError:
            return  # the run itself reports it
        if self._task is not None:
            self._progress.update(self._task, total=total)

    def update(self, totals: Totals, decision: Decision | None) -> None:
        """Count one decision; None stands for the products that an earlier run had finished."""
        if decision is None:
            self._resumed = totals.products
        else:
            self._fresh += 1
            self._statuses[decision.status] += 1
            self._reasons.update(c.reason for c in decision.candidates if c.outcome == "removed")
        rate = self._fresh / max(time.perf_counter() - self._start, 1e-9)
        said = [f"{name} {count}" for name, count in self._statuses.most_common()]
        gone = [f"{name} {count}" for name, count in self._reasons.most_common(6)]
        self._progress.counters = "  ".join(said) + (f"   removed images: {'  '.join(gone)}" if gone else "")
        if self._task is not None:
            self._progress.update(self._task, completed=self._resumed + self._fresh, rate=f"{rate:.1f} products/s")

    def close(self, summary: Summary, *, explain: bool = False) -> None:
        """Print how it ended."""
        seconds = time.perf_counter() - self._start
        if not sys.stdout.isatty():
            sys.stdout.write(json.dumps(_machine(summary, seconds), ensure_ascii=False) + "\n")
        else:
            _human(Console(), summary, seconds, self._fresh, explain)
        if not summary.complete:
            sys.stderr.write(
                f"agpis: stopped after {summary.totals.products} products. Run the same command to go on.\n"
            )


def _machine(summary: Summary, seconds: float) -> dict[str, object]:
    return {
        "complete": summary.complete,
        "products": summary.totals.products,
        "images": summary.totals.images,
        "resumed": summary.resumed,
        "statuses": dict(summary.totals.statuses),
        "removed": dict(summary.totals.reasons),
        "seconds": round(seconds, 2),
        "folder": str(summary.folder),
        "report": [str(path) for path in summary.reports],
        "catalogue": str(summary.catalogue) if summary.catalogue else None,
    }


def _human(console: Console, summary: Summary, seconds: float, fresh: int, explain: bool) -> None:
    totals = summary.totals
    table = Table(title=None, box=None, pad_edge=False, show_header=False)
    table.add_column(justify="right", style="bold")
    table.add_column(justify="right", style="dim")
    table.add_column()
    for status, text in STATUS_TEXT.items():
        if count := totals.statuses.get(status, 0):
            table.add_row(str(count), f"{count / max(totals.products, 1):.0%}", text)
    console.print(
        f"[bold]{totals.products}[/] products, [bold]{totals.images}[/] images in {seconds:.1f} s"
        + (f" ({fresh / seconds:.1f} products/s)" if fresh and seconds else "")
        + (f", {summary.resumed} products were finished before" if summary.resumed else "")
    )
    console.print(table)
    if totals.reasons:
        reasons = ", ".join(f"{name} {count}" for name, count in totals.reasons.most_common(8))
        console.print(f"[dim]Removed images:[/] {reasons}")
    if summary.catalogue:
        console.print(f"[dim]Shop file:[/] {summary.catalogue}")
    if summary.reports:
        console.print(f"[dim]Report:[/] [bold]{summary.reports[0]}[/]" + (" (open it in a browser)" if explain else ""))
    elif summary.complete:
        console.print(f"[dim]Decisions:[/] {summary.folder / 'part-*'}")


def sample_catalogue() -> Path:
    """The sample catalogue inside the package."""
    return Path(__file__).parent / "sample" / "catalog.jsonl"
