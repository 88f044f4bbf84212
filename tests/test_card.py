"""bench.card, its figures over sources, and the contact sheets of the model card."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from agpis.bundle import open_bundle
from agpis.bundle_manifest import Manifest, read_manifest
from agpis.simulate import Stock
from bench.card import SOURCES, card, failures, into_readme, main, readme_table
from bench.measured import BLURRED, HARD, ROWS, SHARP, Row, cell, merged, nested, over, parts_over, rows_of, stated
from bench.sheets import LARGEST, Tile, as_jpeg, chosen, drawn, judged_pictures, recorded, sample_products, write_sheets
from tests.conftest import ROOT

STARTER = ROOT / "agpis" / "starter"
SIZES = {"image": 8_400_000, "sequence": 2_300_000, "decoder": 1_900_000}


def source(top: float, auc: float, artefact: float, banner: float, pack: float | None = 0.02) -> dict[str, Any]:
    """Figures of one source, in the form of bench.starter's JSON."""
    return {
        "primary top-1, some candidates wrong": [top, top - 0.1, top + 0.05],
        "sequence AUC": [auc, auc - 0.02, auc + 0.02],
        "noncompliant AUC by kind": {"artefact": artefact, "banner": banner},
        "sequence AUC by rule": {"title_mismatch": auc - 0.2, "banner": auc},
        "false alarms by view": {"front": 0.01} | ({} if pack is None else {"pack": pack}),
        "sequence calibration error": 0.04,
        "sequence AUC, title of the same category": math.nan,
        "a figure nobody has named yet": 0.123,
        "samples": {"sequences": 700},
    }


FIGURES: dict[str, Any] = {
    "thresholds": {
        "primary": {"value": 0.02, "data": "left out: oxid, saleor"},
        "noncompliant": {"value": 0.97, "data": "left out: oxid, saleor"},
        "duplicate": {"value": 0.9, "data": "left out: oxid, saleor"},
        "qualified": {"value": 0.3, "data": "the paper's"},
    },
    "qualified": {"temperature": 1.5, "shift": 0.5, "data": "left out: oxid, saleor"},
    "metrics": {
        "left_out": {"oxid": source(0.90, 0.95, 0.70, 0.99), "saleor": source(0.84, 0.80, 0.90, 0.97, None)},
        "together": source(0.88, 0.86, 0.78, 0.98),
        "how": {
            "command": "python -m bench.starter runs/a oxid runs/b saleor",
            "machine": "a machine",
            "bundles": {
                "runs/a": {
                    "left_out": ["oxid"], "trained_on": ["saleor"], "training": {"config": {"seed": 3, "images": 5}}
                },
                "runs/b": {
                    "left_out": ["saleor"], "trained_on": ["oxid"], "training": {"config": {"seed": 4, "images": 9}}
                },
            },
        },
    },
}  # fmt: skip


def manifest(figures: Mapping[str, Any] = FIGURES, **changes: Any) -> Manifest:
    """A starter's manifest of two sources with those figures."""
    own = read_manifest(STARTER).model_dump(mode="json")
    training = {"command": "agpis.recipe starter", "sources": ["oxid", "saleor"], "config": {"seed": 11, "images": 9}}
    return stated(Manifest.model_validate({**own, "training": training, **changes}), figures)


# Figures over sources ------------------------------------------------------------------------------------------------


def test_a_figure_over_sources_is_mean_and_standard_deviation() -> None:
    found = over(FIGURES["metrics"], ("sequence AUC",))
    assert found is not None
    assert found.mean == pytest.approx(0.875)
    assert found.spread == pytest.approx(0.15 / math.sqrt(2))
    assert (found.sources, found.lowest) == (2, "saleor")
    assert math.isnan(found.seeds)
    assert str(found) == "0.875 ± 0.106"


def test_sources_without_the_figure_do_not_count() -> None:
    found = over(FIGURES["metrics"], ("false alarms by view", "pack"))
    assert found is not None
    assert (found.mean, found.sources) == (0.02, 1)
    assert math.isnan(found.spread)
    assert over(FIGURES["metrics"], ("sequence AUC, title of the same category",)) is None
    assert over({}, ("sequence AUC",)) is None


def test_training_seeds_are_averaged_within_a_source() -> None:
    again = {"metrics": {"left_out": {"oxid": source(0.80, 0.85, 0.7, 0.9), "saleor": source(0.84, 0.80, 0.9, 0.9)}}}
    both = merged([FIGURES, again], {})
    found = over(both["metrics"], ("sequence AUC",))
    assert found is not None
    assert found.mean == pytest.approx((0.90 + 0.80) / 2)
    assert found.seeds == pytest.approx((0.10 / math.sqrt(2) + 0.0) / 2)
    assert both["metrics"]["together"] == FIGURES["metrics"]["together"]
    text = card(manifest(both), SIZES)
    assert "trained with 2 seeds" in text
    assert "± over training seeds" in text


@pytest.mark.parametrize(
    ("row", "value", "met"),
    [
        (Row(("a",), "a", 0.9), 0.9, True),
        (Row(("a",), "a", 0.9), 0.8999, False),
        (Row(("a",), "a", 0.05, most=True), 0.05, True),
        (Row(("a",), "a", 0.05, most=True), 0.0501, False),
    ],
)
def test_a_target_is_met_or_not(row: Row, value: float, met: bool) -> None:
    assert row.met(value) is met


@pytest.mark.parametrize(
    ("fitted", "ending"),
    [
        ([None, None], ", without `choice`"),
        (["by hand", "shoptwo; python -m bench.primary"], ", with `choice`"),
        ([None, "shoptwo"], ", with `choice` where the bundle has one"),
        (["oxid, saleor; a bench", "magento"], ", with `choice` (fitted on sources measured here: flattering)"),
    ],
)
def test_labels_say_whether_the_measured_bundles_had_a_fit(fitted: list[str | None], ending: str) -> None:
    bundles = {
        name: {"left_out": [source], "fitted": {"choice": data, "naming": None}}
        for (name, source), data in zip((("a", "oxid"), ("b", "saleor")), fitted, strict=True)
    }
    metrics = {**FIGURES["metrics"], "how": {"bundles": bundles}}
    labels = [row.label for row, _ in rows_of(metrics)]
    assert f"primary: top-1 where some are wrong{ending}" in labels
    assert "sequences: AUC" in labels


def test_rows_are_of_figures_that_bench_starter_prints() -> None:
    """A row whose figure was renamed would silently vanish from the card."""
    written = (ROOT / "bench" / "starter.py").read_text(encoding="utf-8")
    for row in ROWS:
        name = row.path[0]
        stem = name[: -len(name.rpartition(" ")[2])] if name.startswith(("recall at", "sequence AUC, ")) else name
        assert name in (HARD, BLURRED, SHARP) or f'"{name}"' in written or f'f"{stem}' in written, name


def test_kinds_are_ordered_by_their_numbers() -> None:
    kinds = parts_over(FIGURES["metrics"], "noncompliant AUC by kind")
    assert [(kind, round(found.mean, 3)) for kind, found in kinds.items()] == [("artefact", 0.8), ("banner", 0.98)]


# The card ------------------------------------------------------------------------------------------------------------


def test_the_card_says_what_the_figures_say() -> None:
    text = card(manifest(), SIZES)
    assert "| primary: top-1 where some are wrong, without `choice` | 0.870 ± 0.042 | 0.880 [0.780, 0.930] |" in text
    assert "| sequences: AUC | 0.875 ± 0.106 | 0.860 [0.840, 0.880] | at least 0.9 | not met |" in text
    assert "0.880 [0.780, 0.930] | at least 0.85 | met |" in text
    assert "AUC of the weakest kind, `artefact` | 0.800 ± 0.141 | 0.780 | at least 0.9 | not met |" in text
    assert "| sequences: AUC | 0.95 [0.93, 0.97] | 0.80 [0.78, 0.82] |" in text
    assert "| clean pictures of packs removed | 0.02 | - |" in text
    assert "| a figure nobody has named yet | 0.123 ± 0.000 |" in text
    assert "| threshold noncompliant | 0.97 | left out: oxid, saleor |" in text
    assert "| qualified | temperature 1.5, shift 0.5 | left out: oxid, saleor |" in text
    assert "calibration error of p_qualified, calibrated: 0.040 ± 0.000" in text
    assert "Together 12.6 MB (met: at most 25)" in text
    assert "nan" not in text


def test_other_figures_make_another_card() -> None:
    better = json.loads(json.dumps(FIGURES))
    better["metrics"]["left_out"]["saleor"]["sequence AUC"] = [0.93, 0.9, 0.95]
    text = card(manifest(better), SIZES)
    assert "| sequences: AUC | 0.940 ± 0.014 | 0.860 [0.840, 0.880] | at least 0.9 | met |" in text


def test_where_it_fails_is_computed() -> None:
    text = "\n".join(failures(FIGURES["metrics"]))
    assert "sequences: AUC 0.875 (at least 0.9)" in text
    assert "1 of 2 kinds are under 0.9 AUC: artefact 0.80." in text
    assert "title_mismatch 0.68, banner 0.88" in text
    assert "sequences: AUC (saleor)" in text
    assert "are removed of the views" not in text
    alarmed = {"left_out": {"oxid": {"false alarms by view": {"pack": 0.2, "multi": 0.3, "front": 0.01}}}}
    assert "more than 5% are removed of the views multi 0.30, pack 0.20." in "\n".join(failures(alarmed))


def test_recipe_and_sources_come_from_the_manifest() -> None:
    text = card(manifest(), SIZES)
    assert "| `oxid` | OXID-eSales/oxideshop_demodata_ce, before 2023-04-21 | GPL-3.0-only |" in text
    assert "`magento`" not in text
    assert "seed 11" in text
    assert "- config: seed 11, images 9" in text
    assert "| `runs/a` | oxid | saleor | 3 | images 5 (here 9) |" in text
    assert "| `runs/b` | saleor | oxid | 4 |  |" in text
    assert "This card's bundle is trained on all of them" in text
    assert "This card's bundle is trained on all of them" not in card(
        manifest(training={"sources": ["grocery"], "config": {}}), SIZES
    )


def test_a_source_without_licence_and_a_test_on_training_data_stop_it() -> None:
    with pytest.raises(SystemExit, match=r"trained on new-shop; say in bench/card\.py"):
        card(manifest(training={"sources": ["new-shop"]}), SIZES)
    leaking = json.loads(json.dumps(FIGURES))
    leaking["metrics"]["how"]["bundles"]["runs/a"]["trained_on"].append("oxid")
    with pytest.raises(SystemExit, match="runs/a was trained on oxid"):
        card(manifest(leaking), SIZES)


def test_every_source_of_the_shipped_bundle_has_its_licence() -> None:
    assert set(read_manifest(STARTER).trained_on) <= set(SOURCES)


def test_figures_of_other_benches_join(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    planted = {
        "bundle": "x",
        "rows": [
            {"name": "blur", "cases": 9, "avoided": None},
            {"name": "all", "cases": 60, "avoided": 0.96, "low": 0.93, "high": 0.98, "chance": 0.6, "coverage": 0.9},
        ],
    }
    kinship = {"kinship": {"middle": -0.4, "width": 0.1, "removed": -0.3, "data": "of a test"}, "metrics": {}}
    choice = {"metrics": {"choice": {"oxid": {"planted": {"fitted": [0.9, 0.8, 1.0], "nearest": [0.7, 0.6, 0.8]}}}}}
    duplicates = {
        "command": "python -m bench.duplicates",
        "crop": {"dense": {"AUC": 0.9991, "recall": 0.996}},
    }
    for name, found in (
        ("figures", FIGURES), ("planted", planted), ("kinship", kinship), ("choice", choice), ("duplicates", duplicates)
    ):  # fmt: skip
        (tmp_path / f"{name}.json").write_text(json.dumps(found), encoding="utf-8")
    more = [str(tmp_path / f"{name}.json") for name in ("planted", "kinship", "choice", "duplicates")]
    out = tmp_path / "merged.json"
    main([str(tmp_path / "figures.json"), "--more", *more, "--bundle", str(STARTER), "--merged", str(out)])
    text = capsys.readouterr().out
    assert "| all | 60 | 0.960 [0.930, 0.980] | 0.600 | 0.900 |" in text
    assert "| planted wrong candidates kept out of the sequence | 0.960 | at least 0.95 | met |" in text
    assert "| kinship | middle -0.4, width 0.1, removed -0.3, colours 0, titles 0 | of a test |" in text
    assert "| oxid, planted | 0.900 [0.800, 1.000] | 0.700 [0.600, 0.800] |" in text
    assert "| crop, dense | 0.999 | 0.996 |" in text
    assert "command: python -m bench.duplicates" in text
    found = json.loads(out.read_text(encoding="utf-8"))
    shipped = stated(read_manifest(STARTER), found)  # what `agpis.recipe figures` leaves in the bundle
    again = card(shipped, {name: (STARTER / graph.file).stat().st_size for name, graph in shipped.graphs.items()})
    assert again == text


def test_a_bundle_without_figures_says_so() -> None:
    bare = manifest({"metrics": {}})
    assert "Not measured." in card(bare, SIZES)
    assert list(rows_of({})) == []
    assert readme_table(bare).count("\n") == 2


def test_nested_figures_of_one_form_make_one_table() -> None:
    lines = nested({"a": {"x": 1, "y": 0.5}, "b": {"x": 2, "y": [0.4, 0.3, 0.5]}, "c": {"z": None}})
    assert lines == [
        "|  | x | y |", "|---|---|---|", "| a | 1.000 | 0.500 |", "| b | 2.000 | 0.400 [0.300, 0.500] |", "",
        "|  | z |", "|---|---|", "| c | - |", "",
    ]  # fmt: skip
    assert cell(math.nan) == "-"


def test_the_readmes_table_stands_between_its_marks() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    changed = into_readme(readme, manifest())
    assert "| sequences: AUC | 0.875 ± 0.106 | at least 0.9, not met |" in changed
    assert into_readme(changed, read_manifest(STARTER)) == into_readme(readme, read_manifest(STARTER))
    with pytest.raises(ValueError, match="substring not found"):
        into_readme("# Nothing", manifest())


# Contact sheets ------------------------------------------------------------------------------------------------------


def tile(group: str, off: float) -> Tile:
    return Tile((np.zeros((30, 40, 3), np.uint8),), group, off, (group, f"{off}"))


def test_every_group_has_its_turn_on_a_sheet() -> None:
    tiles = [tile("blur", 0.2), tile("blur", 0.9), tile("noise", 0.5), tile("blur", 0.4)]
    shown = [(found.group, found.off) for found in chosen(tiles, 3)]
    assert shown == [("blur", 0.9), ("noise", 0.5), ("blur", 0.4)]
    assert chosen([], 3) == []


def test_a_sheet_stays_small() -> None:
    rng = np.random.default_rng(0)
    noisy = [Tile((rng.integers(0, 256, (300, 300, 3), np.uint8),), "noise", 0.1, ("a", "b")) for _ in range(12)]
    data = as_jpeg(drawn(noisy, 4))
    assert 10_000 < len(data) <= LARGEST


def test_the_sheets_are_of_clean_sample_pictures() -> None:
    products = sample_products()
    truth: dict[str, str] = {}
    for line in (ROOT / "agpis" / "sample" / "truth.jsonl").read_text(encoding="utf-8").splitlines():
        truth |= {fact["image"]: fact["rule"] for fact in json.loads(line)["images"]}
    assert len(products) > 10
    assert {product.source for product in products} == {"sample"}
    assert {truth[uri] for product in products for uri in product.uris} == {""}


def test_sheets_show_what_the_bundle_gets_wrong(tmp_path: Path) -> None:
    bundle = open_bundle(None, threads=1)
    stale = tmp_path / "removed.jpg"
    stale.write_bytes(b"of an earlier bundle")
    bundle.thresholds["noncompliant"] = 1.0  # nothing is removed, so every broken picture is missed
    record = write_sheets(bundle, tmp_path, pictures=24, count=8)
    missed, removed, sequences = record["sheets"]
    assert missed["wrong"] == missed["judged"] > 5
    assert (removed["wrong"], removed["file"]) == (0, "")
    assert not stale.exists()
    assert 0 <= sequences["wrong"] <= sequences["judged"] == 8
    with Image.open(tmp_path / missed["file"]) as sheet:
        assert sheet.width > 700
    assert recorded(tmp_path) == record
    bundle.thresholds["noncompliant"] = -1.0  # everything is
    found, alarms = judged_pictures(bundle, Stock(sample_products()), 24)
    assert found.wrong == []
    assert len(alarms.wrong) == alarms.judged
    assert {shown.lines[0].split(" (")[0] for shown in alarms.wrong} == {"true: clean"}
