"""The CSV tokenizer: loses no byte, agrees with the csv module, goes on behind a mistake."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agpis.catalogue.csv_text import RECORD_LIMIT, Row, Table, split_rows, unquote
from agpis.errors import CatalogueError

TEXT = st.text(alphabet='ab"",;\t\n é€|', max_size=12)
ANY = st.text(alphabet='ab"",\n é', max_size=60)


def rows_of(text: str, delimiter: str = ",") -> list[Row]:
    return list(split_rows(io.StringIO(text, newline="\n").readline, delimiter))


@given(
    table=st.lists(st.lists(TEXT, min_size=2, max_size=4), max_size=5),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    delimiter=st.sampled_from(",;\t|"),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_agrees_with_the_csv_module(
    table: list[list[str]], quoting: Literal[0, 1, 2], delimiter: str, end: str
) -> None:
    out = io.StringIO(newline="")
    csv.writer(out, quoting=quoting, delimiter=delimiter, lineterminator=end).writerows(table)
    rows = rows_of(out.getvalue(), delimiter)
    assert [[unquote(cell) for cell in row.cells] for row in rows] == table
    assert "".join(delimiter.join(row.cells) + row.end for row in rows) == out.getvalue()


@given(ANY)
def test_any_text_comes_back_whole(text: str) -> None:
    rows = rows_of(text)
    assert "".join(",".join(row.cells) + row.end for row in rows) == text
    lines = [row.line for row in rows]
    assert lines == sorted(set(lines))
    assert lines[:1] in ([], [1])


def test_line_numbers_count_physical_lines() -> None:
    rows = rows_of('a,b\n"x\ny",1\nc,d\n')
    assert [(row.line, row.place) for row in rows] == [(1, "line 1"), (2, "line 2"), (4, "line 4")]


def test_a_quote_inside_an_unquoted_cell_is_itself() -> None:
    (row,) = rows_of('A 5" mug,x\n')
    assert [unquote(cell) for cell in row.cells] == ['A 5" mug', "x"]


def test_an_unclosed_quote_costs_one_line() -> None:
    rows = rows_of('a,"b\nc,d\ne,f\n')
    assert [row.cells for row in rows[1:]] == [["c", "d"], ["e", "f"]]
    assert rows[0].error is not None
    assert rows[0].error.code == "unclosed_quote"
    assert "line 1: a quoted cell is never closed" in rows[0].error.message


def test_an_unclosed_quote_does_not_swallow_the_file() -> None:
    line = "x" * 1000 + ",y\n"
    count = 2 * RECORD_LIMIT // len(line)
    served = iter(['a,"b\n', *[line] * count])
    rows = split_rows(lambda: next(served, ""), ",")
    first = next(rows)
    assert first.error is not None
    assert next(rows).line == 2
    assert sum(1 for _ in served) > count // 3  # what is behind the limit was not read yet


def table_of(tmp_path: Path, data: bytes) -> Table:
    path = tmp_path / "t.csv"
    path.write_bytes(data)
    return Table(str(path), lambda names: "sku" in names, "`sku`")


@pytest.mark.parametrize(
    ("data", "value"),
    [
        ("sku,title\n1,Té €\n".encode(), "Té €"),
        (b"\xef\xbb\xbf" + "sku,title\n1,Té €\n".encode(), "Té €"),
        ("\ufeffsku,title\n1,Té €\n".encode("utf-16-le"), "Té €"),
        ("\ufeffsku,title\r\n1,Té €\r\n".encode("utf-16-be"), "Té €"),
        ("sku,title\n1,Té €\n".encode("utf-16-le"), "Té €"),
        ("sku,title\n1,Té €\n".encode("utf-16-be"), "Té €"),
        ("sku,title\n1,Té €\n".encode("cp1252"), "Té €"),
        (b"sku;title\r1;plain\r", "plain"),
    ],
)
def test_encodings(tmp_path: Path, data: bytes, value: str) -> None:
    table = table_of(tmp_path, data)
    head, rows = table.head_and_rows()
    (row,) = rows
    assert table.value(row.cells[1]) == value
    assert head + table.raw([row]) == data


def test_the_first_letter_beyond_the_head_decides_between_utf8_and_windows(tmp_path: Path) -> None:
    filler = b"1,plain\n" * 40_000
    for encoding in ("utf-8", "cp1252"):
        table = table_of(tmp_path, b"sku,title\n" + filler + "2,Té\n3,Möbel\n".encode(encoding))
        _, rows = table.head_and_rows()
        *_, last_but_one, last = rows
        assert [table.value(row.cells[1]) for row in (last_but_one, last)] == ["Té", "Möbel"]


def test_one_bad_byte_does_not_make_a_utf8_file_a_windows_one(tmp_path: Path) -> None:
    table = table_of(tmp_path, "sku,title\n1,Té\n2,Möbel\n3,T".encode() + b"\xe9\n")
    _, rows = table.head_and_rows()
    first, _, bad = rows
    assert table.value(first.cells[1]) == "Té"
    with pytest.raises(UnicodeError):
        table.value(bad.cells[1])


def test_truncated_utf16(tmp_path: Path) -> None:
    table = table_of(tmp_path, "\ufeffsku,title\n1,abc".encode("utf-16-le")[:-1])
    _, rows = table.head_and_rows()
    with pytest.raises(CatalogueError, match=r"is no utf-16-le text to its end.*save it as UTF-8") as caught:
        list(rows)
    assert caught.value.code == "bad_encoding"


def test_a_row_of_another_width(tmp_path: Path) -> None:
    table = table_of(tmp_path, b"sku,title\n1\n\n1,2,3\n1,2\n")
    _, rows = table.head_and_rows()
    short, blank, long, good = rows
    assert short.error is not None
    assert short.error.message.startswith("line 2: 1 fields, the header has 2; quote cells")
    assert blank.blank
    assert long.error is not None
    assert long.error.code == "wrong_field_count"
    assert good.error is None


@pytest.mark.parametrize(
    ("old", "value", "new"),
    [
        ("a", "b", "b"),
        ('"a"', "b", '"b"'),
        ("a", "b,c", '"b,c"'),
        ("a", 'b"c', '"b""c"'),
        ("a", "b\nc", '"b\nc"'),
        ('"a"', "a", '"a"'),
        ('"a"', "", '""'),
        ("a", "", ""),
    ],
)
def test_a_changed_cell_is_quoted_as_the_old_one_or_where_needed(
    tmp_path: Path, old: str, value: str, new: str
) -> None:
    cells = [old, "x"]
    table_of(tmp_path, b"sku,title\n").put(cells, 0, value)
    assert cells == [new, "x"]


def test_no_header(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match="no header with `sku` in the first 10 lines; found a, b") as caught:
        table_of(tmp_path, b"a,b\n1,2\n")
    assert caught.value.code == "missing_column"
    with pytest.raises(CatalogueError, match="is empty; it must hold at least a header line") as caught:
        table_of(tmp_path, b"\xef\xbb\xbf\r\n")
    assert caught.value.code == "empty_catalogue"
