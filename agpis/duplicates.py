"""Duplicated pictures of one product (paper 3.3.2): which pairs show the same content, and which picture goes.

Two matchers stand behind `match_pairs`:

`dense` (default): local features of every picture (`keypoints.py`) propose how one picture lies on the other; the
pixels (`alignment.py`) tell what exactly both show, how well it agrees and whether one change of colour explains it.
Pictures with few keypoints are matched by the image graph's patches as well (`dense.py`). No further network pass.
`edgeboxes`: the paper's proposals, network features and nearest neighbours (`edgeboxes.py`).

Both give a probability: a logistic function of the statistics named in CALIBRATION, fitted by
`python -m bench.duplicates FOLDER SOURCES ... --fit`. A bundle may bring its own coefficients: those of `patches`
belong to its descriptors, `dense` sees pixels alone.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from agpis import alignment, dense, edgeboxes, keypoints, recolouring
from agpis.data import Box
from agpis.edgeboxes import Embed
from agpis.errors import SettingsError
from agpis.foreground import SPECK, far, find_ground
from agpis.images import Placement, Size, placement

Matcher = Literal["dense", "edgeboxes"]
MATCHERS: tuple[Matcher, ...] = ("dense", "edgeboxes")

CALIBRATION: dict[str, dict[str, float]] = {
    "dense": {"bias": 7.7, "misfit": -3.4, "same": 8.0},
    "patches": {"bias": -16.0, "similarity": 12.0, "margin": 12.0, "share": 8.0, "cover": 1.0, "mass": 0.5},
    "edgeboxes": {"bias": -30.0, "best": 30.0, "mutual": 5.0},
}
"""Logit = bias + sum of coefficient * statistic. `patches` serves `dense` when a view has no pixels; it was set by hand
on ImageNet's EfficientNet-Lite0 features. `dense` was fitted on copies, other views, sister products and recoloured
pictures of `smartstore`, `grandnode`, `clothing`, `spree`, `grocery` and rendered products; likeness, fitted beside
misfit, gets next to nothing."""
STATISTICS: dict[str, tuple[str, ...]] = {
    "dense": ("likeness", "correlation", "agreeing", "weakest", "evidence", "inliers", "misfit", "residual", "same"),
    "patches": ("similarity", "margin", "share", "cover", "mass", "log_scale"),
    "edgeboxes": ("best", "mutual"),
}
"""What each logistic function can use, as documented in `alignment.Verified` and `dense.Hypotheses`; `inliers` is the
logarithm of 1 + `keypoints.Found.inliers`.

`likeness` is (4 correlation + 3 agreeing) / 7: fitted freely, the two, which nearly are one, get signs by chance.
"""
WORTH = 5
"""Keypoints in agreement from which on a pair is looked at closer. Of 225 combined copies (the sources of CALIBRATION)
one has less, two have less than 6; of pairs of other views half have as many."""
CERTAIN = 10
"""Keypoints in agreement under which coarse tiles are compared first."""
FEW = 60
"""Keypoints of a picture up to which patches and outlines are tried as well."""
ALIKE = 0.45
"""Likeness after alignment from which on a pair so found is looked at closer."""
MANY = 20
"""Keypoints in agreement: more do not count, products with much texture agree with their other views as well."""
SAME = 0.75
"""`same` counts from here, as 0, to 1: of sister products and other views of `smartstore` and `grandnode` 95 % have
less than 0.77, of watermarked copies 95 % more than 0.73, half more than 0.9."""
ENOUGH = 7.0
"""`evidence` counts up to this: one copy in a hundred has less. More of it tells no copy from another view."""


CROP_OWN, CROP_OTHER = 0.85, 0.85
"""Shares of their areas that a crop (at least) and its whole (at most) have in common."""
RIM = 3
"""Letterbox pixels around a crop's place in its whole that are not looked at: the place is known no better."""
EQUAL = 0.08
"""Probabilities of two pictures of one content that are no further apart count as equal. Recoding or mirroring a
picture moves its p_noncompliant by less in about nine of ten cases (starter bundle, magento and grandnode)."""
FINER = 1.2
"""Pixels that one picture must have for each pixel of another, over what both show, to be the finer one."""


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """One picture as the matchers see it."""

    patches: NDArray[np.float32]
    """(G * G, E) L2-normalised descriptors, row-major over the letterbox."""
    width: int
    """Of the source, upright, pixels."""
    height: int
    size: Size
    """Of the letterbox, pixels; square."""
    pixels: NDArray[np.uint8] | None = None
    """(size.height, size.width, 3) the letterboxed picture; `dense` is much surer with it, `edgeboxes` needs it."""


@dataclass(frozen=True, slots=True)
class PairMatch:
    """How likely pictures `a` and `b` (positions, a < b) show the same content, and where: boxes in source pixels."""

    a: int
    b: int
    probability: float
    box_a: Box
    box_b: Box
    mirrored: bool = False
    statistics: Mapping[str, float] | None = None
    """What the probability was computed from."""

    @property
    def pair(self) -> tuple[int, int]:
        """Both positions."""
        return self.a, self.b


def match_pairs(
    views: Sequence[View],
    *,
    matcher: Matcher = "dense",
    calibration: Mapping[str, Any] | None = None,
    embed: Embed | None = None,
) -> list[PairMatch]:
    """Every pair of `views`, in the order (0, 1), (0, 2), ..., (1, 2), ...

    `calibration`: coefficients by logistic function, as CALIBRATION, which fills in for those that are missing.
    `embed`: the network for `edgeboxes`, crops uint8 (M, H, W, 3) -> features (M, D).

    Raises SettingsError: `matcher` (unknown), `calibration` (unknown function or statistic),
    `views` (shapes that do not fit), `embed` (`edgeboxes` without network or pixels).
    """
    if matcher not in MATCHERS:
        raise SettingsError("matcher", f"matcher is {matcher!r}; allowed are {', '.join(map(repr, MATCHERS))}.")
    coefficients = _coefficients(calibration or {})
    grid = _grid(views)
    if len(views) < 2:
        return []
    if matcher == "edgeboxes":
        return _edgeboxes(views, coefficients["edgeboxes"], embed)
    # Many small products: beside threads that decode, BLAS threads wait for each other (measured: 370 ms, not 15).
    with _blas().limit(limits=1, user_api="blas"):
        return _dense(views, grid, coefficients)


@functools.cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


def resolve(
    matches: Sequence[PairMatch],
    threshold: float,
    primary: int | None,
    p_noncompliant: NDArray[np.floating],
    crops: frozenset[int] = frozenset(),
) -> dict[int, int]:
    """Which pictures go, and for which that stays: removed position -> kept position.

    Of a pair above `threshold` the primary stays, else the picture with the smaller p_noncompliant (paper 3.3.2);
    `crops` come behind all that are whole. Where p_noncompliant is EQUAL, the picture that shows the common part with
    more pixels stays (FINER), else the earlier. Pictures that none beats so stay, and what they match goes; then the
    same among the rest. So a picture that goes takes none with it, every removed picture names a kept one (the most
    probable match, the better of equals), and the outcome does not depend on the order of `matches`.

    Raises SettingsError: `threshold` (outside 0..1), `resolve_index` (a position beyond p_noncompliant).
    """
    if not 0.0 <= threshold <= 1.0:
        raise SettingsError("threshold", f"the duplicate threshold is {threshold}; allowed is 0 to 1.")
    count = len(p_noncompliant)
    positions = [m.a for m in matches] + [m.b for m in matches] + ([] if primary is None else [primary])
    if positions and not 0 <= min(positions) <= max(positions) < count:
        raise SettingsError(
            "resolve_index",
            f"matches and primary name positions {min(positions)} to {max(positions)}, but there are {count} values of "
            "p_noncompliant. Pass one value for each view, in the same order.",
        )
    value = [float(p) for p in p_noncompliant]
    rank = [(i != primary, i in crops) for i in range(count)]
    order = sorted(range(count), key=lambda i: (rank[i], value[i], i))
    linked: dict[int, dict[int, float]] = {i: {} for i in range(count)}
    beaten_by: dict[int, set[int]] = {i: set() for i in range(count)}
    for match in matches:
        if match.probability > threshold:
            a, b = match.a, match.b
            linked[a][b] = linked[b][a] = match.probability
            first = _first(match, rank, value)
            beaten_by[a + b - first].add(first)
    kept: set[int] = set()
    left = dict.fromkeys(order)
    while left:
        # What is equal pair by pair may differ over a chain: three may beat each other in a ring.
        best = next((i for i in left if not beaten_by[i] & left.keys()), next(iter(left)))
        kept.add(best)
        for i in (best, *linked[best]):
            left.pop(i, None)
    gone: dict[int, int] = {}
    for i in set(range(count)) - kept:
        stronger = [j for j in order if j in kept and j in linked[i]]  # best first, and max() takes the first of equals
        gone[i] = max(stronger, key=lambda j: linked[i][j])
    return dict(sorted(gone.items()))


def _first(match: PairMatch, rank: Sequence[tuple[bool, bool]], p_noncompliant: Sequence[float]) -> int:
    """Which of the two stays, as in `resolve`."""
    a, b = match.pair
    if rank[a] != rank[b]:
        return a if rank[a] < rank[b] else b
    if abs(p_noncompliant[a] - p_noncompliant[b]) > EQUAL:
        return a if p_noncompliant[a] < p_noncompliant[b] else b
    pixels_a, pixels_b = match.box_a.w * match.box_a.h, match.box_b.w * match.box_b.h
    if max(pixels_a, pixels_b) > FINER * min(pixels_a, pixels_b):
        return a if pixels_a > pixels_b else b
    return min(a, b)


def crops(matches: Sequence[PairMatch], threshold: float, views: Sequence[View]) -> dict[int, int]:
    """Pictures that only show a part of another one: position of the crop -> position of its whole.

    The paper keeps the picture with the smaller p_noncompliant; of a crop and its whole, the whole shows more. Where
    all that it shows more is plain ground (a margin added around the picture), neither is a crop of the other.
    """
    found: dict[int, tuple[float, int]] = {}
    for match in matches:
        if match.probability > threshold:
            share_a, share_b = (
                box.w * box.h / (views[i].width * views[i].height)
                for i, box in ((match.a, match.box_a), (match.b, match.box_b))
            )
            for part, own, whole, other, box in (
                (match.a, share_a, match.b, share_b, match.box_b),
                (match.b, share_b, match.a, share_a, match.box_a),
            ):
                if own >= CROP_OWN and other <= CROP_OTHER and not _only_ground(views[whole], box):
                    found[part] = max(found.get(part, (0.0, whole)), (match.probability, whole))
    return {part: whole for part, (_, whole) in found.items()}


def _only_ground(view: View, box: Box) -> bool:
    """Whether the picture has nothing but plain ground of one colour outside `box` (source pixels)."""
    if view.pixels is None:
        return False
    place = placement(view.width, view.height, view.size)
    across, down = place.width / view.width, place.height / view.height  # letterbox pixels a source pixel
    outside = np.zeros(view.pixels.shape[:2], np.bool_)
    outside[place.top : place.top + place.height, place.left : place.left + place.width] = True
    left, top = place.left + box.x * across - RIM, place.top + box.y * down - RIM
    right, bottom = place.left + (box.x + box.w) * across + RIM, place.top + (box.y + box.h) * down + RIM
    outside[max(0, math.floor(top)) : math.ceil(bottom), max(0, math.floor(left)) : math.ceil(right)] = False
    edge = view.pixels[outside]  # (N, 3)
    if not len(edge):
        return False
    ground = find_ground(edge)
    drawn = np.count_nonzero(far(edge, ground.colour) > ground.same)
    return bool(drawn <= SPECK * place.width * place.height)


def _coefficients(calibration: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    chosen = dict(CALIBRATION)
    for name, values in calibration.items():
        if name not in STATISTICS:
            raise SettingsError(
                "calibration",
                f"calibration names {name!r}; allowed are {', '.join(STATISTICS)}. Export the bundle anew.",
            )
        allowed = ("bias", *STATISTICS[name])
        for key, value in values.items():
            if key not in allowed or not isinstance(value, int | float) or not math.isfinite(value):
                raise SettingsError(
                    "calibration",
                    f"calibration {name!r} has {key!r}: {value!r}; allowed are finite numbers for "
                    f"{', '.join(allowed)}. Export the bundle anew.",
                )
        chosen[name] = dict(values)
    return chosen


def _grid(views: Sequence[View]) -> int:
    """Patches a side; all views must agree."""
    shapes = {(view.patches.shape, view.size) for view in views}
    for shape, size in shapes:
        if len(shapes) > 1 or len(shape) != 2 or math.isqrt(shape[0]) ** 2 != shape[0] or size.width != size.height:
            raise SettingsError(
                "views",
                f"views have patches and letterboxes of {sorted(map(str, shapes))}; all must share "
                "one square letterbox and one square grid of patches (G * G, E). Take them from one bundle.",
            )
    return math.isqrt(next(iter(shapes))[0][0]) if shapes else 0


def _probability(coefficients: Mapping[str, float], statistics: Mapping[str, float]) -> float:
    logit = sum(value * (1.0 if key == "bias" else statistics[key]) for key, value in coefficients.items())
    return 1 / (1 + math.exp(-min(max(logit, -50.0), 50.0)))


def _rect(place: Placement) -> alignment.Rect:
    """Where the picture lies in its letterbox."""
    return alignment.Rect(place.left, place.top, place.left + place.width, place.top + place.height)


def _seen(rect: alignment.Rect, side: int, grid: int) -> NDArray[np.float32]:
    """(G * G,) share of each patch that lies on the picture."""
    edges = np.arange(grid + 1) * side / grid
    across = np.clip(np.minimum(edges[1:], rect.right) - np.maximum(edges[:-1], rect.left), 0, None)
    down = np.clip(np.minimum(edges[1:], rect.bottom) - np.maximum(edges[:-1], rect.top), 0, None)
    share: NDArray[np.float32] = (np.outer(down, across) / (side / grid) ** 2).astype(np.float32).ravel()
    return share


def _box(place: Placement, view: View, rect: alignment.Rect) -> Box:
    return place.to_source(rect.left, rect.top, rect.width, rect.height, view.width, view.height)


def _corners(box: NDArray[np.int64]) -> alignment.Rect:
    x, y, w, h = box.tolist()
    return alignment.Rect(x, y, x + w, y + h)


class _Sight:
    """One picture's pixels, prepared once for all its pairs."""

    def __init__(self, pixels: NDArray[np.uint8], rect: alignment.Rect) -> None:
        self.grey = alignment.Grey(pixels, rect)
        self.keypoints = keypoints.Keypoints(pixels, rect)


class _Patched(NamedTuple):
    """What the patches of a pair say."""

    warps: list[alignment.Warp]
    """Plain and mirrored"""
    best: int
    """Which of the two has more support"""
    statistics: dict[str, float]


def _dense(views: Sequence[View], grid: int, coefficients: Mapping[str, Mapping[str, float]]) -> list[PairMatch]:
    places = [placement(view.width, view.height, view.size) for view in views]
    rects = [_rect(place) for place in places]
    sights = [
        None if view.pixels is None else _Sight(view.pixels, rect) for view, rect in zip(views, rects, strict=True)
    ]
    pairs = list(combinations(range(len(views)), 2))
    found = {pair: _by_keypoints(*(sights[i] for i in pair)) for pair in pairs}
    sparse = [sight is None or len(sight.keypoints.plain.words) <= FEW for sight in sights]
    unsure = [(a, b) for a, b in pairs if (sparse[a] or sparse[b]) and _inliers(found[a, b]) < WORTH]
    patched = _by_patches(views, rects, unsure, grid)
    matches = []
    for a, b in pairs:
        first, second, hypothesis = sights[a], sights[b], found[a, b]
        if first is None or second is None:
            name, statistics = "patches", patched[a, b].statistics
            warp = patched[a, b].warps[patched[a, b].best]
            look = None
        else:
            warp = alignment.NOT_ALIGNED.warp if hypothesis is None else hypothesis.warp
            look = _look(first, second, hypothesis, patched.get((a, b)))
            name, statistics = "dense", _statistics(look, _inliers(hypothesis))
        if look is not None:
            warp = look.warp
        shared = alignment.overlap(rects[a], warp, rects[b]) if look is None else look.shared
        matches.append(
            PairMatch(
                a,
                b,
                _probability(coefficients[name], statistics),
                _box(places[a], views[a], shared),
                _box(places[b], views[b], warp(shared)),
                mirrored=warp.sx < 0,
                statistics=statistics,
            )
        )
    return matches


def _by_keypoints(a: _Sight | None, b: _Sight | None) -> keypoints.Found | None:
    return None if a is None or b is None else keypoints.hypothesis(a.keypoints, b.keypoints)


def _inliers(found: keypoints.Found | None) -> int:
    return 0 if found is None else found.inliers


def _by_patches(
    views: Sequence[View], rects: Sequence[alignment.Rect], pairs: Sequence[tuple[int, int]], grid: int
) -> dict[tuple[int, int], _Patched]:
    """What the patches of these pairs say."""
    if not pairs:
        return {}
    side = views[0].size.width
    patches = np.stack([view.patches for view in views]).astype(np.float32, copy=False)
    weight = dense.weights(patches, np.stack([_seen(rect, side, grid) for rect in rects]))
    first, second = np.array(pairs).T
    found = dense.hypotheses(patches, weight, first, second, grid=grid)
    patched = {}
    for n, pair in enumerate(pairs):
        warps, best = [_warp(found, n, mirror, side / grid, side) for mirror in (0, 1)], int(found.best[n])
        statistics = {
            name: float(getattr(found, name)[n, best]) for name in ("similarity", "margin", "share", "cover", "mass")
        }
        statistics["log_scale"] = abs(math.log(abs(warps[best].sx)))
        patched[pair] = _Patched(warps, best, statistics)
    return patched


def _look(a: _Sight, b: _Sight, found: keypoints.Found | None, patched: _Patched | None) -> alignment.Verified | None:
    """The closer look at a pair; None where nothing suggests a copy."""
    if found is not None and found.inliers >= WORTH:
        if found.inliers < CERTAIN and alignment.hopeless(a.grey, b.grey, found.warp):
            return None
        return alignment.verify(a.grey, b.grey, found.warp)
    if patched is None:
        return None
    tried = patched.warps + alignment.hypotheses_from_content(a.grey, b.grey)
    aligned = alignment.align(a.grey, b.grey, tried)
    return alignment.verify(a.grey, b.grey, aligned.warp) if aligned.likeness >= ALIKE else None


def _statistics(look: alignment.Verified | None, inliers: int) -> dict[str, float]:
    agreed = math.log1p(min(inliers, MANY))
    if look is None:
        nothing = dict.fromkeys(STATISTICS["dense"], 0.0)
        return nothing | {"inliers": agreed, "misfit": recolouring.MISFIT, "residual": recolouring.RESIDUAL}
    return {
        "likeness": look.likeness,
        "correlation": look.correlation,
        "agreeing": look.agreeing,
        "weakest": look.weakest,
        "evidence": min(look.evidence, ENOUGH),
        "inliers": agreed,
        "misfit": look.misfit,
        "residual": look.residual,
        "same": float(np.clip((look.same - SAME) / (1.0 - SAME), 0.0, 1.0)),
    }


def _warp(found: dense.Hypotheses, pair: int, mirror: int, cell: float, side: int) -> alignment.Warp:
    """From patches about the centre to letterbox pixels."""
    scale = float(found.scale[pair, mirror])
    x, y = found.shift[pair, mirror].tolist()
    sx, middle = (-scale if mirror else scale), side / 2
    return alignment.Warp(sx, middle - sx * middle + cell * x, scale, middle - scale * middle + cell * y)


def _edgeboxes(views: Sequence[View], coefficients: Mapping[str, float], embed: Embed | None) -> list[PairMatch]:
    if embed is None or any(view.pixels is None for view in views):
        raise SettingsError(
            "embed",
            f"the matcher 'edgeboxes' got {'no network' if embed is None else 'a view without pixels'}; "
            "it needs `embed` and the pixels of every view. Pass them, or use the matcher 'dense'.",
        )
    places = [placement(view.width, view.height, view.size) for view in views]
    proposals = []
    for place, view in zip(places, views, strict=True):
        assert view.pixels is not None  # checked above; for mypy
        boxes = edgeboxes.propose(view.pixels, _rect(place))
        proposals.append(edgeboxes.describe(view.pixels, boxes, embed))
    matches = []
    for a, b in combinations(range(len(views)), 2):
        best, mutual, box_a, box_b = edgeboxes.best_match(proposals[a], proposals[b])
        statistics = {"best": best, "mutual": mutual}
        matches.append(
            PairMatch(
                a,
                b,
                _probability(coefficients, statistics),
                _box(places[a], views[a], _corners(box_a)),
                _box(places[b], views[b], _corners(box_b)),
                statistics=statistics,
            )
        )
    return matches
