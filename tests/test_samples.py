"""Verdicts to samples: labels, splits that cannot leak, windows, and every bad line named."""

import json
from collections import Counter
from dataclasses import asdict, replace
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from agpis.data import Box, Verdict
from agpis.errors import SettingsError, TrainingError
from agpis.rulebook import Rulebook, load_rulebook
from agpis.samples import (
    SAMPLE_CODES,
    BadSample,
    counts,
    label_of,
    labelled,
    read_verdicts,
    split_of,
    verdict_of,
    window,
)

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
    with pytest.raises(SettingsError, match="found a window of 0 days, allowed is 1 or more"):
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
    assert counts(samples, rulebook, bad).bad == {code: len(BAD[code])}


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
        TrainingError, match=r"found no file at .*none.jsonl; give the path of a .jsonl or .parquet file"
    ):
        list(read_verdicts(tmp_path / "none.jsonl"))
    (tmp_path / "v.csv").write_text("sku")
    with pytest.raises(TrainingError, match=r"found the suffix '.csv', allowed are .jsonl, .parquet"):
        list(read_verdicts(tmp_path / "v.csv"))
    (tmp_path / "v.parquet").write_text("no parquet at all")
    with pytest.raises(TrainingError, match="found no Parquet file"):
        list(read_verdicts(tmp_path / "v.parquet"))


def test_counts_add_up(rulebook: Rulebook) -> None:
    verdicts = [
        verdict(sku="a", rules=("banner",), split="train"),
        verdict(sku="b", accepted=True, split="test"),
        verdict(sku="c", rules=("duplicate",), split="test"),
        verdict(sku="d", feedback="hm", split="train"),
        verdict(sku="e", rules=("wrong_order",), split="validation"),
    ]
    found = counts(labelled(verdicts, rulebook), rulebook, [BadSample("x", "bad_json", "")])
    assert found.total == 5
    assert found.by_split == {"train": 2, "validation": 1, "test": 2}
    assert found.by_scope == {"single": 1, "qualified": 1, "pair": 1, "other": 1, "multi": 1}
    assert found.by_label["test"] == {"qualified": 1, "duplicate": 1}
    text = str(found)
    assert "5 samples: 2 train, 1 validation, 2 test" in text
    assert "  duplicate: 0 / 0 / 1" in text
    assert "left out: 1 bad_json" in text
