"""Renders the sample catalogue of `agpis/sample/`, plants its faults and writes `catalog.jsonl` and `truth.jsonl`.

    pip install '.[sample]'                                   # bpy, Blender as a Python package: Python 3.11 only
    python -m sample.render                                   # the committed sample
    python -m sample.render --count 400 --out /tmp/rendered   # more products, unspoilt, for training

Cycles on the CPU at 640 pixels and 6 samples, denoised, takes about 10 CPU seconds a picture, a lifestyle scene 25.
Renders are kept in `--cache` and not made again; delete the folder after a change to a product.
Same seed, same thread count and same bpy release: same pictures.

truth.jsonl has a line a product, in the order of catalog.jsonl: `sku`, `expected` (the status that a decision should
have) and `images`, a list of {"image", "view", "rule", "source", "note"}. `rule` is a rule id of rulebooks/default.yaml
or "" for a fit picture; `source` the unspoilt candidate of the same view, or the other product's sku, if there is one.

Blender is GPL-3.0, which this script's licence allows; the pictures it makes belong to the repository.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from sample import plant
from sample.goods import RANGE, Good, goods, other_look
from sample.look import Look

ROOT = Path(__file__).resolve().parent.parent

RULES = {
    "banner": "banner",
    "ribbon": "banner",
    "badge": "badge",
    "watermark": "watermark",
    "logo": "logo",
    "qr_code": "qr_code",
    "diagram": "diagram",
    "blur": "blur",
    "small": "too_small",
    "border": "border",
    "crop": "duplicate",
    "mirror": "duplicate",
    "recode": "duplicate",
    "overexposed": "exposure",
    "underexposed": "exposure",
    "colour_cast": "colour_cast",
    "noise": "noise",
    "rotation": "rotation",
    "compression": "compression",
    "screenshot": "screenshot",
    "different_colour": "different_colour",
    "different_product": "different_product",
    "same_view": "same_view",
    "format_mismatch": "format_mismatch",
    "html": "unreadable",
    "truncated": "unreadable",
    "collage": "collage",
}
NOTES = {
    "crop": "crop of the same photo",
    "mirror": "mirrored copy",
    "recode": "recoded copy at another size",
    "html": "an HTML page named .jpg",
    "truncated": "file cut off",
    "format_mismatch": "a PNG named .jpg",
}
PAGE = b"<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head><body><h1>Not Found</h1></body></html>\n"


@dataclass(frozen=True)
class Options:
    """What the command line can change."""

    out: Path = ROOT / "agpis" / "sample"
    """Folder for catalog.jsonl, truth.jsonl and images/."""
    cache: Path = ROOT / "build" / "sample"
    """Folder of raw renders."""
    count: int = len(RANGE)
    """Number of products; more than the range has are variants of it."""
    views: tuple[str, ...] = ()
    """Only these views, for variants; empty: all."""
    seed: int = 7
    """Of the noise and of the variants."""
    pixels: int = 640
    """Width and height of the renders."""
    samples: int = 6
    """Light paths a pixel (lifestyle scenes get half as many again)."""
    threads: int = 1
    """Render threads."""
    quality: int = 82
    """Of the JPEG files."""


@dataclass(frozen=True)
class Candidate:
    """One entry of `Good.candidates`, taken apart."""

    view: str
    fault: str = ""
    others: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Candidate:
        """`view`, `view>fault` or `rule:view,view`."""
        if ">" in text:
            view, fault = text.split(">")
            return cls(view, fault)
        if ":" in text:
            fault, rest = text.split(":")
            names = tuple(rest.split(",")) if rest else ()
            return cls(names[0] if names else "", fault, names[1:])
        return cls(text)


class Camera:
    """Makes the raw renders, each once, and loads bpy only when one is missing."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.taken = 0
        self.seconds = 0.0

    def photo(self, good: Good, view: str, look: Look | None = None, turn: float = 0.0) -> Image.Image:
        """RGB picture of a view; `look` and `turn` (degrees) differ from the product's own for some faults."""
        tag = ("-other" if look else "") + (f"-{turn:g}" if turn else "")
        path = self.options.cache / f"{good.sku}-{view}{tag}-{self.options.pixels}.png"
        if not path.exists():
            self._render(good, view, look or good.look, turn, path)
        picture = Image.open(path).convert("RGBA")
        ground = Image.new("RGBA", picture.size, "white")  # outside the rendered part of the frame there is nothing
        picture = Image.alpha_composite(ground, picture).convert("RGB")
        if view != "lifestyle":
            # The last percent to white: the ground is lit to 98 to 100 % of white far from the product.
            picture = Image.fromarray(np.minimum(np.asarray(picture, np.float32) * 255 / 250, 255).astype(np.uint8))
        return picture

    def _render(self, good: Good, view: str, look: Look, turn: float, path: Path) -> None:
        try:
            import bpy  # noqa: F401
        except ImportError as error:
            raise SystemExit(
                "Please install bpy to render the sample catalogue (`pip install '.[sample]'`, Python 3.11)."
            ) from error
        from sample import scenes

        start = time.monotonic()
        azimuth, *rest = good.shot(view)
        path.parent.mkdir(parents=True, exist_ok=True)
        scenes.photograph(replace(good, look=look), view, (azimuth + turn, *rest), path, self.options.pixels,
                          self.options.samples, self.options.threads, self.options.seed)  # fmt: skip
        self.taken += 1
        self.seconds += time.monotonic() - start
        print(f"{good.sku} {view}: {time.monotonic() - start:.1f} s", file=sys.stderr, flush=True)


def stranger(candidate: Candidate) -> Good:
    """The other product whose picture a `different_product` candidate shows."""
    return next(good for good in RANGE if good.kind == candidate.view)


def develop(good: Good, candidate: Candidate, camera: Camera, path: Path) -> None:
    """Write one candidate."""
    quality, fault, view = camera.options.quality, candidate.fault, candidate.view
    if fault == "html":
        path.write_bytes(PAGE)
        return
    if fault == "different_product":
        picture = camera.photo(stranger(candidate), "quarter")
    elif fault == "different_colour":
        picture = camera.photo(good, view, look=other_look(good))
    elif fault == "same_view":
        picture = camera.photo(good, view, turn=5.0)
    elif fault == "collage":
        picture = plant.collage(camera.photo(good, view), *(camera.photo(good, other) for other in candidate.others))
    else:
        picture = camera.photo(good, view)
    if fault in plant.FAULTS:
        picture = plant.FAULTS[fault](picture)
    if fault == "format_mismatch":
        # 64 colours keep the PNG of a photo small.
        few = picture.quantize(64, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        few.save(path, "PNG", optimize=True)
        return
    picture.save(path, "JPEG", quality=quality, optimize=True)
    if fault == "truncated":
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 3])


def fact(number: int, candidate: Candidate, name: str, whole: dict[str, str]) -> dict[str, str]:
    """What truth.jsonl says of one candidate; `whole` maps a view to the product's unspoilt picture of it."""
    view, rule, source = candidate.view, RULES.get(candidate.fault, ""), ""
    if candidate.fault == "different_product":
        view, source = "quarter", stranger(candidate).sku
    elif candidate.fault:
        source = whole.get(view, "")
    elif number == 1 and view == "lifestyle":
        rule = "wrong_order"
    return {"image": name, "view": view, "rule": rule, "source": source, "note": NOTES.get(candidate.fault, "")}


def make(options: Options) -> tuple[int, int]:
    """Render what is missing, write the catalogue; returns the numbers of products and images."""
    camera, products, images = Camera(options), goods(options.count, options.seed), 0
    shutil.rmtree(options.out / "images", ignore_errors=True)
    (options.out / "images").mkdir(parents=True)
    catalogue, truth = [], []
    for good in products:
        candidates = [Candidate.parse(text) for text in good.candidates]
        if options.views:
            candidates = [c for c in candidates if c.view in options.views]
        names = [f"images/{good.sku.lower()}-{n}.jpg" for n in range(1, len(candidates) + 1)]
        whole = {c.view: name for c, name in zip(candidates, names, strict=True) if not c.fault}
        facts = []
        for number, (candidate, name) in enumerate(zip(candidates, names, strict=True), 1):
            develop(good, candidate, camera, options.out / name)
            facts.append(fact(number, candidate, name, whole))
        catalogue.append({"sku": good.sku, "title": good.title, "category": good.category, "images": names})
        truth.append({"sku": good.sku, "expected": good.expected, "images": facts})
        images += len(names)
    for name, rows in (("catalog.jsonl", catalogue), ("truth.jsonl", truth)):
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
        (options.out / name).write_text("".join(lines), encoding="utf-8")
    if camera.taken:
        print(f"{camera.taken} renders in {camera.seconds:.0f} s", file=sys.stderr)
    return len(products), images


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m sample.render", description="Render the sample catalogue.")
    default = Options()
    parser.add_argument("--out", type=Path, default=default.out, help="folder to write (images/ in it is replaced)")
    parser.add_argument("--cache", type=Path, default=default.cache, help="folder of raw renders")
    parser.add_argument("--count", type=int, default=default.count, help="number of products")
    parser.add_argument("--views", default="", help="comma-separated views to keep, such as quarter,back,detail")
    parser.add_argument("--seed", type=int, default=default.seed)
    parser.add_argument("--pixels", type=int, default=default.pixels)
    parser.add_argument("--samples", type=int, default=default.samples)
    parser.add_argument("--threads", type=int, default=default.threads)
    parser.add_argument("--quality", type=int, default=default.quality)
    values = vars(parser.parse_args(arguments))
    values["views"] = tuple(filter(None, values["views"].split(",")))
    products, images = make(Options(**values))
    print(f"{products} products, {images} images in {values['out']}")


if __name__ == "__main__":
    main()
