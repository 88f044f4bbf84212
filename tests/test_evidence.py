"""evidence.py and what the pipeline makes of it: where in an image, which rule, which image of a sequence."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from agpis import evidence
from agpis.bundle import open_bundle
from agpis.bundle_manifest import Naming, RuleUsual, read_manifest, write_manifest
from agpis.compliance import learned_findings
from agpis.data import Box, Image
from agpis.images import Size
from agpis.pipeline import Pipeline, Settings
from agpis.rulebook import load_rulebook
from tests.conftest import draw_photo
from tests.test_pipeline import OPEN, encoded, product

SIZE = Size(width=224, height=224)
RULES = load_rulebook("default")


def scores(rows: slice, columns: slice, side: int = 14) -> np.ndarray:
    grid = np.full((side, side), 0.02, np.float32)
    grid[rows, columns] = 0.9
    return grid.ravel()


def sight(**changes: Any) -> evidence.Sight:
    """Three images nothing is held against, all alike."""
    found = evidence.Sight(
        single_rules=RULES.single_rules,
        rules=np.full((3, len(RULES.single_rules)), 0.01, np.float32),
        p_primary=np.array([0.9, 0.5, 0.4], np.float32),
        p_copy=np.zeros((3, 3), np.float32),
        features=np.ones((3, 4), np.float32),
    )
    return replace(found, **changes)


# Where in an image ---------------------------------------------------------------------------------------------------


def test_a_box_lies_within_the_strong_patches_in_source_pixels() -> None:
    # 672 x 336 in 224 x 224: a third of the size, 56 rows of padding above and below, so patch row 5 begins at y = 72.
    box = evidence.mark(scores(slice(5, 9), slice(3, 8)), 672, 336, SIZE)
    assert box is not None
    region = Box(3 * 48, (5 * 16 - 56) * 3, 5 * 48, 4 * 48)
    assert region.x < box.x
    assert box.x + box.w < region.x + region.w
    assert box.x + box.w / 2 == pytest.approx(region.x + region.w / 2, abs=1)
    assert box.y + box.h / 2 == pytest.approx(region.y + region.h / 2, abs=1)


def test_a_box_at_the_edge_goes_to_the_edge() -> None:
    assert evidence.mark(scores(slice(0, 4), slice(10, 14)), 448, 448, SIZE) == Box(320 + 16, 0, 112, 112)


@pytest.mark.parametrize(
    "everywhere",
    [
        np.full(196, 0.8, np.float32),
        np.indices((14, 14)).sum(0).ravel() % 4 == 0,  # strewn about
    ],
)
def test_what_is_all_over_the_picture_has_no_box(everywhere: np.ndarray) -> None:
    assert evidence.mark(everywhere.astype(np.float32), 500, 500, SIZE) is None


def test_evidence_in_the_padding_does_not_count() -> None:
    assert evidence.mark(scores(slice(0, 2), slice(0, 14)), 672, 336, SIZE) is None
    assert evidence.mark(scores(slice(3, 4), slice(3, 4)), 3, 20_000, SIZE) is None  # no patch lies in it


def test_only_a_rule_with_a_place_gets_a_box() -> None:
    local = scores(slice(5, 9), slice(3, 8))
    for rule, boxed in (("badge", True), ("blur", False)):
        probabilities = np.zeros(len(RULES.single_rules), np.float32)
        probabilities[RULES.single_rules.index(rule)] = 0.9
        boxes = evidence.marks(probabilities, local, RULES, 448, 448, SIZE)
        (finding,) = learned_findings(probabilities, RULES, boxes=boxes)
        assert (finding.rule, finding.box is not None) == (rule, boxed)
        assert evidence.marks(probabilities, None, RULES, 448, 448, SIZE) == {}


# Which rule ----------------------------------------------------------------------------------------------------------


def test_stage_1_is_heard_on_which_rule_is_broken() -> None:
    names = RULES.classes
    classes = np.full(len(names), 0.4 / (len(names) - 1), np.float32)
    classes[0] = 0.6
    active = np.array([name not in ("qualified", "other") for name in names])
    rules = np.full((3, len(RULES.single_rules)), 0.01, np.float32)
    rules[2, RULES.single_rules.index("logo")] = 0.98
    found = evidence.weighed(classes, names, active, sight(rules=rules))
    assert names[1 + int(found[1:].argmax())] == "logo"
    assert found.sum() == pytest.approx(1.0, abs=1e-6)
    np.testing.assert_array_equal(found[~active], classes[~active])
    copied = np.zeros((3, 3), np.float32)
    copied[1, 2] = copied[2, 1] = 0.999
    found = evidence.weighed(classes, names, active, sight(p_copy=copied))
    assert names[1 + int(found[1:].argmax())] == "duplicate"
    np.testing.assert_array_equal(evidence.weighed(classes, names, np.zeros_like(active), sight()), classes)


# Which image ---------------------------------------------------------------------------------------------------------


def test_stage_1_tells_the_image_of_a_single_rule() -> None:
    rules = np.full((3, len(RULES.single_rules)), 0.01, np.float32)
    rules[1, RULES.single_rules.index("watermark")] = 0.4
    assert evidence.blamed(RULES.rule("watermark"), sight(rules=rules), 0.5, None) == 1


def test_of_a_pair_the_later_image_is_to_blame() -> None:
    copied = np.zeros((3, 3), np.float32)
    copied[0, 2] = copied[2, 0] = 0.8
    copied[0, 1] = copied[1, 0] = 0.3
    assert evidence.blamed(RULES.rule("duplicate"), sight(p_copy=copied), 0.5, None) == 2
    alike = sight(features=np.array([[1, 0], [0, 1], [0.1, 1]], np.float32))
    assert evidence.blamed(RULES.rule("same_view"), alike, 0.5, None) == 2
    opposite = sight(features=np.array([[1, 0], [-1, 0.1], [-1, -0.9]], np.float32))
    assert evidence.blamed(RULES.rule("same_view"), opposite, 0.5, None) == 2


def test_masking_tells_the_image_of_other_rules() -> None:
    without = np.array([0.1, 0.5, 0.02], np.float32)
    assert evidence.blamed(RULES.rule("irrelevant_image"), sight(), 0.5, without) == 2
    # The first is what the others are compared with: of two colours it is not the wrong one.
    without = np.array([0.01, 0.1, 0.5], np.float32)
    assert evidence.blamed(RULES.rule("irrelevant_image"), sight(), 0.5, without) == 0
    assert evidence.blamed(RULES.rule("different_colour"), sight(), 0.5, without) == 1


def test_order_is_the_first_images_fault_and_a_title_no_images() -> None:
    for rule in ("wrong_order", "primary_incomplete"):
        assert evidence.blamed(RULES.rule(rule), sight(), 0.5, None) == 0
    for rule in ("title_mismatch", "missing_views"):
        assert evidence.blamed(RULES.rule(rule), sight(), 0.5, None) is None


def test_every_default_rule_is_asked_for_what_it_needs() -> None:
    for rule in RULES.rules:
        without = np.array([0.1, 0.2, 0.3], np.float32) if evidence.needs_masking(rule) else None
        position = evidence.blamed(rule, sight(), 0.5, without)
        assert position is None or 0 <= position < 3
        words = evidence.in_the_rulebooks_words(rule, sight(), position)
        assert "{" not in words


# In words ------------------------------------------------------------------------------------------------------------


def test_the_rulebooks_words_say_all_that_is_known() -> None:
    badge = RULES.rule("badge")
    assert evidence.in_the_rulebooks_words(badge, sight(), None) == badge.feedback.en[0]
    assert evidence.in_the_rulebooks_words(badge, sight(), 1) == "The second image shows a price tag or sticker."
    placed = evidence.in_the_rulebooks_words(badge, sight(), 1, Box(0, 0, 20, 20), (300, 300))
    assert placed == "Remove the badge at the top left of the second image."


def test_wrong_order_names_the_image_that_should_come_first() -> None:
    better = sight(p_primary=np.array([0.1, 0.3, 0.9], np.float32))
    assert "third image should come first" in evidence.in_the_rulebooks_words(RULES.rule("wrong_order"), better, 0)


# In the pipeline -----------------------------------------------------------------------------------------------------


def test_a_rejected_sequence_names_rule_image_and_words(tiny_bundle: Path) -> None:
    pipeline = Pipeline(tiny_bundle, replace(OPEN, threshold=1.0))
    (decision,) = pipeline([product(3, 5)])
    assert decision.status == "below_threshold"
    chances = [v.probability for v in decision.violations]
    assert chances == sorted(chances, reverse=True)
    assert all(v.image == "" or v.image in decision.sequence for v in decision.violations)
    if decision.violations:
        rule = RULES.rule(decision.violations[0].rule)
        image = decision.violations[0].image
        at = decision.sequence.index(image) if image else None
        assert decision.feedback_by == "rulebook"
        assert decision.feedback in {p for i in (at, *range(5)) for p in rule.phrases("en", i)}
    (asked,) = Pipeline(tiny_bundle, replace(OPEN, threshold=1.0, feedback="rejected"))([product(3, 5)])
    assert asked.violations
    assert evidence.spoken_of(asked.feedback, RULES)[0] == asked.violations[0].rule
    assert (asked.feedback_by == "rulebook") == (asked.feedback == decision.feedback)
    (accepted,) = Pipeline(tiny_bundle, OPEN)([product(3, 5)])
    assert (accepted.feedback, accepted.feedback_by) == ("", "")


def test_the_bundles_naming_is_asked_for_the_rule(tiny_bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "named"
    shutil.copytree(tiny_bundle, folder)
    manifest = read_manifest(folder)
    usual = {name: RuleUsual(mean=0.0, spread=1.0, bias=0.0) for name in manifest.rulebook.single_rules}
    for rule in ("missing_views", "same_view"):
        kinds = {kind: {"bias": 40.0 if kind == rule else 0.0} for kind in ("single", "pair", "multi", rule)}
        naming = Naming(facts={}, rules=usual, kinds=kinds, data="by hand")
        write_manifest(folder, manifest.model_copy(update={"naming": naming}))
        (decision,) = Pipeline(folder, replace(OPEN, threshold=1.0))([product(3, 5)])
        assert decision.violations[0].rule == rule
        assert evidence.spoken_of(decision.feedback, RULES)[0] == rule


def test_an_image_removed_for_a_mark_has_its_box() -> None:
    """The starter in the package on a drawn picture with a sticker: a sanity check, not a measure."""
    marked = draw_photo(3)
    cv2.circle(marked, (400, 90), 62, (220, 20, 30), -1, cv2.LINE_AA)
    cv2.putText(marked, "-50%", (346, 103), cv2.FONT_HERSHEY_SIMPLEX, 1.3, (255, 255, 255), 4, cv2.LINE_AA)
    item = product(3, 4)
    item = replace(item, images=(*item.images, Image("marked.jpg", data=encoded(marked))))
    (decision,) = Pipeline(None, Settings(noncompliant_threshold=0.9))([item])
    (last,) = [c for c in decision.candidates if c.uri == "marked.jpg"]
    (finding,) = [f for f in last.findings if f.probability is not None and f.box is not None]
    assert (last.outcome, last.reason) == ("removed", finding.rule)
    assert finding.box is not None
    assert 330 < finding.box.x + finding.box.w / 2 < 480
    assert 20 < finding.box.y + finding.box.h / 2 < 170


def test_an_image_that_is_masked_is_not_seen(tiny_bundle: Path) -> None:
    bundle = open_bundle(tiny_bundle)
    rng = np.random.default_rng(3)
    tokens = rng.normal(size=(2, bundle.k, *_token_shape(tiny_bundle))).astype(np.float32)
    mask = np.ones((2, bundle.k), np.float32)
    mask[:, -1] = 0.0
    without = bundle.sequence(tokens[:, :-1], "Spotted thing")
    np.testing.assert_allclose(bundle.sequence(tokens, "Spotted thing", mask=mask), without, atol=1e-5)
    other = tokens.copy()
    other[:, 1] = rng.normal(size=other[:, 1].shape)
    mask = np.ones((2, bundle.k), np.float32)
    mask[:, 1] = 0.0
    masked = bundle.sequence(tokens, "Spotted thing", mask=mask)
    np.testing.assert_allclose(bundle.sequence(other, "Spotted thing", mask=mask), masked, atol=1e-5)
    longer = np.concatenate([tokens, tokens[:, :1]], axis=1)
    shown = np.ones((2, bundle.k + 1), np.float32)
    np.testing.assert_array_equal(
        bundle.sequence(longer, "Spotted thing", mask=shown), bundle.sequence(longer, "Spotted thing")
    )


def _token_shape(folder: Path) -> tuple[int, int]:
    outputs = next(g for g in open_bundle(folder).manifest.graphs.values() if g.file == "image.onnx").outputs
    _, patches, width = next(t.shape for t in outputs if t.name == "tokens")
    return int(patches), int(width)
