"""What changes from one product to the next of its kind."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Look:
    """Colours in sRGB hex, and the seed of whatever grows at random."""

    main: str
    second: str = "#d8b384"
    dark: str = "#5a4632"
    seed: int = 0
    wide: float = 1.0
    """Stretch of the whole product across; 1 is the drawing."""
    tall: float = 1.0
    """Stretch upwards."""
