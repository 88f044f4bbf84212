"""Further looks of faults of taking, editing and saving: blur, upscaled, compression, noise, exposure, cast, artefact.

`images` draws them beside the first looks (`Style.further`); they keep to the same ranges of the rulebook.
"""

from __future__ import annotations

import cv2
import numpy as np

from agpis.simulate.degradations import TRIES, recoded
from agpis.simulate.drawing import Ground, Marked, Rng, ground, hsv, lay, marked_change, plain_to_see, plate
from agpis.simulate.style import Pixels, Style


def blur(pixels: Pixels, rng: Rng, style: Style) -> Marked:
    """Shaken along a bent path, zoomed while open, out of focus at one side, or soft with the sensor's grain on top."""
    height, width = pixels.shape[:2]
    longest = max(height, width)
    kind = str(rng.choice(["path", "zoom", "plane", "grainy"]))
    sigma = longest * style.force(rng, 0.007, 0.022, "sigma")
    if kind == "path":
        n = max(7, int(longest * style.force(rng, 0.025, 0.07, "motion"))) | 1
        points = np.cumsum(np.cumsum(rng.standard_normal((12, 2)), 0), 0)
        points = (points - points.min(0)) / max(1e-6, float(np.ptp(points, 0).max()))
        canvas = np.zeros((n, n), np.uint8)
        corners = np.round(points * (n - 1) * 16).astype(np.int32)
        cv2.polylines(canvas, [corners], False, 255, 1, cv2.LINE_AA, 4)
        kernel = canvas.astype(np.float32)
        out = cv2.filter2D(pixels, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REPLICATE)
    elif kind == "zoom":
        reach = 2.4 * sigma / longest
        total = np.zeros(pixels.shape, np.float32)
        steps = 6
        for i in range(steps):
            scale = 1 + 2 * reach * i / steps
            matrix = cv2.getRotationMatrix2D((width / 2, height / 2), 0.8 * i * reach, scale)
            total += cv2.warpAffine(pixels, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
        out = cv2.GaussianBlur((total / steps).astype(np.uint8), (0, 0), 0.6 * sigma)
    elif kind == "plane":  # the focus lies in front of the product: one side less unsharp than the other
        far = cv2.GaussianBlur(pixels, (0, 0), 1.3 * sigma)
        near = cv2.GaussianBlur(pixels, (0, 0), 0.65 * sigma)
        slope = np.linspace(0, 1, height, dtype=np.float32)[:, None]
        if rng.random() < 0.5:
            slope = slope[::-1]
        out = lay(near.astype(np.uint8), np.broadcast_to(slope, (height, width)), far.astype(np.uint8), 0, 0)
    else:
        soft = cv2.GaussianBlur(pixels, (0, 0), sigma).astype(np.float32)
        grain = rng.standard_normal((height, width, 1), dtype=np.float32) * np.float32(rng.uniform(1.5, 5))
        out = (soft + grain).clip(0, 255)
    return Marked(np.asarray(out).astype(np.uint8))


def upscaled(pixels: Pixels, rng: Rng, style: Style) -> Marked:
    """Blown up by Lanczos and smoothed as by an enhancer, or out of a small file that was compressed before."""
    height, width = pixels.shape[:2]
    scale = 1 / style.force(rng, 4.2, 10, "factor")
    small = cv2.resize(pixels, (max(8, int(width * scale)), max(8, int(height * scale))), interpolation=cv2.INTER_AREA)
    if rng.random() < 0.5:
        small = recoded(np.asarray(small, np.uint8), int(rng.uniform(35, 80)))
    out = cv2.resize(small, (width, height), interpolation=cv2.INTER_LANCZOS4)
    if rng.random() < 0.6:  # as an enhancer does: flat areas, hard edges
        out = cv2.medianBlur(np.asarray(out, np.uint8), 5)
        soft = cv2.GaussianBlur(out, (0, 0), 0.006 * max(height, width))
        out = cv2.addWeighted(out, 2.5, soft, -1.5, 0)
    return Marked(np.asarray(out, np.uint8))


def compression(pixels: Pixels, rng: Rng, style: Style) -> Marked:
    """WebP's smears, several JPEG generations whose blocks do not align, or colour of very few blocks."""
    height, width = pixels.shape[:2]
    scale = min(1.0, rng.uniform(170, 280) / max(height, width))
    size = (max(16, int(width * scale)), max(16, int(height * scale)))
    small = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
    quality = round(style.force(rng, 11, 3, "quality"))
    kind = str(rng.choice(["webp", "generations", "colour"]))
    if kind == "webp":
        _, data = cv2.imencode(".webp", small[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, quality])
        small = np.asarray(cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB), np.uint8)
    elif kind == "generations":
        for _ in range(int(rng.integers(2, 5))):
            dy, dx = (int(v) for v in rng.integers(0, 8, 2))
            padded = np.pad(small, ((dy, 0), (dx, 0), (0, 0)), mode="edge")
            small = recoded(padded, min(16, quality + 3))[dy:, dx:]
    else:
        poor = cv2.cvtColor(recoded(small, max(1, quality // 2)), cv2.COLOR_RGB2YCrCb)
        poor[..., 0] = cv2.cvtColor(recoded(small, quality + 2), cv2.COLOR_RGB2YCrCb)[..., 0]
        small = np.asarray(cv2.cvtColor(poor, cv2.COLOR_YCrCb2RGB), np.uint8)
    out = cv2.resize(np.ascontiguousarray(small), (width, height), interpolation=cv2.INTER_LINEAR)
    return Marked(np.asarray(out, np.uint8))


def noise(pixels: Pixels, rng: Rng, style: Style) -> Marked:
    """Blotches of colour, bands by rows, or grain smeared by the camera's own filter and compression."""
    height, width = pixels.shape[:2]
    sigma = np.float32(style.force(rng, 14, 45, "sigma"))
    grain = max(height, width) / rng.uniform(120, 260)
    grid = (max(8, int(height / grain)), max(8, int(width / grain)))
    kind = str(rng.choice(["blotches", "bands", "smeared"]))
    field = rng.standard_normal((*grid, 3), dtype=np.float32) * sigma
    if kind == "blotches":
        coarse = rng.standard_normal((max(4, grid[0] // 4), max(4, grid[1] // 4), 3), dtype=np.float32) * sigma * 0.7
        coarse -= coarse.mean(2, keepdims=True)  # colour only
        field = 0.6 * field + cv2.resize(coarse, (grid[1], grid[0]), interpolation=cv2.INTER_LINEAR)
    elif kind == "bands":
        rows = rng.standard_normal((grid[0], 1, 1), dtype=np.float32) * sigma * 0.5
        field = 0.7 * field + (rows if rng.random() < 0.6 else rows * np.ones((1, grid[1], 1), np.float32))
    else:
        field = field.mean(2, keepdims=True) * np.float32(1.7)
    field = np.atleast_3d(cv2.resize(field, (width, height), interpolation=cv2.INTER_LINEAR))
    out = (pixels + field).clip(0, 255).astype(np.uint8)
    if kind == "smeared":
        out = recoded(np.asarray(cv2.medianBlur(out, 3), np.uint8), int(rng.uniform(35, 70)))
    return Marked(np.asarray(out, np.uint8))


def exposure(pixels: Pixels, rng: Rng, style: Style) -> Marked:
    """Haze or a flash's hot spot over the picture; against the light, crushed shadows, or a heavy vignette."""
    values = np.asarray(pixels, np.float32) / np.float32(255)
    height, width = pixels.shape[:2]
    amount = np.float32(style.force(rng, 1.2, 2.4, "stops") / 2.4)
    ways = {"over": ("haze", "flash"), "under": ("backlit", "crushed", "vignette")}
    kind = style.among(rng, ways, "direction")
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    if kind == "haze":  # no black is left
        lift = 0.35 + 0.35 * amount
        values = lift + values * (1.1 - lift)
    elif kind == "flash":
        cx, cy = width * rng.uniform(0.3, 0.7), height * rng.uniform(0.3, 0.7)
        r2 = ((x - cx) / width) ** 2 + ((y - cy) / height) ** 2
        spot = np.exp(-r2 / np.float32(2 * rng.uniform(0.15, 0.3) ** 2))
        values = values * (1 + 0.35 * amount) + (0.9 * amount * spot)[..., None]
    elif kind == "backlit":  # the product is a silhouette, the ground stays light
        mask = cv2.GaussianBlur(ground(pixels).mask.astype(np.float32), (0, 0), max(height, width) / 120)
        values = values * (1 - (0.55 + 0.35 * amount) * mask[..., None]) * np.float32(rng.uniform(0.85, 1.0))
    elif kind == "crushed":
        values = (values - 0.12 - 0.2 * amount).clip(0, 1) ** (1 + 0.6 * amount) * (0.8 - 0.25 * amount)
    else:
        r2 = ((x - width / 2) / width) ** 2 + ((y - height / 2) / height) ** 2
        values = values * (1 - (1.3 + 0.7 * amount) * r2).clip(0.04, 1)[..., None] * (0.85 - 0.3 * amount)
    return Marked((values * 255 + 0.5).clip(0, 255).astype(np.uint8))


def colour_cast(pixels: Pixels, rng: Rng, style: Style) -> Marked:
    """Two lamps of different colour, a filter that tints shadows and lights apart, or a cast with a lifted black."""
    amount = np.float32(style.force(rng, 0.14, 0.4, "strength"))
    height, width = pixels.shape[:2]
    hue = float(rng.uniform(0, 180))
    one = np.asarray(hsv(hue, 255, 255), np.float32) / 255
    two = np.asarray(hsv((hue + float(rng.uniform(50, 130))) % 180, 255, 255), np.float32) / 255
    values = pixels.astype(np.float32) / 255
    kind = str(rng.choice(["lamps", "split", "lifted"]))
    if kind == "lamps":
        t = np.linspace(0, 1, width, dtype=np.float32)[None, :, None]
        if rng.random() < 0.5:
            t = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
        values = values * (1 - amount * (1 - (one * (1 - t) + two * t)))
    elif kind == "split":
        light = values.mean(2, keepdims=True)
        values = values * (1 - amount * light * (1 - one)) + 0.5 * amount * (1 - light) * two
    else:
        values = values * (1 - amount * (1 - one)) + 0.3 * amount * one
    return Marked((values * 255 + 0.5).clip(0, 255).astype(np.uint8))


_ARTEFACTS = {
    "smear": ("cloned",),
    "erase": ("bitten",),
    "tear": ("doubled edge",),
    "halo": ("box", "glow"),
}


def artefact(pixels: Pixels, rng: Rng, style: Style) -> Marked:
    """A part cloned over and over, straight bites by a lasso, a ghost of the outline, a box or glow left around it.

    Where one cannot be seen (plain cloth cloned), another place or kind is tried, and straight bites at last.
    """
    around = ground(pixels)
    out = pixels
    for attempt in range(2 * TRIES):
        kind = style.among(rng, _ARTEFACTS, "kind")
        if not around.plain and kind in ("box", "glow", "doubled edge"):
            kind = "cloned"
        out = _faulty(pixels, around, rng, style, kind if attempt < TRIES else "bitten")
        if plain_to_see(pixels, out):
            break
    return marked_change(pixels, out)


def _faulty(pixels: Pixels, around: Ground, rng: Rng, style: Style, kind: str) -> Pixels:
    """One of the values of _ARTEFACTS."""
    height, width = pixels.shape[:2]
    longest = max(height, width)
    box = around.box
    out = pixels.copy()
    if kind == "cloned":  # the same round patch stamped along a path
        n = max(12, int(np.sqrt(box.w * box.h) * style.force(rng, 0.12, 0.25, "size")))
        sx, sy = box.x + int((box.w - n) * rng.uniform(0, 1)), box.y + int((box.h - n) * rng.uniform(0, 1))
        sx, sy = int(np.clip(sx, 0, max(0, width - n))), int(np.clip(sy, 0, max(0, height - n)))
        patch = np.ascontiguousarray(pixels[sy : sy + n, sx : sx + n])
        y, x = np.mgrid[0 : patch.shape[0], 0 : patch.shape[1]].astype(np.float32)
        r = np.hypot(x - patch.shape[1] / 2, y - patch.shape[0] / 2) / (n / 2)
        alpha = np.asarray(((1 - r) / 0.2).clip(0, 1), np.float32)
        angle = rng.uniform(0, 2 * np.pi)
        for i in range(1, int(rng.integers(3, 7))):
            dx, dy = int(i * n * 0.6 * np.cos(angle)), int(i * n * 0.6 * np.sin(angle))
            out = lay(out, alpha, patch, sx + dx, sy + dy)
    elif kind == "bitten":  # parts of the product cut away along straight lines
        for _ in range(int(rng.integers(1, 4))):
            n = np.sqrt(box.w * box.h) * style.force(rng, 0.2, 0.4, "size")
            centre = np.asarray([box.x + box.w * rng.choice([0.1, 0.9, rng.uniform(0.2, 0.8)]),
                                 box.y + box.h * rng.uniform(0.1, 0.9)])  # fmt: skip
            corners = centre + rng.uniform(-0.7, 0.7, (5, 2)) * n
            hull = cv2.convexHull(corners.astype(np.float32)).astype(np.int32)
            canvas = np.zeros((height, width), np.uint8)
            cv2.fillPoly(canvas, [hull], 255, cv2.LINE_AA)
            fill = around.colour if rng.random() < 0.8 else (255, 255, 255)
            out = lay(out, canvas.astype(np.float32) / np.float32(255), fill, 0, 0)
    elif kind == "doubled edge":
        shift = max(3, int(longest * style.force(rng, 0.015, 0.05)))
        angle = rng.uniform(0, 2 * np.pi)
        matrix = np.asarray([[1, 0, shift * np.cos(angle)], [0, 1, shift * np.sin(angle)]])
        ghost = cv2.warpAffine(pixels, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
        out = cv2.addWeighted(pixels, 0.55, ghost, 0.45, 0)
    elif kind == "box":  # pasted with a piece of another ground around it
        pad = max(3, int(longest * style.force(rng, 0.01, 0.05)))
        tone = float(rng.uniform(12, 40)) * (1 if sum(around.colour) < 384 else -1)
        red, green, blue = (int(np.clip(c + tone + rng.uniform(-8, 8), 0, 255)) for c in around.colour)
        shape = plate(box.w + 2 * pad, box.h + 2 * pad, float(rng.choice([0, 0.1])))
        out = lay(out, shape, (red, green, blue), box.x - pad, box.y - pad)
        hold = cv2.erode(around.mask.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(np.float32)
        out = lay(out, hold, pixels, 0, 0)
    else:
        reach = max(3, int(longest * style.force(rng, 0.012, 0.04)))
        wide = cv2.dilate(around.mask.astype(np.uint8), np.ones((reach, reach), np.uint8)).astype(np.float32)
        colour = hsv(rng.uniform(0, 180), rng.uniform(60, 220), rng.uniform(60, 255))
        out = lay(out, np.asarray(cv2.GaussianBlur(wide, (0, 0), reach / 4), np.float32), colour, 0, 0)
        out = lay(out, around.mask.astype(np.float32), pixels, 0, 0)
    return np.asarray(out, np.uint8)
