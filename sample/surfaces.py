"""Colours of the surfaces in `materials.py` for the fast renderer: a function of the same name each.

A function takes the arguments of its surface, points (n, 3) in the part's own coordinates and their normals, and gives
an `Optics`. Noise is read from one small volume that repeats.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sample.materials import Colour, Surface
from sample.materials import linear as _linear
from sample.solids import Single

_CELLS, _FINE = 16, 6


@dataclass(frozen=True)
class Optics:
    """How a surface answers light at n points."""

    colour: Single
    """(n, 3) linear reflectance."""
    rough: float
    shine: float = 0.04
    """Reflectance at right angles."""
    metal: bool = False
    height: Single | None = None
    """(n,) relief, lit from the upper left."""
    glow: float = 0.0
    """Light of its own, times the colour."""
    clear: float = 0.0
    """Share of light that passes straight through."""


def linear(colour: Colour) -> Single:
    """(3,) linear RGB."""
    return np.array(_linear(colour)[:3], np.float32)


@cache
def _volume() -> Single:
    """Value noise of three octaves in a cube that repeats, mean 0.5, deviation 0.13."""
    rng = np.random.default_rng(5)
    side = _CELLS * _FINE
    out = np.zeros((side,) * 3, np.float32)
    for octave, weight in ((1, 1.0), (2, 0.5), (4, 0.25)):
        n = _CELLS * octave
        values = rng.random((n,) * 3).astype(np.float32)
        for axis in range(3):
            where = np.arange(side) * n / side
            low = where.astype(int)
            t = (where - low).astype(np.float32)
            t = (t * t * (3 - 2 * t)).reshape([-1 if k == axis else 1 for k in range(3)])
            a, b = np.take(values, low % n, axis), np.take(values, (low + 1) % n, axis)
            values = a + (b - a) * t
        out += weight * values
    return np.asarray((out - out.mean()) / out.std() * 0.13 + 0.5, np.float32)


def noise(at: Single, scale: float | tuple[float, float, float]) -> Single:
    """Fractal noise (n,) of `scale` cells a unit, about 0.5."""
    volume, side = _volume(), _CELLS * _FINE
    where = at * np.asarray(scale, np.float32) * np.float32(_FINE) + np.float32(1000 * side)
    low = np.floor(where)
    t = where - low
    i = low.astype(np.int64) % side
    j = (i + 1) % side
    flat = volume.reshape(-1)
    (x, y, z), (u, v, w) = (i * (side * side, side, 1)).T, (j * (side * side, side, 1)).T
    a, b, c = t.T
    p = flat[x + y + z] * (1 - c) + flat[x + y + w] * c
    q = flat[x + v + z] * (1 - c) + flat[x + v + w] * c
    r = flat[u + y + z] * (1 - c) + flat[u + y + w] * c
    s = flat[u + v + z] * (1 - c) + flat[u + v + w] * c
    return np.asarray((p * (1 - b) + q * b) * (1 - a) + (r * (1 - b) + s * b) * a, np.float32)


def ramp(value: Single, low: float, high: float, first: Single, last: Single) -> Single:
    """From the first to the last colour as the value goes from low to high: (n, 3)."""
    t = np.clip((value - low) / (high - low), 0, 1)[:, None]
    return np.asarray(first * (1 - t) + last * t, np.float32)


def plain(colour: Colour, at: Single) -> Single:
    """One colour (n, 3)."""
    return np.broadcast_to(linear(colour), at.shape).astype(np.float32)


def plastic(at: Single, normal: Single, colour: Colour, rough: float, coat: float) -> Optics:
    """Plain plastic or lacquer."""
    return Optics(plain(colour, at), min(rough, 0.6 if coat == 0 else 0.12), 0.04 + 0.02 * coat)


def ceramic(at: Single, normal: Single, colour: Colour, speck: Colour | None, rough: float) -> Optics:
    """Glaze."""
    base = plain(colour, at) * (0.96 + 0.08 * noise(at, 2.0)[:, None])
    if speck:
        base = ramp(noise(at, 26), 0.24, 0.30, linear(speck), base)
    return Optics(base, rough, 0.05)


def clay(at: Single, normal: Single, colour: Colour, dark: Colour) -> Optics:
    """Unglazed earthenware."""
    grain = noise(at, 22)
    return Optics(ramp(noise(at, 3), 0.25, 0.7, linear(dark), linear(colour)), 0.9, 0.02, height=grain * 0.5)


def metal(
    at: Single, normal: Single, colour: Colour, rough: float, brushed: tuple[float, float, float] | None
) -> Optics:
    """Metal."""
    base = plain(colour, at)
    if brushed:
        x, y, z = brushed
        base = np.asarray(base * (0.8 + 0.4 * noise(at, (1.5 * x, 1.5 * y, 1.5 * z))[:, None]), np.float32)
    return Optics(base, rough, 1.0, metal=True)


def wood(at: Single, normal: Single, light: Colour, dark: Colour, along: str, rough: float, grain: float) -> Optics:
    """Boards with growth rings and pores along an axis."""
    long, wide = 0.25 * grain, 2.2 * grain
    scale = {"x": (long, wide, wide), "y": (wide, long, wide), "z": (wide, wide, long)}[along]
    rings = np.abs((noise(at, scale) * 9) % 1 - 0.5) * 2
    fine = noise(at, tuple(k * (2.0 if k == long else 9) for k in scale))  # type: ignore[arg-type]
    tone = 0.55 * rings + 0.9 * (fine - 0.5) + 0.25
    return Optics(ramp(tone, 0.0, 0.85, linear(dark), linear(light)), rough, 0.04, height=fine * 0.25)


def woven(at: Single, threads: float) -> Single:
    """Relief (n,) of two threads that cross."""
    k = min(threads, 30.0) * 1.6
    warp, weft = np.sin(k * (at[:, 0] + 0.4 * at[:, 1])), np.sin(k * (at[:, 2] + 0.3 * at[:, 1]))
    return np.asarray(0.5 * np.maximum(warp, weft), np.float32)


def cloth(
    at: Single, normal: Single, colour: Colour, other: Colour | None, thread: float, stripe: tuple[Colour, float] | None
) -> Optics:
    """A weave, with stripes across x."""
    thin = linear(other or colour) * np.float32(0.88)
    base = ramp(noise(at, (48, 48, 110)), 0.25, 0.75, 0.65 * thin + 0.35 * linear(colour), linear(colour))
    if stripe:
        bands = np.sin(at[:, 0] * (2 * math.pi * stripe[1])) * 0.5 + 0.5
        base = ramp(bands.astype(np.float32), 0.58, 0.64, base, linear(stripe[0]))
    return Optics(base, 1.0, 0.015, height=woven(at, thread) * 0.35 + noise(at, 3) * 0.4)


def leather(at: Single, normal: Single, colour: Colour, dark: Colour, rough: float) -> Optics:
    """Grained leather."""
    base = ramp(noise(at, 4), -1.0, 0.7, linear(dark), linear(colour))
    return Optics(base, rough, 0.04, height=noise(at, 28) * 0.6)


def glass(at: Single, normal: Single, colour: Colour, rough: float, ior: float) -> Optics:
    """Clear or tinted."""
    tint = plain(colour, at)
    return Optics(tint, rough, 0.05, clear=0.93 if float(tint[0].min()) > 0.8 else 0.72)


def leaf(at: Single, normal: Single, colour: Colour, vein: Colour) -> Optics:
    """A waxy leaf."""
    return Optics(ramp(noise(at, (1.5, 1.5, 8)), 0.4, 0.6, linear(colour), linear(vein)), 0.4, 0.04)


def card(at: Single, normal: Single, colour: Colour, dark: Colour) -> Optics:
    """Cardboard or paper."""
    return Optics(ramp(noise(at, 14), 0.3, 0.65, linear(dark), linear(colour)), 0.95, 0.02)


def glow(at: Single, normal: Single, colour: Colour, strength: float) -> Optics:
    """Cloth lit from behind."""
    return Optics(plain(colour, at), 0.95, 0.02, height=woven(at, 60) * 0.2, glow=0.25 + strength)


def printed(
    at: Single,
    normal: Single,
    picture: NDArray[np.uint8],
    size: tuple[float, float],
    onto: str,
    back: NDArray[np.uint8] | None,
    rough: float,
    weave: float,
) -> Optics:
    """A picture laid on; it repeats."""
    if onto == "round":
        u, v, far = np.arctan2(at[:, 0], -at[:, 1]), at[:, 2], np.zeros(len(at), bool)
    elif onto == "xy":
        u, v, far = at[:, 0], at[:, 1], normal[:, 2] < -0.1
    else:
        u, v, far = at[:, 0], at[:, 2], normal[:, 1] > 0.1
    out = _read(picture, u / size[0], v / size[1])
    if back is not None and far.any():
        out[far] = _read(back, -u[far] / size[0], v[far] / size[1])
    relief = woven(at, weave) * 0.3 if weave else None
    return Optics(out, rough, 0.015 if weave else 0.04, height=relief)


def _read(picture: NDArray[np.uint8], u: Single, v: Single) -> Single:
    """Linear colours (n, 3); u, v = 0 is the middle of the picture, one repeat is 1."""
    height, width = picture.shape[:2]
    x = ((u + 0.5) % 1.0) * width - 0.5
    y = ((0.5 - v) % 1.0) * height - 0.5
    side = 4096  # remap takes maps of at most 32767 rows
    n = len(x)
    rows = max(1, -(-n // side))
    maps = [np.resize(k, (rows, side)).astype(np.float32) for k in (x, y)]
    out = cv2.remap(picture, maps[0], maps[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(_SRGB[out.reshape(-1, 3)[:n]])


_SRGB = np.array([_linear(f"#{k:02x}{k:02x}{k:02x}")[0] for k in range(256)], np.float32)

SURFACES: dict[str, Callable[..., Optics]] = {
    f.__name__: f for f in (plastic, ceramic, clay, metal, wood, cloth, leather, glass, leaf, card, glow, printed)
}


def optics(surface: Surface, at: Single, normal: Single) -> Optics:
    """How `surface` answers light at points `at`."""
    values: dict[str, Any] = surface.values
    return SURFACES[surface.kind](at, normal, **values)
