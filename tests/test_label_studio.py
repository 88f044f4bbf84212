"""Tasks for Label Studio, and its annotated export read back."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from agpis.data import Box, Candidate, Decision, Finding, Verdict, Violation
from agpis.errors import SettingsError, TrainingError
from agpis.exchange import export_tasks, import_annotations
from agpis.label_studio import labelling_config, read_annotations, tasks
from agpis.rulebook import load_rulebook
from tests.drawn_store import a_store

RULEBOOK = load_rulebook("default")
BOX = Box(100, 50, 200, 75)
DECISION = Decision(
    sku="A-1",
    status="below_threshold",
    title="Blue <shoe>",
    category="Shoes",
    sequence=("a.jpg", "b.jpg"),
    p_qualified=0.2,
    violations=(Violation("watermark", "single", 0.7, "b.jpg"), Violation("duplicate", "pair", 0.1)),
    feedback="There is a watermark.",
    candidates=(
        Candidate("a.jpg", 800, 600, outcome="primary"),
        Candidate("b.jpg", 1000, 500, outcome="selected", findings=(Finding("watermark", box=BOX),)),
        Candidate("c.jpg", 10, 10),
    ),
    bundle="b1",
)


def annotated(task: dict[str, Any], result: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """As Label Studio exports it: the task with an annotation."""
    annotation = {"id": 7, "completed_by": 3, "was_cancelled": False, "result": result}
    annotation |= {"created_at": "2026-03-09T22:16:08.728353Z", "updated_at": "2026-03-09T22:20:00.000000Z", **more}
    return {"id": 12, "data": task["data"], "annotations": [annotation]}


def read(tmp_path: Path, *found: dict[str, Any]) -> Any:
    path = tmp_path / "export.json"
    path.write_text(json.dumps(list(found)))
    return read_annotations(path)


def test_what_the_model_says_comes_back_as_a_verdict(tmp_path: Path) -> None:
    (task,) = tasks([(DECISION, "shop")])
    assert [image["url"] for image in task["data"]["images"]] == ["shop/a.jpg", "shop/b.jpg"]
    (prediction,) = task["predictions"]
    assert (prediction["model_version"], prediction["score"]) == ("b1", 0.2)
    region = next(one for one in prediction["result"] if one["type"] == "rectanglelabels")
    assert (region["from_name"], region["to_name"]) == ("boxes_1", "image_1")
    percent = {"x": 10.0, "y": 10.0, "width": 20.0, "height": 15.0, "rotation": 0}
    assert region["value"] == {**percent, "rectanglelabels": ["watermark"]}
    found = read(tmp_path, annotated(task, prediction["result"]))
    assert found.verdicts == (
        Verdict(
            sku="A-1", title="Blue <shoe>", category="Shoes", base="shop", sequence=DECISION.sequence,
            candidates=("a.jpg", "b.jpg", "c.jpg"), accepted=False, rules=("watermark", "duplicate"), image_index=1,
            box=BOX, feedback="There is a watermark.", reviewer="label-studio:3", time="2026-03-09T22:20:00.000000Z",
            bundle="b1", p_qualified=0.2,
        ),
    )  # fmt: skip


def test_accepting_and_blind_tasks(tmp_path: Path) -> None:
    (task,) = tasks([(DECISION, "")], blind=True)
    assert "predictions" not in task
    (sure,) = tasks([(DECISION, "")], threshold=0.1)
    (said,) = sure["predictions"]
    found = read(tmp_path, annotated(sure, said["result"], completed_by={"id": 3, "email": "ann@shop.example"}))
    assert [(v.accepted, v.rules, v.reviewer) for v in found.verdicts] == [(True, (), "ann@shop.example")]
    assert list(tasks([(Decision(sku="B", status="no_primary"), "")])) == []


def test_boxes_in_percent_become_pixels_of_the_source(tmp_path: Path) -> None:
    (task,) = tasks([(DECISION, "")], blind=True)
    reject = {"from_name": "verdict", "to_name": "title", "type": "choices", "value": {"choices": ["reject"]}}

    def region(size: tuple[int, int], **value: float) -> dict[str, Any]:
        ends = {"from_name": "boxes_0", "to_name": "image_0", "type": "rectanglelabels"}
        sized = {"original_width": size[0], "original_height": size[1]} if size[0] else {}
        return {**ends, **sized, "value": {**value, "rectanglelabels": ["logo"]}}

    whole = region((800, 600), x=25, y=50, width=50, height=50)
    shrunk = region((400, 300), x=25, y=50, width=50, height=50)  # Label Studio was given a smaller copy
    unsized = region((0, 0), x=25, y=50, width=50, height=50)
    for one in (whole, shrunk, unsized):
        (verdict,) = read(tmp_path, annotated(task, [reject, one])).verdicts
        assert (verdict.box, verdict.image_index, verdict.rules) == (Box(200, 300, 400, 300), 0, ("logo",))
    turned = region((800, 600), x=50, y=50, width=10, height=20, rotation=90)  # about its upper left corner
    (verdict,) = read(tmp_path, annotated(task, [reject, turned])).verdicts
    assert verdict.box == Box(280, 300, 120, 80)
    beyond = region((800, 600), x=90, y=-5, width=30, height=10)
    (verdict,) = read(tmp_path, annotated(task, [reject, beyond])).verdicts
    assert verdict.box == Box(720, 0, 80, 30)


def test_what_is_no_verdict_is_named(tmp_path: Path) -> None:
    (task,) = tasks([(DECISION, "")], blind=True)
    foreign = {"id": 1, "data": {"image": "x.jpg"}, "annotations": []}
    nothing = annotated(task, [])
    odd = annotated(task, [{"from_name": "verdict", "type": "choices", "value": {"text": "x"}}])
    cancelled = annotated(task, [], was_cancelled=True)
    found = read(tmp_path, foreign, nothing, odd, cancelled, {**task, "id": 9})
    assert found.verdicts == ()
    assert [(bad.place, bad.code) for bad in found.bad] == [
        ("task 1", "missing_field"),
        ("task 12, annotation 7", "missing_field"),
        ("task 12, annotation 7", "bad_field"),
    ]
    assert (found.skipped, found.open) == (1, 1)
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(TrainingError, match="is not JSON"):
        read_annotations(tmp_path / "x.json")
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(TrainingError, match="holds a dict; Label Studio's export is a list of tasks"):
        read_annotations(tmp_path / "x.json")


def test_the_configuration_fits_the_tasks() -> None:
    view = ElementTree.fromstring(labelling_config(RULEBOOK, 4))
    (repeated,) = view.iter("Repeater")
    assert repeated.attrib == {"on": "$images", "indexFlag": "{{idx}}"}
    assert [child.get("name") for child in repeated] == ["image_{{idx}}", "boxes_{{idx}}"]
    choices = {tag.get("name"): [c.get("value") for c in tag] for tag in view.iter("Choices")}
    assert choices["verdict"] == ["accept", "reject"]
    assert choices["rules"] == list(RULEBOOK.classes[1:-1])
    assert choices["image"] == ["1", "2", "3", "4"]
    assert {label.get("value") for label in view.iter("Label")} == set(RULEBOOK.single_rules)
    (task,) = tasks([(DECISION, "")])
    names = {tag.get("name") for tag in view.iter()}
    for result in task["predictions"][0]["result"]:
        for name in (result["from_name"], result["to_name"]):
            assert name.replace("_1", "_{{idx}}").replace("_0", "_{{idx}}") in names


def test_from_the_store_and_back(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    with a_store(tmp_path) as store:
        store.add([DECISION], base=str(tmp_path / "shop"))
        with pytest.raises(SettingsError, match="does not lie in"):
            export_tasks(store, tmp_path / "tasks.json", RULEBOOK, root=tmp_path / "elsewhere")
        assert export_tasks(store, tmp_path / "tasks.json", RULEBOOK, root=tmp_path) == 1
        (task,) = json.loads((tmp_path / "tasks.json").read_text())
        assert task["data"]["images"][0]["url"] == "/data/local-files/?d=shop/a.jpg"
        assert (tmp_path / "tasks.xml").read_text() == labelling_config(RULEBOOK, 2)
        export = tmp_path / "export.json"
        export.write_text(json.dumps([annotated(task, task["predictions"][0]["result"]), {"id": 5, "data": {}}]))
        first, again = import_annotations(export, store), import_annotations(export, store)
        assert (first.added.new, again.added.new, again.added.known) == (1, 0, 1)
        assert json.loads((tmp_path / "export.json.bad.jsonl").read_text())["place"] == "task 5"
        (verdict,) = store.verdicts()
        assert (verdict.sku, verdict.box, verdict.bundle) == ("A-1", BOX, "b1")
        assert export_tasks(store, tmp_path / "tasks.json", RULEBOOK) == 0  # it is judged
