"""Spreads the pipeline over a whole catalogue on this machine: shards, resume, exactly-once output.

The unit of work is `agpis.pipeline.Pipeline`, which knows nothing of this file. A shard is a file of consecutive
products; its output is written under a temporary name, renamed, then listed. A rerun skips what is listed.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from agpis import __version__, catalogue
from agpis.data import Decision, Product
from agpis.errors import OutputError, SettingsError, output_error
from agpis.interrupts import interruptible
from agpis.locks import locked
from agpis.manifest import Manifest, Totals, describe
from agpis.pipeline import Pipeline, Settings
from agpis.report import write_report
from agpis.rulebook import Rulebook
from agpis.shards import encode_rows, read_decisions, read_thumbnails, replace_file, write_thumbnails

THUMBNAIL = 160
"""Longest side of the report's thumbnails, pixels."""
WRITTEN_BACK = ("shopify", "woocommerce", "google_merchant", "amazon", "magento")
"""Formats of shops, whose file is written again with the new image columns."""


@dataclass(frozen=True, slots=True)
class Options:
    """What `generate` is asked beyond the pipeline's own settings."""

    bundle: str | None = None
    """Folder of a bundle; None: the starter in the package."""
    settings: Settings = field(default_factory=Settings)
    source_format: str | None = None
    """Name of the catalogue's format; None: guessed from its content."""
    base: str | None = None
    """Folder or URL that relative image addresses are relative to; None: where the catalogue lies."""
    format: Literal["parquet", "jsonl"] = "parquet"
    """Of the decisions."""
    limit: int | None = None
    """Only the first so many products."""
    report: bool = True
    title: str = ""
    """Heading of the report; the source's name if empty."""
    report_limit: int = 10_000
    """Products shown as cards in the report; the totals count all."""
    only_sequence: bool = False
    """Leave spare images out of the shop's file."""
    shard: int = 256
    """Products per shard: some ten seconds of work on a laptop, so that Ctrl-C answers soon and a kill costs little."""

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise SettingsError("bad_limit", f"--limit is {self.limit}; it is a number of products, 1 or more.")
        if self.format not in ("parquet", "jsonl"):
            raise SettingsError("bad_format", f"--format is {self.format!r}; use parquet or jsonl.")


@dataclass(frozen=True, slots=True)
class Summary:
    """How a run ended."""

    totals: Totals
    folder: Path
    complete: bool
    """False after Ctrl-C: the same command goes on."""
    resumed: int
    """Products that an earlier run had finished."""
    reports: tuple[Path, ...] = ()
    catalogue: Path | None = None
    """The shop's file with new image columns."""


def generate(
    source: str,
    out: str | os.PathLike[str],
    options: Options | None = None,
    *,
    progress: Callable[[Totals, Decision | None], None] = lambda totals, decision: None,
) -> Summary:
    """Decide every product of the catalogue `source` and write decisions, report and shop file to the folder `out`.

    `progress` is called after every decision, with the totals of finished shards. Ctrl-C finishes the shard in hand
    and returns an incomplete summary; a second Ctrl-C stops at once and loses only that shard's work.
    Raises CatalogueError, BundleError, RulebookError, OutputError, SettingsError.
    """
    options = options or Options()
    folder = Path(out)
    source_format = options.source_format or catalogue.guess(source)
    settings = options.settings
    if options.report and not settings.thumbnails:
        settings = _with_thumbnails(settings)
    pipeline = Pipeline(options.bundle, settings)
    bundle, rulebook = pipeline.open()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(error, folder) from error
    question = {
        "source": source,
        "source_format": source_format,
        "source_state": _state(source),
        "base": options.base,
        "bundle": bundle.name,
        "rulebook": f"{rulebook.id} {rulebook.version} {rulebook.hash[:12]}",
        "settings": _plain(settings),
        "format": options.format,
        "limit": options.limit,
    }
    with locked(folder), interruptible() as stopped:
        manifest = Manifest(folder, question)
        resumed = manifest.totals.products
        if not manifest.complete:
            _remove_leftovers(folder, manifest)
            finished = _run(source, source_format, options, pipeline, manifest, stopped, progress)
            if not finished:
                manifest.close()
                return Summary(manifest.totals, folder, complete=False, resumed=resumed)
        threshold = bundle.thresholds["qualified"] if settings.threshold is None else settings.threshold
        reports = _report(folder, manifest, options, source, rulebook, threshold) if options.report else ()
        written = _write_back(source, source_format, folder, manifest, options)
        if not manifest.complete:
            manifest.finish(
                {
                    "agpis": __version__,
                    "report": [path.name for path in reports],
                    "catalogue": written.name if written else None,
                }
            )
            shutil.rmtree(folder / THUMBNAILS, ignore_errors=True)
    return Summary(manifest.totals, folder, complete=True, resumed=resumed, reports=reports, catalogue=written)


THUMBNAILS = ".thumbnails"


def _run(
    source: str,
    source_format: str,
    options: Options,
    pipeline: Pipeline,
    manifest: Manifest,
    stopped: threading.Event,
    progress: Callable[[Totals, Decision | None], None],
) -> bool:
    """Decide what is not listed yet. False when stopped by Ctrl-C."""
    products: Iterator[Product] = catalogue.read(source, source_format, base=options.base)
    products = itertools.islice(products, options.limit)
    done = manifest.totals.products
    if done:
        skipped = sum(1 for _ in itertools.islice(products, done))
        if skipped < done:
            raise OutputError(
                "source_changed",
                f"{source} now has {skipped} products, but {done} are finished. Choose another folder.",
            )
        progress(manifest.totals, None)
    decisions = pipeline(_until(products, stopped, options.shard))
    while rows := list(_counted(itertools.islice(decisions, options.shard), manifest.totals, progress)):
        start = manifest.totals.products
        name = f"part-{len(manifest.shards):06d}.{options.format}"
        if options.report and start < options.report_limit:
            thumbnails = manifest.folder / THUMBNAILS
            try:
                thumbnails.mkdir(exist_ok=True)
            except OSError as error:
                raise output_error(error, thumbnails) from error
            write_thumbnails(thumbnails / f"{name}.parquet", rows)
        replace_file(manifest.folder / name, encode_rows([decision.row() for decision in rows], options.format))
        manifest.append(describe(name, start, rows))
    return not stopped.is_set()


def _until(products: Iterator[Product], stopped: threading.Event, shard: int) -> Iterator[Product]:
    """Products until Ctrl-C, and then to the end of the shard in hand."""
    for position, product in enumerate(products):
        if stopped.is_set() and position % shard == 0:
            return
        yield product


def _counted(
    decisions: Iterator[Decision], totals: Totals, progress: Callable[[Totals, Decision | None], None]
) -> Iterator[Decision]:
    for decision in decisions:
        progress(totals, decision)
        yield decision


def _report(
    folder: Path, manifest: Manifest, options: Options, source: str, rulebook: Rulebook, threshold: float
) -> tuple[Path, ...]:
    if manifest.complete:
        pages = len(list(folder.glob("report-*.html"))) + 1
        return tuple(folder / (f"report-{page}.html" if page > 1 else "report.html") for page in range(1, pages + 1))
    return tuple(
        write_report(
            _with_pictures(folder, manifest),
            folder / "report.html",
            title=options.title or Path(source).name or source,
            rule_names={rule.id: rule.name for rule in rulebook.rules},
            totals=manifest.totals,
            limit=options.report_limit,
            threshold=threshold,
        )
    )


def _with_pictures(folder: Path, manifest: Manifest) -> Iterator[Decision]:
    """Decisions in order with their thumbnails, where those were kept."""
    for shard in manifest.shards:
        kept = folder / THUMBNAILS / f"{shard.name}.parquet"
        pictures = read_thumbnails(kept) if kept.exists() else itertools.repeat(None)
        for decision, row in zip(read_decisions([folder / shard.name]), pictures, strict=False):
            thumbs = row or [None] * len(decision.candidates)
            candidates = tuple(
                replace(candidate, thumbnail=thumb)
                for candidate, thumb in zip(decision.candidates, thumbs, strict=True)
            )
            yield replace(decision, candidates=candidates)


def _write_back(source: str, source_format: str, folder: Path, manifest: Manifest, options: Options) -> Path | None:
    if source_format not in WRITTEN_BACK:
        return None
    target = folder / (Path(source.rstrip("/")).name or "catalogue")
    if not manifest.complete:
        decisions = read_decisions([folder / shard.name for shard in manifest.shards])
        catalogue.write(
            source,
            decisions,
            target,
            format=source_format,
            only_sequence=options.only_sequence,
            partial=options.limit is not None,
        )
    return target


def _with_thumbnails(settings: Settings) -> Settings:
    return replace(settings, thumbnails=THUMBNAIL)


def _plain(settings: Settings) -> dict[str, Any]:
    """The settings that change decisions, JSON-ready. Thread counts and time-outs do not."""
    values = asdict(settings)
    for name in ("fetch_threads", "graph_threads", "limits"):
        del values[name]
    values["on"] = str(settings.on) if settings.on else None
    if settings.rulebook is not None:
        path = Path(settings.rulebook)
        values["rulebook"] = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else settings.rulebook
    return values


def _state(source: str) -> str:
    """Size and time of a local file, so that a rerun notices another one. Empty for folders and remote sources."""
    path = Path(source)
    if not path.is_file():
        return ""
    stat = path.stat()
    return f"{stat.st_size} bytes, {stat.st_mtime_ns}"


def _remove_leftovers(folder: Path, manifest: Manifest) -> None:
    """Files of a killed run that no line of the manifest lists."""
    listed = {shard.name for shard in manifest.shards}
    for path in [*folder.glob("part-*"), *folder.glob(".*.tmp")]:
        if path.name not in listed:
            path.unlink(missing_ok=True)
