"""Reviewed sequences through stage 1 again: what was known of each, to fit `agpis.weighing` on what reviewers said.

A verdict with its `candidates` says what stage 1 had to choose from; it decides on them again, under the bundle whose
p_qualified is to be weighed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from agpis import choice
from agpis.bundle_manifest import Weighing
from agpis.case import Case
from agpis.columns import Floats
from agpis.data import Image, Product, Verdict
from agpis.pipeline import Pipeline, Settings
from agpis.weighing import fit, log_loss

Upload = tuple[str, str, str, str, tuple[str, ...], int]
"""Sku, title, category, base, candidates and length of the sequence."""


@dataclass(frozen=True, slots=True, eq=False)
class Replayed:
    """n reviewed sequences whose images stage 1 has left again."""

    features: Floats
    """(n, 6), see `agpis.weighing.FEATURES`."""
    stacked: Floats | None
    """(n, F) of `agpis.stacking`; None where they are not known of all: of single images, and without a layout."""
    plain: Floats
    """(n,) what the sequences are scored by without weighing."""
    p_qualified: Floats
    """(n,) as a decision of the bundle would state it."""
    accepted: npt.NDArray[np.bool_]
    """(n,)."""
    skus: tuple[str, ...]
    uploads: npt.NDArray[np.int64]
    """(n,) number of the upload, rising: one title and set of candidates; several of its sequences may be reviewed."""
    rows: npt.NDArray[np.int64]
    """(n,) place of each among the verdicts that were given."""
    left_out: int
    """Verdicts on sequences that this stage 1 would not submit: an image is removed, or nothing is generated."""
    leads: tuple[Lead, ...]
    """Of the uploads that say something of it; of a bundle with a `choice`."""
    led: Floats
    """(m,) of each verdict that was given: 1 where the image that leads now is one that may, by what reviewers said of
    the upload, 0 where it is not; NaN where nothing was said of it, or no sequence is made now."""

    def fit(self, *, prior: float | None = None, data: str = "") -> tuple[Weighing, Floats]:
        """`agpis.weighing.fit`, with the features of `agpis.stacking` where products that it did not see are told
        better with them: an upload counts once, however many of its sequences were reviewed."""
        weights = 1.0 / np.bincount(self.uploads)[self.uploads]
        found = fit(self.features, self.accepted, self.skus, weights=weights, prior=prior, data=data)
        if self.stacked is None:
            return found
        stacked = f"{data}, with what is stacked" if data else "with what is stacked"
        more = fit(
            self.features, self.accepted, self.skus, stacked=self.stacked, weights=weights, prior=prior, data=stacked
        )
        return min(found, more, key=lambda one: log_loss(one[1], self.accepted, weights))

    def part(self, rows: npt.NDArray[np.bool_]) -> Replayed:
        """Some of the sequences (n,), with all `leads`."""
        kept = np.flatnonzero(rows)
        _, uploads = np.unique(self.uploads[kept], return_inverse=True)
        return replace(
            self,
            features=self.features[kept],
            stacked=None if self.stacked is None else self.stacked[kept],
            plain=self.plain[kept],
            p_qualified=self.p_qualified[kept],
            accepted=self.accepted[kept],
            skus=tuple(self.skus[row] for row in kept),
            uploads=uploads.astype(np.int64),
            rows=self.rows[kept],
        )


@dataclass(frozen=True, slots=True, eq=False)
class Lead:
    """What reviewers said of the first image of an upload's sequence."""

    features: Floats
    """(n, F) of the images that could lead, see `agpis.choice.FEATURES`."""
    looks: Floats
    """(n, D) of the same, see `agpis.choice.looks`."""
    right: frozenset[int]
    """Those that led an accepted or a corrected sequence; there is at least one, or one that is wrong."""
    wrong: frozenset[int]
    """Those that led a sequence rejected for its first image."""
    sku: str


def replay(
    bundle: str | os.PathLike[str] | None, verdicts: Iterable[Verdict], *, settings: Settings = Settings()
) -> Replayed:
    """The features of reviewed sequences.

    Args:
        bundle: folder; None: the starter.
        settings: as when the sequences were made; K and the search are the sequences' own.

    Raises:
        BundleError, RulebookError: as `Pipeline` does.
    """
    uploads: dict[Upload, list[tuple[int, Verdict]]] = {}
    for place, verdict in enumerate(verdicts):
        uploads.setdefault(_upload(verdict), []).append((place, verdict))
    rows, stacked, plain, stated, accepted = [], [], [], [], list[bool]()
    skus, numbers, given, told = list[str](), list[int](), list[int](), list[Lead]()
    led: dict[int, float] = {}
    total = 0
    for k in sorted({upload[-1] for upload in uploads}):
        part = [upload for upload in uploads if upload[-1] == k]
        pipeline = Pipeline(bundle, replace(settings, images=k, search="random"))
        for upload, case in zip(part, pipeline.cases(_products(part)), strict=True):
            said = uploads[upload]
            total += len(said)
            decision = case.decide()
            right, wrong = _first_images([verdict for _, verdict in said])
            if decision.sequence and (right or wrong):
                first = decision.sequence[0]
                led.update((place, float(first in right if right else first not in wrong)) for place, _ in said)
            if (lead := _lead(case, [verdict for _, verdict in said])) is not None:
                told.append(lead)
            if not decision.sequence:
                continue
            places = {judged.shot.image.uri: i for i, judged in enumerate(case.left)}
            there = [(place, verdict) for place, verdict in said if set(verdict.sequence) <= set(places)]
            if there:
                order = np.array([[places[uri] for uri in verdict.sequence] for _, verdict in there])
                found = case.appraise(order, thorough=True)
                rows.append(found.features)
                stacked.append(found.stacked)
                plain.append(found.plain)
                stated.append(found.p_qualified)
                accepted += [verdict.accepted for _, verdict in there]
                given += [place for place, _ in there]
                skus += [upload[0]] * len(there)
                numbers += [len(rows) - 1] * len(there)
    known = [found for found in stacked if found is not None]
    return Replayed(
        features=np.concatenate([np.zeros((0, 6)), *rows]),
        stacked=np.concatenate(known).astype(np.float64) if known and len(known) == len(rows) else None,
        plain=np.concatenate([np.zeros(0), *plain]),
        p_qualified=np.concatenate([np.zeros(0), *stated]),
        accepted=np.array(accepted, bool),
        skus=tuple(skus),
        uploads=np.array(numbers, np.int64),
        rows=np.array(given, np.int64),
        left_out=total - len(accepted),
        leads=tuple(told),
        led=np.array([led.get(place, np.nan) for place in range(total)]),
    )


def _lead(case: Case, said: Sequence[Verdict]) -> Lead | None:
    """What verdicts on a decided upload tell of its first image; None where nothing, or the bundle has no `choice`."""
    images = {case.shots[index].image.uri: place for place, index in enumerate(case.leads)}
    right, wrong = (frozenset(images[uri] for uri in uris if uri in images) for uris in _first_images(said))
    if len(images) < 2 or not (right or wrong):
        return None
    tokens = {judged.index: judged.tokens for judged in case.judged}
    seen = choice.looks([tokens[index] for index in case.leads], case.bundle.manifest.token_layout)
    return Lead(np.stack(list(case.leads.values())), seen, right, wrong, case.product.sku)


def _first_images(said: Sequence[Verdict]) -> tuple[frozenset[str], frozenset[str]]:
    """Uris of the images that may be first by verdicts on an upload, and of those that may not."""
    first = [verdict.corrected or verdict.sequence for verdict in said if verdict.accepted or verdict.corrected]
    right = frozenset(uris[0] for uris in first)
    return right, frozenset(verdict.sequence[0] for verdict in said if _first_is_wrong(verdict)) - right


def _first_is_wrong(verdict: Verdict) -> bool:
    return not verdict.accepted and (
        verdict.rules[:1] in (("wrong_order",), ("primary_incomplete",))
        or bool(verdict.corrected and verdict.corrected[0] != verdict.sequence[0])
    )


def _upload(verdict: Verdict) -> Upload:
    candidates = verdict.candidates or verdict.sequence
    return verdict.sku, verdict.title, verdict.category, verdict.base, candidates, len(verdict.sequence)


def _products(uploads: Iterable[Upload]) -> Iterator[Product]:
    for sku, title, category, base, candidates, _ in uploads:
        yield Product(sku, title, category, tuple(Image(uri, base=base) for uri in candidates))
