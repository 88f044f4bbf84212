"""judge.py: inspect and score say of images and sequences what `generate` says of them."""

from __future__ import annotations

import shutil
from dataclasses import asdict, replace
from pathlib import Path

import cv2
import pytest

from agpis import judge
from agpis.bundle import Bundle, open_bundle
from agpis.bundle_manifest import Threshold, read_manifest, write_manifest
from agpis.data import Image, Product
from agpis.pipeline import Pipeline, Settings
from tests.conftest import draw_photo, save_photo
from tests.test_pipeline import OPEN


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five views of a product, the first again with a sticker, and the first cropped."""
    folder = tmp_path_factory.mktemp("pictures")
    for view in range(5):
        save_photo(folder / f"{view}.jpg", draw_photo(3, view))
    marked = draw_photo(3)
    cv2.circle(marked, (400, 90), 62, (220, 20, 30), -1, cv2.LINE_AA)
    cv2.putText(marked, "-50%", (346, 103), cv2.FONT_HERSHEY_SIMPLEX, 1.3, (255, 255, 255), 4, cv2.LINE_AA)
    save_photo(folder / "marked.jpg", marked)
    save_photo(folder / "crop.jpg", draw_photo(3)[60:520, 40:440])
    return folder


def of(folder: Path, *names: str) -> Product:
    return Product("S3", "Spotted thing", "Things", tuple(Image(f"{name}.jpg", base=str(folder)) for name in names))


@pytest.fixture(scope="module")
def strict_starter(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The starter with a threshold that every picture is above."""
    folder = tmp_path_factory.mktemp("bundles") / "starter"
    shutil.copytree(open_bundle(None).folder, folder)
    manifest = read_manifest(folder)
    thresholds = {**manifest.thresholds, "noncompliant": Threshold(value=0.0, data="a test")}
    write_manifest(folder, manifest.model_copy(update={"thresholds": thresholds}))
    return open_bundle(folder, threads=1)


def test_inspect_says_what_generate_says_of_an_image_and_where(strict_starter: Bundle, pictures: Path) -> None:
    (decision,) = Pipeline(strict_starter.folder, Settings())([of(pictures, "0", "1", "2", "marked")])
    lines = [{"image": f"{name}.jpg"} for name in ("0", "1", "2", "marked")]
    said = list(judge.inspect(lines, strict_starter, strict_starter.rulebook, base=str(pictures)))
    for line, candidate in zip(said, decision.candidates, strict=True):
        findings = [asdict(finding) for finding in candidate.findings]
        assert [f["rule"] for f in line["findings"]] == [f["rule"] for f in findings]
        assert [f["box"] for f in line["findings"]] == [f["box"] for f in findings]
        assert [f["message"] for f in line["findings"]] == [f["message"] for f in findings]
    boxes = [finding["box"] for finding in said[3]["findings"] if finding["box"]]
    assert boxes


def test_inspect_weighs_by_the_rulebook_in_force(strict_starter: Bundle, pictures: Path) -> None:
    own = strict_starter.rulebook
    (line,) = judge.inspect([{"image": "marked.jpg"}], strict_starter, own, base=str(pictures))
    found = {finding["rule"] for finding in line["findings"] if finding["probability"] is not None}
    assert found
    without = own.model_copy(update={"rules": tuple(rule for rule in own.rules if rule.id not in found)})
    (line,) = judge.inspect([{"image": "marked.jpg"}], strict_starter, without, base=str(pictures))
    assert not [finding for finding in line["findings"] if finding["probability"] is not None]


def test_score_blames_the_image_that_generate_blames(tiny_bundle: Path, pictures: Path) -> None:
    settings = replace(OPEN, strangers="weigh", images=3)
    (decision,) = Pipeline(tiny_bundle, settings)([of(pictures, "0", "1", "2", "3", "4")])
    assert len(decision.violations) > 1
    bundle = open_bundle(tiny_bundle)
    line = {"sku": "S3", "title": "Spotted thing", "category": "Things", "images": list(decision.sequence)}
    (said,) = judge.score([line], bundle, bundle.rulebook, feedback=False, base=str(pictures))
    by_rule = {violation["rule"]: violation for violation in said["violations"]}
    assert len(by_rule) == len(bundle.classes) - 2  # all but qualified and other
    for violation in decision.violations:
        assert by_rule[violation.rule]["image"] == violation.image
        assert by_rule[violation.rule]["scope"] == violation.scope
    chances = [violation["probability"] for violation in said["violations"]]
    assert chances == sorted(chances, reverse=True)


def test_score_hears_the_matcher_on_a_copy(tiny_bundle: Path, pictures: Path) -> None:
    bundle = open_bundle(tiny_bundle)

    def duplicate(*names: str) -> tuple[int, dict[str, object]]:
        line = {"title": "Spotted thing", "images": [f"{name}.jpg" for name in names]}
        (said,) = judge.score([line], bundle, bundle.rulebook, feedback=False, base=str(pictures))
        rules = [violation["rule"] for violation in said["violations"]]
        return rules.index("duplicate"), said["violations"][rules.index("duplicate")]

    place, violation = duplicate("0", "1", "0")
    other, _ = duplicate("0", "1", "2")
    assert place == 0 < other
    assert violation["image"] == "0.jpg"
    _, cropped = duplicate("1", "0", "crop")
    assert cropped["image"] == "crop.jpg"
