"""The simulated reviewer and what is counted of his verdicts, on a drawn shop."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agpis.data import Product
from agpis.images import decode
from agpis.rulebook import load_rulebook
from bench import online
from bench.online import Arm, Judged, curve, reason_shares, row, separation, strictest
from bench.uploads import RATES, Case, Shop, Truth, review, upload, verdict
from tests.conftest import draw_photo, save_photo

VIEWS = ("front", "back", "detail")


@pytest.fixture(scope="module")
def shops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one catalogue, `drawn`: six products, two of them colours of one style, one with one picture."""
    root = tmp_path_factory.mktemp("shops")
    folder = root / "drawn"
    (folder / "images").mkdir(parents=True)
    lines = []
    for number in range(6):
        count = 1 if number == 5 else 2 + number % 2
        uris = [f"images/{number}-{view}.jpg" for view in range(count)]
        for view, uri in enumerate(uris):
            save_photo(folder / uri, draw_photo(number, view, (320, 400)))
        line = {"sku": f"P{number}", "title": f"Kind{chr(97 + number)} article", "category": f"Kind{number % 3}"}
        if number in (0, 1):
            line |= {"style": "S", "color": ("red", "blue")[number]}
        lines.append(json.dumps({**line, "images": uris, "views": VIEWS[:count], "color_differs": number == 4}))
    (folder / "catalog.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


def test_uploads_are_drawn_by_source_sku_and_seed_alone(shops: Path) -> None:
    shop = Shop(shops / "drawn")
    assert [product.sku for product in shop.uploads] == ["P0", "P1", "P2", "P3"]  # not one picture, not mixed colours
    kinds = set()
    for product in shop.uploads:
        for seed in range(4):
            case = upload(product, shop, seed)
            assert case == upload(product, Shop(shops / "drawn"), seed)
            assert [image.data for image in case.product.images] == [
                image.data for image in upload(product, Shop(shops / "drawn"), seed).product.images
            ]
            assert case.k == min(3, len(product.uris))
            assert {image.uri for image in case.product.images} == set(case.truth)
            assert RATES.candidates - 1 <= len(case.truth) <= RATES.candidates + 1
            for image in case.product.images:
                truth = case.truth[image.uri]
                assert (truth.photo in product.uris) == (truth.wrong not in ("other_product", "other_colour"))
                assert (image.data is None) == (truth.kind == "")
                if image.data is not None:
                    decode(image.data)
            kinds |= {truth.wrong or ("copy" if truth.kind else "own") for truth in case.truth.values()}
    assert {"own", "copy", "fault"} <= kinds
    assert upload(shop.uploads[0], shop, 0) != upload(shop.uploads[0], shop, 1)


def test_the_faults_are_what_the_default_rulebook_forbids_everywhere() -> None:
    assert sum(RATES.mix) == pytest.approx(1.0)
    for name in RATES.faults:
        rule = load_rulebook("default").rule(name)
        assert (rule.scope, rule.severity, rule.role, rule.learned) == ("single", "error", "any", True)


TRUTH = {
    "front": Truth("front", "front"),
    "back": Truth("back", "back"),
    "detail": Truth("detail", "detail"),
    "banner": Truth("back", "back", "fault", "banner"),
    "crop": Truth("front", "detail", "", "crop"),
    "mirrored": Truth("front", "front", "", "mirrored"),
    "other": Truth("elsewhere", "back", "other_product", "other_product"),
    "sister": Truth("sister", "front", "other_colour", "other_colour"),
}
CASE = Case(Product("1", "Title"), TRUTH, 3, 0, "shop/1", whole=True, right_title=True)


@pytest.mark.parametrize(
    ("sequence", "reasons"),
    [
        (("front", "back", "detail"), ()),
        (("mirrored", "back", "detail"), ()),  # a copy without its source is as good
        (("front", "banner", "detail"), ("fault",)),
        (("front", "back", "banner"), ("fault", "copy")),
        (("front", "back", "mirrored"), ("copy",)),
        (("front", "mirrored", "crop"), ("copy",)),
        (("front", "back", "other"), ("other_product",)),
        (("front", "sister", "back"), ("other_colour",)),
        (("back", "front", "detail"), ("primary",)),
        (("crop", "back", "detail"), ("primary",)),
        (("other", "front", "back"), ("other_product",)),
        (("banner", "front", "detail"), ("fault", "primary")),
    ],
)
def test_the_reviewer_names_every_reason(sequence: tuple[str, ...], reasons: tuple[str, ...]) -> None:
    assert review(CASE, sequence) == reasons
    assert review(replace(CASE, right_title=False), sequence) == (*reasons, "title")
    without = tuple(reason for reason in reasons if reason != "primary")
    assert review(replace(CASE, whole=False), sequence) == without  # the product has no better picture


def test_the_reviewer_errs_at_the_stated_rates_and_always_on_the_same_products() -> None:
    cases = [replace(CASE, key=f"shop/{number}", seed=number % 3) for number in range(6000)]
    wrong_rejects = [verdict(case, ()) for case in cases]
    accepted_faults = [not verdict(case, ("copy",)) for case in cases]
    assert np.mean(wrong_rejects) == pytest.approx(RATES.wrong_rejects, abs=0.007)  # three standard errors
    assert np.mean(accepted_faults) == pytest.approx(RATES.missed_faults, abs=0.007)
    assert wrong_rejects == [verdict(case, ()) for case in cases]


def judged(p: list[float], broken: str, errs: str) -> Judged:
    """`broken`, `errs`: one letter a case, x where it holds."""
    wrong, error = (np.array([letter == "x" for letter in word]) for word in (broken, errs))
    return Judged(np.array(p), wrong, wrong ^ error, [("copy", "fault") if w else () for w in wrong])


def test_figures_by_hand() -> None:
    both = {
        "random": judged([0.9, 0.2, 0.8, 0.1, -1.0], "-x-x-", "--x--"),
        "best": judged([0.9, 0.6, 0.8, 0.1, -1.0], "---x-", "--x--"),
    }
    groups = ["a", "b", "c", "d", "e"]
    alone = row(Arm("a", "random", 0.0), both, groups, errors=True)
    assert alone["submitted"] == 4
    assert [alone[name][0] for name in ("reject_rate", "coverage", "kept", "reduction")] == [0.75, 0.8, 1.0, 0.0]
    second = row(Arm("b", "random", 0.3), both, groups, errors=True)
    assert [second[name][0] for name in ("reject_rate", "coverage", "kept")] == [0.5, 0.4, 0.5]
    assert second["reduction"][0] == pytest.approx(1 / 3)
    chosen = row(Arm("c", "best", 0.3), both, groups, errors=False)
    assert [chosen[name][0] for name in ("reject_rate", "kept", "reduction")] == [0.0, 0.75, 1.0]
    for line in (alone, second, chosen):
        assert all(low <= value <= high for value, low, high in (line["reject_rate"], line["coverage"]))
    points = curve(both, "best")
    assert points[0] == {"threshold": 0.0, "reject_rate": 0.5, "kept": 1.0}
    assert points[50]["kept"] == 0.75
    assert strictest(points) == 0.1  # the fourth of four is lost above
    assert strictest(points, kept=0.75) == 0.6
    shares = reason_shares(Arm("a", "random", 0.0), both)
    assert (shares["copy"], shares["fault"], shares["title"], shares["wrong reject"]) == (0.5, 0.5, 0.0, 0.25)
    found = separation(both["random"])
    assert found["all"] == found["copy"] == 1.0
    assert np.isnan(found["title"])


def test_the_command_from_catalogue_to_figures(
    tiny_bundle: Path, shops: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "online.json"
    command = ["--bundle", str(tiny_bundle), "--data", str(shops), "--source", "drawn", "--seeds", "0", "1"]
    with pytest.raises(SystemExit, match="was trained on drawn; the figure would mislead"):
        online.main(command)
    online.main([*command, "--seen-too", "--out", str(out)])
    assert "SEEN IN TRAINING: drawn" in capsys.readouterr().out
    found = json.loads(out.read_text("utf-8"))
    assert (found["products"], found["cases"], len(found["lines"])) == (4, 8, 8)
    alone, second, chosen, everything, *_ = found["arms"]
    assert found["statuses"].get("failed", 0) == 0
    assert alone["submitted"] == everything["submitted"] >= max(second["submitted"], chosen["submitted"])
    assert alone["submitted"] == sum(bool(line["random"]["sequence"]) for line in found["lines"])
    for line in found["lines"]:
        one, other = line["random"], line["best"]
        assert one["sequence"][:1] == other["sequence"][:1]  # the same stage 1
        assert set(one["sequence"]) | set(other["sequence"]) <= set(line["left"]) <= set(line["candidates"])
        if one["sequence"]:
            assert other["p_qualified"] >= one["p_qualified"] - 1e-5
