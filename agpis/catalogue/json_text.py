"""JSON text cut into the spans of its values, so that one value can change and nothing else does.

`members` and `elements` take a parsed-through object or array apart; `ArrayStream` finds the elements of one array
of a large document without holding the document.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from agpis.errors import CatalogueError

ELEMENT_LIMIT = 16 << 20  # characters
_CHUNK = 1 << 16  # bytes
_BLANKS = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()
_STRUCTURE = re.compile(r'"(?:[^"\\]+|\\.)*+"|["{}\[\],:]', re.DOTALL)  # a lone quote is a string cut off


@dataclass(frozen=True, slots=True)
class Member:
    """A member of an object: offsets of its key's first quote and of its value."""

    key: str
    at: int
    start: int
    end: int


def members(text: str, start: int = 0) -> list[Member]:
    """The members of the valid JSON object at `start`."""
    found: list[Member] = []
    at = _skip(text, _skip(text, start) + 1)
    while text[at] != "}":
        key, after = _DECODER.raw_decode(text, at)
        value = _skip(text, _skip(text, after) + 1)
        _, end = _DECODER.raw_decode(text, value)
        found.append(Member(key, at, value, end))
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return found


def elements(text: str, start: int = 0) -> list[tuple[int, int]]:
    """Spans of the elements of the valid JSON array at `start`."""
    found: list[tuple[int, int]] = []
    at = _skip(text, _skip(text, start) + 1)
    while text[at] != "]":
        _, end = _DECODER.raw_decode(text, at)
        found.append((at, end))
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return found


def member(text: str, key: str, start: int = 0) -> Member | None:
    """The member of that key, the last if there are several (as json.loads takes it)."""
    return next((each for each in reversed(members(text, start)) if each.key == key), None)


def reordered(text: str, start: int, end: int, order: list[int]) -> str:
    """The array `text[start:end]` with its elements in another order; blanks and commas as they were."""
    spans = elements(text, start)
    comma = text[spans[0][1] : spans[1][0]] if len(spans) > 1 else ", "
    inside = comma.join(text[spans[index][0] : spans[index][1]] for index in order)
    return text[start : spans[0][0]] + inside + text[spans[-1][1] : end]


def _skip(text: str, at: int) -> int:
    found = _BLANKS.match(text, at)
    assert found is not None  # it matches the empty text
    return found.end()


class ArrayStream:
    """The elements of the array under `key` of the document's outermost object, and the text between them.

    Yields (is_element, text); the texts together are the document. Only brackets and strings are looked at, so an
    element with a mistake inside is still one element. Raises CatalogueError `invalid_json` behind the last of them.
    """

    def __init__(self, stream: BinaryIO, source: str, key: str) -> None:
        self._stream = stream
        self._source = source
        self._key = key

    def __iter__(self) -> Iterator[tuple[bool, str]]:
        decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        text, at = "", 0  # `at`: where to look on in `text`
        depth, start = 0, -1  # `start`: where the element in hand starts
        last = ""  # the last string at depth 1: a key, when a colon follows
        named = inside = False  # the value to come is that of the key; we are within its array
        while True:
            chunk = self._stream.read(_CHUNK)
            text += decoder.decode(chunk, final=not chunk)
            given = 0
            for found in _STRUCTURE.finditer(text, at):
                sign = found.group()
                if sign == '"':
                    at = found.start()
                    break
                at = found.end()
                if sign in "{[":
                    if inside and depth == 2:
                        start = found.start()
                    depth += 1
                    inside = inside or (named and depth == 2 and sign == "[")
                elif sign in "}]":
                    depth -= 1
                    if inside and depth == 2:
                        yield False, text[given:start]
                        yield True, text[start:at]
                        given, start = at, -1
                    inside = inside and depth > 1
                elif depth == 1:
                    named = sign == ":" and last == self._key
                    last = last if sign in ",:" else sign[1:-1]
            else:
                at = len(text)
            keep = at if start < 0 else start
            yield False, text[given:keep]
            text, at, start = text[keep:], at - keep, min(start, 0)
            if not chunk:
                break
            if len(text) > ELEMENT_LIMIT:
                yield False, text
                raise self._error(f"an element of {self._key!r} is larger than {ELEMENT_LIMIT >> 20} MiB or never ends")
        yield False, text
        if text or depth:
            raise self._error("it ends before its brackets are closed")

    def _error(self, message: str) -> CatalogueError:
        return CatalogueError("invalid_json", f"{self._source}: the JSON document cannot be read: {message}")
