"""Generated Shopify files in every style of CSV: nothing but the images changes, and memory stays flat."""

from __future__ import annotations

import csv
import io
import random
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agpis.catalogue import read, write
from agpis.data import Candidate, Decision, Product

CURRENT = (
    *("Title", "URL handle", "Description", "Type", "SKU", "Option1 value"),
    *("Product image URL", "Image position", "Image alt text", "Variant image URL"),
)
LEGACY = (
    *("Title", "Handle", "Body (HTML)", "Type", "Variant SKU", "Option1 Value"),
    *("Image Src", "Image Position", "Image Alt Text", "Variant Image"),
)
IMAGE_COLUMNS = slice(6, 10)


@dataclass(frozen=True)
class Style:
    header: tuple[str, ...]
    quoting: str
    end: str
    last_end: bool
    bom: bool
    encoding: str
    delimiter: str


STYLES = st.builds(
    Style,
    header=st.sampled_from([CURRENT, LEGACY]),
    quoting=st.sampled_from(["needed", "all", "some"]),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    last_end=st.booleans(),
    bom=st.booleans(),
    encoding=st.sampled_from(["utf-8", "cp1252", "utf-16-le", "utf-16-be"]),
    delimiter=st.sampled_from(",;\t"),
)
WORDS = st.text(alphabet='ab ,;"\t\n\r<é€', max_size=10)
ALTS = st.text(alphabet='ab ,;"é', max_size=6)


@st.composite
def catalogues(draw: st.DrawFn) -> list[list[str]]:
    """Rows of 0 to 4 products: first rows, variants, and rows for an image alone."""
    rows: list[list[str]] = []
    for number in range(draw(st.integers(0, 4))):
        count = draw(st.integers(0, 5))
        images = [[f"https://x.example/{number}, {i}.jpg", str(i + 1), draw(ALTS)] for i in range(count)]
        variants = draw(st.integers(1, 3))
        for place in range(max(count, variants)):
            described = (
                [draw(WORDS), f"item-{number}", draw(WORDS), "Type"] if place == 0 else ["", f"item-{number}", "", ""]
            )
            variant = [f"SKU{place}", "red"] if place < variants else ["", ""]
            image = images[place] if place < count else ["", "", ""]
            shown = draw(st.sampled_from(images))[0] if images and place < variants and draw(st.booleans()) else ""
            rows.append([*described, *variant, *image, shown])
    return rows


def to_shopify(rows: list[list[str]], style: Style, seed: int = 0) -> bytes:
    """The bytes of a file in that style."""
    chance = random.Random(seed)

    def cell(text: str) -> str:
        needed = any(sign in text for sign in (style.delimiter, '"', "\n", "\r"))
        quoted = needed or style.quoting == "all" or (style.quoting == "some" and chance.random() < 0.5)
        return '"' + text.replace('"', '""') + '"' if quoted else text

    lines = [style.delimiter.join(map(cell, row)) for row in [list(style.header), *rows]]
    text = style.end.join(lines) + (style.end if style.last_end else "")
    bom = "\ufeff" if style.bom and style.encoding != "cp1252" else ""
    if style.encoding.startswith("utf-16"):
        bom = "\ufeff"
    return (bom + text).encode(style.encoding)


def cells_of(data: bytes, style: Style) -> list[list[str]]:
    """Rows by the csv module."""
    text = data.decode(style.encoding).removeprefix("\ufeff")
    return list(csv.reader(io.StringIO(text, newline=""), delimiter=style.delimiter))[1:]


def run(data: bytes, decide: Callable[[Product], Decision], only_sequence: bool = False) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "in.csv", Path(folder) / "out.csv"
        source.write_bytes(data)
        write(source, map(decide, read(source, "shopify")), out, format="shopify", only_sequence=only_sequence)
        assert [path.name for path in Path(folder).iterdir() if path.name not in ("in.csv", "out.csv")] == []
        return out.read_bytes()


def as_it_is(product: Product) -> Decision:
    assert product.error is None
    return Decision(product.sku, "generated", sequence=tuple(image.uri for image in product.images[:3]))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=catalogues(), style=STYLES, seed=st.integers(0, 99))
def test_the_same_order_is_the_same_file(rows: list[list[str]], style: Style, seed: int) -> None:
    data = to_shopify(rows, style, seed)
    assert run(data, as_it_is) == data


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=catalogues(), style=STYLES, seed=st.integers(0, 99), only_sequence=st.booleans())
def test_another_order_changes_images_only(rows: list[list[str]], style: Style, seed: int, only_sequence: bool) -> None:
    chance = random.Random(seed)
    expected: dict[str, list[str]] = {}
    removed_of: dict[str, set[str]] = {}

    def shuffled(product: Product) -> Decision:
        uris = [image.uri for image in product.images]
        if not uris:
            return Decision(product.sku, "too_few_images")
        removed = set(chance.sample(uris, chance.randrange(len(uris))))
        left = [uri for uri in uris if uri not in removed]
        sequence = chance.sample(left, chance.randint(1, len(left)))
        spare = [] if only_sequence else [uri for uri in left if uri not in sequence]
        expected[product.sku], removed_of[product.sku] = [*sequence, *spare], removed
        candidates = tuple(Candidate(uri, outcome="removed" if uri in removed else "spare") for uri in uris)
        return Decision(product.sku, "generated", sequence=tuple(sequence), candidates=candidates)

    data = to_shopify(rows, style, seed)
    out = run(data, shuffled, only_sequence)
    new = cells_of(out, style)
    alts = {row[6]: row[8] for row in rows if row[6]}
    for sku, uris in expected.items():
        with_image = [row for row in new if row[1] == sku and row[6]]
        assert [row[6] for row in with_image] == uris
        assert [row[8] for row in with_image] == [alts[uri] for uri in uris]
        old_order = [row[6] for row in rows if row[1] == sku and row[6]]
        assert [row[7] for row in with_image] == [str(i + 1) for i in range(len(uris))] or uris == old_order
        assert not {row[9] for row in new if row[1] == sku} & removed_of[sku]
    image_alone = [not any((row[0], row[2], row[3], row[4], row[5], row[9])) for row in rows]
    for place, row in enumerate(rows):
        image_alone[place] &= place > 0 and rows[place - 1][1] == row[1]
    others = [row[:6] for row, alone in zip(rows, image_alone, strict=True) if not alone]
    assert [row[:6] for row in new if any((row[0], row[2], row[3], row[4], row[5]))] == [
        row for row in others if any((row[0], *row[2:6]))
    ]
    assert out.endswith(style.end.encode(style.encoding)) == style.last_end or not rows
    assert out[:2] == data[:2]


def generated(count: int, path: Path) -> None:
    """A Shopify file of `count` rows, three a product."""
    with path.open("w", newline="") as file:
        file.write(",".join(LEGACY) + "\r\n")
        for number in range(count // 3):
            described = f'"Thing, number {number}",item-{number},"<p class=""x"">text</p>",Type,SKU-{number},S'
            file.write(f"{described},https://cdn.example/{number}-1.jpg,1,alt,\r\n")
            file.write(f",item-{number},,,,,https://cdn.example/{number}-2.jpg,2,,\r\n")
            file.write(f",item-{number},,,,,https://cdn.example/{number}-3.jpg,3,,\r\n")


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    def peak(count: int) -> int:
        path = tmp_path / f"{count}.csv"
        generated(count, path)
        tracemalloc.start()
        try:
            assert sum(1 for _ in read(path, "shopify")) == count // 3
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(300)  # imports and caches
    small, large = peak(20_000), peak(200_000)
    assert large < 1.1 * small + 100_000  # bytes
    assert large < 8_000_000


@pytest.mark.parametrize("format", ["xml", "json"])
def test_memory_does_not_grow_with_a_feed(format: str, tmp_path: Path) -> None:
    def lines(count: int) -> Iterator[str]:
        if format == "xml":
            yield '<rss xmlns:g="http://base.google.com/ns/1.0"><channel>'
            for number in range(count):
                yield f"<item><g:id>{number}</g:id><g:image_link>https://x.example/{number}.jpg</g:image_link></item>\n"
            yield "</channel></rss>"
        else:
            yield '{"messages": ['
            for number in range(count):
                locator = f'"main_product_image_locator": [{{"media_location": "https://x.example/{number}.jpg"}}]'
                yield ("," if number else "") + f'{{"sku": "{number}", "attributes": {{{locator}}}}}\n'
            yield "]}"

    def peak(count: int) -> int:
        path = tmp_path / f"{count}.{format}"
        with path.open("w") as file:
            file.writelines(lines(count))
        tracemalloc.start()
        try:
            assert sum(product.error is None for product in read(path)) == count
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(100)
    small, large = peak(2_000), peak(12_000)
    assert large < 1.1 * small + 100_000  # bytes


def test_a_write_streams_both_sides(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    generated(12_000, path)

    def reversed_(product: Product) -> Decision:
        return Decision(product.sku, "generated", sequence=tuple(image.uri for image in reversed(product.images)))

    tracemalloc.start()
    try:
        write(path, map(reversed_, read(path)), tmp_path / "out.csv")
        assert tracemalloc.get_traced_memory()[1] < 8_000_000  # bytes
    finally:
        tracemalloc.stop()
    assert next(read(tmp_path / "out.csv")).images[0].uri == "https://cdn.example/0-3.jpg"
