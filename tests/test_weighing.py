"""Weights of the evidence: equal to scikit-learn where there is no ridge to speak of, and what the fit cannot do."""

from __future__ import annotations

import shutil
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from agpis import weighing
from agpis.bundle_manifest import Weighing, read_manifest, write_manifest
from agpis.data import Image, Product, Verdict
from agpis.pipeline import Pipeline
from agpis.replay import replay
from agpis.weighing import FEATURES, PRIOR, features, fit, log_loss, p_qualified
from tests.conftest import draw_photo, save_photo
from tests.test_pipeline import OPEN, product

TRUE = np.array([0.6, 1.5, 0.3, 0.8, 0.2, 0.1])


def drawn(n: int = 3000, weights: np.ndarray = TRUE, seed: int = 0) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Features, verdicts by these weights and a bias of 1, and products of ten rows each."""
    rng = np.random.default_rng(seed)
    x = rng.normal(0.0, 2.0, (n, 6))
    x[:, 1:4] = -np.abs(x[:, 1:4])
    y = rng.random(n) < 1.0 / (1.0 + np.exp(-(x @ weights + 1.0)))
    return x, y, [str(i // 10) for i in range(n)]


def values(found: Weighing) -> np.ndarray:
    return np.array([getattr(found, name) for name in FEATURES])


def test_features_by_hand() -> None:
    kin, apart, clean = [[0.5, 0.5], [1.0, 1.0]], [[0.25], [1.0]], [[1.0, 0.1], [0.0, 1.0]]
    found = features([0.5, 0.9], kin, apart, clean, [0.8, 0.8], [0.5, 0.5])
    odds = [0.0, np.log(9.0)]
    np.testing.assert_allclose(found[:, 0], odds)
    np.testing.assert_allclose(found[:, 1:4], np.log([[0.25, 0.25, 0.1], [1.0, 1.0, weighing.LEAST]]))
    np.testing.assert_allclose(found[:, 4:], np.log([[4.0, 4.0]] * 2))
    assert np.isfinite(features([0.0, 1.0], kin, apart, clean, [1.0, 0.0], [0.0, 1.0])).all()
    one = features([0.7], [[1.0]], np.ones((1, 0)), [[1.0]], [0.9], [0.0])  # K = 1 has no pairs
    assert one[0, 2] == 0.0


def test_the_fit_is_scikit_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y, products = drawn()
    monkeypatch.setattr(weighing, "RIDGES", (1e-9,))
    weights = np.random.default_rng(1).uniform(0.2, 2.0, len(y))
    found, _ = fit(x, y, products, weights=weights)
    expected = LogisticRegression(C=1e9, tol=1e-10, max_iter=1000).fit(x, y, sample_weight=weights)
    np.testing.assert_allclose(values(found), expected.coef_[0], atol=2e-3)
    assert found.bias == pytest.approx(expected.intercept_[0], abs=2e-3)
    np.testing.assert_allclose(p_qualified(x, found), expected.predict_proba(x)[:, 1], atol=2e-3)


def test_few_verdicts_stay_near_the_product_and_many_leave_it() -> None:
    x, y, products = drawn(40, PRIOR)
    few, _ = fit(x, y, [str(i) for i in range(40)])
    assert np.abs(values(few) - PRIOR).max() < 0.5
    x, y, products = drawn()
    many, outside = fit(x, y, products)
    assert np.abs(values(many) - TRUE).max() < 0.2
    assert outside.shape == y.shape
    assert np.mean(outside) == pytest.approx(np.mean(y), abs=0.02)


def test_a_feature_that_would_fall_is_left_out() -> None:
    found, _ = fit(*drawn(weights=np.array([0.6, -0.8, 0.5, -0.3, -0.2, 0.0])))
    assert (found.kin, found.clean) == (0.0, 0.0)
    assert found.p_qualified > 0.4
    assert found.p_primary < -0.1  # may fall: it is only known to say something


def test_what_is_stacked_is_heard_less_its_mean() -> None:
    x, _, products = drawn(2000)
    more = np.random.default_rng(5).normal(7.0, 3.0, (2000, 3))
    y = np.random.default_rng(6).random(2000) < 1 / (1 + np.exp(-(x @ TRUE + (more[:, 0] - 7.0))))
    found, outside = fit(x, y, products, stacked=more)
    np.testing.assert_allclose(found.stacked, [1.0, 0.0, 0.0], atol=0.1)
    np.testing.assert_allclose(found.means, more.mean(axis=0), atol=1e-5)
    p = p_qualified(x, found, more)
    assert (
        log_loss(p, y, np.ones(2000))
        < log_loss(outside, y, np.ones(2000))
        < 0.9 * log_loss(fit(x, y, products)[1], y, np.ones(2000))
    )
    assert np.log(p / (1 - p)) - np.log(p_qualified(x, found) / (1 - p_qualified(x, found))) == pytest.approx(
        (more - found.means) @ np.array(found.stacked), abs=1e-6
    )


def test_means_and_weights_are_pairs() -> None:
    with pytest.raises(ValueError, match="they are pairs"):
        Weighing(bias=0, p_qualified=1, kin=1, apart=1, clean=0, p_primary=0, margin=0, stacked=(1.0,), data="")


def test_no_row_is_weighed_by_its_own_product(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y, products = drawn(400)
    monkeypatch.setattr(weighing, "RIDGES", (3.0,))
    _, before = fit(x, y, products)
    flipped = y.copy()
    flipped[:10] = ~flipped[:10]  # the verdicts of one product
    _, after = fit(x, flipped, products)
    np.testing.assert_array_equal(after[:10], before[:10])
    assert np.abs(after[10:] - before[10:]).max() > 1e-4


def test_the_prior_moves_the_odds_and_nothing_else() -> None:
    x, y, products = drawn()
    found, _ = fit(x, y, products)
    moved, _ = fit(x, y, products, prior=0.8, data="reviews")
    np.testing.assert_array_equal(values(moved), values(found))
    share = y.mean()
    assert moved.bias - found.bias == pytest.approx(np.log(0.8 / 0.2) - np.log(share / (1 - share)), abs=2e-4)
    assert moved.data.endswith("reviews, moved to 0.8 accepted")


@pytest.mark.parametrize(("rows", "products"), [(slice(0, 30), 3), (None, 50)])
def test_too_little_is_refused(rows: slice | None, products: int) -> None:
    x, y, _ = drawn(50)
    y = y if rows is not None else np.ones(50, bool)
    with pytest.raises(ValueError, match=f"{products} products"):
        fit(x, y, [str(i % products) for i in range(50)])


# In the pipeline


@pytest.fixture(scope="module")
def weighing_bundle(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weighed") / "bundle"
    shutil.copytree(tiny_bundle, folder)
    entry = Weighing(bias=-0.5, p_qualified=0.5, kin=2.0, apart=1.5, clean=1.0, p_primary=0.3, margin=-0.1, data="t")
    write_manifest(folder, read_manifest(folder).model_copy(update={"weighing": entry}))
    return folder


def test_a_bundle_with_weights_gives_the_weighed_probability(weighing_bundle: Path, tiny_bundle: Path) -> None:
    pipeline = Pipeline(weighing_bundle, OPEN)
    entry = pipeline.open()[0].manifest.weighing
    assert entry is not None
    (case,) = pipeline.cases([product(3, 5)])
    decision = case.decide()
    order = np.array(list(permutations(range(len(case.left)), 3)))
    found = case.appraise(order)
    uris = [judged.shot.image.uri for judged in case.left]
    by_hand = p_qualified(found.features, entry)
    np.testing.assert_allclose(found.p_qualified, by_hand)
    scores = {tuple(uris[i] for i in row): score for row, score in zip(order, by_hand, strict=True)}
    assert decision.p_qualified == pytest.approx(scores[decision.sequence], abs=1e-6)
    behind = [score for sequence, score in scores.items() if sequence[0] == decision.sequence[0]]
    assert decision.p_qualified == pytest.approx(max(behind), abs=1e-6)
    fit = {judged.shot.image.uri: judged.p_primary for judged in case.left}
    lead = fit.pop(decision.sequence[0])
    odds = np.log(lead / (1 - lead))
    other = max(fit.values())
    row = found.features[[sequence == decision.sequence for sequence in scores]][0]
    np.testing.assert_allclose(row[4:], [odds, odds - np.log(other / (1 - other))], rtol=1e-4)
    (plain,) = Pipeline(tiny_bundle, OPEN)([product(3, 5)])
    assert plain.p_qualified != decision.p_qualified


def test_more_images_than_can_be_tried_one_by_one(tiny_bundle: Path) -> None:
    """The search then grows sequences from one image on."""
    images = tuple(image for seed in range(8) for image in product(seed, 3).images)
    (decision,) = Pipeline(tiny_bundle, replace(OPEN, strangers="weigh"))([Product("P", "T", images=images)])
    assert decision.status == "generated", decision.error
    assert sum(candidate.outcome != "removed" for candidate in decision.candidates) == 24
    assert len(decision.sequence) == 3


def test_reviewed_sequences_are_weighed_by_what_stage_1_knew(weighing_bundle: Path, tmp_path: Path) -> None:
    verdicts = []
    for seed in range(3):
        for view in range(4):
            save_photo(tmp_path / f"{seed}-{view}.jpg", draw_photo(seed, view))
        uris = tuple(f"{seed}-{view}.jpg" for view in range(4))
        for sequence, accepted in ((uris[:3], True), (uris[1:], False), ((uris[0], "elsewhere.jpg"), True)):
            verdicts.append(Verdict(f"P{seed}", "T", sequence, accepted, base=str(tmp_path), candidates=uris))
    found = replay(weighing_bundle, verdicts, settings=OPEN)
    assert found.left_out == 3  # an image that is no candidate
    assert found.features.shape == (6, 6)
    assert found.skus == ("P0", "P0", "P1", "P1", "P2", "P2")
    np.testing.assert_array_equal(found.accepted, [True, False] * 3)
    np.testing.assert_array_equal(found.uploads, [0, 0, 1, 1, 2, 2])
    (case,) = Pipeline(weighing_bundle, replace(OPEN, images=3)).cases(
        [Product("P1", "T", images=tuple(Image(f"1-{view}.jpg", base=str(tmp_path)) for view in range(4)))]
    )
    case.decide()
    np.testing.assert_allclose(found.features[2:4], case.appraise(np.array([[0, 1, 2], [1, 2, 3]])).features, atol=1e-5)
