"""Labels of single images: which candidate is the primary, and which rules an image breaks.

They come from verdicts on sequences, or from a file that names them image by image.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from agpis.data import Image, Verdict
from agpis.errors import TrainingError
from agpis.rulebook import Rulebook
from agpis.samples import SPLITS, BadSample, Labelled, Split, split_of
from agpis.verdicts import is_text

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Group:
    """Candidates of one product, and which of them a reviewer had or left as the primary (eq. 1)."""

    images: tuple[Image, ...]
    """Distinct by location, at least two."""
    primary: int
    """Position in `images`."""
    sku: str
    split: Split


def primary_groups(samples: Iterable[Labelled]) -> list[Group]:
    """One group for every accepted or corrected sequence that had a choice.

    The first image of the accepted (else of the corrected) sequence is the primary, all other candidates are not. A
    rejected sequence that nobody corrected says nothing of the primary. A correction that stands among the samples as
    an approved sequence too (`agpis.settled`) counts once.
    """
    groups = []
    samples = list(samples)
    approved = {_shown(sample.verdict, sample.verdict.sequence) for sample in samples if sample.verdict.accepted}
    for sample in samples:
        verdict = sample.verdict
        chosen = verdict.corrected or (verdict.sequence if verdict.accepted else ())
        if not chosen or (not verdict.accepted and _shown(verdict, chosen) in approved):
            continue
        uris = (*verdict.candidates, *verdict.sequence, *chosen)
        images = {image.location: image for image in (Image(uri, verdict.base) for uri in uris)}
        if len(images) > 1:
            primary = list(images).index(Image(chosen[0], verdict.base).location)
            groups.append(Group(tuple(images.values()), primary, verdict.sku, sample.split))
    return groups


def _shown(verdict: Verdict, uris: Sequence[str]) -> tuple[str, ...]:
    """A sequence of the verdict's product, wherever it is named from."""
    return (verdict.sku, verdict.title, *(Image(uri, verdict.base).location for uri in uris))


@dataclass(frozen=True, slots=True)
class ImageLabel:
    """What is known of one image."""

    image: Image
    rules: tuple[str, ...]
    """Single rules that it breaks, in the rulebook's order; with all of them known, none means that it is clean."""
    known: tuple[bool, ...]
    """For each of the rulebook's `single_rules`: whether anyone has judged it."""
    sku: str
    split: Split


def image_labels(samples: Iterable[Labelled], rulebook: Rulebook) -> list[ImageLabel]:
    """Labels of single images out of verdicts on sequences, one for each image of a sku.

    - accepted: every image of the sequence is clean, all rules known; so is every image of a corrected sequence, which
      the reviewer would have accepted;
    - rejected for a single rule, with `image_index`: that image breaks that rule. Its other rules are not known, and
      nothing is known of the sequence's other images;
    - a sequence of one image needs no `image_index`, and then breaks every single rule that is named.

    Of an image with several verdicts all of it counts; a rule found once stays found.
    """
    order = {rule: i for i, rule in enumerate(rulebook.single_rules)}
    merged: dict[tuple[str, str], tuple[Image, Labelled, set[str], set[str]]] = {}

    def add(sample: Labelled, uri: str, broken: Iterable[str], known: Iterable[str]) -> None:
        image = Image(uri, sample.verdict.base)
        entry = merged.setdefault((sample.verdict.sku, image.location), (image, sample, set(), set()))
        entry[2].update(broken)
        entry[3].update(known)

    for sample in samples:
        verdict = sample.verdict
        for uri in verdict.sequence if verdict.accepted else verdict.corrected:
            add(sample, uri, (), order)
        if not verdict.accepted and sample.label in order:
            if len(verdict.sequence) == 1:
                broken = {sample.label, *(rule for rule in verdict.rules if rule in order)}
                add(sample, verdict.sequence[0], broken, broken)
            elif verdict.image_index is not None and _blamed_for_label(verdict, sample.label):
                add(sample, verdict.sequence[verdict.image_index], [sample.label], [sample.label])
    return [
        ImageLabel(
            image,
            tuple(rule for rule in order if rule in broken),
            tuple(rule in known for rule in order),
            sample.verdict.sku,
            sample.split,
        )
        for image, sample, broken, known in merged.values()
    ]


def _blamed_for_label(verdict: Verdict, label: str) -> bool:
    """`image_index` belongs to the first rule named; where that is one without a class, it is not the label's."""
    return not verdict.rules or verdict.rules[0] == label


def label_arrays(labels: Sequence[ImageLabel], rulebook: Rulebook) -> tuple[Float32, Float32, Float32, Float32]:
    """Targets of the compliance head, float32 0 or 1.

    Returns:
        rules (N, R), known (N, R), noncompliant (N,), and whether that is known (N,): it is where a rule is broken, and
        where all are known.
    """
    order = {rule: i for i, rule in enumerate(rulebook.single_rules)}
    rules = np.zeros((len(labels), len(order)), np.float32)
    known = np.array([label.known for label in labels], np.float32).reshape(len(labels), len(order))
    for row, label in enumerate(labels):
        rules[row, [order[rule] for rule in label.rules]] = 1.0
    noncompliant = rules.max(1, initial=0.0)
    return rules, known, noncompliant, np.maximum(noncompliant, known.min(1, initial=1.0))


def read_image_labels(path: str | Path, rulebook: Rulebook, *, bad: list[BadSample] | None = None) -> list[ImageLabel]:
    """Image labels of a JSONL file: `{"image": uri, "rules": [...]}` a line, with `sku` and `split` where known.

    `rules` are all the single rules that the image breaks; the others are then known not to be. Uris are relative to
    the file's folder. Without a split it is made by the sku, and without a sku by the uri. Bad lines (`bad_json`,
    `missing_field`, `bad_field`) go to `bad`. Raises TrainingError (`samples_not_found`, `split_leak`).
    """
    path = Path(path)
    if not path.is_file():
        raise TrainingError("samples_not_found", f"found no file at {path}; give the path of a .jsonl file")
    labels: list[ImageLabel] = []
    sides: dict[str, Split] = {}
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            label = _image_label(line, f"{path.name}, line {number}", str(path.parent), rulebook)
            if isinstance(label, BadSample):
                if bad is not None:
                    bad.append(label)
                continue
            if sides.setdefault(label.sku, label.split) != label.split:
                raise TrainingError(
                    "split_leak",
                    f"{path.name}, line {number}: found {label.sku!r} in {sides[label.sku]} and in {label.split}; all"
                    " images of a product belong on one side: give all of them the same split, or none",
                )
            labels.append(label)
    return labels


def _image_label(line: bytes, place: str, base: str, rulebook: Rulebook) -> ImageLabel | BadSample:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        return BadSample(place, "bad_json", f"{place}: wanted one JSON object a line ({error})")
    if not isinstance(row, dict):
        return BadSample(place, "bad_json", f"{place}: wanted one JSON object a line (found {type(row).__name__})")
    missing = [name for name in ("image", "rules") if row.get(name) in (None, "")]
    if missing:
        return BadSample(place, "missing_field", f"{place}: found no {', '.join(missing)}; every line needs them")
    order = rulebook.single_rules
    checks: dict[str, Callable[[Any], bool]] = {
        "image": is_text,
        "rules": lambda value: isinstance(value, list) and all(rule in order for rule in value),
        "sku": is_text,
        "split": lambda value: value in ("", *SPLITS),
    }
    for name, value in row.items():
        if name not in checks or not checks[name](value):
            allowed = f"single rules of {rulebook.id!r}" if name == "rules" else ", ".join(checks)
            return BadSample(place, "bad_field", f"{place}: found {name}: {value!r:.60}, allowed are {allowed}")
    sku = row.get("sku") or row["image"]
    split = next((side for side in SPLITS if side == row.get("split")), None) or split_of(sku)
    rules = tuple(rule for rule in order if rule in row["rules"])
    return ImageLabel(Image(row["image"], base), rules, (True,) * len(order), sku, split)
