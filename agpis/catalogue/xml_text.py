"""XML items cut out of a feed with the byte spans of their fields, so that a field can change and nothing else does.

Expat reports the byte where each element starts and ends; only the item in hand is kept. UTF-16 is read through
UTF-8 and given back as UTF-16. Entity declarations are refused: no product feed needs them, every XML bomb does.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO
from xml.parsers import expat

ITEM_LIMIT = 16 << 20  # bytes
_CHUNK = 1 << 16  # bytes


class XmlError(Exception):
    """The XML cannot be read from here on; `line` counts from 1."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.message = message
        self.line = line


@dataclass(slots=True)
class Field:
    """A child element of an item. Offsets are bytes within the item."""

    name: str
    """With its prefix: `g:image_link`."""
    start: int
    end: int
    text: str
    """Character data, entities resolved, blanks around it cut off."""

    @property
    def local(self) -> str:
        return self.name.rpartition(":")[2]


@dataclass(slots=True)
class Item:
    """One item (RSS) or entry (Atom)."""

    line: int
    raw: bytes
    fields: list[Field] = field(default_factory=list)


class Items:
    """Streams an XML file as gaps (bytes) and `Item`s. Raises XmlError; what was read and not yet given out is
    then in `rest`, and the stream stands behind it."""

    def __init__(self, stream: BinaryIO, names: tuple[str, ...]) -> None:
        self._stream = stream
        self._names = names
        self.rest = b""
        self.root = ""
        self._utf16 = ""
        self._ready: list[Item] = []
        self._spans: list[tuple[int, int]] = []
        self._depth = 0
        self._item: Item | None = None
        self._item_at = 0
        self._item_depth = 0
        self._text: list[str] | None = None
        self._offset = 0  # of rest[0] in the (UTF-8) document

    def encode(self, carrier: bytes) -> bytes:
        """The bytes of the file for carrier bytes."""
        return carrier.decode("utf-8", "surrogatepass").encode(self._utf16, "surrogatepass") if self._utf16 else carrier

    def __iter__(self) -> Iterator[bytes | Item]:
        first = self._stream.read(_CHUNK)
        for mark, name in ((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")):
            if first.startswith(mark):
                self._utf16 = name
        parser = self._parser()
        decoder = codecs.getincrementaldecoder(self._utf16 or "utf-8")("surrogatepass")
        chunk = first
        while True:
            final = not chunk
            data = decoder.decode(chunk, final).encode("utf-8", "surrogatepass") if self._utf16 else chunk
            self.rest += data
            broken: XmlError | None = None
            try:
                parser.Parse(data, final)
            except expat.ExpatError as error:
                broken = XmlError(expat.errors.messages[error.code], error.lineno)
            except XmlError as error:
                broken = error
            except (LookupError, ValueError) as error:  # an encoding that Python, or expat, does not know
                broken = XmlError(str(error), parser.CurrentLineNumber)
            yield from self._take(parser.CurrentByteIndex)
            if broken is not None:
                raise broken
            if final:
                break
            if len(self.rest) > ITEM_LIMIT:
                raise XmlError(f"an item is larger than {ITEM_LIMIT >> 20} MiB", parser.CurrentLineNumber)
            chunk = self._stream.read(_CHUNK)
        yield self.rest
        self.rest = b""

    def _take(self, parsed: int) -> Iterator[bytes | Item]:
        for item, (start, end) in zip(self._ready, self._spans, strict=True):
            yield self._cut(start)
            raw = self._cut(end)
            item.raw = raw
            yield item
        self._ready, self._spans = [], []
        if self._item is None and parsed > self._offset:  # between items nothing before the last event is needed
            yield self._cut(parsed)

    def _cut(self, end: int) -> bytes:
        size = end - self._offset
        piece, self.rest = self.rest[:size], self.rest[size:]
        self._offset = end
        return piece

    def _parser(self) -> expat.XMLParserType:
        parser = expat.ParserCreate("utf-8" if self._utf16 else None)
        parser.buffer_text = True

        def start(name: str, attributes: dict[str, str]) -> None:
            self.root = self.root or name
            self._depth += 1
            if self._item is None:
                if name.rpartition(":")[2] in self._names:
                    self._item = Item(parser.CurrentLineNumber, b"")
                    self._item_at, self._item_depth = parser.CurrentByteIndex, self._depth
            elif self._depth == self._item_depth + 1:
                self._text = []
                self._item.fields.append(Field(name, parser.CurrentByteIndex - self._item_at, 0, ""))

        def end(name: str) -> None:
            item = self._item
            if item is not None and self._depth <= self._item_depth + 1:
                whole = self._depth == self._item_depth
                close = self._end(self._item_at + (0 if whole else item.fields[-1].start), parser.CurrentByteIndex)
                if whole:
                    self._ready.append(item)
                    self._spans.append((self._item_at, close))
                    self._item = None
                else:
                    item.fields[-1].end = close - self._item_at
                    item.fields[-1].text = "".join(self._text or ()).strip()
                    self._text = None
            self._depth -= 1

        def characters(data: str) -> None:
            if self._text is not None and self._depth == self._item_depth + 1:
                self._text.append(data)

        def entity(*arguments: object) -> None:
            raise XmlError("it declares entities, which a product feed does not need", parser.CurrentLineNumber)

        parser.StartElementHandler = start
        parser.EndElementHandler = end
        parser.CharacterDataHandler = characters
        parser.EntityDeclHandler = entity
        return parser

    def _end(self, start: int, at: int) -> int:
        """Where an element ends that starts at `start`, when expat reports its end at `at`: that is its closing tag,
        but for <x/> the byte behind it."""
        opened = tag_end(self.rest, start - self._offset)
        if self.rest[opened - 2 : opened] == b"/>":
            return self._offset + opened
        return self._offset + tag_end(self.rest, at - self._offset)


def tag_end(raw: bytes, start: int) -> int:
    """Offset behind the ">" of the tag that starts at `start`; a ">" within an attribute value is none."""
    found = _TAG.match(raw, start)
    assert found is not None  # expat reports only tags that are closed
    return found.end()


_TAG = re.compile(rb"""(?:[^"'>]+|"[^"]*"|'[^']*')*+>""")
