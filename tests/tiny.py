"""A tiny real bundle: drawn products, two training steps of each model, the real export. About ten seconds."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from agpis.loop import Optim
from agpis.recipe import MuiscTraining, StarterTraining, train_starter
from agpis.simulate import Catalogued
from agpis.train_image import ImageTraining

KINDS = ("round lamp", "square box", "tall vase", "flat plate")
COLOURS = {"red": (200, 40, 40), "green": (40, 160, 60), "blue": (40, 60, 190)}
VIEWS = ("front", "back", "side", "detail")


def draw_picture(kind: int, colour: tuple[int, int, int], view: str, rng: np.random.Generator) -> np.ndarray:
    """uint8 (160, 128, 3): a shape on white; the view changes pattern and outline."""
    picture = np.full((160, 128, 3), 255, np.uint8)
    if view == "detail":
        picture[:] = colour
        picture[::8] = 30
    elif kind == 0:
        cv2.circle(picture, (64, 80), 44 if view == "front" else 34, colour, -1)
    elif kind == 1:
        cv2.rectangle(picture, (24, 40), (104, 120), colour, -1)
    elif kind == 2:
        cv2.ellipse(picture, (64, 80), (22, 60), 0, 0, 360, colour, -1)
    else:
        cv2.ellipse(picture, (64, 100), (54, 18), 0, 0, 360, colour, -1)
    if view == "back":
        cv2.line(picture, (44, 60), (84, 110), (20, 20, 20), 5)
    if view == "side":
        picture = np.ascontiguousarray(picture[:, 20:108])
    noise = rng.integers(0, 12, picture.shape)
    return (picture.astype(np.int16) - noise).clip(0, 255).astype(np.uint8)


def draw_products(seed: int = 0) -> list[Catalogued]:
    """Twelve products in four views each."""
    rng = np.random.default_rng(seed)
    return [
        Catalogued(
            sku=f"{kind}-{name}",
            title=f"{title} {name}",
            category=f"home/{title}",
            pictures=tuple(draw_picture(kind, colour, view, rng) for view in VIEWS),
            views=VIEWS,
            uris=tuple(f"{kind}-{name}-{view}.jpg" for view in VIEWS),
            style=f"style {kind}",
            color=name,
            source="drawn",
        )
        for kind, title in enumerate(KINDS)
        for name, colour in COLOURS.items()
    ]


TINY = StarterTraining(
    images=24,
    triples=6,
    sequences=24,
    size=64,
    tower="tiny",
    token_width=128,
    descriptor=16,
    width=16,
    heads=2,
    decoder_blocks=2,
    pool=1,
    vocabulary=320,
    max_title=12,
    max_feedback=8,
    image=ImageTraining(optim=Optim(steps=2, batch=8, lr=1e-3, bf16=False), copies=3, part="whole"),
    muisc=MuiscTraining(optim=Optim(steps=2, batch=8, lr=1e-3, bf16=False)),
)
"""The recipe, made small."""


def make_tiny_bundle(folder: Path) -> Path:
    """Trains and exports into `folder`; returns the bundle's path. Checkpoints are beside it."""
    out, checkpoints = folder / "bundle", folder / "checkpoints"
    train_starter(
        draw_products(), out, TINY, sources=("drawn",), bundle_id="tiny", checkpoints=checkpoints, progress=False
    )
    return out
