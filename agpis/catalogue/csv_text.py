"""Separated text (CSV, TSV) cut into cells without losing a byte.

The text is held as a *carrier*: decoded so that encoding it gives the very bytes of the file back, whatever they are
(UTF-8 with surrogateescape, which also carries Windows-1252; UTF-16 with surrogatepass). Cells are moved as carrier
text; only what becomes part of a Product is decoded for good (`Table.value`).
"""

from __future__ import annotations

import codecs
import io
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from agpis.catalogue import files
from agpis.data import ErrorInfo
from agpis.errors import CatalogueError

DELIMITERS = (",", "\t", ";", "|")
HEAD = 1 << 18  # bytes looked at for encoding, delimiter and header; Amazon's header alone can be 30 kB
RECORD_LIMIT = 4 << 20  # characters; Shopify allows 512 KB of description
HEADER_ROWS = 10  # a header is looked for in so many rows; Amazon puts up to 4 before it

IsHeader = Callable[[Sequence[str]], bool]


@dataclass(slots=True)
class Row:
    """One record of the file."""

    line: int
    """Physical line where it starts, from 1."""
    cells: list[str]
    """Carrier text of each cell, quotes included."""
    end: str
    """Line end: CR LF, LF, CR or none."""
    error: ErrorInfo | None = field(default=None)

    @property
    def place(self) -> str:
        return f"line {self.line}"

    @property
    def blank(self) -> bool:
        """Nothing in any cell."""
        return self.error is None and not any(self.cells)


def column(name: str) -> str:
    """A column name as it is compared: lower case, single blanks."""
    return " ".join(name.strip().strip('"').lower().split())


def unquote(cell: str) -> str:
    """What a raw cell says. A quote inside an unquoted cell is itself."""
    if not cell.startswith('"'):
        return cell
    closed = _QUOTED.match(cell)
    if closed is None:
        return cell
    return cell[1 : closed.end() - 1].replace('""', '"') + cell[closed.end() :]


_QUOTED = re.compile(r'"(?:[^"]+|"")*+"')
_TO_CLOSING_QUOTE = re.compile(r'(?:[^"]+|"")*+"')


class Table:
    """A separated-text file: its dialect found from its head, its rows streamed.

    `is_header` gets the normalised names (`column`) of a row; the first row that it accepts is the header, what stands
    before is preamble. Raises CatalogueError `empty_catalogue`, `missing_column` (with `needs` in the text).
    """

    def __init__(self, source: str, is_header: IsHeader, needs: str) -> None:
        self.source = source
        sample = files.head(source, HEAD)
        if not sample.strip(b"\xef\xbb\xbf\xff\xfe \t\r\n\0"):
            raise CatalogueError("empty_catalogue", f"{source} is empty; it must hold at least a header line")
        self._codec, self._errors, self._encoding = _encoding(sample)
        text = self._decode_head(sample)
        self.bom = "\ufeff" if text.startswith("\ufeff") else ""
        text = text[len(self.bom) :]
        first_end = re.search(r"\r\n?|\n", text)
        self._newline = "\r" if first_end is not None and first_end.group() == "\r" else "\n"
        self.delimiter, self._skip, self.columns = _header(text, self._newline, is_header, source, needs)
        self._width = len(self.columns)

    def index(self, *names: str) -> int | None:
        """Where the first of the named columns (normalised) stands that the file has, None when it has none."""
        return next((self.columns.index(name) for name in names if name in self.columns), None)

    def head_and_rows(self) -> tuple[bytes, Iterator[Row]]:
        """Bytes up to and with the header, and the rows behind it; a row of another width has an error."""
        stream = io.TextIOWrapper(
            files.open_source(self.source), encoding=self._codec, errors=self._errors, newline=self._newline
        )
        rows = self._all_rows(stream)
        head = self.bom + "".join(self.text([row]) for row in islice(rows, self._skip))
        return self.encode(head), rows

    def value(self, cell: str) -> str:
        """What a raw cell says, decoded for good and without blanks around it. Raises UnicodeError."""
        text = unquote(cell).strip()
        if text.isascii():
            return text
        if self._encoding == "unknown":  # the head was ASCII: the first other cell decides
            self._encoding = "cp1252" if _undecoded(text) else "utf-8"
        if self._encoding == "cp1252":
            return text.encode("utf-8", "surrogateescape").decode("cp1252").strip()
        text.encode("utf-8")  # raises on what surrogateescape or surrogatepass let through
        return text

    def put(self, cells: list[str], index: int | None, value: str) -> None:
        """Sets a cell to a carrier value, quoted where the cell was or where it must be. No column: nothing."""
        if index is None or unquote(cells[index]) == value:
            return
        needed = any(sign in value for sign in (self.delimiter, '"', "\n", "\r"))
        quoted = needed or cells[index].startswith('"')
        cells[index] = '"' + value.replace('"', '""') + '"' if quoted else value

    def text(self, rows: Sequence[Row]) -> str:
        """Carrier text of rows."""
        return "".join(self.delimiter.join(row.cells) + row.end for row in rows)

    def encode(self, text: str) -> bytes:
        """The bytes of carrier text."""
        return text.encode(self._codec, self._errors)

    def raw(self, rows: Sequence[Row]) -> bytes:
        """The bytes of rows."""
        return self.encode(self.text(rows))

    def _decode_head(self, sample: bytes) -> str:
        decoder = codecs.getincrementaldecoder(self._codec)(self._errors)
        return decoder.decode(sample, final=len(sample) < HEAD and self._codec == "utf-8")

    def _all_rows(self, stream: io.TextIOWrapper) -> Iterator[Row]:
        width, seen = self._width, 0
        with stream:
            if self.bom:
                stream.read(1)
            try:
                for row in split_rows(lambda: stream.readline(RECORD_LIMIT), self.delimiter):
                    seen += 1
                    if seen > self._skip and row.error is None and len(row.cells) != width and row.cells != [""]:
                        row.error = ErrorInfo(
                            "wrong_field_count",
                            f"line {row.line}: {len(row.cells)} fields, the header has {width}; "
                            "quote cells that hold the separator or a line break",
                        )
                    yield row
            except UnicodeDecodeError as error:
                raise CatalogueError(
                    "bad_encoding",
                    f"{self.source} is no {self._codec} text to its end: {error.reason}; save it as UTF-8",
                ) from error


def split_rows(readline: Callable[[], str], delimiter: str) -> Iterator[Row]:
    """Rows out of physical lines. A quoted cell may span lines, up to RECORD_LIMIT characters; one that is never
    closed costs its first line only, the lines behind it are read afresh."""
    sign = re.escape(delimiter)
    cell_pattern = re.compile(rf'(?:^|{sign})("(?:[^"]+|"")*+"[^{sign}]*+|(?!")[^{sign}]*+)')
    waiting: deque[str] = deque()
    number = 1
    while line := waiting.popleft() if waiting else readline():
        end = "\r\n" if line.endswith("\r\n") else line[-1] if line[-1] in "\r\n" else ""
        body = line[: len(line) - len(end)]
        if '"' not in body:
            yield Row(number, body.split(delimiter), end)
            number += bool(end)
            continue
        cells = cell_pattern.findall(body)
        if _complete(cells, body):
            yield Row(number, cells, end)
            number += bool(end)
            continue
        more: list[str] = []
        size, is_open = len(line), True
        while is_open and size <= RECORD_LIMIT and (following := waiting.popleft() if waiting else readline()):
            more.append(following)
            size += len(following)
            is_open = _open_at_end(following, delimiter) if '"' in following else True
        if is_open:
            error = ErrorInfo(
                "unclosed_quote", f"line {number}: a quoted cell is never closed; double quotes inside it"
            )
            yield Row(number, body.split(delimiter), end, error)
            waiting.extendleft(reversed(more))
            number += bool(end)
            continue
        record = line + "".join(more)
        end = "\r\n" if record.endswith("\r\n") else record[-1] if record[-1] in "\r\n" else ""
        yield Row(number, cell_pattern.findall(record[: len(record) - len(end)]), end)
        number += bool(end) + len(more)


def _complete(cells: list[str], body: str) -> bool:
    # The pattern skips what it cannot match, which is only a cell whose quote is open.
    return sum(map(len, cells)) + len(cells) - 1 == len(body)


def _open_at_end(line: str, delimiter: str) -> bool:
    """Whether a quoted cell is open at the end of a line that starts inside one."""
    at = 0
    while True:
        closing = _TO_CLOSING_QUOTE.match(line, at)
        if closing is None:
            return True
        at = line.find(delimiter, closing.end()) + 1
        while at and not line.startswith('"', at):
            at = line.find(delimiter, at) + 1
        if not at:
            return False
        at += 1  # behind the quote that opens


def _header(text: str, newline: str, is_header: IsHeader, source: str, needs: str) -> tuple[str, int, tuple[str, ...]]:
    """Delimiter, number of rows up to and with the header, normalised column names."""
    found = ""
    for delimiter in DELIMITERS:
        stream = io.StringIO(text, newline=newline)
        for number, row in enumerate(islice(split_rows(stream.readline, delimiter), HEADER_ROWS), start=1):
            names = tuple(column(unquote(cell)) for cell in row.cells)
            if is_header(names):
                return delimiter, number, names
            if not found and len(names) > 1:
                found = ", ".join(unquote(cell).strip() for cell in row.cells if cell)
    found = found or text.split(newline, 1)[0].strip()
    raise CatalogueError(
        "missing_column", f"{source}: no header with {needs} in the first {HEADER_ROWS} lines; found {found[:300]}"
    )


def _encoding(sample: bytes) -> tuple[str, str, str]:
    """Codec and error handler of the carrier, and the encoding: utf-8, cp1252, utf-16 or unknown (ASCII so far)."""
    if sample.startswith(codecs.BOM_UTF16_LE):
        return "utf-16-le", "surrogatepass", "utf-16"
    if sample.startswith(codecs.BOM_UTF16_BE):
        return "utf-16-be", "surrogatepass", "utf-16"
    if len(sample) >= 2 and sample[1] == 0 and sample[0]:
        return "utf-16-le", "surrogatepass", "utf-16"
    if len(sample) >= 2 and sample[0] == 0 and sample[1]:
        return "utf-16-be", "surrogatepass", "utf-16"
    if sample.startswith(codecs.BOM_UTF8):
        return "utf-8", "surrogateescape", "utf-8"
    cut = sample if len(sample) < HEAD else sample[:-3]  # a character may be cut at the end
    text = cut.decode("utf-8", "surrogateescape")
    if text.isascii():
        return "utf-8", "surrogateescape", "unknown"
    undecoded = len(_undecoded(text))
    other = len(re.sub(r"[\x00-\x7f]", "", text)) - undecoded
    # A few bad bytes do not make a UTF-8 file a Windows one: most other characters are then sound UTF-8.
    return "utf-8", "surrogateescape", "utf-8" if other > undecoded else "cp1252"


def _undecoded(text: str) -> list[str]:
    return re.findall("[\udc80-\udcff]", text)
