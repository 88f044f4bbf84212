"""Short trainings for the tests of the loop: a line, and that of `training_script`, here or in a process to stop."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from agpis.loop import Optim, Part, fit
from tests.conftest import ROOT
from tests.training_script import COUNT, Small, problem

LINEAR = Optim(steps=200, batch=16, lr=0.05, bf16=False, weight_decay=0.0)
SMALL = {"batch": 16, "lr": 0.02, "steps": 40, "evaluate": 8}
"""Ten and a half epochs of `training_script`, saved every eighth step."""


def regression() -> tuple[nn.Linear, Callable[[Part], dict[str, Tensor]]]:
    torch.manual_seed(0)
    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    y = x @ torch.tensor([1.0, -2.0, 0.5, 3.0]) + 0.25
    model = nn.Linear(4, 1)

    def loss(part: Part) -> dict[str, Tensor]:
        rows = torch.from_numpy(part.index)
        return {"total": F.mse_loss(model(x[rows])[:, 0], y[rows]) * part.share}

    return model, loss


def small(folder: Path | None = None, dropout: float = 0.0, **options: Any) -> tuple[Small, list[dict[str, float]]]:
    """The script's training in this process."""
    model, task = problem(dropout)
    rows = fit(
        model, task.loss(model), COUNT, Optim(**{**SMALL, **options}), seed=3, name="small", load=task.load,
        validate=lambda: task.figure(model), folder=folder, progress=False,
    )  # fmt: skip
    return model, rows


def assert_same(model: nn.Module, other: nn.Module | dict[str, Tensor], **tolerance: float) -> None:
    weights = other.state_dict() if isinstance(other, nn.Module) else other
    torch.testing.assert_close(dict(model.state_dict()), dict(weights), **(tolerance or {"rtol": 0, "atol": 0}))


def _script(options: dict[str, Any]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.training_script", json.dumps(options)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip


def stop_at(options: dict[str, Any], step: int, number: signal.Signals) -> int:
    """Runs the script and sends it a signal in the middle of a step; its exit status."""
    with _script({"sleep": 0.1, **options}) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() == f"step {step}":
                process.send_signal(number)
                break
        process.stdout.read()
        return process.wait(60)
