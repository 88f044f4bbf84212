"""Verdicts to samples: labels, splits that cannot leak, windows, and every bad line named."""

import json
import re
from collections import Counter
from dataclasses import asdict, fields, replace
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from agpis.data import Box, Scope, Verdict
from agpis.errors import SettingsError, TrainingError
from agpis.rulebook import Rulebook, load_rulebook
from agpis.samples import (
    SAMPLE_CODES,
    SPLITS,
    BadSample,
    balanced,
    label_of,
    labelled,
    read_verdicts,
    report,
    split_by_time,
    split_of,
    verdict_of,
    window,
)
from tests.conftest import ROOT

GOOD = {"sku": "1", "title": "Kettle", "sequence": ["a.jpg", "b.jpg"], "accepted": True}


@pytest.fixture(scope="module")
def rulebook() -> Rulebook:
    return load_rulebook("default")


def verdict(**values: object) -> Verdict:
    return Verdict(**{"sku": "1", "title": "Kettle", "sequence": ("a.jpg",), "accepted": False, **values})


# Labels --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "label"),
    [
        ({"accepted": True}, "qualified"),
        ({"accepted": True, "feedback": "There is a banner."}, "qualified"),
        ({"rules": ("blur", "banner")}, "blur"),
        ({"rules": ("too_small", "banner")}, "banner"),  # measured only: the models have no class for it
        ({"rules": ("blur",), "feedback": "There is a banner on it"}, "blur"),
        ({"feedback": "First a watermark, then a banner, then another watermark"}, "watermark"),
        ({"feedback": "BANNER on the second picture"}, "banner"),
        ({"feedback": "the bannerman is lost"}, "other"),
        ({"feedback": "wrong order of pictures"}, "wrong_order"),
        ({"feedback": "I do not like it"}, "other"),
        ({}, "other"),
        ({"rules": ("house_rule",)}, "other"),
        ({"rules": ("house_rule",), "feedback": "there is a watermark"}, "watermark"),
    ],
)
def test_label_is_the_first_rule_named(given: dict, label: str, rulebook: Rulebook) -> None:
    assert label_of(verdict(**given), rulebook) == label


def test_every_phrasing_leads_to_its_rule(rulebook: Rulebook) -> None:
    for rule in rulebook.rules:
        if rule.learned:
            phrases = (
                *rule.phrases("en", 1, "at the top left"),
                *rule.phrases("zh", 1, "左上角"),
                *rule.phrases("en"),
                *rule.phrases("zh"),
            )
            wrong = [p for p in phrases if label_of(verdict(feedback=p), rulebook) != rule.id]
            assert not wrong, rule.id


def test_text_of_an_accepted_sequence_is_yes(rulebook: Rulebook) -> None:
    samples = labelled([verdict(accepted=True, feedback="lovely"), verdict(feedback="blurred")], rulebook)
    assert [s.text for s in samples] == ["yes", "blurred"]


# Splits --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sku", "head", "split"),
    [
        ("abc", 0xBA7816BF8F01CFEA, "train"),  # bucket 74
        ("u", 0x0BFE935E70C321C7, "train"),  # 75
        ("f", 0x252F10C83610EBCA, "validation"),  # 82
        ("t", 0xE3B98A4DA31A127D, "validation"),  # 89
        ("8", 0x2C624232CDD22177, "test"),  # 95
        ("r", 0x454349E422F05297, "test"),  # 99
    ],
)
def test_split_is_pinned(sku: str, head: int, split: str) -> None:
    """Buckets of a hundred from the first 8 bytes of sha256, as coreutils' sha256sum prints them."""
    bucket = head % 100
    assert split == ("train" if bucket < 80 else "validation" if bucket < 90 else "test")
    assert split_of(sku) == split


def test_split_has_the_shares_and_does_not_leak(rulebook: Rulebook) -> None:
    rng = np.random.default_rng(0)
    verdicts = [verdict(sku=f"sku-{i % 3000}", feedback=str(i)) for i in range(9000)]
    samples = labelled([verdicts[i] for i in rng.permutation(9000)], rulebook)
    sides: dict[str, set[str]] = {}
    for s in samples:
        sides.setdefault(s.verdict.sku, set()).add(s.split)
    assert all(len(side) == 1 for side in sides.values())
    found = Counter(s.split for s in samples)
    assert abs(found["train"] / 9000 - 0.8) < 0.03  # 3,000 skus: standard error 0.007
    assert abs(found["validation"] / 9000 - 0.1) < 0.03
    alone = labelled([verdicts[17]], rulebook)[0]
    assert alone.split == next(s.split for s in samples if s.verdict == verdicts[17])


def test_given_split_is_kept_and_a_leak_refused(rulebook: Rulebook) -> None:
    assert labelled([verdict(split="test")], rulebook)[0].split == "test"
    with pytest.raises(TrainingError, match="sku '1': found in test and in train; all samples of a product belong on"):
        labelled([verdict(split="test"), verdict(split="train")], rulebook)
    with pytest.raises(TrainingError, match="sku '1': found split 'dev', allowed are train, validation, test or none"):
        labelled([verdict(split="dev")], rulebook)


# Windows -------------------------------------------------------------------------------------------------------------


def test_window_holds_the_last_days() -> None:
    times = ["2024-03-01T00:00:00+00:00", "2024-05-31T23:59:59Z", "2024-06-01T01:00:00+02:00", "2024-06-01", ""]
    verdicts = [verdict(time=t) for t in times]
    assert [v.time for v in window(verdicts, until="2024-06-01", days=90)] == times[1:3]
    assert [v.time for v in window(verdicts, until="2024-06-01", days=92)] == times[:3]
    assert [v.time for v in window(verdicts, until=datetime(2024, 6, 2, tzinfo=UTC))] == times[:4]
    assert window(verdicts) == verdicts
    assert window(verdicts, days=1) == []


def test_window_refuses_what_is_none() -> None:
    with pytest.raises(SettingsError, match="found a window of 0 days, allowed is 1 to 36500"):
        window([], days=0)
    with pytest.raises(SettingsError, match="found until 'yesterday', wanted ISO 8601"):
        window([], until="yesterday")


# Reading -------------------------------------------------------------------------------------------------------------

FULL = Verdict(
    sku="42",
    title="Tasse 茶杯",
    sequence=("a.jpg", "b.jpg"),
    accepted=False,
    category="Cups",
    candidates=("a.jpg", "b.jpg", "c.jpg"),
    rules=("banner",),
    image_index=1,
    box=Box(1, 2, 3, 4),
    feedback="There is a banner.",
    corrected=("a.jpg", "c.jpg"),
    reviewer="ann",
    time="2024-05-31T12:00:00+00:00",
    bundle="starter",
    p_qualified=0.25,
    split="train",
)
PLAIN = Verdict(sku="7", title="", sequence=("x.jpg",), accepted=True, base="https://shop.example/i")


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_verdicts_come_back_as_written(suffix: str, tmp_path) -> None:
    path = tmp_path / f"v.{suffix}"
    rows = [asdict(FULL), asdict(PLAIN)]
    if suffix == "jsonl":
        path.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n")
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    assert list(read_verdicts(path)) == [replace(FULL, base=str(tmp_path)), PLAIN]


BAD = {
    "bad_json": ["{", "[1]", '"text"', "\udcff"],
    "missing_field": [{}, {**GOOD, "sku": None}, {k: v for k, v in GOOD.items() if k != "accepted"}],
    "bad_field": [
        {**GOOD, "sku": 1},
        {**GOOD, "accepted": "yes"},
        {**GOOD, "sequence": "a.jpg"},
        {**GOOD, "sequence": [1]},
        {**GOOD, "box": {"x": 1}},
        {**GOOD, "box": {"x": 0, "y": 0, "w": 1.5, "h": 1}},
        {**GOOD, "image_index": True},
        {**GOOD, "p_qualified": "high"},
        {**GOOD, "colour": "red"},
    ],
    "empty_sequence": [{**GOOD, "sequence": []}],
    "bad_index": [{**GOOD, "image_index": 2}, {**GOOD, "image_index": -1}],
    "bad_time": [{**GOOD, "time": "31.5.2024"}],
    "contradiction": [{**GOOD, "rules": ["banner"]}],
}


def test_every_code_is_tried() -> None:
    assert set(BAD) == set(SAMPLE_CODES)


@pytest.mark.parametrize("code", BAD)
def test_bad_lines_are_named_counted_and_leave_the_others_alone(code: str, tmp_path, rulebook: Rulebook) -> None:
    path = tmp_path / "v.jsonl"
    lines = [json.dumps(GOOD)]
    for row in BAD[code]:
        lines += [row if isinstance(row, str) else json.dumps(row), json.dumps(GOOD)]
    path.write_bytes("\n".join(lines).encode(errors="surrogateescape"))
    bad: list[BadSample] = []
    samples = labelled(read_verdicts(path), rulebook, bad=bad)
    assert len(samples) == len(BAD[code]) + 1
    assert [(b.code, b.place) for b in bad] == [(code, f"v.jsonl, line {2 * i + 2}") for i in range(len(BAD[code]))]
    assert report(samples, rulebook, bad).bad == {code: len(BAD[code])}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"title": "x"}, "here: found no sku, sequence, accepted; every verdict needs them"),
        ({**GOOD, "colour": "red"}, "here: found colour, allowed are sku, title, sequence"),
        ({**GOOD, "accepted": 1}, "here: found accepted: 1, which is no verdict's accepted"),
        ({**GOOD, "sequence": []}, "here: found an empty sequence; at least one image is needed"),
        ({**GOOD, "image_index": 5}, "here: found image_index 5, allowed is 0 to 1"),
        ({**GOOD, "rules": ["blur"]}, "here: found accepted with broken rules blur; it is one or the other"),
        ({**GOOD, "time": "noon"}, "here: found time 'noon', wanted ISO 8601"),
    ],
)
def test_bad_rows_say_what_was_found(row: dict, message: str) -> None:
    found = verdict_of(row, place="here")
    assert isinstance(found, BadSample)
    assert found.message.startswith(message)


def test_files_that_are_none_are_refused(tmp_path) -> None:
    with pytest.raises(
        TrainingError, match=r"found no file at .*none.jsonl; give the path of a .jsonl, .parquet or .csv file"
    ):
        list(read_verdicts(tmp_path / "none.jsonl"))
    (tmp_path / "v.txt").write_text("sku")
    with pytest.raises(TrainingError, match=r"found the suffix '.txt', allowed are .jsonl, .parquet, .csv"):
        list(read_verdicts(tmp_path / "v.txt"))
    (tmp_path / "v.parquet").write_text("no parquet at all")
    with pytest.raises(TrainingError, match="found no Parquet file"):
        list(read_verdicts(tmp_path / "v.parquet"))


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("[" * 100_000, "bad_json"),  # deeper than the parser goes
        (json.dumps({**GOOD, "sku": ""}), "missing_field"),
        (json.dumps({**GOOD, "sku": "\ud800"}), "bad_field"),  # half of a surrogate pair: no hash, no file name
        (json.dumps({**GOOD, "sequence": ["\udfff.jpg"]}), "bad_field"),
        (json.dumps({**GOOD, "time": "0001-01-01T00:00:00+14:00"}), "bad_time"),  # the year 0 in UTC
    ],
)
def test_hostile_lines_are_bad_lines(line: str, code: str, tmp_path) -> None:
    path = tmp_path / "v.jsonl"
    path.write_text(line + "\n" + json.dumps({**GOOD, "title": "茶杯 🫖"}) + "\n")
    found = list(read_verdicts(path))
    assert isinstance(found[0], BadSample)
    assert found[0].code == code
    assert isinstance(found[1], Verdict)


# Time split ----------------------------------------------------------------------------------------------------------


def timed(sku: str, time: str, **values: object) -> Verdict:
    return verdict(sku=sku, time=time, **values)


def test_time_split_trains_on_the_last_window_and_tests_on_the_next(rulebook: Rulebook) -> None:
    bad = BadSample("line 9", "bad_json", "")
    found = split_by_time(
        [
            timed("before", "2024-01-02"),  # 91 days before the boundary
            timed("abc", "2024-01-03", split="test"),  # the first day of training; its own split is not used
            timed("both", "2024-03-31"),
            timed("f", "2024-04-01T23:59:59Z"),  # of a validation sku, see test_split_is_pinned
            timed("new", "2024-04-01"),
            timed("both", "2024-04-02"),
            timed("later", "2024-06-30T23:59:59+00:00"),
            timed("after", "2024-07-01"),
            timed("never", ""),
            bad,
        ],
        until="2024-04-02",
    )
    kept = [(v.sku, v.split) for v in found.verdicts if isinstance(v, Verdict)]
    assert kept == [("abc", "train"), ("f", "validation"), ("new", "train"), ("both", "test"), ("later", "test")]
    assert (found.shared_skus, found.dropped, found.outside, found.untimed) == (1, 1, 2, 1)
    assert found.boundary == "2024-04-02T00:00:00+00:00"
    left_out: list[BadSample] = []
    assert len(labelled(found.verdicts, rulebook, bad=left_out)) == 5  # no leak, or it would raise
    assert left_out == [bad]


def test_time_split_keeps_shared_products_where_asked() -> None:
    verdicts = [timed("a", "2024-03-01"), timed("a", "2024-05-01"), timed("b", "2024-05-02")]
    found = split_by_time(verdicts, until="2024-04-01", shared="train")
    assert [(v.sku, v.time, v.split) for v in found.verdicts if isinstance(v, Verdict)] == [
        ("a", "2024-03-01", "train"),
        ("b", "2024-05-02", "test"),
    ]
    assert (found.shared_skus, found.dropped) == (1, 1)


def test_time_split_ends_with_the_latest_verdict_and_has_a_tenth_for_validation() -> None:
    days = [f"2024-{month:02}-{day:02}" for month in range(1, 7) for day in range(1, 29)]
    verdicts = [timed(f"sku-{day}-{i}", day) for day in days for i in range(20)]
    found = split_by_time(verdicts, train_days=90, test_days=30)
    by_split: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
    for v in found.verdicts:
        assert isinstance(v, Verdict)
        by_split[v.split].append(v.time)
    assert max(by_split["test"]) == "2024-06-28"
    assert min(by_split["test"]) == "2024-06-01"  # 30 days: from 30 May, of which there are no verdicts, on
    assert max(by_split["train"]) == "2024-05-28"
    assert min(by_split["train"]) == "2024-03-01"
    trained = len(by_split["train"]) + len(by_split["validation"])
    assert abs(len(by_split["validation"]) / trained - 0.1) < 0.03  # 1,680 skus: standard error 0.007
    assert found.dropped == found.untimed == 0
    assert found.outside == len(verdicts) - len(found.verdicts)


def test_time_split_refuses_what_is_none() -> None:
    with pytest.raises(SettingsError, match="found no verdict with a time; split by sku"):
        split_by_time([verdict()])
    with pytest.raises(SettingsError, match="found a window of 0 days, allowed is 1 to 36500"):
        split_by_time([timed("a", "2024-01-01")], test_days=0)
    with pytest.raises(SettingsError, match="found shared 'both', allowed are test, train"):
        split_by_time([], shared="both")


def test_window_lets_bad_samples_through() -> None:
    bad = BadSample("line 1", "bad_json", "")
    assert window([bad, timed("a", "2024-01-01")], until="2024-06-01", days=30) == [bad]


# Subsets and report --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scope", "rules"), [("single", {"banner", "blur"}), ("pair", {"duplicate"}), ("multi", {"wrong_order"})]
)
def test_balanced_has_as_many_qualified_as_violating(scope: Scope, rules: set[str], rulebook: Rulebook) -> None:
    broken = ["banner", "blur", "duplicate", "wrong_order", "wrong_order"]
    verdicts = [verdict(sku=f"q{i}", accepted=True, split=SPLITS[i % 3]) for i in range(60)]
    verdicts += [verdict(sku=f"v{i}", rules=(broken[i % 5],), split=SPLITS[i % 3]) for i in range(45)]
    verdicts += [verdict(sku=f"o{i}", feedback="hm", split="train") for i in range(9)]
    samples = labelled(verdicts, rulebook)
    found = balanced(samples, rulebook, scope, seed=3)
    assert {s.label for s in found} == rules | {"qualified"}
    for split in SPLITS:
        here = [s for s in samples if s.split == split]
        violating, qualified = (
            sum(s.label in rules for s in here),
            sum(s.label == "qualified" for s in found if s.split == split),
        )
        assert qualified == violating == sum(s.label in rules for s in found if s.split == split) > 0
    assert found == balanced(samples, rulebook, scope, seed=3)
    assert found != balanced(samples, rulebook, scope, seed=4)
    assert [samples.index(s) for s in found] == sorted(samples.index(s) for s in found)


def test_balanced_draws_from_the_violating_where_they_are_more(rulebook: Rulebook) -> None:
    verdicts = [verdict(sku=f"v{i}", rules=("duplicate",), split="test") for i in range(5)]
    samples = labelled([verdict(sku="q", accepted=True, split="test"), *verdicts], rulebook)
    assert [s.label for s in balanced(samples, rulebook, "pair")] == ["qualified", "duplicate"]
    assert balanced(samples, rulebook, "single") == []
    with pytest.raises(SettingsError, match="found scope 'other', allowed are single, pair, multi"):
        balanced(samples, rulebook, "other")


def test_report_counts_everything(rulebook: Rulebook) -> None:
    verdicts = [
        verdict(sku="a", rules=("banner",), split="train", reviewer="ann", time="2024-05-31T23:00:00-02:00"),
        verdict(sku="a", rules=("blur",), split="train", reviewer="ann", time="2024-05-01"),
        verdict(sku="b", accepted=True, split="test", sequence=("a", "b", "c", "d")),
        verdict(sku="c", rules=("duplicate",), split="test", reviewer="bob"),
        verdict(sku="d", feedback="hm", split="train"),
        verdict(sku="e", feedback="Wrong order!", split="validation"),
    ]
    bad = [BadSample("x", "bad_json", "x: first"), BadSample("y", "bad_json", "y: second")]
    found = report(labelled(verdicts, rulebook), rulebook, bad)
    assert found.total == 6
    assert found.by_split == {"train": 3, "validation": 1, "test": 2}
    assert found.by_scope["train"] == {"qualified": 0, "single": 2, "pair": 0, "multi": 0, "other": 1}
    assert found.by_scope["test"] == {"qualified": 1, "single": 0, "pair": 1, "multi": 0, "other": 0}
    assert {label: n for label, n in found.by_label["train"].items() if n} == {"banner": 1, "blur": 1, "other": 1}
    assert list(found.by_label["train"]) == list(rulebook.classes)  # rules that nobody has broken are shown too
    assert found.products == {"train": 2, "validation": 1, "test": 2}
    assert found.lengths == {1: 5, 4: 1}
    assert found.sources == {"accepted": 1, "rules": 3, "feedback": 1, "other": 1}
    assert found.reviewers == {"": 3, "ann": 2, "bob": 1}
    assert (found.first, found.last) == ("2024-05-01T00:00:00+00:00", "2024-06-01T01:00:00+00:00")
    assert found.untimed == 4
    assert found.bad == {"bad_json": 2}
    assert json.loads(json.dumps(found.row()))["lengths"] == {"1": 5, "4": 1}
    text = str(found)
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert lines[:4] == ["6 samples of 5 products", "train validation test", "samples 3 1 2", "products 2 1 2"]
    assert "single 2 66.7% 0 0.0% 0 0.0%" in lines
    assert "duplicate 0 0.0% 0 0.0% 1 50.0%" in lines
    assert "images a sequence: 1.50 on average, 1 to 4; 1 longer than K = 3" in lines
    assert "labels from: accepted 1, rules 3, feedback 1, other 1" in lines
    assert "time: 2024-05-01T00:00:00+00:00 to 2024-06-01T01:00:00+00:00; 4 without" in lines
    assert "reviewers: 3 (unnamed 3, ann 2, bob 1)" in lines
    assert lines[-2:] == ["left out: 2", "2 bad_json, the first: x: first"]
    assert len({len(line) for line in text.splitlines()[2:8]}) <= 2  # columns stand below each other


def test_report_of_nothing_can_be_shown(rulebook: Rulebook) -> None:
    assert str(report([], rulebook)).startswith("0 samples of 0 products")


# Document ------------------------------------------------------------------------------------------------------------

DOCUMENT = (ROOT / "docs" / "samples.md").read_text(encoding="utf-8")


def test_every_example_of_the_document_is_a_verdict(tmp_path, rulebook: Rulebook) -> None:
    blocks = re.findall(r"```json\n(.*?)```", DOCUMENT, re.DOTALL)
    path = tmp_path / "examples.jsonl"
    path.write_text("\n".join(" ".join(block.split()) for block in blocks if '"sku"' in block), encoding="utf-8")
    bad: list[BadSample] = []
    samples = labelled(read_verdicts(path), rulebook, bad=bad)
    assert bad == []
    scopes = {rule.id: rule.scope for rule in rulebook.rules}
    assert {scopes.get(s.label, s.label) for s in samples} == {"qualified", "single", "pair", "multi", "other"}


def test_document_names_every_field_and_code() -> None:
    assert [field.name for field in fields(Verdict) if f"| `{field.name}` |" not in DOCUMENT] == []
    assert [code for code in SAMPLE_CODES if f"| `{code}` |" not in DOCUMENT] == []
