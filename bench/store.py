"""How long the store's questions take: the queue page, and the next sequence for a reviewer.

    python -m bench.store --decisions 10000              # SQLite, and PostgreSQL where it is installed
    python -m bench.store --url postgresql://u:p@host/x  # an empty database of your own

Decisions are drawn from a seed: seven candidates each, 60 categories, 12 rules, 3 bundles, a tenth of them (at most
1,000) judged before the clock starts. "queue page" is what one view of it asks: a page of 50, the count, and the counts
beside the filters, with a filter drawn for each view. "next sequence" is a lease of one under a filter, "verdict" is
its give; every commit waits for the disk.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path

from agpis.data import Candidate, Decision, Finding, Status, Violation
from agpis.records import Given, Query
from agpis.store import Store, open_store
from bench.machine import machine
from tests.postgres import PostgresServer, server_programs

RULES = tuple(f"rule_{number}" for number in range(12))
CATEGORIES = tuple(f"Home / Room {number}" for number in range(60))
WORDS = tuple(f"word{number}" for number in range(2000))
BUNDLES = ("starter-1", "own-1", "own-2")
REVIEWERS = tuple(f"reviewer {number}" for number in range(20))


def drawn(decisions: int, seed: int) -> Iterator[Decision]:
    """That many decisions; rules and categories are unevenly frequent, as they are."""
    dice = random.Random(seed)
    for number in range(decisions):
        uris = tuple(f"images/{number:07d}/{view}.jpg" for view in range(7))
        p = dice.random()
        kinds: tuple[tuple[Status, int], ...] = (("generated", 70), ("below_threshold", 25), ("no_primary", 5))
        status = dice.choices([kind for kind, _ in kinds], [weight for _, weight in kinds])[0]
        rules = {RULES[min(int(dice.expovariate(0.4)), 11)] for _ in range(dice.choice((0, 0, 1, 1, 2)))}
        finding = Finding(dice.choice(RULES), message="A drawn finding, as long as they are.", value=0.4, limit=0.5)
        yield Decision(
            sku=f"SKU-{seed}-{number:07d}",
            status=status,
            title=" ".join(dice.choices(WORDS, k=9)),
            category=CATEGORIES[min(int(dice.expovariate(0.08)), 59)],
            sequence=uris[:3] if status != "no_primary" else (),
            p_qualified=p if status != "no_primary" else None,
            violations=tuple(Violation(rule, "single", dice.random(), uris[0]) for rule in sorted(rules)),
            candidates=tuple(Candidate(uri, 1200, 1600, dice.random(), dice.random(), (finding,)) for uri in uris),
            bundle=BUNDLES[number % 3],
            rulebook="default-1",
        )


def view(dice: random.Random) -> Query:
    """A filter that a reviewer sets: mostly none."""
    return dice.choice(
        (
            Query(),
            Query(),
            Query(status=("below_threshold",)),
            Query(rule=dice.choice(RULES)),
            Query(category=dice.choice(CATEGORIES)),
            Query(bundle=dice.choice(BUNDLES), low=0.3, high=0.7),
            Query(rule=RULES[1], category=CATEGORIES[3]),
            Query(text=dice.choice(WORDS)),
        )
    )


class Times:
    """Milliseconds by what was done: on the wall clock, and of this process's CPU (a server's is not in it)."""

    def __init__(self) -> None:
        self.of: dict[str, list[tuple[float, float]]] = {}

    def take(self, name: str, work: Callable[[], object]) -> None:
        begin, spent = time.perf_counter(), time.process_time()
        work()
        times = (time.perf_counter() - begin) * 1000, (time.process_time() - spent) * 1000
        self.of.setdefault(name, []).append(times)

    def __str__(self) -> str:
        lines = ["| | times | median ms | 99th percentile ms | median ms of own CPU |", "|---|---|---|---|---|"]
        for name, them in self.of.items():
            walls, own = zip(*them, strict=True)
            worst = sorted(walls)[math.ceil(0.99 * len(walls)) - 1]
            shown = (statistics.median(walls), worst, statistics.median(own))
            lines.append(f"| {name} | {len(them)} | " + " | ".join(f"{number:.1f}" for number in shown) + " |")
        return "\n".join(lines)


def page(store: Store, query: Query) -> None:
    """What one view of the queue page asks."""
    store.find(query)
    store.count(query)
    store.facets()


def measure(store: Store, decisions: int, repeats: int, seed: int) -> Times:
    """Fill the store, judge a tenth, then measure."""
    times, dice, keys = Times(), random.Random(seed), count()
    times.take(f"add {decisions} decisions", lambda: store.add(drawn(decisions, seed)))

    def judge(reviewer: str, query: Query, kept: Times) -> None:
        found: list[int] = []
        kept.take("next sequence (lease)", lambda: found.extend(i.id for i in store.lease(reviewer, query, double=0.1)))
        for id in found:
            accepted = dice.random() < 0.7
            rules = () if accepted else (dice.choice(RULES),)
            given = Given(f"{seed}-{next(keys)}", id, reviewer, accepted, rules, seconds=4.0)
            kept.take("verdict (give)", lambda given=given: store.give(given))  # type: ignore[misc]

    warm = Times()
    for number in range(min(decisions // 10, 1000)):
        judge(REVIEWERS[number % len(REVIEWERS)], Query(), warm)
    for _ in range(repeats):
        query = view(dice)
        times.take("queue page (find, count, facets)", lambda query=query: page(store, query))  # type: ignore[misc]
        times.take("of it: find", lambda query=query: store.find(query))  # type: ignore[misc]
        times.take("of it: count", lambda query=query: store.count(query))  # type: ignore[misc]
        times.take("of it: facets", store.facets)
    for number in range(repeats):
        judge(REVIEWERS[number % len(REVIEWERS)], view(dice), times)
    times.take("team page (tally by day and bundle)", lambda: store.tally(by=("day", "bundle")))
    return times


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--decisions", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=300, help="views of the queue page, and verdicts")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--url", help="an empty database; SQLite and PostgreSQL in temporary folders when left out")
    options = parser.parse_args()
    print(f"{machine()}; {options.decisions} decisions, seed {options.seed}")
    with ExitStack() as stack:
        urls = [options.url] if options.url else []
        if not urls:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            urls.append(f"sqlite:///{Path(folder) / 'reviews.db'}")
            programs = server_programs()
            if programs is None:
                print("PostgreSQL is not installed (apt-get install postgresql): SQLite only")
            else:
                urls.append(stack.enter_context(PostgresServer(programs, durable=True)).database())
        for url in urls:
            with open_store(url) as store:
                times = measure(store, options.decisions, options.repeats, options.seed)
            print(f"\n{url.partition(':')[0]}\n\n{times}")


if __name__ == "__main__":
    main()
