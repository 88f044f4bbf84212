"""Hard negatives: what looks like a fault and is none. Drawn for clean and broken pictures alike.

Print that belongs to the product or its pack, screens, patterned cloth, dark and white products, dark, coloured and
woven grounds, light that falls off or throws a shadow, sharp close-ups.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from agpis.data import Box
from agpis.simulate.drawing import EMBLEMS, Colour, Ground, Rng, code_modules, fit, hsv, lay, muted, plate, vivid
from agpis.simulate.overlays import emblem, stamp
from agpis.simulate.style import Alpha, Pixels, Style

Harmless: TypeAlias = Callable[[Pixels, Ground, Rng, Style], Pixels]
"""(picture, its ground, generator, style) -> picture of the same size; the same one where it does not lend itself."""


def _skin(pixels: Pixels) -> NDArray[np.uint8]:
    """(H, W) 1 where the colour is that of skin (Chai and Ngan 1999: Cr 133 to 173, Cb 77 to 127)."""
    return np.asarray(
        cv2.inRange(cv2.cvtColor(pixels, cv2.COLOR_RGB2YCrCb), (40, 133, 77), (250, 173, 127)) // 255, np.uint8
    )


def _worn(pixels: Pixels, around: Ground) -> bool:
    """Whether a person seems to be in the picture: nothing rigid is to be drawn over one."""
    return bool(_skin(pixels)[around.mask].mean() > 0.03)


def _filled(around: Ground) -> float:
    """Share of the product's box that the product fills: about 1 for boxes, books and screens seen from the front."""
    box = around.box
    return float(around.mask[box.y : box.y + box.h, box.x : box.x + box.w].mean())


def _on_product(
    pixels: Pixels, around: Ground, layer: Pixels, alpha: Alpha, x: int, y: int, *, cloth: bool = False
) -> Pixels:
    """Lay a print on the product, never beyond its outline: cloth keeps its folds, paper only the light's fall."""
    height, width = pixels.shape[:2]
    x0, y0 = max(0, x), max(0, y)
    x1, y1 = min(width, x + alpha.shape[1]), min(height, y + alpha.shape[0])
    if x1 <= x0 or y1 <= y0:
        return pixels
    under = pixels[y0:y1, x0:x1].astype(np.float32)
    light = under.mean(2, keepdims=True)
    if cloth:
        smooth = cv2.GaussianBlur(light, (0, 0), max(1.0, max(height, width) / 150))[..., None]
        folds = (smooth / max(20.0, float(light.mean()))).clip(0.55, 1.35)
    else:
        smooth = cv2.GaussianBlur(light, (0, 0), max(4.0, max(height, width) / 18))[..., None]
        folds = (smooth / max(60.0, float(light.mean()))).clip(0.75, 1.15)
    inside = cv2.erode(around.mask[y0:y1, x0:x1].astype(np.uint8), np.ones((3, 3), np.uint8)).astype(np.float32)
    if cloth:
        inside *= 1 - cv2.dilate(_skin(np.ascontiguousarray(pixels[y0:y1, x0:x1])), np.ones((3, 3), np.uint8))
    part = (alpha[y0 - y : y1 - y, x0 - x : x1 - x] * inside * np.float32(0.94 if cloth else 1.0))[..., None]
    paint = layer[y0 - y : y1 - y, x0 - x : x1 - x].astype(np.float32) * folds
    out = pixels.copy()
    out[y0:y1, x0:x1] = (under + (paint - under) * part + 0.5).clip(0, 255)
    return out


def _inner(around: Ground, share: float) -> Box | None:
    """A rectangle of `share` of the product's box, about its middle, that lies mostly on the product."""
    box = around.box
    for reduction in (1.0, 0.8, 0.6):
        w, h = int(box.w * share * reduction), int(box.h * share * reduction)
        x, y = box.x + (box.w - w) // 2, box.y + (box.h - h) // 2
        if min(w, h) >= 24 and around.mask[y : y + h, x : x + w].mean() > 0.9:
            return Box(x, y, w, h)
    return None


def _sheet(box: Box, colour: Colour) -> Pixels:
    return np.broadcast_to(np.asarray(colour, np.uint8), (box.h, box.w, 3)).copy()


def _lines(
    sheet: Pixels, top: int, bottom: int, ink: Colour, rng: Rng, style: Style, letter: int, left: float = 0.08
) -> Pixels:
    """Rows of small print between `top` and `bottom`."""
    words = (*style.prints, *style.brands, *style.captions)
    width = sheet.shape[1]
    y = top
    while y + letter < bottom:
        text = " ".join(style.phrase(rng, words) for _ in range(int(rng.integers(1, 4))))
        row = fit(style.lettering(text, letter, rng), int(width * (1 - 2 * left)), letter + 2)
        sheet = lay(sheet, row, ink, int(width * left), y)
        y += int(letter * 1.7) + 1
    return sheet


def labelled(pixels: Pixels, around: Ground, rng: Rng, style: Style) -> Pixels:
    """A paper label as packs have it: brand, rows of small print, sometimes a bar code or an emblem."""
    box = _inner(around, float(rng.uniform(0.45, 0.8)))
    if box is None or _worn(pixels, around):
        return pixels
    if rng.random() < 0.5:  # a band across instead of a sheet
        box = Box(box.x, box.y + box.h // 4, box.w, max(24, box.h // 2))
    paper: Colour = (245, 243, 236) if rng.random() < 0.5 else vivid(rng)
    ink: Colour = (30, 30, 35) if sum(paper) > 330 else (250, 250, 250)
    sheet = _sheet(box, paper)
    head = int(box.h * rng.uniform(0.25, 0.5))
    mark = emblem(max(10, head // 2), rng, style) if rng.random() < 0.5 else style.lettering(
        style.phrase(rng, style.brands), max(8, head // 2), rng)  # fmt: skip
    mark = fit(mark, int(box.w * 0.84), int(head * 0.8))
    second = vivid(rng) if rng.random() < 0.4 else ink
    sheet = lay(sheet, mark, second, (box.w - mark.shape[1]) // 2, (head - mark.shape[0]) // 2)
    foot = box.h
    if rng.random() < 0.35:
        n = max(16, int(min(box.w, box.h) * 0.25))
        bars = np.repeat((rng.random(30) < 0.5).astype(np.float32)[None], n, 0)
        code = np.asarray(cv2.resize(bars, (int(n * 1.5), n), interpolation=cv2.INTER_NEAREST), np.float32)
        if rng.random() < 0.3:
            code = np.asarray(cv2.resize((255 - code_modules(rng, 21)) / np.float32(255), (n, n)), np.float32)
        foot = box.h - n - 6
        sheet = lay(sheet, plate(code.shape[1] + 6, n + 4), (255, 255, 255), box.w - code.shape[1] - 10, foot)
        sheet = lay(sheet, code, (0, 0, 0), box.w - code.shape[1] - 7, foot + 2)
    sheet = _lines(sheet, head, foot - 2, ink, rng, style, max(6, int(box.h * rng.uniform(0.035, 0.08))))
    shape = plate(box.w, box.h, float(rng.choice([0, 0, 0.15, 0.6])))
    return _on_product(pixels, around, sheet, shape, box.x, box.y)


def large_print(pixels: Pixels, around: Ground, rng: Rng, style: Style) -> Pixels:
    """A print as large as the chest of a shirt: words in rows, an emblem, or both."""
    box = _inner(around, float(rng.uniform(0.45, 0.75)))
    if box is None:
        return pixels
    alpha = np.zeros((box.h, box.w), np.float32)
    y = 0
    if rng.random() < 0.6:
        mark = fit(emblem(int(box.h * rng.uniform(0.3, 0.6)), rng, style), box.w, int(box.h * 0.6))
        stamp(alpha, mark, (box.w - mark.shape[1]) // 2, 0)
        y = mark.shape[0] + box.h // 20
    for _ in range(int(rng.integers(1, 4))):
        words = style.phrase(rng, (*style.prints, *style.brands))
        text = fit(style.lettering(words, int(box.h * rng.uniform(0.12, 0.3)), rng), box.w, int(box.h * 0.4))
        if y + text.shape[0] > box.h:
            break
        stamp(alpha, text, (box.w - text.shape[1]) // 2, y)
        y += text.shape[0] + box.h // 16
    tone = float(pixels[box.y : box.y + box.h, box.x : box.x + box.w].mean())
    colour: Colour = (238, 236, 230) if tone < 120 else (28, 28, 34)
    if rng.random() < 0.5:
        colour = hsv(rng.uniform(0, 180), rng.uniform(120, 230), 230 if tone < 120 else 120)
    return _on_product(pixels, around, _sheet(box, colour), alpha, box.x, box.y, cloth=True)


def covered(pixels: Pixels, around: Ground, rng: Rng, style: Style) -> Pixels:
    """A book's or box's cover on the whole front: title, much small print, bands and a picture field."""
    box = _inner(around, float(rng.uniform(0.85, 1.0)))
    if box is None or _filled(around) < 0.75 or _worn(pixels, around):
        return pixels
    paper = vivid(rng) if rng.random() < 0.5 else muted(rng)
    ink: Colour = (20, 20, 25) if sum(paper) > 380 else (248, 248, 245)
    sheet = _sheet(box, paper)
    if rng.random() < 0.6:
        band = int(box.h * rng.uniform(0.1, 0.3))
        at = int((box.h - band) * rng.choice([0, 1, rng.uniform(0, 1)]))
        sheet[at : at + band] = vivid(rng)
    if rng.random() < 0.5:
        n = int(min(box.w, box.h) * rng.uniform(0.3, 0.6))
        shape = emblem(n, rng, style)
        shape = fit(shape, int(box.w * 0.8), n)
        sheet = lay(sheet, shape, vivid(rng), (box.w - shape.shape[1]) // 2, int(box.h * rng.uniform(0.3, 0.5)))
    y = int(box.h * 0.08)
    for i in range(int(rng.integers(1, 4))):
        words = style.phrase(rng, (*style.brands, *style.prints, *style.captions))
        size = int(box.h * (rng.uniform(0.08, 0.16) if i == 0 else rng.uniform(0.04, 0.07)))
        text = fit(style.lettering(words, size, rng), int(box.w * 0.86), size + 4)
        left = int((box.w - text.shape[1]) * rng.choice([0.1, 0.5]))
        sheet = lay(sheet, text, ink, left, y)
        y += text.shape[0] + box.h // 30
    letter = max(6, int(box.h * rng.uniform(0.025, 0.045)))
    sheet = _lines(sheet, int(box.h * rng.uniform(0.55, 0.8)), int(box.h * 0.95), ink, rng, style, letter)
    return _on_product(pixels, around, sheet, plate(box.w, box.h), box.x, box.y)


def screened(pixels: Pixels, around: Ground, rng: Rng, style: Style) -> Pixels:
    """A display on the device: interface with bars, icons, rows of words, in a dark frame."""
    box = _inner(around, float(rng.uniform(0.4, 0.85)))
    if box is None or _filled(around) < 0.6 or _worn(pixels, around):
        return pixels
    dark = bool(rng.random() < 0.5)
    sheet = _sheet(box, (18, 18, 22))
    edge = max(2, min(box.w, box.h) // 24)
    inner = Box(edge, edge, box.w - 2 * edge, box.h - 2 * edge)
    back: Colour = (35, 40, 52) if dark else (240, 242, 246)
    ink: Colour = (235, 235, 235) if dark else (40, 40, 45)
    sheet[inner.y : inner.y + inner.h, inner.x : inner.x + inner.w] = back
    if rng.random() < 0.5:  # a wallpaper
        low, high = np.asarray(vivid(rng), np.float32), np.asarray(vivid(rng), np.float32)
        t = np.linspace(0, 1, inner.h, dtype=np.float32)[:, None, None]
        sheet[inner.y : inner.y + inner.h, inner.x : inner.x + inner.w] = 0.7 * (low * (1 - t) + high * t)
        ink = (250, 250, 250)
    bar = max(6, inner.h // 14)
    text = style.lettering(f"{int(rng.integers(24)):02d}:{int(rng.integers(60)):02d}", max(5, bar // 2), rng)
    sheet = lay(sheet, text, ink, inner.x + 3, inner.y + 2)
    if rng.random() < 0.6:
        count = int(rng.integers(2, 5))
        n = max(6, inner.w // (2 * count))
        for i in range(count * int(rng.integers(1, 4))):
            x, y = inner.x + (2 * (i % count) + 1) * n - n // 2, inner.y + int(1.5 * bar) + (i // count) * int(1.6 * n)
            if y + n < inner.y + inner.h:
                sheet = lay(sheet, plate(n, n, 0.4), vivid(rng), x, y)
    words = style.phrase(rng, style.interface)
    text = fit(style.lettering(words, max(6, int(inner.h * 0.09)), rng), int(inner.w * 0.8), inner.h // 6)
    sheet = lay(sheet, text, ink, (box.w - text.shape[1]) // 2, int(inner.h * rng.uniform(0.5, 0.75)))
    if rng.random() < 0.5:
        button = plate(int(inner.w * 0.5), bar, 1.0)
        sheet = lay(sheet, button, vivid(rng), (box.w - button.shape[1]) // 2, inner.y + inner.h - 2 * bar)
    return _on_product(pixels, around, sheet, plate(box.w, box.h, 0.12), box.x, box.y)


def patterned(pixels: Pixels, around: Ground, rng: Rng, style: Style) -> Pixels:
    """Cloth with a pattern all over: stripes, checks, dots, or an emblem strewn, following the folds."""
    box = around.box
    y, x = np.mgrid[0 : box.h, 0 : box.w].astype(np.float32)
    step = max(5.0, min(box.w, box.h) / float(rng.uniform(5, 22)))
    angle = float(rng.choice([0, np.pi / 2, np.pi / 4, rng.uniform(0, np.pi)]))
    u = x * np.float32(np.cos(angle)) + y * np.float32(np.sin(angle))
    v = y * np.float32(np.cos(angle)) - x * np.float32(np.sin(angle))
    kind = str(rng.choice(["stripes", "checks", "dots", "strewn"]))
    if kind == "stripes":
        alpha = ((u % step) < step * rng.uniform(0.2, 0.6)).astype(np.float32)
    elif kind == "checks":
        alpha = 0.5 * ((u % step) < step / 2).astype(np.float32) + 0.5 * ((v % step) < step / 2).astype(np.float32)
    elif kind == "dots":
        r = np.hypot((u % step) - step / 2, (v % step) - step / 2)
        alpha = (step * np.float32(rng.uniform(0.2, 0.4)) - r + 0.5).clip(0, 1)
    else:
        alpha = np.zeros((box.h, box.w), np.float32)
        mark = EMBLEMS[style.emblems[int(rng.integers(len(style.emblems)))]](max(6, int(step * 0.7)))
        for row, top in enumerate(range(0, box.h, max(6, int(step)))):
            for left in range((row % 2) * int(step / 2), box.w, max(6, int(step))):
                stamp(alpha, mark, left, top)
    colour = hsv(rng.uniform(0, 180), rng.uniform(30, 220), rng.uniform(40, 250))
    alpha = np.asarray(alpha * np.float32(rng.uniform(0.5, 0.95)), np.float32)
    return _on_product(pixels, around, _sheet(box, colour), alpha, box.x, box.y, cloth=True)


def toned(pixels: Pixels, around: Ground, rng: Rng, style: Style) -> Pixels:
    """The product black, or white on white, its folds and shading kept; the ground as it was."""
    if _worn(pixels, around):
        return pixels
    mask = cv2.GaussianBlur(around.mask.astype(np.float32), (0, 0), 0.8)[..., None]
    values = pixels.astype(np.float32)
    light = values.mean(2, keepdims=True)
    inside = light[around.mask]
    low, high = (float(v) for v in np.percentile(inside[::7], (5, 95)))
    shade = ((light - low) / max(20.0, high - low)).clip(0, 1.1)
    if rng.random() < 0.5:
        new = rng.uniform(8, 26) + rng.uniform(40, 100) * shade + 0.1 * (values - light)
    else:
        top = rng.uniform(236, 252)
        new = top - rng.uniform(80, 130) * (1 - shade) + 0.05 * (values - light)
    return np.asarray((values + (new - values) * mask + 0.5).clip(0, 255), np.uint8)


def lit(pixels: Pixels, around: Ground, rng: Rng, style: Style) -> Pixels:
    """Light true in colour: falls off gently to one side or the corners, or throws a soft shadow beside the product."""
    height, width = pixels.shape[:2]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    kind = str(rng.choice(["side", "corners", "shadow", "shadow"]))
    if kind == "side":
        angle = rng.uniform(0, 2 * np.pi)
        t = (x / width - 0.5) * np.float32(np.cos(angle)) + (y / height - 0.5) * np.float32(np.sin(angle)) + 0.5
        gain = 1 - np.float32(rng.uniform(0.05, 0.2)) * t.clip(0, 1)
    elif kind == "corners":
        r2 = ((x - width / 2) / width) ** 2 + ((y - height / 2) / height) ** 2
        gain = 1 - np.float32(rng.uniform(0.15, 0.45)) * r2
    else:
        if not around.plain:
            return pixels
        mask = around.mask.astype(np.float32)
        box = around.box
        if rng.random() < 0.5:  # lies on the ground under the product
            drop = np.zeros_like(mask)
            centre = (box.x + box.w // 2, min(height - 1, box.y + box.h))
            cv2.ellipse(drop, centre, (int(box.w * 0.48), max(3, int(box.h * 0.05))), 0, 0, 360, 1.0, -1)
        else:
            shift = rng.uniform(-0.05, 0.05, 2) * [width, height]
            move = np.asarray([[1, 0, shift[0]], [0, 1, abs(shift[1])]])
            drop = np.asarray(cv2.warpAffine(mask, move, (width, height)), np.float32)
        drop = cv2.GaussianBlur(drop, (0, 0), max(height, width) * rng.uniform(0.008, 0.03))
        soft = cv2.GaussianBlur(mask, (0, 0), 0.8)
        gain = 1 - np.float32(rng.uniform(0.15, 0.45)) * drop * (1 - soft)
    return np.asarray((pixels * gain[..., None] + 0.5).clip(0, 255), np.uint8)


def backdrop(pixels: Pixels, around: Ground, rng: Rng, style: Style) -> Pixels:
    """Another quiet ground: black, grey or coloured, even, shaded, or a plain weave."""
    rim = around.mask & ~cv2.erode(around.mask.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(np.bool_)
    apart = np.abs(pixels[rim].astype(np.int16) - np.asarray(around.colour, np.int16)).max(1)
    if not around.plain or float((apart > 40).mean()) < 0.7:  # a pale rim: the outline cannot be trusted
        return pixels
    height, width = pixels.shape[:2]
    colour: Colour = hsv(rng.uniform(0, 180), rng.uniform(10, 110), rng.uniform(120, 240))
    dark = rng.random() < 0.4
    if dark:
        grey = int(rng.uniform(5, 60))
        colour = (grey, grey, min(255, grey + int(rng.integers(0, 8))))
    back = np.broadcast_to(np.asarray(colour, np.float32), pixels.shape)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    kind = str(rng.choice(["even", "shaded", "spot", "weave"]))
    if kind == "shaded":
        back = back * (1 + np.float32(rng.uniform(-0.25, 0.25)) * (y / height - 0.3))[..., None]
    elif kind == "spot":
        r2 = ((x - width / 2) / width) ** 2 + ((y - height / 2) / height) ** 2
        back = back * (1.1 - np.float32(rng.uniform(0.3, 0.9)) * r2)[..., None]
    elif kind == "weave":
        step = np.float32(max(3.0, max(height, width) / rng.uniform(60, 130)))
        thread = np.sin(x * (2 * np.pi / step)) * np.sin(y * (2 * np.pi / step))
        back = back * (1 + np.float32(rng.uniform(0.02, 0.07)) * thread)[..., None]
    grain = rng.standard_normal((height // 2 + 1, width // 2 + 1), dtype=np.float32) * np.float32(rng.uniform(0, 2))
    back = back + cv2.resize(grain, (width, height), interpolation=cv2.INTER_LINEAR)[..., None]
    mask = around.mask.astype(np.uint8)
    alpha = cv2.GaussianBlur(cv2.erode(mask, np.ones((3, 3), np.uint8)).astype(np.float32), (0, 0), 0.9)[..., None]
    shadow = 1.0
    if rng.random() < 0.5:
        drop = cv2.GaussianBlur(np.roll(mask.astype(np.float32), height // 50, 0), (0, 0), max(height, width) / 45)
        shadow = 1 - np.float32(rng.uniform(0.2, 0.5)) * drop[..., None]
    return np.asarray((pixels * alpha + back * shadow * (1 - alpha) + 0.5).clip(0, 255), np.uint8)


def crisp(pixels: Pixels, around: Ground, rng: Rng, style: Style) -> Pixels:
    """Sharpened as shops do before they upload: no rings that one would see."""
    amount = float(rng.uniform(0.3, 1.0))
    soft = cv2.GaussianBlur(pixels, (0, 0), float(rng.uniform(0.7, 1.4)))
    return np.asarray(cv2.addWeighted(pixels, 1 + amount, soft, -amount, 0), np.uint8)


HARMLESS: dict[str, tuple[Harmless, float]] = {
    "labelled": (labelled, 1.0),
    "large_print": (large_print, 1.0),
    "covered": (covered, 0.8),
    "screened": (screened, 0.8),
    "patterned": (patterned, 1.2),
    "toned": (toned, 1.2),
    "lit": (lit, 1.6),
    "backdrop": (backdrop, 1.4),
    "crisp": (crisp, 1.0),
}
"""Name -> (function, weight in the draw)."""

_WEIGHTS: NDArray[np.float64] = np.asarray([weight for _, weight in HARMLESS.values()])


def spared(pixels: Pixels, around: Ground, rng: Rng, style: Style) -> Pixels:
    """One of HARMLESS, drawn by the weights; those that need the outline only where the ground is plain."""
    name = list(HARMLESS)[int(rng.choice(len(HARMLESS), p=_WEIGHTS / _WEIGHTS.sum()))]
    if not around.plain and name not in ("lit", "crisp"):
        name = "crisp" if rng.random() < 0.4 else "lit"
    out = HARMLESS[name][0](pixels, around, rng, style)
    return out if out is not pixels else lit(pixels, around, rng, style)
