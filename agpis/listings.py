"""Approved listings of any catalogue format to simulated samples on disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np

from agpis import catalogue
from agpis.data import Product
from agpis.errors import OutputError, SettingsError, TrainingError
from agpis.fetch import Fetcher
from agpis.images import Limits
from agpis.rulebook import Rulebook, load_rulebook
from agpis.simulate.sequence_samples import sequences
from agpis.simulate.stock import Catalogued, Stock, catalogued, load
from agpis.simulate.style import Style
from agpis.simulate.violations import simulated
from agpis.simulate.written import write_samples


def simulate(
    source: str,
    out: Path,
    *,
    count: int,
    rulebook: str,
    shares: Mapping[str, float],
    language: Literal["en", "zh", "both"] = "en",
    seed: int = 0,
) -> Path:
    """Writes `count` samples made of the approved listings of `source`; returns the path of samples.jsonl.

    Rules that no product lends itself to are left out. Of a catalogue without views the first picture of a product is
    taken for its front, the others for unknown views.

    Raises:
        TrainingError: `no_products`, no product has readable pictures.
        SettingsError: `bad_shares`, or nothing can be simulated.
        OutputError: `not_empty`, `out` holds files already.
    """
    if out.exists() and not out.is_dir():
        raise OutputError("not_a_folder", f"{out} is a file. Choose a folder.")
    if out.exists() and any(out.iterdir()):
        raise OutputError("not_empty", f"{out} holds files already. Choose another folder.")
    path = Path(source)
    if _has_views(path):
        products = load([path])
    else:
        with Fetcher(Limits()) as fetcher:
            found = (_approved(product, fetcher) for product in catalogue.read(source) if product.error is None)
            products = [product for product in found if product is not None]
    if not products:
        raise TrainingError("no_products", f"found no product with a readable picture in {source}")
    stock = Stock(products)
    rules = possible(load_rulebook(rulebook), stock)
    rng = np.random.default_rng(seed)
    kept = {scope: share for scope, share in shares.items() if scope == "qualified" or simulated(rules, scope)}
    return write_samples(
        sequences(stock, rules, rng, Style.train(), kept, (min(2, rules.k), rules.k), language, count), out
    )


def possible(rulebook: Rulebook, stock: Stock) -> Rulebook:
    """Without the rules that these products cannot break: a shop of two pictures a product has no third."""
    kept = []
    for rule in rulebook.rules:
        if rule.simulate is not None and rule.scope != "single":
            alone = rulebook.model_copy(update={"rules": (rule,)})
            lengths = (min(2, rulebook.k), rulebook.k)
            shares: dict[str, float] = {rule.scope: 1.0}
            drawn = sequences(stock, alone, np.random.default_rng(0), Style.test(), shares, lengths, "en", 1, tries=400)
            try:
                next(drawn)
            except SettingsError:
                continue
        kept.append(rule)
    return rulebook.model_copy(update={"rules": tuple(kept)})


def _has_views(path: Path) -> bool:
    if path.suffix != ".jsonl" or not path.is_file():
        return False
    with path.open(encoding="utf-8", errors="replace") as lines:
        return '"views"' in lines.readline()


def _approved(product: Product, fetcher: Fetcher) -> Catalogued | None:
    images = {image.uri: image for image in product.images}

    def fetch(uri: str) -> bytes:
        data = images[uri].data
        return data if data is not None else fetcher(images[uri].location)

    texts = {"sku": product.sku, "title": product.title, "category": product.category}
    return catalogued(texts, list(images), fetch)
