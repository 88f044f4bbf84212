"""More products for training than there are: mirrored, stretched and recoloured ones, all pictures of one alike.

Real catalogues with several views a product are few, and a model learns their products by heart. A variant is a product
of its own with the same title: another shape and, where no word of the title names a colour, another colour.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from agpis.simulate.drawing import Rng
from agpis.simulate.stock import Catalogued
from agpis.simulate.style import Pixels

MOST = 1.18
"""Largest factor by which a variant is stretched along one side."""
COLOURS = frozenset(
    (
        *(
            "amber",
            "anthracite",
            "beige",
            "black",
            "blue",
            "bronze",
            "brown",
            "clear",
            "cream",
            "gold",
            "gray",
            "green",
        ),
        *("grey", "indigo", "ivory", "khaki", "lime", "maroon", "mint", "multi", "navy", "nude", "olive", "orange"),
        *("pink", "platinum", "purple", "red", "rose", "silver", "tan", "taupe", "teal", "transparent", "turquoise"),
        *("violet", "white", "wine", "yellow", "schwarz", "weiss", "blau", "rot", "rosa", "gelb", "braun", "grau"),
    )
)
"""Words of titles after which a product is not given another colour."""


@dataclass(frozen=True, slots=True)
class Change:
    """What makes a variant."""

    mirrored: bool
    across: float
    down: float
    """Factors on width and height."""
    hue: int
    """Of OpenCV's 180 steps; 0 leaves the colours."""
    saturation: float


def variants(products: Sequence[Catalogued], *, several: int, single: int, seed: int) -> list[Catalogued]:
    """Variants of all products: `several` of each with two or more pictures, `single` of each other one.

    Colours of one style are changed alike, so that they stay sisters. The same products and seed give the same ones.
    """
    found = []
    for product in products:
        style = product.style or product.sku
        for at in range(several if len(product.pictures) > 1 else single):
            key = hashlib.sha256(f"{seed}/{at}/{product.source}/{style}".encode()).digest()
            change = drawn(np.random.default_rng(list(key)), recoloured=not named_colour(product))
            found.append(
                replace(
                    product,
                    sku=f"{product.sku}~{at + 1}",
                    style=f"{product.style}~{at + 1}" if product.style else "",
                    pictures=tuple(changed(pixels, change) for pixels in product.pictures),
                    detail=None if product.detail is None else changed(product.detail, change),
                )
            )
    return found


def named_colour(product: Catalogued) -> bool:
    """Whether the product's data say which colour it has."""
    words = re.findall(r"[^\W\d_]+", product.title.lower())
    return bool(product.color) or not COLOURS.isdisjoint(words)


def drawn(rng: Rng, *, recoloured: bool) -> Change:
    """A change; without `recoloured` the colours stay."""
    mirrored, stretch = bool(rng.random() < 0.5), float(MOST ** rng.uniform(-1.0, 1.0))
    hue, saturation = int(rng.integers(15, 166)), float(rng.uniform(0.75, 1.2))
    wide = bool(rng.random() < 0.5)
    return Change(
        mirrored=mirrored,
        across=stretch if wide else 1.0,
        down=1.0 if wide else stretch,
        hue=hue if recoloured else 0,
        saturation=saturation if recoloured else 1.0,
    )


def changed(pixels: Pixels, change: Change) -> Pixels:
    """A picture so changed; white, grey and black stay what they are."""
    out = np.ascontiguousarray(pixels[:, ::-1]) if change.mirrored else pixels
    size = (max(8, round(out.shape[1] * change.across)), max(8, round(out.shape[0] * change.down)))
    if size != (out.shape[1], out.shape[0]):
        smaller = size[0] < out.shape[1] or size[1] < out.shape[0]
        out = np.asarray(cv2.resize(out, size, interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR), np.uint8)
    if change.hue:
        hsv = cv2.cvtColor(out, cv2.COLOR_RGB2HSV)
        hsv[..., 0] = (hsv[..., 0].astype(np.int16) + change.hue) % 180
        hsv[..., 1] = (hsv[..., 1] * np.float32(change.saturation)).clip(0, 255)
        out = np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), np.uint8)
    return out
