"""The commands of docs/reviews.md in order, and what they say when something is wrong."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner, Result

from agpis.cli import EXIT_CODES, app
from agpis.errors import AgpisError, SettingsError, TrainingError
from agpis.rulebook import load_rulebook
from tests.conftest import ROOT
from tests.drawn_reviews import read_rows, write_rows

pytestmark = pytest.mark.usefixtures("one_thread")

REVIEWS = (ROOT / "docs" / "reviews.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
SMALL = [
    *("--set", "optim.steps=4", "--set", "optim.epochs=0", "--set", "optim.batch=8", "--set", "optim.bf16=false"),
    *("--set", "width=16", "--set", "heads=2", "--set", "decoder_blocks=2", "--set", "vocabulary=320"),
    *("--set", "max_title=8", "--set", "max_feedback=8"),
]
COMMAND = typer.main.get_command(app)


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def agpis(*arguments: object) -> str:
    """Standard output of a command that must succeed."""
    done = call(*arguments)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def fails(kind: type[AgpisError], code: str, message: str, *arguments: object) -> None:
    """The error that `agpis.cli.main` turns into one line and the exit code of its kind."""
    done = call(*arguments)
    assert isinstance(done.exception, kind), done.output
    assert done.exception.code == code
    assert re.search(message, done.exception.message), done.exception.message
    assert next(number for known, number in EXIT_CODES.items() if isinstance(done.exception, known)) > 1


# In order


def test_from_verdicts_to_a_bundle_that_generate_uses(verdicts: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    shown = agpis("samples", verdicts)
    assert "80" in shown
    row = json.loads(agpis("samples", verdicts, "--json"))
    assert row["total"] == 80
    checkpoint, bundle, cache = tmp_path / "muisc", tmp_path / "my-bundle", tmp_path / "cache"
    train = ["train", "muisc", verdicts, "-o", checkpoint, "--base", tiny_bundle, "--cache", cache, *SMALL]
    done = call(*train)
    assert done.exit_code == 0, done.output
    assert f"checkpoint: {checkpoint}" in done.stdout
    assert "48 train, 16 validation samples" in done.stdout
    assert "qualified" in done.stderr  # what the samples hold
    weights = (checkpoint / "weights.safetensors").read_bytes()
    agpis(*train)  # once more: it goes on where it was, at the end
    assert (checkpoint / "weights.safetensors").read_bytes() == weights
    assert {path.suffix for path in cache.iterdir()} >= {".npy", ".json"}
    fails(TrainingError, "other_run", "seed", *train, "--set", "seed=1")

    agpis("export", "--muisc", checkpoint, "--base", tiny_bundle, "-o", bundle, "--threshold", "qualified=0.45")
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert manifest["id"] == "my-bundle"
    assert manifest["thresholds"]["qualified"] == {"value": 0.45, "data": "given at export"}
    assert manifest["qualified"]["data"] == "16 validation samples of verdicts.jsonl"

    out = tmp_path / "evaluation"
    options = ["--split", "test", "--bundle", bundle, "--against", tiny_bundle, "--rounds", 20, "--no-feedback"]
    agpis("evaluate", verdicts, *options, "-o", out)
    assert json.loads((out / "evaluation.json").read_text())
    assert (out / "roc.png").stat().st_size > 1000

    rows = [
        {"sku": row["sku"], "title": row["title"], "images": row["candidates"]}
        for row in read_rows(verdicts)
        if row["accepted"]
    ]
    write_rows(verdicts.parent / "catalog.jsonl", rows[:4])
    done = call("generate", verdicts.parent / "catalog.jsonl", "-o", tmp_path / "out", "--bundle", bundle,
                "--format", "jsonl")  # fmt: skip
    assert done.exit_code == 0, done.output
    decisions = read_rows(tmp_path / "out" / "part-000000.jsonl")
    assert [decision["sku"] for decision in decisions] == [row["sku"] for row in rows[:4]]
    assert {decision["bundle"].split("@")[0] for decision in decisions} == {"my-bundle"}


def test_simulate_then_train_a_baseline_and_stage_1(verdicts: Path, tmp_path: Path) -> None:
    folder = tmp_path / "approved"
    for number in range(8):
        (folder / f"P{number}").mkdir(parents=True)
        for view in ("front", "detail"):
            data = (verdicts.parent / f"{number}-{view}.jpg").read_bytes()
            (folder / f"P{number}" / f"{'12'[view == 'detail']}.jpg").write_bytes(data)
    said = agpis("simulate", folder, "-o", tmp_path / "simulated", "--count", 12, "--shares", "0.5,0.5,0,0")
    assert "12 samples in" in said
    assert len(read_rows(tmp_path / "simulated" / "samples.jsonl")) == 12
    tiny = ["--set", "backbone={name: tiny, pretrained: false, size: 64}", "--set", "optim.bf16=false"]
    tiny += ["--set", "optim.steps=2", "--set", "optim.epochs=0", "--set", "optim.batch=8", "--set", "hidden=8"]
    for kind in ("baseline", "compliance", "primary"):
        agpis("train", kind, verdicts, "-o", tmp_path / kind, *tiny)
        assert json.loads((tmp_path / kind / "config.json").read_text())["kind"] == kind


def test_a_window_of_time(verdicts: Path, tmp_path: Path) -> None:
    rows = [{**row, "time": f"2026-0{1 + i % 6}-15T00:00:00Z"} for i, row in enumerate(read_rows(verdicts))]
    write_rows(verdicts.parent / "timed.jsonl", rows)
    row = json.loads(agpis("samples", verdicts.parent / "timed.jsonl", "--json", "--until", "2026-04-01", "--days", 60))
    assert row["total"] == sum("2026-01-31" < r["time"] < "2026-04-01" for r in rows)


# Settings


@pytest.mark.parametrize("kind", ["muisc", "baseline", "primary", "compliance"])
@pytest.mark.parametrize("preset", ["starter", "paper"])
def test_show_config_prints_what_config_takes(kind: str, preset: str, tmp_path: Path) -> None:
    shown = agpis("train", kind, "--show-config", "--preset", preset)
    settings = yaml.safe_load(shown)
    assert settings["freeze"] is (preset == "starter")
    said = [line.strip() for line in shown.splitlines()]
    assert all(before.startswith("# ") for before, after in pairwise(said) if not after.startswith("#"))
    path = tmp_path / "mine.yaml"
    path.write_text(shown.replace("seed: 0", "seed: 7"))
    again = agpis("train", kind, "--show-config", "--config", path, "--set", "optim.clip=0.5")
    assert yaml.safe_load(again)["seed"] == 7
    assert yaml.safe_load(again)["optim"] == {**settings["optim"], "clip": 0.5}


# What is wrong


def test_errors_are_of_their_kind_and_say_what_to_do(verdicts: Path, tmp_path: Path) -> None:
    train = ["train", "muisc", verdicts, "-o", tmp_path / "out"]
    fails(SettingsError, "bad_setting", "MuiscTraining has no field 'witdh'; allowed are", *train, "--set", "witdh=3")
    fails(SettingsError, "bad_setting", "wanted NAME=VALUE", *train, "--set", "width")
    fails(SettingsError, "bad_setting", "cannot be read as YAML", *train, "--config", tmp_path / "absent.yaml")
    fails(SettingsError, "bad_arguments", "Give at least one file of verdicts", "train", "muisc")
    fails(TrainingError, "bad_config", "freeze is False, but", *train, "--set", "freeze=false")
    fails(SettingsError, "bad_window", "2024-05-31", *train, "--until", "yesterday")
    fails(AgpisError, "samples_not_found", "absent", "samples", tmp_path / "absent.jsonl")
    fails(TrainingError, "bad_checkpoint", "no checkpoint at .*absent: config.json is missing",
          "export", "--muisc", tmp_path / "absent", "-o", tmp_path / "b")  # fmt: skip
    fails(TrainingError, "bad_config", "nothing to export", "export", "-o", tmp_path / "b")
    for option in ("qualified=2", "qualified", "sharp=0.3", "qualified=x"):
        fails(SettingsError, "bad_threshold", "wanted primary, noncompliant, duplicate or qualified = a number",
              "export", "-o", tmp_path / "b", "--threshold", option)  # fmt: skip
    for shares in ("1,2,3", "a,b,c,d", ""):
        fails(SettingsError, "bad_shares", "wanted four numbers: qualified,single,pair,multi",
              "simulate", verdicts.parent, "-o", tmp_path / "s", "--shares", shares)  # fmt: skip
    few = tmp_path / "few.jsonl"
    write_rows(few, [{**row, "base": str(verdicts.parent)} for row in read_rows(verdicts)[:4]])
    fails(TrainingError, "too_few_samples", "found 4 samples", "train", "baseline", few, "-o", tmp_path / "out")
    assert not (tmp_path / "out" / "config.json").exists()
    done = call("train", "muisc", verdicts, "--preset", "large")
    assert done.exit_code == 2
    assert all(word in done.output for word in ("large", "starter", "paper"))


def test_an_exit_code_and_one_line_in_a_process_of_its_own(verdicts: Path, tmp_path: Path) -> None:
    command = ["train", "muisc", str(verdicts), "-o", str(tmp_path / "out"), "--set", "witdh=3"]
    done = subprocess.run([sys.executable, "-m", "agpis", *command], capture_output=True, text=True, timeout=120)
    assert done.returncode == EXIT_CODES[SettingsError]
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("agpis: MuiscTraining has no field 'witdh'; allowed are")
    assert line.endswith("[bad_setting]")


def test_without_torch_the_message_names_the_extra(verdicts: Path, tmp_path: Path) -> None:
    """An interpreter in which torch cannot be found."""
    hide = (
        "import sys\n"
        "class Hidden:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('torch', 'transformers', 'accelerate'):\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Hidden())\n"
        "import importlib.util as u\n"
        "found = u.find_spec\n"
        "u.find_spec = lambda name, package=None: None if name == 'torch' else found(name, package)\n"
        "from agpis.cli import main\n"
        "main()\n"
    )
    for command, purpose in (
        (["train", "muisc", str(verdicts)], "agpis train muisc"),
        (["train", "primary", "--show-config"], "agpis train primary"),
        (["export", "--muisc", "x", "-o", str(tmp_path / "b")], "agpis export"),
    ):
        done = subprocess.run([sys.executable, "-c", hide, *command], capture_output=True, text=True, timeout=120)
        assert done.stderr == (
            f"agpis: {purpose} needs the package `torch`. Install it: pip install 'agpis[train]'  [missing_extra]\n"
        )
        assert done.returncode > 1


# The document


def documented() -> list[list[str]]:
    """Every `agpis ...` of docs/reviews.md and README.md, in fenced blocks and in running text, as words."""
    found = []
    for document in (REVIEWS, README):
        for block in re.findall(r"```\w*\n(.*?)```", document, re.DOTALL):
            found += [line.split("#")[0].strip() for line in block.replace("\\\n", " ").splitlines()]
        found += [" ".join(text.split()) for text in re.findall(r"`(agpis [^`]+)`", document)]
    found = [line.partition(" -m ")[2] if line.startswith("accelerate launch") else line for line in found]
    return [shlex.split(line)[1:] for line in found if line.startswith("agpis ")]


def test_every_command_of_the_document_exists_with_its_options() -> None:
    seen = set()
    for words in documented():
        command: Any = COMMAND
        while hasattr(command, "commands") and not (command.invoke_without_command and words[0].startswith("-")):
            assert words[0] in command.commands, f"agpis {' '.join(words)}"
            command = command.commands[words[0]]
            seen.add(words[0])
            words = words[1:]
        options = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        options |= {"--help", "--version"}
        for word in words:
            if word.startswith("-"):
                assert word.split("=")[0] in options, f"{command.name} {word}"
        if command.name == "train":
            seen.add(words[0])
        for option, value in pairwise(words):
            if option == "--set":
                agpis("train", words[0], "--show-config", "--set", value)
    assert {"samples", "simulate", "train", "muisc", "compliance", "primary", "export", "evaluate", "generate"} <= seen


def test_the_documents_example_is_read(tmp_path: Path) -> None:
    block = re.search(r"```json\n(.*?)```", REVIEWS, re.DOTALL)
    assert block is not None
    text = block[1].replace(",\n ", ", ")  # the second example is one line in the file
    (tmp_path / "verdicts.jsonl").write_text(text)
    row = json.loads(agpis("samples", tmp_path / "verdicts.jsonl", "--json"))
    assert row["total"] == 2
    assert "watermark" in load_rulebook("default").classes
