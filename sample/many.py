"""Renders a catalogue of invented products, many views each, to widen the training data.

    python -m sample.many --count 250 --out runs/rendered/rendered

About 0.5 CPU seconds a picture at 320 to 448 px; one thread a process. What is finished is not made again, and the
same seed and count give the same pictures whatever the number of processes. `catalog.jsonl` has the fields of
../shared/data (README there): `agpis.simulate.load` reads it.

Products come in styles: the colours of a style are one product for one shop, photographed from the same places.
Some styles have a sister that differs in a detail (with a lid, one drawer more), with a style of its own.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from sample import goods_carry, goods_home, goods_kitchen, prints, stage
from sample.goods import COLOURS as NAMED
from sample.goods import RANGE, Good
from sample.goods import WOODS as GRAINS
from sample.kinds import KINDS
from sample.look import Look
from sample.make import WOODS, Make
from sample.set import Setting, View, shown
from sample.solids import Solid, Solids

GOODS = {**goods_kitchen.BUILDERS, **goods_home.BUILDERS, **goods_carry.BUILDERS}
COLOURS = {
    **NAMED,
    "Blue": "#2f5fae", "Green": "#3c8a4e", "Yellow": "#ecc63c", "Orange": "#e5812e", "Pink": "#e8a0b4",
    "Grey": "#9a9c9e", "Turquoise": "#3aa6a6", "Purple": "#6e4a94", "Brown": "#6f4a33", "Beige": "#d8c8ac",
    "Light Blue": "#a9c6e0", "Dark Green": "#1f3d2f", "Wine Red": "#6e1f2f", "Off-White": "#f4f2ec",
    "Anthracite": "#2c2e31", "Lime": "#a9c83f",
}  # fmt: skip
PALETTES = {
    "all": COLOURS,
    "metal": {"Silver": "#d0d2d5", "Gold": "#c9a24d", "Graphite": "#47494d", "Rose Gold": "#cf9a86",
              "Black": "#1f2022"},
    "glass": {"Clear": "#f6fbfa", "Amber": "#dba355", "Smoke": "#9b9ca0", "Green": "#9fcaa9", "Blue": "#a3c4de",
              "Rose": "#e2b4b8"},
    "tea": {"Amber": "#b5651d", "Green": "#bdb95a", "Red": "#a8323f", "Gold": "#d9a03c"},
    "wood": {name: light for name, (light, _) in WOODS.items()},
}  # fmt: skip
ALIKE = {"vase": ("front", "back"), "lamp": ("front", "back"), "cushion": ("back",), "headphones": ("back",)}
"""Views of the sample's range that show what another shows already."""
BRANDS = ("Nordal", "Havnby", "Lumo", "Tessel", "Orvik", "Bramble", "Kasane", "Pellow", "Quarrel", "Minto", "Solvei",
          "Arden", "Fjord & Co", "Velto", "Moss", "Junip", "Rilla", "Caldor", "Ettie", "Wren", "Oskari", "Dunmore",
          "Palisa", "Tomoe", "Ibsen", "Kiruna", "Marlo", "Sable", "Ferro", "Umbra", "Zephyr", "Yarrow")  # fmt: skip
FOOD = ("Green Tea", "Oat Biscuits", "Sea Salt", "Olive Oil", "Honey", "Muesli", "Ginger", "Lemon", "Coffee", "Cocoa",
        "Berry", "Almond", "Chilli", "Rice", "Spelt", "Peach", "Camomile", "Earl Grey")  # fmt: skip
CARE = ("Cedar", "Lavender", "Rose", "Vanilla", "Fig", "Mint", "Aloe", "Argan", "Amber", "Jasmine", "Sandalwood",
        "Neroli", "Night Care", "Sea Breeze")  # fmt: skip
WORN = ("top", "top", "shoe", "bottoms", "cap", "tote", "handbag", "glasses")
"""Kinds that are drawn more often: real shops sell more to wear than anything else."""


@dataclass(frozen=True)
class Item:
    """One product of the catalogue."""

    sku: str
    kind: str
    make: Make
    title: str
    category: str
    style: str
    color: str
    views: tuple[str, ...]
    setting: int
    """Seed of the studio: the same for all colours of a style."""
    good: Good | None = None
    """One of the sample catalogue's range, else one of `KINDS`."""
    look: Look | None = None

    @property
    def stands(self) -> bool:
        """Whether it stands on the ground."""
        return self.good is not None or KINDS[self.kind].stands


def built(item: Item) -> Solid:
    """The product, a few units large, standing at the origin."""
    collected = Solids()
    with stage.on(collected):
        if item.good is not None:
            assert item.look is not None
            GOODS[item.kind](item.look)
            return collected.solid(stretch=(item.look.wide, item.look.wide, item.look.tall))
        KINDS[item.kind].build(item.make)
        return collected.solid().moved((0, 0, 0), spin=KINDS[item.kind].spin)


def plan(count: int, seed: int) -> list[Item]:
    """The products, always the same for a seed."""
    rng = np.random.default_rng(seed)
    kinds = [*KINDS, *WORN, *(f"good:{good.kind}" for good in RANGE)]
    out: list[Item] = []
    number, queue = 0, list[str]()
    while len(out) < count:
        if not queue:
            queue = [kinds[k] for k in rng.permutation(len(kinds))]
        drawn = np.random.default_rng([seed, number])
        name = queue.pop()
        made = _goods(name, drawn, number) if name.startswith("good:") else _style(name, drawn, number)
        out += made[: count - len(out)]
        number += 1
    return out


def _colours(rng: np.random.Generator, palette: dict[str, str]) -> list[str]:
    many = int(rng.choice([1, 2, 3, 4], p=[0.3, 0.35, 0.2, 0.15]))
    return [list(palette)[k] for k in rng.permutation(len(palette))[:many]]


def _chosen(rng: np.random.Generator, views: Sequence[str]) -> tuple[str, ...]:
    many = min(len(views), int(rng.choice([3, 4, 5, 6], p=[0.1, 0.4, 0.35, 0.15])))
    kept = {0, *(1 + int(k) for k in rng.permutation(len(views) - 1)[: many - 1])}
    return tuple(view for k, view in enumerate(views) if k in kept)


def _darker(colour: str, by: float = 0.72) -> str:
    return "#" + "".join(f"{round(int(colour[i : i + 2], 16) * by):02x}" for i in (1, 3, 5))


def _style(name: str, rng: np.random.Generator, number: int) -> list[Item]:
    kind = KINDS[name]
    palette = PALETTES[kind.palette]
    second, accent = (list(COLOURS.values())[int(rng.integers(len(COLOURS)))] for _ in range(2))
    brand = str(rng.choice(BRANDS))
    words = str(rng.choice(prints.SUBJECT if name in ("book", "frame") else FOOD if "Food" in kind.category else CARE))
    size = str(rng.choice(kind.sizes))
    variants = [int(k) for k in rng.permutation(len(kind.variants))]
    seed, setting = int(rng.integers(1 << 30)), int(rng.integers(1 << 30))
    names = _colours(rng, palette)
    sister = rng.random() < 0.35 and len(variants) > 1
    out = []
    for v, variant in enumerate(variants[: 2 if sister else 1]):
        style = f"{name}-{number}{'b' if v else ''}"
        around = [view for view in kind.views if view not in ("side", "back")]
        if "quarter" in around and "front" in around:
            around.remove("front")
        views = _chosen(np.random.default_rng(setting), around if variant in kind.alike else kind.views)
        for c, colour in enumerate(names[: 2 if v else None]):
            main = palette[colour]
            other = second if abs(prints.luminous(second) - prints.luminous(main)) > 0.25 else prints.ink(main)
            make = Make(main, other, _darker(main), accent, brand, words, seed, variant)
            title = kind.title.format(colour=colour, wood=colour, brand=brand, words=words, size=size,
                                      variant=kind.variants[variant])  # fmt: skip
            out.append(
                Item(f"{style}-{c}".upper(), name, make, title.replace(" ,", ",").strip(" ,"), kind.category, style,
                     colour, views, setting)
            )  # fmt: skip
    return out


def _goods(name: str, rng: np.random.Generator, number: int) -> list[Item]:
    good = next(good for good in RANGE if good.kind == name.split(":")[1])
    metal = good.kind in ("kettle", "pan")
    palette = PALETTES["metal" if metal else "tea"] if metal or good.kind == "teapot" else NAMED
    wood = str(rng.choice(list(GRAINS)))
    wide, tall, seed = float(rng.uniform(0.9, 1.1)), float(rng.uniform(0.9, 1.1)), int(rng.integers(1 << 30))
    setting, brand = int(rng.integers(1 << 30)), str(rng.choice(BRANDS))
    offered = ["quarter", "front", "back", "top", "detail", "pack", "lifestyle"]
    for view in ALIKE.get(good.kind, ()):
        offered.remove(view)
    views = _chosen(rng, offered)
    style, called = f"{good.kind}-{number}", good.title.split(",")[0].split(" with ")[0]
    out = []
    for c, colour in enumerate(_colours(rng, palette)):
        main = palette[colour]
        second, dark = (
            GRAINS[wood]
            if good.kind not in ("car", "clock", "cushion", "plant")
            else (good.look.second, good.look.dark)
        )
        if good.kind in ("notebook", "speaker", "vase"):
            dark = _darker(main)
        look = replace(good.look, main=main, second=second, dark=dark, seed=seed % 1000, wide=wide, tall=tall)
        make = Make(main, second, dark, "#d9a441", brand, called, seed)
        title = f"{colour} {called}"
        out.append(
            Item(
                f"{style}-{c}".upper(), good.kind, make, title, good.category, style, colour, views, setting, good, look
            )
        )
    return out


def render(item: Item, out: Path) -> dict[str, object]:
    """Makes the pictures of one product under `out` and gives its line of catalog.jsonl."""
    setting = Setting.drawn(item.setting, stands=item.stands)
    solid = built(item)
    names, labels = [], []
    detail = item.good.detail if item.good is not None else None
    rise = 0.0 if item.good is not None else KINDS[item.kind].rise
    angles = item.good.shots if item.good is not None else {}
    view = View(solid, setting, item.make, item.category, detail, rise, angles)
    for k, name in enumerate(item.views):
        picture, quality = shown(view, name), setting.quality
        file = f"images/{item.sku.lower()}-{k + 1}.jpg"
        Image.fromarray(picture).save(out / file, "JPEG", quality=quality)
        names.append(file)
        labels.append("front" if name == "quarter" else name)
    return {"sku": item.sku, "title": item.title, "category": item.category, "brand": item.make.brand,
            "color": item.color, "style": item.style, "images": names, "views": labels}  # fmt: skip


def _work(job: tuple[Item, Path]) -> str:
    cv2.setNumThreads(1)
    item, out = job
    row = render(item, out)
    done = out / ".rows" / f"{item.sku}.json"
    half = done.with_suffix(".half")
    half.write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")
    half.rename(done)
    return item.sku


def make(count: int, seed: int, out: Path, processes: int = 1) -> tuple[int, int]:
    """Renders what is missing and writes catalog.jsonl; returns the numbers of products and pictures.

    Raises SystemExit where `out` holds a catalogue of another seed.
    """
    items = plan(count, seed)
    (out / "images").mkdir(parents=True, exist_ok=True)
    (out / ".rows").mkdir(exist_ok=True)
    mark = out / ".rows" / "seed"
    if mark.exists() and mark.read_text("utf-8") != str(seed):
        raise SystemExit(f"{out} holds products of seed {mark.read_text('utf-8')}, not {seed}; give another folder.")
    mark.write_text(str(seed), encoding="utf-8")
    left = [(item, out) for item in items if not (out / ".rows" / f"{item.sku}.json").exists()]
    start = time.monotonic()
    if processes > 1:
        with multiprocessing.get_context("spawn").Pool(processes) as pool:
            for k, sku in enumerate(pool.imap_unordered(_work, left), 1):
                _say(k, len(left), sku, start)
    else:
        for k, job in enumerate(left, 1):
            _say(k, len(left), _work(job), start)
    rows = [(out / ".rows" / f"{item.sku}.json").read_text("utf-8") for item in items]
    (out / "catalog.jsonl").write_text("".join(rows), encoding="utf-8")
    return len(rows), sum(len(json.loads(row)["images"]) for row in rows)


def _say(done: int, of: int, sku: str, start: float) -> None:
    if done % 10 == 0 or done == of:
        print(f"{done}/{of} {sku} after {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m sample.many", description="Render a catalogue for training.")
    parser.add_argument("--count", type=int, default=250, help="number of products")
    parser.add_argument("--out", type=Path, required=True, help="folder for catalog.jsonl and images/")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args(arguments)
    products, images = make(options.count, options.seed, options.out, options.processes)
    print(f"{products} products, {images} images in {options.out}")


if __name__ == "__main__":
    main()
