"""Pictures that are easily judged wrongly: print and screens that belong to the product, and blur at several sizes.

`bench.starter` measures them with the rest. Packs and devices are the merchants' own where they have any; labels,
covers, prints and displays are drawn onto their products by the simulator's harmless looks, in `Style.test()`. All take
the way of clean pictures (`agpis.simulate.finish`). Blur is judged as `agpis generate` does it: encoded, decoded,
measured.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from agpis.bundle import Bundle
from agpis.data import Image
from agpis.errors import ImageError
from agpis.fetch import Fetcher
from agpis.images import Limits, decode
from agpis.inputs import Pixels, stack
from agpis.metrics import Interval
from agpis.prepare import Preparer
from agpis.simulate import SINGLE, Catalogued, Stock, Style
from agpis.simulate.drawing import Ground, Rng, ground
from agpis.simulate.finish import finished, grained, jittered, printed, resampled
from agpis.simulate.harmless import Harmless, covered, labelled, large_print, screened
from agpis.simulate.stock import WHOLE, reduced
from bench.measured import BLURRED, SHARP
from bench.naming import share

BLUR = "blur"
"""The rule, and its simulator."""
ENOUGH = 60  # pictures of a kind and source
EACH = 20  # pictures a source that are judged sharp and blurred, plain and large ones each
PLAINEST = 0.25  # of a source's pictures, those with the least structure on the product, are the plain ones
LARGE = 1500  # longest side of the merchants' pictures that are judged at each of SIZES, px
SIZES = (300, 800, 2000)
QUALITY = 92  # of the JPEG
BATCH = 32

DEVICES = re.compile(
    r"displays?|ipads?|iphones?|laptops?|monitors?|notebooks?|(smart)?phones?|smartwatch(es)?|tablets?"
)
NO_DEVICES = re.compile(r"accessories|bags?|cases?|covers?|cables?|sleeves?")
"""Words of title and category (`Catalogued.words`) of products with a screen, and of those that go with them."""


def _print(pixels: Pixels, around: Ground, rng: Rng, style: Style) -> Pixels:
    return printed(pixels, rng, style)


DRAWN: dict[str, tuple[Harmless, ...]] = {
    "packs, label or cover drawn": (labelled, covered),
    "prints drawn": (large_print, _print),
    "screens drawn": (screened,),
}
"""Kind -> harmless looks, drawn in turn."""
OWN = ("packs", "screens")
"""Merchants' own: pictures with the view `pack`, and of devices in a view of SHOWING."""
SHOWING = (*WHOLE, "multi", "lifestyle")


@dataclass(frozen=True, slots=True)
class Clean:
    """A picture that nothing is wrong with."""

    kind: str
    """Of DRAWN or OWN."""
    sku: str
    """With its source."""
    pixels: Pixels


def clean_pictures(stock: Stock, rng: Rng, count: int = ENOUGH) -> Iterator[Clean]:
    """At most `count` of each kind: the merchants' own each once, drawn ones of products that lend themselves."""
    style = Style.test()
    for kind in OWN:
        own = [
            (product, picture)
            for product in stock.products
            for picture, view in zip(product.pictures, product.views, strict=True)
            if (view == "pack" if kind == "packs" else view in SHOWING and is_device(product))
        ]
        for at in rng.permutation(len(own))[:count]:
            product, picture = own[at]
            yield Clean(kind, _name(product), clean_picture(picture, rng))
    for kind, looks in DRAWN.items():
        found = 0
        for _ in range(20 * count):
            product = stock.some(rng)
            begun = _begun(product.pictures[int(rng.integers(len(product.pictures)))], rng)
            around = ground(begun)
            if not around.plain:
                continue
            out = looks[found % len(looks)](begun, around, rng, style)
            if out is begun:
                continue  # it does not lend itself
            yield Clean(kind, _name(product), _done(out, rng))
            found += 1
            if found == count:
                break


def is_device(product: Catalogued) -> bool:
    """Whether title and category say that it has a screen."""
    words = product.words()
    return any(map(DEVICES.fullmatch, words)) and not any(map(NO_DEVICES.fullmatch, words))


def clean_picture(pixels: Pixels, rng: Rng) -> Pixels:
    """A merchant's picture on the way that all of the simulator's take, with nothing done to it in between."""
    return _done(_begun(pixels, rng), rng)


def _begun(pixels: Pixels, rng: Rng) -> Pixels:
    return grained(resampled(jittered(pixels, rng), rng), rng, 2.5)


def _done(pixels: Pixels, rng: Rng) -> Pixels:
    return finished(grained(pixels, rng, 1.0), rng)[0]


def _name(product: Catalogued) -> str:
    return f"{product.source}/{product.sku}"


def judged(bundle: Bundle, pictures: Sequence[Clean]) -> list[float]:
    """p_noncompliant of each."""
    return [
        float(p)
        for at in range(0, len(pictures), BATCH)
        for p in bundle.image(stack([clean.pixels for clean in pictures[at : at + BATCH]], bundle.size)).p_noncompliant
    ]


# Blur ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Looked:
    """What is said of a picture that is sharp or blurred."""

    kind: str
    """`plain`, or the longest side: `300 px`."""
    blurred: bool
    sku: str
    measured: bool
    """Whether the rulebook's measured check finds it blurred."""
    p: float
    """p_noncompliant."""
    likeliest: bool
    """Whether blur is the likeliest of the learned rules."""

    def told(self, threshold: float) -> bool:
        """Whether it is said to be blurred: by the check, or removed for that rule."""
        return self.measured or (self.p > threshold and self.likeliest)

    def wrong(self, threshold: float) -> bool:
        """Whether it is said to break any rule: blurred by the check, or removed."""
        return self.measured or self.p > threshold


def measure_blur(bundle: Bundle, stock: Stock, catalogue: Path, rng: Rng, count: int = EACH) -> list[Looked]:
    """The plainest pictures, and large ones of `catalogue` at each of SIZES, sharp and blurred alike at every
    size; none where blur is no learned rule of the bundle."""
    found: list[Looked] = []
    if BLUR not in bundle.single_rules:
        return found
    for sku, picture in plainest(stock, count, rng):
        found += _both(bundle, "plain", sku, picture, rng)
    for sku, picture in large(catalogue, count, rng):
        seed = int(rng.integers(2**32))
        for size in SIZES:
            found += _both(bundle, f"{size} px", sku, _sized(picture, size), np.random.default_rng(seed))
    return found


def plainest(stock: Stock, count: int, rng: Rng) -> list[tuple[str, Pixels]]:
    """(sku, picture) on plain ground with the least structure on the product."""
    rows = []
    for product in stock.products:
        for picture, view in zip(product.pictures, product.views, strict=True):
            around = ground(picture)
            if view in WHOLE and around.plain and around.mask.any():
                inside = cv2.erode(around.mask.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(np.bool_)
                edges = np.abs(cv2.Laplacian(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.CV_32F))
                rows.append((float(edges[inside].mean()) if inside.any() else 0.0, _name(product), picture))
    rows = sorted(rows, key=lambda row: row[0])[: max(1, round(PLAINEST * len(rows)))]
    return [rows[at][1:] for at in rng.permutation(len(rows))[:count]]


def large(catalogue: Path, count: int, rng: Rng) -> Iterator[tuple[str, Pixels]]:
    """(sku, picture) of merchants' files at least LARGE px long, in full size."""
    rows = [json.loads(line) for line in catalogue.read_text("utf-8").splitlines() if line.strip()]
    files = [(str(row["sku"]), str(uri)) for row in rows for uri in row["images"]]
    found = 0
    for at in rng.permutation(len(files)):
        sku, uri = files[at]
        try:
            picture = decode((catalogue.parent / uri).read_bytes(), name=uri).pixels
        except (ImageError, OSError):
            continue
        if max(picture.shape[:2]) >= LARGE:
            yield f"{catalogue.parent.name}/{sku}", picture
            found += 1
            if found == count:
                return


def _sized(pixels: Pixels, longest: int) -> Pixels:
    """Reduced, or enlarged where the file is a little smaller."""
    height, width = pixels.shape[:2]
    scale = longest / max(height, width)
    if scale <= 1:
        return reduced(pixels, longest)
    size = (round(width * scale), round(height * scale))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_CUBIC), np.uint8)


def _both(bundle: Bundle, kind: str, sku: str, pixels: Pixels, rng: Rng) -> Iterator[Looked]:
    """The picture as it is and blurred, as the rulebook's ranges have it."""
    recipe = bundle.rulebook.rule(BLUR).simulate
    style = Style.test() if recipe is None else Style.test().ranged(recipe.ranges)
    for picture, blurred in ((pixels, False), (SINGLE[BLUR](pixels, rng, style).pixels, True)):
        yield replace(look(bundle, picture), kind=kind, blurred=blurred, sku=sku)


def look(bundle: Bundle, pixels: Pixels) -> Looked:
    """What is said of an encoded picture, uint8 (H, W, 3); kind and sku are left open."""
    _, data = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    with Fetcher() as fetcher:
        prepare = Preparer(bundle.rulebook, bundle.size, fetcher, limits=Limits())
        shot = prepare(Image("a.jpg", data=data.tobytes()))
    assert shot.pixels is not None
    out = bundle.image(shot.pixels[None])
    return Looked(
        kind="",
        blurred=False,
        sku="",
        measured=any(finding.rule == BLUR for finding in shot.findings),
        p=float(out.p_noncompliant[0]),
        likeliest=bundle.single_rules[int(out.rules[0].argmax())] == BLUR,
    )


def blur_figures(looked: Sequence[Looked], threshold: float) -> dict[str, dict[str, Interval]]:
    """Shares of blurred and of sharp pictures that are said to be blurred, and to break any rule, by kind."""
    found: dict[str, dict[str, Interval]] = {}
    for blurred, name in ((True, BLURRED), (False, SHARP)):
        rows: dict[str, Interval] = {}
        for kind in dict.fromkeys(seen.kind for seen in looked):
            part = [seen for seen in looked if seen.kind == kind and seen.blurred == blurred]
            skus = [seen.sku for seen in part]
            rows[kind] = share([seen.told(threshold) for seen in part], skus)
            rows[f"{kind}, or of any rule"] = share([seen.wrong(threshold) for seen in part], skus)
        found[name] = rows
    return found
