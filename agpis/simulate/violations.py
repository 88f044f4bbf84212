"""All violations by name, in one signature: a draft in, a broken draft out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from agpis.data import Role
from agpis.errors import SettingsError
from agpis.rulebook import Rule, Rulebook, Simulate
from agpis.simulate.drawing import Rng, ground
from agpis.simulate.multi import MULTI
from agpis.simulate.pair import PAIR, Violate
from agpis.simulate.single import SINGLE
from agpis.simulate.stock import Draft, Stock
from agpis.simulate.style import Pixels, Style

REFRAMING = frozenset({"rotation", "cut_off", "collage", "screenshot", "border", "cluttered_background"})
"""Single violations that move or hide what lies in the picture: of two, they come first."""
BRINGING = frozenset({"collage", "cluttered_background"})
"""Single violations that want other pictures (`Style.pictures`)."""


NUMBERS: Mapping[str, tuple[str, ...]] = {
    "banner": ("height", "opacity"),  # of the picture's height (of its width at the sides); 0 to 1
    "badge": ("size", "opacity"),  # of the shorter side
    "watermark": ("opacity", "size"),
    "logo": ("size", "opacity"),
    "qr_code": ("size",),
    "diagram": ("arrows", "labels"),  # how many
    "artefact": ("size",),  # of the product's box
    "blur": ("sigma", "motion"),  # of the longest side
    "upscaled": ("factor",),
    "compression": ("quality",),  # JPEG, 1 to 100, at about 200 px
    "noise": ("sigma",),  # of 255
    "exposure": ("stops",),
    "colour_cast": ("strength",),
    "rotation": ("degrees",),
    "cut_off": ("share",),  # of the product's extent
    "cluttered_background": ("objects", "texture"),
    "border": ("width",),  # of the shorter side
    "collage": ("tiles",),
    "screenshot": ("bar",),  # of the height
    "duplicate": ("crop",),  # of the area
    "same_view": ("shift", "scale", "brightness"),
    "different_colour": ("hue",),  # degrees
    "primary_incomplete": ("crop",),  # of the sides of the product's box
}
"""Simulator -> keys of its number ranges, [low, high]."""

CHOICES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "banner": {"side": ("top", "bottom", "left", "right")},
    "badge": {"shape": ("circle", "star", "ribbon", "tag")},
    "watermark": {"tiled": ("0", "1")},
    "artefact": {"kind": ("smear", "erase", "tear", "halo")},
    "exposure": {"direction": ("over", "under")},
    "rotation": {"quarter": ("90", "180", "270")},
    "duplicate": {"kind": ("copy", "crop", "mirror", "pad", "paste", "colour", "combine")},
}
"""Simulator -> key -> what may be chosen from."""


def simulated(rulebook: Rulebook, scope: str) -> dict[str, Simulate]:
    """Rule id -> its simulator and ranges, of the learned rules of that scope that can be simulated.

    Raises SettingsError (`bad_simulate`) on a simulator, range or choice that does not exist.
    """
    found = {r.id: r.simulate for r in rulebook.rules if r.learned and r.scope == scope and r.simulate is not None}
    for rule, recipe in found.items():
        name = recipe.name
        if name not in VIOLATIONS:
            raise SettingsError(
                "bad_simulate", f"rule {rule!r}: found simulate {name!r}, allowed: {', '.join(VIOLATIONS)}"
            )
        numbers, choices = NUMBERS.get(name, ()), CHOICES.get(name, {})
        for key, values in recipe.ranges.items():
            if key in choices:
                wrong: Sequence[object] = [v for v in values if str(v) not in choices[key]]
                allowed = ", ".join(choices[key])
            elif key in numbers:
                wrong = [] if len(values) == 2 and not any(isinstance(v, str) for v in values) else list(values)
                allowed = "[low, high]"
            else:
                wrong, allowed = [key], ", ".join((*numbers, *choices)) or "no ranges"
            if wrong:
                raise SettingsError(
                    "bad_simulate", f"rule {rule!r}, ranges of {key}: found {wrong}, allowed: {allowed}"
                )
    return found


def unknown_rules(pixels: Pixels, view: str) -> frozenset[str]:
    """Single rules that nobody judged for an approved picture, because its own kind comes close to breaking them."""
    found = set()
    if view in ("detail", "unknown", "lifestyle"):
        found.add("cut_off")
    if view == "detail":  # which way up a close-up of cloth is, nobody can say
        found.add("rotation")
    if view in ("multi", "pack"):
        found.add("collage")
    if view not in ("lifestyle", "detail") and not ground(pixels).plain:
        found.add("cluttered_background")
    return frozenset(found)


def violation(rule: Rule) -> Violate:
    """What breaks a simulated rule: on an image that it concerns, where it has a role."""
    assert rule.simulate is not None
    name = rule.simulate.name
    return _single(name, rule.role) if name in SINGLE else VIOLATIONS[name]


def concerned(role: Role, count: int) -> range:
    """The places of a sequence of `count` images that a rule of this role speaks of."""
    return {"main": range(min(1, count)), "secondary": range(1, count), "any": range(count)}[role]


def _single(rule: str, role: Role = "any") -> Violate:
    """A violation of one image, applied to one picture of a draft."""

    def violate(draft: Draft, stock: Stock, rng: Rng, style: Style) -> Draft | None:
        places = concerned(role, len(draft.shots))
        if not places:
            return None
        index = int(rng.integers(places.start, places.stop))
        shot = draft.shots[index]
        if rule in unknown_rules(shot.pixels, shot.view):
            return None
        result = SINGLE[rule](shot.pixels, rng, style.having(stock.pool(rng)) if rule in BRINGING else style)
        box = result.box
        return replace(
            draft.swapped(index, replace(shot, pixels=result.pixels)),
            where=result.where,
            box=(box.x, box.y, box.w, box.h) if box else None,
        )

    return violate


VIOLATIONS: dict[str, Violate] = {**{rule: _single(rule) for rule in SINGLE}, **PAIR, **MULTI}
"""Name -> function (draft, stock, generator, style) -> broken draft; None where this product does not lend itself."""
