"""Approved listings of any format to simulated samples."""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from agpis.data import Verdict
from agpis.errors import CatalogueError, OutputError, SettingsError, TrainingError
from agpis.images import decode
from agpis.listings import possible, simulate
from agpis.rulebook import load_rulebook
from agpis.samples import labelled
from agpis.simulate import Stock
from agpis.simulate.stock import load
from agpis.verdicts import read_verdicts
from tests.conftest import save_photo
from tests.tiny import VIEWS, draw_products

SHARES = {"qualified": 0.5, "single": 0.2, "pair": 0.2, "multi": 0.1}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder a product, six of them with four pictures, one of which cannot be read."""
    folder = tmp_path_factory.mktemp("shop")
    for product in draw_products()[::2]:
        (folder / product.sku).mkdir()
        for number, picture in enumerate(product.pictures):
            save_photo(folder / product.sku / f"{number}.jpg", picture)
    first = folder / draw_products()[0].sku
    (first / "9.jpg").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def catalogue(shop: Path) -> Path:
    """The same as catalog.jsonl with views, colours and styles."""
    rows = [
        {
            "sku": product.sku,
            "title": product.title,
            "category": product.category,
            "style": product.style,
            "color": product.color,
            "images": [f"{product.sku}/{number}.jpg" for number in range(4)],
            "views": list(VIEWS),
        }
        for product in draw_products()[::2]
    ]
    folder = shop.parent / f"{shop.name}-jsonl"
    shutil.copytree(shop, folder)
    (folder / "catalog.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "catalog.jsonl"


def run(source: Path | str, out: Path, count: int = 10, **options: Any) -> list[Verdict]:
    path = simulate(str(source), out, count=count, **{"rulebook": "default", "shares": SHARES, **options})
    assert path == out / "samples.jsonl"
    found = list(read_verdicts(path))
    verdicts = [verdict for verdict in found if isinstance(verdict, Verdict)]
    assert verdicts == found
    return verdicts


def whole(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def assert_sound(verdicts: list[Verdict], out: Path) -> None:
    """Every picture is there and can be read, and every sample has a label."""
    rulebook = load_rulebook("default")
    for verdict in verdicts:
        assert 2 <= len(verdict.sequence) <= rulebook.k
        for uri in verdict.candidates:
            assert decode((out / uri).read_bytes()).pixels.ndim == 3
    for sample in labelled(verdicts, rulebook):
        assert sample.verdict.accepted == (sample.label == "qualified")
        assert sample.label in rulebook.classes
        if not sample.verdict.accepted:
            assert (sample.label,) == sample.verdict.rules
            assert len(sample.text) > 5


def test_a_folder_without_views(shop: Path, tmp_path: Path) -> None:
    verdicts = run(shop, tmp_path / "out", 30)
    assert len(verdicts) == 30
    assert_sound(verdicts, tmp_path / "out")
    assert {verdict.sku for verdict in verdicts} <= {path.name for path in shop.iterdir()}
    assert 5 <= Counter(verdict.accepted for verdict in verdicts)[True] <= 25


def test_a_shops_csv(shop: Path, tmp_path: Path) -> None:
    """WooCommerce's export, with a line that cannot be read."""
    folder = tmp_path / "export"
    shutil.copytree(shop, folder)
    with (folder / "products.csv").open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["ID", "Type", "SKU", "Name", "Published", "Categories", "Images"])
        for number, product in enumerate(draw_products()[::2]):
            images = ", ".join(f"{product.sku}/{view}.jpg" for view in range(4))
            lines.writerow([number, "simple", f"W-{number}", product.title, 1, product.category, images])
    verdicts = run(folder / "products.csv", tmp_path / "out", language="zh")
    assert_sound(verdicts, tmp_path / "out")
    assert {verdict.sku[:2] for verdict in verdicts} == {"W-"}
    assert all(any("一" <= sign <= "鿿" for sign in v.feedback) for v in verdicts if not v.accepted)


def test_views_give_rules_that_need_them(catalogue: Path, shop: Path, tmp_path: Path) -> None:
    assert_sound(run(catalogue, tmp_path / "out"), tmp_path / "out")
    known = {rule.id for rule in possible(load_rulebook("default"), Stock(load([catalogue]))).rules}
    plain = shop.parent / "plain"
    plain.mkdir()
    rows = [json.loads(line) for line in catalogue.read_text().splitlines()]
    for row in rows:
        del row["views"], row["style"], row["color"]
    shutil.copytree(shop, plain, dirs_exist_ok=True)
    (plain / "catalog.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    without = {rule.id for rule in possible(load_rulebook("default"), Stock(load([plain / "catalog.jsonl"]))).rules}
    assert without < known
    assert known - without == {"primary_incomplete", "wrong_order"}


def test_the_seed_says_it_all(catalogue: Path, tmp_path: Path) -> None:
    run(catalogue, tmp_path / "one", seed=3)
    run(catalogue, tmp_path / "same", seed=3)
    run(catalogue, tmp_path / "other", seed=4)
    assert whole(tmp_path / "one") == whole(tmp_path / "same") != whole(tmp_path / "other")


def test_shares_are_kept(catalogue: Path, tmp_path: Path) -> None:
    assert all(
        v.accepted for v in run(catalogue, tmp_path / "good", shares={**SHARES, "single": 0, "pair": 0, "multi": 0})
    )
    single = run(catalogue, tmp_path / "single", shares={"qualified": 0.0, "single": 1.0, "pair": 0.0, "multi": 0.0})
    rules = {rule.id: rule for rule in load_rulebook("default").rules}
    assert {rules[v.rules[0]].scope for v in single} == {"single"}
    with pytest.raises(SettingsError) as caught:
        run(catalogue, tmp_path / "none", shares=dict.fromkeys(SHARES, 0.0))
    assert caught.value.code == "bad_shares"


def test_a_folder_that_holds_something_is_left_alone(catalogue: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"holds files already\. Choose another folder") as caught:
        run(catalogue, tmp_path)
    assert caught.value.code == "not_empty"
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(OutputError, match=r"mine.txt is a file. Choose a folder") as caught:
        run(catalogue, tmp_path / "mine.txt")
    assert caught.value.code == "not_a_folder"
    (tmp_path / "empty").mkdir()
    assert len(run(catalogue, tmp_path / "empty", 2)) == 2


def test_no_products(tmp_path: Path) -> None:
    (tmp_path / "shop" / "A").mkdir(parents=True)
    (tmp_path / "shop" / "A" / "1.jpg").write_bytes(b"no picture")
    with pytest.raises(TrainingError, match=r"found no product with a readable picture in .*shop") as caught:
        run(tmp_path / "shop", tmp_path / "out")
    assert caught.value.code == "no_products"
    assert not (tmp_path / "out").exists()
    with pytest.raises(CatalogueError):
        run(tmp_path / "absent.csv", tmp_path / "out")


def test_products_of_one_picture_make_no_sequences(shop: Path, tmp_path: Path) -> None:
    for product in draw_products()[:2]:
        (tmp_path / "shop" / product.sku).mkdir(parents=True)
        save_photo(tmp_path / "shop" / product.sku / "1.jpg", product.pictures[0])
    with pytest.raises(TrainingError, match="found no product with two pictures") as caught:
        run(tmp_path / "shop", tmp_path / "out")
    assert caught.value.code == "no_sequences"
