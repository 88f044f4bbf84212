"""Training of the single-tower baselines (the paper, 4.3), on the same samples, batches and loop as MUIsC."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from agpis.batches import Batches, Logits, class_weights
from agpis.dataset import SequenceData
from agpis.loop import Optim
from agpis.models.backbones import BackboneConfig
from agpis.models.baselines import Baseline, BaselineConfig, baseline_loss
from agpis.rulebook import Rulebook
from agpis.samples import Labelled
from agpis.sequence_run import Report, SequenceRun, SequenceTraining
from agpis.token_source import Source, backbone_source


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineTraining(SequenceTraining):
    """`agpis train baseline`: one tower, no text."""

    optim: Optim = field(default_factory=lambda: Optim(batch=64, lr=1e-3, epochs=6, weight_decay=0.05, patience=3))
    """Loop."""
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    """Image tower."""
    fusion: Literal["early", "late"] = "late"
    """Pictures joined before the tower, where no tokens can be cached, or features after it."""
    binary: bool = False
    """Qualified or not, instead of the rulebook's classes."""
    hidden: int = 512
    """Width of the MLP."""


def baseline_logits(model: Baseline) -> Logits:
    """Logits of a batch of `Batches`: of tokens where they are cached, else of pixels."""

    def forward(batch: dict[str, Tensor]) -> Tensor:
        mask = batch["mask"]
        if "tokens" in batch:
            tokens = batch["tokens"].float()  # (b, K, P, D)
            pooled = tokens[:, :, 0] if model.backbone is not None and model.backbone.class_token else tokens.mean(2)
        else:
            pooled = model.pooled(batch["pixels"], mask)
        logits: Tensor = model(pooled, mask)
        return logits

    return forward


def baseline_step(
    model: Baseline, weights: Tensor | None = None, bad: set[int] | None = None, *, frozen: bool = False
) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    """Loss of the loop; collects the rows of unreadable images in `bad`.

    `frozen` keeps the backbone in evaluation mode, so that its running statistics stay what they are.
    """
    forward = baseline_logits(model)

    def loss(batch: dict[str, Tensor]) -> dict[str, Tensor]:
        if bad is not None:
            bad.update(int(row) for row in batch["bad"])
        if not len(batch["labels"]):
            return {"total": model.out.weight.sum() * 0.0}
        if frozen and model.backbone is not None:
            model.backbone.eval()
        labels = batch["labels"]
        each = weights.to(labels.device) if weights is not None else None
        mean = baseline_loss(forward(batch).float(), labels, binary=model.config.binary, weights=each)
        return {"total": mean * (len(batch["labels"]) / float(batch["samples"]))}

    return loss


def train_baseline(
    samples: Sequence[Labelled],
    rulebook: Rulebook,
    training: BaselineTraining,
    out: Path,
    *,
    cache: Path | None = None,
    sources: Sequence[str] = (),
    progress: bool = True,
) -> Report:
    """Trains a baseline on reviewed sequences and writes a checkpoint to `out`.

    Raises TrainingError as `train_muisc` does.
    """
    late = training.fusion == "late"

    def source_of(data: SequenceData) -> Source:
        frozen = training.freeze and late  # early fusion joins the pictures of each sequence, which no cache holds
        return backbone_source(training.backbone, data, cache or out / "cache", freeze=frozen, progress=progress)

    run = SequenceRun(samples, rulebook, source_of, training, sources)
    backbone = run.source.backbone
    assert backbone is not None
    config = BaselineConfig(
        classes=len(rulebook.classes),
        fusion=training.fusion,
        binary=training.binary,
        k=rulebook.k,
        hidden=training.hidden,
        dropout=training.dropout,
        width=backbone.width,
    )
    model = Baseline(config, backbone)
    weights = class_weights(run.train.labels, len(rulebook.classes), training.class_weights)

    def batches(part: SequenceData) -> Batches:
        nothing: list[list[int]] = [[] for _ in range(len(part))]
        return run.batches(part, [[0]] * len(part), nothing, 0)

    logits = baseline_logits(model)
    held = batches(run.validation) if len(run.validation) else None
    log = run.fit(
        model,
        baseline_step(
            model, torch.from_numpy(weights) if weights is not None else None, run.unread, frozen=training.freeze
        ),
        logits,
        batches(run.train),
        held,
        out,
        name="baseline",
        slower=[(backbone, 0.0 if training.freeze else training.tower_rate)],
        config=asdict(config),
        progress=progress,
    )
    measured = run.measured(model, logits, held)
    fields = {"model": asdict(config), "backbone": asdict(backbone.config)}
    return run.write("baseline", model, fields, {}, measured, log, out)
