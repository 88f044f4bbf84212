"""The training loop: what it learns, and that its numbers do not depend on workers, micro-batches, processes."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import DataLoader

from agpis.errors import ImageError, TrainingError
from agpis.loop import Optim, Part, fit
from agpis.parts import Parts
from tests.conftest import ROOT
from tests.small_trainings import LINEAR, SMALL, assert_same, regression, small
from tests.training_script import COUNT, problem

pytestmark = pytest.mark.usefixtures("one_thread")
"""So that sums have the same order as in the script."""

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


# what it learns


def test_the_loop_finds_a_linear_function_and_is_seeded() -> None:
    model, loss = regression()
    history = fit(model, loss, 64, LINEAR, seed=1, name="linear", progress=False)
    assert history[-1]["total"] < 1e-4 < history[0]["total"]
    assert [row["step"] for row in history] == [float(step) for step in range(10, 201, 10)]
    assert model.weight[0].tolist() == pytest.approx([1.0, -2.0, 0.5, 3.0], abs=0.02)
    assert not model.training
    again, loss = regression()
    assert fit(again, loss, 64, LINEAR, seed=1, name="linear", progress=False) == history
    other, loss = regression()
    assert fit(other, loss, 64, LINEAR, seed=2, name="linear", progress=False) != history


def test_torchs_random_state_is_left_alone() -> None:
    model, loss = regression()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    fit(model, loss, 64, replace(LINEAR, steps=3), seed=1, name="linear", progress=False)
    torch.testing.assert_close(torch.rand(3), expected, rtol=0, atol=0)


def test_the_average_of_the_weights_is_validated_and_kept() -> None:
    model, loss = regression()
    weights, seen = [], []

    def watched(part: Part) -> dict[str, Tensor]:
        if part.step:
            weights.append(model.weight.detach().clone())
        return loss(part)

    def validate() -> float:
        seen.append(model.weight.detach().clone())
        return float(len(seen))

    optim = replace(LINEAR, steps=30, average=0.8, evaluate=10)
    fit(model, watched, 64, optim, seed=1, name="x", validate=validate, progress=False)
    plain, loss = regression()
    fit(plain, loss, 64, replace(optim, average=0.0), seed=1, name="x", progress=False)
    expected = weights[0]  # after the first step
    for step, weight in enumerate([*weights[1:], plain.weight.detach()], 2):
        expected = expected + (weight - expected) * max(0.2, 9 / (9 + step))
    torch.testing.assert_close(model.weight.detach(), expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(seen[-1], expected, rtol=0, atol=1e-6)
    assert not torch.equal(plain.weight, model.weight)


def test_without_validation_the_average_is_the_result() -> None:
    model, loss = regression()
    optim = replace(LINEAR, steps=30, average=0.8)
    fit(model, loss, 64, optim, seed=1, name="x", progress=False)
    other, loss = regression()
    fit(other, loss, 64, optim, seed=1, name="x", validate=lambda: 0.5, progress=False)
    assert other.weight.tolist() != model.weight.tolist()  # the first validation was the best
    other, loss = regression()
    fit(other, loss, 64, replace(optim, evaluate=30), seed=1, name="x", validate=lambda: 0.5, progress=False)
    torch.testing.assert_close(other.weight, model.weight, rtol=0, atol=0)


def test_frozen_parts_do_not_move() -> None:
    model, loss = regression()
    before = model.weight.clone()
    both = nn.ModuleDict({"frozen": model, "free": nn.Linear(1, 1)})

    def with_free(part: Part) -> dict[str, Tensor]:
        return {"total": loss(part)["total"] + both["free"](torch.ones(1, 1)).pow(2).sum()}

    fit(both, with_free, 64, replace(LINEAR, steps=5), seed=0, name="x", slower=[(model, 0.0)], progress=False)
    torch.testing.assert_close(model.weight, before)
    assert float(both["free"](torch.ones(1, 1)).abs().detach()) < 2.0


def test_rate_warms_up_and_falls_to_a_hundredth() -> None:
    optim = Optim(steps=100, batch=1, lr=2.0, warmup=0.1)
    rates = [optim.rate(step, 100) for step in range(101)]
    assert rates[0] == pytest.approx(0.2)
    assert max(rates) == rates[9] == rates[10] == 2.0
    assert rates[55] == pytest.approx(1.01)
    assert rates[100] == pytest.approx(0.02)


def test_weight_decay_is_on_matrices_only() -> None:
    model = nn.Linear(2, 2)
    nn.init.ones_(model.weight)
    nn.init.ones_(model.bias)
    optim = Optim(steps=1, batch=1, lr=0.5, warmup=0.0, weight_decay=0.1, bf16=False)

    def zero(part: Part) -> dict[str, Tensor]:
        return {"total": 0.0 * (model.weight.sum() + model.bias.sum())}

    fit(model, zero, 1, optim, seed=0, name="x", progress=False)
    torch.testing.assert_close(model.weight.detach(), torch.full((2, 2), 0.95))
    torch.testing.assert_close(model.bias.detach(), torch.ones(2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch": 8, "lr": 1.0}, "batch 8, steps 0, epochs 0.0: .* exactly one of steps and epochs"),
        ({"batch": 8, "lr": 1.0, "steps": 2, "epochs": 1.0}, "steps 2, epochs 1.0: .* exactly one"),
        ({"batch": 0, "lr": 1.0, "steps": 2}, "batch 0"),
        ({"batch": 1, "lr": 0.0, "steps": 2}, "lr 0.0, .*must be more than 0"),
        ({"batch": 1, "lr": 1.0, "steps": 2, "accumulate": 0}, "accumulate 0"),
    ],
)
def test_options_that_cannot_be_meant(options: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError, match=message) as caught:
        Optim(**options)
    assert caught.value.code == "bad_config"


def test_runs_that_cannot_be_meant() -> None:
    model, loss = regression()
    with pytest.raises(TrainingError, match="0 samples, batch 16"):
        fit(model, loss, 0, LINEAR, seed=0, name="x")
    with pytest.raises(TrainingError, match=r"2 micro-batches on 1 processes: .* a batch of at least 2"):
        fit(model, loss, 64, replace(LINEAR, batch=1, accumulate=2), seed=0, name="x")
    names = iter(["total", "other"])
    with pytest.raises(TrainingError, match=r"losses of step 1 are \['other'\]; .*first \['total'\]"):
        fit(model, lambda part: {next(names): loss(part)["total"]}, 64, LINEAR, seed=0, name="x", progress=False)


def test_epochs_are_passes_over_the_samples() -> None:
    optim = Optim(batch=16, lr=1.0, epochs=2.5)
    assert (optim.total(64), optim.interval(64)) == (10, 4)
    assert Optim(batch=64, lr=1.0, epochs=1.0).total(3) == 1


# the samples of a step


@pytest.mark.parametrize(("count", "batch"), [(20, 6), (7, 7), (4, 11)])
def test_every_epoch_takes_every_sample_once(count: int, batch: int) -> None:
    parts = Parts(count, batch, seed=1)
    drawn = np.concatenate([parts.part(step).index for step in range(count)])
    assert len(drawn) == count * batch
    for epoch in drawn.reshape(batch, count):
        assert sorted(epoch) == list(range(count))
    assert not np.array_equal(drawn[:count], drawn[count : 2 * count])


def test_processes_and_micro_batches_share_out_the_same_batch() -> None:
    alone = Parts(50, 13, seed=2)
    shared = [Parts(50, 13, 2, accumulate=2, processes=3, rank=rank) for rank in range(3)]
    for step in range(9):
        whole = alone.part(step).index
        parts = [each.part(2 * step + micro) for each in shared for micro in range(2)]
        assert sorted(np.concatenate([part.index for part in parts])) == sorted(whole)
        assert sum(part.share for part in parts) == pytest.approx(1.0)
        assert {part.step for part in parts} == {step}
        assert all(np.array_equal(part.whole, whole) for part in parts)


def test_micro_batches_give_what_one_batch_gives() -> None:
    model, rows = small(bf16=False)
    split, split_rows = small(bf16=False, accumulate=2)
    assert_same(split, model, rtol=1e-5, atol=1e-5)
    for one, two in zip(rows, split_rows, strict=True):
        assert one == pytest.approx(two, abs=1e-5)


def test_several_processes_give_what_one_gives(tmp_path: Path) -> None:
    """Two real processes, each with half of every batch, through torchrun and gloo."""
    optim = {**SMALL, "bf16": False}
    options = {"out": str(tmp_path / "out"), "folder": str(tmp_path / "run"), "optim": {**optim, "accumulate": 2}}
    done = subprocess.run(
        [*TORCHRUN, "-m", "tests.training_script", json.dumps(options)],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("small 40/40") == 1  # only the main process writes
    model, rows = small(bf16=False)
    for rank in (0, 1):
        assert_same(model, load_file(tmp_path / f"out.{rank}"), rtol=1e-5, atol=1e-5)
        told = json.loads((tmp_path / "out.json").read_text())
        assert told["processes"] == 2
        for one, two in zip(rows, told["rows"], strict=True):
            assert one == pytest.approx(two, abs=1e-5)


# loading


def test_workers_load_what_the_loop_would() -> None:
    model, rows = small()
    other, task = problem()
    again = fit(
        other, task.loss(other), COUNT, Optim(**SMALL), seed=3, name="small", load=task.load, workers=2,
        validate=lambda: task.figure(other), progress=False,
    )  # fmt: skip
    assert again == rows
    assert_same(other, model)


def test_there_are_no_more_workers_than_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch warns of them, and a container has often one core."""
    monkeypatch.setattr("agpis.parts._cores", lambda: 1)
    made: list[int] = []
    whole = DataLoader.__init__

    def counting(self: DataLoader[Any], *args: Any, **named: Any) -> None:
        made.append(named["num_workers"])
        whole(self, *args, **named)

    monkeypatch.setattr(DataLoader, "__init__", counting)
    model, task = problem()
    fit(model, task.loss(model), COUNT, Optim(**SMALL), seed=3, name="small", load=task.load, workers=2, progress=False)
    assert made == [1]


def test_workers_may_use_opencv_after_this_process_has() -> None:
    """A forked process has no threads, but OpenCV believes that its pool is there, and waits for it."""
    model, _ = regression()
    picture = np.random.default_rng(0).integers(0, 256, (2000, 2000, 3), dtype=np.uint8)
    cv2.setNumThreads(4)
    for _ in range(20):
        cv2.GaussianBlur(picture, (31, 31), 5)

    def load(part: Part) -> Tensor:
        blurred = cv2.GaussianBlur(cv2.resize(picture, (800, 800)), (5, 5), 1)
        return torch.from_numpy(blurred[:16, :4, 0] / np.float32(255))

    optim = replace(LINEAR, steps=6)
    fit(model, lambda x: {"total": model(x).square().mean()}, 64, optim, seed=0, name="x", load=load, workers=2)
    assert cv2.getNumThreads() == 4
    cv2.setNumThreads(-1)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_while_loading_keeps_its_code(workers: int) -> None:
    model, loss = regression()

    def load(part: Part) -> Part:
        if part.step == 2:
            raise ImageError("truncated", "a.jpg ends early")
        return part

    with pytest.raises(ImageError, match=r"a\.jpg ends early") as caught:
        fit(model, loss, 64, LINEAR, seed=0, name="x", load=load, workers=workers, progress=False)
    assert caught.value.code == "truncated"
