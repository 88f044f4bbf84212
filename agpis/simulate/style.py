"""What violations look like: fonts, printed words, emblem shapes and strengths, in two disjoint sets.

`Style.train()` and `Style.test()` share no printed phrase, no emblem shape, and (with OpenCV 5 or Debian's fonts)
no font, so that a measure on the test style says whether a model learned the violation or our way of drawing it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ImageFont

Pixels = NDArray[np.uint8]
"""(H, W, 3) RGB."""
Alpha = NDArray[np.float32]
"""(H, W), 0 to 1."""

_DEBIAN = Path("/usr/share/fonts/truetype")
_CHINESE = "opencv:uni"


@dataclass(frozen=True, slots=True)
class Style:
    """One set of looks. Every field is a choice drawn from at random."""

    name: str
    fonts: tuple[str, ...]
    """`pillow`, `hershey:<number>`, `opencv:<face>` or a path under Debian's truetype folder, used when present."""
    banners: tuple[str, ...]
    badges: tuple[str, ...]
    watermarks: tuple[str, ...]
    brands: tuple[str, ...]
    interface: tuple[str, ...]
    """Words of a phone's or browser's interface."""
    prints: tuple[str, ...]
    """Words printed on products: never a violation."""
    units: tuple[str, ...]
    emblems: tuple[str, ...]
    """Names of `drawing.EMBLEMS`."""
    captions: tuple[str, ...]
    """Words beside points, in tables and small print, on covers."""
    contrasts: tuple[tuple[str, str], ...]
    """Words under the two halves of a comparison."""
    strength: tuple[float, float] = (0.0, 1.0)
    """Range within each violation's own span from faint (0) to gross (1)."""
    ranges: Mapping[str, tuple[float | int | str, ...]] = field(default_factory=dict)
    """A rulebook's own ranges for the violation at hand (`violations.RANGES` lists the keys)."""
    pictures: tuple[Pixels, ...] = ()
    """Other pictures that a violation may bring in: collage parts, grounds, irrelevant images."""
    further: float = 0.0
    """Share of single violations in their further looks (`single.FURTHER`); `images` sets it, sequences do not."""

    @classmethod
    def train(cls) -> Style:
        """The looks that models are trained on."""
        return _TRAIN

    @classmethod
    def test(cls) -> Style:
        """The looks that models are measured on."""
        return _TEST

    def portable(self) -> Style:
        """The same style in fonts of Pillow and OpenCV alone: the same letters on every machine."""
        return replace(self, fonts=tuple(font for font in self.fonts if font == "pillow" or ":" in font))

    def having(self, pictures: tuple[Pixels, ...]) -> Style:
        """The same style with other pictures at hand."""
        return replace(self, pictures=pictures)

    def varied(self, further: float) -> Style:
        """The same style with a share of further looks."""
        return replace(self, further=further)

    def ranged(self, ranges: Mapping[str, tuple[float | int | str, ...]]) -> Style:
        """The same style with a rulebook's ranges for one violation."""
        return replace(self, ranges=ranges)

    def force(self, rng: np.random.Generator, faint: float, gross: float, key: str = "") -> float:
        """A strength between `faint` and `gross`, drawn evenly within `strength`; ranges[key] comes before both."""
        given = self.ranges.get(key)
        if given is not None:
            low, high = float(min(given)), float(max(given))
            faint, gross = (low, high) if gross >= faint else (high, low)
        return faint + (gross - faint) * float(rng.uniform(*self.strength))

    def among(self, rng: np.random.Generator, options: Mapping[str, tuple[str, ...]], key: str) -> str:
        """One of the ways of drawing, of those that ranges[key] names; `options` is name -> ways."""
        given = self.ranges.get(key, tuple(options))
        ways = [way for name in given for way in options[str(name)]]
        return ways[int(rng.integers(len(ways)))]

    def lettering(self, text: str, height: int, rng: np.random.Generator) -> Alpha:
        """`text` in one of the style's fonts: alpha (h, w), cut to its ink; `height` is about the ink's height."""
        chinese = any(ord(letter) > 0x2E80 for letter in text)
        faces = [f for f in available(self.fonts) if f != _CHINESE]
        face = _CHINESE if chinese else faces[int(rng.integers(len(faces)))]
        return letters(text, max(5, height), face)

    def phrase(self, rng: np.random.Generator, among: tuple[str, ...]) -> str:
        """One of `among`; Chinese ones only where a font can draw them."""
        usable = among if can_chinese() else tuple(t for t in among if t.isascii())
        return usable[int(rng.integers(len(usable)))]


def can_chinese() -> bool:
    """OpenCV 5 brings a font with Chinese letters; OpenCV 4 and Pillow bring none."""
    return hasattr(cv2, "FontFace")


@lru_cache
def available(fonts: tuple[str, ...]) -> tuple[str, ...]:
    """Those of `fonts` that this machine has; at least one is always there (Pillow or Hershey)."""
    found = []
    for font in fonts:
        if font.startswith("opencv:"):
            present = hasattr(cv2, "FontFace")
        elif font == "pillow" or font.startswith("hershey:"):
            present = True
        else:
            present = (_DEBIAN / font).is_file()
        if present:
            found.append(font)
    return tuple(found)


@lru_cache(maxsize=256)
def _pillow_font(face: str, size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    if face == "pillow":
        return ImageFont.load_default(size)
    return ImageFont.truetype(str(_DEBIAN / face), size)


def letters(text: str, height: int, face: str) -> Alpha:
    """Draw `text` white on black with one face; returns alpha cut to the ink, about `height` px high."""
    kind, _, name = face.partition(":")
    if kind in ("hershey", "opencv"):
        canvas = np.zeros((2 * height + 8, int(height * (len(text) + 3) * 1.6) + 16), np.uint8)
        at = (height // 2, int(1.5 * height) + 2)
        if kind == "opencv":
            cv2.putText(canvas, text, at, (255, 255, 255), cv2.FontFace(name), int(height * 1.25), 500)
        else:
            scale = height / 22  # Hershey capitals are about 22 px high at scale 1
            thickness = max(1, round(height / 12))
            cv2.putText(canvas, text, at, int(name), scale, (255, 255, 255), thickness, cv2.LINE_AA)
    else:
        mask = _pillow_font(face, round(height * 1.35)).getmask(text, mode="L")
        canvas = np.asarray(mask, np.uint8).reshape(mask.size[1], mask.size[0])
    rows, columns = np.flatnonzero(canvas.any(1)), np.flatnonzero(canvas.any(0))
    if not len(rows):
        return np.zeros((height, height), np.float32)
    ink = canvas[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return ink.astype(np.float32) / np.float32(255)


_TRAIN = Style(
    name="train",
    fonts=(
        "pillow",
        "hershey:0",
        "hershey:2",
        _CHINESE,
        "dejavu/DejaVuSans.ttf",
        "dejavu/DejaVuSans-Bold.ttf",
        "dejavu/DejaVuSansCondensed-Bold.ttf",
        "liberation/LiberationSerif-Bold.ttf",
        "liberation/LiberationSerif-Italic.ttf",
        "liberation/LiberationSans-BoldItalic.ttf",
    ),
    banners=(
        "SALE", "MEGA SALE", "FREE SHIPPING", "BLACK FRIDAY", "-50% TODAY", "BUY 2 GET 1 FREE", "LIMITED OFFER",
        "Order now!", "Only $19.99", "Best price", "New collection", "Summer sale up to 70% off", "Shop now",
        "Free gift with purchase", "24h delivery", "Save 30%", "Flash deal", "www.bestshop.com", "Top rated seller",
        "限时抢购", "全场包邮", "买一送一", "年中大促", "立即购买", "新品上市 八折优惠",
    ),
    badges=(
        "-20%", "-35%", "-50%", "NEW", "HOT", "SALE", "$9.99", "$24", "€19,90", "TOP", "1+1", "No.1", "BEST", "OFF 40",
        "新品", "包邮", "特价", "热卖",
    ),
    watermarks=(
        "SAMPLE", "BestShop", "(c) Studio 24", "PREVIEW", "www.photodeal.com", "myshop.net", "Copyright 2023", "STOCK",
        "Do not copy", "PhotoBank", "样图", "版权所有",
    ),
    brands=("Norda", "ALVA", "KITO", "Bluma", "Rexel", "OMNI", "Tarva", "Zuna & Co", "FENIX", "Lior"),
    interface=("Add to cart", "Buy now", "Home", "Search", "4.7 (312)", "Share", "Back", "12:45", "Seller", "Reviews",
               "加入购物车", "首页"),
    prints=("ORIGINAL", "Sport 84", "Organic cotton", "CLASSIC", "500 ml", "Made to last", "PRO", "Deluxe", "XL 22",
            "ATHLETICS", "纯棉", "运动"),
    units=("cm", "mm", '"'),
    emblems=("disc", "ring", "triangle", "bars", "star"),
    captions=("Size", "Waist", "Length", "Soft lining", "Zip pocket", "Steel", "Washable", "Net weight", "Volume one",
              "A short history", "The long road", "Made in Norway", "Ingredients", "Storage", "Battery", "M", "L",
              "尺寸", "材质"),
    contrasts=(("Before", "After"), ("Old", "New"), ("Others", "Ours"), ("使用前", "使用后")),
)  # fmt: skip

_TEST = Style(
    name="test",
    fonts=(
        "hershey:3",
        "hershey:6",
        "hershey:7",
        _CHINESE,
        "dejavu/DejaVuSerif.ttf",
        "dejavu/DejaVuSerif-Bold.ttf",
        "dejavu/DejaVuSansMono-Bold.ttf",
        "liberation/LiberationSans-Bold.ttf",
        "liberation/LiberationSansNarrow-Bold.ttf",
        "liberation/LiberationMono-Regular.ttf",
    ),
    banners=(
        "CLEARANCE", "WINTER DEALS", "3 FOR 2", "EXTRA 15% OFF", "Cyber Monday", "Weekend special", "Hurry up!",
        "From only £12", "Ships worldwide", "Last chance", "Bestseller of the year", "visit outletworld.org",
        "Two year warranty included", "清仓特卖", "满减优惠", "今日特价",
    ),
    badges=("-15%", "-70%", "DEAL", "GIFT", "£5", "£49.50", "2x", "ECO", "WOW", "LAST", "秒杀", "赠品"),
    watermarks=(
        "DRAFT", "OutletWorld", "(c) Lens & Light", "proof only", "imagedepot.org", "PROPERTY OF KRAM", "No reuse",
        "禁止盗图",
    ),
    brands=("Quessa", "VOLT8", "Mirada", "Hansel", "ODEN", "Pluvia", "TREKO"),
    interface=("Checkout", "Wishlist", "Menu", "Filter", "4.2 stars", "Send", "Details", "09:18", "Store",
               "Q&A", "收藏"),
    prints=("GENUINE", "Team 07", "Fresh & pure", "HERITAGE", "750 g", "MAX", "Edition", "Ocean", "天然"),
    units=("in", "m", " cm"),
    emblems=("hexagon", "swoosh", "crown", "cross", "leaf"),
    captions=("Chest", "Width", "Height", "Cotton blend", "Side pouch", "Aluminium", "Non-slip", "Best before",
              "Second edition", "Tales of the sea", "A novel", "Assembled in Peru", "Nutrition", "Keep cool", "Charger",
              "S", "XXL", "规格", "重量"),
    contrasts=(("Without", "With"), ("Day 1", "Day 30"), ("Used", "Cleaned"), ("普通", "升级")),
    strength=(0.1, 0.9),
)  # fmt: skip
