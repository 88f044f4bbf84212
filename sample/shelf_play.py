"""Screens, tools, toys and cases for the fast renderer; each function builds one on the current stage."""

from __future__ import annotations

import math

import numpy as np

from sample import materials as m
from sample import prints
from sample import shapes as s
from sample.make import Make


def phone(make: Make) -> None:
    """Telephone; variant 1 is a tablet, 2 a small player with keys."""
    rng = make.rng()
    w, high, d = ((1.0, 2.1, 0.1), (1.6, 2.2, 0.09), (1.0, 1.7, 0.2))[make.variant]
    body = m.plastic(make.main, 0.25, 0.3) if rng.random() < 0.5 else m.metal(make.main, 0.35)
    s.prism(s.rounded(w, high, 0.16), d, body, (0, 0, high / 2), (90, 0, 0), bevel=0.03)
    s.prism(
        s.rounded(w - 0.05, high - 0.05, 0.14),
        0.01,
        m.plastic("#0c0c0e", 0.1, 0.5),
        (0, -d / 2 - 0.004, high / 2),
        (90, 0, 0),
        bevel=0,
    )
    lit = (w - 0.12, high - (0.14 if make.variant < 2 else 0.8))
    tones = ("#20304a", make.accent, make.second, make.main)
    page = prints.screen(rng, (round(240 * lit[0]), round(240 * lit[1])), tones)
    z = high / 2 + (0.3 if make.variant == 2 else 0)
    s.box((lit[0], 0.006, lit[1]), m.printed(page, lit, rough=0.15), (0, -d / 2 - 0.012, z), bevel=0)
    if make.variant == 2:
        for k in range(9):
            s.disc(
                0.07, 0.03, m.plastic("#d8d8d8", 0.4), ((k % 3 - 1) * 0.24, -d / 2, 0.16 + 0.18 * (k // 3)), (90, 0, 0)
            )
    else:
        s.prism(
            s.rounded(0.42, 0.42, 0.12), 0.04, body, (-w / 2 + 0.3, d / 2 + 0.01, high - 0.32), (90, 0, 0), bevel=0.015
        )
        for k in range(int(rng.integers(1, 4))):
            s.disc(
                0.085,
                0.05,
                m.plastic("#0a0a0c", 0.08, 0.6),
                (-w / 2 + 0.2 + 0.19 * (k % 2), d / 2 + 0.02, high - 0.22 - 0.2 * (k // 2)),
                (-90, 0, 0),
            )
        s.words(make.brand, 0.14, m.plastic(prints.ink(make.main), 0.3), (0, d / 2 + 0.002, high * 0.35), (90, 0, 180))


def screen(make: Make) -> None:
    """Notebook computer; variant 1 is a monitor, 2 a television."""
    rng = make.rng()
    tones = ("#22405a", make.accent, make.second, make.main)
    black = m.plastic("#141416", 0.3)
    if make.variant == 0:
        body = m.metal(make.main, 0.38)
        s.prism(s.rounded(2.4, 1.65, 0.1), 0.09, body, (0, 0, 0.06), bevel=0.03)
        for i in range(4):
            for j in range(12):
                s.box((0.15, 0.13, 0.02), black, ((j - 5.5) * 0.178, 0.45 - 0.16 * i, 0.11), bevel=0)
        s.prism(s.rounded(0.75, 0.45, 0.04), 0.01, m.metal("#b9bcc0", 0.5), (0, -0.45, 0.105), bevel=0)
        lean, w, high = (80, 0, 0), 2.4, 1.6
        s.prism(s.rounded(w, high, 0.1), 0.06, body, (0, 0.93, 0.9), lean, bevel=0.02)
        s.prism(s.rounded(w - 0.06, high - 0.06, 0.08), 0.01, black, (0, 0.895, 0.905), lean, bevel=0)
        page = prints.screen(rng, (480, 300), tones)
        s.box(
            (w - 0.18, 0.006, high - 0.2),
            m.printed(page, (w - 0.18, high - 0.2), rough=0.15),
            (0, 0.885, 0.915),
            (-10, 0, 0),
            bevel=0,
        )
        s.words(make.brand, 0.16, m.metal("#e9e6dd", 0.3), (0, 0.985, 0.95), (80, 0, 180), depth=0.012)
        return
    w, high = (2.4, 1.45) if make.variant == 1 else (2.9, 1.65)
    lift = 0.55 if make.variant == 1 else 0.16
    s.prism(s.rounded(w, high, 0.05), 0.12, m.plastic(make.main, 0.35), (0, 0, lift + high / 2), (90, 0, 0), bevel=0.02)
    page = prints.screen(rng, (480, 290), tones)
    s.box((w - 0.02, 0.004, high - 0.02), black, (0, -0.062, lift + high / 2), bevel=0)
    s.box(
        (w - 0.1, 0.006, high - 0.12),
        m.printed(page, (w - 0.1, high - 0.12), rough=0.15),
        (0, -0.066, lift + high / 2),
        bevel=0,
    )
    s.box((w * 0.5, 0.12, high * 0.4), black, (0, 0.09, lift + high * 0.4), bevel=0.03)
    if make.variant == 1:
        s.box((0.3, 0.08, 0.9), m.metal("#c9ccd0", 0.35), (0, 0.14, 0.5), bevel=0.02)
        s.prism(s.rounded(1.0, 0.65, 0.08), 0.05, m.metal("#c9ccd0", 0.35), (0, 0.1, 0.025), bevel=0.015)
    else:
        for x in (-0.95, 0.95):
            s.sweep([(x, -0.35, 0.02), (x, 0, 0.2), (x, 0.35, 0.02)], 0.035, black, soft=False)


def tool(make: Make) -> None:
    """Hammer; variant 1 is a screwdriver, 2 a spatula."""
    rng = make.rng()
    steel = m.metal("#c3c6ca", 0.3)
    grip = m.plastic(make.main, 0.5) if rng.random() < 0.6 else m.wood("#d9b884", "#a97c4c", "z", grain=2)
    if make.variant == 0:
        s.sweep(
            [(0, 0, 0), (0, 0, 0.7), (0, 0, 1.5), (0, 0, 2.2)],
            [(0.1 * math.cos(a), 0.14 * math.sin(a)) for a in np.arange(16) * math.pi / 8],
            grip,
            taper=[1.1, 1.25, 0.85, 0.8],
        )
        s.box((0.5, 0.3, 0.3), steel, (0.05, 0, 2.25), bevel=0.03)
        s.disc(0.19, 0.42, steel, (-0.2, 0, 2.25), (0, -90, 0), edge=0.03)
        s.sweep(
            [(0.25, 0, 2.27), (0.6, 0, 2.25), (0.9, 0, 2.08)],
            [(0.16, 0.07), (-0.16, 0.07), (-0.16, -0.07), (0.16, -0.07)],
            steel,
            up=(0, 0.01, 1),
            taper=[1.1, 0.9, 0.3],
        )
    elif make.variant == 1:
        s.lathe(
            [
                (0, 0),
                (0.2, 0.02, 0.08),
                (0.24, 0.4, 0.2),
                (0.17, 0.85, 0.1),
                (0.22, 0.98, 0.04),
                (0.1, 1.05, 0.03),
                (0, 1.05),
            ],
            grip,
            ribs=6,
            depth=0.06,
        )
        s.disc(0.06, 1.2, steel, (0, 0, 1.0), edge=0.01)
        s.prism(
            [(-0.09, 0), (0.09, 0), (0.06, 0.18), (-0.06, 0.18)], 0.04, steel, (0, 0, 2.15), (90, 0, 0), bevel=0.005
        )
    else:
        s.sweep(
            [(0, 0, 0), (0, 0.02, 0.7), (0, 0, 1.3)],
            [(0.11 * math.cos(a), 0.07 * math.sin(a)) for a in np.arange(16) * math.pi / 8],
            grip,
            taper=[1, 1.1, 0.7],
        )
        s.box((0.1, 0.03, 0.5), steel, (0, 0, 1.5), bevel=0.01)
        s.prism(
            s.rounded(0.62, 0.8, 0.1),
            0.03,
            m.plastic("#26262a", 0.5) if rng.random() < 0.5 else steel,
            (0, 0, 2.0),
            (90, 0, 0),
            bevel=0.01,
        )
        for x in (-0.15, 0.0, 0.15):
            s.prism(s.rounded(0.05, 0.5, 0.02), 0.034, m.plastic("#f0f0f0", 0.8), (x, 0, 2.0), (90, 0, 0), bevel=0)


def ball(make: Make) -> None:
    """Play ball; variant 1 has rings, 2 patches."""
    rng, at = make.rng(), (0, 0, 1.0)
    if make.variant == 0:
        s.ball(1.0, m.plastic(make.main, 0.35), at)
        for a in (0, 60, 120):
            s.sweep(
                [(1.002 * math.cos(t), 1.002 * math.sin(t), 0) for t in np.arange(24) * math.pi / 12],
                0.015,
                m.plastic(make.dark, 0.5),
                at,
                (90, 0, a),
                closed=True,
                steps=2,
            )
    else:
        name = "bars" if make.variant == 1 else str(rng.choice(["dots", "terrazzo", "tiles"]))
        tile = prints.pattern(rng, name, (make.main, make.second, make.accent))
        s.ball(1.0, m.printed(tile, (2 * math.pi / 3, 2.0), onto="round", rough=0.3), at)


def blocks(make: Make) -> None:
    """Building blocks; variant 1 is a tower of rings, 2 a train."""
    rng = make.rng()
    tones = [make.main, make.second, make.accent, make.main, make.dark]
    if make.variant == 1:
        s.disc(0.9, 0.14, m.wood("#e6c79a", "#cda571", "x"), edge=0.04)
        s.disc(0.1, 2.0, m.wood("#e6c79a", "#cda571", "z"), edge=0.04)
        for k in range(5):
            r = 0.8 - 0.12 * k
            ring = [
                ((r - 0.2) * math.cos(a), (r - 0.2) * math.sin(a), 0.33 + 0.36 * k) for a in np.arange(16) * math.pi / 8
            ]
            s.sweep(ring, 0.19, m.plastic(tones[k], 0.4), closed=True, steps=2)
        return
    if make.variant == 2:
        for k in range(3):
            x = (k - 1) * 1.15
            s.box((0.95, 0.6, 0.3), m.plastic(tones[k], 0.4), (x, 0, 0.38), bevel=0.04)
            for dx in (-0.3, 0.3):
                for y in (-1, 1):
                    s.disc(
                        0.2,
                        0.1,
                        m.wood("#e6c79a", "#cda571", "x", grain=2),
                        (x + dx, y * 0.3 + 0.05, 0.2),
                        (90, 0, 0),
                        edge=0.02,
                    )
            if k == 0:
                s.disc(0.26, 0.6, m.plastic(make.second, 0.4), (x - 0.4, 0, 0.75), (0, 90, 0))
                s.box((0.35, 0.55, 0.7), m.plastic(make.main, 0.4), (x + 0.28, 0, 0.85), bevel=0.04)
                s.disc(0.09, 0.35, m.plastic(make.dark, 0.4), (x - 0.28, 0, 0.95))
            else:
                for dx in (-0.2, 0.2):
                    if k == 1:
                        s.ball(0.17, m.plastic(tones[k + 1], 0.4), (x + dx, 0, 0.65))
                    else:
                        s.box((0.32, 0.4, 0.3), m.wood("#e6c79a", "#cda571"), (x + dx, 0, 0.67), bevel=0.03)
        return
    for k in range(int(rng.integers(4, 7))):
        size = rng.uniform(0.45, 0.6)
        tone = m.plastic(tones[k % 5], 0.45) if rng.random() < 0.7 else m.wood("#e6c79a", "#cda571", "x", grain=1.5)
        x, off = float(k % 3 - 1) * 0.72, float(rng.uniform(-0.08, 0.08))
        z = 0.0 if k < 3 else 0.62
        x *= 1.0 if k < 3 else 0.6
        if rng.random() < 0.65:
            s.box((size, size, 0.6), tone, (x, off, z + 0.3), (0, 0, rng.uniform(-15, 15)), bevel=0.04)
        else:
            s.disc(size / 2, 0.6, tone, (x, off, z), edge=0.04)


def bear(make: Make) -> None:
    """Soft toy: bear; variant 1 a rabbit with long ears, 2 with a shirt."""
    rng, fur = make.rng(), m.cloth(make.main, make.dark, 20)
    pale = m.cloth(make.second, make.second, 20)
    fat = rng.uniform(0.9, 1.15)
    s.ball(0.62 * fat, fur if make.variant != 2 else m.cloth(make.accent, make.accent, 40), (0, 0, 0.66), squash=1.05)
    s.ball(0.52, fur, (0, -0.05, 1.62), squash=0.92)
    s.ball(0.24, pale, (0, -0.46, 1.52), squash=0.8)
    s.ball(0.07, m.plastic("#2a1d16", 0.2), (0, -0.69, 1.58), squash=0.7)
    for x in (-1, 1):
        s.ball(0.055, m.plastic("#141414", 0.1, 0.5), (0.2 * x, -0.5, 1.76))
        if make.variant == 1:
            s.pillow(
                (0.26, 0.16, 0.95), fur, (0.24 * x, 0, 2.4), (0, 12 * x, 0), round_side=0.9, round_top=0.9, steps=30
            )
        else:
            s.pillow((0.36, 0.2, 0.36), fur, (0.4 * x, 0, 2.02), round_side=1, round_top=1, steps=30)
            s.pillow((0.22, 0.1, 0.22), pale, (0.4 * x, -0.08, 2.02), round_side=1, round_top=1, steps=30)
        s.pillow(
            (0.3, 0.32, 0.85),
            fur,
            (0.66 * x * fat, -0.16, 0.85),
            (-24, 28 * x, 0),
            round_side=0.9,
            round_top=0.8,
            steps=30,
        )
        s.pillow(
            (0.42, 0.85, 0.42), fur, (0.42 * x, -0.55, 0.24), (0, 0, 16 * x), round_side=0.9, round_top=0.8, steps=30
        )
        s.disc(0.15, 0.02, pale, (0.54 * x, -0.96, 0.25), (90, 0, 16 * x))


def weight(make: Make) -> None:
    """Dumb-bell; variant 1 is a kettlebell, 2 a pair."""
    rng = make.rng()
    coat, steel = m.plastic(make.main, 0.5), m.metal("#b9bcc0", 0.3)
    if make.variant == 1:
        s.ball(0.8, coat, (0, 0, 0.76))
        s.disc(0.4, 0.1, coat)
        s.sweep(
            [(-0.5, 0, 1.25), (-0.6, 0, 1.75), (-0.25, 0, 2.05), (0.25, 0, 2.05), (0.6, 0, 1.75), (0.5, 0, 1.25)],
            0.13,
            coat,
        )
        s.words(f"{int(rng.integers(2, 10)) * 2} kg", 0.34, m.plastic(prints.ink(make.main), 0.5), (0, -0.8, 0.8))
        return
    for y in (0.0,) if make.variant == 0 else (-0.45, 0.45):
        s.disc(0.12, 1.2, steel, (-0.6, y, 0.42), (0, 90, 0), edge=0.01)
        for x in (-1, 1):
            s.prism(
                [(0.42 * math.cos(a), 0.42 * math.sin(a)) for a in np.arange(6) * math.pi / 3 + 0.52],
                0.62,
                coat,
                (x * 0.85, y, 0.4),
                (0, 90, 0),
                bevel=0.05,
            )


def suitcase(make: Make) -> None:
    """Trolley case; variant 1 is large, 2 has a front pocket."""
    rng = make.rng()
    w, d, high = (1.3, 0.75, 1.9) if make.variant != 1 else (1.5, 0.9, 2.3)
    shell = m.plastic(make.main, 0.3)
    s.prism(s.rounded(w, high, 0.2), d, shell, (0, 0, 0.16 + high / 2), (90, 0, 0), bevel=0.12)
    n = int(rng.integers(4, 9))
    for k in range(n):
        x = (k - (n - 1) / 2) * w * 0.78 / n
        for y in (-d / 2, d / 2):
            s.box((w * 0.3 / n, 0.04, high * 0.8), shell, (x, y, 0.16 + high / 2), bevel=0.015)
    black = m.plastic("#1d1d20", 0.5)
    s.prism(s.rounded(w + 0.015, high + 0.015, 0.2), 0.05, black, (0, 0, 0.16 + high / 2), (90, 0, 0), bevel=0.01)
    for x in (-1, 1):
        s.box((0.05, 0.05, 0.55), m.metal("#c3c6ca", 0.3), (x * 0.3, d * 0.3, high + 0.4), bevel=0.01)
        for y in (-1, 1):
            s.disc(0.11, 0.1, black, (x * w * 0.36, y * d * 0.3 + 0.05, 0.11), (90, 0, 0))
    s.box((0.7, 0.1, 0.08), black, (0, d * 0.3, high + 0.7), bevel=0.03)
    s.sweep([(-0.2, 0, high + 0.16), (0, 0, high + 0.26), (0.2, 0, high + 0.16)], 0.045, black)
    if make.variant == 2:
        s.prism(
            s.rounded(w * 0.8, high * 0.5, 0.1),
            0.12,
            m.cloth(make.main, make.dark),
            (0, -d / 2 - 0.04, 0.75),
            (90, 0, 0),
            bevel=0.04,
        )
        s.box((w * 0.7, 0.02, 0.03), m.metal("#c3c6ca", 0.3), (0, -d / 2 - 0.1, 1.2), bevel=0.005)
