"""The state of a training: killed and going on, refused, damaged; ending badly or early; what is shown meanwhile."""

from __future__ import annotations

import io
import json
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn

from agpis.errors import OutputError, TrainingError
from agpis.loop import Optim, fit
from agpis.training_log import TrainingLog
from tests.small_trainings import LINEAR, SMALL, assert_same, regression, small, stop_at
from tests.training_script import COUNT, problem

pytestmark = pytest.mark.usefixtures("one_thread")
"""So that sums have the same order as in the script."""


# going on


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_a_killed_run_goes_on_exactly(tmp_path: Path, average: float) -> None:
    """Killed five steps after its third state, then finished here: the very same numbers.

    With dropout, running statistics, bfloat16, tied weights, decoding workers.
    """
    folder = tmp_path / "run"
    optim = {**SMALL, "average": average}
    options = {"out": "", "folder": str(folder), "optim": optim, "dropout": 0.3, "workers": 1}
    assert stop_at(options, 29, signal.SIGKILL) == -signal.SIGKILL
    assert json.loads((folder / "state" / "state.json").read_text())["state"]["step"] == 24
    model, rows = small(folder, dropout=0.3, average=average)
    undisturbed, expected = small(dropout=0.3, average=average)
    assert rows == expected
    assert len(rows) == 20
    assert_same(model, undisturbed)


def test_ctrl_c_saves_the_step_in_hand(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    options = {"out": "", "folder": str(folder), "optim": SMALL, "dropout": 0.3, "workers": 1}
    assert stop_at(options, 11, signal.SIGINT) == 130
    found = json.loads((folder / "state" / "state.json").read_text())["state"]["step"]
    assert found in (12, 13)  # the step may just have ended
    model, rows = small(folder, dropout=0.3)
    undisturbed, expected = small(dropout=0.3)
    assert rows == expected
    assert_same(model, undisturbed)


def test_the_state_is_safe_to_open_and_small_when_finished(tmp_path: Path) -> None:
    model, rows = small(tmp_path)
    assert sorted(path.name for path in (tmp_path / "state").iterdir()) == ["finished.safetensors", "state.json"]
    stored = load_file(tmp_path / "state" / "finished.safetensors")
    assert_same(model, {key.removeprefix("model/"): value for key, value in stored.items()})

    again, task = problem()
    finished = fit(
        again, lambda batch: pytest.fail("trained again"), COUNT, Optim(**SMALL), seed=3, name="small",
        load=task.load, folder=tmp_path, progress=False,
    )  # fmt: skip
    assert finished == rows
    assert_same(again, model)


def test_the_state_of_another_question_is_refused(tmp_path: Path) -> None:
    model, loss = regression()
    optim, samples = replace(LINEAR, steps=2), {"samples": "abc"}
    fit(model, loss, 64, optim, seed=1, name="x", folder=tmp_path, question=samples, progress=False)

    def refused(model: nn.Module = model, count: int = 64, optim: Optim = optim, **options: Any) -> str:
        with pytest.raises(TrainingError, match="holds the state of another training") as caught:
            fit(
                model,
                loss,
                count,
                optim,
                name="x",
                folder=tmp_path,
                **{"seed": 1, "question": {"samples": "abc"}} | options,
            )
        assert caught.value.code == "other_run"
        return str(caught.value)

    assert "seed is 1 there and 2 here" in refused(seed=2)
    assert "count is 64 there and 63 here" in refused(count=63)
    assert "optim.lr is 0.05 there and 0.1 here" in refused(optim=replace(optim, lr=0.1))
    assert "question.samples is abc there and abd here" in refused(question={"samples": "abd"})
    assert "rates.weight is missing there and 0.5 here" in refused(slower=[(model, 0.5)])
    assert "shapes.weight is [1, 4] there and [1, 5] here" in refused(nn.Linear(5, 1))


def test_a_damaged_state_says_what_to_do(tmp_path: Path) -> None:
    model, loss = regression()
    run = {"optim": replace(LINEAR, steps=2), "seed": 1, "name": "x", "folder": tmp_path, "progress": False}
    fit(model, loss, 64, **run)
    (tmp_path / "state" / "finished.safetensors").write_bytes(b"\x08")
    with pytest.raises(TrainingError, match=r"cannot be gone on from: .* Delete it to start again") as caught:
        fit(model, loss, 64, **run)
    assert caught.value.code == "bad_checkpoint"


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    model, loss = regression()
    (tmp_path / "state").write_text("")
    with pytest.raises(OutputError) as caught:
        fit(model, loss, 64, replace(LINEAR, steps=2), seed=1, name="x", folder=tmp_path, progress=False)
    assert caught.value.code == "not_a_folder"


# ending badly, ending early


def test_divergence_stops() -> None:
    model, _ = regression()
    with pytest.raises(TrainingError, match="bad: the loss is nan at step 0; lower lr") as caught:
        fit(model, lambda part: {"total": model.weight.sum() * float("nan")}, 64, LINEAR, seed=0, name="bad")
    assert caught.value.code == "diverged"
    assert bool(torch.isfinite(model.weight).all())
    with pytest.raises(TrainingError, match="bad: the norm of the gradient is nan at step 0"):
        fit(model, lambda part: {"total": (model.weight * 0).sum().sqrt()}, 64, LINEAR, seed=0, name="bad")


def test_divergence_keeps_the_last_good_state(tmp_path: Path) -> None:
    model, task = problem()
    plain = task.loss(model)

    def bad(batch: Any) -> dict[str, Tensor]:
        found = plain(batch)
        return {**found, "total": found["total"] * (float("nan") if batch[2].step == 20 else 1.0)}

    with pytest.raises(TrainingError, match="the loss is nan at step 20"):
        fit(
            model, bad, COUNT, Optim(**SMALL), seed=3, name="small", load=task.load,
            validate=lambda: task.figure(model), folder=tmp_path, progress=False,
        )  # fmt: skip
    assert json.loads((tmp_path / "state" / "state.json").read_text())["state"]["step"] == 16
    model, rows = small(tmp_path)
    undisturbed, expected = small()
    assert rows == expected
    assert_same(model, undisturbed)


def test_early_stopping_restores_the_best_weights(tmp_path: Path) -> None:
    model, loss = regression()
    figures = iter([0.1, 0.5, float("nan"), 0.4, 0.5, 0.9])
    seen = []

    def validate() -> float:
        assert not model.training
        assert not torch.is_grad_enabled()
        seen.append(model.weight.detach().clone())
        return next(figures)

    optim = replace(LINEAR, evaluate=3, patience=3)
    rows = fit(model, loss, 64, optim, seed=1, name="x", validate=validate, folder=tmp_path, progress=False)
    assert len(seen) == 5
    torch.testing.assert_close(model.weight, seen[1], rtol=0, atol=0)
    assert [row["step"] for row in rows] == [10.0, 15.0]
    assert [row["validation"] for row in rows] == [0.5, 0.5]


# what is shown


def test_progress_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    model, loss = regression()
    fit(model, loss, 64, replace(LINEAR, steps=4), seed=0, name="linear")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4
    assert lines[-1].startswith("linear 4/4  total ")
    assert lines[-1].endswith("/s")


def test_on_a_terminal_there_is_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "120")
    with TrainingLog("linear", 10, 0, None, progress=True) as log:
        log.step(10, {"total": 0.5}, 1.0, 0.1)
        log.row({"step": 10.0, "total": 0.5}, 160)
    assert "10/10" in terminal.getvalue()
    assert "total 0.5000" in terminal.getvalue()


def test_tensorboard_has_every_step_once(tmp_path: Path) -> None:
    """Also of a run that was stopped and went on: the steps after the state are superseded."""
    folder = tmp_path / "run"
    options = {"out": "", "folder": str(folder), "optim": SMALL, "sleep": 0.1}  # a log file is named for its second
    assert stop_at(options, 13, signal.SIGKILL) == -signal.SIGKILL
    _, rows = small(folder)
    events = EventAccumulator(str(folder / "logs"))
    events.Reload()
    tags = {"loss/total", "loss/right", "optimizer/learning_rate", "optimizer/gradient_norm"}
    assert set(events.Tags()["scalars"]) == tags | {"validation", "samples_per_second"}
    assert [event.step for event in events.Scalars("loss/total")] == list(range(1, 41))
    assert [event.step for event in events.Scalars("validation")] == [8, 16, 24, 32, 40]
    means = np.array([event.value for event in events.Scalars("loss/total")]).reshape(20, 2).mean(1)
    np.testing.assert_allclose(means, [row["total"] for row in rows], rtol=1e-5)
