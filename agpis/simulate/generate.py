"""Approved products in, samples out: labelled images for the image graph, labelled sequences for the sequence graph.

Everything is drawn from one generator: the same seed, products and style give the same samples in the same order.
Clean and broken pictures take the same way to their final form (`finished`), so that only the violation differs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from agpis.data import Box, Verdict
from agpis.errors import SettingsError
from agpis.rulebook import Rulebook
from agpis.simulate.degradations import recoded
from agpis.simulate.drawing import Ground, Rng, fit, ground, hsv
from agpis.simulate.multi import MULTI, close_up, shots_of
from agpis.simulate.overlays import emblem
from agpis.simulate.pair import PAIR, Violate
from agpis.simulate.phrases import ACCEPTED, Language, feedback
from agpis.simulate.single import SINGLE
from agpis.simulate.stock import WHOLE, Catalogued, Draft, Shot, Stock, reduced
from agpis.simulate.style import Alpha, Pixels, Style

SHARES: dict[str, float] = {"qualified": 0.71, "single": 0.12, "pair": 0.07, "multi": 0.10}
"""The paper's shares (4.1)."""


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


@dataclass(frozen=True, slots=True)
class Sample:
    """One sequence for the sequence graph."""

    sku: str
    source: str
    title: str
    category: str
    pictures: tuple[Pixels, ...]
    """In order; the first is the primary."""
    rule: str
    """A learned rule's id, or `qualified`."""
    image_index: int | None
    box: Box | None
    """In pixels of `pictures[image_index]`."""
    feedback: str
    candidates: tuple[Pixels, ...]
    """The sequence's pictures, then the product's others."""
    language: Language
    note: str = ""
    """Kind within the rule (`same_category`, `crop`, ...)."""


# The way every picture takes -----------------------------------------------------------------------------------------


def jittered(pixels: Pixels, rng: Rng) -> Pixels:
    """Harmless differences between shops: a little light, margin and white balance; before any violation."""
    gain = np.float32(rng.uniform(0.96, 1.04)) * rng.uniform(0.985, 1.015, 3).astype(np.float32)
    table = (np.arange(256, dtype=np.float32)[:, None] * gain).clip(0, 255).round().astype(np.uint8)
    if rng.random() < 0.6:
        pixels = np.asarray(cv2.LUT(pixels, table.reshape(1, 256, 3)), np.uint8)
    if rng.random() < 0.4:
        around = ground(pixels)
        if around.plain and _clear(around):  # more or less empty ground; a product at the edge would be torn off it
            pad = int(max(pixels.shape[:2]) * rng.uniform(0.01, 0.12))
            sides = [int(side) for side in rng.integers(0, pad + 1, 4)]
            pixels = np.asarray(cv2.copyMakeBorder(pixels, *sides, cv2.BORDER_REPLICATE), np.uint8)
    return np.ascontiguousarray(pixels)


def _clear(around: Ground) -> bool:
    """The product does not touch the picture's edge."""
    height, width = around.mask.shape
    box = around.box
    return box.x > 2 and box.y > 2 and box.x + box.w < width - 2 and box.y + box.h < height - 2


def printed(pixels: Pixels, rng: Rng, style: Style) -> Pixels:
    """Hard negative: words or an emblem printed on the product itself, following its light. Ground untouched."""
    around = ground(pixels)
    if not around.plain:
        return pixels
    box = around.box
    n = int(min(box.w, box.h) * rng.uniform(0.15, 0.4))
    if n < 14:
        return pixels
    mark: Alpha
    if rng.random() < 0.5:
        mark = emblem(n // 2, rng, style)
    else:
        words = style.phrase(rng, (*style.brands, *style.interface, *style.banners))
        mark = style.lettering(words, n // 2, rng)
    mark = fit(mark, int(box.w * 0.55), int(box.h * 0.4))
    x = int(box.x + (box.w - mark.shape[1]) * rng.uniform(0.35, 0.65))
    y = int(box.y + (box.h - mark.shape[0]) * rng.uniform(0.25, 0.7))
    under = pixels[y : y + mark.shape[0], x : x + mark.shape[1]].astype(np.float32)
    inside = around.mask[y : y + mark.shape[0], x : x + mark.shape[1]]
    if inside.mean() < 0.9:
        return pixels
    light = under.mean(2, keepdims=True)
    dark = float(light.mean()) < 120
    colour = np.asarray((235, 235, 235) if dark else (30, 30, 40), np.float32)
    if rng.random() < 0.4:
        colour = np.asarray(hsv(rng.uniform(0, 180), 200, 220 if dark else 110), np.float32)
    folds = (light / max(1.0, float(light.mean()))).clip(0.5, 1.4)  # the cloth's or pack's own shading stays
    out = pixels.copy()
    paint = under + (colour * folds - under) * (0.9 * mark[..., None])
    out[y : y + mark.shape[0], x : x + mark.shape[1]] = paint.clip(0, 255)
    return out


def finished(pixels: Pixels, rng: Rng) -> tuple[Pixels, float, float]:
    """The last step for every picture, clean or broken: another size and JPEG quality, or none.

    Returns the picture and the factors by which x and y of a box grow.
    """
    height, width = pixels.shape[:2]
    out = pixels
    longest = int(rng.uniform(224, 384)) if rng.random() < 0.5 else 384
    out = reduced(out, longest)
    if rng.random() < 0.8:
        out = recoded(np.ascontiguousarray(out), int(rng.integers(60, 97)))
    return np.ascontiguousarray(out), out.shape[1] / width, out.shape[0] / height


def _scaled(box: Box, fx: float, fy: float, shape: tuple[int, ...]) -> Box:
    x0, y0 = int(np.floor(box.x * fx)), int(np.floor(box.y * fy))
    x1, y1 = int(np.ceil((box.x + box.w) * fx)), int(np.ceil((box.y + box.h) * fy))
    x1, y1 = min(shape[1], x1), min(shape[0], y1)
    x0, y0 = min(x0, x1 - 1), min(y0, y1 - 1)
    return Box(x0, y0, x1 - x0, y1 - y0)


# Images --------------------------------------------------------------------------------------------------------------


def simulated(rulebook: Rulebook, scope: str) -> dict[str, str]:
    """Rule id -> name in VIOLATIONS, of the learned rules of that scope that can be simulated."""
    return {
        rule.id: rule.simulate.name
        for rule in rulebook.rules
        if rule.learned and rule.scope == scope and rule.simulate is not None and rule.simulate.name in VIOLATIONS
    }


def unknown_rules(pixels: Pixels, view: str) -> frozenset[str]:
    """Single rules that nobody judged for an approved picture, because its own kind comes close to breaking them."""
    found = set()
    if view in ("detail", "unknown", "lifestyle"):
        found.add("cut_off")
    if view in ("multi", "pack"):
        found.add("collage")
    if view not in ("lifestyle", "detail") and not ground(pixels).plain:
        found.add("cluttered_background")
    return frozenset(found)


def images(
    products: Sequence[Catalogued] | Stock,
    rulebook: Rulebook,
    rng: Rng,
    style: Style,
    n: int,
    *,
    broken: float = 0.5,
    doubled: float = 0.12,
    print_share: float = 0.15,
    detail_share: float = 0.1,
) -> Iterator[ImageSample]:
    """`n` pictures: a share `broken` of them breaks one rule (of those a share `doubled`, two), drawn evenly.

    `print_share` get print on the product itself, whether clean or broken; `detail_share` are close-ups.
    """
    stock = products if isinstance(products, Stock) else Stock(products)
    rules = simulated(rulebook, "single")
    if broken and not rules:
        raise SettingsError("cannot_simulate", f"found no simulated single rule in the rulebook {rulebook.id!r}")
    for _ in range(n):
        product = stock.some(rng)
        at = int(rng.integers(len(product.pictures)))
        # The merchants' later pictures are few: draw from a product with several of them half of the time.
        if rng.random() < 0.35 and stock.has_several:
            product = stock.several(rng, 0.0)
            at = int(rng.integers(len(product.pictures)))
        view, pixels = product.views[at], product.pictures[at]
        if view in WHOLE and rng.random() < detail_share:
            pixels, view, at = product.detail if product.detail is not None else close_up(pixels, rng), "detail", 1
        yield _image(product, at, view, pixels, rules, stock, rng, style, broken, doubled, print_share)


def _image(
    product: Catalogued, at: int, view: str, pixels: Pixels, rules: Mapping[str, str], stock: Stock, rng: Rng, style: Style,
    broken: float, doubled: float, print_share: float,
) -> ImageSample:  # fmt: skip
    unknown = unknown_rules(pixels, view)
    pixels = jittered(pixels, rng)
    if rng.random() < print_share:
        pixels = printed(pixels, rng, style)
    boxes: dict[str, Box] = {}
    chosen: list[str] = []
    if rng.random() < broken:
        many = 2 if len(rules) > 1 and rng.random() < doubled else 1
        chosen = [str(r) for r in rng.choice(list(rules), size=many, replace=False)]
        # What changes the frame comes first: then the boxes of what is laid over stay right.
        chosen.sort(key=lambda rule: rules[rule] not in _REFRAMING)
        if len(chosen) == 2 and rules[chosen[1]] in _REFRAMING:
            chosen = chosen[:1]
        for rule in chosen:
            name = rules[rule]
            result = SINGLE[name](pixels, rng, style.having(stock.pool(rng)) if name in _BRINGING else style)
            pixels = result.pixels
            if result.box is not None:
                boxes[rule] = result.box
    pixels, fx, fy = finished(pixels, rng)
    boxes = {rule: _scaled(box, fx, fy, pixels.shape) for rule, box in boxes.items()}
    found = frozenset(chosen)
    primary: float | None = None
    if found or view in ("detail", "back", "pack", "multi", "lifestyle", "bottom"):
        primary = 0.0
    elif at == 0 and view in WHOLE and "cluttered_background" not in unknown:
        primary = 1.0
    return ImageSample(pixels, found, unknown - found, boxes, view, primary, product.sku, product.source)


_REFRAMING = frozenset({"rotation", "cut_off", "collage", "screenshot", "border", "cluttered_background"})
_BRINGING = frozenset({"collage", "cluttered_background"})


# Sequences -----------------------------------------------------------------------------------------------------------


def approved(product: Catalogued, k: int, rng: Rng) -> Draft | None:
    """A sequence of `k` of the product's pictures that a reviewer would accept; None where it has no such.

    The whole product first; behind it pictures in the merchant's order, of different views: a view comes twice only
    where it is `front` or `unknown` and the pictures plainly differ.
    """
    shots = shots_of(product)
    if product.detail is not None and len(shots) == 1:
        shots.append(Shot(product.detail, "detail"))
    first = next((i for i, s in enumerate(shots) if s.view == "front"), None)
    if first is None:
        first = next((i for i, s in enumerate(shots) if s.view in WHOLE), None)
    if first is None:
        return None
    if shots[0].view in WHOLE:
        first = 0
    rest = [i for i in range(len(shots)) if i != first and shots[i].view != "multi"]
    if len(rest) < k - 1:
        return None
    for _ in range(6):
        chosen = sorted(int(i) for i in rng.permutation(rest)[: k - 1])
        if _varied([shots[first], *(shots[i] for i in chosen)]):
            return Draft(product, product.title, product.category, tuple(shots[i] for i in (first, *chosen)))
    return None


def _varied(shots: Sequence[Shot]) -> bool:
    """No two pictures of one view, or of the front such as look the same."""
    for i, a in enumerate(shots):
        for b in shots[:i]:
            if a.view == b.view and (a.view not in ("front", "unknown") or _alike(a.pixels, b.pixels)):
                return False
    return True


def _alike(a: Pixels, b: Pixels) -> bool:
    """Grey 24 x 24 thumbnails correlate over 0.9, straight or mirrored."""
    small = [cv2.resize(cv2.cvtColor(p, cv2.COLOR_RGB2GRAY), (24, 24), interpolation=cv2.INTER_AREA) for p in (a, b)]
    left, right = (s.astype(np.float64) - s.mean() for s in small)
    norm = float(np.sqrt((left**2).sum() * (right**2).sum())) + 1e-9
    return max(float((left * right).sum()), float((left * right[:, ::-1]).sum())) / norm > 0.9


def _single(rule: str) -> Violate:
    """A violation of one image, applied to one picture of a draft."""

    def violate(draft: Draft, stock: Stock, rng: Rng, style: Style) -> Draft | None:
        index = int(rng.integers(len(draft.shots)))
        shot = draft.shots[index]
        if rule in unknown_rules(shot.pixels, shot.view):
            return None
        result = SINGLE[rule](shot.pixels, rng, style.having(stock.pool(rng)) if rule in _BRINGING else style)
        box = result.box
        return replace(
            draft.swapped(index, replace(shot, pixels=result.pixels)),
            where=result.where,
            box=(box.x, box.y, box.w, box.h) if box else None,
        )

    return violate


VIOLATIONS: dict[str, Violate] = {**{rule: _single(rule) for rule in SINGLE}, **PAIR, **MULTI}
"""Rule id -> function (draft, stock, generator, style) -> broken draft, or None where this product does not lend itself."""


def sequences(
    products: Sequence[Catalogued] | Stock,
    rulebook: Rulebook,
    rng: Rng,
    style: Style,
    shares: Mapping[str, float] = SHARES,
    k_range: tuple[int, int] = (2, 3),
    language: Literal["en", "zh", "both"] = "en",
    n: int | None = None,
) -> Iterator[Sample]:
    """Labelled sequences without end, or `n` of them; scopes by `shares`, rules evenly within a scope.

    Raises SettingsError on shares that are not of qualified, single, pair, multi or sum to nothing.
    """
    stock = products if isinstance(products, Stock) else Stock(products)
    scopes = list(SHARES)
    if set(shares) - set(scopes) or min(shares.values(), default=0) < 0 or sum(shares.values()) <= 0:
        raise SettingsError(
            "bad_shares", f"found shares {dict(shares)}, allowed are numbers >= 0 of {', '.join(scopes)}"
        )
    weights = np.asarray([shares.get(scope, 0.0) for scope in scopes])
    by_scope = {scope: simulated(rulebook, scope) for scope in scopes}
    made = 0
    while n is None or made < n:
        scope = scopes[int(rng.choice(len(scopes), p=weights / weights.sum()))]
        if scope != "qualified" and not by_scope[scope]:
            continue
        rule = "qualified" if scope == "qualified" else str(rng.choice(list(by_scope[scope])))
        draft = _draft(rule, by_scope[scope].get(rule, rule), stock, rng, style, k_range)
        spoken: Language = language if language != "both" else ("en" if rng.random() < 0.5 else "zh")
        yield _sample(draft, rulebook, rng, style, spoken)
        made += 1


def _draft(rule: str, name: str, stock: Stock, rng: Rng, style: Style, k_range: tuple[int, int]) -> Draft:
    """A draft of `rule`; other products are tried where one does not lend itself."""
    for _ in range(400):
        k = int(rng.integers(k_range[0], k_range[1] + 1))
        draft = approved(stock.several(rng), k, rng)
        if draft is None:
            continue
        draft = _dressed(draft, rng, style)
        if rule == "qualified":
            return draft
        broken = VIOLATIONS[name](draft, stock, rng, style)
        if broken is not None:
            return replace(broken, rule=rule)
    raise SettingsError(
        "cannot_simulate",
        f"found no product among {len(stock.products)} that can break the rule {rule!r} with {k_range[0]} to"
        f" {k_range[1]} pictures; add products with more pictures and views, or leave the rule out",
    )


def _dressed(draft: Draft, rng: Rng, style: Style) -> Draft:
    """The same harmless differences for all pictures of a product: mirrored as a set, light, print on the product."""
    mirror = rng.random() < 0.2
    shots = []
    for shot in draft.shots:
        pixels = np.ascontiguousarray(shot.pixels[:, ::-1]) if mirror else shot.pixels
        shots.append(replace(shot, pixels=jittered(pixels, rng)))
    title = draft.title
    color = draft.product.color
    if color and rng.random() < 0.5:
        title = re.sub(rf"[\s,-]*\b{re.escape(color)}\b", "", title).strip() or title
    category = draft.category if rng.random() < 0.7 else ""
    return replace(draft, shots=tuple(shots), title=title, category=category)


def _sample(draft: Draft, rulebook: Rulebook, rng: Rng, style: Style, language: Language) -> Sample:
    pictures, box = [], None
    for i, shot in enumerate(draft.shots):
        pixels, fx, fy = finished(shot.pixels, rng)
        if i == draft.index and draft.box is not None:
            box = _scaled(Box(*draft.box), fx, fy, pixels.shape)
        pictures.append(pixels)
    spare = [p for p, u in zip(draft.product.pictures, draft.product.uris, strict=False)
             if all(s.uri != u for s in draft.shots)]  # fmt: skip
    words = ACCEPTED
    if draft.rule != "qualified":
        words = feedback(rulebook.rule(draft.rule), rng, language, draft.index, draft.where)
    return Sample(
        sku=draft.product.sku,
        source=draft.product.source,
        title=draft.title,
        category=draft.category,
        pictures=tuple(pictures),
        rule=draft.rule,
        image_index=draft.index,
        box=box,
        feedback=words,
        candidates=(*pictures, *spare),
        language=language,
        note=draft.note,
    )


# On disk -------------------------------------------------------------------------------------------------------------


def write_samples(samples: Iterable[Sample], folder: str | Path) -> Path:
    """Write `images/*.jpg` and `samples.jsonl` (the fields of `agpis.data.Verdict`, uris relative to `folder`).

    All pictures are saved as JPEG of one quality, clean or broken. The sku is that of the product, so that a split
    by sku keeps all samples of a product together. Returns the path of samples.jsonl.
    """
    root = Path(folder)
    (root / "images").mkdir(parents=True, exist_ok=True)
    path = root / "samples.jsonl"
    with path.open("w", encoding="utf-8") as out:
        for number, sample in enumerate(samples):
            uris = []
            for i, picture in enumerate(sample.candidates):
                uri = f"images/{number:06d}-{i}.jpg"
                _, data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 95])
                (root / uri).write_bytes(data.tobytes())
                uris.append(uri)
            verdict = Verdict(
                sku=f"{sample.source}/{sample.sku}" if sample.source else sample.sku,
                title=sample.title,
                category=sample.category,
                sequence=tuple(uris[: len(sample.pictures)]),
                candidates=tuple(uris),
                accepted=sample.rule == "qualified",
                rules=() if sample.rule == "qualified" else (sample.rule,),
                image_index=sample.image_index,
                box=sample.box,
                feedback=sample.feedback,
                reviewer="simulator",
            )
            out.write(json.dumps(asdict(verdict), ensure_ascii=False) + "\n")
    return path
