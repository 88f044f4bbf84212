"""The photographer of `many.py`: studios, views, close-ups, packs and scenes of use."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import cached_property

import cv2
import numpy as np

from sample import materials as m
from sample import prints, shelf_pack, shelf_room, shelf_table, shelf_wear, stage
from sample.light import Ground, Lamps, Lit, photograph
from sample.make import Make
from sample.raster import Camera, framed, looking, rasterised
from sample.solids import Single, Solid, Solids, rotation, together

Rng = np.random.Generator
ANGLES = {"quarter": (33.0, 15.0), "front": (0.0, 6.0), "side": (90.0, 8.0), "back": (205.0, 10.0), "top": (18.0, 60.0)}
WALLS = ("#e8e2d6", "#d5dcd6", "#c9d3dc", "#ead9cf", "#f1efea", "#b9c2b6", "#8fa0a0", "#d8c4a8", "#9aa7b8", "#c98f76")
BIG = ("Furniture", "Lighting", "Bags", "Sports")


@dataclass(frozen=True)
class Setting:
    """One studio, in which all pictures of a style are taken."""

    seed: int
    height: int
    width: int
    field: float
    """Angle of view, degrees."""
    fill: float
    lamps: Lamps
    ground: Ground
    grain: float
    quality: int
    """Of the JPEG files."""
    turned: int = 1
    """-1 shows the other side in quarter and side views."""
    stands: bool = True

    @classmethod
    def drawn(cls, seed: int, *, stands: bool) -> Setting:
        """A studio out of its seed."""
        rng = np.random.default_rng(seed)
        side = int(rng.integers(40, 57)) * 8
        height, width = [(side, side), (side, side * 4 // 5), (side * 3 // 4, side)][
            int(rng.choice(3, p=[0.7, 0.2, 0.1]))
        ]
        kind = str(rng.choice(["white", "cutout", "grey", "gradient", "colour"], p=[0.44, 0.26, 0.1, 0.1, 0.1]))
        tone = float(rng.uniform(0.55, 0.86))
        soft = m.linear(WALLS[int(rng.integers(len(WALLS)))])[:3]
        shadow = float(rng.uniform(0.5, 1.0)) if stands else 0.0
        white = (1.0, 1.0, 1.0)
        ground = {
            "white": Ground("white", shadow=shadow) if stands else Ground("cutout"),
            "cutout": Ground("cutout"),
            "grey": Ground("backdrop", (tone,) * 3, (tone,) * 3, shadow),
            "gradient": Ground("plain", (tone * 0.8,) * 3, white, shadow),
            "colour": Ground("backdrop", soft, soft, shadow),
        }[kind]
        lamps = Lamps(
            key=(float(rng.choice([-1, 1])) * float(rng.uniform(20, 60)), float(rng.uniform(35, 65))),
            strength=float(rng.uniform(2.0, 6.5)),
            width=float(rng.uniform(18, 34)),
            rim=float(rng.uniform(0.5, 2.5)),
        )
        return cls(seed, height, width, float(rng.uniform(13, 24)), float(rng.uniform(0.72, 0.9)), lamps, ground,
                   float(rng.choice([0.0, 0.6, 1.2])), int(rng.integers(86, 95)), int(rng.choice([-1, 1])),
                   stands)  # fmt: skip


@dataclass(frozen=True)
class View:
    """A product in its studio."""

    solid: Solid
    setting: Setting
    make: Make
    category: str
    detail: tuple[float, ...] | None = None
    """azimuth, elevation, x, y, z, extent of a close-up, where the product has a place worth one."""
    rise: float = 0.0
    """Degrees by which it is seen from higher up."""
    angles: dict[str, tuple[float, ...]] = field(default_factory=dict)
    """Azimuth and elevation that differ from `ANGLES`."""

    @cached_property
    def lit(self) -> Lit:
        """With its shadows."""
        return Lit(self.solid)

    def rng(self, part: int) -> Rng:
        """Draws that are the same for all colours."""
        return np.random.default_rng([self.setting.seed, part])


def shown(view: View, name: str) -> np.ndarray:
    """The picture (h, w, 3) uint8 of a view: a key of `ANGLES`, detail, pack or lifestyle."""
    if name == "pack":
        return _pack(view)
    if name == "lifestyle":
        return _scene(view) if view.setting.stands else _flat(view)
    setting = view.setting
    if name == "detail":
        return photograph(view.lit, _close(view), setting.lamps, setting.ground, focus=0.5, grain=setting.grain,
                          seed=setting.seed)  # fmt: skip
    rng = view.rng(list(ANGLES).index(name))
    azimuth, elevation = view.angles.get(name, ANGLES[name])[:2]
    azimuth = azimuth * (setting.turned if name not in view.angles else 1) + float(rng.uniform(-6, 6))
    elevation += float(rng.uniform(-3, 4)) + (view.rise if name in ("quarter", "front") else 0)
    if not setting.stands:
        azimuth, elevation = (
            azimuth if name in ("quarter", "side") else 180.0 * (name == "back"),
            float(rng.uniform(-1, 3)),
        )
    fill = setting.fill * float(rng.uniform(0.96, 1.02))
    camera = framed(view.solid, azimuth, elevation, setting.field, setting.height, setting.width, fill)
    return photograph(view.lit, camera, setting.lamps, setting.ground, grain=setting.grain, seed=setting.seed)


def _close(view: View) -> Camera:
    """A camera near a part of the surface where much happens."""
    rng, setting = view.rng(20), view.setting
    size = float(np.ptp(view.solid.points, 0).max())
    if view.detail is not None and rng.random() < 0.6:
        azimuth, elevation, x, y, z, extent = view.detail
        target = np.array([x, y, z], np.float32)
    else:
        azimuth, elevation = float(rng.uniform(-40, 40)), float(rng.uniform(4, 32)) + view.rise
        extent = size * float(rng.uniform(0.28, 0.46))
        camera = framed(view.solid, azimuth, elevation, 18, 96, 96, 0.85)
        hits = rasterised(view.solid, camera)
        normals, kinds = np.zeros((96, 96, 3), np.float32), np.zeros((96, 96), np.float32)
        normals[hits.rows, hits.columns] = hits.mixed(view.solid, view.solid.normals)
        kinds[hits.rows, hits.columns] = 1 + view.solid.surface[hits.triangles] % 7
        busy = sum(np.abs(cv2.Laplacian(normals[:, :, k], cv2.CV_32F)) for k in range(3))
        busy = busy + (np.abs(cv2.Laplacian(kinds, cv2.CV_32F)) > 0)
        covered = cv2.blur((kinds > 0).astype(np.float32), (25, 25))
        score = (cv2.blur(np.minimum(busy, 1.5), (21, 21)) + 0.05) * np.clip((covered - 0.55) * 4, 0.02, 1)
        score = score[hits.rows, hits.columns]
        best = np.argsort(score)[-max(1, len(score) // 12) :]
        pick = int(best[int(rng.integers(len(best)))])
        ray = camera.rays(hits.rows[pick : pick + 1], hits.columns[pick : pick + 1])[0]
        target = camera.eye + ray * hits.away[pick]
    wide = 24.0
    distance = extent / 2 / math.tan(math.radians(wide / 2)) * max(1.0, setting.height / setting.width)
    return looking(azimuth, elevation, target, max(distance, 0.4), wide, setting.height, setting.width)


def _pack(view: View) -> np.ndarray:
    """The product's box, with its picture, sometimes with the product beside it."""
    rng, setting, make = view.rng(30), view.setting, view.make
    span = view.solid.high - view.solid.low
    w, d, high = (float(np.clip(k * 1.06, 0.35 * float(span.max()), 1.1 * float(span.max()))) for k in span)
    tall = 420
    size = (max(60, round(tall * w / high)), tall)
    board = str(rng.choice(["#f4f2ec", "#c49a6c", make.main, "#26282b"]))
    tones = (board, make.accent, make.second)
    front = prints.label(rng, make.brand, make.words, tones, size).copy()
    small = Lit(view.solid, count=24, cells=16)
    camera = framed(view.solid, 30.0 * setting.turned, 14, 20, 168, 168, 0.92)
    thumb = photograph(small, camera, setting.lamps, Ground("cutout"))
    side = round(min(size) * 0.62)
    thumb = cv2.resize(thumb, (side, side), interpolation=cv2.INTER_AREA)
    x, y = (size[0] - side) // 2, round(tall * 0.45 - side / 2)
    y = max(0, min(y, tall - side))
    front[y : y + side, x : x + side] = thumb
    collected = Solids()
    with stage.on(collected):
        shelf_pack.boxed(replace(make, main=board), (w, d, high), front)
    box = collected.solid()
    if rng.random() < 0.4:
        gap = (float(span[0]) + w) / 2 + 0.1
        both = together([box.moved((gap * 0.8, float(span[1] + d) / 2, 0)), view.solid])
    else:
        both = box
    azimuth, elevation = 24.0 * setting.turned + float(rng.uniform(-6, 6)), float(rng.uniform(10, 20))
    camera = framed(both, azimuth, elevation, setting.field, setting.height, setting.width, setting.fill)
    ground = setting.ground if setting.ground.kind != "cutout" or rng.random() < 0.5 else Ground("white", shadow=0.8)
    return photograph(Lit(both, count=60), camera, setting.lamps, ground, grain=setting.grain, seed=setting.seed)


def _board(rng: Rng) -> m.Surface:
    wood = [("#b98a5a", "#7c5230"), ("#6b4a33", "#3f2a1c"), ("#d9b88a", "#b48d5c"), ("#c9b49a", "#a48c70")]
    choice = rng.random()
    if choice < 0.55:
        light, dark = wood[int(rng.integers(len(wood)))]
        return m.wood(light, dark, "x", grain=0.6)
    if choice < 0.75:
        return m.clay(str(rng.choice(["#cfcdc8", "#a9a8a5", "#e4dfd6"])), str(rng.choice(["#b3b0aa", "#8f8e8b"])))
    if choice < 0.9:
        tone = str(rng.choice(["#e3dccd", "#b9c0c4", "#cdb9a0"]))
        return m.cloth(tone, None, 20)
    tile = prints.pattern(rng, "checks", ("#f2efe8", "#d9d4c9"))
    return m.printed(tile, (6.0, 6.0), onto="xy")


def _wall(rng: Rng) -> m.Surface:
    tone = str(rng.choice(WALLS))
    if rng.random() < 0.25:
        tile = prints.pattern(rng, str(rng.choice(["stripes", "leaves", "tiles"])), (tone, str(rng.choice(WALLS))))
        return m.printed(tile, (1.6, 1.6))
    return m.clay(tone, tone)


PROPS = (shelf_table.cup, shelf_table.vase, shelf_table.planter, shelf_pack.book, shelf_pack.candle, shelf_table.bowl,
         shelf_table.jug, shelf_room.frame, shelf_table.planter)  # fmt: skip
ROOM_PROPS = (shelf_table.planter, shelf_room.floor_lamp, shelf_room.stool, shelf_room.storage, shelf_table.vase)
FLAT_PROPS = (shelf_wear.glasses, shelf_pack.book, shelf_wear.cap, shelf_table.cup)


def _prop(rng: Rng, kinds: tuple[object, ...]) -> Solid:
    tones = [str(rng.choice(WALLS)) for _ in range(3)]
    tones[0] = str(rng.choice(["#d8c8ac", "#3a3a3c", "#8f9490", "#bf6f4a", "#2f5d62", "#ecebe6", "#d9b884"]))
    make = Make(tones[0], tones[1], "#5a4632", tones[2], "Still", "Still Life", int(rng.integers(1 << 30)),
                int(rng.integers(2)))  # fmt: skip
    collected = Solids(coarse=0.25)
    with stage.on(collected):
        kinds[int(rng.integers(len(kinds)))](make)  # type: ignore[operator]
    return collected.solid(longest=0.4)


def _scene(view: View) -> np.ndarray:
    """In use: on a table or floor before a wall, among other things out of focus."""
    rng, setting, solid = view.rng(40), view.setting, view.solid
    big = view.category.split("/")[0] in BIG
    span = solid.high - solid.low
    reach, high = float(max(span[0], span[1])) / 2, float(span[2])
    unit = max(reach, high / 2)
    azimuth = float(rng.uniform(-30, 30))
    a = math.radians(azimuth)
    middle = (solid.low + solid.high)[:2] / 2
    others = []
    for k in range(int(rng.integers(1, 4))):
        prop = _prop(rng, ROOM_PROPS if big else PROPS)
        size = prop.high - prop.low
        scale = unit * float(rng.uniform(0.8, 1.7)) * (1.0 if big else 0.9) / float(size.max())
        wide = float(max(size[0], size[1])) * scale / 2
        x = (-1) ** k * (reach + wide) * float(rng.uniform(0.75, 1.15))
        y = (reach + wide) * float(rng.uniform(0.7, 1.3)) + (0.6 * unit if k == 2 else 0)
        place = middle + np.array([x * math.cos(a) - y * math.sin(a), x * math.sin(a) + y * math.cos(a)])
        others.append(prop.moved((float(place[0]), float(place[1]), 0.0), scale, float(rng.uniform(-30, 30)) + azimuth))
    whole = together([solid, *others])
    camera = framed(solid, azimuth, float(rng.uniform(9, 24)), 26, setting.height, setting.width,
                    float(rng.uniform(0.45, 0.68)))  # fmt: skip
    warm = float(rng.uniform(0.86, 1.0))
    key = float(rng.choice([-1, 1])) * float(rng.uniform(50, 80)), float(rng.uniform(30, 50))
    lamps = replace(setting.lamps, key=key,
                    strength=float(rng.uniform(4, 9)), tint=(1.0, 0.96 * warm, 0.9 * warm), floor=0.5)  # fmt: skip
    ground = Ground("scene", shadow=0.9, board=_board(rng), wall=_wall(rng), away=unit * float(rng.uniform(2.5, 4.5)),
                    scale=unit * float(rng.uniform(0.8, 1.3)), window=float(rng.choice([0.0, 0.25, 0.4])))  # fmt: skip
    lit = Lit(whole, count=48, cells=96, reach=1.6)
    return photograph(lit, camera, lamps, ground, focus=float(rng.uniform(0.4, 1.3)), grain=1.0, seed=setting.seed)


def _flat(view: View) -> np.ndarray:
    """Laid out on a table or floor and seen from above, with a few things beside it."""
    rng, setting = view.rng(41), view.setting
    solid = laid(view.solid)
    span = solid.high - solid.low
    pieces = [solid]
    for k in range(int(rng.integers(0, 3))):
        prop = _prop(rng, FLAT_PROPS)
        size = prop.high - prop.low
        scale = float(span[:2].max()) * float(rng.uniform(0.2, 0.34)) / float(size.max())
        x = (-1) ** k * (float(span[0]) / 2 + float(size[:2].max()) * scale * 0.7)
        y = float(rng.uniform(-0.45, 0.45)) * float(span[1])
        centre = (solid.low + solid.high) / 2
        pieces.append(prop.moved((float(centre[0]) + x, float(centre[1]) + y, 0), scale, float(rng.uniform(-60, 60))))
    camera = framed(solid, float(rng.uniform(-12, 12)), float(rng.uniform(72, 88)), 26, setting.height, setting.width,
                    float(rng.uniform(0.6, 0.75)))  # fmt: skip
    ground = Ground(
        "scene", shadow=0.9, board=_board(rng), wall=_wall(rng), away=40.0, scale=float(rng.uniform(0.9, 1.6))
    )
    lamps = replace(setting.lamps, strength=float(rng.uniform(3, 7)))
    return photograph(Lit(together(pieces), count=48, cells=96, reach=1.4), camera, lamps, ground, grain=1.0,
                      seed=setting.seed)  # fmt: skip


def laid(solid: Solid) -> Solid:
    """On its back."""
    turn = rotation((-math.pi / 2, 0, 0)).astype(np.float32)
    points: Single = solid.points @ turn.T
    points = points - np.array([0, 0, points[:, 2].min()], np.float32)
    return replace(solid, points=points, normals=solid.normals @ turn.T)
