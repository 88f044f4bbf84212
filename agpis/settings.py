"""What a user may turn of the pipeline."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field
from typing import Literal

from agpis.errors import SettingsError
from agpis.images import Limits


@dataclass(frozen=True, slots=True)
class Settings:
    """What a user may turn. `None` means: as the bundle or rulebook says."""

    rulebook: str | None = None
    """Name of a rulebook in the package (default, amazon, google, walmart, ebay) or path of a YAML file."""
    images: int | None = None
    """K, the number of images of a sequence, the primary included."""
    threshold: float | None = None
    """p_qualified under which a sequence is not submitted (paper 5.1: 0.3)."""
    primary_threshold: float | None = None
    noncompliant_threshold: float | None = None
    duplicate_threshold: float | None = None
    search: Literal["best", "random"] = "best"
    """`random`: the paper's target sequence, primary and K-1 at random; `best`: highest p_qualified found, less
    for images that stage 1 was in doubt of (`agpis.case.CAUTION`)."""
    matcher: Literal["dense", "edgeboxes"] = "dense"
    """How duplicates are found: on the image graph's own patches, or with EdgeBoxes as in the paper."""
    strangers: Literal["remove", "weigh"] = "remove"
    """Images that the product's other images tell to be of another product: removed when sure, or, as the paper's
    stage 1 knows no such thing, only counted in p_qualified (for comparisons with the paper)."""
    feedback: Literal["never", "rejected", "always"] = "never"
    """When the feedback text is decoded: for no sequence, for those below the threshold, or for every one. The
    starter's decoder names the right rule too seldom to be shown unasked; see its model card."""
    seed: int = 0
    """Of the random sequences; combined with the sku, so that a product's draw does not depend on its neighbours."""
    thumbnails: int = 0
    """Longest side of the report's thumbnails in pixels; 0 makes none."""
    on: datetime.date | None = None
    """Day whose rules hold; None: today."""
    limits: Limits = field(default_factory=Limits)
    fetch_threads: int = 0
    """Threads that fetch and decode; 0: twice the processors."""
    graph_threads: int = 0
    """Threads of ONNX Runtime; 0: one a processor."""

    def __post_init__(self) -> None:
        if self.images is not None and not 1 <= self.images <= 50:
            raise SettingsError("bad_images", f"--images is {self.images}; a sequence has 1 to 50 images.")
        for name in ("threshold", "primary_threshold", "noncompliant_threshold", "duplicate_threshold"):
            value = getattr(self, name)
            if value is not None and not 0.0 <= value <= 1.0:
                raise SettingsError("bad_threshold", f"{name} is {value}; it is a probability from 0 to 1.")
        for name, allowed in (
            ("search", ("best", "random")),
            ("matcher", ("dense", "edgeboxes")),
            ("feedback", ("never", "rejected", "always")),
            ("strangers", ("remove", "weigh")),
        ):
            if getattr(self, name) not in allowed:
                raise SettingsError(
                    f"bad_{name}", f"{name} is {getattr(self, name)!r}; use one of {', '.join(allowed)}."
                )
