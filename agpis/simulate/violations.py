"""All violations by name, in one signature: a draft in, a broken draft out."""

from __future__ import annotations

from dataclasses import replace

from agpis.rulebook import Rulebook
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


def simulated(rulebook: Rulebook, scope: str) -> dict[str, str]:
    """Rule id -> name in VIOLATIONS, of the learned rules of that scope that can be simulated."""
    return {
        rule.id: rule.simulate.name
        for rule in rulebook.rules
        if rule.learned and rule.scope == scope and rule.simulate is not None and rule.simulate.name in VIOLATIONS
    }


def unknown_rules(pixels: Pixels, view: str) -> frozenset[str]:
    """Single rules that nobody judged for an approved picture, because its own kind comes close to breaking them."""
    found = set()
    if view in ("detail", "unknown", "lifestyle"):
        found.add("cut_off")
    if view in ("multi", "pack"):
        found.add("collage")
    if view not in ("lifestyle", "detail") and not ground(pixels).plain:
        found.add("cluttered_background")
    return frozenset(found)


def _single(rule: str) -> Violate:
    """A violation of one image, applied to one picture of a draft."""

    def violate(draft: Draft, stock: Stock, rng: Rng, style: Style) -> Draft | None:
        index = int(rng.integers(len(draft.shots)))
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
