"""Shoes, hats, glasses and jewellery for the fast renderer; each function builds one on the current stage."""

from __future__ import annotations

import math

import numpy as np

from sample import materials as m
from sample import prints
from sample import shapes as s
from sample.make import Make, textile


def shoe(make: Make) -> None:
    """Trainers; variant 1 boots, 2 slip-ons."""
    rng = make.rng()
    upper = textile(make, make.rng(3)) if make.variant != 1 else m.leather(make.main, make.dark, 0.4)
    white = rng.random() < 0.6
    sole = m.plastic("#f0eee8" if white else make.accent, 0.5)
    lace = m.plastic("#f4f2ec" if prints.luminous(make.main) < 0.7 else make.dark, 0.8)
    collar, thick = (1.0, 2.1, 0.72)[make.variant], rng.uniform(0.14, 0.26)
    for side, at in ((-1, (0.0, -0.05)), (1, (0.35, 1.0))):
        _one_shoe(side, at, upper, sole, lace, collar, thick, make)


def _one_shoe(
    side: int,
    at: tuple[float, float],
    upper: m.Surface,
    sole: m.Surface,
    lace: m.Surface,
    collar: float,
    thick: float,
    make: Make,
) -> None:
    # Along x: heel at -1.4, toe at 1.4. Half width, height and lean of the cross sections.
    x = np.array([-1.4, -1.36, -1.2, -0.95, -0.6, -0.2, 0.2, 0.6, 0.95, 1.2, 1.34, 1.4])
    half = np.array([0.1, 0.24, 0.34, 0.37, 0.36, 0.37, 0.43, 0.48, 0.45, 0.34, 0.2, 0.06])
    tall = np.array([0.6, 0.92, 1.0, 1.0, 1.0, 0.86, 0.72, 0.58, 0.48, 0.4, 0.32, 0.2])
    tall = np.where(x < -0.1, tall * (0.35 + 0.65 * collar / 1.0 if collar < 1.5 else 1.0), tall)
    if collar > 1.5:
        tall = np.where(x < 0.05, tall + (collar - 1.0), tall)
        half = np.where((x < 0.05) & (x > -1.38), half * 0.98, half)
    t = np.linspace(0, len(x) - 1, 40)
    along, half, tall = (np.interp(t, np.arange(len(x)), k) for k in (x, half, tall))
    bend = 0.07 * side * np.sin((along + 1.4) / 2.8 * math.pi)
    ring = np.linspace(0, math.pi, 17)
    vertices, faces = [], []
    n = len(ring)
    for k, (a, w, h, b) in enumerate(zip(along, half, tall, bend, strict=True)):
        narrow = 1 - 0.42 * np.sin(ring) ** 2 * min(1.0, h)
        y = np.sign(np.cos(ring)) * np.abs(np.cos(ring)) ** 0.7 * w * narrow + b
        z = np.abs(np.sin(ring)) ** 0.62 * h + thick
        vertices.append(np.c_[np.full(n, a), y, z])
        if k:
            faces += [[(k - 1) * n + j, (k - 1) * n + j + 1, k * n + j + 1, k * n + j] for j in range(n - 1)]
    here = (at[0], at[1], 0.0)
    s.mesh("upper", np.vstack(vertices), faces, upper, here, (0, 0, 0), sharp=60)
    outline = [(a, -w * 1.06 + b) for a, w, b in zip(along[::2], half[::2], bend[::2], strict=True)]
    outline += [(a, w * 1.06 + b) for a, w, b in list(zip(along[::2], half[::2], bend[::2], strict=True))[::-1]]
    s.prism(outline, thick + 0.06, sole, (at[0], at[1], (thick + 0.06) / 2), bevel=0.05)

    def skin(a: float, bow: float, out: float) -> tuple[float, float, float]:
        """A point `out` of the upper, `a` along and at the angle `bow` round it."""
        w, h, b = (float(np.interp(a, along, k)) for k in (half, tall, bend))
        narrow = 1 - 0.42 * math.sin(bow) ** 2 * min(1.0, h)
        across = math.copysign(abs(math.cos(bow)) ** 0.7, math.cos(bow)) * w * narrow
        return a, across + b + out * math.cos(bow), math.sin(bow) ** 0.62 * h + thick + out * math.sin(bow)

    opening = float(np.interp(-0.75, along, tall)) + thick
    s.pillow(
        (0.78, 0.3, 0.1),
        m.cloth("#2a2a2c", None, 60),
        (at[0] - 0.72, at[1] + 0.05 * side, opening - 0.02),
        (0, 5, 0),
        round_side=0.9,
        round_top=1,
        steps=30,
    )
    if make.variant != 2:
        for a in (-0.15 if make.variant == 0 else 0.12) + 0.15 * np.arange(5 if make.variant == 0 else 3):
            bows = enumerate((55, 75, 90, 105, 125))
            over = [skin(float(a) + 0.02 * (k % 2), math.radians(b), 0.014) for k, b in bows]
            s.sweep([(at[0] + u, at[1] + v, w) for u, v, w in over], 0.028, lace, steps=4)
    if make.variant == 0:
        mark = m.plastic(make.second, 0.4)
        for y in (-1, 1):
            points = []
            for a in np.linspace(-0.5, 0.45, 6):
                bow = math.asin((0.62 - 0.4 * (a + 0.5)) ** (1 / 0.62))
                u, v, w = skin(float(a), bow if y > 0 else math.pi - bow, 0.012)
                points.append((at[0] + u, at[1] + v, w))
            s.sweep(points, s.strap(0.03, 0.16), mark, up=(0, 0, 1), taper=[0.3, 1, 1, 0.8])


def cap(make: Make) -> None:
    """Cap; variant 1 a bobble hat, 2 a sun hat."""
    rng, cloth = make.rng(), textile(make, make.rng(3))
    if make.variant == 1:
        knit = m.cloth(make.main, make.dark, 22)
        s.lathe(
            [(0.78, 0.0), (0.85, 0.05, 0.05), (0.86, 0.4, 0.05), (0.8, 0.45)], knit, ribs=40, depth=0.015, steps=200
        )
        s.lathe(
            [(0.8, 0.36), (0.86, 0.7), (0.72, 1.15), (0.35, 1.42), (0, 1.5)],
            m.cloth(make.main, make.second, 22, stripe=None),
            soft=True,
            ribs=30,
            depth=0.012,
            steps=150,
        )
        s.ball(0.28, m.cloth(make.second, make.second, 18), (0, 0, 1.66))
        return
    dome = [(0.86, 0), (0.88, 0.35), (0.72, 0.75), (0.4, 0.98), (0, 1.05)]
    s.lathe(dome, cloth, soft=True)
    s.lathe([(0.86, 0.0), (0.84, 0.02), (0.8, 0.4), (0, 0.7)], m.cloth(make.dark), soft=True)
    if make.variant == 2:
        s.lathe([(0.84, 0.06), (1.3, -0.02), (1.55, -0.1), (1.56, -0.13), (1.3, -0.06), (0.84, 0.0)], cloth, soft=True)
        s.lathe([(0.875, 0.05), (0.9, 0.06, 0.01), (0.905, 0.28, 0.01), (0.87, 0.28)], m.cloth(make.accent, None, 60))
        return
    arc = np.linspace(-1.15, 1.15, 17)
    outer = [(1.0 * math.sin(a) * 0.9, -0.55 - 1.05 * math.cos(a) ** 0.7 * 0.95) for a in arc]
    inner = [(0.84 * math.sin(a), -0.84 * math.cos(a)) for a in arc[::-1]]
    s.prism(
        [*outer, *inner],
        0.05,
        m.cloth(make.second if rng.random() < 0.4 else make.main, None, 60),
        (0, 0, 0.05),
        (8, 0, 0),
        bevel=0.015,
    )
    s.ball(0.06, cloth, (0, 0, 1.05), squash=0.6)
    for k in range(6):
        a = k * math.pi / 3 + 0.26
        s.sweep(
            [
                (r * math.cos(a) * 1.004, r * math.sin(a) * 1.004, z + 0.004)
                for r, z in ((0.87, 0.1), (0.87, 0.36), (0.71, 0.76), (0.4, 0.985), (0.05, 1.055))
            ],
            0.012,
            m.cloth(make.dark),
        )
    if rng.random() < 0.7:
        s.words(
            str(rng.choice(prints.SLOGANS))[:6],
            0.24,
            m.plastic(prints.ink(make.main), 0.7),
            (0, -0.885, 0.46),
            (78, 0, 0),
            depth=0.03,
        )


def glasses(make: Make) -> None:
    """Sunglasses; variant 1 is round, 2 of metal."""
    rng = make.rng()
    rim = (
        m.plastic(make.main, 0.15, 0.4)
        if make.variant != 2
        else m.metal(make.main if prints.luminous(make.main) > 0.4 else "#c8a765", 0.25)
    )
    lens = m.plastic(str(rng.choice(["#16181b", "#2a2320", "#22303a"])), 0.05, 0.8)
    w, high = (0.86, 0.66) if make.variant != 1 else (0.72, 0.72)
    radius = 0.36 if make.variant == 1 else rng.uniform(0.16, 0.3)
    thick = 0.05 if make.variant != 2 else 0.025
    for x in (-1, 1):
        ring = s.rounded(w, high, radius)
        if make.variant != 1:
            ring = [(a * (1.0 + 0.12 * b / high), b) for a, b in ring]
        s.prism(ring, 0.02, lens, (0.52 * x, 0, 0.6), (90, 0, 0), bevel=0.004)
        s.sweep([(0.52 * x + a, 0, 0.6 + b) for a, b in ring], thick, rim, closed=True, soft=False)
        s.sweep(
            [
                (0.96 * x, 0.0, 0.8),
                (1.06 * x, 0.12, 0.8),
                (1.06 * x, 0.9, 0.78),
                (1.02 * x, 1.35, 0.7),
                (0.98 * x, 1.6, 0.42),
            ],
            s.strap(0.05, 0.12),
            rim,
            up=(1, 0, 0),
        )
    s.sweep([(-0.12, 0, 0.7), (0, -0.03, 0.76), (0.12, 0, 0.7)], thick, rim)


def ring(make: Make) -> None:
    """Ring with a stone; variant 1 a bracelet of beads, 2 a pair of ear-rings."""
    rng = make.rng()
    metal = m.metal(make.main, 0.16)
    stone = m.plastic(make.accent, 0.04, 1.0)
    circle = np.arange(32) * math.pi / 16
    if make.variant == 1:
        for k, a in enumerate(np.arange(22) * math.pi / 11):
            s.ball(0.135, stone if k % 4 else metal, (0.98 * math.cos(a), 0.98 * math.sin(a), 0.14))
        return
    for x in (0.0,) if make.variant == 0 else (-0.6, 0.6):
        r = 0.85 if make.variant == 0 else 0.42
        s.sweep(
            [(x + r * math.cos(a), 0, 0.92 * r + 0.1 + r * math.sin(a)) for a in circle],
            rng.uniform(0.06, 0.1),
            metal,
            closed=True,
            steps=2,
        )
        top_ = 1.92 * r + 0.1
        s.lathe(
            [(0, 0), (0.1, 0.02), (0.3, 0.24, 0.02), (0.2, 0.36), (0, 0.36)],
            stone,
            (x, 0, top_ - 0.02),
            steps=18,
            sharp=8,
        )
        for k in range(4):
            a = k * math.pi / 2 + 0.78
            s.sweep(
                [
                    (x + 0.1 * math.cos(a), 0.1 * math.sin(a), top_),
                    (x + 0.27 * math.cos(a), 0.27 * math.sin(a), top_ + 0.26),
                ],
                0.025,
                metal,
                soft=False,
            )
