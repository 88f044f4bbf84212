"""Every format on its sample: guessed, read, left as it is, and written with another order."""

from __future__ import annotations

import csv
import io
import json
import random
import re
import runpy
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from agpis.catalogue import CODES, FORMATS, guess, read, write
from agpis.data import Candidate, Decision, Product, Status

HERE = Path(__file__).parent / "data" / "catalogue"
DOCS = Path(__file__).parent.parent / "docs" / "catalogues.md"
SAMPLES = {
    "amazon.json": "amazon",
    "amazon.jsonl": "amazon",
    "amazon.txt": "amazon",
    "folder": "folder",
    "google_merchant.txt": "google_merchant",
    "google_merchant.xml": "google_merchant",
    "jsonl.jsonl": "jsonl",
    "magento.csv": "magento",
    "parquet.parquet": "parquet",
    "shopify.csv": "shopify",
    "shopify_legacy.csv": "shopify",
    "woocommerce.csv": "woocommerce",
}
FILES = [name for name in SAMPLES if name != "folder"]
U = "https://shop.example/img/"


def kept(product: Product) -> Decision:
    """The order as it is, all images."""
    uris = tuple(image.uri for image in product.images)
    return Decision(product.sku, "generated", sequence=uris[:2], candidates=tuple(map(Candidate, uris)))


def moved(product: Product) -> Decision:
    """The last image first, then the first; the second of three or more is a removed copy of the last."""
    uris = tuple(image.uri for image in product.images)
    if len(uris) < 2:
        return Decision(product.sku, "too_few_images", candidates=tuple(map(Candidate, uris)))
    copy = uris[1] if len(uris) > 2 else None
    candidates = (
        Candidate(uri, outcome="removed", duplicate_of=uris[-1]) if uri == copy else Candidate(uri) for uri in uris
    )
    return Decision(product.sku, "generated", sequence=(uris[-1], uris[0]), candidates=tuple(candidates))


def after(uris: list[str], only_sequence: bool) -> list[str]:
    """What `moved` must leave, said once more."""
    if len(uris) < 2:
        return uris
    return [uris[-1], uris[0]] + ([] if only_sequence else uris[2:-1])


def galleries(source: Path) -> dict[str, list[str]]:
    return {product.sku: [image.uri for image in product.images] for product in read(source)}


def test_every_format_has_a_sample_and_is_described() -> None:
    assert set(SAMPLES.values()) == set(FORMATS)
    assert {path.name for path in HERE.iterdir() if not path.name.startswith(".")} == set(SAMPLES)
    text = DOCS.read_text(encoding="utf-8")
    for name in FORMATS:
        assert f"`{name}`\n" in text, f"docs/catalogues.md has no heading for {name}"
    for code, meaning in CODES.items():
        assert f"| `{code}` | {meaning} |" in text


def test_every_code_is_given_somewhere_and_tested() -> None:
    package = Path(guess.__code__.co_filename).parent
    sources = "".join(path.read_text(encoding="utf-8") for path in package.glob("*.py") if path.name != "parts.py")
    sources += (package / "parts.py").read_text(encoding="utf-8").partition("_SEEN_CACHE")[2]
    tests = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_catalogue*.py"))
    given = set(re.findall(r'"([a-z]+(?:_[a-z0-9]+)+)"', sources)) | {"compressed"}
    assert set(CODES) <= given
    assert [code for code in CODES if f'"{code}"' not in tests] == []


@pytest.mark.parametrize(("name", "format"), SAMPLES.items())
def test_guess(name: str, format: str) -> None:
    assert guess(HERE / name) == format
    assert list(read(HERE / name)) == list(read(HERE / name, format))


@pytest.mark.parametrize("name", SAMPLES)
def test_read(name: str) -> None:
    products = list(read(HERE / name))
    assert [product.error for product in products] == [None] * len(products)
    mug, tee = products[0], products[1]
    assert mug.sku.upper() == "MUG-01"
    assert mug.title == ('Mug "big", blue' if name == "amazon.txt" else "Mug, blue")
    assert tee.title.startswith(("Té", "Te"))
    assert len(mug.images) == (3 if name in ("amazon.txt", "folder") else 4)
    assert len(tee.images) == 2
    assert name == "folder" or (products[2].title in ("Cap", "") and len(products[2].images) == 1)
    assert {image.base for product in products for image in product.images} == {
        str(HERE / name if name == "folder" else HERE)
    }


@pytest.mark.parametrize("name", FILES)
def test_the_same_order_gives_the_same_bytes(name: str, tmp_path: Path) -> None:
    out = tmp_path / name
    write(HERE / name, map(kept, read(HERE / name)), out)
    assert out.read_bytes() == (HERE / name).read_bytes()


@pytest.mark.parametrize("status", ["below_threshold", "no_primary", "too_few_images", "failed", "generated"])
@pytest.mark.parametrize("name", FILES)
def test_no_sequence_leaves_the_product_as_it_is(name: str, status: Status, tmp_path: Path) -> None:
    out = tmp_path / name
    write(HERE / name, (Decision(product.sku, status) for product in read(HERE / name)), out)
    assert out.read_bytes() == (HERE / name).read_bytes()


@pytest.mark.parametrize("only_sequence", [False, True])
@pytest.mark.parametrize("name", SAMPLES)
def test_another_order(name: str, only_sequence: bool, tmp_path: Path) -> None:
    out = tmp_path / name
    write(HERE / name, map(moved, read(HERE / name)), out, only_sequence=only_sequence)
    expected = {sku: after(uris, only_sequence) for sku, uris in galleries(HERE / name).items()}
    found = galleries(out)
    if name == "folder":
        assert {
            sku: [(tmp_path / uri).resolve().relative_to(HERE / name).as_posix() for uri in uris]
            for sku, uris in found.items()
        } == expected
    elif name == "google_merchant.txt":  # a comma that moves into the list is encoded
        assert found["MUG-01"] == [uri.replace("mug-1,a", "mug-1%2Ca") for uri in expected["MUG-01"]]
        assert found["TEE-02"] == expected["TEE-02"]
    else:
        assert found == expected


@pytest.mark.parametrize("only_sequence", [False, True])
@pytest.mark.parametrize("name", FILES)
def test_any_order(name: str, only_sequence: bool, tmp_path: Path) -> None:
    chance = random.Random(7)
    for _ in range(30):
        expected: list[list[str]] = []
        decisions: list[Decision] = []
        for product in read(HERE / name):
            uris = [image.uri for image in product.images]
            removed = set(chance.sample(uris, chance.randrange(len(uris))))
            left = [uri for uri in uris if uri not in removed]
            sequence = chance.sample(left, chance.randint(1, len(left)))
            spare = [] if only_sequence else [uri for uri in left if uri not in sequence]
            candidates = tuple(Candidate(uri, outcome="removed" if uri in removed else "spare") for uri in uris)
            decisions.append(Decision(product.sku, "generated", sequence=tuple(sequence), candidates=candidates))
            gallery = [*sequence, *spare]
            if name == "google_merchant.txt":  # a comma that moves into the list is encoded
                gallery[1:] = [uri.replace(",", "%2C") for uri in gallery[1:]]
            expected.append(gallery)
        out = tmp_path / name
        write(HERE / name, decisions, out, only_sequence=only_sequence)
        assert list(galleries(out).values()) == expected
        assert guess(out) == SAMPLES[name]


@pytest.mark.parametrize("name", ["shopify.csv", "shopify_legacy.csv", "magento.csv", "jsonl.jsonl"])
def test_alternative_texts_move_with_their_image(name: str, tmp_path: Path) -> None:
    def alts(path: Path) -> dict[str, str]:
        return {image.uri: image.alt for product in read(path) for image in product.images}

    out = tmp_path / name
    write(HERE / name, map(moved, read(HERE / name)), out)
    before, now = alts(HERE / name), alts(out)
    assert any(before.values())
    assert now == {uri: before[uri] for uri in now}


@pytest.mark.parametrize(
    ("name", "delimiter", "encoding", "changeable"),
    [
        ("shopify.csv", ",", "utf-8-sig", {9, 10, 11, 12}),
        ("shopify_legacy.csv", ",", "utf-8", {6, 7, 8, 9}),
        ("woocommerce.csv", ",", "utf-8", {7}),
        ("google_merchant.txt", "\t", "utf-8", {4, 5}),
        ("amazon.txt", "\t", "cp1252", {3, 4, 5, 6}),
        ("magento.csv", ",", "utf-8", set(range(6, 16))),
    ],
)
def test_only_image_columns_change(
    name: str, delimiter: str, encoding: str, changeable: set[int], tmp_path: Path
) -> None:
    def other_cells(path: Path) -> list[list[str]]:
        rows = csv.reader(io.StringIO(path.read_bytes().decode(encoding), newline=""), delimiter=delimiter)
        found = [[cell for place, cell in enumerate(row) if place not in changeable] for row in rows]
        return [row for row in found if sum(map(bool, row)) > 1]  # without rows that carry an image alone

    out = tmp_path / name
    write(HERE / name, map(moved, read(HERE / name)), out)
    assert out.read_bytes() != (HERE / name).read_bytes()
    assert other_cells(out) == other_cells(HERE / name)


def test_shopify_rows_and_variants(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    write(HERE / "shopify.csv", map(moved, read(HERE / "shopify.csv")), out)
    source, text = ((HERE / "shopify.csv").read_bytes().decode(), out.read_bytes().decode())
    assert f'9.90,{U}mug-4.jpg,1,"Detail",{U}mug-4.jpg,Active\r\n' in text  # the variant's picture was a copy of mug-4
    assert f'11.90,{U}mug-1.jpg?v=1,2,"Mug, front",{U}mug-4.jpg,\r\n' in text
    assert f",mug-01,,,,,,,,{U}mug-3.jpg,3,,,\r\n" in text
    assert len(text.splitlines()) == len(source.splitlines()) - 1
    assert text.startswith("\ufeffTitle,URL handle,Description")


def test_shopify_variant_of_a_removed_picture_that_is_no_copy(tmp_path: Path) -> None:
    def blurred(product: Product) -> Decision:
        uris = [image.uri for image in product.images]
        removed = tuple(Candidate(uri, outcome="removed", reason="blur") for uri in uris[1:2])
        return Decision(product.sku, "generated", sequence=tuple(uris[:1]), candidates=removed)

    out = tmp_path / "out.csv"
    write(HERE / "shopify.csv", map(blurred, read(HERE / "shopify.csv")), out)
    text = out.read_bytes().decode()
    assert f'9.90,{U}mug-1.jpg?v=1,1,"Mug, front",,Active\r\n' in text
    assert f"11.90,{U}mug-3.jpg,2,,,\r\n" in text
    assert "mug-2.jpg" not in text


def test_shopify_empties_the_image_cells_of_a_variant_row_last(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"

    def one(product: Product) -> Decision:
        return Decision(product.sku, "generated", sequence=(product.images[-1].uri,))

    write(HERE / "shopify.csv", map(one, read(HERE / "shopify.csv")), out, only_sequence=True)
    text = out.read_bytes().decode()
    assert f",mug-01,,,,MUG-01-L,Size,L,11.90,,,,{U}mug-2.jpg,\r\n" in text  # spare: the variant keeps it
    assert text.count(",mug-01,") == 2


def test_shopify_legacy_keeps_the_missing_last_line_end(tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    lines = (HERE / "shopify_legacy.csv").read_bytes().split(b"\n")[:5]  # the last line carries an image alone
    source.write_bytes(b"\n".join(lines))
    write(source, map(moved, read(source)), source)
    text = source.read_bytes()
    assert text.count(b"\n") == 3
    assert text.endswith(b'"3","",""')


def test_google_xml_stays_well_formed_and_equal_elsewhere(tmp_path: Path) -> None:
    def rest(path: Path) -> str:
        root = ET.fromstring(path.read_bytes())
        for item in root.iter("item"):
            for child in list(item):
                if child.tag.endswith("image_link"):
                    item.remove(child)
        return "".join(line.strip() for line in ET.tostring(root, encoding="unicode").split("\n"))

    name = "google_merchant.xml"
    out = tmp_path / name
    write(HERE / name, map(moved, read(HERE / name)), out)
    assert rest(out) == rest(HERE / name)
    text = out.read_text(encoding="utf-8")
    assert f"<g:additional_image_link>{U}mug-1.jpg?a=1&amp;b=2</g:additional_image_link>" in text
    assert "<!-- exported by hand -->" in text
    assert "note=" not in text  # the element that was left over


def test_amazon_json_moves_whole_locators(tmp_path: Path) -> None:
    for name in ("amazon.json", "amazon.jsonl"):
        out = tmp_path / name
        write(HERE / name, map(moved, read(HERE / name)), out)
        text = out.read_text(encoding="utf-8")
        mug = json.loads(text)["messages"][0] if name == "amazon.json" else json.loads(text.split("\n")[0])
        assert mug["attributes"]["main_product_image_locator"] == [
            {"media_location": U + "mug-4.jpg", "marketplace_id": "ATVPDKIKX0DER"}
        ]
        assert "other_product_image_locator_3" not in mug["attributes"]
        assert mug["attributes"]["swatch_product_image_locator"][0]["media_location"] == U + "mug-s.jpg"


def test_amazon_new_template_names_and_a_listing_without_main_image(tmp_path: Path) -> None:
    locator = "product_image_locator{}[marketplace_id=A1]#1.media_location"
    header = ["contribution_sku#1.value", "item_name[marketplace_id=A1]#1.value", f"main_{locator.format('')}"]
    header += [f"other_{locator.format('_1')}", f"other_{locator.format('_1')}".replace("A1", "B2")]
    flat = tmp_path / "flat.txt"
    flat.write_bytes("\r\n".join(["settings=x\t\t\t\t", "\t".join(header), "S1\tMug\ta\tb\tother shop"]).encode())
    (product,) = read(flat)
    assert (product.sku, product.title, [image.uri for image in product.images]) == ("S1", "Mug", ["a", "b"])
    write(flat, [Decision("S1", "generated", sequence=("b", "a"))], flat)
    assert flat.read_bytes().endswith(b"\r\nS1\tMug\tb\ta\tother shop")

    listing = tmp_path / "listing.jsonl"
    other = '"other_product_image_locator_{}": [{{"media_location": "{}"}}]'
    listing.write_text('{"sku": "S1", "attributes": {' + f"{other.format(1, 'a')}, {other.format(2, 'b')}" + "}}")
    write(listing, [Decision("S1", "generated", sequence=("b",))], listing, only_sequence=True)
    assert json.loads(listing.read_text()) == {
        "sku": "S1",
        "attributes": {"main_product_image_locator": [{"media_location": "b"}]},
    }


def test_magento_roles_labels_and_store_views(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    write(HERE / "magento.csv", map(moved, read(HERE / "magento.csv")), out)
    rows = list(csv.DictReader(io.StringIO(out.read_text(encoding="utf-8"), newline="")))
    mug, german, french, tee, cap = rows
    assert (mug["base_image"], mug["base_image_label"]) == ("/m/u/mug-4.jpg", "Detail")
    assert mug["small_image"] == "/m/u/mug-4.jpg"  # was the old base image
    assert mug["thumbnail_image"] == "/m/u/mug-4.jpg"  # was the removed one
    assert mug["swatch_image"] == "/m/u/mug-1.jpg"
    assert mug["additional_images"] == "/m/u/mug-4.jpg,/m/u/mug-1.jpg,/m/u/mug-3.jpg,/m/u/mug-h.jpg"
    assert mug["additional_image_labels"] == "Detail,Mug front,,Hidden"
    assert mug["hide_from_product_page"] == "/m/u/mug-h.jpg"
    assert not any(german[name] for name in german if "image" in name)
    assert french["base_image"] == "/m/u/mug-4.jpg"
    assert (tee["base_image"], tee["additional_images"]) == ("tee-2.jpg", "tee-1.jpg")  # base not listed: so it stays
    assert cap["small_image"] == "no_selection"


def test_magento_paths_lie_below_the_given_base() -> None:
    mug = next(read(HERE / "magento.csv", base="https://shop.example/media/catalog/product"))
    assert mug.images[0].location == "https://shop.example/media/catalog/product/m/u/mug-1.jpg"


def test_woocommerce_leaves_variations_and_keeps_its_comma(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    write(HERE / "woocommerce.csv", map(moved, read(HERE / "woocommerce.csv")), out)
    text = out.read_text(encoding="utf-8")
    assert f'11,variation,MUG-01-S,"Mug, blue - S",1,,,{U}mug-2.jpg,MUG-01,Size,S' in text
    assert f'"{U}mug-4.jpg, {U}mug-1.jpg, {U}mug-3.jpg"' in text
    assert f'"{U}a\\,b/tee-2.jpg,{U}tee-1.jpg"' in text


def test_google_repeated_columns(tmp_path: Path) -> None:
    path = tmp_path / "feed.csv"
    path.write_text('id,image link,additional image link,additional image link\nA,1,2,"3,4"\nB,1,2,\n')
    write(path, [Decision("A", "generated", sequence=("4",)), Decision("B", "generated", sequence=("2",))], path)
    assert path.read_text().split("\n")[1:3] == ['A,4,1,"2,3"', "B,2,1,"]


def test_parquet_keeps_columns_types_and_compression(tmp_path: Path) -> None:
    source, out = HERE / "parquet.parquet", tmp_path / "out.parquet"
    write(source, map(moved, read(source)), out)
    old, new = pq.read_table(source), pq.read_table(out)
    assert new.schema.equals(old.schema)
    assert new.drop_columns(["images"]).equals(old.drop_columns(["images"]))
    assert new["images"][2] == old["images"][2]
    assert pq.ParquetFile(out).metadata.row_group(0).column(0).compression == "ZSTD"


def test_jsonl_keeps_other_fields_and_spacing(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    write(HERE / "jsonl.jsonl", map(moved, read(HERE / "jsonl.jsonl")), out)
    first, second, third = out.read_bytes().split(b"\n")
    assert first.endswith(
        b'"images": ["mug/4.jpg", "mug/1.jpg", "mug/3.jpg"], "views": ["front", "back", "detail", "side"]}'
    )
    assert (
        b'"images":[{"alt":"Back","uri":"tee/2.jpg"},{"uri":"tee/1.jpg","alt":"Front","id":7}],"price":12.50' in second
    )
    assert third == (HERE / "jsonl.jsonl").read_bytes().split(b"\n")[2]


def test_folder_order_names_and_loose_pictures(tmp_path: Path) -> None:
    for name in ("10.jpg", "2.PNG", "1.webp", ".hidden.jpg", "readme.md"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "B2").mkdir()
    (tmp_path / "B10").mkdir()
    loose, b2, b10 = read(tmp_path)
    assert loose.sku == tmp_path.name
    assert [image.uri for image in loose.images] == ["1.webp", "2.PNG", "10.jpg"]
    assert [b2.sku, b10.sku] == ["B2", "B10"]
    assert loose.images[0].location == str(tmp_path / "1.webp")


@pytest.mark.shared
def test_the_development_catalogues(shared_data: Path, tmp_path: Path) -> None:
    def skus(path: Path) -> Iterator[str]:
        return (product.sku for product in read(path))

    for source in sorted(shared_data.glob("*/catalog.jsonl")):
        assert guess(source) == "jsonl"
        products = list(read(source))
        assert not [product.error for product in products if product.error]
        assert all(Path(image.location).is_file() for product in products for image in product.images)
        write(source, map(kept, read(source)), tmp_path / "out.jsonl")
        assert (tmp_path / "out.jsonl").read_bytes() == source.read_bytes()
        write(source, map(moved, read(source)), tmp_path / "out.jsonl")
        assert list(skus(tmp_path / "out.jsonl")) == [product.sku for product in products]


@pytest.mark.shared
def test_a_development_catalogue_as_shopify_csv(shared_data: Path, tmp_path: Path) -> None:
    to_shopify = runpy.run_path(str(Path(__file__).with_name("to_shopify.py")))["to_shopify"]
    for source in sorted(shared_data.glob("*/catalog.jsonl")):
        path = tmp_path / "catalog.csv"
        path.write_bytes(to_shopify(read(source)).encode())
        assert guess(path) == "shopify"
        assert list(read(path, base=str(source.parent))) == list(read(source))
