"""Decoding, the one resize, and what broken files are called."""

from __future__ import annotations

import hashlib
import io
import math
import pickle
import re
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageCms, ImageFile

from agpis.containers import FORMATS, exif_orientation, read_jpeg, sniff
from agpis.errors import ImageError, SettingsError
from agpis.images import IMAGE_CODES, Limits, Picture, Size, decode, letterbox, placement, thumbnail

ROOT = Path(__file__).resolve().parent.parent
Array = npt.NDArray[Any]


def drawn(width: int = 64, height: int = 48, seed: int = 0) -> Array:
    """uint8 (height, width, 3): smooth colours, so that lossy codecs keep them."""
    coarse = np.random.default_rng(seed).integers(20, 236, (4, 5, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def encoded(image: Array | Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(out, kind, **options)
    return out.getvalue()


def off_by(picture: Picture, expected: Array) -> int:
    assert picture.pixels.shape == expected.shape
    return int(np.abs(picture.pixels.astype(int) - expected.astype(int)).max())


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(width: int, height: int, bits: int, colour: int, rows: bytes, *extra: bytes, interlaced: int = 0) -> bytes:
    """A PNG written by hand: bits a sample, colour type, and rows that each start with filter 0."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlaced)
    parts = (chunk(b"IHDR", header), *extra, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


# Formats


@pytest.mark.parametrize(
    ("kind", "options", "tolerance"),
    [
        ("PNG", {}, 0),
        ("BMP", {}, 0),
        ("TIFF", {}, 0),
        ("TIFF", {"compression": "tiff_lzw"}, 0),
        ("TIFF", {"compression": "tiff_adobe_deflate"}, 0),
        ("TIFF", {"compression": "jpeg", "quality": 95}, 12),
        ("WEBP", {"lossless": True}, 0),
        ("WEBP", {"quality": 95}, 12),
        ("JPEG", {"quality": 95, "subsampling": 0}, 8),
        ("JPEG", {"quality": 95, "subsampling": 0, "progressive": True}, 8),
        ("JPEG", {"quality": 95, "subsampling": 0, "restart_marker_blocks": 2}, 8),
        ("AVIF", {"quality": 95, "subsampling": "4:4:4"}, 12),
        ("GIF", {}, 64),
    ],
)
def test_formats(kind: str, options: dict[str, Any], tolerance: int) -> None:
    source = drawn()
    data = encoded(source, kind, **options)
    picture = decode(data, name=f"a.{kind}")
    assert off_by(picture, source) <= tolerance
    assert (picture.width, picture.height, picture.format, picture.n_bytes) == (64, 48, kind, len(data))
    assert picture.pixels.dtype == np.uint8
    assert not picture.transparent
    assert picture.notes == ()


def test_the_name_does_not_decide() -> None:
    assert decode(encoded(drawn(), "PNG"), name="a.jpg").format == "PNG"


def test_sniff_knows_what_is_read() -> None:
    assert {sniff(encoded(drawn(), kind)) for kind in FORMATS} == set(FORMATS)


def test_pixels_are_read_only() -> None:
    with pytest.raises(ValueError, match="read-only"):
        decode(encoded(drawn())).pixels[0, 0, 0] = 1


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(kind: str, orientation: int) -> None:
    upright = np.full((32, 48, 3), 255, np.uint8)
    upright[:16, :24] = (255, 0, 0)
    upright[:16, 24:] = (0, 255, 0)
    upright[16:, :24] = (0, 0, 255)
    # How a camera stores it, from Exif 2.32 4.6.4: where the 0th row and column of what is stored lie.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: upright.transpose(1, 0, 2)[::-1],
        7: upright.transpose(1, 0, 2)[::-1, ::-1],
        8: upright.transpose(1, 0, 2)[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, Any] = {"PNG": {}, "TIFF": {"compression": "tiff_lzw"}}.get(kind, {"quality": 95})
    picture = decode(encoded(np.ascontiguousarray(stored), kind, exif=exif.tobytes(), **options))
    assert (picture.width, picture.height) == (48, 32)
    for y, x, colour in ((4, 4, (255, 0, 0)), (4, 40, (0, 255, 0)), (28, 4, (0, 0, 255)), (28, 40, (255, 255, 255))):
        assert np.abs(picture.pixels[y, x].astype(int) - colour).max() <= 12, (y, x)


def test_orientation_of_damaged_exif() -> None:
    good = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    assert exif_orientation(good) == 6
    assert exif_orientation(b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x03\0\0\0") == 3
    for length in range(len(good) - 8):
        assert exif_orientation(good[:length]) in (1, 6)
    assert exif_orientation(good.replace(b"\0\x06", b"\0\x09")) == 1
    assert exif_orientation(b"Exif\0\0MM\0*\xff\xff\xff\xff") == 1
    source = drawn()
    data = encoded(source, "JPEG", quality=95, subsampling=0)
    segment = b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x1a\x01\x05\0\xff\xff\xff\xff\xff\xff\xff\xff" * 3
    picture = decode(data[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + data[2:])
    assert off_by(picture, source) <= 8


# Modes


@pytest.mark.parametrize(
    ("mode", "kind"), [("RGBA", "PNG"), ("RGBA", "WEBP"), ("RGBA", "TIFF"), ("LA", "PNG"), ("RGBA", "AVIF")]
)
def test_alpha_lies_over_white(mode: str, kind: str) -> None:
    source = Image.fromarray(drawn()).convert(mode)
    alpha = np.linspace(0, 255, 64).astype(np.uint8)[None].repeat(48, 0)
    source.putalpha(Image.fromarray(alpha))
    options: dict[str, Any] = {"WEBP": {"lossless": True, "exact": True}, "AVIF": {"quality": 100}}.get(kind, {})
    picture = decode(encoded(source, kind, **options))
    colour = np.asarray(source.convert("RGBA"), float)[..., :3]
    expected = colour * (alpha[..., None] / 255) + 255 - alpha[..., None]
    assert off_by(picture, np.round(expected)) <= (6 if kind == "AVIF" else 1)
    assert picture.transparent
    assert picture.mode == mode


def test_opaque_alpha_is_not_transparent() -> None:
    source = Image.fromarray(drawn()).convert("RGBA")
    picture = decode(encoded(source))
    assert not picture.transparent
    assert off_by(picture, drawn()) == 0


def test_colour_under_invisible_pixels_does_not_bleed_when_reduced() -> None:
    array = np.zeros((64, 64, 4), np.uint8)
    array[:, 1::2] = (200, 100, 50, 255)  # every other column visible, the rest black and invisible
    picture = decode(encoded(array), target=32)
    assert picture.pixels.shape == (32, 32, 3)
    assert np.abs(picture.pixels.astype(int) - (228, 178, 152)).max() <= 2  # half (200, 100, 50), half white


@pytest.mark.parametrize("transparency", [None, 3, bytes([255, 0, 128, 255])])
def test_palette(transparency: int | bytes | None) -> None:
    colours = [(250, 0, 0), (0, 250, 0), (0, 0, 250), (9, 9, 9)]
    image = Image.new("P", (4, 1))
    image.putpalette([level for colour in colours for level in colour])
    image.putdata([0, 1, 2, 3])
    options = {} if transparency is None else {"transparency": transparency}
    picture = decode(encoded(image, **options))
    alphas = {None: (1, 1, 1, 1), 3: (1, 1, 1, 0)}.get(transparency, (1, 0, 128 / 255, 1))
    expected = [[c * a + 255 * (1 - a) for c in colour] for colour, a in zip(colours, alphas, strict=True)]
    assert off_by(picture, np.round([expected])) <= 1
    assert picture.transparent == (transparency is not None)
    assert picture.mode == "P"


def test_transparent_gif() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([200, 0, 0, 0, 200, 0])
    image.putdata([0, 1])
    picture = decode(encoded(image, "GIF", transparency=1))
    assert picture.pixels.tolist() == [[[200, 0, 0], [255, 255, 255]]]
    assert picture.transparent


def test_grey_with_one_transparent_level() -> None:
    picture = decode(png(3, 1, 8, 0, b"\0\x0a\x14\x1e", chunk(b"tRNS", b"\0\x14")))
    assert picture.pixels[0, :, 0].tolist() == [10, 255, 30]
    assert picture.transparent


def test_one_bit() -> None:
    array = np.array([[True, False, True]])
    for kind in ("PNG", "TIFF", "BMP"):
        assert decode(encoded(Image.fromarray(array), kind)).pixels[0, :, 0].tolist() == [255, 0, 255]


def test_sixteen_bit_is_scaled() -> None:
    values = np.array([[0, 128, 257, 1000, 32768, 65278, 65535]], np.uint16)
    expected = np.round(values / 65535 * 255)[..., None].repeat(3, 2)
    for kind in ("PNG", "TIFF"):
        picture = decode(encoded(values, kind))
        assert off_by(picture, expected) == 0, kind
        assert picture.notes == ("16bit",)
    big_endian = Image.frombytes("I;16B", (7, 1), values.astype(">u2").tobytes())
    assert off_by(decode(encoded(big_endian, "TIFF")), expected) == 0
    ok, data = cv2.imencode(".png", values[..., None].repeat(3, 2))
    assert ok
    picture = decode(data.tobytes())
    assert off_by(picture, expected) <= 1
    assert picture.notes == ("16bit",)
    ok, data = cv2.imencode(".tiff", values[..., None].repeat(3, 2))
    assert ok
    assert off_by(decode(data.tobytes()), expected) <= 1


def test_sixteen_bit_transparency() -> None:
    row = struct.pack(">3H", 1000, 30000, 65535)
    picture = decode(png(3, 1, 16, 0, b"\0" + row, chunk(b"tRNS", struct.pack(">H", 30000))))
    assert picture.pixels[0, :, 0].tolist() == [4, 255, 255]
    assert picture.transparent
    row = struct.pack(">6H", 1000, 2000, 3000, 40000, 40000, 40000)
    picture = decode(png(2, 1, 16, 2, b"\0" + row, chunk(b"tRNS", struct.pack(">3H", 40000, 40000, 40000))))
    assert picture.transparent
    assert off_by(picture, np.array([[[4, 8, 12], [255, 255, 255]]])) <= 1


def test_sixteen_bit_white_is_zero() -> None:
    values = np.array([[0, 65535, 13107]], np.uint16)
    data = encoded(Image.fromarray(values), "TIFF", tiffinfo={262: 0})
    assert decode(data).pixels[0, :, 0].tolist() == [255, 0, 204]


def test_float_and_32_bit_are_refused() -> None:
    for array in (np.zeros((2, 2), np.float32), np.zeros((2, 2), np.int32)):
        refuse(encoded(array, "TIFF"), "unsupported_format", "TIFF with 32-bit or floating-point samples is not read")


def cmyk() -> Image.Image:
    steps = np.stack([np.linspace(0, 255, 64), np.linspace(255, 0, 64), np.full(64, 30), np.linspace(0, 90, 64)], -1)
    return Image.fromarray(np.round(steps).astype(np.uint8)[None].repeat(48, 0), "CMYK")


@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated")
def test_cmyk() -> None:
    ink = np.asarray(cmyk(), float)
    expected = (255 - ink[..., :3]) * (255 - ink[..., 3:]) / 255
    for kind, options in (("TIFF", {}), ("JPEG", {"quality": 97})):
        picture = decode(encoded(cmyk(), kind, **options))
        assert off_by(picture, np.round(expected)) <= (1 if kind == "TIFF" else 8)
        assert picture.notes == ("cmyk",)
        assert picture.mode == "CMYK"
    # Pillow, like Photoshop, stores CMYK JPEGs inverted under an Adobe marker
    assert b"Adobe" in encoded(cmyk(), "JPEG")


# Colour profiles


def profile(kind: str) -> bytes:
    return bytes(ImageCms.ImageCmsProfile(ImageCms.createProfile(kind)).tobytes())


def swapped_profile(*, gamma: float | None = None) -> bytes:
    """An RGB matrix profile: sRGB with red's and green's primaries exchanged, or with another gamma."""
    data = bytearray(profile("sRGB"))
    count = struct.unpack_from(">I", data, 128)[0]
    tags = {bytes(data[132 + 12 * i : 136 + 12 * i]): 132 + 12 * i for i in range(count)}
    if gamma is None:
        red, green = tags[b"rXYZ"], tags[b"gXYZ"]
        data[red + 4 : red + 12], data[green + 4 : green + 12] = data[green + 4 : green + 12], data[red + 4 : red + 12]
        return bytes(data)
    curve = b"curv\0\0\0\0\0\0\0\x01" + struct.pack(">H", round(gamma * 256)) + b"\0\0"
    for name in (b"rTRC", b"gTRC", b"bTRC"):
        struct.pack_into(">II", data, tags[name] + 4, len(data), 14)
    data += curve
    struct.pack_into(">I", data, 0, len(data))
    return bytes(data)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_profile_is_applied(kind: str) -> None:
    red = np.zeros((16, 16, 3), np.uint8)
    red[:] = (255, 0, 0)
    options: dict[str, Any] = {"JPEG": {"quality": 98, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
    picture = decode(encoded(red, kind, icc_profile=swapped_profile(), **options))
    assert np.abs(picture.pixels[8, 8].astype(int) - (0, 255, 0)).max() <= 8
    assert picture.notes == ()


def test_profile_gamma_and_white() -> None:
    grey = np.array([[[0, 0, 0], [64, 64, 64], [128, 128, 128], [255, 255, 255]]], np.uint8)
    picture = decode(encoded(grey, icc_profile=swapped_profile(gamma=1.0)))
    # linear light to sRGB (IEC 61966-2-1): 1.055 v^(1/2.4) - 0.055
    expected = [0 if v == 0 else 255 * (1.055 * (v / 255) ** (1 / 2.4) - 0.055) for v in (0, 64, 128, 255)]
    assert np.abs(picture.pixels[0, :, 0] - np.array(expected)).max() <= 2
    assert picture.pixels[0, 3].tolist() == [255, 255, 255], "white stays white, or background checks fail"


def test_srgb_profile_changes_nothing() -> None:
    picture = decode(encoded(drawn(), icc_profile=profile("sRGB")))
    assert off_by(picture, drawn()) == 0
    assert picture.notes == ()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("damage", ["garbage", "cut", "lab"])
def test_damaged_profile_is_noted(kind: str, damage: str) -> None:
    bad = {"garbage": b"no profile" * 20, "cut": swapped_profile()[:300], "lab": profile("LAB")}[damage]
    options: dict[str, Any] = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
    picture = decode(encoded(drawn(), kind, icc_profile=bad, **options))
    assert off_by(picture, drawn()) <= 8
    assert picture.notes == ("profile_ignored",)


def test_profile_for_other_channels() -> None:
    grey = Image.fromarray(drawn()).convert("L")
    data = encoded(grey, icc_profile=swapped_profile(gamma=1.0))  # an RGB profile on a grey picture is put to use
    assert decode(data).pixels.mean() > np.asarray(grey).mean() + 10
    picture = decode(encoded(cmyk(), "TIFF", icc_profile=profile("sRGB")))
    assert picture.notes == ("cmyk", "profile_ignored")


def test_png_profile_that_does_not_unpack() -> None:
    data = encoded(drawn())
    broken = chunk(b"iCCP", b"name\0\0not zlib at all")
    picture = decode(data[:33] + broken + data[33:])
    assert off_by(picture, drawn()) == 0


def test_profile_under_alpha_leaves_white_alone() -> None:
    array = np.zeros((8, 8, 4), np.uint8)
    array[:4] = (255, 0, 0, 255)
    picture = decode(encoded(array, icc_profile=swapped_profile()))
    assert np.abs(picture.pixels[0, 0].astype(int) - (0, 255, 0)).max() <= 4
    assert picture.pixels[7, 7].tolist() == [255, 255, 255]


# Reduced scale


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize(
    ("width", "height", "target", "factor"),
    [(640, 480, None, 1), (640, 480, 481, 1), (640, 480, 240, 2), (640, 480, 241, 1), (643, 481, 60, 8),
     (643, 481, 61, 4), (481, 643, 120, 4), (40, 900, 20, 2), (7, 7, 1, 4), (5, 3, 1, 2), (4000, 33, 4, 8)],
)  # fmt: skip
def test_reduced_scale(kind: str, width: int, height: int, target: int | None, factor: int) -> None:
    options: dict[str, Any] = {"quality": 95, "subsampling": 0} if kind == "JPEG" else {}
    source = drawn(width, height)
    picture = decode(encoded(source, kind, **options), target=target)
    assert (picture.width, picture.height) == (width, height)
    assert picture.pixels.shape == (math.ceil(height / factor), math.ceil(width / factor), 3)
    assert target is None or min(picture.pixels.shape[:2]) >= min(target, width, height)
    whole = source[: height // factor * factor, : width // factor * factor].astype(float)
    means = whole.reshape(height // factor, factor, width // factor, factor, 3).mean((1, 3))
    got = picture.pixels[: height // factor, : width // factor]
    assert np.abs(got - means).mean() < 3


def test_target_that_cannot_be_meant() -> None:
    with pytest.raises(SettingsError, match="must be 1 pixel or more, got 0"):
        decode(encoded(drawn()), target=0)


# Broken input


def refuse(data: bytes, code: str, match: str, limits: Limits | None = None) -> None:
    with pytest.raises(ImageError, match=match) as caught:
        decode(data, name="shoe.jpg", limits=limits)
    assert caught.value.code == code
    assert code in IMAGE_CODES
    assert str(caught.value).startswith("shoe.jpg: ")


def noise(kind: str, **options: Any) -> bytes:
    return encoded(np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8), kind, **options)


def frames(kind: str, **options: Any) -> bytes:
    pictures = [Image.fromarray(drawn(seed=seed)) for seed in range(3)]
    return encoded(pictures[0], kind, save_all=True, append_images=pictures[1:], **options)


def jpeg_without_scans(kept: int) -> bytes:
    """A progressive JPEG that lost all scans but the first `kept`, closed with an end marker."""
    data = noise("JPEG", progressive=True)
    starts = [found.start() for found in re.finditer(rb"\xff[\xc4\xda]", data)]
    scans = [at for at in starts if data[at + 1] == 0xDA]
    following = next(at for at in starts if at > scans[kept - 1])
    return data[:following] + b"\xff\xd9"


HTML_PAGES = (
    b"<!DOCTYPE html><html><body>Please log in</body></html>",
    b"\xef\xbb\xbf \r\n<HTML><head><title>404</title></head></HTML>",
    b"<?xml version='1.0'?><!DOCTYPE html PUBLIC '-//W3C//DTD XHTML 1.0'><html></html>",
    b"<!-- cached --><html>gone</html>",
    "<html>gone</html>".encode("utf-16"),
)

BROKEN: dict[str, tuple[Callable[[], bytes], str, str]] = {
    "nothing": (lambda: b"", "empty", "there are no bytes; export or upload"),
    "text": (lambda: b"image not available", "not_an_image", "starts with b'image not av', which is none of JPEG, PNG"),
    "text that starts like a bitmap": (lambda: b"BMW parts, all series", "not_an_image", "none of JPEG"),
    "json": (lambda: b'{"error": "expired"}', "not_an_image", "none of JPEG"),
    "zeros": (lambda: bytes(5000), "not_an_image", "none of JPEG"),
    "store's error": (lambda: b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "not_an_image", "none"),
    **{
        f"html {i}": ((lambda page=page: page), "html", "a web page, not an image") for i, page in enumerate(HTML_PAGES)
    },
    "svg": (lambda: b"<?xml version='1.0'?>\n<svg xmlns='x'/>", "unsupported_format", "SVG is not read; allowed are"),
    "heic": (lambda: b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "unsupported_format", "HEIF is not read"),
    "heif": (lambda: b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "unsupported_format", "HEIF is not read"),
    "psd": (lambda: b"8BPS\0\x01" + bytes(30), "unsupported_format", "PSD is not read"),
    "pdf": (lambda: b"%PDF-1.7\n", "unsupported_format", "PDF is not read"),
    "eps": (lambda: b"%!PS-Adobe-3.0", "unsupported_format", "EPS is not read"),
    "jpeg 2000": (lambda: encoded(drawn(), "JPEG2000"), "unsupported_format", "JPEG2000 is not read"),
    "icon": (lambda: encoded(drawn(), "ICO"), "unsupported_format", "ICO is not read"),
    "video": (lambda: b"\0\0\0\x18ftypisom\0\0\0\0isommp42", "unsupported_format", "MPEG-4 video is not read"),
    "zip": (lambda: b"PK\x03\x04" + bytes(30), "unsupported_format", "ZIP archive is not read"),
    "12-bit jpeg": (
        lambda: noise("JPEG").replace(b"\xff\xc0\0\x11\x08", b"\xff\xc0\0\x11\x0c"),
        "unsupported_format",
        "JPEG with 12 bits a sample is not read",
    ),
    "jpeg start only": (lambda: b"\xff\xd8\xff", "truncated", "the JPEG breaks off, 3 bytes are not all of it"),
    "jpeg cut in its header": (lambda: noise("JPEG")[:300], "truncated", "the JPEG breaks off"),
    "jpeg cut at a half": (lambda: noise("JPEG")[: len(noise("JPEG")) // 2], "truncated", "the JPEG breaks off"),
    "jpeg cut near its end": (lambda: noise("JPEG")[:-40], "truncated", "the JPEG breaks off"),
    "jpeg cut, then closed": (lambda: noise("JPEG")[:4000] + b"\xff\xd9", "truncated", "the JPEG breaks off"),
    "jpeg cut, then zeros": (lambda: noise("JPEG")[:700] + b"\xff\xd9" + bytes(9000), "truncated", "breaks off"),
    "progressive cut": (lambda: noise("JPEG", progressive=True)[:-2000], "truncated", "the JPEG breaks off"),
    "progressive without its last scans": (lambda: jpeg_without_scans(5), "truncated", "the JPEG breaks off"),
    "progressive with its first scan": (lambda: jpeg_without_scans(1), "truncated", "the JPEG breaks off"),
    "jpeg of nonsense": (lambda: b"\xff\xd8\xff\xdb\0\x01\xff\xda" + bytes(400), "corrupt", "broken JPEG"),
    "jpeg without tables": (
        lambda: re.sub(rb"\xff\xdb\0\x43.{65}", b"", noise("JPEG"), flags=re.DOTALL),
        "corrupt",
        "broken JPEG",
    ),
    "jpeg of height 0": (
        lambda: noise("JPEG").replace(b"\xff\xc0\0\x11\x08\0\x60", b"\xff\xc0\0\x11\x08\0\0"),
        "zero_size",
        "96 x 0 pixels; at least 1 x 1",
    ),
    "png cut in its header": (lambda: noise("PNG")[:20], "truncated", "the PNG breaks off"),
    "png cut at a half": (lambda: noise("PNG")[: len(noise("PNG")) // 2], "truncated", "the PNG breaks off"),
    "png without data": (lambda: noise("PNG")[:33] + chunk(b"IEND", b""), "corrupt", "broken PNG"),
    "png with damaged data": (
        lambda: noise("PNG")[:60] + bytes(200) + noise("PNG")[260:],
        "corrupt",
        "broken PNG",
    ),
    "png with too few rows": (lambda: png(9, 9, 8, 0, bytes(30)), "truncated", "the PNG breaks off"),
    "interlaced png with too few rows": (
        lambda: png(9, 9, 8, 0, bytes(30), interlaced=1),
        "truncated",
        "the PNG breaks off",
    ),
    "png of width 0": (lambda: png(0, 5, 8, 0, b""), "zero_size", "0 x 5 pixels"),
    "gif cut": (lambda: noise("GIF")[:2000], "truncated", "the GIF breaks off"),
    "gif cut in its header": (lambda: noise("GIF")[:8], "truncated", "the GIF breaks off"),
    "gif of size 0": (lambda: b"GIF89a" + bytes(10) + b";", "zero_size", "0 x 0 pixels"),
    "webp cut": (lambda: noise("WEBP")[:-100], "truncated", "the WEBP breaks off"),
    "webp with damaged data": (
        lambda: noise("WEBP", lossless=True)[:25] + bytes(20000) + noise("WEBP", lossless=True)[20025:],
        "corrupt",
        "broken WEBP",
    ),
    "avif cut": (lambda: noise("AVIF")[:-500], "truncated", "the AVIF breaks off"),
    "avif with damaged data": (
        lambda: re.sub(rb"(mdat).{60}", rb"\1" + b"\xff" * 60, noise("AVIF"), flags=re.DOTALL),
        "corrupt",
        "broken AVIF",
    ),
    "bmp cut": (lambda: noise("BMP")[:-500], "truncated", "the BMP breaks off"),
    "tiff cut": (lambda: noise("TIFF")[:-500], "truncated", "the TIFF breaks off"),
    "tiff of nonsense": (lambda: b"II*\0" + b"\xff" * 40, "corrupt", "broken TIFF"),
    "lzw tiff with damaged data": (
        lambda: (lambda d: d[:500] + bytes(9000) + d[9500:])(noise("TIFF", compression="tiff_lzw")),
        "corrupt",
        "broken TIFF",
    ),
    "animated gif": (lambda: frames("GIF"), "animated", "an animated GIF; give a still image"),
    "animated webp": (lambda: frames("WEBP"), "animated", "an animated WEBP"),
    "animated png": (lambda: frames("PNG"), "animated", "an animated PNG"),
    "animated avif": (lambda: frames("AVIF"), "animated", "an animated AVIF"),
    "png bomb": (lambda: png(60000, 60000, 1, 0, b""), "too_many_pixels", "3600000000 pixels; 100000000 are allowed"),
    "jpeg bomb": (
        lambda: noise("JPEG").replace(b"\xff\xc0\0\x11\x08\0\x60\0\x60", b"\xff\xc0\0\x11\x08\xff\xff\xff\xff"),
        "too_many_pixels",
        "65535 x 65535",
    ),
    "gif bomb": (lambda: b"GIF89a\xff\xff\xff\xff" + noise("GIF")[10:], "too_many_pixels", "65535 x 65535"),
    "webp bomb": (
        lambda: b"RIFF\xff\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\xff\x3f\0\xff\x3f\0",
        "too_many_pixels",
        "16384 x 16384",
    ),
    "tiff bomb": (lambda: tiff_of(50000, 50000), "too_many_pixels", "50000 x 50000"),
    "bmp bomb": (
        lambda: noise("BMP")[:18] + struct.pack("<ii", 99999, -99998) + noise("BMP")[26:],
        "too_many_pixels",
        "99999 x 99998",
    ),
}  # fmt: skip


def tiff_of(width: int, height: int) -> bytes:
    tags = ((256, width), (257, height), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, height), (279, 10))
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(20)


@pytest.mark.parametrize("case", BROKEN)
def test_broken_input(case: str, capfd: pytest.CaptureFixture[str]) -> None:
    make, code, match = BROKEN[case]
    refuse(make(), code, match)
    if not case.startswith("lzw tiff"):  # libtiff writes there itself
        assert capfd.readouterr() == ("", ""), "codecs must not write to the terminal"


def test_byte_limit() -> None:
    data = noise("PNG")
    refuse(data, "too_many_bytes", f"{len(data)} bytes; 1000 are allowed", Limits(max_bytes=1000))
    assert decode(data, limits=Limits(max_bytes=len(data))).width == 96


def test_pixel_limit_of_a_small_picture() -> None:
    for kind in FORMATS:
        refuse(noise(kind), "too_many_pixels", "96 x 96 = 9216 pixels; 9215 are allowed", Limits(max_pixels=9215))
        assert decode(noise(kind), limits=Limits(max_pixels=9216)).width == 96


def code_or_picture(data: bytes) -> str | Picture:
    try:
        return decode(data, limits=Limits(max_pixels=1_000_000))
    except ImageError as error:
        return error.code


@pytest.mark.parametrize("kind", [*FORMATS, "progressive"])
def test_every_cut_is_told(kind: str) -> None:
    """Wherever a file is cut, it is either refused or still the whole picture."""
    data = noise("JPEG", progressive=True) if kind == "progressive" else noise(kind)
    whole = decode(data).pixels
    cuts = {*np.linspace(1, len(data) - 1, 60).astype(int).tolist(), *range(len(data) - 60, len(data))}
    for cut in sorted(cuts):
        answer = code_or_picture(data[:cut])
        if isinstance(answer, Picture):
            np.testing.assert_array_equal(answer.pixels, whole)
        else:
            assert answer in ("truncated", "corrupt", "not_an_image", "unsupported_format"), cut


@pytest.mark.parametrize("kind", FORMATS)
def test_flipped_bytes_never_crash(kind: str) -> None:
    data = encoded(drawn(), kind)
    random = np.random.default_rng(1)
    for _ in range(80):
        damaged = bytearray(data)
        for at in random.integers(0, len(data), 3):
            damaged[at] = random.integers(256)
        answer = code_or_picture(bytes(damaged))
        assert isinstance(answer, Picture) or answer in IMAGE_CODES


# What common tools tolerate


def test_jpeg_with_something_behind_it() -> None:
    data = noise("JPEG", quality=90)
    whole = decode(data).pixels
    for tail in (b"\0" * 100, b"<!-- footer -->", noise("JPEG", quality=20), b"\xff\xd9"):
        picture = decode(data + tail)
        np.testing.assert_array_equal(picture.pixels, whole)
        assert picture.notes == ()


def test_jpeg_that_lacks_only_its_end_marker() -> None:
    data = noise("JPEG")
    assert data.endswith(b"\xff\xd9")
    picture = decode(data[:-2])
    np.testing.assert_array_equal(picture.pixels, decode(data).pixels)
    assert picture.notes == ("no_end_marker",)


def test_jpeg_with_a_preview_in_its_exif() -> None:
    preview = encoded(np.zeros((16, 16, 3), np.uint8), "JPEG")
    data = noise("JPEG")
    segment = b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0" + preview
    held = data[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + data[2:]
    np.testing.assert_array_equal(decode(held).pixels, decode(data).pixels)
    refuse(held[:-1000] + b"\xff\xd9", "truncated", "breaks off")


def test_jpeg_with_stray_bytes_between_segments() -> None:
    data = noise("JPEG")
    np.testing.assert_array_equal(decode(data[:20] + b"\0\0\0\xff" + data[20:]).pixels, decode(data).pixels)


def test_sequential_jpeg_in_several_scans() -> None:
    ok, data = cv2.imencode(".jpg", drawn()[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
    assert ok
    parsed = read_jpeg(data.tobytes())
    assert parsed is not None
    assert parsed.complete
    assert off_by(decode(data.tobytes()), drawn()) <= 12


def test_multi_picture_jpeg_of_a_phone() -> None:
    pictures = [Image.fromarray(drawn(seed=seed)) for seed in range(2)]
    data = encoded(pictures[0], "MPO", save_all=True, append_images=pictures[1:], quality=95, subsampling=0)
    picture = decode(data)
    assert off_by(picture, drawn(seed=0)) <= 8
    assert picture.format == "JPEG"
    assert picture.notes == ("first_of_many",)
    np.testing.assert_array_equal(decode(data[:-200]).pixels, picture.pixels)


def test_tiff_of_several_pages() -> None:
    picture = decode(frames("TIFF"))
    assert off_by(picture, drawn(seed=0)) == 0
    assert picture.notes == ("first_of_many",)


def test_single_frame_of_an_animation_format() -> None:
    actl = chunk(b"acTL", struct.pack(">II", 1, 0))
    data = encoded(drawn())
    assert off_by(decode(data[:33] + actl + data[33:]), drawn()) == 0
    damaged = chunk(b"acTL", struct.pack(">II", 0, 0))
    assert off_by(decode(data[:33] + damaged + data[33:]), drawn()) == 0


def test_tiff_with_damaged_tags_warns_nobody() -> None:
    data = bytearray(encoded(drawn(), "TIFF", description="a long description of the shoe"))
    at = data.find(struct.pack("<HH", 270, 2))
    struct.pack_into("<I", data, at + 4, 0x00FFFFFF)  # longer than the whole file
    assert off_by(decode(bytes(data)), drawn()) == 0


def test_truncation_setting_of_others_is_left_alone() -> None:
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


def test_threads_get_the_same_pixels() -> None:
    files = [
        encoded(drawn(200, 150, seed), kind, icc_profile=swapped_profile(gamma=1.0 + seed / 10))
        for seed in range(4)
        for kind in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF")
    ]
    alone = [decode(data, target=70).pixels for data in files]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            for a, b in zip(alone, pool.map(lambda data: decode(data, target=70), files), strict=True):
                np.testing.assert_array_equal(a, b.pixels)


@pytest.mark.shared
def test_shared_catalogues_decode_like_pillow(shared_data: Path) -> None:
    paths = sorted(shared_data.glob("*/images/**/*.jpg"))[::60]
    assert len(paths) >= 40
    for path in paths:
        picture = decode(path.read_bytes(), name=path.name)
        with Image.open(path) as image:
            if "icc_profile" not in image.info:
                np.testing.assert_array_equal(picture.pixels, np.asarray(image.convert("RGB")), err_msg=path.name)


# The one resize


def triangle(pixels: Array, width: int, height: int) -> Array:
    """Antialiased bilinear by its definition: every output pixel is a mean of source pixels, weighted by a triangle
    around its centre that is one output pixel wide to each side."""

    def weights(source: int, target: int) -> Array:
        scale = source / target
        reach = max(scale, 1.0)
        centres = (np.arange(target) + 0.5) * scale
        distance = np.abs(np.arange(source)[None] + 0.5 - centres[:, None]) / reach
        weight = np.clip(1 - distance, 0, None)
        return weight / weight.sum(1, keepdims=True)

    rows = np.einsum("ys,sxc->yxc", weights(pixels.shape[0], height), pixels.astype(float))
    return np.einsum("xs,ysc->yxc", weights(pixels.shape[1], width), rows)


@pytest.mark.parametrize(
    ("width", "height", "size", "inner"),
    [
        (90, 60, Size(48, 32), (0, 0, 48, 32)),
        (90, 60, Size(32, 48), (0, 13, 32, 21)),
        (60, 90, Size(48, 32), (13, 0, 21, 32)),
        (33, 77, Size(64, 64), (18, 0, 27, 64)),
        (20, 10, Size(64, 48), (0, 8, 64, 32)),
        (64, 48, Size(64, 48), (0, 0, 64, 48)),
        (1000, 1, Size(32, 32), (0, 15, 32, 1)),
    ],
)
def test_letterbox_agrees_with_the_definition(
    width: int, height: int, size: Size, inner: tuple[int, int, int, int]
) -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8)
    boxed = letterbox(pixels, size, fill=7)
    assert boxed.shape == (size.height, size.width, 3)
    assert boxed.dtype == np.uint8
    assert boxed.flags.writeable
    left, top, w, h = inner
    inside = np.zeros(boxed.shape[:2], bool)
    inside[top : top + h, left : left + w] = True
    assert (boxed[~inside] == 7).all()
    expected = triangle(pixels, w, h)
    assert np.abs(boxed[top : top + h, left : left + w] - expected).max() <= 1.5


def test_golden_pixels() -> None:
    """Stored once: a change of Pillow or of the resize changes every model's input and must be seen."""
    y, x = np.mgrid[0:67, 0:101]
    pixels = np.stack([(x * 7 + y * 3) % 256, (x * y) % 256, (x // 8 + y // 8) % 2 * 255], -1).astype(np.uint8)
    boxed = letterbox(pixels, Size(width=40, height=32))
    assert boxed.shape == (32, 40, 3)
    assert boxed[3:5, 0:3].tolist() == GOLDEN_CORNER
    assert boxed[16, 20].tolist() == GOLDEN_CENTRE
    assert hashlib.sha256(boxed.tobytes()).hexdigest()[:16] == GOLDEN_HASH


GOLDEN_CORNER = [[[17, 3, 0], [33, 11, 0], [51, 19, 13]], [[24, 6, 8], [40, 19, 8], [58, 33, 20]]]
GOLDEN_CENTRE = [209, 119, 0]
GOLDEN_HASH = "e89b861efdaeafbb"


def test_png_rows_that_are_black_on_purpose() -> None:
    black = np.zeros((30, 20, 4), np.uint8)
    black[:9] = 200
    for interlaced in (0, 1):
        rows = b"".join(b"\0" + row.tobytes() for row in black) if not interlaced else adam7(black)
        picture = decode(png(20, 30, 8, 6, rows, interlaced=interlaced))
        assert picture.pixels[29, 19].tolist() == [255, 255, 255]
        refuse(png(20, 30, 8, 6, rows[:-1], interlaced=interlaced), "truncated", "the PNG breaks off")


def adam7(pixels: Array) -> bytes:
    starts = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    return b"".join(b"\0" + row.tobytes() for x, y, dx, dy in starts for row in pixels[y::dy, x::dx])


def test_letterbox_takes_views() -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    size = Size(24, 24)
    np.testing.assert_array_equal(letterbox(pixels[:, ::-1], size), letterbox(pixels[:, ::-1].copy(), size))


@pytest.mark.parametrize(("width", "height"), [(1080, 1340), (1340, 1080), (300, 300), (50, 20), (1999, 7)])
@pytest.mark.parametrize("size", [Size(224, 224), Size(224, 160), Size(33, 65)])
def test_placement_round_trip(width: int, height: int, size: Size) -> None:
    place = placement(width, height, size)
    assert place.scale == pytest.approx(min(size.width / width, size.height / height))
    assert 0 <= place.left <= size.width - place.width
    assert 0 <= place.top <= size.height - place.height
    everything = place.to_source(0, 0, size.width, size.height, width, height)
    assert (everything.x, everything.y, everything.w, everything.h) == (0, 0, width, height)
    random = np.random.default_rng(0)
    for _ in range(20):
        x, y = random.uniform(0, place.width), random.uniform(0, place.height)
        w, h = random.uniform(0, place.width - x), random.uniform(0, place.height - y)
        box = place.to_source(place.left + x, place.top + y, w, h, width, height)
        across, down = width / place.width, height / place.height
        assert box.w >= 1
        assert box.h >= 1
        assert box.x + box.w <= width
        assert box.y + box.h <= height
        for got, exact in ((box.x, x * across), (box.y, y * down)):
            assert abs(got - exact) <= 1
        for got, exact in ((box.x + box.w, (x + w) * across), (box.y + box.h, (y + h) * down)):
            assert abs(got - exact) <= 1.5


def test_placement_finds_a_marked_spot() -> None:
    pixels = np.full((500, 300, 3), 255, np.uint8)
    pixels[320:380, 60:110] = 0
    size = Size(128, 96)
    dark = letterbox(pixels, size)[..., 0] < 128
    ys, xs = np.nonzero(dark)
    place = placement(300, 500, size)
    box = place.to_source(xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1, 300, 500)
    assert abs(box.x - 60) <= 4
    assert abs(box.y - 320) <= 4
    assert abs(box.w - 50) <= 6
    assert abs(box.h - 60) <= 6


def test_padding_maps_to_the_edge() -> None:
    place = placement(100, 50, Size(50, 50))
    box = place.to_source(0, 45, 10, 5, 100, 50)
    assert (box.y, box.h) == (49, 1)


def test_thumbnail() -> None:
    with Image.open(io.BytesIO(thumbnail(drawn(640, 400)))) as image:
        assert image.format == "WEBP"
        assert image.size == (160, 100)
    with Image.open(io.BytesIO(thumbnail(drawn(30, 50), longest=100))) as image:
        assert image.size == (30, 50)
    with Image.open(io.BytesIO(thumbnail(drawn(3000, 2)))) as image:
        assert image.size == (160, 1)


def test_size_that_cannot_be_meant() -> None:
    with pytest.raises(SettingsError, match="at least 1 x 1 pixels, got 0 x 5"):
        Size(0, 5)


# Documents and imports


def test_codes_are_documented() -> None:
    text = (ROOT / "docs" / "errors.md").read_text()
    section = text.split("## Image codes", 1)[1].split("\n## ", 1)[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+?) \| [^|]+ \|$", section, re.MULTILINE))
    assert rows == IMAGE_CODES


def test_notes_are_documented() -> None:
    section = (ROOT / "docs" / "errors.md").read_text().split("## Image codes", 1)[1]
    for note in ("16bit", "cmyk", "profile_ignored", "no_end_marker", "first_of_many"):
        assert f"`{note}`" in section


def test_codes_in_the_code_are_in_the_table() -> None:
    used = set()
    for name in ("images.py", "fetch.py"):
        source = (ROOT / "agpis" / name).read_text()
        used |= set(re.findall(r'(?:ImageError|_Again)\(\s*"(\w+)"', source))
    assert used | {"missing_extra"} == set(IMAGE_CODES)


def test_errors_travel_between_processes() -> None:
    with pytest.raises(ImageError) as caught:
        decode(b"")
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.code, str(again)) == ("empty", str(caught.value))


def test_import_is_light() -> None:
    heavy = "{'torch', 'onnxruntime', 'ray', 'fastapi', 'transformers'}"
    script = f"import sys, agpis.images, agpis.fetch; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout.strip() == "[]"
