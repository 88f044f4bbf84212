"""A rulebook that has changed since a bundle was trained: what that means for its models and for older verdicts.

- renamed (`was` says so): verdicts and models go on under the new id;
- added: a class of its own, taught by the verdicts that name it. Of scope single it waits until the non-compliance
  model is trained too, because the image graph has no output for it;
- dropped: what it was blamed for is no fault any more, so verdicts that name nothing else teach nothing. Of scope
  single it stays a class of the bundle until the non-compliance model is trained.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from agpis.data import Verdict
from agpis.rulebook import Rule, Rulebook, parse_rulebook
from agpis.samples import label_of

FEW = 20
"""Verdicts that name a new rule, under which the report says that it will hardly be learned."""


@dataclass(frozen=True, slots=True)
class RuleChanges:
    """How the learned rules of two rulebooks differ, and the rulebook of the bundle to be made."""

    old: Rulebook = field(repr=False)
    """Of the bundle that is there."""
    new: Rulebook = field(repr=False)
    """That is wanted."""
    rulebook: Rulebook = field(repr=False)
    """Of the bundle to be made: the new one, but for single rules that wait or stay."""
    added: tuple[str, ...]
    renamed: dict[str, str]
    """Old id -> new id."""
    dropped: tuple[str, ...]
    waiting: tuple[str, ...]
    """Of the added: single rules that the bundle cannot have yet."""
    staying: tuple[str, ...]
    """Of the dropped: single rules that the bundle still has."""

    @property
    def any(self) -> bool:
        """Whether the models' classes change, or K."""
        return bool(self.added or self.renamed or self.dropped or self.old.k != self.new.k)

    def report(self, verdicts: Iterable[Verdict]) -> list[str]:
        """A sentence for each change, with how many verdicts name the rule."""
        named = Counter(
            rule for verdict in verdicts if not verdict.accepted for rule in {*map(self.new.now, verdict.rules)}
        )
        lines = []
        for rule in self.added:
            said = f"{rule} is new: {named[rule]} verdicts name it"
            if rule in self.waiting:
                said += "; of scope single, it is learned once the non-compliance model is trained (--train compliance)"
            elif named[rule] < FEW:
                said += f", fewer than {FEW}: it will hardly be learned yet"
            lines.append(said + ".")
        for old, new in self.renamed.items():
            lines.append(
                f"{old} is called {new} now: {named[new]} verdicts name it, and the models keep what they know."
            )
        for rule in self.dropped:
            said = f"{rule} is dropped: verdicts that name it alone teach nothing"
            if rule in self.staying:
                said += (
                    "; of scope single, the image graph goes on looking for it: generate with --rulebook, where it "
                    "then counts for nothing, or train the non-compliance model (--train compliance)"
                )
            lines.append(said + ".")
        if self.old.k != self.new.k:
            lines.append(f"K was {self.old.k} and is {self.new.k}: the sequence model is trained from scratch.")
        return lines

    def valid(self, verdicts: Iterable[Verdict]) -> tuple[list[Verdict], int]:
        """Verdicts that still say something, and how many were left out for naming dropped rules alone."""
        if not self.dropped:
            return list(verdicts), 0
        kept: list[Verdict] = []
        left_out = 0
        for verdict in verdicts:
            if verdict.accepted or label_of(verdict, self.old) not in self.dropped:
                kept.append(verdict)
                continue
            rules = tuple(rule for rule in verdict.rules if rule not in self.dropped)
            if not rules:
                left_out += 1
            elif rules[0] == verdict.rules[0]:
                kept.append(replace(verdict, rules=rules))
            else:  # image and box belong to the rule that was named first
                kept.append(replace(verdict, rules=rules, image_index=None, box=None, feedback=""))
        return kept, left_out


def rule_changes(old: Rulebook, new: Rulebook, *, compliance: bool = False) -> RuleChanges:
    """What is different, and what rulebook a bundle can have.

    Args:
        old: of the bundle whose models are there.
        compliance: the non-compliance model is trained anew, for the new single rules.
    """
    learned = {rule.id: rule for rule in new.rules if rule.learned}
    kept = {}
    for rule in old.rules:
        now = learned.get(new.now(rule.id))
        if rule.learned and now is not None and now.scope == rule.scope:
            kept[rule.id] = now.id
    dropped = tuple(rule.id for rule in old.rules if rule.learned and rule.id not in kept)
    added = tuple(rule for rule in learned if rule not in kept.values())
    waiting = () if compliance else tuple(rule for rule in added if learned[rule].scope == "single")
    staying = () if compliance else tuple(rule for rule in dropped if old.rule(rule).scope == "single")
    return RuleChanges(
        old=old,
        new=new,
        rulebook=new if compliance else _with_old_singles(old, new, kept, set(waiting)),
        added=added,
        renamed={before: now for before, now in kept.items() if before != now},
        dropped=dropped,
        waiting=waiting,
        staying=staying,
    )


def _with_old_singles(old: Rulebook, new: Rulebook, kept: dict[str, str], waiting: set[str]) -> Rulebook:
    """The new rulebook with the single rules that the old models know, in their order."""
    singles = [new.rule(kept[rule]) if rule in kept else old.rule(rule) for rule in old.single_rules]
    if [rule.id for rule in singles] == list(new.single_rules):
        return new
    ids = {rule.id for rule in singles}
    others = [rule for rule in new.rules if rule.id not in ids and (rule.id not in waiting or rule.check is not None)]
    rules: list[Rule] = []
    for rule in (*singles, *others):
        changed: dict[str, object] = {}
        if rule.id in waiting:  # its check finds it; the models do not know it
            changed |= {"learned": False, "simulate": None}
        if any(before in ids for before in rule.was):
            changed["was"] = tuple(before for before in rule.was if before not in ids)
        rules.append(rule.model_copy(update=changed) if changed else rule)
    return with_rules(new, rules)


def with_rules(rulebook: Rulebook, rules: Iterable[Rule]) -> Rulebook:
    """The rulebook with other rules, checked. Raises RulebookError."""
    text = rulebook.model_copy(update={"rules": tuple(rules)}).text()
    return parse_rulebook(text, f"{rulebook.id}, put together")
