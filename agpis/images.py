"""Encoded bytes to uint8 RGB (H, W, 3), or a reason; and THE one resize.

`decode` answers with a `Picture` or raises ImageError with one of `IMAGE_CODES`; a broken image never becomes a black
one. `letterbox` is used for training and for serving alike. Fetching is in `fetch.py`, what file headers say in
`containers.py`, colour conversion in `colours.py`.

Pillow's plug-in classes are opened by what the bytes say instead of by `Image.open`: that tries plug-ins nobody needs,
and its warnings (decompression bombs, damaged Exif) cannot be silenced safely among threads.
"""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from agpis.colours import Flat, UnsupportedModeError, flatten
from agpis.containers import (
    FORMATS,
    HTML,
    Jpeg,
    animation_frames,
    cut_short,
    declared_size,
    exif_orientation,
    png_lacks_rows,
    read_jpeg,
    sniff,
)
from agpis.data import Box
from agpis.errors import ImageError, SettingsError

Pixels = npt.NDArray[np.uint8]

IMAGE_CODES: dict[str, str] = {
    # decode
    "empty": "There are no bytes.",
    "html": "It is a web page, as shops send for a missing or protected image.",
    "not_an_image": "The bytes are of no known image format.",
    "unsupported_format": "It is an image, but of a format or sample type that is not read (SVG, HEIC, PSD, PDF...).",
    "truncated": "The file or the transfer ends before the picture is complete.",
    "corrupt": "The codec cannot make a picture of the bytes.",
    "animated": "There is more than one frame (GIF, WebP, APNG, AVIF).",
    "zero_size": "Width or height is 0.",
    "too_many_pixels": "Width times height is over the limit, by the header; nothing was decoded.",
    "too_many_bytes": "The encoded file is over the limit; no more than that was read.",
    # fetch: files and locations
    "not_found": "There is no such file or address (also HTTP 404 and 410).",
    "forbidden": "The file may not be read, or the server answered 401 or 403.",
    "not_a_file": "It is a directory, pipe or device.",
    "bad_location": "The text cannot be a path or address.",
    "unsupported_location": "No way is known to read from this kind of address.",
    "read_failed": "The disk or the object store failed while reading.",
    "missing_extra": "The address needs an optional package; the message names the pip command.",
    # fetch: HTTP
    "connect_timeout": "The server did not take the connection in time.",
    "read_timeout": "The server stopped sending, or sent too slowly to be done in time.",
    "connection_failed": "No connection, or it broke, in every attempt (refused, unknown host, TLS, not HTTP).",
    "too_many_redirects": "More redirects than allowed.",
    "redirect_refused": "A redirect to something other than http or https, or to nowhere.",
    "rate_limited": "HTTP 429 in every attempt.",
    "server_error": "HTTP 5xx in every attempt.",
    "http_status": "Any other HTTP status than 200.",
    "bad_encoding": "The body is in a content encoding that is not read, or is not what its header says.",
}
"""Code of an ImageError to what it means. The same table with advice is in docs/errors.md; a test compares them."""


@dataclass(frozen=True, slots=True)
class Size:
    """Width and height in pixels, named so that nobody swaps them."""

    width: int
    height: int

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise SettingsError("bad_size", f"Size needs at least 1 x 1 pixels, got {self.width} x {self.height}.")


@dataclass(frozen=True, slots=True)
class Limits:
    """What fetching and decoding one image may cost."""

    max_bytes: int = 32 * 1024 * 1024
    """Largest encoded file, bytes; also after a content encoding such as gzip is undone."""
    max_pixels: int = 100_000_000
    """Largest width times height, checked in the header before anything is decoded."""
    connect_timeout: float = 10.0
    """Seconds to wait for a connection."""
    read_timeout: float = 20.0
    """Seconds of silence from the server that are put up with."""
    total_timeout: float = 60.0
    """Seconds for one attempt as a whole, redirects included; stops servers that send a byte now and then."""
    redirects: int = 5
    """Redirects that are followed."""
    retries: int = 3
    """Further attempts after HTTP 429, 5xx, time-outs and broken connections."""
    backoff: float = 0.5
    """Seconds before the second attempt; doubled for each later one, times a random factor of 0.5 to 1.5."""
    max_wait: float = 30.0
    """Most seconds to wait between two attempts, also where the server's Retry-After asks for more."""
    per_host: int = 8
    """Requests to one host at a time."""

    def __post_init__(self) -> None:
        for name in ("max_bytes", "max_pixels", "connect_timeout", "read_timeout", "total_timeout", "per_host"):
            if getattr(self, name) <= 0:
                raise SettingsError("bad_limits", f"Limits.{name} must be over 0, got {getattr(self, name)}.")
        for name in ("redirects", "retries", "backoff", "max_wait"):
            if getattr(self, name) < 0:
                raise SettingsError("bad_limits", f"Limits.{name} must be 0 or more, got {getattr(self, name)}.")


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """One decoded image."""

    pixels: Pixels
    """uint8 (H, W, 3), sRGB, upright, alpha over white; read-only. Smaller than the source by a whole factor where
    `decode` had a `target`."""
    width: int
    """Of the source, upright, pixels."""
    height: int
    """Of the source, upright, pixels."""
    format: str
    """What the bytes are, whatever the name says: one of containers.FORMATS."""
    n_bytes: int
    """Length of the encoded file."""
    mode: str = "RGB"
    """Pillow's name of the source's colour mode."""
    transparent: bool = False
    """At least one pixel is not fully opaque."""
    notes: tuple[str, ...] = ()
    """Peculiarities that were dealt with: `16bit`, `cmyk`, `profile_ignored` (ICC profile damaged or for other
    channels), `no_end_marker` (JPEG complete but for its end marker), `first_of_many` (MPO or multi-page TIFF)."""


def decode(data: bytes, *, name: str = "", target: int | None = None, limits: Limits | None = None) -> Picture:
    """Decodes one image file.

    `name` is for error messages only. With `target`, pixels, the picture is made smaller by 2, 4 or 8 as long as its
    shorter side stays at least that (in the codec for JPEG, by averaging else): always the same factor for the same
    size, so that measurements do not depend on the format. Thread-safe. Raises ImageError with one of `IMAGE_CODES`.
    """
    limits = limits or Limits()
    label = name or "image"
    if target is not None and target < 1:
        raise SettingsError("bad_target", f"decode(target=...) must be 1 pixel or more, got {target}.")
    if not data:
        raise ImageError("empty", f"{label}: there are no bytes; export or upload the image again.")
    if len(data) > limits.max_bytes:
        raise ImageError("too_many_bytes", f"{label}: {len(data)} bytes; {limits.max_bytes} are allowed.")
    kind = sniff(data)
    _refuse_foreign(kind, data, label)
    try:
        return _decode(kind, data, label, target, limits)
    except ImageError:
        raise
    except UnsupportedModeError as error:
        raise ImageError(
            "unsupported_format", f"{label}: {kind} with {error} is not read; save it with 8 or 16 bits a sample."
        ) from None
    except MemoryError:
        raise ImageError(
            "too_many_pixels", f"{label}: not enough memory to decode it; lower Limits.max_pixels."
        ) from None
    except Exception as error:
        # A codec fed with hostile bytes raises nearly anything: OSError, SyntaxError, ValueError, struct.error...
        # Which of them it was is in the message; no image may stop a run.
        if "truncated" in str(error).lower() or "end of file" in str(error).lower() or cut_short(kind, data):
            raise _truncated(label, kind, data) from error
        raise ImageError(
            "corrupt", f"{label}: broken {kind} ({type(error).__name__}: {error}); export or upload it again."
        ) from error


def _refuse_foreign(kind: str, data: bytes, label: str) -> None:
    if kind in FORMATS:
        return
    allowed = ", ".join(FORMATS)
    if kind == HTML:
        raise ImageError("html", f"{label}: a web page, not an image; the address may need a login or be gone.")
    if kind:
        raise ImageError("unsupported_format", f"{label}: {kind} is not read; allowed are {allowed}.")
    raise ImageError("not_an_image", f"{label}: starts with {data[:12]!r}, which is none of {allowed}.")


def _truncated(label: str, kind: str, data: bytes) -> ImageError:
    return ImageError(
        "truncated", f"{label}: the {kind} breaks off, {len(data)} bytes are not all of it; upload it again."
    )


def _decode(kind: str, data: bytes, label: str, target: int | None, limits: Limits) -> Picture:
    declared = declared_size(kind, data)
    if declared is not None:
        _check_size(*declared, label, limits)
    if kind == "JPEG":
        return _decode_jpeg(data, label, target, limits)
    if kind == "WEBP" and cut_short(kind, data):
        raise _truncated(label, kind, data)  # the codec would accept some of these
    frames = animation_frames(data) if kind == "PNG" else None
    if frames is not None and frames > 1:
        raise _animated(label, kind)
    with _quiet(needed=kind in ("TIFF", "GIF", "AVIF") or frames is not None):
        image = _PLUGINS[kind](io.BytesIO(data))
    with image, _quiet(needed=kind == "TIFF"):
        _check_size(*image.size, label, limits)
        several = kind != "PNG" and bool(getattr(image, "is_animated", False))  # of PNGs see above
        if several and kind != "TIFF":
            raise _animated(label, kind)
        mode, (width, height) = image.mode, image.size
        deep = mode in ("RGB", "RGBA", "CMYK") and any(";16" in str(tile[3]) for tile in image.tile)
        orientation = 1 if kind == "TIFF" else exif_orientation(image.info.get("exif") or b"")
        interlaced = kind == "PNG" and bool(image.info.get("interlace"))
        image.load()  # a TIFF is turned upright here, and its size already is
        if kind == "PNG" and (interlaced or _ends_black(image)) and png_lacks_rows(data):
            raise _truncated(label, kind, data)
        damaged = "icc_profile" in image.info and not image.info["icc_profile"]
        flat = flatten(image, _factor(width, height, target), image.info.get("icc_profile") or None, deep)
    notes = flat.notes + (("profile_ignored",) if damaged else ()) + (("first_of_many",) if several else ())
    return _picture(flat, orientation, width, height, kind, len(data), mode, notes)


def _decode_jpeg(data: bytes, label: str, target: int | None, limits: Limits) -> Picture:
    jpeg = read_jpeg(data)
    if jpeg is None:
        raise _truncated(label, "JPEG", data) if _cut_in_header(data) else ValueError("its markers make no sense")
    _check_size(jpeg.width, jpeg.height, label, limits)
    if jpeg.bits != 8:
        raise UnsupportedModeError(f"{jpeg.bits} bits a sample")
    if not jpeg.complete:
        raise _truncated(label, "JPEG", data)
    with JpegImagePlugin.JpegImageFile(io.BytesIO(jpeg.stream)) as image:
        mode = image.mode
        factor = _factor(jpeg.width, jpeg.height, target)
        if factor > 1:
            image.draft(None, (jpeg.width // factor, jpeg.height // factor))
        image.load()
        if not jpeg.ended and not _needs_no_more(image, jpeg, factor):
            raise _truncated(label, "JPEG", data)
        damaged = "icc_profile" in image.info and not image.info["icc_profile"]
        flat = flatten(image, profile=image.info.get("icc_profile") or None)
    notes = flat.notes + _jpeg_notes(jpeg, damaged)
    return _picture(flat, jpeg.orientation, jpeg.width, jpeg.height, "JPEG", len(data), mode, notes)


def _ends_black(image: Image.Image) -> bool:
    """Whether the last row is all zero, as it is where the codec got no data for it."""
    return image.crop((0, image.height - 1, image.width, image.height)).getbbox(alpha_only=False) is None


def _needs_no_more(image: Image.Image, jpeg: Jpeg, factor: int) -> bool:
    """Whether `image` does not depend on what might have followed in its file."""
    for stream in jpeg.twins:
        with JpegImagePlugin.JpegImageFile(io.BytesIO(stream)) as twin:
            if factor > 1:
                twin.draft(None, (jpeg.width // factor, jpeg.height // factor))
            if twin.tobytes() != image.tobytes():
                return False
    return True


def _jpeg_notes(jpeg: Jpeg, damaged: bool) -> tuple[str, ...]:
    told = (("profile_ignored", damaged), ("no_end_marker", not jpeg.ended), ("first_of_many", jpeg.several))
    return tuple(note for note, applies in told if applies)


def _cut_in_header(data: bytes) -> bool:
    """Whether a JPEG whose header cannot be read has no scan at all."""
    return b"\xff\xda" not in data


def _picture(
    flat: Flat, orientation: int, width: int, height: int, kind: str, n_bytes: int, mode: str, notes: tuple[str, ...]
) -> Picture:
    """`width` and `height` are as stored; orientations 5 to 8 swap them."""
    image = flat.image
    if orientation in _UPRIGHT:
        image = image.transpose(_UPRIGHT[orientation])
    if orientation >= 5:
        width, height = height, width
    return Picture(np.asarray(image), width, height, kind, n_bytes, mode, flat.transparent, notes)


def _factor(width: int, height: int, target: int | None) -> int:
    """Largest of 8, 4, 2, 1 (the scales of JPEG's inverse DCT) that keeps the shorter side at `target` or more."""
    if target is None:
        return 1
    return next((f for f in (8, 4, 2) if min(width, height) // f >= target), 1)


def _check_size(width: int, height: int, label: str, limits: Limits) -> None:
    if width < 1 or height < 1:
        raise ImageError("zero_size", f"{label}: {width} x {height} pixels; at least 1 x 1 is needed.")
    if width * height > limits.max_pixels:
        raise ImageError(
            "too_many_pixels",
            f"{label}: {width} x {height} = {width * height} pixels; {limits.max_pixels} are allowed. Make it smaller.",
        )


def _animated(label: str, kind: str) -> ImageError:
    return ImageError("animated", f"{label}: an animated {kind}; give a still image.")


_PLUGINS: dict[str, type[ImageFile.ImageFile]] = {
    "PNG": PngImagePlugin.PngImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "AVIF": AvifImagePlugin.AvifImageFile,
}

# How to turn an image that is stored with Exif orientation N.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_warnings_lock = threading.Lock()


@contextmanager
def _quiet(*, needed: bool) -> Iterator[None]:
    """Keeps Pillow's remarks on metadata from stderr. `warnings` is global: one thread at a time, rare formats only."""
    if not needed:
        yield
        return
    with _warnings_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@dataclass(frozen=True, slots=True)
class Placement:
    """Where an image lies in its letterbox, pixels of the letterbox."""

    scale: float
    """Letterbox pixels a source pixel, before rounding to whole pixels."""
    left: int
    top: int
    width: int
    """Of the image inside the padding, whole pixels."""
    height: int

    def to_source(self, x: float, y: float, w: float, h: float, width: int, height: int) -> Box:
        """Maps a rectangle of the letterbox back to a source of `width` x `height` pixels: rounded, clipped, at least
        1 x 1. What lies wholly in the padding becomes the nearest edge."""
        across, down = width / self.width, height / self.height
        x0 = min(max(round((x - self.left) * across), 0), width - 1)
        y0 = min(max(round((y - self.top) * down), 0), height - 1)
        x1 = min(max(round((x + w - self.left) * across), x0 + 1), width)
        y1 = min(max(round((y + h - self.top) * down), y0 + 1), height)
        return Box(x0, y0, x1 - x0, y1 - y0)


def placement(width: int, height: int, size: Size) -> Placement:
    """Where `letterbox` puts an image of `width` x `height` pixels: aspect kept, as large as fits, centred."""
    scale = min(size.width / width, size.height / height)
    inner_width = min(size.width, max(1, round(width * scale)))
    inner_height = min(size.height, max(1, round(height * scale)))
    return Placement(
        scale, (size.width - inner_width) // 2, (size.height - inner_height) // 2, inner_width, inner_height
    )


def letterbox(pixels: Pixels, size: Size, fill: int = 255) -> Pixels:
    """THE one resize. uint8 (H, W, 3) to a new uint8 (size.height, size.width, 3), padded with `fill`.

    Antialiased bilinear: a triangle filter as wide as the reduction, over all source pixels (Pillow's BILINEAR without
    `reducing_gap`, so that the result changes smoothly with the source's size). Small images are enlarged.
    """
    height, width = pixels.shape[:2]
    place = placement(width, height, size)
    image = Image.fromarray(pixels)
    if (place.width, place.height) != (width, height):
        image = image.resize((place.width, place.height), Image.Resampling.BILINEAR)
    canvas = np.full((size.height, size.width, 3), fill, np.uint8)
    canvas[place.top : place.top + place.height, place.left : place.left + place.width] = np.asarray(image)
    return canvas


def thumbnail(pixels: Pixels, longest: int = 160) -> bytes:
    """Small WebP of uint8 (H, W, 3) for the report; longer side at most `longest` pixels, never enlarged."""
    height, width = pixels.shape[:2]
    image = Image.fromarray(pixels)
    if max(width, height) > longest:
        scale = longest / max(width, height)
        small = (max(1, round(width * scale)), max(1, round(height * scale)))
        image = image.resize(small, Image.Resampling.BILINEAR, reducing_gap=1.0)
    out = io.BytesIO()
    image.save(out, "WEBP", quality=75, method=2)
    return out.getvalue()
