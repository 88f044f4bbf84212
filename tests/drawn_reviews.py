"""A shop's reviews for the tests of training: drawn products, each accepted once, and rejected once for a red bar."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from agpis.images import Size, decode, letterbox
from agpis.rulebook import load_rulebook
from agpis.samples import Labelled, labelled
from agpis.verdicts import read_verdicts
from tests.conftest import save_photo
from tests.tiny import COLOURS, draw_picture

RULEBOOK = load_rulebook("default")
SPLITS = ("train", "train", "train", "validation", "test")
KINDS = ("lamp", "box", "vase", "plate")


def write_reviews(folder: Path, products: int = 40) -> Path:
    """Pictures and verdicts.jsonl; two verdicts a product, in splits of whole products."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(products):
        colour = list(COLOURS.values())[number % 3]
        title = f"{list(COLOURS)[number % 3]} {KINDS[number % 4]}"
        front = draw_picture(number % 4, colour, "front", rng)
        pictures = {"front": front, "detail": draw_picture(number % 4, colour, "detail", rng), "bar": front.copy()}
        top = int(rng.integers(0, 2)) * 120
        cv2.rectangle(pictures["bar"], (0, top), (128, top + 40), (230, 20, 20), -1)
        cv2.putText(pictures["bar"], "SALE", (20, top + 28), cv2.FONT_HERSHEY_SIMPLEX, 1.0, (255, 255, 255), 3)
        for view, pixels in pictures.items():
            save_photo(folder / f"{number}-{view}.jpg", pixels)
        common = {"sku": f"P{number}", "title": title, "category": "home", "split": SPLITS[number % 5]}
        candidates = [f"{number}-{view}.jpg" for view in ("detail", "front", "bar")]
        sequence = [f"{number}-front.jpg", f"{number}-detail.jpg"]
        rows.append({**common, "sequence": sequence, "accepted": True, "candidates": candidates})
        rows.append(
            {
                **common,
                "sequence": [f"{number}-bar.jpg", f"{number}-detail.jpg"],
                "accepted": False,
                "rules": ["banner"],
                "image_index": 0,
                "feedback": "There is a promotional banner on the image.",
            }
        )
    write_rows(folder / "verdicts.jsonl", rows)
    return folder / "verdicts.jsonl"


def pixels(folder: Path, uris: Sequence[str]) -> np.ndarray:
    """What a model of 64 px is shown: uint8 (n, 64, 64, 3)."""
    pictures = [decode((folder / uri).read_bytes()).pixels for uri in uris]
    return np.stack([letterbox(picture, Size(width=64, height=64)) for picture in pictures])


def write_vit(folder: Path) -> str:
    """A ViT of two blocks for 64 px, as transformers saves one: 17 tokens of 32 columns. Returns the folder."""
    import torch
    from transformers import ViTConfig, ViTModel

    from agpis.models.hub import quiet

    torch.manual_seed(2)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    with quiet():
        ViTModel(ViTConfig(image_size=64, patch_size=16, **shape), add_pooling_layer=False).save_pretrained(folder)
    return str(folder)


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def read_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def reviews(path: Path, extra: list[dict[str, Any]] | None = None) -> list[Labelled]:
    """The samples of the file, and of further rows that stand beside it."""
    if extra:
        path, rows = path.with_name("more.jsonl"), read_rows(path) + extra
        write_rows(path, rows)
    return labelled(read_verdicts(path), RULEBOOK)
