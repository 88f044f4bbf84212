"""One candidate from its name to what the graphs take: fetched, decoded, measured and resized exactly once."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agpis.checks import error_finding, run_checks
from agpis.clock import Clock
from agpis.data import ErrorInfo, Finding, Image
from agpis.errors import ImageError, MissingExtra
from agpis.fetch import Fetcher
from agpis.images import Limits, Size, decode, letterbox, thumbnail
from agpis.rulebook import Rulebook

DECODE_TARGET = 448
"""Pixels the shorter side keeps when the codec decodes at reduced scale: twice the graphs' input,
so that the antialiased resize still has two samples a pixel and the sharpness check sees real detail."""


@dataclass(slots=True)
class Shot:
    """A candidate, ready to be judged. `pixels` is None exactly when `code` says why it cannot be."""

    image: Image
    width: int | None = None
    height: int | None = None
    pixels: NDArray[np.uint8] | None = None
    """uint8 (H, W, 3), letterboxed to the image graph's input."""
    findings: tuple[Finding, ...] = ()
    code: str = ""
    thumbnail: bytes | None = None


class Preparer:
    """Callable from many threads: `preparer(image, category) -> Shot`. Never raises for a bad image."""

    def __init__(
        self,
        rulebook: Rulebook,
        size: Size,
        fetcher: Fetcher,
        *,
        limits: Limits,
        thumbnail_side: int = 0,
        on: datetime.date | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._rulebook = rulebook
        self._size = size
        self._fetcher = fetcher
        self._limits = limits
        self._thumbnail_side = thumbnail_side
        self._on = on
        self._clock = clock or Clock()

    def __call__(self, image: Image, category: str = "") -> Shot:
        try:
            if image.error is not None:
                raise ImageError(image.error.code, image.error.message)
            data = image.data
            if data is None:
                with self._clock.stage("fetch"):
                    data = self._fetcher(image.location)
            with self._clock.stage("decode"):
                picture = decode(data, name=image.uri, target=DECODE_TARGET, limits=self._limits)
                pixels = letterbox(picture.pixels, self._size)
        except (ImageError, MissingExtra) as error:
            broken = ErrorInfo(error.code, error.message)
            # A rulebook need not have a rule for unreadable files: they are not used all the same.
            finding = error_finding(broken, self._rulebook, on=self._on, category=category) or Finding(
                rule="unreadable", message=error.message
            )
            return Shot(image, findings=(finding,), code=error.code)
        with self._clock.stage("checks"):
            findings = run_checks(picture, self._rulebook, name=image.uri, on=self._on, category=category)
        small = None
        if self._thumbnail_side:
            with self._clock.stage("thumbnails"):
                small = thumbnail(picture.pixels, self._thumbnail_side)
        return Shot(image, picture.width, picture.height, pixels, findings, thumbnail=small)
