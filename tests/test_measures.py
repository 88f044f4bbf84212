"""Measures of light, ground, frame and directions, on pictures whose answer is known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from agpis.models.colour import ColourSignature
from agpis.models.measures import DIRECTIONS, STRAIGHTEST, TONES, Measures

Pixels = NDArray[np.uint8]
AT = dict(
    zip(
        ("tones", "tones of the product", "ground", "rim", "colour", "area", "sides", "edges", "outline", "directions"),
        np.cumsum([0, TONES, TONES, 3, 1, 3, 1, 4, 2 * STRAIGHTEST, 2 * STRAIGHTEST]).tolist(),
        strict=True,
    )
)
SIZES = {"tones": TONES, "ground": 3, "colour": 3, "sides": 4, "outline": 2 * STRAIGHTEST, "directions": DIRECTIONS}


def measured(pixels: Pixels) -> dict[str, list[float]]:
    found = Measures()(torch.from_numpy(pixels[None]))[0]
    assert found.shape == (Measures.width,)
    assert torch.isfinite(found).all()
    return {name: found[at : at + SIZES.get(name, 1)].tolist() for name, at in AT.items()}


def box(colour: tuple[int, int, int] = (200, 40, 40), left: int = 72, right: int = 152, ground: int = 255) -> Pixels:
    pixels = np.full((224, 224, 3), ground, np.uint8)
    pixels[64:160, left:right] = colour
    return pixels


def test_tones_are_shares() -> None:
    dark, light = measured(box() // 4), measured(box())
    assert sum(light["tones"]) == pytest.approx(1.0, abs=1e-3)
    assert np.argmax(light["tones"]) == TONES - 1
    assert np.argmax(dark["tones"]) < TONES // 3


def test_ground_and_product_are_told_apart() -> None:
    found = measured(box(ground=230))
    assert found["ground"] == pytest.approx([230 / 255] * 3, abs=0.01)
    assert found["colour"] == pytest.approx([200 / 255, 40 / 255, 40 / 255], abs=0.02)
    assert found["area"][0] == pytest.approx(80 * 96 / 224**2, rel=0.1)
    assert found["rim"][0] > 0.95
    assert found["sides"] == pytest.approx([0.0] * 4, abs=1e-3)


def test_a_product_at_the_edge_touches_its_side() -> None:
    top, bottom, left, right = measured(box(left=0))["sides"]
    assert left == pytest.approx(96 / 224, abs=0.05)
    assert max(top, bottom, right) < 0.01


def test_a_straight_outline_is_longer_than_a_round_one() -> None:
    disc = np.full((224, 224, 3), 255, np.uint8)
    cv2.circle(disc, (112, 112), 48, (200, 40, 40), -1)
    assert measured(box())["outline"][0] > 0.35
    assert measured(disc)["outline"][0] < 0.25


@pytest.mark.parametrize("degrees", [0, 15, 45, 90, 150])
def test_directions_turn_with_the_picture(degrees: int) -> None:
    rows = np.arange(224)[:, None] * np.sin(np.radians(degrees))
    columns = np.arange(224)[None] * np.cos(np.radians(degrees))
    pixels = np.repeat((127 + 100 * np.sin((rows + columns) / 6))[..., None], 3, 2).astype(np.uint8)
    shares = measured(pixels)["directions"]
    assert sum(shares) == pytest.approx(1.0, abs=1e-3)
    assert np.argmax(shares) == round(degrees / 180 * DIRECTIONS) % DIRECTIONS


def test_the_signature_stands_last() -> None:
    pixels = torch.from_numpy(box()[None])
    torch.testing.assert_close(Measures()(pixels)[:, -36:], ColourSignature(6)(pixels))
