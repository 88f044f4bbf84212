"""What an A/B test prints on a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from agpis.abtest import Comparison, Lift, Plan
from agpis.proportions import p_value


def print_comparison(found: Comparison) -> None:
    """A table of the metrics, what they say, and the warnings."""
    console = Console()
    table = Table(box=None, header_style="bold")
    table.add_column("", style="dim")
    for lift in found.lifts:
        table.add_column(lift.metric, justify="right", no_wrap=True)
    columns = [(f"{lift.a.value:.3%}", f"{lift.b.value:.3%}", *_lifted(lift)) for lift in found.lifts]
    for name, *cells in zip((found.a, found.b, "difference, points", "relative lift", "p"), *columns, strict=True):
        table.add_row(escape(name), *map(escape, cells))
    console.print(table)
    for lift in found.lifts:
        over = "over units" if lift.clustered else "each impression counted as independent"
        console.print(f"{lift.metric} ({lift.of}): {_reading(found, lift)} [dim]({over})[/]")
    if found.looks > 1:
        console.print(
            f"[dim]Look {found.look} of {found.looks}: significant from {found.limit:.2f} standard errors on "
            "(O'Brien-Fleming); the intervals hold at all looks.[/]"
        )
    mismatch = found.mismatch
    if not mismatch.found:
        console.print(
            f"[dim]Split: {mismatch.a} and {mismatch.b} {mismatch.counted}, as planned (p = {p_value(mismatch.p)}).[/]"
        )
    for warning in found.warnings:
        console.print(f"[yellow]Warning:[/] {escape(warning)}")


def _lifted(lift: Lift) -> tuple[str, str, str]:
    """Difference, relative lift and p."""
    points = f"{100 * lift.difference:+.3f} [{100 * lift.difference_low:+.3f}, {100 * lift.difference_high:+.3f}]"
    p = "" if lift.p is None else p_value(lift.p)
    if lift.ratio is None:
        return points, "none: no event in the control", p
    if lift.ratio_low is None or lift.ratio_high is None:
        return points, f"{lift.ratio:+.1%}", p
    return points, f"{lift.ratio:+.1%} [{lift.ratio_low:+.1%}, {lift.ratio_high:+.1%}]", p


def _reading(found: Comparison, lift: Lift) -> str:
    if lift.z is None:
        return "nothing to test"
    if not lift.significant:
        return "no difference shown; the interval says what is still possible"
    return f"{found.b} is {'higher' if lift.difference > 0 else 'lower'}"


def print_plan(found: Plan, days: int | None) -> None:
    """How many events, and for how many days."""
    print(f"{found.a:,} events in arm a and {found.b:,} in arm b, {found.total:,} together")
    print(f"to find {found.base:.4g} -> {found.wanted:.4g} at power {found.power:g}, two-sided, alpha {found.alpha:g}")
    if found.looks > 1:
        print(f"with {found.looks} looks (O'Brien-Fleming): {found.inflation - 1:.1%} more than for one")
    if days:
        print(f"{days} days; run whole weeks")
    print(
        "Events are impressions for CTR and clicks for CVR. With several a user more are needed: count users instead."
    )
