"""The choice of the primary, fitted on what reviewers said of first images."""

from __future__ import annotations

import numpy as np
import pytest

from agpis.bundle_manifest import Choice
from agpis.choice import FEATURES
from agpis.leading import PLAIN, fit_choice, led_rightly, weights_of
from agpis.replay import Lead

TRUE = Choice(**{name: {"whole": 2.0, "clean": 1.0}.get(name, 0.0) for name in FEATURES}, data="true")


def told(count: int, seed: int, right: float = 1.0) -> list[Lead]:
    """Uploads of six images whose best by TRUE is right; of a share of them only a wrong one is known."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        rows = rng.normal(size=(6, len(FEATURES)))
        order = (rows @ weights_of(TRUE)).argsort()
        known = rng.random() < right
        best, worst = frozenset([int(order[-1])]), frozenset([int(order[0])])
        found.append(Lead(rows, best if known else frozenset(), frozenset() if known else worst, str(number)))
    return found


@pytest.mark.parametrize("right", [1.0, 0.5])
def test_what_leads_is_learned_from_right_and_wrong_images(right: float) -> None:
    found, others = fit_choice(told(400, 0, right), PLAIN, "reviews"), told(300, 1)
    assert led_rightly(others, found).mean() > 0.9
    assert led_rightly(others, PLAIN).mean() < 0.3
    assert found.whole > found.clean > found.primary
    assert min(weights_of(found)) >= 0.0
    assert found.data == "reviews"


def test_few_uploads_hardly_move_the_weights() -> None:
    moved = [np.abs(weights_of(fit_choice(told(n, 0), PLAIN, "")) - weights_of(PLAIN)).max() for n in (2, 50, 400)]
    assert moved[0] < 0.5 < moved[1] < moved[2]


def test_an_image_that_was_not_blamed_may_lead() -> None:
    rows = np.zeros((2, len(FEATURES)))
    rows[:, FEATURES.index("primary")] = [1.0, 0.0]
    one = Lead(rows, frozenset(), frozenset([0]), "a")
    other = Lead(rows, frozenset(), frozenset([1]), "a")
    assert led_rightly([one, other, Lead(rows, frozenset([0]), frozenset(), "b")], PLAIN).tolist() == [0.0, 1.0, 1.0]
    with pytest.raises(ValueError, match="fitted on uploads of which it is known"):
        fit_choice([], PLAIN, "")
