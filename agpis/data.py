"""The nouns: what goes in, what comes out. Frozen dataclasses; no imports of ours.

`row()` gives the JSON form of the contracts in README ("Output fields"); `from_row()` reads it back.
"""

from __future__ import annotations

import posixpath
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

Scope = Literal["single", "pair", "multi"]
Severity = Literal["error", "warning"]
Role = Literal["any", "main", "secondary"]
Status = Literal["generated", "below_threshold", "no_primary", "too_few_images", "failed"]
Outcome = Literal["primary", "selected", "spare", "removed"]
Author = Literal["", "model", "rulebook"]

STATUSES: tuple[Status, ...] = ("generated", "below_threshold", "no_primary", "too_few_images", "failed")
OUTCOMES: tuple[Outcome, ...] = ("primary", "selected", "spare", "removed")


@dataclass(frozen=True, slots=True)
class ErrorInfo:
    """What went wrong with one line, product or image: a documented code and a text for a person."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in pixels of the source image (upright, full size)."""

    x: int
    y: int
    w: int
    h: int


@dataclass(frozen=True, slots=True)
class Image:
    """One candidate as the catalogue names it."""

    uri: str
    """Exactly the text of the catalogue: path, file URL, http(s), s3 or gs."""
    base: str = ""
    """Folder or URL that a relative `uri` is relative to."""
    alt: str = ""
    """Alternative text, if the catalogue has one."""
    data: bytes | None = field(default=None, repr=False, compare=False)
    """Encoded bytes, once fetched. Never decoded pixels."""
    error: ErrorInfo | None = None
    """Why it could not be fetched."""

    @property
    def location(self) -> str:
        """`uri`, made absolute by `base`."""
        if "://" in self.uri or not self.base:
            return self.uri
        if "://" in self.base:
            return posixpath.join(self.base, self.uri)
        return str(Path(self.base) / self.uri)


@dataclass(frozen=True, slots=True)
class Product:
    """A product with its candidate images, in the merchant's order."""

    sku: str
    title: str
    category: str = ""
    images: tuple[Image, ...] = ()
    error: ErrorInfo | None = None
    """Set by a catalogue reader when the line could not be read; such a product becomes a `failed` decision."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One broken rule on one image (scope single) or pair (scope pair)."""

    rule: str
    scope: Scope = "single"
    severity: Severity = "error"
    role: Role = "any"
    """`main`: the image may not be the primary; `secondary`: it may only be the primary; `any`: neither."""
    message: str = ""
    """One sentence for a person."""
    value: float | None = None
    """Measured value, in `unit`."""
    limit: float | None = None
    unit: str = ""
    probability: float | None = None
    """The model's probability, where a model found it."""
    box: Box | None = None
    other: str = ""
    """For a pair: uri of the other image."""
    other_box: Box | None = None


@dataclass(frozen=True, slots=True)
class Violation:
    """One rule that the sequence model thinks is broken."""

    rule: str
    scope: Scope
    probability: float
    image: str = ""
    """uri of the image of the sequence that is to blame; "" where it is the sequence as a whole, or its title."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """What AGPIS says of one candidate image."""

    uri: str
    width: int | None = None
    height: int | None = None
    p_primary: float | None = None
    p_noncompliant: float | None = None
    findings: tuple[Finding, ...] = ()
    outcome: Outcome = "spare"
    reason: str = ""
    """Code: the rule that removed it, an image error code, `duplicate`, or "" when it was not removed."""
    duplicate_of: str | None = None
    thumbnail: bytes | None = field(default=None, repr=False, compare=False)
    """Small WebP for the report; not part of the row."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What AGPIS says of one product."""

    sku: str
    status: Status
    title: str = ""
    category: str = ""
    sequence: tuple[str, ...] = ()
    p_qualified: float | None = None
    violations: tuple[Violation, ...] = ()
    feedback: str = ""
    feedback_by: Author = ""
    """Who says so: the model's decoder, or the rulebook's phrase for the likeliest violation; "" without feedback."""
    candidates: tuple[Candidate, ...] = ()
    error: ErrorInfo | None = None
    bundle: str = ""
    rulebook: str = ""

    def row(self) -> dict[str, Any]:
        """JSON-ready dict; every field present, thumbnails left out."""
        row = asdict(self)
        for candidate in row["candidates"]:
            del candidate["thumbnail"]
        return row

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> Decision:
        """Inverse of `row()`. Raises KeyError or TypeError on a foreign dict."""
        values = dict(row)
        values["sequence"] = tuple(values["sequence"])
        values["violations"] = tuple(Violation(**v) for v in values["violations"])
        values["candidates"] = tuple(_candidate(c) for c in values["candidates"])
        values["error"] = ErrorInfo(**values["error"]) if values.get("error") else None
        return cls(**values)


def _candidate(row: dict[str, Any]) -> Candidate:
    return Candidate(**{**row, "findings": tuple(_finding(f) for f in row["findings"])})


def _finding(row: dict[str, Any]) -> Finding:
    boxes = {key: Box(**row[key]) if row.get(key) else None for key in ("box", "other_box")}
    return Finding(**{**row, **boxes})


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a reviewer (or the simulator) says of one sequence; also one training sample."""

    sku: str
    title: str
    sequence: tuple[str, ...]
    """Image uris, in order."""
    accepted: bool
    category: str = ""
    base: str = ""
    """Folder or URL that relative uris are relative to."""
    candidates: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    """Broken rules, the first named first; empty when accepted."""
    image_index: int | None = None
    """Position in `sequence` of the image that is to blame, from 0."""
    box: Box | None = None
    feedback: str = ""
    corrected: tuple[str, ...] = ()
    reviewer: str = ""
    time: str = ""
    """ISO 8601, UTC."""
    bundle: str = ""
    p_qualified: float | None = None
    split: str = ""
    """`train`, `validation`, `test` or "" (to be split by sku)."""
