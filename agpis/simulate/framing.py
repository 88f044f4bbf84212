"""Faults of framing: rotation, cut-off product, cluttered ground, border, collage, screenshot."""

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
    fit,
    ground,
    lay,
    marked,
    marked_change,
    muted,
    plate,
    vivid,
)
from agpis.simulate.style import Pixels, Style


def rotation(pixels: Pixels, rng: Rng, style: Style) -> Marked:
    """Turned by 90 or 180 degrees, or tilted; the corners that open take the ground's colour or black."""
    height, width = pixels.shape[:2]
    out = pixels
    for _ in range(4):  # a ball or a plate looks the same from most turns
        if rng.random() < 0.5:
            quarters = {"90": ("1",), "180": ("2", "2"), "270": ("3",)}
            out = np.ascontiguousarray(np.rot90(pixels, int(style.among(rng, quarters, "quarter"))))
        else:
            degrees = style.force(rng, 12, 42, "degrees") * float(rng.choice([-1, 1]))
            matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, float(rng.uniform(0.8, 1.0)))
            around = ground(pixels)
            fill = around.colour if around.plain or rng.random() < 0.5 else (0, 0, 0)
            out = np.asarray(
                cv2.warpAffine(pixels, matrix, (width, height), borderMode=cv2.BORDER_CONSTANT, borderValue=fill),
                np.uint8,
            )
        if turned(pixels, out):
            break
    return Marked(out)


def turned(before: Pixels, after: Pixels) -> bool:
    """Whether a turned picture differs from what it was: by 6 levels at the mean, both at 48 x 48."""
    one, two = (
        cv2.resize(picture, (48, 48), interpolation=cv2.INTER_AREA).astype(np.int16) for picture in (before, after)
    )
    return bool(np.abs(one - two).mean() >= 6)


def cut_sides(around: Ground, rng: Rng) -> list[str]:
    """One side or two that a frame may cut: such as the product does not run into already, where there are."""
    free = [side for side in SIDES if side not in around.touched()] or list(SIDES)
    return [str(side) for side in rng.permutation(free)[: 1 if rng.random() < 0.6 else 2]]


SIDES = ("left", "top", "right", "bottom")


def cut_off(pixels: Pixels, rng: Rng, style: Style) -> Marked:
    """The frame cuts through the product on one or two sides: 20 to 50 % of its extent is lost on each."""
    height, width = pixels.shape[:2]
    around = ground(pixels)
    box = around.box
    x0, y0, x1, y1 = 0, 0, width, height
    sides = cut_sides(around, rng)
    for side in sides:
        lost = style.force(rng, 0.2, 0.45, "share")
        if side == "left":
            x0 = box.x + int(box.w * lost)
        elif side == "right":
            x1 = box.x + box.w - int(box.w * lost)
        elif side == "top":
            y0 = box.y + int(box.h * lost)
        else:
            y1 = box.y + box.h - int(box.h * lost)
    x1, y1 = max(x1, x0 + 16), max(y1, y0 + 16)
    part = pixels[y0:y1, x0:x1]
    where = " ".join(s for s in ("top", "bottom", "left", "right") if s in sides)
    if where in ("top bottom", "left right"):
        where = str(sides[0])
    elsewhere = around.touched() - set(sides)  # ground put between the product and such a side would tear it off
    if rng.random() < 0.7 and around.plain and not elsewhere:  # keep the frame's shape: ground on the sides not cut
        out = np.broadcast_to(np.asarray(around.colour, np.uint8), pixels.shape).copy()
        h, w = part.shape[:2]
        left = 0 if "left" in sides else (width - w if "right" in sides else (width - w) // 2)
        top = 0 if "top" in sides else (height - h if "bottom" in sides else (height - h) // 2)
        out[top : top + h, left : left + w] = part
        return Marked(out, None, where)
    return Marked(np.ascontiguousarray(part), None, where)


def texture(height: int, width: int, rng: Rng) -> Pixels:
    """A busy ground: boards, tiles, grass-like grain, blots or stripes in random colours."""
    base = np.asarray(vivid(rng), np.float32) * 0.3 + np.asarray(muted(rng), np.float32) * 0.6 + 20
    other = np.asarray(vivid(rng), np.float32) * 0.35 + np.asarray(muted(rng), np.float32) * 0.4 + 30
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    kind = rng.choice(["boards", "tiles", "blots", "stripes", "grain"])
    scale = max(height, width) / rng.uniform(4, 12)
    if kind == "boards":
        t = ((y // scale) * 0.37) % 1.0 * 0.5 + 0.15 * np.sin(x / scale * 2 + (y // scale) * 5) + 0.2
        t = np.where(y % scale < 2, 1.0, t)
    elif kind == "tiles":
        t = (((x // scale) + (y // scale)) % 2) * 0.7
        t = np.where((x % scale < 2) | (y % scale < 2), 1.0, t)
    elif kind == "stripes":
        angle = rng.uniform(0, np.pi)
        t = 0.5 + 0.5 * np.sin((x * np.cos(angle) + y * np.sin(angle)) / scale * 6)
    else:
        coarse = rng.random((max(3, int(height / scale)), max(3, int(width / scale)))).astype(np.float32)
        t = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    if kind == "grain" or rng.random() < 0.6:
        fine = rng.random((height // 3 + 1, width // 3 + 1)).astype(np.float32)
        t = 0.6 * t + 0.4 * cv2.resize(fine, (width, height), interpolation=cv2.INTER_LINEAR)
    t = np.asarray(t, np.float32).clip(0, 1)[..., None]
    return np.asarray((base * (1 - t) + other * t).clip(0, 255), np.uint8)


def resized(pixels: Pixels, width: int, height: int) -> Pixels:
    """Reduce or enlarge to exactly width x height."""
    shrink = width < pixels.shape[1]
    return np.asarray(
        cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA if shrink else cv2.INTER_LINEAR), np.uint8
    )


def covering(pixels: Pixels, width: int, height: int, rng: Rng) -> Pixels:
    """Scale so that width x height is covered and cut the rest off at random."""
    scale = max(width / pixels.shape[1], height / pixels.shape[0])
    big = resized(pixels, max(width, round(pixels.shape[1] * scale)), max(height, round(pixels.shape[0] * scale)))
    x, y = int(rng.integers(big.shape[1] - width + 1)), int(rng.integers(big.shape[0] - height + 1))
    return big[y : y + height, x : x + width]


def other(pixels: Pixels, rng: Rng, style: Style) -> Pixels:
    """Another picture of the style's pool, or this one mirrored where the pool is empty."""
    if style.pictures:
        return style.pictures[int(rng.integers(len(style.pictures)))]
    return np.ascontiguousarray(pixels[:, ::-1])


def scene(height: int, width: int, rng: Rng, style: Style) -> Pixels:
    """A busy ground of one size: another photograph that has no plain ground, or a texture with things on it."""
    if rng.random() < 0.7:
        for picture in style.pictures:
            if not ground(picture).plain:
                return covering(picture, width, height, rng)
    out = texture(height, width, rng)
    bare = style.force(rng, 0.3, 1.0, "texture")
    out = np.asarray(out * bare + out.mean((0, 1)) * (1 - bare), np.uint8)
    for _ in range(round(style.force(rng, 1, 8, "objects"))):  # boxes, discs: other things lying about
        shape = EMBLEMS[str(rng.choice(["disc", "hexagon", "star", "bars"]))](
            int(min(height, width) * rng.uniform(0.1, 0.35))
        )
        if rng.random() < 0.5:
            shape = plate(int(width * rng.uniform(0.1, 0.4)), int(height * rng.uniform(0.1, 0.4)))
        out = lay(out, shape, vivid(rng), int(rng.uniform(-0.1, 0.95) * width), int(rng.uniform(-0.1, 0.95) * height))
    if rng.random() < 0.5:
        out = cv2.GaussianBlur(out, (0, 0), max(height, width) * rng.uniform(0.002, 0.01)).astype(np.uint8)
    return out


def cluttered_background(pixels: Pixels, rng: Rng, style: Style) -> Marked:
    """The product cut out and put over a busy scene; where it cannot be cut out, clutter is put around it."""
    height, width = pixels.shape[:2]
    around = ground(pixels)
    back = scene(height, width, rng, style)
    mask = around.mask.astype(np.float32)
    soft = cv2.GaussianBlur(cv2.erode(mask, np.ones((3, 3), np.uint8)), (0, 0), 1.0)[..., None]
    shade = 1.0
    if rng.random() < 0.5:  # contact shadow
        drop = cv2.GaussianBlur(np.roll(mask, (height // 60, width // 80), (0, 1)), (0, 0), max(height, width) / 50)
        shade = 1 - 0.5 * drop[..., None]
    out = (pixels * soft + back * shade * (1 - soft)).clip(0, 255).astype(np.uint8)
    return Marked(out)


def border(pixels: Pixels, rng: Rng, style: Style) -> Marked:
    """A frame: solid, double, rounded or with a gradient; inside the picture or around it."""
    height, width = pixels.shape[:2]
    t = max(3, int(min(height, width) * style.force(rng, 0.018, 0.08, "width")))
    colour: Colour = vivid(rng) if rng.random() < 0.6 else (0, 0, 0)
    if rng.random() < 0.3:
        colour = (110, 110, 110)
    out = pixels
    if rng.random() < 0.5:
        out = np.pad(pixels, ((t, t), (t, t), (0, 0)), constant_values=255)
    h, w = out.shape[:2]
    inset = int(rng.choice([0, 0, 0, t // 2, t]))
    ring = np.zeros((h, w), np.float32)
    kind = rng.choice(["solid", "double", "rounded", "bars"])
    ring[inset : h - inset, inset : w - inset] = 1
    if kind == "bars":  # only two opposite sides, as letterboxed video stills have
        t = 2 * t
        inner = (slice(t, h - t), slice(0, w)) if rng.random() < 0.7 else (slice(0, h), slice(t, w - t))
        ring[:] = 1
        ring[inner] = 0
    elif kind == "rounded":
        hole = plate(w - 2 * (inset + t), h - 2 * (inset + t), 0.25)
        ring[inset + t : h - inset - t, inset + t : w - inset - t] -= hole
    else:
        ring[inset + t : h - inset - t, inset + t : w - inset - t] = 0
        if kind == "double":
            line, gap = max(1, t // 4), inset + t + max(2, t // 3)
            ring[gap : h - gap, gap : w - gap] = 1
            ring[gap + line : h - gap - line, gap + line : w - gap - line] = 0
    paint = lay(out, ring, colour, 0, 0)
    return marked_change(out, paint)


def collage(pixels: Pixels, rng: Rng, style: Style) -> Marked:
    """Two to four pictures in one, with or without gaps; one place always holds the given picture."""
    height, width = pixels.shape[:2]
    layouts: tuple[tuple[tuple[float, float, float, float], ...], ...] = (
        ((0, 0, 0.5, 1), (0.5, 0, 0.5, 1)),
        ((0, 0, 1, 0.5), (0, 0.5, 1, 0.5)),
        ((0, 0, 0.62, 1), (0.62, 0, 0.38, 0.5), (0.62, 0.5, 0.38, 0.5)),
        ((0, 0, 0.5, 0.5), (0.5, 0, 0.5, 0.5), (0, 0.5, 0.5, 0.5), (0.5, 0.5, 0.5, 0.5)),
        ((0, 0, 1, 0.66), (0, 0.66, 0.5, 0.34), (0.5, 0.66, 0.5, 0.34)),
        ((0, 0, 1, 0.6), (0, 0.6, 0.34, 0.4), (0.34, 0.6, 0.33, 0.4), (0.67, 0.6, 0.33, 0.4)),
    )
    tiles = round(style.force(rng, 2, 4, "tiles"))
    fitting = [layout for layout in layouts if len(layout) == tiles] or [layouts[3]]
    places = fitting[int(rng.integers(len(fitting)))]
    gap = int(min(height, width) * rng.choice([0, 0.01, 0.02, 0.03]))
    colour = (255, 255, 255) if rng.random() < 0.6 else muted(rng)
    out = np.broadcast_to(np.asarray(colour, np.uint8), pixels.shape).copy()
    own = int(rng.integers(len(places)))
    for i, (x, y, w, h) in enumerate(places):
        x0, y0 = int(x * width) + gap, int(y * height) + gap
        cell_w, cell_h = max(8, int(w * width) - 2 * gap), max(8, int(h * height) - 2 * gap)
        picture = pixels if i == own or rng.random() < 0.3 else other(pixels, rng, style)
        if i != own and picture is pixels:
            picture = np.ascontiguousarray(covering(pixels, int(width * 0.6), int(height * 0.6), rng))
        if rng.random() < 0.5:
            part = covering(picture, cell_w, cell_h, rng)
        else:
            scale = min(cell_w / picture.shape[1], cell_h / picture.shape[0])
            size = (max(1, int(picture.shape[1] * scale)), max(1, int(picture.shape[0] * scale)))
            part = np.broadcast_to(np.asarray(ground(picture).colour, np.uint8), (cell_h, cell_w, 3)).copy()
            left, top = (cell_w - size[0]) // 2, (cell_h - size[1]) // 2
            part[top : top + size[1], left : left + size[0]] = resized(picture, *size)
        out[y0 : y0 + cell_h, x0 : x0 + cell_w] = part[: height - y0, : width - x0]
    return Marked(out)


def screenshot(pixels: Pixels, rng: Rng, style: Style) -> Marked:
    """The picture inside the interface of a shop on a phone or in a browser. The box is the whole picture."""
    height, width = pixels.shape[:2]
    dark = rng.random() < 0.25
    paper: Colour = (24, 24, 28) if dark else (255, 255, 255)
    panel: Colour = (45, 45, 50) if dark else (240, 240, 243)
    ink: Colour = (235, 235, 235) if dark else (40, 40, 40)
    accent = vivid(rng)
    phone = rng.random() < 0.6
    if phone:
        w, h = int(max(height, width) * 0.56), max(height, width)
    else:
        w, h = max(height, width), int(max(height, width) * rng.uniform(0.62, 0.8))
    out = np.broadcast_to(np.asarray(paper, np.uint8), (h, w, 3)).copy()
    bar, letter = int(h * style.force(rng, 0.045, 0.075, "bar")) + 4, max(7, int(h * 0.024))
    rows = 2 if rng.random() < 0.7 else 1
    out[: rows * bar] = panel

    def write(words: str, x: int, y: int, colour: Colour, size: int = letter) -> None:
        nonlocal out
        text = fit(style.lettering(words, size, rng), w // 2, bar)
        out = lay(out, text, colour, x, y)

    write(f"{int(rng.integers(24)):02d}:{int(rng.integers(60)):02d}", 6, bar // 3, ink)
    out = lay(out, plate(w // 12, letter, 0.4), ink, w - w // 12 - 6, bar // 3)
    if rows == 2:
        out = lay(out, plate(int(w * 0.62), int(bar * 0.66), 1.0), paper, int(w * 0.18), int(bar * 1.17))
        write(style.phrase(rng, style.interface), int(w * 0.24), int(bar * 1.35), (140, 140, 140), letter)
        for i in range(3):
            out = lay(
                out, EMBLEMS["disc"](max(5, bar // 3)), (150, 150, 150), w - 8 - (i + 1) * bar // 2, int(bar * 1.33)
            )
    foot = bar * 2 if phone else bar
    room_w, room_h = w, h - rows * bar - foot - int(h * 0.2 if phone else 0)
    if not phone:
        room_w = int(w * 0.6)
    scale = min(room_w / width, room_h / height)
    size = (max(8, int(width * scale)), max(8, int(height * scale)))
    left, top = (room_w - size[0]) // 2, rows * bar + (room_h - size[1]) // 2
    out[top : top + size[1], left : left + size[0]] = resized(pixels, *size)
    tx = int(w * 0.05) if phone else int(w * 0.62)
    ty = rows * bar + room_h + 8 if phone else rows * bar + int(h * 0.08)
    for i in range(3 if phone else 6):
        words = style.phrase(rng, style.interface + style.badges)
        write(words, tx, ty + i * int(letter * 1.9), accent if i == 0 else ink, letter + (3 if i == 0 else 0))
    button = plate(int(w * (0.42 if phone else 0.3)), int(bar * 0.9), float(rng.uniform(0, 1)))
    bx, by = (w - button.shape[1] - 6, h - int(bar * 1.3))
    out = lay(out, button, accent, bx, by)
    write(style.phrase(rng, style.interface), bx + button.shape[1] // 5, by + bar // 4, (255, 255, 255))
    if phone:
        for i in range(3):
            out = lay(out, EMBLEMS["ring"](max(7, bar // 2)), ink, 8 + i * int(w * 0.16), by + bar // 5)
    return marked(out, Box(0, 0, w, h))
