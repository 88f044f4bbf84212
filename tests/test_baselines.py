"""The single-tower baselines of the paper's 4.3."""

from __future__ import annotations

from dataclasses import asdict

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from agpis.errors import TrainingError
from agpis.models.backbones import BackboneConfig, new_backbone
from agpis.models.baselines import (
    Baseline,
    BaselineConfig,
    baseline_loss,
    joined,
    qualified_probability,
)

TINY = BackboneConfig("tiny", pretrained=False, size=64)
LATE = BaselineConfig(classes=6, fusion="late", width=16, hidden=32)
EARLY = BaselineConfig(classes=6, fusion="early", width=16, hidden=32)


def baseline(config: BaselineConfig, *, tower: bool = True) -> Baseline:
    torch.manual_seed(0)
    return Baseline(config, new_backbone(TINY) if tower else None).eval()


def pixels(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (*shape, 64, 64, 3), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("config", [LATE, EARLY])
@pytest.mark.parametrize("binary", [False, True])
def test_from_pixels_to_logits(config: BaselineConfig, binary: bool) -> None:
    config = BaselineConfig(**{**asdict(config), "binary": binary})
    model, mask = baseline(config), torch.tensor([[1, 1, 1], [1, 1, 0]])
    with torch.inference_mode():
        features = model.pooled(pixels(2, 3), mask)
        logits = model(features, mask)
    assert features.shape == (2, 3 if config.fusion == "late" else 1, 16)
    assert logits.shape == (2, 2 if binary else 6)
    probability = qualified_probability(logits, binary)
    torch.testing.assert_close(probability, logits.exp()[:, 0] / logits.exp().sum(1))


@pytest.mark.parametrize("config", [LATE, EARLY])
def test_fewer_pictures_are_pictures_that_are_absent(config: BaselineConfig) -> None:
    model, drawn = baseline(config), pixels(2, 2)
    filled = torch.cat([drawn, pixels(2, 1, seed=5)], dim=1)
    mask = torch.tensor([[True, True, False]] * 2)
    with torch.inference_mode():
        few = model(model.pooled(drawn, mask[:, :2]), mask[:, :2])
        full = model(model.pooled(filled, mask), mask)
    torch.testing.assert_close(few, full)


def test_absent_features_are_not_read_and_order_counts() -> None:
    model = baseline(LATE, tower=False)
    features = torch.randn(2, 3, 16, generator=torch.Generator().manual_seed(1))
    mask = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]])
    with torch.inference_mode():
        before = model(features, mask)
        features[0, 2] += 7.0
        torch.testing.assert_close(model(features, mask), before)
        assert not torch.allclose(model(features.flip(1), mask.flip(1)), before)


def test_a_picture_is_seen_alone_in_late_fusion() -> None:
    model, drawn = baseline(LATE), pixels(2, 3)
    mask = torch.tensor([[True, False, True], [True, True, True]])
    with torch.inference_mode():
        found = model.pooled(drawn, mask)
        assert model.backbone is not None
        alone = model.backbone.pooled(model.backbone(drawn[0, 2:3]))
    torch.testing.assert_close(found[0, 2:3], alone, atol=1e-6, rtol=1e-5)
    assert not found[0, 1].any()


def test_what_cannot_be_meant_is_refused() -> None:
    for fields, message in (
        ({"fusion": "middle"}, "fusion is 'middle'"),
        ({"classes": 1}, "classes 1"),
        ({"k": 0}, "k 0"),
        ({"dropout": -0.1}, r"dropout -0\.1"),
    ):
        with pytest.raises(TrainingError, match=message) as caught:
            BaselineConfig(**{"classes": 6, "fusion": "late", **fields})
        assert caught.value.code == "bad_config"
    with pytest.raises(TrainingError, match=r"width \(=1280\) must be the backbone's \(=16\)"):
        Baseline(BaselineConfig(classes=6, fusion="late"), new_backbone(TINY))
    with pytest.raises(TrainingError, match=r"found 4 pictures a sequence; this model takes at most k \(=3\)"):
        baseline(LATE, tower=False)(torch.zeros(1, 4, 16), torch.ones(1, 4))
    with pytest.raises(TrainingError, match="has no backbone"):
        baseline(LATE, tower=False).pooled(pixels(1, 3), torch.ones(1, 3))
    with pytest.raises(TrainingError, match="binary logits have 2 columns; found 6"):
        qualified_probability(torch.zeros(1, 6), True)


# Early fusion's picture


def test_joined_agrees_with_opencv() -> None:
    drawn = pixels(2, 3)
    found = joined(drawn, torch.tensor([[1, 1, 1], [1, 0, 1]]))
    assert found.shape == (2, 64, 64, 3)
    assert found.dtype == torch.uint8
    places = [(0, 0), (0, 32), (32, 0)]  # a grid of two columns; the fourth place stays white
    for n, k in ((0, 0), (0, 1), (0, 2), (1, 0), (1, 2)):
        y, x = places[k]
        expected = cv2.resize(drawn[n, k].numpy(), (32, 32), interpolation=cv2.INTER_AREA).astype(int)
        assert np.abs(found[n, y : y + 32, x : x + 32].numpy().astype(int) - expected).max() <= 1  # rounding of halves
    assert bool((found[:, 32:, 32:] == 255).all())
    assert bool((found[1, :32, 32:] == 255).all())


@pytest.mark.parametrize(("k", "columns"), [(1, 1), (2, 2), (3, 2), (5, 3)])
def test_joined_has_a_place_for_every_picture(k: int, columns: int) -> None:
    drawn = torch.stack([torch.full((64, 64, 3), 10 * (i + 1), dtype=torch.uint8) for i in range(k)])[None]
    found = joined(drawn, torch.ones(1, k))[0, ..., 0]
    cell = 64 // columns
    shades, counts = found.unique(return_counts=True)
    expected = {10 * (i + 1): cell * cell for i in range(k)}
    assert {int(s): int(c) for s, c in zip(shades, counts, strict=True) if s != 255} == expected
    # in the merchant's order, row by row
    assert [int(found[found == s].numel() and (found == s).nonzero()[0] @ torch.tensor([64, 1])) for s in expected] == (
        sorted(int((found == s).nonzero()[0] @ torch.tensor([64, 1])) for s in expected)
    )


# Loss


def test_loss_by_arithmetic_and_weights() -> None:
    logits = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 3, 0, 5, 1])
    p = torch.softmax(logits.double(), 1).numpy()
    each = -np.log(p[np.arange(5), labels])
    assert float(baseline_loss(logits, labels, binary=False)) == pytest.approx(each.mean(), abs=1e-6)
    weights = torch.tensor([0.5, 1.0, 1.0, 2.0, 1.0, 3.0])
    weighted = (each * weights.numpy()[labels]).mean()
    assert float(baseline_loss(logits, labels, binary=False, weights=weights)) == pytest.approx(weighted, abs=1e-5)
    two = torch.softmax(logits[:, :2].double(), 1).numpy()
    expected = -np.log(two[np.arange(5), (labels != 0).long()]).mean()
    assert float(baseline_loss(logits[:, :2], labels, binary=True)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("config", [LATE, EARLY])
def test_it_learns_which_sequences_hold_a_dark_picture(config: BaselineConfig) -> None:
    model = baseline(BaselineConfig(**{**asdict(config), "binary": True, "dropout": 0.0}))
    rng = np.random.default_rng(0)
    labels = torch.from_numpy(rng.integers(0, 2, 128))
    drawn = pixels(128, 3) // 4 + 190
    for row, label in enumerate(labels):
        if label:
            drawn[row, rng.integers(3)] //= 5
    mask = torch.ones(128, 3)
    with torch.no_grad():
        features = model.pooled(drawn, mask)
    trained: nn.Module = model
    optimizer = torch.optim.AdamW(trained.parameters(), lr=1e-2)
    for _ in range(100):
        loss = baseline_loss(model(features[:96], mask[:96]), labels[:96], binary=True)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        p = qualified_probability(model(features[96:], mask[96:]), True)
    assert bool(((p < 0.5).long() == labels[96:]).float().mean() > 0.9)
