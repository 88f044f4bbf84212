"""YAML that remembers its lines: plain data with the place of every key, and pydantic's errors told by those places.

A subset of YAML that holds no surprise: mappings with text keys, lists, text, whole and decimal numbers, true / false,
null, dates (2027-01-31). Bare `no`, `on` and `yes` are text. Anchors, aliases and tags are refused, so a small file
cannot unfold into a large one; so are duplicate keys, which YAML libraries swallow.
"""

from __future__ import annotations

import difflib
import re
import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from agpis.errors import RulebookError

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 20
MAX_PROBLEMS = 20

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INT = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?")
_DATE = re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}")


@dataclass(frozen=True, slots=True)
class Place:
    """A line of a file, from 1."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class Marked(dict[str, Any]):
    """A mapping that knows where it and each of its keys stand."""

    def __init__(self, here: Place) -> None:
        super().__init__()
        self.here = here
        self._places: dict[str, Place] = {}

    def put(self, key: str, value: object, place: Place) -> None:
        """Sets `key`, which stands at `place`."""
        self[key] = value
        self._places[key] = place

    def place(self, key: str) -> Place:
        """Where `key` stands."""
        return self._places[key]

    def plain(self) -> dict[str, Any]:
        """The same as dicts and tuples."""
        return {key: _plain(value) for key, value in self.items()}


class MarkedList(list[Any]):
    """A list that knows where it and each of its items stand."""

    def __init__(self, here: Place) -> None:
        super().__init__()
        self.here = here
        self._places: list[Place] = []

    def add(self, value: object, place: Place) -> None:
        """Appends `value`, which stands at `place`."""
        self.append(value)
        self._places.append(place)

    def place(self, index: int) -> Place:
        """Where item `index` stands."""
        return self._places[index]


def _plain(value: object) -> object:
    if isinstance(value, Marked):
        return value.plain()
    if isinstance(value, MarkedList):
        return tuple(_plain(item) for item in value)
    return value


def read_yaml(data: bytes, name: str) -> Marked:
    """Parses `data`; `name` stands for the file in messages.

    Raises RulebookError: `rulebook_unreadable` (not UTF-8, larger than 1 MiB) or `rulebook_syntax`.
    """
    if len(data) > MAX_BYTES:
        raise RulebookError(
            "rulebook_unreadable",
            f"{name}: found {len(data):,} bytes, allowed are {MAX_BYTES:,}; is this the rulebook?",
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise RulebookError(
            "rulebook_unreadable",
            f"{name}:{line}: found the byte 0x{data[error.start]:02x}, which is not UTF-8; save the file as UTF-8",
        ) from None
    try:
        value = _build(text, name)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{name}:{mark.line + 1}" if mark else name
        what = " ".join(part for part in (error.context, error.problem) if part)
        raise RulebookError(
            "rulebook_syntax", f"{place}: found a YAML mistake ({what}); check indentation, colons and quotes"
        ) from None
    except yaml.YAMLError as error:  # yaml.reader.ReaderError: a control character
        first = str(error).splitlines()[0]
        raise RulebookError("rulebook_syntax", f"{name}: found a YAML mistake ({first}); remove it") from None
    if not isinstance(value, Marked):
        found = "nothing" if value is None else _shown(value)
        raise RulebookError(
            "rulebook_syntax",
            f"{name}:1: found {found}, allowed is a mapping with the keys id, version, rules; see docs/rulebooks.md",
        )
    return value


class _Open:
    """A mapping or list that is being read."""

    def __init__(self, into: Marked | MarkedList) -> None:
        self.into = into
        self.key: str | None = None
        self.key_place = into.here


def _build(text: str, name: str) -> object:
    """Builds from the parser's events, which needs no recursion and sees an alias before it is unfolded."""
    stack: list[_Open] = []
    documents: list[object] = []

    def store(value: object, place: Place) -> None:
        if not stack:
            documents.append(value)
            return
        top = stack[-1]
        if isinstance(top.into, MarkedList):
            top.into.add(value, place)
        elif top.key is None:
            if not isinstance(value, str):
                raise _syntax(place, f"found the key {_shown(value)}, allowed is text; put it in quotes")
            if value in top.into:
                raise _syntax(
                    place, f"{value}: found the key twice (first at line {top.into.place(value).line}); remove one"
                )
            top.key, top.key_place = value, place
        else:
            top.into.put(top.key, value, top.key_place)
            top.key = None

    for event in yaml.parse(text, Loader=_LOADER):
        mark = event.start_mark
        place = Place(name, mark.line + 1 if mark else 1)
        anchor = getattr(event, "anchor", None)
        if anchor is not None:
            raise _syntax(place, f"found the anchor or alias {anchor!r}, which is not allowed; write it out")
        if isinstance(event, yaml.DocumentStartEvent) and documents:
            raise _syntax(place, "found a second document (---), allowed is one; put it into a file of its own")
        if isinstance(event, yaml.CollectionStartEvent | yaml.ScalarEvent) and event.tag not in (None, "!"):
            raise _syntax(place, f"found the tag {event.tag!r}, which is not allowed; remove it")
        if isinstance(event, yaml.CollectionStartEvent):
            if len(stack) >= MAX_DEPTH:
                raise _syntax(place, f"found more than {MAX_DEPTH} levels of nesting; make it flatter")
            if stack and isinstance(stack[-1].into, Marked) and stack[-1].key is None:
                raise _syntax(place, "found a mapping or list as a key, allowed is text; check braces and indentation")
            stack.append(
                _Open(Marked(place) if isinstance(event, yaml.MappingStartEvent) else MarkedList(place)),
            )
        elif isinstance(event, yaml.CollectionEndEvent):
            done = stack.pop().into
            store(done, done.here)
        elif isinstance(event, yaml.ScalarEvent):
            is_key = bool(stack) and isinstance(stack[-1].into, Marked) and stack[-1].key is None
            plain = event.implicit[0] and not is_key
            store(_scalar(event.value, place) if plain else event.value, place)
    return documents[0] if documents else None


def _scalar(text: str, place: Place) -> object:
    if text in ("", "~", "null"):
        return None
    if text in ("true", "false"):
        return text == "true"
    if _INT.fullmatch(text) and len(text) <= 18:
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _DATE.fullmatch(text):
        try:
            return date(*(int(part) for part in text.split("-")))
        except ValueError as error:
            raise _syntax(place, f"found the date {text}, which does not exist ({error}); write YYYY-MM-DD") from None
    return text


def _syntax(place: Place, message: str) -> RulebookError:
    return RulebookError("rulebook_syntax", f"{place}: {message}")


def problems(
    raw: Marked, error: ValidationError | None, model: type[BaseModel], more: Sequence[tuple[Place, str]] = ()
) -> str:
    """A line a mistake, "file:line: key: found X, allowed Y; do Z", sorted; `more` are the caller's."""
    details = error.errors(include_url=False) if error else []
    # A list whose items are all wrong is also called too short by pydantic; it is not.
    details = [d for d in details if d["type"] != "too_short" or not d["input"]]
    if more:  # the caller tells, with the line, what a validator of the whole list can only tell of the list
        details = [d for d in details if d["type"] != "value_error" or d["loc"] != ("rules",)]
    lines = [*(_problem(raw, detail, model) for detail in details), *more]
    lines = sorted(dict.fromkeys(lines), key=lambda line: (line[0].file, line[0].line))
    texts = [f"{place}: {text}" for place, text in lines[:MAX_PROBLEMS]]
    if len(lines) > MAX_PROBLEMS:
        texts.append(f"... and {len(lines) - MAX_PROBLEMS} more")
    return "\n".join(texts)


def _problem(raw: Marked, detail: Any, model: type[BaseModel]) -> tuple[Place, str]:
    node: Any = raw
    place = raw.here
    names: list[str] = []
    annotation: Any = model
    parent: Any = model  # of the last step, for the keys that are allowed beside an unknown one
    for part in detail["loc"]:
        parent = annotation
        annotation, is_tag = _step(annotation, part)
        if is_tag:
            continue
        if isinstance(node, Marked) and isinstance(part, str) and part in node:
            place, node = node.place(part), node[part]
            names.append(part)
        elif isinstance(node, MarkedList) and isinstance(part, int) and part < len(node):
            place, node = node.place(part), node[part]
            label = node.get("id") if isinstance(node, Marked) else None
            names[-1:] = [f"{names[-1]}[{label if isinstance(label, str) else part}]"]
        elif isinstance(part, str):
            names.append(part)
    return place, f"{'.'.join(names) or 'the rulebook'}: {_sentence(detail, parent, annotation)}"


def _sentence(detail: Any, parent: Any, annotation: Any) -> str:
    kind, found, context = detail["type"], detail["input"], detail.get("ctx", {})
    key = str(detail["loc"][-1]) if detail["loc"] else ""
    if kind == "extra_forbidden":
        return f"found an unknown key, {_choice(key, _fields(parent))}"
    if kind == "missing":
        return f"found nothing, but it must be given; add {key}: {_expected(annotation)}"
    if kind == "union_tag_not_found":
        return f"found no name of a check, {_choice('', _tags(annotation))}; add name"
    if kind == "union_tag_invalid":
        return f"found the check {context['tag']!r}, {_choice(context['tag'], _tags(annotation))}"
    if kind == "literal_error":
        return f"found {_shown(found)}, {_choice(found if isinstance(found, str) else '', _literals(annotation))}"
    if kind == "value_error":
        return str(context["error"])
    return f"found {_shown(found)}, allowed is {_expected(annotation) or detail['msg']}; correct the value"


def _choice(found: str, allowed: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(found, allowed, n=1, cutoff=0.6) if found else []
    advice = f"; did you mean {close[0]!r}?" if close else "; use one of these" if found else ""
    return f"allowed are {', '.join(allowed)}{advice}"


def _shown(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, date):
        return f"the date {value}"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list" if value else "an empty list"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}...{text[-1]}"


def _bare(annotation: Any) -> tuple[Any, list[Any]]:
    """The annotation without Annotated and `| None`, and the metadata met on the way."""
    metadata: list[Any] = []
    while True:
        if get_origin(annotation) is Annotated:
            annotation, *more = get_args(annotation)
            metadata += more
            continue
        if get_origin(annotation) in (Union, types.UnionType):
            members = [member for member in get_args(annotation) if member is not type(None)]
            if len(members) == 1:
                annotation = members[0]
                continue
        return annotation, metadata


def _members(annotation: Any) -> tuple[Any, ...]:
    bare, _ = _bare(annotation)
    return get_args(bare) if get_origin(bare) in (Union, types.UnionType) else ()


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _step(annotation: Any, part: str | int) -> tuple[Any, bool]:
    """What stands under `part`; and whether `part` is the tag of a union, which no key of the file stands for."""
    bare, _ = _bare(annotation)
    for member in _members(bare):
        if _is_model(member) and part in _tags_of(member):
            return member, True
    if _members(bare) and not any(_is_model(member) for member in _members(bare)):
        return bare, True  # text or number: pydantic tells what is wrong with it as each
    if _is_model(bare) and part in bare.model_fields:
        field = bare.model_fields[part]
        kind = field.annotation
        return (Annotated[kind, *field.metadata] if field.metadata else kind), False
    if get_origin(bare) is tuple:
        return get_args(bare)[0], False
    if get_origin(bare) is dict:
        return get_args(bare)[1], False
    return None, False


def _fields(annotation: Any) -> tuple[str, ...]:
    bare, _ = _bare(annotation)
    return tuple(bare.model_fields) if _is_model(bare) else ()


def _tags_of(model: type[BaseModel]) -> tuple[str, ...]:
    return _literals(model.model_fields["name"].annotation) if "name" in model.model_fields else ()


def _tags(annotation: Any) -> tuple[str, ...]:
    return tuple(tag for member in _members(annotation) if _is_model(member) for tag in _tags_of(member))


def _literals(annotation: Any) -> tuple[str, ...]:
    bare, _ = _bare(annotation)
    return tuple(str(value) for value in get_args(bare)) if get_origin(bare) is Literal else ()


def _expected(annotation: Any) -> str:
    """The type in words, with its bounds."""
    bare, metadata = _bare(annotation)
    words = {str: "text", int: "a whole number", float: "a number", bool: "true or false", date: "a date (YYYY-MM-DD)"}
    if bare in words:
        return words[bare] + _bounds(metadata)
    if _literals(bare):
        return f"one of {', '.join(_literals(bare))}"
    if get_origin(bare) is tuple:
        inner = _expected(get_args(bare)[0])
        bounds = _bounds(metadata)
        return f"a list{bounds}{f' of {inner}' if inner else ''}"
    if _members(bare) and set(_members(bare)) <= {str, int, float}:
        return "a number or text"
    if get_origin(bare) is dict or _is_model(bare) or _members(bare):
        fields = _fields(bare)
        return "a mapping" + (f" with the keys {', '.join(fields)}" if fields else "")
    return ""


def _bounds(metadata: list[Any]) -> str:
    texts = []
    for item in _flat(metadata):
        for attribute, word in (("ge", ">="), ("gt", ">"), ("le", "<="), ("lt", "<")):
            value = getattr(item, attribute, None)
            if value is not None:
                texts.append(f"{word} {value:g}")
        if getattr(item, "min_length", None):
            texts.append(f"length >= {item.min_length}")
        if getattr(item, "max_length", None):
            texts.append(f"length <= {item.max_length}")
        if getattr(item, "pattern", None):
            texts.append(f"of the form {item.pattern}")
    return f" ({', '.join(texts)})" if texts else ""


def _flat(metadata: list[Any]) -> Iterator[Any]:
    for item in metadata:
        nested = getattr(item, "metadata", None)
        yield from _flat(nested) if isinstance(nested, list) and nested else (item,)
