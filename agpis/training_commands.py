"""The commands of one's own reviews: samples, simulate, train, export, evaluate. Each calls one public function."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from agpis.errors import MissingExtra, SettingsError

if TYPE_CHECKING:
    from agpis.train import Training

Verdicts = Annotated[list[Path], typer.Argument(help="Files of verdicts, .jsonl or .parquet.")]
Rules = Annotated[
    str | None, typer.Option("--rulebook", help="default, amazon, google, walmart, ebay, or your own YAML.")
]
Preset = Annotated[
    Literal["starter", "paper"],
    typer.Option("--preset", help="starter: small, for a laptop; paper: ViT-B/16 trained as a whole, for a GPU."),
]
Days = Annotated[int | None, typer.Option("--days", help="Only verdicts of the last so many days.")]
Until = Annotated[str | None, typer.Option("--until", help="Only verdicts before this date, such as 2026-06-30.")]


def samples(
    verdicts: Verdicts,
    rulebook: Rules = None,
    days: Days = None,
    until: Until = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what a file of verdicts holds: counts and shares by scope and rule, splits, lines that are none."""
    from agpis.rulebook import load_rulebook
    from agpis.samples import labelled, report, window
    from agpis.verdicts import BadSample, read_verdicts

    rules = load_rulebook(rulebook or "default")
    bad: list[BadSample] = []
    read = window([v for path in verdicts for v in read_verdicts(path)], until=until, days=days)
    found = report(labelled(read, rules, bad=bad), rules, bad)
    print(json.dumps(found.row(), ensure_ascii=False) if as_json else found)


def simulate(
    source: Annotated[str, typer.Argument(help="Approved listings: a catalogue of any format that generate takes.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for samples.jsonl and images.")],
    count: Annotated[int, typer.Option("--count", help="Number of samples.")] = 1000,
    rulebook: Rules = None,
    shares: Annotated[
        str, typer.Option("--shares", help="Of qualified, single, pair and multi; the paper's when left out.")
    ] = "0.71,0.12,0.07,0.10",
    language: Annotated[Literal["en", "zh", "both"], typer.Option("--language", help="Of the feedback.")] = "en",
    seed: Annotated[int, typer.Option("--seed")] = 0,
) -> None:
    """Make rule-breaking and qualified samples, with feedback, out of approved listings: a first training set."""
    from agpis.listings import simulate as run

    parts = shares.split(",")
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        numbers = []
    if len(numbers) != 4:
        raise SettingsError("bad_shares", f"--shares is {shares!r}; wanted four numbers: qualified,single,pair,multi.")
    named = dict(zip(("qualified", "single", "pair", "multi"), numbers, strict=True))
    path = run(source, out, count=count, rulebook=rulebook or "default", shares=named, language=language, seed=seed)
    print(f"{count} samples in {path}; agpis samples {path} says what they hold.")


def train(
    kind: Annotated[
        Literal["muisc", "compliance", "primary", "baseline"],
        typer.Argument(
            help="muisc: stage 2, from accepted and rejected sequences with their feedback. compliance: stage 1, from "
            "rejections that name the image, and image labels. primary: stage 1, from accepted and corrected sequences "
            "with their candidates. baseline: a single-tower model of the paper's Table 2."
        ),
    ],
    verdicts: Annotated[list[Path] | None, typer.Argument(help="Files of verdicts, .jsonl or .parquet.")] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Folder of the checkpoint. [default: checkpoints/KIND]")
    ] = None,
    rulebook: Rules = None,
    preset: Preset = "starter",
    config: Annotated[Path | None, typer.Option("--config", help="YAML of settings; --show-config prints one.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="One setting, such as optim.lr=3e-4; may be repeated.")
    ] = None,
    show_config: Annotated[
        bool, typer.Option("--show-config", help="Print every setting with its meaning, and stop.")
    ] = False,
    base: Annotated[
        Path | None,
        typer.Option("--base", help="muisc: bundle whose image graph makes the tokens. [default: the starter]"),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option("--labels", help='compliance: image labels, {"image", "rules": [...]} a line.')
    ] = None,
    cache: Annotated[Path | None, typer.Option("--cache", help="Folder of cached tokens; runs may share it.")] = None,
    days: Days = None,
    until: Until = None,
    test_days: Annotated[
        int | None,
        typer.Option("--test-days", help="Keep the days after --until for testing, instead of a tenth of the skus."),
    ] = None,
) -> None:
    """Train a model on reviewers' verdicts; see docs/reviews.md.

    Run again after an interruption: it goes on where it was.
    """
    need_torch(f"agpis train {kind}")
    from agpis.configs import from_file, from_options, lines
    from agpis.processes import processes
    from agpis.train import Window, config_of
    from agpis.train import train as run

    changes = from_file(config) if config else {}
    training: Training = config_of(kind, preset, {**changes, **from_options(set_ or [])})
    if show_config:
        print("\n".join(lines(training)))
        return
    for name, value, owner in (("--base", base, "muisc"), ("--labels", labels, "compliance")):
        if value is not None and kind != owner:
            raise SettingsError("bad_arguments", f"{name} is for agpis train {owner}; this is agpis train {kind}.")
    if not verdicts:
        raise SettingsError("bad_arguments", "Give at least one file of verdicts.")
    out = out or Path("checkpoints") / kind
    report = run(
        kind,
        verdicts,
        out,
        training=training,
        rulebook=rulebook,
        base=base,
        labels=labels,
        cache=cache,
        when=Window(days, until, test_days),
        say=lambda text: sys.stderr.write(text + "\n"),
    )
    if processes().is_main_process:
        print(report)
        print(f"checkpoint: {out}")


def export(
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of the new bundle.")],
    muisc: Annotated[Path | None, typer.Option("--muisc", help="Checkpoint of the sequence model.")] = None,
    primary: Annotated[Path | None, typer.Option("--primary", help="Checkpoint of the choice of the primary.")] = None,
    compliance: Annotated[
        Path | None, typer.Option("--compliance", help="Checkpoint of the non-compliance model.")
    ] = None,
    base: Annotated[
        str | None, typer.Option("--base", help="Bundle that the rest is taken from. [default: the starter]")
    ] = None,
    name: Annotated[str | None, typer.Option("--id", help="Name of the bundle. [default: the folder's]")] = None,
    threshold: Annotated[
        list[str] | None,
        typer.Option("--threshold", help="qualified=0.4, noncompliant, primary or duplicate; may be repeated."),
    ] = None,
) -> None:
    """Export checkpoints to a bundle, torch and ONNX compared first; roles without a checkpoint stay the base's."""
    need_torch("agpis export")
    from agpis.assemble import assemble
    from agpis.bundle_manifest import UNSET, Threshold

    limits: dict[Any, Threshold] = {}
    for option in threshold or []:
        role, _, value = option.partition("=")
        if role not in UNSET or not _is_share(value):
            raise SettingsError(
                "bad_threshold",
                f"--threshold {option!r}: wanted primary, noncompliant, duplicate or qualified = a number from 0 to 1.",
            )
        limits[role] = Threshold(value=float(value), data="given at export")
    bundle = assemble(
        out,
        bundle_id=name or out.resolve().name,
        primary=primary,
        compliance=compliance,
        muisc=muisc,
        base=base,
        thresholds=limits,
    )
    print(f"bundle {bundle.name}: {out}; use it with --bundle {out}")


def need_torch(purpose: str) -> None:
    """Raises MissingExtra where PyTorch is not installed."""
    if importlib.util.find_spec("torch") is None:
        raise MissingExtra("torch", "train", purpose)


def _is_share(text: str) -> bool:
    try:
        return 0.0 <= float(text) <= 1.0
    except ValueError:
        return False


def evaluate(
    verdicts: Annotated[Path, typer.Argument(help="File of verdicts, .jsonl or .parquet.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for evaluation.json and the plots.")],
    bundle: Annotated[str | None, typer.Option("--bundle", help="Folder of a bundle. [default: the starter]")] = None,
    against: Annotated[str | None, typer.Option("--against", help="Another bundle, compared pair by pair.")] = None,
    split: Annotated[
        Literal["train", "validation", "test"] | None, typer.Option("--split", help="Only this split. [default: all]")
    ] = None,
    precision: Annotated[
        list[float] | None, typer.Option("--precision", help="Give the threshold for this precision; may be repeated.")
    ] = None,
    withheld: Annotated[
        list[float] | None, typer.Option("--withheld", help="Give the threshold that holds this share back.")
    ] = None,
    feedback: Annotated[bool, typer.Option("--feedback/--no-feedback", help="Measure the written feedback.")] = True,
    rounds: Annotated[int, typer.Option("--rounds", help="Bootstrap rounds of the intervals.")] = 1000,
    seed: Annotated[int, typer.Option("--seed")] = 0,
) -> None:
    """Measure a bundle on verdicts: AUC, recall at precision, by scope and rule, with intervals and plots."""
    from rich.console import Console

    from agpis.evaluate import WITHHELD, evaluate_bundle
    from agpis.figures import PRECISIONS

    found = evaluate_bundle(
        bundle,
        verdicts,
        out,
        split=split,
        against=against,
        feedback=feedback,
        precisions=precision or PRECISIONS,
        withheld=withheld or WITHHELD,
        rounds=rounds,
        seed=seed,
    )
    Console().print(found)
    print(f"{out / 'evaluation.json'}, roc.png, precision_recall.png, reliability.png")


def register(app: typer.Typer) -> None:
    """Adds the commands to `agpis`."""
    panel = "Your own reviews (docs/reviews.md)"
    app.command(rich_help_panel=panel)(samples)
    app.command(rich_help_panel=panel)(simulate)
    app.command(rich_help_panel=panel)(train)
    app.command(rich_help_panel=panel)(export)
    app.command(rich_help_panel=panel)(evaluate)
