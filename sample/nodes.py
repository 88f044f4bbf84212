"""Blender materials of the surfaces in `materials.py`: a function of the same name and arguments each."""

from __future__ import annotations

from typing import Any

import bpy

from sample.materials import Colour, Surface, linear


def made(surface: Surface) -> bpy.types.Material:
    """The material of a surface."""
    return MATERIALS[surface.kind](**surface.values)


class _Nodes:
    """The few node operations that the surfaces below need."""

    def __init__(self, name: str) -> None:
        self.material = bpy.data.materials.new(name)
        self.material.use_nodes = True
        self.tree = self.material.node_tree
        self.surface = self.tree.nodes["Principled BSDF"]

    def set(self, **inputs: Any) -> None:
        for name, value in inputs.items():
            self.surface.inputs[name.replace("_", " ")].default_value = value

    def node(self, kind: str, **inputs: Any) -> Any:
        node = self.tree.nodes.new(kind)
        for name, value in inputs.items():
            node.inputs[name.replace("_", " ")].default_value = value
        return node

    def link(self, output: Any, target: Any) -> None:
        self.tree.links.new(output, target)

    def place(self, scale: tuple[float, float, float], turn: tuple[float, float, float] = (0, 0, 0)) -> Any:
        """Object coordinates, scaled: fine along one axis makes grain and brushing."""
        coordinates, mapping = self.node("ShaderNodeTexCoord"), self.node("ShaderNodeMapping")
        mapping.inputs["Scale"].default_value, mapping.inputs["Rotation"].default_value = scale, turn
        self.link(coordinates.outputs["Object"], mapping.inputs["Vector"])
        return mapping.outputs["Vector"]

    def noise(self, vector: Any, scale: float, detail: float = 3.0, distortion: float = 0.0) -> Any:
        node = self.node("ShaderNodeTexNoise", Scale=scale, Detail=detail, Distortion=distortion)
        self.link(vector, node.inputs["Vector"])
        return node.outputs["Fac"]

    def ramp(self, factor: Any, stops: list[tuple[float, Colour]]) -> Any:
        node = self.node("ShaderNodeValToRGB")
        elements = node.color_ramp.elements
        while len(elements) < len(stops):
            elements.new(0.5)
        for element, (position, colour) in zip(elements, stops, strict=True):
            element.position, element.color = position, linear(colour)
        self.link(factor, node.inputs["Fac"])
        return node.outputs["Color"]

    def colour(self, output: Any) -> None:
        self.link(output, self.surface.inputs["Base Color"])

    def bump(self, height: Any, strength: float, distance: float = 0.01) -> None:
        node = self.node("ShaderNodeBump", Strength=strength, Distance=distance)
        self.link(height, node.inputs["Height"])
        self.link(node.outputs["Normal"], self.surface.inputs["Normal"])


def plastic(colour: Colour, rough: float = 0.3, coat: float = 0.0) -> bpy.types.Material:
    """Plain plastic or lacquer."""
    n = _Nodes("plastic")
    n.set(Base_Color=linear(colour), Roughness=rough, Coat_Weight=coat, Coat_Roughness=0.05)
    return n.material


def ceramic(colour: Colour, speck: Colour | None = None, rough: float = 0.22) -> bpy.types.Material:
    """Glaze, with specks of another colour when asked."""
    n = _Nodes("ceramic")
    n.set(Base_Color=linear(colour), Roughness=rough, Coat_Weight=0.35, Coat_Roughness=0.12)
    where = n.place((1, 1, 1))
    if speck:
        n.colour(n.ramp(n.noise(where, 55, 2), [(0.0, speck), (0.33, speck), (0.37, colour), (1.0, colour)]))
    n.bump(n.noise(where, 4, 1), 0.08, 0.03)
    return n.material


def clay(colour: Colour, dark: Colour) -> bpy.types.Material:
    """Unglazed earthenware or concrete."""
    n = _Nodes("clay")
    n.set(Roughness=0.85)
    where = n.place((1, 1, 1))
    n.colour(n.ramp(n.noise(where, 5, 8), [(0.3, dark), (0.65, colour)]))
    n.bump(n.noise(where, 45, 6), 0.35, 0.01)
    return n.material


def metal(colour: Colour, rough: float = 0.25, brushed: tuple[float, float, float] | None = None) -> bpy.types.Material:
    """Metal; `brushed` scales the noise, so (1, 1, 80) gives rings round the z axis."""
    n = _Nodes("metal")
    n.set(Base_Color=linear(colour), Metallic=1.0, Roughness=rough)
    if brushed:
        grain = n.noise(n.place(brushed), 3, 4)
        n.bump(grain, 0.06, 0.004)
        spread = n.node("ShaderNodeMapRange", To_Min=rough * 0.7, To_Max=rough * 1.4)
        n.link(grain, spread.inputs["Value"])
        n.link(spread.outputs["Result"], n.surface.inputs["Roughness"])
    return n.material


def wood(light: Colour, dark: Colour, along: str = "x", rough: float = 0.42, grain: float = 1.0) -> bpy.types.Material:
    """Boards with growth rings and pores that run along the x, y or z axis."""
    n = _Nodes("wood")
    n.set(Roughness=rough, Coat_Weight=0.08, Coat_Roughness=0.3)
    long, wide = 0.35 * grain, 3.0 * grain
    scale = {"x": (long, wide, wide), "y": (wide, long, wide), "z": (wide, wide, long)}[along]
    where = n.place(scale, (0.05, 0.04, 0.03))
    rings = n.noise(where, 1.1, 4, 0.8)
    saw = n.node("ShaderNodeMath")
    saw.operation = "PINGPONG"
    saw.inputs[1].default_value = 0.055
    n.link(rings, saw.inputs[0])
    spread = n.node("ShaderNodeMapRange", From_Max=0.055)
    n.link(saw.outputs[0], spread.inputs["Value"])
    x, y, z = (s * (1.2 if s == long else 9) for s in scale)
    fine = n.noise(n.place((x, y, z)), 3, 5)
    mix = n.node("ShaderNodeMix", Factor=0.45)
    n.link(spread.outputs["Result"], mix.inputs["A"])
    n.link(fine, mix.inputs["B"])
    n.colour(n.ramp(mix.outputs["Result"], [(0.05, dark), (0.8, light)]))
    n.bump(fine, 0.12, 0.006)
    return n.material


def cloth(
    colour: Colour, other: Colour | None = None, thread: float = 40.0, stripe: tuple[Colour, float] | None = None
) -> bpy.types.Material:
    """A weave of two threads; `stripe` = (colour, stripes a unit) across x."""
    n = _Nodes("cloth")
    n.set(Roughness=0.9, Sheen_Weight=0.35, Sheen_Roughness=0.4)
    where = n.place((1, 1, 1))
    melange = n.ramp(n.noise(n.place((1, 1, 4)), 28, 4), [(0.35, other or colour), (0.62, colour)])
    if stripe:
        bands = n.node("ShaderNodeTexWave", Scale=stripe[1])
        bands.wave_profile = "SIN"
        n.link(where, bands.inputs["Vector"])
        mask = n.ramp(bands.outputs["Fac"], [(0.60, "#000000"), (0.64, "#ffffff")])
        blend = n.node("ShaderNodeMix")
        blend.data_type = "RGBA"
        n.link(mask, blend.inputs[0])
        n.link(melange, blend.inputs[6])
        blend.inputs[7].default_value = linear(stripe[0])
        n.colour(blend.outputs[2])
    else:
        n.colour(melange)
    warp, weft = (n.node("ShaderNodeTexWave", Scale=thread / 3, Distortion=0.6) for _ in range(2))
    warp.bands_direction, weft.bands_direction = "X", "Z"
    both = n.node("ShaderNodeMath")
    both.operation = "MAXIMUM"
    for i, wave in enumerate((warp, weft)):
        n.link(where, wave.inputs["Vector"])
        n.link(wave.outputs["Fac"], both.inputs[i])
    n.bump(both.outputs[0], 0.35, 0.012)
    return n.material


def leather(colour: Colour, dark: Colour, rough: float = 0.45) -> bpy.types.Material:
    """Grained leather."""
    n = _Nodes("leather")
    n.set(Roughness=rough, Coat_Weight=0.1, Coat_Roughness=0.35)
    where = n.place((1, 1, 1))
    n.colour(n.ramp(n.noise(where, 2.5, 4), [(0.05, dark), (0.6, colour)]))
    cells = n.node("ShaderNodeTexVoronoi", Scale=60)
    n.link(where, cells.inputs["Vector"])
    n.bump(cells.outputs["Distance"], 0.25, 0.01)
    return n.material


def glass(colour: Colour = "#ffffff", rough: float = 0.0, ior: float = 1.45) -> bpy.types.Material:
    """Clear or tinted glass; lets light through in a straight line, so that its shadow is not black."""
    n = _Nodes("glass")
    n.set(Base_Color=linear(colour), Roughness=rough, Transmission_Weight=1.0, IOR=ior)
    path, clear = n.node("ShaderNodeLightPath"), n.node("ShaderNodeBsdfTransparent")
    clear.inputs["Color"].default_value = linear(colour)
    mix, out = n.node("ShaderNodeMixShader"), n.tree.nodes["Material Output"]
    n.link(path.outputs["Is Shadow Ray"], mix.inputs[0])
    n.link(n.surface.outputs[0], mix.inputs[1])
    n.link(clear.outputs[0], mix.inputs[2])
    n.link(mix.outputs[0], out.inputs["Surface"])
    return n.material


def leaf(colour: Colour, vein: Colour) -> bpy.types.Material:
    """A waxy leaf with paler bands across."""
    n = _Nodes("leaf")
    n.set(Roughness=0.35, Coat_Weight=0.2)
    n.colour(n.ramp(n.noise(n.place((1, 1, 5)), 2.2, 5, 0.6), [(0.42, colour), (0.58, vein)]))
    return n.material


def card(colour: Colour = "#c49a6c", dark: Colour = "#b58a5b") -> bpy.types.Material:
    """Cardboard or paper."""
    n = _Nodes("card")
    n.set(Roughness=0.9)
    n.colour(n.ramp(n.noise(n.place((1, 1, 1)), 30, 6), [(0.35, dark), (0.65, colour)]))
    return n.material


def glow(colour: Colour, strength: float) -> bpy.types.Material:
    """Cloth that a bulb behind it lights up."""
    n = _Nodes("glow")
    n.set(Base_Color=linear(colour), Roughness=0.9, Emission_Color=linear(colour), Emission_Strength=strength)
    weave = n.noise(n.place((60, 60, 4)), 2, 3)
    n.bump(weave, 0.2, 0.01)
    return n.material


MATERIALS = {f.__name__: f for f in (plastic, ceramic, clay, metal, wood, cloth, leather, glass, leaf, card, glow)}
