"""Broken images, catalogues, rulebooks and bundles through `generate`: each gives its documented code,
and every product is in the output exactly once. Kills, full disks and read-only folders are in test_engine.py."""

from __future__ import annotations

import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from agpis.engine import Options, generate
from agpis.errors import AgpisError
from agpis.images import Limits
from agpis.pipeline import Settings
from agpis.shards import read_decisions
from tests.conftest import ROOT, draw_photo
from tests.image_server import ImageServer

QUICK = Limits(
    max_bytes=300_000,
    max_pixels=4_000_000,
    connect_timeout=0.5,
    read_timeout=0.3,
    total_timeout=1.0,
    redirects=3,
    retries=1,
    backoff=0.01,
    max_wait=0.05,
)


def encoded(kind: str = "JPEG", size: tuple[int, int] = (480, 600), **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(draw_photo(1, size=size)).save(file, kind, **options)
    return file.getvalue()


def animated(kind: str) -> bytes:
    frames = [Image.fromarray(draw_photo(1, view, (64, 64))) for view in range(3)]
    file = io.BytesIO()
    frames[0].save(file, kind, save_all=True, append_images=frames[1:], duration=50)
    return file.getvalue()


def noise() -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (700, 700, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


FILES: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty.jpg": (lambda: b"", "empty"),
    "page.jpg": (lambda: b"<!DOCTYPE html><html><body>Not found</body></html>", "html"),
    "text.jpg": (lambda: b"hello, this is no image at all", "not_an_image"),
    "zeros.jpg": (lambda: bytes(5000), "not_an_image"),
    "half.jpg": (lambda: encoded()[: len(encoded()) // 2], "truncated"),
    "almost.jpg": (lambda: encoded()[:-400], "truncated"),
    "half.png": (lambda: encoded("PNG")[: len(encoded("PNG")) // 2], "truncated"),
    "half.webp": (lambda: encoded("WEBP")[: len(encoded("WEBP")) // 2], "truncated"),
    "half.tif": (lambda: encoded("TIFF", (240, 300))[: len(encoded("TIFF", (240, 300))) // 2], "truncated"),
    "half.avif": (lambda: encoded("AVIF")[: len(encoded("AVIF")) // 2], "truncated"),
    "header-only.jpg": (lambda: encoded()[:20], "truncated"),
    "moving.gif": (lambda: animated("GIF"), "animated"),
    "moving.webp": (lambda: animated("WEBP"), "animated"),
    "moving.png": (lambda: animated("PNG"), "animated"),
    "drawing.svg": (
        lambda: b'<svg xmlns="http://www.w3.org/2000/svg"><rect width="9" height="9"/></svg>',
        "unsupported_format",
    ),
    "paper.pdf": (lambda: b"%PDF-1.7\n" + bytes(500), "unsupported_format"),
    "layers.psd": (lambda: b"8BPS\x00\x01" + bytes(500), "unsupported_format"),
    "huge.png": (lambda: encoded("PNG", (2600, 2000)), "too_many_pixels"),
    "heavy.png": (noise, "too_many_bytes"),
    "flipped-bits.png": (lambda: encoded("PNG")[:300] + bytes(200) + encoded("PNG")[500:], "corrupt"),
}
"""File name -> bytes and the documented code."""

URLS = {
    "/missing.jpg": "not_found",
    "/status.jpg?403": "forbidden",
    "/status.jpg?410": "not_found",
    "/status.jpg?418": "http_status",
    "/status.jpg?500": "server_error",
    "/busy.jpg": "rate_limited",
    "/html.jpg": "html",
    "/empty.jpg": "empty",
    "/loop.jpg": "too_many_redirects",
    "/redirect.jpg?file:///etc/hostname": "redirect_refused",
    "/short.jpg": "truncated",
    "/endless.jpg": "too_many_bytes",
    "/announced.jpg": "too_many_bytes",
    "/gzip-bomb.jpg": "too_many_bytes",
    "/not-gzip.jpg": "bad_encoding",
    "/silent.jpg": "read_timeout",
    "/drip-body.jpg": "read_timeout",
    "/drip-headers.jpg": "read_timeout",
    "/hang-up.jpg": "connection_failed",
}

OTHERS = {
    "no-such-file.jpg": "not_found",
    "a\0b.jpg": "bad_location",
    ".": "not_a_file",
    "http://127.0.0.1:1/closed.jpg": "connection_failed",
    "gopher://127.0.0.1/x.jpg": "unsupported_location",
}


def test_every_broken_image_has_its_code_and_every_product_is_there_once(tiny_bundle: Path, tmp_path: Path) -> None:
    good = [f"good-{view}.jpg" for view in range(3)]
    for view, name in enumerate(good):
        Image.fromarray(draw_photo(7, view)).save(tmp_path / name, quality=92)
    for name, (make, _) in FILES.items():
        (tmp_path / name).write_bytes(make())
    with ImageServer() as server:
        expected = {name: code for name, (_, code) in FILES.items()}
        expected |= {server.url(path): code for path, code in URLS.items()} | OTHERS
        assert len(expected) >= 40
        # Each beside good pictures, each alone, and all of them in one product.
        rows = [{"sku": f"beside {i}", "title": "t", "images": [*good, uri]} for i, uri in enumerate(expected)]
        rows += [{"sku": f"alone {i}", "title": "t", "images": [uri]} for i, uri in enumerate(expected)]
        rows.append({"sku": "all", "title": "t", "images": [*expected, *good]})
        source = tmp_path / "catalog.jsonl"
        source.write_text("".join(json.dumps(row) + "\n" for row in rows))
        settings = Settings(
            limits=QUICK, primary_threshold=0, noncompliant_threshold=1, duplicate_threshold=1, threshold=0
        )
        generate(str(source), tmp_path / "out", Options(bundle=str(tiny_bundle), settings=settings))
    decisions = list(read_decisions(sorted((tmp_path / "out").glob("part-*"))))
    assert [d.sku for d in decisions] == [row["sku"] for row in rows]
    found = {d.sku: {c.uri: c.reason for c in d.candidates} for d in decisions}
    by_sku = {d.sku: d for d in decisions}
    wrong = {}
    for i, (uri, code) in enumerate(expected.items()):
        for sku in (f"beside {i}", f"alone {i}", "all"):
            if found[sku][uri] != code:
                wrong[sku, uri] = (found[sku][uri], code)
        assert by_sku[f"alone {i}"].status == "failed"
        assert by_sku[f"alone {i}"].error is not None
        assert sorted(by_sku[f"beside {i}"].sequence) == good
    assert not wrong
    assert sorted(by_sku["all"].sequence) == good


def documented() -> set[str]:
    text = "".join((ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("errors.md", "catalogues.md"))
    return set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE))


def test_every_code_of_these_tests_is_documented() -> None:
    codes = {code for _, code in FILES.values()} | set(URLS.values()) | set(OTHERS.values())
    assert codes <= documented()


CATALOGUES: dict[str, tuple[bytes, str]] = {
    "nothing.csv": (b"", "empty_catalogue"),
    "noise.csv": (bytes(range(256)) * 20, "unknown_format"),
    "prose.csv": (b"Dear shop,\nplease find attached nothing.\n", "unknown_format"),
    "zipped.csv": (b"PK\x03\x04" + bytes(100), "compressed"),
    "array.jsonl": (b'[{"sku": "a"}]', "unknown_format"),
    "cut.parquet": (b"PAR1" + bytes(100), "bad_parquet"),
    "no-images.csv": (b"Handle,Title\na,A\n", "unknown_format"),
}


@pytest.mark.parametrize("name", CATALOGUES)
def test_broken_catalogues(name: str, tiny_bundle: Path, tmp_path: Path) -> None:
    content, code = CATALOGUES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(AgpisError) as caught:
        generate(str(tmp_path / name), tmp_path / "out", Options(bundle=str(tiny_bundle)))
    assert caught.value.code == code
    assert code in documented()


RULEBOOKS = {
    "missing": (None, "rulebook_not_found"),
    "syntax": ("id: [unclosed", "rulebook_syntax"),
    "unknown key": ("id: mine\nversion: '1'\nk: 3\nruels: []\n", "rulebook_invalid"),
    "empty": ("", "rulebook_empty"),
}


@pytest.mark.parametrize("name", RULEBOOKS)
def test_broken_rulebooks(name: str, tiny_catalogue: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    text, _ = RULEBOOKS[name]
    path = tmp_path / "rules.yaml"
    if text is not None:
        path.write_text(text)
    settings = Settings(rulebook=str(path))
    with pytest.raises(AgpisError) as caught:
        generate(str(tiny_catalogue / "catalog.jsonl"), tmp_path / "out", Options(str(tiny_bundle), settings))
    assert caught.value.code.startswith("rulebook_")
    assert caught.value.code in documented()
    assert str(path) in caught.value.message


def cut_graph(bundle: Path) -> None:
    graph = next(bundle.glob("*.onnx"))
    graph.write_bytes(graph.read_bytes()[:-10])


def drop_graph(bundle: Path) -> None:
    next(bundle.glob("*.onnx")).unlink()


def change_manifest(key: str, value: object) -> Callable[[Path], None]:
    def change(bundle: Path) -> None:
        path = bundle / "manifest.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))

    return change


BUNDLES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no manifest": (lambda bundle: (bundle / "manifest.json").unlink(), "not_found"),
    "torn manifest": (lambda bundle: (bundle / "manifest.json").write_text('{"format'), "bad_manifest"),
    "other format": (change_manifest("format", 99), "format_version"),
    "no k": (change_manifest("k", 0), "bad_manifest"),
    "cut graph": (cut_graph, "checksum"),
    "lost graph": (drop_graph, "missing_file"),
    "other rules": (lambda bundle: (bundle / "rulebook.yaml").write_text("id: x"), "rulebook_mismatch"),
}


@pytest.mark.parametrize("name", BUNDLES)
def test_broken_bundles(name: str, tiny_catalogue: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    damage, code = BUNDLES[name]
    bundle = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, bundle)
    damage(bundle)
    with pytest.raises(AgpisError) as caught:
        generate(str(tiny_catalogue / "catalog.jsonl"), tmp_path / "out", Options(str(bundle)))
    assert caught.value.code == code
    assert code in documented()
    assert not (tmp_path / "out").exists()
