"""What goes into the store of decisions and verdicts, and what comes out. Frozen dataclasses; all times are UTC."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Literal

from agpis.data import Box, Decision, Status, Verdict

Reviewed = Literal["open", "done", "any"]
Order = Literal["unsure", "oldest", "newest"]
Group = Literal["day", "bundle", "category", "rule", "reviewer"]


@dataclass(frozen=True, slots=True)
class Query:
    """Which decisions, and in what order. An empty field asks for nothing."""

    status: tuple[Status, ...] = ()
    """Any of these. Without one, `reviewed="open"` means decisions with a sequence; products without one
    (`no_primary`, `too_few_images`, `failed`) wait for a verdict only where they are asked for by status."""
    rule: str = ""
    """A rule that the decision says may be broken (any of its violations)."""
    category: str = ""
    low: float | None = None
    """Confidence band: low <= p_qualified."""
    high: float | None = None
    """p_qualified < high; a high of 1 has 1 in it."""
    bundle: str = ""
    reviewed: Reviewed = "open"
    """`open`: still waits for a verdict; `done`: has all it needs; `any`: both, and those that cannot be judged."""
    sku: str = ""
    """Exactly this sku."""
    text: str = ""
    """Words that all stand somewhere in sku or title; case does not matter."""
    order: Order = "unsure"
    """`unsure`: p_qualified nearest to 0.5 first, decisions without one last; `oldest`, `newest`: as they came in."""


@dataclass(frozen=True, slots=True)
class Added:
    """What became of what was put in."""

    new: int
    known: int
    """Were there before, and were left as they were."""
    changed: int = 0
    """Of the known: how many are not what is in the store (same sku and bundle, another decision)."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A decision as a line of the queue page."""

    id: int
    sku: str
    title: str
    category: str
    status: Status
    bundle: str
    p_qualified: float | None
    rules: tuple[str, ...]
    """Rules that the decision says may be broken, the likeliest first."""
    added: datetime
    open: bool
    verdicts: int
    """How many it has now (undone ones left out)."""
    accepted: bool | None
    """What the last of them says."""
    holder: str
    """A reviewer who has it before him now, or ""."""


@dataclass(frozen=True, slots=True)
class Item:
    """A decision to be judged, whole."""

    id: int
    decision: Decision
    base: str
    """Folder or URL that relative uris of the decision are relative to."""
    added: datetime
    open: bool
    until: datetime | None = None
    """End of the lease with which it was given out; None where it was only read."""


@dataclass(frozen=True, slots=True)
class Facets:
    """How many open decisions there are of each kind, the most first; and open and done in all.

    `statuses` counts all that wait; the others, and `open`, those with a sequence (see `Query.status`).
    """

    statuses: dict[str, int]
    rules: dict[str, int]
    categories: dict[str, int]
    bundles: dict[str, int]
    open: int
    done: int


@dataclass(frozen=True, slots=True)
class Given:
    """A reviewer's verdict on a decision."""

    key: str
    """Made by the client (a UUID): the same key is the same verdict, however often it is sent. 1 to 200 letters."""
    decision: int
    """Id of the decision, from `Item`."""
    reviewer: str
    accepted: bool
    rules: tuple[str, ...] = ()
    """Broken rules, the first named first; empty when accepted."""
    image_index: int | None = None
    """Position in the decision's sequence, from 0."""
    box: Box | None = None
    """Pixels of that image."""
    feedback: str = ""
    corrected: tuple[str, ...] = ()
    """The sequence that he would accept, in uris of the decision's candidates."""
    seconds: float = 0.0
    """How long he looked."""
    blind: bool = False
    """He did not see the model's opinion."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A verdict is in the store."""

    verdict_id: int
    again: bool
    """It was there already, under the same key."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A verdict as the store has it."""

    verdict_id: int
    key: str
    decision: int | None
    """None for an imported verdict on a product that the store has no decision of."""
    verdict: Verdict
    seconds: float
    blind: bool
    undone: datetime | None
    """When its reviewer took it back."""


@dataclass(frozen=True, slots=True)
class Past:
    """One decision of a sku and all that was said of it."""

    item: Item | None
    """None where verdicts were imported without a decision."""
    verdicts: tuple[Judged, ...]


@dataclass(frozen=True, slots=True)
class Day:
    """What a reviewer did on one day of his time zone."""

    date: date
    judged: tuple[Judged, ...]
    """In order, undone ones among them."""
    accepted: int
    rejected: int
    corrected: int
    """Of the rejected: those with a corrected sequence."""
    undone: int
    seconds: float
    """Spent looking, undone ones left out."""


@dataclass(frozen=True, slots=True)
class Count:
    """Verdicts of one group; a field that was not asked for is None."""

    accepted: int
    rejected: int
    seconds: float
    day: date | None = None
    bundle: str | None = None
    category: str | None = None
    rule: str | None = None
    """"" for accepted verdicts and for rejections that name no rule."""
    reviewer: str | None = None


@dataclass(frozen=True, slots=True)
class Pair:
    """A decision that two reviewers have judged; both tuples in the order in which they did."""

    decision: int
    sku: str
    category: str
    bundle: str
    verdicts: tuple[Judged, Judged]


@dataclass(frozen=True, slots=True)
class Reviewer:
    """An account."""

    name: str
    password_hash: str = field(repr=False)
    admin: bool
    disabled: bool
    created: datetime


@dataclass(frozen=True, slots=True)
class Session:
    """A browser that a reviewer has logged in with."""

    reviewer: Reviewer
    created: datetime
    expires: datetime
