"""Stacked p_qualified: its features, the trees as a graph, and a bundle that has them."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from agpis import naming, stacking, trees
from agpis.bundle import open_bundle
from agpis.bundle_manifest import Stacking
from agpis.catalogue import read
from agpis.errors import BundleError
from agpis.pipeline import Pipeline
from agpis.settings import Settings

OPEN = Settings(primary_threshold=0.0, noncompliant_threshold=1.0, threshold=0.0, duplicate_threshold=1.0)
VIEWS = len(naming.columns.VIEWS)


def sight(count: int, seed: int) -> naming.Sight:
    """Of random images."""
    rng = np.random.default_rng(seed)

    def likeness() -> np.ndarray:
        half = rng.uniform(-0.2, 1.0, (count, count))
        return np.asarray((half + half.T) / 2, np.float32)

    views = rng.random((count, VIEWS)) ** 3
    return naming.Sight(
        single_rules=("badge", "blur", "noise"),
        rules=rng.random((count, 3)).astype(np.float32),
        p_primary=rng.random(count).astype(np.float32),
        p_copy=np.abs(likeness()),
        features=rng.random((count, 4)).astype(np.float32),
        known=naming.Known(
            np.asarray(views / views.sum(axis=1, keepdims=True), np.float32), likeness(), likeness(), likeness()
        ),
    )


SCOPES = np.array([[0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
CLASSES = np.array([[0.6, 0.1, 0.1, 0.2]], np.float32)


def made(order: list[list[int]], seen: naming.Sight) -> np.ndarray:
    return stacking.features(np.repeat(CLASSES, len(order), axis=0), np.array(order), seen, SCOPES)


def test_the_order_of_the_later_images_says_nothing_the_first_does() -> None:
    seen = sight(4, 1)
    one = made([[0, 1, 2, 3]], seen)
    for rest in permutations([1, 2, 3]):
        np.testing.assert_allclose(made([[0, *rest]], seen), one, rtol=1e-6)
    assert not np.allclose(made([[1, 0, 2, 3]], seen), one)


def test_many_at_once_are_what_each_is_alone() -> None:
    seen = sight(6, 2)
    orders = [list(order) for order in permutations(range(6), 3)]
    together = made(orders, seen)
    assert together.shape == (120, len(stacking.FEATURES))
    assert together.dtype == np.float32
    assert np.isfinite(together).all()
    for at in (0, 17, 119):
        np.testing.assert_array_equal(made([orders[at]], seen)[0], together[at])


def test_features_by_hand() -> None:
    seen = sight(3, 3)
    assert seen.known is not None
    found = dict(zip(stacking.FEATURES, made([[2, 0, 1]], seen)[0], strict=True))

    def log_odds(p: float) -> float:
        return float(np.log(p / (1 - p)))

    assert found["images"] == 3
    assert found["qualified"] == pytest.approx(log_odds(0.6), abs=1e-5)
    assert found["pair_share"] == pytest.approx(np.log(0.1), abs=1e-5)
    assert found["primary_first"] == pytest.approx(log_odds(seen.p_primary[2]), rel=1e-4)
    assert found["worst_rest_most"] == pytest.approx(log_odds(seen.rules[:2].max()), rel=1e-4)
    assert found["second_worst"] == pytest.approx(log_odds(np.sort(seen.rules.ravel())[-2]), rel=1e-4)
    pairs = [seen.known.kin[2, 0], seen.known.kin[2, 1], seen.known.kin[0, 1]]
    assert [found["kin_least"], found["kin_median"], found["kin_most"]] == pytest.approx(sorted(pairs))
    assert found["kin_first_best"] == pytest.approx(max(pairs[:2]))
    nearest = [max(pairs[0], pairs[1]), max(pairs[0], pairs[2]), max(pairs[1], pairs[2])]
    assert found["kin_loneliest"] == pytest.approx(min(nearest))


def test_rules_of_a_role_count_in_their_places_alone() -> None:
    seen = replace(sight(3, 4), rules=np.array([[0.9, 0.1, 0.1]] * 3, np.float32), roles=("main", "any", "any"))
    found = dict(zip(stacking.FEATURES, made([[0, 1, 2]], seen)[0], strict=True))
    assert found["worst_first"] == pytest.approx(np.log(9.0), rel=1e-4)
    assert found["worst_rest_most"] == pytest.approx(-np.log(9.0), rel=1e-4)
    assert found["broken_rest_most"] == pytest.approx(np.log(0.19 / 0.81), rel=1e-4)


def test_what_the_title_names_is_heard_where_it_is_known() -> None:
    seen = sight(3, 4)
    unknown = dict(zip(stacking.FEATURES, made([[0, 1, 2]], seen)[0], strict=True))
    assert [unknown[name] for name in ("titled", "title_first", "title_most", "title_least")] == [0.0] * 4
    seen = replace(seen, titled=np.array([-1.0, 2.5, 0.5], np.float32))
    known = dict(zip(stacking.FEATURES, made([[2, 0, 1]], seen)[0], strict=True))
    assert [known[name] for name in ("titled", "title_first", "title_most", "title_least")] == [1.0, 0.5, 2.5, -1.0]


def fitted(seed: int = 0) -> tuple[trees.Trees, np.ndarray]:
    """Trees that tell broken from clean sequences by one feature, and rows."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(600, len(stacking.FEATURES))).astype(np.float32)
    worst = stacking.FEATURES.index("worst_rest_most")
    good = rows[:, worst] + rng.normal(0, 0.3, 600) < 0.0
    return trees.fit(rows, good, seed=0), rows


def test_the_graph_says_what_the_trees_say() -> None:
    model, rows = fitted()
    session = onnxruntime.InferenceSession(trees.to_onnx(model))
    # On the thresholds themselves too: a row that is not above goes left.
    edges = rows[:200].copy()
    for row, (estimator,) in zip(edges, model.model.estimators_, strict=False):
        row[estimator.tree_.feature[0]] = np.float32(estimator.tree_.threshold[0])
    for given in (rows, edges):
        (logit,) = session.run(["logit"], {"features": given})
        np.testing.assert_allclose(logit[:, 0], model.logits(given), atol=1e-4)


def test_the_fit_finds_what_can_be_told() -> None:
    model, rows = fitted()
    p = 1 / (1 + np.exp(-model.logits(rows)))
    worst = rows[:, stacking.FEATURES.index("worst_rest_most")]
    assert p[worst < -1].mean() > 0.9
    assert p[worst > 1].mean() < 0.1
    with pytest.raises(ValueError, match="both kinds are needed"):
        trees.fit(rows, np.ones(600, bool), seed=0)


@pytest.fixture(scope="module")
def stacked_bundle(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stacked") / "bundle"
    shutil.copytree(tiny_bundle, folder)
    model, _ = fitted()
    entry = Stacking(features=stacking.FEATURES, temperature=2.0, shift=0.5, data="drawn rows")
    trees.put(folder, trees.to_onnx(model), entry)
    return folder


def test_a_bundle_is_scored_by_its_trees(stacked_bundle: Path, tiny_bundle: Path, tiny_catalogue: Path) -> None:
    products = list(read(str(tiny_catalogue)))
    plain, heard = Pipeline(tiny_bundle, OPEN), Pipeline(stacked_bundle, OPEN)
    before, after = list(plain(products)), list(heard(products))
    assert [d.sku for d in before] == [d.sku for d in after]
    scored = [(a, b) for a, b in zip(before, after, strict=True) if b.p_qualified is not None]
    assert scored
    assert any(a.p_qualified != b.p_qualified for a, b in scored)
    for _, decision in scored:
        assert decision.p_qualified is not None
        assert sum(v.probability for v in decision.violations) <= 1.0 - decision.p_qualified + 1e-4


def test_the_manifest_calibrates(stacked_bundle: Path) -> None:
    bundle, (_, rows) = open_bundle(stacked_bundle), fitted()
    logit = onnxruntime.InferenceSession(stacked_bundle / "stacking.onnx").run(["logit"], {"features": rows})[0][:, 0]
    np.testing.assert_allclose(bundle.stacked(rows), 1 / (1 + np.exp(-(logit / 2.0 + 0.5))), atol=1e-6)


def test_one_image_is_scored_by_the_sequence_model(stacked_bundle: Path) -> None:
    bundle = open_bundle(stacked_bundle)
    assert stacking.p_qualified(bundle, CLASSES, np.array([[0]]), sight(1, 4)) == pytest.approx([0.6])


def test_trees_of_another_version_are_refused(stacked_bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(stacked_bundle, folder)
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    manifest["stacking"]["features"][0] = "pictures"
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    bundle = open_bundle(folder)
    with pytest.raises(BundleError, match="Fit it again") as refused:
        stacking.p_qualified(bundle, np.repeat(CLASSES, 1, axis=0), np.array([[0, 1]]), sight(2, 5))
    assert refused.value.code == "graph_signature"
    manifest["stacking"]["features"].append("more")
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(BundleError, match="wide"):
        open_bundle(folder)
    manifest["stacking"]["graph"] = "nowhere"
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(BundleError, match="nowhere"):
        open_bundle(folder)


def test_rescaled_classes_keep_their_shares() -> None:
    found = stacking.rescaled(CLASSES[0], 0.2)
    assert found.sum() == pytest.approx(1.0)
    assert found[0] == pytest.approx(0.2)
    assert found[3] / found[1] == pytest.approx(2.0)
    assert stacking.rescaled(np.array([1.0, 0.0], np.float32), 0.3) == pytest.approx([0.3, 0.7])
