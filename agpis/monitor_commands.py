"""The commands that watch: `agpis monitor` and `agpis abtest`. Each calls one public function and prints.

Exit codes: 0 nothing to report; 7 a limit of `agpis monitor` is crossed; 3 a source is broken or empty, or has nothing
that a limit could be held against; 2, 5 and 6 as everywhere.
"""

from __future__ import annotations

import json
import sys
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from agpis.errors import SettingsError

if TYPE_CHECKING:
    from agpis.abtest import Arm

ALARM = 7
Json = Annotated[str | None, typer.Option("--json", help="Write JSON to this file; - for standard output.")]
Alpha = Annotated[float, typer.Option("--alpha", help="Probability of a false alarm.")]
Looks = Annotated[int, typer.Option("--looks", help="Looks planned at equal distances, the last one included.")]
Split = Annotated[float, typer.Option("--split", help="Share planned for arm b.")]


def monitor(
    sources: Annotated[
        list[str],
        typer.Argument(help="Stores (file or URL), verdicts (.jsonl, .parquet) and output folders of agpis generate."),
    ],
    days: Annotated[int, typer.Option("--days", help="Length of the window, and of the one before it.")] = 7,
    by: Annotated[
        Literal["day", "week", "month"], typer.Option("--by", help="Periods of the lines over time.")
    ] = "week",
    since: Annotated[str | None, typer.Option("--since", help="Leave out what is before this date.")] = None,
    until: Annotated[
        str | None,
        typer.Option(
            "--until",
            help="End of the window, not included. [default: with a limit now, else the day after the newest entry]",
        ),
    ] = None,
    record: Annotated[Path | None, typer.Option("--record", help="File of the bundles' own records.")] = None,
    baseline: Annotated[
        str | None,
        typer.Option("--baseline", help="A source whose decisions are the records, such as an output folder."),
    ] = None,
    write_record: Annotated[
        Path | None,
        typer.Option(
            "--write-record", help="Write each bundle's record to this file: its first days, or all of --baseline."
        ),
    ] = None,
    max_reject_rate: Annotated[float | None, typer.Option("--max-reject-rate", help="Alarm above this share.")] = None,
    max_drift: Annotated[float | None, typer.Option("--max-drift", help="Alarm above this PSI, such as 0.25.")] = None,
    min_coverage: Annotated[
        float | None, typer.Option("--min-coverage", help="Alarm below this share of products with a sequence.")
    ] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write a page with plots to this file.")] = None,
    as_json: Json = None,
) -> None:
    """Watch the reject rate, coverage, drift of the input and rules that rise; exit code 7 where a limit is crossed.

    Limits are held against the interval's bound, so few data raise no alarm. See docs/watching.md.
    """
    from agpis.monitor import Options, records_to_keep, watch
    from agpis.monitor_console import print_watch
    from agpis.tallies import tally
    from agpis.watched import Limits

    options = Options(
        days=days,
        by=by,
        since=_date("--since", since),
        until=_date("--until", until),
        record=record,
        baseline=baseline,
        limits=Limits(max_reject_rate, max_drift, min_coverage),
    )
    tallies = tally(sources, since=options.since)
    if write_record:
        from agpis.input_record import write_records

        write_records(records_to_keep(tallies, options).values(), write_record)
    found = watch(tallies, options)
    if html:
        from agpis.monitor_page import write_page

        write_page(found, html)
    if not _write_json(found.row(), as_json):
        print_watch(found)
    if found.alarms:
        raise typer.Exit(ALARM)


app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")


@app.callback(invoke_without_command=True)
def abtest(
    context: typer.Context,
    a: Annotated[
        str | None, typer.Option("--a", help="Control: clicks/impressions, or orders/clicks/impressions.")
    ] = None,
    b: Annotated[str | None, typer.Option("--b", help="New arm, in the same form.")] = None,
    events: Annotated[
        Path | None, typer.Option("--events", help="Events instead of counts: .csv, .jsonl or .parquet.")
    ] = None,
    control: Annotated[str | None, typer.Option("--control", help="Name of the control in the events.")] = None,
    treatment: Annotated[str | None, typer.Option("--treatment", help="Name of the new arm in the events.")] = None,
    alpha: Alpha = 0.05,
    looks: Looks = 1,
    look: Annotated[int | None, typer.Option("--look", help="Number of this look. [default: the last]")] = None,
    split: Split = 0.5,
    per: Annotated[
        Literal["clicks", "impressions"], typer.Option("--per", help="What orders are divided by for CVR.")
    ] = "clicks",
    planned: Annotated[
        int | None, typer.Option("--planned", help="Impressions planned for both arms, to tell a peek from the end.")
    ] = None,
    as_json: Json = None,
) -> None:
    """Compare CTR and CVR of two arms: lift, intervals, p; `agpis abtest plan` gives the sample size before."""
    if context.invoked_subcommand is not None:
        return
    from agpis.abtest import compare
    from agpis.abtest_console import print_comparison
    from agpis.events import read_arms

    if (events is None) == (a is None or b is None) or (events is not None and (a is not None or b is not None)):
        raise SettingsError("bad_arguments", "Give --a and --b, or --events FILE; one of the two.")
    crossed = 0
    if events is not None:
        found = read_arms(events, control=control, treatment=treatment)
        first, second, crossed = found.a, found.b, found.crossed
    else:
        first, second = _arm("a", str(a)), _arm("b", str(b))
    comparison = compare(
        first, second, alpha=alpha, looks=looks, look=look, split=split, per=per, planned=planned, crossed=crossed
    )
    if not _write_json(comparison.row(), as_json):
        print_comparison(comparison)


@app.command()
def plan(
    base: Annotated[float, typer.Option("--base", help="Rate of the control, such as 0.03.")],
    lift: Annotated[float, typer.Option("--lift", help="Lift to be found: 0.05 is five percent more.")],
    power: Annotated[float, typer.Option("--power", help="Probability of finding it.")] = 0.8,
    alpha: Alpha = 0.05,
    looks: Looks = 1,
    split: Split = 0.5,
    absolute: Annotated[bool, typer.Option("--absolute", help="The lift is in shares, not relative.")] = False,
    daily: Annotated[int | None, typer.Option("--daily", help="Events a day of both arms, for the length.")] = None,
    as_json: Json = None,
) -> None:
    """Say how many events each arm needs to find a lift."""
    from agpis.abtest import plan as run
    from agpis.abtest_console import print_plan

    if daily is not None and daily < 1:
        raise SettingsError("bad_test", f"--daily is {daily}; it is 1 or more.")
    found = run(base, lift, power=power, alpha=alpha, split=split, looks=looks, absolute=absolute)
    days = -(-found.total // daily) if daily else None
    if not _write_json({**found.row(), "days": days}, as_json):
        print_plan(found, days)


# In ------------------------------------------------------------------------------------------------------------------


def _date(option: str, text: str | None) -> date | None:
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise SettingsError("bad_watch", f"{option} is {text!r}; wanted a date such as 2026-05-31.") from None


def _arm(name: str, text: str) -> Arm:
    from agpis.abtest import Arm

    try:
        counts = [int(part) for part in text.split("/")]
    except ValueError:
        counts = []
    if len(counts) not in (2, 3):
        raise SettingsError(
            "bad_counts",
            f"--{name} is {text!r}; wanted clicks/impressions or orders/clicks/impressions, whole numbers.",
        )
    return Arm(name, counts[-1], counts[-2], counts[0] if len(counts) == 3 else None)


# Out -----------------------------------------------------------------------------------------------------------------


def _write_json(row: dict[str, Any], where: str | None) -> bool:
    """Whether it went to standard output."""
    if where is None:
        return False
    text = json.dumps(row, ensure_ascii=False, indent=1, allow_nan=False) + "\n"
    if where == "-":
        sys.stdout.write(text)
        return True
    from agpis.shards import replace_file

    replace_file(Path(where), text.encode())
    return False


def register(app_: typer.Typer) -> None:
    """Adds the commands to `agpis`."""
    panel = "Watching (docs/watching.md)"
    app_.command(rich_help_panel=panel)(monitor)
    app_.add_typer(app, name="abtest", rich_help_panel=panel)
