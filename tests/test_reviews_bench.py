"""Simulated verdicts of what stage 1 submits: what the reviewer blames, what is written, and training on it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agpis.bundle_manifest import Threshold, Weighing, read_manifest, write_manifest
from agpis.data import Candidate, Decision, Image, Outcome, Product, Verdict
from agpis.images import decode
from agpis.pipeline import Pipeline
from agpis.rulebook import load_rulebook
from agpis.simulate import Catalogued, Style, held_out
from agpis.verdicts import read_verdicts
from bench import online, reviews
from bench.reviews import HARDER, NEW, WAYS, blame, drawn, shop_of, split_of, verdicts_of
from bench.uploads import RATES, Shop, upload
from tests.conftest import draw_photo, save_photo
from tests.test_online import CASE
from tests.test_online import shops as shops

TITLED = replace(CASE, right_title=False)


@pytest.mark.parametrize(
    ("sequence", "broken"),
    [
        (("front", "back", "detail"), []),
        (("front", "back", "banner"), [("banner", 2), ("duplicate", 2)]),
        (("front", "mirrored", "crop"), [("duplicate", 1)]),
        (("front", "sister", "other"), [("different_product", 2), ("different_colour", 1)]),
        (("back", "detail", "front"), [("wrong_order", 0)]),
        (("crop", "back", "detail"), [("primary_incomplete", 0)]),
        (("detail", "other", "back"), [("different_product", 1), ("primary_incomplete", 0)]),
    ],
)
def test_every_reason_becomes_a_rule_and_an_image(
    sequence: tuple[str, ...], broken: list[tuple[str, int | None]]
) -> None:
    assert blame(CASE, sequence) == broken
    assert blame(TITLED, sequence) == [*broken, ("title_mismatch", None)]
    assert {rule for rule, _ in broken} <= set(load_rulebook("default").classes)


def test_the_sequences_are_other_random_choices_behind_the_same_primary() -> None:
    outcomes: dict[str, Outcome] = {
        "a": "spare",
        "b": "primary",
        "c": "selected",
        "d": "removed",
        "e": "selected",
        "f": "spare",
    }
    decision = Decision(
        "1", "generated", sequence=("b", "e", "c"),
        candidates=tuple(Candidate(uri, outcome=outcome) for uri, outcome in outcomes.items()),
    )  # fmt: skip
    found = drawn(decision, 3, 6, np.random.default_rng(0))
    assert found[0] == ("b", "e", "c")
    assert len(found) == len(set(found)) == 6
    assert all(s[0] == "b" and len(set(s)) == 3 and set(s) <= set("abcef") for s in found)
    assert found == drawn(decision, 3, 6, np.random.default_rng(0))
    assert len(drawn(decision, 3, 100, np.random.default_rng(0))) == 12  # all of 4 * 3
    assert drawn(decision, 3, 1, np.random.default_rng(0)) == [("b", "e", "c")]
    assert drawn(Decision("1", "no_primary"), 3, 5, np.random.default_rng(0)) == []


def test_a_wrong_reject_names_nothing() -> None:
    cases = [replace(CASE, key=f"shop/{number}") for number in range(600)]
    uris = {uri: f"images/{uri}" for uri in CASE.truth}
    rulebook, sequence = load_rulebook("default"), ("front", "back", "detail")
    right = [
        next(verdicts_of(case, [sequence], uris, rulebook, errors=True, split="train", bundle="b"))[0] for case in cases
    ]
    wrong = [verdict for verdict in right if not verdict.accepted]
    assert len(wrong) / 600 == pytest.approx(RATES.wrong_rejects, abs=0.021)  # three standard errors
    assert all((verdict.rules, verdict.feedback, verdict.image_index) == ((), "", None) for verdict in wrong)
    assert right[0].sequence == ("images/front", "images/back", "images/detail")


def test_uploads_in_the_training_style_differ_from_those_of_the_test(shops: Path) -> None:
    shop = Shop(shops / "drawn")
    product = shop.uploads[0]
    assert upload(product, shop, 0) == upload(product, shop, 0, rates=RATES, style=Style.test())
    tested = {image.uri: image.data for image in upload(product, shop, 0).product.images}
    trained = {image.uri: image.data for image in upload(product, shop, 0, style=Style.train()).product.images}
    assert tested != trained
    assert not upload(product, shop, 0, rates=replace(HARDER, wrong_title=1.0)).right_title
    assert all(style.fonts == Style.train().fonts for _, _, style in WAYS)


def test_held_out_styles_are_neither_products_nor_strangers(shops: Path) -> None:
    whole, part = Shop(shops / "drawn"), shop_of(shops / "drawn", 0.5)
    kept = [product.sku for product in whole.products if not held_out(product, 0.5)]
    assert 0 < len(kept) < len(whole.products)
    assert [p.sku for p in part.products] == [p.sku for p in part.stock.products] == kept
    assert {p.sku for p in part.uploads} == {p.sku for p in whole.uploads} & set(kept)


def test_new_styles_are_the_others(shops: Path) -> None:
    old, new = (shop_of(shops / "drawn", 0.5, new) for new in (False, True))
    assert sorted(p.sku for shop in (old, new) for p in shop.products) == [f"P{n}" for n in range(6)]
    assert {p.sku for p in new.uploads} <= {p.sku for p in new.products} == {p.sku for p in new.stock.products}


def test_verdicts_of_new_styles_are_kept_apart_from_the_test(
    tiny_bundle: Path, shops: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle, out = tmp_path / "bundle", tmp_path / "reviews"
    shutil.copytree(tiny_bundle, bundle)
    shared = ["--bundle", str(bundle), "--data", str(shops), "--source", "drawn", "--seeds", "0"]
    with pytest.raises(SystemExit, match="trained without --hold-out: it has seen every style"):
        reviews.main(["draw", "--new", *shared, "--out", str(out)])
    manifest = read_manifest(bundle)
    write_manifest(bundle, manifest.model_copy(update={"training": {**manifest.training, "hold_out": 0.5}}))
    reviews.main(["draw", "--new", *shared, "--out", str(out)])
    assert "hold-out 50%" in capsys.readouterr().out
    rows = [json.loads(line) for line in (out / NEW).read_text("utf-8").splitlines()]
    new = {f"drawn/{product.sku}" for product in shop_of(shops / "drawn", 0.5, new=True).uploads}
    assert {row["sku"] for row in rows} <= new
    assert {row["split"] for row in rows} <= {"validation"}
    data = "9 sequences of 5 products; validation split of new.jsonl, new styles of drawn"
    weights = Weighing(bias=0.0, p_qualified=1.0, kin=1.0, apart=1.0, clean=0.0, p_primary=0.0, margin=0.0, data=data)
    write_manifest(bundle, read_manifest(bundle).model_copy(update={"weighing": weights}))
    with pytest.raises(SystemExit, match="was trained on drawn; the figure would mislead"):
        online.main(shared)


def test_the_split_is_by_style_and_of_what_was_trained_on() -> None:
    products = [Catalogued(f"{n}-{colour}", "", "", (), (), style=f"{n}") for n in range(2000) for colour in "ab"]
    sides = [split_of(product, 0.4, 0.25) for product in products if not held_out(product, 0.4)]
    assert sides[::2] == sides[1::2]
    assert sides.count("validation") / len(sides) == pytest.approx(0.25, abs=0.04)
    assert {split_of(product, 0.0, 0.0) for product in products} == {"train"}


def test_from_catalogue_to_a_bundle_with_another_stage_2(
    tiny_bundle: Path, shops: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "reviews"
    command = ["draw", "--bundle", str(tiny_bundle), "--data", str(shops), "--out", str(out)]
    with pytest.raises(SystemExit, match=r"tiny was not trained on other; keep those for bench\.online"):
        reviews.main([*command, "--source", "other"])
    options = ["--source", "drawn", "--seeds", "0", "1", "2", "3", "--sequences", "3"]
    reviews.main([*command, *options])
    assert "at HARDER" in capsys.readouterr().out
    path = out / "verdicts.jsonl"
    verdicts = [verdict for verdict in read_verdicts(path) if isinstance(verdict, Verdict)]
    assert len(verdicts) == len(path.read_text("utf-8").splitlines())
    for verdict in verdicts:
        assert set(verdict.sequence) <= set(verdict.candidates)
        for uri in verdict.candidates:
            decode((out / uri).read_bytes())
    again = tmp_path / "again"
    reviews.main([*command[:-1], str(again), *options])
    assert (again / "verdicts.jsonl").read_text("utf-8") == path.read_text("utf-8")


def test_the_weights_go_into_the_bundle(tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, bundle)
    manifest = read_manifest(bundle)
    limits = {"primary": 0.0, "noncompliant": 1.0, "duplicate": 1.0, "qualified": 0.3}
    opened = {name: Threshold(value=value, data="open") for name, value in limits.items()}
    write_manifest(bundle, manifest.model_copy(update={"thresholds": opened}))
    lines = []
    for seed in range(6):
        uris = [f"{seed}-{view}.jpg" for view in range(4)]
        for view, uri in enumerate(uris):
            save_photo(tmp_path / uri, draw_photo(seed, view))
        for sequence, accepted in ((uris[:3], True), (uris[1:], False)):
            row = {"sku": f"P{seed}", "title": "T", "sequence": sequence, "candidates": uris, "accepted": accepted}
            lines.append(json.dumps(row | {"split": "validation"}))
    (tmp_path / "verdicts.jsonl").write_text("\n".join(lines), encoding="utf-8")
    command = ["weigh", "--bundle", str(bundle), "--verdicts", str(tmp_path / "verdicts.jsonl")]
    with pytest.raises(ValueError, match="found 0 of 0 accepted, 0 products"):
        reviews.main([*command, "--split", "train"])
    assert read_manifest(bundle).weighing is None
    reviews.main([*command, "--prior", "0.8"])
    said = capsys.readouterr().out
    assert "12 sequences, 0 left out" in said
    assert "first of each upload       rejected 0.0%" in said
    entry = read_manifest(bundle).weighing
    assert entry is not None
    assert entry.data.startswith("12 sequences of 6 products, ridge ")
    assert entry.data.endswith("moved to 0.8 accepted")
    (decision,) = Pipeline(bundle)([Product("P0", "T", images=tuple(Image(u, base=str(tmp_path)) for u in uris))])
    assert decision.p_qualified is not None
