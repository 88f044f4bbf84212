"""Any colour mode of Pillow to plain 8-bit sRGB over white.

Order of the steps: samples to 8 bits, palette to colours, reduction in size, profile to sRGB, alpha over white.
The profile is applied to the small picture and before the white is laid under it, which already is sRGB.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

_CACHED_PROFILES = 16
"""A shop's pictures carry a handful of profiles; a CMYK one is half a megabyte."""
_SAME = 2
"""Levels of 255 by which a profile may differ from sRGB and be taken for it: what rounding makes of two sRGB
profiles."""


class UnsupportedModeError(ValueError):
    """The samples are of a kind that has no agreed way to 8 bits (float, 32-bit, Lab)."""


@dataclass(frozen=True, slots=True)
class Flat:
    """A picture in sRGB without alpha."""

    image: Image.Image
    """Mode RGB."""
    transparent: bool
    """Some pixel let the background through."""
    notes: tuple[str, ...]


def flatten(image: Image.Image, reduce: int = 1, profile: bytes | None = None, deep: bool = False) -> Flat:
    """Converts a loaded Pillow image of any mode to RGB over white, `reduce` times smaller (a whole number).

    `profile` is the ICC profile, `deep` tells that a three-channel file had 16 bits a sample.
    Raises UnsupportedModeError.
    """
    notes: list[str] = ["16bit"] if deep or image.mode.startswith("I;16") else []
    image = _channels(_eight_bit(image, deep))
    alpha = None
    if image.mode in ("LA", "RGBA"):
        if reduce > 1:  # weighted by alpha: the colour of invisible pixels must not bleed in
            image = image.convert("La" if image.mode == "LA" else "RGBa").reduce(reduce)
            image = image.convert("LA" if image.mode == "La" else "RGBA")
        alpha = image.getchannel("A")
        lowest = alpha.getextrema()[0]
        image = image.convert("L" if image.mode == "LA" else "RGB")
        if lowest == 255:
            alpha = None
    elif reduce > 1:
        image = image.reduce(reduce)
    if image.mode == "CMYK":
        notes.append("cmyk")
    if profile is not None:
        converted = _to_srgb(image, profile)
        if converted is None:
            notes.append("profile_ignored")
        else:
            image = converted
    if image.mode != "RGB":
        image = image.convert("RGB")
    if alpha is not None:
        white = Image.new("RGB", image.size, (255, 255, 255))
        white.paste(image, mask=alpha)
        image = white
    return Flat(image, alpha is not None, tuple(notes))


def _eight_bit(image: Image.Image, deep: bool) -> Image.Image:
    mode = image.mode
    clear = image.info.get("transparency")
    if mode.startswith("I;16"):
        tags = getattr(image, "tag_v2", {})
        bits = tags.get(258, (16,))[0]
        samples = np.asarray(image).astype(np.uint32)
        # 65535 becomes 255, and so do 12-bit values at their own full scale; rounded, not cut off
        top = (1 << bits) - 1
        levels = ((samples * 255 + top // 2) // top).astype(np.uint8)
        if tags.get(262) == 0:  # TIFF "white is zero", which Pillow applies to 8-bit samples only
            levels = 255 - levels
        grey = Image.fromarray(levels)
        if isinstance(clear, int):
            grey.putalpha(Image.fromarray(np.where(samples == clear, 0, 255).astype(np.uint8)))
        return grey
    if mode in ("I", "F"):
        raise UnsupportedModeError("32-bit or floating-point samples")
    if deep and isinstance(clear, tuple):  # the codec has kept the high byte of each sample
        image.info["transparency"] = tuple(value >> 8 for value in clear)
    return image


def _channels(image: Image.Image) -> Image.Image:
    """To one of L, LA, RGB, RGBA, CMYK."""
    mode = image.mode
    if mode in ("P", "PA"):
        return image.convert("RGBA" if image.has_transparency_data else "RGB")
    if mode in ("1", "L", "RGB") and "transparency" in image.info:
        return image.convert("RGBA" if mode == "RGB" else "LA")
    if mode in ("L", "LA", "RGB", "RGBA", "CMYK"):
        return image
    if mode == "1":
        return image.convert("L")
    if mode == "La":
        return image.convert("LA")
    if mode == "RGBa":
        return image.convert("RGBA")
    if mode in ("RGBX", "YCbCr"):
        return image.convert("RGB")
    raise UnsupportedModeError(f"colour mode {mode}")


def _to_srgb(image: Image.Image, profile: bytes) -> Image.Image | None:
    """`image` in sRGB; None when the profile is damaged or made for other channels."""
    usable, transform = _transform(profile, image.mode)
    if not usable and image.mode == "L":  # grey samples under a colour profile
        usable, transform = _transform(profile, "RGB")
        image = image.convert("RGB") if usable else image
    if not usable:
        return None
    if transform is None:
        return image
    try:
        return transform.apply(image)
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None


@lru_cache(maxsize=_CACHED_PROFILES)
def _transform(profile: bytes, mode: str) -> tuple[bool, ImageCms.ImageCmsTransform | None]:
    """(usable, transform); no transform when the profile is as good as sRGB.

    Relative colorimetric with black point compensation, as picture editors do: paper white becomes 255, 255, 255.
    """
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        transform = ImageCms.ImageCmsTransform(
            source,
            _srgb(),
            mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        if mode == "CMYK":
            return True, transform
        probe = _probe().convert(mode) if mode == "RGB" else Image.linear_gradient("L")
        shift = np.asarray(transform.apply(probe)).astype(np.int16) - np.asarray(probe.convert("RGB"))
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return False, None
    return True, None if int(np.abs(shift).max()) <= _SAME else transform


@lru_cache(maxsize=1)
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def _probe() -> Image.Image:
    steps = np.linspace(0, 255, 9).astype(np.uint8)
    cube = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(27, 27, 3)
    return Image.fromarray(cube)
