"""Pairs of catalogue pictures that finders of copies are measured on: copies, other views, sister products, others.

Copies are made by `agpis.simulate.pair`, in the style `test`, out of the first two pictures of products with several.
They must be told from other views of the same product (original against another view, and copy of one view against
another view) and from sister products, which often are one photograph in other colours.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from agpis.images import decode
from agpis.simulate.pair import KINDS, copied
from agpis.simulate.style import Style
from bench.finders import Pair, Pixels, Shot

LONGEST = 900
"""Pictures are reduced to this before copies are made, pixels."""

REAL_COPIES = {
    ("magento", "MP07-Blue"): "nearly the same detail twice (data README)",
    ("smartstore", "P-3002-matteblack-clear"): "one file twice (`repeats`)",
    ("smartstore", "P-3002-matteblack-clear-polarized"): "one file twice (`repeats`)",
    ("saleor", "balance-trail-720"): "the second side is the first one mirrored",
    ("saleor", "dash-force"): "the second side is the first one mirrored",
}
"""Products whose own views are copies of each other, found by eye: no negatives."""
SISTERS = 40
"""Families of sister products a source, at most."""
CROPPED_DETAILS = ("oxid", "kickstart")
"""Sources whose `detail` views are mostly crops of the product's other pictures, by eye and by the data README."""


def read(path: Path) -> Pixels:
    pixels = decode(path.read_bytes(), name=path.name, target=LONGEST // 2).pixels
    factor = LONGEST / max(pixels.shape[:2])
    if factor < 1:
        pixels = np.asarray(cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA), np.uint8)
    return pixels


def are_views(a: Shot, b: Shot) -> bool:
    """Whether two pictures of one product are different views, and not in truth one photograph."""
    views = (a.view, b.view)
    if "multi" in views or (a.source, a.sku) in REAL_COPIES:
        return False  # `multi` pictures are put together from the single views
    return not (a.source in CROPPED_DETAILS and "detail" in views) and a.source != "kickstart"


def collect(data: Path, sources: Sequence[str], products: int, seed: int) -> list[Pair]:
    """Of up to `products` products with several pictures a source (three times that of magento), and of SISTERS."""
    rng = np.random.default_rng(seed)
    grounds = sorted((data / "clothing" / "images").iterdir())
    style = Style.test().having(tuple(read(p) for p in rng.choice(np.asarray(grounds, object), 24, replace=False)))
    pairs: list[Pair] = []
    singles: list[Shot] = []
    for source in sources:
        lines = [json.loads(line) for line in (data / source / "catalog.jsonl").read_text().splitlines()]
        several = [line for line in lines if len(line["images"]) > 1]
        for at in rng.permutation(len(several))[: products * (3 if source == "magento" else 1)]:
            line = several[at]
            shots = [
                Shot(source, line["sku"], line.get("style", ""), view, read(data / source / uri))
                for uri, view in zip(line["images"], line["views"], strict=True)
            ]
            singles.append(shots[0])
            pairs += [Pair(a, b, "view") for a, b in combinations(shots, 2) if are_views(a, b)]
            for i in range(min(2, len(shots))):
                for kind in KINDS:
                    copy = copied(shots[i].pixels, rng, style, kind)
                    made = Shot(source, line["sku"], line.get("style", ""), shots[i].view, copy.pixels, copied=True)
                    pairs.append(Pair(shots[i], made, kind, copy.box))
                    others = [o for o in shots if o is not shots[i] and are_views(o, shots[i])]
                    if others and rng.random() < 0.4:
                        pairs.append(Pair(others[int(rng.integers(len(others)))], made, "view"))
        styles: dict[str, list[dict[str, Any]]] = {}
        for line in lines:
            if line.get("style"):
                styles.setdefault(line["style"], []).append(line)
        families = [family for family in styles.values() if len(family) > 1]
        for at in rng.permutation(len(families))[:SISTERS]:
            a, b = (
                Shot(source, line["sku"], line["style"], line["views"][0], read(data / source / line["images"][0]))
                for line in families[at][:2]
            )
            if not np.array_equal(a.pixels, b.pixels):  # sizes of one article share a picture
                pairs.append(Pair(a, b, "sister"))
    for _ in range(50 * len(sources)):
        a, b = (singles[int(i)] for i in rng.integers(len(singles), size=2))
        if a.sku != b.sku and not (a.style and a.style == b.style):
            pairs.append(Pair(a, b, "other"))
    return pairs
