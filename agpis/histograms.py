"""Counts of values on grids that do not depend on the data: days add up to windows, and a record is a small file.

Images of one product are alike, so n values tell less than n independent ones would. A histogram keeps what the
intraclass correlation rho of the analysis of variance needs, and says how many independent values it is worth:
n / (1 + (m - 1) * rho) for m values a product (L. Kish, Survey Sampling, Wiley 1965, section 5.4).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from agpis.data import STATUSES, Decision

Grid = Literal["log-odds", "octaves", "whole", "kinds"]


@dataclass(frozen=True, slots=True)
class Feature:
    """One thing that is watched."""

    name: str
    title: str
    grid: Grid
    unit: str = ""
    kinds: tuple[str, ...] = ()
    """Names of the cells of grid `kinds`."""

    def cell(self, value: float) -> int:
        """Grid cell of a value: eighths of log-odds, 1/128 octaves (0.5 %), or whole numbers."""
        if self.grid == "log-odds":
            p = min(max(value, 1e-6), 1 - 1e-6)
            return math.floor(8 * math.log(p / (1 - p)))
        return math.floor(128 * math.log2(value)) if self.grid == "octaves" else int(value)

    def value(self, cell: float) -> float:
        """Value at a place of the grid; `cell` + 0.5 is a cell's middle."""
        if self.grid == "log-odds":
            return 1 / (1 + math.exp(-cell / 8))
        return float(2 ** (cell / 128)) if self.grid == "octaves" else math.floor(cell)


FEATURES: tuple[Feature, ...] = (
    Feature("status", "Status", "kinds", kinds=STATUSES),
    Feature("p_qualified", "p_qualified", "log-odds"),
    Feature("p_primary", "p_primary", "log-odds"),
    Feature("p_noncompliant", "p_noncompliant", "log-odds"),
    Feature("width", "Image width", "octaves", "px"),
    Feature("height", "Image height", "octaves", "px"),
    Feature("aspect", "Width / height", "octaves"),
    Feature("candidates", "Candidates a product", "whole"),
    Feature("unreadable", "Unreadable images", "kinds", kinds=("read", "unreadable")),
)


def cells(decision: Decision) -> dict[str, list[int]]:
    """Grid cells of one decision by feature: one a product, or one an image."""
    found: dict[str, list[int]] = {feature.name: [] for feature in FEATURES}
    found["status"].append(STATUSES.index(decision.status))
    found["candidates"].append(len(decision.candidates))
    images: dict[str, list[float | None]] = {
        "p_qualified": [decision.p_qualified],
        "p_primary": [c.p_primary for c in decision.candidates],
        "p_noncompliant": [c.p_noncompliant for c in decision.candidates],
        "width": [c.width or None for c in decision.candidates],
        "height": [c.height or None for c in decision.candidates],
        "aspect": [c.width / c.height if c.width and c.height else None for c in decision.candidates],
        "unreadable": [float(not c.width) for c in decision.candidates],
    }
    for feature in FEATURES:
        values = images.get(feature.name, [])
        found[feature.name] += [feature.cell(v) for v in values if v is not None and math.isfinite(v)]
    return found


@dataclass(slots=True)
class Histogram:
    """Counts by grid cell, and what the correlation of values of one product is computed from."""

    counts: Counter[int] = field(default_factory=Counter)
    groups: int = 0
    """Products with at least one value."""
    sizes: int = 0
    """Sum of (values of a product) squared."""
    between: float = 0.0
    """Sum of (sum of a product's cells) squared / its values."""

    def add(self, values: Sequence[int]) -> None:
        """Count the values of one product."""
        if values:
            self.counts.update(values)
            self.groups += 1
            self.sizes += len(values) ** 2
            self.between += sum(values) ** 2 / len(values)

    def merge(self, other: Histogram) -> None:
        """Count what the other one has counted."""
        self.counts.update(other.counts)
        self.groups += other.groups
        self.sizes += other.sizes
        self.between += other.between

    @property
    def size(self) -> int:
        """Values."""
        return self.counts.total()

    @property
    def effective(self) -> float:
        """Independent values that would tell as much."""
        n, k = self.size, self.groups
        if n <= 1 or n == k:
            return float(n)
        if k < 2:
            return 1.0
        total = sum(cell * count for cell, count in self.counts.items())
        squares = sum(cell * cell * count for cell, count in self.counts.items())
        above = (self.between - total**2 / n) / (k - 1)
        within = (squares - self.between) / (n - k)
        usual = (n - self.sizes / n) / (k - 1)
        spread = above + (usual - 1) * within
        alike = min(max((above - within) / spread, 0.0), 1.0) if spread > 0 else 1.0
        return n / (1 + (self.sizes / n - 1) * alike)

    def row(self) -> dict[str, Any]:
        """JSON-ready."""
        counts = {str(cell): count for cell, count in sorted(self.counts.items())}
        return {"counts": counts, "groups": self.groups, "sizes": self.sizes, "between": self.between}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """Inverse of `row()`. Raises KeyError, TypeError, ValueError or AttributeError on a foreign dict."""
        counts = Counter({int(cell): _whole(count) for cell, count in row["counts"].items()})
        return cls(counts, _whole(row["groups"]), _whole(row["sizes"]), float(row["between"]))


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"found {value!r}, wanted a count")
    return value


def median(histogram: Histogram) -> int:
    """Cell of the median."""
    below = 0
    for cell in sorted(histogram.counts):
        below += histogram.counts[cell]
        if 2 * below >= histogram.size:
            return cell
    raise ValueError("found no value")
