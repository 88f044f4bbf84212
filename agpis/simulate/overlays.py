"""Things laid over a picture: banner, badge, watermark, logo, code, dimension lines; boxes cover all that changed."""

from __future__ import annotations

import cv2
import numpy as np

from agpis.data import Box
from agpis.simulate.drawing import (
    EMBLEMS,
    Colour,
    Marked,
    Rng,
    code_modules,
    contrasting,
    fit,
    ground,
    lay,
    marked_change,
    muted,
    plate,
    turn,
    vivid,
)
from agpis.simulate.style import Alpha, Pixels, Style

SIDES = {"top": ("top",) * 3, "bottom": ("bottom",) * 3, "left": ("left",), "right": ("right",)}
_SHAPES = {"circle": ("disc",), "star": ("burst",), "ribbon": ("ribbon", "triangle"), "tag": ("pill", "tag")}


def banner(pixels: Pixels, rng: Rng, style: Style) -> Marked:
    """A strip or panel with promotional words along one side, or the words alone."""
    height, width = pixels.shape[:2]
    size = style.force(rng, 0.08, 0.24, "height")
    colour = vivid(rng) if rng.random() < 0.75 else muted(rng)
    opacity = style.force(rng, 0.65, 1.0, "opacity") if rng.random() < 0.4 or "opacity" in style.ranges else 1.0
    side = style.among(rng, SIDES, "side")
    kind = "side" if side in ("left", "right") else str(rng.choice(["strip", "strip", "pill", "words", "slant"]))
    if kind == "slant":
        return _slant(pixels, rng, style, size, colour, opacity)
    if kind == "side":
        w, h = max(14, int(width * size)), height
        x, y = (0 if side == "left" else width - w), 0
    elif kind == "strip":
        w, h = width, max(12, int(height * size))
        x, y = 0, (0 if side == "top" else height - h)
    else:
        w, h = int(width * rng.uniform(0.4, 0.9)), max(12, int(height * size))
        x = int(rng.uniform(0, width - w))
        y = min(int((rng.uniform(0.02, 0.12) if side == "top" else rng.uniform(0.75, 0.95)) * height), height - h)
    out = pixels
    if kind != "words":
        shape = plate(w, h, float(rng.uniform(0.2, 1)) if kind == "pill" else 0.0)
        out = lay(out, shape, _wash(w, h, colour, rng), x, y, opacity)
        ink = contrasting(colour, rng)
    else:
        ink = colour if sum(colour) < 600 else (200, 20, 20)
    lines = 2 if kind != "side" and h > 40 and rng.random() < 0.4 else 1
    for i in range(lines):
        room = (w, h // lines)
        words = style.phrase(rng, style.banners)
        text = style.lettering(words, int(min(room) * rng.uniform(0.4, 0.7)), rng)
        if kind == "side":
            text = turn(text, 90)
        text = fit(text, int(room[0] * 0.94), int(room[1] * 0.9))
        left = x + (w - text.shape[1]) // 2
        if rng.random() < 0.25:
            left = x + int(w * 0.03)
        top = y + i * room[1] + (room[1] - text.shape[0]) // 2
        if kind == "words":
            out = _outline(out, text, left, top, (255, 255, 255))
        out = lay(out, text, ink, left, top)
    return marked_change(pixels, out)


def _slant(pixels: Pixels, rng: Rng, style: Style, size: float, colour: Colour, opacity: float) -> Marked:
    height, width = pixels.shape[:2]
    band_h = max(12, int(min(height, width) * size * 0.8))
    band_w = int(np.hypot(height, width) * 1.1)
    text = fit(style.lettering(style.phrase(rng, style.banners), int(band_h * 0.6), rng), int(band_w * 0.5), band_h - 4)
    full = np.zeros((band_h, band_w), np.float32)
    left, top = (band_w - text.shape[1]) // 2, (band_h - text.shape[0]) // 2
    full[top : top + text.shape[0], left : left + text.shape[1]] = text
    angle = float(rng.uniform(15, 40) * rng.choice([-1, 1]))
    band, ink = turn(np.ones_like(full), angle), turn(full, angle)
    x = (width - band.shape[1]) // 2
    y = (height - band.shape[0]) // 2 + int(height * rng.uniform(-0.25, 0.25))
    out = lay(pixels, band, colour, x, y, opacity)
    out = lay(out, ink, contrasting(colour, rng), x, y)
    return marked_change(pixels, out)


def _wash(width: int, height: int, colour: Colour, rng: Rng) -> Pixels:
    """One colour, or a gradient to a second one."""
    flat = np.broadcast_to(np.asarray(colour, np.uint8), (height, width, 3)).copy()
    if rng.random() < 0.65:
        return flat
    other = np.asarray(vivid(rng), np.float32)
    t = np.linspace(0, 1, width, dtype=np.float32)[None, :, None]
    return (flat * (1 - t) + other * t).astype(np.uint8)


def _outline(pixels: Pixels, alpha: Alpha, x: int, y: int, colour: Colour) -> Pixels:
    grow = max(1, alpha.shape[0] // 14)
    wide = cv2.dilate(np.pad(alpha, grow), np.ones((2 * grow + 1, 2 * grow + 1), np.uint8))
    return lay(pixels, np.asarray(wide, np.float32), colour, x - grow, y - grow)


def badge(pixels: Pixels, rng: Rng, style: Style) -> Marked:
    """A price sticker, star, pill or corner ribbon near one corner."""
    height, width = pixels.shape[:2]
    n = max(24, int(min(height, width) * style.force(rng, 0.13, 0.32, "size")))
    opacity = style.force(rng, 0.9, 1.0, "opacity")
    colour = vivid(rng)
    ink = contrasting(colour, rng)
    words = style.phrase(rng, style.badges)
    kind = style.among(rng, _SHAPES, "shape")
    right, low = rng.random() < 0.5, rng.random() < 0.4
    if kind in ("ribbon", "triangle"):
        return _corner(pixels, rng, style, n, colour, ink, words, bool(right), kind == "triangle")
    if kind in ("disc", "burst"):
        shape, room = EMBLEMS[kind](n), (int(n * 0.74), int(n * 0.5))
    else:
        wide = int(n * rng.uniform(1.3, 2.0))
        shape = plate(wide, max(14, n // 2), 1.0 if kind == "pill" else float(rng.uniform(0, 0.3)))
        room = (int(wide * 0.84), int(n * 0.4))
    text = fit(style.lettering(words, room[1], rng), *room)
    gap = int(min(height, width) * rng.uniform(0.0, 0.06))
    x = width - gap - shape.shape[1] if right else gap
    y = height - gap - shape.shape[0] if low else gap
    out = pixels
    if rng.random() < 0.3:  # drop shadow
        soft = cv2.GaussianBlur(np.pad(shape, 6), (0, 0), 2.5)
        out = lay(out, np.asarray(soft, np.float32), (0, 0, 0), x - 4, y - 3, 0.35)
    out = lay(out, shape, colour, x, y, opacity)
    if rng.random() < 0.3 and kind in ("disc", "burst"):
        inner = EMBLEMS["ring"](int(n * 0.9))
        out = lay(out, inner * (inner > 0.5), ink, x + int(n * 0.05), y + int(n * 0.05), 0.15)
    out = lay(out, text, ink, x + (shape.shape[1] - text.shape[1]) // 2, y + (shape.shape[0] - text.shape[0]) // 2)
    return marked_change(pixels, out)


def _corner(
    pixels: Pixels, rng: Rng, style: Style, n: int, colour: Colour, ink: Colour, words: str, right: bool, solid: bool
) -> Marked:
    """A ribbon over the top corner, or a filled triangle in it."""
    side = int(n * 1.7)
    i, j = np.mgrid[0:side, 0:side].astype(np.float32)
    along = i + j  # distance from the top left corner, along the diagonal
    shape = along < side if solid else (along > side * 0.55) & (along < side)
    alpha = shape.astype(np.float32)
    text = fit(style.lettering(words, int(side * 0.2), rng), int(side * 0.62), int(side * 0.24))
    text = turn(text, -45 if right else 45)
    middle = side * (0.34 if solid else 0.39)
    x, y = int(middle - text.shape[1] / 2), int(middle - text.shape[0] / 2)
    left = 0
    if right:
        alpha = np.ascontiguousarray(alpha[:, ::-1])
        left = pixels.shape[1] - side
        x = int(side - middle - text.shape[1] / 2)
    out = lay(pixels, alpha, colour, left, 0)
    out = lay(out, text, ink, left + x, y)
    return marked_change(pixels, out)


def watermark(pixels: Pixels, rng: Rng, style: Style) -> Marked:
    """Half-transparent words or emblem: tiled, one across the picture, or one in the middle or a corner."""
    height, width = pixels.shape[:2]
    opacity = style.force(rng, 0.16, 0.5, "opacity")
    short = min(height, width)
    kind = style.among(rng, {"0": ("across", "middle", "emblem"), "1": ("tiled",)}, "tiled")
    reach = style.force(rng, 0.2, 0.4, "size")
    words = style.phrase(rng, style.watermarks)
    sheet = np.zeros((height, width), np.float32)
    if kind == "tiled":
        text = style.lettering(words, int(short * rng.uniform(0.035, 0.07)), rng)
        text = turn(fit(text, width // 2, height), float(rng.uniform(-45, 45)))
        step_x = int(text.shape[1] * rng.uniform(1.1, 1.6)) + 6
        step_y = int(text.shape[0] * rng.uniform(1.1, 1.8)) + 6
        for row, y in enumerate(range(-step_y // 2, height, step_y)):
            for x in range(-step_x + (row % 2) * step_x // 2, width, step_x):
                stamp(sheet, text, x, y)
    elif kind == "across":
        text = style.lettering(words, int(short * 0.2), rng)
        scale = 0.9 * np.hypot(height, width) * rng.uniform(0.6, 0.9) / text.shape[1]
        scale = min(scale, short * 0.3 / text.shape[0])
        size = (max(8, int(text.shape[1] * scale)), max(6, int(text.shape[0] * scale)))
        text = turn(np.asarray(cv2.resize(text, size), np.float32), float(rng.uniform(20, 50) * rng.choice([-1, 1])))
        text = fit(text, width - 2, height - 2)
        stamp(sheet, text, (width - text.shape[1]) // 2, (height - text.shape[0]) // 2)
    else:
        if kind == "middle":
            mark = style.lettering(words, int(short * reach * 0.35), rng)
        else:
            mark = emblem(int(short * reach), rng, style)
        mark = fit(mark, int(width * 0.9), int(height * 0.9))
        x = int((width - mark.shape[1]) * rng.choice([0.5, 0.5, rng.uniform(0.02, 0.98)]))
        y = int((height - mark.shape[0]) * rng.choice([0.5, 0.5, rng.uniform(0.02, 0.98)]))
        stamp(sheet, mark, x, y)
    if rng.random() < 0.5:  # white on what is dark, grey on what is light, as stock agencies do
        under = cv2.GaussianBlur(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), (0, 0), short / 30)
        light = (under > 150).astype(np.float32)
        out = lay(pixels, sheet * light, (90, 90, 90), 0, 0, opacity)
        out = lay(out, sheet * (1 - light), (255, 255, 255), 0, 0, opacity)
    else:
        colour = (110, 110, 110) if rng.random() < 0.6 else vivid(rng)
        out = lay(pixels, sheet, colour, 0, 0, opacity)
    return marked_change(pixels, out)


def stamp(sheet: Alpha, mark: Alpha, x: int, y: int) -> None:
    """Lay `mark` into `sheet` at (x, y), the stronger of the two everywhere; what lies outside is lost."""
    x0, y0 = max(0, x), max(0, y)
    x1, y1 = min(sheet.shape[1], x + mark.shape[1]), min(sheet.shape[0], y + mark.shape[0])
    if x1 > x0 and y1 > y0:
        part = sheet[y0:y1, x0:x1]
        np.maximum(part, mark[y0 - y : y1 - y, x0 - x : x1 - x], out=part)


def emblem(n: int, rng: Rng, style: Style) -> Alpha:
    """An invented trade mark about `n` high: a shape, often with a brand's name beside or below it."""
    n = max(10, n)
    shape = EMBLEMS[style.emblems[int(rng.integers(len(style.emblems)))]](n)
    if rng.random() < 0.25:  # initial cut out of the shape
        initial = fit(style.lettering(style.phrase(rng, style.brands)[0], n // 2, rng), n // 2, n // 2)
        hole = np.zeros_like(shape)
        stamp(hole, initial, (n - initial.shape[1]) // 2, (n - initial.shape[0]) // 2)
        shape = shape * (1 - hole)
    layout = rng.choice(["alone", "beside", "below"])
    if layout == "alone":
        return np.asarray(shape, np.float32)
    name = style.lettering(style.phrase(rng, style.brands), int(n * rng.uniform(0.35, 0.6)), rng)
    gap = n // 6
    if layout == "beside":
        sheet = np.zeros((max(n, name.shape[0]), n + gap + name.shape[1]), np.float32)
        stamp(sheet, shape, 0, (sheet.shape[0] - n) // 2)
        stamp(sheet, name, n + gap, (sheet.shape[0] - name.shape[0]) // 2)
    else:
        sheet = np.zeros((n + gap + name.shape[0], max(n, name.shape[1])), np.float32)
        stamp(sheet, shape, (sheet.shape[1] - n) // 2, 0)
        stamp(sheet, name, (sheet.shape[1] - name.shape[1]) // 2, n + gap)
    return sheet


def logo(pixels: Pixels, rng: Rng, style: Style) -> Marked:
    """A seller's emblem laid on the picture, opaque, mostly in a corner, off the product where there is room."""
    height, width = pixels.shape[:2]
    mark = emblem(int(min(height, width) * style.force(rng, 0.08, 0.2, "size")), rng, style)
    mark = fit(mark, int(width * 0.45), int(height * 0.3))
    gap = int(min(height, width) * rng.uniform(0.01, 0.05))
    right, low = rng.random() < 0.5, rng.random() < 0.4
    x = width - gap - mark.shape[1] if right else gap
    y = height - gap - mark.shape[0] if low else gap
    if rng.random() < 0.12:
        x = (width - mark.shape[1]) // 2
    colour = vivid(rng) if rng.random() < 0.6 else muted(rng)
    out = pixels
    under = pixels[max(0, y) : y + mark.shape[0], max(0, x) : x + mark.shape[1]].mean((0, 1))
    if rng.random() < 0.2 or np.abs(under - np.asarray(colour)).max() < 90:  # on its own plate, so that it is seen
        pad = max(3, mark.shape[0] // 5)
        back = contrasting(colour, rng)
        shape = plate(mark.shape[1] + 2 * pad, mark.shape[0] + 2 * pad, float(rng.uniform(0, 0.6)))
        if np.abs(under - np.asarray(back)).max() < 60:
            colour, back = back, colour
        out = lay(out, shape, back, x - pad, y - pad)
    out = lay(out, mark, colour, x, y, style.force(rng, 0.85, 1.0, "opacity"))
    return marked_change(pixels, out)


def qr_code(pixels: Pixels, rng: Rng, style: Style) -> Marked:
    """A two-dimensional code with its quiet zone; one in five is a bar code with digits."""
    height, width = pixels.shape[:2]
    n = max(36, int(min(height, width) * style.force(rng, 0.16, 0.4, "size")))
    if rng.random() < 0.2:
        bars = np.repeat((rng.random(45) < 0.5).astype(np.uint8) * 255, 2)
        code = np.full((max(20, n // 2), 102), 255, np.uint8)
        code[3:-3, 6:96] = bars
        size = (max(40, int(n * 1.3)), max(20, n // 2))
    else:
        code = code_modules(rng, int(rng.choice([21, 25, 29, 33])))
        size = (n, n)
    dark = np.asarray(muted(rng) if rng.random() < 0.3 else (0, 0, 0), np.float32).clip(0, 110)
    image = cv2.resize(code, size, interpolation=cv2.INTER_AREA if code.shape[0] > size[1] else cv2.INTER_NEAREST)
    rgb = (image[..., None] / 255.0 * (255 - dark) + dark).astype(np.uint8)
    x = int(rng.choice([rng.uniform(0, 0.08), rng.uniform(0.92, 1), rng.uniform(0, 1)]) * (width - size[0]))
    y = int(rng.choice([rng.uniform(0, 0.08), rng.uniform(0.92, 1), rng.uniform(0, 1)]) * (height - size[1]))
    out = lay(pixels, np.ones((size[1], size[0]), np.float32), rgb, max(0, x), max(0, y))
    box = Box(max(0, x), max(0, y), size[0], size[1])  # the quiet zone is white: the change is smaller than the code
    change = marked_change(pixels, out)
    return Marked(out, box, change.where)


def diagram(pixels: Pixels, rng: Rng, style: Style) -> Marked:
    """Dimension lines with arrow heads and measures beside the product, or call-outs with words."""
    height, width = pixels.shape[:2]
    box = ground(pixels).box
    line = max(1, round(min(height, width) * rng.uniform(0.003, 0.008)))
    colour = (0, 0, 0) if rng.random() < 0.5 else ((90, 90, 90) if rng.random() < 0.5 else vivid(rng))
    out = pixels.copy()
    letter = max(9, int(min(height, width) * style.force(rng, 0.035, 0.07)))
    margin = max(5, int(0.03 * width))
    arrows, labels = round(style.force(rng, 1, 2, "arrows")), round(style.force(rng, 2, 4, "labels"))
    if rng.random() < 0.65:
        y = min(height - margin, box.y + box.h + margin) if rng.random() < 0.6 else max(margin, box.y - margin)
        x = min(width - margin, box.x + box.w + margin) if rng.random() < 0.6 else max(margin, box.x - margin)
        which = "both" if arrows > 1 else str(rng.choice(["across", "up"]))
        if which in ("both", "across"):
            arrow(out, (max(2, box.x), y), (min(width - 3, box.x + box.w), y), colour, line)
            out = label(out, measure(rng, style), letter, box.x + box.w // 2, y, colour, rng, style)
        if which in ("both", "up"):
            arrow(out, (x, max(2, box.y)), (x, min(height - 3, box.y + box.h)), colour, line)
            out = label(out, measure(rng, style), letter, x, box.y + box.h // 2, colour, rng, style)
    else:
        for _ in range(max(1, labels)):
            x0, y0 = box.x + int(box.w * rng.uniform(0.2, 0.8)), box.y + int(box.h * rng.uniform(0.2, 0.8))
            x1 = int(width * (rng.uniform(0.08, 0.25) if x0 < width / 2 else rng.uniform(0.75, 0.92)))
            y1 = int(np.clip(y0 + height * rng.uniform(-0.15, 0.15), letter, height - letter))
            cv2.line(out, (x0, y0), (x1, y1), colour, line, cv2.LINE_AA)
            cv2.circle(out, (x0, y0), 2 * line + 1, colour, -1 if rng.random() < 0.5 else line, cv2.LINE_AA)
            words = measure(rng, style) if rng.random() < 0.5 else style.phrase(rng, style.interface + style.brands)
            out = label(out, words, letter, x1, y1, colour, rng, style)
    return marked_change(pixels, out)


def measure(rng: Rng, style: Style) -> str:
    """A number with one of the style's units."""
    number = rng.uniform(2, 190)
    return (f"{number:.0f}" if rng.random() < 0.6 else f"{number:.1f}") + style.units[
        int(rng.integers(len(style.units)))
    ]


def arrow(out: Pixels, a: tuple[int, int], b: tuple[int, int], colour: Colour, line: int) -> None:
    """Draw a line from a to b with a head at both ends into `out`."""
    length = max(1.0, float(np.hypot(b[0] - a[0], b[1] - a[1])))
    tip = min(0.3, 10 * line / length)
    cv2.arrowedLine(out, a, b, colour, line, cv2.LINE_AA, 0, tip)
    cv2.arrowedLine(out, b, a, colour, line, cv2.LINE_AA, 0, tip)


def label(pixels: Pixels, words: str, letter: int, x: int, y: int, colour: Colour, rng: Rng, style: Style) -> Pixels:
    """Words centred on (x, y), kept inside the picture, half of the time on a light plate."""
    height, width = pixels.shape[:2]
    text = fit(style.lettering(words, letter, rng), width // 3, height // 4)
    left = int(np.clip(x - text.shape[1] // 2, 3, max(3, width - text.shape[1] - 3)))
    top = int(np.clip(y - text.shape[0] // 2, 3, max(3, height - text.shape[0] - 3)))
    pad = 3
    pixels = lay(
        pixels, plate(text.shape[1] + 2 * pad, text.shape[0] + 2 * pad), (255, 255, 255), left - pad, top - pad
    )
    return lay(pixels, text, colour, left, top)
