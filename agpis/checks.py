"""Measured rules: each check compares one measure of a picture with the limits in the rulebook.

A check returns None when the picture keeps to the limit or when the measure does not apply (the fill of a picture
that has no plain ground); otherwise a Reading. `run_checks` turns readings into findings of the rule that asked.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np

from agpis import limits
from agpis.data import Box, ErrorInfo, Finding
from agpis.images import Picture
from agpis.measures import Measures
from agpis.rulebook import Rule, Rulebook

EXTENSIONS: dict[str, tuple[str, ...]] = {
    "jpg": ("JPEG", "MPO"),
    "jpeg": ("JPEG", "MPO"),
    "jpe": ("JPEG", "MPO"),
    "jfif": ("JPEG", "MPO"),
    "png": ("PNG",),
    "webp": ("WEBP",),
    "gif": ("GIF",),
    "bmp": ("BMP",),
    "dib": ("BMP",),
    "tif": ("TIFF",),
    "tiff": ("TIFF",),
    "avif": ("AVIF",),
    "heic": ("HEIF",),
    "heif": ("HEIF",),
    "ico": ("ICO",),
    "jp2": ("JPEG2000",),
}
"""Formats that a file of that extension may have."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A measure beyond its limit."""

    message: str
    """One sentence for a person."""
    value: float | None = None
    limit: float | None = None
    unit: str = ""
    box: Box | None = None


Function = Callable[[Measures, str, Any], Reading | None]


def run_checks(
    picture: Picture, rulebook: Rulebook, *, name: str = "", on: date | None = None, category: str = ""
) -> tuple[Finding, ...]:
    """Findings of the rulebook's measured checks on one picture.

    `name` is the image's path or URL (for its extension), `on` the day whose limits apply (today), `category` the
    product's. Rules of a role are found on any image: whoever chooses the primary looks at `Finding.role`.
    """
    measures = Measures(picture)
    findings = []
    for rule in rulebook.active(on or date.today(), category):
        if rule.check is None or rule.scope != "single":
            continue
        reading = CHECKS[rule.check.name](measures, name, rule.check)
        if reading is not None:
            findings.append(_finding(rule, reading))
    return tuple(findings)


def error_finding(
    error: ErrorInfo, rulebook: Rulebook, *, on: date | None = None, category: str = ""
) -> Finding | None:
    """The finding for an image that could not be fetched or decoded; None where no rule names its code or "*"."""
    rules = [
        (rule, rule.check.codes)
        for rule in rulebook.active(on or date.today(), category)
        if isinstance(rule.check, limits.ImageCode)
    ]
    for wanted in (error.code, "*"):
        for rule, codes in rules:
            if wanted in codes:
                return _finding(rule, Reading(error.message))
    return None


def count_findings(
    images: int, rulebook: Rulebook, *, on: date | None = None, category: str = ""
) -> tuple[Finding, ...]:
    """Findings of the rules that ask for a number of usable images; `images` is how many the product has."""
    return tuple(
        _finding(rule, Reading(_few(images, rule.check.images), images, rule.check.images, "images"))
        for rule in rulebook.active(on or date.today(), category)
        if isinstance(rule.check, limits.MinImages) and images < rule.check.images
    )


def _few(images: int, needed: int) -> str:
    return f"The product has {images} usable image{'' if images == 1 else 's'}; at least {needed} are needed."


def _finding(rule: Rule, reading: Reading) -> Finding:
    return Finding(
        rule=rule.id,
        scope=rule.scope,
        severity=rule.severity,
        role=rule.role,
        message=reading.message,
        value=None if reading.value is None else round(float(reading.value), 4),
        limit=None if reading.limit is None else float(reading.limit),
        unit=reading.unit,
        box=reading.box,
    )


def _min_pixels(m: Measures, _: str, limit: limits.MinPixels) -> Reading | None:
    width, height = m.picture.width, m.picture.height
    if limit.shorter is not None and min(width, height) < limit.shorter:
        return _pixels("shorter side", min(width, height), limit.shorter, "at least")
    if limit.longest is not None and max(width, height) < limit.longest:
        return _pixels("longest side", max(width, height), limit.longest, "at least")
    if limit.megapixels is not None and width * height < limit.megapixels * 1e6:
        return _megapixels(m, limit.megapixels, "at least")
    return None


def _max_pixels(m: Measures, _: str, limit: limits.MaxPixels) -> Reading | None:
    width, height = m.picture.width, m.picture.height
    if limit.longest is not None and max(width, height) > limit.longest:
        return _pixels("longest side", max(width, height), limit.longest, "at most")
    if limit.megapixels is not None and width * height > limit.megapixels * 1e6:
        return _megapixels(m, limit.megapixels, "at most")
    return None


def _pixels(what: str, value: int, limit: int, bound: str) -> Reading:
    return Reading(f"The {what} has {value:,} pixels; {bound} {limit:,} are asked for.", value, limit, "px")


def _megapixels(m: Measures, limit: float, bound: str) -> Reading:
    value = m.picture.width * m.picture.height / 1e6
    return Reading(f"The picture has {value:.3g} megapixels; {bound} {limit:g} are asked for.", value, limit, "MP")


def _file_size(m: Measures, _: str, limit: limits.FileSize) -> Reading | None:
    size = m.picture.n_bytes / 1e6
    if size <= limit.max_mb:
        return None
    return Reading(f"The file has {size:.2f} MB; at most {limit.max_mb:g} MB are allowed.", size, limit.max_mb, "MB")


def _format(m: Measures, _: str, limit: limits.FormatAllowed) -> Reading | None:
    found = m.picture.format.upper()
    # MPO is a JPEG with a second picture behind it, as some cameras and phones write; every reader takes it for one.
    if found in limit.allowed or (found == "MPO" and "JPEG" in limit.allowed):
        return None
    return Reading(f"The file is a {found}; allowed are {', '.join(limit.allowed)}.")


def _format_matches_name(m: Measures, name: str, _: limits.FormatMatchesName) -> Reading | None:
    extension = extension_of(name)
    found = m.picture.format.upper()
    if extension not in EXTENSIONS or found in EXTENSIONS[extension]:
        return None
    return Reading(f"The name ends in .{extension}, but the file is a {found}.")


def extension_of(name: str) -> str:
    """Extension of a path or URL in lower case, without the dot; "" where there is none that we know.

    The query of a URL does not count ("a.jpg?v=2"), nor what only looks like an extension ("image.php").
    """
    path = urlsplit(name).path if "://" in name else name
    for text in (unquote(path), re.split(r"[?#]", path, maxsplit=1)[0]):
        extension = posixpath.splitext(text.replace("\\", "/").rsplit("/", 1)[-1])[1][1:].lower()
        if extension in EXTENSIONS:
            return extension
    return ""


def _url(_: Measures, name: str, limit: limits.UrlAllowed) -> Reading | None:
    if not name.lower().startswith(("http://", "https://")):
        return None
    parts = urlsplit(name)
    if parts.query and not limit.query:
        return Reading(f"The address has a query string (?{parts.query[:40]}), which is not allowed.")
    try:
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    except ValueError:  # not a number, or beyond 65535
        return Reading("The address has a port that is no port number.")
    if limit.ports and port not in limit.ports:
        return Reading(f"The address has the port {port}; allowed are {', '.join(map(str, limit.ports))}.", port)
    return None


def _aspect(m: Measures, _: str, limit: limits.Aspect) -> Reading | None:
    ratio = m.picture.width / m.picture.height
    if limit.min <= ratio <= limit.max:
        return None
    text = f"Width to height is {ratio:.2f}; it must lie between {limit.min:g} and {limit.max:g}."
    return Reading(text, ratio, limit.min if ratio < limit.min else limit.max, "width/height")


def _background_white(m: Measures, _: str, limit: limits.BackgroundWhite) -> Reading | None:
    edge = m.ring
    if m.ground.plain:  # a product that runs out of the frame is no ground; a shadow is
        edge = edge[m.ring_apart <= _SHADOW]
    red, green, blue = edge[:, 0], edge[:, 1], edge[:, 2]
    white = np.minimum(np.minimum(red, green), blue) >= 255 - limit.tolerance
    share = float(white.mean())
    if share >= limit.share:
        return None
    colour = ", ".join(map(str, m.ground.colour))
    return Reading(
        f"{share:.0%} of the ground along the edge is white (commonest colour: {colour});"
        f" at least {limit.share:.0%} must be within {limit.tolerance:g} of 255, 255, 255.",
        share,
        limit.share,
        "share",
    )


_SHADOW = 60
"""Pixels of the edge that are further than this from the ground's colour are the product, not its shadow."""


def _background_uniform(m: Measures, _: str, limit: limits.BackgroundUniform) -> Reading | None:
    share = float((m.ring_apart <= limit.tolerance).mean())
    if share >= limit.share:
        return None
    text = f"{share:.0%} of the pixels along the edge have one colour; at least {limit.share:.0%} must."
    return Reading(text, share, limit.share, "share")


def _fill(m: Measures) -> tuple[float, float, Box] | None:
    """Extent and area of the product's box, of the picture's; None where they cannot be measured."""
    if not m.ground.flat or m.box is None:
        return None
    height, width = m.view.shape[:2]
    _, _, w, h = m.box
    return max(w / width, h / height), w * h / (width * height), m.source(m.box)


def _min_fill(m: Measures, _: str, limit: limits.MinFill) -> Reading | None:
    fill = _fill(m)
    if fill is None:
        return None
    extent, area, box = fill
    if limit.extent is not None and extent < limit.extent:
        text = f"The product fills {extent:.0%} of the frame; at least {limit.extent:.0%} are asked for."
        return Reading(text, extent, limit.extent, "share", box)
    if limit.area is not None and area < limit.area:
        text = f"The product's box covers {area:.0%} of the picture; at least {limit.area:.0%} are asked for."
        return Reading(text, area, limit.area, "share", box)
    return None


def _max_fill(m: Measures, _: str, limit: limits.MaxFill) -> Reading | None:
    fill = _fill(m)
    if fill is None or fill[0] <= limit.extent:
        return None
    text = f"The product fills {fill[0]:.0%} of the frame; at most {limit.extent:.1%} are allowed."
    return Reading(text, fill[0], limit.extent, "share", fill[2])


def _touches_edge(m: Measures, _: str, limit: limits.TouchesEdge) -> Reading | None:
    sides = {side: share for side, share in m.touching.items() if share > limit.share}
    if not sides:
        return None
    worst = max(sides, key=lambda side: sides[side])
    height, width = m.view.shape[:2]
    at = {"left": (0, 0), "top": (0, 0), "right": (width - 1, 0), "bottom": (0, height - 1)}[worst]
    line = {"left": m.product[:, 0], "top": m.product[0], "right": m.product[:, -1], "bottom": m.product[-1]}[worst]
    where = np.flatnonzero(line)
    start, length = int(where[0]), int(where[-1] - where[0]) + 1
    upright = worst in ("left", "right")
    box = (at[0], start, 1, length) if upright else (start, at[1], length, 1)
    return Reading(
        f"The product covers {sides[worst]:.0%} of the {worst} edge; at most {limit.share:.0%} are allowed.",
        sides[worst],
        limit.share,
        "share",
        m.source(box),
    )


def _no_border(m: Measures, _: str, limit: limits.NoBorder) -> Reading | None:
    frame = m.frame
    if frame is None or len(frame.sides) < limit.min_sides:
        return None
    return Reading(
        f"A frame runs along {len(frame.sides)} sides, up to {frame.depth:.1%} of the shorter side thick.",
        len(frame.sides),
        limit.min_sides - 1,
        "sides",
        Box(0, 0, m.picture.width, m.picture.height),
    )


def _max_blur(m: Measures, _: str, limit: limits.MaxBlur) -> Reading | None:
    if m.blur is None or m.blur <= limit.radius:
        return None
    text = f"Edges are {m.blur:.1f} pixels soft at the size shown; at most {limit.radius:g} are allowed."
    return Reading(text, m.blur, limit.radius, "px", _product_box(m))


def _product_box(m: Measures) -> Box | None:
    return m.source(m.box) if m.ground.plain and m.box is not None else None


def _not_overexposed(m: Measures, _: str, limit: limits.NotOverexposed) -> Reading | None:
    if m.blown <= limit.share:
        return None
    text = f"{m.blown:.0%} of the product is blown out to white; at most {limit.share:.0%} are allowed."
    return Reading(text, m.blown, limit.share, "share", _product_box(m))


def _not_underexposed(m: Measures, _: str, limit: limits.NotUnderexposed) -> Reading | None:
    if m.brightest is None or m.brightest >= limit.brightest:
        return None
    text = (
        f"The brighter parts of the product have a luma of {m.brightest:.0f}; at least {limit.brightest:g} is needed."
    )
    return Reading(text, m.brightest, limit.brightest, "luma", _product_box(m))


def _not_blank(m: Measures, _: str, limit: limits.NotBlank) -> Reading | None:
    if m.content >= limit.content:
        return None
    text = f"Only {m.content:.2%} of the picture differs from its ground; at least {limit.content:.2%} must."
    return Reading(text, m.content, limit.content, "share")


def _not_greyscale(m: Measures, _: str, limit: limits.NotGreyscale) -> Reading | None:
    if m.chroma > limit.chroma or (m.ground.plain and m.ground.neutral):
        return None
    text = (
        f"The picture has no colour: R, G and B differ by at most {m.chroma:.0f}, colour starts above {limit.chroma:g}."
    )
    return Reading(text, m.chroma, limit.chroma, "levels")


def _not_transparent(m: Measures, _: str, __: limits.NotTransparent) -> Reading | None:
    return Reading("The picture has transparent parts.") if m.picture.transparent else None


def _not_placeholder(m: Measures, _: str, limit: limits.NotPlaceholder) -> Reading | None:
    if m.box is None or not m.ground.plain:
        return None
    height, width = m.view.shape[:2]
    x, y, w, h = m.box
    centred = abs(x + w / 2 - width / 2) < 0.1 * width and abs(y + h / 2 - height / 2) < 0.2 * height
    if not centred or any(m.touching.values()) or m.content > limit.content or m.flatness <= limit.flat:
        return None
    return Reading(
        f"{m.flatness:.0%} of what is drawn on the plain ground is in three flat shades,"
        f" above {limit.flat:.0%} it is a placeholder and no photograph.",
        m.flatness,
        limit.flat,
        "share",
        m.source(m.box),
    )


def _image_code(m: Measures, _: str, limit: limits.ImageCode) -> Reading | None:
    found = [note for note in m.picture.notes if note in limit.codes]
    return Reading(f"The file has a fault: {', '.join(found)}.") if found else None


CHECKS: dict[str, Function] = {
    "min_pixels": _min_pixels,
    "max_pixels": _max_pixels,
    "file_size": _file_size,
    "format": _format,
    "format_matches_name": _format_matches_name,
    "url": _url,
    "aspect": _aspect,
    "background_white": _background_white,
    "background_uniform": _background_uniform,
    "min_fill": _min_fill,
    "max_fill": _max_fill,
    "touches_edge": _touches_edge,
    "no_border": _no_border,
    "max_blur": _max_blur,
    "not_overexposed": _not_overexposed,
    "not_underexposed": _not_underexposed,
    "not_blank": _not_blank,
    "not_greyscale": _not_greyscale,
    "not_transparent": _not_transparent,
    "not_placeholder": _not_placeholder,
    "image_code": _image_code,
}
"""Check of one picture by name. With COUNT_CHECKS these are all names of `agpis.limits.LIMITS`."""

COUNT_CHECKS = ("min_images",)
"""Checks of a product's images together; see `count_findings`."""
