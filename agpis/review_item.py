"""What the review page is told of a decision: JSON-ready, without the model's opinion in blind mode."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from agpis.data import OUTCOMES, Candidate, Decision, Finding
from agpis.records import Item
from agpis.report import STATUS_TEXTS
from agpis.rulebook import Rulebook
from agpis.sources import uris
from agpis.wording import say

LONGEST = 4000
"""Letters of a feedback, the model's or a reviewer's."""
FAVOURITES = 3
"""Learned rules of each scope that have a number key: nine keys."""


def rule_name(rule: str, names: Mapping[str, str]) -> str:
    """The rulebook's name of a rule; an unknown id or the code of a picture's error in words."""
    return names.get(rule) or rule.replace("_", " ").strip().capitalize()


def rule_list(rulebook: Rulebook) -> list[dict[str, Any]]:
    """Every rule in the order of its number key: the first learned ones of each scope, then all others.

    The order is the rulebook's own, so that a number means the same rule every day.
    """
    numbered = []
    for scope in ("single", "pair", "multi"):
        learned = [rule for rule in rulebook.rules if rule.scope == scope and rule.learned]
        numbered += learned[:FAVOURITES]
    rest = [rule for rule in rulebook.rules if rule not in numbered]
    rest.sort(key=lambda rule: not rule.learned)
    return [
        {"id": rule.id, "name": rule.name, "scope": rule.scope, "about": rule.description}
        for rule in (*numbered, *rest)
    ]


def fingerprint(item: Item) -> str:
    """Says whether a browser's kept verdict or picture is of this very decision: ids start again in a new store."""
    decision = item.decision
    parts = (item.base, decision.sku, decision.bundle, *decision.sequence, "", *uris(decision))
    return hashlib.sha256("\0".join(parts).encode("utf-8", "replace")).hexdigest()[:16]


def file_name(uri: str) -> str:
    """The last part of an address or path, without its query."""
    path = re.split(r"[?#]", uri)[0].rstrip("/")
    return path.rsplit("/", 1)[-1] or uri


def payload(item: Item, names: Mapping[str, str], *, blind: bool, seen: int = 0) -> dict[str, Any]:
    """The item as the script draws it; photos are named by their number in `sources.uris`.

    `seen` is how many verdicts there are on the product already. Nothing in it is markup.
    """
    decision = item.decision
    places = {uri: number for number, uri in enumerate(uris(decision))}
    best = _best(decision.candidates)
    return {
        "id": item.id,
        "v": fingerprint(item),
        "sku": decision.sku,
        "title": decision.title or decision.sku,
        "category": decision.category,
        "status": "" if decision.sequence else STATUS_TEXTS[decision.status][0],
        "seen": seen,
        "sequence": [places[uri] for uri in dict.fromkeys(decision.sequence)],
        "photos": [_photo(uri, best.get(uri), decision, names, places, blind) for uri in places],
        "opinion": None if blind else _opinion(decision, names, places),
    }


def _best(candidates: Sequence[Candidate]) -> dict[str, Candidate]:
    """uri -> candidate; where one uri stands twice, the one that was kept."""
    ranked = sorted(candidates, key=lambda candidate: OUTCOMES.index(candidate.outcome), reverse=True)
    return {candidate.uri: candidate for candidate in ranked}


def _photo(
    uri: str,
    candidate: Candidate | None,
    decision: Decision,
    names: Mapping[str, str],
    places: Mapping[str, int],
    blind: bool,
) -> dict[str, Any]:
    photo: dict[str, Any] = {"name": file_name(uri)}
    if candidate is None:
        return photo
    if candidate.width and candidate.height:
        photo["size"] = [candidate.width, candidate.height]
    if blind:
        return photo
    if candidate.outcome == "removed":
        photo["removed"] = True
    why = _reason(candidate, decision, names)
    if why:
        photo["why"] = why
    boxes = [[f.box.x, f.box.y, f.box.w, f.box.h] for f in _told(candidate.findings, candidate.reason) if f.box]
    if boxes:
        photo["boxes"] = boxes
    return photo


def _told(findings: Iterable[Finding], reason: str) -> list[Finding]:
    return [finding for finding in findings if finding.rule == reason]


def _reason(candidate: Candidate, decision: Decision, names: Mapping[str, str]) -> str:
    if candidate.duplicate_of:
        of = candidate.duplicate_of
        place = f"{say('photo')} {decision.sequence.index(of) + 1}" if of in decision.sequence else file_name(of)
        return say("duplicate_of", photo=place)
    return rule_name(candidate.reason, names) if candidate.reason else ""


def _opinion(decision: Decision, names: Mapping[str, str], places: Mapping[str, int]) -> dict[str, Any]:
    # "yes" is what the decoder says of a sequence it accepts (paper, 3.4): no news for a reviewer.
    feedback = decision.feedback if decision.feedback.strip().lower() != "yes" else ""
    p = decision.p_qualified
    return {
        "p": round(p, 4) if p is not None and math.isfinite(p) else None,
        "suspects": [
            {
                "rule": violation.rule,
                "name": rule_name(violation.rule, names),
                "p": round(violation.probability, 4) if math.isfinite(violation.probability) else None,
                "photo": places.get(violation.image),
            }
            for violation in decision.violations[:3]
        ],
        "feedback": feedback[:LONGEST],
        "by": decision.feedback_by if feedback else "",
    }
