"""The samples of a renewal: verdicts of a store or file, settled, under the rulebook that holds now, split."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from agpis.data import Verdict
from agpis.rule_changes import RuleChanges
from agpis.samples import split_by_time, split_of
from agpis.settled import Settled, settle, with_corrections
from agpis.store import open_store
from agpis.verdicts import SUFFIXES, BadSample, moment_of, read_verdicts

LEAST_HELD = 10
"""Held-out verdicts of either kind, accepted and rejected, under which two bundles cannot be compared."""


@dataclass(frozen=True, slots=True)
class Samples:
    """What is trained and measured on."""

    train: tuple[Verdict, ...]
    """Of the splits `train` and `validation`, corrections as approved sequences among them."""
    held: tuple[Verdict, ...]
    """Of the split `test`: what was really submitted."""
    notes: tuple[str, ...]
    """Sentences on what became of the verdicts."""

    @property
    def validation(self) -> tuple[Verdict, ...]:
        """Those of `train` that the models are chosen and calibrated on."""
        return tuple(verdict for verdict in self.train if verdict.split == "validation")


def collected(source: str, since: str, until: str, changes: RuleChanges, test_days: int | None = None) -> Samples:
    """The samples of a window of time, each with its split.

    Args:
        source: a store, or a file of verdicts.
        since, until: ISO 8601; verdicts of a file that have no time count as in the window.
        test_days: hold out the verdicts of the last so many days; None: a tenth of the skus, by their hash.

    Raises StoreError, TrainingError (`samples_not_found`, `samples_format`, `split_leak`) and SettingsError.
    """
    settled = settle(_verdicts(source, since, until))
    valid, without = changes.valid(settled.verdicts)
    notes = [str(settled)]
    notes += [f"left out: {bad.message}" for bad in settled.bad[:5]]
    if without:
        notes.append(f"{without} verdicts name dropped rules alone and are left out")
    if test_days is None:
        split = [replace(verdict, split=verdict.split or split_of(verdict.sku)) for verdict in valid]
    else:
        begin, end = moment_of(since), moment_of(until)
        assert begin is not None
        assert end is not None
        days = max(1, round((end - begin).total_seconds() / 86400) - test_days)
        found = split_by_time(valid, days, test_days, end - timedelta(days=test_days))
        split = [verdict for verdict in found.verdicts if isinstance(verdict, Verdict)]
        notes.append(
            f"measured on the {test_days} days from {found.boundary}; {found.dropped} verdicts of products that have "
            f"verdicts in both windows, {found.outside} outside and {found.untimed} without a time are left out"
        )
    train = with_corrections(Settled(tuple(v for v in split if v.split != "test"), (), 0, 0, 0, ()))
    if train.corrections:
        notes.append(f"{train.corrections} corrected sequences are approved ones to learn from")
    return Samples(train.verdicts, tuple(verdict for verdict in split if verdict.split == "test"), tuple(notes))


def _verdicts(source: str, since: str, until: str) -> Iterable[Verdict | BadSample]:
    if Path(source).suffix in SUFFIXES:
        found = list(read_verdicts(Path(source).resolve()))
        return [v for v in found if isinstance(v, BadSample) or not v.time or _inside(v.time, since, until)]
    with open_store(source, make=False) as store:
        return list(store.verdicts(moment_of(since), moment_of(until)))


def _inside(time: str, since: str, until: str) -> bool:
    moment, begin, end = moment_of(time), moment_of(since), moment_of(until)
    return moment is not None and begin is not None and end is not None and begin <= moment < end


def read_samples(folder: Path) -> Samples:
    """The samples that a renewal has written into its folder."""
    train, held = (
        tuple(verdict for verdict in read_verdicts(folder / name) if isinstance(verdict, Verdict))
        for name in ("samples.jsonl", "held.jsonl")
    )
    return Samples(train, held, tuple(json.loads((folder / "samples.json").read_text(encoding="utf-8"))["notes"]))


def enough(samples: Samples, least: int) -> str | None:
    """None where a renewal can be made of them, else why not."""
    training = [verdict for verdict in samples.train if verdict.split == "train"]
    accepted = sum(verdict.accepted for verdict in training)
    held = sum(verdict.accepted for verdict in samples.held)
    if len(training) < least or not 0 < accepted < len(training):
        return (
            f"{len(training)} verdicts to train on, {accepted} of them accepted; wanted are at least {least} of both "
            "kinds"
        )
    if min(held, len(samples.held) - held) < LEAST_HELD:
        return (
            f"{len(samples.held)} verdicts of products that are held out, {held} of them accepted; to compare two "
            f"bundles takes {LEAST_HELD} of each kind"
        )
    return None
