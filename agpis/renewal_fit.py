"""What a new bundle is fitted with on the validation verdicts: weights of the evidence, threshold, naming, stacking.

These belong to the sequence model's answers, and an export leaves them out (`agpis.assemble`).
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agpis.bundle import Bundle
from agpis.bundle_manifest import Manifest, Naming, Threshold, read_manifest, write_manifest
from agpis.columns import Floats
from agpis.data import Verdict
from agpis.leading import PLAIN, fit_choice, led_rightly
from agpis.metrics import auc, threshold_for_withheld
from agpis.pipeline import Settings
from agpis.replay import leads, replay
from agpis.rule_changes import RuleChanges
from agpis.weighing import FOLDS

WEIGHED = 40
"""Validation verdicts under which the evidence is not weighed and no threshold is moved."""
LED = 600
"""Training verdicts that the choice of the primary is fitted on at most: ten weights need no more."""
LEAST_LED = 20
"""Validation uploads of whose first image something is known, under which the choice stays."""
EVERYTHING = Settings(threshold=0.0)
"""Nothing is held back."""


def fitted(
    base: Bundle,
    folder: Path,
    train: Sequence[Verdict],
    validation: Sequence[Verdict],
    changes: RuleChanges,
    *,
    withheld: float | None = None,
) -> list[str]:
    """Writes all of it into the manifest of the bundle in `folder`; returns sentences on what was done.

    Args:
        base: the bundle that it was made from.
        train: verdicts that the choice of the primary is fitted on; `validation` decides whether it is taken.
        withheld: share that the threshold holds back; None: as much as the base's does.
    """
    plain = read_manifest(folder)
    plain = plain.model_copy(update={"naming": carried_naming(base, plain, changes)})
    plain, notes = _with_choice(folder, plain, train, validation)
    found = [_appraised(folder, plain, validation)]
    if (stacked := carried_stacking(base, folder, plain)) is not None:
        # Trees that were fitted on the answers of another sequence model stay where they still help.
        found.insert(0, _appraised(folder, stacked, validation))
        with_it, without = (f"{one.quality:.3f}" for one in found)
        notes.append(f"Stacking of {base.name}: AUC on the validation verdicts {with_it} with it, {without} without.")
    best = max(found, key=lambda one: one.quality)
    manifest = best.manifest
    if len(best.p) < WEIGHED:
        notes.append(
            f"Evidence is not weighed, and the threshold is not set: {len(best.p)} validation verdicts of what stage 1 "
            f"would submit; wanted are {WEIGHED}."
        )
    else:
        data = f"{len(best.p)} validation verdicts of {manifest.id}"
        limit = _threshold(base, validation, best.p, data, withheld)
        manifest = manifest.model_copy(update={"thresholds": {**manifest.thresholds, "qualified": limit}})
    write_manifest(folder, manifest)
    return notes


def _with_choice(
    folder: Path, manifest: Manifest, train: Sequence[Verdict], validation: Sequence[Verdict]
) -> tuple[Manifest, list[str]]:
    """The manifest with a choice of the primary fitted on reviews, where it is right more often on other products."""
    start = manifest.choice or PLAIN
    write_manifest(folder, manifest.model_copy(update={"choice": start}))
    order = np.random.default_rng(0).permutation(len(train))[:LED]
    told = leads(folder, (train[i] for i in sorted(order)), settings=EVERYTHING)
    checked = leads(folder, validation, settings=EVERYTHING)
    before = led_rightly(checked, start)
    if len(told) < WEIGHED or len(before) < LEAST_LED:
        said = f"{len(told)} uploads to learn from and {len(before)} to check by; wanted are {WEIGHED} and {LEAST_LED}"
        return manifest, [f"The choice of the primary stays: first images are known of {said}."]
    fitted_choice = fit_choice(told, start, f"{len(told)} reviewed uploads, from the weights before: {start.data}")
    after = led_rightly(checked, fitted_choice)
    note = f"Choice of the primary: right in {after.mean():.1%} of {len(after)} validation uploads, {before.mean():.1%}"
    if after.mean() <= before.mean():
        return manifest, [f"{note} before; it stays as it was."]
    return manifest.model_copy(update={"choice": fitted_choice}), [f"{note} before."]


def _appraised(folder: Path, manifest: Manifest, validation: Sequence[Verdict]) -> Appraisal:
    """What the bundle says of the verdicts under this manifest, its evidence weighed on them."""
    write_manifest(folder, manifest)
    found = replay(folder, validation, settings=EVERYTHING)
    p, accepted = found.p_qualified, int(found.accepted.sum())
    both = 0 < accepted < len(p)
    if len(p) >= WEIGHED and both and len(set(found.skus)) >= FOLDS:
        weighing, p = found.fit(data=f"{len(p)} validation verdicts of {manifest.id}")
        manifest = manifest.model_copy(update={"weighing": weighing})
    return Appraisal(manifest, p, auc(p, found.accepted) if both else 0.0)


def _threshold(base: Bundle, validation: Sequence[Verdict], p: Floats, data: str, withheld: float | None) -> Threshold:
    share, said = withheld, "as asked"
    if share is None:
        below = replay(base.folder, validation, settings=EVERYTHING).p_qualified < base.thresholds["qualified"]
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
