"""Meshes: lathe, sweep, prism, box, pillow, ball and words, all with z up and the product's front towards -y.

Lengths are in scene units; a product is about two units tall, so that the textures of `materials.py` fit every one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from sample import stage
from sample.materials import Surface
from sample.stage import Floats, Point


def mesh(
    name: str,
    vertices: Floats,
    faces: Sequence[Sequence[int]],
    material: Surface,
    at: Point,
    turn: Point,
    *,
    sharp: float = 35.0,
    bevel: float = 0.0,
    segments: int = 3,
) -> Any:
    """Put a mesh into the scene. `turn` is in degrees; edges sharper than `sharp` degrees stay edges."""
    return stage.current().mesh(name, vertices, faces, material, at, turn, sharp=sharp, bevel=bevel, segments=segments)


def fillet(points: Sequence[Sequence[float]], steps: int = 6) -> list[tuple[float, float]]:
    """Round the corners of a polyline. A point is (x, y) or (x, y, radius)."""
    out: list[tuple[float, float]] = []
    for i, point in enumerate(points):
        here = np.array(point[:2], float)
        radius = point[2] if len(point) > 2 else 0.0
        if not radius or i in (0, len(points) - 1):
            out.append((float(here[0]), float(here[1])))
            continue
        before, after = np.array(points[i - 1][:2], float) - here, np.array(points[i + 1][:2], float) - here
        reach = min(radius, 0.49 * float(np.hypot(*before)), 0.49 * float(np.hypot(*after)))
        start, end = here + before / np.hypot(*before) * reach, here + after / np.hypot(*after) * reach
        for t in np.linspace(0, 1, steps):  # a quadratic Bezier is close enough to an arc
            corner = (1 - t) ** 2 * start + 2 * t * (1 - t) * here + t**2 * end
            out.append((float(corner[0]), float(corner[1])))
    return out


def spline(points: Sequence[Sequence[float]], steps: int = 8, *, closed: bool = False) -> Floats:
    """Catmull-Rom curve through `points` (n, d): (m, d), without the repeated first point when closed."""
    p = np.array(points, float)
    p = np.vstack([p[-1], p, p[0], p[1]]) if closed else np.vstack([2 * p[0] - p[1], p, 2 * p[-1] - p[-2]])
    out = []
    for a, b, c, d in zip(p, p[1:], p[2:], p[3:], strict=False):
        for t in np.arange(steps) / steps:
            out.append(
                0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
            )
    if not closed:
        out.append(p[-2])
    return np.array(out)


def lathe(
    profile: Sequence[Sequence[float]],
    material: Surface,
    at: Point = (0, 0, 0),
    turn: Point = (0, 0, 0),
    *,
    soft: bool = False,
    steps: int = 96,
    ribs: int = 0,
    depth: float = 0.0,
    twist: float = 0.0,
    sharp: float = 35.0,
) -> Any:
    """Turn a profile of (radius, z[, fillet]) round the z axis; `ribs` flutes of that relative `depth`."""
    curve = spline([point[:2] for point in profile]) if soft else np.array(fillet(profile))
    steps = steps if ribs else stage.current().fine(steps)
    angle = np.arange(steps) * 2 * math.pi / steps
    vertices: list[Sequence[float]] = []
    rows: list[list[int]] = []
    for r, z in curve:
        if r < 1e-6:
            rows.append([len(vertices)] * steps)
            vertices.append((0.0, 0.0, z))
            continue
        rows.append(list(range(len(vertices), len(vertices) + steps)))
        wave = r * (1 + depth * np.cos(ribs * angle + twist * z)) if ribs else np.full(steps, r)
        vertices.extend(zip(wave * np.cos(angle), wave * np.sin(angle), np.full(steps, z), strict=True))
    faces = []
    for low, high in pairwise(rows):
        for i in range(steps):
            j = (i + 1) % steps
            face = list(dict.fromkeys((low[i], low[j], high[j], high[i])))
            if len(face) > 2:
                faces.append(face)
    return mesh("lathe", np.array(vertices), faces, material, at, turn, sharp=sharp)


def disc(
    radius: float,
    height: float,
    material: Surface,
    at: Point = (0, 0, 0),
    turn: Point = (0, 0, 0),
    *,
    edge: float = 0.02,
    top: float | None = None,
) -> Any:
    """A round-edged cylinder (or cone, with another `top` radius) standing on z = 0 before it is turned."""
    upper = radius if top is None else top
    return lathe([(0, 0), (radius, 0, edge), (upper, height, edge), (0, height)], material, at, turn, steps=72)


def sweep(
    path: Sequence[Sequence[float]],
    section: float | Sequence[tuple[float, float]],
    material: Surface,
    at: Point = (0, 0, 0),
    turn: Point = (0, 0, 0),
    *,
    closed: bool = False,
    soft: bool = True,
    up: Point | None = None,
    taper: Sequence[float] | None = None,
    steps: int = 10,
) -> Any:
    """Draw a section (a radius, or (side, up) points) along a path. `up` keeps a strap from twisting."""
    curve = spline(path, steps, closed=closed) if soft else np.array(path, float)
    outline = (
        [(section * math.cos(a), section * math.sin(a)) for a in np.arange(20) * math.pi / 10]
        if isinstance(section, int | float)
        else list(section)
    )
    n, m = len(curve), len(outline)
    tangents = np.gradient(curve, axis=0)
    if closed:
        tangents = np.roll(curve, -1, 0) - np.roll(curve, 1, 0)
    tangents /= np.linalg.norm(tangents, axis=1, keepdims=True)
    normal = np.array(up if up is not None else (0.31, 0.57, 0.76), float)
    widths = np.interp(np.linspace(0, 1, n), np.linspace(0, 1, len(taper)), taper) if taper else np.ones(n)
    vertices: list[Floats] = []
    for point, tangent, width in zip(curve, tangents, widths, strict=True):
        base = np.array(up, float) if up is not None else normal  # else: carry the last frame along
        normal = base - tangent * (base @ tangent)
        normal /= np.linalg.norm(normal)
        side = np.cross(tangent, normal)
        vertices.extend(point + width * (u * side + v * normal) for u, v in outline)
    faces: list[list[int]] = []
    for i in range(n if closed else n - 1):
        k = (i + 1) % n
        faces.extend([i * m + j, i * m + (j + 1) % m, k * m + (j + 1) % m, k * m + j] for j in range(m))
    if not closed:
        faces += [list(range(m))[::-1], list(range((n - 1) * m, n * m))]
    return mesh("sweep", np.array(vertices), faces, material, at, turn, sharp=45)


def strap(width: float, thickness: float) -> list[tuple[float, float]]:
    """Section of a flat band with round edges, for `sweep`."""
    w, t = width / 2, thickness / 2
    ring = fillet([(0, t), (w, t, t), (w, -t, t), (-w, -t, t), (-w, t, t), (0, t)], 4)
    return ring[:-1]


def prism(
    outline: Sequence[Sequence[float]],
    depth: float,
    material: Surface,
    at: Point = (0, 0, 0),
    turn: Point = (0, 0, 0),
    *,
    bevel: float = 0.02,
    segments: int = 3,
) -> Any:
    """Push a flat (x, y) outline up by `depth`; the middle of the depth lies at z = 0 before it is turned."""
    n = len(outline)
    flat = np.array([point[:2] for point in outline], float)
    vertices = np.vstack([np.c_[flat, np.full(n, -depth / 2)], np.c_[flat, np.full(n, depth / 2)]])
    faces = [list(range(n))[::-1], list(range(n, 2 * n))]
    faces += [[i, (i + 1) % n, n + (i + 1) % n, n + i] for i in range(n)]
    return mesh("prism", vertices, faces, material, at, turn, bevel=bevel, segments=segments)


def rounded(width: float, height: float, radius: float, steps: int = 8) -> list[tuple[float, float]]:
    """Outline of a rectangle with round corners, centred."""
    w, h = width / 2, height / 2
    ring = [(0, -h), (w, -h, radius), (w, h, radius), (-w, h, radius), (-w, -h, radius), (0, -h)]
    return fillet(ring, steps)[:-1]


def box(
    size: Point,
    material: Surface,
    at: Point = (0, 0, 0),
    turn: Point = (0, 0, 0),
    *,
    bevel: float = 0.02,
    segments: int = 3,
) -> Any:
    """A box with its middle at `at`."""
    x, y, z = size
    return prism([(-x / 2, -y / 2), (x / 2, -y / 2), (x / 2, y / 2), (-x / 2, y / 2)], z, material, at, turn,
                 bevel=bevel, segments=segments)  # fmt: skip


def pillow(
    size: Point,
    material: Surface,
    at: Point = (0, 0, 0),
    turn: Point = (0, 0, 0),
    *,
    round_side: float = 0.3,
    round_top: float = 0.6,
    steps: int = 64,
    dents: float = 0.0,
) -> Any:
    """A superellipsoid: exponents near 0 make it a box, 1 an ellipsoid. `dents` pulls the surface in and out."""

    def power(value: Floats, exponent: float) -> Floats:
        return np.sign(value) * np.abs(value) ** exponent

    steps = stage.current().fine(steps)
    around, over = np.arange(2 * steps) * math.pi / steps, np.linspace(-math.pi / 2, math.pi / 2, steps + 1)
    vertices = []
    for v in over:
        ring = power(np.cos(v), round_top)
        x, y = ring * power(np.cos(around), round_side), ring * power(np.sin(around), round_side)
        z = np.full_like(x, power(np.sin(v), round_top))
        swell = 1 + dents * (np.sin(5 * around + 2 * v) * np.cos(4 * v) + 0.6 * np.sin(9 * around - 3 * v)) * np.cos(v)
        vertices.append(np.c_[x * swell, y * swell, z * swell] * np.array(size) / 2)
    m = 2 * steps
    faces = [[i * m + j, i * m + (j + 1) % m, (i + 1) * m + (j + 1) % m, (i + 1) * m + j]
             for i in range(steps) for j in range(m)]  # fmt: skip
    return mesh("pillow", np.vstack(vertices), faces, material, at, turn, sharp=80)


def blade(length: float, width: float, lean: float, material: Surface, at: Point, turn: float) -> None:
    """One long leaf that stands up and bends outwards by `lean`."""
    path = [(0, lean * t * t * length, length * t * (1 - 0.25 * lean * t)) for t in np.linspace(0, 1, 6)]
    section = [(-0.5 * width, 0.10 * width), (0, 0), (0.5 * width, 0.10 * width), (0, 0.05 * width)]
    sweep(path, section, material, at, (0, 0, turn), up=(0, -1, 0.01), taper=[0.55, 1.0, 0.95, 0.7, 0.04], steps=5)


def ball(radius: float, material: Surface, at: Point = (0, 0, 0), *, squash: float = 1.0) -> Any:
    """A sphere, flattened to `squash` of its height."""
    bow = [(radius * math.cos(a), radius * squash * math.sin(a)) for a in np.linspace(-math.pi / 2, math.pi / 2, 33)]
    bow[0], bow[-1] = (0, bow[0][1]), (0, bow[-1][1])
    return lathe(bow, material, at, steps=64)


def words(
    text: str,
    size: float,
    material: Surface,
    at: Point = (0, 0, 0),
    turn: Point = (90, 0, 0),
    *,
    depth: float = 0.004,
) -> Any:
    """Raised letters, centred; a turn of (90, 0, 0) makes them face the front."""
    return stage.current().words(text, size, material, at, turn, depth=depth)
