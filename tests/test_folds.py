"""Bundles with the sources left out of them, on the benches' command lines."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import pytest

from agpis.bundle_manifest import Kinship
from agpis.simulate import held_out
from bench import folds, kinship
from tests.test_choice import shop


def opened(*words: str) -> list[folds.Fold]:
    parser = argparse.ArgumentParser()
    folds.arguments(parser)
    return folds.folds(parser, parser.parse_args(words))


def trained_on(bundle: Path, folder: Path, hold_out: float) -> str:
    """A copy of the bundle that says it was trained on `one`."""
    shutil.copytree(bundle, folder)
    row = json.loads((folder / "manifest.json").read_text("utf-8"))
    row["training"] |= {"sources": ["one"], "hold_out": hold_out}
    (folder / "manifest.json").write_text(json.dumps(row), "utf-8")
    return str(folder)


def test_what_a_bundle_was_trained_on_is_not_measured(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, name in enumerate(("one", "two")):
        shop(tmp_path, name, 3 * number)
    data = ("--data", str(tmp_path))
    first, second = opened(str(tiny_bundle), "one", str(tiny_bundle), "two", *data)
    assert (first.sources, second.sources) == (("one",), ("two",))
    assert [product.source for product in second.products("two")] == ["two"] * 3
    with pytest.raises(SystemExit, match="seen was trained on one; its figures would mislead"):
        opened(trained_on(tiny_bundle, tmp_path / "seen", 0.0), "two,one", *data)
    (held,) = opened(trained_on(tiny_bundle, tmp_path / "held", 0.5), "two,one", *data)
    assert len(held.products("two")) == 3
    assert [p.sku for p in held.products("one")] == [p.sku for p in first.products("one") if held_out(p, 0.5)]
    for words, message in (
        ((str(tiny_bundle),), "in turn"),
        ((str(tiny_bundle), "one,two,one"), "one named twice"),
    ):
        with pytest.raises(SystemExit):
            opened(*words, *data)
        assert message in capsys.readouterr().err


def test_entries_are_added_to_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    folds.add(None, {"a": {"b": 1}})
    folds.add(path, {"metrics": {"choice": 1}})
    folds.add(path, {"metrics": {"naming": {"x": 2}}, "kinship": {"middle": 3}})
    folds.add(path, {"metrics": {"naming": {"y": 4}}})
    assert json.loads(path.read_text("utf-8")) == {
        "metrics": {"choice": 1, "naming": {"y": 4}},
        "kinship": {"middle": 3},
    }


def test_kinship_is_measured_with_and_without_colours(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, name in enumerate(("one", "two", "three")):
        shop(tmp_path, name, 3 * number)
    out = tmp_path / "figures.json"
    common = ["--data", str(tmp_path), "--out", str(out)]
    kinship.main([str(tiny_bundle), "one,two", str(tiny_bundle), "three", *common])
    both = capsys.readouterr().out
    entry = Kinship(**json.loads(out.read_text("utf-8"))["kinship"])
    assert (entry.colours, entry.data[:44]) == (2.0, "mean of the fits on one, two; three (each le")
    kinship.main([str(tiny_bundle), "one,two", str(tiny_bundle), "three", *common, "--colours", "2"])
    alone = capsys.readouterr().out
    assert Kinship(**json.loads(out.read_text("utf-8"))["kinship"]) == entry
    first, second = (
        next(line for line in text.splitlines() if line.startswith("| one")).strip("| ").split(" | ")
        for text in (both, alone)
    )
    assert (*first[:2], *first[3:]) == tuple(second)  # the same draws with and without
    assert len(first) == 5
    assert first[3] == first[4]  # this bundle knows nothing of what titles name
