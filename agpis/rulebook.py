"""Rulebooks: YAML in, rules with stable class ids out. A mistake is reported with file, line, key and cure.

A rulebook may extend another (`extends: default`): its `rules` then change single keys of the parent's rules or add
rules behind them, and `drop` takes rules away. Adding behind keeps the class ids of the parent, so that a bundle
trained with the parent serves the child.

`source` of a rule carries the marks of the research it comes from: [V] read in the marketplace's own page, [S] in a
third party's, [D] arithmetic.
"""

from __future__ import annotations

import hashlib
import json
import string
from collections.abc import Iterable, Mapping
from datetime import date
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from agpis.data import Role, Scope, Severity
from agpis.errors import RulebookError
from agpis.limits import Check, Strict, check_scope
from agpis.marked import Marked, MarkedList, Place, problems, read_yaml

BUILTIN = ("default", "amazon", "google", "walmart", "ebay")
"""Rulebooks inside the package."""

RULEBOOK_CODES: dict[str, str] = {
    "rulebook_not_found": "no rulebook of that name, and no file at that path",
    "rulebook_unreadable": "the file cannot be read: a folder, no permission, not UTF-8, or larger than 1 MiB",
    "rulebook_syntax": "not one plain YAML mapping: syntax error, duplicate key, empty, anchors, tags, too deep",
    "rulebook_invalid": "a key that is unknown or missing, or a value that is not allowed",
    "rulebook_extends": "`extends` names a rulebook that cannot be found, or goes in a circle",
}
"""Codes of RulebookError, with what they mean."""

LANGUAGES = ("en", "zh")
SLOTS = ("image", "where")
RESERVED = ("qualified", "other")
MAX_PARENTS = 8

Language = Literal["en", "zh"]
Text = Annotated[str, Field(min_length=1, max_length=2000)]
RuleId = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
Value = float | int | str

_ORDINALS: dict[str, tuple[str, ...]] = {
    "en": ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"),
    "zh": ("一", "二", "三", "四", "五", "六", "七", "八", "九", "十"),
}


def ordinal(index: int, language: Language = "en") -> str:
    """Filling of the slot {image} for position `index` (from 0): "second", "第二张"; "12th", "第12张" beyond ten."""
    known = _ORDINALS[language]
    if language == "zh":
        return f"第{known[index] if index < len(known) else index + 1}张"
    if index < len(known):
        return known[index]
    number = index + 1
    teens = 10 < number % 100 < 14
    return f"{number}{'th' if teens else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"


class Feedback(Strict):
    """What a reviewer would write, by language. Slots: {image} = ordinal of the image, {where} = place in it."""

    en: Annotated[tuple[Text, ...], Field(min_length=1)]
    zh: Annotated[tuple[Text, ...], Field(min_length=1)]

    @field_validator("en", "zh")
    @classmethod
    def _slots(cls, phrases: tuple[str, ...]) -> tuple[str, ...]:
        for phrase in phrases:
            slots(phrase)
        if all(slots(phrase) for phrase in phrases):
            raise ValueError("every phrase has a slot; add one without {image} and {where} for when they are unknown")
        return phrases


def slots(phrase: str) -> tuple[str, ...]:
    """Names of the slots in a feedback phrase. ValueError on an unknown slot or a stray brace."""
    allowed = " and ".join(f"{{{slot}}}" for slot in SLOTS)
    try:
        parts = list(string.Formatter().parse(phrase))
    except ValueError as error:
        raise ValueError(
            f"found {phrase!r} with a stray brace ({error}); write {{{{ and }}}} for real braces"
        ) from None
    named = [(name, spec, conversion) for _, name, spec, conversion in parts if name is not None]
    for name, spec, conversion in named:
        if name not in SLOTS or spec or conversion:
            raise ValueError(f"found the slot {{{name}}} in {phrase!r}, allowed are {allowed}, without formatting")
    return tuple(name for name, _, _ in named)


class Simulate(Strict):
    """How the simulator breaks this rule: its function, and the ranges or choices it draws from."""

    name: RuleId
    ranges: dict[str, Annotated[tuple[Value, ...], Field(min_length=1)]] = Field(default_factory=dict)
    """[low, high] of a number to draw, or a list to choose from; the simulator says which."""

    @field_validator("ranges")
    @classmethod
    def _order(cls, ranges: dict[str, tuple[Value, ...]]) -> dict[str, tuple[Value, ...]]:
        for key, values in ranges.items():
            numbers = [value for value in values if not isinstance(value, str)]
            if len(numbers) == len(values) == 2 and numbers[0] > numbers[1]:
                raise ValueError(f"found {key}: [{values[0]}, {values[1]}], low above high; swap them")
        return ranges


class Change(Strict):
    """A later or narrower version of a rule's limit: applies from `valid_from` on, to `categories`."""

    valid_from: date | None = None
    categories: tuple[Text, ...] = ()
    """Words looked for in the product's category, letter case ignored; empty = every category."""
    severity: Severity | None = None
    check: Check | None = None
    source: str = ""

    @model_validator(mode="after")
    def _means_something(self) -> Change:
        if self.valid_from is None and not self.categories:
            raise ValueError("a change without valid_from and categories always applies; write it into the rule itself")
        if self.severity is None and self.check is None:
            raise ValueError("nothing is changed; give severity, check, or both")
        return self

    def applies(self, on: date, category: str) -> bool:
        """Whether it holds on that day for a product of that category."""
        if self.valid_from is not None and on < self.valid_from:
            return False
        lowered = category.casefold()
        return not self.categories or any(word.casefold() in lowered for word in self.categories)


class Rule(Strict):
    """One named requirement. See docs/rulebooks.md."""

    id: RuleId
    was: tuple[RuleId, ...] = ()
    """Ids that it had in earlier versions: verdicts that name one of them mean this rule."""
    name: Text
    """Short, for a report."""
    scope: Scope
    severity: Severity = "error"
    """`error`: the image is removed (or barred, see `role`); `warning`: it is only reported."""
    role: Role = "any"
    """`main`: concerns the primary image only; `secondary`: all but the primary."""
    description: Text
    """What is not allowed, in a sentence."""
    platform: str = ""
    """Marketplace that demands it; "" = AGPIS' own."""
    valid_from: date | None = None
    """Not in force before that day."""
    source: str = ""
    """Where it is written, with a mark: [V], [S] or [D]."""
    feedback: Feedback
    check: Check | None = None
    """Measured check that detects it, with its limits."""
    simulate: Simulate | None = None
    """Simulator that makes examples of it, for training."""
    learned: bool = False
    """Whether the models have a class for it."""
    changes: tuple[Change, ...] = ()
    """Later or narrower limits; where several apply, the last one wins."""

    @field_validator("id")
    @classmethod
    def _not_reserved(cls, name: str) -> str:
        if name in RESERVED:
            raise ValueError(f"found {name!r}, which is a class of the models' own; choose another id")
        return name

    @model_validator(mode="after")
    def _detectable(self) -> Rule:
        if self.check is None and not self.learned:
            raise ValueError(f"nothing detects {self.id!r}; give it a check, or learned: true, or both")
        if self.simulate is not None and not self.learned:
            raise ValueError(f"{self.id!r} is simulated but not learned; add learned: true or leave out simulate")
        if self.scope != "single" and self.role != "any":
            raise ValueError(f"{self.id!r} has scope {self.scope} and role {self.role}; a role needs scope single")
        for check in (self.check, *(change.check for change in self.changes)):
            if check is not None and check_scope(check.name) != self.scope:
                raise ValueError(
                    f"the check {check.name} is of scope {check_scope(check.name)}, {self.id!r} of scope {self.scope};"
                    " change the scope or the check"
                )
        return self

    def at(self, on: date, category: str = "") -> Rule | None:
        """The rule as it stands on that day for a product of that category; None before `valid_from`."""
        if self.valid_from is not None and on < self.valid_from:
            return None
        update: dict[str, Any] = {}
        for change in self.changes:
            if change.applies(on, category):
                update |= {
                    key: value
                    for key, value in (
                        ("severity", change.severity),
                        ("check", change.check),
                        ("source", change.source),
                    )
                    if value
                }
        return self.model_copy(update=update) if update else self

    def phrases(self, language: Language = "en", image: int | None = None, where: str = "") -> tuple[str, ...]:
        """Feedback phrases, filled in; those that need a slot that is not given are left out. Never empty.

        `image` counts from 0. `where` is a phrase of that language: "at the bottom left", "左下角".
        """
        given: dict[str, str] = {}
        if image is not None:
            given["image"] = ordinal(image, language)
        if where:
            given["where"] = where
        phrases: tuple[str, ...] = getattr(self.feedback, language)
        return tuple(phrase.format(**given) for phrase in phrases if set(slots(phrase)) <= set(given))


class Rulebook(Strict):
    """Versioned rules; their order gives the classes of the models."""

    id: RuleId
    version: Text
    description: str = ""
    k: Annotated[int, Field(ge=1, le=50)] = 3
    """Images of a sequence, the primary included: what AGPIS must find, not what a marketplace takes at most."""
    max_images: Annotated[int, Field(ge=1)] | None = None
    """What a marketplace takes at most, the primary included."""
    rules: Annotated[tuple[Rule, ...], Field(min_length=1)]

    @field_validator("version", mode="before")
    @classmethod
    def _number_is_text(cls, version: object) -> object:
        return str(version) if isinstance(version, int) and not isinstance(version, bool) else version

    @field_validator("rules")
    @classmethod
    def _unique(cls, rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
        seen: set[str] = set()
        for rule in rules:
            if rule.id in seen:
                raise ValueError(f"the id {rule.id!r} stands twice; every id must be unique")
            seen.add(rule.id)
        return rules

    @model_validator(mode="after")
    def _earlier_ids(self) -> Rulebook:
        seen = {rule.id: rule.id for rule in self.rules}
        for rule in self.rules:
            for old in rule.was:
                if old in seen:
                    raise ValueError(
                        f"{rule.id!r} was {old!r}, which is the id of {seen[old]!r}, or was; an earlier id belongs to "
                        "one rule and to no other"
                    )
                seen[old] = rule.id
        return self

    @model_validator(mode="after")
    def _k_in_range(self) -> Rulebook:
        if self.max_images is not None and self.k > self.max_images:
            raise ValueError(f"k (={self.k}) is above max_images (={self.max_images}); lower k")
        return self

    @cached_property
    def _by_id(self) -> dict[str, Rule]:
        return {rule.id: rule for rule in self.rules}

    @cached_property
    def _renamed(self) -> dict[str, str]:
        return {old: rule.id for rule in self.rules for old in rule.was}

    def now(self, name: str) -> str:
        """The id that a rule has now, from one that it has or had; others come back as they are."""
        return self._renamed.get(name, name)

    def rule(self, name: str) -> Rule:
        """The rule of that id. KeyError where there is none."""
        return self._by_id[name]

    def __contains__(self, name: object) -> bool:
        return name in self._by_id

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Classes of the sequence model: "qualified", the learned rules in the order of the file, "other"."""
        return ("qualified", *(rule.id for rule in self.rules if rule.learned), "other")

    @cached_property
    def single_rules(self) -> tuple[str, ...]:
        """Learned rules that concern one image, in the order of the file."""
        return tuple(rule.id for rule in self.rules if rule.learned and rule.scope == "single")

    @cached_property
    def hash(self) -> str:
        """sha256 (hex) of the content; comments, white space and the order of keys do not matter, nor `extends`."""
        # Without defaults: a key that a later AGPIS adds leaves the hash of an old rulebook, and its bundles, alone.
        content = self.model_dump(mode="json", exclude_defaults=True)
        canonical = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def text(self) -> str:
        """The rulebook as one YAML file, what it extends written out; `parse_rulebook` reads it back."""
        content = self.model_dump(mode="python", exclude_defaults=True)
        return yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1000)

    def active(self, on: date, category: str = "") -> tuple[Rule, ...]:
        """The rules in force on that day for a product of that category, each with its newest limits."""
        standing = (rule.at(on, category) for rule in self.rules)
        return tuple(rule for rule in standing if rule is not None)


class _Dumper(yaml.SafeDumper):
    """Text in quotes (other readers take a bare `no` for false), tuples as lists, no aliases."""

    def ignore_aliases(self, data: object) -> bool:
        return True


_Dumper.add_representer(str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"'))
_Dumper.add_representer(tuple, lambda dumper, items: dumper.represent_list(items))


def load_rulebook(source: str | Path) -> Rulebook:
    """Reads a rulebook of the package by name (`BUILTIN`), or a YAML file by path.

    Raises RulebookError (codes: RULEBOOK_CODES); its text has one line a mistake, "file:line: key: found ...".
    """
    file = _file(str(source), base=None, place=None)
    return _validated(_resolved(file, ()))


def parse_rulebook(text: str, name: str = "rulebook") -> Rulebook:
    """Reads a rulebook out of a text, such as the one inside a bundle; `name` stands for the file in messages."""
    raw = read_yaml(text.encode(), name)
    return _validated(_extended(raw, Path(name), (name,)))


def _file(source: str, base: Path | None, place: Place | None) -> Path:
    """Path of the rulebook `source`; `base` is the folder of the file that extends it, at `place`."""
    if source in BUILTIN:
        return Path(str(resources.files("agpis"))) / "rulebooks" / f"{source}.yaml"
    path = Path(source) if base is None else base / source
    if path.is_dir():
        raise RulebookError("rulebook_unreadable", f"{source}: found a folder; give the YAML file in it")
    if not path.is_file():
        where = f"{place}: extends: " if place else ""
        raise RulebookError(
            "rulebook_extends" if place else "rulebook_not_found",
            f"{where}found {source!r}, which is neither a file nor a rulebook of the package"
            f" ({', '.join(BUILTIN)}); check the spelling",
        )
    return path


def _resolved(file: Path, chain: tuple[str, ...]) -> Marked:
    """Raw content of `file`, its parents merged in."""
    try:
        data = file.read_bytes()
    except OSError as error:
        raise RulebookError("rulebook_unreadable", f"{file}: {error.strerror}; check the file's permissions") from None
    label = file.stem if file.stem in BUILTIN and file.parent.name == "rulebooks" else str(file)
    return _extended(read_yaml(data, label), file, (*chain, str(file.resolve())))


def _extended(raw: Marked, file: Path, chain: tuple[str, ...]) -> Marked:
    if "extends" not in raw:
        if "drop" in raw:
            raise RulebookError(
                "rulebook_invalid", f"{raw.place('drop')}: drop: found without extends; remove it, or name a parent"
            )
        return raw
    place = raw.place("extends")
    parent = raw["extends"]
    if not isinstance(parent, str):
        raise RulebookError(
            "rulebook_invalid",
            f"{place}: extends: found {parent!r}, allowed is the name or path of one rulebook; write it as text",
        )
    parent_file = _file(parent, file.parent, place)
    names = [Path(step).name for step in (*chain, str(parent_file.resolve()))]
    if str(parent_file.resolve()) in chain:
        raise RulebookError(
            "rulebook_extends",
            f"{place}: extends: found a circle ({' -> '.join(names)}); take one of these `extends` away",
        )
    if len(chain) >= MAX_PARENTS:
        raise RulebookError(
            "rulebook_extends",
            f"{place}: extends: found more than {MAX_PARENTS} rulebooks in a row ({' -> '.join(names)});"
            " put them together",
        )
    return _merged(_resolved(parent_file, chain), raw)


def _merged(parent: Marked, child: Marked) -> Marked:
    """The parent with the child's keys laid over it; rules are matched by id, new ones go behind."""
    merged = Marked(child.here)
    for source in (parent, child):
        for key in source:
            if key not in ("extends", "drop", "rules"):
                merged.put(key, source[key], source.place(key))
    parent_rules, child_rules = parent.get("rules"), child.get("rules", MarkedList(child.here))
    if not isinstance(parent_rules, MarkedList) or not isinstance(child_rules, MarkedList):
        wrong = child if isinstance(parent_rules, MarkedList) else parent
        if "rules" in wrong:  # reported with its place by the validation
            merged.put("rules", wrong["rules"], wrong.place("rules"))
        return merged
    standing: dict[object, tuple[object, Place]] = {}  # by id; one without an id, or an id twice, by its position
    for position, rule in enumerate(parent_rules):
        standing[_key(rule, standing)] = (rule, parent_rules.place(position))
    for name, place in _names(child, "drop"):
        if name not in standing:
            ids = ", ".join(str(key) for key in standing)
            raise RulebookError(
                "rulebook_invalid",
                f"{place}: drop: found {name!r}, allowed are the ids of the parent ({ids}); correct or remove it",
            )
        del standing[name]
    untouched = set(standing)
    for position, rule in enumerate(child_rules):
        place = child_rules.place(position)
        child_id = rule.get("id") if isinstance(rule, Marked) else None
        inherited = standing[child_id][0] if child_id in untouched else None
        if isinstance(rule, Marked) and isinstance(inherited, Marked):
            changed = Marked(rule.here)
            for source in (inherited, rule):
                for key in source:
                    changed.put(key, source[key], source.place(key))
            standing[child_id] = (changed, place)
            untouched.remove(child_id)
        else:
            standing[_key(rule, standing)] = (rule, place)
    rules = MarkedList(child.here)
    for rule, place in standing.values():
        rules.add(rule, place)
    merged.put("rules", rules, child.place("rules") if "rules" in child else parent.place("rules"))
    return merged


def _key(rule: object, standing: Mapping[object, object]) -> object:
    name = rule.get("id") if isinstance(rule, Marked) else None
    return name if isinstance(name, str) and name not in standing else len(standing)


def _names(raw: Marked, key: str) -> Iterable[tuple[str, Place]]:
    """The texts of the list `raw[key]`, each with its place."""
    if key not in raw:
        return
    values = raw[key]
    if not isinstance(values, MarkedList):
        raise RulebookError(
            "rulebook_invalid", f"{raw.place(key)}: {key}: found {values!r}, allowed is a list of ids; write [id, id]"
        )
    for index, value in enumerate(values):
        yield str(value), values.place(index)


def _validated(raw: Marked) -> Rulebook:
    rules = raw.get("rules")
    first: dict[str, Place] = {}
    twice: list[tuple[Place, str]] = []
    for rule in rules if isinstance(rules, MarkedList) else ():
        name = rule.get("id") if isinstance(rule, Marked) else None
        if isinstance(name, str):
            if name in first:
                found = f"found {name!r} again (first at {first[name]}), every id must be unique; rename one"
                twice.append((rule.place("id"), f"rules[{name}].id: {found}"))
            first.setdefault(name, rule.place("id"))
    error = None
    try:
        return Rulebook.model_validate(raw.plain())
    except ValidationError as mistakes:
        error = mistakes
    raise RulebookError("rulebook_invalid", problems(raw, error, Rulebook, twice))
