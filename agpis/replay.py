"""Reviewed sequences through stage 1 again: what was known of each, to fit `agpis.weighing` on what reviewers said.

A verdict with its `candidates` says what stage 1 had to choose from; it decides on them again, under the bundle whose
p_qualified is to be weighed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from agpis.bundle_manifest import Weighing
from agpis.columns import Floats
from agpis.data import Image, Product, Verdict
from agpis.pipeline import Pipeline, Settings
from agpis.weighing import fit

Upload = tuple[str, str, str, str, tuple[str, ...], int]
"""Sku, title, category, base, candidates and length of the sequence."""


@dataclass(frozen=True, slots=True, eq=False)
class Replayed:
    """n reviewed sequences whose images stage 1 has left again."""

    features: Floats
    """(n, 6), see `agpis.weighing.FEATURES`."""
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

    def fit(self, *, prior: float | None = None, data: str = "") -> tuple[Weighing, Floats]:
        """`agpis.weighing.fit`: an upload counts once, however many of its sequences were reviewed."""
        weights = 1.0 / np.bincount(self.uploads)[self.uploads]
        return fit(self.features, self.accepted, self.skus, weights=weights, prior=prior, data=data)


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
    rows, plain, stated, accepted = [], [], [], list[bool]()
    skus, numbers, given = list[str](), list[int](), list[int]()
    total = 0
    for k in sorted({upload[-1] for upload in uploads}):
        part = [upload for upload in uploads if upload[-1] == k]
        pipeline = Pipeline(bundle, replace(settings, images=k, search="random"))
        for upload, case in zip(part, pipeline.cases(_products(part)), strict=True):
            said = uploads[upload]
            total += len(said)
            if not case.decide().sequence:
                continue
            places = {judged.shot.image.uri: i for i, judged in enumerate(case.left)}
            there = [(place, verdict) for place, verdict in said if set(verdict.sequence) <= set(places)]
            if there:
                order = np.array([[places[uri] for uri in verdict.sequence] for _, verdict in there])
                found = case.appraise(order)
                rows.append(found.features)
                plain.append(found.plain)
                stated.append(found.p_qualified)
                accepted += [verdict.accepted for _, verdict in there]
                given += [place for place, _ in there]
                skus += [upload[0]] * len(there)
                numbers += [len(rows) - 1] * len(there)
    return Replayed(
        features=np.concatenate([np.zeros((0, 6)), *rows]),
        plain=np.concatenate([np.zeros(0), *plain]),
        p_qualified=np.concatenate([np.zeros(0), *stated]),
        accepted=np.array(accepted, bool),
        skus=tuple(skus),
        uploads=np.array(numbers, np.int64),
        rows=np.array(given, np.int64),
        left_out=total - len(accepted),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Lead:
    """What reviewers said of the first image of an upload's sequence."""

    features: Floats
    """(n, F) of the images that could lead, see `agpis.choice.FEATURES`."""
    right: frozenset[int]
    """Those that led an accepted or a corrected sequence; there is at least one, or one that is wrong."""
    wrong: frozenset[int]
    """Those that led a sequence rejected for its first image."""
    sku: str


def leads(
    bundle: str | os.PathLike[str] | None, verdicts: Iterable[Verdict], *, settings: Settings = Settings()
) -> list[Lead]:
    """What is known of the images that may lead, of a bundle with a `choice`; uploads that say nothing are left out.

    Raises BundleError and RulebookError as `Pipeline` does.
    """
    uploads: dict[Upload, list[Verdict]] = {}
    for verdict in verdicts:
        uploads.setdefault((*_upload(verdict)[:-1], 0), []).append(verdict)
    found = []
    pipeline = Pipeline(bundle, replace(settings, images=1, search="random"))
    for (upload, said), case in zip(uploads.items(), pipeline.cases(_products(uploads)), strict=True):
        case.decide()
        images = {case.shots[index].image.uri: place for place, index in enumerate(case.leads)}
        first = [verdict.corrected or verdict.sequence for verdict in said if verdict.accepted or verdict.corrected]
        right = frozenset(images[uris[0]] for uris in first if uris[0] in images)
        blamed = [verdict.sequence[0] for verdict in said if _first_is_wrong(verdict)]
        wrong = frozenset(images[uri] for uri in blamed if uri in images) - right
        if len(images) > 1 and (right or wrong):
            found.append(Lead(np.stack(list(case.leads.values())), right, wrong, upload[0]))
    return found


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
