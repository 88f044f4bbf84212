"""Review in Label Studio: decisions as tasks with the model's opinion filled in, and its annotated export as verdicts.

The formats are those of Label Studio's manual (labelstud.io/guide/task_format, /guide/predictions, /tags/repeater,
/tags/rectanglelabels, /tags/choices, /tags/textarea): a task is `{"data", "predictions"}`, an annotated one has
`annotations`, each with a `result` of regions; x, y, width and height are in percent of the image, and a region names
its control (`from_name`) and object (`to_name`). `Repeater` repeats image and boxes for each image of the sequence.

A task's `data` has all that a verdict needs, so that its annotations can be read without the store.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

from agpis.data import Box, Candidate, Decision, Image, Verdict
from agpis.errors import TrainingError
from agpis.rulebook import Rule, Rulebook
from agpis.verdicts import BadSample, verdict_of

ACCEPT, REJECT = "accept", "reject"
HIDDEN = "agpis"
"""Key of a task's data that holds what is not shown."""


def labelling_config(rulebook: Rulebook, images: int | None = None) -> str:
    """The labelling configuration (XML) that tasks of `tasks` fit; to be pasted into the project's settings.

    Keys: a accepts, x rejects. Boxes carry the rule; rules that concern no one place are ticked.

    Args:
        images: length of the longest sequence; None: the rulebook's K.
    """
    boxed = [rule for rule in rulebook.rules if rule.learned and rule.scope == "single"]
    learned = [rule for rule in rulebook.rules if rule.learned]
    labels = "\n".join(f"      <Label value={quoteattr(rule.id)} hint={quoteattr(rule.name)}/>" for rule in boxed)
    choices = "\n".join(f"    <Choice value={quoteattr(rule.id)} hint={quoteattr(_hint(rule))}/>" for rule in learned)
    blame = "\n".join(f'    <Choice value="{number}"/>' for number in range(1, (images or rulebook.k) + 1))
    return f"""<View>
  <Text name="title" value="$title"/>
  <Choices name="verdict" toName="title" choice="single-radio" required="true" showInline="true">
    <Choice value="{ACCEPT}" hotkey="a"/>
    <Choice value="{REJECT}" hotkey="x"/>
  </Choices>
  <Repeater on="$images" indexFlag="{{{{idx}}}}">
    <Image name="image_{{{{idx}}}}" value="$images[{{{{idx}}}}].url" maxWidth="420px"/>
    <RectangleLabels name="boxes_{{{{idx}}}}" toName="image_{{{{idx}}}}" canRotate="false">
{labels}
    </RectangleLabels>
  </Repeater>
  <Header value="Broken rules"/>
  <Choices name="rules" toName="title" choice="multiple" showInline="true">
{choices}
  </Choices>
  <Header value="Which image"/>
  <Choices name="image" toName="title" choice="single" showInline="true">
{blame}
  </Choices>
  <TextArea name="feedback" toName="title" rows="2" maxSubmissions="1" placeholder="In words"/>
</View>
"""


def _hint(rule: Rule) -> str:
    return f"{rule.name}: {rule.description}"


# Tasks ---------------------------------------------------------------------------------------------------------------


def tasks(
    decisions: Iterable[tuple[Decision, str]],
    *,
    address: Callable[[str], str] = str,
    threshold: float = 0.3,
    blind: bool = False,
) -> Iterator[dict[str, Any]]:
    """A task for each decision that has a sequence.

    Args:
        decisions: with the folder or URL that their relative uris are relative to.
        address: location of an image (an absolute path or a URL) -> the URL at which Label Studio's browser finds it;
            for files on its own machine that is `/data/local-files/?d=...`.
        threshold: p_qualified from which the model's opinion is to accept.
        blind: leave out the model's opinion.
    """
    for decision, base in decisions:
        if decision.sequence:
            yield _task(decision, base, address, threshold, blind)


def _task(
    decision: Decision, base: str, address: Callable[[str], str], threshold: float, blind: bool
) -> dict[str, Any]:
    known = {candidate.uri: candidate for candidate in decision.candidates}
    shown = [known.get(uri, Candidate(uri)) for uri in decision.sequence]
    task: dict[str, Any] = {
        "data": {
            "title": decision.title or decision.sku,
            "images": [
                {"url": address(Image(c.uri, base).location), "width": c.width, "height": c.height} for c in shown
            ],
            HIDDEN: {
                "sku": decision.sku,
                "title": decision.title,
                "category": decision.category,
                "base": base,
                "sequence": list(decision.sequence),
                "candidates": [candidate.uri for candidate in decision.candidates],
                "bundle": decision.bundle,
                "p_qualified": decision.p_qualified,
            },
        }
    }
    if not blind and decision.p_qualified is not None:
        task["predictions"] = [
            {
                "model_version": decision.bundle,
                "score": decision.p_qualified,
                "result": _opinion(decision, shown, threshold),
            }
        ]
    return task


def _opinion(decision: Decision, shown: Sequence[Candidate], threshold: float) -> list[dict[str, Any]]:
    """What the model would say, as regions: accept, or reject with rules, image, boxes and feedback."""
    assert decision.p_qualified is not None
    if decision.p_qualified >= threshold:
        return [_choices("verdict", ACCEPT)]
    found = [_choices("verdict", REJECT)]
    if decision.violations:
        found.append(_choices("rules", *(violation.rule for violation in decision.violations)))
        blamed = decision.violations[0].image
        if blamed in decision.sequence:
            found.append(_choices("image", str(decision.sequence.index(blamed) + 1)))
    for at, candidate in enumerate(shown):
        if candidate.width and candidate.height:
            size = candidate.width, candidate.height
            found += [
                _region(at, finding.box, size, finding.rule)
                for finding in candidate.findings
                if finding.box is not None and finding.scope == "single"
            ]
    if decision.feedback:
        text = {"from_name": "feedback", "to_name": "title", "type": "textarea"}
        found.append({**text, "value": {"text": [decision.feedback]}})
    return found


def _choices(name: str, *values: str) -> dict[str, Any]:
    return {"from_name": name, "to_name": "title", "type": "choices", "value": {"choices": list(values)}}


def _region(at: int, box: Box, size: tuple[int, int], rule: str) -> dict[str, Any]:
    width, height = size
    percent = {
        "x": 100.0 * box.x / width,
        "y": 100.0 * box.y / height,
        "width": 100.0 * box.w / width,
        "height": 100.0 * box.h / height,
    }
    return {
        "from_name": f"boxes_{at}",
        "to_name": f"image_{at}",
        "type": "rectanglelabels",
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": {**percent, "rotation": 0, "rectanglelabels": [rule]},
    }


# Annotations ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Annotated:
    """What an export of Label Studio holds."""

    verdicts: tuple[Verdict, ...]
    """One for each annotation; several people's on one task are several."""
    bad: tuple[BadSample, ...]
    """Tasks and annotations that give none; `place` is "task 12" or "task 12, annotation 34"."""
    skipped: int
    """Annotations that were cancelled."""
    open: int
    """Tasks without an annotation."""


def read_annotations(path: Path) -> Annotated:
    """Verdicts of an export in Label Studio's JSON format (not JSON-MIN), of tasks that `tasks` made.

    Boxes come out in pixels of the source. Raises TrainingError `samples_not_found`, `samples_format`.
    """
    if not path.is_file():
        raise TrainingError("samples_not_found", f"found no file at {path}; give Label Studio's export as JSON")
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise TrainingError("samples_format", f"{path} is not JSON: {error}; export it again as JSON") from error
    if not isinstance(found, list):
        raise TrainingError(
            "samples_format", f"{path} holds a {type(found).__name__}; Label Studio's export is a list of tasks"
        )
    verdicts: list[Verdict] = []
    bad: list[BadSample] = []
    skipped = unread = 0
    for number, task in enumerate(found, 1):
        place = f"task {task.get('id', number) if isinstance(task, dict) else number}"
        data = task.get("data") if isinstance(task, dict) else None
        if not isinstance(data, dict) or not isinstance(data.get(HIDDEN), dict):
            message = f"{place}: found no data.{HIDDEN}; only tasks that AGPIS wrote can be read back"
            bad.append(BadSample(place, "missing_field", message))
            continue
        annotations = task.get("annotations") or []
        unread += not annotations
        for annotation in annotations:
            if annotation.get("was_cancelled"):
                skipped += 1
                continue
            at = f"{place}, annotation {annotation.get('id', '?')}"
            try:
                one = _verdict(data, annotation, at)
            except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
                one = BadSample(at, "bad_field", f"{at}: cannot be read: {error!r}")
            if isinstance(one, BadSample):
                bad.append(one)
            else:
                verdicts.append(one)
    return Annotated(tuple(verdicts), tuple(bad), skipped, unread)


def _verdict(data: Mapping[str, Any], annotation: Mapping[str, Any], place: str) -> Verdict | BadSample:
    """Raises KeyError, TypeError, ValueError, AttributeError or IndexError on what is none of our controls."""
    results = list(annotation["result"])
    said = {
        name: [item for result in results if result["from_name"] == name for item in result["value"]["choices"]]
        for name in ("verdict", "rules", "image")
    }
    if said["verdict"] not in ([ACCEPT], [REJECT]):
        return BadSample(place, "missing_field", f"{place}: found no verdict; every annotation needs accept or reject")
    accepted = said["verdict"] == [ACCEPT]
    boxes = [_boxed(result, data["images"]) for result in results if result["type"] == "rectanglelabels"]
    rules = list(dict.fromkeys([*said["rules"], *(rule for _, _, rule in boxes)]))
    index = int(said["image"][0]) - 1 if said["image"] else None
    # The box that goes with the verdict: of the image to blame, and of the first rule where there is one.
    fitting = [box for box in boxes if index is None or box[0] == index]
    fitting.sort(key=lambda box: rules.index(box[2]))
    chosen = fitting[0] if fitting else None
    if index is None and chosen is not None:
        index = chosen[0]
    texts = [text for r in results if r["from_name"] == "feedback" for text in r["value"]["text"]]
    row = {
        **data[HIDDEN],
        "accepted": accepted,
        "rules": [] if accepted else rules,
        "image_index": None if accepted else index,
        "box": None,
        "feedback": " ".join(texts),
        "reviewer": _reviewer(annotation.get("completed_by")),
        "time": annotation.get("updated_at") or annotation.get("created_at") or "",
    }
    if chosen is not None and not accepted:
        box = chosen[1]
        row["box"] = {"x": box.x, "y": box.y, "w": box.w, "h": box.h}
    return verdict_of(row, place=place)


def _boxed(result: Mapping[str, Any], images: Sequence[Mapping[str, Any]]) -> tuple[int, Box, str]:
    """Place of the image, box in its pixels, and rule. A turned box is the upright one around it."""
    at = int(result["from_name"].removeprefix("boxes_"))
    width = result.get("original_width") or images[at]["width"]
    height = result.get("original_height") or images[at]["height"]
    if not width or not height:
        raise ValueError(f"the size of image {at + 1} is not known")
    value = result["value"]
    # The size that is shown may be a smaller copy's; ours is the source's.
    wide, high = images[at].get("width") or width, images[at].get("height") or height
    x, y = value["x"] / 100.0 * wide, value["y"] / 100.0 * high
    w, h = value["width"] / 100.0 * wide, value["height"] / 100.0 * high
    turn = math.radians(value.get("rotation") or 0.0)  # about the upper left corner, clockwise
    xs = [x, x + w * math.cos(turn), x - h * math.sin(turn), x + w * math.cos(turn) - h * math.sin(turn)]
    ys = [y, y + w * math.sin(turn), y + h * math.cos(turn), y + w * math.sin(turn) + h * math.cos(turn)]
    left, top = max(0, round(min(xs))), max(0, round(min(ys)))
    right, bottom = min(round(max(xs)), round(wide)), min(round(max(ys)), round(high))
    return at, Box(left, top, max(1, right - left), max(1, bottom - top)), str(value["rectanglelabels"][0])


def _reviewer(completed_by: Any) -> str:
    """Name of who annotated: an id, or an object with an e-mail address."""
    if isinstance(completed_by, dict):
        return str(completed_by.get("email") or completed_by.get("id") or "")
    return "" if completed_by is None else f"label-studio:{completed_by}"
