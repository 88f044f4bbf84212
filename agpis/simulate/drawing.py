"""Paint: lay letters, emblems, codes and plates over a picture, find the product, describe a place.

Every painter returns what it painted; nothing changes its argument.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from agpis.data import Box
from agpis.simulate.style import Alpha, Pixels

Colour = tuple[int, int, int]
Rng = np.random.Generator
Mask = NDArray[np.bool_]

PLACES = (
    ("top left", "top", "top right"),
    ("left", "centre", "right"),
    ("bottom left", "bottom", "bottom right"),
)
EVERYWHERE = "whole picture"


@dataclass(frozen=True, slots=True)
class Marked:
    """A picture with a violation, and where that is."""

    pixels: Pixels
    box: Box | None = None
    """In pixels of `pixels`; None when the whole picture is concerned."""
    where: str = EVERYWHERE
    """One of PLACES or EVERYWHERE, for the {where} slot of feedback."""


def place_of(box: Box | None, width: int, height: int) -> str:
    """The word of the 3 x 3 grid in which the box's centre lies; a box over most of the picture is everywhere."""
    if box is None or box.w * box.h > 0.6 * width * height:
        return EVERYWHERE
    column = min(2, int(3 * (box.x + box.w / 2) / width))
    row = min(2, int(3 * (box.y + box.h / 2) / height))
    return PLACES[row][column]


def marked(pixels: Pixels, box: Box | None) -> Marked:
    """`Marked` with `where` worked out and the box clipped to the picture."""
    height, width = pixels.shape[:2]
    if box is not None:
        x0, y0 = max(0, box.x), max(0, box.y)
        x1, y1 = min(width, box.x + box.w), min(height, box.y + box.h)
        box = Box(x0, y0, x1 - x0, y1 - y0) if x1 > x0 and y1 > y0 else None
    return Marked(pixels, box, place_of(box, width, height))


def changed(before: Pixels, after: Pixels, by: int = 6) -> Box | None:
    """The smallest box around all pixels that differ by more than `by` in a channel; None when none does."""
    differs = channel_max(cv2.absdiff(before, after)) > by
    rows, columns = np.flatnonzero(differs.any(1)), np.flatnonzero(differs.any(0))
    if not len(rows):
        return None
    return Box(int(columns[0]), int(rows[0]), int(columns[-1] - columns[0] + 1), int(rows[-1] - rows[0] + 1))


def channel_max(pixels: Pixels) -> NDArray[np.uint8]:
    """(H, W, 3) -> (H, W): five times faster than `pixels.max(2)`."""
    red, green, blue = cv2.split(pixels)
    return np.asarray(cv2.max(cv2.max(red, green), blue), np.uint8)


def marked_change(before: Pixels, after: Pixels) -> Marked:
    """`Marked` with the box of the change between two pictures of one size."""
    return marked(after, changed(before, after, 2))


def plain_to_see(before: Pixels, after: Pixels) -> bool:
    """Whether a change between two pictures of one size would be seen by somebody who has only the second: at 256 px it
    is of 24 levels or more over at least 0.3 % of the picture. Less is lost in folds, grain and compression."""
    scale = min(1.0, 256 / max(before.shape[:2]))
    size = (max(1, round(before.shape[1] * scale)), max(1, round(before.shape[0] * scale)))
    one, two = (cv2.resize(picture, size, interpolation=cv2.INTER_AREA) for picture in (before, after))
    return bool((channel_max(np.asarray(cv2.absdiff(one, two), np.uint8)) >= 24).mean() >= 0.003)


def lay(pixels: Pixels, alpha: Alpha, colour: Colour | Pixels, x: int, y: int, opacity: float = 1.0) -> Pixels:
    """Blend `colour` (or a picture of alpha's size) into a copy of `pixels` with alpha's top left at (x, y)."""
    height, width = pixels.shape[:2]
    x0, y0, x1, y1 = max(0, x), max(0, y), min(width, x + alpha.shape[1]), min(height, y + alpha.shape[0])
    out = pixels.copy()
    if x1 <= x0 or y1 <= y0:
        return out
    part = alpha[y0 - y : y1 - y, x0 - x : x1 - x, None] * np.float32(opacity)
    paint: NDArray[np.float32]
    if isinstance(colour, tuple):
        paint = np.asarray(colour, np.float32)
    else:
        paint = colour[y0 - y : y1 - y, x0 - x : x1 - x].astype(np.float32)
    under = out[y0:y1, x0:x1].astype(np.float32)
    out[y0:y1, x0:x1] = (under + (paint - under) * part + 0.5).astype(np.uint8)
    return out


def turn(alpha: Alpha, degrees: float) -> Alpha:
    """Turn an alpha counter-clockwise, growing it to hold all of it."""
    height, width = alpha.shape
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1)
    cos, sin = abs(matrix[0, 0]), abs(matrix[0, 1])
    new_w, new_h = int(height * sin + width * cos) + 1, int(height * cos + width * sin) + 1
    matrix[0, 2] += new_w / 2 - width / 2
    matrix[1, 2] += new_h / 2 - height / 2
    return np.asarray(cv2.warpAffine(alpha, matrix, (new_w, new_h), flags=cv2.INTER_LINEAR), np.float32)


def fit(alpha: Alpha, width: int, height: int) -> Alpha:
    """Reduce an alpha so that it fits into width x height, aspect kept; never enlarges."""
    scale = min(width / alpha.shape[1], height / alpha.shape[0], 1.0)
    if scale == 1.0:
        return alpha
    size = (max(1, round(alpha.shape[1] * scale)), max(1, round(alpha.shape[0] * scale)))
    return np.asarray(cv2.resize(alpha, size, interpolation=cv2.INTER_AREA), np.float32)


def vivid(rng: Rng) -> Colour:
    """A saturated colour, as promotions have; reds and yellows twice as likely."""
    hue = float(rng.choice([rng.uniform(0, 12), rng.uniform(18, 32), rng.uniform(0, 180)]))
    return hsv(hue, rng.uniform(150, 255), rng.uniform(130, 255))


def muted(rng: Rng) -> Colour:
    """Black, white, grey or a dark colour."""
    grey = int(rng.choice([0, 20, 60, 110, 160, 235, 255]))
    return (grey, grey, grey) if rng.random() < 0.7 else hsv(rng.uniform(0, 180), rng.uniform(60, 200), 90)


def hsv(hue: float, saturation: float, value: float) -> Colour:
    """OpenCV's 8-bit HSV (hue 0 to 180) as RGB."""
    pixel = cv2.cvtColor(np.array([[[hue, saturation, value]]]).clip(0, 255).astype(np.uint8), cv2.COLOR_HSV2RGB)
    return int(pixel[0, 0, 0]), int(pixel[0, 0, 1]), int(pixel[0, 0, 2])


def contrasting(colour: Colour, rng: Rng) -> Colour:
    """Black, white or yellow, whichever reads on `colour`."""
    light = 0.3 * colour[0] + 0.59 * colour[1] + 0.11 * colour[2] > 140
    if light:
        return (0, 0, 0) if rng.random() < 0.6 else (170, 0, 20)
    return (255, 255, 255) if rng.random() < 0.75 else (255, 235, 60)


# Emblems: (n, n) alpha each -----------------------------------------------------------------------------------------


def _polygon(n: int, points: NDArray[np.float64]) -> Alpha:
    canvas = np.zeros((n, n), np.uint8)
    cv2.fillPoly(canvas, [np.round(points * (n - 1) * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    return canvas.astype(np.float32) / np.float32(255)


def _around(count: int, inner: float, phase: float = -np.pi / 2) -> NDArray[np.float64]:
    """Corners of a star with `count` points (inner < 1) or of a polygon (inner = 1)."""
    angles = phase + np.arange(2 * count) * np.pi / count
    radii = np.where(np.arange(2 * count) % 2 == 0, 0.5, 0.5 * inner)
    points = np.stack([0.5 + radii * np.cos(angles), 0.5 + radii * np.sin(angles)], 1)
    return points if inner < 1 else points[::2]


def _disc(n: int) -> Alpha:
    canvas = np.zeros((n, n), np.uint8)
    cv2.circle(canvas, (n // 2, n // 2), n // 2 - 1, 255, -1, cv2.LINE_AA)
    return canvas.astype(np.float32) / np.float32(255)


def _ring(n: int) -> Alpha:
    inner = np.zeros((n, n), np.float32)
    m = max(3, int(n * 0.62))
    start = (n - m) // 2
    inner[start : start + m, start : start + m] = _disc(m)
    return np.asarray(np.clip(_disc(n) - inner, 0, 1), np.float32)


def _bars(n: int) -> Alpha:
    out = np.zeros((n, n), np.float32)
    for i, tall in enumerate((0.5, 0.8, 1.0)):
        left = int(i * n * 0.36)
        out[int(n * (1 - tall)) :, left : left + max(1, int(n * 0.25))] = 1
    return out


def _cross(n: int) -> Alpha:
    out = np.zeros((n, n), np.float32)
    third = max(1, n // 3)
    out[third : 2 * third, :] = 1
    out[:, third : 2 * third] = 1
    return out


def _swoosh(n: int) -> Alpha:
    t = np.linspace(0, 1, 24)
    upper = np.stack([t, 0.55 + 0.5 * t - 1.05 * t**2], 1)
    lower = np.stack([t[::-1], 0.6 + 1.5 * t[::-1] - 2.1 * t[::-1] ** 2], 1)
    return _polygon(n, np.concatenate([upper, lower]).clip(0, 1))


def _leaf(n: int) -> Alpha:
    t = np.linspace(0, np.pi, 24)
    bulge = 0.22 * np.sin(t)
    along = t / np.pi
    one = np.stack([along + bulge, 1 - along + bulge], 1)
    two = np.stack([along - bulge, 1 - along - bulge], 1)[::-1]
    return _polygon(n, np.concatenate([one, two]).clip(0, 1))


EMBLEMS: dict[str, Callable[[int], Alpha]] = {
    "disc": _disc,
    "ring": _ring,
    "triangle": lambda n: _polygon(n, np.array([[0.5, 0.0], [1.0, 1.0], [0.0, 1.0]])),
    "bars": _bars,
    "star": lambda n: _polygon(n, _around(5, 0.4)),
    "hexagon": lambda n: _polygon(n, _around(6, 1.0)),
    "swoosh": _swoosh,
    "crown": lambda n: _polygon(
        n, np.array([[0, 0.2], [0.25, 0.55], [0.5, 0.1], [0.75, 0.55], [1, 0.2], [0.9, 0.95], [0.1, 0.95]])
    ),
    "cross": _cross,
    "leaf": _leaf,
    "burst": lambda n: _polygon(n, _around(14, 0.82)),
}
"""Name -> (n, n) alpha. `burst` is the price star of badges; the others are logos."""


def plate(width: int, height: int, round_: float = 0.0) -> Alpha:
    """A filled rectangle; `round_` 0 to 1 rounds its corners up to a half circle."""
    canvas = np.zeros((height, width), np.uint8)
    r = int(min(width, height) / 2 * round_)
    if r < 2:
        canvas[:] = 255
    else:
        cv2.rectangle(canvas, (r, 0), (width - r - 1, height - 1), 255, -1)
        cv2.rectangle(canvas, (0, r), (width - 1, height - r - 1), 255, -1)
        for cx in (r, width - r - 1):
            for cy in (r, height - r - 1):
                cv2.circle(canvas, (cx, cy), r, 255, -1, cv2.LINE_AA)
    return canvas.astype(np.float32) / np.float32(255)


def code_modules(rng: Rng, modules: int) -> NDArray[np.uint8]:
    """Something that looks like a QR code: 0/255 (modules + 4 quiet zone), finder patterns in three corners.

    ISO/IEC 18004 layout of finders and timing rows; the data are random.
    """
    code = (rng.random((modules, modules)) < 0.5).astype(np.uint8)
    code[6, :] = code[:, 6] = np.arange(modules) % 2 == 0
    finder = np.ones((8, 8), np.uint8) * 0
    finder[:7, :7] = 1
    finder[1:6, 1:6] = 0
    finder[2:5, 2:5] = 1
    code[:8, :8] = finder
    code[:8, -8:] = finder[:, ::-1]
    code[-8:, :8] = finder[::-1]
    return np.pad(255 * (1 - code), 2, constant_values=255).astype(np.uint8)


# The product -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ground:
    """Where the product is and what lies behind it."""

    mask: Mask
    """(H, W) True on the product; a centred ellipse where the ground is not plain."""
    plain: bool
    """The border of the picture has one colour, so that `mask` can be trusted."""
    colour: Colour
    """Median colour of the border."""
    box: Box
    """Bounding box of the mask."""

    def touched(self) -> frozenset[str]:
        """Sides of the picture that the product runs into."""
        rims = {"left": self.mask[:, :2], "top": self.mask[:2], "right": self.mask[:, -2:], "bottom": self.mask[-2:]}
        return frozenset(side for side, rim in rims.items() if rim.mean() > 0.02)


def ground(pixels: Pixels) -> Ground:
    """Find the product by its distance from the border colour; cheap (about 1 ms at 384 px), no learned parts."""
    height, width = pixels.shape[:2]
    rim = np.concatenate([pixels[:2].reshape(-1, 3), pixels[:, :2].reshape(-1, 3), pixels[:, -2:].reshape(-1, 3)])
    median = np.median(rim, 0)
    near = np.abs(rim.astype(np.int16) - median.astype(np.int16)).max(1) < 22
    plain = bool(near.mean() > 0.7)
    mask = np.zeros((height, width), np.uint8)
    if plain:
        distance = channel_max(np.asarray(cv2.absdiff(pixels, (*np.floor(median).tolist(), 0.0)), np.uint8))
        mask = (distance > 16).astype(np.uint8)
        mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((7, 7), np.uint8)).astype(np.uint8)
        count, labels = cv2.connectedComponents(mask)  # with statistics it takes ten times as long
        if count > 1:
            areas = np.bincount(labels.ravel(), minlength=count)[1:]
            keep = 1 + np.flatnonzero(areas > 0.1 * areas.max())
            wanted = np.zeros(count, np.uint8)
            wanted[keep] = 1
            mask = np.asarray(np.take(wanted, labels), np.uint8)
            contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
            cv2.drawContours(mask, contours, -1, 1, -1)
    share = float(mask.mean())
    if not plain or share < 0.01:
        mask[:] = 0
        cv2.ellipse(mask, (width // 2, height // 2), (int(width * 0.36), int(height * 0.4)), 0, 0, 360, 1, -1)
        plain = False
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = Box(int(columns[0]), int(rows[0]), int(columns[-1] - columns[0] + 1), int(rows[-1] - rows[0] + 1))
    return Ground(mask.astype(np.bool_), plain, (int(median[0]), int(median[1]), int(median[2])), box)
