"""Violations of two images: near-copies, near-same views, another colour, another product.

`copied`, `same_viewed` and `recoloured` work on pixels (for training and testing matchers); `PAIR` works on drafts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np

from agpis.data import Box
from agpis.simulate.degradations import recoded
from agpis.simulate.drawing import Rng, channel_max, ground, muted, vivid
from agpis.simulate.framing import resized, scene
from agpis.simulate.stock import Draft, Shot, Stock
from agpis.simulate.style import Pixels, Style

KINDS = ("recoded", "crop", "mirrored", "padded", "pasted", "colour_shifted", "combined")
"""Kinds of copies; `combined` is two to four of the others at once."""


_NAMES = {
    "copy": ("recoded",),
    "crop": ("crop",),
    "mirror": ("mirrored",),
    "pad": ("padded",),
    "paste": ("pasted",),
    "colour": ("colour_shifted",),
    "combine": ("combined",),
}
"""Names of a rulebook's `kind` range."""


@dataclass(frozen=True, slots=True)
class Copy:
    """A near-copy of a source picture and how it came about, for matchers to be trained and tested on."""

    pixels: Pixels
    kind: str
    box: Box
    """The region of the source that the copy shows, in source pixels."""
    placed: Box
    """Where that region lies in the copy, in pixels of the copy."""
    mirrored: bool
    steps: tuple[str, ...]
    """What was done; one step, or several where `kind` is `combined`."""


def copied(pixels: Pixels, rng: Rng, style: Style, kind: str = "") -> Copy:
    """A near-copy of uint8 (H, W, 3). `kind` is one of KINDS; "" draws one."""
    kind = kind or style.among(rng, _NAMES, "kind")
    if kind not in KINDS:
        raise ValueError(f"found the kind {kind!r}, allowed are {', '.join(KINDS)}")
    singles = np.asarray(KINDS[1:-1])
    steps = tuple(rng.permutation(singles)[: int(rng.integers(2, 5))]) if kind == "combined" else (kind,)
    if "padded" in steps and "pasted" in steps:  # one ground is enough
        steps = tuple(s for s in steps if s != "padded")
    height, width = pixels.shape[:2]
    box = Box(0, 0, width, height)
    out = pixels
    if "crop" in steps:
        given = style.ranges.get("crop", (0.3, 0.8))
        box = crop_box(width, height, rng, float(min(given)), float(max(given)))
        out = out[box.y : box.y + box.h, box.x : box.x + box.w]
    if "mirrored" in steps:
        out = np.ascontiguousarray(out[:, ::-1])
    if "colour_shifted" in steps:
        out = colour_shifted(out, rng)
    placed = Box(0, 0, out.shape[1], out.shape[0])
    if "padded" in steps or "pasted" in steps:
        out, placed = _on_ground(out, rng, style, "pasted" in steps)
    out = recoded(np.ascontiguousarray(out), round(style.force(rng, 85, 25)) if "recoded" in steps else 92)
    if "recoded" in steps and rng.random() < 0.7:  # saved smaller as well
        scale = rng.uniform(0.45, 0.95)
        size = (max(8, round(out.shape[1] * scale)), max(8, round(out.shape[0] * scale)))
        out = resized(out, *size)
        placed = Box(0, 0, *size)
    return Copy(out, kind, box, placed, "mirrored" in steps, tuple(str(s) for s in steps))


def crop_box(width: int, height: int, rng: Rng, low: float = 0.3, high: float = 0.8) -> Box:
    """A random part with `low` to `high` of the area and an aspect up to a third from the source's."""
    share, stretch = rng.uniform(low, high), np.exp(rng.uniform(-0.28, 0.28))
    w = int(np.clip(round(width * np.sqrt(share) * stretch), 1, width))
    h = int(np.clip(round(share * width * height / w), 1, height))
    return Box(int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1)), w, h)


def colour_shifted(pixels: Pixels, rng: Rng) -> Pixels:
    """The same picture with other gains, contrast and saturation, or in grey: an edit, not another product."""
    out = pixels.astype(np.float32)
    if rng.random() < 0.12:
        out = np.repeat(out @ np.array([[0.3], [0.59], [0.11]], np.float32), 3, 2)
    mean = out.mean((0, 1), keepdims=True)
    grey = out.mean(2, keepdims=True)
    out = grey + (out - grey) * np.float32(rng.uniform(0.5, 1.5))
    out = mean + (out - mean) * np.float32(rng.uniform(0.75, 1.25)) + np.float32(rng.uniform(-22, 22))
    out = out * rng.uniform(0.85, 1.12, 3).astype(np.float32)
    return np.asarray(out.clip(0, 255), np.uint8)


def _on_ground(pixels: Pixels, rng: Rng, style: Style, busy: bool) -> tuple[Pixels, Box]:
    """The picture on a larger plain (padded) or other ground (pasted); returns it and where the picture lies."""
    longest = max(pixels.shape[:2])
    scale = rng.uniform(0.5, 0.85)
    h, w = max(8, round(pixels.shape[0] * scale)), max(8, round(pixels.shape[1] * scale))
    part = resized(pixels, w, h)
    height = max(h + 2, round(h + (longest - h) * rng.uniform(0.5, 1)))
    width = max(w + 2, round(w + (longest - w) * rng.uniform(0.5, 1)))
    x, y = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
    if busy:
        if rng.random() < 0.5:
            out = scene(height, width, rng, style)
        else:
            t = np.linspace(0, 1, width, dtype=np.float32)[None, :, None]
            a, b = np.asarray(vivid(rng), np.float32), np.asarray(vivid(rng), np.float32)
            out = np.broadcast_to(a * (1 - t) + b * t, (height, width, 3)).astype(np.uint8)
    else:
        around = ground(part)
        colour = (
            around.colour if around.plain and rng.random() < 0.6 else (muted(rng) if rng.random() < 0.4 else (255,) * 3)
        )
        out = np.broadcast_to(np.asarray(colour, np.uint8), (height, width, 3)).copy()
    out[y : y + h, x : x + w] = part
    return out, Box(x, y, w, h)


def same_viewed(pixels: Pixels, rng: Rng, style: Style | None = None) -> Pixels:
    """A near-same view: a slight perspective, turn and scale, and other light, as if shot a moment later."""
    height, width = pixels.shape[:2]
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    given = style.ranges if style is not None else {}
    shift, grown, light = (
        tuple(float(v) for v in given.get(key, default))
        for key, default in (("shift", (0.02, 0.06)), ("scale", (0.9, 1.08)), ("brightness", (0.9, 1.1)))
    )
    reach = max(0.015, rng.uniform(min(shift), max(shift)))
    moved = corners + rng.uniform(-reach, reach, (4, 2)).astype(np.float32) * np.array([width, height], np.float32)
    middle, degrees, scale = corners.mean(0), np.deg2rad(rng.uniform(-6, 6)), rng.uniform(min(grown), max(grown))
    spin = np.array([[np.cos(degrees), -np.sin(degrees)], [np.sin(degrees), np.cos(degrees)]], np.float32) * scale
    moved = ((moved - middle) @ spin.T + middle).astype(np.float32)
    matrix = cv2.getPerspectiveTransform(corners, moved)
    colour = ground(pixels).colour
    out = cv2.warpPerspective(
        pixels, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=colour
    )
    values = (out.astype(np.float32) / 255) ** np.float32(1 / rng.uniform(min(light), max(light)))
    values = values * rng.uniform(0.96, 1.04, 3).astype(np.float32)
    return np.asarray((values * 255).clip(0, 255), np.uint8)


def recoloured(pixels: Pixels, rng: Rng, style: Style | None = None) -> Pixels:
    """Another colour: hue turned where it has one, LAB shifted where it is grey; skin and ground stay."""
    around = ground(pixels)
    lab = cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB).astype(np.float32)
    ycrcb = cv2.cvtColor(pixels, cv2.COLOR_RGB2YCrCb)
    # Skin region in CrCb: Chai & Ngan, "Face segmentation using skin-color map in videophone applications", 1999.
    skin = (ycrcb[..., 1] > 133) & (ycrcb[..., 1] < 173) & (ycrcb[..., 2] > 77) & (ycrcb[..., 2] < 127)
    mask = around.mask & (channel_max(cv2.absdiff(pixels, np.full_like(pixels, around.colour))) > 16)
    if not around.plain:  # a close-up or scene: all but what is white
        mask = (lab[..., 0] < 235) | (np.hypot(lab[..., 1] - 128, lab[..., 2] - 128) > 12)
    if (mask & ~skin).sum() > 0.35 * mask.sum():
        mask = mask & ~skin
    if not mask.any():
        mask = around.mask.copy()
    chroma = np.hypot(lab[..., 1] - 128, lab[..., 2] - 128)[mask]
    new = lab.copy()
    if chroma.mean() > 14:
        turned = (style.ranges if style is not None else {}).get("hue", (35.0, 180.0))  # degrees, either way
        angle = np.deg2rad(rng.uniform(float(min(turned)), float(max(turned)))) * rng.choice([-1, 1])
        a, b = lab[..., 1] - 128, lab[..., 2] - 128
        new[..., 1] = 128 + np.cos(angle) * a - np.sin(angle) * b
        new[..., 2] = 128 + np.sin(angle) * a + np.cos(angle) * b
    else:
        angle, far = rng.uniform(0, 2 * np.pi), rng.uniform(28, 55)
        light = lab[..., 0][mask].mean()
        if light < 70:  # black: dye it lighter, else no colour shows
            new[..., 0] = (lab[..., 0] + rng.uniform(50, 110)).clip(0, 230)
        elif light > 190:
            new[..., 0] = lab[..., 0] * rng.uniform(0.35, 0.8)
        new[..., 1] += np.cos(angle) * far
        new[..., 2] += np.sin(angle) * far
    dyed = cv2.cvtColor(new.clip(0, 255).astype(np.uint8), cv2.COLOR_LAB2RGB).astype(np.float32)
    soft = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 1.0)[..., None]
    return np.asarray((pixels + (dyed - pixels) * soft).clip(0, 255), np.uint8)


# On drafts ----------------------------------------------------------------------------------------------------------


def _later(draft: Draft, rng: Rng) -> int:
    """A position behind the primary; one further place where the sequence has only the primary."""
    return int(rng.integers(1, len(draft.shots)))


def duplicate(draft: Draft, stock: Stock, rng: Rng, style: Style) -> Draft | None:
    """A later picture is a near-copy of an earlier one."""
    index = _later(draft, rng)
    source = draft.shots[int(rng.integers(index))]
    copy = copied(source.pixels, rng, style)
    out = draft.swapped(index, Shot(copy.pixels, source.view))
    placed = copy.placed
    return replace(out, note=copy.kind, box=(placed.x, placed.y, placed.w, placed.h))


def same_view(draft: Draft, stock: Stock, rng: Rng, style: Style) -> Draft | None:
    """A later picture shows an earlier one's view again, slightly moved."""
    index = _later(draft, rng)
    source = draft.shots[int(rng.integers(index))]
    return draft.swapped(index, Shot(same_viewed(source.pixels, rng, style), source.view))


def different_colour(draft: Draft, stock: Stock, rng: Rng, style: Style) -> Draft | None:
    """A later picture shows another colour: a sister's picture of that view, or the picture recoloured."""
    index = _later(draft, rng)
    view = draft.shots[index].view
    sisters = stock.sisters(draft.product)
    if sisters and rng.random() < 0.5:
        sister = sisters[int(rng.integers(len(sisters)))]
        fitting = [p for p, v in zip(sister.pictures, sister.views, strict=True) if v == view]
        if fitting:
            return replace(draft.swapped(index, Shot(fitting[0], view)), note="sister")
    return replace(
        draft.swapped(index, Shot(recoloured(draft.shots[index].pixels, rng, style), view)), note="recoloured"
    )


def different_product(draft: Draft, stock: Stock, rng: Rng, style: Style) -> Draft | None:
    """A later picture shows another product, of the same category where there is one."""
    other = stock.alike(draft.product, rng)
    if other is None:
        return None
    index = _later(draft, rng)
    fitting = [i for i, v in enumerate(other.views) if v == draft.shots[index].view] or list(range(len(other.views)))
    chosen = fitting[int(rng.integers(len(fitting)))]
    out = draft.swapped(index, Shot(other.pictures[chosen], other.views[chosen]))
    return replace(out, note="same_category" if other.category == draft.product.category else "other_category")


Violate = Callable[[Draft, Stock, Rng, Style], Draft | None]

PAIR: dict[str, Violate] = {
    "duplicate": duplicate,
    "same_view": same_view,
    "different_colour": different_colour,
    "different_product": different_product,
}
"""Rule id -> function on a draft of at least two pictures; None where this product cannot be broken that way."""
