"""One product through the paper's two stages, once the image graph has answered for each of its images.

Stage 1 (paper 3.3) chooses the primary and removes non-compliant and duplicated candidates, and, beyond the paper,
photographs of another product (`agpis.kinship`) and crops whose whole is there. Stage 2 (3.4, and the future work of
5.1) searches the ordered choices of K among what is left and asks the sequence model for p_qualified.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from agpis import choice, compliance, duplicates, kinship, primary, sequence, stacking, weighing
from agpis.bundle import Bundle
from agpis.clock import Clock
from agpis.columns import Floats
from agpis.data import Author, Decision, ErrorInfo, Finding, Product, Role, Status
from agpis.decision import Grounds, Judged, active_classes, decision, learned, sight_of
from agpis.prepare import Shot
from agpis.rulebook import Rule, Rulebook
from agpis.settings import Settings

FloatArray = NDArray[np.float32]

SEQUENCES = 64
"""Sequences per call of the sequence graph."""
CAUTION = 3.0
"""How many times more the doubt that an image shows another product counts in the choice than in p_qualified."""
REPORTED_VIOLATION = 0.05
"""Class probabilities under this are not listed as violations."""
MAX_VIOLATIONS = 5


@dataclass(frozen=True, slots=True, eq=False)
class Appraised:
    """What is known of S sequences of one product."""

    classes: FloatArray
    """(S, C) of the sequence model."""
    p_qualified: NDArray[np.floating]
    """(S,)."""
    score: NDArray[np.floating]
    """(S,) what `best` makes as large as it can: p_qualified, and without weighing some caution."""
    features: Floats
    """(S, 6) of `agpis.weighing`."""
    plain: NDArray[np.floating]
    """(S,) the score without weighing."""
    stacked: FloatArray | None
    """(S, F) of `agpis.stacking`; None where there is no pair, the tokens have no layout, or it was not asked for."""


class Case:
    """One product on its way through the two stages."""

    def __init__(
        self,
        product: Product,
        shots: list[Shot],
        judged: list[Judged],
        bundle: Bundle,
        rulebook: Rulebook,
        settings: Settings,
        clock: Clock,
    ) -> None:
        self.product = product
        self.shots = shots
        self.judged = judged
        self.bundle = bundle
        self.rulebook = rulebook
        self.settings = settings
        self.clock = clock
        self.k = settings.images or rulebook.k
        self.matches: list[duplicates.PairMatch] = []
        self.matched: list[Judged] = []
        """What `a` and `b` of a match count."""
        self.p_copy: dict[frozenset[int], float] = {}
        """Indices of two images -> probability that they show the same photograph."""
        self.chances: dict[int, float] = {}
        """Index of an image -> probability that it is the one to lead, where the bundle has a `choice`."""
        self.leads: dict[int, Floats] = {}
        """Index of an image that could lead -> its `agpis.choice.FEATURES`, where the bundle has a `choice`."""

    def decide(self) -> Decision:
        """The decision, by the paper's order: primary, content, duplicates, enough left, sequence."""
        if self.product.error is not None:
            return self._decision("failed", error=self.product.error)
        if self.shots and not self.judged:
            codes = sorted({shot.code for shot in self.shots})
            message = f"None of {len(self.shots)} images could be read ({', '.join(codes)})."
            return self._decision("failed", error=ErrorInfo("no_readable_image", message))
        chosen = self._choose()
        if chosen is None:
            status: Status = "no_primary" if self.judged else "too_few_images"
            return self._decision(status)
        chosen = self._remove_duplicates(chosen)
        chosen.outcome = "primary"
        left = [case for case in self.judged if case.outcome != "removed"]
        if len(left) < self.k:
            return self._decision("too_few_images")
        self._doubt(left)
        return self._search(chosen, left)

    def _threshold(self, name: Literal["primary", "noncompliant", "duplicate", "qualified"]) -> float:
        option = "threshold" if name == "qualified" else f"{name}_threshold"
        value = getattr(self.settings, option)
        return float(self.bundle.thresholds[name] if value is None else value)

    def _choose(self) -> Judged | None:
        """Remove what breaks a rule on its own, then the primary among the rest (paper 3.3.1)."""
        if not self.judged:
            return None
        over = compliance.removed(
            np.array([case.p_noncompliant for case in self.judged], np.float32), self._threshold("noncompliant")
        )
        for case, noncompliant in zip(self.judged, over, strict=True):
            if noncompliant:
                case.findings += learned(case, self.bundle, self.rulebook)
            if rule := _barred(case, "any"):
                case.remove(rule)
        self._match()
        self._remove_strangers()
        # The paper's threshold is on p_primary alone; the choice among what is above it also sees the other images.
        eligible = np.array([case.outcome != "removed" and self._fit_to_lead(case) for case in self.judged])
        best = primary.choose_primary(self._weighed(eligible), eligible, 0.0)
        if best is None:
            return None
        for index, case in enumerate(self.judged):
            if index != best and case.outcome != "removed" and (rule := _barred(case, "secondary")):
                case.remove(rule)
        return self.judged[best]

    def _weighed(self, eligible: NDArray[np.bool_]) -> NDArray[np.floating]:
        """(n,) what the primary is chosen by: `agpis.choice`, or p_primary and kinship where the bundle has none."""
        fitted = self.bundle.manifest.choice
        if fitted is None:
            return np.array([case.p_primary * (1.0 - case.p_stranger) for case in self.judged], np.float32)
        if not eligible.any():
            return np.zeros(len(eligible))
        left = self.left
        views, threshold = [self._view(case) for case in left], self._threshold("duplicate")
        rows = choice.features(
            [case.p_primary for case in left],
            [case.p_noncompliant for case in left],
            [case.rules for case in left],
            [case.tokens for case in left],
            [[self.p_copy.get(frozenset((a.index, b.index)), 0.0) for b in left] for a in left],
            duplicates.crops(self._matches_of(left), threshold, views),
            self.bundle.manifest.token_layout,
        )
        able = {case.index for case, can in zip(self.judged, eligible, strict=True) if can}
        self.leads = {case.index: row for case, row in zip(left, rows, strict=True) if case.index in able}
        seen = choice.looks([case.tokens for case in left], self.bundle.manifest.token_layout) if fitted.looks else None
        scores = dict(zip((case.index for case in left), choice.scores(rows, fitted, seen), strict=True))
        found = choice.chances([scores.get(case.index, 0.0) for case in self.judged], eligible)
        self.chances = {case.index: float(chance) for case, chance in zip(self.judged, found, strict=True)}
        return found

    def _fit_to_lead(self, case: Judged) -> bool:
        """Whether the image could be the primary: nothing bars it, and p_primary is above the threshold."""
        return not _barred(case, "main") and case.p_primary > self._threshold("primary")

    def _remove_strangers(self) -> None:
        """Photographs of another product, told by the product's other images (`agpis.kinship`)."""
        rule = self._kinship_rule()
        if rule is None:
            return
        distinct = self._distinct([case for case in self.judged if case.outcome != "removed"])
        if len(distinct) < 3:
            return  # of two images neither can be told to be the stranger
        fitted = self.bundle.manifest.kinship
        for place, probability in kinship.strangers(self._compared(distinct), fitted, self._titled(distinct)).items():
            case = distinct[place]
            case.findings += (
                Finding(
                    rule="different_product",
                    scope="pair",
                    severity=rule.severity,
                    role=rule.role,
                    message="It looks unlike all other images of the product.",
                    probability=round(probability, 6),
                ),
            )
            removing = self.settings.strangers == "remove" and rule.severity == "error" and rule.role == "any"
            if case.outcome != "removed" and removing:
                case.remove("different_product")
        self._doubt([case for case in self.judged if case.outcome != "removed"])

    def _compared(self, cases: list[Judged]) -> FloatArray:
        """What kinship compares the images by, (n, F)."""
        manifest = self.bundle.manifest
        return kinship.features(np.stack([case.tokens for case in cases]), manifest.token_layout, manifest.kinship)

    def _titled(self, cases: list[Judged]) -> FloatArray | None:
        """How well the images show what the title names, (n,)."""
        return self.bundle.titled(self.product.title, self.product.category, [case.things for case in cases])

    def _kinship_rule(self) -> Rule | None:
        """The rule against another product's photograph; a rulebook without it does not mind."""
        return next((rule for rule in self.rulebook.rules if rule.id == "different_product"), None)

    def _doubt(self, left: list[Judged]) -> None:
        """Sets p_stranger of the images that are left; a copy shares the doubt of the image it repeats."""
        distinct = self._distinct(left)
        if not distinct or self._kinship_rule() is None:
            return
        fitted = self.bundle.manifest.kinship
        doubts = kinship.p_stranger(self._compared(distinct), fitted, self._titled(distinct))
        for case, doubt in zip(distinct, doubts, strict=True):
            case.p_stranger = float(doubt)
        for case in left:
            if case not in distinct:
                case.p_stranger = next(c.p_stranger for c in distinct if self._copies(case, c))

    def _copies(self, a: Judged, b: Judged) -> bool:
        return self.p_copy.get(frozenset((a.index, b.index)), 0.0) > self._threshold("duplicate")

    def _distinct(self, cases: list[Judged]) -> list[Judged]:
        """Without those that repeat an earlier one: many copies of one picture would make all others look strange."""
        kept: list[Judged] = []
        for case in cases:
            if not any(self._copies(case, other) for other in kept):
                kept.append(case)
        return kept

    def _match(self) -> None:
        """Compare all images that are left, pair by pair."""
        left = [case for case in self.judged if case.outcome != "removed"]
        if len(left) < 2:
            return
        with self.clock.stage("duplicates", len(left)):
            self.matches = duplicates.match_pairs(
                [self._view(case) for case in left],
                matcher=self.settings.matcher,
                calibration=self.bundle.calibration,
                embed=self.bundle.embed if self.settings.matcher == "edgeboxes" else None,
            )
        self.matched = left
        for match in self.matches:
            self.p_copy[frozenset((left[match.a].index, left[match.b].index))] = match.probability

    def _view(self, case: Judged) -> duplicates.View:
        return duplicates.View(
            patches=case.patches,
            width=case.shot.width or 1,
            height=case.shot.height or 1,
            size=self.bundle.size,
            pixels=case.shot.pixels,
        )

    def _matches_of(self, left: list[Judged]) -> list[duplicates.PairMatch]:
        """The matches between images that are still left, by their positions in `left`."""
        place = {id(case): position for position, case in enumerate(left)}
        found = []
        for match in self.matches:
            a, b = (place.get(id(self.matched[end])) for end in match.pair)
            if a is not None and b is not None:
                found.append(replace(match, a=a, b=b))
        return found

    def _remove_duplicates(self, chosen: Judged) -> Judged:
        """Remove what repeats another image; returns the primary, which is the whole where `chosen` was a crop."""
        left = [case for case in self.judged if case.outcome != "removed"]
        if len(left) < 2:
            return chosen
        views, matches = [self._view(case) for case in left], self._matches_of(left)
        threshold = self._threshold("duplicate")
        wholes = duplicates.crops(matches, threshold, views)
        lead = left.index(chosen)
        if (whole := wholes.get(lead)) is not None and self._fit_to_lead(left[whole]):
            lead = whole
        p_noncompliant, parts = np.array([case.p_noncompliant for case in left], np.float32), frozenset(wholes)
        # Which of its own copies leads is chance where they are as good: there the rule for duplicates decides.
        copies = {match.a + match.b - lead for match in matches if match.probability > threshold and lead in match.pair}
        equals = {lead} | {i for i in copies - parts if self._as_good(left[i], left[lead])}
        among = [match for match in matches if equals.issuperset(match.pair)]
        lead = duplicates.resolve(among, threshold, None, p_noncompliant, parts).get(lead, lead)
        dropped = duplicates.resolve(matches, threshold, lead, p_noncompliant, parts)
        by_pair = {frozenset((match.a, match.b)): match for match in matches}
        for lost, kept in dropped.items():
            match = by_pair[frozenset((lost, kept))]
            own, other = (match.box_a, match.box_b) if match.a == lost else (match.box_b, match.box_a)
            left[lost].findings += (
                Finding(
                    rule="duplicate",
                    scope="pair",
                    message="The same photograph, or a part of it, is already among the images.",
                    probability=match.probability,
                    box=own,
                    other=left[kept].shot.image.uri,
                    other_box=other,
                ),
            )
            left[lost].remove("duplicate", left[kept].shot.image.uri)
        return left[lead]

    def _as_good(self, case: Judged, lead: Judged) -> bool:
        """Whether a copy of the primary could as well have been chosen."""
        if not self._fit_to_lead(case):
            return False
        if self.chances:
            return self.chances[lead.index] - self.chances[case.index] <= duplicates.EQUAL
        return lead.p_primary - case.p_primary <= duplicates.EQUAL

    @property
    def left(self) -> list[Judged]:
        """The images that are not removed, in the merchant's order."""
        return [case for case in self.judged if case.outcome != "removed"]

    def appraise(self, order: NDArray[np.int64], *, thorough: bool = False) -> Appraised:
        """What is known of sequences (S, L) of the images that are left, by their positions in `left`.

        Args:
            thorough: `stacked` is wanted even where the bundle has no use for it.
        """
        left = self.left
        tokens = np.stack([case.tokens for case in left])  # (n, P, D)
        with self.clock.stage("sequence graph", len(order)):
            # In chunks: the tokens of hundreds of sequences at once would cost hundreds of megabytes.
            chunks = [tokens[order[at : at + SEQUENCES]] for at in range(0, len(order), SEQUENCES)]
            title, category = self.product.title, self.product.category
            classes = np.concatenate([self.bundle.sequence(chunk, title, category) for chunk in chunks])
        # A class whose rule is not in the rulebook breaks nothing: its probability counts as qualified.
        active = active_classes(self.bundle.classes, self.rulebook)
        seen = 1.0 - classes[:, active].sum(axis=1)
        kin = np.array([1.0 - case.p_stranger for case in left], np.float32)[order]  # (S, L)
        clean = np.array([1.0 - case.p_noncompliant for case in left], np.float32)[order]
        pairs = np.array(list(combinations(range(order.shape[1]), 2)), np.int64).reshape(-1, 2)
        apart = np.array(
            [[1.0 - self.p_copy.get(frozenset((a.index, b.index)), 0.0) for b in left] for a in left], np.float32
        )[order[:, pairs[:, 0]], order[:, pairs[:, 1]]]  # (S, pairs)
        fit = np.array([case.p_primary for case in left])
        others = np.where(np.eye(len(left), dtype=bool), 0.0, fit).max(axis=1)  # (n,) of the best other image
        # Evidence of the set, which the sequence model sees but dimly: another product, the same photograph. What
        # stage 1 let through it did not find spotless: of sequences alike the cleaner is chosen. And a stranger in the
        # sequence costs more than a picture of the product's own left out.
        qualified = seen * kin.prod(axis=1) * apart.prod(axis=1)
        plain = qualified * clean.prod(axis=1) * kin.prod(axis=1) ** CAUTION
        manifest, stacked = self.bundle.manifest, None
        fitted = manifest.weighing
        if manifest.stacking is not None or (fitted is not None and fitted.stacked) or thorough:
            counted = np.where(active, classes, 0.0)
            counted[:, 0] = seen
            stacked = stacking.rows(self.bundle, counted, order, sight_of(left, self.p_copy, self.bundle, self.product))
        if manifest.stacking is not None and stacked is not None:
            qualified = seen = self.bundle.stacked(stacked)
            plain = plain * qualified
        features = weighing.features(seen, kin, apart, clean, fit[order[:, 0]], others[order[:, 0]])
        if fitted is None:
            return Appraised(classes, qualified, plain, features, plain, stacked)
        weighed = weighing.p_qualified(features, fitted, stacked)
        return Appraised(classes, weighed, weighed, features, plain, stacked)

    def _search(self, chosen: Judged, left: list[Judged]) -> Decision:
        tokens = np.stack([case.tokens for case in left])  # (n, P, D)
        answers: dict[tuple[int, ...], tuple[FloatArray, float]] = {}

        def score(sequences: list[tuple[int, ...]]) -> FloatArray:
            appraised = self.appraise(np.array(sequences))
            pairs = zip(appraised.classes, map(float, appraised.p_qualified), strict=True)
            answers.update(zip(sequences, pairs, strict=True))
            return appraised.score

        found = sequence.search(
            list(range(len(left))),
            score,
            primary=left.index(chosen),
            k=self.k,
            mode=self.settings.search,
            seed=zlib.crc32(f"{self.settings.seed}/{self.product.sku}".encode()),
        )
        if found is None:  # cannot happen: at least K are left
            return self._decision("too_few_images")
        picked = [left[i] for i in found.sequence]
        for case in picked[1:]:
            case.outcome = "selected"
        classes, p_qualified = answers[found.sequence]
        grounds = self._grounds(picked)
        objections = grounds.objections(
            grounds.with_the_set(classes, p_qualified), own=classes, least=REPORTED_VIOLATION, most=MAX_VIOLATIONS
        )
        passed = p_qualified >= self._threshold("qualified")
        feedback = ""
        if self.settings.feedback == "always" or (self.settings.feedback == "rejected" and not passed):
            with self.clock.stage("feedback"):
                feedback = self.bundle.feedback(tokens[list(found.sequence)], self.product.title, self.product.category)
        author: Author = "model" if feedback else ""
        if not passed:
            feedback, author = grounds.feedback(feedback, objections)
        return replace(
            self._decision("generated" if passed else "below_threshold"),
            sequence=tuple(case.shot.image.uri for case in picked),
            p_qualified=round(float(np.clip(p_qualified, 0.0, 1.0)), 6),
            violations=tuple(map(grounds.violation, objections)),
            feedback=feedback,
            feedback_by=author,
        )

    def as_given(self) -> Grounds:
        """All readable images in the merchant's order taken as one sequence: nothing is removed or chosen."""
        self._match()
        return self._grounds(self.judged)

    def _grounds(self, picked: list[Judged]) -> Grounds:
        return Grounds(self.product, picked, self.p_copy, self.bundle, self.rulebook, self.clock)

    def _decision(self, status: Status, error: ErrorInfo | None = None) -> Decision:
        return decision(self.product, self.shots, self.judged, self.bundle, self.rulebook, status, error)


def _barred(case: Judged, role: Role) -> str:
    """The rule that keeps the image out of this role ("any": out of the sequence), or ""."""
    return next((f.rule for f in case.findings if f.severity == "error" and f.role == role), "")
