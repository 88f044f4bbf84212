"""The fast stage: meshes as triangles with smooth normals, in numpy, for `raster.py`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from sample.materials import Surface
from sample.stage import Floats, Point

Single = NDArray[np.floating[Any]]
"""float32 where it is stored; float64 may come in."""
Whole = NDArray[np.int32]


@dataclass
class Part:
    """One mesh as it was described; place and turn may still change."""

    vertices: Floats
    triangles: Whole
    surface: Surface
    location: Point
    rotation_euler: tuple[float, float, float]
    sharp: float
    scale: tuple[float, float, float] = (1.0, 1.0, 1.0)
    name: str = ""


@dataclass(frozen=True)
class Solid:
    """Triangles of one material each.

    Points are split where an edge is sharp, so that each has one normal.
    """

    points: Single
    """(n, 3) in the scene."""
    normals: Single
    """(n, 3) unit length, outwards."""
    local: Single
    """(n, 3) in the part's own coordinates, where its surface is drawn."""
    local_normals: Single
    """(n, 3) in the part's own coordinates."""
    triangles: Whole
    """(t, 3) into the points."""
    surface: Whole
    """(t,) into `surfaces`."""
    surfaces: tuple[Surface, ...]

    @property
    def low(self) -> Single:
        """Least x, y, z."""
        return np.asarray(self.points.min(0))

    @property
    def high(self) -> Single:
        """Greatest x, y, z."""
        return np.asarray(self.points.max(0))

    def moved(self, by: Sequence[float], scale: float = 1.0, spin: float = 0.0) -> Solid:
        """Scaled, spun round the z axis by `spin` degrees, then moved."""
        turn = rotation((0, 0, math.radians(spin))).astype(np.float32)
        return Solid(
            (self.points * np.float32(scale)) @ turn.T + np.asarray(by, np.float32),
            self.normals @ turn.T,
            self.local,
            self.local_normals,
            self.triangles,
            self.surface,
            self.surfaces,
        )


def together(solids: Sequence[Solid]) -> Solid:
    """All solids as one."""
    points = np.cumsum([0, *(len(solid.points) for solid in solids)])
    kinds = np.cumsum([0, *(len(solid.surfaces) for solid in solids)])
    return Solid(
        np.concatenate([solid.points for solid in solids]),
        np.concatenate([solid.normals for solid in solids]),
        np.concatenate([solid.local for solid in solids]),
        np.concatenate([solid.local_normals for solid in solids]),
        np.concatenate([solid.triangles + first for solid, first in zip(solids, points, strict=False)]).astype(
            np.int32
        ),
        np.concatenate([solid.surface + first for solid, first in zip(solids, kinds, strict=False)]).astype(np.int32),
        tuple(surface for solid in solids for surface in solid.surfaces),
    )


@dataclass
class Solids:
    """A `Stage` that collects parts and gives them out as one `Solid`."""

    coarse: float = 0.45
    """Steps round a curve, as a part of those asked for."""
    parts: list[Part] = field(default_factory=list)

    def fine(self, steps: int) -> int:
        """Fewer steps: the pictures are small."""
        return max(10, round(steps * self.coarse))

    def mesh(
        self,
        name: str,
        vertices: Floats,
        faces: Sequence[Sequence[int]],
        material: Surface,
        at: Point,
        turn: Point,
        *,
        sharp: float,
        bevel: float,
        segments: int,
    ) -> Part:
        """Take a mesh; only a prism's edges are bevelled."""
        vertices = np.asarray(vertices, float)
        if bevel > 0 and name == "prism":
            vertices, faces, sharp = *bevelled(vertices, bevel, min(segments, 3)), 40.0
        angles = math.radians(turn[0]), math.radians(turn[1]), math.radians(turn[2])
        part = Part(vertices, triangulated(vertices, faces), material, at, angles, sharp, name=name)
        self.parts.append(part)
        return part

    def words(self, text: str, size: float, material: Surface, at: Point, turn: Point, *, depth: float) -> Part:
        """Letters as rows of small plates that lie on the plane z = depth."""
        pixels = 40
        font = ImageFont.load_default(pixels)
        left, top, right, bottom = font.getbbox(text)
        page = Image.new("L", (max(1, round(right - left)), max(1, round(bottom - top))))
        ImageDraw.Draw(page).text((-left, -top), text, 255, font)
        ink = np.asarray(page) > 110
        corners: list[Point] = []
        faces: list[list[int]] = []
        unit = size / pixels
        height, width = ink.shape
        for row in range(height):
            edges = np.flatnonzero(np.diff(np.concatenate(([0], ink[row].astype(np.int8), [0]))))
            for first, last in zip(edges[::2], edges[1::2], strict=True):
                x0, x1 = (first - width / 2) * unit, (last - width / 2) * unit
                y0, y1 = (height / 2 - row - 1) * unit, (height / 2 - row) * unit
                faces.append([len(corners) + k for k in range(4)])
                corners += [(x0, y0, depth), (x1, y0, depth), (x1, y1, depth), (x0, y1, depth)]
        angles = math.radians(turn[0]), math.radians(turn[1]), math.radians(turn[2])
        vertices = np.array(corners or [(0, 0, 0)] * 3, float)
        part = Part(vertices, triangulated(vertices, faces or [[0, 1, 2]]), material, at, angles, 30, name="words")
        self.parts.append(part)
        return part

    def solid(self, longest: float = 0.13, stretch: tuple[float, float, float] = (1, 1, 1)) -> Solid:
        """All parts in the scene, stretched, standing on z = 0; no edge much over `longest` units."""
        pieces, surfaces = [], []
        for part in self.parts:
            if part.surface not in surfaces:
                surfaces.append(part.surface)
            local, triangles = subdivided(part.vertices, outwards(part.vertices, part.triangles), longest)
            shape = rotation(part.rotation_euler) * np.array(part.scale) * np.array(stretch)[:, None]
            placed = local @ shape.T + np.array(part.location) * np.array(stretch)
            points, normals, whole = split(placed, triangles, part.sharp)
            inner = normals @ np.linalg.inv(shape).T
            inner /= np.maximum(np.linalg.norm(inner, axis=1, keepdims=True), 1e-9)
            kind = np.full(len(whole), surfaces.index(part.surface), np.int32)
            pieces.append((placed[points], normals, local[points], inner, whole, kind))
        first = np.cumsum([0, *(len(piece[0]) for piece in pieces)])
        stacked = [np.concatenate([piece[k] for piece in pieces]).astype(np.float32) for k in range(4)]
        triangles = np.concatenate([piece[4] + start for piece, start in zip(pieces, first, strict=False)])
        stacked[0][:, 2] -= stacked[0][:, 2].min()
        kinds = np.concatenate([piece[5] for piece in pieces])
        return Solid(stacked[0], stacked[1], stacked[2], stacked[3], triangles.astype(np.int32), kinds, tuple(surfaces))


def rotation(angles: Sequence[float]) -> Floats:
    """Matrix of x, then y, then z turns in radians (Blender's XYZ order)."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles), np.sin(angles)
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return np.asarray(about_z @ about_y @ about_x, float)


def triangulated(vertices: Floats, faces: Sequence[Sequence[int]]) -> Whole:
    """Faces of any number of corners as triangles (t, 3); concave ones by cutting ears."""
    out: list[Sequence[int]] = []
    for face in faces:
        if len(face) == 3:
            out.append(face)
        elif len(face) == 4:
            out += [(face[0], face[1], face[2]), (face[0], face[2], face[3])]
        else:
            out += _ears(vertices, list(face))
    return np.array(out, np.int32).reshape(-1, 3)


def _ears(vertices: Floats, face: list[int]) -> list[tuple[int, int, int]]:
    corners = vertices[face]
    normal = np.cross(corners, np.roll(corners, -1, 0)).sum(0)
    axis = int(np.argmax(np.abs(normal)))
    flat = np.delete(vertices, axis, axis=1) * (1.0 if (normal[axis] > 0) != (axis == 1) else -1.0)
    if (normal[axis] > 0) == (axis == 1):
        flat[:, 1] *= -1
    out, tries = [], 0
    while len(face) > 3 and tries < len(face):
        a, b, c = face[-1], face[0], face[1]
        pa, pb, pc = flat[a], flat[b], flat[c]
        turn = (pb[0] - pa[0]) * (pc[1] - pb[1]) - (pb[1] - pa[1]) * (pc[0] - pb[0])
        others = flat[face[2:-1]]
        sides = [(q[0] - p[0]) * (others[:, 1] - p[1]) - (q[1] - p[1]) * (others[:, 0] - p[0])
                 for p, q in ((pa, pb), (pb, pc), (pc, pa))]  # fmt: skip
        if turn <= 1e-12 or bool(np.any((sides[0] > 0) & (sides[1] > 0) & (sides[2] > 0))):
            face, tries = [*face[1:], face[0]], tries + 1
            continue
        out.append((a, b, c))
        face, tries = face[1:], 0
    out += [(face[0], face[k], face[k + 1]) for k in range(1, len(face) - 1)]
    return out


def outwards(vertices: Floats, triangles: Whole) -> Whole:
    """Triangles of a closed mesh turned so that the volume within is positive; none without an area.

    An open mesh stays as it was made: what is inside of a vase looks inwards.
    """
    a, b, c = (vertices[triangles[:, k]] - vertices.mean(0) for k in range(3))
    areas = np.cross(b - a, c - a)
    sizes = np.linalg.norm(areas, axis=1)
    closed = np.linalg.norm(areas.sum(0)) < 1e-6 * sizes.sum()
    if closed and float(np.sum(a * np.cross(b, c))) < 0:
        triangles = triangles[:, ::-1]
    return np.asarray(triangles[sizes > 1e-9])


def bevelled(prism: Floats, width: float, segments: int) -> tuple[Floats, list[list[int]]]:
    """A prism (lower ring, upper ring) with its caps' edges rounded by `width`."""
    n = len(prism) // 2
    ring, low, high = prism[:n, :2], float(prism[0, 2]), float(prism[n, 2])
    area = float(np.sum(ring[:, 0] * np.roll(ring[:, 1], -1) - ring[:, 1] * np.roll(ring[:, 0], -1)))
    if area < 0:
        ring = ring[::-1]
    sides = np.roll(ring, -1, 0) - ring
    lengths = np.linalg.norm(sides, axis=1)
    width = min(width, 0.45 * abs(high - low), 0.4 * float(np.ptp(ring, 0).min()))
    sharp = np.abs(np.sum(sides * np.roll(sides, 1, 0), 1)) < 0.75 * lengths * np.roll(lengths, 1)
    if n <= 8:  # corners of plain outlines are rounded too
        rounded: list[Floats] = []
        for i, corner in enumerate(ring):
            before, after = -sides[i - 1] / max(lengths[i - 1], 1e-9), sides[i] / max(lengths[i], 1e-9)
            if not sharp[i]:
                rounded.append(corner)
                continue
            reach = min(width, 0.4 * lengths[i - 1], 0.4 * lengths[i])
            for t in (0.0, 0.3, 0.7, 1.0):
                rounded.append(corner + (1 - t) ** 2 * reach * before + t**2 * reach * after)
        ring, n = np.array(rounded), len(rounded)
        sides = np.roll(ring, -1, 0) - ring
        lengths = np.linalg.norm(sides, axis=1)
    normal = np.stack([sides[:, 1], -sides[:, 0]], 1) / np.maximum(lengths, 1e-9)[:, None]
    mitre = normal + np.roll(normal, 1, 0)
    mitre /= np.maximum(np.sum(mitre * normal, 1), 0.5)[:, None]
    bow = np.linspace(0, math.pi / 2, segments + 1)
    levels = [(width * (1 - math.sin(a)), low + width * (1 - math.cos(a))) for a in bow]
    levels += [(inset, high + low - z) for inset, z in levels[::-1]]
    rings = [np.c_[ring - mitre * inset, np.full(n, z)] for inset, z in levels]
    faces = [[i * n + j, i * n + (j + 1) % n, (i + 1) * n + (j + 1) % n, (i + 1) * n + j]
             for i, _ in enumerate(pairwise(rings)) for j in range(n)]  # fmt: skip
    last = (len(rings) - 1) * n
    faces += [list(range(n))[::-1], list(range(last, last + n))]
    return np.vstack(rings), faces


def subdivided(vertices: Floats, triangles: Whole, longest: float) -> tuple[Floats, Whole]:
    """Halve edges over 1.5 `longest`, on both sides alike, until there is none; at most seven times."""
    for _ in range(7):
        ends = np.sort(triangles[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
        long = np.linalg.norm(vertices[ends[:, 0]] - vertices[ends[:, 1]], axis=1) > 1.5 * longest
        if not long.any():
            break
        edges, back = np.unique(ends[long], axis=0, return_inverse=True)
        middle = np.full(len(ends), -1)
        middle[long] = len(vertices) + back.reshape(-1)
        vertices = np.vstack([vertices, (vertices[edges[:, 0]] + vertices[edges[:, 1]]) / 2])
        m, t = middle.reshape(-1, 3), triangles
        count = (m >= 0).sum(1)
        out = [t[count == 0]]
        for k in range(3):  # turned so that the pattern starts at edge k
            a, b, c = t[:, k], t[:, (k + 1) % 3], t[:, (k + 2) % 3]
            ab, bc, ca = m[:, k], m[:, (k + 1) % 3], m[:, (k + 2) % 3]
            one = (count == 1) & (ab >= 0)
            out += [np.stack([a, ab, c], 1)[one], np.stack([ab, b, c], 1)[one]]
            two = (count == 2) & (ca < 0)
            out += [np.stack(x, 1)[two] for x in ((a, ab, bc), (ab, b, bc), (a, bc, c))]
            if k == 0:
                out += [np.stack(x, 1)[count == 3] for x in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))]
        triangles = np.concatenate(out).astype(np.int32)
    return vertices, triangles


def split(points: Floats, triangles: Whole, sharp: float) -> tuple[Whole, Floats, Whole]:
    """Smooth normals within `sharp` degrees.

    Returns the point behind each new point (m,), its unit normal (m, 3), and triangles (t, 3) of new points.
    """
    a, b, c = (points[triangles[:, k]] for k in range(3))
    raw = np.cross(b - a, c - a)
    unit = raw / np.maximum(np.linalg.norm(raw, axis=1, keepdims=True), 1e-12)
    corners = triangles.reshape(-1)
    face = np.repeat(np.arange(len(triangles)), 3)
    # Points at one place count as one, so that seams stay smooth.
    _, same = np.unique(np.round(points, 5), axis=0, return_inverse=True)
    place = same.reshape(-1)[corners]
    order = np.argsort(place, kind="stable")
    starts = np.searchsorted(place[order], np.arange(place.max() + 2))
    size = starts[place + 1] - starts[place]
    left = np.repeat(np.arange(len(corners)), size)
    offset = np.arange(len(left)) - np.repeat(np.cumsum(size) - size, size)
    right = order[starts[place[left]] + offset]
    near = np.sum(unit[face[left]] * unit[face[right]], 1) > math.cos(math.radians(sharp))
    normals = np.zeros((len(corners), 3))
    for k in range(3):
        normals[:, k] = np.bincount(left[near], raw[face[right[near]], k], len(corners))
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    normals = np.where(length > 1e-12, normals / np.maximum(length, 1e-12), unit[face])
    key = np.column_stack([corners, np.round(normals * 200).astype(np.int64)])
    _, first, back = np.unique(key, axis=0, return_index=True, return_inverse=True)
    return corners[first].astype(np.int32), normals[first], back.reshape(-1, 3).astype(np.int32)
