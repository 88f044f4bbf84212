"""naming.py and what evidence.py makes of it: which rule a rejected sequence breaks, and the feedback that says so."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agpis import evidence, naming
from agpis.bundle_manifest import Naming, RuleUsual, Usual
from agpis.columns import VIEWS
from agpis.rulebook import Rule, load_rulebook
from bench import naming as bench
from tests.test_choice import shop

RULES = load_rulebook("default")
BROKEN = [RULES.rule(name) for name in RULES.classes[1:-1]]
SINGLE = RULES.single_rules


def sight(count: int = 3, known: naming.Known | None = None) -> naming.Sight:
    """Images nothing is held against."""
    return naming.Sight(
        single_rules=SINGLE,
        rules=np.full((count, len(SINGLE)), 0.01, np.float32),
        p_primary=np.linspace(0.8, 0.2, count).astype(np.float32),
        p_copy=np.zeros((count, count), np.float32),
        features=np.ones((count, 4), np.float32),
        known=known,
    )


def seen(*views: str) -> naming.Known:
    """Images whose views are sure, each a little less alike to the next."""
    count = len(views)
    sure = np.full((count, len(VIEWS)), 0.001, np.float32)
    sure[np.arange(count), [VIEWS.index(view) for view in views]] = 0.992
    apart = np.abs(np.subtract.outer(np.arange(count), np.arange(count)))
    likeness = (1.0 - 0.2 * apart).astype(np.float32)
    return naming.Known(sure, likeness, likeness**2, likeness)


def weights(**kinds: dict[str, float]) -> Naming:
    """Only what is given counts."""
    blank: dict[str, dict[str, float]] = {scope: {"bias": 0.0} for scope in ("single", "pair", "multi")}
    return Naming(
        facts={"order": Usual(mean=0.0, spread=1.0), "copy": Usual(mean=-14.0, spread=4.0)},
        rules={name: RuleUsual(mean=-4.0, spread=1.0, bias=0.0) for name in SINGLE},
        kinds=blank | kinds,
        data="by hand",
    )


def even() -> np.ndarray:
    return np.full(len(BROKEN), 1.0 / len(BROKEN), np.float32)


# What is known -------------------------------------------------------------------------------------------------------


def test_tokens_are_read_as_the_sequence_model_reads_them() -> None:
    torch = pytest.importorskip("torch", reason="needs the train extra")
    from agpis.models.comparison import Compare, TokenLayout

    layout = TokenLayout(side=2, learned=20, descriptor=12, colour=8, knowledge=2 + 3 + len(VIEWS), signature=9)
    rng = np.random.default_rng(0)
    tokens = rng.normal(size=(3, layout.tokens, layout.width)).astype(np.float32)
    for part in (
        tokens[:, :4, 20:32],
        tokens[:, 4:, layout.knowledge : layout.width - 9],
        tokens[:, 4:, layout.width - 9 :],
    ):
        part /= np.linalg.norm(part, axis=-1, keepdims=True)
    columns = {name: getattr(layout, name) for name in ("side", "learned", "descriptor", "knowledge", "signature")}
    found = naming.known(tokens, columns, 3)
    assert found is not None
    compare = Compare(3, 8, layout)
    stacked = torch.from_numpy(tokens)[None]
    cosines, kin, _ = compare.cosines(stacked)
    matches = cosines[0].amax(-1).mean(1)
    np.testing.assert_allclose(found.kin, kin[0].numpy(), atol=1e-5)
    np.testing.assert_allclose(found.matches, torch.maximum(matches, matches.T).numpy(), atol=1e-5)
    likeness = compare.likeness(stacked)
    assert likeness is not None
    assert found.colours is not None
    np.testing.assert_allclose(found.colours, likeness[0].numpy(), atol=1e-5)
    views = torch.softmax(4.0 * stacked[0, :, 4, 5 : layout.knowledge], dim=-1)
    np.testing.assert_allclose(found.views, views.numpy(), atol=1e-5)
    assert naming.known(tokens, None, 3) is None
    assert naming.known(tokens, columns, 4) is None  # columns of another rulebook


def test_facts_by_hand() -> None:
    ordered = naming.facts(sight(3, seen("front", "detail", "back")))
    turned = naming.facts(sight(3, seen("detail", "front", "back")))
    partly = naming.facts(sight(3, seen("detail", "back", "detail")))
    assert turned["order"] > 2.0 > ordered["order"]
    assert partly["incomplete"] > 2.0 > max(turned["incomplete"], ordered["incomplete"])
    assert naming.facts(sight(3, seen("detail", "detail", "detail")))["detail_least"] > 2.0 > partly["detail_least"]
    assert ordered["kin_most"] == pytest.approx(0.8)
    assert ordered["kin_least"] == pytest.approx(0.6)
    assert ordered["alone"] == pytest.approx(0.8)
    assert ordered["later_match"] == pytest.approx(0.8)
    assert ordered["colour_gap"] == pytest.approx(0.6 - 0.36, abs=1e-6)
    assert partly["later_views"] < 0.1 < naming.facts(sight(3, seen("front", "back", "back")))["later_views"]


def test_what_cannot_be_known_is_left_out() -> None:
    known = {name for kind in naming.FACTS.values() for name in kind} - {"excess"}
    titled = np.zeros(3, np.float32)
    assert known <= set(naming.facts(replace(sight(3, seen("front", "back", "detail")), titled=titled)))
    assert not {name for name in naming.facts(sight(2, seen("front", "back"))) if name.startswith("later")}
    assert set(naming.facts(sight(2))) == {"images", "primary_first", "primary_most", "order_primary", "copy"}
    assert set(naming.facts(sight(1))) == {"images", "primary_first", "primary_most"}


# Which rule ----------------------------------------------------------------------------------------------------------


def test_a_fact_speaks_for_its_kind_alone() -> None:
    fitted = weights(wrong_order={"bias": 0.0, "order": 1.0})
    found = naming.shares(naming.case_of(even(), sight(3, seen("detail", "front", "back"))), BROKEN, SINGLE, fitted)
    assert BROKEN[int(found.argmax())].id == "wrong_order"
    assert found.sum() == pytest.approx(1.0)
    others = np.delete(found, int(found.argmax()))
    np.testing.assert_allclose(others, others[0])


def test_a_single_rule_speaks_by_what_is_unusual() -> None:
    held = sight()
    held.rules[1, SINGLE.index("cut_off")] = 0.5  # logit 0, usual here
    held.rules[1, SINGLE.index("logo")] = 0.3  # logit -0.85
    fitted = weights(single={"bias": 0.0, "excess": 1.0})
    fitted.rules["cut_off"] = RuleUsual(mean=0.0, spread=1.0, bias=0.0)
    found = naming.shares(naming.case_of(even(), held), BROKEN, SINGLE, fitted)
    assert BROKEN[int(found.argmax())].id == "logo"
    fitted.rules["cut_off"] = RuleUsual(mean=0.0, spread=1.0, bias=9.0)
    found = naming.shares(naming.case_of(even(), held), BROKEN, SINGLE, fitted)
    assert BROKEN[int(found.argmax())].id == "cut_off"


def test_a_rule_that_the_fit_did_not_know_has_its_scopes_coefficients() -> None:
    own = Rule.model_validate(
        {
            "id": "no_scale",
            "name": "No scale",
            "scope": "multi",
            "description": "Nothing tells the size.",
            "learned": True,
            "feedback": {"en": ("The size cannot be told.",), "zh": ("看不出尺寸。",)},
        }
    )
    renamed = RULES.rule("wrong_order").model_copy(update={"id": "house_order"})
    assert (naming.kind_of(own), naming.kind_of(renamed)) == ("multi", "wrong_order")
    fitted = weights(multi={"bias": 3.0, "share": 1.0})
    case = naming.case_of(np.array([0.4, 0.1, 0.5]), sight())
    found = naming.shares(case, [own, RULES.rule("badge"), renamed], SINGLE, fitted)
    expected = np.array([np.exp(3.0) * 0.4, 1.0, np.exp(3.0) * 0.5])
    np.testing.assert_allclose(found, expected / expected.sum(), rtol=1e-6)
    theirs = RULES.rule("badge").model_copy(update={"id": "house_rule"})  # a single rule without a usual logit
    ours = replace(case, logit=case.logit[:1])
    found = naming.shares(ours, [own, theirs, renamed], ["house_rule"], fitted)
    np.testing.assert_allclose(found, expected / expected.sum(), rtol=1e-6)


def drawn(count: int, seed: int) -> tuple[list[naming.Case], list[str]]:
    """Sequences whose rules can be told: order by the views, badges by stage 1, another product by nothing."""
    rng = np.random.default_rng(seed)
    cases, broken = [], []
    for _ in range(count):
        rule = str(rng.choice(["wrong_order", "badge", "different_product"], p=[0.5, 0.3, 0.2]))
        first = "detail" if rule == "wrong_order" or rng.random() < 0.1 else "front"
        held = sight(3, seen(first, "front", "back"))
        held.rules[:] = 1.0 / (1.0 + np.exp(4.0 - rng.normal(size=held.rules.shape)))
        if rule == "badge":
            held.rules[1, SINGLE.index("badge")] = rng.uniform(0.3, 0.9)
        cases.append(naming.case_of(even(), held))
        broken.append(rule)
    return cases, broken


def test_a_fit_names_what_can_be_told_and_is_calibrated() -> None:
    cases, broken = drawn(300, 0)
    accepted = drawn(40, 2)[0]  # what is usual of the logits, all but the badge's
    fitted = naming.fit(cases, broken, accepted, BROKEN, SINGLE, "drawn")
    assert Naming.model_validate_json(fitted.model_dump_json()) == fitted
    others, truth = drawn(200, 1)
    found = np.stack([naming.shares(case, BROKEN, SINGLE, fitted) for case in others])
    named = [BROKEN[i].id for i in found.argmax(axis=1)]
    assert np.mean([a == b for a, b in zip(named, truth, strict=True)]) > 0.9
    # At the optimum of a logistic with free biases, the mean probability of a kind is its share.
    inside = np.stack([naming.shares(case, BROKEN, SINGLE, fitted) for case in cases]).mean(axis=0)
    for kind, of in (("wrong_order", ["wrong_order"]), ("single", list(SINGLE))):
        expected = sum(broken.count(rule) for rule in of) / len(broken)
        assert sum(inside[i] for i, rule in enumerate(BROKEN) if rule.id in of) == pytest.approx(expected, abs=1e-3), (
            kind
        )


def test_a_fit_needs_rejected_and_accepted_sequences() -> None:
    cases, broken = drawn(4, 0)
    with pytest.raises(ValueError, match="0 rejected and 2 accepted"):
        naming.fit([], [], cases[:2], BROKEN, SINGLE, "")
    with pytest.raises(ValueError, match="1 accepted"):
        naming.fit(cases, broken, cases[:1], BROKEN, SINGLE, "")
    with pytest.raises(ValueError, match="nonsense"):
        naming.fit(cases, ["nonsense"] * 4, cases, BROKEN, SINGLE, "")


def test_objections_by_the_fit_share_out_what_the_rules_have() -> None:
    names = RULES.classes
    classes = np.full(len(names), 0.4 / (len(names) - 1), np.float32)
    classes[0] = 0.6
    more = classes.copy()
    more[names.index("duplicate")] += 0.3  # of the set's evidence, which the fit does not know
    more[0] -= 0.3
    held = sight(3, seen("detail", "front", "back"))
    fitted = weights(wrong_order={"bias": 0.0, "order": 1.0}, pair={"bias": 0.0, "share": 1.0})
    found = evidence.objections(more, names, RULES, held, lambda: np.tile(classes, (3, 1)), fitted=fitted, own=classes)
    assert (found[0].rule.id, found[0].image) == ("wrong_order", 0)
    assert sum(objection.probability for objection in found) == pytest.approx(more[1:-1].sum(), abs=1e-5)
    heard = evidence.objections(more, names, RULES, held, lambda: np.tile(classes, (3, 1)), fitted=fitted)
    assert heard[0].probability < found[0].probability


# Feedback ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_phrase_is_understood_as_it_was_meant(language: str) -> None:
    wheres = {"en": "at the top left", "zh": "左上角"}
    for rule in BROKEN:
        for image in range(3):
            bare = rule.phrases(language)  # type: ignore[arg-type]
            for phrase in rule.phrases(language, image, wheres[language]):  # type: ignore[arg-type]
                named, at = evidence.spoken_of(phrase, RULES)
                assert named == rule.id, phrase
                if evidence.kind_of(rule) == "first":
                    assert at == 0
                elif phrase in bare:
                    assert at is None, phrase
                else:
                    assert at == image, phrase


def test_the_decoders_words_are_shown_where_they_agree() -> None:
    words = "Remove the badge at the top left of the second image."
    agreeing = "The second image shows a price tag or sticker."
    assert evidence.shown(agreeing, words, RULES) == (agreeing, "model")
    for other in ("", "The third image shows a price tag or sticker.", "The second image is blurred.", "image image"):
        assert evidence.shown(other, words, RULES) == (words, "rulebook")


# The command ---------------------------------------------------------------------------------------------------------


def test_the_command_fits_on_other_sources_than_it_measures(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for first, name in enumerate(("one", "two")):
        shop(tmp_path, name, 3 * first)
    asked: list[set[str]] = []
    original = bench.fit

    def watched(looks: Sequence[bench.Looked], *rest: Any) -> Naming:
        asked.append({looked.sku.split("/")[0] for looked in looks})
        return original(looks, *rest)

    monkeypatch.setattr(bench, "fit", watched)
    out = tmp_path / "figures.json"
    out.write_text(json.dumps({"kinship": {"data": "kept"}, "metrics": {"together": 1}}), "utf-8")
    common = ["--data", str(tmp_path), "--scale", "0.01", "--out", str(out)]
    bench.main([str(tiny_bundle), "one,two", *common])
    assert asked == [{"two"}, {"one"}, {"one", "two"}]
    written = json.loads(out.read_text("utf-8"))
    assert (written["kinship"], written["metrics"]["together"]) == ({"data": "kept"}, 1)
    assert Naming.model_validate(written["naming"]).data.startswith("simulated sequences of one, two")
    table = written["metrics"]["naming"]
    assert set(table) == {"one", "two", "together"}
    for value, low, high in (table["together"][name] for name in ("rule named", "feedback shown: right rule")):
        assert 0.0 <= low <= value <= high <= 1.0
    assert table["one"]["rule named"] == table["one"]["feedback shown: right rule"]  # the text names what is named
    assert "fitted on two" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        bench.main([str(tiny_bundle), "one", "--fit", "two", *common])
    assert "--fit names two" in capsys.readouterr().err


def test_a_rule_of_the_first_image_is_not_held_against_the_others() -> None:
    base = sight()
    count, rules = len(base.p_primary), len(base.single_rules)
    roles = ("main", "secondary", *["any"] * (rules - 2))
    found = replace(base, rules=np.full((count, rules), 0.8, np.float32), roles=roles)
    placed = found.placed()
    np.testing.assert_allclose(placed[0], [0.8, 0.0, *[0.8] * (rules - 2)])
    np.testing.assert_allclose(placed[1:, 0], 0.0)
    np.testing.assert_allclose(placed[1:, 1:], 0.8)
    np.testing.assert_array_equal(replace(found, roles=()).placed(), found.rules)


def test_facts_of_the_title_are_told_where_they_are_known() -> None:
    base = sight()
    assert not {"title_first", "title_most", "title_least"} & set(naming.facts(base))
    titled = np.linspace(-2.0, 1.0, len(base.p_primary)).astype(np.float32)
    found = naming.facts(replace(base, titled=titled))
    assert (found["title_first"], found["title_most"], found["title_least"]) == (-2.0, 1.0, -2.0)
