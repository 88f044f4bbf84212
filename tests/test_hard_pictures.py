"""Packs, prints, screens and blur: what is drawn, and what the figures count."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from agpis.bundle import open_bundle
from agpis.simulate import Catalogued, Stock
from bench import hard_pictures, starter
from bench.folds import Fold
from bench.hard_pictures import DRAWN, Looked, blur_figures, clean_pictures, is_device, large
from bench.measured import BLURRED, HARD, SHARP
from tests.conftest import save_photo
from tests.test_choice import shop
from tests.tiny import draw_products


def named(title: str, category: str = "") -> Catalogued:
    return Catalogued("1", title, category, (np.zeros((4, 4, 3), np.uint8),), ("front",))


@pytest.mark.parametrize(
    ("title", "category", "device"),
    [
        ("Dell XPS", "Notebooks", True),
        ("Smart Tab", "Tablets", True),
        ("Drupal iPhone Case", "iPhone Cases", False),
        ("Laptop Bag", "Bags", False),
        ("Telephone book", "Books", False),
    ],
)
def test_devices_are_told_by_words(title: str, category: str, device: bool) -> None:
    assert is_device(named(title, category)) is device


def test_looks_are_drawn_on_products_that_lend_themselves() -> None:
    products = draw_products()
    pack = Catalogued("box", "A box", "", products[0].pictures[:1], ("pack",), source="drawn")
    found = list(clean_pictures(Stock([*products, pack]), np.random.default_rng(0), 4))
    counts = {kind: sum(clean.kind == kind for clean in found) for kind in ("packs", "screens", *DRAWN)}
    assert (counts["packs"], counts["screens"]) == (1, 0)  # only the merchant's own
    assert counts["prints drawn"] == counts["packs, label or cover drawn"] == 4
    again = list(clean_pictures(Stock([*products, pack]), np.random.default_rng(0), 4))
    assert all((a.pixels == b.pixels).all() for a, b in zip(found, again, strict=True))


def test_blur_is_counted_by_kind() -> None:
    def look(kind: str, blurred: bool, measured: bool, p: float, likeliest: bool) -> Looked:
        return Looked(kind, blurred, f"{kind} {p}", measured, p, likeliest)

    looked = [
        look("plain", True, True, 0.1, False),  # by the check
        look("plain", True, False, 0.9, True),  # removed as blurred
        look("plain", True, False, 0.8, False),  # removed as something else
        look("plain", True, False, 0.4, True),  # kept
        look("plain", False, False, 0.8, False),
        look("plain", False, False, 0.1, True),
        look("300 px", True, True, 0.2, False),
        look("300 px", False, True, 0.3, False),
    ]
    found = blur_figures(looked, 0.5)
    values = {name: {kind: part.value for kind, part in rows.items()} for name, rows in found.items()}
    assert values == {
        BLURRED: {"plain": 0.5, "plain, or of any rule": 0.75, "300 px": 1.0, "300 px, or of any rule": 1.0},
        SHARP: {"plain": 0.0, "plain, or of any rule": 0.5, "300 px": 1.0, "300 px, or of any rule": 1.0},
    }


def test_a_picture_is_judged_as_the_pipeline_does() -> None:
    bundle, sharp = (
        open_bundle(None, threads=1),
        np.kron(draw_products()[0].pictures[0], np.ones((10, 10, 1), np.uint8)),
    )
    soft = cv2.GaussianBlur(sharp, (0, 0), 0.02 * max(sharp.shape))
    assert [hard_pictures.look(bundle, picture).measured for picture in (sharp, soft)] == [False, True]


def test_large_files_are_found_in_full_size(tmp_path: Path) -> None:
    shop(tmp_path, "one", 0)
    assert list(large(tmp_path / "one" / "catalog.jsonl", 2, np.random.default_rng(0))) == []
    item = draw_products()[0]
    save_photo(tmp_path / "one" / item.uris[0], np.full((1600, 900, 3), 200, np.uint8))
    ((sku, pixels),) = large(tmp_path / "one" / "catalog.jsonl", 2, np.random.default_rng(0))
    assert (sku, pixels.shape) == (f"one/{item.sku}", (1600, 900, 3))


def test_the_measured_figures_are_in_those_of_the_starter(tmp_path: Path) -> None:
    shop(tmp_path, "one", 0)
    item = draw_products()[0]
    save_photo(tmp_path / "one" / item.uris[0], np.kron(item.pictures[0], np.ones((10, 10, 1), np.uint8)))
    fold, seen = Fold("starter", open_bundle(None, threads=1), ("one",), tmp_path), starter.Seen()
    starter.measure_hard(fold, "one", Stock(fold.products("one")), seen, np.random.default_rng(0), 5, 1)
    seen.hard["packs"] = [0.9] * (starter.FEWEST - 1)
    assert len(seen.hard["prints drawn"]) == len(seen.hard_sku["prints drawn"]) == 5
    sizes = [(look.kind, look.blurred) for look in seen.blur if look.kind != "plain"]
    assert sizes == [(f"{size} px", blurred) for size in (300, 800, 2000) for blurred in (False, True)]
    assert not any(look.measured for look in seen.blur if not look.blurred)  # drawn edges are hard
    found = starter.hard_figures(seen, 0.7)
    assert set(found) == {HARD, BLURRED, SHARP}
    assert "packs" not in found[HARD]
    assert found[HARD]["prints drawn"].value == np.mean([p > 0.7 for p in seen.hard["prints drawn"]])
