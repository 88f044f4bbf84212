"""The models' answers line by line: inspect images, compare pairs, score given sequences.

Every function takes an iterable of dicts and yields one dict a line, in order, streamed. A line that cannot be
answered keeps its place and its fields, with `error: {"code", "message"}`.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, fields, replace
from typing import Any

import numpy as np

from agpis import decision, duplicates, stacking
from agpis.bundle import Bundle, ImageOutputs
from agpis.case import Case
from agpis.clock import Clock
from agpis.data import Finding, Image, Product
from agpis.errors import AgpisError, ImageError, SettingsError
from agpis.fetch import Fetcher
from agpis.images import Limits
from agpis.prepare import Preparer, Shot
from agpis.rulebook import Rulebook
from agpis.settings import Settings

Line = dict[str, Any]

LINES = 16
"""Lines answered together."""


def inspect(lines: Iterable[Line], bundle: Bundle, rulebook: Rulebook, *, base: str = "") -> Iterator[Line]:
    """`{"image"}` -> `{"image", "width", "height", "p_primary", "p_noncompliant", "findings"}`.

    Findings are the measured checks' and, where p_noncompliant is above the bundle's threshold, the models', with the
    box of what they object to where it has a place: the same that `generate` says of the image.
    """

    def answer(line: Line, shots: list[Shot], outputs: ImageOutputs) -> Line:
        shot = shots[0]
        learned: tuple[Finding, ...] = ()
        if outputs.p_noncompliant[0] > bundle.thresholds["noncompliant"]:
            learned = decision.learned(decision.Judged.read(0, shot, outputs, 0), bundle, rulebook)
        return {
            **line,
            "width": shot.width,
            "height": shot.height,
            "p_primary": _probability(outputs.p_primary[0]),
            "p_noncompliant": _probability(outputs.p_noncompliant[0]),
            "findings": [asdict(finding) for finding in (*shot.findings, *learned)],
        }

    return _answered(lines, lambda line: [_text(line, "image")], answer, bundle, rulebook, base)


def compare(
    lines: Iterable[Line], bundle: Bundle, rulebook: Rulebook, *, matcher: duplicates.Matcher = "dense", base: str = ""
) -> Iterator[Line]:
    """`{"a", "b"}` -> plus `{"p_duplicate", "box_a", "box_b"}`; boxes as x, y, w, h in source pixels, or null."""

    def answer(line: Line, shots: list[Shot], outputs: ImageOutputs) -> Line:
        views = [
            duplicates.View(patches, shot.width or 1, shot.height or 1, bundle.size, shot.pixels)
            for patches, shot in zip(outputs.patches, shots, strict=True)
        ]
        embed = bundle.embed if matcher == "edgeboxes" else None
        matches = duplicates.match_pairs(views, matcher=matcher, calibration=bundle.calibration, embed=embed)
        match = matches[0] if matches else None
        return {
            **line,
            "p_duplicate": _probability(match.probability) if match else 0.0,
            "box_a": asdict(match.box_a) if match else None,
            "box_b": asdict(match.box_b) if match else None,
        }

    return _answered(lines, lambda line: [_text(line, "a"), _text(line, "b")], answer, bundle, rulebook, base)


def score(
    lines: Iterable[Line], bundle: Bundle, rulebook: Rulebook, *, feedback: bool = True, base: str = ""
) -> Iterator[Line]:
    """`{"sku", "title", "category"?, "images"}` -> plus `{"p_qualified", "violations", "feedback"}`.

    p_qualified is the sequence model's, or that of the bundle's `stacking`, which hears it too. `violations` lists
    every rule of the bundle's classes, the likeliest first: `rule`, `scope`, `probability` and `image`, the one to
    blame ("" where it is the sequence as a whole, or its title). As in `generate`, what stage 1 sees of the images is
    heard on which rule it is, and on the image; the rules have together what p_qualified leaves them.
    """

    settings, clock = Settings(), Clock()

    def images(line: Line) -> list[str]:
        _text(line, "title")
        found = line.get("images")
        if not isinstance(found, list) or not found or not all(isinstance(uri, str) and uri for uri in found):
            raise SettingsError("bad_line", f"`images` is {found!r}; it must be a list of one or more paths or URLs.")
        return found

    def answer(line: Line, shots: list[Shot], outputs: ImageOutputs) -> Line:
        title, category = line["title"], str(line.get("category") or "")
        classes = bundle.sequence(outputs.tokens[None], title, category)[0]
        judged = [decision.Judged.read(index, shot, outputs, index) for index, shot in enumerate(shots)]
        product = Product(str(line.get("sku") or ""), title, category, tuple(shot.image for shot in shots))
        grounds = Case(product, shots, judged, bundle, rulebook, settings, clock).as_given()
        order = np.arange(len(shots))[None]
        p_qualified = float(stacking.p_qualified(bundle, classes[None], order, grounds.sight)[0])
        heard = stacking.rescaled(classes, p_qualified)
        violations = [asdict(grounds.violation(objection)) for objection in grounds.objections(heard, own=classes)]
        return {
            **line,
            "p_qualified": _probability(p_qualified),
            "violations": violations,
            "feedback": bundle.feedback(outputs.tokens, title, category) if feedback else "",
        }

    return _answered(lines, images, answer, bundle, rulebook, base)


def _answered(
    lines: Iterable[Line],
    uris: Callable[[Line], list[str]],
    answer: Callable[[Line, list[Shot], ImageOutputs], Line],
    bundle: Bundle,
    rulebook: Rulebook,
    base: str,
) -> Iterator[Line]:
    limits = Limits()
    with Fetcher(limits) as fetcher, ThreadPoolExecutor(2 * (os.cpu_count() or 1)) as pool:
        prepare = Preparer(rulebook, bundle.size, fetcher, limits=limits)
        iterator = iter(lines)
        while batch := list(itertools.islice(iterator, LINES)):
            named: list[list[str] | AgpisError] = [_named(line, uris) for line in batch]
            shots = [
                [] if isinstance(names, AgpisError) else list(pool.map(prepare, [Image(n, base) for n in names]))
                for names in named
            ]
            ready = [bool(row) and all(shot.pixels is not None for shot in row) for row in shots]
            pixels = [shot.pixels for row, ok in zip(shots, ready, strict=True) if ok for shot in row]
            outputs = bundle.image(np.stack([p for p in pixels if p is not None])) if pixels else None
            position = 0
            for line, names, row, ok in zip(batch, named, shots, ready, strict=True):
                if isinstance(names, AgpisError):
                    yield _refused(line, names)
                elif not ok or outputs is None:
                    bad = next(shot for shot in row if shot.pixels is None)
                    said, name = bad.findings[0].message, bad.image.uri
                    yield _refused(line, ImageError(bad.code, said if name in said else f"{name}: {said}"))
                else:
                    part = _part(outputs, position, position + len(row))
                    position += len(row)
                    try:
                        yield answer(line, row, part)
                    except AgpisError as error:
                        yield _refused(line, error)


def _part(outputs: ImageOutputs, start: int, stop: int) -> ImageOutputs:
    """The answers for images `start` to `stop`."""
    values = ((f.name, getattr(outputs, f.name)) for f in fields(outputs))
    part: dict[str, Any] = {name: None if value is None else value[start:stop] for name, value in values}
    return replace(outputs, **part)


def _named(line: Line, uris: Callable[[Line], list[str]]) -> list[str] | AgpisError:
    if "error" in line:
        return AgpisError(line["error"]["code"], line["error"]["message"])
    try:
        return uris(line)
    except AgpisError as error:
        return error


def _refused(line: Line, error: AgpisError) -> Line:
    return {**line, "error": {"code": error.code, "message": error.message}}


def _text(line: Line, key: str) -> str:
    value = line.get(key)
    if not isinstance(value, str) or not value:
        raise SettingsError("bad_line", f"`{key}` is {value!r}; it must be a text that is not empty.")
    return value


def _probability(value: float | np.floating[Any]) -> float:
    return round(float(value), 6)
