"""Training of the single-tower baselines from verdicts, on drawn pictures; their checkpoints rebuilt."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from agpis.assemble import open_model
from agpis.errors import TrainingError
from agpis.loop import Optim
from agpis.metrics import auc
from agpis.models.backbones import BackboneConfig, new_backbone
from agpis.models.baselines import Baseline
from agpis.models.hub import quiet
from agpis.token_source import fingerprint
from agpis.train_baseline import BaselineTraining, train_baseline
from tests.drawn_reviews import RULEBOOK, pixels, reviews, write_vit

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = BackboneConfig("tiny", pretrained=False, size=64)
OPTIM = Optim(batch=16, lr=3e-3, steps=100, bf16=False, evaluate=25)
WHOLE = BaselineTraining(
    optim=OPTIM, backbone=TINY, freeze=False, tower_rate=1.0, hidden=32, dropout=0.0, workers=1, seed=0
)
FEW = replace(OPTIM, steps=4, evaluate=2)


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, BackboneConfig]:
    """A ViT of two blocks and a ResNet of two, as transformers saves them."""
    from transformers import ResNetConfig, ResNetModel

    folder = tmp_path_factory.mktemp("networks")
    write_vit(folder / "vit")
    with quiet():
        config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
        ResNetModel(config).save_pretrained(folder / "resnet")
    return {name: BackboneConfig(str(folder / name), size=64) for name in ("vit", "resnet")}


def run(verdicts: Path, training: BaselineTraining, out: Path, extra: list[dict[str, Any]] | None = None) -> Any:
    return train_baseline(reviews(verdicts, extra), RULEBOOK, training, out, sources=["v.jsonl"], progress=False)


def logits(checkpoint: Path, verdicts: Path, numbers: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Of front and bar of each product, one sequence at a time, from checkpoint and pictures alone; and accepted."""
    model, _ = open_model(checkpoint, "baseline")
    assert isinstance(model, Baseline)
    rows = []
    for number in numbers:
        for view in ("front", "bar"):
            shown = torch.from_numpy(pixels(verdicts.parent, [f"{number}-{view}.jpg", f"{number}-detail.jpg"]))[None]
            with torch.inference_mode():
                rows.append(model(model.pooled(shown, torch.ones(1, 2)), torch.ones(1, 2))[0].numpy())
    return np.stack(rows), np.array([True, False] * len(numbers))


HELD = [number for number in range(40) if number % 5 == 4]
VALIDATION = [number for number in range(40) if number % 5 == 3]


@pytest.mark.parametrize(
    ("fusion", "binary", "freeze"),
    [("late", False, True), ("late", True, False), ("early", False, False)],
    ids=["late-classes-frozen", "late-binary-trained", "early-classes-trained"],
)
def test_a_bar_is_learned_and_the_checkpoint_says_the_same(
    fusion: Any, binary: bool, freeze: bool, verdicts: Path, networks: dict[str, BackboneConfig], tmp_path: Path
) -> None:
    backbone = networks["vit"] if freeze else TINY
    training = replace(WHOLE, backbone=backbone, fusion=fusion, binary=binary, freeze=freeze)
    report = run(verdicts, training, tmp_path)
    found, good = logits(tmp_path, verdicts, HELD)
    assert found.shape == (16, 2 if binary else len(RULEBOOK.classes))
    p = torch.softmax(torch.from_numpy(found), 1).numpy()
    assert auc(p[:, 0], good) > 0.9
    if not binary:
        assert (p[~good].argmax(1) == RULEBOOK.classes.index("banner")).mean() > 0.7
    # the figure of the report, from the checkpoint alone
    again, good = logits(tmp_path, verdicts, VALIDATION)
    again = torch.softmax(torch.from_numpy(again), 1).numpy()[:, 0]
    assert report.figures["auc"] == pytest.approx(auc(again, good), abs=0.02)
    content = json.loads((tmp_path / "config.json").read_text())
    assert content["metrics"] == {"validation": report.figures}
    assert content["training"]["sources"] == ["v.jsonl"]
    assert content["training"]["samples"] == report.samples == {"train": 48, "validation": 16}


@pytest.mark.parametrize("name", ["vit", "resnet"])
@pytest.mark.parametrize("fusion", ["late", "early"])
def test_a_frozen_backbone_stays_as_it_was(
    name: str, fusion: Any, verdicts: Path, networks: dict[str, BackboneConfig], tmp_path: Path
) -> None:
    """Also its running statistics, where pictures are joined and no token is cached."""
    training = replace(WHOLE, backbone=networks[name], fusion=fusion, freeze=True, optim=FEW, class_weights=0.5)
    run(verdicts, training, tmp_path)
    model, _ = open_model(tmp_path, "baseline")
    assert isinstance(model, Baseline)
    assert model.backbone is not None
    assert fingerprint(model.backbone) == fingerprint(new_backbone(networks[name]))
    assert (tmp_path / "cache").exists() is (fusion == "late")


def test_a_trained_backbone_moves(verdicts: Path, networks: dict[str, BackboneConfig], tmp_path: Path) -> None:
    run(verdicts, replace(WHOLE, backbone=networks["resnet"], optim=FEW), tmp_path)
    model, _ = open_model(tmp_path, "baseline")
    assert isinstance(model, Baseline)
    assert model.backbone is not None
    start = new_backbone(networks["resnet"]).state_dict()
    moved = {key for key, value in model.backbone.state_dict().items() if not torch.equal(value, start[key])}
    assert any("running_mean" in key for key in moved)
    assert any(key.endswith("convolution.weight") for key in moved)


@pytest.mark.parametrize("fusion", ["late", "early"])
def test_bad_pictures_are_named_and_left_out(fusion: Any, verdicts: Path, tmp_path: Path) -> None:
    row: dict[str, Any] = {"title": "lamp", "accepted": True}
    extra = [
        {**row, "sku": "B1", "sequence": ["0-front.jpg", "absent.jpg"], "split": "train"},
        {**row, "sku": "B2", "sequence": ["absent.jpg"], "split": "validation"},
    ]
    training = replace(WHOLE, fusion=fusion, freeze=True, optim=replace(FEW, steps=6))
    report = run(verdicts, training, tmp_path, extra)
    assert [Path(bad.uri).name for bad in report.bad_images] == ["absent.jpg"]
    assert report.left_out == 2
    assert report.figures["samples"] == 16


def test_without_validation_and_with_too_little(verdicts: Path, tmp_path: Path) -> None:
    samples = [s for s in reviews(verdicts) if s.split == "train"]
    training = replace(WHOLE, optim=FEW, freeze=True)
    report = train_baseline(samples, RULEBOOK, training, tmp_path / "out", progress=False)
    assert report.figures == {}
    assert report.notes == ("There is no validation split: the last weights are kept, and nothing is calibrated.",)
    with pytest.raises(TrainingError, match="found 10 samples to train on, of 2 classes") as caught:
        train_baseline(samples[:10], RULEBOOK, training, tmp_path / "few", progress=False)
    assert caught.value.code == "too_few_samples"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class_weights": -1.0}, "class_weights is -1.0; allowed is 0 to 1"),
        ({"dropout": 1.0}, "dropout is 1.0; allowed is 0 to below 1"),
        ({"seed": -1}, "seed -1: all must be at least 0"),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else "",
)
def test_settings_that_cannot_be_meant(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError, match=message) as caught:
        replace(WHOLE, **changes)
    assert caught.value.code == "bad_config"
