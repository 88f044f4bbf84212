"""Training of the single-tower baselines (the paper, 4.3), on the same samples, batches and loop as MUIsC."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from agpis.checkpoint import Checkpoint, write_checkpoint
from agpis.dataset import Pixels, SequenceData
from agpis.loop import Optim, fit
from agpis.models.backbones import BackboneConfig, new_backbone
from agpis.models.baselines import Baseline, BaselineConfig, baseline_loss
from agpis.rulebook import Rulebook
from agpis.samples import Labelled
from agpis.train_sequence import (
    Batches,
    Report,
    backbone_source,
    class_probabilities,
    class_weights,
    digest,
    prepared,
    validation_auc,
)


@dataclass(frozen=True, slots=True)
class BaselineTraining:
    """`agpis train baseline`: one tower, no text."""

    optim: Optim = field(default_factory=lambda: Optim(batch=64, lr=1e-3, epochs=6, weight_decay=0.05, patience=3))
    """Loop."""
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    """Image tower."""
    freeze: bool = True
    """Leave the tower as it is and cache its tokens (late fusion only); False trains it too."""
    tower_rate: float = 0.1
    """Learning rate of a trained backbone, as a part of the rest's."""
    fusion: Literal["early", "late"] = "late"
    """Pictures joined before the tower, or features after it."""
    binary: bool = False
    """Qualified or not, instead of the rulebook's classes."""
    hidden: int = 512
    """Width of the MLP."""
    dropout: float = 0.1
    """Before the outputs."""
    class_weights: float = 0.0
    """Exponent of 1 / frequency as the weight of a class in the loss."""
    workers: int = 2
    """Processes that decode pictures, when the tower is trained."""
    seed: int = 0
    """Of initial weights, order and dropout."""


def baseline_logits(model: Baseline) -> Callable[[dict[str, Tensor]], Tensor]:
    """Logits of a batch of `Batches`: of tokens where they are cached, else of pixels."""

    def forward(batch: dict[str, Tensor]) -> Tensor:
        mask = batch["mask"]
        if "tokens" in batch:
            tokens = batch["tokens"].float()  # (b, K, P, D)
            pooled = tokens[:, :, 0] if model.backbone is not None and model.backbone.class_token else tokens.mean(2)
        else:
            pooled = model.pooled(batch["pixels"], mask)
        return model(pooled, mask)  # type: ignore[no-any-return]

    return forward


def baseline_step(
    model: Baseline, weights: Tensor | None = None, bad: set[int] | None = None
) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    """Loss of the loop."""
    forward = baseline_logits(model)

    def loss(batch: dict[str, Tensor]) -> dict[str, Tensor]:
        if bad is not None:
            bad.update(int(row) for row in batch["bad"])
        if not len(batch["labels"]):
            return {"total": model.out.weight.sum() * 0.0}
        mean = baseline_loss(forward(batch).float(), batch["labels"], binary=model.config.binary, weights=weights)
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
    begin = time.monotonic()
    torch.manual_seed(training.seed)
    data = prepared(samples, rulebook, rulebook.k)
    total, early = len(data), training.fusion == "early"
    if training.freeze and not early:
        source = backbone_source(training.backbone, data, cache or out / "cache", freeze=True, progress=progress)
        assert source.cached is not None
        assert source.backbone is not None
        backbone, pixels, tokens, bad_images = source.backbone, None, source.cached.tokens, source.cached.bad
        data = data.kept(source.cached.ok)
    else:
        backbone, tokens, bad_images = new_backbone(training.backbone), None, ()
        pixels = Pixels(data.images, backbone.size)
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
    train, validation = data.where("train"), data.where("validation")
    weights = class_weights(train.labels, len(rulebook.classes), training.class_weights)

    def batches(part: SequenceData) -> Batches:
        nothing: list[list[int]] = [[] for _ in range(len(part))]
        return Batches(part, [[0]] * len(part), nothing, 0, tokens=tokens, pixels=pixels, weights=weights)

    unread: set[int] = set()
    logits = baseline_logits(model)
    held = batches(validation) if len(validation) else None

    def validate() -> float:
        assert held is not None
        probabilities, rows = class_probabilities(logits, model, held)
        return validation_auc(probabilities, held.labels[rows])

    log = fit(
        model,
        baseline_step(model, torch.from_numpy(weights) if weights is not None else None, unread),
        len(train),
        training.optim,
        seed=training.seed,
        name="baseline",
        load=batches(train),
        workers=0 if tokens is not None else training.workers,
        slower=[(backbone, 0.0 if training.freeze else training.tower_rate)],
        validate=validate if held else None,
        folder=out,
        question={"model": asdict(config), "training": asdict(training), "samples": digest(train)},
        progress=progress,
    )
    model.cpu()
    figures = {"auc": validate(), "samples": float(len(validation))} if held else {}
    if pixels is not None:
        bad_images = tuple(pixels.bad(row) for row in sorted(unread))
    left_out = total - len(data) if pixels is None else int(np.isin(data.index, list(unread)).any(1).sum())
    report = Report(
        samples={"train": len(train), "validation": len(validation)},
        bad_images=bad_images,
        left_out=left_out,
        figures=figures,
        seconds=time.monotonic() - begin,
        notes=() if held else ("There is no validation split: the last weights are kept.",),
    )
    checkpoint = Checkpoint(
        kind="baseline",
        model=asdict(config),
        backbone=asdict(backbone.config),
        rulebook_yaml=rulebook.text(),
        training={
            "command": "agpis train baseline",
            "config": asdict(training),
            "sources": list(sources),
            "samples": report.samples,
            "left_out": report.left_out,
            "losses": log[-1] if log else {},
            "torch": torch.__version__,
        },
        metrics={"validation": figures} if figures else {},
    )
    write_checkpoint(out, checkpoint, model)
    return report
