"""A rulebook that has changed since the bundle was trained: verdicts, classes, and what the model knows of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from agpis.assemble import open_model
from agpis.bundle import open_bundle
from agpis.data import Verdict
from agpis.errors import RulebookError
from agpis.graph_weights import checkpoint_of
from agpis.models.muisc import SequenceModel
from agpis.recast import recast
from agpis.rule_changes import rule_changes
from agpis.rulebook import Rulebook, load_rulebook, parse_rulebook
from agpis.samples import labelled

pytestmark = pytest.mark.usefixtures("one_thread")

DEFAULT = load_rulebook("default")
RULE = """
  - id: {id}
    was: [{was}]
    name: {name}
    scope: {scope}
    description: Not allowed.
    learned: true
    feedback: {{en: [{name}.], zh: [{name}]}}
"""


def changed(drop: str, *rules: str) -> Rulebook:
    text = f"id: shop\nversion: 2\nextends: default\ndrop: [{drop}]\n"
    return parse_rulebook(text + ("rules:" + "".join(rules) if rules else ""))


RENAMED = RULE.format(id="promotion", was="banner", name="Promotion", scope="single")
ADDED = RULE.format(id="mood", was="", name="Wrong mood", scope="multi")
SINGLE = RULE.format(id="price", was="", name="Price in the picture", scope="single")


def said(*rules: str, feedback: str = "", index: int | None = None) -> Verdict:
    return Verdict("A", "t", ("a.jpg", "b.jpg"), False, rules=rules, feedback=feedback, image_index=index)


def test_what_changed_and_what_the_bundle_can_have() -> None:
    new = changed("banner, same_view, logo", RENAMED, ADDED, SINGLE)
    found = rule_changes(DEFAULT, new)
    assert found.renamed == {"banner": "promotion"}
    assert set(found.added) == {"mood", "price"}
    assert set(found.dropped) == {"same_view", "logo"}
    assert (found.waiting, found.staying) == (("price",), ("logo",))
    singles = ["promotion" if rule == "banner" else rule for rule in DEFAULT.single_rules]
    assert list(found.rulebook.single_rules) == singles  # as the image graph has them, logo among them
    assert "mood" in found.rulebook.classes
    assert {"same_view", "price"}.isdisjoint(found.rulebook.classes)
    trained = rule_changes(DEFAULT, new, compliance=True)
    assert trained.rulebook is new
    assert (trained.waiting, trained.staying) == ((), ())
    same = rule_changes(DEFAULT, DEFAULT)
    assert not same.any
    assert same.rulebook is DEFAULT


def test_the_report_counts_verdicts() -> None:
    found = rule_changes(DEFAULT, changed("banner, logo", RENAMED, ADDED, SINGLE))
    lines = found.report([said("banner"), said("promotion", "mood"), said("price"), said()])
    assert lines[0].startswith("mood is new: 1 verdicts name it, fewer than 20")
    assert lines[1].startswith("price is new: 1 verdicts name it; of scope single")
    assert lines[2].startswith("banner is called promotion now: 2 verdicts name it")
    assert lines[3].startswith("logo is dropped: verdicts that name it alone teach nothing; of scope single, the image")


def test_verdicts_for_dropped_rules_teach_nothing() -> None:
    found = rule_changes(DEFAULT, changed("logo"))
    by_words = said(feedback="Remove the logo of the first image.")
    first, other = said("logo", "blur", index=0), said("blur", "logo", index=1)
    kept, left_out = found.valid([said("logo"), by_words, first, other, said("something"), said(feedback="Odd.")])
    assert left_out == 2
    assert kept == [said("blur"), other, said("something"), said(feedback="Odd.")]


def test_an_earlier_id_is_read_as_the_rule() -> None:
    new = changed("banner", RENAMED)
    (sample,) = labelled([said("banner", "promotion", "blur")], new)
    assert (sample.label, sample.verdict.rules) == ("promotion", ("promotion", "blur"))
    with pytest.raises(RulebookError, match="'promotion' was 'banner', which is the id of 'banner'"):
        changed("", RENAMED)


def test_the_graphs_weights_are_the_checkpoints(tiny_bundle: Path, tmp_path: Path) -> None:
    exported = tiny_bundle.parent / "checkpoints" / "muisc"
    folder = checkpoint_of(open_bundle(tiny_bundle), tmp_path / "read")
    read, written = (load_file(path / "weights.safetensors") for path in (folder, exported))
    assert set(read) == set(written)
    for name, values in written.items():
        torch.testing.assert_close(read[name], values, rtol=1e-3, atol=1e-4)  # half precision in the graph
    _, own = open_model(folder, "muisc")
    _, theirs = open_model(exported, "muisc")
    assert (own.tokens_of, own.text, own.tokenizer_json) == (theirs.tokens_of, theirs.text, theirs.tokenizer_json)


def test_a_model_for_other_classes_says_the_same(tiny_bundle: Path, tmp_path: Path) -> None:
    start = tiny_bundle.parent / "checkpoints/muisc"
    assert recast(start, DEFAULT, tmp_path / "same") == start
    new = rule_changes(DEFAULT, changed("banner, same_view", RENAMED, ADDED)).rulebook
    before, after = (_probabilities(path) for path in (start, recast(start, new, tmp_path / "recast")))
    assert tuple(after) == new.classes
    left = 1.0 - before["same_view"]
    for rule in set(after) - {"promotion", "mood", "other"}:
        assert after[rule] == pytest.approx(before[rule] / left, rel=1e-4)
    assert after["promotion"] == pytest.approx(before["banner"] / left, rel=1e-4)
    assert after["mood"] + after["other"] == pytest.approx(before["other"] / left, rel=1e-4)


def _probabilities(folder: Path) -> dict[str, float]:
    module, checkpoint = open_model(folder, "muisc")
    assert isinstance(module, SequenceModel)
    config = module.muisc.config
    rng = torch.Generator().manual_seed(3)
    tokens = torch.randn(1, config.k, config.tokens, config.token_width, generator=rng)
    mask = torch.ones(1, config.k)
    with torch.no_grad():
        logits = module.muisc(tokens, mask, torch.tensor([[5, 6, 7]]), torch.tensor([2]))[0]
    classes = parse_rulebook(checkpoint.rulebook_yaml).classes
    return dict(zip(classes, torch.softmax(logits[0], -1).tolist(), strict=True))
