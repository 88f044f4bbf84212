"""The photographer: light, ground, lifestyle rooms, cameras, and Cycles on the CPU."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import bpy
import numpy as np
from mathutils import Vector

from sample import blender
from sample import materials as m
from sample import shapes as s

Point = tuple[float, float, float]


@dataclass(frozen=True)
class Quality:
    """How much work a picture gets."""

    pixels: int = 720
    """Width and height."""
    samples: int = 40
    """Light paths a pixel before denoising."""
    threads: int = 1


@dataclass(frozen=True)
class Shot:
    """Where the camera stands, in degrees round the product (0 = front) and above the ground."""

    azimuth: float
    elevation: float
    fill: float = 0.8
    """Share of the frame that the product's longer side takes."""
    target: Point | None = None
    """A detail to look at, instead of the whole product."""
    extent: float = 0.7
    """Size of the detail, in units."""
    lens: float = 85.0


def reset(quality: Quality, seed: int) -> None:
    """An empty scene with Cycles set up; the seed fixes the noise."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    cycles = scene.cycles
    cycles.device, cycles.samples, cycles.seed = "CPU", quality.samples, seed
    cycles.use_adaptive_sampling, cycles.adaptive_threshold, cycles.adaptive_min_samples = True, 0.04, 6
    cycles.use_denoising, cycles.denoiser, cycles.denoising_quality = True, "OPENIMAGEDENOISE", "FAST"
    cycles.denoising_prefilter = "FAST"
    cycles.max_bounces, cycles.diffuse_bounces, cycles.glossy_bounces, cycles.transmission_bounces = 8, 2, 3, 8
    cycles.transparent_max_bounces, cycles.caustics_reflective, cycles.caustics_refractive = 12, False, False
    cycles.sample_clamp_indirect = 3.0
    cycles.blur_glossy = 0.5
    scene.render.resolution_x = scene.render.resolution_y = quality.pixels
    scene.render.threads_mode, scene.render.threads = "FIXED", quality.threads
    scene.render.image_settings.file_format, scene.render.image_settings.color_mode = "PNG", "RGBA"
    scene.view_settings.view_transform, scene.view_settings.look = "Standard", "None"
    scene.render.use_persistent_data = False


def _world(ambient: float, *, white: bool) -> None:
    """A dome, bright above and darker at the horizon so that metal has something to mirror; the camera sees white."""
    world = bpy.data.worlds.new("dome")
    bpy.context.scene.world = world
    world.use_nodes = True
    tree = world.node_tree
    tree.nodes.clear()
    where, split = tree.nodes.new("ShaderNodeTexCoord"), tree.nodes.new("ShaderNodeSeparateXYZ")
    ramp, back = tree.nodes.new("ShaderNodeValToRGB"), tree.nodes.new("ShaderNodeBackground")
    stops = [(0.0, 0.7), (0.47, 0.55), (0.53, 0.22), (0.62, 0.45), (0.80, 1.0), (1.0, 1.05)]
    for _ in stops[2:]:
        ramp.color_ramp.elements.new(0.5)
    for element, (position, value) in zip(ramp.color_ramp.elements, stops, strict=True):
        element.position, element.color = position, (value, value, value * 1.01, 1)
    scale = tree.nodes.new("ShaderNodeMapRange")
    scale.inputs["From Min"].default_value, scale.inputs["From Max"].default_value = -1.0, 1.0
    tree.links.new(where.outputs["Generated"], split.inputs[0])
    tree.links.new(split.outputs["Z"], scale.inputs["Value"])
    tree.links.new(scale.outputs["Result"], ramp.inputs["Fac"])
    tree.links.new(ramp.outputs["Color"], back.inputs["Color"])
    back.inputs["Strength"].default_value = ambient
    out = tree.nodes.new("ShaderNodeOutputWorld")
    if not white:
        tree.links.new(back.outputs[0], out.inputs["Surface"])
        return
    path, plain, mix = (
        tree.nodes.new(k) for k in ("ShaderNodeLightPath", "ShaderNodeBackground", "ShaderNodeMixShader")
    )
    plain.inputs["Color"].default_value, plain.inputs["Strength"].default_value = (1, 1, 1, 1), 1.3
    tree.links.new(path.outputs["Is Camera Ray"], mix.inputs[0])
    tree.links.new(back.outputs[0], mix.inputs[1])
    tree.links.new(plain.outputs[0], mix.inputs[2])
    tree.links.new(mix.outputs[0], out.inputs["Surface"])


def _lamp(kind: str, name: str, **settings: float) -> bpy.types.Object:
    lamp = bpy.data.lights.new(name, kind)
    for key, value in settings.items():
        setattr(lamp, key, value)
    thing = bpy.data.objects.new(name, lamp)
    bpy.context.scene.collection.objects.link(thing)
    return thing


def white_sweep(size: float) -> list[bpy.types.Object]:
    """White ground that saturates to 255, a soft sun from the front left and two strip lights for the highlights."""
    _world(0.78, white=True)
    ground = bpy.data.materials.new("ground")
    ground.use_nodes = True
    surface = ground.node_tree.nodes["Principled BSDF"]
    # The camera sees a ground lighter than white, so that it saturates; the product gets the bounce of a grey one.
    path, albedo = (ground.node_tree.nodes.new(k) for k in ("ShaderNodeLightPath", "ShaderNodeMapRange"))
    albedo.inputs["To Min"].default_value, albedo.inputs["To Max"].default_value = 0.62, 1.42
    ground.node_tree.links.new(path.outputs["Is Camera Ray"], albedo.inputs["Value"])
    ground.node_tree.links.new(albedo.outputs["Result"], surface.inputs["Base Color"])
    surface.inputs["Roughness"].default_value = 1.0
    surface.inputs["Specular IOR Level"].default_value = 0.0
    s.box((400, 400, 0.1), ground, (0, 0, -0.0505), bevel=0)
    sun = _lamp("SUN", "key", energy=2.3, angle=math.radians(38))
    strips = [_lamp("AREA", side, energy=19 * size**2, size=0.5 * size) for side in ("left", "right")]
    for strip in strips:
        strip.data.shape, strip.data.size_y = "RECTANGLE", 2.6 * size
    return [sun, *strips]


def follow(lights: Sequence[bpy.types.Object], azimuth: float, size: float) -> None:
    """Turn the studio lights with the camera, as a photographer turns the product on a turntable."""
    turn = math.radians(azimuth)

    def spot(x: float, y: float, z: float) -> Point:
        return x * math.cos(turn) - y * math.sin(turn), x * math.sin(turn) + y * math.cos(turn), z

    places = [spot(-2.0, -1.6, 3.4), spot(-2.4, -0.9, 1.3), spot(2.6, -0.3, 1.5)]
    for light, place in zip(lights, places, strict=True):
        light.location = tuple(size * value for value in place)
        blender.aim(light, (0, 0, 0.35 * size))


def camera(things: Sequence[bpy.types.Object], shot: Shot) -> None:
    """Place a camera so that the product (or the detail) fills its share of the square frame, centred."""
    points = blender.corners(things)
    data = bpy.data.cameras.new("camera")
    data.lens, data.sensor_width, data.sensor_height = shot.lens, 36.0, 36.0
    thing = bpy.data.objects.new("camera", data)
    bpy.context.scene.collection.objects.link(thing)
    bpy.context.scene.camera = thing
    azimuth, elevation = math.radians(shot.azimuth), math.radians(shot.elevation)
    direction = Vector((math.sin(azimuth) * math.cos(elevation), -math.cos(azimuth) * math.cos(elevation),
                        math.sin(elevation)))  # fmt: skip
    target = Vector(shot.target) if shot.target else Vector(((points.min(0) + points.max(0)) / 2).tolist())
    half = 18.0 / shot.lens  # tangent of half the angle of view
    if shot.target:
        distance = shot.extent / 2 / half
        thing.location = target + direction * distance
        blender.aim(thing, target)
        data.dof.use_dof, data.dof.focus_distance = True, distance
        data.dof.aperture_fstop = 0.9 / max(shot.extent, 0.3)
        return
    distance = float(np.ptp(points, 0).max()) / half
    for _ in range(6):
        thing.location = target + direction * distance
        blender.aim(thing, target)
        world = np.array(thing.rotation_euler.to_matrix())
        local = (points - np.array(thing.location)) @ world
        seen = local[:, :2] / -local[:, 2:] / half  # -1..1 over the frame
        low, high = seen.min(0), seen.max(0)
        centre, span = (low + high) / 2, float((high - low).max()) / 2
        target += Vector((world[:, :2] @ (centre * half * distance)).tolist())
        distance *= span / shot.fill
    data.clip_end = 500
    data.dof.focus_distance = distance
    if shot.lens < 85:
        return
    # The ground is pure white away from product and shadow, so only their part of the frame is rendered.
    render = bpy.context.scene.render
    low, high = (low - 0.24) / 2 + 0.5, (high + 0.24) / 2 + 0.5
    render.use_border = True
    render.border_min_x, render.border_max_x = max(0.0, float(low[0])), min(1.0, float(high[0]))
    render.border_min_y, render.border_max_y = max(0.0, float(low[1])), min(1.0, float(high[1]))


def blur_background(strength: float) -> None:
    """Open the camera's aperture, focused on the product."""
    data = bpy.context.scene.camera.data
    data.dof.use_dof, data.dof.aperture_fstop = True, 0.9 / strength


def room(theme: str, size: float, reach: float) -> list[bpy.types.Object]:
    """A place where the product is used: a table or floor, a wall, a few things out of focus, window light.

    `size` is the product's height and `reach` its half width; returns nothing that should follow the camera.
    """
    _world(0.62, white=False)
    unit = max(size, reach * 1.4)
    walls = {"kitchen": "#dfe5de", "living": "#b9c2b6", "desk": "#c9b8a6", "floor": "#d8d2c8", "nursery": "#c7d6dd"}
    tops = {
        "kitchen": m.wood("#b98a5a", "#7c5230", grain=0.7 / unit),
        "living": m.wood("#6b4a33", "#3f2a1c", grain=0.7 / unit),
        "desk": m.wood("#d9b88a", "#b48d5c", grain=0.7 / unit),
        "floor": m.wood("#c49b6c", "#94693f", grain=0.5 / unit),
        "nursery": m.wood("#e3c79d", "#c7a474", grain=0.6 / unit),
    }
    wall = m.clay(walls[theme], walls[theme])
    s.box((30 * unit, 0.2, 16 * unit), wall, (0, 3.4 * unit, 4 * unit), bevel=0)
    deep = 3.3 * unit
    if theme in ("floor", "nursery"):
        for i in range(-9, 10):
            s.box((1.1 * unit, 14 * unit, 0.2), tops[theme], (i * 1.105 * unit, -2 * unit, -0.1), bevel=0.006 * unit)
        s.box((30 * unit, 0.12 * unit, 0.5 * unit), m.plastic("#f4f2ee", 0.5), (0, 3.3 * unit, 0.25 * unit))
        s.lathe([(0, 0), (2.2 * unit, 0), (2.2 * unit, 0.03 * unit, 0.02), (0, 0.03 * unit)],
                m.cloth("#cfc4b4", "#b9ac99", 30 / unit), (0.3 * unit, 0.6 * unit, 0))  # fmt: skip
    else:
        s.box(
            (9 * unit, deep + 2.4 * unit, 0.4 * unit),
            tops[theme],
            (0, (deep - 2.4 * unit) / 2, -0.2 * unit),
            bevel=0.03 * unit,
        )
    if theme == "kitchen":
        tile = m.ceramic("#eef1ee", rough=0.15)
        for i in range(-9, 10):
            for j in range(7):
                s.box(
                    (0.78 * unit, 0.05, 0.4 * unit),
                    tile,
                    ((i + 0.5 * (j % 2)) * 0.81 * unit, 3.28 * unit, (0.2 + 0.43 * j) * unit),
                    bevel=0.02 * unit,
                )
        s.lathe([(0, 0), (0.34, 0, 0.1), (0.42, 0.55, 0.05), (0.39, 0.55), (0.3, 0.08, 0.1), (0, 0.08)],
                m.ceramic("#d9cbb3"), (1.0 * unit, 1.5 * unit, 0)).scale = (unit,) * 3  # fmt: skip
        for k, (x, y, z) in enumerate([(0.86, 1.42, 0.45), (1.14, 1.46, 0.48), (1.0, 1.66, 0.6)]):
            s.ball(0.2 * unit, m.plastic(["#e39b2d", "#d9822b", "#e8b13a"][k], 0.45), (x * unit, y * unit, z * unit))
        s.box(
            (0.9 * unit, 0.08 * unit, 1.3 * unit),
            m.wood("#8a5a35", "#5d3a20", "z"),
            (-1.6 * unit, 2.7 * unit, 0.64 * unit),
            (-12, 0, 0),
            bevel=0.04 * unit,
        )
    if theme in ("living", "desk"):
        for k, (tone, thick) in enumerate([("#7d3c3a", 0.13), ("#34506b", 0.1), ("#d8c9a8", 0.15)]):
            s.box(
                (0.85 * unit, 0.6 * unit, thick * unit),
                m.card(tone, tone),
                (1.05 * unit, 1.5 * unit, (0.065, 0.18, 0.305)[k] * unit),
                (0, 0, 8 * k - 6),
                bevel=0.01 * unit,
            )
    if theme in ("living", "floor"):
        frame = (-1.5 * unit, 3.25 * unit, 1.9 * unit)
        s.box((1.5 * unit, 0.08 * unit, 1.9 * unit), m.wood("#3d2b1f", "#2a1c13"), frame, bevel=0.02 * unit)
        s.box((1.34 * unit, 0.1 * unit, 1.74 * unit), m.card("#efe9dc", "#ebe4d4"), frame, bevel=0)
        s.ball(
            0.36 * unit, m.plastic("#c8744f", 0.8), (frame[0], frame[1] - 0.05 * unit, frame[2] + 0.2 * unit), squash=1
        ).scale = (1, 0.05, 1)
        s.box(
            (0.8 * unit, 0.11 * unit, 0.3 * unit),
            m.plastic("#5f7362", 0.8),
            (frame[0], frame[1], frame[2] - 0.45 * unit),
            bevel=0,
        )
    if theme in ("living", "nursery", "desk", "floor"):
        foliage(-1.3 * unit, 1.9 * unit, 1.25 * unit if theme in ("floor", "nursery") else 0.9 * unit)
    sun = _lamp("SUN", "window", energy=3.4, angle=math.radians(9))
    sun.data.color = (1.0, 0.93, 0.82)
    sun.location = (-5 * unit, -3.2 * unit, 4.6 * unit)
    blender.aim(sun, (0, 0, 0))
    fill = _lamp("AREA", "fill", energy=70 * unit**2, size=4 * unit)
    fill.location = (4 * unit, -4 * unit, 4 * unit)
    blender.aim(fill, (0, 0, 0.5 * unit))
    return [sun, fill]


def foliage(x: float, y: float, size: float, seed: int = 4) -> None:
    """A potted plant of the given size."""
    rng = np.random.default_rng(seed)
    pot = s.lathe([(0, 0), (0.24, 0, 0.04), (0.32, 0.42, 0.03), (0.28, 0.42, 0.02), (0.24, 0.34), (0, 0.34)],
                  m.clay("#e8e2d8", "#d6cdbf"), (x, y, 0))  # fmt: skip
    pot.scale = (size,) * 3
    green = m.leaf("#2f5d3a", "#4d7f4f")
    for k in range(13):
        s.blade(size * rng.uniform(0.8, 1.35), 0.16 * size, rng.uniform(0.1, 0.5), green, (x, y, 0.3 * size), 137.5 * k)


def take(path: Path) -> None:
    """Render the scene to a PNG."""
    bpy.context.scene.render.filepath = str(path)
    bpy.ops.render.render(write_still=True)
