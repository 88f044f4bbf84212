"""The commands of the loop: verdicts export, import, tasks, annotations; renew. Each calls one public function."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from agpis.errors import SettingsError

if TYPE_CHECKING:
    from agpis.exchange import Imported

Where = Annotated[str, typer.Argument(help="The store: a SQLite file or a database URL.")]
Since = Annotated[
    str | None, typer.Option("--since", help="From this long ago (90d, 12w, 36h) or from this date (2026-06-30).")
]
Until = Annotated[str | None, typer.Option("--until", help="To before this long ago or this date. [default: now]")]
FAILED = 1

verdicts = typer.Typer(
    name="verdicts",
    help="Reviewers' verdicts out of a store and into one: samples to train on, files of other tools.",
    no_args_is_help=True,
)


@verdicts.command("export")
def export_(
    store: Where,
    out: Annotated[Path, typer.Option("-o", "--out", help="File, .jsonl, .parquet or .csv.")],
    since: Since = None,
    until: Until = None,
    every: Annotated[
        bool,
        typer.Option("--every", help="Each verdict as it was given, for another store; not samples to train on."),
    ] = False,
) -> None:
    """Write the samples that `agpis train` reads: one a sequence, corrected sequences as approved ones."""
    from agpis.exchange import export_verdicts, moment
    from agpis.store import open_store

    with open_store(store, make=False) as opened:
        settled = export_verdicts(
            opened, out, since=moment(since) if since else None, until=moment(until) if until else None, every=every
        )
    print(settled)
    print(f"{out}; agpis samples {out} says what it holds.")


@verdicts.command("import")
def import_(
    path: Annotated[Path, typer.Argument(help="File of verdicts, .csv, .jsonl or .parquet.")],
    store: Annotated[str, typer.Option("--store", help="The store: a SQLite file or a database URL.")],
    column: Annotated[
        list[str] | None,
        typer.Option("--column", help="FIELD=COLUMN, where the file's column has another name; may be repeated."),
    ] = None,
    ignore_others: Annotated[
        bool, typer.Option("--ignore-others", help="Pass over columns that are no field of a verdict.")
    ] = False,
    base: Annotated[
        str, typer.Option("--base", help="Folder or URL of relative image addresses. [default: the file's folder]")
    ] = "",
    reviewer: Annotated[str, typer.Option("--reviewer", help="Of rows that name none.")] = "",
    bad: Annotated[
        Path | None, typer.Option("--bad", help="File for rows that are no verdicts. [default: FILE.bad.jsonl]")
    ] = None,
) -> None:
    """Put verdicts that were given elsewhere into a store; again, and nothing is added. Exit code 1 with bad rows."""
    from agpis.exchange import import_verdicts
    from agpis.store import open_store

    columns = dict(_pair(option) for option in column or [])
    with open_store(store) as opened:
        found = import_verdicts(
            path, opened, columns=columns, ignore=ignore_others, base=base, reviewer=reviewer, bad_rows=bad
        )
    _ended(found)


def _pair(option: str) -> tuple[str, str]:
    field, equals, name = option.partition("=")
    if not equals or not field or not name:
        raise SettingsError("bad_columns", f"--column {option!r}: wanted FIELD=COLUMN, such as sku=article.")
    return field, name


def _ended(found: Imported) -> None:
    print(found)
    if found.bad:
        raise typer.Exit(FAILED)


@verdicts.command("tasks")
def tasks_(
    store: Where,
    out: Annotated[Path, typer.Option("-o", "--out", help="File of the tasks, .json; the configuration is beside it.")],
    count: Annotated[int, typer.Option("--count", min=1, help="At most so many tasks.")] = 1000,
    bundle: Annotated[str, typer.Option("--bundle", help="Only decisions of this bundle.")] = "",
    rulebook: Annotated[
        str, typer.Option("--rulebook", help="Name or YAML; its learned rules can be ticked.")
    ] = "default",
    root: Annotated[
        Path | None, typer.Option("--root", help="Folder that Label Studio serves files from; the pictures lie in it.")
    ] = None,
    threshold: Annotated[float, typer.Option("--threshold", help="p_qualified of accepting, for the opinion.")] = 0.3,
    blind: Annotated[bool, typer.Option("--blind", help="Leave out the model's opinion.")] = False,
) -> None:
    """Write open decisions as tasks of Label Studio, and the labelling configuration that fits as OUT.xml."""
    from agpis.exchange import export_tasks
    from agpis.rulebook import load_rulebook
    from agpis.store import open_store

    with open_store(store, make=False) as opened:
        number = export_tasks(
            opened, out, load_rulebook(rulebook),
            count=count, bundle=bundle, root=root, threshold=threshold, blind=blind,
        )  # fmt: skip
    print(f"{number} tasks: {out}; labelling configuration: {out.with_suffix('.xml')}")


@verdicts.command("annotations")
def annotations_(
    path: Annotated[Path, typer.Argument(help="Label Studio's export in its JSON format.")],
    store: Annotated[str, typer.Option("--store", help="The store: a SQLite file or a database URL.")],
    bad: Annotated[
        Path | None, typer.Option("--bad", help="File for tasks that give no verdict. [default: FILE.bad.jsonl]")
    ] = None,
) -> None:
    """Put what was annotated in Label Studio into a store; again, and nothing is added. Exit code 1 with bad tasks."""
    from agpis.exchange import import_annotations
    from agpis.store import open_store

    with open_store(store) as opened:
        found = import_annotations(path, opened, bad_rows=bad)
    _ended(found)


def renew(
    source: Annotated[str, typer.Argument(help="The store (a SQLite file or a database URL), or a file of verdicts.")],
    bundles: Annotated[Path, typer.Option("--bundles", help="Folder of the bundles; its link `current` is renewed.")],
    window: Annotated[str, typer.Option("--window", help="How far back verdicts count: 90d, 12w.")] = "90d",
    until: Annotated[str, typer.Option("--until", help="Verdicts before this date. [default: now]")] = "",
    bundle: Annotated[
        str | None, typer.Option("--bundle", help="To renew while there is no `current`. [default: the starter]")
    ] = None,
    rulebook: Annotated[
        str | None, typer.Option("--rulebook", help="That holds now. [default: the current bundle's]")
    ] = None,
    train: Annotated[
        list[str] | None,
        typer.Option("--train", help="A head of stage 1 to train too, compliance or primary; may be repeated."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting, such as optim.epochs=6 or compliance.optim.epochs=4; may be repeated."),
    ] = None,
    start: Annotated[
        str, typer.Option("--start", help="Checkpoint to train on from. [default: the current bundle's weights]")
    ] = "",
    test_days: Annotated[
        int | None, typer.Option("--test-days", help="Measure on the last so many days, not on a tenth of the skus.")
    ] = None,
    least: Annotated[int, typer.Option("--least", help="Verdicts to train on, under which nothing is done.")] = 100,
    withheld: Annotated[
        float | None,
        typer.Option("--withheld", help="The threshold holds back this share. [default: as the current bundle's]"),
    ] = None,
    promote: Annotated[
        Literal["better", "always", "never"],
        typer.Option("--promote", help="better: at rejected sequences or first images, by the whole interval."),
    ] = "better",
    name: Annotated[str, typer.Option("--name", help="Of the bundles; the day is put behind it.")] = "renewed",
    seed: Annotated[int, typer.Option("--seed")] = 0,
) -> None:
    """Make the next bundle out of the verdicts, compare it with the current one, and promote it where it is better.

    Safe to kill and to run again. Exit codes: 0 promoted, 10 kept, 11 too few verdicts; others as everywhere.
    """
    from agpis.training_commands import need_torch

    need_torch("agpis renew")
    from agpis.configs import from_options
    from agpis.renew import Renewal, heads
    from agpis.renew import renew as run

    wanted = Renewal(
        window=window,
        until=until,
        bundle=bundle,
        rulebook=rulebook,
        train=heads(train or ()),
        changes=from_options(set_ or []),
        start=start,
        test_days=test_days,
        least=least,
        withheld=withheld,
        promote=promote,
        name=name,
        seed=seed,
    )
    found = run(source, bundles, wanted, progress=sys.stderr.isatty(), say=lambda text: sys.stderr.write(text + "\n"))
    print(found)
    if found.exit_code:
        raise typer.Exit(found.exit_code)


def register(app: typer.Typer) -> None:
    """Adds the commands to `agpis`."""
    panel = "Your own reviews (docs/reviews.md)"
    app.add_typer(verdicts, rich_help_panel=panel)
    app.command(rich_help_panel=panel)(renew)
