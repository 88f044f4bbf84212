"""Visible surface, light and shadow of a `Solid`: depth buffers by OpenCV, the rest in numpy.

`triangleRasterize` is new in OpenCV 5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from sample.solids import Single, Solid

FAR = 400.0


@dataclass(frozen=True)
class Camera:
    """A pinhole camera; x right, y up, z towards the viewer."""

    turn: Single
    """(3, 3) from scene to camera."""
    eye: Single
    """(3,) position."""
    field: float
    """Vertical angle of view, radians."""
    height: int
    width: int

    @property
    def focal(self) -> float:
        """In pixels."""
        return 0.5 * self.height / math.tan(self.field / 2)

    @property
    def matrix(self) -> Single:
        """(4, 4) from scene to camera."""
        out = np.eye(4, dtype=np.float32)
        out[:3, :3], out[:3, 3] = self.turn, -self.turn @ self.eye
        return out

    def seen(self, points: Single) -> Single:
        """Pixel x, y and distance (n, 3) of points in the scene."""
        at = (points - self.eye) @ self.turn.T
        away = np.maximum(-at[:, 2], 1e-3)
        x, y = self.width / 2 + self.focal * at[:, 0] / away, self.height / 2 - self.focal * at[:, 1] / away
        return np.stack([x, y, away], 1)

    def rays(self, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> Single:
        """Directions (n, 3) in the scene through pixels, with length 1 along the view axis."""
        x = (columns + 0.5 - self.width / 2) / self.focal
        y = (self.height / 2 - rows - 0.5) / self.focal
        return (np.stack([x, y, np.full(len(x), -1.0)], 1).astype(np.float32)) @ self.turn


def looking(
    azimuth: float, elevation: float, target: Single, distance: float, field: float, height: int, width: int
) -> Camera:
    """A camera `distance` from `target`; angles in degrees, azimuth 0 looks at the front (-y)."""
    a, e = math.radians(azimuth), math.radians(elevation)
    back = np.array([math.sin(a) * math.cos(e), -math.cos(a) * math.cos(e), math.sin(e)])
    right = np.array([math.cos(a), math.sin(a), 0.0])
    turn = np.stack([right, np.cross(back, right), back]).astype(np.float32)
    return Camera(turn, (target + back * distance).astype(np.float32), math.radians(field), height, width)


def framed(
    solid: Solid, azimuth: float, elevation: float, field: float, height: int, width: int, fill: float
) -> Camera:
    """A camera that shows the whole solid in the middle of `fill` of the frame."""
    target = (solid.low + solid.high) / 2
    distance = float(np.ptp(solid.points, 0).max()) / math.tan(math.radians(field / 2))
    for _ in range(4):
        camera = looking(azimuth, elevation, target, distance, field, height, width)
        at = camera.seen(solid.points)
        low, high = at[:, :2].min(0), at[:, :2].max(0)
        off = ((low + high) / 2 - (width / 2, height / 2)) / camera.focal * distance
        target = target + off[0] * camera.turn[0] - off[1] * camera.turn[1]
        distance *= float(((high - low) / (width, height)).max()) / fill
    return looking(azimuth, elevation, target, distance, field, height, width)


@dataclass(frozen=True)
class Hits:
    """What the camera sees where it sees something: n pixels."""

    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    triangles: NDArray[np.intp]
    """(n,) triangle."""
    shares: Single
    """(n, 3) weights of its corners."""
    away: Single
    """(n,) distance along the view axis."""

    def mixed(self, solid: Solid, values: Single) -> Single:
        """Values (points, c) of the corners, interpolated: (n, c)."""
        corners = solid.triangles[self.triangles]
        out = values[corners[:, 0]] * self.shares[:, :1]
        out += values[corners[:, 1]] * self.shares[:, 1:2]
        out += values[corners[:, 2]] * self.shares[:, 2:]
        return out


def rasterised(solid: Solid, camera: Camera, *, inside: bool = False) -> Hits:
    """The front of a solid; `inside` shows the far walls instead."""
    t = len(solid.triangles)
    corners = np.ascontiguousarray(solid.points[solid.triangles.reshape(-1)])
    ids = np.repeat((np.arange(t, dtype=np.float32) + 1) / (1 << 22), 3)
    colours = np.ascontiguousarray(np.repeat(ids[:, None], 3, 1))
    settings = cv2.TriangleRasterizeSettings()
    settings.setShadingType(cv2.RASTERIZE_SHADING_FLAT)
    settings.setCullingMode(cv2.RASTERIZE_CULLING_CCW if inside else cv2.RASTERIZE_CULLING_NONE)
    page = np.zeros((camera.height, camera.width, 3), np.float32)
    depth = np.full((camera.height, camera.width), FAR, np.float32)
    index = np.arange(3 * t, dtype=np.int32).reshape(-1, 3)
    cv2.triangleRasterize(corners, index, colours, page, depth, camera.matrix, camera.field, 0.05, FAR, settings)
    found = np.rint(page[:, :, 0] * (1 << 22)).astype(np.int64)
    rows, columns = np.nonzero(found)
    triangles = found[rows, columns] - 1
    # Weights of the corners: Moeller and Trumbore, 1997, for the one triangle known to be hit.
    frame = corners.reshape(-1, 3, 3)
    first, e1, e2 = frame[:, 0], frame[:, 1] - frame[:, 0], frame[:, 2] - frame[:, 0]
    ray = camera.rays(rows, columns)
    cross = np.cross(ray, e2[triangles])
    scale = np.einsum("ij,ij->i", e1[triangles], cross)
    scale = 1 / np.where(np.abs(scale) < 1e-9, 1e-9, scale)
    start = camera.eye - first
    turned = np.cross(start, e1).astype(np.float32)[triangles]
    u = np.einsum("ij,ij->i", start[triangles], cross) * scale
    v = np.einsum("ij,ij->i", ray, turned) * scale
    shares = np.clip(np.stack([1 - u - v, u, v], 1), 0, 1).astype(np.float32)
    shares /= np.maximum(shares.sum(1, keepdims=True), 1e-6)
    return Hits(rows, columns, triangles, shares, depth[rows, columns])


def sky(count: int) -> Single:
    """Directions (count, 3) spread evenly over the upper half, none quite level. Reference: Fibonacci lattice."""
    z = (np.arange(count) + 0.5) / count * 0.96 + 0.04
    angle = np.arange(count) * math.pi * (3 - math.sqrt(5))
    ring = np.sqrt(1 - z * z)
    return np.stack([ring * np.cos(angle), ring * np.sin(angle), z], 1).astype(np.float32)


def lit(solid: Solid, points: Single, normals: Single, directions: Single, pixels: int = 160) -> Single:
    """How much of each direction's light reaches each point: (points, directions), 0 to 1."""
    centre = (solid.low + solid.high) / 2
    radius = float(np.linalg.norm(solid.high - solid.low)) / 2 * 1.02
    distance = 40 * radius
    field = math.degrees(2 * math.atan(1 / 39.0))
    settings = cv2.TriangleRasterizeSettings()
    settings.setCullingMode(cv2.RASTERIZE_CULLING_NONE)
    # Points a little off their surface do not shade themselves.
    lifted = points + normals * (2.6 * radius / pixels)
    out = np.empty((len(points), len(directions)), np.float32)
    vertices = np.ascontiguousarray(solid.points)
    soft = 2.6 * radius / pixels
    for k, direction in enumerate(directions):
        azimuth = math.degrees(math.atan2(direction[0], -direction[1]))
        elevation = math.degrees(math.asin(direction[2]))
        camera = looking(azimuth, elevation, centre, distance, field, pixels, pixels)
        depth = np.full((pixels, pixels), 2 * distance, np.float32)
        cv2.triangleRasterizeDepth(
            vertices, solid.triangles, depth, camera.matrix, camera.field, 1.0, 2 * distance, settings
        )
        at = camera.seen(lifted)
        x, y = at[:, 0] - 0.5, at[:, 1] - 0.5
        nearest = cv2.remap(
            depth, x.reshape(-1, 1).astype(np.float32), y.reshape(-1, 1).astype(np.float32), cv2.INTER_NEAREST,
            borderMode=cv2.BORDER_CONSTANT, borderValue=2 * distance,
        ).reshape(-1) if len(x) < 32000 else depth[
            np.clip(np.rint(y).astype(int), 0, pixels - 1), np.clip(np.rint(x).astype(int), 0, pixels - 1)
        ]  # fmt: skip
        out[:, k] = np.clip((nearest - at[:, 2]) / soft + 1.5, 0, 1)
    return out
