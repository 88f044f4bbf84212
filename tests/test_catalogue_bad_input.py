"""Broken catalogues: each gives its code, and every product is there exactly once."""

# ruff: noqa: E501, a case a line reads best

from __future__ import annotations

import contextlib
import errno
import http.server
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from agpis.catalogue import FORMATS, guess, parts, read, write
from agpis.catalogue.files import replacing
from agpis.catalogue.shopify import ROW_LIMIT
from agpis.data import Decision, Product
from agpis.errors import AgpisError, CatalogueError, MissingExtra, OutputError

XML = '<rss xmlns:g="http://base.google.com/ns/1.0"><channel>\n{}\n</channel></rss>'
ITEM = "<item><g:id>{0}</g:id><g:image_link>{0}.jpg</g:image_link></item>"
GOOGLE = "id\ttitle\timage_link\tadditional_image_link\n"
MAGENTO = "sku,name,base_image,additional_images\n"
SHOPIFY = "Handle,Title,Image Src,Image Position\n"
WOO = "ID,Type,SKU,Name,Images\n"
AMAZON = "item_sku\titem_name\tmain_image_url\tother_image_url1\n"


def products(tmp_path: Path, data: str | bytes, format: str | None = None) -> list[Product]:
    """What is read; writing with no sequence must give the same bytes whatever was wrong."""
    path = tmp_path / "catalogue"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    found = list(read(path, format))
    out = tmp_path / "out"
    write(path, (Decision(product.sku, "failed") for product in found), out, format=format)
    assert out.read_bytes() == path.read_bytes()
    assert len({product.sku for product in found}) == len(found)
    return found


LINE_CASES = {
    "jsonl not json": ('{"sku": "A", "images": []}\n{"sku": \n', "jsonl", "line 2", "invalid_json", "line 2: .* at character"),
    "jsonl list": ('{"sku": "A", "images": []}\n[1]\n', "jsonl", "line 2", "invalid_json", "a list instead of an object"),
    "jsonl deep": ('{"sku": "A", "images": []}\n' + "[" * 200_000 + "\n", "jsonl", "line 2", "invalid_json", "line 2"),
    "jsonl no sku": ('{"images": []}\n', "jsonl", "line 1", "missing_sku", "no `sku`; each product needs one"),
    "jsonl empty sku": ('{"sku": "", "images": []}\n', "jsonl", "line 1", "missing_sku", "no `sku`"),
    "jsonl number sku": ('{"sku": 7, "images": []}\n', "jsonl", "line 1", "wrong_type", "`sku` is a number; it must be"),
    "jsonl title": ('{"sku": "A", "title": [], "images": []}', "jsonl", "A", "wrong_type", "`title` is a list; it"),
    "jsonl no images": ('{"sku": "A"}', "jsonl", "A", "missing_images", "no `images`; it must be a list"),
    "jsonl images": ('{"sku": "A", "images": "a.jpg"}', "jsonl", "A", "wrong_type", "`images` is text; it must be a list"),
    "jsonl image": ('{"sku": "A", "images": ["a", 3]}', "jsonl", "A", "wrong_type", "image 2 is a number; it must be"),
    "jsonl no uri": ('{"sku": "A", "images": [{"alt": "a"}]}', "jsonl", "A", "wrong_type", "image 1 is an object; it"),
    "jsonl bytes": (b'{"sku": "A\xff", "images": []}', "jsonl", "line 1", "bad_encoding", "byte 11 is no UTF-8"),
    "jsonl surrogate": ('{"sku": "\\ud800", "images": []}', "jsonl", "line 1", "bad_encoding", "half of a surrogate"),
    "jsonl twice": ('{"sku": "A", "images": []}\n' * 2, "jsonl", "A (line 2)", "duplicate_sku", "'A' stands already at line 1"),
    "shopify handle": (SHOPIFY + ",Mug,a,1\n", "shopify", "line 2", "missing_sku", "line 2: the row has no handle"),
    "shopify width": (SHOPIFY + "a,Mug\n", "shopify", "line 2", "wrong_field_count", "line 2: 2 fields, the header has 4"),
    "shopify first width": (SHOPIFY + "a,Mug\na,,x,1\n", "shopify", "a", "wrong_field_count", "line 2: 2 fields"),
    "shopify later width": (SHOPIFY + "a,Mug,x,1\na,y\na,,z,2\n", "shopify", "a", "wrong_field_count", "line 3: 2 fields"),
    "shopify position": (SHOPIFY + "a,Mug,x,first\n", "shopify", "a", "bad_position", "in line 2 is 'first'; it must be"),
    "shopify nan": (SHOPIFY + "a,Mug,x,nan\n", "shopify", "a", "bad_position", "in line 2 is 'nan'"),
    "shopify quote": (SHOPIFY + 'a,"Mug,x,1\nb,Tee,y,1\n', "shopify", "line 2", "unclosed_quote", "line 2: a quoted cell"),
    "shopify bytes": (
        SHOPIFY.encode() + "a,Té,x,1\n".encode() * 1 + b"b,T\xff,y,1\n" + "c,Tü,z,1\nd,Tö,z,1\n".encode(),
        *("shopify", "line 3", "bad_encoding", "bytes that are no text"),
    ),
    "shopify apart": (
        SHOPIFY + "a,Mug,x,1\nb,Tee,y,1\na,,z,2\n",
        *("shopify", "a (line 4)", "handle_not_contiguous", "line 4: 'a' stands already at line 2; rows of one product"),
    ),
    "shopify rows": (
        SHOPIFY + "a,Mug,x,1\n" * (ROW_LIMIT + 5) + "b,Tee,y,1\n",
        *("shopify", "line 2", "too_many_rows", "more than 20,000 rows of the handle 'a'"),
    ),
    "woo sku": (WOO + ",simple,,Mug,a\n", "woocommerce", "line 2", "missing_sku", "neither SKU nor ID"),
    "woo width": (WOO + "1,simple\n", "woocommerce", "line 2", "wrong_field_count", "2 fields, the header has 5"),
    "woo twice": (WOO + "1,simple,A,,a\n2,simple,A,,b\n", "woocommerce", "A (line 3)", "duplicate_sku", "at line 2; give each"),
    "google sku": (GOOGLE + "\tMug\ta\tb\n", "google_merchant", "line 2", "missing_sku", "the row has no id"),
    "google width": (GOOGLE + "A\tMug\n", "google_merchant", "line 2", "wrong_field_count", "2 fields, the header has 4"),
    "google bytes": (
        GOOGLE.encode("utf-16-le") + b"A\0\t\0\x00\xd8\t\0a\0\t\0b\0\n\0",
        *("google_merchant", "line 2", "bad_encoding", "bytes that are no text"),
    ),
    "xml sku": (XML.format("<item><title>x</title></item>"), "google_merchant", "item 1, line 2", "missing_sku", "no g:id"),
    "xml twice": (XML.format(ITEM.format("A") + "\n" + ITEM.format("A")), "google_merchant", "A (item 2, line 3)", "duplicate_sku", "at item 1, line 2"),
    "xml cut": (XML.format(ITEM.format("A") + "\n<item><g:id>B"), "google_merchant", "item 2, line 4", "bad_xml", "mismatched tag; the feed"),
    "xml ended": (XML[:-16].format(ITEM.format("A")) + "<item>", "google_merchant", "item 2, line 3", "bad_xml", "cannot be read from here on"),
    "amazon sku": (AMAZON + "\tMug\ta\tb\n", "amazon", "line 2", "missing_sku", "the row has no item_sku"),
    "amazon width": (AMAZON + "A\n", "amazon", "line 2", "wrong_field_count", "1 fields, the header has 4"),
    "amazon json sku": ('{"messages": [{"attributes": {}}]}', "amazon", "message 1", "missing_sku", "`sku` is None; it must"),
    "amazon json list": ('{"messages": [[1]]}', "amazon", "message 1", "invalid_json", "a list instead of an object"),
    "amazon json attributes": ('{"messages": [{"sku": "A", "attributes": 3}]}', "amazon", "A", "wrong_type", "type int; it must be an object"),
    "amazon json locator": (
        '{"messages": [{"sku": "A", "attributes": {"main_product_image_locator": "a.jpg"}}]}',
        *("amazon", "A", "wrong_type", "`main_product_image_locator` must be"),
    ),
    "amazon json inside": ('{"messages": [{"sku": "A", "x": tru}, {"sku": "B"}]}', "amazon", "message 1", "invalid_json", "Expecting value"),
    "amazon json cut": ('{"messages": [{"sku": "A"}, {"sku": "B', "amazon", "message 2", "invalid_json", "ends before its brackets"),
    "magento sku": (MAGENTO + ",Mug,a,\n", "magento", "line 2", "missing_sku", "the row has no sku"),
    "magento width": (MAGENTO + "A,Mug\n", "magento", "line 2", "wrong_field_count", "2 fields, the header has 4"),
    "magento bytes": (MAGENTO.encode() + "A,Töpfeß,a,\n".encode() + b"B,\xff,b,\n", "magento", "line 3", "bad_encoding", "no text"),
    "magento twice": (MAGENTO + "A,,a,\nB,,a,\nA,,a,\n", "magento", "A (line 4)", "duplicate_sku", "stands already at line 2"),
}  # fmt: skip


@pytest.mark.parametrize("case", LINE_CASES)
def test_a_bad_line_is_a_product_with_an_error(case: str, tmp_path: Path) -> None:
    data, format, sku, code, message = LINE_CASES[case]
    found = products(tmp_path, data, format)
    (bad,) = [product for product in found if product.error is not None]
    assert bad.error is not None
    assert (bad.sku, bad.error.code) == (sku, code)
    with pytest.raises(ValueError, match=message):
        raise ValueError(bad.error.message)


def test_lines_around_a_bad_one_are_read(tmp_path: Path) -> None:
    assert [product.sku for product in products(tmp_path, SHOPIFY + "a,A,x,1\nzz\nb,B,y,1\n")] == ["a", "line 3", "b"]
    assert [product.sku for product in products(tmp_path, '{"messages": [{"sku": "A"}, 5, [{}], {"sku": "B"}]}')] == [
        *("A", "message 2", "B")
    ]


def test_rows_of_separators_and_empty_lines_are_no_products(tmp_path: Path) -> None:
    text = SHOPIFY + "\na,A,x,1\n,,,\n\nb,B,y,1\n,,,\n"
    assert [product.sku for product in products(tmp_path, text)] == ["a", "b"]
    assert [product.sku for product in products(tmp_path, '\n{"sku": "A", "images": []}\n\n', "jsonl")] == ["A"]


def test_xml_behind_a_mistake_is_kept(tmp_path: Path) -> None:
    good = "\n".join(ITEM.format(f"P{n}") for n in range(3000))  # more than one chunk
    found = products(tmp_path, XML.format(good + "\n<item><g:id>X</g:idd></item>\n" + good))
    assert len(found) == 3001
    assert found[-1].error is not None
    assert found[-1].sku == "item 3001, line 3002"


def test_a_sku_that_comes_again_is_told_apart_even_when_both_are_wrong(tmp_path: Path) -> None:
    found = products(tmp_path, SHOPIFY + "a,A,x,one\nb,B,y,1\na,A,x,two\na,A,x,3\nc,C,z,1\na,A,x,1\n")
    assert [product.sku for product in found] == ["a", "b", "a (line 4)", "c", "a (line 7)"]
    assert [product.error and product.error.code for product in found] == [
        *("bad_position", None, "bad_position", None, "handle_not_contiguous")
    ]


def test_a_magento_image_that_is_no_text(tmp_path: Path) -> None:
    header = b"sku,name,base_image,small_image,additional_images\n"
    (bad,) = products(tmp_path, header + "A,Tö,a,b\x81,c\n".encode("latin-1"), "magento")
    assert bad.error is not None
    assert bad.error.code == "bad_encoding"


def test_parquet_text_that_is_no_utf8(tmp_path: Path) -> None:
    path = tmp_path / "c.parquet"
    skus = pa.array([b"A", b"\xff", b"C"]).view(pa.string())
    pq.write_table(pa.table({"sku": skus, "images": [["a", "b"]] * 3}), path)
    assert [(product.sku, product.error and product.error.code) for product in read(path)] == [
        *(("A", None), ("row 2", "bad_encoding"), ("C", None))
    ]
    decisions = [Decision("A", "failed"), Decision("row 2", "failed"), Decision("C", "generated", sequence=("b",))]
    write(path, decisions, path)
    assert [[image.uri for image in product.images] for product in read(path)] == [["a", "b"], [], ["b", "a"]]


def test_empty_xml_elements_end_where_they_end(tmp_path: Path) -> None:
    text = XML.format('<item/><item note="a>b" /><item><g:id>A</g:id><g:image_link/><x/></item>' + ITEM.format("B"))
    assert [product.sku for product in products(tmp_path, text)] == ["item 1, line 2", "item 2, line 2", "A", "B"]
    (tmp_path / "cut.xml").write_text(XML[:-21].format("<item><g:id>A</g:id><g:image_link/><"))
    with pytest.raises(CatalogueError, match="unclosed token"):
        list(read(tmp_path / "cut.xml"))


def test_an_xml_encoding_that_nobody_knows(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match="unknown encoding: klingon; the feed must be well-formed") as caught:
        products(tmp_path, '<?xml version="1.0" encoding="klingon"?><rss></rss>')
    assert caught.value.code == "bad_xml"


def test_an_xml_bomb_is_refused(tmp_path: Path) -> None:
    bomb = '<!DOCTYPE r [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><rss><item><id>&b;</id></item></rss>'
    with pytest.raises(CatalogueError, match="it declares entities, which a product feed does not need") as caught:
        products(tmp_path, bomb)
    assert caught.value.code == "bad_xml"


def parquet_bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return bytes(sink.getvalue())


PARQUET = parquet_bytes(pa.table({"sku": ["A"] * 500, "images": [["a", "b"]] * 500}))
WHOLE_CASES = {
    "empty": (b"", "empty_catalogue", "is empty; a catalogue holds at least one product"),
    "blank": (b"\xef\xbb\xbf \r\n", "empty_catalogue", "is empty"),
    "gzip": (b"\x1f\x8b\x08\0", "compressed", "is gzip; unpack it"),
    "excel": (b"PK\x03\x04abc", "compressed", "a zip archive or an Excel workbook; unpack it, or save the sheet as CSV"),
    "old excel": (b"\xd0\xcf\x11\xe0abc", "compressed", "an Excel workbook"),
    "unknown csv": (b"a,b,c\n1,2,3\n", "unknown_format", "found a, b, c. Formats: folder: .* Or name the format"),
    "text": (b"hello\n", "unknown_format", "found hello"),
    "picture": (b"\x89PNG\r\n\x1a\n\0\0", "unknown_format", "Formats: folder"),
    "json array": (b'[{"sku": 1}]', "unknown_format", "is one JSON array; write one product a line"),
    "html": (b"<html><body>Not found</body></html>", "unknown_format", "root <html>; a Google feed has <rss> or <feed>"),
    "bad html": (b"<html><br></html>", "bad_xml", "line 1: mismatched tag; the feed must be well-formed"),
    "parquet cut": (PARQUET[:200], "bad_parquet", "is no readable Parquet file"),
    "parquet hole": (PARQUET[:10] + b"\xff" * 60 + PARQUET[70:], "bad_parquet", "is damaged"),
    "parquet columns": (parquet_bytes(pa.table({"id": [1]})), "missing_column", "no column sku or images; found id"),
    "parquet images": (parquet_bytes(pa.table({"sku": ["A"], "images": ["a"]})), "bad_parquet", "`images` is string; it must"),
    "parquet title": (parquet_bytes(pa.table({"sku": ["A"], "title": [1], "images": [["a"]]})), "bad_parquet", "`title` is int64"),
}  # fmt: skip


@pytest.mark.parametrize("case", WHOLE_CASES)
def test_a_file_that_is_no_catalogue(case: str, tmp_path: Path) -> None:
    data, code, message = WHOLE_CASES[case]
    with pytest.raises(CatalogueError, match=message) as caught:
        products(tmp_path, data)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("format", "data", "message"),
    [
        (
            "shopify",
            "a,b\n",
            "no header with `URL handle` and `Product image URL` .or `Handle` and `Image Src`.*found a, b",
        ),
        ("woocommerce", "a,b\n", "no header with `Images`, `Type` and `SKU` or `ID`"),
        ("google_merchant", "a\tb\n", "no header with `id` and `image_link`"),
        ("amazon", "a\tb\n", "no header with `item_sku` and `main_image_url`"),
        ("magento", "a,b\n", "no header with `sku` and `base_image` or `additional_images`"),
    ],
)
def test_a_named_format_without_its_columns(format: str, data: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match=message) as caught:
        products(tmp_path, data, format)
    assert caught.value.code == "missing_column"


def test_parquet_rows(tmp_path: Path) -> None:
    rows = [{"sku": sku, "images": images} for sku, images in [("A", ["a"]), (None, ["a"]), ("A", []), ("B", None)]]
    path = tmp_path / "c.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    found = list(read(path))
    assert [product.sku for product in found] == ["A", "row 2", "A (row 3)", "B"]
    assert [product.error and product.error.code for product in found] == [
        *(None, "missing_sku", "duplicate_sku", "missing_images")
    ]
    pq.write_table(pa.table({"sku": [7], "images": [[{"uri": "a", "alt": "x"}, {"uri": "b", "alt": None}]]}), path)
    write(path, [Decision("7", "generated", sequence=("b",))], path)
    (product,) = read(path)
    assert [(image.uri, image.alt) for image in product.images] == [("b", ""), ("a", "x")]


def test_folder_mistakes(tmp_path: Path) -> None:
    for name, text in (("a", "{"), ("b", '{"title": 3}'), ("c", '{"sku": "d"}'), ("d", "{}")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "product.json").write_text(text)
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "title.txt").write_bytes(b"T\xff")
    found = list(read(tmp_path))
    assert [product.sku for product in found] == ["a", "b", "d", "d (folder d)", "e"]
    errors = [product.error and product.error.code for product in found]
    assert errors == ["invalid_json", "wrong_type", None, "duplicate_sku", "bad_encoding"]


def test_unknown_format_name_and_missing_source(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match=f"there is no format 'etsy'; allowed are {', '.join(FORMATS)}") as caught:
        read(tmp_path, "etsy")
    assert caught.value.code == "unknown_format"
    with pytest.raises(CatalogueError, match=r"nothing\.csv does not exist; give a file, a folder or a URL") as caught:
        guess(tmp_path / "nothing.csv")
    assert caught.value.code == "source_not_found"
    with pytest.raises(CatalogueError, match="cannot be read: IsADirectoryError") as caught:
        list(read(tmp_path, "jsonl"))
    assert caught.value.code == "source_unreadable"
    with pytest.raises(CatalogueError, match="is no folder; the format `folder` reads"):
        list(read(tmp_path / "x", "folder"))
    with pytest.raises(
        CatalogueError, match="has the protocol 'ftp'; allowed are a path and file, http, https, s3, gs"
    ) as caught:
        read("ftp://x.example/a.csv")
    assert caught.value.code == "source_protocol"


def test_a_bucket_without_its_package() -> None:
    for url, package, extra in (("s3://b/c.csv", "s3fs", "s3"), ("gs://b/c.csv", "gcsfs", "gs")):
        with contextlib.suppress(ImportError):
            __import__(package)
            continue
        with pytest.raises(MissingExtra, match=rf"{package}.*pip install 'agpis\[{extra}\]'"):
            read(url)


# --- decisions ----------------------------------------------------------------------------------------------------


def two(tmp_path: Path) -> Path:
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps({"sku": sku, "images": ["a", "b"]}) + "\n" for sku in "AB"))
    return path


@pytest.mark.parametrize(
    ("decisions", "code", "message"),
    [
        (
            [Decision("B", "failed")],
            "decision_mismatch",
            "decision 1 is for 'B', the catalogue has 'A' there; decisions must",
        ),
        (
            [Decision("A", "failed")],
            "decisions_missing",
            "there are 1 decisions, and the catalogue goes on with 'B'; give",
        ),
        (
            [Decision(sku, "failed") for sku in "ABC"],
            "decisions_surplus",
            "ends after 2 products, and a decision for 'C'",
        ),
        (
            [Decision("A", "generated", sequence=("x",))],
            "decision_mismatch",
            "the decision for 'A' names the image 'x'; the catalogue has 'a', 'b'",
        ),
    ],
)
def test_decisions_that_do_not_fit(decisions: list[Decision], code: str, message: str, tmp_path: Path) -> None:
    source, out = two(tmp_path), tmp_path / "out.jsonl"
    out.write_text("old")
    with pytest.raises(CatalogueError, match=message) as caught:
        write(source, decisions, out)
    assert caught.value.code == code
    assert out.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]


def test_partial_leaves_the_rest(tmp_path: Path) -> None:
    source = two(tmp_path)
    write(source, [Decision("A", "generated", sequence=("b", "a"))], source, partial=True)
    assert [[image.uri for image in product.images] for product in read(source)] == [["b", "a"], ["a", "b"]]


def test_an_image_listed_twice_is_one_candidate(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text('{"sku": "A", "images": ["a", "b", "a"]}\n')
    (product,) = read(path)
    assert [image.uri for image in product.images] == ["a", "b"]
    write(path, [Decision("A", "generated", sequence=("a", "b"))], path)
    assert path.read_text() == '{"sku": "A", "images": ["a", "b", "a"]}\n'
    write(path, [Decision("A", "generated", sequence=("b", "a"))], path)
    assert path.read_text() == '{"sku": "A", "images": ["b", "a"]}\n'


# --- outputs and servers ------------------------------------------------------------------------------------------


def test_an_output_that_cannot_be_written(tmp_path: Path) -> None:
    source = two(tmp_path)
    decisions = [Decision("A", "failed"), Decision("B", "failed")]
    with pytest.raises(OutputError, match="Make its folder first") as caught:
        write(source, decisions, tmp_path / "no" / "out.jsonl")
    assert caught.value.code == "no_folder"
    with pytest.raises(OutputError, match="http is read only; give a path, s3:// or gs://"):
        write(source, decisions, "http://127.0.0.1/out.jsonl")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="Choose another place") as caught:
        write(source, decisions, tmp_path / "folder")
    assert caught.value.code == "not_a_folder"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "in.jsonl"]


def test_a_full_disk(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    temporary = tmp_path / f".out.jsonl.{os.getpid()}.part"

    def stands_on_a_full_device() -> None:
        with replacing(str(tmp_path / "out.jsonl")) as sink:
            os.dup2(os.open("/dev/full", os.O_WRONLY), sink._file.fileno())
            sink.write(b"x" * 1_000_000)

    with pytest.raises(OutputError, match=f"{os.strerror(errno.ENOSPC)}. Free some space") as caught:
        stands_on_a_full_device()
    assert caught.value.code == "disk_full"
    assert not temporary.exists()


def test_a_read_only_folder(tmp_path: Path) -> None:
    source = two(tmp_path)
    shut = tmp_path / "shut"
    shut.mkdir(mode=0o500)
    place = Path("/sys") if os.geteuid() == 0 else shut  # root may write everywhere but there
    with pytest.raises(OutputError, match="Choose another place") as caught:
        write(source, [Decision("A", "failed")], place / "agpis-out.jsonl")
    assert caught.value.code == "not_writable"


def test_what_a_killed_process_left_is_replaced(tmp_path: Path) -> None:
    source = two(tmp_path)
    (tmp_path / f".out.jsonl.{os.getpid()}.part").write_text("half")
    write(source, [Decision("A", "failed"), Decision("B", "failed")], tmp_path / "out.jsonl")
    assert (tmp_path / "out.jsonl").read_bytes() == source.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]


def test_a_full_temporary_folder() -> None:
    seen = parts._Seen()
    seen._db.execute("PRAGMA max_page_count=3")
    with pytest.raises(CatalogueError, match="temporary file: database or disk is full; free some space") as caught:
        any(seen.first(str(number), "line") for number in range(10_000))
    seen.close()
    assert caught.value.code == "no_scratch"


@pytest.fixture
def server() -> Iterator[str]:
    """A server whose paths misbehave: /ok.jsonl, /moved, /loop, /cut, /500, anything else 404."""
    body = b"".join(b'{"sku": "%d", "images": ["i/%d.jpg"]}\n' % (n, n) for n in range(5000))

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path in ("/moved", "/loop"):
                self.send_response(302)
                self.send_header("Location", "/shop/ok.jsonl" if self.path == "/moved" else "/loop")
                self.end_headers()
                return
            code = {"/shop/ok.jsonl": 200, "/cut": 200, "/500": 500}.get(self.path, 404)
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(body if self.path == "/shop/ok.jsonl" else body[:100_000])

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()
        thread.join()


def test_over_http(server: str, tmp_path: Path) -> None:
    found = list(read(f"{server}/shop/ok.jsonl"))
    assert len(found) == 5000
    assert found[0].images[0].location == f"{server}/shop/i/0.jpg"
    assert len(list(read(f"{server}/moved"))) == 5000
    out = tmp_path / "out.jsonl"
    write(f"{server}/shop/ok.jsonl", (Decision(product.sku, "failed") for product in found), out)
    assert list(read(out))[4999].sku == "4999"


@pytest.mark.parametrize(
    ("path", "code", "message"),
    [
        ("/nothing", "source_not_found", "answers 404: there is no such file"),
        ("/500", "source_unreadable", "answers 500, expected 200"),
        ("/loop", "source_unreadable", "cannot be read: TooManyRedirects"),
        ("/cut", "source_unreadable", "broke off while reading"),
    ],
)
def test_a_misbehaving_server(path: str, code: str, message: str, server: str) -> None:
    with pytest.raises(CatalogueError, match=message) as caught:
        list(read(server + path))
    assert caught.value.code == code


def test_no_server() -> None:
    with pytest.raises(CatalogueError, match="cannot be read: ConnectError") as caught:
        read("http://127.0.0.1:9/a.csv")
    assert caught.value.code == "source_unreadable"


def test_in_a_bucket() -> None:
    """fsspec's memory file system stands for s3 and gs: the same code, no network."""
    import fsspec

    bucket = fsspec.filesystem("memory")
    bucket.pipe("/shop/in.jsonl", b'{"sku": "A", "images": ["a.jpg", "b.jpg"]}\n')
    bucket.pipe("/photos/P1/2.jpg", b"")
    bucket.pipe("/photos/P1/10.jpg", b"")
    (product,) = read("memory://shop/in.jsonl")
    assert product.images[0].location == "memory://shop/a.jpg"
    write("memory://shop/in.jsonl", [Decision("A", "generated", sequence=("b.jpg",))], "memory://shop/out.jsonl")
    assert bucket.cat("/shop/out.jsonl") == b'{"sku": "A", "images": ["b.jpg", "a.jpg"]}\n'
    with pytest.raises(AgpisError):
        write("memory://shop/in.jsonl", [], "memory://shop/other.jsonl")
    assert sorted(bucket.ls("/shop", detail=False)) == ["/shop/in.jsonl", "/shop/out.jsonl"]
    (photos,) = read("memory://photos")
    assert photos.sku == "P1"
    assert [image.location for image in photos.images] == ["memory://photos/P1/2.jpg", "memory://photos/P1/10.jpg"]
