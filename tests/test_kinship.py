"""A stranger among a product's images, by arithmetic."""

from __future__ import annotations

import numpy as np
import pytest

from agpis.bundle_manifest import Kinship
from agpis.data import Box
from agpis.duplicates import PairMatch, View, crops, resolve
from agpis.images import Size
from agpis.kinship import margins, p_stranger, strangers
from bench.kinship import entry, logistic, mean

KIN = np.array([[1.0, 0.1, 0.0], [1.0, 0.0, 0.1], [1.0, 0.1, 0.1]], np.float32)
STRANGE = np.array([[0.0, 0.0, 1.0]], np.float32)


def test_margin_is_likeness_to_the_others_less_theirs_among_themselves() -> None:
    features = np.concatenate([KIN, STRANGE])
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    likeness = unit @ unit.T
    naive = []
    for i in range(4):
        rest = [j for j in range(4) if j != i]
        to_others = np.mean([likeness[i, j] for j in rest])
        among = np.mean([likeness[j, k] for j in rest for k in rest if j != k])
        naive.append(to_others - among)
    np.testing.assert_allclose(margins(features), naive, atol=1e-6)
    assert margins(features).argmin() == 3


def test_the_stranger_is_found_and_the_rest_compared_anew() -> None:
    features = np.concatenate([KIN, STRANGE, [[0.0, -1.0, 0.0]]]).astype(np.float32)
    found = strangers(features, Kinship())
    assert set(found) == {3, 4}
    assert all(probability > 0.3 for probability in found.values())
    assert strangers(KIN, Kinship()) == {}
    assert set(strangers(features, Kinship(removed=-1.5))) < {3, 4}  # a lower limit removes fewer


def test_the_probability_is_the_bundles_logistic() -> None:
    features = np.concatenate([KIN, STRANGE])
    found = p_stranger(features, Kinship(middle=-0.5, width=0.2))
    np.testing.assert_allclose(np.log(found / (1 - found)), (-0.5 - margins(features)) / 0.2, atol=1e-5)
    assert strangers(features, Kinship(middle=-0.5, width=0.2))[3] == pytest.approx(found[3])


def test_the_logistic_is_scikit_learns_and_the_entry_is_the_shipped_one() -> None:
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    margin = np.r_[rng.normal(0.05, 0.1, 400), rng.normal(-0.25, 0.12, 90)]
    strange = np.r_[np.zeros(400), np.ones(90)]
    weights = np.r_[np.full(400, 1 / 400), np.full(90, 1 / 90)]
    middle, width = logistic(margin, strange, weights)
    reference = LogisticRegression(C=1e12, tol=1e-10).fit(margin[:, None] * 10, strange, sample_weight=weights * 1000)
    slope = float(reference.coef_[0, 0]) * 10
    assert (middle, width) == pytest.approx((-float(reference.intercept_[0]) / slope, -1 / slope), rel=0.01)
    found, shipped = entry(-0.09, 0.07, Kinship(), ["a shop"]), Kinship()
    assert (found.middle, found.removed) == pytest.approx((shipped.middle, shipped.removed), abs=0.01)
    assert "a shop" in found.data
    other = entry(-0.05, 0.03, Kinship(colours=2.0, titles=0.02), ["b", "c"])
    both = mean([found, other], [["a shop"], ["b", "c"]])
    for name in ("middle", "width", "removed"):
        assert getattr(both, name) == pytest.approx((getattr(found, name) + getattr(other, name)) / 2, abs=1e-4)
    assert both.data.startswith("mean of the fits on a shop; b, c (each left out of its bundle)")
    assert mean([other], [["b", "c"]]) == other
    with pytest.raises(SystemExit, match="no margin tells the strangers of b, c"):
        entry(-0.05, -0.03, Kinship(), ["b", "c"])


@pytest.mark.parametrize("count", [0, 1, 2])
def test_of_two_images_neither_can_be_told(count: int) -> None:
    features = np.eye(3, dtype=np.float32)[:count]
    assert list(p_stranger(features, Kinship())) == [0.0] * count
    assert strangers(features, Kinship()) == {}


def view() -> View:
    return View(np.ones((4, 2), np.float32), 100, 200, Size(224, 224))


def test_a_crop_gives_way_to_its_whole_even_with_a_smaller_p_noncompliant() -> None:
    match = PairMatch(0, 1, 0.99, Box(10, 20, 60, 120), Box(0, 0, 100, 198))
    views = [view(), view()]
    assert crops([match], 0.9, views) == {1: 0}
    assert crops([match], 0.995, views) == {}
    p_noncompliant = np.array([0.5, 0.1], np.float32)
    assert resolve([match], 0.9, None, p_noncompliant) == {0: 1}  # the paper's order
    assert resolve([match], 0.9, None, p_noncompliant, frozenset({1})) == {1: 0}
    same = PairMatch(0, 1, 0.99, Box(0, 0, 100, 195), Box(0, 0, 100, 198))
    assert crops([same], 0.9, views) == {}


def test_what_the_title_names_counts_beside_likeness() -> None:
    titled = np.array([1.0, 0.5, -9.0], np.float32)
    features = KIN[:3]
    plain, heard = margins(features), margins(features, titled, 0.1)
    others = np.array([-4.25, -4.0, 0.75])
    np.testing.assert_allclose(heard - plain, 0.1 * np.clip(titled - others, -3, 3), atol=1e-6)
    np.testing.assert_array_equal(margins(features, titled), plain)  # without a weight it says nothing
    fitted = Kinship(middle=-0.2, width=0.05, removed=-0.15, titles=0.1)
    assert strangers(features, fitted) == {}
    assert list(strangers(features, fitted, titled)) == [2]
    assert p_stranger(features, fitted, titled)[2] > p_stranger(features, fitted)[2]
