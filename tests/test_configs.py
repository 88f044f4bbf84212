"""Settings of the trainings: changed from a file or the command line, shown, and given back."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from agpis.configs import described, from_file, from_options, lines, overridden
from agpis.errors import SettingsError, TrainingError
from agpis.loop import Optim
from agpis.models.backbones import BackboneConfig
from agpis.train import PRESETS, Training, config_of
from agpis.train_sequence import MuiscTraining

EVERY = [(kind, preset) for kind, presets in PRESETS.items() for preset in presets]


@dataclass(frozen=True, slots=True)
class Inner:
    """Of the tests."""

    sizes: tuple[int, ...] = (1, 2)
    """Several."""
    words: str = "a: b # c"
    """With YAML's own signs."""
    undescribed: int = 1


@dataclass(frozen=True, slots=True)
class Outer:
    """Of the tests."""

    inner: Inner
    """Nested."""
    long: str = "word " * 60
    """Longer than
    a line."""
    rate: float = 1e-7
    """Small."""


def refused(config: Any, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message) as caught:
        overridden(config, changes)
    assert caught.value.code == "bad_setting"


# Presets


@pytest.mark.parametrize(("kind", "preset"), EVERY)
def test_every_preset_loads_and_every_field_has_a_sentence(kind: Any, preset: str) -> None:
    config = config_of(kind, preset, {})
    assert config == PRESETS[kind][preset]

    def check(part: Any) -> None:
        sentences = described(part)
        assert list(sentences) == [field.name for field in fields(part)]
        for name, sentence in sentences.items():
            assert len(sentence) > 3, f"{type(part).__name__}.{name}"
            if is_dataclass(getattr(part, name)):
                check(getattr(part, name))

    check(config)


@pytest.mark.parametrize(("kind", "preset"), EVERY)
def test_what_is_shown_can_be_given_back(kind: Any, preset: str, tmp_path: Path) -> None:
    config = PRESETS[kind][preset]
    path = tmp_path / "shown.yaml"
    path.write_text("\n".join(lines(config)), encoding="utf-8")
    for start in PRESETS[kind].values():
        assert config_of(kind, "starter", from_file(path)) == overridden(start, from_file(path)) == config


def test_signs_tuples_and_long_texts_survive(tmp_path: Path) -> None:
    config = Outer(Inner(sizes=(3,), words="- 'x'\n: \"y\" 图"))
    path = tmp_path / "shown.yaml"
    path.write_text("\n".join(lines(config)), encoding="utf-8")
    assert overridden(Outer(Inner()), from_file(path)) == config
    assert described(config)["long"] == "Longer than a line."
    assert described(config.inner)["undescribed"] == ""


def test_config_of_names_the_presets() -> None:
    with pytest.raises(SettingsError, match="muisc has no preset 'large'; allowed are starter, paper") as caught:
        config_of("muisc", "large", {})
    assert caught.value.code == "bad_setting"


# Changes


def test_paths_mappings_and_what_was_none() -> None:
    start = MuiscTraining()
    changes = {"width": 64, "optim.lr": 0.5, "optim": {"batch": 8}, "backbone.name": "tiny"}
    found = overridden(start, changes)
    assert found == replace(
        start, width=64, optim=replace(start.optim, lr=0.5, batch=8), backbone=BackboneConfig("tiny")
    )
    assert overridden(found, {"backbone.size": 96}).backbone == BackboneConfig("tiny", size=96)
    assert overridden(found, {"backbone": None}).backbone is None
    assert overridden(start, {}) == start


def test_later_changes_win_and_nothing_given_is_altered() -> None:
    file: dict[str, Any] = {"optim": {"lr": 0.1, "batch": 4}, "backbone": None}
    both = {**file, "optim.lr": 0.2, "backbone.name": "tiny"}
    found = overridden(MuiscTraining(), both)
    assert (found.optim.lr, found.optim.batch, found.backbone) == (0.2, 4, BackboneConfig("tiny"))
    assert file == {"optim": {"lr": 0.1, "batch": 4}, "backbone": None}


def test_numbers_as_yaml_has_them() -> None:
    found = overridden(MuiscTraining(), {"optim.lr": "3e-4", "prior": "7e-1", "width": 32.0, "compare": "false"})
    assert (found.optim.lr, found.prior, found.width, found.compare) == (3e-4, 0.7, 32, False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"witdh": 3}, "MuiscTraining has no field 'witdh'; allowed are backbone, .*, width, .*workers"),
        ({"optim.rate": 3}, "Optim has no field 'rate'; allowed are accumulate, average, batch"),
        (
            {"width": "wide"},
            r"MuiscTraining.width is 'wide': Input should be a valid integer.* D of encoder",
        ),
        ({"width": 1.5}, "MuiscTraining.width is 1.5: Input should be a valid integer"),
        ({"optim.lr": "nan"}, "Optim.lr is 'nan': it must be a finite number"),
        ({"prior": float("inf")}, "MuiscTraining.prior is inf: it must be a finite number"),
        ({"optim": 3}, "MuiscTraining.optim is 3: Input should be"),
        ({"optim": 3, "optim.lr": 1}, "optim is set as a whole and by optim.lr; give one of the two"),
        ({"width.x": 3}, "MuiscTraining.width is .*: Input should be a valid integer"),
        ({"backbone": {"nam": "tiny"}}, "BackboneConfig has no field 'nam'; allowed are architecture, colours, name"),
    ],
    ids=lambda value: "+".join(map(str, value)) if isinstance(value, dict) else "",
)
def test_changes_that_cannot_be_meant(changes: dict[str, Any], message: str) -> None:
    refused(MuiscTraining(), changes, message)


def test_values_that_do_not_fit_each_other_are_the_configs_own_error() -> None:
    with pytest.raises(TrainingError, match="exactly one of steps and epochs") as caught:
        overridden(MuiscTraining(), {"optim.steps": 5})
    assert caught.value.code == "bad_config"
    assert overridden(MuiscTraining(), {"optim.steps": 5, "optim.epochs": 0}).optim.steps == 5


# Options and files


def test_options() -> None:
    assert from_options([]) == {}
    given = ["optim.lr=3e-4", "compare=false", "decoder=gpt2", "decoder=a=b", "prior=null", "width=64", "pool="]
    assert from_options(given) == {
        "optim.lr": 3e-4, "compare": False, "decoder": "a=b", "prior": None, "width": 64, "pool": None,
    }  # fmt: skip
    assert from_options(["backbone={name: tiny, size: 96}"]) == {"backbone": {"name": "tiny", "size": 96}}
    assert from_options(["decoder=[broken"]) == {"decoder": "[broken"}
    for option in ("width", "=3", ""):
        with pytest.raises(SettingsError, match=re.escape(f"--set {option!r}: wanted NAME=VALUE")) as caught:
            from_options([option])
        assert caught.value.code == "bad_setting"


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("# nothing\n")
    assert from_file(path) == {}
    path.write_text("width: 64\noptim: {lr: 3e-4}\n")
    config: Training = config_of("muisc", "starter", from_file(path))
    assert isinstance(config, MuiscTraining)
    assert (config.width, config.optim.lr) == (64, 3e-4)
    for content, message in (
        (b"- 1\n", "holds a list; wanted names and values"),
        (b"a: [", "cannot be read as YAML"),
        (b"\xff\xfe\xff", "cannot be read as YAML"),
    ):
        path.write_bytes(content)
        with pytest.raises(SettingsError, match=message) as caught:
            from_file(path)
        assert caught.value.code == "bad_setting"
    with pytest.raises(SettingsError, match=r"absent.yaml cannot be read as YAML: .*No such file"):
        from_file(tmp_path / "absent.yaml")


def test_optim_is_shown_as_a_part() -> None:
    shown = list(lines(MuiscTraining(optim=Optim(batch=7, lr=1e-5, steps=3))))
    assert "optim:" in shown
    assert "  batch: 7" in shown
    assert "  lr: 1.0e-05" in shown
    assert shown[shown.index("backbone: null") - 1].startswith("# Image tower; None: the tokens of the base bundle")
