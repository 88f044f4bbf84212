"""What the verdicts on one sequence come to: of one reviewer the latest word counts, of several the majority.

Where as many accept as reject there is no majority, and the sequence counts for neither. Samples (`agpis.settled`) and
reject rates (the team page, `agpis monitor`) go by this rule.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeVar


class Voice(Protocol):
    """What somebody says of a sequence."""

    @property
    def reviewer(self) -> str:
        """His name; who has none is another each time."""

    @property
    def accepted(self) -> bool:
        """Whether he accepts it."""


V = TypeVar("V", bound=Voice)


@dataclass(frozen=True, slots=True)
class Vote:
    """Of a verdict, what is counted."""

    of: Hashable
    """What tells the sequence from all others."""
    reviewer: str
    time: datetime
    accepted: bool
    bundle: str
    category: str
    rules: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Consensus:
    """A sequence as its reviewers left it."""

    time: datetime
    """Of the last verdict that decided."""
    accepted: bool | None
    """None: as many accept as reject."""
    bundle: str
    category: str
    rules: frozenset[str]
    """Those that any reviewer of the majority names."""


def majority(same: Sequence[V]) -> tuple[list[V], list[V]]:
    """Of all that was said of one sequence, in its order in time: each reviewer's last word, and the majority of these.

    The majority is empty where as many accept as reject.
    """
    voices = list({voice.reviewer or f"\0{i}": voice for i, voice in enumerate(same)}.values())
    for_it = sum(voice.accepted for voice in voices)
    if 2 * for_it == len(voices):
        return voices, []
    return voices, [voice for voice in voices if voice.accepted == (2 * for_it > len(voices))]


def consensus(votes: Iterable[Vote]) -> list[Consensus]:
    """Every sequence once."""
    alike: dict[Hashable, list[Vote]] = {}
    for vote in votes:
        alike.setdefault(vote.of, []).append(vote)
    found = []
    for same in alike.values():
        same.sort(key=lambda vote: vote.time)
        voices, deciding = majority(same)
        found.append(
            Consensus(
                time=max(vote.time for vote in deciding or voices),
                accepted=deciding[0].accepted if deciding else None,
                bundle=same[0].bundle,
                category=same[0].category,
                rules=frozenset(rule for vote in deciding for rule in vote.rules),
            )
        )
    return found
