"""What the columns of an image graph's tokens say, where the manifest gives their layout; and how rows are compared.

`choice`, `kinship` and `naming` read the same tokens (`agpis.models.comparison.TokenLayout`, whose fields the
manifest's `token_layout` holds): grid tokens, then one knowledge token.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from agpis.simulate import stock

Floats = npt.NDArray[np.float64]
Layout = Mapping[str, int]

VIEWS = tuple(view for view in stock.VIEWS if view != "unknown")
"""Views in the order of the image graph's logits."""
WHOLE = tuple(VIEWS.index(view) for view in stock.WHOLE)
"""Those of the whole product, fit to be first."""
SCALE = 4.0
"""Knowledge tokens hold logits divided by this."""


def knowledge(tokens: npt.NDArray[Any], layout: Layout) -> npt.NDArray[Any]:
    """The knowledge token of each image: (n, P, D) -> (n, D)."""
    return tokens[:, layout["side"] ** 2]


def views(tokens: npt.NDArray[Any], layout: Layout, rules: int) -> Floats:
    """(n, P, D) -> (n, V) probability of each view; `rules`: single rules of the bundle."""
    logits = SCALE * knowledge(tokens, layout)[:, 2 + rules : layout["knowledge"]].astype(np.float64)
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))


def embedding(tokens: npt.NDArray[Any], layout: Layout) -> npt.NDArray[Any]:
    """(n, P, D) -> (n, W) product embedding, L2-normalised."""
    known = knowledge(tokens, layout)
    return known[:, layout["knowledge"] : known.shape[1] - layout.get("signature", 0)]


def signature(tokens: npt.NDArray[Any], layout: Layout | None) -> npt.NDArray[Any] | None:
    """(n, P, D) -> (n, S) colour signature; None where the tokens carry none."""
    width = (layout or {}).get("signature", 0)
    return knowledge(tokens, layout)[:, -width:] if layout and width else None


def covered(tokens: npt.NDArray[Any], layout: Layout) -> Floats:
    """(n, P, D) -> (n, n): mean over the places of the first image of the best cosine of descriptors in the second."""
    start = layout["learned"]
    grid = unit(tokens[:, : layout["side"] ** 2, start : start + layout["descriptor"]].astype(np.float64))
    # One image at a time: n * n * G * G would be gigabytes.
    return np.stack([(grid @ own.T).max(axis=1).mean(axis=1) for own in grid], axis=0)


def unit(rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Rows (..., D) of length 1, of the same dtype."""
    length = np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-9)
    return np.asarray(rows / length, rows.dtype)


def cosines(rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """(n, D) -> (n, n)."""
    one = unit(rows)
    return np.asarray(one @ one.T)


def log_odds(probability: npt.ArrayLike, least: float) -> Floats:
    """Log odds of probabilities, which are taken no nearer to 0 and 1 than `least`."""
    p = np.clip(np.asarray(probability, np.float64), least, 1.0 - least)
    return np.asarray(np.log(p) - np.log1p(-p))
