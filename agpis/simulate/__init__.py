"""Rule-breaking images and sequences, with the feedback a reviewer would write, made out of approved ones.

    stock = Stock(load(["magento/catalog.jsonl"]))
    for sample in sequences(stock, load_rulebook("default"), np.random.default_rng(0), Style.train(), n=100): ...

A new violation is one function and one line in SINGLE, PAIR or MULTI; a test compares VIOLATIONS with the rulebook.
"""

from agpis.simulate.drawing import Marked
from agpis.simulate.image_samples import ImageSample, Mix, images
from agpis.simulate.multi import MULTI
from agpis.simulate.pair import KINDS, PAIR, Copy, copied, recoloured, same_viewed
from agpis.simulate.sequence_samples import SHARES, Sample, approved, sequences
from agpis.simulate.single import SINGLE
from agpis.simulate.stock import VIEWS, Catalogued, Draft, Shot, Stock, held_out, load
from agpis.simulate.style import Style
from agpis.simulate.violations import VIOLATIONS
from agpis.simulate.written import write_samples

__all__ = [
    "KINDS",
    "MULTI",
    "PAIR",
    "SHARES",
    "SINGLE",
    "VIEWS",
    "VIOLATIONS",
    "Catalogued",
    "Copy",
    "Draft",
    "ImageSample",
    "Marked",
    "Mix",
    "Sample",
    "Shot",
    "Stock",
    "Style",
    "approved",
    "copied",
    "held_out",
    "images",
    "load",
    "recoloured",
    "same_viewed",
    "sequences",
    "write_samples",
]
