import numpy as np
import pytest

from agpis.compliance import learned_findings, removed
from agpis.data import Box
from agpis.errors import SettingsError
from agpis.rulebook import load_rulebook


@pytest.fixture(scope="module")
def rulebook():
    return load_rulebook("default")


def probabilities(rulebook, **values):
    return np.array([values.get(rule, 0.01) for rule in rulebook.single_rules], np.float32)


def test_images_above_the_threshold_are_removed():
    assert removed(np.array([0.1, 0.5, 0.51, 0.99], np.float32), 0.5).tolist() == [False, False, True, True]
    assert removed(np.zeros(0), 0.5).shape == (0,)


def test_a_probability_that_is_no_number_does_not_slip_through():
    with pytest.raises(SettingsError, match="p_noncompliant of image 0 is not a number") as caught:
        removed(np.array([np.nan, 0.2]), 0.5)
    assert caught.value.code == "noncompliant_nan"


def test_wrong_shape_and_threshold_are_refused():
    with pytest.raises(SettingsError, match=r"shape \(1, 2\); it must be \(n,\)"):
        removed(np.zeros((1, 2)), 0.5)
    with pytest.raises(SettingsError, match="the non-compliance threshold is 2; allowed is 0 to 1"):
        removed(np.zeros(2), 2)


def test_the_rules_that_explain_are_named_largest_first(rulebook):
    found = learned_findings(probabilities(rulebook, blur=0.6, banner=0.9, logo=0.4), rulebook)
    assert [f.rule for f in found] == ["banner", "blur"]
    assert found[0].probability == pytest.approx(0.9)
    rule = rulebook.rule("banner")
    assert (found[0].severity, found[0].role, found[0].scope) == (rule.severity, rule.role, "single")
    assert found[0].message


def test_at_most_so_many_are_named(rulebook):
    every = np.linspace(0.6, 0.9, len(rulebook.single_rules))
    assert [f.rule for f in learned_findings(every, rulebook, most=2)] == list(rulebook.single_rules[:-3:-1])


def test_a_removal_never_stays_without_a_reason(rulebook):
    found = learned_findings(probabilities(rulebook, watermark=0.2), rulebook)
    assert [f.rule for f in found] == ["watermark"]


def test_boxes_go_to_their_rules(rulebook):
    box = Box(1, 2, 30, 40)
    found = learned_findings(probabilities(rulebook, banner=0.9, blur=0.8), rulebook, boxes={"banner": box})
    assert [f.box for f in found] == [box, None]


def test_another_rulebooks_probabilities_are_refused(rulebook):
    with pytest.raises(SettingsError, match="Use the rulebook the bundle was exported with") as caught:
        learned_findings(np.zeros(2), rulebook)
    assert caught.value.code == "rule_probabilities"
    with pytest.raises(SettingsError, match="1 values that are not numbers"):
        learned_findings(probabilities(rulebook, blur=np.nan), rulebook)
