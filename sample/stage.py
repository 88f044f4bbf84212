"""Where a product is built: shapes and surfaces are described once, the stage that is set makes them.

Blender (`blender.py`) makes the sample catalogue with a path tracer, `solids.py` makes many pictures at a small cost.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Point = tuple[float, float, float]


class Stage(Protocol):
    """What `shapes.py` needs of a renderer."""

    def fine(self, steps: int) -> int:
        """How many of the asked-for `steps` round a curve are made."""
        ...

    def mesh(
        self,
        name: str,
        vertices: Floats,
        faces: Sequence[Sequence[int]],
        material: Any,
        at: Point,
        turn: Point,
        *,
        sharp: float,
        bevel: float,
        segments: int,
    ) -> Any:
        """Put a mesh into the scene; the part that comes back has a `scale` that can be set."""
        ...

    def words(self, text: str, size: float, material: Any, at: Point, turn: Point, *, depth: float) -> Any:
        """Raised letters, centred."""
        ...


_CURRENT: ContextVar[Stage] = ContextVar("stage")


@contextmanager
def on(stage: Stage) -> Iterator[Stage]:
    """Build on `stage` inside the `with` block."""
    token = _CURRENT.set(stage)
    try:
        yield stage
    finally:
        _CURRENT.reset(token)


def current() -> Stage:
    """The stage that is set; LookupError outside of `on`."""
    return _CURRENT.get()
