"""Verdicts out of a store and into one: double reviews, corrections, spreadsheets, rows that are none."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from agpis.data import Box, Verdict
from agpis.errors import SettingsError, TrainingError
from agpis.exchange import export_verdicts, import_verdicts, moment, samples_of, write_verdicts
from agpis.image_labels import image_labels, primary_groups
from agpis.rulebook import load_rulebook
from agpis.samples import labelled, split_of
from agpis.settled import settle, with_corrections
from agpis.verdicts import BadSample, read_verdicts
from tests.drawn_store import a_store

RULEBOOK = load_rulebook("default")
FULL = Verdict(
    sku="A-1",
    title='Blue "running" shoe, size 40; wide',
    category="Shoes",
    base="shop",
    sequence=("a b.jpg", "c|d.jpg", "[e].jpg"),
    candidates=("a b.jpg", "c|d.jpg", "[e].jpg", "f.jpg"),
    accepted=False,
    rules=("watermark", "blur"),
    image_index=1,
    box=Box(1, 2, 30, 40),
    feedback="Zwei Zeilen,\nund ein Ümlaut",
    corrected=("f.jpg", "a b.jpg"),
    reviewer="ann",
    time="2026-05-31T12:00:00+00:00",
    bundle="b1",
    p_qualified=0.625,
)
PLAIN = Verdict(sku="007", title="", sequence=("1.jpg",), accepted=True, base="shop", time="2026-05-31T13:00:00+00:00")


def said(reviewer: str, accepted: bool, **more: object) -> Verdict:
    one = replace(FULL, reviewer=reviewer, accepted=accepted, corrected=(), feedback="", box=None, image_index=None)
    return replace(one, rules=(), **more) if accepted else replace(one, **{"rules": ("blur",), **more})


# Several reviewers ---------------------------------------------------------------------------------------------------


def test_one_sequence_gives_one_sample() -> None:
    both = settle([said("ann", True, time="2026-01-01"), said("bob", True, time="2026-01-03")])
    assert [(v.reviewer, v.time, v.accepted) for v in both.verdicts] == [("ann, bob", "2026-01-03", True)]
    assert (both.doubled, both.outvoted, both.disagreed) == (1, 0, ())


def test_reviewers_who_disagree_teach_nothing_and_a_third_decides() -> None:
    split = settle([said("ann", True), said("bob", False), PLAIN])
    assert split.verdicts == (PLAIN,)
    assert split.disagreed == ("A-1",)
    assert "1 sequences left out because reviewers disagree (A-1)" in str(split)
    third = settle([said("ann", True), said("bob", False), said("cy", False, rules=("logo", "blur"), image_index=2)])
    (found,) = third.verdicts
    assert (found.accepted, found.rules, found.reviewer, third.outvoted) == (False, ("blur", "logo"), "bob, cy", 1)
    assert found.image_index is None  # cy's is of the logo, the sample's first rule is the blur


def test_of_one_reviewer_the_later_word_counts() -> None:
    later, earlier = said("ann", True, time="2026-02-01"), said("ann", False, time="2026-01-01")
    found = settle([later, earlier])
    assert (found.verdicts, found.repeated, found.doubled) == ((later,), 1, 0)


def test_another_bundle_and_another_sequence_are_something_else() -> None:
    four = [said("ann", True), said("bob", False, bundle="b2"), said("cy", False, sequence=("f.jpg",)), PLAIN]
    assert settle(four).verdicts == tuple(four)
    bad = BadSample("line 1", "bad_json", "line 1: torn")
    assert settle([*four, bad]).bad == (bad,)


# Corrections ---------------------------------------------------------------------------------------------------------


def of_split(split: str) -> str:
    return next(f"S{n}" for n in range(100) if split_of(f"S{n}") == split)


def test_a_correction_is_an_approved_sequence_of_training_products_alone() -> None:
    train, test = (replace(FULL, sku=of_split(split)) for split in ("train", "test"))
    found = samples_of([train, test])
    assert found.corrections == 1
    assert [(v.sku, v.accepted, v.sequence) for v in found.verdicts] == [
        (train.sku, False, FULL.sequence),
        (train.sku, True, FULL.corrected),
        (test.sku, False, FULL.sequence),
    ]
    approved = found.verdicts[1]
    assert (approved.rules, approved.box, approved.feedback, approved.p_qualified) == ((), None, "", None)
    assert with_corrections(found).verdicts == found.verdicts  # once is enough


def test_image_labels_know_corrections() -> None:
    verdict = replace(FULL, sku=of_split("train"))
    for verdicts in ([verdict], samples_of([verdict]).verdicts):
        samples = labelled(verdicts, RULEBOOK)
        (group,) = primary_groups(samples)
        assert group.images[group.primary].uri == "f.jpg"
        assert [image.uri for image in group.images] == list(FULL.candidates)
        labels = {label.image.uri: label for label in image_labels(samples, RULEBOOK)}
        assert set(labels) == {"c|d.jpg", "f.jpg", "a b.jpg"}
        assert labels["c|d.jpg"].rules == ("watermark",)
        assert all(labels["f.jpg"].known)
        assert labels["f.jpg"].rules == ()


# Files ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet", ".csv"])
def test_what_is_written_is_read_back(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"v{suffix}"
    write_verdicts([FULL, PLAIN], path)
    assert list(read_verdicts(path)) == [FULL, PLAIN]


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"found the suffix '.txt', allowed are .jsonl, .parquet, .csv"):
        write_verdicts([PLAIN], tmp_path / "v.txt")


def test_a_sheet_of_excel_is_read(tmp_path: Path) -> None:
    path = tmp_path / "v.csv"
    head = "sku;title;sequence;accepted;image_index;box"
    rows = ['"007";"Gr\u00f6\u00dfe; rot";a.jpg|b.jpg;No;1;1,2,3,4', ";x;;;;", "x;;;yes"]
    path.write_bytes("\r\n".join([head, *rows]).encode("cp1252"))
    first, second, third = read_verdicts(path)
    assert isinstance(first, Verdict)
    assert (first.sku, first.title, first.sequence) == ("007", "Gr\u00f6\u00dfe; rot", ("a.jpg", "b.jpg"))
    assert (first.accepted, first.image_index, first.box) == (False, 1, Box(1, 2, 3, 4))
    assert isinstance(second, BadSample)
    assert (second.place, second.code) == ("v.csv, line 3", "missing_field")
    assert isinstance(third, BadSample)
    assert (third.place, third.code) == ("v.csv, line 4", "bad_field")
    assert "4 fields, the header has 6" in third.message


def test_a_sheet_without_its_header_is_refused(tmp_path: Path) -> None:
    (tmp_path / "v.csv").write_text("a,b\n1,2\n")
    with pytest.raises(TrainingError, match="no header with the columns sku, sequence, accepted"):
        list(read_verdicts(tmp_path / "v.csv"))


# Into a store and out ------------------------------------------------------------------------------------------------


def test_import_maps_columns_keeps_bad_rows_and_is_the_same_twice(tmp_path: Path) -> None:
    path = tmp_path / "sheet.csv"
    path.write_text(
        "Item No,name,pictures,ok?,who,shelf\n"
        "7,Mug,7/a.jpg|7/b.jpg,yes,ann,A\n"
        "8,Cup,8/a.jpg,perhaps,ann,B\n"
        "9,Jug,9/a.jpg,no,,C\n"
    )
    columns = {"sku": "Item No", "title": "name", "sequence": "pictures", "accepted": "OK?", "reviewer": "who"}
    with a_store(tmp_path) as store:
        with pytest.raises(SettingsError, match=r"line 2: the column 'shelf' is no field of a verdict.*ignore-others"):
            import_verdicts(path, store, columns=columns)
        first = import_verdicts(path, store, columns=columns, ignore=True, reviewer="someone")
        again = import_verdicts(path, store, columns=columns, ignore=True, reviewer="someone")
        assert (first.added.new, first.added.known, first.ignored) == (2, 0, ("shelf",))
        assert (again.added.new, again.added.known) == (0, 2)
        kept = [json.loads(line) for line in (tmp_path / "sheet.csv.bad.jsonl").read_text().splitlines()]
        assert [(row["place"], row["code"], row["row"]["item no"]) for row in kept] == [
            ("sheet.csv, line 3", "bad_field", "8")
        ]
        assert "found accepted: 'perhaps'" in str(first)
        found = {verdict.sku: verdict for verdict in store.verdicts()}
        assert {sku: (v.accepted, v.reviewer) for sku, v in found.items()} == {
            "7": (True, "ann"),
            "9": (False, "someone"),
        }
        assert found["7"].base == str(tmp_path)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"colour": "x"}, "no verdict has a field colour"),
        ({"sku": "x", "title": "X"}, "one column is named for two fields"),
        ({"feedback": "words"}, "has no column words; it has sku, sequence, title, accepted"),
    ],
)
def test_columns_that_cannot_be_meant(columns: dict[str, str], message: str, tmp_path: Path) -> None:
    path = tmp_path / "v.csv"
    path.write_text("sku,sequence,title,accepted\n1,a.jpg,,yes\n")
    with a_store(tmp_path) as store, pytest.raises(SettingsError, match=message):
        import_verdicts(path, store, columns=columns)


def test_text_that_no_database_holds_is_a_bad_row(tmp_path: Path) -> None:
    path = tmp_path / "v.parquet"
    row = {"sku": "1", "title": "", "sequence": ["a.jpg"], "accepted": True}
    pq.write_table(pa.Table.from_pylist([{**row, "title": "a\0b"}, row, {**row, "sku": None}]), path)
    with a_store(tmp_path) as store:
        found = import_verdicts(path, store)
        assert (found.added.new, [bad.code for bad in found.bad]) == (1, ["bad_field", "missing_field"])


def test_a_store_exports_samples_or_every_verdict(tmp_path: Path) -> None:
    train = replace(FULL, sku=of_split("train"), base=str(tmp_path))
    given = [train, replace(train, reviewer="bob"), replace(train, time="2026-01-01T00:00:00+00:00", bundle="b0")]
    with a_store(tmp_path) as store:
        store.import_verdicts(given)
        since = datetime(2026, 5, 1, tzinfo=UTC)
        found = export_verdicts(store, tmp_path / "samples.jsonl", since=since)
        assert (len(found.verdicts), found.doubled, found.corrections) == (2, 1, 1)
        assert tuple(read_verdicts(tmp_path / "samples.jsonl")) == found.verdicts
        every = export_verdicts(store, tmp_path / "every.csv", every=True)
        assert sorted(every.verdicts, key=str) == sorted(given, key=str)
    with a_store(tmp_path / "other") as second:
        assert import_verdicts(tmp_path / "every.csv", second).added.new == 3
        assert sorted(second.verdicts(), key=str) == sorted(given, key=str)


def test_moments() -> None:
    now = datetime(2026, 6, 30, 12, tzinfo=UTC)
    assert moment("90d", now) == now - timedelta(days=90)
    assert moment("2w", now) == now - timedelta(days=14)
    assert moment("36h", now) == now - timedelta(hours=36)
    assert moment("2026-06-30") == datetime(2026, 6, 30, tzinfo=UTC)
    for text in ("90", "0d", "soon", "3m"):
        with pytest.raises(SettingsError, match="wanted a span such as 90d, 12w or 36h"):
            moment(text)
