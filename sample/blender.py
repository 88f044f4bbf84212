"""The Blender stage: meshes and letters as bpy objects, and where they are. Lengths are in scene units."""

from __future__ import annotations

import math
from collections.abc import Sequence

import bpy
import numpy as np
from mathutils import Vector

from sample import nodes
from sample.materials import Surface
from sample.stage import Floats, Point


class Blender:
    """A `Stage` that puts everything into bpy's current scene."""

    def __init__(self) -> None:
        self._materials: dict[Surface, bpy.types.Material] = {}

    def fine(self, steps: int) -> int:
        """All the steps asked for."""
        return steps

    def material(self, surface: Surface | bpy.types.Material) -> bpy.types.Material:
        """The material of a surface, made once; one of bpy's own stays what it is."""
        if not isinstance(surface, Surface):
            return surface
        if surface not in self._materials:
            self._materials[surface] = nodes.made(surface)
        return self._materials[surface]

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
    ) -> bpy.types.Object:
        """Put a mesh into the scene. `turn` is in degrees; edges sharper than `sharp` degrees stay edges."""
        data = bpy.data.meshes.new(name)
        data.from_pydata(vertices.tolist(), [], [list(face) for face in faces])
        data.validate()
        data.polygons.foreach_set("use_smooth", [True] * len(data.polygons))
        data.set_sharp_from_angle(angle=math.radians(sharp))
        data.materials.append(self.material(material))
        thing = bpy.data.objects.new(name, data)
        if bevel:
            edge = thing.modifiers.new("bevel", "BEVEL")
            edge.width, edge.segments, edge.limit_method = bevel, segments, "ANGLE"
            edge.harden_normals = True
        thing.location, thing.rotation_euler = at, tuple(math.radians(angle) for angle in turn)
        bpy.context.scene.collection.objects.link(thing)
        return thing

    def words(
        self, text: str, size: float, material: Surface, at: Point, turn: Point, *, depth: float
    ) -> bpy.types.Object:
        """Raised letters, centred."""
        curve = bpy.data.curves.new("words", "FONT")
        curve.body, curve.size, curve.extrude = text, size, depth
        curve.align_x, curve.align_y = "CENTER", "CENTER"
        curve.materials.append(self.material(material))
        thing = bpy.data.objects.new("words", curve)
        thing.location, thing.rotation_euler = at, tuple(math.radians(angle) for angle in turn)
        bpy.context.scene.collection.objects.link(thing)
        return thing


def corners(things: Sequence[bpy.types.Object]) -> Floats:
    """World positions (n, 3) of all vertices, modifiers applied."""
    graph = bpy.context.evaluated_depsgraph_get()
    out = []
    for thing in things:
        evaluated = thing.evaluated_get(graph)
        mesh = evaluated.to_mesh()
        flat = np.empty(len(mesh.vertices) * 3)
        mesh.vertices.foreach_get("co", flat)
        world = np.array(evaluated.matrix_world)
        out.append(flat.reshape(-1, 3) @ world[:3, :3].T + world[:3, 3])
        evaluated.to_mesh_clear()
    return np.vstack(out)


def aim(thing: bpy.types.Object, target: Sequence[float]) -> None:
    """Turn a camera or lamp so that it looks at `target`."""
    thing.rotation_euler = (Vector(target) - thing.location).to_track_quat("-Z", "Y").to_euler()
