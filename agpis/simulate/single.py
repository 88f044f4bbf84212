"""Violations of one image: rule id -> function (pixels uint8 (H, W, 3) RGB, generator, style) -> Marked.

None changes its argument; the same generator state and style give the same picture. The result may have another size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from agpis.simulate import faults, layouts, stickers
from agpis.simulate.degradations import artefact, blur, colour_cast, compression, exposure, noise, upscaled
from agpis.simulate.drawing import Marked, Rng
from agpis.simulate.framing import border, cluttered_background, collage, cut_off, rotation, screenshot
from agpis.simulate.overlays import badge, banner, diagram, logo, qr_code, watermark
from agpis.simulate.style import Pixels, Style

Single: TypeAlias = Callable[[Pixels, Rng, Style], Marked]

_FIRST: dict[str, Single] = {
    "banner": banner,
    "badge": badge,
    "watermark": watermark,
    "logo": logo,
    "qr_code": qr_code,
    "diagram": diagram,
    "artefact": artefact,
    "blur": blur,
    "upscaled": upscaled,
    "compression": compression,
    "noise": noise,
    "exposure": exposure,
    "colour_cast": colour_cast,
    "rotation": rotation,
    "cut_off": cut_off,
    "cluttered_background": cluttered_background,
    "border": border,
    "collage": collage,
    "screenshot": screenshot,
}

FURTHER: dict[str, Single] = {
    "banner": stickers.banner,
    "badge": stickers.badge,
    "watermark": stickers.watermark,
    "logo": stickers.logo,
    "qr_code": stickers.qr_code,
    "diagram": layouts.diagram,
    "artefact": faults.artefact,
    "blur": faults.blur,
    "upscaled": faults.upscaled,
    "compression": faults.compression,
    "noise": faults.noise,
    "exposure": faults.exposure,
    "colour_cast": faults.colour_cast,
    "rotation": layouts.rotation,
    "cut_off": layouts.cut_off,
    "cluttered_background": layouts.cluttered_background,
    "border": layouts.border,
    "collage": layouts.collage,
    "screenshot": layouts.screenshot,
}
"""Rule id -> its further looks, drawn in place of the first ones with `Style.further`'s share."""


def _either(first: Single, further: Single) -> Single:
    """The first looks alone where the style has no further ones: nothing is drawn from the generator then."""

    def violate(pixels: Pixels, rng: Rng, style: Style) -> Marked:
        chosen = further if style.further > 0 and rng.random() < style.further else first
        return chosen(pixels, rng, style)

    return violate


SINGLE: dict[str, Single] = {rule: _either(first, FURTHER[rule]) for rule, first in _FIRST.items()}
"""Rule id -> violation in all its looks."""
