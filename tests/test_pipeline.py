"""The pipeline over drawn products: order of the paper's steps, streaming, independence of neighbours."""

from __future__ import annotations

import io
import itertools
import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from agpis.bundle import Bundle, open_bundle
from agpis.catalogue import read
from agpis.data import Decision, ErrorInfo, Image, Product
from agpis.errors import SettingsError
from agpis.images import decode, letterbox
from agpis.kinship import p_stranger
from agpis.pipeline import BATCH, LOOKAHEAD, Pipeline, Settings
from agpis.prepare import DECODE_TARGET
from tests.conftest import draw_photo

OPEN = Settings(primary_threshold=0.0, noncompliant_threshold=1.0, threshold=0.0, duplicate_threshold=1.0)


def encoded(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Pillow.fromarray(pixels).save(file, "JPEG", quality=92)
    return file.getvalue()


def product(seed: int, views: int, sku: str = "") -> Product:
    images = tuple(Image(f"{seed}-{view}.jpg", data=encoded(draw_photo(seed, view))) for view in range(views))
    return Product(sku or f"S{seed}", "Spotted thing", "Things", images)


def test_pickled_pipeline_decides_the_same(tiny_catalogue: Path, tiny_bundle: Path) -> None:
    products = list(read(str(tiny_catalogue / "catalog.jsonl")))
    pipeline = Pipeline(tiny_bundle, OPEN)
    first = list(pipeline(products))
    assert [d.sku for d in first] == [p.sku for p in products]
    assert list(pickle.loads(pickle.dumps(pipeline))(products)) == first


def test_a_product_is_decided_alone_as_among_others(tiny_bundle: Path) -> None:
    pipeline = Pipeline(tiny_bundle, OPEN)
    products = [product(seed, 4) for seed in range(6)]
    together = {d.sku: d for d in pipeline(products)}
    for item in products:
        (alone,) = pipeline([item])
        assert alone.sequence == together[item.sku].sequence
        assert alone.p_qualified == pytest.approx(together[item.sku].p_qualified, abs=1e-4)


def test_the_pipeline_reads_ahead_but_not_far(tiny_bundle: Path) -> None:
    pulled = 0

    def endless() -> Iterator[Product]:
        nonlocal pulled
        for number in itertools.count():
            pulled += 1
            yield product(number % 3, 2, sku=str(number))

    decisions = Pipeline(tiny_bundle, OPEN)(endless())
    for number in range(5):
        assert next(decisions).sku == str(number)
    assert pulled <= LOOKAHEAD + BATCH + 1
    decisions.close()


def test_primary_has_the_largest_probability_of_those_that_belong(tiny_bundle: Path) -> None:
    item = product(3, 5)
    (decision,) = Pipeline(tiny_bundle, OPEN)([item])
    bundle = open_bundle(tiny_bundle)
    pictures = [decode(image.data or b"", target=DECODE_TARGET).pixels for image in item.images]
    outputs = bundle.image(np.stack([letterbox(pixels, bundle.size) for pixels in pictures]))
    left = [i for i, c in enumerate(decision.candidates) if c.reason != "different_product"]
    belongs = 1.0 - p_stranger(outputs.tokens[left].mean(axis=1), bundle.manifest.kinship)
    best = left[int((outputs.p_primary[left] * belongs).argmax())]
    assert decision.status == "generated"
    assert decision.sequence[0] == item.images[best].uri
    assert decision.candidates[best].outcome == "primary"
    assert sum(c.outcome == "selected" for c in decision.candidates) == 2


def test_best_is_at_least_as_good_as_every_random_draw(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def worth(decision: Decision) -> float:
        """What the search makes as large as it can, but for CAUTION."""
        clean = {c.uri: 1.0 - (c.p_noncompliant or 0.0) for c in decision.candidates}
        return (decision.p_qualified or 0.0) * float(np.prod([clean[uri] for uri in decision.sequence]))

    monkeypatch.setattr("agpis.case.CAUTION", 0.0)
    item = product(5, 5)
    (best,) = Pipeline(tiny_bundle, OPEN)([item])
    drawn = set()
    for seed in range(12):
        (other,) = Pipeline(tiny_bundle, replace(OPEN, search="random", seed=seed))([item])
        assert worth(other) <= worth(best) + 1e-5
        drawn.add(other.sequence)
    assert len(drawn) > 3


def test_a_draw_depends_on_seed_and_sku_not_on_neighbours(tiny_bundle: Path) -> None:
    pipeline = Pipeline(tiny_bundle, replace(OPEN, search="random", seed=4))
    (alone,) = pipeline([product(2, 5)])
    among = list(pipeline([product(1, 5), product(2, 5), product(3, 5)]))
    assert among[1].sequence == alone.sequence


def test_thresholds_stop_at_the_step_they_belong_to(tiny_bundle: Path) -> None:
    def status(**changes: float) -> str:
        (decision,) = Pipeline(tiny_bundle, replace(OPEN, **changes))([product(1, 4)])
        return decision.status

    assert status() == "generated"
    assert status(primary_threshold=1.0) == "no_primary"
    assert status(threshold=1.0) == "below_threshold"
    assert status(noncompliant_threshold=0.0) == "no_primary"
    assert status(images=9) == "too_few_images"


def test_an_exact_copy_is_removed_and_named(tiny_bundle: Path) -> None:
    item = product(6, 4)
    item = replace(item, images=(*item.images, replace(item.images[1], uri="again.jpg")))
    (decision,) = Pipeline(tiny_bundle, replace(OPEN, duplicate_threshold=0.9))([item])
    removed = {c.uri: c.duplicate_of for c in decision.candidates if c.reason == "duplicate"}
    assert removed == {"again.jpg": "6-1.jpg"}, "of equals the earlier stays"
    (copy,) = [c for c in decision.candidates if c.uri in removed]
    (finding,) = [f for f in copy.findings if f.rule == "duplicate"]
    assert finding.other == copy.duplicate_of
    assert finding.box is not None
    assert finding.box.w > 0.9 * 480


@pytest.mark.parametrize("view", [0, 1, 2])
def test_a_smaller_copy_goes_even_where_it_could_lead(view: int, tiny_bundle: Path) -> None:
    item = product(6, 4)
    small = np.asarray(Pillow.fromarray(draw_photo(6, view)).resize((360, 450)))
    copy = Image("small.jpg", data=encoded(small))
    (decision,) = Pipeline(tiny_bundle, replace(OPEN, duplicate_threshold=0.9))(
        [replace(item, images=(copy, *item.images))]
    )
    removed = {c.uri: c.duplicate_of for c in decision.candidates if c.reason == "duplicate"}
    assert removed == {"small.jpg": f"6-{view}.jpg"}


def test_edgeboxes_is_the_other_matcher_of_the_same_pipeline(tiny_bundle: Path) -> None:
    item = product(6, 3)
    item = replace(item, images=(*item.images, replace(item.images[1], uri="again.jpg")))
    (decision,) = Pipeline(tiny_bundle, replace(OPEN, matcher="edgeboxes", duplicate_threshold=0.5))([item])
    assert decision.error is None
    assert any(c.reason == "duplicate" for c in decision.candidates)


RULEBOOK = """
id: white_first
version: 1
k: 3
rules:
  - id: background_white
    name: Background not white
    scope: single
    role: main
    description: The ground of the first image is not white.
    check: {name: background_white, tolerance: 5, share: 0.9}
    feedback: {en: ["Not white."], zh: ["不是白色。"]}
"""


def test_rules_of_the_main_image_bar_the_primary_only(tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(RULEBOOK, encoding="utf-8")
    item = product(2, 3)
    grounds = []
    for view in range(3):
        pixels = draw_photo(2, view)
        if view != 1:
            pixels[(pixels == 255).all(axis=2)] = 120
        grounds.append(Image(f"{view}.jpg", data=encoded(pixels)))
    settings = replace(OPEN, rulebook=str(tmp_path / "rules.yaml"))
    (decision,) = Pipeline(tiny_bundle, settings)([replace(item, images=tuple(grounds))])
    assert decision.sequence[0] == "1.jpg"
    assert sorted(decision.sequence) == ["0.jpg", "1.jpg", "2.jpg"]
    for candidate in decision.candidates:
        barred = [f for f in candidate.findings if f.rule == "background_white"]
        assert len(barred) == (candidate.uri != "1.jpg")
        assert all(f.role == "main" and f.severity == "error" for f in barred)


def test_a_product_with_an_error_keeps_it(tiny_bundle: Path) -> None:
    broken = Product("line 3", "", error=ErrorInfo("invalid_json", "no JSON"))
    (decision,) = Pipeline(tiny_bundle, OPEN)([broken])
    assert (decision.status, decision.error) == ("failed", ErrorInfo("invalid_json", "no JSON"))


def test_each_image_goes_through_the_image_graph_once(tiny_bundle: Path) -> None:
    pipeline = Pipeline(tiny_bundle, OPEN)
    list(pipeline([product(seed, 5) for seed in range(4)]))
    assert pipeline.clock.items["image graph"] == 20
    assert pipeline.clock.items["decode"] == 20


def test_one_more_call_of_the_sequence_graph_finds_the_images_to_blame(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    item, calls = product(3, 5), []
    scored = Bundle.sequence

    def counted(self: Bundle, tokens: np.ndarray, *more: Any) -> np.ndarray:
        calls.append(len(tokens))
        return scored(self, tokens, *more)

    monkeypatch.setattr(Bundle, "sequence", counted)
    monkeypatch.setattr("agpis.case.REPORTED_VIOLATION", 0.0)
    monkeypatch.setattr("agpis.case.MAX_VIOLATIONS", 40)
    (decision,) = Pipeline(tiny_bundle, OPEN)([item])
    assert len(decision.violations) > 20
    assert calls[-1] == len(decision.sequence)
    monkeypatch.setattr("agpis.case.REPORTED_VIOLATION", 1.1)
    before = len(calls)
    list(Pipeline(tiny_bundle, OPEN)([item]))
    assert len(calls) - before == before - 1


def test_more_images_than_the_model_has_are_scored_by_windows(tiny_bundle: Path) -> None:
    bundle = open_bundle(tiny_bundle)
    settings = replace(OPEN, images=bundle.k + 1)
    (decision,) = Pipeline(tiny_bundle, settings)([product(4, 5)])
    assert len(decision.sequence) == bundle.k + 1
    assert 0 <= (decision.p_qualified or 0) <= 1


def test_settings_refuse_what_cannot_be_meant() -> None:
    with pytest.raises(SettingsError, match="use one of best, random"):
        Settings(search="worst")
    with pytest.raises(SettingsError, match=r"threshold is 1\.5"):
        Settings(duplicate_threshold=1.5)


def test_a_rulebook_without_the_rule_does_not_mind_strangers(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(*arguments: object) -> np.ndarray:
        raise AssertionError("no rule asks for kinship")

    (tmp_path / "rules.yaml").write_text(RULEBOOK, encoding="utf-8")
    monkeypatch.setattr("agpis.kinship.p_stranger", asked)
    (decision,) = Pipeline(tiny_bundle, replace(OPEN, rulebook=str(tmp_path / "rules.yaml")))([product(2, 4)])
    assert decision.sequence
    (other,) = Pipeline(tiny_bundle, OPEN)([product(2, 4)])
    assert other.status == "failed"
    assert "kinship" in (other.error.message if other.error else "")
