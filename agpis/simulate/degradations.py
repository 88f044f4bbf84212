"""Faults of taking, editing and saving a picture: artefact, blur, upscaled, compression, noise, exposure, colour cast.

Strengths are relative to the picture's size, so that a fault looks the same at 200 and at 2,000 px.
"""

from __future__ import annotations

import cv2
import numpy as np

from agpis.simulate.drawing import Ground, Marked, Rng, ground, marked_change, plain_to_see
from agpis.simulate.style import Alpha, Pixels, Style


def blur(pixels: Pixels, rng: Rng, style: Style) -> Marked:
    """Gaussian, motion or defocus (disc) blur over the whole picture."""
    longest = max(pixels.shape[:2])
    kind = rng.choice(["gaussian", "motion", "defocus"])
    if kind == "gaussian":
        out = cv2.GaussianBlur(pixels, (0, 0), longest * style.force(rng, 0.007, 0.022, "sigma"))
    elif kind == "motion":
        n = max(5, int(longest * style.force(rng, 0.025, 0.07, "motion"))) | 1
        kernel = np.zeros((n, n), np.float32)
        kernel[n // 2] = 1
        matrix = cv2.getRotationMatrix2D((n / 2 - 0.5, n / 2 - 0.5), float(rng.uniform(0, 180)), 1)
        kernel = cv2.warpAffine(kernel, matrix, (n, n)).astype(np.float32)
        out = cv2.filter2D(pixels, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REPLICATE)
    else:
        r = max(2, round(longest * 1.6 * style.force(rng, 0.007, 0.022, "sigma")))
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * r + 1, 2 * r + 1)).astype(np.float32)
        out = cv2.filter2D(pixels, -1, disc / disc.sum(), borderType=cv2.BORDER_REPLICATE)
    return Marked(out.astype(np.uint8))


def upscaled(pixels: Pixels, rng: Rng, style: Style) -> Marked:
    """A much smaller picture blown up, blocky (nearest) or soft (linear, cubic), sometimes sharpened after."""
    height, width = pixels.shape[:2]
    scale = 1 / style.force(rng, 4.2, 10, "factor")
    small = cv2.resize(pixels, (max(8, int(width * scale)), max(8, int(height * scale))), interpolation=cv2.INTER_AREA)
    if rng.random() < 0.4:
        small = recoded(small, int(rng.uniform(50, 90)))
    how = int(rng.choice([cv2.INTER_NEAREST, cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_CUBIC]))
    out = cv2.resize(small, (width, height), interpolation=how)
    if how == cv2.INTER_CUBIC and rng.random() < 0.5:
        soft = cv2.GaussianBlur(out, (0, 0), 0.008 * max(height, width))
        out = cv2.addWeighted(out, 2.2, soft, -1.2, 0)
    return Marked(out.astype(np.uint8))


def recoded(pixels: Pixels, quality: int) -> Pixels:
    """Through JPEG and back; 4:2:0 as libjpeg's default."""
    _, data = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB), np.uint8)


def compression(pixels: Pixels, rng: Rng, style: Style) -> Marked:
    """JPEG at a very low quality, at reduced size, so that blocks and ringing are still seen at 224 px."""
    height, width = pixels.shape[:2]
    scale = min(1.0, rng.uniform(170, 260) / max(height, width))
    small = cv2.resize(pixels, (int(width * scale), int(height * scale)), interpolation=cv2.INTER_AREA)
    for _ in range(int(rng.integers(1, 3))):
        small = recoded(small.astype(np.uint8), round(style.force(rng, 11, 3, "quality")))
    out = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    return Marked(out.astype(np.uint8))


def noise(pixels: Pixels, rng: Rng, style: Style) -> Marked:
    """Sensor noise (grey or coloured, coarse grain that outlives a reduction) or salt and pepper."""
    height, width = pixels.shape[:2]
    grain = max(height, width) / rng.uniform(150, 260)
    grid = (max(8, int(height / grain)), max(8, int(width / grain)))
    if rng.random() < 0.2:
        share = style.force(rng, 14, 45, "sigma") / 750
        dots = rng.random(grid)
        mask = np.where(dots < share / 2, 0, np.where(dots > 1 - share / 2, 255, 128)).astype(np.uint8)
        mask = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST)[..., None]
        return Marked(np.where(mask == 128, pixels, mask).astype(np.uint8))
    sigma = style.force(rng, 14, 45, "sigma")
    channels = 3 if rng.random() < 0.6 else 1
    field = rng.standard_normal((*grid, channels), dtype=np.float32) * np.float32(sigma)
    field = np.atleast_3d(cv2.resize(field, (width, height), interpolation=cv2.INTER_LINEAR))
    if rng.random() < 0.5:  # stronger in the shadows, as after brightening
        field = field * (1.3 - pixels.mean(2, keepdims=True, dtype=np.float32) / 255)
    return Marked((pixels + field).clip(0, 255).astype(np.uint8))


def exposure(pixels: Pixels, rng: Rng, style: Style) -> Marked:
    """Far too light or too dark, or light falling off to one side."""
    values = pixels.astype(np.float32) / 255
    amount = style.force(rng, 1.2, 2.4, "stops") / 2.4
    kind = style.among(rng, {"over": ("light", "light"), "under": ("dark", "dark", "uneven")}, "direction")
    if kind == "light":
        values = values ** (1 / (1 + 1.2 * amount)) * (1 + 0.45 * amount) + 0.1 * amount
    elif kind == "dark":
        values = values ** (1 + 0.5 * amount) * (0.62 - 0.38 * amount)
    else:
        height, width = pixels.shape[:2]
        angle = rng.uniform(0, 2 * np.pi)
        y, x = np.mgrid[0:height, 0:width].astype(np.float32)
        t = (x / width - 0.5) * np.float32(np.cos(angle)) + (y / height - 0.5) * np.float32(np.sin(angle)) + 0.5
        values = values * (1 - (0.45 + 0.5 * amount) * t.clip(0, 1))[..., None]
    return Marked((values * 255).clip(0, 255).astype(np.uint8))


def colour_cast(pixels: Pixels, rng: Rng, style: Style) -> Marked:
    """Wrong white balance: the white ground turns yellow, blue, green or pink."""
    amount = style.force(rng, 0.14, 0.4, "strength")
    tints = [(1.0, 0.93, 0.6), (0.7, 0.88, 1.0), (0.8, 1.0, 0.78), (1.0, 0.78, 0.92), (1.0, 0.82, 0.65), (0.75, 1, 1)]
    tint = np.asarray(tints[int(rng.integers(len(tints)))], np.float32) + rng.uniform(-0.05, 0.05, 3).astype(np.float32)
    gain = 1 - (1 - tint / tint.max()) * np.float32(amount / 0.4)
    return Marked((pixels * gain).clip(0, 255).astype(np.uint8))


# Artefacts -----------------------------------------------------------------------------------------------------------


TRIES = 6
"""Draws of an artefact until it can be seen."""

_ARTEFACTS = {
    "smear": ("smear", "warp", "double"),
    "erase": ("erased",),
    "tear": ("glitch",),
    "halo": ("halo", "halo"),
}


def artefact(pixels: Pixels, rng: Rng, style: Style) -> Marked:
    """An editing or transmission fault: bad cut-out, smear, warped or doubled part, shifted blocks.

    Where one cannot be seen (plain cloth smeared), another place or kind is tried, and shifted blocks at last.
    """
    around = ground(pixels)
    out = pixels
    for _ in range(TRIES):
        kind = style.among(rng, _ARTEFACTS, "kind")
        if kind == "halo" and not around.plain:
            kind = "smear"
        if kind == "halo":
            out = _halo(pixels, around, rng, style)
        elif kind == "glitch":
            out = _glitch(pixels, rng, style)
        else:
            out = _local(pixels, around, rng, style, kind)
        if plain_to_see(pixels, out):
            return marked_change(pixels, out)
    for _ in range(TRIES):
        out = _glitch(pixels, rng, style)
        if plain_to_see(pixels, out):
            break
    return marked_change(pixels, out)


def _halo(pixels: Pixels, around: Ground, rng: Rng, style: Style) -> Pixels:
    """A cut-out with ragged edges: bites taken out of the product, and a fringe of another ground left on."""
    longest = max(pixels.shape[:2])
    height, width = pixels.shape[:2]
    mask = around.mask.astype(np.float32)
    cell = max(3, int(longest * rng.uniform(0.015, 0.05)))
    field = rng.standard_normal((height // cell + 2, width // cell + 2)).astype(np.float32)
    field = cv2.resize(field, (width, height), interpolation=cv2.INTER_CUBIC)
    reach = longest * style.force(rng, 0.014, 0.035)
    inside = cv2.distanceTransform(around.mask.astype(np.uint8), cv2.DIST_L2, 3)
    outside = cv2.distanceTransform(1 - around.mask.astype(np.uint8), cv2.DIST_L2, 3)
    signed = inside - outside  # px, positive on the product
    out = pixels.copy()
    if rng.random() < 0.6:  # fringe of the old ground
        fringe = (signed < 0) & (signed > -reach * (1 + 0.6 * field))
        tone = np.asarray(rng.uniform(20, 170) + rng.uniform(-25, 25, 3))
        if np.abs(tone - np.asarray(around.colour)).max() < 60:
            tone = 255 - tone
        speck = rng.standard_normal((height, width, 1)) * 14
        out = np.where(fringe[..., None], (tone + speck).clip(0, 255), out).astype(np.uint8)
    if rng.random() < 0.6 or mask.mean() > 0.9:
        bites = (signed > 0) & (signed < reach * 2.2 * (field - 0.3))
        out[bites] = around.colour
    if (out == pixels).all():
        fringe = (signed < 0) & (signed > -reach)
        out[fringe] = tuple(255 - c if abs(255 - 2 * c) > 60 else 0 for c in around.colour)
    return out.astype(np.uint8)


def _glitch(pixels: Pixels, rng: Rng, style: Style) -> Pixels:
    """Rows or blocks shifted and miscoloured, as a damaged file shows them."""
    height, width = pixels.shape[:2]
    out = pixels.copy()
    for _ in range(int(style.force(rng, 2, 7)) + 1):
        h = max(4, int(height * rng.uniform(0.02, 0.09)))
        y = int(rng.uniform(height * 0.05, height * 0.95 - h))
        shift = int(width * rng.uniform(0.06, 0.4) * rng.choice([-1, 1]))
        part = np.roll(pixels[y : y + h], shift, 1)
        if rng.random() < 0.5:
            part = part[..., rng.permutation(3)]
        if rng.random() < 0.3:
            part = (part * 0.5 + rng.uniform(0, 255, 3) * 0.5).astype(np.uint8)
        x0 = int(width * rng.uniform(0, 0.5)) if rng.random() < 0.5 else 0
        out[y : y + h, x0:] = part[:, x0:]
    if rng.random() < 0.35:  # grey from some row on: a file cut short
        y = int(height * rng.uniform(0.55, 0.9))
        out[y:] = 128
    return out


def _local(pixels: Pixels, around: Ground, rng: Rng, style: Style, kind: str) -> Pixels:
    """A patch on the product is smeared, warped, erased or copied beside itself, with soft edges."""
    height, width = pixels.shape[:2]
    box = around.box
    n = max(16, int(np.sqrt(box.w * box.h) * style.force(rng, 0.22, 0.45, "size")))
    ys, xs = np.nonzero(around.mask[:: max(1, height // 64), :: max(1, width // 64)])
    at = int(rng.integers(len(ys)))
    cx, cy = int(xs[at] * max(1, width // 64)), int(ys[at] * max(1, height // 64))
    x0, y0 = int(np.clip(cx - n // 2, 0, max(0, width - n))), int(np.clip(cy - n // 2, 0, max(0, height - n)))
    patch = pixels[y0 : y0 + n, x0 : x0 + n]
    h, w = patch.shape[:2]
    alpha = _soft_ellipse(h, w)
    if kind == "smear":
        k = max(5, n // 2) | 1
        kernel = np.zeros((k, k), np.float32)
        kernel[k // 2] = 1.0 / k
        if rng.random() < 0.5:
            kernel = np.ascontiguousarray(kernel.T)
        new = cv2.filter2D(cv2.medianBlur(np.ascontiguousarray(patch), 7), -1, kernel)
    elif kind == "warp":
        y, x = np.mgrid[0:h, 0:w].astype(np.float32)
        dx, dy = x - w / 2, y - h / 2
        r = np.sqrt(dx**2 + dy**2) / (n / 2)
        angle = np.float32(rng.uniform(2.0, 4.0) * rng.choice([-1, 1])) * (1 - r).clip(0, 1)
        mx = w / 2 + np.cos(angle) * dx - np.sin(angle) * dy
        my = h / 2 + np.sin(angle) * dx + np.cos(angle) * dy
        new = cv2.remap(patch, mx.astype(np.float32), my.astype(np.float32), cv2.INTER_LINEAR, None, cv2.BORDER_REFLECT)
    elif kind == "erased":
        new = np.broadcast_to(np.asarray(around.colour, np.uint8), patch.shape)
        if around.plain and rng.random() < 0.5:
            new = np.roll(np.asarray(pixels[::-1]), 0)[y0 : y0 + h, x0 : x0 + w]
        alpha = (alpha > 0.3).astype(np.float32)
    else:  # double: the patch again, shifted, mirrored or turned
        new = np.rot90(patch, 2) if rng.random() < 0.5 else patch[:, ::-1]
        shift = int(n * rng.uniform(0.5, 1.1))
        x0 = int(np.clip(x0 + shift * rng.choice([-1, 1]), 0, width - w))
        y0 = int(np.clip(y0 + shift * rng.uniform(-0.6, 0.6), 0, height - h))
        if new.shape[:2] != (h, w):
            new = patch
    out = pixels.copy()
    under = out[y0 : y0 + h, x0 : x0 + w].astype(np.float32)
    out[y0 : y0 + h, x0 : x0 + w] = (under + (new.astype(np.float32) - under) * alpha[..., None]).clip(0, 255)
    return out


def _soft_ellipse(height: int, width: int) -> Alpha:
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    r = np.sqrt(((x - width / 2 + 0.5) / (width / 2)) ** 2 + ((y - height / 2 + 0.5) / (height / 2)) ** 2)
    return np.asarray(((1.0 - r) / 0.12).clip(0, 1), np.float32)
