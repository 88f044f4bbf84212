"""What the simulator yields, as arrays to train on: letterboxed pixels, targets, geometry, tokens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agpis.data import Box
from agpis.images import Size, letterbox, placement
from agpis.rulebook import Rulebook
from agpis.simulate import Catalogued, Copy, Sample, Stock, Style, copied, images, sequences

UInt8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]

WORDS = 200  # title words that the product embedding must name
PART = 0.5  # of the picture: a mark over more of it has no place in it
STRUCTURE = 6.0  # standard deviation of a patch's grey values below which it is ground, in levels of 255


@dataclass(frozen=True, slots=True)
class ImageLessons:
    """N labelled pictures and M triples (picture, copy, another view or sister)."""

    pixels: UInt8
    """(N, H, W, 3)."""
    rules: Float32
    """(N, R) 0 or 1."""
    known: Float32
    """(N, R) 0 where nobody judged."""
    noncompliant: Float32
    """(N,)."""
    primary: Float32
    """(N,) 0 or 1."""
    primary_known: Float32
    """(N,) 0 where not known."""
    view: Int64
    """(N,) index of the view, -1 where not known."""
    words: Float32
    """(N, V) words of the title."""
    marks: Float32
    """(N, R, 4) left, top, right, bottom of the place where a rule is broken, of the letterbox's sides; NaN where it is
    broken nowhere in particular, or not at all."""
    triples: UInt8
    """(M, 3, H, W, 3)."""
    places: npt.NDArray[np.int16]
    """(M, G*G) for each patch of the copy the patch of the picture that shows the same, or -1."""
    products: Int64
    """(M, 3)."""
    styles: Int64
    """(M, 3)."""


def image_lessons(
    stock: Stock,
    rulebook: Rulebook,
    rng: np.random.Generator,
    style: Style,
    *,
    count: int,
    triples: int,
    size: int,
    views: Sequence[str],
) -> ImageLessons:
    """Draws `count` pictures and `triples` triples; every picture through THE one resize."""
    frame = Size(width=size, height=size)
    order = {rule: i for i, rule in enumerate(rulebook.single_rules)}
    pixels = np.empty((count, size, size, 3), np.uint8)
    rules, known = np.zeros((count, len(order)), np.float32), np.ones((count, len(order)), np.float32)
    primary, primary_known = np.zeros(count, np.float32), np.zeros(count, np.float32)
    view = np.full(count, -1, np.int64)
    named = {(p.source, p.sku): p.words() for p in stock.products}
    common = Counter(word for words in named.values() for word in words)
    vocabulary = {word: i for i, (word, _) in enumerate(sorted(common.most_common(WORDS)))}
    words = np.zeros((count, max(1, len(vocabulary))), np.float32)
    marks = np.full((count, len(order), 4), np.nan, np.float32)
    for i, sample in enumerate(images(stock, rulebook, rng, style, count)):
        pixels[i] = letterbox(sample.pixels, frame)
        for rule in sample.rules:
            rules[i, order[rule]] = 1.0
        for rule, box in sample.boxes.items():
            if box.w * box.h <= PART * sample.pixels.shape[0] * sample.pixels.shape[1]:
                marks[i, order[rule]] = framed(box, sample.pixels.shape[1], sample.pixels.shape[0], frame)
        for rule in sample.unknown:
            if rule in order:
                known[i, order[rule]] = 0.0
        if sample.primary is not None:
            primary[i], primary_known[i] = sample.primary, 1.0
        if sample.view in views:
            view[i] = views.index(sample.view)
        for word in named[sample.source, sample.sku]:
            if word in vocabulary:
                words[i, vocabulary[word]] = 1.0
    drawn = [triple(stock, rng, style, frame) for _ in range(triples)]
    ids: dict[tuple[str, str], int] = {}
    return ImageLessons(
        pixels=pixels,
        rules=rules,
        known=known,
        noncompliant=rules.max(1),
        primary=primary,
        primary_known=primary_known,
        view=view,
        words=words,
        marks=marks,
        triples=np.stack([t.pixels for t in drawn]),
        places=np.stack([t.places for t in drawn]),
        products=_ids([[(p.source, p.sku) for p in t.products] for t in drawn], ids),
        styles=_ids([[(p.source, f"style {p.style or p.sku}") for p in t.products] for t in drawn], ids),
    )


def framed(box: Box, width: int, height: int, frame: Size) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of a box of a picture in its letterbox, as parts of the letterbox's sides."""
    place = placement(width, height, frame)
    across, down = place.width / width / frame.width, place.height / height / frame.height
    left, top = place.left / frame.width, place.top / frame.height
    return left + box.x * across, top + box.y * down, left + (box.x + box.w) * across, top + (box.y + box.h) * down


@dataclass(frozen=True, slots=True)
class Triple:
    """A picture, a copy of it, and another view of the product or a picture of a sister or look-alike."""

    pixels: UInt8
    """(3, H, W, 3)."""
    places: npt.NDArray[np.int16]
    """(G*G,) see `ImageLessons.places`."""
    products: tuple[Catalogued, Catalogued, Catalogued]
    copy: Copy


def triple(stock: Stock, rng: np.random.Generator, style: Style, frame: Size, kind: str = "") -> Triple:
    """One triple; the other picture is a second view where the product has one, else a sister's or look-alike's."""
    product = stock.several(rng, 0.0) if stock.has_several and rng.random() < 0.5 else stock.some(rng)
    at = int(rng.integers(len(product.pictures)))
    source = product.pictures[at]
    copy = copied(source, rng, style.having(stock.pool(rng)), kind)
    other, shown = product, source
    sisters = stock.sisters(product)
    if len(product.pictures) > 1 and (not sisters or rng.random() < 0.5):
        rest = [i for i in range(len(product.pictures)) if i != at]
        shown = product.pictures[rest[int(rng.integers(len(rest)))]]
    else:
        found = sisters[int(rng.integers(len(sisters)))] if sisters else stock.alike(product, rng)
        other = found if found is not None else stock.some(rng)
        shown = other.pictures[min(at, len(other.pictures) - 1)]
    pixels = np.stack([letterbox(p, frame) for p in (source, copy.pixels, shown)])
    return Triple(pixels, correspondence(source, copy, pixels[0], pixels[1], frame), (product, product, other), copy)


def correspondence(
    source: UInt8, copy: Copy, framed_source: UInt8, framed_copy: UInt8, frame: Size, stride: int = 16
) -> npt.NDArray[np.int16]:
    """For each stride x stride patch of the letterboxed copy the patch of the letterboxed source that shows the same.

    int16 (G*G,), -1 where the centre shows nothing of the source, or where either patch is bare ground.
    """
    columns, rows = frame.width // stride, frame.height // stride
    x, y = np.meshgrid((np.arange(columns) + 0.5) * stride, (np.arange(rows) + 0.5) * stride)
    in_copy = placement(copy.pixels.shape[1], copy.pixels.shape[0], frame)
    u = ((x - in_copy.left) / in_copy.scale - copy.placed.x) / copy.placed.w
    v = ((y - in_copy.top) / in_copy.scale - copy.placed.y) / copy.placed.h
    inside = (u >= 0) & (u < 1) & (v >= 0) & (v < 1)
    if copy.mirrored:
        u = 1.0 - u
    box: Box = copy.box
    in_source = placement(source.shape[1], source.shape[0], frame)
    column = np.floor(((box.x + u * box.w) * in_source.scale + in_source.left) / stride).astype(np.int64)
    row = np.floor(((box.y + v * box.h) * in_source.scale + in_source.top) / stride).astype(np.int64)
    inside &= (column >= 0) & (column < columns) & (row >= 0) & (row < rows)
    place = np.where(inside, row * columns + column, 0)
    inside &= structured(framed_copy, stride) & structured(framed_source, stride).ravel()[place]
    return np.where(inside, place, -1).astype(np.int16).ravel()


def structured(pixels: UInt8, stride: int) -> npt.NDArray[np.bool_]:
    """bool (G, G): patches whose grey values vary, so that they can be found again."""
    grey = pixels.mean(2)
    rows, columns = pixels.shape[0] // stride, pixels.shape[1] // stride
    spread: npt.NDArray[np.float64] = grey.reshape(rows, stride, columns, stride).std(axis=(1, 3))
    return spread > STRUCTURE


def _ids(keys: list[list[tuple[str, str]]], ids: dict[tuple[str, str], int]) -> Int64:
    return np.array([[ids.setdefault(key, len(ids)) for key in row] for row in keys], dtype=np.int64)


@dataclass(frozen=True, slots=True)
class SequenceLessons:
    """n labelled sequences as tokens of the finished image model."""

    tokens: npt.NDArray[np.float16]
    """(n, K, P, D)."""
    mask: Float32
    """(n, K)."""
    labels: Int64
    """(n,) index in the rulebook's classes."""
    titles: tuple[str, ...]
    categories: tuple[str, ...]
    feedbacks: tuple[str, ...]
    samples: tuple[Sample, ...] = ()
    """The samples without pictures, where asked for."""


def sequence_lessons(
    stock: Stock,
    rulebook: Rulebook,
    rng: np.random.Generator,
    style: Style,
    tokens_of: Callable[[UInt8], Float32],
    *,
    count: int,
    shares: Mapping[str, float],
    size: int,
    k_range: tuple[int, int] | None = None,
    chunk: int = 64,
) -> SequenceLessons:
    """Draws `count` sequences; `tokens_of` takes (N, H, W, 3) pixels to (N, P, D)."""
    frame, k = Size(width=size, height=size), rulebook.k
    classes = {name: i for i, name in enumerate(rulebook.classes)}
    tokens: npt.NDArray[np.float16] | None = None
    mask, labels = np.zeros((count, k), np.float32), np.zeros(count, np.int64)
    titles, categories, feedbacks = [], [], []
    waiting: list[tuple[int, int, UInt8]] = []

    def flush() -> None:
        nonlocal tokens
        found = tokens_of(np.stack([pixels for _, _, pixels in waiting]))
        if tokens is None:
            tokens = np.zeros((count, k, *found.shape[1:]), np.float16)
        for (row, place, _), values in zip(waiting, found, strict=True):
            tokens[row, place] = values
        waiting.clear()

    drawn = sequences(stock, rulebook, rng, style, shares, k_range or (min(2, k), k), "en", count)
    for row, sample in enumerate(drawn):
        labels[row] = classes[sample.rule]
        titles.append(sample.title)
        categories.append(sample.category)
        feedbacks.append(sample.feedback)
        for place, picture in enumerate(sample.pictures):
            mask[row, place] = 1.0
            waiting.append((row, place, letterbox(picture, frame)))
        if len(waiting) >= chunk:
            flush()
    if waiting:
        flush()
    assert tokens is not None
    return SequenceLessons(tokens, mask, labels, tuple(titles), tuple(categories), tuple(feedbacks))
