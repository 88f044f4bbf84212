"""Which image leads: features by a naive count, the fit against scikit-learn, the bundle's choice in the pipeline."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from agpis.bundle import open_bundle
from agpis.bundle_manifest import Choice
from agpis.choice import FEATURES, chances, features, scores
from agpis.data import Candidate, Decision
from agpis.errors import BundleError
from agpis.inputs import stack
from agpis.pipeline import Pipeline, Settings
from agpis.simulate import Stock
from bench import primary, starter
from bench.primary import Candidates, fit
from tests.test_pipeline import OPEN, product
from tests.tiny import draw_products

LAYOUT = {"side": 2, "learned": 3, "descriptor": 4, "colour": 3, "knowledge": 13, "signature": 5}
RULES = 2
NONE = dict.fromkeys(FEATURES, 0.0)

Choosing = Callable[..., Path]


def drawn(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """p_primary, p_noncompliant (n,), rules (n, 2), tokens (n, 5, 20) with unit descriptors, p_copy (n, n)."""
    rng = np.random.default_rng(seed)
    tokens = rng.normal(size=(count, 5, 20))
    tokens[:, :4, 3:7] /= np.linalg.norm(tokens[:, :4, 3:7], axis=-1, keepdims=True)
    p_copy = rng.random((count, count))
    return rng.random(count), rng.random(count), rng.random((count, RULES)), tokens, (p_copy + p_copy.T) / 2


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def test_features_are_what_a_naive_count_gives() -> None:
    p, q, rules, tokens, p_copy = drawn(4)
    rows = features(p, q, rules, tokens, p_copy, {2}, LAYOUT)
    assert rows.shape == (4, len(FEATURES))
    for i in range(4):
        others = [j for j in range(4) if j != i]
        found = dict(zip(FEATURES, rows[i], strict=True))
        assert found["primary"] == pytest.approx(np.log(p[i] / (1 - p[i])))
        assert found["clean"] == pytest.approx(np.log((1 - q[i]) / q[i]))
        assert found["unmarked"] == pytest.approx(-np.log(rules[i].sum()), abs=1e-2)
        views = np.exp(4 * tokens[i, 4, 4:13])  # front, back, side, top, ...
        whole = views[[0, 2, 3]].sum()
        assert found["whole"] == pytest.approx(np.log(whole / (views.sum() - whole)), abs=1e-6)
        assert found["alike"] == pytest.approx(np.mean([cosine(tokens[i].mean(0), tokens[j].mean(0)) for j in others]))
        assert found["colours"] == pytest.approx(
            np.mean([cosine(tokens[i, 4, 15:], tokens[j, 4, 15:]) for j in others])
        )

        def covered(a: int, b: int) -> float:
            return float(np.mean([max(float(x @ y) for y in tokens[b, :4, 3:7]) for x in tokens[a, :4, 3:7]]))

        assert found["found"] == pytest.approx(np.mean([covered(i, j) for j in others]))
        assert found["holds"] == pytest.approx(np.mean([covered(j, i) for j in others]))
        assert found["entire"] == (-1.0 if i == 2 else 0.0)
        odds = np.log(q / (1 - q))
        assert found["cleanest"] == pytest.approx(-max(max(0.0, p_copy[i, j] * (odds[i] - odds[j])) for j in others))


def test_an_image_alone_has_nothing_to_be_compared_with() -> None:
    rows = features(*drawn(1), (), LAYOUT)
    compared = [FEATURES.index(name) for name in ("alike", "colours", "found", "holds", "entire", "cleanest")]
    assert np.isfinite(rows).all()
    assert not rows[0, compared].any()
    assert features(*drawn(0)).shape == (0, len(FEATURES))


def test_of_plain_tokens_views_colours_and_places_are_not_known() -> None:
    rows, known = features(*drawn(3)), features(*drawn(3), (), LAYOUT)
    unknown = [FEATURES.index(name) for name in ("whole", "colours", "found", "holds")]
    assert not rows[:, unknown].any()
    assert known[:, unknown].all()
    np.testing.assert_array_equal(np.delete(rows, unknown, 1), np.delete(known, unknown, 1))
    unsigned = features(*drawn(3), (), LAYOUT | {"signature": 0})
    assert not unsigned[:, FEATURES.index("colours")].any()
    assert unsigned[:, FEATURES.index("found")].all()


def test_chances_are_a_softmax_over_those_that_may_lead() -> None:
    found = chances([2.0, 900.0, 1.0], np.array([True, False, True]))
    assert found[1] == 0.0
    assert found.sum() == pytest.approx(1.0)
    assert found[0] / found[2] == pytest.approx(np.e)
    assert not chances([1.0, 2.0], np.zeros(2, bool)).any()
    assert chances([-2000.0, 0.0], np.array([True, False])).tolist() == [1.0, 0.0]


def made(rows: np.ndarray, good: npt.ArrayLike, source: str = "a shop") -> Candidates:
    return Candidates(source, "natural", "", np.asarray(good, bool), rows, {})


def test_between_two_candidates_the_fit_is_scikit_learns_logistic_regression() -> None:
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    true = np.linspace(0.2, 1.5, len(FEATURES))
    rows = rng.normal(size=(400, 2, len(FEATURES)))
    first = rng.random(400) < 1 / (1 + np.exp(-(rows[:, 0] - rows[:, 1]) @ true))
    found = fit([made(row, [one, not one]) for row, one in zip(rows, first, strict=True)])
    spread = (rows - rows.mean(axis=1, keepdims=True)).reshape(-1, len(FEATURES)).std(0)
    difference = (rows[:, 0] - rows[:, 1]) / spread
    # a mean log likelihood with the ridge r is a summed one with n r, and C = 1 / (n r)
    reference = LogisticRegression(C=1 / (400 * primary.RIDGE), fit_intercept=False, tol=1e-10)
    reference.fit(difference, first)
    weights = [getattr(found, name) for name in FEATURES]
    np.testing.assert_allclose(weights, reference.coef_[0] / spread, rtol=0.01, atol=0.002)


def test_no_weight_speaks_against_an_image_and_sources_weigh_alike() -> None:
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(300, 3, len(FEATURES)))

    def best(by: np.ndarray) -> np.ndarray:
        return np.asarray(np.eye(3, dtype=bool)[by.argmax(axis=1)])

    falling = fit([made(row, good) for row, good in zip(rows, best(-rows[:, :, 0]), strict=True)])
    assert falling.primary == 0.0
    many = [made(row, good, "large") for row, good in zip(rows, best(rows[:, :, 0]), strict=True)]
    few = [made(row, good, "small") for row, good in zip(rows[:30], best(rows[:30, :, 1]), strict=True)]
    found = fit([*many, *few])
    assert found.clean == pytest.approx(found.primary, rel=0.4)  # a tenth of the sets, half of the weight


def test_sets_that_teach_nothing_are_left_out() -> None:
    rows = np.zeros((2, len(FEATURES)))
    with pytest.raises(ValueError, match="some of which are good"):
        fit([made(rows, [True, True]), made(rows, [False, False])])


@pytest.fixture
def choosing(tiny_bundle: Path, tmp_path: Path) -> Choosing:
    """Makes a copy of the tiny bundle that chooses by the weights given."""

    def copied(**weights: float) -> Path:
        folder = Path(shutil.copytree(tiny_bundle, tmp_path / "-".join(weights)))
        row = json.loads((folder / "manifest.json").read_text("utf-8"))
        row["choice"] = NONE | weights | {"data": "by hand"}
        (folder / "manifest.json").write_text(json.dumps(row), "utf-8")
        return folder

    return copied


def fitness(candidate: Candidate) -> float:
    return candidate.p_primary or 0.0


def decided(folder: Path, seed: int, settings: Settings = OPEN) -> Decision:
    (decision,) = Pipeline(folder, settings)([product(seed, 5)])
    return decision


def test_the_pipeline_chooses_by_the_bundles_weights(choosing: Choosing) -> None:
    fittest, cleanest = choosing(primary=1.0), choosing(clean=1.0)
    differ = 0
    for seed in range(6):
        by_primary, by_clean = decided(fittest, seed), decided(cleanest, seed)
        left = [c for c in by_primary.candidates if c.outcome != "removed"]
        assert by_primary.sequence[0] == max(left, key=fitness).uri
        assert by_clean.sequence[0] == min(left, key=lambda c: c.p_noncompliant or 0.0).uri
        assert [c.p_primary for c in by_clean.candidates] == [c.p_primary for c in by_primary.candidates]
        differ += by_primary.sequence[0] != by_clean.sequence[0]
    assert differ


def test_the_pipeline_hears_looks(choosing: Choosing, tiny_bundle: Path) -> None:
    """Of two choices with opposite weights of the looks, each puts that image first that the other likes least."""
    bundle = open_bundle(tiny_bundle)
    wide = bundle.image(np.zeros((1, bundle.size.height, bundle.size.width, 3), np.uint8)).tokens.shape[-1]
    weights = tuple(np.random.default_rng(0).normal(size=wide))
    firsts = []
    for sign in (1.0, -1.0):
        folder = choosing(primary=0.0, whole=0.0, clean=0.0) if sign > 0 else choosing(primary=0.0, clean=0.0)
        row = json.loads((folder / "manifest.json").read_text("utf-8"))
        row["choice"]["looks"] = [sign * weight for weight in weights]
        (folder / "manifest.json").write_text(json.dumps(row), "utf-8")
        firsts.append([decided(folder, seed).sequence[0] for seed in range(4)])
    assert all(one != other for one, other in zip(*firsts, strict=True))


def test_the_threshold_stays_on_p_primary(choosing: Choosing) -> None:
    folder = choosing(clean=1.0)
    ranked = sorted(fitness(c) for c in decided(folder, 1).candidates)
    only = decided(folder, 1, replace(OPEN, primary_threshold=(ranked[-1] + ranked[-2]) / 2))
    assert max(only.candidates, key=fitness).outcome == "primary"
    assert decided(folder, 1, replace(OPEN, primary_threshold=1.0)).status == "no_primary"


def test_a_weight_below_zero_is_refused(choosing: Choosing, tiny_bundle: Path) -> None:
    assert open_bundle(tiny_bundle).manifest.choice is None
    with pytest.raises(BundleError, match=r"choice\.holds"):
        open_bundle(choosing(holds=-0.1))


def test_planted_candidates_are_chosen_among_by_the_bundles_choice(choosing: Choosing, tiny_bundle: Path) -> None:
    stock = Stock(draw_products()[:4])
    bundle = open_bundle(choosing(clean=1.0))
    pictures = list(stock.products[0].pictures)
    score, p = primary.scores(bundle, pictures)
    plain, same = primary.scores(open_bundle(tiny_bundle), pictures)
    np.testing.assert_array_equal(p, same)
    assert score.argmax() == bundle.image(stack(pictures, bundle.size)).p_noncompliant.argmin()
    assert (plain <= p).all()  # p_primary, weighed by kinship
    seen = starter.Seen()
    starter.measure_primary(bundle, stock, seen, np.random.default_rng(0))
    assert (len(seen.primary_natural), len(seen.primary_planted), len(seen.bad_primary)) == (4, 4, 12)


def test_candidates_are_shuffled_and_labelled(tiny_bundle: Path) -> None:
    sets = list(primary.collected(open_bundle(tiny_bundle), Stock(draw_products()[:6]), np.random.default_rng(0), 1))
    assert [s.kind for s in sets] == list(primary.KINDS) * 6
    sizes = {kind: {len(s.good) for s in sets if s.kind == kind} for kind in primary.KINDS}
    assert sizes == {"natural": {4}, "planted": {7}, "upload": {10}}
    assert {int(s.good.sum()) for s in sets if s.kind == "planted"} == {2}  # front and side
    assert {int(s.good.sum()) for s in sets if s.kind == "upload"} <= {2, 3}  # a harmless copy may be good
    assert len({tuple(s.good) for s in sets if s.kind == "natural"}) > 1
    for s in sets:
        assert set(s.ways) == set(primary.WAYS)
        assert {len(way) for way in s.ways.values()} == {len(s.good)}


def shop(folder: Path, name: str, first: int) -> None:
    """A catalogue of three drawn products in four views."""
    from tests.conftest import save_photo

    (folder / name).mkdir()
    lines = []
    for item in draw_products(first)[first : first + 3]:
        for uri, pixels in zip(item.uris, item.pictures, strict=True):
            save_photo(folder / name / uri, pixels)
        lines.append({"sku": item.sku, "title": item.title, "images": list(item.uris), "views": list(item.views)})
    (folder / name / "catalog.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n", "utf-8")


def test_the_command_never_measures_a_source_it_was_fitted_on(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for first, name in enumerate(("one", "two")):
        shop(tmp_path, name, 3 * first)
    out = tmp_path / "figures.json"
    out.write_text(json.dumps({"kinship": {"data": "kept"}, "metrics": {"together": 1}}), "utf-8")
    common = ["--data", str(tmp_path), "--rounds", "1", "--out", str(out)]
    primary.main([str(tiny_bundle), "one,two", "--fit", "one", *common])
    written = json.loads(out.read_text("utf-8"))
    assert (written["kinship"], written["metrics"]["together"]) == ({"data": "kept"}, 1)
    assert Choice(**written["choice"]).data.startswith("one; python -m bench.primary")
    table = written["metrics"]["choice"]
    assert set(table["one"]["planted"]) == set(primary.WAYS)  # no other source to fit on
    assert set(table["two"]["planted"]) == {*primary.WAYS, "fitted"}
    value, low, high = table["mean over sources"]["natural"]["p_primary"]
    assert 0.0 <= low <= value <= high <= 1.0
    assert value == pytest.approx(
        np.mean([table[name]["natural"]["p_primary"][0] for name in ("one", "two")]), abs=1e-4
    )
    assert "MEAN OVER SOURCES, upload" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        primary.main([str(tiny_bundle), "one", "--fit", "two", *common])
    assert "measured: one" in capsys.readouterr().err


def test_scores_are_the_weighed_sum() -> None:
    rows = features(*drawn(3), (), LAYOUT)
    fitted = Choice.model_validate({name: 0.1 * i for i, name in enumerate(FEATURES)} | {"data": ""})
    np.testing.assert_allclose(
        scores(rows, fitted),
        [sum(0.1 * i * float(value) for i, value in enumerate(row)) for row in rows],
    )
