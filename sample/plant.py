"""Faults for the sample's candidates, drawn with Pillow.

They are not those of `agpis.simulate` on purpose: the starter is trained on the simulator's faults, and a demo of the
very same drawings would show memory, not skill.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont

FONTS = Path("/usr/share/fonts/truetype/dejavu")


def font(size: float, *, bold: bool = True) -> ImageFont.FreeTypeFont:
    """DejaVu Sans (Debian package fonts-dejavu-core), else the font inside Pillow."""
    if not FONTS.exists():
        return ImageFont.load_default(size)  # type: ignore[return-value]
    return ImageFont.truetype(str(FONTS / ("DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf")), int(size))


def subject(picture: Image.Image) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of whatever is not the white ground."""
    dark = np.asarray(picture.convert("L")) < 245
    rows, columns = np.flatnonzero(dark.any(1)), np.flatnonzero(dark.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def banner(picture: Image.Image) -> Image.Image:
    """A red sale bar along the foot of the picture and a line of small print."""
    out, (w, h) = picture.copy(), picture.size
    draw = ImageDraw.Draw(out)
    top = int(0.80 * h)
    draw.rectangle((0, top, w, h), fill="#c8102e")
    draw.polygon([(0, top), (0.62 * w, top), (0.56 * w, h), (0, h)], fill="#e4252f")
    draw.text((0.29 * w, top + 0.40 * (h - top)), "SUMMER SALE", font=font(0.068 * w), fill="white", anchor="mm")
    draw.text(
        (0.29 * w, top + 0.75 * (h - top)),
        "this week only",
        font=font(0.035 * w, bold=False),
        fill="#ffe3a3",
        anchor="mm",
    )
    draw.text((0.79 * w, top + 0.5 * (h - top)), "-30%", font=font(0.115 * w), fill="#ffd84d", anchor="mm")
    return out


def ribbon(picture: Image.Image) -> Image.Image:
    """A promise across the head of the picture."""
    out, (w, h) = picture.copy(), picture.size
    draw = ImageDraw.Draw(out, "RGBA")
    draw.rectangle((0, 0.03 * h, w, 0.15 * h), fill=(20, 92, 70, 235))
    draw.text((0.5 * w, 0.09 * h), "FREE DELIVERY OVER 49", font=font(0.056 * w), fill="white", anchor="mm")
    return out


def badge(picture: Image.Image) -> Image.Image:
    """A round price sticker with a notched edge."""
    out, (w, h) = picture.copy(), picture.size
    big = Image.new("RGBA", (4 * 160, 4 * 160))
    draw = ImageDraw.Draw(big)
    points = [(320 + r * np.cos(a), 320 + r * np.sin(a)) for a, r in
              ((np.pi * k / 18, 315 if k % 2 else 280) for k in range(36))]  # fmt: skip
    draw.polygon(points, fill="#f6c613")
    draw.ellipse((70, 70, 570, 570), outline="#b3121d", width=10)
    draw.text((320, 215), "ONLY", font=font(92), fill="#b3121d", anchor="mm")
    draw.text((320, 350), "29.90", font=font(158), fill="#b3121d", anchor="mm")
    draw.text((320, 462), "was 44.90", font=font(58, bold=False), fill="#402020", anchor="mm")
    side = int(0.30 * w)
    sticker = big.rotate(10, resample=Image.Resampling.BICUBIC).resize((side, side), Image.Resampling.LANCZOS)
    out.paste(sticker, (int(0.68 * w), int(0.03 * h)), sticker)
    return out


def watermark(picture: Image.Image) -> Image.Image:
    """A photo agency's name, repeated on the slant."""
    w, h = picture.size
    sheet = Image.new("RGBA", (2 * w, 2 * h))
    draw = ImageDraw.Draw(sheet)
    for row in range(9):
        for column in range(5):
            at = (column * 0.46 * w + (row % 2) * 0.23 * w, row * 0.20 * h)
            draw.text(at, "pictostock", font=font(0.062 * w), fill=(110, 110, 110, 105), stroke_width=1,
                      stroke_fill=(255, 255, 255, 120))  # fmt: skip
    sheet = sheet.rotate(28, resample=Image.Resampling.BICUBIC).crop((w // 2, h // 2, w // 2 + w, h // 2 + h))
    return Image.alpha_composite(picture.convert("RGBA"), sheet).convert("RGB")


def logo(picture: Image.Image) -> Image.Image:
    """A shop's mark in the corner."""
    out, (w, h) = picture.copy(), picture.size
    draw = ImageDraw.Draw(out)
    x, y, r = 0.055 * w, 0.055 * h, 0.055 * w
    draw.ellipse((x, y, x + 2 * r, y + 2 * r), fill="#12355b")
    draw.polygon([(x + 0.55 * r, y + 1.45 * r), (x + r, y + 0.45 * r), (x + 1.45 * r, y + 1.45 * r)], fill="white")
    draw.text((x + 2.35 * r, y + 0.72 * r), "alpenhaus", font=font(0.048 * w), fill="#12355b", anchor="lm")
    draw.text(
        (x + 2.35 * r, y + 1.50 * r), "your home shop", font=font(0.024 * w, bold=False), fill="#5b6f86", anchor="lm"
    )
    return out


def qr_code(picture: Image.Image) -> Image.Image:
    """A code to scan in the lower right corner: finder squares and random modules; it holds no address."""
    out, (w, h) = picture.copy(), picture.size
    rng = np.random.default_rng(25)
    cells = rng.random((25, 25)) < 0.5
    for y, x in ((0, 0), (0, 18), (18, 0)):
        cells[max(0, y - 1) : y + 8, max(0, x - 1) : x + 8] = False
        cells[y : y + 7, x : x + 7] = True
        cells[y + 1 : y + 6, x + 1 : x + 6] = False
        cells[y + 2 : y + 5, x + 2 : x + 5] = True
    scale = max(2, int(0.24 * w / 25))
    code = Image.fromarray(np.where(np.kron(cells, np.ones((scale, scale))), 0, 255).astype(np.uint8))
    side = code.width
    left, top = int(w - side - 0.05 * w), int(h - side - 0.05 * h)
    draw = ImageDraw.Draw(out)
    draw.rectangle((left - 12, top - 40, left + side + 12, top + side + 12), fill="white", outline="#222222", width=2)
    draw.text((left + side / 2, top - 20), "SCAN FOR MORE", font=font(0.026 * w), fill="#222222", anchor="mm")
    out.paste(code, (left, top))
    return out


def diagram(picture: Image.Image) -> Image.Image:
    """Dimension arrows with figures at the product's left and foot."""
    out, (w, h) = picture.copy(), picture.size
    small = picture.resize((int(0.8 * w), int(0.8 * h)), Image.Resampling.LANCZOS)
    out.paste("white", (0, 0, w, h))
    out.paste(small, (int(0.16 * w), int(0.04 * h)))
    left, top, right, bottom = subject(out)
    draw, ink = ImageDraw.Draw(out), "#2b4b7c"
    x, y, tip = left - 0.05 * w, bottom + 0.05 * h, 0.014 * w
    draw.line((x, top, x, bottom), fill=ink, width=3)
    draw.line((left, y, right, y), fill=ink, width=3)
    for end, way in ((top, 1), (bottom, -1)):
        draw.polygon([(x, end), (x - tip, end + way * 2.4 * tip), (x + tip, end + way * 2.4 * tip)], fill=ink)
        draw.line((x - 2 * tip, end, left - 4, end), fill=ink, width=1)
    for end, way in ((left, 1), (right, -1)):
        draw.polygon([(end, y), (end + way * 2.4 * tip, y - tip), (end + way * 2.4 * tip, y + tip)], fill=ink)
        draw.line((end, bottom + 4, end, y + 2 * tip), fill=ink, width=1)
    draw.text(
        (x - 0.02 * w, (top + bottom) / 2), "17.5\ncm", font=font(0.034 * w), fill=ink, anchor="rm", align="center"
    )
    draw.text(((left + right) / 2, y + 0.035 * h), "24.0 cm", font=font(0.036 * w), fill=ink, anchor="mm")
    return out


def blur(picture: Image.Image) -> Image.Image:
    """Out of focus."""
    return picture.filter(ImageFilter.GaussianBlur(0.011 * picture.width))


def small(picture: Image.Image) -> Image.Image:
    """A thumbnail of 110 pixels."""
    return picture.resize((110, 110), Image.Resampling.LANCZOS)


def border(picture: Image.Image) -> Image.Image:
    """A frame in the shop's colours."""
    out, (w, h) = picture.copy(), picture.size
    draw = ImageDraw.Draw(out)
    draw.rectangle((0, 0, w - 1, h - 1), outline="#1d1d1f", width=int(0.028 * w))
    draw.rectangle((0.036 * w, 0.036 * h, 0.964 * w, 0.964 * h), outline="#c9a24b", width=int(0.008 * w))
    return out


def crop(picture: Image.Image) -> Image.Image:
    """The middle of the same photo, enlarged: 72 % of the subject's longer side."""
    left, top, right, bottom = subject(picture)
    side = int(0.72 * max(right - left, bottom - top))
    x = int((left + right) / 2 - 0.45 * side)
    y = int(top + 0.10 * (bottom - top))
    box = (max(0, x), max(0, y), min(picture.width, x + side), min(picture.height, y + side))
    return picture.crop(box).resize(
        (picture.width, int(picture.width * (box[3] - box[1]) / (box[2] - box[0]))), Image.Resampling.LANCZOS
    )


def mirror(picture: Image.Image) -> Image.Image:
    """The same photo, left to right."""
    return picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def recode(picture: Image.Image) -> Image.Image:
    """The same photo at another size with white added round it, as a second supplier would send it."""
    w, h = picture.size
    out = Image.new("RGB", (int(0.92 * w), int(0.92 * h)), "white")
    inner = picture.resize((int(0.86 * w), int(0.86 * h)), Image.Resampling.BICUBIC)
    out.paste(inner, ((out.width - inner.width) // 2, (out.height - inner.height) // 2))
    return out


def overexposed(picture: Image.Image) -> Image.Image:
    """Washed out by two stops."""
    pixels = np.asarray(picture, np.float32) / 255
    return Image.fromarray((255 * np.clip(0.30 + 1.15 * pixels**0.62, 0, 1)).astype(np.uint8))


def underexposed(picture: Image.Image) -> Image.Image:
    """Too dark to see the material."""
    pixels = np.asarray(picture, np.float32) / 255
    return Image.fromarray((255 * 0.42 * pixels**1.5).astype(np.uint8))


def colour_cast(picture: Image.Image) -> Image.Image:
    """Lamp light without a white balance."""
    pixels = np.asarray(picture, np.float32) * np.array([1.0, 0.83, 0.50], np.float32)
    return Image.fromarray(pixels.astype(np.uint8))


def noise(picture: Image.Image) -> Image.Image:
    """Sensor noise of a phone in the dark."""
    rng = np.random.default_rng(12)
    pixels = np.asarray(ImageEnhance.Brightness(picture).enhance(0.82), np.float32)
    grain = rng.normal(0, 26, pixels.shape) + rng.normal(0, 14, pixels.shape[:2])[..., None]
    return Image.fromarray(np.clip(pixels + grain, 0, 255).astype(np.uint8))


def rotation(picture: Image.Image) -> Image.Image:
    """The camera held on its side, and not level."""
    return picture.rotate(97, resample=Image.Resampling.BICUBIC, fillcolor="white")


def compression(picture: Image.Image) -> Image.Image:
    """Saved as a JPEG of quality 5 by somebody before us."""
    stream = BytesIO()
    small_one = picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.BICUBIC)
    small_one.save(stream, "JPEG", quality=6)
    return Image.open(stream).convert("RGB").resize(picture.size, Image.Resampling.BILINEAR)


def collage(*pictures: Image.Image) -> Image.Image:
    """Four photos in one."""
    w, h = pictures[0].size
    out = Image.new("RGB", (w, h), "#e8e8e8")
    cell = w // 2 - 6
    for k in range(4):
        tile = pictures[k % len(pictures)].resize((cell, cell), Image.Resampling.LANCZOS)
        out.paste(tile, (4 + (k % 2) * (cell + 4), 4 + (k // 2) * (cell + 4)))
    return out


def screenshot(picture: Image.Image) -> Image.Image:
    """A shop's app on a telephone, photographed off the screen."""
    w, h = int(0.62 * picture.width), int(1.1 * picture.height)
    out = Image.new("RGB", (w, h), "#ffffff")
    draw = ImageDraw.Draw(out)
    draw.rectangle((0, 0, w, 0.045 * h), fill="#111111")
    draw.text((0.05 * w, 0.023 * h), "09:41", font=font(0.04 * w), fill="white", anchor="lm")
    draw.text((0.95 * w, 0.023 * h), "5G  87%", font=font(0.036 * w, bold=False), fill="white", anchor="rm")
    draw.rectangle((0, 0.045 * h, w, 0.115 * h), fill="#f2f2f4")
    draw.text((0.05 * w, 0.08 * h), "<", font=font(0.07 * w), fill="#0a66c2", anchor="lm")
    draw.rounded_rectangle((0.15 * w, 0.058 * h, 0.95 * w, 0.102 * h), 12, fill="white")
    draw.text((0.19 * w, 0.08 * h), "Search products", font=font(0.038 * w, bold=False), fill="#8a8a8e", anchor="lm")
    out.paste(picture.resize((w, w), Image.Resampling.LANCZOS), (0, int(0.14 * h)))
    y = 0.14 * h + w
    draw.text((0.05 * w, y + 0.03 * h), "16.95", font=font(0.075 * w), fill="#b12704", anchor="lm")
    draw.text(
        (0.05 * w, y + 0.075 * h),
        "4.6 stars, 212 reviews",
        font=font(0.038 * w, bold=False),
        fill="#555555",
        anchor="lm",
    )
    draw.rounded_rectangle((0.05 * w, h - 0.10 * h, 0.95 * w, h - 0.03 * h), 18, fill="#ffb703")
    draw.text((0.5 * w, h - 0.065 * h), "Add to basket", font=font(0.05 * w), fill="#202020", anchor="mm")
    return out


FAULTS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "banner": banner,
    "ribbon": ribbon,
    "badge": badge,
    "watermark": watermark,
    "logo": logo,
    "qr_code": qr_code,
    "diagram": diagram,
    "blur": blur,
    "small": small,
    "border": border,
    "crop": crop,
    "mirror": mirror,
    "recode": recode,
    "overexposed": overexposed,
    "underexposed": underexposed,
    "colour_cast": colour_cast,
    "noise": noise,
    "rotation": rotation,
    "compression": compression,
    "screenshot": screenshot,
}
