"""The choice of the primary, fitted on what reviewers said of first images."""

from __future__ import annotations

import numpy as np
import pytest

from agpis.bundle_manifest import Choice
from agpis.choice import FEATURES, looks, scores
from agpis.errors import BundleError
from agpis.leading import PLAIN, fit_choice, learned, led_rightly, weights_of
from agpis.replay import Lead
from agpis.weighing import FOLDS

TRUE = PLAIN.model_copy(update={"primary": 0.0, "whole": 2.0, "clean": 1.0})
SEEN = (3.0, -3.0, 0.0, 0.0)
"""What a shop's reviewers want to see."""


def told(count: int, seed: int, right: float = 1.0, wanted: tuple[float, ...] = (0.0,) * 4) -> list[Lead]:
    """Uploads of six images whose best by TRUE and by their looks is right; of a share of them only a wrong one is
    known. Two of each product."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        rows, seen = rng.normal(size=(6, len(FEATURES))), rng.normal(size=(6, 4))
        order = (rows @ weights_of(TRUE) + seen @ np.array(wanted)).argsort()
        known = rng.random() < right
        best, worst = frozenset([int(order[-1])]), frozenset([int(order[0])])
        right_ones, wrong_ones = (best, frozenset[int]()) if known else (frozenset[int](), worst)
        found.append(Lead(rows, seen, right_ones, wrong_ones, str(number // 2)))
    return found


@pytest.mark.parametrize("right", [1.0, 0.5])
def test_what_leads_is_learned_from_right_and_wrong_images(right: float) -> None:
    found, others = fit_choice(told(400, 0, right), PLAIN, "reviews"), told(300, 1)
    assert led_rightly(others, found).mean() > 0.9
    assert led_rightly(others, PLAIN).mean() < 0.3
    assert found.whole > found.clean > found.primary
    assert min(weights_of(found)) >= 0.0
    assert (found.looks, found.data) == ((), "reviews")


def test_the_fit_is_the_likeliest() -> None:
    """Of right images alone it is McFadden's conditional logit with a ridge: at its maximum the slope is 0."""
    uploads = told(60, 3, wanted=SEEN)
    found = fit_choice(uploads, PLAIN, "", 30.0)
    seen = np.concatenate([lead.looks - lead.looks.mean(axis=0) for lead in uploads])
    slope = -30.0 * np.array(found.looks) * seen.var(axis=0)
    for lead in uploads:
        z = scores(lead.features, found, lead.looks)
        p = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
        (best,) = lead.right
        slope += lead.looks[best] - p @ lead.looks
    assert np.abs(slope).max() < 0.1


def test_looks_are_heard_where_they_tell_of_other_products() -> None:
    plain, dressed = learned(told(200, 0), PLAIN, "reviews"), learned(told(200, 0, wanted=SEEN), PLAIN, "reviews")
    others = told(300, 1, wanted=SEEN)
    assert dressed.choice.looks[0] > 1.0 > -1.0 > dressed.choice.looks[1]
    assert led_rightly(others, dressed.choice).mean() > led_rightly(others, plain.choice).mean() + 0.2
    assert dressed.after.mean() == pytest.approx(led_rightly(others, dressed.choice).mean(), abs=0.08)
    assert dressed.before.mean() < 0.3
    assert np.abs(plain.choice.looks or [0.0]).max() < 0.2


def test_a_fit_goes_on_from_the_looks_there_are() -> None:
    start = fit_choice(told(300, 0, wanted=SEEN), PLAIN, "", 10.0)
    assert fit_choice(told(40, 2, wanted=SEEN), start, "").looks == start.looks


def test_few_uploads_hardly_move_the_weights() -> None:
    moved = [np.abs(weights_of(fit_choice(told(n, 0), PLAIN, "")) - weights_of(PLAIN)).max() for n in (2, 50, 400)]
    assert moved[0] < 0.5 < moved[1] < moved[2]


def test_an_image_that_was_not_blamed_may_lead() -> None:
    rows, seen = np.zeros((2, len(FEATURES))), np.zeros((2, 4))
    rows[:, FEATURES.index("primary")] = [1.0, 0.0]
    nothing = frozenset[int]()
    one, other = (Lead(rows, seen, nothing, frozenset([at]), "a") for at in (0, 1))
    assert led_rightly([one, other, Lead(rows, seen, frozenset([0]), nothing, "b")], PLAIN).tolist() == [0.0, 1.0, 1.0]
    with pytest.raises(ValueError, match="fitted on uploads of which it is known"):
        fit_choice([], PLAIN, "")
    with pytest.raises(ValueError, match=f"at least {FOLDS} products"):
        learned([one, other], PLAIN, "")


def test_looks_are_the_mean_of_the_grid() -> None:
    tokens = np.arange(2 * 5 * 3, dtype=float).reshape(2, 5, 3)
    assert looks(tokens, {"side": 2}).tolist() == tokens[:, :4].mean(axis=1).tolist()
    assert looks(tokens).tolist() == tokens.mean(axis=1).tolist()
    other = Choice.model_validate({**PLAIN.model_dump(), "looks": (1.0, 2.0)})
    with pytest.raises(BundleError, match="2 wide; these are 3 wide"):
        scores(np.zeros((2, len(FEATURES))), other, looks(tokens))
