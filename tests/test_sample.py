"""The sample catalogue in the package: whole, small, and what truth.jsonl says of it."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
from PIL import Image

import agpis
from agpis.rulebook import load_rulebook

SAMPLE = Path(agpis.__file__).parent / "sample"
ROOT = Path(__file__).resolve().parent.parent

PLANTED = {
    "duplicate",
    "banner",
    "watermark",
    "badge",
    "logo",
    "qr_code",
    "diagram",
    "collage",
    "screenshot",
    "blur",
    "too_small",
    "border",
    "different_colour",
    "different_product",
    "same_view",
    "wrong_order",
    "format_mismatch",
    "unreadable",
    "exposure",
    "noise",
    "rotation",
    "compression",
    "colour_cast",
}
NOTES = {
    "crop of the same photo",
    "mirrored copy",
    "recoded copy at another size",
    "an HTML page named .jpg",
    "file cut off",
    "a PNG named .jpg",
}


def rows(name: str, folder: Path = SAMPLE) -> list[dict]:
    return [json.loads(line) for line in (folder / name).read_text(encoding="utf-8").splitlines()]


def facts() -> list[dict]:
    return [fact for row in rows("truth.jsonl") for fact in row["images"]]


def opened(path: Path) -> Image.Image:
    """Decoded, and the file closed."""
    with Image.open(path) as picture:
        picture.load()
        return picture


def pixels(name: str) -> np.ndarray:
    return np.asarray(opened(SAMPLE / name).convert("RGB"), np.float32)


def small(array: np.ndarray) -> np.ndarray:
    """Grey 32 x 32 of the subject alone, so that copies at another size and margin compare."""
    grey = array.mean(2)
    ys, xs = np.nonzero(grey < 240)
    cut = grey[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]
    return cv2.resize(cut, (32, 32), interpolation=cv2.INTER_AREA)


def alike(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def test_catalogue_is_whole() -> None:
    catalogue = rows("catalog.jsonl")
    assert len(catalogue) >= 15
    assert len({row["sku"] for row in catalogue}) == len(catalogue)
    assert all(set(row) == {"sku", "title", "category", "images"} for row in catalogue)
    assert all(5 <= len(row["images"]) <= 8 for row in catalogue)
    named = [name for row in catalogue for name in row["images"]]
    assert sorted(named) == sorted(f"images/{path.name}" for path in (SAMPLE / "images").iterdir())


def test_it_is_under_six_megabytes() -> None:
    assert sum(path.stat().st_size for path in SAMPLE.rglob("*") if path.is_file()) < 6_000_000


def test_truth_agrees_with_the_catalogue() -> None:
    catalogue, truth = rows("catalog.jsonl"), rows("truth.jsonl")
    assert [row["sku"] for row in truth] == [row["sku"] for row in catalogue]
    for told, row in zip(truth, catalogue, strict=True):
        assert [fact["image"] for fact in told["images"]] == row["images"]


def test_planted_rules_are_rules_of_the_default_rulebook() -> None:
    found = {fact["rule"] for fact in facts()} - {""}
    assert found >= PLANTED
    assert {fact["note"] for fact in facts()} >= NOTES
    assert found <= {rule.id for rule in load_rulebook("default").rules}


def test_expected_statuses_follow_from_the_planted_faults() -> None:
    k = load_rulebook("default").k
    for row in rows("truth.jsonl"):
        fit = sum(fact["rule"] in ("", "wrong_order") for fact in row["images"])
        assert row["expected"] == ("no_primary" if fit == 0 else "too_few_images" if fit < k else "generated"), row[
            "sku"
        ]
    assert {row["expected"] for row in rows("truth.jsonl")} == {"generated", "too_few_images", "no_primary"}


@pytest.mark.parametrize("fact", [fact for fact in facts() if fact["rule"] == ""], ids=lambda fact: fact["image"])
def test_fit_pictures_are_sharp_size_on_white(fact: dict) -> None:
    picture = opened(SAMPLE / fact["image"])
    assert (picture.format, picture.mode) == ("JPEG", "RGB")
    assert min(picture.size) >= 600
    if fact["view"] in ("quarter", "front", "side", "back", "top", "pack"):
        grey = np.asarray(picture.convert("L"))
        rim = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
        assert rim.min() >= 250  # JPEG leaves a few values under 255
        assert 0.02 < (grey < 240).mean() < 0.75


def test_broken_files_are_broken_in_the_way_that_is_told() -> None:
    for fact in facts():
        path = SAMPLE / fact["image"]
        if fact["note"] == "an HTML page named .jpg":
            assert path.read_bytes().startswith(b"<!DOCTYPE html>")
        elif fact["note"] == "a PNG named .jpg":
            assert opened(path).format == "PNG"
        elif fact["note"] == "file cut off":
            with pytest.raises(OSError, match="truncated"):
                opened(path)
        elif fact["rule"] == "too_small":
            assert max(opened(path).size) < 150
        else:
            opened(path)


def test_copies_show_what_they_were_copied_from() -> None:
    seen = set()
    for fact in facts():
        if fact["note"] not in ("recoded copy at another size", "mirrored copy"):
            continue
        copy, source = small(pixels(fact["image"])), small(pixels(fact["source"]))
        mirrored = fact["note"] == "mirrored copy"
        assert alike(copy[:, ::-1] if mirrored else copy, source) > 0.97
        if mirrored:
            assert alike(copy, source) < 0.9
        seen.add(fact["note"])
    assert len(seen) == 2


def test_blurred_pictures_are_blurred() -> None:
    for fact in facts():
        if fact["rule"] == "blur" and fact["source"]:
            ours, source = (cv2.Laplacian(pixels(fact[key]).mean(2), cv2.CV_32F).var() for key in ("image", "source"))
            assert ours < 0.2 * source


@pytest.fixture
def render(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT))
    import sample.render

    return sample.render


def drawn(render: ModuleType, good: object, view: str, tag: str, cache: Path) -> None:
    """A stand-in for a render, in the camera's cache: a grey block on white."""
    picture = np.full((64, 64, 4), 255, np.uint8)
    picture[16:48, 20:44, :3] = 120
    Image.fromarray(picture).save(cache / f"{good.sku}-{view}{tag}-64.png")


def test_the_script_writes_the_committed_truth(render: ModuleType, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    for good in render.RANGE:
        for view in ("quarter", "front", "side", "back", "top", "detail", "lifestyle", "pack"):
            for tag in ("", "-other", "-5"):
                drawn(render, good, view, tag, cache)
    products, images = render.make(render.Options(out=tmp_path / "out", cache=cache, pixels=64))
    assert (products, images) == (len(rows("catalog.jsonl")), len(facts()))
    for name in ("catalog.jsonl", "truth.jsonl"):
        assert (tmp_path / "out" / name).read_bytes() == (SAMPLE / name).read_bytes()


def test_more_products_are_unspoilt_variants(render: ModuleType, tmp_path: Path) -> None:
    some = render.goods(60, seed=3)
    assert some == render.goods(60, seed=3)
    assert some != render.goods(60, seed=4)
    assert len({good.sku for good in some}) == 60
    assert not any(">" in text or ":" in text for good in some[len(render.RANGE) :] for text in good.candidates)
    assert len({good.look.main for good in some}) > 20
    cache = tmp_path / "cache"
    cache.mkdir()
    for good in some:
        for view in ("back", "detail"):
            drawn(render, good, view, "", cache)
    made = render.goods(19, seed=7)[17:]
    for good in made:
        for view in ("back", "detail"):
            drawn(render, good, view, "", cache)
    for good in render.RANGE:
        drawn(render, good, "back", "", cache)
        drawn(render, good, "detail", "", cache)
    render.make(render.Options(out=tmp_path / "out", cache=cache, pixels=64, count=19, views=("back", "detail")))
    last = rows("truth.jsonl", tmp_path / "out")[-1]
    assert [fact["view"] for fact in last["images"]] == ["back", "detail"]
    assert all(fact["rule"] == "" for fact in last["images"])
