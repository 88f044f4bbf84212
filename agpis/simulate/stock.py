"""Approved products in memory, pictures decoded once: what violations are made of."""

from __future__ import annotations

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np

from agpis.errors import ImageError, TrainingError
from agpis.images import decode
from agpis.simulate.drawing import Rng, ground
from agpis.simulate.style import Pixels

VIEWS = ("front", "back", "side", "top", "bottom", "detail", "pack", "lifestyle", "multi", "unknown")
"""What a picture shows; the words of `views` in catalog.jsonl."""
WHOLE = ("front", "side", "top")
"""Views that may stand first."""
LONGEST = 384
"""Longest side of the pictures in memory, px: the image graph sees 224."""
_DETAIL = 0.34
"""Side of a made detail, as a part of the product's box: about an eighth of its area."""


@dataclass(frozen=True, slots=True)
class Catalogued:
    """An approved product with its pictures decoded and their views known."""

    sku: str
    title: str
    category: str
    pictures: tuple[Pixels, ...]
    views: tuple[str, ...]
    uris: tuple[str, ...] = ()
    style: str = ""
    """Products with the same style and source are colours of one product."""
    color: str = ""
    source: str = ""
    """Name of the catalogue, for leaving it out."""
    detail: Pixels | None = None
    """A close-up cut out of the full-size primary, where that is large enough; no picture of the merchant's."""

    def words(self) -> frozenset[str]:
        """Words of title and category, for telling kinds of product apart."""
        text = (
            f"{self.title} {self.category}".replace(self.color, " ") if self.color else f"{self.title} {self.category}"
        )
        return frozenset(w for w in re.findall(r"[^\W\d_]{3,}", text.lower()) if w not in _STOP)


_STOP = frozenset(
    (
        "the",
        "and",
        "for",
        "with",
        "women",
        "men",
        "man",
        "kids",
        "others",
        "default",
        "all",
        "fashion",
        "new",
        "product",
    )
)


def held_out(product: Catalogued, share: float) -> bool:
    """Whether a product belongs to the share that is held out of training, by a hash of source and style (or sku).

    Colours of one style stay on one side: mostly they are one photograph recoloured.
    """
    key = f"{product.source}/{product.style or product.sku}"
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") % 1000 < 1000 * share


@dataclass(frozen=True, slots=True)
class Shot:
    """One picture of a sequence in the making."""

    pixels: Pixels
    view: str
    uri: str = ""


@dataclass(frozen=True, slots=True)
class Draft:
    """A sequence in the making; violations turn one into another."""

    product: Catalogued
    title: str
    category: str
    shots: tuple[Shot, ...]
    rule: str = "qualified"
    index: int | None = None
    """Position of the image to blame."""
    where: str = ""
    note: str = ""
    """Kind within the rule, for reports apart: `same_category`, `mirrored` ..."""
    box: tuple[int, int, int, int] | None = None
    """x, y, w, h in pixels of the image to blame."""

    def swapped(self, index: int, shot: Shot) -> Draft:
        """With another picture at `index`, which is to blame."""
        return replace(self, shots=(*self.shots[:index], shot, *self.shots[index + 1 :]), index=index)


@dataclass
class Stock:
    """All products, with the look-ups that violations need."""

    products: Sequence[Catalogued]
    _styles: dict[tuple[str, str], list[int]] = field(default_factory=lambda: defaultdict(list), repr=False)
    _categories: dict[tuple[str, str], list[int]] = field(default_factory=lambda: defaultdict(list), repr=False)
    _sources: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list), repr=False)
    _several: list[int] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        if not self.products:
            raise TrainingError("no_products", "found no product with a readable picture; give at least one catalogue")
        for i, product in enumerate(self.products):
            if product.style:
                self._styles[product.source, product.style].append(i)
            self._categories[product.source, product.category].append(i)
            self._sources[product.source].append(i)
            if len(product.pictures) > 1 or product.detail is not None:
                self._several.append(i)

    @property
    def has_several(self) -> bool:
        """Whether any product has two pictures."""
        return bool(self._several)

    def some(self, rng: Rng) -> Catalogued:
        """A product; sources weigh with the root of their size, so that a large one does not drown the others."""
        return self._drawn(rng, self._sources)

    def pool(self, rng: Rng, count: int = 6) -> tuple[Pixels, ...]:
        """Some pictures of any products, for collages and grounds."""
        drawn = (self.some(rng).pictures for _ in range(count))
        return tuple(pictures[int(rng.integers(len(pictures)))] for pictures in drawn)

    def _drawn(self, rng: Rng, groups: dict[str, list[int]]) -> Catalogued:
        names = sorted(groups)
        weights = np.sqrt([len(groups[name]) for name in names])
        group = groups[names[int(rng.choice(len(names), p=weights / weights.sum()))]]
        return self.products[group[int(rng.integers(len(group)))]]

    def several(self, rng: Rng, made: float = 0.25) -> Catalogued:
        """A product with two or more pictures; with probability `made` the second is a made detail."""
        groups: dict[str, list[int]] = defaultdict(list)
        close_up = rng.random() < made
        for i in self._several:
            if (len(self.products[i].pictures) == 1) == close_up:
                groups[self.products[i].source].append(i)
        if not groups:
            if not self._several:
                raise TrainingError("no_sequences", "found no product with two pictures; sequences need at least two")
            groups["all"] = self._several
        return self._drawn(rng, groups)

    def sisters(self, product: Catalogued) -> list[Catalogued]:
        """Other colours of the same product."""
        found = self._styles.get((product.source, product.style), []) if product.style else []
        return [p for p in (self.products[i] for i in found) if p.sku != product.sku and p.color != product.color]

    def alike(self, product: Catalogued, rng: Rng, tries: int = 30) -> Catalogued | None:
        """Another product of the same category, else of the same source; not a colour of the same."""
        for group in (self._categories[product.source, product.category], self._sources[product.source]):
            for _ in range(tries if len(group) > 1 else 0):
                other = self.products[group[int(rng.integers(len(group)))]]
                same = other.sku == product.sku or (other.style and other.style == product.style)
                if not same and other.title != product.title:
                    return other
        return None

    def unlike(self, product: Catalogued, rng: Rng, tries: int = 40) -> Catalogued | None:
        """A product of another kind: no word of title or category in common."""
        words = product.words()
        for _ in range(tries):
            other = self.some(rng)
            if other.words() and not (other.words() & words) and other.sku != product.sku:
                return other
        return None


def load(
    paths: Iterable[str | Path], *, longest: int = LONGEST, details: bool = True, threads: int = 2
) -> list[Catalogued]:
    """Read catalogues (catalog.jsonl with `images`, and where known `views`, `style`, `color`) and decode all pictures.

    Pictures come out as uint8 (H, W, 3) RGB with the longest side at most `longest` px. Without `views`, the first
    picture counts as `front`, the others as `unknown`. Unreadable pictures are left out, products without any too.
    With `details`, large pictures also give a close-up (`Catalogued.detail`).
    Raises TrainingError (`bad_catalogue`) on a line that is not a product.
    """
    rows = []
    for path in map(Path, paths):
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                row = {**row, "sku": str(row["sku"]), "images": [str(image) for image in row["images"]]}
            except (ValueError, KeyError, TypeError) as error:
                raise TrainingError(
                    "bad_catalogue",
                    f"{path}, line {number}: found {line[:60]!r}, wanted a JSON object with sku and images ({error})",
                ) from None
            rows.append((path, row))
    with ThreadPoolExecutor(threads) as workers:
        loaded = workers.map(lambda item: _product(*item, longest=longest, details=details), rows)
        return [product for product in loaded if product is not None]


def _product(path: Path, row: dict[str, object], *, longest: int, details: bool) -> Catalogued | None:
    images = row["images"]
    assert isinstance(images, list)
    given = row.get("views")
    return catalogued(
        {name: str(row.get(name, "")) for name in ("sku", "title", "category", "style", "color")},
        images,
        lambda uri: (path.parent / uri).read_bytes(),
        views=[str(view) for view in given] if isinstance(given, list) else None,
        source=path.parent.name,
        longest=longest,
        details=details,
    )


def catalogued(
    texts: Mapping[str, str],
    images: Sequence[str],
    fetch: Callable[[str], bytes],
    *,
    views: Sequence[str] | None = None,
    source: str = "",
    longest: int = LONGEST,
    details: bool = True,
) -> Catalogued | None:
    """An approved product with its pictures decoded; unreadable ones are left out, None where none is readable.

    Args:
        texts: sku, title, and where known category, style and color.
        fetch: the bytes of an image; ImageError or OSError where there are none.
        views: what each picture shows; None: the first is taken for the front, the others for unknown views.
        longest: longest side of the pictures kept, px.
        details: cut a close-up out of a large primary.
    """
    views = views if views is not None else ["front", *["unknown"] * (len(images) - 1)]
    pictures, kept, uris = [], [], []
    detail = None
    for i, (uri, view) in enumerate(zip(images, views, strict=True)):
        want_detail = details and i == 0 and view in WHOLE
        try:
            pixels = decode(fetch(uri), name=uri, target=None if want_detail else longest // 2).pixels
        except (ImageError, OSError):
            continue
        small = reduced(pixels, longest)
        if want_detail:
            detail = _close_up(pixels, small, longest)
        pictures.append(small)
        kept.append(view)
        uris.append(uri)
    if not pictures:
        return None
    known = {name: texts.get(name, "") for name in ("sku", "title", "category", "style", "color")}
    return Catalogued(
        **known, pictures=tuple(pictures), views=tuple(kept), uris=tuple(uris), source=source, detail=detail
    )


def reduced(pixels: Pixels, longest: int) -> Pixels:
    """Reduce so that the longest side is at most `longest` px; never enlarges."""
    height, width = pixels.shape[:2]
    scale = longest / max(height, width)
    if scale >= 1:
        return np.ascontiguousarray(pixels)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)


def _close_up(pixels: Pixels, small: Pixels, longest: int) -> Pixels | None:
    """A square out of the product's middle at full resolution; None where it would be under 200 px or has no ground."""
    around = ground(small)
    scale = pixels.shape[1] / small.shape[1]
    side = int(np.sqrt(around.box.w * around.box.h) * scale * _DETAIL)
    if not around.plain or side < 200:
        return None
    # Where the product has most structure: the strongest edges near the middle of its box.
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
    edges = np.abs(cv2.Laplacian(grey, cv2.CV_32F)) * around.mask
    n = max(3, int(side / scale)) | 1
    density = cv2.blur(edges, (n, n)) * (cv2.blur(around.mask.astype(np.float32), (n, n)) > 0.8)
    cy, cx = np.unravel_index(int(np.argmax(density)), density.shape)
    x = int(np.clip(int(cx) * scale - side / 2, 0, pixels.shape[1] - side))
    y = int(np.clip(int(cy) * scale - side / 2, 0, pixels.shape[0] - side))
    return reduced(pixels[y : y + side, x : x + side], longest)
