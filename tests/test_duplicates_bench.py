"""The parts of `bench.duplicates` that decide what its figures mean."""

import numpy as np
import pytest

from agpis.duplicates import match_pairs
from agpis.images import letterbox
from agpis.simulate.pair import colour_shifted
from bench.duplicates import by_source, left_out, merge
from bench.edits import explained
from bench.finders import SIZE, Pair, Shot
from tests.test_duplicates import drawn, dyed, looks


def shot(pixels, source="a"):
    boxed = letterbox(pixels, SIZE)
    return Shot(source, "1", "", "front", pixels, boxed, looks(boxed))


def test_sisters_that_an_edit_explains_are_told_from_those_that_none_does():
    rng = np.random.default_rng(3)
    picture = drawn(3)
    edits = [(colour_shifted(picture, rng), "colour_shifted") for _ in range(6)]
    others = [(colour_shifted(picture, np.random.default_rng(20)), "sister"), (dyed(picture), "sister")]
    pairs = [Pair(shot(picture), shot(other), kind) for other, kind in edits + others]
    found = [match_pairs([pair.a.as_view(), pair.b.as_view()])[0] for pair in pairs]
    assert explained(pairs, found).tolist() == [False] * 6 + [True, False], "copies are not counted"


def made(kinds, sources):
    plain = np.zeros((8, 8, 3), np.uint8)
    return [
        Pair(Shot(s, str(n), "", "", plain), Shot(s, str(n), "", "", plain), k)
        for n, (k, s) in enumerate(zip(kinds, sources, strict=True))
    ]


def test_a_source_is_measured_on_its_own_pairs_at_the_limit_of_all():
    kinds = ["crop", "crop", "combined", "view", "crop", "crop", "combined", "sister"]
    pairs = made(kinds, ["a"] * 4 + ["b"] * 4)
    found = by_source(np.array([3.0, 1.0, 3.0, 0.0, 1.0, 4.0, 1.0, 2.0]), pairs)
    assert found["a"] == {"single AUC": 1.0, "single recall": 0.5, "combined AUC": 1.0, "combined recall": 1.0}
    assert found["b"] == {"single AUC": 0.5, "single recall": 0.5, "combined AUC": 0.0, "combined recall": 0.0}
    assert found["mean"]["single AUC"] == pytest.approx(0.75)
    assert found["spread"]["single AUC"] == pytest.approx(0.25)


def test_a_fold_is_scored_by_what_the_others_taught():
    pairs = made(["crop", "view"] * 4, ["a", "a", "b", "b", "c", "c", "c", "c"])
    # In `c` high values are copies, in the fold of `a` and `b` low ones: each gets the other's sign.
    values = np.array([[0.0], [1.0], [0.0], [1.0], [1.0], [0.0], [1.0], [0.0]])
    scores = left_out(values, pairs, [["a", "b"], ["c"]])
    assert (np.sign(scores[1] - scores[0]), np.sign(scores[4] - scores[5])) == (1, -1)


def test_figures_are_added_to_what_a_file_says(tmp_path):
    path = tmp_path / "figures.json"
    path.write_text('{"thresholds": {"primary": 1, "duplicate": 2}, "x": 3}')
    merge(path, {"thresholds": {"duplicate": {"value": 0.7}}, "metrics": {"duplicates": {}}})
    assert path.read_text().replace("\n", "").replace(" ", "") == (
        '{"thresholds":{"primary":1,"duplicate":{"value":0.7}},"x":3,"metrics":{"duplicates":{}}}'
    )
