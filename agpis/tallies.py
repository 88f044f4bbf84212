"""What was decided and what reviewers said of it, by bundle and day (UTC): stores, verdict files, output folders.

A decision has no time of its own. In a store it is that at which it came in, in an output folder that of its shard's
file. Verdicts bring theirs. A sequence that several reviewers judged counts once, on the day of the last verdict that
decided (`agpis.consensus`): all files of verdicts are settled together, and each store by itself.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from agpis.consensus import Consensus, Vote, consensus
from agpis.data import Decision
from agpis.errors import AgpisError, MissingExtra, SourceError
from agpis.histograms import FEATURES, Histogram, cells
from agpis.manifest import NAME
from agpis.output_folder import open_output
from agpis.settled import vote
from agpis.shards import read_decisions
from agpis.verdicts import BadSample, moment_of, read_verdicts

if TYPE_CHECKING:
    from agpis.store import Store

VERDICTS = (".jsonl", ".parquet")
"""Suffixes of files of verdicts; any other file is a store."""
DAY = timedelta(days=1)
YEARS = range(1970, 2200)
"""A verdict of another year has no time that could be meant."""


@dataclass(slots=True)
class Decided:
    """Decisions of one bundle and some days."""

    products: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    """Products that lost at least one image to it, by removal reason (rule, image error code, `duplicate`)."""
    histograms: dict[str, Histogram] = field(default_factory=lambda: {f.name: Histogram() for f in FEATURES})

    def add(self, decision: Decision) -> None:
        """Count one."""
        self.products += 1
        self.statuses[decision.status] += 1
        self.reasons.update({c.reason or "unknown" for c in decision.candidates if c.outcome == "removed"})
        for name, values in cells(decision).items():
            self.histograms[name].add(values)

    def merge(self, other: Decided) -> None:
        """Count what the other one has counted."""
        self.products += other.products
        self.statuses.update(other.statuses)
        self.reasons.update(other.reasons)
        for name, histogram in other.histograms.items():
            self.histograms[name].merge(histogram)

    def row(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "products": self.products,
            "statuses": dict(self.statuses),
            "reasons": dict(self.reasons),
            "histograms": {name: histogram.row() for name, histogram in self.histograms.items()},
        }

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """Inverse of `row()`. Raises KeyError, TypeError, ValueError or AttributeError on a foreign dict."""
        histograms = {feature.name: Histogram.from_row(row["histograms"][feature.name]) for feature in FEATURES}
        return cls(int(row["products"]), Counter(row["statuses"]), Counter(row["reasons"]), histograms)


@dataclass(slots=True)
class Reviewed:
    """One bundle's sequences that reviewers judged on some days."""

    accepted: int = 0
    rejected: int = 0
    rules: Counter[str] = field(default_factory=Counter)
    """Rejected sequences for which the rule is named."""
    disagreed: int = 0
    """Sequences that as many accept as reject; they are neither, and not in `total`."""

    @property
    def total(self) -> int:
        """Sequences that were settled."""
        return self.accepted + self.rejected

    def add(self, one: Consensus) -> None:
        """Count one."""
        self.accepted += one.accepted is True
        self.rejected += one.accepted is False
        self.disagreed += one.accepted is None
        self.rules.update(one.rules)

    def merge(self, other: Reviewed) -> None:
        """Count what the other one has counted."""
        self.accepted += other.accepted
        self.rejected += other.rejected
        self.rules.update(other.rules)
        self.disagreed += other.disagreed


@dataclass(slots=True)
class Tallies:
    """Everything counted, by bundle ("" where none is named) and day."""

    decided: dict[str, dict[date, Decided]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(Decided)))
    reviewed: dict[str, dict[date, Reviewed]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(Reviewed))
    )
    untimed: int = 0
    """Verdicts without a time, or of an impossible one: they are of no day, and left out."""
    bad: list[BadSample] = field(default_factory=list)
    """Lines of verdict files that are none."""

    @property
    def bundles(self) -> tuple[str, ...]:
        """Names, by the first day."""
        first = {name: min(days) for part in (self.reviewed, self.decided) for name, days in part.items() if days}
        return tuple(sorted(first, key=lambda name: (first[name], name)))

    @property
    def days(self) -> tuple[date, ...]:
        """Every day with something in it, in order."""
        parts: list[Mapping[str, Mapping[date, object]]] = [self.decided, self.reviewed]
        return tuple(sorted({day for part in parts for days in part.values() for day in days}))


def decided(days: Mapping[date, Decided], since: date, until: date) -> Decided:
    """The sum of the days since <= day < until."""
    total = Decided()
    for day, counted in days.items():
        if since <= day < until:
            total.merge(counted)
    return total


def reviewed(days: Mapping[date, Reviewed], since: date, until: date) -> Reviewed:
    """The sum of the days since <= day < until."""
    total = Reviewed()
    for day, counted in days.items():
        if since <= day < until:
            total.merge(counted)
    return total


# Sources -------------------------------------------------------------------------------------------------------------


def tally(sources: Sequence[str | Path], *, since: date | None = None) -> Tallies:
    """Count stores (a SQLite file or a database URL), verdict files (.jsonl, .parquet) and output folders together.

    `since` leaves earlier days out. One source that cannot be read stops all: what is counted is never a part. Raises
    SourceError (`source_not_found`, `bad_source`, `empty_source`, and the codes of verdict files, output folders and
    stores) and MissingExtra (`web`, `postgres`).
    """
    found = Tallies()
    votes: list[Vote] = []
    for source in sources:
        with _named(source):
            _read(source, found, votes, since)
    _add(consensus(votes), found, since)
    if not found.days and not found.untimed:
        said = f" ({len(found.bad)} lines are no verdicts, the first: {found.bad[0].message})" if found.bad else ""
        raise SourceError(
            "empty_source", f"{', '.join(map(str, sources))}: found no decision and no verdict to count{said}"
        )
    return found


@contextmanager
def _named(source: str | Path) -> Iterator[None]:
    """A source's own errors as SourceError, with their codes: a watch has one exit code for all that cannot be read."""
    try:
        yield
    except (SourceError, MissingExtra):
        raise
    except AgpisError as error:
        raise SourceError(error.code, error.message) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:  # ArrowInvalid is a ValueError
        raise SourceError("bad_source", f"{source} cannot be read: {type(error).__name__}: {error}") from error


def _read(source: str | Path, found: Tallies, votes: list[Vote], since: date | None) -> None:
    text = str(source).removeprefix("sqlite:///")  # opening a missing database would make one
    path = Path(text)
    if "://" in text:
        _store(text, found, since)
    elif path.is_dir():
        if not (path / NAME).is_file():
            raise SourceError("bad_source", f"{path} is a folder without {NAME}; give one that `agpis generate` wrote")
        _folder(path, found, since)
    elif not path.is_file():
        raise SourceError(
            "source_not_found", f"found nothing at {path}; give a store, a file of verdicts or an output folder"
        )
    elif path.suffix in VERDICTS:
        votes += _votes(path, found)
    elif path.stat().st_size == 0:
        raise SourceError("empty_source", f"{path} is an empty file")
    else:
        _store(path, found, since)


def _folder(path: Path, found: Tallies, since: date | None) -> None:
    for shard in open_output(path).shards:
        day = datetime.fromtimestamp(shard.stat().st_mtime, UTC).date()
        if since is None or day >= since:
            for decision in read_decisions([shard]):
                found.decided[decision.bundle][day].add(decision)


def _votes(path: Path, found: Tallies) -> Iterator[Vote]:
    for verdict in read_verdicts(path):
        if isinstance(verdict, BadSample):
            found.bad.append(verdict)
        elif (moment := moment_of(verdict.time)) is None or moment.year not in YEARS:
            found.untimed += 1
        else:
            yield vote(verdict, moment)


def _add(settled: Iterable[Consensus], found: Tallies, since: date | None) -> None:
    for one in settled:
        day = one.time.date()
        if since is None or day >= since:
            found.reviewed[one.bundle][day].add(one)


def _store(where: str | Path, found: Tallies, since: date | None) -> None:
    from agpis.store import open_store  # needs the extra `web`; files of verdicts and output folders do not

    with open_store(where) as store:
        for day in _days(store, since):
            start = datetime.combine(day, time(), UTC)
            for decision in store.decisions(since=start, until=start + DAY):
                found.decided[decision.bundle][day].add(decision)
        begin = datetime.combine(since, time(), UTC) if since else None
        settled = store.consensus(begin)
        in_time = [one for one in settled if one.time.year in YEARS]
        found.untimed += len(settled) - len(in_time)
        _add(in_time, found, since)


def _days(store: Store, since: date | None) -> Iterator[date]:
    """Every day from the first decision to today."""
    first = min(store.bundles().values(), default=None)
    if first is None:
        return
    day = max(first.astimezone(UTC).date(), since) if since else first.astimezone(UTC).date()
    while day <= datetime.now(UTC).date():
        yield day
        day += DAY
