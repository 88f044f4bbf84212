"""Puts one product in front of the camera: on white, with its box, or in a room."""

from __future__ import annotations

from pathlib import Path

import bpy

from sample import blender, goods_carry, goods_home, goods_kitchen, stage, studio
from sample import materials as m
from sample import shapes as s
from sample.goods import Good

BUILDERS = {**goods_kitchen.BUILDERS, **goods_home.BUILDERS, **goods_carry.BUILDERS}


def photograph(
    good: Good, view: str, place: tuple[float, ...], path: Path, pixels: int, samples: int, threads: int, seed: int
) -> None:
    """Build the product, light it, render one view to a PNG (RGBA; alpha 0 where nothing was rendered)."""
    lifestyle = view == "lifestyle"
    studio.reset(studio.Quality(pixels, samples * 3 // 2 if lifestyle else samples, threads), seed)
    with stage.on(blender.Blender()):
        BUILDERS[good.kind](good.look)
        things = list(bpy.context.scene.objects)
        stretch = bpy.data.objects.new("stretch", None)
        bpy.context.scene.collection.objects.link(stretch)
        for thing in things:
            thing.parent = stretch
        stretch.scale = (good.look.wide, good.look.wide, good.look.tall)
        bpy.context.view_layer.update()
        points = blender.corners(things)
        height, reach = float(points[:, 2].max()), float(abs(points[:, :2]).max())
        if view == "detail":
            azimuth, elevation, x, y, z, extent = place
            shot = studio.Shot(azimuth, elevation, target=(x, y, z), extent=extent)
        else:
            fill = place[2] if len(place) > 2 else 0.82
            shot = studio.Shot(place[0], place[1], fill, lens=60 if lifestyle else 85)
        if view == "pack":
            things += carton(good, points.min(0).tolist(), points.max(0).tolist())
        if lifestyle:
            studio.room(good.theme, height, reach)
            studio.camera(things, shot)
            studio.blur_background(0.9)
        else:
            size = max(height, 2 * reach)
            lights = studio.white_sweep(size)
            studio.follow(lights, shot.azimuth, size)
            studio.camera(things, shot)
        studio.take(path)


def carton(good: Good, low: list[float], high: list[float]) -> list[bpy.types.Object]:
    """The box that the product comes in, behind it to the right, with a printed label."""
    width, depth, height = (1.06 * (b - a) for a, b in zip(low, high, strict=True))
    at = (high[0] * 0.55 + 0.2, high[1] + 0.75 * depth, height / 2)
    board, ink = m.card("#b98f62", "#a97f53"), m.plastic("#2b2622", 0.8)
    face = at[1] - depth / 2 - 0.004
    named = good.title.split(",")[0].split(" with ")[0].split(" in ")[0]
    brand = [word for word in named.split() if word.istitle() and word.isalpha()][-1]
    dark = sum(m.linear(good.look.main)[:3]) < 1.2
    label = m.plastic("#f7f4ee" if dark else "#2b2622", 0.7)
    out = [
        s.box((width, depth, height), board, at, bevel=0.012),
        s.box(
            (width * 1.002, depth * 1.002, 0.006), m.card("#8f6b45", "#8f6b45"), (at[0], at[1], height * 0.9), bevel=0
        ),
        s.box(
            (width * 0.62, 0.006, height * 0.34), m.plastic(good.look.main, 0.7), (at[0], face, height * 0.62), bevel=0
        ),
        s.words(brand, 0.13 * width, label, (at[0], face - 0.006, height * 0.66)),
        s.words("handle with care", 0.06 * width, ink, (at[0], face - 0.004, height * 0.2)),
    ]
    return out
