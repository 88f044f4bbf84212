"""What is fitted on left-out sources: the rules' calibration, the paths' weights, means of several fits."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from agpis.assemble import open_model
from agpis.bundle import open_bundle
from agpis.errors import TrainingError
from agpis.inputs import stack
from agpis.left_out import calibrate_rules, find_paths, mean_of, set_rules, weigh_starter
from agpis.models.single import ImageConfig
from agpis.recipe import save_checkpoint
from agpis.rulebook import load_rulebook
from agpis.train_image import new_image_model
from tests.tiny import draw_products


def test_rules_of_other_shops_are_calibrated(tmp_path: Path) -> None:
    rulebook = load_rulebook("default")
    torch.manual_seed(0)
    config = ImageConfig(rules=len(rulebook.single_rules), size=64, tower="tiny", width=128, descriptor=16)
    model = new_image_model(config)
    save_checkpoint(tmp_path, model, config)
    found = calibrate_rules(tmp_path, draw_products(), count=80)
    assert list(found) == list(rulebook.single_rules)
    assert all(scale >= 0 for scale, _ in found.values())
    set_rules(model, rulebook, found)
    torch.testing.assert_close(model.rule_scale.tolist(), [scale for scale, _ in found.values()], atol=1e-6, rtol=0)
    with pytest.raises(TrainingError, match=r"rules names \['no_such'\]"):
        set_rules(model, rulebook, {"no_such": (1.0, 0.0)})


def test_paths_are_weighed_once(tiny_bundle: Path, tmp_path: Path) -> None:
    folder, checkpoint = tmp_path / "bundle", tmp_path / "muisc"
    shutil.copytree(tiny_bundle, folder)
    shutil.copytree(tiny_bundle.parent / "checkpoints" / "muisc", checkpoint)
    paths = find_paths(folder, checkpoint, draw_products(seed=1), count=24)
    assert paths == find_paths(folder, checkpoint, draw_products(seed=1), count=24)
    bundle = open_bundle(folder)
    tokens = bundle.image(stack(draw_products()[0].pictures, bundle.size)).tokens[None]
    before = bundle.sequence(tokens, "lamp", "home")
    weigh_starter(folder, checkpoint, paths)
    assert not np.allclose(before, open_bundle(folder).sequence(tokens, "lamp", "home"), atol=1e-3)
    assert open_model(checkpoint, "muisc")[1].metrics["paths"] == asdict(paths)
    with pytest.raises(TrainingError, match="is weighed already"):
        weigh_starter(folder, checkpoint, paths)


def test_means_of_files_want_the_same_keys() -> None:
    assert mean_of(['{"a": [1, 2], "b": 3}', '{"a": [3, 4], "b": 5}']) == {"a": [2.0, 3.0], "b": 4.0}
    with pytest.raises(TrainingError, match="keys"):
        mean_of(['{"a": 1}', '{"b": 1}'])
