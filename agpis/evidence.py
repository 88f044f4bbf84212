"""What a judgement rests on: where in an image, which rule, which image of a sequence; and that in words.

The models say that something is wrong; a person who is to mend it asks what and where. `mark` reads the image graph's
`evidence` (what the local head says of each patch). `weighed` and `blamed` read a sequence: the sequence model's
classes, what stage 1 knows of each image, how alike the images are, and how far a class's probability falls when an
image is masked. A bundle whose manifest has `naming` names the rule by that (`agpis.naming`). `python -m bench.starter`
prints how often each is right; the constants were chosen on kickstart, oxid, saleor and smartstore with a bundle that
was not trained on them, the first starter, whose evidence was a grid of 14 x 14.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from agpis import naming
from agpis.bundle_manifest import Naming
from agpis.data import Author, Box, Verdict
from agpis.images import Size, placement
from agpis.naming import Sight as Sight
from agpis.rulebook import Rule, Rulebook, ordinal, slots
from agpis.samples import label_of
from agpis.simulate.drawing import place_of
from agpis.simulate.phrases import place as in_words

FloatArray = NDArray[np.float32]

RELATIVE = 0.7
"""Patches of at least this part of the strongest patch's evidence belong to the mark."""
LOCAL = 0.4
"""Share of the picture's patches beyond which the fault is the whole picture's."""
TOGETHER = 0.6
"""Share of the strong patches that must lie in one region: those of a fault without a place are strewn about."""
SPREAD = 0.5
"""Patches by which the evidence reaches beyond its mark on each side. In the starter's graph (`agpis.models.single`) a
patch of 8 letterbox pixels sees two around it (two 3 x 3 convolutions), and part of what it sees comes in cells of two
and of four. Of 0 to 2.5, with RELATIVE 0.2 to 0.9, it has the highest IoU with the mark on smartstore and grandnode:
0.69, where 1.5, chosen for patches of 16 pixels, has 0.58; on the other four sources 0.66 and 0.58."""

SEQUENCE, SINGLE, SINGLE_BIAS, COPY, COPY_BIAS = 0.5, 0.8, 0.5, 0.8, -1.6
"""Weights of `weighed`: of the log probability of the sequence model's class, of stage 1's logit for the rule and of
the matcher's logit for a duplicate. On sources that neither model has seen the sequence model is the weaker witness."""
LIKENESS = 5.0
"""Weight of the cosine to the other images, beside the logarithm of how far the class's probability falls."""

MOST_IMAGES = 50
"""Positions that a feedback is searched for, where the rulebook has no `max_images`; the largest K of a rulebook."""

Kind = Literal["single", "copy", "alike", "first", "none", "pair", "multi"]
KINDS: Mapping[str, Kind] = {
    "duplicate": "copy",
    "same_view": "alike",
    "redundant_views": "alike",
    "wrong_order": "first",
    "primary_incomplete": "first",
    "missing_views": "none",
    "title_mismatch": "none",
}
"""How the image to blame is found, for rules of the default rulebook (by id, or by the simulator they name); all others
go by their scope."""


def has_place(rule: Rule) -> bool:
    """Whether a reviewer can say where in the image: a phrase of the rulebook has the slot {where}."""
    return any("where" in slots(phrase) for phrase in rule.feedback.en)


def marks(
    probabilities: NDArray[np.floating],
    evidence: NDArray[np.floating] | None,
    rulebook: Rulebook,
    width: int,
    height: int,
    size: Size,
) -> dict[str, Box]:
    """The box of the likeliest single rule, by rule id, for `agpis.compliance.learned_findings`; empty where there is
    no evidence, the rule has no place in a picture, or the evidence is not local.

    Args:
        probabilities: (R,) of `rulebook.single_rules`.
        evidence, width, height, size: as of `mark`.
    """
    rule = rulebook.rule(rulebook.single_rules[int(np.argmax(probabilities))])
    if evidence is None or not has_place(rule):
        return {}
    box = mark(evidence, width, height, size)
    return {} if box is None else {rule.id: box}


def mark(evidence: NDArray[np.floating], width: int, height: int, size: Size) -> Box | None:
    """Where the mark is, in pixels of the source; None when the evidence is not local (that of blur is all over).

    The connected region around the strongest patch of all patches that reach RELATIVE of it, less SPREAD on each side
    that does not end at the picture's edge.

    Args:
        evidence: (G * G,) 0 to 1, row-major over the square letterbox of `size`; see `agpis.bundle.ImageOutputs`.
            G is read from its length.
        width, height: of the source, upright, pixels.
    """
    side = math.isqrt(len(evidence))
    stride = size.width / side  # letterbox pixels a patch
    place = placement(width, height, size)
    centres = (np.arange(side) + 0.5) * stride
    across = (centres > place.left) & (centres < place.left + place.width)
    down = (centres > place.top) & (centres < place.top + place.height)
    inside = down[:, None] & across[None, :]
    if not inside.any():
        return None  # narrower than a patch
    scores = np.where(inside, evidence.reshape(side, side), 0.0)
    strong = (scores >= RELATIVE * scores.max()) & inside
    if strong.sum() > LOCAL * inside.sum():
        return None
    _, regions = cv2.connectedComponents(strong.astype(np.uint8), connectivity=8)
    region = regions == regions.flat[int(scores.argmax())]
    if region.sum() < TOGETHER * strong.sum():
        return None
    rows, columns = np.nonzero(region)
    left, right = _narrowed(columns, across, stride, place.left, place.left + place.width)
    top, bottom = _narrowed(rows, down, stride, place.top, place.top + place.height)
    return place.to_source(left, top, right - left, bottom - top, width, height)


def _narrowed(
    cells: NDArray[np.intp], inside: NDArray[np.bool_], stride: float, start: float, end: float
) -> tuple[float, float]:
    """From the first to the last of `cells` along one axis, letterbox pixels, less SPREAD where it is not the edge."""
    first, last = int(cells.min()), int(cells.max())
    low, high = first * stride, (last + 1) * stride
    at_start, at_end = not inside[:first].any(), not inside[last + 1 :].any()
    # At least one patch is left in the middle.
    spare = max(0.0, (last - first + 1) - 1.0)
    reach = stride * min(SPREAD, spare / max(1, 2 - at_start - at_end))
    return (start if at_start else low + reach), (end if at_end else high - reach)


def weighed(classes: FloatArray, names: tuple[str, ...], active: NDArray[np.bool_], sight: Sight) -> FloatArray:
    """Probability of each class, when stage 1 is heard on which rule is broken: (C,) -> (C,), with the same sum.

    What the sequence model gives the rules together is shared out anew among them; the other classes keep theirs.

    Args:
        names: C classes of the bundle.
        active: (C,) the classes that are rules and may be shared out to.
    """
    logit = SEQUENCE * np.log(np.maximum(classes, 1e-9))
    for i in np.flatnonzero(active):
        if names[i] in sight.single_rules:
            logit[i] += SINGLE * _logit(sight.placed()[:, sight.single_rules.index(names[i])].max()) + SINGLE_BIAS
        elif KINDS.get(names[i]) == "copy" and len(sight.p_copy) > 1:
            logit[i] += COPY * _logit(float(np.triu(sight.p_copy, 1).max())) + COPY_BIAS
    shares = np.where(active, np.exp(logit - logit[active].max(initial=-np.inf)), 0.0) if active.any() else logit * 0
    result = np.where(active, shares / max(float(shares.sum()), 1e-30) * classes[active].sum(), classes)
    return np.asarray(result, np.float32)


def _logit(p: float) -> float:
    p = min(max(float(p), 1e-6), 1.0 - 1e-6)
    return math.log(p / (1.0 - p))


def kind_of(rule: Rule) -> Kind:
    """How the image to blame is found for this rule."""
    named = KINDS.get(rule.id) or KINDS.get(rule.simulate.name if rule.simulate else "")
    return named or rule.scope


def needs_masking(rule: Rule) -> bool:
    """Whether `blamed` asks for the probabilities with each image masked."""
    return kind_of(rule) in ("pair", "multi")


def blamed(rule: Rule, sight: Sight, before: float, without: FloatArray | None) -> int | None:
    """Position of the image to blame for a broken rule; None where it is the sequence as a whole, or its title.

    single: the image that stage 1 holds it most against. Copies and repeated views: the later one of the likeliest
    pair. Order and an incomplete primary: the first. Other rules: the image without which the rule's probability falls
    most; of two that belong together never the first, which the others are compared with.

    Args:
        before: probability of the rule's class, all images shown.
        without: (K,) the same with each image masked; only asked for where `needs_masking`.
    """
    kind, count = kind_of(rule), len(sight.p_primary)
    if kind == "none" or (count < 2 and kind in ("pair", "copy", "alike")):
        return None
    if kind == "single":
        if rule.id not in sight.single_rules:
            return None
        return int(sight.placed()[:, sight.single_rules.index(rule.id)].argmax())
    if kind == "first" or count < 2:
        return 0
    unit = sight.features / np.maximum(np.linalg.norm(sight.features, axis=1, keepdims=True), 1e-9)
    likeness = unit @ unit.T
    if kind in ("copy", "alike"):
        pairs = np.tril(sight.p_copy if kind == "copy" else likeness + 2.0, -1)  # cosines above 0, like probabilities
        return 1 + int(pairs.max(axis=1)[1:].argmax())
    assert without is not None
    fall = math.log(max(before, 1e-9)) - np.log(np.maximum(without, 1e-9))
    others = (likeness.sum(axis=1) - 1.0) / (count - 1)
    if kind == "pair":
        return 1 + int((fall - LIKENESS * others)[1:].argmax())
    return int((fall - LIKENESS * others).argmax())


@dataclass(frozen=True, slots=True)
class Objection:
    """A rule that a sequence may break."""

    rule: Rule
    probability: float
    image: int | None
    """Position of the image to blame; None: the sequence as a whole, or its title."""


def objections(
    classes: FloatArray,
    names: tuple[str, ...],
    rulebook: Rulebook,
    sight: Sight,
    masked: Callable[[], FloatArray],
    *,
    least: float = 0.0,
    most: int | None = None,
    fitted: Naming | None = None,
    own: FloatArray | None = None,
) -> list[Objection]:
    """The rules that a sequence may break, the likeliest first: at most `most`, of probability `least` or more.

    Args:
        classes: (C,) probabilities of the sequence model.
        names: their names; those that are no rule of `rulebook` are left out.
        masked: gives the probabilities with each image masked in turn, (K, C); called once or not at all.
        fitted: how the rules are told apart (`agpis.naming`); None: by `weighed`.
        own: (C,) what the sequence model alone said, where `classes` hold more: `fitted` is of that.
    """
    active = np.array([name in rulebook for name in names])
    if fitted is None or not active.any():
        shares = weighed(classes, names, active, sight)
    else:
        rules_of = [rulebook.rule(name) for name, on in zip(names, active, strict=True) if on]
        case = naming.case_of((classes if own is None else own)[active], sight)
        shares = classes.copy()
        shares[active] = naming.shares(case, rules_of, sight.single_rules, fitted) * classes[active].sum()
    order = [i for i in np.argsort(-shares, kind="stable") if active[i] and shares[i] >= least][:most]
    rules = {i: rulebook.rule(names[i]) for i in order}
    without = masked() if any(needs_masking(rule) for rule in rules.values()) else None
    found = []
    for i, rule in rules.items():
        image = blamed(rule, sight, float(classes[i]), None if without is None else without[:, i])
        found.append(Objection(rule, float(shares[i]), image))
    return found


def in_the_rulebooks_words(
    rule: Rule, sight: Sight, image: int | None, box: Box | None = None, size: tuple[int, int] = (1, 1)
) -> str:
    """English feedback: the first of the rule's phrases that names all that is known.

    Args:
        image: position of the image to blame, from 0.
        box: where in it, and `size`, its width and height in the same pixels.
    """
    if kind_of(rule) == "first" and image == 0 and (rule.simulate.name if rule.simulate else rule.id) == "wrong_order":
        # There the phrases name the image that should be in its place.
        image = int(sight.p_primary[1:].argmax()) + 1 if len(sight.p_primary) > 1 else None
    where = in_words(place_of(box, *size), "en") if box else ""
    bare = rule.phrases("en")
    named = rule.phrases("en", image)
    placed = rule.phrases("en", image, where)
    fuller = [phrase for phrase in placed if phrase not in named] or [phrase for phrase in named if phrase not in bare]
    return (fuller or list(bare))[0]


def spoken_of(text: str, rulebook: Rulebook) -> tuple[str, int | None]:
    """What a feedback names: the rule, as that of reviewers is read (`agpis.samples.label_of`), and the position of the
    image, None where it names none. Rules about the first image name it where the text does not."""
    named = label_of(Verdict(sku="", title="", sequence=(), accepted=False, feedback=" ".join(text.split())), rulebook)
    if named in rulebook and kind_of(rulebook.rule(named)) == "first":
        return named, 0  # the image that a phrase about order names is the one that should be there
    found = [
        (at, image)
        for image in range(rulebook.max_images or MOST_IMAGES)
        for word in (f"{ordinal(image)} image", ordinal(image, "zh"))
        if (at := text.find(word)) >= 0
    ]
    return named, min(found)[1] if found else None


def shown(said: str, words: str, rulebook: Rulebook) -> tuple[str, Author]:
    """The feedback that a decision shows, and who wrote it.

    What the decoder said is kept where it names the same rule and image as `words`, which the rulebook has for what the
    evidence names; elsewhere the two would contradict each other, and the evidence is the better witness.
    """
    if said and spoken_of(said, rulebook) == spoken_of(words, rulebook):
        return said, "model"
    return words, "rulebook"
