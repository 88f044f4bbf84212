"""What is said of a product once its images are judged: the `Decision` with its candidates, the rules that its sequence
may break, the image to blame and the feedback. `agpis.case` chooses; here nothing is chosen any more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from agpis import compliance, evidence, naming, stacking
from agpis.bundle import Bundle, ImageOutputs
from agpis.clock import Clock
from agpis.data import Author, Candidate, Decision, ErrorInfo, Finding, Outcome, Product, Status, Violation
from agpis.images import Size
from agpis.prepare import Shot
from agpis.rulebook import Rulebook

FloatArray = NDArray[np.float32]


@dataclass(slots=True, eq=False)
class Judged:
    """A readable candidate with the image graph's answers."""

    index: int
    shot: Shot
    p_primary: float
    p_noncompliant: float
    rules: FloatArray
    tokens: FloatArray
    patches: FloatArray
    findings: tuple[Finding, ...]
    evidence: FloatArray | None = None
    """(G * G,) of the image graph, where the bundle gives it."""
    things: FloatArray | None = None
    """(L,) of the image graph, where the bundle gives it."""
    p_stranger: float = 0.0
    outcome: Outcome = "spare"
    reason: str = ""
    duplicate_of: str | None = None

    @classmethod
    def read(cls, index: int, shot: Shot, outputs: ImageOutputs, row: int) -> Judged:
        """The product's image number `index`, which is number `row` of what the image graph has seen."""
        return cls(
            index,
            shot,
            float(outputs.p_primary[row]),
            float(outputs.p_noncompliant[row]),
            outputs.rules[row],
            outputs.tokens[row],
            outputs.patches[row],
            shot.findings,
            None if outputs.evidence is None else outputs.evidence[row],
            None if outputs.things is None else outputs.things[row],
        )

    def remove(self, reason: str, duplicate_of: str | None = None) -> None:
        """Take the image out of the product's sequence."""
        self.outcome, self.reason, self.duplicate_of = "removed", reason, duplicate_of

    def frame(self, size: Size) -> tuple[int, int, Size]:
        """Width and height of the source in pixels, and what it is letterboxed to."""
        return self.shot.width or 1, self.shot.height or 1, size


def features(cases: list[Judged]) -> FloatArray:
    """One feature vector an image, (n, D)."""
    return np.stack([case.tokens.mean(axis=0) for case in cases])


def learned(case: Judged, bundle: Bundle, rulebook: Rulebook) -> tuple[Finding, ...]:
    """Why the models object to an image, and where in it, weighed by the rulebook in force; rules that it does not have
    are dropped."""
    boxes = evidence.marks(case.rules, case.evidence, bundle.rulebook, *case.frame(bundle.size))
    known = {rule.id: rule for rule in rulebook.rules}
    return tuple(
        replace(finding, severity=rule.severity, role=rule.role)
        for finding in compliance.learned_findings(case.rules, bundle.rulebook, boxes=boxes)
        if (rule := known.get(finding.rule)) is not None
    )


def sight_of(
    picked: list[Judged], p_copy: Mapping[frozenset[int], float], bundle: Bundle, product: Product
) -> naming.Sight:
    """What is known of images of a product in order; `p_copy`: two images' `index` -> probability that they are the
    same."""
    return naming.Sight(
        single_rules=bundle.single_rules,
        rules=np.stack([case.rules for case in picked]),
        p_primary=np.array([case.p_primary for case in picked], np.float32),
        p_copy=np.array([[p_copy.get(frozenset((a.index, b.index)), 0.0) for b in picked] for a in picked], np.float32),
        features=features(picked),
        known=naming.known(
            np.stack([case.tokens for case in picked]), bundle.manifest.token_layout, len(bundle.single_rules)
        ),
        roles=bundle.single_roles,
        titled=bundle.titled(product.title, product.category, [case.things for case in picked]),
    )


class Grounds:
    """What a sequence of one product can be reproached with, and what that rests on."""

    def __init__(
        self,
        product: Product,
        picked: list[Judged],
        p_copy: Mapping[frozenset[int], float],
        bundle: Bundle,
        rulebook: Rulebook,
        clock: Clock,
    ) -> None:
        """`picked`: the images in order. `p_copy`: two images' `index` -> probability that they are the same."""
        self.product = product
        self.picked = picked
        self.bundle = bundle
        self.rulebook = rulebook
        self.clock = clock
        self.sight = sight_of(picked, p_copy, bundle, product)

    def objections(
        self, classes: FloatArray, *, own: FloatArray | None = None, least: float = 0.0, most: int | None = None
    ) -> list[evidence.Objection]:
        """`agpis.evidence.objections` to this sequence, by the bundle's `naming`.

        Args:
            classes: (C,) probabilities of the sequence model.
            own: (C,) these, where `classes` are what `with_the_set` made of them.
        """
        return evidence.objections(
            classes,
            self.bundle.classes,
            self.rulebook,
            self.sight,
            self._masked,
            least=least,
            most=most,
            fitted=self.bundle.manifest.naming,
            own=own,
        )

    def with_the_set(self, classes: FloatArray, p_qualified: float) -> FloatArray:
        """Class probabilities (C,) in which the rules have what the set's evidence took from p_qualified."""
        weighing = self.bundle.manifest.weighing
        if self.bundle.manifest.stacking is not None or (weighing is not None and weighing.stacked):
            return stacking.rescaled(classes, p_qualified)
        classes = classes.copy()
        left = 1.0 - float(classes[active_classes(self.bundle.classes, self.rulebook)].sum())
        kin = float(np.prod([1.0 - case.p_stranger for case in self.picked]))
        apart = float(np.prod(1.0 - self.sight.p_copy[np.triu_indices(len(self.picked), 1)]))
        for rule, lost in (("different_product", left * (1.0 - kin)), ("duplicate", left * kin * (1.0 - apart))):
            if rule in self.bundle.classes and rule in self.rulebook:
                classes[self.bundle.classes.index(rule)] += lost
        return classes

    def _masked(self) -> FloatArray:
        """Class probabilities with each image of the sequence masked in turn, (K, C)."""
        tokens = np.stack([case.tokens for case in self.picked])
        count = len(self.picked)
        with self.clock.stage("sequence graph", count):
            return self.bundle.sequence(
                np.repeat(tokens[None], count, axis=0),
                self.product.title,
                self.product.category,
                1.0 - np.eye(count, dtype=np.float32),
            )

    def violation(self, objection: evidence.Objection) -> Violation:
        """The objection as a decision lists it."""
        return Violation(
            rule=objection.rule.id,
            scope=objection.rule.scope,
            probability=round(objection.probability, 6),
            image="" if objection.image is None else self.picked[objection.image].shot.image.uri,
        )

    def feedback(self, said: str, objections: list[evidence.Objection]) -> tuple[str, Author]:
        """The feedback on this sequence, rejected for `objections`, and who wrote it; `said`: by the decoder, or ""."""
        if not objections:
            return said, "model" if said else ""
        return evidence.shown(said, self.in_words(objections[0]), self.rulebook)

    def in_words(self, objection: evidence.Objection) -> str:
        """The rulebook's words for an objection: which image, and where in it."""
        rule = objection.rule
        if objection.image is None:
            return evidence.in_the_rulebooks_words(rule, self.sight, None)
        case = self.picked[objection.image]
        width, height, size = case.frame(self.bundle.size)
        # The evidence is that of the image's likeliest rule: it says nothing of where another one is broken.
        box = evidence.marks(case.rules, case.evidence, self.bundle.rulebook, width, height, size).get(rule.id)
        return evidence.in_the_rulebooks_words(rule, self.sight, objection.image, box, (width, height))


def active_classes(classes: tuple[str, ...], rulebook: Rulebook) -> NDArray[np.bool_]:
    """Classes that count against a sequence: rules of the rulebook, and `other`. bool (C,)."""
    known = {rule.id for rule in rulebook.rules}
    return np.array([name == "other" or name in known for name in classes])


def decision(
    product: Product,
    shots: list[Shot],
    judged: list[Judged],
    bundle: Bundle,
    rulebook: Rulebook,
    status: Status,
    error: ErrorInfo | None = None,
) -> Decision:
    """The decision on a product, without a sequence, as its images now stand."""
    by_index = {case.index: case for case in judged}
    candidates = tuple(
        _unreadable(shot) if (case := by_index.get(index)) is None else _candidate(case)
        for index, shot in enumerate(shots)
    )
    return _decision(product, candidates, bundle, rulebook, status, error)


def failed(
    product: Product, code: str, message: str, bundle: Bundle, rulebook: Rulebook, shots: list[Shot]
) -> Decision:
    """The decision on a product that an error stopped, with its code."""
    candidates = tuple(Candidate(uri=shot.image.uri, findings=shot.findings, reason=shot.code) for shot in shots)
    return _decision(product, candidates, bundle, rulebook, "failed", ErrorInfo(code, message))


def _decision(
    product: Product,
    candidates: tuple[Candidate, ...],
    bundle: Bundle,
    rulebook: Rulebook,
    status: Status,
    error: ErrorInfo | None,
) -> Decision:
    return Decision(
        sku=product.sku,
        status=status,
        title=product.title,
        category=product.category,
        candidates=candidates,
        error=error,
        bundle=bundle.name,
        rulebook=f"{rulebook.id} {rulebook.version}",
    )


def _candidate(case: Judged) -> Candidate:
    return Candidate(
        uri=case.shot.image.uri,
        width=case.shot.width,
        height=case.shot.height,
        p_primary=round(case.p_primary, 6),
        p_noncompliant=round(case.p_noncompliant, 6),
        findings=case.findings,
        outcome=case.outcome,
        reason=case.reason,
        duplicate_of=case.duplicate_of,
        thumbnail=case.shot.thumbnail,
    )


def _unreadable(shot: Shot) -> Candidate:
    return Candidate(uri=shot.image.uri, findings=shot.findings, outcome="removed", reason=shot.code or "unread")
