"""Approved products in, labelled sequences out: the training data of the sequence graph.

Everything is drawn from one generator: the same seed, products and style give the same samples in the same order.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np

from agpis.data import Box
from agpis.errors import SettingsError
from agpis.rulebook import Rule, Rulebook
from agpis.simulate.drawing import Rng
from agpis.simulate.finish import finished, jittered, scaled
from agpis.simulate.multi import shots_of
from agpis.simulate.phrases import ACCEPTED, Language, feedback
from agpis.simulate.single import SINGLE
from agpis.simulate.stock import WHOLE, Catalogued, Draft, Shot, Stock
from agpis.simulate.style import Pixels, Style
from agpis.simulate.violations import BRINGING, concerned, simulated, unknown_rules, violation

SPARED = 0.06
"""Share of sequences, qualified or not, with a picture that breaks a rule which does not speak of its place."""

SHARES: Mapping[str, float] = {"qualified": 0.71, "single": 0.12, "pair": 0.07, "multi": 0.10}
"""The paper's shares (4.1)."""


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


def sequences(
    products: Sequence[Catalogued] | Stock,
    rulebook: Rulebook,
    rng: Rng,
    style: Style,
    shares: Mapping[str, float] = SHARES,
    k_range: tuple[int, int] = (2, 3),
    language: Literal["en", "zh", "both"] = "en",
    n: int | None = None,
    tries: int = 4000,
) -> Iterator[Sample]:
    """Labelled sequences without end, or `n` of them; scopes by `shares`, rules evenly within a scope. A rule that no
    product could break in `tries` draws is taken for one that these products cannot break.

    Raises SettingsError on shares that are not of qualified, single, pair, multi or sum to nothing.
    """
    stock = products if isinstance(products, Stock) else Stock(products)
    scopes = list(SHARES)
    if set(shares) - set(scopes) or min(shares.values(), default=0) < 0 or sum(shares.values()) <= 0:
        raise SettingsError(
            "bad_shares", f"found shares {dict(shares)}, allowed are numbers >= 0 of {', '.join(scopes)}"
        )
    weights = np.asarray([shares.get(scope, 0.0) for scope in scopes])
    by_scope = {scope: [rulebook.rule(rule) for rule in simulated(rulebook, scope)] for scope in scopes}
    spared = [rule for rule in by_scope["single"] if rule.role != "any"]
    made = 0
    while n is None or made < n:
        scope = scopes[int(rng.choice(len(scopes), p=weights / weights.sum()))]
        if scope != "qualified" and not by_scope[scope]:
            continue
        rule = None if scope == "qualified" else by_scope[scope][int(rng.integers(len(by_scope[scope])))]
        draft = _draft(rule, spared, stock, rng, style, k_range, tries)
        spoken: Language = language if language != "both" else ("en" if rng.random() < 0.5 else "zh")
        yield _sample(draft, rulebook, rng, style, spoken)
        made += 1


def _draft(
    rule: Rule | None,
    spared: Sequence[Rule],
    stock: Stock,
    rng: Rng,
    style: Style,
    k_range: tuple[int, int],
    tries: int,
) -> Draft:
    """A draft that breaks `rule`, or none; other products are tried where one does not lend itself."""
    for _ in range(tries):
        k = int(rng.integers(k_range[0], k_range[1] + 1))
        draft = approved(stock.several(rng), k, rng)
        if draft is None:
            continue
        draft = _dressed(draft, rng, style)
        if spared and rng.random() < SPARED:
            draft = allowed(draft, spared[int(rng.integers(len(spared)))], stock, rng, style)
        if rule is None or rule.simulate is None:
            return draft
        broken = violation(rule)(draft, stock, rng, style.ranged(rule.simulate.ranges))
        if broken is not None:
            return replace(broken, rule=rule.id)
    wanted = "be approved" if rule is None else f"break the rule {rule.id!r}"
    raise SettingsError(
        "cannot_simulate",
        f"found no product among {len(stock.products)} that can {wanted} with {k_range[0]} to"
        f" {k_range[1]} pictures; add products with more pictures and views, or leave the rule out",
    )


def allowed(draft: Draft, rule: Rule, stock: Stock, rng: Rng, style: Style) -> Draft:
    """Hard negative: a picture of which the rule does not speak looks as if it broke it, such as a size chart behind
    the primary."""
    asked = concerned(rule.role, len(draft.shots))
    free = [
        i
        for i, shot in enumerate(draft.shots)
        if i not in asked and rule.id not in unknown_rules(shot.pixels, shot.view)
    ]
    if not free or rule.simulate is None:
        return draft
    index = free[int(rng.integers(len(free)))]
    shot = draft.shots[index]
    look = style.ranged(rule.simulate.ranges)
    look = look.having(stock.pool(rng)) if rule.simulate.name in BRINGING else look
    pixels = SINGLE[rule.simulate.name](shot.pixels, rng, look).pixels
    return replace(draft.swapped(index, replace(shot, pixels=pixels)), index=draft.index)


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
            box = scaled(Box(*draft.box), fx, fy, pixels.shape)
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
