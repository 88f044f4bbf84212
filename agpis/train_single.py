"""Training of the single-image models (the paper, 3.3.1) from reviewers' verdicts, into checkpoints.

`train_primary` learns which candidate becomes the primary (eq. 1), `train_compliance` which pictures break a single
rule. Both train a head alone on a frozen backbone, whose tokens are made once and cached, or the whole network, with
pictures decoded in the loader's workers. The best weights on the validation split are kept, and the threshold is set
there.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from agpis.errors import TrainingError
from agpis.image_labels import Group, ImageLabel, label_arrays
from agpis.images import Limits
from agpis.loop import Optim
from agpis.metrics import auc, threshold_for_false_alarms, threshold_for_withheld
from agpis.models.heads import HeadConfig, primary_loss
from agpis.rulebook import Rulebook
from agpis.single_run import Batch, Bool, Float32, Int64, Run, SingleReport, SingleTraining, Table, distinct

LEAST = 4
"""Fewest choices of a primary, or pictures of a kind, that a training starts with."""
CHANCE = 0.5
"""The validation figure where no two kinds of pictures could be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrimaryTraining(SingleTraining):
    """`agpis train primary`."""

    optim: Optim = field(default_factory=lambda: Optim(batch=16, lr=1.5e-3, epochs=10, patience=3))
    """Loop; a sample is one choice: the primary of a sequence and all the candidates it was chosen from."""
    lost: float = 0.03
    """Share of the validation products that may lose their best acceptable picture to the threshold."""

    def __post_init__(self) -> None:
        SingleTraining.__post_init__(self)  # slots: the class is made anew, so that super() does not find itself
        _share("lost", self.lost)


@dataclass(frozen=True, slots=True, kw_only=True)
class ComplianceTraining(SingleTraining):
    """`agpis train compliance`."""

    weight_rules: float = 4.0
    """Weight of the rules' loss (mean over rules) beside that of non-compliance."""
    rare: float = 0.5
    """A rule's positives weigh (negatives / positives) to this power, 1 to 8: 0 = as they come, 1 = balanced."""
    prior: float | None = None
    """Share of non-compliant pictures where the model will be used; None leaves that of training."""
    false_alarms: float = 0.03
    """Share of the clean validation pictures that may lie above the threshold."""

    def __post_init__(self) -> None:
        SingleTraining.__post_init__(self)
        _share("false_alarms", self.false_alarms)
        if self.prior is not None and not 0.0 < self.prior < 1.0:
            raise TrainingError("bad_config", f"prior is {self.prior}; it must be between 0 and 1, or None.")
        if self.weight_rules < 0 or not 0.0 <= self.rare <= 1.0:
            raise TrainingError(
                "bad_config",
                f"weight_rules {self.weight_rules}, rare {self.rare}: the weight must be at least 0, rare in 0 to 1.",
            )


def _share(name: str, value: float) -> None:
    if not 0.0 <= value < 1.0:
        raise TrainingError("bad_config", f"{name} is {value}; it is a share, from 0 to below 1.")


def _too_few(found: str, allowed: str) -> TrainingError:
    return TrainingError(
        "too_few_samples", f"found {found} to train on, allowed is {allowed}; give more verdicts, or look at the split."
    )


def _finite(values: dict[str, float]) -> dict[str, float]:
    """Without figures that are no numbers, such as the AUC of one kind; JSON cannot hold them."""
    return {name: float(value) for name, value in values.items() if math.isfinite(value)}


# Primary selection ---------------------------------------------------------------------------------------------------


def train_primary(
    groups: Sequence[Group],
    rulebook: Rulebook,
    training: PrimaryTraining,
    out: Path,
    *,
    cache: Path | None = None,
    limits: Limits = Limits(),
    progress: bool = True,
) -> SingleReport:
    """Trains p^primary by eq. (1), sets its threshold on the validation split, writes a checkpoint to `out`.

    Args:
        groups: of `agpis.image_labels.primary_groups`; those of the test split are not read.
        out: folder of the checkpoint; what a killed run goes on from is kept there too.
        cache: folder for the tokens of a frozen backbone; default `out`/tokens. Runs may share it.
        limits: of a picture.

    Raises:
        TrainingError: `too_few_samples`, `no_readable_image`, `diverged`, and what `new_backbone` raises.
    """
    sides: dict[str, list[Group]] = {
        split: [g for g in groups if g.split == split] for split in ("train", "validation")
    }
    if len(sides["train"]) < LEAST:
        raise _too_few(f"{len(sides['train'])} choices of a primary", f"{LEAST} or more")
    images, rows = distinct(g.images for side in sides.values() for g in side)
    head = HeadConfig("primary", hidden=training.hidden, dropout=training.dropout)
    run = Run(head, training, images, cache or out / "tokens", limits, progress)
    count = len(sides["train"])
    table, left = Table.of(rows[:count], [g.primary for g in sides["train"]]).kept(run.readable)
    if len(left) < LEAST:
        raise _too_few(f"{len(left)} choices whose primary can be read", f"{LEAST} or more")
    checked = Table.of(rows[count:], [g.primary for g in sides["validation"]])
    skus = np.array([g.sku for g in sides["validation"]])

    def loss(batch: Batch, found: dict[str, Tensor]) -> dict[str, Tensor]:
        sizes, logits = table.sizes[batch.part.whole], found["primary"]
        owner = torch.from_numpy(batch.owner).to(logits.device)
        chosen = torch.from_numpy(table.needed[batch.places]).to(logits.device)
        images, products = int(sizes.sum()), max(1, int((sizes > 1).sum()))
        return {"total": primary_loss(logits, owner, chosen, images=images, products=products)}

    def figures() -> tuple[dict[str, float], Float32]:
        """AUC and top-1 on the validation split, and for each of its products the best p of an approved primary."""
        found, ok = run.probabilities(checked.rows)
        now, kept = checked.kept(ok)
        if not len(now):
            return {}, np.zeros(0, np.float32)
        p = found["primary"][now.rows]
        best = np.maximum.reduceat(p, now.start[:-1])
        approved = p[now.needed]
        most: dict[str, float] = {}
        for sku, value in zip(skus[kept], approved, strict=True):
            most[sku] = max(most.get(sku, 0.0), float(value))
        values = _finite({"auc": auc(p, now.needed), "top1": float((approved >= best).mean())})
        return values, np.array(list(most.values()), np.float32)

    validate = (lambda: figures()[0].get("auc", CHANCE)) if len(checked) else None
    log = run.fit(table, loss, validate, out, question={})
    values, best = figures()
    if len(best):
        # The largest number below: a picture is the primary when its p is above the threshold.
        limit = np.nextafter(np.float32(threshold_for_withheld(best, training.lost)), np.float32(0.0))
        entry = {
            "value": float(limit),
            "data": f"{training.lost:.0%} of {len(best)} validation products lose their best picture",
        }
    else:
        run.notes.append("No validation products: the threshold of p_primary is not set on data.")
        entry = {"value": 0.3, "data": "not set on data"}
    counts = {}
    for split, side, all_left in (("train", table, left), ("validation", checked, np.arange(len(checked)))):
        now, chosen = side.kept(run.ok)
        products = len({sides[split][i].sku for i in all_left[chosen]})
        counts[split] = {"products": products, "choices": len(now), "pictures": int(now.sizes.sum())}
    return run.finish(out, rulebook, counts, {"thresholds": {"primary": entry}, **values}, log)


# Non-compliant content -----------------------------------------------------------------------------------------------


def train_compliance(
    labels: Sequence[ImageLabel],
    rulebook: Rulebook,
    training: ComplianceTraining,
    out: Path,
    *,
    cache: Path | None = None,
    limits: Limits = Limits(),
    progress: bool = True,
) -> SingleReport:
    """Trains p^nc and the single rules, sets the threshold on the validation split, writes a checkpoint to `out`.

    Args:
        labels: of `agpis.image_labels`; those of the test split are not read. Only what is known is trained on.
        out, cache, limits: see `train_primary`.

    Raises:
        TrainingError: `too_few_samples` (also where all pictures are clean, or all broken), `no_readable_image`,
            `diverged`, and what `new_backbone` raises.
    """
    sides: dict[str, list[ImageLabel]] = {
        split: [label for label in labels if label.split == split] for split in ("train", "validation")
    }
    every = [*sides["train"], *sides["validation"]]
    targets, count = _Targets(*label_arrays(every, rulebook)), len(sides["train"])
    targets[:count].check()
    images, rows = distinct([label.image] for label in every)
    head = HeadConfig("compliance", rules=len(rulebook.single_rules), hidden=training.hidden, dropout=training.dropout)
    run = Run(head, training, images, cache or out / "tokens", limits, progress)
    table, left = Table.of(rows[:count], [0] * count).kept(run.readable)
    taught, asked = targets[left], targets[count:]
    taught.check()
    pictures = np.array([row for (row,) in rows[count:]], np.int64)  # of the validation samples
    weight = _rare(taught, training.rare)

    def loss(batch: Batch, found: dict[str, Tensor]) -> dict[str, Tensor]:
        here, whole = taught[batch.part.index[batch.owner]], taught[batch.part.whole]
        device = found["noncompliant"].device

        def mean(logits: Tensor, target: Float32, known: Float32, count: float, weight: Tensor | None = None) -> Tensor:
            each = F.binary_cross_entropy_with_logits(
                logits, torch.from_numpy(target).to(device), pos_weight=weight, reduction="none"
            )
            return (each * torch.from_numpy(known).to(device)).sum() / max(1.0, count)

        faulty = mean(found["noncompliant"], here.faulty, here.judged, float(whole.judged.sum()))
        rules = mean(found["rules"], here.rules, here.known, float(whole.known.sum()), weight.to(device))
        return {"total": faulty + training.weight_rules * rules, "noncompliant": faulty, "rules": rules}

    def figures() -> tuple[dict[str, float], dict[str, float], Float32]:
        """On the validation split: AUC of p^nc, of each rule, and p^nc of the clean pictures."""
        found, ok = run.probabilities(pictures)
        seen = np.flatnonzero(ok[pictures])
        if not len(seen):
            return {}, {}, np.zeros(0, np.float32)
        now, p, named = asked[seen], found["noncompliant"][pictures[seen]], found["rules"][pictures[seen]]
        per_rule = {}
        for i, rule in enumerate(rulebook.single_rules):
            known = now.known[:, i] > 0
            per_rule[rule] = auc(named[known, i], now.rules[known, i] > 0)
        whole = auc(p[now.clean | now.broken], now.faulty[now.clean | now.broken])
        return _finite({"auc": whole}), _finite(per_rule), p[now.clean]

    compared = bool(asked.clean.any() and asked.broken.any())
    log = run.fit(
        table,
        loss,
        (lambda: figures()[0].get("auc", CHANCE)) if compared else None,
        out,
        names=("total", "noncompliant", "rules"),
        question={"weight_rules": training.weight_rules, "rare": training.rare, "targets": taught.hash},
    )
    if training.prior is not None:
        with torch.no_grad():
            run.model.head.out.bias[0] += _logit(training.prior) - _logit(taught.share)
    values, per_rule, clean = figures()
    if not compared:
        run.notes.append("The validation pictures are not of both kinds: there is no AUC of p_noncompliant.")
    if len(clean):
        entry = {
            "value": threshold_for_false_alarms(clean, training.false_alarms),
            "data": f"{training.false_alarms:.0%} false alarms on {len(clean)} clean validation pictures",
        }
    else:
        run.notes.append("No clean validation pictures: the threshold of p_noncompliant is not set on data.")
        entry = {"value": 0.5, "data": "not set on data"}
    absent = [rule for i, rule in enumerate(rulebook.single_rules) if not taught.rules[:, i].any()]
    if absent:
        run.notes.append(f"No training picture breaks {', '.join(absent)}: the model cannot name these rules.")
    trained, tested = table.usable(run.ok)[0], run.ok[pictures]
    counts = {"train": taught[trained].counts, "validation": asked[tested].counts}
    return run.finish(out, rulebook, counts, {"thresholds": {"noncompliant": entry}, **values, "rules": per_rule}, log)


@dataclass(frozen=True, slots=True, eq=False)
class _Targets:
    """What is known of n pictures; see `label_arrays`."""

    rules: Float32
    """(n, R) 0 or 1."""
    known: Float32
    """(n, R) 0 where nobody judged."""
    faulty: Float32
    """(n,) 1 where a rule is broken."""
    judged: Float32
    """(n,) 0 where that is not known."""

    def __getitem__(self, rows: Int64 | Bool | slice) -> "_Targets":
        return _Targets(self.rules[rows], self.known[rows], self.faulty[rows], self.judged[rows])

    @property
    def clean(self) -> Bool:
        """(n,) known to break nothing."""
        return np.asarray((self.judged > 0) & (self.faulty == 0))

    @property
    def broken(self) -> Bool:
        """(n,) known to break a rule."""
        return np.asarray((self.judged > 0) & (self.faulty > 0))

    @property
    def share(self) -> float:
        """Of broken pictures among those that are known."""
        return float(self.faulty[self.judged > 0].mean())

    @property
    def counts(self) -> dict[str, int]:
        """Clean and broken pictures."""
        return {"clean": int(self.clean.sum()), "broken": int(self.broken.sum())}

    @property
    def hash(self) -> str:
        """Sha256 of all four."""
        return hashlib.sha256(
            b"".join(a.tobytes() for a in (self.rules, self.known, self.faulty, self.judged))
        ).hexdigest()

    def check(self) -> None:
        """Raises TrainingError `too_few_samples`."""
        if min(self.counts.values()) < LEAST:
            clean, broken = self.counts["clean"], self.counts["broken"]
            raise _too_few(f"{clean} clean and {broken} broken pictures", f"{LEAST} or more of either kind")


def _rare(targets: _Targets, power: float) -> Tensor:
    """(R,) weight of a rule's positives; rare ones count more, but at most 8 times."""
    positives = targets.rules.sum(0)
    negatives = targets.known.sum(0) - positives
    ratio = negatives / np.maximum(positives, 1.0)
    return torch.from_numpy(np.clip(np.maximum(ratio, 1.0) ** power, 1.0, 8.0).astype(np.float32))


def _logit(share: float) -> float:
    return math.log(share / (1.0 - share))
