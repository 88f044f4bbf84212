"""Bundles: what opening verifies, what running gives. The bundle is a real one, trained for two steps."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
import pytest

from agpis.bundle import open_bundle, sha256
from agpis.errors import BundleError
from agpis.images import Size
from agpis.rulebook import load_rulebook


@pytest.fixture
def copy(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


def edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text("utf-8"))
    change(manifest)
    path.write_text(json.dumps(manifest), "utf-8")


def refused(folder: Path, code: str, message: str) -> None:
    with pytest.raises(BundleError, match=message) as caught:
        open_bundle(folder)
    assert caught.value.code == code


def pixels(count: int, size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


# opening


def test_no_bundle(tmp_path: Path) -> None:
    refused(tmp_path / "none", "not_found", "no bundle at .*none: manifest.json is missing. Give a folder")


def test_not_json(copy: Path) -> None:
    (copy / "manifest.json").write_text("{")
    refused(copy, "bad_manifest", "manifest.json is not JSON: .*Export the bundle again")


def test_not_a_mapping(copy: Path) -> None:
    (copy / "manifest.json").write_text("[1]")
    refused(copy, "bad_manifest", "manifest: Input should be a valid dictionary")


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_foreign_format(copy: Path, version: object) -> None:
    edit(copy, lambda m: m.update(format=version))
    refused(copy, "format_version", f"has format {version!r}; this version of AGPIS reads format 1")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.pop("k"), "k: Field required"),
        (lambda m: m.update(extra=1), "extra: Extra inputs are not permitted"),
        (lambda m: m["roles"].pop("tokens"), r"roles are \['feedback'.*they must be exactly"),
        (lambda m: m["roles"].update(tokens="none"), r"roles name the graphs \['none'\]; graphs has"),
        (lambda m: m["thresholds"].pop("duplicate"), r"thresholds lacks \['duplicate'\]"),
        (lambda m: m["thresholds"]["primary"].update(value=1.5), "thresholds.primary.value: .*less than or equal to 1"),
        (lambda m: m["resize"].update(width=0), "resize.width: Input should be greater than 0"),
        (lambda m: m["text"].update(end="<stop>"), "tokenizer.json is no tokenizer of this bundle: .*<stop>"),
    ],
)
def test_bad_manifest(copy: Path, change: Callable[[dict[str, Any]], None], message: str) -> None:
    edit(copy, change)
    refused(copy, "bad_manifest", message)


@pytest.mark.parametrize("name", ["image.onnx", "sequence.onnx", "decoder.onnx", "tokenizer.json", "rulebook.yaml"])
def test_missing_file(copy: Path, name: str) -> None:
    (copy / name).unlink()
    refused(copy, "missing_file", f"lacks {name}, which its manifest names")


@pytest.mark.parametrize("name", ["image.onnx", "tokenizer.json"])
def test_altered_file(copy: Path, name: str) -> None:
    data = bytearray((copy / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / name).write_bytes(data)
    refused(copy, "checksum", f"{name} has sha256 .*the file was altered or cut off")


def test_unreadable_graph(copy: Path) -> None:
    (copy / "sequence.onnx").write_bytes(b"no graph")
    edit(copy, lambda m: m["graphs"]["sequence"].update(sha256=sha256(copy / "sequence.onnx")))
    refused(copy, "unreadable_graph", "ONNX Runtime cannot open .*sequence.onnx")


def test_another_rulebook(copy: Path) -> None:
    path = copy / "rulebook.yaml"
    text = path.read_text("utf-8")
    assert text.count("What most marketplaces agree on") == 1
    path.write_text(text.replace("What most marketplaces agree on", "Something else"), "utf-8")
    refused(copy, "rulebook_mismatch", "has the hash .*the models were trained for another rulebook")


def test_broken_rulebook(copy: Path) -> None:
    (copy / "rulebook.yaml").write_text("id: [")
    refused(copy, "rulebook_mismatch", "the bundle's rulebook cannot be read: ")


def test_classes_in_another_order(copy: Path) -> None:
    edit(copy, lambda m: m["rulebook"]["classes"].reverse())
    refused(copy, "rulebook_mismatch", "has the classes .*train and export for the new one")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda m: m["graphs"]["image"]["inputs"][0].update(dtype="float"),
            "has the inputs pixels uint8.*says pixels fl",
        ),
        (lambda m: m["graphs"]["image"]["outputs"].pop(), "graph 'image' .* has the outputs .*Export the bundle again"),
        (lambda m: m["graphs"]["sequence"]["outputs"][0]["shape"].__setitem__(1, 3), "graph 'sequence'"),
        (lambda m: m["roles"].update(sequence="image"), "'image' serves the role 'sequence' but has no input 'tokens'"),
        (lambda m: m.update(things={"words": [["cup"]], "data": "drawn"}), "role 'tokens' but has no output 'things'"),
    ],
)
def test_another_signature(copy: Path, change: Callable[[dict[str, Any]], None], message: str) -> None:
    edit(copy, change)
    refused(copy, "graph_signature", message)


def test_opening_a_graph_costs_no_write(tiny_bundle: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in tiny_bundle.iterdir()}
    open_bundle(tiny_bundle)
    assert {path: path.stat().st_mtime_ns for path in tiny_bundle.iterdir()} == before


# running


def test_image_gives_the_graphs_numbers(tiny_bundle: Path) -> None:
    bundle = open_bundle(tiny_bundle)
    size = bundle.size.width
    batch = pixels(3, size)
    out = bundle.image(batch)
    session = onnxruntime.InferenceSession(str(tiny_bundle / "image.onnx"), providers=["CPUExecutionProvider"])
    expected = dict(zip([o.name for o in session.get_outputs()], session.run(None, {"pixels": batch}), strict=True))
    for name in ("p_primary", "p_noncompliant", "rules", "tokens", "patches", "evidence"):
        value = getattr(out, name)
        assert value.dtype == np.float32
        np.testing.assert_allclose(value, expected[name], atol=1e-6)
    assert out.rules.shape == (3, len(bundle.single_rules))
    np.testing.assert_allclose(np.linalg.norm(out.patches, axis=-1), 1.0, atol=1e-5)
    assert ((out.p_primary > 0) & (out.p_primary < 1)).all()


@pytest.mark.parametrize(
    "bad", [np.zeros((1, 8, 8, 3), np.uint8), np.zeros((1, 64, 64, 3), np.float32), np.zeros((64, 64, 3), np.uint8)]
)
def test_image_refuses_other_pixels(tiny_bundle: Path, bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"the bundle takes uint8 \(N, \(64, 64, 3\)\)"):
        open_bundle(tiny_bundle).image(bad)


def test_features_are_the_mean_tokens(tiny_bundle: Path) -> None:
    bundle = open_bundle(tiny_bundle)
    pixels = np.random.default_rng(2).integers(0, 256, (35, bundle.size.height, bundle.size.width, 3), np.uint8)
    found = bundle.embed(pixels)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, bundle.image(pixels).tokens.mean(axis=1), atol=1e-5)
    with pytest.raises(ValueError, match="the bundle takes uint8"):
        bundle.embed(pixels[:, 1:])


def test_sequences_are_scored_each_for_itself(tiny_bundle: Path) -> None:
    bundle = open_bundle(tiny_bundle)
    tokens = bundle.image(pixels(4, bundle.size.width)).tokens
    several = bundle.sequence(tokens[[[0, 1, 2], [3, 2, 1]]], "round lamp", "home")
    assert several.shape == (2, len(bundle.classes))
    np.testing.assert_allclose(several.sum(1), 1.0, atol=1e-5)
    np.testing.assert_allclose(bundle.sequence(tokens[[[3, 2, 1]]], "round lamp", "home"), several[1:], atol=1e-5)


def test_fewer_images_are_masked(tiny_bundle: Path) -> None:
    bundle = open_bundle(tiny_bundle)
    tokens = bundle.image(pixels(2, bundle.size.width)).tokens
    found = bundle.sequence(tokens[None], "lamp", "")
    assert found.shape == (1, len(bundle.classes))
    session = onnxruntime.InferenceSession(str(tiny_bundle / "sequence.onnx"), providers=["CPUExecutionProvider"])
    garbage = np.concatenate([tokens[None], np.full_like(tokens[None, :1], 9.0)], axis=1)
    feed = {
        "tokens": garbage,
        "mask": np.array([[1, 1, 0]], np.float32),
        "ids": np.array([bundle.text.title("lamp")]),
    }
    np.testing.assert_allclose(found, session.run(["probabilities"], feed)[0], atol=1e-5)


def test_more_images_count_as_their_worst_window(tiny_bundle: Path) -> None:
    bundle = open_bundle(tiny_bundle)
    tokens = bundle.image(pixels(5, bundle.size.width)).tokens
    found = bundle.sequence(tokens[None], "lamp", "")[0]
    windows = [bundle.sequence(tokens[None, [0, *w]], "lamp", "")[0] for w in combinations(range(1, 5), 2)]
    worst = min(windows, key=lambda p: p[0])
    np.testing.assert_allclose(found, worst, atol=1e-6)
    assert max(w[0] for w in windows) > worst[0]


def test_feedback_is_the_greedy_text_without_cache(tiny_bundle: Path) -> None:
    """The cached steps give what re-reading the whole text each time would."""
    bundle = open_bundle(tiny_bundle)
    tokens = bundle.image(pixels(3, bundle.size.width)).tokens
    run = {
        name: onnxruntime.InferenceSession(str(tiny_bundle / f"{name}.onnx"), providers=["CPUExecutionProvider"])
        for name in ("sequence", "decoder")
    }
    title = bundle.text.title("square box blue")
    mask = np.ones((1, bundle.k), np.float32)
    (memory,) = run["sequence"].run(["memory"], {"tokens": tokens[None], "mask": mask, "ids": np.array([title])})
    shape = run["decoder"].get_inputs()[3].shape
    written: list[int] = []
    while len(written) < bundle.text.max_feedback:
        feed = {
            "ids": np.array([[*title, *written]]),
            "memory": memory,
            "memory_mask": np.ones((1, memory.shape[1]), np.float32),
            "past": np.zeros([n if isinstance(n, int) else 0 for n in shape], np.float32),
        }
        token = int(run["decoder"].run(["logits"], feed)[0][0].argmax())
        if token == bundle.text.end:
            break
        written.append(token)
    assert bundle.feedback(tokens, "square box blue") == bundle.text.words(written)


def test_calibration_tempers_and_shifts(copy: Path) -> None:
    plain = open_bundle(copy)
    tokens = plain.image(pixels(3, plain.size.width)).tokens[None]
    before = plain.sequence(tokens, "lamp")[0].astype(np.float64)
    edit(copy, lambda m: m.update(qualified={"temperature": 2.0, "shift": 1.0, "data": "a test"}))
    after = open_bundle(copy).sequence(tokens, "lamp")[0]
    expected = np.sqrt(before) * np.where(np.arange(len(before)) == 0, np.e, 1.0)
    np.testing.assert_allclose(after, expected / expected.sum(), atol=1e-5)


def test_bundle_travels_to_workers(tiny_bundle: Path) -> None:
    bundle = open_bundle(tiny_bundle, threads=1)
    again = pickle.loads(pickle.dumps(bundle))
    assert (again.name, again.threads, again.classes) == (bundle.name, 1, bundle.classes)
    batch = pixels(1, bundle.size.width)
    np.testing.assert_array_equal(again.image(batch).tokens, bundle.image(batch).tokens)
    assert len(pickle.dumps(bundle)) < 1000  # the path, not the graphs


def test_contents(tiny_bundle: Path) -> None:
    bundle = open_bundle(tiny_bundle)
    assert bundle.name == "tiny"
    assert bundle.k == bundle.rulebook.k == 3
    assert bundle.classes[0] == "qualified"
    assert bundle.classes[-1] == "other"
    assert bundle.single_rules == bundle.rulebook.single_rules
    assert set(bundle.thresholds) == {"primary", "noncompliant", "duplicate", "qualified"}
    assert bundle.thresholds["qualified"] == 0.3


# the starter in the package


def test_starter_is_sound_small_and_honest() -> None:
    bundle = open_bundle()
    assert sum(path.stat().st_size for path in bundle.folder.iterdir()) <= 25 * 1024 * 1024
    assert bundle.name == "starter"
    assert bundle.size == Size(width=224, height=224)
    sources = {"magento", "oxid", "kickstart", "grandnode", "saleor", "smartstore", "spree", "clothing", "grocery"}
    assert set(bundle.manifest.trained_on) == sources
    for name in ("primary", "noncompliant"):
        assert "left out" in bundle.manifest.thresholds[name].data
    card = (bundle.folder / "MODEL_CARD.md").read_text("utf-8")
    for name in sources:
        assert f"`{name}`" in card
    assert f"{bundle.manifest.metrics['together']['sequence AUC'][0]:.3f}" in card


def test_starter_serves_the_default_rulebook() -> None:
    bundle, rulebook = open_bundle(), load_rulebook("default")
    assert bundle.classes == rulebook.classes
    assert bundle.single_rules == rulebook.single_rules


def test_starter_finds_a_banner_and_a_copy() -> None:
    """A sanity check, not a measure: a drawn shoe-like shape, a banner over it, its mirrored crop."""
    bundle = open_bundle()
    plain = np.full((224, 224, 3), 255, np.uint8)
    cv2.ellipse(plain, (112, 112), (70, 45), 20, 0, 360, (90, 60, 40), -1)
    cv2.line(plain, (70, 100), (150, 130), (220, 200, 180), 6)
    banner = plain.copy()
    cv2.rectangle(banner, (0, 0), (224, 46), (220, 20, 30), -1)
    cv2.putText(banner, "SALE -50%", (20, 34), cv2.FONT_HERSHEY_SIMPLEX, 1.0, (255, 255, 255), 3)
    out = bundle.image(np.stack([plain, banner]))
    assert out.p_noncompliant[1] > out.p_noncompliant[0] + 0.2
    assert bundle.single_rules[int(out.rules[1].argmax())] in ("banner", "badge", "screenshot", "collage")
    assert out.p_primary[0] > out.p_primary[1]
