"""Approved products in, labelled pictures out: the training data of the image graph.

Everything is drawn from one generator: the same seed, products and style give the same samples in the same order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from agpis.data import Box
from agpis.errors import SettingsError
from agpis.rulebook import Rulebook, Simulate
from agpis.simulate.drawing import Rng, ground
from agpis.simulate.finish import finished, grained, jittered, printed, resampled, scaled
from agpis.simulate.harmless import spared
from agpis.simulate.multi import close_up
from agpis.simulate.single import SINGLE
from agpis.simulate.stock import WHOLE, Catalogued, Stock
from agpis.simulate.style import Pixels, Style
from agpis.simulate.violations import BRINGING, REFRAMING, simulated, unknown_rules

_BRINGING = BRINGING | {"screenshot"}
"""The further looks of a screenshot show other pictures too."""


@dataclass(frozen=True, slots=True)
class Mix:
    """What `images` draws; all are shares of 1."""

    broken: float = 0.5
    """Pictures that break a rule; the rules are drawn evenly."""
    doubled: float = 0.12
    """Of the broken ones, those that break two rules."""
    printed: float = 0.15
    """Clean and broken pictures with words or an emblem printed on the product itself: hard negatives."""
    harmless: float = 0.35
    """Clean and broken pictures with another look that is no fault (`harmless.HARMLESS`): hard negatives."""
    further: float = 0.5
    """Of the broken ones, those in the further looks of their rules (`single.FURTHER`)."""
    close_ups: float = 0.1
    """Pictures of whole products that become a close-up."""
    several: float = 0.35
    """Pictures taken from products with several: the merchants' backs and details are few."""


@dataclass(frozen=True, slots=True)
class ImageSample:
    """One picture for the image graph."""

    pixels: Pixels
    rules: frozenset[str]
    """Single rules that it breaks."""
    unknown: frozenset[str]
    """Single rules of which nothing is known for this picture: leave them out of the loss."""
    boxes: Mapping[str, Box]
    """Rule -> where, for those rules that have a place."""
    view: str
    """One of `stock.VIEWS`; `unknown` where the merchant's data do not say."""
    primary: float | None
    """Target of p_primary: 1, 0, or None where it is not known."""
    sku: str
    source: str

    @property
    def noncompliant(self) -> bool:
        """Target of p_noncompliant."""
        return bool(self.rules)


def images(
    products: Sequence[Catalogued] | Stock,
    rulebook: Rulebook,
    rng: Rng,
    style: Style,
    n: int,
    mix: Mix | None = None,
) -> Iterator[ImageSample]:
    """`n` labelled pictures. Raises SettingsError (`cannot_simulate`) where the rulebook simulates no single rule."""
    mix = mix or Mix()
    style = style.varied(mix.further)
    stock = products if isinstance(products, Stock) else Stock(products)
    rules = simulated(rulebook, "single")
    if mix.broken and not rules:
        raise SettingsError("cannot_simulate", f"found no simulated single rule in the rulebook {rulebook.id!r}")
    for _ in range(n):
        product = stock.some(rng)
        at = int(rng.integers(len(product.pictures)))
        if rng.random() < mix.several and stock.has_several:
            product = stock.several(rng, 0.0)
            at = int(rng.integers(len(product.pictures)))
        view, pixels = product.views[at], product.pictures[at]
        if view in WHOLE and rng.random() < mix.close_ups:
            # Not as close as the violation goes: blown up at this size, a clean picture would look upscaled.
            pixels = product.detail if product.detail is not None else close_up(pixels, rng, 0.5, 0.65)
            view, at = "detail", 1
        yield _image(product, at, view, pixels, rules, stock, rng, style, mix)


def _image(
    product: Catalogued,
    at: int,
    view: str,
    pixels: Pixels,
    rules: Mapping[str, Simulate],
    stock: Stock,
    rng: Rng,
    style: Style,
    mix: Mix,
) -> ImageSample:
    unknown = unknown_rules(pixels, view)
    pixels = grained(resampled(jittered(pixels, rng), rng), rng, 2.5)
    if rng.random() < mix.harmless:
        pixels = spared(pixels, ground(pixels), rng, style)
    elif rng.random() < mix.printed:
        pixels = printed(pixels, rng, style)
    boxes: dict[str, Box] = {}
    chosen: list[str] = []
    if rng.random() < mix.broken:
        possible = [rule for rule in rules if rules[rule].name not in unknown] or list(rules)
        many = 2 if len(possible) > 1 and rng.random() < mix.doubled else 1
        chosen = [str(r) for r in rng.choice(possible, size=many, replace=False)]
        # What changes the frame comes first: then the boxes of what is laid over stay right.
        chosen.sort(key=lambda rule: rules[rule].name not in REFRAMING)
        if len(chosen) == 2 and rules[chosen[1]].name in REFRAMING:
            chosen = chosen[:1]
        for rule in chosen:
            name, look = rules[rule].name, style.ranged(rules[rule].ranges)
            result = SINGLE[name](pixels, rng, look.having(stock.pool(rng)) if name in _BRINGING else look)
            pixels = result.pixels
            if result.box is not None:
                boxes[rule] = result.box
    pixels, fx, fy = finished(grained(pixels, rng, 1.0), rng)
    boxes = {rule: scaled(box, fx, fy, pixels.shape) for rule, box in boxes.items()}
    found = frozenset(chosen)
    primary: float | None = None
    if found or view in ("detail", "back", "pack", "multi", "lifestyle", "bottom"):
        primary = 0.0
    elif at == 0 and view in WHOLE and "cluttered_background" not in unknown:
        primary = 1.0
    return ImageSample(pixels, found, unknown - found, boxes, view, primary, product.sku, product.source)
