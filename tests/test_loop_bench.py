"""The simulated reviewer of bench.loop: what he says, in the store and over HTTP; who is reviewed in which round."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agpis.data import Candidate, Decision, Image, Product, Verdict
from agpis.rulebook import load_rulebook
from agpis.simulate import Catalogued
from agpis.verdicts import read_verdicts
from bench.loop import Fresh, correction, group_of, judged, review_in_store, review_over_http, served, with_splits
from bench.uploads import Case, Truth, review, verdict
from tests.drawn_store import a_store

RULEBOOK = load_rulebook("default")
URIS = ("front.jpg", "back.jpg", "copy.jpg", "other.jpg", "side.jpg", "banner.jpg")
TRUTH = {
    "front.jpg": Truth("front", "front"),
    "back.jpg": Truth("back", "back"),
    "copy.jpg": Truth("front", "front", kind="recoded"),
    "other.jpg": Truth("x", "front", "other_product", "other_product"),
    "side.jpg": Truth("side", "side"),
    "banner.jpg": Truth("front", "front", "fault", "banner"),
}
SEQUENCES = (
    ("front.jpg", "back.jpg", "side.jpg"),
    ("front.jpg", "copy.jpg", "back.jpg"),
    ("back.jpg", "other.jpg", "side.jpg"),
)


def case(seed: int) -> Case:
    product = Product(f"P{seed}", "Mug", "", tuple(Image(uri) for uri in URIS))
    return Case(product, TRUTH, 3, seed, f"shop/P{seed}", True, True)


def decision(number: int) -> Decision:
    candidates = tuple(Candidate(f"u/{number}-{uri}", 100, 100) for uri in URIS)
    sequence = tuple(f"u/{number}-{uri}" for uri in SEQUENCES[number % 3])
    return Decision(
        sku=f"P{number}", status="generated", title="Mug", sequence=sequence, candidates=candidates,
        p_qualified=0.5, bundle="b",
    )  # fmt: skip


def test_a_correction_is_a_right_sequence() -> None:
    right = correction(case(0))
    assert len(right) == 3
    assert review(case(0), right) == ()
    assert correction(replace(case(0), truth=dict.fromkeys(URIS, TRUTH["other.jpg"]))) == ()
    assert correction(replace(case(0), right_title=False)) == ()


def test_what_he_says_follows_the_truth() -> None:
    rejected: Counter[str] = Counter()
    for seed in range(200):
        for sequence in SEQUENCES:
            one = case(seed)
            said = judged(one, [URIS.index(uri) for uri in sequence], RULEBOOK)
            reasons = review(one, sequence)
            assert said.accepted != verdict(one, reasons)
            if not said.accepted:
                rejected[said.rules[0] if said.rules else "none"] += 1
                assert bool(said.feedback) == bool(said.rules)
                assert said.corrected != tuple(URIS.index(uri) for uri in sequence)
    assert rejected["duplicate"] > 150
    assert rejected["different_product"] > 150
    assert 0 < rejected["none"] < 20  # wrong rejects name nothing


def test_over_http_he_says_the_same_as_in_the_store(tmp_path: Path) -> None:
    pytest.importorskip("uvicorn", reason="needs the web extra")
    cases = {f"P{number}": case(number) for number in range(9)}
    given: list[list[Verdict]] = []
    done = []
    for way in ("store", "http"):
        with a_store(tmp_path / way) as store:
            store.add(map(decision, range(9)), base="shop")
            if way == "http":
                with served(store, RULEBOOK) as browser:
                    done.append(review_over_http(browser, cases, RULEBOOK, 7))
            else:
                done.append(review_in_store(store, cases, RULEBOOK, 7))
            given.append([replace(v, time="") for v in store.verdicts()])
            written = list(read_verdicts(with_splits(store, tmp_path / "v.jsonl", cases)))
            assert {v.sku for v in written if isinstance(v, Verdict)} == {case.key for case in list(cases.values())[:7]}
            assert all(isinstance(v, Verdict) and v.split for v in written)
    assert len(given[0]) == 7
    assert given[0] == given[1]
    assert done[0] == done[1]


def test_styles_stay_together_and_all_groups_have_some() -> None:
    products = [
        Catalogued(f"{style}-{colour}", "t", "", (), (), (), f"style {style}", str(colour), "shop")
        for style in range(400)
        for colour in range(2)
    ]
    groups = [group_of(product, 3, 0) for product in products]
    assert groups[::2] == groups[1::2]
    counts = Counter(groups)
    assert set(counts) == {0, 1, 2, 3}
    assert all(130 < count < 330 for count in counts.values())
    assert groups != [group_of(product, 3, 1) for product in products]


def test_the_surest_are_the_surest() -> None:
    p = np.array([-1.0, 0.1, 0.5, 0.9, 0.7])
    fresh = Fresh(p, np.array([False, True, False, False, True]), ("a", "b", "c", "d", "e"), {})
    assert fresh.submitted(1.0).tolist() == [False, True, True, True, True]
    assert fresh.submitted(0.75).tolist() == [False, False, True, True, True]
    assert fresh.rate(1.0).value == pytest.approx(0.5)
    assert fresh.rate(0.75).value == pytest.approx(1 / 3)
    worse = replace(fresh, rejected=np.ones(5, bool))
    assert fresh.fewer(worse, 1.0).value == pytest.approx(-0.5)
