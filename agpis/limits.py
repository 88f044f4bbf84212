"""What each measured check may be told: one pydantic model a check, `check: {name: ..., <limits>}` in a rulebook.

The checks themselves are in `checks.py`, which is further up; this table is what a rulebook is validated against, and
a test demands that both lists agree. A limit is what the picture must keep to; the unit is in the text of each field.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from agpis.data import Scope

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF", "MPO", "JPEG2000", "ICO")
"""Picture formats a rule may name: Pillow's names. HEIF is what phones write as .heic."""

Share = Annotated[float, Field(ge=0, le=1)]
Level = Annotated[float, Field(ge=0, le=255)]
Format = Literal["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF", "MPO", "JPEG2000", "ICO"]


class Strict(BaseModel):
    """Base of all that is read from YAML: no unknown keys, no silent conversions, immutable."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


T = TypeVar("T", bound=Strict)


class MinPixels(Strict):
    """The picture has at least this many pixels; a limit left out does not apply."""

    name: Literal["min_pixels"]
    shorter: Annotated[int, Field(ge=1)] | None = None
    """Shorter side, pixels."""
    longest: Annotated[int, Field(ge=1)] | None = None
    """Longest side, pixels."""
    megapixels: Annotated[float, Field(gt=0)] | None = None
    """Width times height, millions."""

    @model_validator(mode="after")
    def _one(self) -> MinPixels:
        return _at_least_one(self, "shorter", "longest", "megapixels")


class MaxPixels(Strict):
    """The picture has at most this many pixels; a limit left out does not apply."""

    name: Literal["max_pixels"]
    longest: Annotated[int, Field(ge=1)] | None = None
    """Longest side, pixels."""
    megapixels: Annotated[float, Field(gt=0)] | None = None
    """Width times height, millions."""

    @model_validator(mode="after")
    def _one(self) -> MaxPixels:
        return _at_least_one(self, "longest", "megapixels")


class FileSize(Strict):
    """The encoded file is not larger. 1 MB = 1,000,000 bytes, the stricter reading of a marketplace's "MB"."""

    name: Literal["file_size"]
    max_mb: Annotated[float, Field(gt=0)]


class FormatAllowed(Strict):
    """The file is of one of these formats, whatever its name says."""

    name: Literal["format"]
    allowed: Annotated[tuple[Format, ...], Field(min_length=1)]


class FormatMatchesName(Strict):
    """The extension in the name, if it is one of a picture format, is that of the file's format."""

    name: Literal["format_matches_name"]


class UrlAllowed(Strict):
    """The address of the picture, if it is one of http or https, is as the marketplace's fetcher wants it."""

    name: Literal["url"]
    query: bool = True
    """Whether a query string (?width=300) is allowed."""
    ports: tuple[int, ...] = ()
    """Allowed ports; empty = any. An address without a port has 80 or 443."""

    @model_validator(mode="after")
    def _one(self) -> UrlAllowed:
        if self.query and not self.ports:
            raise ValueError("no limit is given; set query: false, or ports, or both")
        return self


class Aspect(Strict):
    """Width divided by height lies in [min, max]."""

    name: Literal["aspect"]
    min: Annotated[float, Field(gt=0)]
    max: Annotated[float, Field(gt=0)]

    @model_validator(mode="after")
    def _order(self) -> Aspect:
        if self.min > self.max:
            raise ValueError(f"min (={self.min:g}) is above max (={self.max:g}); swap them")
        return self


class BackgroundWhite(Strict):
    """At least `share` of the ground along the picture's edge is white; of all pixels there if no ground is plain."""

    name: Literal["background_white"]
    tolerance: Level
    """A pixel is white when none of R, G and B is more than this below 255. 0 = pure white."""
    share: Share


class BackgroundUniform(Strict):
    """At least `share` of the pixels along the picture's edge have its commonest colour."""

    name: Literal["background_uniform"]
    tolerance: Level
    """A pixel has that colour when none of R, G and B is further off than this."""
    share: Share


class MinFill(Strict):
    """The product is large enough. Measured on a flat ground only."""

    name: Literal["min_fill"]
    extent: Share | None = None
    """Larger of (width of the product's box / picture width) and the same of heights: Amazon's "85 % of the frame"."""
    area: Share | None = None
    """Area of the product's box / area of the picture."""

    @model_validator(mode="after")
    def _one(self) -> MinFill:
        return _at_least_one(self, "extent", "area")


class MaxFill(Strict):
    """The product is not too large. Measured on a flat ground only."""

    name: Literal["max_fill"]
    extent: Share
    """As in `min_fill`."""


class TouchesEdge(Strict):
    """The product covers at most `share` of a side of the picture. Measured on a flat ground only."""

    name: Literal["touches_edge"]
    share: Share


class NoBorder(Strict):
    """No frame of one colour runs round the picture."""

    name: Literal["no_border"]
    min_sides: Annotated[int, Field(ge=2, le=4)]
    """Sides that must have it for the picture to count as framed."""


class MaxBlur(Strict):
    """The edges of the picture are sharp at the size at which it is shown."""

    name: Literal["max_blur"]
    radius: Annotated[float, Field(gt=0)]
    """Gaussian radius of the strongest edges, in pixels of the picture shown 384 pixels long (or less, if smaller)."""


class NotOverexposed(Strict):
    """At most `share` of the product's pixels are blown out to white. A plain ground does not count."""

    name: Literal["not_overexposed"]
    share: Share


class NotUnderexposed(Strict):
    """The brighter parts of the product are brighter than this. A plain ground does not count."""

    name: Literal["not_underexposed"]
    brightest: Level
    """95th percentile of the product's luma, 0 to 255."""


class NotBlank(Strict):
    """More than `content` of the picture differs from its commonest colour."""

    name: Literal["not_blank"]
    content: Share


class NotGreyscale(Strict):
    """The picture has colour somewhere: the 99.5th percentile of (largest - smallest of R, G, B) is above this.

    Not measured on a plain white, grey or black ground, where a black product looks just like it.
    """

    name: Literal["not_greyscale"]
    chroma: Level


class NotTransparent(Strict):
    """No pixel is transparent."""

    name: Literal["not_transparent"]


class NotPlaceholder(Strict):
    """Not a "no image" card: a small drawing or line of text in flat colours in the middle of one colour."""

    name: Literal["not_placeholder"]
    flat: Share
    """Share of the drawing's pixels that have one of its three commonest shades; above this, it is no photograph."""
    content: Share
    """Only a drawing that covers at most this share of the picture can be a placeholder."""


class ImageCode(Strict):
    """The picture was fetched and decoded without any of these codes of `agpis.images.IMAGE_CODES` or notes."""

    name: Literal["image_code"]
    codes: Annotated[tuple[str, ...], Field(min_length=1)]


class MinImages(Strict):
    """The product has at least this many usable images."""

    name: Literal["min_images"]
    images: Annotated[int, Field(ge=1)]


Check = Annotated[
    MinPixels
    | MaxPixels
    | FileSize
    | FormatAllowed
    | FormatMatchesName
    | UrlAllowed
    | Aspect
    | BackgroundWhite
    | BackgroundUniform
    | MinFill
    | MaxFill
    | TouchesEdge
    | NoBorder
    | MaxBlur
    | NotOverexposed
    | NotUnderexposed
    | NotBlank
    | NotGreyscale
    | NotTransparent
    | NotPlaceholder
    | ImageCode
    | MinImages,
    Field(discriminator="name"),
]

LIMITS: dict[str, type[Strict]] = {
    "min_pixels": MinPixels,
    "max_pixels": MaxPixels,
    "file_size": FileSize,
    "format": FormatAllowed,
    "format_matches_name": FormatMatchesName,
    "url": UrlAllowed,
    "aspect": Aspect,
    "background_white": BackgroundWhite,
    "background_uniform": BackgroundUniform,
    "min_fill": MinFill,
    "max_fill": MaxFill,
    "touches_edge": TouchesEdge,
    "no_border": NoBorder,
    "max_blur": MaxBlur,
    "not_overexposed": NotOverexposed,
    "not_underexposed": NotUnderexposed,
    "not_blank": NotBlank,
    "not_greyscale": NotGreyscale,
    "not_transparent": NotTransparent,
    "not_placeholder": NotPlaceholder,
    "image_code": ImageCode,
    "min_images": MinImages,
}


def check_scope(name: str) -> Scope:
    """Scope of the rules that the check `name` can serve: a picture, or a product's pictures together."""
    return "multi" if name == "min_images" else "single"


def _at_least_one(limits: T, *names: str) -> T:
    if all(getattr(limits, name) is None for name in names):
        raise ValueError(f"no limit is given; name at least one of {', '.join(names)}")
    return limits
