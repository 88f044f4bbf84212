"""Packs of card, glass, tin and plastic with print on them, for the fast renderer; a function builds one."""

from __future__ import annotations

import math

import numpy as np

from sample import materials as m
from sample import prints
from sample import shapes as s
from sample.make import Make
from sample.shelf_table import glaze

ROUND = 2 * math.pi


def around(make: Make, radius: float, height: float, middle: float, *, inset: float = 0.0, share: float = 1.0) -> None:
    """A label round a cylinder: the front of a pack, and small print behind."""
    rng = make.rng(77)
    tall = 300
    wide = max(80, round(tall * math.pi * radius / height))
    paper = make.second if rng.random() < 0.5 else make.main
    tones = (paper, make.accent, make.dark)
    front = prints.label(rng, make.brand, make.words, tones, (wide, tall))
    back = prints.small_print(rng, make.brand, tones, (wide, tall))
    picture = np.hstack([back[:, wide // 2 :], front, back[:, : wide // 2]])
    r = radius + 0.004 + inset
    part = s.lathe([(r - 0.004, middle - height / 2), (r, middle - height / 2), (r, middle + height / 2),
             (r - 0.004, middle + height / 2)],
            m.printed(picture, (ROUND, height), onto="round", rough=0.45), (0, 0, 0), sharp=40)  # fmt: skip
    part.vertices[:, 2] -= middle  # the print's middle lies at the part's own origin
    part.location = (0, 0, middle)


def boxed(make: Make, size: tuple[float, float, float], front: prints.Picture | None = None) -> None:
    """A box printed in front, behind and at the sides, standing at the origin."""
    w, d, high = size
    rng = make.rng(5)
    tall = 420
    tones = (make.main, make.second, make.accent, make.dark)
    wide = round(tall * w / high)
    front = front if front is not None else prints.label(rng, make.brand, make.words, tones, (wide, tall))
    back = prints.small_print(rng, make.brand, tones, (wide, tall))
    side = prints.small_print(rng, make.words, tones, (max(40, round(tall * d / high)), tall))
    s.box((w, d, high), m.plastic(make.main, 0.5), (0, 0, high / 2), bevel=0.012)
    panels((w * 0.985, d, high * 0.985), m.printed(front, (w, high), back=back, rough=0.45), high / 2)
    panels((d * 0.97, w, high * 0.985), m.printed(side, (d, high), rough=0.45), high / 2, 90)


def panels(size: tuple[float, float, float], surface: m.Surface, middle: float = 0.0, spin: float = 0.0) -> None:
    """Thin printed sheets before and behind a box of `size`, or at its sides with a `spin` of 90."""
    w, d, high = size
    middle = middle or high / 2
    a = math.radians(spin)
    for y in (-d / 2 - 0.003, d / 2 + 0.003):
        s.box((w, 0.006, high), surface, (-y * math.sin(a), y * math.cos(a), middle), (0, 0, spin), bevel=0)


def bottle(make: Make) -> None:
    """Bottle with a label; variant 1 has a pump, 2 a dropper, else a screw cap."""
    rng = make.rng()
    r, high = rng.uniform(0.42, 0.62), rng.uniform(1.5, 2.1)
    body = m.glass(make.main) if rng.random() < 0.25 else m.plastic(make.main, float(rng.choice([0.12, 0.3, 0.55])))
    neck = rng.uniform(0.16, 0.24)
    s.lathe(
        [
            (0, 0),
            (r, 0, 0.06),
            (r, high * 0.78, 0.06),
            (r, high * 0.8, 0.2),
            (neck, high, 0.08),
            (neck, high + 0.16),
            (0, high + 0.16),
        ],
        body,
    )
    if body.kind == "glass":
        s.lathe(
            [(0, 0.05), (r * 0.94, 0.05, 0.06), (r * 0.94, high * 0.6), (0, high * 0.6)], m.plastic(make.second, 0.2)
        )
    around(make, r, high * 0.5, high * 0.4)
    cap = m.plastic(make.dark, 0.3) if rng.random() < 0.6 else m.metal("#c9ccd0", 0.25)
    top = high + 0.12
    if make.variant == 1:
        s.disc(neck + 0.05, 0.2, cap, (0, 0, top))
        s.disc(0.05, 0.3, cap, (0, 0, top + 0.15))
        s.sweep(
            [(0, 0.08, top + 0.45), (0, -0.2, top + 0.47), (0, -0.48, top + 0.4)],
            s.strap(0.16, 0.1),
            cap,
            up=(0, 0.01, 1),
        )
    elif make.variant == 2:
        s.disc(neck + 0.05, 0.28, cap, (0, 0, top), edge=0.03)
        s.lathe(
            [(0, top + 0.25), (0.12, top + 0.25), (0.14, top + 0.5, 0.1), (0.1, top + 0.7, 0.08), (0, top + 0.72)],
            m.plastic("#2a2a2a", 0.6),
        )
    else:
        s.disc(neck + 0.06, rng.uniform(0.22, 0.5), cap, (0, 0, top), edge=0.03)


def can(make: Make) -> None:
    """Drinks can, printed all round; variant 1 is slim, 2 short."""
    r, high = ((0.6, 2.1), (0.5, 2.5), (0.66, 1.3))[make.variant]
    tin = m.metal("#d3d5d8", 0.22)
    s.lathe(
        [
            (0, 0.04),
            (r * 0.8, 0.0, 0.03),
            (r, 0.14, 0.05),
            (r, high - 0.16, 0.05),
            (r * 0.84, high, 0.02),
            (r * 0.8, high, 0.01),
            (r * 0.78, high - 0.06),
            (0, high - 0.06),
        ],
        tin,
    )
    around(make, r, high - 0.34, high / 2)
    s.prism(s.rounded(0.2, 0.34, 0.09), 0.02, tin, (0, -0.1, high - 0.03), bevel=0.005)


def jar(make: Make) -> None:
    """Jar of glass with a lid and something in it; variant 1 is low and wide, 2 has a cork."""
    rng = make.rng()
    r, high = ((0.62, 1.5), (0.85, 0.85), (0.55, 1.7))[make.variant]
    s.lathe(
        [
            (0, 0),
            (r, 0, 0.08),
            (r, high * 0.85, 0.1),
            (r * 0.82, high, 0.04),
            (r * 0.82, high + 0.1),
            (r * 0.76, high + 0.1),
            (r * 0.76, high),
            (r * 0.93, high * 0.82, 0.1),
            (r * 0.93, 0.07, 0.06),
            (0, 0.07),
        ],
        m.glass("#fbfdfc"),
    )
    fill = m.clay(make.main, make.dark) if rng.random() < 0.6 else m.plastic(make.main, 0.2)
    s.lathe([(0, 0.08), (r * 0.91, 0.08, 0.06), (r * 0.91, high * rng.uniform(0.6, 0.8)), (0, high * 0.8)], fill)
    around(make, r, high * 0.42, high * 0.42)
    lid = (
        m.wood("#cfa56b", "#b0854f", "x", grain=3)
        if make.variant == 2
        else m.metal("#c8a765", 0.3)
        if rng.random() < 0.5
        else m.plastic(make.dark, 0.35)
    )
    s.disc(r * (0.74 if make.variant == 2 else 0.88), 0.26, lid, (0, 0, high + 0.06), edge=0.03)


def perfume(make: Make) -> None:
    """Perfume in a bottle of glass; variant 1 is round, 2 tall."""
    rng = make.rng()
    w, d, high = ((1.2, 0.5, 1.3), (1.1, 1.1, 1.0), (0.7, 0.5, 2.0))[make.variant]
    clear, drink = m.glass("#f8fbfb"), m.glass(make.main, ior=1.33)
    if make.variant == 1:
        s.lathe([(0, 0), (0.55, 0, 0.08), (0.6, high, 0.15), (0.2, high + 0.06), (0, high + 0.06)], clear)
        s.lathe([(0, 0.1), (0.5, 0.1, 0.08), (0.53, high * 0.75), (0, high * 0.75)], drink)
    else:
        s.box((w, d, high), clear, (0, 0, high / 2), bevel=0.06)
        s.box((w * 0.84, d * 0.7, high * 0.72), drink, (0, 0, 0.1 + high * 0.36), bevel=0.03)
    gold = m.metal(str(rng.choice(["#c8a765", "#d3d5d8", "#2b2b2d"])), 0.2)
    s.disc(0.2, 0.12, gold, (0, 0, high))
    s.disc(
        0.24,
        rng.uniform(0.3, 0.6),
        gold if rng.random() < 0.5 else m.plastic(make.dark, 0.2, 0.5),
        (0, 0, high + 0.1),
        edge=0.03,
    )
    s.words(make.brand, 0.2 if w > 1 else 0.14, m.plastic(prints.ink(make.main), 0.5), (0, -d / 2 - 0.01, high * 0.5))


def carton(make: Make) -> None:
    """Pack of card, printed on all sides; variant 1 is flat, 2 tall."""
    rng = make.rng()
    w, d, high = ((1.4, 0.5, 1.9), (1.7, 0.8, 1.0), (0.85, 0.6, 2.1))[make.variant]
    boxed(make, (w * rng.uniform(0.9, 1.1), d * rng.uniform(0.8, 1.2), high * rng.uniform(0.9, 1.1)))


def book(make: Make) -> None:
    """Hardcover book that stands; variant 1 is a paperback, 2 a large one."""
    rng = make.rng()
    w, d, high = ((1.4, 0.32, 2.1), (1.25, 0.22, 1.95), (1.9, 0.3, 2.2))[make.variant]
    author = str(rng.choice(prints.AUTHOR))
    front = prints.cover(rng, make.words, author, make.colours, (round(420 * w / high), 420))
    back = prints.small_print(rng, make.words, (make.main, make.accent), (round(420 * w / high), 420))
    out = 0.05 if make.variant != 1 else 0.0
    s.box((w - out - 0.04, d - 0.06, high - 2 * out), m.card("#f3ead6", "#eadfc6"), (0.02, 0, high / 2), bevel=0.004)
    cover = m.plastic(make.main, 0.5)
    for y in (-1, 1):
        s.box((w, 0.04, high), cover, (0, y * (d / 2 - 0.02), high / 2), bevel=0.008)
    s.box((0.04, d, high), cover, (-w / 2 + 0.02, 0, high / 2), bevel=0.008)
    panels((w * 0.99, d, high * 0.99), m.printed(front, (w, high), back=back, rough=0.35))
    s.words(make.words[:22], 0.16, m.plastic(prints.ink(make.main), 0.5), (-w / 2 - 0.005, 0, high / 2), (90, 90, -90))


def tin(make: Make) -> None:
    """Round flat tin with a printed lid; variant 1 is open, 2 tall."""
    rng = make.rng()
    high = (0.5, 0.5, 1.3)[make.variant]
    metal = m.metal("#d3d5d8", 0.28)
    lid = prints.label(rng, make.brand, make.words, (make.main, make.accent, make.dark), (300, 300))
    top = m.printed(lid, (1.9, 1.9), onto="xy", rough=0.3)
    s.lathe([(0, 0), (0.92, 0, 0.05), (0.92, high, 0.02), (0.88, high), (0.88, 0.06), (0, 0.06)], metal)
    z = high - 0.12
    place = (0.0, 0.0, z)
    if make.variant == 1:
        s.lathe([(0, 0.1), (0.87, 0.1), (0.87, high * 0.7), (0, high * 0.72)], m.clay(make.second, make.dark))
        place = (0.9, 0.9, 0.02)
        s.lathe([(0, 0.0), (0.95, 0.0, 0.02), (0.95, 0.2, 0.04), (0, 0.21)], top, (1.35, 0.55, 0.0), (0, 0, 0))
    else:
        s.lathe([(0.9, 0), (0.95, 0, 0.02), (0.95, 0.2, 0.04), (0, 0.21)], top, place)
    if make.variant == 2:
        around(make, 0.92, high * 0.6, high * 0.45)


def tube(make: Make) -> None:
    """Tube of cream that stands on its cap; variant 1 lies wide, 2 is slim."""
    rng = make.rng()
    w, high = ((0.62, 2.1), (0.8, 1.7), (0.42, 2.0))[make.variant]
    tall = 420
    size = (max(60, round(tall * 1.9 * w / high)), tall)
    tones = (make.main, make.second, make.accent)
    front = prints.label(rng, make.brand, make.words, tones, size)
    back = prints.small_print(rng, make.brand, tones, size)
    levels = np.linspace(0, 1, 14)
    ring = np.arange(28) * ROUND / 28
    vertices, faces = [], []
    for t in levels:
        flat = t**1.4
        x = w * (1 + 0.25 * flat)
        y = w * 0.85 * (1 - flat) + 0.02 * flat
        vertices.append(np.c_[x * np.cos(ring), y * np.sin(ring), np.full(28, (t - 0.5) * high)])
    n = 28
    faces = [
        [i * n + j, i * n + (j + 1) % n, (i + 1) * n + (j + 1) % n, (i + 1) * n + j]
        for i in range(13)
        for j in range(n)
    ]
    s.mesh(
        "tube",
        np.vstack(vertices),
        [*faces, list(range(13 * n, 14 * n))],
        m.printed(front, (2.4 * w, high), back=back, rough=0.3),
        (0, 0, 0.35 + high / 2),
        (0, 0, 0),
        sharp=60,
    )
    s.disc(w * 0.98, 0.36, m.plastic(make.dark if rng.random() < 0.5 else "#f4f2ee", 0.3), edge=0.04)


def candle(make: Make) -> None:
    """Scented candle in a pot; variant 1 has a wooden lid beside it, 2 three wicks."""
    rng = make.rng()
    r, high = rng.uniform(0.6, 0.8), rng.uniform(0.9, 1.3)
    pot = glaze(make) if rng.random() < 0.6 else m.metal(make.main, 0.35)
    s.lathe(
        [(0, 0), (r, 0, 0.06), (r, high, 0.02), (r - 0.06, high, 0.02), (r - 0.06, high - 0.18), (0, high - 0.18)], pot
    )
    s.lathe(
        [(0, high - 0.19), (r - 0.07, high - 0.17), (r - 0.07, high - 0.15), (0, high - 0.14)],
        m.plastic("#f1e9d6", 0.5),
    )
    for x, y in ((0.0, 0.0),) if make.variant != 2 else ((0.25, 0.1), (-0.22, 0.16), (0.0, -0.26)):
        s.disc(0.015, 0.16, m.plastic("#3a2f26", 0.8), (x, y, high - 0.15), edge=0.004)
    around(make, r, high * 0.45, high * 0.48)
    if make.variant == 1:
        s.disc(r * 0.96, 0.12, m.wood("#cfa56b", "#b0854f", "x", grain=2), (r + 0.72, -0.25, 0), edge=0.02)
