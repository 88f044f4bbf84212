"""Products in, decisions out: the paper's two stages over one product at a time. Knows no engine and no files.

Stage 1 (paper 3.3) chooses the primary and removes non-compliant and duplicated candidates, and, beyond the paper,
photographs of another product (`agpis.kinship`) and crops whose whole is there. Stage 2 (3.4, and the future work of
5.1) searches the ordered choices of K among what is left and asks the sequence model for p_qualified.
"""

from __future__ import annotations

import datetime
import os
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from agpis import compliance, duplicates, kinship, primary, sequence
from agpis.bundle import Bundle, open_bundle
from agpis.clock import Clock
from agpis.data import Candidate, Decision, ErrorInfo, Finding, Outcome, Product, Role, Status, Violation
from agpis.errors import AgpisError, SettingsError
from agpis.fetch import Fetcher
from agpis.images import Limits
from agpis.prepare import Preparer, Shot
from agpis.rulebook import Rulebook, load_rulebook

FloatArray = NDArray[np.float32]

LOOKAHEAD = 96
"""Images that may be fetched and decoded ahead of the graphs: bounds memory, keeps the threads busy."""
BATCH = 32
"""Images per call of the image graph, filled from several products."""
SEQUENCES = 64
"""Sequences per call of the sequence graph."""
STRANGER = 0.9
"""Images this likely to show another product are removed; the others' doubt lowers the sequences they are in."""
REPORTED_VIOLATION = 0.05
"""Class probabilities under this are not listed as violations."""
MAX_VIOLATIONS = 5


@dataclass(frozen=True, slots=True)
class Settings:
    """What a user may turn. `None` means: as the bundle or rulebook says."""

    rulebook: str | None = None
    """Name of a rulebook in the package (default, amazon, google, walmart, ebay) or path of a YAML file."""
    images: int | None = None
    """K, the number of images of a sequence, the primary included."""
    threshold: float | None = None
    """p_qualified under which a sequence is not submitted (paper 5.1: 0.3)."""
    primary_threshold: float | None = None
    noncompliant_threshold: float | None = None
    duplicate_threshold: float | None = None
    search: Literal["best", "random"] = "best"
    """`random`: the paper's target sequence, primary and K-1 at random; `best`: highest p_qualified found."""
    matcher: Literal["dense", "edgeboxes"] = "dense"
    """How duplicates are found: on the image graph's own patches, or with EdgeBoxes as in the paper."""
    feedback: Literal["never", "rejected", "always"] = "never"
    """When the feedback text is decoded: for no sequence, for those below the threshold, or for every one. The
    starter's decoder names the right rule too seldom to be shown unasked; see its model card."""
    seed: int = 0
    """Of the random sequences; combined with the sku, so that a product's draw does not depend on its neighbours."""
    thumbnails: int = 0
    """Longest side of the report's thumbnails in pixels; 0 makes none."""
    on: datetime.date | None = None
    """Day whose rules hold; None: today."""
    limits: Limits = field(default_factory=Limits)
    fetch_threads: int = 0
    """Threads that fetch and decode; 0: twice the processors."""
    graph_threads: int = 0
    """Threads of ONNX Runtime; 0: one a processor."""

    def __post_init__(self) -> None:
        if self.images is not None and not 1 <= self.images <= 50:
            raise SettingsError("bad_images", f"--images is {self.images}; a sequence has 1 to 50 images.")
        for name in ("threshold", "primary_threshold", "noncompliant_threshold", "duplicate_threshold"):
            value = getattr(self, name)
            if value is not None and not 0.0 <= value <= 1.0:
                raise SettingsError("bad_threshold", f"{name} is {value}; it is a probability from 0 to 1.")
        for name, allowed in (
            ("search", ("best", "random")),
            ("matcher", ("dense", "edgeboxes")),
            ("feedback", ("never", "rejected", "always")),
        ):
            if getattr(self, name) not in allowed:
                raise SettingsError(
                    f"bad_{name}", f"{name} is {getattr(self, name)!r}; use one of {', '.join(allowed)}."
                )


@dataclass(slots=True)
class _Judged:
    """A readable candidate with the image graph's answers."""

    index: int
    shot: Shot
    p_primary: float
    p_noncompliant: float
    rules: FloatArray
    tokens: FloatArray
    patches: FloatArray
    findings: tuple[Finding, ...]
    p_stranger: float = 0.0
    outcome: Outcome = "spare"
    reason: str = ""
    duplicate_of: str | None = None

    def remove(self, reason: str, duplicate_of: str | None = None) -> None:
        self.outcome, self.reason, self.duplicate_of = "removed", reason, duplicate_of


class Pipeline:
    """Picklable callable `pipeline(products) -> decisions`, one decision a product, in order, streamed.

    `bundle` is a folder (None: the starter in the package). Each image is fetched, decoded and put through each
    graph once. A product that cannot be judged becomes a decision with status `failed` and an error code.
    Raises BundleError, RulebookError or SettingsError on first use, never at the ten-thousandth product.
    """

    def __init__(self, bundle: str | os.PathLike[str] | None = None, settings: Settings | None = None) -> None:
        self._bundle_path = None if bundle is None else os.fspath(bundle)
        self.settings = settings or Settings()
        self.clock = Clock()
        self._open: tuple[Bundle, Rulebook] | None = None

    def __reduce__(self) -> tuple[type[Pipeline], tuple[str | None, Settings]]:
        return type(self), (self._bundle_path, self.settings)

    def open(self) -> tuple[Bundle, Rulebook]:
        """Open bundle and rulebook, and check that they fit each other. Called by the first product if not before."""
        if self._open is None:
            bundle = open_bundle(self._bundle_path, threads=self.settings.graph_threads)
            rulebook = bundle.rulebook if self.settings.rulebook is None else load_rulebook(self.settings.rulebook)
            self._open = bundle, rulebook
        return self._open

    @property
    def k(self) -> int:
        """Images of a sequence."""
        return self.settings.images or self.open()[1].k

    def __call__(self, products: Iterable[Product]) -> Iterator[Decision]:
        bundle, rulebook = self.open()
        settings = self.settings
        with (
            Fetcher(settings.limits) as fetcher,
            ThreadPoolExecutor(settings.fetch_threads or 2 * (os.cpu_count() or 1), "agpis-fetch") as pool,
        ):
            prepare = Preparer(
                rulebook,
                bundle.size,
                fetcher,
                limits=settings.limits,
                thumbnail_side=settings.thumbnails,
                on=settings.on,
                clock=self.clock,
            )
            try:
                for batch in _batches(_prepared(products, prepare, pool)):
                    yield from self._judge(batch, bundle, rulebook)
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _judge(self, batch: list[tuple[Product, list[Shot]]], bundle: Bundle, rulebook: Rulebook) -> Iterator[Decision]:
        pixels = [shot.pixels for _, shots in batch for shot in shots if shot.pixels is not None]
        outputs = None
        if pixels:
            with self.clock.stage("image graph", len(pixels)):
                outputs = bundle.image(np.stack(pixels))
        position = 0
        for product, shots in batch:
            judged: list[_Judged] = []
            for index, shot in enumerate(shots):
                if shot.pixels is None or outputs is None:
                    continue
                judged.append(
                    _Judged(
                        index,
                        shot,
                        float(outputs.p_primary[position]),
                        float(outputs.p_noncompliant[position]),
                        outputs.rules[position],
                        outputs.tokens[position],
                        outputs.patches[position],
                        shot.findings,
                    )
                )
                position += 1
            try:
                yield _Case(product, shots, judged, self, bundle, rulebook).decide()
            except AgpisError as error:
                yield _failed(product, error.code, error.message, bundle, rulebook, shots)
            except Exception as error:
                # One product's surprise must not cost the others; the code makes it countable.
                yield _failed(product, "internal", f"{type(error).__name__}: {error}", bundle, rulebook, shots)


class _Case:
    """One product on its way through the two stages."""

    def __init__(
        self,
        product: Product,
        shots: list[Shot],
        judged: list[_Judged],
        pipeline: Pipeline,
        bundle: Bundle,
        rulebook: Rulebook,
    ) -> None:
        self.product = product
        self.shots = shots
        self.judged = judged
        self.bundle = bundle
        self.rulebook = rulebook
        self.settings = pipeline.settings
        self.clock = pipeline.clock
        self.k = pipeline.k

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
        return self._search(chosen, left)

    def _threshold(self, name: Literal["primary", "noncompliant", "duplicate", "qualified"]) -> float:
        option = "threshold" if name == "qualified" else f"{name}_threshold"
        value = getattr(self.settings, option)
        return float(self.bundle.thresholds[name] if value is None else value)

    def _choose(self) -> _Judged | None:
        """Remove what breaks a rule on its own, then the primary among the rest (paper 3.3.1)."""
        if not self.judged:
            return None
        over = compliance.removed(
            np.array([case.p_noncompliant for case in self.judged], np.float32), self._threshold("noncompliant")
        )
        for case, noncompliant in zip(self.judged, over, strict=True):
            if noncompliant:
                learned = compliance.learned_findings(case.rules, self.bundle.rulebook)
                case.findings += _as_in(self.rulebook, learned)
            if rule := _barred(case, "any"):
                case.remove(rule)
        self._remove_strangers()
        # The paper's threshold is on p_primary alone; the choice among what is above it also sees the other images.
        eligible = np.array([case.outcome != "removed" and self._fit_to_lead(case) for case in self.judged])
        scores = np.array([case.p_primary * (1.0 - case.p_stranger) for case in self.judged], np.float32)
        best = primary.choose_primary(scores, eligible, 0.0)
        if best is None:
            return None
        for index, case in enumerate(self.judged):
            if index != best and case.outcome != "removed" and (rule := _barred(case, "secondary")):
                case.remove(rule)
        return self.judged[best]

    def _fit_to_lead(self, case: _Judged) -> bool:
        """Whether the image could be the primary: nothing bars it, and p_primary is above the threshold."""
        return not _barred(case, "main") and case.p_primary > self._threshold("primary")

    def _remove_strangers(self) -> None:
        """Photographs of another product, told by the product's other images (`agpis.kinship`)."""
        rule = next((rule for rule in self.rulebook.rules if rule.id == "different_product"), None)
        if rule is None:
            return
        features = np.stack([case.tokens.mean(axis=0) for case in self.judged])  # (n, D)
        for position, probability in kinship.strangers(features, STRANGER).items():
            case = self.judged[position]
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
            if case.outcome != "removed" and rule.severity == "error" and rule.role == "any":
                case.remove("different_product")
        left = [case for case in self.judged if case.outcome != "removed"]
        if left:
            found = kinship.p_stranger(np.stack([case.tokens.mean(axis=0) for case in left]))
            for case, doubt in zip(left, found, strict=True):
                case.p_stranger = float(doubt)

    def _remove_duplicates(self, chosen: _Judged) -> _Judged:
        """Remove what repeats another image; returns the primary, which is the whole where `chosen` was a crop."""
        left = [case for case in self.judged if case.outcome != "removed"]
        if len(left) < 2:
            return chosen
        with self.clock.stage("duplicates", len(left)):
            views = [
                duplicates.View(
                    patches=case.patches,
                    width=case.shot.width or 1,
                    height=case.shot.height or 1,
                    size=self.bundle.size,
                    pixels=case.shot.pixels,
                )
                for case in left
            ]
            matches = duplicates.match_pairs(
                views,
                matcher=self.settings.matcher,
                calibration=self.bundle.calibration,
                embed=self.bundle.embed if self.settings.matcher == "edgeboxes" else None,
            )
        threshold = self._threshold("duplicate")
        wholes = duplicates.crops(matches, threshold, views)
        lead = left.index(chosen)
        if (whole := wholes.get(lead)) is not None and self._fit_to_lead(left[whole]):
            lead = whole
        dropped = duplicates.resolve(
            matches, threshold, lead, np.array([case.p_noncompliant for case in left], np.float32), frozenset(wholes)
        )
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

    def _search(self, chosen: _Judged, left: list[_Judged]) -> Decision:
        tokens = np.stack([case.tokens for case in left])  # (n, P, D)
        active = _active_classes(self.bundle.classes, self.rulebook)
        kin = np.array([1.0 - case.p_stranger for case in left], np.float32)  # (n,)
        answers: dict[tuple[int, ...], FloatArray] = {}

        def score(sequences: list[tuple[int, ...]]) -> FloatArray:
            order = np.array(sequences)
            with self.clock.stage("sequence graph", len(sequences)):
                # In chunks: the tokens of hundreds of sequences at once would cost hundreds of megabytes.
                chunks = [tokens[order[at : at + SEQUENCES]] for at in range(0, len(order), SEQUENCES)]
                title, category = self.product.title, self.product.category
                classes = np.concatenate([self.bundle.sequence(chunk, title, category) for chunk in chunks])
            answers.update(zip(sequences, classes, strict=True))
            # A class whose rule is not in the rulebook breaks nothing: its probability counts as qualified.
            qualified = 1.0 - classes[:, active].sum(axis=1)
            return np.asarray(qualified * kin[order].prod(axis=1), np.float32)

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
        classes = answers[found.sequence]
        violations = sorted(
            (
                Violation(name, self.rulebook.rule(name).scope, round(float(classes[i]), 6))
                for i, name in enumerate(self.bundle.classes)
                if active[i] and name != "other" and classes[i] >= REPORTED_VIOLATION
            ),
            key=lambda violation: -violation.probability,
        )[:MAX_VIOLATIONS]
        passed = found.score >= self._threshold("qualified")
        feedback = ""
        if self.settings.feedback == "always" or (self.settings.feedback == "rejected" and not passed):
            with self.clock.stage("feedback"):
                feedback = self.bundle.feedback(tokens[list(found.sequence)], self.product.title, self.product.category)
        return replace(
            self._decision("generated" if passed else "below_threshold"),
            sequence=tuple(case.shot.image.uri for case in picked),
            p_qualified=round(float(np.clip(found.score, 0.0, 1.0)), 6),
            violations=tuple(violations),
            feedback=feedback,
        )

    def _decision(self, status: Status, error: ErrorInfo | None = None) -> Decision:
        by_index = {case.index: case for case in self.judged}
        candidates = tuple(
            _unreadable(shot) if (case := by_index.get(index)) is None else _candidate(case)
            for index, shot in enumerate(self.shots)
        )
        return Decision(
            sku=self.product.sku,
            status=status,
            title=self.product.title,
            category=self.product.category,
            candidates=candidates,
            error=error,
            bundle=self.bundle.name,
            rulebook=f"{self.rulebook.id} {self.rulebook.version}",
        )


def _prepared(
    products: Iterable[Product], prepare: Preparer, pool: ThreadPoolExecutor
) -> Iterator[tuple[Product, list[Shot]]]:
    """Products with their shots, in order; at most LOOKAHEAD images are under way or waiting."""
    waiting: deque[tuple[Product, list[Future[Shot]]]] = deque()
    under_way = 0
    for product in products:
        images = () if product.error is not None else product.images
        waiting.append((product, [pool.submit(prepare, image, product.category) for image in images]))
        under_way += len(images)
        while under_way > LOOKAHEAD or len(waiting) > LOOKAHEAD:
            product, futures = waiting.popleft()
            under_way -= len(futures)
            yield product, [future.result() for future in futures]
    for product, futures in waiting:
        yield product, [future.result() for future in futures]


def _batches(items: Iterator[tuple[Product, list[Shot]]]) -> Iterator[list[tuple[Product, list[Shot]]]]:
    """Whole products until about BATCH images are together."""
    batch: list[tuple[Product, list[Shot]]] = []
    images = 0
    for product, shots in items:
        batch.append((product, shots))
        images += len(shots)
        if images >= BATCH or len(batch) >= BATCH:
            yield batch
            batch, images = [], 0
    if batch:
        yield batch


def _as_in(rulebook: Rulebook, findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """What the models found, weighed by the rulebook in force; rules that it does not have are dropped."""
    known = {rule.id: rule for rule in rulebook.rules}
    return tuple(
        replace(finding, severity=rule.severity, role=rule.role)
        for finding in findings
        if (rule := known.get(finding.rule)) is not None
    )


def _barred(case: _Judged, role: Role) -> str:
    """The rule that keeps the image out of this role ("any": out of the sequence), or ""."""
    return next((f.rule for f in case.findings if f.severity == "error" and f.role == role), "")


def _active_classes(classes: tuple[str, ...], rulebook: Rulebook) -> NDArray[np.bool_]:
    """Classes that count against a sequence: rules of the rulebook, and `other`. bool (C,)."""
    known = {rule.id for rule in rulebook.rules}
    return np.array([name == "other" or name in known for name in classes])


def _candidate(case: _Judged) -> Candidate:
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


def _failed(
    product: Product, code: str, message: str, bundle: Bundle, rulebook: Rulebook, shots: list[Shot]
) -> Decision:
    return Decision(
        sku=product.sku,
        status="failed",
        title=product.title,
        category=product.category,
        candidates=tuple(Candidate(uri=shot.image.uri, findings=shot.findings, reason=shot.code) for shot in shots),
        error=ErrorInfo(code, message),
        bundle=bundle.name,
        rulebook=f"{rulebook.id} {rulebook.version}",
    )


__all__ = ["Pipeline", "Settings"]
