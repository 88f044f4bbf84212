"""Further looks of faults of layout: diagram, collage, border, screenshot, cut-off product, clutter, rotation.

`images` draws them beside the first looks (`Style.further`); they keep to the same ranges of the rulebook.
"""

from __future__ import annotations

import cv2
import numpy as np

from agpis.data import Box
from agpis.simulate.drawing import (
    EMBLEMS,
    Colour,
    Ground,
    Marked,
    Rng,
    contrasting,
    fit,
    ground,
    lay,
    marked,
    marked_change,
    muted,
    plate,
    turn,
    vivid,
)
from agpis.simulate.framing import covering, cut_sides, other, resized, scene, turned
from agpis.simulate.overlays import arrow, label, measure
from agpis.simulate.style import Pixels, Style


def diagram(pixels: Pixels, rng: Rng, style: Style) -> Marked:
    """A size chart, a magnified part in a circle, numbered points, a ruler, or dimension lines with end strokes."""
    height, width = pixels.shape[:2]
    box = ground(pixels).box
    short = min(height, width)
    letter = max(9, int(short * style.force(rng, 0.035, 0.07)))
    colour: Colour = (0, 0, 0) if rng.random() < 0.5 else vivid(rng)
    line = max(1, round(short * rng.uniform(0.003, 0.008)))
    arrows, labels = round(style.force(rng, 1, 2, "arrows")), max(1, round(style.force(rng, 2, 4, "labels")))
    kind = str(rng.choice(["chart", "lens", "points", "ruler", "strokes"]))
    out = pixels.copy()
    if kind == "chart":
        rows, columns = labels + 2, int(rng.integers(2, 5))
        w = int(width * rng.uniform(0.35, 0.9))
        h = min(int(height * 0.6), int(rows * letter * 2))
        x, y = int((width - w) * rng.uniform(0, 1)), int((height - h) * rng.choice([0.03, 0.97, 0.5]))
        out = lay(out, plate(w, h), (255, 255, 255), x, y, 0.92)
        head = vivid(rng) if rng.random() < 0.5 else (225, 225, 225)
        out = lay(out, plate(w, h // rows), head, x, y)
        for i in range(rows + 1):
            cv2.line(out, (x, y + i * h // rows), (x + w - 1, y + i * h // rows), (120, 120, 120), 1)
        for j in range(columns + 1):
            cv2.line(out, (x + j * w // columns, y), (x + j * w // columns, y + h - 1), (120, 120, 120), 1)
        for i in range(rows):
            for j in range(columns):
                words = measure(rng, style) if i and j else style.phrase(rng, style.captions)
                text = fit(style.lettering(words, letter, rng), int(w / columns * 0.8), int(h / rows * 0.6))
                at = x + j * w // columns + (w // columns - text.shape[1]) // 2
                ink = contrasting(head, rng) if i == 0 else (30, 30, 30)
                out = lay(out, text, ink, at, y + i * h // rows + (h // rows - text.shape[0]) // 2)
    elif kind == "lens":
        n = int(short * rng.uniform(0.26, 0.42))
        px, py = box.x + int(box.w * rng.uniform(0.25, 0.75)), box.y + int(box.h * rng.uniform(0.25, 0.75))
        r = max(6, n // int(rng.integers(4, 7)))
        part = pixels[max(0, py - r) : py + r, max(0, px - r) : px + r]
        part = np.ascontiguousarray(cv2.resize(part, (n, n), interpolation=cv2.INTER_CUBIC))
        x = 4 if px > width / 2 else width - n - 4
        y = int(np.clip(py - n // 2 + height * rng.uniform(-0.3, 0.3), 4, max(4, height - n - 4)))
        cv2.circle(out, (px, py), r, colour, line, cv2.LINE_AA)
        cv2.line(out, (px, py), (x + n // 2, y + n // 2), colour, line, cv2.LINE_AA)
        out = lay(out, EMBLEMS["disc"](n), part.astype(np.uint8), x, y)
        cv2.circle(out, (x + n // 2, y + n // 2), n // 2, colour, 2 * line, cv2.LINE_AA)
        if rng.random() < 0.6:
            out = label(out, style.phrase(rng, style.captions), letter, x + n // 2, y + n + letter, colour, rng, style)
    elif kind == "points":
        for i in range(labels):
            px, py = box.x + int(box.w * rng.uniform(0.1, 0.9)), box.y + int(box.h * rng.uniform(0.1, 0.9))
            n = max(12, int(letter * 1.5))
            out = lay(out, EMBLEMS["disc"](n), colour, px - n // 2, py - n // 2)
            text = fit(style.lettering(str(i + 1), int(n * 0.6), rng), int(n * 0.7), int(n * 0.7))
            out = lay(out, text, contrasting(colour, rng), px - text.shape[1] // 2, py - text.shape[0] // 2)
            if rng.random() < 0.5:
                at = int(width * (0.12 if px < width / 2 else 0.88))
                cv2.line(out, (px, py), (at, py), colour, line, cv2.LINE_AA)
                out = label(out, style.phrase(rng, style.captions), letter, at, py, colour, rng, style)
    elif kind == "ruler":
        upright = bool(rng.random() < 0.5)
        long, start = (height, height // 20) if upright else (width, width // 20)
        ticks = int(rng.integers(10, 31))
        near = max(2, int(short * rng.uniform(0.02, 0.06)))
        for i in range(ticks + 1):
            at = start + int(i * (long - 2 * start) / ticks)
            tall = letter if i % 5 == 0 else letter // 2
            a, b = ((near, at), (near + tall, at)) if upright else ((at, height - near), (at, height - near - tall))
            cv2.line(out, a, b, colour, line, cv2.LINE_AA)
            if i % 5 == 0:
                x, y = (near + 2 * letter, at) if upright else (at, height - near - int(1.8 * letter))
                out = label(out, str(i), max(7, int(letter * 0.7)), x, y, colour, rng, style)
        ends = (
            ((near, start), (near, long - start))
            if upright
            else ((start, height - near), (long - start, height - near))
        )
        cv2.line(out, ends[0], ends[1], colour, line, cv2.LINE_AA)
    else:
        gap = max(4, int(0.03 * short))
        for upright in (bool(rng.random() < 0.5), True)[: max(1, arrows)]:
            tick = max(3, letter // 2)
            if upright:
                x = max(tick, box.x - gap) if rng.random() < 0.5 else min(width - tick - 1, box.x + box.w + gap)
                y0, y1 = max(2, box.y), min(height - 3, box.y + box.h)
                arrow(out, (x, y0), (x, y1), colour, line)
                for y in (y0, y1):
                    cv2.line(out, (x - tick, y), (x + tick, y), colour, line, cv2.LINE_AA)
                out = label(out, measure(rng, style), letter, x, (y0 + y1) // 2, colour, rng, style)
            else:
                y = max(tick, box.y - gap) if rng.random() < 0.5 else min(height - tick - 1, box.y + box.h + gap)
                x0, x1 = max(2, box.x), min(width - 3, box.x + box.w)
                arrow(out, (x0, y), (x1, y), colour, line)
                for x in (x0, x1):
                    cv2.line(out, (x, y - tick), (x, y + tick), colour, line, cv2.LINE_AA)
                out = label(out, measure(rng, style), letter, (x0 + x1) // 2, y, colour, rng, style)
    return marked_change(pixels, out)


def collage(pixels: Pixels, rng: Rng, style: Style) -> Marked:
    """Before and after, a picture in the picture, thumbnails in a row, slanted parts, the product in many colours."""
    tiles = round(style.force(rng, 2, 4, "tiles"))
    fewest = round(float(min(style.ranges.get("tiles", (2,)))))
    kinds = ["thumbnails", "colours"]
    if fewest <= 2:
        kinds = ["before and after", "before and after", "inset", "slanted", *kinds]
    return _COLLAGES[str(rng.choice(kinds))](pixels, max(3, tiles), rng, style)


def _before_and_after(pixels: Pixels, tiles: int, rng: Rng, style: Style) -> Marked:
    """The same thing twice, dull and dirty at the left or top and bright at the other, mostly with words."""
    height, width = pixels.shape[:2]
    level = bool(rng.random() < 0.75)
    w, h = (width // 2, height) if level else (width, height // 2)
    after = covering(pixels, w, h, rng) if rng.random() < 0.5 else _held(pixels, w, h)
    grey = after.mean(2, keepdims=True)
    before = (after * 0.45 + grey * 0.55) * rng.uniform(0.55, 0.85) * np.asarray([1.0, 0.96, 0.86])
    if rng.random() < 0.4:  # stains
        spots = cv2.resize(rng.random((7, 7)).astype(np.float32), (w, h), interpolation=cv2.INTER_CUBIC)
        before = before * (1 - 0.35 * (spots > 0.7))[..., None]
    halves = [before.clip(0, 255).astype(np.uint8), np.ascontiguousarray(after)]
    out = np.concatenate(halves, 1 if level else 0)
    out = resized(np.ascontiguousarray(out), width, height)
    if rng.random() < 0.7:
        colour = (255, 255, 255) if rng.random() < 0.7 else vivid(rng)
        line = max(2, int(min(height, width) * rng.uniform(0.006, 0.02)))
        a, b = ((w, 0), (w, height)) if level else ((0, h), (width, h))
        cv2.line(out, a, b, colour, line)
    if rng.random() < 0.75:
        pair = style.contrasts[int(rng.integers(len(style.contrasts)))]
        size = int(min(height, width) * rng.uniform(0.05, 0.09))
        for i, words in enumerate(pair):
            x = w // 2 + (i * w if level else 0)
            y = int(h * rng.choice([0.08, 0.92])) + (0 if level else i * h)
            text = fit(style.lettering(words, size, rng), int(w * 0.8), height // 5)
            back = plate(text.shape[1] + 10, text.shape[0] + 8, float(rng.uniform(0, 1)))
            paint = vivid(rng) if i else (70, 70, 70)
            x0, y0 = x - text.shape[1] // 2, int(np.clip(y - text.shape[0] // 2, 6, height - text.shape[0] - 6))
            out = lay(lay(out, back, paint, x0 - 5, y0 - 4), text, (255, 255, 255), x0, y0)
    if rng.random() < 0.3:
        n = int(min(height, width) * 0.12)
        tip = turn(EMBLEMS["triangle"](n), -90 if level else 180)
        out = lay(out, tip, (255, 255, 255), (width - tip.shape[1]) // 2, (height - tip.shape[0]) // 2)
    return Marked(out)


def _held(pixels: Pixels, width: int, height: int) -> Pixels:
    """The whole picture inside width x height, the rest filled with its ground."""
    scale = min(width / pixels.shape[1], height / pixels.shape[0])
    w, h = max(1, int(pixels.shape[1] * scale)), max(1, int(pixels.shape[0] * scale))
    rim = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    out = np.broadcast_to(np.median(rim, 0).astype(np.uint8), (height, width, 3)).copy()
    x, y = (width - w) // 2, (height - h) // 2
    out[y : y + h, x : x + w] = resized(pixels, w, h)
    return out


def _inset(pixels: Pixels, tiles: int, rng: Rng, style: Style) -> Marked:
    """A small picture, mostly a close part of the same product, set into a corner; round or square, with a rim."""
    height, width = pixels.shape[:2]
    n = int(min(height, width) * rng.uniform(0.26, 0.42))
    box = ground(pixels).box
    if rng.random() < 0.65:
        side = max(16, int(min(box.w, box.h) * rng.uniform(0.25, 0.5)))
        x, y = box.x + int((box.w - side) * rng.uniform(0, 1)), box.y + int((box.h - side) * rng.uniform(0, 1))
        part = pixels[y : y + side, x : x + side]
    else:
        part = other(pixels, rng, style)
    part = np.ascontiguousarray(covering(np.ascontiguousarray(part), n, n, rng))
    shape = EMBLEMS["disc"](n) if rng.random() < 0.5 else plate(n, n, float(rng.choice([0, 0.15])))
    gap = int(min(height, width) * rng.uniform(0.0, 0.05))
    x, y = (gap if rng.random() < 0.5 else width - n - gap), (gap if rng.random() < 0.4 else height - n - gap)
    rim = max(2, n // int(rng.integers(18, 40)))
    wide = np.asarray(cv2.dilate(np.pad(shape, rim), np.ones((2 * rim + 1, 2 * rim + 1))), np.float32)
    rim_colour = muted(rng) if rng.random() < 0.6 else vivid(rng)
    if min(rim_colour) > 225:
        rim_colour = (170, 170, 170)
    out = lay(pixels, wide, rim_colour, x - rim, y - rim)
    return Marked(lay(out, shape, part, x, y))


def _thumbnails(pixels: Pixels, tiles: int, rng: Rng, style: Style) -> Marked:
    """One large picture and a row or column of small ones, framed by thin lines."""
    height, width = pixels.shape[:2]
    level = bool(rng.random() < 0.6)
    count = max(2, tiles - 1)
    long = width if level else height
    cell = long // count if rng.random() < 0.5 else int(long / count * rng.uniform(0.7, 0.95))
    deep = min(cell, int((height if level else width) * 0.4))
    out = np.full_like(pixels, 255)
    w, h = (width, height - deep) if level else (width - deep, height)
    out[:h, :w] = _held(pixels, w, h) if rng.random() < 0.6 else covering(pixels, w, h, rng)
    gap = max(1, cell // 24)
    for i in range(count):
        picture = pixels if rng.random() < 0.4 else other(pixels, rng, style)
        if picture is pixels:
            picture = np.ascontiguousarray(covering(pixels, int(width * 0.6), int(height * 0.6), rng))
        a, b = (cell - 2 * gap, deep - 2 * gap) if level else (deep - 2 * gap, cell - 2 * gap)
        if min(a, b) < 6:
            continue
        part = _held(picture, a, b) if rng.random() < 0.5 else covering(picture, a, b, rng)
        x, y = (i * cell + gap, h + gap) if level else (w + gap, i * cell + gap)
        out[y : y + b, x : x + a] = part
        if rng.random() < 0.6:
            cv2.rectangle(out, (x, y), (x + a - 1, y + b - 1), (150, 150, 150), 1)
    return Marked(out)


def _slanted(pixels: Pixels, tiles: int, rng: Rng, style: Style) -> Marked:
    """Two pictures along a slanted seam."""
    height, width = pixels.shape[:2]
    second = covering(other(pixels, rng, style), width, height, rng)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    angle = float(rng.uniform(-0.6, 0.6)) + (np.pi / 2 if rng.random() < 0.3 else 0.0)
    along = (x - width / 2) * np.float32(np.cos(angle)) + (y - height / 2) * np.float32(np.sin(angle))
    alpha = (along + 0.5).clip(0, 1)
    out = lay(pixels, alpha, np.ascontiguousarray(second), 0, 0)
    if rng.random() < 0.6:
        seam = (np.abs(along) < max(1.5, min(height, width) * rng.uniform(0.004, 0.014))).astype(np.float32)
        out = lay(out, seam, (255, 255, 255) if rng.random() < 0.7 else vivid(rng), 0, 0)
    return Marked(out)


def _colours(pixels: Pixels, tiles: int, rng: Rng, style: Style) -> Marked:
    """The product several times in other colours, in a row or a grid."""
    height, width = pixels.shape[:2]
    columns = tiles if tiles < 4 else 2
    rows = -(-tiles // columns)
    w, h = width // columns, height // rows
    out = np.broadcast_to(np.asarray(ground(pixels).colour, np.uint8), pixels.shape).copy()
    small = _held(pixels, w, h)
    hsv = cv2.cvtColor(small, cv2.COLOR_RGB2HSV).astype(np.int16)
    for i in range(tiles):
        turned = hsv.copy()
        turned[..., 0] = (turned[..., 0] + int(180 * i / tiles + rng.integers(0, 12))) % 180
        part = small if i == 0 else cv2.cvtColor(turned.astype(np.uint8), cv2.COLOR_HSV2RGB)
        x, y = (i % columns) * w, (i // columns) * h
        out[y : y + h, x : x + w] = part
    return Marked(out)


_COLLAGES = {
    "before and after": _before_and_after,
    "inset": _inset,
    "thumbnails": _thumbnails,
    "slanted": _slanted,
    "colours": _colours,
}


def border(pixels: Pixels, rng: Rng, style: Style) -> Marked:
    """An instant print's frame, dashes, corner brackets, a gradient, or sides filled with the picture blurred."""
    height, width = pixels.shape[:2]
    t = max(3, int(min(height, width) * style.force(rng, 0.018, 0.08, "width")))
    colour = vivid(rng) if rng.random() < 0.6 else (30, 30, 30)
    kind = str(rng.choice(["print", "dashes", "brackets", "gradient", "filled"]))
    if kind == "print":  # white, deeper at the bottom, on grey or coloured paper
        paper: Colour = (190, 190, 190) if rng.random() < 0.5 else vivid(rng)
        out = np.pad(pixels, ((t, 3 * t), (t, t), (0, 0)), constant_values=255)
        edge = max(2, t // 2)
        framed = np.broadcast_to(np.asarray(paper, np.uint8), (out.shape[0] + 2 * edge, out.shape[1] + 2 * edge, 3))
        framed = framed.copy()
        framed[edge:-edge, edge:-edge] = out
        return marked(framed, Box(0, 0, framed.shape[1], framed.shape[0]))
    if kind == "filled":  # a picture of another shape in the middle of its own blur
        big = cv2.GaussianBlur(
            np.ascontiguousarray(covering(pixels, width, height, rng)), (0, 0), max(height, width) / 25
        )
        share = rng.uniform(0.6, 0.8)
        w, h = (int(width * share), height) if rng.random() < 0.6 else (width, int(height * share))
        out = (big * rng.uniform(0.6, 0.95)).astype(np.uint8)
        part = covering(pixels, w, h, rng)
        x, y = (width - w) // 2, (height - h) // 2
        out[y : y + h, x : x + w] = part
        return marked(out, Box(0, 0, width, height))
    ring = np.ones((height, width), np.float32)
    inset = int(rng.choice([0, t // 2, t]))
    ring[inset + t : height - inset - t, inset + t : width - inset - t] = 0
    ring[:inset], ring[height - inset :], ring[:, :inset], ring[:, width - inset :] = 0, 0, 0, 0
    if kind == "dashes":
        y, x = np.mgrid[0:height, 0:width]
        step = max(6, 3 * t)
        ring = np.asarray(ring * (((x + y) % step) < step * 0.6), np.float32)
    elif kind == "brackets":
        reach = int(min(height, width) * rng.uniform(0.15, 0.3))
        ring[inset + reach : height - inset - reach] = 0
        ring[:, inset + reach : width - inset - reach] = 0
    paint = np.broadcast_to(np.asarray(colour, np.uint8), pixels.shape)
    if kind == "gradient":
        t_ = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
        paint = np.broadcast_to(paint * (1 - t_) + np.asarray(vivid(rng), np.float32) * t_, pixels.shape)
    return marked_change(pixels, lay(pixels, ring, np.asarray(paint, np.uint8), 0, 0))


def screenshot(pixels: Pixels, rng: Rng, style: Style) -> Marked:
    """A gallery with a counter, a browser with tabs, a chat, or the picture alone under a phone's status bar."""
    height, width = pixels.shape[:2]
    longest = max(height, width)
    kind = str(rng.choice(["gallery", "browser", "chat", "status"]))
    dark = bool(rng.random() < 0.4)
    paper: Colour = (0, 0, 0) if dark else (250, 250, 250)
    ink: Colour = (230, 230, 230) if dark else (50, 50, 50)
    w, h = (int(longest * rng.uniform(0.5, 0.62)), longest) if kind != "browser" else (longest, int(longest * 0.72))
    bar = max(10, int(h * style.force(rng, 0.045, 0.075, "bar")))
    letter = max(7, int(bar * 0.42))
    if kind == "chat":
        paper = (225, 238, 220) if not dark else (20, 28, 34)
    if kind == "status":
        w, h = width, height + bar
    out = np.broadcast_to(np.asarray(paper, np.uint8), (h, w, 3)).copy()

    def write(words: str, x: int, y: int, colour: Colour, size: int = letter) -> None:
        nonlocal out
        out = lay(out, fit(style.lettering(words, size, rng), int(w * 0.6), 2 * bar), colour, x, y)

    def status() -> None:
        """Time, bars and battery."""
        nonlocal out
        write(f"{int(rng.integers(24)):02d}:{int(rng.integers(60)):02d}", max(4, w // 25), bar // 4, ink)
        cell = plate(letter * 2, letter, 0.4)
        out = lay(out, cell, ink, w - letter * 2 - 6, bar // 4)
        out = lay(out, EMBLEMS["bars"](letter), ink, w - letter * 4 - 6, bar // 4)

    def show(x: int, y: int, room_w: int, room_h: int) -> tuple[int, int]:
        scale = min(room_w / width, room_h / height)
        size = (max(8, int(width * scale)), max(8, int(height * scale)))
        left, top = x + (room_w - size[0]) // 2, y + (room_h - size[1]) // 2
        out[top : top + size[1], left : left + size[0]] = resized(pixels, *size)
        return left, top

    if kind == "status":
        out[bar:] = pixels
        status()
        if rng.random() < 0.6:  # the arrow back and the counter on the picture
            n = max(8, int(bar * 0.9))
            out = lay(out, EMBLEMS["disc"](n), (90, 90, 90), n // 2, bar + n // 2, 0.6)
            write(f"{int(rng.integers(1, 4))}/{int(rng.integers(4, 10))}", w - 4 * letter, h - 2 * letter, (60, 60, 60))
    elif kind == "gallery":
        status()
        show(0, 2 * bar, w, h - 5 * bar)
        write(style.phrase(rng, style.interface), w // 6, int(bar * 1.25), ink)
        count = int(rng.integers(4, 8))
        n = min(int(bar * 1.3), w // count - 3)
        for i in range(count):
            picture = pixels if i == 0 else other(pixels, rng, style)
            out[h - 2 * bar : h - 2 * bar + n, 2 + i * (n + 3) : 2 + i * (n + 3) + n] = resized(picture, n, n)
    elif kind == "browser":
        tabs: Colour = (60, 60, 66) if dark else (222, 225, 230)
        out[: 2 * bar] = tabs
        out = lay(out, plate(w // 4, bar, 0.3), paper, bar, 2)
        write(style.phrase(rng, style.watermarks), int(bar * 1.5), bar // 3, ink)
        out = lay(out, plate(int(w * 0.7), int(bar * 0.7), 1.0), paper, int(w * 0.12), int(bar * 1.15))
        write(f"https://{style.phrase(rng, style.brands).split()[0].lower()}.com", int(w * 0.16), int(bar * 1.3), ink)
        for i in range(3):
            out = lay(out, EMBLEMS["disc"](max(5, bar // 3)), ink, 6 + i * (bar // 2 + 2), int(bar * 1.35), 0.6)
        show(int(w * rng.uniform(0, 0.1)), 2 * bar, int(w * 0.6), h - 2 * bar)
        for i in range(int(rng.integers(4, 8))):
            write(style.phrase(rng, style.interface + style.captions), int(w * 0.7), int(bar * (2.6 + 1.2 * i)), ink)
        out = lay(out, plate(int(w * 0.24), bar, 0.3), vivid(rng), int(w * 0.7), h - 2 * bar)
    else:
        out[:bar] = (60, 120, 90) if not dark else (40, 46, 52)
        status()
        bubble = plate(int(w * 0.86), int(h * 0.6), 0.08)
        out = lay(out, bubble, (255, 255, 255) if not dark else (50, 60, 66), int(w * 0.1), int(h * 0.2))
        show(int(w * 0.12), int(h * 0.21), int(w * 0.82), int(h * 0.56))
        for i, y in enumerate((0.12, 0.83)):
            words = style.phrase(rng, style.interface + style.captions)
            text = fit(style.lettering(words, letter, rng), int(w * 0.5), bar)
            back = plate(text.shape[1] + 14, text.shape[0] + 10, 0.7)
            x = 6 if i == 0 else w - back.shape[1] - 6
            out = lay(lay(out, back, (255, 255, 255), x, int(h * y)), text, (40, 40, 40), x + 7, int(h * y) + 5)
        out = lay(out, plate(int(w * 0.8), bar, 1.0), (255, 255, 255), int(w * 0.04), h - int(bar * 1.4))
    return marked(out, Box(0, 0, w, h))


def cut_off(pixels: Pixels, rng: Rng, style: Style) -> Marked:
    """The product is larger than the frame: cut at one side or two, at the size and shape of the whole picture."""
    height, width = pixels.shape[:2]
    around = ground(pixels)
    box = around.box
    lost = style.force(rng, 0.2, 0.45, "share")
    scale = float(rng.uniform(1.0, 1.35))
    sides = cut_sides(around, rng)
    if set(sides) in ({"left", "right"}, {"top", "bottom"}):  # lost at both: the scale must be larger
        sides = sides[:1]
    opposite = {"left": "right", "right": "left", "top": "bottom", "bottom": "top"}
    for side in sides:  # the product runs into the other side: it still fills the frame there
        if not around.plain or opposite[side] in around.touched():
            near, length, whole = (box.x, box.w, width) if side in ("left", "right") else (box.y, box.h, height)
            gone = near + length * lost if side in ("left", "top") else whole - near - length * (1 - lost)
            scale = max(scale, whole / max(1.0, whole - gone))
    dx, dy = width * (1 - scale) / 2, height * (1 - scale) / 2
    if "left" in sides:
        dx = -scale * (box.x + box.w * lost)
    elif "right" in sides:
        dx = width - scale * (box.x + box.w * (1 - lost))
    if "top" in sides:
        dy = -scale * (box.y + box.h * lost)
    elif "bottom" in sides:
        dy = height - scale * (box.y + box.h * (1 - lost))
    matrix = np.asarray([[scale, 0, dx], [0, scale, dy]], np.float64)
    out = cv2.warpAffine(pixels, matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return Marked(
        np.asarray(out, np.uint8), None, " ".join(s for s in ("top", "bottom", "left", "right") if s in sides)
    )


def cluttered_background(pixels: Pixels, rng: Rng, style: Style) -> Marked:
    """Other products lying beside and behind the product, on its own ground or before another photograph."""
    height, width = pixels.shape[:2]
    around = ground(pixels)
    count = max(2, round(style.force(rng, 2, 7, "objects")))
    strength = style.force(rng, 0.3, 1.0, "texture")
    back = np.broadcast_to(np.asarray(around.colour, np.uint8), pixels.shape).copy()
    if rng.random() < 0.5:
        busy = scene(height, width, rng, style)
        back = np.asarray(back * (1 - strength) + busy * strength, np.uint8)
    laid = 0
    for _ in range(count):
        thing = other(pixels, rng, style)
        found = ground(thing)
        if not found.plain:
            continue
        box = found.box
        part, mask = (a[box.y : box.y + box.h, box.x : box.x + box.w] for a in (thing, found.mask.astype(np.float32)))
        scale = min(height, width) * rng.uniform(0.3, 0.65) / max(box.w, box.h)
        size = (max(4, int(box.w * scale)), max(4, int(box.h * scale)))
        part = resized(np.ascontiguousarray(part), *size)
        alpha = np.asarray(
            cv2.resize(cv2.erode(mask, np.ones((3, 3))), size, interpolation=cv2.INTER_LINEAR), np.float32
        )
        if rng.random() < 0.5:
            part, alpha = np.ascontiguousarray(part[:, ::-1]), np.ascontiguousarray(alpha[:, ::-1])
        at = rng.uniform(0, 1, 2) if rng.random() < 0.3 else rng.choice([0.0, 1.0, 0.1, 0.9], 2)
        x, y = int(at[0] * width - size[0] / 2), int(at[1] * height - size[1] / 2)
        back = lay(back, alpha, part, x, y)
        laid += 1
    if not laid:
        back = scene(height, width, rng, style)
    soft = cv2.GaussianBlur(cv2.erode(around.mask.astype(np.float32), np.ones((3, 3))), (0, 0), 0.8)
    return Marked(lay(np.ascontiguousarray(back), np.asarray(soft, np.float32), pixels, 0, 0))


def rotation(pixels: Pixels, rng: Rng, style: Style) -> Marked:
    """Turned by a quarter inside the old frame, or tilted with the frame filled: no corner is empty."""
    around = ground(pixels)
    out = pixels
    for _ in range(4):  # a ball or a plate looks the same from most turns
        out = _turned(pixels, around, rng, style)
        if turned(pixels, out):
            break
    return Marked(out)


def _turned(pixels: Pixels, around: Ground, rng: Rng, style: Style) -> Pixels:
    height, width = pixels.shape[:2]
    if rng.random() < 0.4:
        quarters = {"90": ("1",), "180": ("2",), "270": ("3",)}
        quarter = np.rot90(pixels, int(style.among(rng, quarters, "quarter")))
        return _held(np.ascontiguousarray(quarter), width, height)
    degrees = style.force(rng, 12, 42, "degrees") * float(rng.choice([-1, 1]))
    scale = float(rng.uniform(0.85, 1.1))
    if not around.plain or around.touched():  # as large as needed for no corner to show
        a = abs(np.deg2rad(degrees))
        ratio = max(width / height, height / width)
        scale = float(np.cos(a) + np.sin(a) * ratio)
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, scale)
    out = cv2.warpAffine(pixels, matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(out, np.uint8)
