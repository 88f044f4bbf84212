"""Simulated reviewers at a review server that is killed: no verdict lost, none doubled, none given to two.

    python -m bench.reviewers --decisions 10000 --reviewers 20 --minutes 5 --kills 2 --database sqlite
    python -m bench.reviewers --database postgres                       # a PostgreSQL server in a temporary folder
    python -m bench.reviewers --database postgresql://u:p@host/empty    # your own

A store of drawn decisions (`bench.store.drawn`) is served by `agpis review` in a process of its own. The reviewers
(`bench.http_reviewer`) work as a browser with agpis/static/review.js does, half of them under a filter, and look at the
queue page now and then. At random moments, while a verdict is on its way, the server is killed with -9 and started
again, and once more at the end. What the database then holds is compared with what the reviewers know. Pictures are
not fetched. Reviewers and server share this machine, and times are those that the reviewers see.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import random
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path

import sqlalchemy as sa

from agpis.accounts import Accounts
from agpis.database import Database
from agpis.records import Judged, Query
from agpis.review_desk import Options as Pages
from agpis.rulebook import load_rulebook
from agpis.schema import decisions
from agpis.store import open_store
from agpis.verdict_rows import judged
from bench.http_reviewer import Browser, Grant, Habits, Journal, Reviewer, Sent
from bench.machine import machine
from bench.review_server import ReviewServer
from bench.store import BUNDLES, RULES, drawn
from tests.postgres import PostgresServer, server_programs

PASSWORD = "correct horse battery"
LEASE = Pages().seconds
"""Seconds for which `agpis review` leases a decision."""
FILTERS = ("?status=generated", "?status=below_threshold", f"?bundle={BUNDLES[1]}", f"?rule={RULES[0]}")
PROMISES = ("lost", "doubled", "changed", "refused", "given to two", "unknown", "other answers")
"""How a promise can be broken; see `check`."""
SHOWN = {
    "queue page": "queue page",
    "next sequences (lease of 5)": "lease",
    "verdict": "verdict",
    "review page": "review page",
    "sign in": "sign in",
}
"""What is printed -> name in `Journal.times`."""


@dataclass(slots=True)
class Plan:
    """What is done."""

    decisions: int = 10_000
    reviewers: int = 20
    seconds: float = 300.0
    kills: int = 2
    double: float = 0.1
    seed: int = 0
    habits: Habits = field(default_factory=Habits)


@dataclass(slots=True)
class Kill:
    """One kill of the server."""

    at: float
    """Seconds after the beginning."""
    flying: int
    """Verdicts on their way."""
    away: float = 0.0
    """Seconds until the server listened again."""
    back: float = 0.0
    """When it did, by `time.monotonic`."""


# The run -------------------------------------------------------------------------------------------------------------


def fill(where: str, plan: Plan) -> None:
    """Decisions and accounts into an empty database. Raises SystemExit for one that is not."""
    with open_store(where) as store:
        if store.count(Query(reviewed="any")) or store.reviewers():
            raise SystemExit(f"{where.rpartition('@')[2]} is not empty; give an empty database.")
        store.add(drawn(plan.decisions, plan.seed), base="/nowhere")
        accounts = Accounts(store)
        for number in range(plan.reviewers):
            accounts.add(_name(number), PASSWORD)


def _name(number: int) -> str:
    return f"reviewer {number}"


async def drive(server: ReviewServer, plan: Plan) -> tuple[Journal, list[Kill]]:
    """All reviewers at once, and the kills among them."""
    journal, kills = Journal(), list[Kill]()
    rules = [rule.id for rule in load_rulebook("default").rules]
    people: list[Reviewer] = []
    for number in range(plan.reviewers):
        browser = Browser(server.url, journal)
        await browser.sign_in(_name(number), PASSWORD)
        filter = FILTERS[number // 2 % len(FILTERS)] if number % 2 else ""
        people.append(Reviewer(browser, plan.habits, random.Random(f"{plan.seed} {number}"), rules, filter))
    begin = time.monotonic()
    work = asyncio.gather(*(person.work(begin + plan.seconds) for person in people))
    dice = random.Random(plan.seed)
    for number in range(plan.kills):
        part = plan.seconds / plan.kills
        await asyncio.sleep(begin + part * (number + dice.uniform(0.2, 0.7)) - time.monotonic())
        kills.append(await strike(server, journal, begin, dice))
    await work
    await asyncio.gather(*(person.finish() for person in people))
    return journal, kills


async def strike(server: ReviewServer, journal: Journal, begin: float, dice: random.Random) -> Kill:
    """Kill the server at a random moment while a verdict is on its way, and start it again after a while."""
    end = time.monotonic() + 10.0
    await asyncio.sleep(dice.uniform(0.0, 0.02))
    while not journal.flying and time.monotonic() < end:
        await asyncio.sleep(0.001)
    kill, at = Kill(time.monotonic() - begin, journal.flying), time.monotonic()
    server.kill()
    await asyncio.sleep(dice.uniform(0.5, 2.0))
    await asyncio.to_thread(server.start)
    kill.back = time.monotonic()
    kill.away = kill.back - at
    return kill


# The check -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Stored:
    """What the database holds."""

    verdicts: list[Judged]
    wanted: dict[int, int]
    """Decision -> how many verdicts it is to have."""
    lots: dict[int, float]
    """Decision -> its lot in the draw for double review."""

    def standing(self) -> list[Judged]:
        """Verdicts that were not taken back."""
        return [one for one in self.verdicts if one.undone is None]


def read(where: str) -> Stored:
    """Everything, past the server."""
    c = decisions.c
    with closing(Database(where)) as database:
        rows = database.read(lambda connection: connection.execute(sa.select(c.id, c.wanted, c.lot)).all())
        verdicts = database.read(lambda connection: judged(connection))
    return Stored(verdicts, {row.id: row.wanted for row in rows}, {row.id: row.lot for row in rows})


def check(journal: Journal, stored: Stored, double: float, lease: float = LEASE) -> dict[str, list[str]]:
    """Broken promises, by `PROMISES`; all empty where all are kept.

    Lost: a verdict that the server confirmed is not there, or one is still waiting to be sent. Doubled: a key, or a
    reviewer's verdict on a decision, is there twice or was twice answered as new, or a decision has more verdicts than
    it is to have. Refused: although its lease ran, or the verdict is there all the same. Unknown: nobody has sent it.
    Given to two: before more reviewers than the decision has places.
    """
    broken: dict[str, list[str]] = {name: [] for name in PROMISES}
    there = {one.key: one for one in stored.verdicts}
    last = {(g.reviewer, g.decision): g.asked for g in journal.grants}
    for sent in journal.sent:
        kept = there.get(sent.key)
        if sent.state == "waits" or (sent.state == "confirmed" and (kept is None or kept.undone is not None)):
            broken["lost"].append(f"{sent.key} ({sent.state}) of {sent.reviewer} on {sent.decision}")
        ran = sent.answered < last.get((sent.reviewer, sent.decision), -math.inf) + lease
        if sent.state == "refused" and (ran or kept is not None):
            others = sorted(one.verdict.reviewer for one in stored.verdicts if one.decision == sent.decision)
            broken["refused"].append(
                f"{sent.key} of {sent.reviewer} on {sent.decision}: {sent.why}, judged by {others}"
            )
        if kept is not None and not _same(sent, kept):
            broken["changed"].append(f"{sent.body} as {kept}")
        if sent.new > 1:
            broken["doubled"].append(f"{sent.key} was new {sent.new} times")
    keys = {sent.key for sent in journal.sent}
    broken["unknown"] += [f"{one.key} of {one.verdict.reviewer}" for one in stored.verdicts if one.key not in keys]
    stand = stored.standing()
    by_key = Counter(one.key for one in stored.verdicts)
    by_judge = Counter((one.decision, one.verdict.reviewer) for one in stand)
    broken["doubled"] += [f"{what}, {n} times" for what, n in [*by_key.items(), *by_judge.items()] if n > 1]
    for decision, count in Counter(one.decision for one in stand).items():
        if decision is not None and count > stored.wanted[decision]:
            broken["doubled"].append(f"decision {decision} has {count} verdicts, wanted {stored.wanted[decision]}")
    grants: dict[int, list[Grant]] = {}
    judges: dict[int | None, set[str]] = {}
    for one in stand:
        judges.setdefault(one.decision, set()).add(one.verdict.reviewer)
    for grant in journal.grants:
        grants.setdefault(grant.decision, []).append(grant)
    for decision, given in grants.items():
        places = 2 if stored.lots[decision] < double else 1
        if places != stored.wanted[decision] or _together(given, judges.get(decision, set()), lease) > places:
            broken["given to two"].append(f"decision {decision}, which is for {places}")
    broken["other answers"] += [answer for answer in journal.strange if ": 503 " not in answer]
    return broken


def _same(sent: Sent, kept: Judged) -> bool:
    """Whether the verdict says in the database what the reviewer said."""
    body, verdict = sent.body, kept.verdict
    photo = None if verdict.image_index is None else verdict.candidates.index(verdict.sequence[verdict.image_index])
    said = (sent.reviewer, body["decision"], body["accepted"], tuple(body["rules"]), body["photo"], body["feedback"])
    return said == (verdict.reviewer, kept.decision, verdict.accepted, verdict.rules, photo, verdict.feedback)


def _together(grants: Sequence[Grant], judges: Collection[str], lease: float) -> int:
    """Most reviewers that had a place of one decision at one time: until the lease's end, or for good by a verdict."""
    spans: dict[str, list[float]] = {}
    for grant in grants:
        span = spans.setdefault(grant.reviewer, [grant.got, 0.0])
        if 0.0 < span[1] < grant.asked:  # had run out, and begins anew
            span[0] = grant.got
        span[1] = math.inf if grant.reviewer in judges else grant.asked + lease
    edges = sorted(edge for begin, end in spans.values() if begin < end for edge in ((begin, 1), (end, -1)))
    return max(accumulate((step for _, step in edges), initial=0))


# What is printed -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run has shown."""

    plan: Plan
    journal: Journal
    kills: list[Kill]
    stored: Stored
    broken: dict[str, list[str]]
    """See `check`."""

    @property
    def kept(self) -> bool:
        """Every promise."""
        return not any(self.broken.values())

    def __str__(self) -> str:
        sent, stand, seconds = self.journal.sent, self.stored.standing(), self.plan.seconds
        by_decision = Counter(one.decision for one in stand)
        twice = sum(count == 2 for count in by_decision.values())
        tries, silent = sum(one.tries for one in sent), sum(one.state == "confirmed" and not one.new for one in sent)
        lines = [
            f"{len(stand)} verdicts in {seconds:.0f} s, {len(stand) / seconds:.1f} a second, on {len(by_decision)}"
            f" decisions, {twice} of them by two reviewers",
            f"sent {tries} times; {self.journal.lost} requests without an answer; {silent} verdicts were kept although"
            " no answer had said so, and sent again",
        ]
        lines += [
            f"killed with -9 after {k.at:.1f} s with {k.flying} verdicts on their way, back {k.away:.1f} s later"
            for k in self.kills
        ]
        lines += ["", "| what | times | median ms | 99th percentile ms |", "|---|---|---|---|"]
        for what, key in SHOWN.items():
            walls = self.journal.times.get(key, [])
            if len(walls) > 1:
                worst = statistics.quantiles(walls, n=100, method="inclusive")[98]
                lines.append(f"| {what} | {len(walls)} | {statistics.median(walls):.1f} | {worst:.1f} |")
        later = len(self.journal.strange) - len(self.broken["other answers"])
        counts = [f"{name}: {len(them)}" for name, them in self.broken.items()]
        lines += ["", "; ".join([*counts, f"try again later (503): {later}"])]
        lines += [f"BROKEN, {name}: {one}" for name, them in self.broken.items() for one in them[:5]]
        return "\n".join(lines)


def run(where: str, plan: Plan) -> Outcome:
    """All of it on an empty database."""
    fill(where, plan)
    with ReviewServer(where, "--double", str(plan.double)) as server:
        journal, kills = asyncio.run(drive(server, plan))
    stored = read(where)
    return Outcome(plan, journal, kills, stored, check(journal, stored, plan.double))


def main() -> None:
    """See the module."""
    plan = Plan()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--decisions", type=int, default=plan.decisions)
    parser.add_argument("--reviewers", type=int, default=plan.reviewers)
    parser.add_argument("--minutes", type=float, default=plan.seconds / 60)
    parser.add_argument("--kills", type=int, default=plan.kills)
    parser.add_argument("--double", type=float, default=plan.double, help="share that two reviewers judge")
    parser.add_argument("--think", type=float, default=plan.habits.think, help="mean seconds before a verdict")
    parser.add_argument("--seed", type=int, default=plan.seed)
    parser.add_argument("--database", default="sqlite", help="sqlite, postgres, or the URL of an empty database")
    o = parser.parse_args()
    plan = Plan(o.decisions, o.reviewers, 60 * o.minutes, o.kills, o.double, o.seed, Habits(think=o.think))
    with ExitStack() as stack:
        if o.database == "sqlite":
            where = str(Path(stack.enter_context(tempfile.TemporaryDirectory())) / "reviews.db")
        elif o.database == "postgres":
            programs = server_programs()
            if programs is None:
                raise SystemExit("PostgreSQL is not installed: apt-get install postgresql")
            where = stack.enter_context(PostgresServer(programs, durable=True)).database()
        else:
            where = o.database
        kind = where.partition("://")[0] if "://" in where else "sqlite"
        print(
            f"{machine()}\n{kind}, {o.decisions} decisions, {o.reviewers} reviewers, {o.kills} kills, seed {o.seed}\n"
        )
        outcome = run(where, plan)
    print(outcome)
    raise SystemExit(0 if outcome.kept else 1)


if __name__ == "__main__":
    main()
