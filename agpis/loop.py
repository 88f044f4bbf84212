"""THE training loop of every model.

The numbers of a run are a function of seed, samples and options: the order of the samples and the random numbers of a
step (dropout) are drawn from (seed, step), so that a run that was killed goes on exactly, and several processes or
micro-batches share out the very batch that one process would take at once.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from agpis.errors import TrainingError
from agpis.interrupts import interruptible
from agpis.parts import Part as Part
from agpis.parts import Parts, batches
from agpis.processes import number_of_main, processes, share_weights, sum_gradients, sum_over_processes
from agpis.training_log import TrainingLog
from agpis.training_state import StateFolder, TrainingState, on_cpu

ROWS = 20  # of the table of losses that a run returns
SAVE_SECONDS = 5 * 60  # between states on disk, where no validation comes first
SAVE_STEPS = 500
DEAF_SECONDS = 5.0  # after a Ctrl-C; a later one stops without saving

Loss = Callable[[Any], dict[str, Tensor]]


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
    average: float = 0.0
    """Decay of the moving average of the weights, which is what is validated and kept; 0: the weights themselves."""
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
        if self.lr <= 0 or self.clip <= 0 or self.weight_decay < 0 or not 0 <= self.warmup <= 1:
            raise TrainingError(
                "bad_config",
                f"lr {self.lr}, clip {self.clip}, weight_decay {self.weight_decay}, warmup {self.warmup}: lr and clip "
                "must be more than 0, weight_decay at least 0, warmup from 0 to 1.",
            )
        if not 0 <= self.average < 1:
            raise TrainingError("bad_config", f"average is {self.average}; it is a decay, from 0 to below 1.")
        if self.accumulate < 1 or self.evaluate < 0 or self.patience < 0:
            raise TrainingError(
                "bad_config",
                f"accumulate {self.accumulate}, evaluate {self.evaluate}, patience {self.patience}: accumulate must be "
                "at least 1, the others at least 0.",
            )

    def total(self, count: int) -> int:
        """Optimiser steps of a run over `count` samples."""
        return self.steps or max(1, round(self.epochs * count / self.batch))

    def rate(self, step: int, steps: int) -> float:
        """Learning rate of step 0, 1, ... of a run of `steps`."""
        warm = max(1, round(self.warmup * steps))
        if step < warm:
            return self.lr * (step + 1) / warm
        return self.lr * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm))))

    def interval(self, count: int) -> int:
        """Steps between validations."""
        return self.evaluate or max(1, round(count / self.batch))


@dataclass(frozen=True, slots=True, kw_only=True)
class BackboneTraining:
    """What the trainings of a model on a backbone share."""

    optim: Optim
    """Loop."""
    freeze: bool = True
    """Leave the backbone as it is and cache its tokens, once for all; False trains it too."""
    tower_rate: float = 0.1
    """Learning rate of a trained backbone, as a part of the rest's."""
    dropout: float = 0.1
    """In training: in encoder and decoder, or before the outputs of a head or baseline."""
    workers: int = 2
    """Processes that decode pictures, where no tokens are cached."""
    seed: int = 0
    """Of initial weights, order and dropout."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.dropout < 1.0:
            raise TrainingError("bad_config", f"dropout is {self.dropout}; allowed is 0 to below 1.")
        if min(self.tower_rate, self.workers, self.seed) < 0:
            raise TrainingError(
                "bad_config",
                f"tower_rate {self.tower_rate}, workers {self.workers}, seed {self.seed}: all must be at least 0.",
            )


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
    question: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> list[dict[str, float]]:
    """THE training loop: AdamW, warm-up and cosine, clipping; seeded shuffling without replacement.

    The model is trained on accelerate's device, all processes starting from the main one's weights, and comes back
    to where it was. Torch's random state is left as it was.

    Args:
        loss: a batch -> named CONTRIBUTIONS to the step's losses, which are summed over the parts of the step; a plain
            mean over the part is multiplied by `part.share`. "total" is minimised, the others are only shown. The same
            names every time.
        count: number of samples.
        optim: how.
        seed: of the order and of the random numbers inside of the model; 0 or more.
        name: shown.
        load: makes the batch of a part; without it the part itself is the batch. Whatever it draws must come from
            `part.step` and `part.index`. Tensors in dicts, tuples and lists are moved to the device.
        workers: DataLoader processes that run `load` ahead of the loop; 0: in this process.
        slower: modules with a factor on the learning rate (0 freezes).
        validate: gives a figure where higher is better (NaN is not); runs in the main process only, on a model in
            evaluation mode without gradients. The best weights are restored at the end.
        folder: keeps the state, from which the same call goes on after it was killed, and TensorBoard's logs. All
            processes must see it. Ctrl-C saves at the end of the step.
        question: whatever besides the arguments makes it another run (model config, hash of the samples), as JSON.
        progress: show it on standard error.

    Returns:
        One row of mean losses for about every twentieth part of the run; "validation", where there was one since the
        last row.

    Raises:
        TrainingError: `diverged` when loss or gradient is not finite (the last good state stays), `other_run` and
            `bad_checkpoint` from the folder's state, `bad_config` when the batch is too small to be shared out.
        KeyboardInterrupt: after the state was saved.
    """
    team = processes()
    parts = Parts(count, optim.batch, seed, optim.accumulate, team.num_processes, team.process_index, load)
    least = optim.accumulate * team.num_processes
    if count < 1 or optim.batch < least:
        raise TrainingError(
            "bad_config",
            f"{name}: {count} samples, batch {optim.batch}, {optim.accumulate} micro-batches on {team.num_processes} "
            f"processes: there must be samples, and a batch of at least {least}.",
        )
    home = next(model.parameters()).device
    model.to(team.device)
    share_weights(model)
    rates = {id(p): factor for module, factor in slower for p in module.parameters()}
    optimizer = _optimizer(model, optim, rates)
    store = None
    if folder is not None:
        whole = {
            "name": name,
            "seed": seed,
            "count": count,
            "optim": asdict(optim),
            "shapes": {key: list(value.shape) for key, value in model.state_dict().items()},
            "rates": {key: rates[id(p)] for key, p in model.named_parameters() if id(p) in rates},
            "question": dict(question or {}),
        }
        store = StateFolder(folder / "state", whole)
    try:
        state, best, average = store.read(model, optimizer) if store else (TrainingState(), {}, {})
        if state.step != number_of_main(state.step, team.device):
            raise TrainingError("other_run", f"{folder} is not one folder to all processes; choose a shared one.")
        if not state.finished:
            run = _Run(
                model,
                loss,
                optim,
                optimizer,
                seed,
                name,
                optim.total(count),
                optim.interval(count),
                state,
                best,
                {key: value.to(team.device) for key, value in average.items()},
            )
            with torch.random.fork_rng([team.device] if team.device.type == "cuda" else []):
                run.train(parts, workers, validate, folder, store, progress)
        team.wait_for_everyone()
    finally:
        optimizer.zero_grad(set_to_none=True)
        model.eval()
        model.to(home)
    return state.rows


@dataclass(slots=True)
class _Run:
    """The part of a run that is left."""

    model: nn.Module
    loss: Loss
    optim: Optim
    optimizer: torch.optim.Optimizer
    seed: int
    name: str
    steps: int
    interval: int
    state: TrainingState
    best: dict[str, Tensor]
    averaged: dict[str, Tensor]
    names: tuple[str, ...] = ()
    readings: "deque[_Reading]" = field(default_factory=deque)

    def train(
        self,
        parts: Parts,
        workers: int,
        validate: Callable[[], float] | None,
        folder: Path | None,
        store: StateFolder | None,
        progress: bool,
    ) -> None:
        """All steps that are left, then the best weights."""
        state, team = self.state, processes()
        each = parts.accumulate
        made = batches(parts, state.step * each, self.steps * each, workers, team.device)
        saved_at, saved_step = time.monotonic(), state.step
        logs = folder / "logs" if folder is not None and team.is_main_process else None
        log = TrainingLog(self.name, self.steps, state.step, logs, progress=progress and team.is_main_process)
        with log, interruptible(DEAF_SECONDS) if store else nullcontext(threading.Event()) as stopped:
            while state.step < self.steps and not self._ends():
                self._step(parts, made, log)
                validated = validate is not None and self._due(self.interval)
                if validate is not None and validated:
                    self._settle(log)
                    self._validate(validate, log)
                if self._due(max(1, self.steps // ROWS)) or self._ends():
                    self._settle(log)
                    self._row(log)
                old = time.monotonic() - saved_at > SAVE_SECONDS or state.step - saved_step >= SAVE_STEPS
                if store is not None and (validated or old or stopped.is_set()):
                    self._settle(log)
                    self._save(store, log)
                    saved_at, saved_step = time.monotonic(), state.step
                if stopped.is_set():
                    raise KeyboardInterrupt
            if self.best:
                self.model.load_state_dict(self.best)
            else:
                self._swap()
            share_weights(self.model)
            state.finished = True
            if store is not None:
                self._save(store, log)

    def _ends(self) -> bool:
        return 0 < self.optim.patience <= self.state.misses

    def _due(self, interval: int) -> bool:
        return self.state.step % interval == 0 or self.state.step == self.steps

    def _step(self, parts: Parts, made: Iterator[Any], log: TrainingLog) -> None:
        step, device = self.state.step, processes().device
        rate = self.optim.rate(step, self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        bf16 = self.optim.bf16 and (device.type == "cpu" or (device.type == "cuda" and torch.cuda.is_bf16_supported()))
        sums: Tensor | None = None
        for micro in range(parts.accumulate):
            batch = next(made)
            _reseed(self.seed, step, micro, parts.rank)
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                found = self.loss(batch)
            self.names = self.names or tuple(found)
            if set(found) != set(self.names) or "total" not in found:
                raise TrainingError(
                    "bad_config",
                    f"{self.name}: the losses of step {step} are {sorted(found)}; they must be the same at every step "
                    f"(first {sorted(self.names)}) and hold 'total'.",
                )
            found["total"].backward()  # type: ignore[no-untyped-call]  # torch has no types here
            values = torch.stack([found[key].detach().float() for key in self.names])
            sums = values if sums is None else sums + values
        assert sums is not None
        trained = [p for group in self.optimizer.param_groups for p in group["params"]]
        sum_gradients(trained)
        norm = nn.utils.clip_grad_norm_(trained, self.optim.clip)
        self.readings.append(_Reading(step, torch.cat([sum_over_processes(sums), norm.detach().float()[None]])))
        self._settle(log, behind=int(device.type == "cuda"))
        self.optimizer.step()
        self.state.step += 1
        if self.optim.average:
            self._average()

    def _average(self) -> None:
        """Takes the step's weights into their moving average (Polyak's), over the last steps alone at the start."""
        trained = {key: p.detach() for key, p in self.model.named_parameters() if p.requires_grad}
        if not self.averaged:
            self.averaged = {key: torch.zeros_like(p) for key, p in trained.items()}
        step = self.state.step
        share = 1.0 if step == 1 else max(1.0 - self.optim.average, 9.0 / (9.0 + step))
        torch._foreach_lerp_(list(self.averaged.values()), [trained[key] for key in self.averaged], share)

    def _swap(self) -> None:
        """Exchanges the weights and their average, where there is one."""
        with torch.no_grad():
            own = dict(self.model.named_parameters())
            for key, value in self.averaged.items():
                kept = own[key].detach().clone()
                own[key].copy_(value)
                value.copy_(kept)

    def _settle(self, log: TrainingLog, behind: int = 0) -> None:
        """Takes in the numbers of all steps but the last `behind`."""
        while len(self.readings) > behind:
            reading = self.readings.popleft()
            *values, norm = reading.values()
            losses = dict(zip(self.names, values, strict=True))
            for what, value in (("loss", losses["total"]), ("norm of the gradient", norm)):
                if not math.isfinite(value):
                    raise TrainingError(
                        "diverged", f"{self.name}: the {what} is {value} at step {reading.step}; lower lr."
                    )
            for key, value in losses.items():
                self.state.sums[key] = self.state.sums.get(key, 0.0) + value
            self.state.seen += 1
            log.step(reading.step + 1, losses, norm, self.optim.rate(reading.step, self.steps))

    def _validate(self, validate: Callable[[], float], log: TrainingLog) -> None:
        state, team, start = self.state, processes(), time.monotonic()
        self.model.eval()
        self._swap()
        with torch.no_grad():
            figure = number_of_main(float(validate()) if team.is_main_process else 0.0, team.device)
        if math.isfinite(figure):
            state.validation = figure
        if figure > (-math.inf if state.best is None else state.best):
            state.best, state.best_step, state.misses = figure, state.step, 0
            self.best = on_cpu(self.model.state_dict()) if team.is_main_process else {}
        else:
            state.misses += 1
        self._swap()
        log.validation(state.step, figure)
        log.pause(time.monotonic() - start)

    def _row(self, log: TrainingLog) -> None:
        state = self.state
        row = {"step": float(state.step), **{key: value / state.seen for key, value in state.sums.items()}}
        if state.validation is not None:
            row["validation"] = state.validation
        log.row(row, state.seen * self.optim.batch)
        state.rows.append(row)
        state.sums, state.seen, state.validation = {}, 0, None

    def _save(self, store: StateFolder, log: TrainingLog) -> None:
        if processes().is_main_process:
            start = time.monotonic()
            store.write(self.state, self.model, self.optimizer, self.best, self.averaged)
            log.flush()
            log.pause(time.monotonic() - start)


class _Reading:
    """Numbers (n,) of a step on their way from the device; they do not make the host wait before they are read."""

    def __init__(self, step: int, numbers: Tensor) -> None:
        self.step = step
        self._host = numbers.to("cpu", non_blocking=True)
        self._arrived = torch.cuda.Event() if numbers.is_cuda else None  # type: ignore[no-untyped-call]  # nor here
        if self._arrived is not None:
            self._arrived.record()

    def values(self) -> list[float]:
        if self._arrived is not None:
            self._arrived.synchronize()
        return [float(value) for value in self._host.tolist()]


def _optimizer(model: nn.Module, optim: Optim, rates: Mapping[int, float]) -> torch.optim.Optimizer:
    """AdamW over what is trained; the rest is frozen. `rates`: id of a parameter -> factor on the learning rate."""
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        factor = rates.get(id(parameter), 1.0)
        parameter.requires_grad_(factor > 0)
        if factor > 0:
            groups.setdefault((factor, parameter.ndim > 1), []).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": p, "lr": 0.0, "factor": factor, "weight_decay": optim.weight_decay if decay else 0.0}
            for (factor, decay), p in groups.items()
        ],
        fused=next(model.parameters()).is_cuda or None,
    )


def _reseed(*key: int) -> None:
    """Torch's generators, from the key alone: what dropout draws is then the same after a resume."""
    torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1))
