"""What a new bundle is fitted with: the choice of the primary, weights of the evidence, threshold, naming, stacking;
and which of two sequence models it gets, the base's or the one trained on the reviews.

Most of these belong to the sequence model's answers, and an export leaves them out (`agpis.assemble`).
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from agpis.bundle import Bundle
from agpis.bundle_manifest import MANIFEST, Choice, Manifest, Naming, Threshold, read_manifest, write_manifest
from agpis.columns import Floats
from agpis.data import Verdict
from agpis.leading import PLAIN, learned
from agpis.metrics import Difference, Resample, auc, auc_statistic, threshold_for_withheld
from agpis.pipeline import Settings
from agpis.replay import Lead, Replayed, replay
from agpis.rule_changes import RuleChanges
from agpis.weighing import FOLDS

WEIGHED = 40
"""Verdicts under which the evidence is not weighed and no threshold is moved."""
MOST = 3000
"""Verdicts that are looked at again at most."""
LEAST_LED = 100
"""Uploads of whose first image something is known, under which the choice stays."""
LEAST_NEW = 20
"""Uploads of new products on which the choice before can be measured."""
EVERYTHING = Settings(threshold=0.0)
"""Nothing is held back."""
Model = Literal["kept", "trained"]


@dataclass(frozen=True, slots=True)
class Fitted:
    """What became of the bundle."""

    notes: tuple[str, ...]
    """Sentences on what was done."""
    sequence: Model
    """Which sequence model it has: the base's, or that which was trained."""


def fitted(
    base: Bundle,
    folder: Path,
    train: Sequence[Verdict],
    validation: Sequence[Verdict],
    changes: RuleChanges,
    *,
    unseen: Callable[[Verdict], bool],
    taught: Collection[str] = (),
    withheld: float | None = None,
) -> Fitted:
    """Writes all of it into the manifest of the bundle in `folder`, and puts the base's sequence model in place of the
    one that was trained where that does not tell the validation verdicts clearly better.

    The base's own sequence model has not seen the verdicts on its work: what it says of all of them can be weighed,
    where only the validation verdicts are left to weigh what a trained one says.

    Args:
        base: the bundle that it was made from.
        train: verdicts that the sequence model was trained on.
        unseen: whether the base's sequence model was not trained on a verdict.
        taught: skus of the verdicts that the base's choice of the primary was fitted on.
        withheld: share that the threshold holds back; None: as much as the base's does.
    """
    plain = read_manifest(folder)
    plain = plain.model_copy(update={"naming": carried_naming(base, plain, changes)})
    same = _same_images(base, plain)
    start = plain.choice or PLAIN
    start = start if same else start.model_copy(update={"looks": ()})
    verdicts = _some([*_without_corrections(train), *validation])
    with _lent(base.folder if same else folder, choice=start) as first:
        heard = replay(first, verdicts, settings=EVERYTHING)
    choice, notes = _led(heard.leads, start, plain, taught)
    plain = plain.model_copy(update={"choice": choice})
    found = [_appraised(plain, replay_of(folder, plain, validation))]
    if (stacked := carried_stacking(base, folder, plain)) is not None:
        # Trees that were fitted on the answers of another sequence model stay where they still help.
        found.insert(0, _appraised(stacked, replay_of(folder, stacked, validation)))
        with_it, without = (f"{one.quality:.3f}" for one in found)
        notes.append(f"Stacking of {base.name}: AUC on the validation verdicts {with_it} with it, {without} without.")
    best = max(found, key=lambda one: one.quality)
    sequence: Model = "trained"
    checked = {id(verdict) for verdict in validation}
    asked = np.array([id(verdicts[row]) in checked for row in heard.rows], bool)
    if same and not changes.any and len(best.p) >= WEIGHED:
        fresh = np.array([unseen(verdicts[row]) for row in heard.rows], bool)
        kept = _appraised(_as_before(base, plain), heard.part(asked | fresh))
        gain = _gain(best, kept, validation, verdicts)
        better = gain.difference.low > 0.0
        taken = (
            "the trained one is taken" if better else f"that of {base.name} stays, weighed on {len(kept.p)} verdicts"
        )
        notes.append(
            f"AUC on the validation verdicts {gain.first:.3f} with the sequence model trained on the reviews, "
            f"{gain.second:.3f} with that of {base.name}, difference {gain.difference}: {taken}."
        )
        if not better:
            best, sequence = kept, "kept"
            _put_back(base, folder)
    manifest = best.manifest
    if len(best.p) < WEIGHED:
        notes.append(
            f"Evidence is not weighed, and the threshold is not set: {len(best.p)} validation verdicts of what stage 1 "
            f"would submit; wanted are {WEIGHED}."
        )
    else:
        said = f"{len(best.p)} verdicts of {manifest.id}"
        limit = _threshold(base, heard.p_qualified[asked], best.p, said, withheld)
        manifest = manifest.model_copy(update={"thresholds": {**manifest.thresholds, "qualified": limit}})
    write_manifest(folder, manifest)
    return Fitted(tuple(notes), sequence)


def _some(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """At most `MOST` of them, the same ones each time."""
    order = np.random.default_rng(0).permutation(len(verdicts))[:MOST]
    return [verdicts[i] for i in sorted(order)]


def _without_corrections(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Without the approved sequences that are a reviewer's: no bundle has submitted them."""
    corrected = {(verdict.sku, verdict.candidates, verdict.corrected) for verdict in verdicts if verdict.corrected}
    return [v for v in verdicts if not (v.accepted and (v.sku, v.candidates, v.sequence) in corrected)]


@contextmanager
def _lent(folder: Path, **update: object) -> Iterator[Path]:
    """A copy of a bundle with another manifest, for a while."""
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / folder.name
        shutil.copytree(folder, copy)
        write_manifest(copy, read_manifest(copy).model_copy(update=update))
        yield copy


def _led(
    told: Sequence[Lead], start: Choice, manifest: Manifest, taught: Collection[str] = ()
) -> tuple[Choice | None, list[str]]:
    """The choice of the primary fitted on reviews, where it is right more often on products that it did not see.

    The weights before are measured on products that these were not fitted on either, of skus that are not `taught`.
    Where there are too few of them, the fit is taken: it goes on from these weights, on more reviews.
    """
    products = {lead.sku for lead in told}
    if len(told) < LEAST_LED or len(products) < FOLDS:
        said = f"{len(told)} uploads of {len(products)} products; wanted are {LEAST_LED} of {FOLDS}"
        return manifest.choice, [f"The choice of the primary stays: first images are known of {said}."]
    origin = start.data.rpartition("from: ")[2]
    found = learned(told, start, f"{len(told)} uploads of {len(products)} reviewed products, from: {origin}")
    note = (
        f"Choice of the primary: right in {found.after.mean():.1%} of {len(told)} uploads by fits without their product"
    )
    heard = "the looks of images heard" if found.choice.looks else "looks not heard"
    new = np.array([lead.sku not in taught for lead in told])
    if new.sum() < LEAST_NEW:
        return found.choice, [f"{note}, {heard}; the weights before were fitted on nearly all of these products."]
    after, before = found.after[new].mean(), found.before[new].mean()
    of = "" if new.all() else f" of {new.sum()} of products that were not learned from before {after:.1%},"
    if after <= before:
        return manifest.choice, [f"{note};{of} {before:.1%} before: it stays as it was."]
    return found.choice, [f"{note}, {heard};{of} {before:.1%} before."]


def replay_of(folder: Path, manifest: Manifest, verdicts: Sequence[Verdict]) -> Replayed:
    """The verdicts through the bundle under this manifest, which is written into it."""
    write_manifest(folder, manifest)
    return replay(folder, verdicts, settings=EVERYTHING)


def _appraised(manifest: Manifest, found: Replayed) -> Appraisal:
    """What a bundle under this manifest says of verdicts, its evidence weighed on them."""
    p, accepted = found.p_qualified, int(found.accepted.sum())
    both = 0 < accepted < len(p)
    if len(p) >= WEIGHED and both and len(set(found.skus)) >= FOLDS:
        weighing, p = found.fit(data=f"{len(p)} verdicts of {manifest.id}")
        manifest = manifest.model_copy(update={"weighing": weighing})
    return Appraisal(manifest, p, auc(p, found.accepted) if both else 0.0, found.rows)


def _as_before(base: Bundle, manifest: Manifest) -> Manifest:
    """The base's manifest under the id and with the choice of `manifest`."""
    training = {"base": {"id": base.name, "roles": sorted(manifest.roles), "training": base.manifest.training}}
    return base.manifest.model_copy(
        update={"id": manifest.id, "choice": manifest.choice, "training": training, "metrics": {}}
    )


def _gain(
    trained: Appraisal, kept: Appraisal, validation: Sequence[Verdict], verdicts: Sequence[Verdict]
) -> Difference:
    """AUC of the trained sequence model and of the one kept on the verdicts that both have, paired over products.

    Args:
        validation: those that `trained` has appraised.
        verdicts: those that `kept` has appraised.
    """
    place = {id(verdict): at for at, verdict in enumerate(validation)}
    p = np.full((2, len(validation)), np.nan)
    p[0, trained.rows] = trained.p
    for row, value in zip(kept.rows, kept.p, strict=True):
        if (at := place.get(id(verdicts[row]))) is not None:
            p[1, at] = value
    both = ~np.isnan(p).any(axis=0)
    asked = [verdict for verdict, there in zip(validation, both, strict=True) if there]
    good = np.array([verdict.accepted for verdict in asked], bool)
    resample = Resample(len(asked), [verdict.sku for verdict in asked])
    return resample.paired(*(auc_statistic(one[both], good) for one in p))


def _put_back(base: Bundle, folder: Path) -> None:
    """The base's files in place of those that were made; the manifest is still to be written."""
    shutil.rmtree(folder)
    shutil.copytree(base.folder, folder, ignore=shutil.ignore_patterns(MANIFEST, "*.md"))


def _threshold(base: Bundle, before: Floats, p: Floats, data: str, withheld: float | None) -> Threshold:
    """The threshold under which as many of `p` lie as were asked for, or as of `before`, what the base says, lie under
    the base's."""
    share, said = withheld, "as asked"
    if share is None:
        below = before < base.thresholds["qualified"]
        share, said = (float(below.mean()) if len(below) else 0.0), f"as {base.name} does"
    value = min(1.0, threshold_for_withheld(p, share))
    return Threshold(value=round(value, 6), data=f"withholds {share:.1%} of {data}, {said}")


@dataclass(frozen=True, slots=True, eq=False)
class Appraisal:
    """A manifest, and what the bundle under it says of the validation verdicts."""

    manifest: Manifest
    p: Floats
    """(n,) p_qualified; where the evidence is weighed, by weights fitted on other products."""
    quality: float
    """AUC, accepted against rejected; 0 where it cannot be said."""
    rows: npt.NDArray[np.int64]
    """(n,) places of these among the verdicts that were appraised."""


def _same_images(base: Bundle, manifest: Manifest) -> bool:
    """Whether what stage 1 knows of an image is the base's."""
    roles = ("tokens", "rules", "p_primary")
    one, two = ([m.graphs[m.roles[role]].sha256 for role in roles] for m in (manifest, base.manifest))
    return one == two


def carried_naming(base: Bundle, manifest: Manifest, changes: RuleChanges) -> Naming | None:
    """The base's naming, while the image graphs that it was fitted with are there."""
    naming = base.manifest.naming
    if naming is None or not _same_images(base, manifest):
        return None
    rules = {changes.renamed.get(rule, rule): usual for rule, usual in naming.rules.items()}
    return naming.model_copy(update={"rules": rules, "data": f"{naming.data}; with the sequence model of {base.name}"})


def carried_stacking(base: Bundle, folder: Path, manifest: Manifest) -> Manifest | None:
    """The manifest with the base's stacking, whose graph is copied to `folder`; None where it has none that fits."""
    stacking = base.manifest.stacking
    if stacking is None or not _same_images(base, manifest):
        return None
    graph = base.manifest.graphs[stacking.graph]
    if stacking.graph not in manifest.graphs:
        shutil.copyfile(base.folder / graph.file, folder / graph.file)
    said = stacking.model_copy(update={"data": f"{stacking.data}; with the sequence model of {base.name}"})
    return manifest.model_copy(update={"graphs": {**manifest.graphs, stacking.graph: graph}, "stacking": said})
