"""Violations of a whole sequence: its order, its primary, what it shows twice or not at all, its title."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np

from agpis.simulate.drawing import EVERYWHERE, Rng, ground, lay, muted, plate, vivid
from agpis.simulate.framing import covering, texture
from agpis.simulate.pair import same_viewed
from agpis.simulate.stock import WHOLE, Catalogued, Draft, Shot, Stock, reduced
from agpis.simulate.style import Pixels, Style


def shots_of(product: Catalogued) -> list[Shot]:
    """All pictures of a product, in the merchant's order."""
    uris = product.uris or ("",) * len(product.pictures)
    return [Shot(p, v, u) for p, v, u in zip(product.pictures, product.views, uris, strict=True)]


def close_up(pixels: Pixels, rng: Rng, low: float = 0.32, high: float = 0.5) -> Pixels:
    """A part of the product so close that it cannot be told what it is: `low` to `high` of the sides of its box."""
    box = ground(pixels).box
    share = rng.uniform(low, high)
    w, h = max(24, int(box.w * share)), max(24, int(box.h * share))
    side = int(np.sqrt(w * h))
    w, h = min(side, pixels.shape[1]), min(side, pixels.shape[0])
    x = int(np.clip(box.x + (box.w - w) * rng.uniform(0.2, 0.8), 0, pixels.shape[1] - w))
    y = int(np.clip(box.y + (box.h - h) * rng.uniform(0.2, 0.8), 0, pixels.shape[0] - h))
    part = pixels[y : y + h, x : x + w]
    scale = max(1.0, 200 / side)
    return np.asarray(cv2.resize(part, (round(w * scale), round(h * scale)), interpolation=cv2.INTER_CUBIC), np.uint8)


def wrong_order(draft: Draft, stock: Stock, rng: Rng, style: Style) -> Draft | None:
    """A detail, back, pack or scene stands first although the whole product comes later."""
    if draft.shots[0].view not in WHOLE:
        return None
    worse = [i for i, shot in enumerate(draft.shots) if i and shot.view not in (*WHOLE, "unknown")]
    if not worse:
        return None
    first = int(rng.choice(worse))
    rest = [i for i in range(len(draft.shots)) if i != first]
    order = [first, *(int(i) for i in rng.permutation(rest))]
    return replace(draft, shots=tuple(draft.shots[i] for i in order), index=0)


def primary_incomplete(draft: Draft, stock: Stock, rng: Rng, style: Style) -> Draft | None:
    """The first picture does not show the whole product alone, and no later one makes up for it.

    With the whole product later it would be `wrong_order`, with nothing but details `missing_views`.
    """
    shots = shots_of(draft.product)
    first = [s for s in shots if s.view in ("detail", "back", "pack", "lifestyle", "multi", "bottom")]
    later = [s for s in shots if s.view not in (*WHOLE, "unknown")]
    k = len(draft.shots)
    if rng.random() < 0.5 or not first:
        given = style.ranges.get("crop", (0.32, 0.5))
        part = close_up(draft.shots[0].pixels, rng, float(min(given)), float(max(given)))
        chosen = [Shot(part, "detail")]
    else:
        chosen = [first[int(rng.integers(len(first)))]]
    rest = [s for s in later if s.pixels is not chosen[0].pixels]
    if len(rest) < k - 1:
        return None
    chosen += [rest[int(i)] for i in rng.permutation(len(rest))[: k - 1]]
    if k > 1 and all(s.view == "detail" for s in chosen):
        return None
    return replace(draft, shots=tuple(chosen), index=0)


def redundant_views(draft: Draft, stock: Stock, rng: Rng, style: Style) -> Draft | None:
    """Behind the primary, two pictures of the same kind of view that tell nothing new."""
    if len(draft.shots) < 3:
        return None
    groups: dict[str, list[Shot]] = {}
    for shot in shots_of(draft.product):
        groups.setdefault(shot.view, []).append(shot)
    first = draft.shots[0]
    twice = [v for v, g in groups.items() if v in ("detail", "back", "side", "lifestyle") and len(g) > 1]
    index = len(draft.shots) - 1
    if twice and rng.random() < 0.7:
        group = groups[str(rng.choice(sorted(twice)))]
        two = [group[int(i)] for i in rng.permutation(len(group))[:2]]
    else:
        source = draft.shots[int(rng.integers(1, index + 1))]
        if source.view in WHOLE:
            return None
        two = [source, Shot(same_viewed(source.pixels, rng), source.view)]
    between = draft.shots[1 : index - 1]
    return replace(draft, shots=(first, *between, *two), index=index)


def missing_views(draft: Draft, stock: Stock, rng: Rng, style: Style) -> Draft | None:
    """Details only, or nothing but one side again and again: the product as a whole is not shown."""
    k = len(draft.shots)
    details = [s for s in shots_of(draft.product) if s.view == "detail"]
    whole = draft.shots[0].pixels
    while len(details) < k:
        details.append(Shot(close_up(whole, rng), "detail"))
    chosen = [details[int(i)] for i in rng.permutation(len(details))[:k]]
    return replace(draft, shots=tuple(chosen), index=None)


def title_mismatch(draft: Draft, stock: Stock, rng: Rng, style: Style) -> Draft | None:
    """Another product's title (and category); one in five from the same category, noted apart."""
    if rng.random() < 0.2:
        other = stock.alike(draft.product, rng)
        note = "same_category"
    else:
        other = stock.unlike(draft.product, rng)
        note = "other_category"
    if other is None or other.title == draft.title:
        return None
    category = draft.category if rng.random() < 0.5 else other.category
    return replace(draft, title=other.title, category=category, index=None, note=note)


def irrelevant(rng: Rng, height: int = 320, width: int = 320) -> Pixels:
    """A drawn picture that shows no product: a chart, a table, a texture, a landscape, an empty plate."""
    kind = str(rng.choice(["chart", "table", "texture", "landscape", "blank"]))
    out = np.full((height, width, 3), 255, np.uint8)
    if kind == "texture":
        return texture(height, width, rng)
    if kind == "landscape":
        sky, land = np.asarray((120, 170, 230), np.float32), np.asarray(vivid(rng), np.float32) * 0.5
        t = np.linspace(0.4, 1, height, dtype=np.float32)[:, None, None]
        out = np.broadcast_to(sky * t + 60 * (1 - t), out.shape).clip(0, 255).astype(np.uint8)
        for layer in range(3):
            along = np.linspace(0, 1, 40)
            ridge = 0.45 + 0.14 * layer + 0.08 * np.sin(along * rng.uniform(4, 14) + rng.uniform(0, 6))
            points = np.stack([along * width, ridge * height], 1)
            points = np.concatenate([points, [[width, height], [0, height]]]).astype(np.int32)
            shade = (land * (0.6 + 0.25 * layer)).clip(0, 255)
            cv2.fillPoly(out, [points], (float(shade[0]), float(shade[1]), float(shade[2])), cv2.LINE_AA)
        return out
    if kind == "blank":
        back = np.asarray(muted(rng) if rng.random() < 0.5 else (240, 240, 240), np.uint8)
        out[:] = back
        return lay(out, plate(width // 3, height // 4, 0.3), (180, 180, 180), width // 3, int(height * 0.375))
    ink = muted(rng) if rng.random() < 0.4 else (60, 60, 60)
    if kind == "chart":
        for i in range(int(rng.integers(4, 9))):
            tall = int(height * rng.uniform(0.1, 0.7))
            x = int(width * (0.12 + 0.1 * i))
            cv2.rectangle(out, (x, int(height * 0.85) - tall), (x + width // 14, int(height * 0.85)), vivid(rng), -1)
        cv2.line(out, (width // 12, height // 10), (width // 12, int(height * 0.85)), ink, 2)
        cv2.line(out, (width // 12, int(height * 0.85)), (int(width * 0.95), int(height * 0.85)), ink, 2)
        return out
    rows, columns = int(rng.integers(5, 12)), int(rng.integers(3, 7))
    for i in range(rows + 1):
        y = int(height * (0.1 + 0.8 * i / rows))
        cv2.line(out, (width // 12, y), (int(width * 0.92), y), ink, 1)
        for j in range(columns):
            if i < rows:
                cv2.putText(
                    out, f"{rng.integers(10, 99)}", (int(width * (0.11 + 0.81 * j / columns)), y + int(height * 0.05)),
                    cv2.FONT_HERSHEY_SIMPLEX, height / 900, ink, 1, cv2.LINE_AA,
                )  # fmt: skip
    for j in range(columns + 1):
        x = int(width * (1 / 12 + 0.836 * j / columns))
        cv2.line(out, (x, int(height * 0.1)), (x, int(height * 0.9)), ink, 1)
    return out


def irrelevant_image(draft: Draft, stock: Stock, rng: Rng, style: Style) -> Draft | None:
    """One picture has nothing to do with the product: a drawing, a bare texture, or a photo of quite another thing."""
    index = int(rng.integers(len(draft.shots)))
    if rng.random() < 0.5:
        other = stock.unlike(draft.product, rng)
        if other is None:
            return None
        picture = other.pictures[int(rng.integers(len(other.pictures)))]
        if rng.random() < 0.3:
            around = ground(picture)
            if not around.plain:
                picture = covering(picture, picture.shape[1] // 2, picture.shape[0] // 2, rng)
        return replace(draft.swapped(index, Shot(reduced(picture, 384), "unknown")), note="other_category")
    shape = draft.shots[index].pixels.shape
    return replace(
        draft.swapped(index, Shot(irrelevant(rng, shape[0], shape[1]), "unknown")), note="drawn", where=EVERYWHERE
    )


MULTI: dict[str, Callable[[Draft, Stock, Rng, Style], Draft | None]] = {
    "wrong_order": wrong_order,
    "primary_incomplete": primary_incomplete,
    "redundant_views": redundant_views,
    "missing_views": missing_views,
    "title_mismatch": title_mismatch,
    "irrelevant_image": irrelevant_image,
}
"""Rule id -> function on a draft; None where this product cannot be broken that way."""
