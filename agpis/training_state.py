"""The state of a training on disk, from which a killed run goes on exactly. Safetensors and JSON, no pickle.

state.json                 `TrainingState`, the question, and the names of the two others; replaced last, at once
step-N.safetensors         model/..., exp_avg/..., exp_avg_sq/..., step/... of AdamW, and average/... of the weights
best-N.safetensors         model/... of the best validation so far
"""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from agpis.errors import OutputError, TrainingError, output_error

FORMAT_VERSION = 1
MOMENTS = ("step", "exp_avg", "exp_avg_sq")


@dataclass(slots=True)
class TrainingState:
    """Everything that the loop knows besides weights and moments."""

    step: int = 0
    """Finished optimiser steps."""
    rows: list[dict[str, float]] = field(default_factory=list)
    """See `agpis.loop.fit`."""
    sums: dict[str, float] = field(default_factory=dict)
    """Losses since the last row, summed ..."""
    seen: int = 0
    """... over this many steps."""
    best: float | None = None
    """Best figure so far ..."""
    best_step: int = 0
    """... after so many steps."""
    misses: int = 0
    """Validations since then."""
    validation: float | None = None
    """Figure since the last row."""
    finished: bool = False
    """The weights are the result."""


class StateFolder:
    """Reads and writes the state of one question.

    Args:
        question: all that makes it another run; JSON values by name. The value of "shapes" is a dict by tensor.
    """

    def __init__(self, folder: Path, question: Mapping[str, Any]) -> None:
        self._folder = folder
        self._question = json.loads(json.dumps(question))
        self._best_step = 0  # of the best weights on disk

    def read(
        self, model: nn.Module, optimizer: torch.optim.Optimizer
    ) -> tuple[TrainingState, dict[str, Tensor], dict[str, Tensor]]:
        """The state, put into model and optimiser, the best weights and the average of the weights ({} where there
        are none); new where none is.

        Raises:
            TrainingError: `other_run` when it belongs to another question, `bad_checkpoint` when it is damaged.
        """
        path = self._folder / "state.json"
        if not path.is_file():
            return TrainingState(), {}, {}
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            version, question, names = found["format"], found["question"], found["files"]
            if version != FORMAT_VERSION:
                raise TrainingError("bad_checkpoint", f"{path} has format {version!r}; this one is {FORMAT_VERSION}.")
            self._compare(question)
            state = TrainingState(**found["state"])
            tensors = load_file(self._folder / names["step"])
            best = load_file(self._folder / names["best"]) if names["best"] else {}
            model.load_state_dict(_part(tensors, "model"))
            if not state.finished:
                _load_moments(model, optimizer, tensors)
        except (ValueError, KeyError, TypeError, OSError, RuntimeError, SafetensorError) as error:
            raise TrainingError(
                "bad_checkpoint", f"{self._folder} cannot be gone on from: {error}. Delete it to start again."
            ) from error
        self._best_step = state.best_step if best else 0
        return state, _part(best, "model"), _part(tensors, "average")

    def write(
        self,
        state: TrainingState,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        best: Mapping[str, Tensor],
        average: Mapping[str, Tensor],
    ) -> None:
        """Puts the state in the place of the last one, which stays whole until the new one is.

        Raises:
            OutputError: the folder cannot be written.
        """
        names = {"step": f"step-{state.step}.safetensors", "best": ""}
        tensors = {f"model/{key}": value for key, value in model.state_dict().items()}
        if state.finished:  # no moments: nobody goes on from here
            names["step"] = "finished.safetensors"
        else:
            tensors |= _moments(model, optimizer) | {f"average/{key}": value for key, value in average.items()}
            if best:
                names["best"] = f"best-{state.best_step}.safetensors"
        text = json.dumps(
            {"format": FORMAT_VERSION, "state": asdict(state), "question": self._question, "files": names}, indent=1
        )
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._put(names["step"], lambda path: save_file(on_cpu(tensors), path))
            if names["best"] and state.best_step != self._best_step:
                self._put(names["best"], lambda path: save_file({f"model/{key}": v for key, v in best.items()}, path))
                self._best_step = state.best_step
            self._put("state.json", lambda path: path.write_text(text + "\n", encoding="utf-8"))
            for path in self._folder.iterdir():
                if path.name not in {*names.values(), "state.json"}:
                    path.unlink()
        except OSError as error:
            raise output_error(error, self._folder) from error
        except SafetensorError as error:
            raise OutputError("write_failed", f"Cannot write {self._folder}: {error}. Choose another place.") from error

    def _put(self, name: str, write: Callable[[Path], object]) -> None:
        scratch = self._folder / f"{name}.new"
        write(scratch)
        with scratch.open("rb+") as file:
            os.fsync(file.fileno())
        scratch.replace(self._folder / name)

    def _compare(self, found: Mapping[str, Any]) -> None:
        differing = _differences(found, self._question)
        if differing:
            raise TrainingError(
                "other_run",
                f"{self._folder} holds the state of another training: {'; '.join(differing[:8])}. Repeat the first "
                "command to go on with it, or choose another folder.",
            )


def on_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies that share no memory, in the default memory format."""
    return {key: torch.empty(value.shape, dtype=value.dtype).copy_(value.detach()) for key, value in tensors.items()}


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key[len(prefix) + 1 :]: value for key, value in tensors.items() if key.startswith(f"{prefix}/")}


def _moments(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        f"{key}/{name}": optimizer.state[parameter][key]
        for name, parameter in model.named_parameters()
        if parameter in optimizer.state
        for key in MOMENTS
    }


def _load_moments(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    names = {parameter: name for name, parameter in model.named_parameters()}
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state = {}
    for position, parameter in enumerate(parameters):
        name = names[parameter]
        if f"step/{name}" not in tensors:  # it has had no gradient yet
            continue
        state[position] = (
            {"step": tensors[f"step/{name}"]}
            | {
                key: torch.empty_like(parameter).copy_(tensors[f"{key}/{name}"])  # in the parameter's memory format
                for key in MOMENTS[1:]
            }
        )
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _differences(found: Mapping[str, Any], wanted: Mapping[str, Any], prefix: str = "") -> list[str]:
    differing = []
    for key in sorted({*found, *wanted}):
        old, new = found.get(key, "missing"), wanted.get(key, "missing")
        if isinstance(old, dict) and isinstance(new, dict):
            differing += _differences(old, new, f"{prefix}{key}.")
        elif old != new:
            differing.append(f"{prefix}{key} is {old} there and {new} here")
    return differing
