"""What watching prints on a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from agpis.proportions import p_value, percent
from agpis.watched import BundleWatch, RuleChange, Watch


def print_watch(found: Watch) -> None:
    """Tables of a watch: by bundle over time, the input against its record, the rules; then the alarms."""
    console = Console()
    console.print(f"[bold]{found.since} to {found.last}[/] ({found.days} days, UTC)")
    for note in found.notes:
        console.print(f"[yellow]Note:[/] {escape(note)}")
    for one in found.bundles:
        _print_bundle(console, one, found.by)
    for alarm in found.alarms:
        console.print(
            f"[bold red]Limit crossed:[/] {escape(alarm.bundle or '(no bundle named)')}: {escape(alarm.message)}"
        )
    if found.limits.some and not found.alarms:
        console.print("[green]No limit is crossed.[/]")


def _print_bundle(console: Console, one: BundleWatch, by: str) -> None:
    console.print(f"\n[bold]{escape(one.bundle or '(no bundle named)')}[/]")
    for name, now, before in (
        ("rejected", one.reject_now, one.reject_before),
        ("coverage", one.coverage_now, one.coverage_before),
    ):
        if now.total or before.total:
            console.print(
                f"  {name:9} {escape(str(now))} of {now.total:.0f}; before {escape(str(before))} of {before.total:.0f}"
            )
    labels = sorted({period.label for period in (*one.rejects, *one.coverage)})[-12:]
    rejects = {period.label: period.share for period in one.rejects}
    coverage = {period.label: period.share for period in one.coverage}
    table = _table(by, ">rejected [95 %]", ">sequences", ">coverage [95 %]", ">products")
    for label in labels:
        cells = [label]
        for share in (rejects.get(label), coverage.get(label)):
            cells += [escape(str(share)), f"{share.total:.0f}"] if share else ["", ""]
        table.add_row(*cells)
    console.print(table)
    if one.drifts and one.record:
        console.print(f"  [bold]Input against the record[/] [dim]({one.record.words})[/]")
        table = _table("", ">record", ">window", ">PSI [95 %]", ">gap", ">p", "reading")
        for moved in one.drifts:
            table.add_row(
                moved.feature.title + (f" ({moved.kind})" if moved.kind else ""),
                moved.middle(now=False),
                moved.middle(now=True),
                escape(f"{moved.psi.value:.2f} [{moved.psi.low:.2f}, {moved.psi.high:.2f}]"),
                f"{moved.effect:.2f}",
                p_value(moved.corrected),
                moved.words,
                style="bold" if moved.words.startswith("moved") else "dim",
            )
        console.print(table)
    elif one.coverage:
        console.print(f"  [dim]No record to compare the input with: {escape(one.no_record)}.[/]")
    _print_rules(console, "Rules that reviewers name", one.named)
    _print_rules(console, "Why images are removed", one.found)


def _print_rules(console: Console, title: str, changes: tuple[RuleChange, ...]) -> None:
    if not changes:
        return
    console.print(f"  [bold]{title}[/]")
    table = _table("", ">before", ">window", ">points [95 %]", ">p", "reading")
    for one in changes:
        told = one.words not in ("no change seen", "too few to say")
        points = f"{100 * one.difference:+.1f} [{100 * one.low:+.1f}, {100 * one.high:+.1f}]"
        cells = (one.rule, percent(one.before.value), percent(one.now.value), points, p_value(one.corrected), one.words)
        table.add_row(*(escape(cell) for cell in cells), style="bold" if told else "dim")
    console.print(table)


def _table(*columns: str) -> Table:
    """A plain table; a name that starts with > is of a column of numbers."""
    table = Table(box=None, pad_edge=True, header_style="dim")
    for name in columns:
        table.add_column(
            escape(name.removeprefix(">")), justify="right" if name.startswith(">") else "left", no_wrap=True
        )
    return table
