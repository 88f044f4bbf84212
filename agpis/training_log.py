"""What a training shows while it runs: TensorBoard logs, and a progress bar or lines on standard error."""

import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from agpis.errors import MissingExtra


class TrainingLog:
    """Context manager. On a terminal a bar, otherwise a line for each row; logs where there is a folder.

    Args:
        done: steps that an earlier run has made; what it logged after them is superseded.
        folder: for TensorBoard's files; None writes none.

    Raises:
        MissingExtra: there is a folder, but TensorBoard is not installed.
    """

    def __init__(self, name: str, steps: int, done: int, folder: Path | None, *, progress: bool) -> None:
        self._name = name
        self._steps = steps
        self._tensorboard = _writer(folder, done)
        self._lines = progress and not sys.stderr.isatty()
        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[shown]}", markup=False),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not (progress and sys.stderr.isatty()),
        )
        self._task = self._bar.add_task(name, total=steps, completed=done, shown="")
        self._since = time.monotonic()
        self._paused = 0.0

    def __enter__(self) -> "TrainingLog":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
        if self._tensorboard is not None:
            self._tensorboard.close()

    def step(self, step: int, losses: dict[str, float], norm: float, lr: float) -> None:
        """One finished step, counted from 1: its losses, the norm of its gradient before clipping, its rate."""
        self._bar.update(self._task, completed=step)
        self._scalars(step, {f"loss/{key}": value for key, value in losses.items()})
        self._scalars(step, {"optimizer/gradient_norm": norm, "optimizer/learning_rate": lr})

    def row(self, row: dict[str, float], samples: int) -> None:
        """Mean losses since the last row, over `samples` samples."""
        step = int(row["step"])
        rate = samples / max(time.monotonic() - self._since - self._paused, 1e-9)
        self._since, self._paused = time.monotonic(), 0.0
        self._scalars(step, {"samples_per_second": rate})
        shown = "  ".join(f"{key} {value:.4f}" for key, value in row.items() if key != "step") + f"  {rate:.0f}/s"
        self._bar.update(self._task, shown=shown)
        if self._lines:
            print(f"{self._name} {step}/{self._steps}  {shown}", file=sys.stderr, flush=True)

    def validation(self, step: int, figure: float) -> None:
        """The figure of the weights after `step` steps."""
        self._scalars(step, {"validation": figure})

    def pause(self, seconds: float) -> None:
        """Time that was not spent on samples."""
        self._paused += seconds

    def flush(self) -> None:
        """Puts the logs on the disk."""
        if self._tensorboard is not None:
            self._tensorboard.flush()

    def _scalars(self, step: int, values: dict[str, float]) -> None:
        if self._tensorboard is not None:
            for key, value in values.items():
                self._tensorboard.add_scalar(key, value, step)


def _writer(folder: Path | None, done: int) -> Any:
    if folder is None:
        return None
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingExtra("tensorboard", "train", "Logging a training") from error
    return SummaryWriter(str(folder), purge_step=done + 1)
