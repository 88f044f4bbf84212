"""agpis-sim and the tables, small: the benchmark is the same when built again, and every row trains and is measured."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from agpis.errors import OutputError, TrainingError
from agpis.models.muisc import MuiscConfig
from agpis.rulebook import load_rulebook
from agpis.samples import labelled
from agpis.verdicts import read_verdicts
from bench import table2, table3
from bench.agpis_sim import UNSEEN, VALIDATION, Scale, build
from bench.paper_step import flops_a_sample
from bench.tables import figures

PRODUCTS = 24
SMALL = Scale(train=40, validation=24, unseen=24)


@pytest.fixture(scope="module")
def some_data(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of four of the nine catalogues (one to train on, both of the validation, one unseen) the first products."""
    folder = tmp_path_factory.mktemp("data")
    for name in ("spree", "grandnode", "smartstore", "kickstart"):
        (folder / name).mkdir()
        for path in (shared_data / name).iterdir():
            if path.name != "catalog.jsonl":
                (folder / name / path.name).symlink_to(path)
        lines = (shared_data / name / "catalog.jsonl").read_text("utf-8").splitlines(keepends=True)
        (folder / name / "catalog.jsonl").write_text("".join(lines[:PRODUCTS]), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def benchmark(some_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sim") / "sim"
    build(some_data, out, SMALL, processes=1, progress=False)
    return out


def test_the_benchmark_is_the_same_again_and_leaks_nothing(benchmark: Path, some_data: Path, tmp_path: Path) -> None:
    found = json.loads((benchmark / "benchmark.json").read_text("utf-8"))
    again = build(some_data, tmp_path / "again", SMALL, processes=2, progress=False)
    assert again["hash"] == found["hash"]
    other = build(some_data, tmp_path / "other", Scale(8, 4, 4), seed=1, processes=1, progress=False)
    assert other["hash"] != found["hash"]
    rulebook = load_rulebook("default")
    samples = labelled(read_verdicts(benchmark / "samples.jsonl"), rulebook)
    unseen = labelled(read_verdicts(benchmark / "unseen.jsonl"), rulebook)
    by_split = {s: {x.verdict.sku for x in samples if x.split == s} for s in ("train", "validation")}
    assert not by_split["train"] & by_split["validation"]
    assert {sku.split("/")[0] for sku in by_split["validation"]} == set(VALIDATION)
    assert {x.verdict.sku.split("/")[0] for x in unseen} <= set(UNSEEN)
    assert {x.verdict.sku.split("/")[0] for x in samples}.isdisjoint(UNSEEN)
    assert {x.split for x in unseen} == {"test"}
    assert found["counts"]["train"]["samples"] == SMALL.train


def test_a_folder_with_another_question_and_one_without_catalogues_are_refused(benchmark: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="another benchmark"):
        build(tmp_path, benchmark, SMALL, seed=5)
    with pytest.raises(TrainingError, match=r"no \*/catalog\.jsonl"):
        build(tmp_path, tmp_path / "out", SMALL)


def test_tables_2_and_3_at_the_smallest_scale(
    benchmark: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--benchmark", str(benchmark), "--scale", "tiny", "--out", str(tmp_path), "--threads", "1"]
    table2.main(options)
    said = capsys.readouterr().out
    assert "MUIsC less" in said
    entries = [json.loads(line) for line in (tmp_path / "common" / "results.jsonl").read_text("utf-8").splitlines()]
    assert {entry["row"] for entry in entries} == {row.name for row in table2.COMMON}
    assert all(0.0 <= entry["all"] <= 1.0 for entry in entries)
    scores = np.load(tmp_path / "common" / entries[0]["scores"])
    assert scores.shape == (SMALL.unseen,)
    table3.main([*options, "--rows", "MUIsC"])
    again = (tmp_path / "common" / "results.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line) for line in again[: len(entries)]] == entries  # finished runs are kept
    assert {json.loads(line)["row"] for line in again} > {"MUIsC, whole titles", "MUIsC"}


def test_the_rows_from_scratch_are_the_papers_backbones() -> None:
    names = {row.backbone.name for row in table2.scratch(64)}
    assert {"resnet18", "resnet50", "resnetv2_101"} < names
    assert all(not row.backbone.pretrained and not row.freeze for row in table2.scratch(64))


def test_figures_are_those_of_the_scores() -> None:
    rulebook = load_rulebook("default")
    scopes = {rule.id: rule.scope for rule in rulebook.rules}
    labels = np.array([0, 0, 0, 1, 2])
    assert scopes[rulebook.classes[1]] == scopes[rulebook.classes[2]] == "single"
    found = figures(np.array([0.9, 0.8, 0.2, 0.3, 0.1], np.float32), labels == 0, labels, rulebook)
    assert found["all"] == pytest.approx(5 / 6)
    assert found["single"] == pytest.approx(5 / 6, abs=0.1)  # balanced draws of two of the three
    assert found["R@P0.90"] == pytest.approx(2 / 3)


def test_operations_of_the_paper_preset_are_those_of_its_parts() -> None:
    """ViT-B/16 at 224 px: 17.6 GFLOP a forward pass (Dosovitskiy et al., Table 6: 55.4 GFLOP at 384 px)."""
    config = MuiscConfig(classes=45, vocabulary=21128)
    total = flops_a_sample(config, 86_000_000, 40)
    tower = 3 * 3 * 2 * 17.5e9  # three pictures, forward and backward, multiply and add
    assert total > tower
    assert total < 1.25 * tower
