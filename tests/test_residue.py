"""No artefact of the making tells a broken picture from a clean one: a classifier on fine residue alone finds nothing.

Looked at are the six most structured windows of 32 x 32 px on the product, away from saturation, from the ground and
from the marked box: there, faults of colour, place and frame change nothing but what the making leaves behind. What
such a fault does to fine detail itself is left out of the question: a collage shrinks its parts, a dark picture has
less contrast than its rounding and its JPEG steps, a tilt turns the edges.
"""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from agpis.data import Box
from agpis.rulebook import Rulebook, load_rulebook
from agpis.simulate import Catalogued, Mix, Stock, Style, held_out, images, load
from agpis.simulate.degradations import recoded

SIDE = 32
WINDOWS = 6
KINDS = ("banner", "badge", "logo", "colour_cast", "cut_off", "rotation")


def rulebook() -> Rulebook:
    """The rules asked about; rotations by quarters, and tilts of no angle: the resampling without the slant."""
    default = load_rulebook("default")
    rules = [default.rule(kind) for kind in KINDS]
    turned = rules[-1].simulate
    assert turned is not None
    upright = turned.model_copy(update={"ranges": {"degrees": (0.0, 0.01), "quarter": (90, 180, 270)}})
    rules[-1] = rules[-1].model_copy(update={"simulate": upright})
    return Rulebook(id="residue", version="1", rules=tuple(rules))


def windows(plane: np.ndarray) -> np.ndarray:
    """(H, W) -> (N, SIDE, SIDE) on a grid whose origin is that of JPEG's blocks."""
    rows, columns = plane.shape[0] // SIDE, plane.shape[1] // SIDE
    cut = plane[: rows * SIDE, : columns * SIDE].reshape(rows, SIDE, columns, SIDE)
    return cut.transpose(0, 2, 1, 3).reshape(-1, SIDE, SIDE)


def residue(pixels: np.ndarray, box: Box | None) -> np.ndarray | None:
    """35 statistics of the fine residue, free of scale and of direction; None where too few windows can be used."""
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    values = grey.astype(np.float32)
    rim = np.median(np.concatenate([pixels[:3].reshape(-1, 3), pixels[-3:].reshape(-1, 3),
                                    pixels[:, :3].reshape(-1, 3), pixels[:, -3:].reshape(-1, 3)]), 0)  # fmt: skip
    left_out = np.abs(pixels.astype(np.int16) - rim.astype(np.int16)).max(2) < 26
    left_out |= (pixels.min(2) < 6) | (pixels.max(2) > 249)
    if box is not None:
        left_out[max(0, box.y - 4) : box.y + box.h + 4, max(0, box.x - 4) : box.x + box.w + 4] = True
    spread = windows(values).std((1, 2))
    usable = np.flatnonzero((windows(left_out).mean((1, 2)) < 0.02) & (spread > 4))
    if len(usable) < WINDOWS:
        return None
    at = usable[np.argsort(-spread[usable])][:WINDOWS]
    fine = windows(values - cv2.medianBlur(grey, 3))[at]
    one, two, four = (windows(values - cv2.GaussianBlur(values, (0, 0), s))[at] for s in (0.8, 1.6, 3.2))
    found: list[float] = []
    energies = [np.log(np.abs(band).mean((1, 2)) + 0.01) for band in (fine, one, two, four)]
    for energy in energies[:3]:  # how steeply detail falls off
        ratio = energy - energies[3]
        found += [ratio.mean(), ratio.min(), ratio.max()]
    for band in (fine, one, two):  # what its values are like
        unit = band / (band.std((1, 2), keepdims=True) + 0.01)
        found += [np.log((unit**4).mean()), (np.abs(unit) < 0.2).mean(), (unit**3).mean(), np.abs(unit).mean()]
    sign = np.sign(one) * (np.abs(one) > 0.5 * (one.std((1, 2), keepdims=True) + 0.01))
    pairs = []
    for dy, dx in ((0, 1), (1, 0), (1, 1)):  # how neighbours go together
        a, b = sign[:, : SIDE - dy, : SIDE - dx], sign[:, dy:, dx:]
        pairs.append(((a * b).mean(), np.abs(a * b).mean()))
    found += [*np.mean(pairs[:2], 0), *pairs[2]]
    phases = []
    for axis in (0, 1):  # steps between neighbours by their place in JPEG's 8 x 8 blocks
        step = np.minimum(np.abs(np.diff(values, axis=axis, append=0)), 12)
        profile = windows(step)[at].mean((0, 2 - axis)).reshape(-1, 8).mean(0)
        profile = profile / (profile.mean() + 0.01)
        phases.append([*profile, profile.max(), profile.std()])
    statistics: np.ndarray = np.nan_to_num(np.array([*found, *np.mean(phases, 0)]))
    return statistics


def auc(labels: np.ndarray, scores: np.ndarray) -> float:
    ranks = np.argsort(np.argsort(scores, kind="stable"), kind="stable") + 1.0
    positive = labels.sum()
    return float((ranks[labels].sum() - positive * (positive + 1) / 2) / (positive * (~labels).sum()))


def logistic(features: np.ndarray, labels: np.ndarray, ridge: float = 20.0) -> np.ndarray:
    """Weights of a logistic regression, the last the constant; Newton's steps."""
    x = np.column_stack([features, np.ones(len(features))])
    weights = np.zeros(x.shape[1])
    penalty = ridge * np.diag([*np.ones(features.shape[1]), 1e-6])
    for _ in range(12):
        p = 1 / (1 + np.exp(-(x @ weights).clip(-30, 30)))
        gradient = x.T @ (p - labels) + penalty @ weights
        weights -= np.linalg.solve((x * (p * (1 - p))[:, None]).T @ x + penalty, gradient)
    return weights


def told_apart(
    stock: Stock, style: Style, n: int, planted: Callable[[np.ndarray], np.ndarray] | None = None
) -> tuple[float, float, float]:
    """AUC of the residue on products not trained on, with the 95 % interval over 400 bootstraps of products."""
    rows, labels, products, trained = [], [], [], []
    sides = {(p.source, p.sku): held_out(p, 0.5) for p in stock.products}
    for sample in images(stock, rulebook(), np.random.default_rng(17), style, n, Mix(doubled=0.0)):
        pixels = planted(sample.pixels) if planted and sample.noncompliant else sample.pixels
        values = residue(pixels, next(iter(sample.boxes.values()), None))
        if values is not None:
            rows.append(values)
            labels.append(sample.noncompliant)
            products.append(f"{sample.source}/{sample.sku}")
            trained.append(not sides[sample.source, sample.sku])
    x, y, train, name = np.array(rows), np.array(labels), np.array(trained), np.array(products)
    centre, spread = x[train].mean(0), x[train].std(0) + 1e-9
    x = ((x - centre) / spread).clip(-4, 4)
    weights = logistic(x[train], y[train])
    scores, truth = x[~train] @ weights[:-1], y[~train]
    _, group = np.unique(name[~train], return_inverse=True)
    members = [np.flatnonzero(group == i) for i in range(group.max() + 1)]
    rng = np.random.default_rng(0)
    drawn = [np.concatenate([members[i] for i in rng.integers(len(members), size=len(members))]) for _ in range(400)]
    low, high = np.percentile([auc(truth[at], scores[at]) for at in drawn], [2.5, 97.5])
    return auc(truth, scores), float(low), float(high)


def once_more(pixels: np.ndarray) -> np.ndarray:
    """The difference that is planted: broken pictures are saved once more."""
    return recoded(pixels, 80)


@pytest.fixture(scope="module")
def drawn_stock() -> Stock:
    """60 drawn products with fine and coarse structure, on white, as JPEG leaves them."""
    products = []
    for number in range(60):
        rng = np.random.default_rng(number)
        width, height = (int(side) for side in rng.integers(300, 385, 2))
        picture = np.full((height, width, 3), 255, np.float32)
        cloth = rng.uniform(60, 180, 3).astype(np.float32) * np.ones_like(picture)
        for scale in (2, 4, 9, 24):
            grid = rng.standard_normal((height // scale + 2, width // scale + 2)).astype(np.float32)
            field = cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
            cloth += field[..., None] * rng.uniform(4, 16)
        mask = np.zeros((height, width), np.uint8)
        axes = (int(width * 0.42), int(height * 0.42))
        cv2.ellipse(mask, (width // 2, height // 2), axes, 0, 0, 360, 255, -1, cv2.LINE_AA)
        alpha = mask[..., None].astype(np.float32) / 255
        pixels = (cloth * alpha + picture * (1 - alpha)).clip(0, 255).astype(np.uint8)
        saved = recoded(pixels, int(rng.integers(80, 97)))
        products.append(Catalogued(f"p{number}", f"Thing {number}", "Things", (saved,), ("front",), source="drawn"))
    return Stock(products)


def test_residue_tells_nothing(drawn_stock: Stock) -> None:
    value, low, high = told_apart(drawn_stock, Style.train().portable(), 900)
    assert high - low < 0.2
    assert low <= 0.5, f"AUC {value:.3f} [{low:.3f}, {high:.3f}]"


def test_residue_finds_a_picture_saved_once_more(drawn_stock: Stock) -> None:
    value, low, _ = told_apart(drawn_stock, Style.train().portable(), 900, once_more)
    assert low > 0.5, f"AUC {value:.3f}"


@pytest.mark.shared
def test_residue_tells_nothing_on_photographs(shared_data: Path) -> None:
    names = ("oxid", "kickstart", "saleor", "grandnode")
    stock = Stock(load([shared_data / name / "catalog.jsonl" for name in names]))
    value, low, high = told_apart(stock, Style.test().portable(), 1600)
    assert high - low < 0.2
    assert low <= 0.5, f"AUC {value:.3f} [{low:.3f}, {high:.3f}]"
