"""Further looks of what is laid over a picture: banner, badge, watermark, logo, code.

`images` draws them beside the first looks (`Style.further`); they keep to the same ranges of the rulebook.
"""

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
    lay,
    marked,
    marked_change,
    muted,
    plate,
    turn,
    vivid,
)
from agpis.simulate.overlays import SIDES, emblem, stamp
from agpis.simulate.style import Alpha, Pixels, Style


def banner(pixels: Pixels, rng: Rng, style: Style) -> Marked:
    """A panel of headline and small lines, a row of promises with icons, or a strip with a price block."""
    height, width = pixels.shape[:2]
    size = style.force(rng, 0.08, 0.24, "height")
    opacity = style.force(rng, 0.65, 1.0, "opacity")
    side = style.among(rng, SIDES, "side")
    colour = vivid(rng)
    ink = contrasting(colour, rng)
    upright = side in ("left", "right")
    w, h = (max(14, int(width * size)), height) if upright else (width, max(12, int(height * size)))
    x, y = (width - w if side == "right" else 0), (height - h if side == "bottom" else 0)
    out = lay(pixels, plate(w, h), colour, x, y, opacity)
    kind = "panel" if upright else str(rng.choice(["panel", "promises", "price"]))
    if kind == "price":  # words at the one end, a block of another colour with the price at the other
        block = int(w * rng.uniform(0.2, 0.35))
        left = bool(rng.random() < 0.5)
        other = vivid(rng)
        at = x if left else x + w - block
        out = lay(out, plate(block, h), other, at, y)
        out = _centred(out, style.phrase(rng, style.badges), at, y, block, h, contrasting(other, rng), rng, style)
        out = _centred(
            out, style.phrase(rng, style.banners), x + block * left, y, w - block, h, ink, rng, style, int(h * 0.5)
        )
        return marked_change(pixels, out)
    if kind == "promises":
        count = int(rng.integers(2, 5))
        cell = w // count
        for i in range(count):
            icon = EMBLEMS[style.emblems[int(rng.integers(len(style.emblems)))]](max(8, int(h * 0.45)))
            out = lay(out, icon, ink, x + i * cell + cell // 16, y + (h - icon.shape[0]) // 2)
            room = cell - icon.shape[1] - cell // 5
            words = style.phrase(rng, style.banners)
            out = _centred(
                out, words, x + i * cell + icon.shape[1] + cell // 10, y, room, h, ink, rng, style, int(h * 0.3)
            )
        return marked_change(pixels, out)
    lines = int(rng.integers(2, 5))
    rows = np.cumsum([0.0, 1.6, *[1.0] * (lines - 1)])
    rows = rows / rows[-1]
    inner, start = (h, 0) if not upright else (int(h * rng.uniform(0.3, 0.8)), int(h * rng.uniform(0, 0.15)))
    for i in range(lines):
        top, room = y + start + int(rows[i] * inner), int((rows[i + 1] - rows[i]) * inner)
        words = style.phrase(rng, style.banners)
        out = _centred(out, words, x, top, w, room, ink, rng, style, int(room * (0.75 if i == 0 else 0.6)))
    return marked_change(pixels, out)


def _centred(
    out: Pixels,
    words: str,
    x: int,
    y: int,
    w: int,
    h: int,
    ink: Colour,
    rng: Rng,
    style: Style,
    letter: int | None = None,
) -> Pixels:
    """Words in the middle of a rectangle, not larger than it."""
    if w < 6 or h < 6:
        return out
    text = fit(style.lettering(words, letter or int(h * 0.7), rng), max(4, int(w * 0.9)), max(4, int(h * 0.86)))
    return lay(out, text, ink, x + (w - text.shape[1]) // 2, y + (h - text.shape[0]) // 2)


_SHAPES = {
    "circle": ("seal",),
    "star": ("burst",),
    "ribbon": ("bookmark", "low corner"),
    "tag": ("hung", "struck", "flag", "rating"),
}


def badge(pixels: Pixels, rng: Rng, style: Style) -> Marked:
    """A seal, turned burst, bookmark, low corner ribbon, hung tag, struck-out price, flag or row of stars."""
    height, width = pixels.shape[:2]
    n = max(26, int(min(height, width) * style.force(rng, 0.13, 0.32, "size")))
    opacity = style.force(rng, 0.9, 1.0, "opacity")
    kind = style.among(rng, _SHAPES, "shape")
    colour = vivid(rng)
    ink = contrasting(colour, rng)
    words = style.phrase(rng, style.badges)
    if kind == "low corner":
        return _low_corner(pixels, rng, style, n, colour, opacity)
    canvas: list[tuple[Alpha, Colour]]
    if kind in ("seal", "burst"):
        base = EMBLEMS["disc"](n) if kind == "seal" else EMBLEMS["burst"](n)
        text = _two_lines(words, style.phrase(rng, style.badges), int(n * 0.62), int(n * 0.5), rng, style)
        canvas = [(base, colour), (_ring(n, 0.88, 0.8), ink), (_framed(text, base.shape), ink)]
        degrees = float(rng.uniform(-20, 20))
        canvas = [(turn(alpha, degrees), paint) for alpha, paint in canvas]
    elif kind == "bookmark":
        w, h = int(n * 0.6), int(n * rng.uniform(0.9, 1.4))
        base = plate(w, h)
        i, j = np.mgrid[0:h, 0:w].astype(np.float32)
        base = np.asarray(base * (i < h - w * 0.3 + np.abs(j - w / 2) * 0.6), np.float32)
        text = fit(style.lettering(words, int(w * 0.4), rng), int(w * 0.86), h // 2)
        canvas = [(base, colour), (_framed(text, base.shape, 0.35), ink)]
    elif kind == "hung":
        w, h = int(n * rng.uniform(1.2, 1.7)), int(n * 0.62)
        base = plate(w, h, float(rng.uniform(0, 0.5)))
        hole = EMBLEMS["disc"](max(5, h // 4))
        left = _framed(hole, base.shape, 0.5, 0.06)
        text = fit(style.lettering(words, int(h * 0.6), rng), int(w * 0.7), int(h * 0.75))
        base = np.asarray(base * (1 - left), np.float32)
        degrees = float(rng.uniform(-35, 35))
        canvas = [(turn(base, degrees), colour), (turn(_framed(text, base.shape, 0.5, 0.58), degrees), ink)]
    elif kind == "struck":  # the old price struck out, the new one below
        w, h = int(n * rng.uniform(1.1, 1.5)), n
        old = fit(style.lettering(_price(rng, style), int(h * 0.28), rng), int(w * 0.7), int(h * 0.34))
        line = max(1, old.shape[0] // 7)
        wide = np.pad(old, ((0, 0), (4, 4)))
        wide[wide.shape[0] // 2 : wide.shape[0] // 2 + line] = 1
        new = fit(style.lettering(_price(rng, style), int(h * 0.42), rng), int(w * 0.86), int(h * 0.46))
        plain = (255, 255, 255) if rng.random() < 0.6 else (255, 225, 30)
        base = plate(w, h, float(rng.uniform(0, 0.3)))
        edge = np.asarray(base - cv2.erode(base, np.ones((5, 5))), np.float32)
        canvas = [
            (base, plain),
            (edge, (200, 20, 30)),
            (_framed(wide, base.shape, 0.22), (90, 90, 90)),
            (_framed(new, base.shape, 0.72), (200, 10, 30)),
        ]
    elif kind == "flag":  # a pennant that grows out of the picture's edge
        w, h = int(n * rng.uniform(1.2, 2.0)), max(14, int(n * 0.42))
        base = plate(w, h)
        i, j = np.mgrid[0:h, 0:w].astype(np.float32)
        base = np.asarray(base * (j < w - h * 0.5 + np.abs(i - h / 2)), np.float32)
        text = fit(style.lettering(words, int(h * 0.6), rng), int(w * 0.68), int(h * 0.8))
        canvas = [(base, colour), (_framed(text, base.shape, 0.5, 0.42), ink)]
    else:  # a row of stars and a number
        h = max(14, int(n * 0.36))
        star = EMBLEMS["star"](h)
        row = np.concatenate([np.pad(star, ((0, 0), (1, 1)))] * 5, 1)
        text = style.lettering(f"{rng.uniform(3.9, 5):.1f}", int(h * 0.8), rng)
        row = np.concatenate([row, np.zeros((h, h // 3), np.float32)], 1)
        sheet = np.zeros((h, row.shape[1] + text.shape[1] + 4), np.float32)
        stamp(sheet, row, 0, 0)
        stamp(sheet, fit(text, text.shape[1], h), row.shape[1], max(0, (h - text.shape[0]) // 2))
        base = plate(sheet.shape[1] + 12, h + 8, float(rng.uniform(0, 1)))
        canvas = [(base, muted(rng)), (_framed(sheet, base.shape), (255, 180, 0))]
    shape = canvas[0][0]
    gap = int(min(height, width) * rng.uniform(0.0, 0.06))
    right, low = rng.random() < 0.5, rng.random() < 0.4
    x = width - gap - shape.shape[1] if right and kind != "flag" else (0 if kind == "flag" else gap)
    y = height - gap - shape.shape[0] if low and kind != "bookmark" else (0 if kind == "bookmark" else gap)
    out = pixels
    if rng.random() < 0.4:
        soft = np.asarray(cv2.GaussianBlur(np.pad(shape, 6), (0, 0), 2.5), np.float32)
        out = lay(out, soft, (0, 0, 0), x - 4, y - 3, 0.35)
    for number, (alpha, paint) in enumerate(canvas):
        out = lay(out, alpha, paint, x, y, opacity if number == 0 else 1.0)
    return marked_change(pixels, out)


def _price(rng: Rng, style: Style) -> str:
    """A price in the currency of one of the style's badges."""
    signs = sorted({word[0] for word in style.badges if word[0] in "$€£"})
    return f"{signs[int(rng.integers(len(signs)))]}{rng.uniform(3, 250):.2f}"


def _ring(n: int, outer: float, inner: float) -> Alpha:
    y, x = np.mgrid[0:n, 0:n].astype(np.float32)
    r = np.hypot(x - (n - 1) / 2, y - (n - 1) / 2) / (n / 2)
    return np.asarray(((outer - r) * n / 2).clip(0, 1) * ((r - inner) * n / 2).clip(0, 1), np.float32)


def _framed(alpha: Alpha, shape: tuple[int, ...], down: float = 0.5, across: float = 0.5) -> Alpha:
    """`alpha` on an empty sheet, its centre at these parts of the sheet."""
    sheet = np.zeros(shape[:2], np.float32)
    x, y = int(shape[1] * across - alpha.shape[1] / 2), int(shape[0] * down - alpha.shape[0] / 2)
    stamp(sheet, alpha, max(0, x), max(0, y))
    return sheet


def _two_lines(one: str, two: str, width: int, height: int, rng: Rng, style: Style) -> Alpha:
    """One or two lines of words that fit into width x height."""
    first = fit(style.lettering(one, int(height * 0.5), rng), width, int(height * 0.55))
    if rng.random() < 0.5:
        return first
    second = fit(style.lettering(two, int(height * 0.3), rng), width, int(height * 0.36))
    sheet = np.zeros((first.shape[0] + 4 + second.shape[0], max(first.shape[1], second.shape[1])), np.float32)
    stamp(sheet, first, (sheet.shape[1] - first.shape[1]) // 2, 0)
    stamp(sheet, second, (sheet.shape[1] - second.shape[1]) // 2, first.shape[0] + 4)
    return sheet


def _low_corner(pixels: Pixels, rng: Rng, style: Style, n: int, colour: Colour, opacity: float) -> Marked:
    """A ribbon over one of the low corners, words along it."""
    side = int(n * 1.6)
    i, j = np.mgrid[0:side, 0:side].astype(np.float32)
    along = i - j  # 0 on the diagonal from top left to bottom right
    alpha = ((along > 0) & (along < side * 0.42)).astype(np.float32)
    text = fit(style.lettering(style.phrase(rng, style.badges), int(side * 0.2), rng), int(side * 0.7), side // 4)
    text = turn(text, -45)
    ink = _framed(text, (side, side), 0.605, 0.395)
    x = 0
    if rng.random() < 0.5:
        alpha = np.ascontiguousarray(alpha[:, ::-1])
        ink = _framed(turn(text, 90), (side, side), 0.605, 0.605)
        x = pixels.shape[1] - side
    y = pixels.shape[0] - side
    out = lay(pixels, alpha, colour, x, y, opacity)
    return marked_change(pixels, lay(out, ink, contrasting(colour, rng), x, y))


def watermark(pixels: Pixels, rng: Rng, style: Style) -> Marked:
    """Outlined words, crossed lines with a mark, a line of copyright or a date; or emblems and lattices tiled."""
    height, width = pixels.shape[:2]
    short = min(height, width)
    opacity = style.force(rng, 0.16, 0.5, "opacity")
    kind = style.among(rng, {"0": ("outline", "crossed", "line"), "1": ("emblems", "lattice")}, "tiled")
    reach = style.force(rng, 0.2, 0.4, "size")
    words = style.phrase(rng, style.watermarks)
    sheet = np.zeros((height, width), np.float32)
    if kind == "outline":
        text = fit(style.lettering(words, int(short * max(0.12, reach * 0.5)), rng), int(width * 0.9), height // 2)
        text = np.pad(text, 3)
        rim = np.asarray(cv2.dilate(text, np.ones((3, 3))) - cv2.erode(text, np.ones((3, 3))), np.float32)
        rim = fit(turn(rim, float(rng.uniform(-40, 40))), width - 2, height - 2)
        _place(sheet, rim, rng)
        opacity = min(1.0, 1.3 * opacity)  # thin strokes
    elif kind == "crossed":
        line = max(1, round(short * rng.uniform(0.003, 0.01)))
        canvas = np.zeros((height, width), np.uint8)
        cv2.line(canvas, (0, 0), (width, height), 255, line, cv2.LINE_AA)
        cv2.line(canvas, (0, height), (width, 0), 255, line, cv2.LINE_AA)
        np.maximum(sheet, canvas.astype(np.float32) / 255, out=sheet)
        mark = emblem(int(short * reach), rng, style) if rng.random() < 0.5 else None
        mark = mark if mark is not None else style.lettering(words, int(short * reach * 0.35), rng)
        mark = fit(mark, int(width * 0.8), int(height * 0.5))
        stamp(sheet, mark, (width - mark.shape[1]) // 2, (height - mark.shape[0]) // 2)
    elif kind == "line":  # at an edge: who took it, or when
        if rng.random() < 0.3:
            day, month = int(rng.integers(1, 29)), int(rng.integers(1, 13))
            words = f"{int(rng.integers(2009, 2026))}.{month:02d}.{day:02d} {int(rng.integers(24)):02d}:"
            words += f"{int(rng.integers(60)):02d}"
        text = fit(style.lettering(words, int(short * rng.uniform(0.05, 0.09)), rng), int(width * 0.8), height // 6)
        x = int((width - text.shape[1]) * rng.choice([0.04, 0.5, 0.96]))
        y = int((height - text.shape[0]) * rng.choice([0.04, 0.94]))
        stamp(sheet, text, x, y)
        opacity = max(opacity, 0.3)
    elif kind == "emblems":
        mark = emblem(max(12, int(short * rng.uniform(0.08, 0.14))), rng, style)
        mark = turn(fit(mark, width // 3, height // 3), float(rng.uniform(-45, 45)))
        _tile(sheet, mark, rng.uniform(1.2, 2.0))
    else:  # crossing hair lines with words at the knots
        step = int(short * rng.uniform(0.14, 0.3))
        slope = float(rng.uniform(0.5, 1.2))
        canvas = np.zeros((height, width), np.uint8)
        reach_x = int(height / slope)
        for x in range(-reach_x, width + reach_x, step):
            cv2.line(canvas, (x, 0), (x + reach_x, height), 255, 1, cv2.LINE_AA)
            cv2.line(canvas, (x, height), (x + reach_x, 0), 255, 1, cv2.LINE_AA)
        np.maximum(sheet, canvas.astype(np.float32) / 255, out=sheet)
        text = fit(style.lettering(words, int(short * rng.uniform(0.035, 0.06)), rng), width // 3, height // 8)
        _tile(sheet, turn(text, float(np.degrees(np.arctan(slope)))), rng.uniform(1.3, 2.2))
        opacity = min(1.0, 1.2 * opacity)
    if rng.random() < 0.4:  # embossed: a light edge up left, a dark one down right
        soft = cv2.GaussianBlur(sheet, (0, 0), max(0.8, short / 300))
        relief = soft - np.roll(soft, (2, 2), (0, 1))
        out = (pixels + (relief * np.float32(260 * opacity))[..., None]).clip(0, 255).astype(np.uint8)
        out = lay(out, sheet, (128, 128, 128), 0, 0, opacity * 0.6)
    else:
        tone = float(pixels[::8, ::8].mean())
        colour: Colour = (90, 90, 90) if tone > 140 else (255, 255, 255)
        out = lay(pixels, sheet, colour if rng.random() < 0.7 else vivid(rng), 0, 0, opacity)
    return marked_change(pixels, out)


def _place(sheet: Alpha, mark: Alpha, rng: Rng) -> None:
    height, width = sheet.shape
    across, down = float(rng.choice([0.5, rng.uniform(0, 1)])), float(rng.choice([0.5, rng.uniform(0, 1)]))
    stamp(sheet, mark, int((width - mark.shape[1]) * across), int((height - mark.shape[0]) * down))


def _tile(sheet: Alpha, mark: Alpha, apart: float) -> None:
    """Marks over the whole sheet, every second row shifted by half a step."""
    step_x, step_y = int(mark.shape[1] * apart) + 6, int(mark.shape[0] * apart) + 6
    for row, y in enumerate(range(-step_y // 2, sheet.shape[0], step_y)):
        for x in range(-step_x + (row % 2) * step_x // 2, sheet.shape[1], step_x):
            stamp(sheet, mark, x, y)


def logo(pixels: Pixels, rng: Rng, style: Style) -> Marked:
    """A seller's name as a seal, as a handle under an emblem, or an emblem in two colours; somewhere at the edge."""
    height, width = pixels.shape[:2]
    n = max(16, int(min(height, width) * style.force(rng, 0.08, 0.2, "size")))
    opacity = style.force(rng, 0.85, 1.0, "opacity")
    colour = vivid(rng) if rng.random() < 0.6 else muted(rng)
    kind = str(rng.choice(["seal", "handle", "two colours"]))
    name = style.phrase(rng, style.brands)
    if kind == "seal":
        n = int(n * 1.3)
        base = EMBLEMS["disc"](n)
        text = fit(style.lettering(name, int(n * 0.3), rng), int(n * 0.7), int(n * 0.4))
        layers = [(base, colour), (_ring(n, 0.92, 0.86), contrasting(colour, rng))]
        layers.append((_framed(text, base.shape), contrasting(colour, rng)))
    elif kind == "handle":
        words = f"@{name.split()[0].lower()}" if rng.random() < 0.5 else f"{name.split()[0].lower()}.com"
        text = fit(style.lettering(words, max(8, int(n * 0.5)), rng), int(width * 0.45), n)
        back = plate(text.shape[1] + 12, text.shape[0] + 10, float(rng.uniform(0, 1)))
        layers = [(back, colour), (_framed(text, back.shape), contrasting(colour, rng))]
    else:
        mark = EMBLEMS[style.emblems[int(rng.integers(len(style.emblems)))]](n)
        text = fit(style.lettering(name, int(n * 0.6), rng), int(width * 0.35), n)
        sheet = (n + 6, n + 6 + n // 4 + text.shape[1])
        layers = [(np.zeros(sheet, np.float32), colour)]
        layers[0] = (np.asarray(_framed(mark, sheet, 0.5, (n / 2 + 3) / sheet[1]), np.float32), colour)
        layers.append((_framed(text, sheet, 0.5, 1 - (text.shape[1] / 2 + 3) / sheet[1]), muted(rng)))
    base = layers[0][0]
    gap = int(min(height, width) * rng.uniform(0.01, 0.05))
    across = float(rng.choice([0, 0, 0.5, 1, 1]))
    x = gap + int((width - 2 * gap - base.shape[1]) * across)
    y = gap + int((height - 2 * gap - base.shape[0]) * (0 if rng.random() < 0.6 else 1))
    under = pixels[max(0, y) : y + base.shape[0], max(0, x) : x + base.shape[1]].mean((0, 1))
    if np.abs(under - np.asarray(layers[0][1])).max() < 90:  # so that it is seen
        swap = (20, 20, 20) if under.mean() > 128 else (245, 245, 245)
        layers = [(layers[0][0], swap), *((a, contrasting(swap, rng) if kind != "two colours" else swap)
                                          for a, _ in layers[1:])]  # fmt: skip
    out = pixels
    for alpha, paint in layers:
        out = lay(out, alpha, paint, x, y, opacity)
    return marked_change(pixels, out)


def qr_code(pixels: Pixels, rng: Rng, style: Style) -> Marked:
    """A code on a card with words, with an emblem in its middle, slightly turned; or a bar code with its digits."""
    height, width = pixels.shape[:2]
    n = max(36, int(min(height, width) * style.force(rng, 0.16, 0.4, "size")))
    dark = vivid(rng) if rng.random() < 0.3 else (0, 0, 0)
    dark = (min(dark[0], 110), min(dark[1], 110), min(dark[2], 110))
    if rng.random() < 0.3:
        w, h = int(n * 1.2), max(24, int(n * 0.6))
        wide = np.repeat((rng.random(60) < 0.5).astype(np.float32), 1 + (rng.random(60) < 0.3))
        alpha = np.zeros((h, w), np.float32)
        bars = cv2.resize(np.broadcast_to(wide, (1, len(wide))).copy(), (int(w * 0.88), int(h * 0.7)), None, 0, 0, 0)
        stamp(alpha, np.asarray(bars, np.float32), int(w * 0.06), int(h * 0.06))
        digits = "".join(str(d) for d in rng.integers(0, 10, 13))
        text = fit(style.lettering(digits, max(5, int(h * 0.16)), rng), int(w * 0.8), int(h * 0.18))
        stamp(alpha, text, (w - text.shape[1]) // 2, int(h * 0.8))
    else:
        code = 255 - code_modules(rng, int(rng.choice([21, 25, 29, 33])))
        how = cv2.INTER_AREA if code.shape[0] > n else cv2.INTER_NEAREST
        alpha = np.asarray(cv2.resize(code, (n, n), interpolation=how), np.float32) / np.float32(255)
        if rng.random() < 0.4:  # an emblem in the middle, as error correction allows
            hole = plate(n // 4, n // 4)
            start = (n - n // 4) // 2
            alpha[start : start + n // 4, start : start + n // 4] *= 1 - hole
            mark = EMBLEMS[style.emblems[int(rng.integers(len(style.emblems)))]](max(6, n // 5))
            stamp(alpha, mark, (n - mark.shape[1]) // 2, (n - mark.shape[0]) // 2)
        if rng.random() < 0.5:
            text = fit(style.lettering(style.phrase(rng, style.interface), max(6, n // 9), rng), int(n * 0.9), n // 6)
            alpha = np.concatenate([alpha, np.zeros((n // 5, n), np.float32)])
            stamp(alpha, text, (n - text.shape[1]) // 2, n + n // 50)
    card = np.ones_like(alpha)
    if rng.random() < 0.4:
        degrees = float(rng.uniform(-14, 14))
        card, alpha = turn(card, degrees), turn(alpha, degrees)
    x = int(rng.choice([rng.uniform(0, 0.08), rng.uniform(0.92, 1), rng.uniform(0, 1)]) * (width - card.shape[1]))
    y = int(rng.choice([rng.uniform(0, 0.08), rng.uniform(0.92, 1), rng.uniform(0, 1)]) * (height - card.shape[0]))
    out = lay(pixels, card, (255, 255, 255), max(0, x), max(0, y))
    out = lay(out, alpha, dark, max(0, x), max(0, y))
    return marked(out, Box(max(0, x), max(0, y), card.shape[1], card.shape[0]))  # the card may be white on white
