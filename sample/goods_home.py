"""Furniture, light and sound. Each function builds one product into the scene, in the colours of its `Look`."""

from __future__ import annotations

import math

import numpy as np

from sample import materials as m
from sample import shapes as s
from sample.look import Look


def lamp(look: Look) -> None:
    """Table lamp: turned wooden foot, linen shade."""
    wood = m.wood(look.second, look.dark, "z", grain=1.4)
    s.lathe([(0, 0), (0.50, 0, 0.03), (0.50, 0.07, 0.04), (0.12, 0.14, 0.1), (0, 0.14)], wood)
    s.lathe([(0.0, 0.12), (0.14, 0.13), (0.10, 0.22), (0.26, 0.42), (0.34, 0.66), (0.26, 0.92), (0.11, 1.12),
             (0.10, 1.16), (0.0, 1.18)], wood, soft=True)  # fmt: skip
    brass = m.metal("#c9a35a", 0.25)
    s.disc(0.06, 0.35, brass, (0, 0, 1.14))
    shade = m.glow(look.main, 0.10)
    s.lathe([(0.80, 1.32), (0.50, 2.20), (0.485, 2.20), (0.785, 1.32), (0.80, 1.32)], shade, sharp=20)
    trim = m.cloth(look.main, thread=60)
    s.lathe([(0.795, 1.315), (0.807, 1.315), (0.795, 1.36), (0.783, 1.36), (0.795, 1.315)], trim)
    s.lathe([(0.51, 2.17), (0.522, 2.17), (0.508, 2.205), (0.48, 2.205), (0.49, 2.17)], trim)
    s.ball(0.17, m.glow("#fff0cf", 1.2), (0, 0, 1.62))
    for k in range(3):
        a = 2 * math.pi * k / 3
        s.sweep([(0, 0, 2.12), (0.5 * math.cos(a), 0.5 * math.sin(a), 2.17)], 0.012, brass, soft=False)
    s.sweep([(0.1, 0.40, 0.06), (0.15, 0.6, 0.03), (0.35, 0.85, 0.02), (0.62, 0.9, 0.02)], 0.018, m.plastic("#e8e2d6"))


def chair(look: Look) -> None:
    """Dining chair: oak frame, upholstered seat, curved back rest."""
    oak = m.wood(look.second, look.dark, "z", grain=1.0)
    for x in (-1, 1):
        s.sweep([(0.62 * x, -0.55, 0.0), (0.56 * x, -0.50, 1.06)], 0.062, oak, soft=False, taper=[0.62, 1.1])
        s.sweep([(0.58 * x, 0.70, 0.0), (0.52 * x, 0.53, 0.95), (0.52 * x, 0.58, 1.5), (0.53 * x, 0.72, 2.12)], 0.062,
                oak, taper=[0.62, 1.1, 0.95, 0.75])  # fmt: skip
    across, deep = m.wood(look.second, look.dark, "x"), m.wood(look.second, look.dark, "y")
    s.box((1.08, 0.07, 0.15), across, (0, -0.50, 0.97), bevel=0.015)
    s.box((1.02, 0.07, 0.15), across, (0, 0.52, 0.97), bevel=0.015)
    for x in (-1, 1):
        s.box((0.07, 1.0, 0.15), deep, (0.54 * x, 0.0, 0.97), bevel=0.015)
        s.box((0.05, 1.1, 0.06), deep, (0.575 * x, 0.06, 0.42), (-1, 0, 0), bevel=0.012)
    s.box((1.1, 0.05, 0.06), across, (0, 0.06, 0.42), bevel=0.012)
    s.pillow((1.24, 1.22, 0.24), m.cloth(look.main, look.main, 44), (0, -0.02, 1.10), round_side=0.25, round_top=0.55)
    rest = [(0.60 * math.sin(a), 0.16 - 0.34 * (1 - math.cos(a)) / (1 - math.cos(1.1)) + 0.62, 0.0)
            for a in np.linspace(-1.1, 1.1, 9)]  # fmt: skip
    s.sweep(rest, s.strap(0.075, 0.46), across, (0, 0.02, 1.92), (-9, 0, 0), up=(0, 0.01, 1), steps=6)


def clock(look: Look) -> None:
    """Round desk clock on two feet, with hour marks and three hands."""
    case, dark = m.plastic(look.main, 0.28, 0.4), m.plastic("#26282b", 0.5)
    up = (90, 0, 0)
    s.lathe(
        [
            (0, -0.30),
            (0.86, -0.30, 0.12),
            (1.0, -0.12, 0.12),
            (1.0, 0.16, 0.05),
            (0.95, 0.19, 0.03),
            (0.90, 0.15, 0.02),
            (0.89, 0.08),
            (0, 0.08),
        ],
        case,
        (0, 0, 1.12),
        up,
    )
    s.lathe([(0, 0.082), (0.885, 0.082), (0.885, 0.086), (0, 0.086)], m.plastic("#f7f5ef", 0.6), (0, 0, 1.12), up)
    face = -0.092
    for k in range(60):
        a = math.radians(6 * k)
        if k % 5:
            s.box(
                (0.012, 0.006, 0.035),
                dark,
                (0.82 * math.sin(a), face, 1.12 + 0.82 * math.cos(a)),
                (0, 6 * k, 0),
                bevel=0,
            )
        else:
            s.box(
                (0.026, 0.006, 0.08),
                dark,
                (0.80 * math.sin(a), face, 1.12 + 0.80 * math.cos(a)),
                (0, 6 * k, 0),
                bevel=0,
            )
            s.words(str(k // 5 or 12), 0.2, dark, (0.625 * math.sin(a), face, 1.12 + 0.625 * math.cos(a)))
    for turn, length, width, away in ((304, 0.42, 0.05, 0.02), (53, 0.64, 0.036, 0.03)):
        a = math.radians(turn)
        middle = (0.42 * length * math.sin(a), face - away, 1.12 + 0.42 * length * math.cos(a))
        s.box((width, 0.012, length * 1.16), dark, middle, (0, turn, 0), bevel=0.005)
    a = math.radians(186)
    second = (0.25 * math.sin(a), face - 0.04, 1.12 + 0.25 * math.cos(a))
    s.box((0.014, 0.008, 0.85), m.plastic(look.second, 0.3), second, (0, 186, 0), bevel=0)
    s.disc(0.045, 0.06, m.plastic(look.second, 0.3), (0, -0.08, 1.12), up)
    for x in (-1, 1):
        s.sweep([(0.42 * x, 0.02, 0.30), (0.62 * x, 0.02, 0.0)], 0.075, m.wood("#d8b384", "#a97c4c", "z", grain=2),
                soft=False, taper=[1.1, 0.6])  # fmt: skip
    grey = m.plastic("#d8d5cd", 0.5)
    s.lathe([(0, 0), (0.70, 0, 0.02), (0.70, 0.02, 0.02), (0, 0.02)], grey, (0, 0.295, 1.12), (-90, 0, 0))
    s.box((0.42, 0.03, 0.42), dark, (0, 0.32, 1.12), bevel=0.03)
    s.disc(0.06, 0.07, m.metal("#c9ccd0", 0.3), (0.12, 0.33, 1.02), (-90, 0, 0))
    s.box((0.34, 0.02, 0.16), grey, (0, 0.32, 0.72), bevel=0.02)
    s.disc(0.05, 0.02, dark, (0, 0.315, 1.66), (-90, 0, 0))


def cushion(look: Look) -> None:
    """Scatter cushion that stands, with piping."""
    steps = 72
    side = np.linspace(-1, 1, steps)
    x, z = np.meshgrid(side, side)
    # Corners stick out, sides are pulled in: the shape that a filled square cover takes.
    pull = 1 - 0.10 * (1 - z**2)
    lift = 1 - 0.10 * (1 - x**2)
    fold = 0.012 * np.sin(14 * np.arctan2(z, x)) * (x**2 + z**2)
    puff = 0.40 * np.maximum(1 - np.abs(x) ** 2.4, 0) ** 0.52 * np.maximum(1 - np.abs(z) ** 2.4, 0) ** 0.52 + fold * 0
    wrinkle = 1 + 0.03 * np.sin(9 * x + 2.0 * z) * np.abs(x * z) + 0.02 * np.sin(7 * z - 3 * x)
    front = np.stack([x * pull, -puff * wrinkle, z * lift], -1).reshape(-1, 3)
    back = front * [1, -1, 1]
    vertices = np.vstack([front, back])
    faces = []
    for layer in (0, 1):
        base = layer * steps * steps
        for i in range(steps - 1):
            for j in range(steps - 1):
                quad = [
                    base + i * steps + j,
                    base + i * steps + j + 1,
                    base + (i + 1) * steps + j + 1,
                    base + (i + 1) * steps + j,
                ]
                faces.append(quad if layer == 0 else quad[::-1])
    cover = m.cloth(look.main, look.main, 50, stripe=(look.second, 1.6))
    s.mesh("cushion", vertices, faces, cover, (0, 0, 0.97), (-14, 0, 0), sharp=70)
    edge = [(-1, -1)] + [(t, -1) for t in np.linspace(-0.8, 1, 10)] + [(1, t) for t in np.linspace(-0.8, 1, 10)]
    edge += [(t, 1) for t in np.linspace(0.8, -1, 10)] + [(-1, t) for t in np.linspace(0.8, -0.8, 9)]
    path = [(a * (1 - 0.10 * (1 - b * b)), 0, b * (1 - 0.10 * (1 - a * a))) for a, b in edge]
    s.sweep(path, 0.028, m.cloth(look.dark), (0, 0, 0.97), (-14, 0, 0), closed=True, steps=4)


def speaker(look: Look) -> None:
    """Bluetooth speaker: walnut sides, cloth front, metal knobs and a leather strap."""
    front = m.cloth(look.main, look.dark, 70)
    s.prism(
        s.rounded(2.5, 1.4, 0.22),
        1.0,
        m.wood(look.second, "#4a2e1d", "x", grain=1.2),
        (0, 0, 0.78),
        (90, 0, 0),
        bevel=0.03,
    )
    s.prism(s.rounded(2.3, 1.2, 0.14), 0.06, front, (0, -0.50, 0.78), (90, 0, 0), bevel=0.025)
    s.prism(s.rounded(2.3, 1.2, 0.14), 0.02, m.plastic("#232325", 0.6), (0, 0.50, 0.78), (90, 0, 0), bevel=0.005)
    s.box((0.34, 0.02, 0.14), m.plastic("#101011", 0.4), (0.6, 0.512, 0.45), bevel=0.01)
    for k in range(5):
        s.box((0.9, 0.02, 0.03), m.plastic("#101011", 0.4), (-0.2, 0.512, 0.8 + 0.09 * k), bevel=0.01)
    brass = m.metal("#c8a765", 0.28, (8, 8, 60))
    for x in (-0.55, -0.25, 0.05):
        s.disc(0.095, 0.11, brass, (x + 0.2, 0, 1.47), edge=0.02)
        s.box((0.012, 0.07, 0.01), m.plastic("#222222"), (x + 0.2, -0.045, 1.583), bevel=0)
    s.box((0.42, 0.02, 0.08), brass, (0.82, -0.535, 0.38), bevel=0.01)
    for x in (-0.95, 0.95):
        for y in (-0.33, 0.33):
            s.disc(0.09, 0.1, m.plastic("#1c1c1d", 0.7), (x, y, 0))
    hide = m.leather("#8b5a33", "#6d4325")
    s.sweep([(-1.12, 0, 1.46), (-1.0, 0, 1.62), (-0.4, 0, 1.86), (0.4, 0, 1.86), (1.0, 0, 1.62), (1.12, 0, 1.46)],
            s.strap(0.04, 0.2), hide, up=(0, 1, 0))  # fmt: skip
    for x in (-1.12, 1.12):
        s.disc(0.06, 0.03, brass, (x * 0.975, 0, 1.5), (0, 0, 0))


BUILDERS = {"lamp": lamp, "chair": chair, "clock": clock, "cushion": cushion, "speaker": speaker}
