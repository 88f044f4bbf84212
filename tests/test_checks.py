"""Each measured check on a drawn picture that breaks it, and on one that only looks so."""

from __future__ import annotations

import io
from datetime import date
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as PillowImage

from agpis import limits
from agpis.checks import CHECKS, COUNT_CHECKS, count_findings, error_finding, extension_of, run_checks
from agpis.data import Box, ErrorInfo, Finding
from agpis.foreground import find_ground, ring
from agpis.images import Picture, decode
from agpis.limits import LIMITS
from agpis.measures import Measures
from agpis.rulebook import Rulebook, load_rulebook, parse_rulebook

Pixels = NDArray[np.uint8]
WHITE = (255, 255, 255)


def canvas(width: int = 600, height: int = 600, colour: tuple[int, int, int] = WHITE) -> Pixels:
    return np.full((height, width, 3), colour, dtype=np.uint8)


def add_product(
    pixels: Pixels,
    box: tuple[int, int, int, int] = (120, 60, 360, 480),
    colour: tuple[int, int, int] = (60, 90, 160),
    *,
    stripes: bool = False,
    texture: float = 0.0,
) -> Pixels:
    """An oval product with a soft shading; `texture` is the strength of its weave, levels."""
    x, y, w, h = box
    height, width = pixels.shape[:2]
    shape = np.zeros((height, width), np.uint8)
    cv2.ellipse(shape, (x + w // 2, y + h // 2), (w // 2, h // 2), 0, 0, 360, 255, -1, cv2.LINE_AA)
    rows, columns = np.mgrid[0:height, 0:width]
    shade = 0.75 + 0.25 * np.sin(columns / 90 + rows / 140)
    body = np.array(colour) * shade[..., None]
    body += np.random.default_rng(0).normal(0, 1.5, (height, width, 1))  # a camera is never quite still
    if stripes:
        body[(rows // 12) % 2 == 0] *= 0.4
    if texture:
        body += np.random.default_rng(1).normal(0, texture, (height, width, 1))
    alpha = shape[..., None] / 255
    return (pixels * (1 - alpha) + np.clip(body, 0, 255) * alpha).astype(np.uint8)


def picture(pixels: Pixels, format: str = "PNG", target: int | None = None, **options: object) -> Picture:
    """Through a real file, as a shop's picture comes."""
    file = io.BytesIO()
    PillowImage.fromarray(pixels).save(file, format, **options)
    return decode(file.getvalue(), target=target)


def book(check: str, *, scope: str = "single", role: str = "any") -> Rulebook:
    return parse_rulebook(
        f"""
id: one
version: 1
rules:
  - id: it
    name: It
    scope: {scope}
    role: {role}
    description: It.
    check: {check}
    feedback: {{en: [It.], zh: [它。]}}
"""
    )


def found(check: str, pixels: Pixels | Picture, name: str = "") -> Finding | None:
    made = pixels if isinstance(pixels, Picture) else picture(pixels)
    findings = run_checks(made, book(check), name=name)
    return findings[0] if findings else None


def test_the_checks_are_those_a_rulebook_may_name() -> None:
    assert {*CHECKS, *COUNT_CHECKS} == set(LIMITS)
    assert not set(CHECKS) & set(COUNT_CHECKS)
    for name, model in LIMITS.items():
        assert model.model_fields["name"].annotation == limits.Literal[name]
        assert model in [*limits.Check.__origin__.__args__]


def test_a_good_picture_has_no_finding() -> None:
    for colour in ((60, 90, 160), (190, 60, 40), (235, 232, 228)):
        assert run_checks(picture(add_product(canvas(), colour=colour)), load_rulebook("default"), name="a.png") == ()


# ---- size, file, name -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "size", "value", "message"),
    [
        ("shorter: 100", (300, 99), 99, "The shorter side has 99 pixels; at least 100"),
        ("longest: 500", (499, 400), 499, "The longest side has 499 pixels; at least 500"),
        ("megapixels: 0.1", (300, 300), 0.09, "has 0.09 megapixels; at least 0.1"),
    ],
)
def test_too_few_pixels(limit: str, size: tuple[int, int], value: float, message: str) -> None:
    finding = found(f"{{name: min_pixels, {limit}}}", canvas(*size))
    assert finding is not None
    assert finding.value == value
    assert message in finding.message
    assert finding.unit == ("MP" if "mega" in limit else "px")
    assert found(f"{{name: min_pixels, {limit}}}", canvas(500, 500)) is None


def test_pixels_are_those_of_the_source_not_of_the_reduced_decode() -> None:
    reduced = picture(add_product(canvas(1200, 1200), (100, 100, 1000, 1000)), "JPEG", target=224)
    assert max(reduced.pixels.shape) < 400
    assert found("{name: min_pixels, shorter: 1200}", reduced) is None
    finding = found("{name: max_pixels, longest: 1199}", reduced)
    assert finding is not None
    assert "The longest side has 1,200 pixels; at most 1,199" in finding.message
    box = found("{name: min_fill, extent: 0.9}", reduced)
    assert box is not None
    assert box.box is not None
    assert box.box.x == pytest.approx(100, abs=8)
    assert box.box.w == pytest.approx(1000, abs=12)


def test_too_many_megapixels() -> None:
    finding = found("{name: max_pixels, megapixels: 0.2}", canvas(600, 400))
    assert finding is not None
    assert finding.value == 0.24
    assert found("{name: max_pixels, megapixels: 0.24}", canvas(600, 400)) is None


def test_file_size() -> None:
    noisy = np.random.default_rng(0).integers(0, 256, (400, 400, 3), dtype=np.uint8)
    finding = found("{name: file_size, max_mb: 0.1}", noisy)
    assert finding is not None
    assert finding.value == pytest.approx(0.48, abs=0.03)
    assert "at most 0.1 MB are allowed" in finding.message
    assert found("{name: file_size, max_mb: 0.1}", canvas(4000, 4000)) is None  # large, but not as a file


def test_format_is_that_of_the_bytes() -> None:
    webp = picture(add_product(canvas()), "WEBP")
    finding = found("{name: format, allowed: [JPEG, PNG]}", webp, "a.jpg")
    assert finding is not None
    assert finding.message == "The file is a WEBP; allowed are JPEG, PNG."
    assert found("{name: format, allowed: [JPEG, WEBP]}", webp, "a.jpg") is None


@pytest.mark.parametrize("name", ["a.png", "http://shop/a.PNG?v=3", "a.webp", "dir.tif/a.gif"])
def test_name_of_another_format(name: str) -> None:
    finding = found("{name: format_matches_name}", picture(canvas(), "JPEG"), name)
    assert finding is not None
    assert "but the file is a JPEG" in finding.message


@pytest.mark.parametrize(
    "name",
    ["a.jpg", "a.JPEG", "a.jfif", "http://shop/a.jpg?file=b.png", "image.php?id=3", "", "a", "C:\\x\\a.jpg", "v1.2"],
)
def test_name_that_fits_or_says_nothing(name: str) -> None:
    assert found("{name: format_matches_name}", picture(canvas(), "JPEG"), name) is None


def test_extension_of() -> None:
    assert extension_of("http://h/p/a%2Ejpg#x") == "jpg"
    assert extension_of("img/a.png?width=20") == "png"
    assert extension_of("a#1.webp") == "webp"
    assert extension_of("http://h.jpg/") == ""


def test_url() -> None:
    check = "{name: url, query: false, ports: [80, 443, 8443]}"
    query = found(check, canvas(), "https://h/a.jpg?x=1")
    assert query is not None
    assert "query string (?x=1)" in query.message
    port = found(check, canvas(), "http://h:8081/a.jpg")
    assert port is not None
    assert "the port 8081; allowed are 80, 443, 8443" in port.message
    broken = found(check, canvas(), "http://h:99999/a.jpg")
    assert broken is not None
    assert "no port number" in broken.message
    for name in ("https://h/a.jpg", "http://h:8443/a.jpg", "a.jpg?x=1", "HTTP://h/a.jpg"):
        assert found(check, canvas(), name) is None, name


def test_aspect() -> None:
    tall = found("{name: aspect, min: 0.5, max: 2.0}", canvas(200, 600))
    assert tall is not None
    assert (tall.value, tall.limit, tall.unit) == (0.3333, 0.5, "width/height")
    wide = found("{name: aspect, min: 0.5, max: 2.0}", canvas(900, 300))
    assert wide is not None
    assert wide.limit == 2.0
    assert found("{name: aspect, min: 0.5, max: 2.0}", canvas(300, 600)) is None


# ---- ground -----------------------------------------------------------------------------------------------------

WHITE_CHECK = "{name: background_white, tolerance: 1, share: 0.98}"


def test_background_not_white() -> None:
    for colour in ((253, 253, 253), (254, 254, 253), (240, 230, 220), (0, 0, 0)):
        finding = found(WHITE_CHECK, add_product(canvas(colour=colour)))
        assert finding is not None, colour
        assert finding.value == 0.0
        assert f"commonest colour: {', '.join(map(str, colour))}" in finding.message


def test_background_half_white() -> None:
    pixels = add_product(canvas())
    pixels[:, 300:] = np.minimum(pixels[:, 300:], 235)
    finding = found(WHITE_CHECK, pixels)
    assert finding is not None
    assert finding.value == pytest.approx(0.5, abs=0.03)


def test_background_white_behind_a_product_that_leaves_the_frame() -> None:
    legs = add_product(canvas(), (150, 150, 300, 900))
    assert found(WHITE_CHECK, legs) is None
    assert found(WHITE_CHECK, add_product(canvas(), colour=(245, 243, 240))) is None  # white product
    assert found(WHITE_CHECK, picture(add_product(canvas()), "JPEG", quality=90)) is None


def test_background_uniform() -> None:
    check = "{name: background_uniform, tolerance: 24, share: 0.8}"
    floor = canvas()
    floor[::2, ::2] = 120
    floor[1::2, 1::2] = 60
    finding = found(check, add_product(floor))
    assert finding is not None
    assert finding.value is not None
    assert finding.value < 0.6
    for colour in (WHITE, (90, 140, 90), (10, 10, 10)):
        assert found(check, add_product(canvas(colour=colour), colour=(200, 60, 60))) is None


# ---- fill and edges ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("colour", [(60, 90, 160), (20, 20, 20), (246, 245, 243)])
def test_fill(colour: tuple[int, int, int]) -> None:
    small = add_product(canvas(), (200, 150, 200, 300), colour)
    finding = found("{name: min_fill, extent: 0.85}", small)
    assert finding is not None
    assert finding.value == pytest.approx(0.5, abs=0.02)
    assert finding.box is not None
    assert (finding.box.x, finding.box.y) == (pytest.approx(200, abs=6), pytest.approx(150, abs=6))
    large = add_product(canvas(), (30, 200, 540, 200), colour)  # long and flat: the longer side counts
    assert found("{name: min_fill, extent: 0.85}", large) is None
    area = found("{name: min_fill, area: 0.5}", large)
    assert area is not None
    assert area.value == pytest.approx(0.3, abs=0.02)
    over = found("{name: max_fill, extent: 0.85}", large)
    assert over is not None
    assert over.value == pytest.approx(0.9, abs=0.02)
    assert found("{name: max_fill, extent: 0.85}", small) is None


def test_dust_is_no_product() -> None:
    dusty = add_product(canvas(), (200, 150, 200, 300))
    for x, y in ((5, 7), (590, 12), (20, 580), (570, 590)):
        dusty[y : y + 3, x : x + 3] = 0
    finding = found("{name: min_fill, extent: 0.85}", dusty)
    assert finding is not None
    assert finding.value == pytest.approx(0.5, abs=0.02)


def test_fill_of_a_scene_is_not_measured() -> None:
    scene = np.random.default_rng(0).integers(0, 256, (600, 600, 3), dtype=np.uint8)
    assert found("{name: min_fill, extent: 0.85}", scene) is None
    assert found("{name: max_fill, extent: 0.5}", scene) is None
    assert found("{name: touches_edge, share: 0.1}", scene) is None


def test_touches_edge() -> None:
    check = "{name: touches_edge, share: 0.2}"
    cut = add_product(canvas(), (150, 200, 300, 800))
    finding = found(check, cut)
    assert finding is not None
    assert finding.value == pytest.approx(0.5, abs=0.05)
    assert "of the bottom edge" in finding.message
    assert finding.box is not None
    assert finding.box.y + finding.box.h == 600
    assert finding.box.x == pytest.approx(150, abs=10)
    assert found(check, add_product(canvas(), (150, 3, 300, 594))) is None  # tight, but within


def test_touches_edge_names_the_side() -> None:
    for turns, side in ((1, "right"), (2, "top"), (3, "left")):
        finding = found(
            "{name: touches_edge, share: 0.2}",
            np.ascontiguousarray(np.rot90(add_product(canvas(), (150, 200, 300, 800)), turns)),
        )
        assert finding is not None
        assert f"of the {side} edge" in finding.message


# ---- border -----------------------------------------------------------------------------------------------------

BORDER = "{name: no_border, min_sides: 4}"


def framed(pixels: Pixels, thick: int, colour: tuple[int, int, int], margin: int = 0) -> Pixels:
    result = pixels.copy()
    end = -margin or None
    outer = result[margin:end, margin:end]
    inner = outer[thick:-thick, thick:-thick].copy()
    outer[:] = colour
    outer[thick:-thick, thick:-thick] = inner
    return result


@pytest.mark.parametrize("thick", [3, 10, 40])
@pytest.mark.parametrize("colour", [(0, 0, 0), (200, 20, 30), (120, 120, 120)])
def test_border(thick: int, colour: tuple[int, int, int]) -> None:
    for quality in (None, 85):
        pixels = framed(add_product(canvas()), thick, colour)
        finding = found(BORDER, picture(pixels) if quality is None else picture(pixels, "JPEG", quality=quality))
        assert finding is not None
        assert finding.value == 4
        assert finding.box == Box(0, 0, 600, 600)
        assert "A frame runs along 4 sides" in finding.message


def test_thin_line_within_a_white_margin_is_a_border() -> None:
    assert (
        found(BORDER, framed(add_product(canvas(800, 800), (200, 200, 400, 400)), 6, (0, 0, 0), margin=16)) is not None
    )


def test_bars_on_two_sides() -> None:
    barred = add_product(canvas())
    barred[:30] = 0
    barred[-30:] = 0
    assert found(BORDER, barred) is None
    assert found("{name: no_border, min_sides: 2}", barred) is None  # the ring's colour is white: bars are content


def _rug() -> Pixels:
    """A rectangular product with a border of its own, on white."""
    pixels = canvas()
    pixels[40:-40, 40:-40] = (120, 40, 40)
    pixels[60:-60, 60:-60] = (200, 170, 120)
    return pixels


def _striped_close_up() -> Pixels:
    pixels = canvas()
    pixels[(np.arange(600) // 25) % 2 == 0] = (30, 30, 90)
    return pixels


@pytest.mark.parametrize(
    "pixels",
    [
        add_product(canvas()),
        add_product(canvas(colour=(0, 0, 0))),
        add_product(canvas(colour=(200, 190, 170)), (20, 20, 560, 560)),
        add_product(canvas(), (0, 0, 600, 600), stripes=True),
        _rug(),
        _striped_close_up(),
        canvas(colour=(90, 90, 90)),
        np.random.default_rng(0).integers(0, 256, (600, 600, 3), dtype=np.uint8),
    ],
    ids=["white", "black", "beige", "stripes", "rug", "close-up", "blank", "scene"],
)
def test_no_border(pixels: Pixels) -> None:
    assert found(BORDER, pixels) is None


# ---- sharpness and light ----------------------------------------------------------------------------------------

BLUR = "{name: max_blur, radius: 1.8}"


@pytest.mark.parametrize("size", [200, 400, 600, 1600])
@pytest.mark.parametrize("colour", [(60, 90, 160), (15, 15, 15), (240, 238, 235)])
def test_blur(size: int, colour: tuple[int, int, int]) -> None:
    plain = add_product(canvas(size, size), (size // 5, size // 10, size * 3 // 5, size * 4 // 5), colour)
    assert found(BLUR, plain) is None  # a plain product has no detail, and yet is sharp
    detailed = add_product(canvas(size, size), (size // 5, size // 10, size * 3 // 5, size * 4 // 5), texture=40)
    assert found(BLUR, detailed) is None
    # 1.2 % of the size, but no less than what can be told apart from a sharp picture of so few pixels.
    blurred = cv2.GaussianBlur(detailed, (0, 0), max(3.0, 0.012 * size))
    finding = found(BLUR, blurred)
    assert finding is not None
    assert finding.value is not None
    assert finding.value == pytest.approx(max(3.0, 0.012 * size) * min(1, 384 / size), rel=0.35)
    assert "Edges are" in finding.message
    assert "1.8 are allowed" in finding.message


def test_blur_does_not_depend_on_the_scale_of_decoding() -> None:
    pixels = add_product(canvas(1600, 1600), (300, 200, 1000, 1200), texture=30)
    blurred = cv2.GaussianBlur(pixels, (0, 0), 12)
    whole, reduced = (Measures(picture(blurred, "JPEG", target=target)).blur for target in (None, 224))
    assert whole is not None
    assert reduced == pytest.approx(whole, rel=0.15)


def test_blurred_backdrop_behind_a_sharp_product() -> None:
    backdrop = np.random.default_rng(2).integers(0, 256, (600, 600, 3), dtype=np.uint8)
    soft = cv2.GaussianBlur(backdrop, (0, 0), 15)
    assert found(BLUR, add_product(soft, colour=(200, 40, 40), texture=20)) is None


def test_blur_of_nothing() -> None:
    for pixels in (canvas(), canvas(1, 1), canvas(3, 2), canvas(2000, 2)):
        assert Measures(picture(pixels)).blur is None


def test_overexposed() -> None:
    check = "{name: not_overexposed, share: 0.5}"
    blown = add_product(canvas(colour=(120, 150, 120)), colour=(600, 600, 600))
    finding = found(check, blown)
    assert finding is not None
    assert finding.value == pytest.approx(1, abs=0.05)
    assert found(check, add_product(canvas(), colour=(240, 238, 235))) is None  # white product on white
    assert found(check, add_product(canvas(), (260, 260, 80, 80))) is None  # nearly all of it is white ground


def test_underexposed() -> None:
    check = "{name: not_underexposed, brightest: 25}"
    dark = (add_product(canvas()) * 0.06).astype(np.uint8)
    assert found(check, (add_product(canvas(colour=(90, 80, 70))) * 0.2).astype(np.uint8)) is not None
    finding = found(check, dark)
    assert finding is not None
    assert finding.unit == "luma"
    assert found(check, add_product(canvas(), colour=(45, 45, 48))) is None  # a black product, well lit
    assert found(check, add_product(canvas(colour=(0, 0, 0)), colour=(180, 60, 60))) is None  # on a black ground


# ---- nothing, no colour, transparency, placeholders -------------------------------------------------------------


def test_blank() -> None:
    check = "{name: not_blank, content: 0.002}"
    for colour in (WHITE, (0, 0, 0), (200, 10, 90)):
        finding = found(check, canvas(colour=colour))
        assert finding is not None
        assert finding.value == 0
    noisy = np.clip(np.random.default_rng(0).normal(250, 1, (600, 600, 3)), 0, 255).astype(np.uint8)
    assert found(check, noisy) is not None
    assert found(check, add_product(canvas(), (260, 260, 80, 80), (245, 245, 244))) is None  # small, white on white
    assert found(check, np.random.default_rng(0).integers(0, 256, (90, 90, 3), dtype=np.uint8)) is None


def test_greyscale() -> None:
    check = "{name: not_greyscale, chroma: 3}"
    coarse = np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    scene = cv2.resize(coarse, (600, 600), interpolation=cv2.INTER_CUBIC)
    grey = cv2.cvtColor(cv2.cvtColor(scene, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    finding = found(check, grey)
    assert finding is not None
    assert finding.value == 0
    assert found(check, scene) is None
    assert found(check, add_product(canvas(), colour=(30, 30, 30))) is None  # a black product on white
    tinted = grey.copy()
    tinted[..., 2] = np.maximum(tinted[..., 2], 5) - 5
    assert found(check, tinted) is None


def test_transparency() -> None:
    pixels = np.dstack([add_product(canvas()), np.full((600, 600), 255, np.uint8)])
    assert found("{name: not_transparent}", picture(pixels)) is None  # an alpha channel that hides nothing
    pixels[:50, :50, 3] = 0
    finding = found("{name: not_transparent}", picture(pixels))
    assert finding is not None
    assert "transparent parts" in finding.message


PLACEHOLDER = "{name: not_placeholder, flat: 0.9, content: 0.3}"


def placeholder(text: str, ground: int = 255, ink: int = 150, *, icon: bool = False, size: int = 500) -> Pixels:
    pixels = canvas(size, size, (ground,) * 3)
    colour = (ink,) * 3
    scale = size / 500
    (w, h), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 1.4 * scale, 4)
    cv2.putText(
        pixels,
        text,
        ((size - w) // 2, (size + h) // 2 + (60 if icon else 0)),
        cv2.FONT_HERSHEY_SIMPLEX,
        1.4 * scale,
        colour,
        max(1, round(4 * scale)),
        cv2.LINE_AA,
    )
    if icon:
        c = size // 2
        cv2.rectangle(pixels, (c - 70, c - 70), (c + 70, c + 20), colour, -1, cv2.LINE_AA)
        cv2.circle(pixels, (c, c - 25), 30, (ground,) * 3, -1, cv2.LINE_AA)
    return pixels


@pytest.mark.parametrize("quality", [None, 80])
@pytest.mark.parametrize(
    "pixels",
    [
        placeholder("No image"),
        placeholder("Image coming soon", 238, 120),
        placeholder("No image", 230, 180, icon=True),
        placeholder("No photo", 40, 220),
        placeholder("No image", size=900),
    ],
    ids=["text", "grey", "icon", "dark", "large"],
)
def test_placeholder(pixels: Pixels, quality: int | None) -> None:
    made = picture(pixels) if quality is None else picture(pixels, "JPEG", quality=quality)
    finding = found(PLACEHOLDER, made)
    assert finding is not None
    assert finding.box is not None
    assert "it is a placeholder" in finding.message


@pytest.mark.parametrize("colour", [(60, 90, 160), (32, 32, 32), (0, 0, 255), (243, 242, 240)])
def test_a_small_plain_product_is_no_placeholder(colour: tuple[int, int, int]) -> None:
    assert found(PLACEHOLDER, add_product(canvas(), (200, 200, 200, 200), colour)) is None


# ---- findings ---------------------------------------------------------------------------------------------------


def test_finding_carries_the_rule() -> None:
    one = book("{name: min_pixels, shorter: 900}", role="main")
    (finding,) = run_checks(picture(canvas()), one)
    assert (finding.rule, finding.scope, finding.severity, finding.role) == ("it", "single", "error", "main")
    assert (finding.value, finding.limit, finding.unit) == (600, 900, "px")


def test_limits_of_the_day_and_the_category() -> None:
    google = load_rulebook("google")
    small = picture(add_product(canvas(300, 300), (60, 30, 180, 240)))

    def too_small(on: date, category: str) -> float | None:
        findings = run_checks(small, google, on=on, category=category)
        return next((f.limit for f in findings if f.rule == "too_small"), None)

    assert too_small(date(2026, 1, 1), "") is None
    assert too_small(date(2027, 1, 30), "Apparel & Accessories") is None
    assert too_small(date(2027, 1, 31), "") == 500
    smaller = picture(add_product(canvas(200, 200), (40, 20, 120, 160)))
    findings = run_checks(smaller, google, on=date(2026, 1, 1), category="Apparel & Accessories/Shirts")
    assert [f.limit for f in findings if f.rule == "too_small"] == [250]


def test_error_finding() -> None:
    default = load_rulebook("default")
    moving = error_finding(ErrorInfo("animated", "It moves."), default)
    broken = error_finding(ErrorInfo("truncated", "It ends early."), default)
    assert moving is not None
    assert broken is not None
    assert (moving.rule, moving.message) == ("animated", "It moves.")
    assert (broken.rule, broken.severity) == ("unreadable", "error")
    assert error_finding(ErrorInfo("truncated", ""), book("{name: image_code, codes: [animated]}")) is None


def test_notes_of_a_decoded_picture() -> None:
    file = io.BytesIO()
    PillowImage.new("CMYK", (300, 300), (10, 20, 30, 0)).save(file, "JPEG")
    cmyk = decode(file.getvalue())
    finding = found("{name: image_code, codes: [cmyk, 16bit]}", cmyk)
    assert finding is not None
    assert "cmyk" in finding.message
    assert found("{name: image_code, codes: [cmyk, 16bit]}", canvas()) is None
    assert found('{name: image_code, codes: ["*"]}', cmyk) is None  # "*" is for pictures that could not be read


def test_count_findings() -> None:
    three = book("{name: min_images, images: 3}", scope="multi")
    (finding,) = count_findings(1, three)
    assert finding.message == "The product has 1 usable image; at least 3 are needed."
    assert (finding.scope, finding.value, finding.limit) == ("multi", 1, 3)
    assert count_findings(3, three) == ()
    assert run_checks(picture(canvas()), three) == ()


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (2, 2), (3, 900), (900, 2), (17, 31)])
def test_tiny_pictures_are_measured_without_failing(size: tuple[int, int]) -> None:
    default = load_rulebook("default")
    noisy = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    for pixels in (canvas(*size), noisy):
        findings = run_checks(picture(pixels), default)
        assert "too_small" in {finding.rule for finding in findings}
        for finding in findings:
            if finding.box:
                assert finding.box.x + finding.box.w <= size[0]
                assert finding.box.y + finding.box.h <= size[1]
                assert min(finding.box.w, finding.box.h) >= 1


def test_measuring_changes_nothing() -> None:
    made = picture(add_product(canvas()))
    before = made.pixels.copy()
    first = run_checks(made, load_rulebook("default"))
    assert run_checks(made, load_rulebook("default")) == first
    assert np.array_equal(made.pixels, before)


def test_ground_is_the_commonest_colour_not_the_mean() -> None:
    pixels = canvas(colour=(200, 180, 160))
    pixels[:, :260] = 0
    ground = find_ground(ring(pixels))
    assert ground.colour == (200, 180, 160)
    assert ground.share == pytest.approx(0.53, abs=0.01)
    assert not ground.plain
    assert not ground.white


@pytest.mark.shared
def test_shop_pictures_have_no_error_and_blurred_ones_have(shared_data: Path) -> None:
    """The default rulebook must not throw out a readable catalogue; half a per cent of the size is a visible blur."""
    default = load_rulebook("default")
    blur_limit = default.rule("blur").check
    assert isinstance(blur_limit, limits.MaxBlur)
    for source in ("magento", "oxid", "kickstart", "grandnode", "saleor", "smartstore", "spree", "clothing", "grocery"):
        files = sorted((shared_data / source / "images").rglob("*.jpg"))
        files = files[:: max(1, len(files) // 12)]
        errors, caught = [], 0
        for file in files:
            made = decode(file.read_bytes(), target=224)
            errors += [f"{file.name} {f.rule}" for f in run_checks(made, default) if f.severity == "error"]
            sigma = 0.01 * max(made.pixels.shape)
            soft = Picture(cv2.GaussianBlur(made.pixels, (0, 0), sigma), made.width, made.height, "JPEG", 1)
            radius = Measures(soft).blur
            caught += radius is not None and radius > blur_limit.radius
        assert len(errors) <= len(files) // 20, (source, errors)
        assert caught >= 0.95 * len(files), (source, caught, len(files))
