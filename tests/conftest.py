"""Shared parts of the tests: real ones, made small. Nothing here needs the network."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The development catalogues beside the checkout; skipped where they are absent, never in CI."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI must have {folder}")
        pytest.skip("needs the development catalogues in ../shared/data")
    return folder


def draw_photo(seed: int, view: int = 0, size: tuple[int, int] = (480, 600)) -> np.ndarray:
    """A drawn product on white, uint8 (H, W, 3): `seed` fixes shape, colours and print, `view` turns it."""
    product = np.random.default_rng(seed)
    colours = product.integers(20, 200, (6, 3))
    spots = product.uniform(-0.8, 0.8, (24, 2))
    width, height = size
    picture = np.full((height, width, 3), 255, np.uint8)
    centre = np.array([width / 2, height / 2])
    axes = np.array([width, height]) * (0.36 - 0.04 * view)
    angle = float(product.uniform(0, 40) + 25 * view)
    cv2.ellipse(picture, tuple(centre.astype(int)), tuple(axes.astype(int)), angle, 0, 360, colours[0].tolist(), -1)
    turn = np.deg2rad(angle)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    for i, spot in enumerate(spots[view::2] if view else spots):
        at = centre + rotation @ (spot * axes * 0.7)
        radius = int(6 + 18 * product.random())
        cv2.circle(picture, tuple(at.astype(int)), radius, colours[1 + i % 5].tolist(), -1, cv2.LINE_AA)
    return picture


def save_photo(path: Path, pixels: np.ndarray) -> None:
    Image.fromarray(pixels).save(path, quality=90)


@pytest.fixture(scope="session")
def tiny_catalogue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve drawn products with 1 to 5 candidates, some of them broken: a folder with catalog.jsonl."""
    folder = tmp_path_factory.mktemp("catalogue")
    (folder / "images").mkdir()
    lines = []
    for number in range(12):
        count = 1 + number % 5
        uris = []
        for view in range(count):
            uri = f"images/{number}-{view}.jpg"
            save_photo(folder / uri, draw_photo(number, view))
            uris.append(uri)
        if number == 4:  # a crop of the first image
            save_photo(folder / "images/4-crop.jpg", draw_photo(4, 0)[100:450, 80:400])
            uris.append("images/4-crop.jpg")
        if number == 8:  # broken in three ways
            whole = (folder / "images/8-0.jpg").read_bytes()
            (folder / "images/8-cut.jpg").write_bytes(whole[: len(whole) // 2])
            (folder / "images/8-html.jpg").write_text("<html><body>404</body></html>")
            uris += ["images/8-cut.jpg", "images/8-html.jpg", "images/8-missing.jpg"]
        lines.append({"sku": f"P{number}", "title": f"Spotted thing {number}", "category": "Things", "images": uris})
    lines.insert(6, {"sku": "empty", "title": "No pictures", "category": "", "images": []})
    text = [json.dumps(line) for line in lines]
    text.insert(3, '{"sku": "torn", "title": ')
    (folder / "catalog.jsonl").write_text("\n".join(text) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real bundle, trained two steps and exported by the real code."""
    pytest.importorskip("torch", reason="needs the train extra")
    from tests.tiny import make_tiny_bundle

    return make_tiny_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Torch on one thread, for sums in the same order every time; `pytestmark` asks for it."""
    torch = pytest.importorskip("torch", reason="needs the train extra")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium without a window, through Playwright; skipped where it is absent, never in CI."""
    found = shutil.which("chromium")
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail("CI must have Debian's chromium (apt-get install chromium)")
        pytest.skip("needs Debian's chromium (apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    flags = "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync"
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=found, args=flags.split())
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The verdicts.jsonl of a drawn shop, in a folder with its pictures."""
    from tests.drawn_reviews import write_reviews

    return write_reviews(tmp_path_factory.mktemp("shop"))
