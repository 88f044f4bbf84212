"""Print on products, drawn from a random generator: labels, covers, patterns, screens, posters.

Pictures are uint8 (h, w, 3) RGB. The typeface is the one inside Pillow, so that every machine draws the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

Picture = NDArray[np.uint8]
Rng = np.random.Generator
Colour = str

PATTERNS = ("stripes", "bars", "checks", "tartan", "dots", "leaves", "zigzag", "flowers", "tiles", "waves", "terrazzo")
FRESH = ("Fresh", "Pure", "Organic", "Original", "Classic", "Premium", "Natural", "Daily", "Gentle", "Strong", "Mild")
SUBJECT = ("The Quiet Harbour", "Salt and Stone", "A Year in the Garden", "Northern Lights", "The Last Tram", "Bread",
           "Small Houses", "Letters to Ada", "How Rivers Work", "Night Swimming", "The Paper Boat", "Good Soup",
           "Mountains of the Mind", "Glass Birds", "Every Other Sunday", "The Clockmaker", "Field Notes",
           "Atlas of Rain",
           "Winter Kitchen", "Drawing Trees")  # fmt: skip
AUTHOR = ("M. Lindqvist", "Ana Prado", "J. Okafor", "T. Varga", "Lena Hoff", "R. Iyer", "S. Moreau", "K. Tanaka")
SLOGANS = ("HELLO", "OCEAN", "Stay Wild", "1987", "NORTH", "slow down", "Good Day", "RUN", "Bonjour", "MOUNTAIN CLUB",
           "No. 12", "Lucky", "Weekend", "SURF", "Coffee First", "Moon", "TEAM 08", "be kind", "RIVER",
           "Sunday")  # fmt: skip


def luminous(colour: Colour) -> float:
    """Lightness of '#rrggbb', 0 to 1."""
    r, g, b = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return 0.3 * r + 0.59 * g + 0.11 * b


def ink(colour: Colour) -> Colour:
    """What can be read on a colour."""
    return "#f6f3ec" if luminous(colour) < 0.55 else "#26231f"


def text(
    page: Image.Image, words: str, at: tuple[float, float], height: float, colour: Colour, *, bold: int = 0,
    width: float = 1.0, longest: float = 0.0,
) -> None:  # fmt: skip
    """Words centred on `at`, letters `height` px high, stretched to `width`, at most `longest` px long."""
    font = ImageFont.load_default(max(6, round(height * 1.3)))
    left, top, right, bottom = font.getbbox(words, stroke_width=bold)
    w, h = max(1, math.ceil(right - left)), max(1, math.ceil(bottom - top))
    mask = Image.new("L", (w, h))
    ImageDraw.Draw(mask).text((-left, -top), words, 255, font, stroke_width=bold)
    scale = min(1.0, longest / (w * width)) if longest else 1.0
    size = max(1, round(w * width * scale)), max(1, round(h * scale))
    mask = mask.resize(size, Image.Resampling.BILINEAR)
    page.paste(Image.new("RGB", size, colour), (round(at[0] - size[0] / 2), round(at[1] - size[1] / 2)), mask)


def motif(page: Image.Image, rng: Rng, at: tuple[float, float], size: float, colours: Sequence[Colour]) -> None:
    """A simple drawing of about `size` px."""
    draw, (x, y), r = ImageDraw.Draw(page), at, size / 2
    one, two = colours[0], colours[-1]
    match int(rng.integers(8)):
        case 0:
            draw.ellipse((x - r, y - r, x + r, y + r), one)
            draw.polygon([(x - r * 0.9, y + r * 0.4), (x - r * 0.2, y - r * 0.4), (x + r * 0.3, y + r * 0.2),
                          (x + r * 0.5, y), (x + r * 0.9, y + r * 0.4)], two)  # fmt: skip
        case 1:
            for k in range(12):
                a = k * math.pi / 6
                draw.line((x, y, x + r * math.cos(a), y + r * math.sin(a)), one, max(1, int(r / 8)))
            draw.ellipse((x - r / 2, y - r / 2, x + r / 2, y + r / 2), two)
        case 2:
            for k in range(4, 0, -1):
                q = r * k / 4
                draw.ellipse((x - q, y - q, x + q, y + q), (one, two)[k % 2])
        case 3:
            leaf(draw, x, y + r, r * 2, -90, one)
            leaf(draw, x, y + r * 0.5, r * 1.2, -140, two)
            leaf(draw, x, y + r * 0.5, r * 1.2, -40, two)
        case 4:
            star = [(x + r * (1 if k % 2 == 0 else 0.42) * math.sin(k * math.pi / 5),
                     y - r * (1 if k % 2 == 0 else 0.42) * math.cos(k * math.pi / 5)) for k in range(10)]  # fmt: skip
            draw.polygon(star, one)
        case 5:
            for k in range(3):
                points = [(x - r + 2 * r * t / 20, y + (k - 1) * r * 0.5 + r * 0.18 * math.sin(t * 0.9))
                          for t in range(21)]  # fmt: skip
                draw.line(points, (one, two)[k % 2], max(2, int(r / 7)))
        case 6:
            draw.rectangle((x - r, y - r, x, y), one)
            draw.ellipse((x, y - r, x + r, y), two)
            draw.ellipse((x - r, y, x, y + r), two)
            draw.polygon([(x, y + r), (x + r, y + r), (x + r, y)], one)
        case _:
            for k in range(6):
                a = k * math.pi / 3
                cx, cy = x + 0.55 * r * math.cos(a), y + 0.55 * r * math.sin(a)
                draw.ellipse((cx - r * 0.4, cy - r * 0.4, cx + r * 0.4, cy + r * 0.4), one)
            draw.ellipse((x - r * 0.3, y - r * 0.3, x + r * 0.3, y + r * 0.3), two)


def leaf(draw: ImageDraw.ImageDraw, x: float, y: float, long: float, angle: float, colour: Colour) -> None:
    """A pointed leaf from (x, y)."""
    a = math.radians(angle)
    points = []
    for t in np.linspace(0, 1, 9):
        points.append((t * long, 0.22 * long * math.sin(math.pi * t)))
    points += [(u, -v) for u, v in points[::-1]]
    draw.polygon([(x + u * math.cos(a) - v * math.sin(a), y + u * math.sin(a) + v * math.cos(a)) for u, v in points],
                 colour)  # fmt: skip


def pattern(rng: Rng, name: str, colours: Sequence[Colour], side: int = 320) -> Picture:
    """A tile that repeats without a seam."""
    page = Image.new("RGB", (side, side), colours[0])
    draw = ImageDraw.Draw(page)
    n = int(rng.integers(3, 7))
    if name in ("zigzag", "waves", "tiles", "dots"):
        n += n % 2  # what alternates meets itself at the seam
    step = side / n
    tones = list(colours[1:]) or [ink(colours[0])]

    def everywhere(drawn: object, x: float, y: float) -> None:
        for dx in (-side, 0, side):
            for dy in (-side, 0, side):
                drawn(x + dx, y + dy)  # type: ignore[operator]

    if name in ("stripes", "bars"):
        for k in range(n):
            low, high = k * step, (k + float(rng.uniform(0.3, 0.6))) * step
            box = (low, 0, high, side) if name == "stripes" else (0, low, side, high)
            draw.rectangle(box, tones[k % len(tones)])
    elif name in ("checks", "tartan"):
        axis = np.arange(side)
        band = ((axis / step) % 1 < 0.5).astype(np.float32)
        if name == "tartan":
            band = np.maximum(band * 0.7, ((axis / side * n * 3) % 1 < 0.12) * 1.0)
        over = (band[:, None] + band[None]) / 2
        one, two = (np.array(Image.new("RGB", (1, 1), c))[0, 0].astype(np.float32) for c in (colours[0], tones[0]))
        return np.asarray(one * (1 - over[:, :, None]) + two * over[:, :, None], np.uint8)
    elif name == "dots":
        r = step * float(rng.uniform(0.14, 0.34))
        for i in range(n):
            for j in range(n):
                x, y = (i + 0.5 * (j % 2)) * step, j * step
                tone = tones[(i + j) % len(tones)]
                everywhere(lambda x, y, tone=tone: draw.ellipse((x - r, y - r, x + r, y + r), tone), x, y)
    elif name in ("zigzag", "waves"):
        thick = max(3, int(step * 0.3))
        for k in range(-1, n + 1):
            points = []
            for t in range(-40, side + 41, 2):
                swing = (
                    abs((t / step) % 2 - 1) if name == "zigzag" else 0.5 + 0.5 * math.sin(2 * math.pi * t / step / 2)
                )
                points.append((t, (k + 0.5 * swing) * step))
            draw.line(points, tones[k % len(tones)], thick)
    elif name == "tiles":
        for i in range(n):
            for j in range(n):
                x, y, tone = i * step, j * step, tones[(i + j) % len(tones)]
                draw.pieslice((x, y, x + 2 * step - 1, y + 2 * step - 1), 180, 270, tone)
                draw.ellipse((x + step * 0.6, y + step * 0.6, x + step * 0.9, y + step * 0.9), tones[0])
    else:
        for _ in range(10 * n if name == "terrazzo" else 4 * n):
            x, y = rng.uniform(0, side, 2)
            size, angle = side * float(rng.uniform(0.05, 0.12)), float(rng.uniform(0, 360))
            tone = tones[int(rng.integers(len(tones)))]
            if name == "leaves":
                everywhere(lambda x, y, s=size, a=angle, t=tone: leaf(draw, x, y, 1.6 * s, a, t), x, y)
            elif name == "flowers":

                def flower(x: float, y: float, r: float = size * 0.7, tone: Colour = tone) -> None:
                    for k in range(5):
                        a = k * 2 * math.pi / 5
                        cx, cy = x + 0.6 * r * math.cos(a), y + 0.6 * r * math.sin(a)
                        draw.ellipse((cx - r / 2, cy - r / 2, cx + r / 2, cy + r / 2), tone)
                    draw.ellipse((x - r / 4, y - r / 4, x + r / 4, y + r / 4), colours[0])

                everywhere(flower, x, y)
            else:
                corners = [(size * 0.45 * math.cos(a), size * 0.45 * math.sin(a))
                           for a in np.sort(rng.uniform(0, 2 * math.pi, 5))]  # fmt: skip
                everywhere(
                    lambda x, y, c=corners, t=tone: draw.polygon([(x + u, y + v) for u, v in c], t), x, y
                )  # fmt: skip
    return np.asarray(page, np.uint8)


def label(rng: Rng, brand: str, what: str, colours: Sequence[Colour], size: tuple[int, int]) -> Picture:
    """The front of a pack: brand, kind, a drawing, small print."""
    w, h = size
    paper, accent = colours[0], colours[1]
    page = Image.new("RGB", size, paper)
    draw = ImageDraw.Draw(page)
    style = int(rng.integers(4))
    if style == 0:
        draw.rectangle((0, 0, w, h * 0.3), accent)
    elif style == 1:
        draw.rectangle((0, h * 0.55, w, h), accent)
    elif style == 2:
        draw.rectangle((w * 0.06, h * 0.05, w * 0.94, h * 0.95), outline=accent, width=max(2, w // 60))
    top = accent if style == 0 else paper
    bold = int(rng.integers(0, 3))
    name = brand.upper() if rng.random() < 0.5 else brand
    text(
        page,
        name,
        (w / 2, h * 0.16),
        h * 0.1,
        ink(top),
        bold=bold,
        longest=w * 0.82,
        width=float(rng.uniform(0.8, 1.3)),
    )
    body = accent if style == 1 else paper
    motif(
        page,
        rng,
        (w / 2, h * 0.45),
        min(w, h) * float(rng.uniform(0.25, 0.4)),
        (accent if style != 1 else ink(body), *colours[2:]),
    )
    text(page, what, (w / 2, h * 0.72), h * 0.055, ink(body), longest=w * 0.84)
    text(page, str(rng.choice(FRESH)), (w / 2, h * 0.81), h * 0.04, ink(body), longest=w * 0.8)
    text(
        page,
        f"{int(rng.integers(2, 40)) * 25} {'g' if rng.random() < 0.5 else 'ml'}",
        (w / 2, h * 0.91),
        h * 0.035,
        ink(body),
    )
    return np.asarray(page, np.uint8)


def small_print(rng: Rng, brand: str, colours: Sequence[Colour], size: tuple[int, int]) -> Picture:
    """The back of a pack: lines of text, a table, a bar code."""
    w, h = size
    page = Image.new("RGB", size, colours[0])
    draw = ImageDraw.Draw(page)
    dark = ink(colours[0])
    text(page, brand, (w / 2, h * 0.08), h * 0.05, colours[1], longest=w * 0.8)
    for k in range(int(rng.integers(6, 14))):
        y = h * (0.16 + 0.032 * k)
        for x in np.arange(w * 0.1, w * float(rng.uniform(0.7, 0.92)), w * 0.07):
            draw.rectangle((x, y, x + w * float(rng.uniform(0.03, 0.06)), y + max(1, h * 0.012)), dark)
    box = (w * 0.1, h * 0.66, w * 0.5, h * 0.92)
    draw.rectangle(box, outline=dark, width=max(1, w // 150))
    for k in range(1, 5):
        y = box[1] + (box[3] - box[1]) * k / 5
        draw.line((box[0], y, box[2], y), dark, max(1, w // 200))
    draw.rectangle((w * 0.56, h * 0.68, w * 0.92, h * 0.9), "#ffffff")
    x = w * 0.58
    while x < w * 0.89:
        thick = float(rng.integers(1, 4)) * w / 220
        draw.rectangle((x, h * 0.70, x + thick, h * 0.86), "#000000")
        x += thick + float(rng.integers(1, 4)) * w / 220
    return np.asarray(page, np.uint8)


def cover(rng: Rng, title: str, author: str, colours: Sequence[Colour], size: tuple[int, int]) -> Picture:
    """The front of a book."""
    w, h = size
    page = Image.new("RGB", size, colours[0])
    if rng.random() < 0.4:
        page = Image.fromarray(poster(rng, colours, size))
        ImageDraw.Draw(page).rectangle((0, h * 0.06, w, h * 0.36), colours[0])
    else:
        motif(page, rng, (w * 0.5, h * 0.6), w * float(rng.uniform(0.45, 0.75)), colours[1:])
    y, high = h * 0.13, h * float(rng.uniform(0.055, 0.085))
    words = title.split()
    lines = [" ".join(words[: (len(words) + 1) // 2]), " ".join(words[(len(words) + 1) // 2 :])]
    for line in filter(None, lines):
        text(page, line, (w / 2, y), high, ink(colours[0]), bold=int(rng.integers(2)), longest=w * 0.86)
        y += high * 1.45
    text(page, author, (w / 2, h * 0.92), h * 0.035, ink(colours[0]), longest=w * 0.8)
    return np.asarray(page, np.uint8)


def poster(rng: Rng, colours: Sequence[Colour], size: tuple[int, int]) -> Picture:
    """A landscape or a composition of plain forms."""
    w, h = size
    page = Image.new("RGB", size, colours[0])
    draw = ImageDraw.Draw(page)
    if rng.random() < 0.55:
        r = w * float(rng.uniform(0.08, 0.18))
        x, y = w * float(rng.uniform(0.25, 0.75)), h * float(rng.uniform(0.2, 0.4))
        draw.ellipse((x - r, y - r, x + r, y + r), colours[-1])
        for k in range(4):
            base = h * (0.45 + 0.14 * k)
            phase, wave = rng.uniform(0, 6, 2)
            line = [(t, base - h * 0.07 * math.sin(t / w * (3 + wave) + phase)) for t in range(0, w + 8, 8)]
            draw.polygon([*line, (w, h), (0, h)], colours[1 + k % (len(colours) - 1)])
    else:
        for _ in range(int(rng.integers(3, 8))):
            motif(page, rng, (w * float(rng.uniform(0.15, 0.85)), h * float(rng.uniform(0.15, 0.85))),
                  w * float(rng.uniform(0.2, 0.5)), colours[1:])  # fmt: skip
    return np.asarray(page, np.uint8)


def screen(rng: Rng, size: tuple[int, int], colours: Sequence[Colour]) -> Picture:
    """A lit display: a picture with a clock and icons, or a page of a program."""
    w, h = size
    if rng.random() < 0.6:
        page = Image.fromarray(poster(rng, colours, size)).filter(ImageFilter.GaussianBlur(w / 90))
        text(page, f"{int(rng.integers(7, 23))}:{int(rng.integers(10, 60))}", (w / 2, h * 0.16), h * 0.07, "#ffffff")
        draw = ImageDraw.Draw(page)
        n = 4 if h > w else 8
        for k in range(n):
            x, y, r = w * (k + 0.5) / n, h * 0.9, min(w / n * 0.32, h * 0.06)
            draw.rounded_rectangle((x - r, y - r, x + r, y + r), r * 0.4, str(rng.choice(list(colours[1:]))))
    else:
        page = Image.new("RGB", size, "#f4f5f7")
        draw = ImageDraw.Draw(page)
        draw.rectangle((0, 0, w, h * 0.08), colours[1])
        draw.rectangle((0, h * 0.08, w * 0.2, h), "#e3e6ea")
        for k in range(12):
            y = h * (0.14 + 0.065 * k)
            draw.rectangle((w * 0.25, y, w * float(rng.uniform(0.4, 0.9)), y + h * 0.022), "#8f97a3")
            draw.rectangle((w * 0.03, y, w * 0.15, y + h * 0.02), "#aab2bd")
        draw.rectangle((w * 0.55, h * 0.5, w * 0.92, h * 0.85), colours[-1])
    return np.asarray(page, np.uint8)


def shirt_print(rng: Rng, ground: Colour, colours: Sequence[Colour], size: tuple[int, int]) -> Picture:
    """A drawing or words in the upper middle of plain cloth."""
    w, h = size
    page = Image.new("RGB", size, ground)
    tones = [c for c in colours if abs(luminous(c) - luminous(ground)) > 0.2] or [ink(ground)]
    choice = rng.random()
    if choice < 0.75:
        motif(page, rng, (w / 2, h * 0.42), w * float(rng.uniform(0.2, 0.34)), tones)
    if choice > 0.45:
        y = h * (0.42 if choice >= 0.75 else 0.58)
        text(page, str(rng.choice(SLOGANS)), (w / 2, y), h * float(rng.uniform(0.045, 0.08)), tones[-1],
             bold=int(rng.integers(3)), longest=w * 0.42)  # fmt: skip
    return np.asarray(page, np.uint8)
