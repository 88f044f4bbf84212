"""Things to wear, carry and play with. Each function builds one product into the scene, in its `Look`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from sample import materials as m
from sample import shapes as s
from sample.look import Look


def backpack(look: Look) -> None:
    """Roll of canvas with a leather base, front pocket, flap with two straps, shoulder straps."""
    canvas = m.cloth(look.main, look.main, 46)
    hide = m.leather(look.second, look.dark)
    brass = m.metal("#c2a063", 0.3)
    s.pillow((1.5, 0.84, 2.05), canvas, (0, 0, 1.06), round_side=0.28, round_top=0.22, dents=0.006)
    s.pillow((1.53, 0.87, 0.5), hide, (0, 0, 0.26), round_side=0.28, round_top=0.22)
    s.pillow((1.16, 0.42, 0.82), canvas, (0, -0.38, 0.78), round_side=0.25, round_top=0.2, dents=0.006)
    s.pillow((1.22, 0.46, 0.26), canvas, (0, -0.385, 1.13), round_side=0.25, round_top=0.3)
    s.pillow((1.54, 0.94, 0.30), canvas, (0, -0.03, 2.0), round_side=0.28, round_top=0.42)
    s.prism(s.rounded(1.46, 0.62, 0.18), 0.035, canvas, (0, -0.452, 1.82), (86, 0, 0), bevel=0.015)
    for x in (-0.38, 0.38):
        s.sweep(
            [
                (x, -0.30, 2.16),
                (x, -0.46, 2.06),
                (x, -0.49, 1.80),
                (x, -0.48, 1.50),
                (x, -0.60, 1.24),
                (x, -0.635, 1.02),
            ],
            s.strap(0.13, 0.03),
            hide,
            up=(0, -1, 0.2),
        )
        for dx, dz in ((0, 0.065), (0, -0.065)):
            s.box((0.19, 0.03, 0.022), brass, (x + dx, -0.62, 1.16 + dz), bevel=0.008)
        for side in (-1, 1):
            s.box((0.022, 0.03, 0.15), brass, (x + side * 0.085, -0.62, 1.16), bevel=0.008)
    s.box((0.34, 0.02, 0.16), hide, (0, -0.60, 0.80), bevel=0.01)
    s.sweep([(-0.20, 0.28, 2.10), (-0.19, 0.34, 2.30), (0, 0.36, 2.40), (0.19, 0.34, 2.30), (0.20, 0.28, 2.10)],
            s.strap(0.12, 0.05), hide, up=(0, 1, 0.01))  # fmt: skip
    for x in (-1, 1):
        s.sweep([(0.28 * x, 0.36, 2.02), (0.34 * x, 0.60, 1.85), (0.46 * x, 0.70, 1.35), (0.56 * x, 0.62, 0.75),
                 (0.60 * x, 0.40, 0.32)], s.strap(0.26, 0.07), canvas, up=(0, 1, 0.05))  # fmt: skip
        s.pillow((0.26, 0.46, 0.86), canvas, (0.76 * x, 0.0, 0.66), round_side=0.3, round_top=0.25)
    s.box((0.9, 0.05, 1.2), m.cloth(look.dark, look.dark, 60), (0, 0.40, 1.1), bevel=0.02)


def watch(look: Look) -> None:
    """Wrist watch that stands on its closed leather strap; the dial leans back."""
    steel = m.metal("#d3d6da", 0.16)
    z, lean = 1.32, (62, 0, 0)
    tilt = math.radians(62)

    def on(x: float, y: float, out: float) -> tuple[float, float, float]:
        """A point of the dial plane (x right, y up), `out` towards the viewer."""
        return x, -0.52 + y * math.cos(tilt) - out * math.sin(tilt), z + y * math.sin(tilt) + out * math.cos(tilt)

    s.lathe(
        [
            (0, -0.16),
            (0.66, -0.16, 0.06),
            (0.72, -0.04, 0.06),
            (0.72, 0.08, 0.04),
            (0.66, 0.15, 0.03),
            (0.60, 0.13, 0.02),
            (0.59, 0.06),
            (0, 0.06),
        ],
        steel,
        on(0, 0, 0),
        lean,
    )
    s.lathe(
        [(0, 0.062), (0.588, 0.062), (0.588, 0.066), (0, 0.066)], m.plastic(look.main, 0.35, 0.6), on(0, 0, 0), lean
    )
    ink = m.metal("#e9e6dd", 0.25) if look.main < "#888888" else m.plastic("#2b2b2d", 0.4)
    for k in range(60):
        a = math.radians(6 * k)
        size = (0.03, 0.10, 0.015) if k % 5 == 0 else (0.008, 0.03, 0.006)
        s.box(
            size, ink, on(0.52 * math.sin(a), 0.52 * math.cos(a), 0.075), (62, 0, 0), bevel=0
        ).rotation_euler = _turned(62, -6 * k)
    for turn, length, width, out in ((305, 0.34, 0.045, 0.085), (54, 0.48, 0.032, 0.095)):
        a = math.radians(turn)
        hand = s.box(
            (width, length, 0.012), ink, on(0.42 * length * math.sin(a), 0.42 * length * math.cos(a), out), bevel=0.004
        )
        hand.rotation_euler = _turned(62, -turn)
    a = math.radians(200)
    second = s.box(
        (0.012, 0.62, 0.008), m.plastic("#c8402f", 0.3), on(0.16 * math.sin(a), 0.16 * math.cos(a), 0.105), bevel=0
    )
    second.rotation_euler = _turned(62, -200)
    s.disc(0.035, 0.05, steel, on(0, 0, 0.075), lean)
    s.disc(0.10, 0.14, m.metal("#d3d6da", 0.2, (40, 40, 1)), on(0.70, 0, 0.0), (0, 90, 0), edge=0.02)
    hide = m.leather(look.second, look.dark)
    # The closed strap: an egg-shaped loop behind the case, from lug to lug.
    top, low = on(0, 0.62, -0.06), on(0, -0.62, -0.06)
    back = [(0, 0.12, 1.98), (0, 0.62, 1.78), (0, 0.92, 1.15), (0, 0.72, 0.42), (0, 0.1, 0.06), (0, -0.45, 0.14)]
    loop: list[Sequence[float]] = [top, *back, (0, -0.78, 0.46), low]
    _band(loop, hide)
    for y in (0.60, -0.60):
        for x in (-0.36, 0.36):
            s.box((0.10, 0.20, 0.13), steel, on(x, y, -0.03), bevel=0.03).rotation_euler = _turned(62, 0)
    buckle = [(-0.37, 0.93, 0.98), (0.37, 0.93, 0.98), (0.37, 0.99, 1.28), (-0.37, 0.99, 1.28)]
    s.sweep(buckle, 0.035, steel, closed=True, soft=False)
    for z_keeper in (0.74, 1.5):
        y = 0.86 if z_keeper < 1 else 0.78
        s.box((0.68, 0.15, 0.13), hide, (0, y, z_keeper), (18 if z_keeper < 1 else -24, 0, 0), bevel=0.03)


def _turned(lean: float, spin: float) -> tuple[float, float, float]:
    """Euler angles of a part that lies in a plane leaning by `lean`, spun by `spin` within that plane (degrees)."""
    a, b = math.radians(lean), math.radians(spin)
    # Rx(a) Rz(b) written as Rz Ry Rx, the order of `rotation_euler`.
    y = -math.asin(math.sin(a) * math.sin(b))
    return math.atan2(math.sin(a) * math.cos(b), math.cos(a)), y, math.atan2(math.cos(a) * math.sin(b), math.cos(b))


def _band(path: Sequence[Sequence[float]], material: m.Surface) -> None:
    """A strap along a path in the plane x = 0: its width stays along x."""
    curve = s.spline(path, 14)
    outline = s.strap(0.62, 0.085)
    tangents = np.gradient(curve, axis=0)
    tangents /= np.linalg.norm(tangents, axis=1, keepdims=True)
    vertices: list[s.Floats] = []
    for point, tangent in zip(curve, tangents, strict=True):
        out = np.cross(tangent, (1.0, 0.0, 0.0))
        vertices.extend(point + np.array((u, 0, 0)) + v * out for u, v in outline)
    k = len(outline)
    faces = [[i * k + j, i * k + (j + 1) % k, (i + 1) * k + (j + 1) % k, (i + 1) * k + j]
             for i in range(len(curve) - 1) for j in range(k)]  # fmt: skip
    s.mesh("band", np.array(vertices), [face[::-1] for face in faces], material, (0, 0, 0), (0, 0, 0), sharp=50)


def headphones(look: Look) -> None:
    """Over-ear headphones that stand on their cups."""
    shell, soft = m.plastic(look.main, 0.4, 0.15), m.leather(look.second, look.dark, 0.55)
    steel = m.metal("#cfd2d6", 0.22)
    arc = [(1.0 * math.cos(a), 0, 1.05 + 1.05 * math.sin(a)) for a in np.linspace(-0.05, math.pi + 0.05, 15)]
    s.sweep(arc, s.strap(0.05, 0.12), steel, up=(0, 1, 0))
    pad = [(0.985 * math.cos(a), 0, 1.05 + 1.035 * math.sin(a)) for a in np.linspace(0.55, math.pi - 0.55, 13)]
    s.sweep(pad, [(0.09 * math.cos(a), 0.19 * math.sin(a)) for a in np.arange(24) * math.pi / 12], soft, up=(0, 1, 0),
            taper=[0.6, 1, 1, 1, 1, 1, 0.6])  # fmt: skip
    for x in (-1, 1):
        cup = (0, 90 * x, 0)
        s.lathe(
            [
                (0, 0.0),
                (0.52, 0.0, 0.05),
                (0.56, 0.10, 0.08),
                (0.44, 0.26, 0.1),
                (0.36, 0.28, 0.02),
                (0.34, 0.26, 0.02),
                (0, 0.27),
            ],
            shell,
            (0.86 * x, 0, 0.66),
            cup,
        ).scale = (1.12, 0.92, 1)
        s.lathe([(0, 0.262), (0.335, 0.262), (0.33, 0.275, 0.01), (0, 0.28)], steel, (0.86 * x, 0, 0.66), cup).scale = (
            1.12,
            0.92,
            1,
        )
        ring = [(0, 0.40 * math.cos(a), 0.49 * math.sin(a)) for a in np.arange(24) * math.pi / 12]
        s.sweep(ring, 0.145, soft, (0.76 * x, 0, 0.66), closed=True, steps=4)
        s.lathe([(0, 0), (0.34, 0), (0.34, 0.02), (0, 0.02)], m.cloth("#1d1d1f", thread=80), (0.80 * x, 0, 0.66), cup)
        s.sweep(
            [(1.0 * x, 0, 1.36), (1.045 * x, 0, 1.16), (1.05 * x, 0, 0.98)], s.strap(0.17, 0.07), shell, up=(0, 1, 0)
        )
        s.sweep(
            [
                (1.05 * x, -0.5, 0.66),
                (1.06 * x, -0.36, 0.98),
                (1.06 * x, 0, 1.10),
                (1.06 * x, 0.36, 0.98),
                (1.05 * x, 0.5, 0.66),
            ],
            s.strap(0.05, 0.07),
            steel,
            up=(1, 0, 0),
        )


def car(look: Look) -> None:
    """Wooden toy car: painted body, natural wood cabin and wheels."""
    paint = m.plastic(look.main, 0.38, 0.25)
    beech = m.wood("#e6c79a", "#cda571", "x", grain=1.3)
    side = s.fillet(
        [
            (-1.45, 0.28),
            (1.45, 0.28, 0.12),
            (1.48, 0.66, 0.22),
            (0.62, 0.86, 0.15),
            (-1.40, 0.86, 0.22),
            (-1.45, 0.28, 0.12),
            (-1.2, 0.28),
        ],
        8,
    )[:-1]
    s.prism(side[1:], 1.0, paint, turn=(90, 0, 0), bevel=0.06, segments=5)
    cabin = s.fillet(
        [(-0.9, 0.80), (0.62, 0.80, 0.05), (0.28, 1.38, 0.20), (-0.80, 1.38, 0.24), (-1.05, 0.80, 0.05), (-0.6, 0.80)],
        8,
    )[:-1]
    s.prism(cabin[1:], 0.86, beech, turn=(90, 0, 0), bevel=0.05, segments=5)
    glass = m.plastic("#34424d", 0.12, 0.5)
    for y in (-0.432, 0.432):
        s.prism(
            s.fillet(
                [
                    (-0.2, 0.92),
                    (0.36, 0.92, 0.04),
                    (0.14, 1.26, 0.06),
                    (-0.2, 1.26, 0.04),
                    (-0.2, 0.92, 0.04),
                    (0, 0.92),
                ],
                5,
            )[1:-1],
            0.02,
            glass,
            (0, y, 0),
            (90, 0, 0),
            bevel=0.004,
        )
        s.prism(
            s.fillet(
                [
                    (-0.86, 0.92),
                    (-0.30, 0.92, 0.04),
                    (-0.30, 1.26, 0.04),
                    (-0.72, 1.26, 0.08),
                    (-0.86, 0.92, 0.06),
                    (-0.6, 0.92),
                ],
                5,
            )[1:-1],
            0.02,
            glass,
            (0, y, 0),
            (90, 0, 0),
            bevel=0.004,
        )
    tyre, hub = m.plastic("#2c2b2a", 0.65), m.wood("#e6c79a", "#c59a64", "x", grain=2.5)
    for x in (-0.85, 0.85):
        for y in (-1, 1):
            at = (x, 0.50 * y - 0.0, 0.36)
            s.lathe(
                [
                    (0, 0),
                    (0.30, 0),
                    (0.36, 0.03, 0.03),
                    (0.36, 0.19, 0.05),
                    (0.29, 0.22, 0.03),
                    (0.25, 0.20),
                    (0, 0.20),
                ],
                tyre,
                at,
                (-90 * y, 0, 0),
            )
            s.lathe(
                [(0, 0.19), (0.24, 0.19), (0.235, 0.23, 0.02), (0.06, 0.25, 0.03), (0, 0.25)], hub, at, (-90 * y, 0, 0)
            )
            s.ball(0.05, m.plastic(look.second, 0.4), (x, (0.50 + 0.25) * y, 0.36))
    for y in (-0.32, 0.32):
        s.disc(0.11, 0.05, m.plastic("#f6e7b2", 0.2, 0.6), (1.45, y, 0.58), (0, 90, 0))
        s.disc(0.075, 0.04, m.plastic("#b5312b", 0.2, 0.6), (-1.42, y, 0.62), (0, -90, 0))
    s.box((0.06, 0.98, 0.12), m.plastic("#e9e4d8", 0.4), (1.49, 0, 0.36), bevel=0.025)
    s.box((0.06, 0.98, 0.12), m.plastic("#e9e4d8", 0.4), (-1.46, 0, 0.36), bevel=0.025)


def notebook(look: Look) -> None:
    """Hardcover notebook: cover, cream pages, elastic band, pen in its loop."""
    cover, page = m.leather(look.main, look.dark, 0.5), m.card("#f3ead6", "#eadfc6")
    band, ribbon = m.cloth(look.second, thread=90), m.plastic(look.second, 0.5)
    root = [
        s.prism(s.rounded(1.48, 2.1, 0.10), 0.035, cover, (0, -0.125, 0), (90, 0, 0), bevel=0.012),
        s.prism(s.rounded(1.48, 2.1, 0.10), 0.035, cover, (0, 0.125, 0), (90, 0, 0), bevel=0.012),
        s.box((1.42, 0.22, 2.02), page, (0.01, 0, 0), bevel=0.015),
        s.sweep([(-0.735, -0.1, -1.03), (-0.755, 0, -1.03), (-0.735, 0.1, -1.03)], 0.001, cover),
        s.box((0.035, 0.27, 2.08), cover, (-0.735, 0, 0), bevel=0.015),
        s.box((0.075, 0.31, 2.14), band, (0.52, 0, 0), bevel=0.012),
        s.disc(0.055, 1.75, ribbon, (0.80, 0, -0.85), edge=0.03),
        s.disc(0.058, 0.3, m.metal("#c9a765", 0.3), (0.80, 0, 0.9), edge=0.03),
        s.sweep(
            [(0.72, 0.06, 0.2), (0.8, 0.075, 0.2), (0.87, 0, 0.2), (0.8, -0.075, 0.2), (0.72, -0.06, 0.2)],
            s.strap(0.03, 0.3),
            band,
            up=(0, 0, 1),
        ),
    ]
    for part in root:
        x, y, z = part.location
        part.location = (x, y, z + 1.075)
    words = s.words("notes", 0.20, m.metal("#c9a765", 0.3), (-0.16, -0.148, 1.445), depth=0.003)
    words.name = "print"


BUILDERS = {"backpack": backpack, "watch": watch, "headphones": headphones, "car": car, "notebook": notebook}
