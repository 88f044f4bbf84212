"""Clothes, cushions, cloth bags and towels for the fast renderer; each function builds one on the current stage."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

from sample import materials as m
from sample import prints
from sample import shapes as s
from sample.make import Make


def puffed(
    outline: Sequence[tuple[float, float]], thick: float, surface: m.Surface, rng: np.random.Generator, *,
    at: tuple[float, float, float] = (0, 0, 0), turn: tuple[float, float, float] = (0, 0, 0), folds: float = 1.0,
    cells: int = 90,
) -> None:  # fmt: skip
    """A soft thing that hangs or stands with its front to -y: an outline (x, z), thicker inside, with folds."""
    ring = np.array(outline, np.float64)
    low, high = ring.min(0) - 0.02, ring.max(0) + 0.02
    unit = float((high - low).max()) / cells
    w, h = (math.ceil(k) + 1 for k in (high - low) / unit)
    dots = ((ring - low) / unit * 16).round().astype(np.int32)
    page = np.zeros((h, w), np.uint8)
    cv2.fillPoly(page, [dots], 1, cv2.LINE_8, 4)
    grid = np.stack(np.meshgrid(np.arange(w), np.arange(h)), -1) * unit + low
    inside = page > 0
    cell = inside[:-1, :-1] | inside[1:, :-1] | inside[:-1, 1:] | inside[1:, 1:]
    used = np.zeros_like(inside)
    for dy in (0, 1):
        for dx in (0, 1):
            used[dy : h - 1 + dy, dx : w - 1 + dx] |= cell
    points = grid[used]
    outer = ~inside[used]
    edge = nearest(points, ring)
    points[outer] = edge[outer]
    body = np.minimum(np.linalg.norm(points - edge, axis=1), 0.45)
    middle = float(low[1] + high[1]) / 2  # a print lies about the part's own origin
    puff = thick / 2 * np.sqrt(np.clip(1 - (1 - body / 0.45) ** 2, 0, 1))
    number = np.full(used.shape, -1)
    number[used] = np.arange(len(points))
    ys, xs = np.nonzero(cell)
    quads = np.stack([number[ys, xs], number[ys, xs + 1], number[ys + 1, xs + 1], number[ys + 1, xs]], 1)
    layers, faces = [], []
    for k, side in enumerate((-1, 1)):
        waves = np.zeros(len(points))
        for _ in range(7):
            a, f, p = rng.uniform(0, math.pi), rng.uniform(3, 9), rng.uniform(0, 6)
            waves += np.sin(
                f * (points[:, 0] * math.cos(a) + points[:, 1] * math.sin(a)) + p + 1.5 * np.sin(2 * points[:, 1] + p)
            )
        y = side * (puff + folds * 0.012 * waves * np.clip(body / 0.2, 0, 1))
        layers.append(np.c_[points[:, 0], y, points[:, 1] - middle])
        faces += ((quads if side < 0 else quads[:, ::-1]) + k * len(points)).tolist()
    place = (at[0], at[1], at[2] + middle)
    s.mesh("puffed", np.vstack(layers), faces, surface, place, turn, sharp=75)


def nearest(points: np.ndarray, ring: np.ndarray) -> np.ndarray:
    """The nearest places on a closed polyline."""
    a, b = ring, np.roll(ring, -1, 0)
    way = b - a
    t = np.clip(((points[:, None] - a) * way).sum(-1) / np.maximum((way**2).sum(-1), 1e-12), 0, 1)
    places = a + t[:, :, None] * way
    best = ((places - points[:, None]) ** 2).sum(-1).argmin(1)
    return np.asarray(places[np.arange(len(points)), best])


def mirrored(half: Sequence[Sequence[float]]) -> list[tuple[float, float]]:
    """A symmetric outline from its right half, bottom to top, corners rounded where a third number says so."""
    ring = [tuple(p) for p in half] + [(-p[0], *p[1:]) for p in reversed(half)]
    start = ring[0]
    closed = s.fillet([((start[0] + ring[-1][0]) / 2, start[1]), *ring, ((start[0] + ring[-1][0]) / 2, start[1])], 5)
    return closed[:-1]


def fabric(make: Make, part: int = 3, *, printable: bool = True, always: bool = False) -> m.Surface:
    """Cloth of a garment: plain, printed in front, or patterned all over."""
    rng = make.rng(part)
    choice = 0.36 + 0.39 * rng.random() if always else rng.random()
    if not printable or choice < 0.35:
        return m.cloth(make.main, make.dark if rng.random() < 0.3 else make.main, 50)
    if choice < 0.75:
        size = (420, 480)
        front = prints.shirt_print(rng, make.main, (make.second, make.accent, make.dark), size)
        back = np.full((8, 8, 3), [int(make.main[i : i + 2], 16) for i in (1, 3, 5)], np.uint8)
        return m.printed(front, (2.8, 3.2), back=back, rough=1.0, weave=50)
    tones = (make.main, make.second, make.accent) if rng.random() < 0.5 else (make.main, make.second)
    tile = prints.pattern(rng, str(rng.choice(prints.PATTERNS)), tones)
    side = rng.uniform(0.5, 1.3)
    return m.printed(tile, (side, side), rough=1.0, weave=50)


def top(make: Make) -> None:
    """T-shirt; variant 1 has long sleeves, 2 a hood and a pocket, 3 no sleeves."""
    rng, cloth = make.rng(), fabric(make)
    w, high = rng.uniform(0.72, 0.86), rng.uniform(2.0, 2.3)
    neck = 0.26
    if make.variant == 3:
        half = [
            (w, 0, 0.05),
            (w * 0.95, high - 0.85, 0.2),
            (w * 0.66, high - 0.3, 0.2),
            (w * 0.6, high, 0.02),
            (neck + 0.08, high, 0.02),
            (neck, high - 0.3, 0.2),
            (0.02, high - 0.42),
        ]
    elif make.variant == 0:
        half = [
            (w, 0, 0.05),
            (w * 0.96, high - 0.75, 0.05),
            (w * 1.22, high - 0.9, 0.05),
            (w * 1.5, high - 0.55, 0.05),
            (w * 0.95, high - 0.08, 0.2),
            (neck + 0.04, high + 0.06, 0.02),
            (neck * 0.8, high - 0.08, 0.1),
            (0.02, high - 0.14),
        ]
    else:
        half = [
            (w, 0, 0.05),
            (w * 0.97, high - 0.7, 0.08),
            (w * 1.3, 0.28, 0.05),
            (w * 1.62, 0.36, 0.05),
            (w * 1.28, high - 0.45, 0.3),
            (w * 0.9, high - 0.06, 0.2),
            (neck + 0.04, high + 0.06, 0.02),
            (neck * 0.8, high - 0.06, 0.1),
            (0.02, high - 0.1),
        ]
    puffed(mirrored(half), 0.34, cloth, rng)
    plain = m.cloth(make.main, make.dark, 60)
    trim = m.cloth(make.dark if rng.random() < 0.35 else make.main, None, 60)
    if make.variant == 2:
        puffed(
            mirrored([(0.42, high - 0.1, 0.05), (0.5, high + 0.2, 0.2), (0.3, high + 0.5, 0.2), (0.02, high + 0.55)]),
            0.5,
            plain,
            rng,
        )
        puffed(
            mirrored([(0.5, 0.25, 0.05), (0.5, 0.5, 0.05), (0.3, 0.85, 0.05), (0.02, 0.85)]),
            0.1,
            plain,
            rng,
            at=(0, -0.17, 0),
        )
        for x in (-1, 1):
            s.sweep(
                [(0.12 * x, -0.24, high - 0.02), (0.13 * x, -0.3, high - 0.3), (0.12 * x, -0.25, high - 0.55)],
                0.018,
                m.plastic("#f0eee8", 0.7),
            )
        s.box((2 * w - 0.06, 0.2, 0.14), trim, (0, 0, 0.07), bevel=0.06)
    else:
        low = high - (0.4 if make.variant == 3 else 0.12)
        for y in (-0.09, 0.06):
            drop = 0.0 if y < 0 else 0.1
            s.sweep(
                [
                    (-neck - 0.01, y, high + 0.0),
                    (-neck * 0.6, y - 0.02, low + 0.02 + drop),
                    (0, y - 0.03, low - 0.02 + drop),
                    (neck * 0.6, y - 0.02, low + 0.02 + drop),
                    (neck + 0.01, y, high + 0.0),
                ],
                0.035,
                trim,
            )


def bottoms(make: Make) -> None:
    """Trousers; variant 1 shorts, 2 a skirt."""
    rng, cloth = make.rng(), fabric(make, printable=make.variant != 0)
    w, high = rng.uniform(0.58, 0.68), 2.6
    if make.variant == 2:
        half = [(w * 1.5, 0, 0.05), (w * 0.9, 1.5, 0.3), (w * 0.75, 1.75, 0.02), (0.02, 1.75)]
        high = 1.75
    else:
        leg = 0 if make.variant == 0 else 1.55
        spread = rng.uniform(0.02, 0.2)
        half = [
            (0.08 + spread, leg, 0.03),
            (w * 0.72 + spread, leg, 0.03),
            (w, high - 0.7, 0.3),
            (w * 0.82, high, 0.02),
            (0.02, high),
        ]
        ring = mirrored(half)
        crotch = high - rng.uniform(0.75, 0.9)
        ring[0] = (0.0, crotch)
        puffed(ring, 0.36, cloth, rng)
    if make.variant == 2:
        puffed(mirrored(half), 0.5, cloth, rng, folds=2.0)
    waist = w * (0.75 if make.variant == 2 else 0.82)
    s.box((2 * waist, 0.2, 0.14), m.cloth(make.main, make.dark, 60), (0, 0, high - 0.05), bevel=0.05)
    if make.variant < 2:
        s.disc(0.045, 0.03, m.metal("#c8a765", 0.3), (0, -0.12, high - 0.05), (90, 0, 0))
        for x in (-1, 1):
            s.sweep(
                [(0.2 * x, -0.17, high - 0.16), (0.32 * x, -0.19, high - 0.38), (0.5 * x, -0.13, high - 0.42)],
                0.012,
                m.cloth(make.dark, None, 60),
            )
            s.box((0.34, 0.02, 0.36), m.cloth(make.main, make.dark, 60), (0.27 * x, 0.18, high - 0.5), bevel=0.01)


def cushion(make: Make) -> None:
    """Cushion with a printed cover; variant 1 is oblong, 2 round."""
    rng = make.rng()
    tile = prints.pattern(
        rng,
        str(rng.choice(prints.PATTERNS)),
        (make.main, make.second, make.accent) if rng.random() < 0.5 else (make.main, make.second),
    )
    side = rng.uniform(0.6, 2.0)
    cover = m.printed(
        tile,
        (side, side),
        back=np.full((8, 8, 3), [int(make.main[i : i + 2], 16) for i in (1, 3, 5)], np.uint8),
        rough=1.0,
        weave=46,
    )
    if make.variant == 2:
        outline = [(math.cos(a), 1 + math.sin(a)) for a in np.arange(40) * math.pi / 20]
    else:
        w, h = (1.0, 1.0) if make.variant == 0 else (1.4, 0.85)
        edge = np.linspace(-1, 1, 10)[:-1]
        pull = 0.07
        outline = [(t * w, -h * (1 - pull * (1 - t * t))) for t in edge] + [
            (w * (1 - pull * (1 - t * t)), t * h) for t in edge
        ]
        outline += [(-t * w, h * (1 - pull * (1 - t * t))) for t in edge] + [
            (-w * (1 - pull * (1 - t * t)), -t * h) for t in edge
        ]
        outline = [(x, z + h) for x, z in outline]
    puffed(outline, 0.85, cover, rng, turn=(-10, 0, 0), folds=0.8)


def tote(make: Make) -> None:
    """Cloth bag with a print; variant 1 has long handles, 2 is a flat pouch with a zip."""
    rng, cloth = make.rng(), fabric(make, always=True)
    plain = m.cloth(make.main, make.main, 50)
    if make.variant == 2:
        puffed(
            [
                (x, z)
                for x, z in s.fillet(
                    [(0, 0), (1.1, 0, 0.1), (1.05, 1.2, 0.06), (-1.05, 1.2, 0.06), (-1.1, 0, 0.1), (0, 0)]
                )[:-1]
            ],
            0.5,
            cloth,
            rng,
        )
        s.box((2.0, 0.05, 0.07), m.metal("#c9ccd0", 0.35), (0, 0, 1.2), bevel=0.01)
        s.prism(s.rounded(0.08, 0.3, 0.03), 0.02, m.leather(make.dark, make.dark), (0.95, -0.06, 1.08), (90, 0, 0))
        return
    high = rng.uniform(1.7, 2.1)
    puffed(
        [
            (x, z)
            for x, z in s.fillet(
                [(0, 0), (0.85, 0, 0.12), (0.92, high, 0.02), (-0.92, high, 0.02), (-0.85, 0, 0.12), (0, 0)]
            )[:-1]
        ],
        0.42,
        cloth,
        rng,
    )
    reach = high + (1.25 if make.variant == 1 else 0.6)
    for y in (-0.06, 0.08):
        s.sweep(
            [
                (-0.4, y, high - 0.15),
                (-0.38, y, (high + reach) / 2),
                (0, y, reach),
                (0.38, y, (high + reach) / 2),
                (0.4, y, high - 0.15),
            ],
            s.strap(0.03, 0.14),
            plain,
            up=(0, 1, 0),
        )


def handbag(make: Make) -> None:
    """Handbag of leather; variant 1 has a flap, 2 is a bucket."""
    rng = make.rng()
    hide, gold = (
        m.leather(make.main, make.dark, float(rng.choice([0.25, 0.5]))),
        m.metal(str(rng.choice(["#c8a765", "#c9ccd0"])), 0.22),
    )
    if make.variant == 2:
        s.lathe(
            [(0, 0), (0.75, 0, 0.06), (0.85, 1.3, 0.1), (0.7, 1.5, 0.05), (0.66, 1.5), (0.8, 1.2), (0, 1.1)],
            hide,
            ribs=9,
            depth=0.02,
        )
    else:
        half = [(0.95, 0, 0.12), (0.8, 1.25, 0.2), (0.02, 1.28)]
        puffed(mirrored(half), 0.62, hide, rng, folds=0.4)
    if make.variant == 1:
        puffed(
            mirrored([(0.6, 0.55, 0.3), (0.82, 0.9, 0.2), (0.8, 1.27, 0.1), (0.02, 1.3)]),
            0.2,
            hide,
            rng,
            at=(0, -0.24, 0),
            folds=0.2,
        )
        s.box((0.2, 0.06, 0.14), gold, (0, -0.36, 0.66), bevel=0.02)
    top_ = 1.42 if make.variant == 2 else 1.2
    reach = top_ + rng.uniform(0.5, 1.0)
    for y in (-0.16, 0.16):
        s.sweep(
            [
                (-0.45, y, top_ - 0.1),
                (-0.42, y, (top_ + reach) / 2),
                (0, y, reach),
                (0.42, y, (top_ + reach) / 2),
                (0.45, y, top_ - 0.1),
            ],
            0.045,
            hide,
        )
        for x in (-0.45, 0.45):
            s.disc(0.07, 0.04, gold, (x, y - 0.12 if y < 0 else y + 0.16, top_ - 0.1), (90, 0, 0))


def towel(make: Make) -> None:
    """Folded towels; variant 1 a stack of three, 2 a rolled one."""
    rng = make.rng()
    pile = [
        m.cloth(make.main, make.main, 24),
        m.cloth(make.second, make.second, 24),
        m.cloth(make.accent, make.accent, 24),
    ]
    if make.variant == 2:
        spiral = [((0.08 + 0.035 * a) * math.cos(a), (0.08 + 0.035 * a) * math.sin(a)) for a in np.linspace(0, 14, 60)]
        s.sweep(
            [(x, 0, 0.62 + z) for x, z in spiral],
            [(0.05, 1.0), (-0.05, 1.0), (-0.05, -1.0), (0.05, -1.0)],
            pile[0],
            up=(0, 1, 0),
            turn=(0, 0, 20),
        )
        return
    z = 0.0
    for k in range(1 if make.variant == 0 else 3):
        for _ in range(3):
            high = rng.uniform(0.14, 0.17)
            s.pillow(
                (2.1 + rng.uniform(-0.05, 0.05), 1.35, high * 1.15),
                pile[k if make.variant else 0],
                (rng.uniform(-0.03, 0.03), rng.uniform(-0.03, 0.03), z + high / 2),
                round_side=0.12,
                round_top=0.5,
                steps=44,
            )
            z += high
    if rng.random() < 0.5:
        s.box((0.3, 1.4, 0.012), m.cloth(make.dark, None, 60), (0.6, 0, z), bevel=0)


def rug(make: Make) -> None:
    """Rug; variant 1 is round, 2 has fringes."""
    rng = make.rng()
    tile = prints.pattern(
        rng,
        str(rng.choice(["stripes", "tiles", "zigzag", "tartan", "checks", "waves"])),
        (make.main, make.second, make.accent),
    )
    cover = m.printed(tile, (1.3, 1.3), onto="xy", rough=1.0, weave=24)
    if make.variant == 1:
        s.disc(1.5, 0.06, cover, edge=0.02)
        return
    s.prism(s.rounded(3.2, 2.1, 0.03), 0.06, cover, (0, 0, 0.03), bevel=0.02)
    if make.variant == 2:
        for x in (-1, 1):
            for k in range(30):
                y = -1.0 + 2.0 * k / 29
                s.sweep(
                    [(1.58 * x, y, 0.03), (1.78 * x, y + rng.uniform(-0.03, 0.03), 0.015)],
                    0.02,
                    m.cloth("#efe8d8", None, 40),
                    soft=False,
                )
