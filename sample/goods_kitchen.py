"""Products of the kitchen and table. Each function builds one into the scene, in the colour of its `Look`."""

from __future__ import annotations

import math

import numpy as np

from sample import materials as m
from sample import shapes as s
from sample.look import Look


def mug(look: Look) -> None:
    """Stoneware mug with a bare foot."""
    glaze = m.ceramic(look.main, speck=look.dark)
    s.lathe([(0, 0.06), (0.70, 0.06), (0.74, 0.10, 0.05), (0.78, 1.0), (0.79, 1.68, 0.03), (0.755, 1.72, 0.03),
             (0.72, 1.66, 0.03), (0.70, 0.3, 0.2), (0, 0.2)], glaze)  # fmt: skip
    s.lathe([(0, 0), (0.62, 0, 0.03), (0.70, 0.075, 0.02), (0, 0.075)], m.clay("#cdb79a", "#b89f80"))
    path = [(0.70, 0, 1.42), (1.02, 0, 1.50), (1.27, 0, 1.25), (1.26, 0, 0.86), (1.02, 0, 0.56), (0.72, 0, 0.50)]
    s.sweep(path, [(0.085 * math.cos(a), 0.15 * math.sin(a)) for a in np.arange(24) * math.pi / 12], glaze,
            up=(0, 1, 0), taper=[1.25, 0.95, 0.9, 0.95, 1.2])  # fmt: skip


def kettle(look: Look) -> None:
    """Gooseneck kettle for pour-over coffee."""
    steel = m.metal(look.main, 0.26, (0.6, 0.6, 14))
    black = m.plastic("#1b1b1c", 0.42)
    s.lathe([(0, 0), (1.0, 0, 0.06), (0.93, 0.42, 0.2), (0.70, 1.26, 0.12), (0.60, 1.33, 0.03), (0.0, 1.33)], steel)
    s.lathe([(0, 1.30), (0.57, 1.31, 0.02), (0.55, 1.40, 0.04), (0.12, 1.47, 0.05), (0, 1.47)], steel)
    s.lathe([(0, 1.46), (0.06, 1.46), (0.07, 1.56, 0.04), (0.16, 1.60, 0.03), (0.15, 1.70, 0.04), (0, 1.71)], black)
    spout = [(-0.80, 0, 0.28), (-1.10, 0, 0.36), (-1.27, 0, 0.66), (-1.26, 0, 1.02), (-1.36, 0, 1.30), (-1.62, 0, 1.42),
             (-1.76, 0, 1.36)]  # fmt: skip
    s.sweep(spout, 0.095, m.metal(look.main, 0.24), taper=[1.7, 1.25, 1.0, 0.9, 0.85, 0.8, 0.75])
    arm = [(0.62, 0, 1.24), (0.84, 0, 1.42), (1.18, 0, 1.50), (1.40, 0, 1.36)]
    s.sweep(arm, s.strap(0.05, 0.18), steel, up=(0, 1, 0))
    grip = [(1.20, 0, 1.50), (1.42, 0, 1.34), (1.50, 0, 1.0), (1.46, 0, 0.62), (1.40, 0, 0.45)]
    s.sweep(grip, 0.115, m.wood(look.second, look.dark, "z", grain=2), taper=[0.75, 1.05, 1.0, 1.05, 0.8])


def bottle(look: Look) -> None:
    """Insulated bottle: powder coat, steel ring, bamboo lid with a loop."""
    coat = m.plastic(look.main, 0.5)
    s.lathe([(0, 0), (0.5, 0, 0.05), (0.52, 1.75, 0.35), (0.30, 2.12, 0.12), (0.30, 2.2), (0, 2.2)], coat)
    s.lathe([(0.28, 2.19), (0.325, 2.19, 0.01), (0.325, 2.27, 0.01), (0.28, 2.27)], m.metal("#c9ccd0", 0.25))
    s.disc(0.335, 0.3, m.wood(look.second, "#b08850", "z", grain=2.5), (0, 0, 2.27), edge=0.05)
    s.sweep([(-0.22, 0, 2.5), (-0.24, 0, 2.72), (0, 0, 2.86), (0.24, 0, 2.72), (0.22, 0, 2.5)],
            s.strap(0.05, 0.17), m.plastic("#2a2a2a", 0.6), up=(0, 1, 0))  # fmt: skip
    s.lathe([(0.51, 0.09), (0.522, 0.09), (0.522, 0.13), (0.51, 0.13)], m.metal("#c9ccd0", 0.3))
    words = s.words("NORDSEE", 0.17, m.plastic("#f2f0ea", 0.5), (0, -0.516, 1.0), (90, -90, 0), depth=0.006)
    words.name = "print"


def teapot(look: Look) -> None:
    """Glass teapot with tea in it."""
    clear = m.glass("#f6fbfa")
    s.lathe([(0, 0), (0.55, 0, 0.1), (0.98, 0.5, 0.45), (0.86, 1.12, 0.3), (0.50, 1.34, 0.08), (0.50, 1.44, 0.02),
             (0.465, 1.44, 0.02), (0.465, 1.35, 0.08), (0.82, 1.10, 0.3), (0.94, 0.52, 0.45), (0.53, 0.05, 0.1),
             (0, 0.05)], clear)  # fmt: skip
    s.lathe([(0, 0.06), (0.525, 0.06, 0.1), (0.93, 0.52, 0.44), (0.90, 0.80, 0.02), (0, 0.80)],
            m.glass(look.main, ior=1.33))  # fmt: skip
    lid = m.wood(look.second, "#9a6f3f", "x", grain=2)
    s.lathe([(0, 1.40), (0.45, 1.40), (0.45, 1.445), (0.55, 1.45, 0.02), (0.55, 1.53, 0.04), (0, 1.54)], lid)
    s.lathe([(0, 1.53), (0.08, 1.53), (0.07, 1.60, 0.03), (0.14, 1.68, 0.05), (0.10, 1.77, 0.05), (0, 1.78)], lid)
    s.sweep([(-0.70, 0, 0.60), (-1.06, 0, 0.68), (-1.27, 0, 0.96), (-1.46, 0, 1.24), (-1.58, 0, 1.30)], 0.13, clear,
            taper=[1.1, 1.05, 0.85, 0.75, 0.75])  # fmt: skip
    s.sweep([(0.66, 0, 1.12), (1.02, 0, 1.26), (1.32, 0, 1.10), (1.34, 0, 0.78), (1.14, 0, 0.50), (0.78, 0, 0.46)],
            0.075, clear, taper=[1.3, 1, 1, 1, 1, 1.3])  # fmt: skip


def pan(look: Look) -> None:
    """Frying pan with a wooden handle."""
    iron = m.metal(look.main, 0.55)
    s.lathe([(0, 0), (0.92, 0, 0.08), (1.22, 0.34, 0.03), (1.26, 0.36, 0.02), (1.26, 0.39, 0.02), (1.18, 0.37, 0.03),
             (0.90, 0.06, 0.1), (0, 0.05)], iron)  # fmt: skip
    s.lathe([(0, 0.048), (0.86, 0.052), (0.86, 0.056), (0, 0.052)], m.metal(look.dark, 0.4, (6, 6, 6)))
    steel = m.metal("#b9bcc0", 0.3)
    s.sweep([(1.18, 0, 0.30), (1.40, 0, 0.37), (1.62, 0, 0.44)], s.strap(0.22, 0.06), steel, up=(0, 0.01, 1))
    s.sweep(
        [(1.54, 0, 0.415), (1.9, 0, 0.52), (2.4, 0, 0.60), (2.86, 0, 0.60)],
        [(0.13 * math.cos(a), 0.095 * math.sin(a)) for a in np.arange(24) * math.pi / 12],
        m.wood(look.second, "#6b4326", "x", grain=1.5),
        up=(0, 0.01, 1),
        taper=[0.8, 1, 1.1, 1.05, 0.8],
    )
    for y in (-0.07, 0.07):
        s.ball(0.035, steel, (1.12, y, 0.315), squash=0.6)
    s.lathe([(0.05, 0), (0.075, 0, 0.01), (0.075, 0.02, 0.01), (0.05, 0.02)], steel, (2.76, 0, 0.69))


def vase(look: Look) -> None:
    """Fluted earthenware vase."""
    body = m.clay(look.main, look.dark)
    s.lathe([(0, 0), (0.42, 0.0), (0.50, 0.04), (0.78, 0.55), (0.86, 1.0), (0.72, 1.45), (0.44, 1.78), (0.33, 2.0),
             (0.36, 2.2), (0.45, 2.32)], body, soft=True, ribs=26, depth=0.018, steps=208, sharp=80)  # fmt: skip
    s.lathe([(0.452, 2.30), (0.455, 2.34, 0.02), (0.40, 2.345, 0.02), (0.31, 2.18), (0.29, 2.0), (0.5, 1.6), (0, 0.3)],
            body)  # fmt: skip


def plant(look: Look) -> None:
    """Snake plant in a pot on a saucer."""
    pot = m.ceramic(look.main, rough=0.5)
    s.lathe([(0, 0.06), (0.42, 0.06, 0.05), (0.60, 0.90, 0.02), (0.62, 0.92, 0.02), (0.56, 0.93, 0.02), (0.52, 0.80),
             (0, 0.80)], pot, ribs=0)  # fmt: skip
    s.lathe([(0, 0), (0.5, 0, 0.03), (0.58, 0.09, 0.02), (0.54, 0.09, 0.02), (0.46, 0.05), (0, 0.05)], pot)
    s.lathe([(0, 0.78), (0.53, 0.80), (0.53, 0.82), (0.3, 0.86, 0.1), (0, 0.84)], m.clay("#4a3527", "#2b1d14"))
    rng = np.random.default_rng(look.seed)
    for k in range(15):
        far = 0.05 + 0.022 * k
        angle = math.radians(137.5 * k)
        green = m.leaf(look.second, "#6f9a5b" if k % 3 else "#8aa95f")
        s.blade(rng.uniform(0.95, 1.7) * (1.12 - 0.02 * k), rng.uniform(0.22, 0.3), rng.uniform(0.05, 0.22), green,
              (far * math.cos(angle + 1.57), far * math.sin(angle + 1.57), 0.8), math.degrees(angle))  # fmt: skip


BUILDERS = {"mug": mug, "kettle": kettle, "bottle": bottle, "teapot": teapot, "pan": pan, "vase": vase, "plant": plant}
