"""The way every picture takes, clean or broken: harmless differences first, the final size and encoding last."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from agpis.data import Box
from agpis.simulate.degradations import recoded
from agpis.simulate.drawing import Ground, Rng, fit, ground, hsv
from agpis.simulate.overlays import emblem
from agpis.simulate.stock import LONGEST, reduced
from agpis.simulate.style import Alpha, Pixels, Style


def jittered(pixels: Pixels, rng: Rng) -> Pixels:
    """Harmless differences between shops: a little light, margin and white balance; before any violation."""
    gain = np.float32(rng.uniform(0.96, 1.04)) * rng.uniform(0.993, 1.007, 3).astype(np.float32)
    table = (np.arange(256, dtype=np.float32)[:, None] * gain).clip(0, 255).round().astype(np.uint8)
    if rng.random() < 0.6:
        pixels = np.asarray(cv2.LUT(pixels, table.reshape(1, 256, 3)), np.uint8)
    if rng.random() < 0.4:
        around = ground(pixels)
        if around.plain and _clear(around):  # more or less empty ground; a product at the edge would be torn off it
            pad = int(max(pixels.shape[:2]) * rng.uniform(0.01, 0.12))
            sides = [int(side) for side in rng.integers(0, pad + 1, 4)]
            pixels = np.asarray(
                cv2.copyMakeBorder(pixels, sides[0], sides[1], sides[2], sides[3], cv2.BORDER_REPLICATE), np.uint8
            )
    return np.ascontiguousarray(pixels)


def resampled(pixels: Pixels, rng: Rng) -> Pixels:
    """On another grid before any violation: 70 to 100 % of the size, shifted by a part of a pixel, at times softer.

    Without it, the 8 x 8 blocks and the grid of the merchant's file tell a picture that was left alone from one that
    was turned, tilted or cut.
    """
    height, width = pixels.shape[:2]
    scale = float(rng.uniform(0.7, 1.0))
    size = (max(16, round(width * scale)), max(16, round(height * scale)))
    fx, fy = size[0] / width, size[1] / height
    shift = rng.uniform(-0.5, 0.5, 2)
    matrix = np.asarray([[fx, 0, (fx - 1) / 2 + shift[0]], [0, fy, (fy - 1) / 2 + shift[1]]])
    how = cv2.INTER_CUBIC if rng.random() < 0.5 else cv2.INTER_LINEAR
    out = cv2.warpAffine(pixels, matrix, size, flags=how, borderMode=cv2.BORDER_REPLICATE)
    if rng.random() < 0.3:
        out = cv2.GaussianBlur(out, (0, 0), float(rng.uniform(0.35, 0.8)))
    return np.asarray(out, np.uint8)


def grained(pixels: Pixels, rng: Rng, most: float) -> Pixels:
    """With the fine grain of a sensor, of up to `most` levels: no picture is without, whatever was done to it."""
    height, width = pixels.shape[:2]
    field = _grain()
    if height > field.shape[0] or width > field.shape[1]:
        return pixels
    y, x = int(rng.integers(field.shape[0] - height + 1)), int(rng.integers(field.shape[1] - width + 1))
    amount = float(rng.uniform(0, most)) / _GRAIN
    return np.asarray(
        cv2.addWeighted(pixels, 1.0, field[y : y + height, x : x + width], amount, -128 * amount), np.uint8
    )


_GRAIN = 32.0
"""Standard deviation of `_grain`, levels."""


@lru_cache(1)
def _grain() -> Pixels:
    """Noise about 128 to take parts of: drawing it anew costs more than all the rest of a picture."""
    side = LONGEST * 5 // 2
    field = 128 + _GRAIN * np.random.default_rng(0).standard_normal((side, side, 3), dtype=np.float32)
    return np.asarray(field.clip(0, 255), np.uint8)


def _clear(around: Ground) -> bool:
    """The product does not touch the picture's edge."""
    height, width = around.mask.shape
    box = around.box
    return box.x > 2 and box.y > 2 and box.x + box.w < width - 2 and box.y + box.h < height - 2


def printed(pixels: Pixels, rng: Rng, style: Style) -> Pixels:
    """Hard negative: words or an emblem printed on the product itself, following its light. Ground untouched."""
    around = ground(pixels)
    if not around.plain:
        return pixels
    box = around.box
    n = int(min(box.w, box.h) * rng.uniform(0.15, 0.4))
    if n < 14:
        return pixels
    mark: Alpha
    if rng.random() < 0.5:
        mark = emblem(n // 2, rng, style)
    else:
        words = style.phrase(rng, (*style.brands, *style.prints))
        mark = style.lettering(words, n // 2, rng)
    mark = fit(mark, int(box.w * 0.55), int(box.h * 0.4))
    x = int(box.x + (box.w - mark.shape[1]) * rng.uniform(0.35, 0.65))
    y = int(box.y + (box.h - mark.shape[0]) * rng.uniform(0.25, 0.7))
    under = pixels[y : y + mark.shape[0], x : x + mark.shape[1]].astype(np.float32)
    inside = around.mask[y : y + mark.shape[0], x : x + mark.shape[1]]
    if inside.mean() < 0.98:
        return pixels
    light = under.mean(2, keepdims=True)
    dark = float(light.mean()) < 120
    colour = np.asarray((235, 235, 235) if dark else (30, 30, 40), np.float32)
    if rng.random() < 0.4:
        colour = np.asarray(hsv(rng.uniform(0, 180), 200, 220 if dark else 110), np.float32)
    folds = (light / max(1.0, float(light.mean()))).clip(0.5, 1.4)  # the cloth's or pack's own shading stays
    out = pixels.copy()
    paint = under + (colour * folds - under) * (0.9 * mark[..., None])
    out[y : y + mark.shape[0], x : x + mark.shape[1]] = paint.clip(0, 255)
    return out


def finished(pixels: Pixels, rng: Rng) -> tuple[Pixels, float, float]:
    """The last step for every picture, clean or broken: another size and JPEG quality, or none.

    Returns the picture and the factors by which x and y of a box grow.
    """
    height, width = pixels.shape[:2]
    out = pixels
    longest = int(rng.uniform(224, LONGEST)) if rng.random() < 0.5 else LONGEST
    out = reduced(out, longest)
    if rng.random() < 0.8:
        out = recoded(np.ascontiguousarray(out), int(rng.integers(60, 97)))
    return np.ascontiguousarray(out), out.shape[1] / width, out.shape[0] / height


def scaled(box: Box, fx: float, fy: float, shape: tuple[int, ...]) -> Box:
    """The box after `finished`: grown by the factors, rounded outwards, clipped to `shape`; at least 1 x 1."""
    x0, y0 = int(np.floor(box.x * fx)), int(np.floor(box.y * fy))
    x1, y1 = int(np.ceil((box.x + box.w) * fx)), int(np.ceil((box.y + box.h) * fy))
    x1, y1 = min(shape[1], x1), min(shape[0], y1)
    x0, y0 = min(x0, x1 - 1), min(y0, y1 - 1)
    return Box(x0, y0, x1 - x0, y1 - y0)
