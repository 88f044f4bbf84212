"""Single-image models on any backbone, and eq. (1)."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from agpis.checkpoint import Checkpoint, load_weights, read_checkpoint, write_checkpoint
from agpis.errors import TrainingError
from agpis.models.backbones import Backbone, BackboneConfig, new_backbone
from agpis.models.heads import HeadConfig, ImageClassifier, primary_loss
from agpis.rulebook import load_rulebook

TINY = BackboneConfig("tiny", pretrained=False, size=64)
COMPLIANCE, PRIMARY = HeadConfig("compliance", rules=4), HeadConfig("primary")


def classifier(config: HeadConfig, seed: int = 0) -> ImageClassifier:
    torch.manual_seed(seed)
    return ImageClassifier(config, new_backbone(TINY)).eval()


def pixels(n: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (n, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


class Speaking(Backbone):
    """Mean colours of the four quarters behind a class token: a backbone of another kind than the convolutional."""

    size, tokens, width, class_token = 64, 5, 3, True

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        places = F.avg_pool2d(pixels.permute(0, 3, 1, 2).float() / 255, 32).flatten(2).transpose(1, 2)
        return torch.cat([places.mean(1, keepdim=True), places], dim=1)


def test_shapes_and_names() -> None:
    with torch.inference_mode():
        found, primary = classifier(COMPLIANCE)(pixels(3)), classifier(PRIMARY)(pixels(3))
    shapes = {name: tuple(value.shape) for name, value in found.items()}
    assert shapes == {"noncompliant": (3,), "rules": (3, 4), "tokens": (3, 4, 16)}
    assert {name: tuple(value.shape) for name, value in primary.items()} == {"primary": (3,), "tokens": (3, 4, 16)}


def test_no_other_image_of_the_batch_is_known() -> None:
    for config in (COMPLIANCE, PRIMARY):
        model = classifier(config)
        with torch.inference_mode():
            together, alone = model(pixels(3)), model(pixels(3)[1:2])
        for name, value in together.items():
            torch.testing.assert_close(value[1:2], alone[name], atol=1e-5, rtol=1e-5)


def test_tokens_give_what_pixels_give_and_primary_needs_the_pooled_one_alone() -> None:
    for config in (COMPLIANCE, PRIMARY):
        model = classifier(config)
        with torch.inference_mode():
            whole = model(pixels(3))
            for name, value in model.of_tokens(whole["tokens"]).items():
                torch.testing.assert_close(value, whole[name])
    with torch.inference_mode():
        pooled = model.backbone.pooled(whole["tokens"])[:, None]
        torch.testing.assert_close(model.of_tokens(pooled)["primary"], whole["primary"])


def test_the_strongest_token_speaks_and_the_class_token_is_no_place() -> None:
    torch.manual_seed(0)
    model = ImageClassifier(HeadConfig("compliance", rules=2), Speaking()).eval()
    with torch.no_grad():
        for part in (model.head.out, *(p for p in model.head.local if isinstance(p, torch.nn.Linear))):
            part.weight.zero_()
            part.bias.zero_()
    local = model.head.local
    assert local is not None
    tokens = torch.zeros(1, 5, 3)
    places: list[torch.Tensor] = []
    hook = local.register_forward_hook(lambda _, given, out: places.extend((given[0], out)))
    with torch.no_grad():
        local[1].weight[0, 0] = local[3].weight[0, 0] = 1.0
        tokens[0, 3] = torch.tensor([2.0, -1.0, -1.0])  # one mark, at the third place
        found = model.of_tokens(tokens)
    hook.remove()
    assert places[0].shape == (1, 4, 3)
    assert float(found["noncompliant"]) == pytest.approx(float(places[1][0, 2, 0]))
    assert float(found["noncompliant"]) > 0.5
    # a mean over the places would have said a quarter of it
    assert float(places[1][..., 0].mean()) == pytest.approx(float(found["noncompliant"]) / 4)
    with torch.no_grad():
        tokens[0, 3], tokens[0, 0] = 0.0, torch.tensor([2.0, -1.0, -1.0])
        assert float(model.of_tokens(tokens)["noncompliant"]) == 0.0


def test_without_rules_only_noncompliance_is_said() -> None:
    with torch.inference_mode():
        found = classifier(HeadConfig("compliance"))(pixels(2))
    assert found["rules"].shape == (2, 0)
    assert found["noncompliant"].shape == (2,)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"role": "other"}, "role is 'other'"),
        ({"role": "primary", "rules": 3}, "rules is 3"),
        ({"role": "compliance", "rules": -1}, "rules is -1"),
        ({"role": "primary", "hidden": 0}, "hidden is 0"),
        ({"role": "primary", "dropout": 1.0}, r"dropout 1\.0"),
    ],
)
def test_what_cannot_be_meant_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(TrainingError, match=message) as caught:
        HeadConfig(**fields)
    assert caught.value.code == "bad_config"


def test_a_checkpoint_gives_the_model_back(tmp_path: Path) -> None:
    model, rulebook = classifier(COMPLIANCE), load_rulebook("default")
    written = Checkpoint("compliance", asdict(model.config), asdict(model.backbone.config), rulebook.text())
    write_checkpoint(tmp_path / "c", written, model)
    read = read_checkpoint(tmp_path / "c", "compliance")
    assert read.backbone is not None
    again = ImageClassifier(HeadConfig(**read.model), new_backbone(BackboneConfig(**read.backbone))).eval()
    load_weights(tmp_path / "c", again)
    with torch.inference_mode():
        for name, value in model(pixels(2)).items():
            torch.testing.assert_close(again(pixels(2))[name], value, atol=0, rtol=0)


# eq. (1)


def test_primary_loss_wants_the_chosen_above_its_own_candidates() -> None:
    group, chosen = torch.tensor([0, 0, 1, 1]), torch.tensor([True, False, True, False])
    right = primary_loss(torch.tensor([3.0, -3.0, 3.0, -3.0]), group, chosen)
    wrong = primary_loss(torch.tensor([-3.0, 3.0, 3.0, -3.0]), group, chosen)
    assert right < 0.2 < 1.0 < wrong
    # without a second candidate only the binary half is left
    alone = primary_loss(torch.tensor([2.0]), torch.tensor([0]), torch.tensor([True]))
    assert float(alone) == pytest.approx(np.log1p(np.exp(-2.0)), abs=1e-6)


def test_primary_loss_by_arithmetic() -> None:
    logits = torch.tensor([0.5, -1.0, 2.0, 0.3, 1.5])
    group, chosen = torch.tensor([7, 7, 7, 2, 2]), torch.tensor([False, True, False, True, False])
    s = 1 / (1 + np.exp(-logits.double().numpy()))
    binary = -np.mean([np.log(1 - s[0]), np.log(s[1]), np.log(1 - s[2]), np.log(s[3]), np.log(1 - s[4])])
    e = np.exp(logits.double().numpy())
    among = -np.mean([np.log(e[1] / e[:3].sum()), np.log(e[3] / e[3:].sum())])
    assert float(primary_loss(logits, group, chosen)) == pytest.approx(binary + among, abs=1e-6)


def test_primary_loss_of_parts_adds_up_to_that_of_the_step() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(9, generator=generator)
    group = torch.tensor([0, 0, 0, 1, 1, 2, 3, 3, 3])
    chosen = torch.tensor([True, False, False, False, True, True, False, False, True])
    whole = primary_loss(logits, group, chosen)
    parts = [
        primary_loss(logits[cut], group[cut], chosen[cut], images=9, products=3) for cut in (slice(0, 5), slice(5, 9))
    ]
    torch.testing.assert_close(sum(parts), whole)
