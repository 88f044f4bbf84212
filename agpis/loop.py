"""THE training loop of every model."""

import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from agpis.errors import TrainingError

Index = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Optim:
    """How one model is trained."""

    batch: int
    """Samples an optimiser step."""
    lr: float
    """Peak learning rate; warm-up is linear, then a cosine to a hundredth."""
    steps: int = 0
    """Optimiser steps; give these or `epochs`."""
    epochs: float = 0.0
    """Passes over the samples; give these or `steps`."""
    weight_decay: float = 0.02
    """AdamW, on matrices only."""
    warmup: float = 0.06
    """Share of the steps that warm up."""
    clip: float = 1.0
    """Gradient norm."""
    bf16: bool = True
    """Autocast to bfloat16 in the forward pass, where the device has it."""
    accumulate: int = 1
    """Micro-batches a step, each of batch / accumulate / processes samples."""
    evaluate: int = 0
    """Steps between validations; 0: once an epoch."""
    patience: int = 0
    """Validations without a better figure before stopping; 0: never stop early."""

    def __post_init__(self) -> None:
        if self.batch < 1 or self.steps < 0 or self.epochs < 0 or (self.steps > 0) == (self.epochs > 0):
            raise TrainingError(
                "bad_config",
                f"batch {self.batch}, steps {self.steps}, epochs {self.epochs}: batch must be at least 1, and exactly "
                "one of steps and epochs more than 0.",
            )
        if self.accumulate < 1 or self.evaluate < 0 or self.patience < 0:
            raise TrainingError(
                "bad_config",
                f"accumulate {self.accumulate}, evaluate {self.evaluate}, patience {self.patience}: accumulate must be "
                "at least 1, the others at least 0.",
            )

    def total(self, count: int) -> int:
        """Optimiser steps of a run over `count` samples."""
        return self.steps or max(1, round(self.epochs * count / self.batch))

    def interval(self, count: int) -> int:
        """Steps between validations."""
        return self.evaluate or max(1, round(count / self.batch))


@dataclass(frozen=True, slots=True)
class Part:
    """The samples of one process and micro-batch."""

    index: Index
    """(b,) these samples."""
    whole: Index
    """(batch,) all samples of the optimiser step, over all processes and micro-batches."""
    step: int
    """Optimiser step, from 0."""

    @property
    def share(self) -> float:
        """This part's share of the step."""
        return len(self.index) / len(self.whole)


Loss = Callable[[Any], dict[str, Tensor]]


def fit(
    model: nn.Module,
    loss: Loss,
    count: int,
    optim: Optim,
    *,
    seed: int,
    name: str,
    load: Callable[[Part], Any] | None = None,
    workers: int = 0,
    slower: Sequence[tuple[nn.Module, float]] = (),
    validate: Callable[[], float] | None = None,
    folder: Path | None = None,
    progress: bool = True,
) -> list[dict[str, float]]:
    """THE training loop: AdamW, warm-up and cosine, clipping; seeded shuffling without replacement.

    Args:
        loss: a batch -> named CONTRIBUTIONS to the step's losses, which are summed over the parts of the step; a plain
            mean over the part is multiplied by `part.share`. "total" is minimised, the others are only shown.
        count: number of samples.
        load: makes the batch of a part; without it the part itself is the batch.
        slower: modules with a factor on the learning rate (0 freezes).
        validate: gives a figure where higher is better; the best weights are restored at the end.

    Returns:
        One row of mean losses for about every twentieth part of the run.

    Raises:
        TrainingError: `diverged` when the loss is not finite.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    rates = {id(p): factor for module, factor in slower for p in module.parameters()}
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        factor = rates.get(id(parameter), 1.0)
        parameter.requires_grad_(factor > 0)
        if factor > 0:
            groups.setdefault((factor, parameter.ndim > 1), []).append(parameter)
    optimizer = torch.optim.AdamW(
        [
            {"params": p, "lr": 0.0, "factor": factor, "weight_decay": optim.weight_decay if decay else 0.0}
            for (factor, decay), p in groups.items()
        ]
    )
    trained = [p for group in groups.values() for p in group]
    steps = optim.total(count)
    warm = max(1, round(optim.warmup * steps))
    order = np.zeros(0, dtype=np.int64)
    rows: list[dict[str, float]] = []
    sums: dict[str, float] = {}
    every = max(1, steps // 20)
    start, seen = time.monotonic(), 0
    model.train()
    for step in range(steps):
        while len(order) < optim.batch:
            order = np.concatenate([order, rng.permutation(count)])
        index, order = order[: optim.batch], order[optim.batch :]
        share = (step - warm) / max(1, steps - warm)
        scale = (step + 1) / warm if step < warm else 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share))
        for group in optimizer.param_groups:
            group["lr"] = optim.lr * scale * group["factor"]
        optimizer.zero_grad(set_to_none=True)
        for piece in np.array_split(index, optim.accumulate):
            part = Part(piece, index, step)
            with torch.autocast("cpu", torch.bfloat16, enabled=optim.bf16):
                found = loss(load(part) if load else part)
            total = found["total"]
            if not bool(torch.isfinite(total)):
                raise TrainingError(
                    "diverged", f"{name}: the loss is {float(total.detach())} at step {step}; lower lr."
                )
            total.backward()  # type: ignore[no-untyped-call]
            for key, value in found.items():
                sums[key] = sums.get(key, 0.0) + float(value.detach())
        nn.utils.clip_grad_norm_(trained, optim.clip)
        optimizer.step()
        seen += 1
        if seen == every or step == steps - 1:
            rows.append({"step": float(step + 1), **{key: value / seen for key, value in sums.items()}})
            rate = (step + 1) * optim.batch / (time.monotonic() - start)
            if progress:
                shown = "  ".join(f"{key} {value:.4f}" for key, value in rows[-1].items() if key != "step")
                print(f"{name} {step + 1}/{steps}  {shown}  {rate:.0f}/s", file=sys.stderr, flush=True)
            sums, seen = {}, 0
    model.eval()
    return rows
