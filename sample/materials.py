"""Surfaces: ceramic, metal, wood, cloth, leather, glass, plastic, clay, leaf, card, print. Colours are sRGB hex.

A surface is a description; `nodes.py` makes a Blender material of it, `surfaces.py` colours for the fast renderer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Colour = str


@dataclass(frozen=True, eq=False)
class Surface:
    """The name of a function in `nodes.py` and `surfaces.py`, and its arguments."""

    kind: str
    values: dict[str, Any] = field(default_factory=dict)


def linear(colour: Colour) -> tuple[float, float, float, float]:
    """'#rrggbb' in sRGB to linear RGBA. Reference: IEC 61966-2-1."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return r, g, b, 1.0


def plastic(colour: Colour, rough: float = 0.3, coat: float = 0.0) -> Surface:
    """Plain plastic or lacquer."""
    return Surface("plastic", {"colour": colour, "rough": rough, "coat": coat})


def ceramic(colour: Colour, speck: Colour | None = None, rough: float = 0.22) -> Surface:
    """Glaze, with specks of another colour when asked."""
    return Surface("ceramic", {"colour": colour, "speck": speck, "rough": rough})


def clay(colour: Colour, dark: Colour) -> Surface:
    """Unglazed earthenware or concrete."""
    return Surface("clay", {"colour": colour, "dark": dark})


def metal(colour: Colour, rough: float = 0.25, brushed: tuple[float, float, float] | None = None) -> Surface:
    """Metal; `brushed` scales the noise, so (1, 1, 80) gives rings round the z axis."""
    return Surface("metal", {"colour": colour, "rough": rough, "brushed": brushed})


def wood(light: Colour, dark: Colour, along: str = "x", rough: float = 0.42, grain: float = 1.0) -> Surface:
    """Boards with growth rings and pores that run along the x, y or z axis."""
    return Surface("wood", {"light": light, "dark": dark, "along": along, "rough": rough, "grain": grain})


def cloth(
    colour: Colour, other: Colour | None = None, thread: float = 40.0, stripe: tuple[Colour, float] | None = None
) -> Surface:
    """A weave of two threads; `stripe` = (colour, stripes a unit) across x."""
    return Surface("cloth", {"colour": colour, "other": other, "thread": thread, "stripe": stripe})


def leather(colour: Colour, dark: Colour, rough: float = 0.45) -> Surface:
    """Grained leather."""
    return Surface("leather", {"colour": colour, "dark": dark, "rough": rough})


def glass(colour: Colour = "#ffffff", rough: float = 0.0, ior: float = 1.45) -> Surface:
    """Clear or tinted glass; lets light through in a straight line, so that its shadow is not black."""
    return Surface("glass", {"colour": colour, "rough": rough, "ior": ior})


def leaf(colour: Colour, vein: Colour) -> Surface:
    """A waxy leaf with paler bands across."""
    return Surface("leaf", {"colour": colour, "vein": vein})


def card(colour: Colour = "#c49a6c", dark: Colour = "#b58a5b") -> Surface:
    """Cardboard or paper."""
    return Surface("card", {"colour": colour, "dark": dark})


def glow(colour: Colour, strength: float) -> Surface:
    """Cloth that a bulb behind it lights up."""
    return Surface("glow", {"colour": colour, "strength": strength})


def printed(
    picture: NDArray[np.uint8],
    size: tuple[float, float],
    *,
    onto: str = "xz",
    back: NDArray[np.uint8] | None = None,
    rough: float = 0.6,
    weave: float = 0.0,
) -> Surface:
    """A picture (h, w, 3) laid on a surface; only the fast renderer knows it.

    Args:
        size: width and height of one repeat in scene units; its middle lies at the part's own origin.
        onto: `xz` front and back, `xy` from above, `round` about the z axis, where the width is an angle in radians.
        back: another picture for the side that looks to +y (`xz`) or down (`xy`).
        weave: threads a unit of the cloth that is printed on; 0: paper.
    """
    return Surface(
        "printed", {"picture": picture, "size": size, "onto": onto, "back": back, "rough": rough, "weave": weave}
    )
