"""Furniture, lamps, pictures and storage for the fast renderer; each function builds one on the current stage."""

from __future__ import annotations

import math

import numpy as np

from sample import materials as m
from sample import prints
from sample import shapes as s
from sample.make import Make, textile, wooden
from sample.shelf_pack import panels


def legs(make: Make, w: float, d: float, high: float, material: m.Surface, thick: float, splay: float = 0.06) -> None:
    """Four legs under a top of w by d."""
    for x in (-1, 1):
        for y in (-1, 1):
            s.sweep(
                [(x * (w / 2 + splay), y * (d / 2 + splay), 0), (x * w / 2, y * d / 2, high)],
                thick,
                material,
                soft=False,
                taper=[0.7, 1.1],
            )


def table(make: Make) -> None:
    """Table; variant 1 is round, 2 has a drawer."""
    rng, top = make.rng(), wooden(make)
    high = rng.uniform(0.9, 1.5)
    w, d = rng.uniform(1.8, 2.8), rng.uniform(1.0, 1.5)
    under = wooden(make, "z") if rng.random() < 0.6 else m.metal("#2a2a2c", 0.5)
    if make.variant == 1:
        s.disc(d, 0.1, top, (0, 0, high), edge=0.03)
        legs(make, d, d, high, under, 0.06, 0.12)
    else:
        s.box((w, d, 0.1), top, (0, 0, high + 0.05), bevel=0.02)
        legs(make, w - 0.3, d - 0.25, high, under, rng.uniform(0.05, 0.09))
        if make.variant == 2:
            s.box((w * 0.8, d * 0.85, 0.26), wooden(make), (0, 0, high - 0.13), bevel=0.01)
            s.box((w * 0.5, 0.03, 0.2), wooden(make), (0, -d * 0.425 - 0.01, high - 0.13), bevel=0.008)
            s.ball(0.04, m.metal("#c8a765", 0.3), (0, -d * 0.425 - 0.05, high - 0.13))


def stool(make: Make) -> None:
    """Stool; variant 1 has a cushion, 2 a square seat."""
    rng, wood = make.rng(), wooden(make, "z")
    high = rng.uniform(1.1, 1.8)
    if make.variant == 2:
        s.box((1.1, 1.1, 0.12), wooden(make), (0, 0, high + 0.05), bevel=0.04)
    else:
        s.disc(0.58, 0.12, wooden(make), (0, 0, high), edge=0.04)
    legs(make, 0.7, 0.7, high, wood, 0.07, rng.uniform(0.02, 0.14))
    if rng.random() < 0.6:
        for y in (-0.36, 0.36):
            s.box((0.75, 0.05, 0.06), wood, (0, y, high * 0.35), bevel=0.01)
    if make.variant == 1:
        s.pillow((1.15, 1.15, 0.24), m.cloth(make.accent, make.accent), (0, 0, high + 0.2), round_side=1, round_top=0.5)


def shelf(make: Make) -> None:
    """Open shelf; variants differ in the number of boards and have books or not."""
    rng, board = make.rng(), wooden(make)
    n, w, d = 3 + make.variant, rng.uniform(1.2, 2.0), rng.uniform(0.4, 0.6)
    high = 0.62 * (n - 1) + 0.1
    frame = wooden(make, "z") if rng.random() < 0.5 else m.metal("#2a2a2c", 0.45)
    for k in range(n):
        s.box((w, d, 0.06), board, (0, 0, 0.1 + 0.6 * k), bevel=0.01)
    for x in (-1, 1):
        if rng.random() < 0.5:
            s.box((0.06, d, high), frame, (x * (w / 2 + 0.02), 0, high / 2), bevel=0.01)
        else:
            for y in (-1, 1):
                s.box((0.06, 0.06, high), frame, (x * w / 2, y * (d / 2 - 0.02), high / 2), bevel=0.01)
    if rng.random() < 0.4:
        s.box((w, 0.03, high - 0.1), board, (0, d / 2, high / 2), bevel=0.004)


def dresser(make: Make) -> None:
    """Chest of drawers; 3, 4 or 6 drawers."""
    rng, wood = make.rng(), wooden(make)
    rows, columns = ((3, 1), (4, 1), (3, 2))[make.variant]
    w, d, high = (1.5, 1.4, 2.4)[make.variant], rng.uniform(0.7, 0.9), rows * 0.46
    lift = rng.uniform(0.15, 0.4)
    s.box((w, d, high), wood, (0, 0, lift + high / 2), bevel=0.015)
    legs(make, w - 0.25, d - 0.2, lift, wooden(make, "z") if rng.random() < 0.5 else m.metal("#c8a765", 0.3), 0.05)
    face = wood if rng.random() < 0.6 else m.plastic(make.second, 0.4)
    knob = m.metal(str(rng.choice(["#c8a765", "#2a2a2c", "#c9ccd0"])), 0.3)
    bar = rng.random() < 0.5
    for i in range(rows):
        for j in range(columns):
            cell = w / columns
            x, z = -w / 2 + cell * (j + 0.5), lift + 0.46 * (i + 0.5)
            s.box((cell - 0.06, 0.05, 0.4), face, (x, -d / 2 - 0.015, z), bevel=0.012)
            if bar:
                s.box((0.34, 0.04, 0.03), knob, (x, -d / 2 - 0.075, z + 0.05), bevel=0.01)
            else:
                s.ball(0.045, knob, (x, -d / 2 - 0.075, z))


def sofa(make: Make) -> None:
    """Armchair, or a sofa of two or three seats."""
    rng = make.rng()
    n, cover = make.variant + 1, textile(make, make.rng(3))
    w = 0.95 * n
    high = rng.uniform(0.5, 0.62)
    arm = rng.uniform(0.22, 0.4)
    for k in range(n):
        x = (k - (n - 1) / 2) * 0.95
        s.pillow((0.98, 1.2, 0.42), cover, (x, -0.1, high + 0.08), round_side=0.2, round_top=0.35)
        s.pillow((0.96, 0.42, 0.95), cover, (x, 0.42, high + 0.62), (-10, 0, 0), round_side=0.25, round_top=0.3)
    s.box((w + 0.2, 1.25, 0.3), cover, (0, 0, high - 0.2), bevel=0.06)
    s.box((w + 0.2, 0.25, 1.1), cover, (0, 0.62, high + 0.3), bevel=0.08)
    for x in (-1, 1):
        s.pillow((arm, 1.35, 0.85), cover, (x * (w / 2 + arm / 2), 0.02, high + 0.1), round_side=0.25, round_top=0.35)
    legs(make, w, 1.0, high - 0.3, m.wood("#8c5a36", "#54321c", "z"), 0.05)
    if rng.random() < 0.4:
        tile = prints.pattern(
            rng, str(rng.choice(["stripes", "leaves", "dots"])), (make.second, make.accent, make.dark)
        )
        s.pillow(
            (0.6, 0.26, 0.6),
            m.printed(tile, (0.6, 0.6), weave=40),
            (-w / 2 + 0.35, 0.1, high + 0.52),
            (-20, 0, 14),
            round_side=0.3,
            round_top=0.4,
        )


def floor_lamp(make: Make) -> None:
    """Lamp on a stand; variant 1 bends over, 2 hangs from three legs."""
    rng = make.rng()
    pole = m.metal(str(rng.choice(["#2a2a2c", "#c8a765", "#d3d5d8"])), 0.35)
    shade = m.glow(make.main, 0.06) if rng.random() < 0.5 else m.plastic(make.main, 0.35)
    high = rng.uniform(2.4, 3.2)
    x, z = 0.0, high - 0.3
    if make.variant == 2:
        for k in range(3):
            a = 2.1 * k
            s.sweep(
                [(0.7 * math.cos(a), 0.7 * math.sin(a), 0), (0, 0, z)],
                0.04,
                m.wood("#a9744a", "#6b4326", "z"),
                soft=False,
            )
    else:
        s.disc(0.5, 0.08, pole, edge=0.03)
        if make.variant == 1:
            x = 0.9
            s.sweep(
                [(0, 0, 0.05), (0, 0, high * 0.6), (0.15, 0, high * 0.95), (0.6, 0, high * 1.05), (x, 0, z)], 0.04, pole
            )
        else:
            s.sweep([(0, 0, 0.05), (0, 0, z)], 0.04, pole, soft=False)
    low, top = rng.uniform(0.4, 0.65), rng.uniform(0.15, 0.45)
    s.lathe(
        [
            (low, z - 0.3),
            (top, z + 0.25, 0.05),
            (0, z + 0.27),
            (0, z + 0.24),
            (top - 0.03, z + 0.23),
            (low - 0.03, z - 0.3),
        ],
        shade,
        (x, 0, 0),
        sharp=25,
    )


def frame(make: Make) -> None:
    """Framed print; variant 1 is wide, 2 has a broad mount."""
    rng = make.rng()
    w, high = ((1.5, 2.0), (2.1, 1.5), (1.6, 2.0))[make.variant]
    picture = prints.poster(rng, (make.second, make.main, make.accent, make.dark), (round(300 * w), round(300 * high)))
    wood = (
        m.wood("#d9b884", "#b08a55", "z")
        if rng.random() < 0.5
        else m.plastic(str(rng.choice(["#1d1d1f", "#f2f0ea"])), 0.3)
    )
    edge = rng.uniform(0.05, 0.12)
    mount = 0.28 if make.variant == 2 else 0.02
    for x in (-1, 1):
        s.box((edge, 0.1, high), wood, (x * (w / 2 - edge / 2), 0, high / 2), bevel=0.01)
        s.box((w - edge, 0.1, edge), wood, (0, 0, high / 2 + x * (high / 2 - edge / 2)), bevel=0.01)
    s.box((w - edge, 0.03, high - edge), m.card("#f4f1ea", "#efeae0"), (0, 0.0, high / 2), bevel=0)
    s.box((w - edge, 0.03, high - edge), m.card(), (0, 0.03, high / 2), bevel=0)
    inner = (w - 2 * edge - 2 * mount, 0.006, high - 2 * edge - 2 * mount)
    s.box(inner, m.printed(picture, (inner[0], inner[2]), rough=0.25), (0, -0.02, high / 2), bevel=0)


def storage(make: Make) -> None:
    """Storage box; variant 1 has a lid, 2 is a basket of rope."""
    rng = make.rng()
    if make.variant == 2:
        rope = m.cloth(make.main, make.second, 26)
        for k in range(9):
            r = 0.8 + 0.025 * k
            s.sweep(
                [(r * math.cos(a), r * math.sin(a), 0.08 + 0.13 * k) for a in np.arange(24) * math.pi / 12],
                0.08,
                rope,
                closed=True,
                steps=2,
            )
        s.disc(0.82, 0.06, rope)
        for x in (-1, 1):
            s.sweep(
                [(1.0 * x, -0.25, 1.1), (1.08 * x, 0, 1.42), (1.0 * x, 0.25, 1.1)],
                0.06,
                m.leather(make.dark, "#3a281c"),
            )
        return
    w, d, high = rng.uniform(1.6, 2.2), rng.uniform(1.1, 1.5), rng.uniform(0.9, 1.2)
    side = textile(make, make.rng(3)) if rng.random() < 0.5 else m.plastic(make.main, 0.4)
    for x in (-1, 1):
        s.box((0.06, d, high), side, (x * w / 2, 0, high / 2), bevel=0.015)
        s.box((w, 0.06, high), side, (0, x * d / 2, high / 2), bevel=0.015)
    s.box((w, d, 0.06), side, (0, 0, 0.03), bevel=0.01)
    tag = prints.label(rng, make.brand, make.words, ("#f4f1ea", make.accent, make.dark), (200, 120))
    panels((0.7, d + 0.06, 0.42), m.printed(tag, (0.7, 0.42), back=np.full((8, 8, 3), 235, np.uint8)), high * 0.55)
    if make.variant == 1:
        s.box((w + 0.12, d + 0.12, 0.16), side, (0, 0, high + 0.06), bevel=0.03)
