"""The shop's range: seventeen products with their looks, cameras and candidates, and variants of them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from sample.look import Look

Shots = dict[str, tuple[float, ...]]

# azimuth, elevation[, share of the frame] in degrees; x, y, z and extent of a close-up follow for "detail".
SHOTS: Shots = {
    "quarter": (33, 16),
    "front": (0, 7),
    "side": (90, 9),
    "back": (196, 14),
    "top": (18, 64),
    "lifestyle": (22, 13, 0.54),
    "pack": (24, 14, 0.86),
}


@dataclass(frozen=True)
class Good:
    """One product as the shop sells it.

    A candidate is `view`, `view>fault` (that view with a fault drawn on it), or `rule:argument` for what needs
    more than one picture or none.
    """

    kind: str
    sku: str
    title: str
    category: str
    look: Look
    theme: str
    candidates: tuple[str, ...]
    detail: tuple[float, ...]
    """azimuth, elevation, x, y, z, extent of the close-up."""
    expected: str = "generated"
    """Status that a decision for this product should have."""
    shots: Shots = field(default_factory=dict)
    """Views that differ from `SHOTS`."""

    def shot(self, view: str) -> tuple[float, ...]:
        """Camera of a view."""
        if view == "detail":
            return self.detail
        return self.shots.get(view) or SHOTS[view]


RANGE: tuple[Good, ...] = (
    Good(
        "mug",
        "KIT-1042",
        "Stoneware Mug Lund, 350 ml, Sage",
        "Kitchen/Mugs",
        Look("#9db09a", "#d8b384", "#6f5a45"),
        "kitchen",
        ("quarter", "side", "back", "top", "detail", "quarter>recode", "side>mirror"),
        (58, 14, 0.62, -0.35, 1.15, 1.25),
        shots={"side": (-28, 10), "quarter": (35, 18), "back": (212, 15)},
    ),
    Good(
        "kettle",
        "KIT-1107",
        "Gooseneck Pour-Over Kettle Brava, 1.0 l, Brushed Steel",
        "Kitchen/Kettles",
        Look("#c9ccd0", "#a9744a", "#5b3820"),
        "kitchen",
        ("quarter>banner", "quarter", "front", "back", "top", "detail", "front>badge"),
        (28, 20, -1.2, -0.1, 1.12, 1.35),
    ),
    Good(
        "lamp",
        "LIG-2003",
        "Table Lamp Mira with Walnut Base and Ochre Shade",
        "Lighting/Table Lamps",
        Look("#c58b4a", "#8c5a36", "#54321c"),
        "living",
        ("lifestyle", "quarter", "front", "top", "detail", "quarter>crop"),
        (20, 8, 0, -0.3, 0.66, 1.3),
        shots={"quarter": (30, 15), "front": (-48, 4), "top": (18, 52)},
    ),
    Good(
        "vase",
        "DEC-3310",
        "Fluted Terracotta Vase Siena, 24 cm",
        "Home Decor/Vases",
        Look("#bf6f4a", "#d8b384", "#9c4f2d"),
        "living",
        ("front", "top", "detail", "lifestyle", "different_colour:front", "top>logo"),
        (25, 24, 0, -0.2, 1.92, 1.25),
        shots={"front": (10, 8), "top": (20, 50)},
    ),
    Good(
        "backpack",
        "BAG-4521",
        "Canvas Backpack Fjell, 18 l, Olive",
        "Bags/Backpacks",
        Look("#6b7a4f", "#8b5a33", "#5d3d22"),
        "floor",
        ("quarter", "front", "side", "back", "detail", "front>watermark", "back>crop"),
        (18, 14, 0.30, -0.6, 1.2, 1.0),
        shots={"back": (205, 12)},
    ),
    Good(
        "chair",
        "FUR-5002",
        "Dining Chair Nora, Oak, Blue Upholstery",
        "Furniture/Chairs",
        Look("#5d7285", "#d9b884", "#b08a55"),
        "floor",
        ("quarter>border", "quarter", "side", "back", "front", "front>blur", "detail"),
        (28, 22, 0.3, -0.3, 1.1, 1.15),
    ),
    Good(
        "watch",
        "JEW-6120",
        "Men's Watch Tide 40 mm, Navy Dial, Brown Leather Strap",
        "Jewellery/Watches",
        Look("#1f3148", "#7d4f2c", "#5f3b20"),
        "desk",
        ("quarter", "front", "side", "back", "detail", "quarter>small", "pack"),
        (12, 32, 0, -0.55, 1.32, 1.25),
        shots={"front": (0, 22), "quarter": (32, 20)},
    ),
    Good(
        "headphones",
        "AUD-7015",
        "Wireless Over-Ear Headphones Aura, Cream",
        "Audio/Headphones",
        Look("#e3ddd0", "#b08d68", "#96744f"),
        "desk",
        ("quarter", "front", "side", "pack", "detail", "different_product:speaker", "side>ribbon"),
        (62, 14, 0.95, -0.1, 0.75, 1.3),
    ),
    Good(
        "bottle",
        "OUT-8044",
        "Insulated Bottle Nordsee, 500 ml, Petrol, Bamboo Lid",
        "Outdoor/Bottles",
        Look("#2f5d62", "#d9b77f"),
        "kitchen",
        ("front", "back", "top", "format_mismatch:detail", "lifestyle", "html:"),
        (24, 18, 0, -0.1, 2.45, 0.95),
        shots={"front": (12, 10), "back": (150, 10), "top": (20, 52)},
    ),
    Good(
        "teapot",
        "KIT-1180",
        "Glass Teapot Assam with Bamboo Lid, 900 ml",
        "Kitchen/Teapots",
        Look("#c9701f", "#d2a468"),
        "kitchen",
        ("front", "quarter", "truncated:back", "top", "detail", "lifestyle", "quarter>overexposed"),
        (30, 22, 0.2, -0.2, 1.42, 1.2),
        shots={"quarter": (38, 20), "front": (0, 9), "back": (205, 14), "top": (20, 58)},
    ),
    Good(
        "speaker",
        "AUD-7102",
        "Bluetooth Speaker Valby, Walnut and Grey",
        "Audio/Speakers",
        Look("#8f9490", "#7d5234", "#737873"),
        "living",
        ("quarter", "front", "back", "side", "top", "detail", "front>diagram", "collage:quarter,back,top,detail"),
        (24, 30, 0.15, -0.2, 1.42, 1.2),
        shots={"back": (204, 16)},
    ),
    Good(
        "car",
        "TOY-9001",
        "Wooden Toy Car Bo, Red",
        "Toys/Vehicles",
        Look("#c8402f", "#f2c14e"),
        "nursery",
        ("quarter", "side", "front", "back", "top", "detail", "lifestyle"),
        (40, 16, 0.95, -0.6, 0.5, 1.15),
        shots={
            "quarter": (36, 18),
            "side": (0, 6),
            "front": (90, 10),
            "back": (-125, 18),
            "top": (24, 60),
            "lifestyle": (8, 15, 0.54),
        },
    ),
    Good(
        "clock",
        "DEC-3402",
        "Desk Clock Tempo, Mustard, Silent Movement",
        "Home Decor/Clocks",
        Look("#d9a441", "#c8402f"),
        "desk",
        ("quarter", "quarter>blur", "back", "quarter>recode", "back>badge", "quarter>ribbon"),
        (20, 10, 0.2, -0.1, 1.3, 1.1),
        "too_few_images",
        shots={"back": (200, 10)},
    ),
    Good(
        "cushion",
        "HOM-3610",
        "Scatter Cushion Skagen, Striped, Navy and Cream",
        "Home Textiles/Cushions",
        Look("#2f4858", "#e9dfcb", "#1f2f3a"),
        "living",
        ("quarter>banner", "quarter>watermark", "truncated:quarter", "front>screenshot", "front>small", "back>noise"),
        (20, 8, 0.5, -0.2, 1.4, 1.1),
        "no_primary",
    ),
    Good(
        "pan",
        "KIT-1251",
        "Frying Pan Gusto 28 cm, Cast Steel, Beech Handle",
        "Kitchen/Pans",
        Look("#3a3a3c", "#a9744a", "#2b2b2c"),
        "kitchen",
        ("lifestyle", "quarter", "same_view:quarter", "top", "side", "detail", "top>underexposed"),
        (-18, 30, 1.35, -0.1, 0.38, 1.3),
        shots={"quarter": (-38, 34), "side": (0, 8), "top": (-40, 78), "lifestyle": (-34, 24, 0.66)},
    ),
    Good(
        "plant",
        "GAR-9105",
        "Snake Plant in Ceramic Pot, 45 cm",
        "Garden/Indoor Plants",
        Look("#e9e4da", "#2f5d3a", "#5a4632", seed=3),
        "kitchen",
        ("quarter", "top", "detail", "lifestyle", "quarter>qr_code", "front>rotation", "front"),
        (15, 20, 0, 0, 1.15, 1.3),
        shots={"quarter": (30, 10), "front": (-75, 8), "top": (20, 55)},
    ),
    Good(
        "notebook",
        "OFF-9210",
        "Hardcover Notebook A5 with Pen, Petrol",
        "Office/Notebooks",
        Look("#23404f", "#d9822b", "#182e3a"),
        "desk",
        ("quarter", "front", "side", "back", "detail", "quarter>compression", "front>colour_cast"),
        (38, 14, 0.55, -0.1, 1.25, 1.1),
        shots={"side": (68, 12), "back": (208, 14)},
    ),
)

COLOURS = {
    "Sage": "#9db09a",
    "Olive": "#6b7a4f",
    "Petrol": "#2f5d62",
    "Navy": "#1f3148",
    "Sky": "#7fa6bf",
    "Cream": "#e3ddd0",
    "Sand": "#c9b28f",
    "Ochre": "#c58b2f",
    "Mustard": "#d9a441",
    "Rust": "#a9512f",
    "Terracotta": "#bf6f4a",
    "Red": "#c8402f",
    "Rose": "#cf8f8f",
    "Plum": "#6b3a55",
    "Lilac": "#a596bd",
    "Charcoal": "#3a3a3c",
    "Stone": "#8f9490",
    "Black": "#1d1d1f",
    "White": "#ecebe6",
    "Forest": "#2c4a37",
    "Mint": "#a8cfbd",
    "Coral": "#e07a63",
}
WOODS = {
    "Oak": ("#d9b884", "#b08a55"),
    "Walnut": ("#8c5a36", "#54321c"),
    "Beech": ("#e6c79a", "#cda571"),
    "Teak": ("#a9744a", "#6b4326"),
}
PLAIN = ("quarter", "front", "side", "back", "top", "detail", "lifestyle", "pack")


def goods(count: int, seed: int) -> tuple[Good, ...]:
    """The range itself, then variants of it: other colours, woods and proportions, with unspoilt views only."""
    out = list(RANGE[:count])
    rng = np.random.default_rng(seed)
    while len(out) < count:
        n = len(out)
        base = RANGE[n % len(RANGE)]
        name = str(rng.choice(list(COLOURS)))
        wood = str(rng.choice(list(WOODS)))
        second, dark = WOODS[wood] if base.kind not in ("car", "clock", "cushion", "plant") else (
            str(rng.choice(list(COLOURS.values()))), base.look.dark)  # fmt: skip
        metal = base.kind in ("kettle", "pan")
        look = replace(base.look, main=base.look.main if metal else COLOURS[name], second=second, dark=dark, seed=n,
                       wide=float(rng.uniform(0.92, 1.08)), tall=float(rng.uniform(0.92, 1.08)))  # fmt: skip
        theme = (
            str(rng.choice(["kitchen", "living", "desk"]))
            if base.theme in ("kitchen", "living", "desk")
            else base.theme
        )
        title = f"{base.title.split(',')[0]}, {wood if metal else name}"
        nudge = {view: (base.shot(view)[0] + float(rng.uniform(-7, 7)), base.shot(view)[1] + float(rng.uniform(-3, 4)),
                        *base.shot(view)[2:]) for view in SHOTS}  # fmt: skip
        out.append(
            replace(
                base,
                sku=f"{base.sku}-{n:04d}",
                title=title,
                look=look,
                theme=theme,
                candidates=PLAIN,
                shots=nudge,
                expected="generated",
            )
        )
    return tuple(out)


def other_look(good: Good) -> Look:
    """The same product in a colour it is not sold in."""
    return replace(
        good.look, main=COLOURS["Petrol" if good.look.main != COLOURS["Petrol"] else "Coral"], dark="#274c50"
    )
