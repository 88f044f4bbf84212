"""Violations of one image: rule id -> function (pixels uint8 (H, W, 3) RGB, generator, style) -> Marked.

None changes its argument; the same generator state and style give the same picture. The result may have another size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from agpis.simulate.degradations import artefact, blur, colour_cast, compression, exposure, noise, upscaled
from agpis.simulate.drawing import Marked, Rng
from agpis.simulate.framing import border, cluttered_background, collage, cut_off, rotation, screenshot
from agpis.simulate.overlays import badge, banner, diagram, logo, qr_code, watermark
from agpis.simulate.style import Pixels, Style

Single: TypeAlias = Callable[[Pixels, Rng, Style], Marked]

SINGLE: dict[str, Single] = {
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
