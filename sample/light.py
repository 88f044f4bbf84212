"""Light of a studio or a room, and the picture that a camera takes in it.

Shadows and ambient light come from the share of the sky that each point of a solid sees, found once for a solid and
weighed anew for every camera, since the lamps stand still beside it while the product is turned.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property

import cv2
import numpy as np

from sample import surfaces
from sample.materials import Surface
from sample.raster import FAR, Camera, Hits, lit, rasterised, sky
from sample.solids import Single, Solid
from sample.stage import Point

OVER = 2
"""Pixels across one of the picture, where the product is."""


@dataclass(frozen=True)
class Lamps:
    """Light as seen from the camera: azimuth 0 comes from behind the camera, positive from its right."""

    key: tuple[float, float] = (-38.0, 48.0)
    """Azimuth and elevation of the large soft box, degrees."""
    strength: float = 5.0
    """Of the soft box against the dome."""
    width: float = 26.0
    """Half angle of the soft box, degrees."""
    rim: float = 1.5
    """Strength of a strip light at the other side."""
    dome: float = 1.0
    """Light from everywhere."""
    tint: Point = (1.0, 1.0, 1.0)
    """Colour of the soft box."""
    floor: float = 0.75
    """Light that comes back from the ground."""

    def radiance(self, ways: Single, rough: float) -> Single:
        """Light (n, 3) from directions (n, 3) in the camera's frame (front -y), blurred by a surface's roughness."""
        blur = 4 + 45 * rough
        up = ways[:, 2]
        out = self.dome * (0.62 + 0.38 * np.clip(up, 0, 1))
        # The photographer's side of the room is dark: glossy things need something dark to show their form.
        dark = np.clip((-ways[:, 1] - 0.35) / 0.6, 0, 1) * np.clip(1 - np.abs(up) * 1.4, 0, 1)
        out = out * (1 - 0.6 * dark)
        below = np.clip(0.5 - up * (2.5 if rough < 0.5 else 1.2), 0, 1)
        out = out * (1 - below) + self.floor * below
        rim = self._lobe(ways, (118.0, 32.0), 16.0, blur) * self.rim
        key = self._lobe(ways, self.key, self.width, blur) * self.strength
        return np.asarray((out + rim)[:, None] + key[:, None] * np.array(self.tint), np.float32)

    def _lobe(self, ways: Single, place: tuple[float, float], width: float, blur: float) -> Single:
        a, e = math.radians(place[0]), math.radians(place[1])
        way = np.array([math.sin(a) * math.cos(e), -math.cos(a) * math.cos(e), math.sin(e)], np.float32)
        angle = np.degrees(np.arccos(np.clip(ways @ way, -1, 1)))
        t = np.clip((width + blur / 2 - angle) / blur, 0, 1)
        share = (width / (width + blur / 2)) ** 2  # a blurred lamp is larger and weaker
        return np.asarray(t * t * (3 - 2 * t) * share, np.float32)


@dataclass(frozen=True)
class Ground:
    """What the product stands on and before."""

    kind: str = "white"
    """`white`, `cutout` (no shadow), `backdrop` (paper from `top` down to `low`) or `scene` (board and wall)."""
    top: Point = (1.0, 1.0, 1.0)
    """Linear colour."""
    low: Point = (1.0, 1.0, 1.0)
    """Linear colour."""
    shadow: float = 1.0
    """Strength of the shadow."""
    board: Surface | None = None
    """Surface of a `scene`'s table or floor."""
    wall: Surface | None = None
    """Surface of a `scene`'s wall."""
    away: float = 4.0
    """Distance of the wall behind the product's middle."""
    scale: float = 1.0
    """Size of the board's and the wall's grain."""
    window: float = 0.0
    """Strength of the light that a window throws onto the wall."""


@dataclass(frozen=True)
class Lit:
    """A solid with what each of its points, and the ground about it, sees of the sky."""

    solid: Solid
    count: int = 72
    """Directions."""
    cells: int = 80
    """Ground points on a side."""
    reach: float = 2.6
    """Half side of the ground that shadows fall on, in radii of the solid."""
    directions: Single = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "directions", sky(self.count))

    @cached_property
    def seen(self) -> Single:
        """(points, directions)."""
        return self._lit(self.solid.points, self.solid.normals, 160)

    def _lit(self, points: Single, normals: Single, pixels: int) -> Single:
        glassy = np.array([surface.kind == "glass" for surface in self.solid.surfaces])[self.solid.surface]
        whole = lit(self.solid, points, normals, self.directions, pixels)
        if not glassy.any():
            return whole
        # Glass lets most light through: its shadow is faint.
        solid = only(self.solid, ~glassy)
        bare = lit(solid, points, normals, self.directions, pixels) if len(solid.triangles) else None
        return np.asarray(0.3 * whole + 0.7 * (1.0 if bare is None else bare), np.float32)

    @cached_property
    def middle(self) -> Single:
        """Of the product on the ground, (2,)."""
        return ((self.solid.low + self.solid.high) / 2)[:2]

    @cached_property
    def half(self) -> float:
        """Half side of the shaded ground."""
        return self.reach * float(np.abs(self.solid.high - self.solid.low).max()) / 2 * 1.2

    @cached_property
    def ground(self) -> Single:
        """(cells, cells, directions), rows along y."""
        side = (np.arange(self.cells) + 0.5) / self.cells * 2 - 1
        x, y = np.meshgrid(side * self.half + self.middle[0], side * self.half + self.middle[1])
        points = np.stack([x.reshape(-1), y.reshape(-1), np.zeros(x.size)], 1).astype(np.float32)
        up = np.broadcast_to(np.array([0, 0, 0.02], np.float32), points.shape)
        return self._lit(points, up, 200).reshape(self.cells, self.cells, -1)


@dataclass(frozen=True)
class _Layer:
    """Linear colours (h, w, 3), coverage (h, w) and distance (h, w) at the camera's fine grid."""

    colour: Single
    cover: Single
    away: Single


def photograph(
    lighted: Lit, camera: Camera, lamps: Lamps, ground: Ground, *, focus: float = 0.0, grain: float = 0.0, seed: int = 0
) -> np.ndarray:
    """A picture, uint8 (height, width, 3) sRGB.

    Args:
        camera: of the picture's own size.
        focus: 0 has all sharp; else blur per unit of distance from the solid's middle, in 1/100 of the width.
        grain: deviation of the sensor's noise in grey levels.
    """
    solid = lighted.solid
    azimuth = math.atan2(camera.turn[0, 1], camera.turn[0, 0])
    spin = np.array(
        [[math.cos(azimuth), math.sin(azimuth), 0], [-math.sin(azimuth), math.cos(azimuth), 0], [0, 0, 1]], np.float32
    )
    ways = lighted.directions
    radiance = lamps.radiance(ways @ spin.T, 0.4)
    level = float((radiance.mean(1) * ways[:, 2]).sum())
    radiance = radiance / level
    specular = len(ways) / (2 * level)  # a mirror shows what a white surface would turn into light
    shade = _shaded(lighted, radiance, lamps)
    fine = Camera(camera.turn, camera.eye, camera.field, camera.height * OVER, camera.width * OVER)
    clear = np.array([surface.kind == "glass" for surface in solid.surfaces])
    glassy = clear[solid.surface]
    canvas, distance = _backdrop(lighted, camera, lamps, ground, radiance)
    if not glassy.all():
        part = only(solid, ~glassy)
        layer = _layer(part, fine, shade, lamps, spin, specular)
        near = layer.away
        small, cover = _reduced(layer.colour), _reduced(layer.cover)
        canvas = canvas * (1 - cover[:, :, None]) + small
        distance = np.where(cover > 0.5, _reduced(np.where(layer.cover > 0, layer.away, 0)) / np.maximum(cover, 1e-3),
                            distance)  # fmt: skip
    else:
        near = np.full((fine.height, fine.width), FAR, np.float32)
    if glassy.any():
        # What is in a glass comes before the glass.
        order = sorted({int(k) for k in solid.surface[glassy]}, key=lambda k: solid.surfaces[k].values["ior"])
        for k in order:
            part = only(solid, solid.surface == k)
            for inside in (True, False) if solid.surfaces[k].values["ior"] > 1.4 else (False,):
                canvas = _through(part, fine, canvas, near, lamps, spin, specular, inside=inside)
    if focus > 0:
        canvas = _focused(canvas, distance, float(camera.seen(((solid.low + solid.high) / 2)[None])[0, 2]), focus)
    if ground.kind == "scene":
        canvas = canvas / (1 + 0.12 * canvas * canvas)  # a shoulder for the highlights
    picture = np.clip(canvas, 0, 1)
    picture = np.where(picture <= 0.0031308, 12.92 * picture, 1.055 * np.maximum(picture, 1e-6) ** (1 / 2.4) - 0.055)
    picture = picture * 255
    if grain > 0:
        noise = np.random.default_rng(seed).standard_normal(picture.shape[:2])[:, :, None]
        picture = np.where(picture < 254.5, picture + grain * noise, picture)
    return np.asarray(np.clip(np.rint(picture), 0, 255), np.uint8)


def _shaded(lighted: Lit, radiance: Single, lamps: Lamps) -> Single:
    """Light (n, 3) and openness (n, 1) at the solid's points; 1 is what level open ground gets."""
    solid = lighted.solid
    facing = np.maximum(solid.normals @ lighted.directions.T, 0)
    open_ = lighted.seen * facing
    light = open_ @ radiance
    share = open_.sum(1) / np.maximum(facing.sum(1), 1e-6)
    under = 0.5 - 0.5 * solid.normals[:, 2]
    height = solid.points[:, 2] / max(float(solid.high[2]), 1e-6)
    bounce = lamps.floor * 0.85 * under * (0.35 + 0.65 * np.clip(height * 2.5, 0, 1)) * (0.4 + 0.6 * share)
    # Light between the parts themselves fills what the sky does not reach.
    light = light + bounce[:, None] + 0.10 * (1 - share)[:, None]
    return np.concatenate([light, share[:, None]], 1).astype(np.float32)


def only(solid: Solid, wanted: np.ndarray) -> Solid:
    """The triangles where `wanted` (t,) is true."""
    if wanted.all():
        return solid
    return Solid(solid.points, solid.normals, solid.local, solid.local_normals, solid.triangles[wanted],
                 solid.surface[wanted], solid.surfaces)  # fmt: skip


def _layer(solid: Solid, camera: Camera, shade: Single, lamps: Lamps, spin: Single, specular: float) -> _Layer:
    hits = rasterised(solid, camera)
    values = np.concatenate([shade, solid.normals, solid.local, solid.local_normals], 1)
    mixed = hits.mixed(solid, values)
    light, share, normal, local, inner = (
        mixed[:, :3], mixed[:, 3], mixed[:, 4:7], mixed[:, 7:10], mixed[:, 10:13]
    )  # fmt: skip
    normal, ray = _facing(camera, hits, normal)
    base = np.zeros((len(normal), 3), np.float32)
    rough, shine = np.ones(len(normal), np.float32), np.zeros((len(normal), 3), np.float32)
    relief, glow = np.zeros(len(normal), np.float32), np.zeros(len(normal), np.float32)
    kinds = solid.surface[hits.triangles]
    for k in np.unique(kinds):
        here = kinds == k
        found = surfaces.optics(solid.surfaces[k], local[here], inner[here])
        rough[here], glow[here] = found.rough, found.glow
        if found.metal:
            shine[here] = found.colour
            base[here] = found.colour * 0.08
        else:
            shine[here] = found.shine
            base[here] = found.colour
        if found.height is not None:
            relief[here] = found.height
    colour = base * light * (1 - shine.mean(1, keepdims=True) * 0.8)
    if relief.any():
        page = np.zeros((camera.height, camera.width), np.float32)
        page[hits.rows, hits.columns] = relief
        # The relief is lit from the upper left: its slope there brightens and darkens.
        slope = page[2:, 2:] - page[:-2, :-2]
        page[:] = 0
        page[1:-1, 1:-1] = np.clip(slope, -0.5, 0.5)
        colour *= 1 + 0.55 * page[hits.rows, hits.columns][:, None]
    cosine = np.abs(np.sum(normal * ray, 1))
    mirrored = ray - 2 * np.sum(normal * ray, 1)[:, None] * normal
    for value in np.unique(rough):
        here = rough == value
        fresnel = shine[here] + (1 - shine[here]) * (((1 - cosine[here]) ** 5) * max(0.0, 1 - value) ** 2)[:, None]
        sent = lamps.radiance(mirrored[here] @ spin.T, float(value)) * np.float32(specular)
        hidden = np.clip(share[here] * 1.25, 0, 1)[:, None]
        colour[here] += fresnel * sent * (0.25 + 0.75 * hidden) * hidden
    colour += base * glow[:, None]
    page = np.zeros((camera.height, camera.width, 3), np.float32)
    page[hits.rows, hits.columns] = np.minimum(colour, 1.6)
    cover, away = np.zeros(page.shape[:2], np.float32), np.full(page.shape[:2], FAR, np.float32)
    cover[hits.rows, hits.columns], away[hits.rows, hits.columns] = 1, hits.away
    return _Layer(page, cover, away)


def _facing(camera: Camera, hits: Hits, normal: Single) -> tuple[Single, Single]:
    """Unit normals turned to the camera, and unit rays."""
    ray = camera.rays(hits.rows, hits.columns)
    ray /= np.linalg.norm(ray, axis=1, keepdims=True)
    normal = normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-6)
    normal = np.where(np.sum(normal * ray, 1, keepdims=True) > 0, -normal, normal)
    return normal, ray


def _through(
    solid: Solid,
    camera: Camera,
    canvas: Single,
    near: Single,
    lamps: Lamps,
    spin: Single,
    specular: float,
    *,
    inside: bool,
) -> Single:
    """The canvas behind one wall of glass: tinted, bent at the rim, with the lamps' reflections."""
    hits = rasterised(solid, camera, inside=inside)
    if not len(hits.rows):
        return canvas
    mixed = hits.mixed(solid, np.concatenate([solid.normals, solid.local], 1))
    normal, ray = _facing(camera, hits, mixed[:, :3])
    cosine = np.abs(np.sum(normal * ray, 1))
    tint, sent = np.ones((len(normal), 3), np.float32), np.zeros((len(normal), 3), np.float32)
    kinds = solid.surface[hits.triangles]
    mirrored = ray - 2 * np.sum(normal * ray, 1)[:, None] * normal
    for k in np.unique(kinds):
        here = kinds == k
        found = surfaces.optics(solid.surfaces[k], mixed[here, 3:], mixed[here, :3])
        longer = 0.55 / np.maximum(cosine[here], 0.16)  # the way through the wall
        tint[here] = found.clear ** (0.5 * longer[:, None]) * found.colour ** longer[:, None]
        if solid.surfaces[k].values["ior"] < 1.4:  # a drink is a little cloudy
            sent[here] = 0.22 * found.colour
            tint[here] *= 0.8
            continue
        fresnel = 0.05 + 0.95 * (1 - cosine[here]) ** 5
        sent[here] = fresnel[:, None] * lamps.radiance(mirrored[here] @ spin.T, 0.05 + found.rough) * specular
    shown = hits.away <= near[hits.rows, hits.columns] + 1e-3
    size = (camera.height, camera.width)
    cover = np.zeros(size, np.float32)
    pages = [np.ones((*size, 3), np.float32), np.zeros((*size, 3), np.float32), np.zeros((*size, 2), np.float32)]
    rows, columns = hits.rows[shown], hits.columns[shown]
    cover[rows, columns] = 1
    pages[0][rows, columns] = tint[shown]
    pages[1][rows, columns] = np.minimum(sent[shown], 1.5) * (0.4 if inside else 1.0)
    bent = normal @ camera.turn.T
    pages[2][rows, columns] = (bent[:, :2] * np.array([1.0, -1.0], np.float32))[shown]
    tint, sent, bend = (_reduced(page) for page in pages)
    height, width = canvas.shape[:2]
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    amount = 0.0 if inside else 0.02 * width
    strong = np.linalg.norm(bend, axis=2) ** 3
    source = cv2.remap(
        canvas.astype(np.float32), x - amount * strong * bend[:, :, 0], y - amount * strong * bend[:, :, 1],
        cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip
    mask = _reduced(cover)[:, :, None]
    return np.asarray(canvas * (1 - mask) + (source * tint) * mask + sent, np.float32)


def _reduced(page: Single) -> Single:
    height, width = page.shape[:2]
    return np.asarray(cv2.resize(page, (width // OVER, height // OVER), interpolation=cv2.INTER_AREA), np.float32)


def _backdrop(lighted: Lit, camera: Camera, lamps: Lamps, ground: Ground, radiance: Single) -> tuple[Single, Single]:
    """The picture without its product, linear (h, w, 3), and distances (h, w)."""
    height, width = camera.height, camera.width
    rows, columns = (grid.reshape(-1) for grid in np.mgrid[0:height, 0:width])
    ray = camera.rays(rows, columns)
    down = ray[:, 2] < -1e-3
    away = np.where(down, -camera.eye[2] / np.where(down, ray[:, 2], -1.0), FAR).astype(np.float32)
    if camera.eye[2] <= 0:
        away[:], down[:] = FAR, False
    hit = camera.eye + ray * away[:, None]
    weight = radiance.mean(1) * lighted.directions[:, 2]
    shade = 1 - (lighted.ground @ weight) / weight.sum()
    shade = cv2.GaussianBlur(shade.astype(np.float32), (0, 0), 1.1)
    cells = lighted.cells
    edge = np.minimum(np.arange(cells), np.arange(cells)[::-1]) / (0.15 * cells)
    shade *= np.clip(edge, 0, 1)[:, None] * np.clip(edge, 0, 1)[None]
    x = ((hit[:, 0] - lighted.middle[0]) / lighted.half + 1) / 2 * cells - 0.5
    y = ((hit[:, 1] - lighted.middle[1]) / lighted.half + 1) / 2 * cells - 0.5
    size = (height, width)
    dark = cv2.remap(shade, x.reshape(size).astype(np.float32), y.reshape(size).astype(np.float32), cv2.INTER_CUBIC,
                     borderMode=cv2.BORDER_CONSTANT, borderValue=0)  # fmt: skip
    dark = np.clip(dark, 0, 1) * down.reshape(size)
    distance = away.reshape(size)
    if ground.kind == "cutout":
        return np.ones((*size, 3), np.float32), distance
    if ground.kind == "scene":
        assert ground.board is not None
        assert ground.wall is not None
        return _scene(lighted, camera, ground, ray, hit, away, dark)
    t = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    paper = np.array(ground.top, np.float32) * (1 - t) + np.array(ground.low, np.float32) * t
    paper = np.broadcast_to(paper, (*size, 3))
    if ground.kind == "backdrop":
        across = (columns / width - 0.5) ** 2 + (rows / height - 0.45) ** 2
        paper = paper * (1.06 - 0.35 * across.reshape(size)[:, :, None])
    return np.asarray(paper * (1 - ground.shadow * dark[:, :, None]), np.float32), distance


def _scene(
    lighted: Lit, camera: Camera, ground: Ground, ray: Single, hit: Single, away: Single, dark: Single
) -> tuple[Single, Single]:
    assert ground.board is not None
    assert ground.wall is not None
    size = dark.shape
    behind = -camera.turn[2].copy()
    behind[2] = 0
    behind /= np.linalg.norm(behind)
    middle = np.array([*lighted.middle, 0], np.float32)
    slope = np.maximum(ray @ behind, 1e-6)
    to_wall = (((middle - camera.eye) @ behind) + ground.away) / slope
    wall = to_wall < away
    at = camera.eye + ray * to_wall[:, None]
    side = np.stack([at @ camera.turn[0], np.zeros(len(at)), at[:, 2]], 1).astype(np.float32)
    up = np.array([[0, 0, 1]], np.float32)
    colour = np.empty((len(ray), 3), np.float32)
    if wall.any():
        colour[wall] = surfaces.optics(ground.wall, side[wall] / ground.scale, up).colour
        # Light falls off along the wall, and a window draws its panes on it.
        fall = 0.62 + 0.2 * np.clip(-side[:, 0] / (3 * lighted.half), -1, 1)
        u, v = side[:, 0] / lighted.half + 0.9 - 0.35 * side[:, 2] / lighted.half, side[:, 2] / lighted.half
        pane = (np.abs(u) < 0.5) & (np.abs(v - 0.75) < 0.55) & (np.abs(u) > 0.03) & (np.abs(v - 0.75) > 0.03)
        colour[wall] *= (fall + ground.window * pane)[wall, None]
        low = np.clip(1 - side[:, 2] / (0.3 * lighted.half), 0, 1)
        colour[wall] *= (1 - 0.3 * low)[wall, None]
    flat = ~wall
    if flat.any():
        colour[flat] = surfaces.optics(ground.board, hit[flat] / ground.scale, up).colour
        colour[flat] *= 1 - (ground.shadow * dark.reshape(-1)[flat])[:, None]
        deep = np.clip(((hit - middle) @ behind) / ground.away, 0, 1)
        colour[flat] *= (1 - 0.25 * deep)[flat, None]
    return colour.reshape(*size, 3), np.minimum(to_wall, away).reshape(size)


def _focused(canvas: Single, distance: Single, focus: float, amount: float) -> Single:
    """Blurred with the distance from the plane in focus; what is sharp does not bleed into what is not."""
    off = np.clip(np.abs(distance - focus) / focus * 6 - 0.6, 0, 1).astype(np.float32)
    sigma = amount * 0.01 * canvas.shape[1]
    mask = np.clip(off * 3, 0, 1)
    weight = cv2.GaussianBlur(mask, (0, 0), sigma) + 1e-4
    soft = cv2.GaussianBlur((canvas * mask[:, :, None]).astype(np.float32), (0, 0), sigma) / weight[:, :, None]
    return np.asarray(canvas * (1 - off[:, :, None]) + soft * off[:, :, None], np.float32)
