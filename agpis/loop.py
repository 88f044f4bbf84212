"""THE training loop, and checkpoints without pickle."""

import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from agpis.errors import TrainingError

Batch = Callable[[npt.NDArray[np.int64]], dict[str, Tensor]]


@dataclass(frozen=True, slots=True)
class Optim:
    """How one model is trained."""

    steps: int
    """Optimiser steps."""
    batch: int
    """Samples a step."""
    lr: float
    """Peak learning rate; warm-up is linear, then a cosine to a hundredth."""
    weight_decay: float = 0.02
    """AdamW, on matrices only."""
    warmup: float = 0.06
    """Share of the steps that warm up."""
    clip: float = 1.0
    """Gradient norm."""
    bf16: bool = True
    """Autocast to bfloat16 in the forward pass."""

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 1:
            raise TrainingError("bad_config", f"steps {self.steps} and batch {self.batch} must be at least 1.")


def fit(
    model: nn.Module,
    loss: Batch,
    count: int,
    optim: Optim,
    *,
    seed: int,
    name: str,
    slower: Sequence[tuple[nn.Module, float]] = (),
    progress: bool = True,
) -> list[dict[str, float]]:
    """THE training loop: AdamW, warm-up and cosine, clipping; seeded shuffling without replacement.

    Args:
        loss: indices (batch,) -> named losses; "total" is minimised, the others are only shown.
        count: number of samples.
        slower: modules with a factor on the learning rate (0 freezes).

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
    warm = max(1, round(optim.warmup * optim.steps))
    order = np.zeros(0, dtype=np.int64)
    rows: list[dict[str, float]] = []
    sums: dict[str, float] = {}
    every = max(1, optim.steps // 20)
    start, seen = time.monotonic(), 0
    model.train()
    for step in range(optim.steps):
        while len(order) < optim.batch:
            order = np.concatenate([order, rng.permutation(count)])
        index, order = order[: optim.batch], order[optim.batch :]
        share = (step - warm) / max(1, optim.steps - warm)
        scale = (step + 1) / warm if step < warm else 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share))
        for group in optimizer.param_groups:
            group["lr"] = optim.lr * scale * group["factor"]
        with torch.autocast("cpu", torch.bfloat16, enabled=optim.bf16):
            found = loss(index)
        total = found["total"]
        if not bool(torch.isfinite(total)):
            raise TrainingError("diverged", f"{name}: the loss is {float(total.detach())} at step {step}; lower lr.")
        optimizer.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(trained, optim.clip)
        optimizer.step()
        for key, value in found.items():
            sums[key] = sums.get(key, 0.0) + float(value.detach())
        seen += 1
        if seen == every or step == optim.steps - 1:
            rows.append({"step": float(step + 1), **{key: value / seen for key, value in sums.items()}})
            rate = (step + 1) * optim.batch / (time.monotonic() - start)
            if progress:
                shown = "  ".join(f"{key} {value:.4f}" for key, value in rows[-1].items() if key != "step")
                print(f"{name} {step + 1}/{optim.steps}  {shown}  {rate:.0f}/s", file=sys.stderr, flush=True)
            sums, seen = {}, 0
    model.eval()
    return rows


def save_checkpoint(folder: Path, model: nn.Module, config: Any) -> None:
    """weights.safetensors and config.json of one model. No pickle: safe to open from strangers."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {key: value.contiguous() for key, value in model.state_dict().items()}
    save_file(state, folder / "weights.safetensors")
    (folder / "config.json").write_text(json.dumps(asdict(config), indent=1) + "\n", encoding="utf-8")


def load_weights(folder: Path, model: nn.Module) -> None:
    """Loads weights.safetensors, strict. Raises TrainingError `bad_checkpoint`, missing and foreign keys listed."""
    path = folder / "weights.safetensors"
    if not path.is_file():
        raise TrainingError("bad_checkpoint", f"no checkpoint at {folder}: {path.name} is missing.")
    found, wanted = load_file(path), model.state_dict()
    missing, foreign = sorted(set(wanted) - set(found)), sorted(set(found) - set(wanted))
    shapes = [k for k in wanted if k in found and wanted[k].shape != found[k].shape]
    if missing or foreign or shapes:
        raise TrainingError(
            "bad_checkpoint",
            f"{path} does not fit the model: missing {missing}, foreign {foreign}, other shape {shapes}. "
            "Load it with the config.json beside it.",
        )
    model.load_state_dict(found)
