import math
from itertools import pairwise, permutations

import numpy as np
import pytest

from agpis.errors import SettingsError
from agpis.sequence import POLISH, Found, search


class Recorded:
    """An arithmetic score that remembers what it was asked."""

    def __init__(self, value):
        self.value = value
        self.calls = []

    def __call__(self, sequences):
        self.calls.append(list(sequences))
        return np.array([self.value(s) for s in sequences], np.float32)


def neighbours(seed, n):
    """A score in which pairs of neighbours matter, so that order does."""
    table = np.random.default_rng(seed).random((n, n))
    return lambda s: sum(table[a, b] for a, b in pairwise(s)) / len(s)


def separable(seed, n):
    """A sum of values, the earlier places counting more."""
    values = np.random.default_rng(seed).random(n)
    return lambda s: sum(values[c] * 0.9**place for place, c in enumerate(s))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("n", "k"), [(3, 3), (5, 3), (6, 4), (7, 1)])
def test_exact_search_equals_brute_force(seed, n, k):
    value = neighbours(seed, n)
    score = Recorded(value)
    found = search(range(n), score, primary=1, k=k)
    rest = [c for c in range(n) if c != 1]
    best = max(((1, *p) for p in permutations(rest, k - 1)), key=value)
    assert found.sequence == best
    assert found.score == pytest.approx(value(best), abs=1e-6)
    assert found.evaluated == math.perm(n - 1, k - 1)
    assert len(score.calls) == 1, "one batched call"


def test_the_primary_may_vary_among_the_eligible():
    value = neighbours(3, 6)
    found = search(range(6), Recorded(value), primary=0, k=3, primaries=[0, 2, 5])
    every = (s for s in permutations(range(6), 3) if s[0] in (0, 2, 5))
    assert found.sequence == max(every, key=value)
    assert found.evaluated == 3 * math.perm(5, 2)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("n", "k"), [(12, 4), (20, 6), (30, 9), (30, 12)])
def test_beam_search_finds_the_optimum_of_separable_scores(seed, n, k):
    value = separable(seed, n)
    found = search(range(n), Recorded(value), primary=4, k=k, exact_limit=50)
    rest = sorted((c for c in range(n) if c != 4), key=lambda c: -value((c,)))
    assert found.sequence == (4, *rest[: k - 1])
    assert found.score == pytest.approx(value(found.sequence), abs=1e-5)


def test_beam_search_is_near_the_exact_optimum_where_order_matters():
    shares = []
    for seed in range(20):
        value = neighbours(seed, 8)
        exact = search(range(8), Recorded(value), primary=0, k=5, exact_limit=10**6)
        beam = search(range(8), Recorded(value), primary=0, k=5, exact_limit=1, beam=8)
        assert beam.evaluated < exact.evaluated
        shares.append(beam.score / exact.score)
    assert min(shares) > 0.93
    assert np.mean(shares) > 0.99


@pytest.mark.parametrize("k", [2, 3, 6, 9])
def test_the_number_of_scored_sequences_grows_linearly(k):
    counts = {}
    for n in (10, 20, 30):
        score = Recorded(neighbours(n, n))
        found = search(range(n), score, primary=0, k=k, exact_limit=1, beam=8)
        assert found.evaluated == sum(map(len, score.calls))
        assert found.evaluated <= 1 + (k - 1) * 8 * (n - 1) + POLISH * k * n
        assert len(score.calls) <= k + POLISH
        counts[n] = found.evaluated
    assert counts[30] - counts[20] < 1.4 * (counts[20] - counts[10]), "each ten more candidates cost the same"


def test_each_call_scores_sequences_of_one_length_that_are_possible():
    score = Recorded(neighbours(0, 12))
    search(range(12), score, primary=3, k=5, exact_limit=1)
    for call in score.calls:
        assert len({len(s) for s in call}) == 1
        assert len(set(call)) == len(call)
        for s in call:
            assert s[0] == 3
            assert len(set(s)) == len(s)


def test_polishing_mends_a_first_step_that_misled_the_beam():
    # Every pair with image 9 looks bad, but the full sequence (0, 1, 9) is best: only exchanging finds it.
    def value(s):
        if len(s) == 3:
            return 1.0 if s == (0, 1, 9) else 0.5 if s[1] == 1 else 0.1
        return -float(s[-1])

    assert search(range(10), Recorded(value), primary=0, k=3, exact_limit=1, beam=1).sequence == (0, 1, 9)


@pytest.mark.parametrize("exact_limit", [1, 10_000])
def test_ties_go_to_the_merchants_order(exact_limit):
    noisy = Recorded(lambda s: 0.7 + 1e-8 * sum(s))
    found = search([5, 2, 9, 1, 7], noisy, primary=9, k=3, exact_limit=exact_limit)
    assert found.sequence == (9, 5, 2)
    found = search([5, 2, 9, 1, 7], noisy, primary=9, k=3, exact_limit=exact_limit, primaries=[5, 9])
    assert found.sequence == (9, 5, 2), "the given primary goes first"


def test_k_1_is_the_primary_alone():
    assert search([4, 2], Recorded(lambda s: 0.25), primary=2, k=1) == Found((2,), 0.25, 1)
    found = search([4, 2], Recorded(lambda s: float(s[0])), primary=2, k=1, primaries=[4], exact_limit=1, beam=1)
    assert found.sequence == (4,)


@pytest.mark.parametrize("mode", ["best", "random"])
def test_fewer_than_k_candidates_give_none_and_cost_nothing(mode):
    score = Recorded(lambda s: 1.0)
    assert search([0, 1], score, primary=0, k=3, mode=mode) is None
    assert score.calls == []


def test_random_starts_with_the_primary_and_follows_the_seed():
    score = Recorded(lambda s: 0.5)
    found = [search(range(9), score, primary=4, k=3, mode="random", seed=seed) for seed in range(40)]
    assert all(f.sequence[0] == 4 and len(set(f.sequence)) == 3 and f.evaluated == 1 for f in found)
    assert found == [search(range(9), score, primary=4, k=3, mode="random", seed=seed) for seed in range(40)]
    assert {c for f in found for c in f.sequence[1:]} == set(range(9)) - {4}, "every other image has its chance"


@pytest.mark.parametrize("exact_limit", [1, 10_000])
@pytest.mark.parametrize("mode", ["best", "random"])
def test_a_score_that_is_no_number_is_refused(exact_limit, mode):
    with pytest.raises(SettingsError, match=r"the score of sequence \(0, .*\) is not a number") as caught:
        search(range(6), Recorded(lambda s: float("nan")), primary=0, k=3, mode=mode, exact_limit=exact_limit)
    assert caught.value.code == "sequence_score"


def test_a_score_of_the_wrong_shape_is_refused():
    with pytest.raises(SettingsError, match=r"gave shape \(2,\) for 20 sequences"):
        search(range(6), lambda s: np.zeros(2), primary=0, k=3)


@pytest.mark.parametrize(
    ("change", "code", "match"),
    [
        ({"k": 0}, "sequence_length", "sequence length is 0; allowed is 1 and more"),
        ({"primary": 7}, "sequence_primary", "primary 7 is not among the candidates"),
        ({"primaries": [0, 8]}, "sequence_primary", "primary 8 is not among the candidates"),
        ({"candidates": [0, 1, 1]}, "sequence_candidates", "name an image twice"),
        ({"mode": "greedy"}, "search_mode", "search mode is 'greedy'; allowed are 'random' and 'best'"),
        ({"beam": 0}, "search_limits", "exact_limit is 400 and beam is 0; both must be at least 1"),
        ({"exact_limit": 0}, "search_limits", "exact_limit is 0 and beam is 8"),
    ],
)
def test_what_cannot_be_meant_is_refused(change, code, match):
    arguments = {"candidates": [0, 1, 2], "score": Recorded(lambda s: 1.0), "primary": 0, "k": 2} | change
    with pytest.raises(SettingsError, match=match) as caught:
        search(**arguments)
    assert caught.value.code == code
