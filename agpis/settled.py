"""Reviews to samples: several reviewers on one sequence, and sequences that a reviewer put right.

One sequence that several reviewers judged gives one sample: the majority decides, and of one reviewer the latest word
counts. Where as many accept as reject, nothing is learned from it: it is left out and counted. A rejected sequence
with a corrected one gives two samples, as the corrected one is an approved sequence.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from agpis.consensus import Vote, majority
from agpis.data import Image, Verdict
from agpis.samples import split_of
from agpis.verdicts import BadSample, moment_of

EARLY = datetime.min.replace(tzinfo=UTC)
"""Of verdicts without a time."""


@dataclass(frozen=True, slots=True)
class Settled:
    """Samples, and what became of the verdicts."""

    verdicts: tuple[Verdict, ...]
    """One a sequence and bundle, in the order in which they came."""
    bad: tuple[BadSample, ...]
    """Lines that were no verdicts, as they came."""
    repeated: int
    """Verdicts of a reviewer on what he judged again later; the last counts."""
    doubled: int
    """Sequences that several reviewers judged."""
    outvoted: int
    """Verdicts against the majority."""
    disagreed: tuple[str, ...]
    """Skus of the sequences that as many accepted as rejected; left out."""
    corrections: int = 0
    """Approved sequences among `verdicts` that are corrections."""

    def __str__(self) -> str:
        found = f"{len(self.verdicts)} samples"
        for count, what in (
            (self.corrections, "of them corrected sequences"),
            (self.doubled, "from sequences that several reviewers judged"),
            (self.outvoted, "verdicts outvoted"),
            (self.repeated, "verdicts replaced by the same reviewer's later one"),
            (len(self.disagreed), f"sequences left out because reviewers disagree ({_few(self.disagreed)})"),
            (len(self.bad), "lines that are no verdicts"),
        ):
            found += f"; {count} {what}" if count else ""
        return found


def settle(verdicts: Iterable[Verdict | BadSample]) -> Settled:
    """One verdict of each sequence. Those of one sku, title, bundle, sequence and set of candidates speak of the
    same one.

    The sample of a majority has its rules, the most often named first, and the box, image and feedback of the first
    reviewer of the majority who names that rule; its time is that of the last verdict of the majority.
    """
    alike: dict[tuple[object, ...], list[Verdict]] = {}
    bad: list[BadSample] = []
    for verdict in verdicts:
        if isinstance(verdict, BadSample):
            bad.append(verdict)
        else:
            alike.setdefault(_key(verdict), []).append(verdict)
    kept: list[Verdict] = []
    disagreed: list[str] = []
    repeated = doubled = outvoted = 0
    for same in alike.values():
        same.sort(key=lambda verdict: moment_of(verdict.time) or EARLY)
        voices, deciding = majority(same)
        repeated += len(same) - len(voices)
        doubled += len(voices) > 1
        if not deciding:
            disagreed.append(voices[0].sku)
            continue
        outvoted += len(voices) - len(deciding)
        kept.append(_merged(deciding))
    return Settled(tuple(kept), tuple(bad), repeated, doubled, outvoted, tuple(disagreed))


def vote(verdict: Verdict, time: datetime) -> Vote:
    """What is counted of a verdict that was given at that time."""
    return Vote(
        of=sequence_key(verdict),
        reviewer=verdict.reviewer,
        time=time,
        accepted=verdict.accepted,
        bundle=verdict.bundle,
        category=verdict.category,
        rules=verdict.rules,
    )


def sequence_key(verdict: Verdict) -> bytes:
    """16 bytes, the same for verdicts on the same sequence (see `settle`) and for no others."""
    return hashlib.sha256(repr(_key(verdict)).encode("utf-8", "surrogatepass")).digest()[:16]


def with_corrections(settled: Settled) -> Settled:
    """The same with every corrected sequence of a training product as an approved one behind the rejected one.

    In the splits for validation and test they are not added: there is measured what was really submitted.
    """
    known = {_key(replace(verdict, bundle="")) for verdict in settled.verdicts if verdict.accepted}
    found: list[Verdict] = []
    added = 0
    for verdict in settled.verdicts:
        found.append(verdict)
        approved = approved_correction(verdict)
        if approved is None or (verdict.split or split_of(verdict.sku)) != "train":
            continue
        key = _key(replace(approved, bundle=""))
        if key not in known:
            known.add(key)
            found.append(approved)
            added += 1
    return replace(settled, verdicts=tuple(found), corrections=settled.corrections + added)


def approved_correction(verdict: Verdict) -> Verdict | None:
    """The corrected sequence of a verdict as an accepted one; None where there is none. No model has scored it."""
    if not verdict.corrected or verdict.accepted:
        return None
    return replace(
        verdict,
        sequence=verdict.corrected,
        corrected=(),
        accepted=True,
        rules=(),
        image_index=None,
        box=None,
        feedback="",
        p_qualified=None,
    )


def _key(verdict: Verdict) -> tuple[object, ...]:
    shown = tuple(Image(uri, verdict.base).location for uri in verdict.sequence)
    return verdict.sku, verdict.title, verdict.bundle, verdict.candidates, shown


def _merged(voices: Sequence[Verdict]) -> Verdict:
    """What several reviewers of one opinion say together."""
    first = voices[0]
    if len(voices) == 1:
        return first
    named = Counter(rule for verdict in voices for rule in dict.fromkeys(verdict.rules))
    rules = tuple(rule for rule, _ in named.most_common())  # of equal count, the first named first
    speaking = [verdict for verdict in voices if verdict.rules[:1] == rules[:1]] or list(voices)
    corrected = next((verdict.corrected for verdict in voices if verdict.corrected), ())
    marked = next((verdict for verdict in speaking if verdict.image_index is not None), None)
    return replace(
        first,
        rules=rules,
        image_index=marked.image_index if marked else None,
        box=marked.box if marked else None,
        feedback=next((verdict.feedback for verdict in speaking if verdict.feedback), ""),
        corrected=corrected,
        reviewer=", ".join(dict.fromkeys(verdict.reviewer for verdict in voices if verdict.reviewer)),
        time=max(verdict.time for verdict in voices),
    )


def _few(skus: Sequence[str], most: int = 5) -> str:
    return ", ".join(skus[:most]) + (", ..." if len(skus) > most else "")
