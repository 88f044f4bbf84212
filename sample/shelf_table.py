"""Products of kitchen and table for the fast renderer; each function builds one on the current stage."""

from __future__ import annotations

import math

import numpy as np

from sample import materials as m
from sample import prints
from sample import shapes as s
from sample.make import Make


def glaze(make: Make, part: int = 9) -> m.Surface:
    """Ceramic, sometimes specked, mat or shiny."""
    rng = make.rng(part)
    return m.ceramic(make.main, make.dark if rng.random() < 0.3 else None, float(rng.choice([0.08, 0.2, 0.5])))


def cup(make: Make) -> None:
    """Cup or mug with a handle; variant 1 has a saucer, 2 a band of another colour."""
    rng, body = make.rng(), glaze(make)
    top, foot, high = rng.uniform(0.62, 0.85), rng.uniform(0.4, 0.7), rng.uniform(0.9, 1.7)
    lift = 0.12 if make.variant == 1 else 0.0
    s.lathe([(0, lift), (foot, lift, 0.08), (foot + (top - foot) * 0.7, lift + 0.3 * high, 0.2),
             (top, lift + high, 0.02),
             (top - 0.05, lift + high, 0.02), (top - 0.09, lift + 0.5 * high, 0.2), (foot - 0.1, lift + 0.1, 0.1),
             (0, lift + 0.1)], body)  # fmt: skip
    low, upper = lift + 0.22 * high, lift + 0.85 * high
    reach = top + rng.uniform(0.32, 0.5)
    path = [(top * 0.95, 0, upper), (reach, 0, upper - 0.02), (reach + 0.05, 0, (low + upper) / 2),
            (reach - 0.08, 0, low + 0.03), (foot + (top - foot) * 0.66, 0, low)]  # fmt: skip
    s.sweep(path, rng.uniform(0.06, 0.1), body, taper=[1.2, 1, 0.95, 1, 1.2])
    if make.variant == 1:
        s.lathe([(0, 0), (0.5, 0, 0.03), (1.2, 0.14, 0.03), (1.2, 0.18, 0.02), (0.5, 0.07, 0.1), (0, 0.07)], body)
    if make.variant == 2:
        at = high * 0.62
        r = foot + (top - foot) * 0.84 + 0.02
        s.lathe([(r - 0.03, at - 0.08), (r + 0.012, at - 0.08, 0.01), (r + 0.03, at + 0.08, 0.01),
                 (r - 0.03, at + 0.08)],
                m.ceramic(make.second))  # fmt: skip


def bowl(make: Make) -> None:
    """Bowl; variant 1 is deep, 2 has a patterned inside."""
    rng, body = make.rng(), glaze(make)
    high = (0.9, 1.5, 0.8)[make.variant] * rng.uniform(0.9, 1.1)
    s.lathe([(0, 0), (0.5, 0, 0.03), (0.52, 0.08, 0.02), (1.1, 0.45 * high, 0.4), (1.4, high, 0.03), (1.33, high, 0.02),
             (1.02, 0.5 * high, 0.4), (0.5, 0.16, 0.2), (0, 0.14)], body)  # fmt: skip
    if make.variant == 2:
        tile = prints.pattern(
            rng, str(rng.choice(["dots", "flowers", "leaves"])), (make.second, make.main, make.accent)
        )
        s.lathe([(1.31, 0.98 * high), (1.0, 0.5 * high + 0.02, 0.4), (0.48, 0.175, 0.2), (0, 0.15)],
                m.printed(tile, (1.1, 1.1), onto="xy", rough=0.2))  # fmt: skip


def plate(make: Make) -> None:
    """Plates; variant 1 is a stack of four, 2 has a coloured rim."""
    body = glaze(make)
    for k in range(4 if make.variant == 1 else 1):
        z = 0.11 * k
        s.lathe(
            [
                (0, z),
                (0.8, z, 0.05),
                (1.4, z + 0.16, 0.05),
                (1.4, z + 0.21, 0.02),
                (0.85, z + 0.07, 0.1),
                (0, z + 0.06),
            ],
            body,
        )
    if make.variant == 2:
        s.lathe([(1.405, 0.15), (1.41, 0.214, 0.01), (1.25, 0.185)], m.ceramic(make.accent))


def tumbler(make: Make) -> None:
    """Drinking glass; variant 1 on a stem, 2 with a drink in it."""
    rng, clear = make.rng(), m.glass(make.main)
    r = rng.uniform(0.5, 0.66)
    if make.variant == 1:
        s.lathe(
            [
                (0, 0),
                (0.6, 0, 0.02),
                (0.55, 0.04, 0.05),
                (0.06, 0.12, 0.1),
                (0.05, 1.0, 0.2),
                (0.5, 1.3, 0.3),
                (0.62, 1.9, 0.4),
                (0.5, 2.4),
                (0.48, 2.4),
                (0.59, 1.9, 0.4),
                (0.45, 1.34, 0.2),
                (0, 1.12),
            ],
            clear,
        )
    else:
        high = rng.uniform(1.1, 1.9)
        ribs = int(rng.choice([0, 0, 24, 32]))
        s.lathe(
            [(0, 0), (r * 0.8, 0, 0.05), (r, high, 0.02), (r - 0.05, high, 0.02), (r * 0.75, 0.16, 0.05), (0, 0.14)],
            clear,
            ribs=ribs,
            depth=0.012,
            steps=96,
        )
        if make.variant == 2:
            s.lathe(
                [(0, 0.16), (r * 0.76, 0.16), (r * 0.9, high * 0.7), (0, high * 0.7)], m.glass(make.accent, ior=1.33)
            )


def vase(make: Make) -> None:
    """Vase of a random outline; variant 1 fluted, 2 with two handles."""
    rng = make.rng()
    high = rng.uniform(1.6, 2.6)
    radii = [
        rng.uniform(0.3, 0.55),
        rng.uniform(0.5, 0.95),
        rng.uniform(0.55, 1.0),
        rng.uniform(0.3, 0.6),
        rng.uniform(0.18, 0.34),
        rng.uniform(0.28, 0.5),
    ]
    levels = np.array([0, 0.2, 0.48, 0.74, 0.9, 1.0]) * high
    body = glaze(make) if rng.random() < 0.6 else m.clay(make.main, make.dark)
    s.lathe(
        [(0, 0), (radii[0] * 0.9, 0.0), *zip(radii, levels + 0.02, strict=True)],
        body,
        soft=True,
        ribs=(0, 22, 0)[make.variant],
        depth=0.02,
        steps=132 if make.variant == 1 else 96,
        sharp=70,
    )
    s.lathe(
        [
            (radii[5], high + 0.02),
            (radii[5] - 0.05, high + 0.02),
            (radii[4] - 0.05, 0.9 * high),
            (0.3, 0.5 * high),
            (0, 0.4 * high),
        ],
        body,
        sharp=60,
    )
    if make.variant == 2:
        for x in (-1, 1):
            a, b = radii[4] * x, radii[2] * x
            s.sweep(
                [
                    (a, 0, 0.9 * high),
                    (a + 0.32 * x, 0, 0.94 * high),
                    (b + 0.18 * x, 0, 0.66 * high),
                    (b * 0.85, 0, 0.58 * high),
                ],
                0.07,
                body,
            )


def pot(make: Make) -> None:
    """Cooking pot with a lid; variant 1 is low, 2 has one long handle."""
    rng = make.rng()
    high = (1.2, 0.6, 1.0)[make.variant]
    body = m.plastic(make.main, 0.2, 0.5)
    steel = m.metal("#c9ccd0", 0.25)
    s.lathe([(0, 0), (1.05, 0, 0.12), (1.1, high, 0.02), (1.02, high, 0.02), (0.98, 0.1, 0.1), (0, 0.1)], body)
    s.lathe(
        [
            (0, high + 0.02),
            (1.12, high + 0.01, 0.02),
            (1.1, high + 0.07, 0.04),
            (0.4, high + rng.uniform(0.18, 0.3), 0.3),
            (0, high + 0.3),
        ],
        body if rng.random() < 0.6 else steel,
    )
    s.lathe(
        [
            (0, high + 0.25),
            (0.08, high + 0.26),
            (0.07, high + 0.36, 0.03),
            (0.2, high + 0.4, 0.04),
            (0.18, high + 0.48, 0.04),
            (0, high + 0.49),
        ],
        m.metal("#c8a765", 0.3) if rng.random() < 0.4 else m.plastic("#222224", 0.4),
    )
    if make.variant == 2:
        s.sweep(
            [(1.05, 0, high * 0.85), (1.5, 0, high * 0.92), (2.5, 0, high * 0.98)],
            s.strap(0.09, 0.2),
            m.wood("#a9744a", "#6b4326", "x"),
            up=(0, 1, 0),
        )
    else:
        for x in (-1, 1):
            s.sweep(
                [
                    (1.04 * x, -0.3, high * 0.82),
                    (1.36 * x, -0.2, high * 0.86),
                    (1.36 * x, 0.2, high * 0.86),
                    (1.04 * x, 0.3, high * 0.82),
                ],
                0.065,
                body,
            )


def jug(make: Make) -> None:
    """Jug; variant 1 has a lid, 2 a narrow neck."""
    rng, body = make.rng(), glaze(make)
    neck = (0.55, 0.5, 0.28)[make.variant]
    high = rng.uniform(1.7, 2.2)
    s.lathe(
        [
            (0, 0),
            (0.55, 0, 0.05),
            (rng.uniform(0.75, 0.95), 0.5 * high, 0.5),
            (neck, 0.85 * high, 0.2),
            (neck + 0.08, high, 0.02),
            (neck, high, 0.02),
            (neck - 0.08, 0.84 * high, 0.2),
            (0.6, 0.4 * high, 0.4),
            (0, 0.15),
        ],
        body,
    )
    s.sweep(
        [(neck, 0, 0.9 * high), (neck + 0.55, 0, 0.92 * high), (neck + 0.68, 0, 0.6 * high), (0.76, 0, 0.34 * high)],
        0.09,
        body,
        taper=[1.3, 1, 1, 1.2],
    )
    s.sweep(
        [(-neck + 0.08, 0, 0.92 * high), (-neck - 0.14, 0, 1.0 * high), (-neck - 0.22, 0, 1.03 * high)],
        [(0.2, 0.03), (0, -0.1), (-0.2, 0.03), (0, -0.05)],
        body,
        up=(0, 0.01, 1),
    )
    if make.variant == 1:
        s.lathe(
            [
                (0, high),
                (neck + 0.1, high, 0.02),
                (neck + 0.06, high + 0.07, 0.04),
                (0.1, high + 0.12, 0.05),
                (0.14, high + 0.24, 0.05),
                (0, high + 0.26),
            ],
            m.wood("#d9b884", "#b08a55", "x", grain=2),
        )


def planter(make: Make) -> None:
    """Plant in a pot; variant 1 on three legs, 2 with round leaves."""
    rng = make.rng()
    lift = 0.55 if make.variant == 1 else 0.0
    body = glaze(make) if rng.random() < 0.6 else m.clay(make.main, make.dark)
    r, high = rng.uniform(0.55, 0.75), rng.uniform(0.7, 1.0)
    s.lathe(
        [
            (0, lift),
            (r * 0.75, lift, 0.08),
            (r, lift + high, 0.03),
            (r - 0.08, lift + high, 0.02),
            (r - 0.12, lift + high * 0.85),
            (0, lift + high * 0.85),
        ],
        body,
    )
    s.lathe(
        [(0, lift + high * 0.86), (r - 0.11, lift + high * 0.87), (0, lift + high * 0.88)], m.clay("#4a3527", "#2b1d14")
    )
    if make.variant == 1:
        for k in range(3):
            a = 2.1 * k + 0.5
            s.sweep(
                [(0.75 * math.cos(a), 0.75 * math.sin(a), 0), (0.4 * math.cos(a), 0.4 * math.sin(a), lift + 0.1)],
                0.05,
                m.wood("#d9b884", "#b08a55", "z"),
                soft=False,
            )
    green = m.leaf(str(rng.choice(["#2f5d3a", "#3f7a45", "#557f4a"])), str(rng.choice(["#6f9a5b", "#8aa95f"])))
    for k in range(int(rng.integers(9, 16))):
        a, z = math.radians(137.5 * k), lift + high * 0.86
        if make.variant == 2:
            tip = (rng.uniform(0.3, 0.8) * math.cos(a), rng.uniform(0.3, 0.8) * math.sin(a), z + rng.uniform(0.5, 1.2))
            s.sweep(
                [(0.06 * math.cos(a), 0.06 * math.sin(a), z), (tip[0] * 0.5, tip[1] * 0.5, z + 0.45), tip], 0.02, green
            )
            s.pillow(
                (0.5, 0.42, 0.03),
                green,
                tip,
                (rng.uniform(-40, 40), rng.uniform(-40, 40), 137.5 * k),
                round_side=1,
                round_top=1,
                steps=24,
            )
        else:
            s.blade(
                rng.uniform(0.8, 1.5),
                rng.uniform(0.16, 0.28),
                rng.uniform(0.1, 0.6),
                green,
                (0.1 * math.cos(a), 0.1 * math.sin(a), z),
                137.5 * k,
            )
