"""What a kind of product is, and what one product of it looks like."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sample import materials as m


@dataclass(frozen=True)
class Make:
    """One product to be built."""

    main: str
    """Its own colour, '#rrggbb': what its title names."""
    second: str
    dark: str
    accent: str
    brand: str
    words: str
    """What its print says, such as a book's title."""
    seed: int
    """Of its proportions and its print; sisters in other colours have the same."""
    variant: int = 0
    """Number of the detail in which sister products differ, see `Kind.variants`."""

    def rng(self, part: int = 0) -> np.random.Generator:
        """Draws that are the same for all colours of a product; one for each part keeps them apart."""
        return np.random.default_rng([self.seed, part])

    @property
    def colours(self) -> tuple[str, str, str, str]:
        """Main, second, accent, dark."""
        return self.main, self.second, self.accent, self.dark


@dataclass(frozen=True)
class Kind:
    """A kind of product, how it is called and photographed."""

    build: Callable[[Make], None]
    title: str
    """With {colour}, {brand}, {size}, {wood}, {words} and {variant}."""
    category: str
    views: tuple[str, ...]
    sizes: tuple[str, ...] = ("",)
    variants: tuple[str, ...] = ("",)
    """Words for each `Make.variant`."""
    palette: str = "all"
    """`all`, `metal`, `wood` or `glass`."""
    alike: tuple[int, ...] = ()
    """Variants that look the same from all sides, of which front, side and back would be one view."""
    spin: float = 0.0
    """Degrees that turn the front towards the camera."""
    rise: float = 0.0
    """Degrees by which flat things are seen from higher up."""
    stands: bool = True
    """False: cut out or hung up, without a shadow on the ground."""


WOODS = {
    "Oak": ("#d9b884", "#b08a55"),
    "Walnut": ("#8c5a36", "#54321c"),
    "Beech": ("#e6c79a", "#cda571"),
    "Teak": ("#a9744a", "#6b4326"),
    "Black Ash": ("#3c3733", "#262220"),
    "White Lacquer": ("#efece6", "#e4e0d8"),
}


def wooden(make: Make, along: str = "x", grain: float = 1.0) -> m.Surface:
    """The wood that `main` stands for, in kinds of the wood palette."""
    for light, dark in WOODS.values():
        if light == make.main:
            if light in ("#efece6", "#3c3733"):
                return m.plastic(light, 0.4)
            return m.wood(light, dark, along, grain=grain)
    return m.wood("#d9b884", "#b08a55", along, grain=grain)


def textile(make: Make, rng: np.random.Generator, thread: float = 46) -> m.Surface:
    """Cloth of the main colour: plain, melange or leather-like."""
    choice = rng.random()
    if choice < 0.6:
        return m.cloth(make.main, make.main, thread)
    if choice < 0.8:
        return m.cloth(make.main, make.dark, thread)
    return m.leather(make.main, make.dark, 0.55)
