"""The colour signature of the product in a picture."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from agpis.errors import TrainingError
from agpis.models.backbones import BackboneConfig, new_backbone
from agpis.models.colour import ColourSignature

Pixels = NDArray[np.uint8]


def picture(colour: tuple[int, int, int], ground: int = 255, at: int = 40, size: int = 60) -> Pixels:
    """A disc with shading on a plain ground."""
    out = np.full((128, 128, 3), ground, np.uint8)
    cv2.circle(out, (at + 20, 64), size // 2, colour, -1)
    cv2.circle(out, (at + 20, 64), size // 4, tuple(int(0.8 * c) for c in colour), -1)
    return out


def signatures(*pictures: Pixels) -> torch.Tensor:
    found: torch.Tensor = ColourSignature(6)(torch.from_numpy(np.stack(pictures)))
    return found


def test_likeness_follows_the_products_colour_alone() -> None:
    red, blue = (200, 30, 40), (30, 60, 200)
    found = signatures(
        picture(red), picture(red, at=60, size=30), picture(red, ground=235), picture(blue), picture((120, 120, 120))
    )
    assert found.shape == (5, 36)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(5))
    likeness = found @ found.T
    assert likeness[0, 1] > 0.95  # another place and size
    assert likeness[0, 2] > 0.95  # another ground
    assert likeness[0, 3] < 0.2
    assert likeness[0, 4] < 0.3
    assert likeness[3, 4] < 0.5


def test_chroma_is_that_of_opencv() -> None:
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (1, 50, 3)).astype(np.float32) / 255
    expected = cv2.cvtColor(colours, cv2.COLOR_RGB2LAB)[0]
    a, b = ColourSignature().chroma(torch.from_numpy(colours.transpose(2, 0, 1)[None]))
    np.testing.assert_allclose(a[0].numpy(), expected[:, 1], atol=0.5)
    np.testing.assert_allclose(b[0].numpy(), expected[:, 2], atol=0.5)


def test_a_bare_picture_has_a_signature_too() -> None:
    found = signatures(np.full((128, 128, 3), 255, np.uint8), np.zeros((128, 128, 3), np.uint8))
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found.norm(dim=1), torch.ones(2))


def test_a_backbone_brings_it_behind_its_own_columns() -> None:
    torch.manual_seed(0)
    plain = new_backbone(BackboneConfig("tiny", pretrained=False))
    torch.manual_seed(0)
    coloured = new_backbone(BackboneConfig("tiny", pretrained=False, colours=4))
    assert (coloured.width, coloured.tokens, coloured.signature) == (plain.width + 16, plain.tokens, 16)
    pixels = torch.from_numpy(np.stack([cv2.resize(picture((200, 30, 40)), (64, 64))] * 2).astype(np.uint8))
    tokens = coloured(pixels)
    torch.testing.assert_close(tokens[..., :-16], plain(pixels))
    assert float(tokens[0, 0, -16:].detach().square().mean()) == pytest.approx(1.0)
    assert torch.equal(tokens[:, 0, -16:], tokens[:, -1, -16:])
    again = new_backbone(coloured.config)
    again.load_state_dict(coloured.state_dict())
    torch.testing.assert_close(again(pixels), tokens)


def test_one_bin_is_refused() -> None:
    with pytest.raises(TrainingError, match="at least 2 bins"):
        BackboneConfig(colours=1)
