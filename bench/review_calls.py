"""What the review page's calls cost the server: one reviewer at a server process, one call after the other.

    python -m bench.review_calls --database sqlite
    python -m bench.review_calls --database postgres    # a PostgreSQL server in a temporary folder

`agpis review` serves a store of drawn decisions (`bench.store.drawn`). Each time, the reviewer sends a verdict on the
first of his five sequences and then asks for five, as agpis/static/review.js does: four that he holds, one that is new;
and lengthens his leases. Printed is the wall clock as he sees it, and the CPU time that the server's process spent
meanwhile (/proc, Linux only; a PostgreSQL server's is not in it).
"""

from __future__ import annotations

import argparse
import asyncio
import math
import random
import statistics
import time
import uuid
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from agpis.accounts import Accounts
from agpis.store import open_store
from bench.http_reviewer import AHEAD, Browser, Journal
from bench.machine import machine
from bench.review_server import ReviewServer
from bench.store import drawn
from tests.postgres import PostgresServer, server_programs

NAME, PASSWORD = "reviewer", "correct horse battery"
SHOWN = {"lease": "next sequences (lease of 5)", "verdict": "verdict", "renew": "renew 5 leases"}


class Server(ReviewServer):
    """A review server whose CPU time is known."""

    @property
    def spent(self) -> float:
        """Milliseconds of CPU so far, of all its threads."""
        assert self._process is not None
        threads = Path(f"/proc/{self._process.pid}/task").glob("*/schedstat")
        return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e6


async def measure(server: Server, repeats: int, seed: int) -> dict[str, list[tuple[float, float]]]:
    """Name of a call -> (milliseconds on the wall clock, of the server's CPU), after a twentieth to warm up."""
    dice = random.Random(seed)
    browser = Browser(server.url, Journal())
    await browser.sign_in(NAME, PASSWORD)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in SHOWN}

    async def call(name: str, **body: Any) -> Any:
        begin, spent = time.perf_counter(), server.spent
        status, data = await browser.call(f"/api/{name}", body)
        found[name].append(((time.perf_counter() - begin) * 1000, server.spent - spent))
        if status != 200:
            raise RuntimeError(f"/api/{name} was answered by {status}: {data}")
        return data

    wanted: dict[str, Any] = {"count": AHEAD, "first": None, "passing": [], "blind": False, "filter": ""}
    items = (await call("lease", **wanted))["items"]
    warm = repeats // 20
    for number in range(warm + repeats):
        if number == warm:
            for times in found.values():
                times.clear()
        item, accepted = items[0], dice.random() < 0.7
        body = {"key": str(uuid.UUID(int=dice.getrandbits(128), version=4)), "decision": item["id"], "v": item["v"]}
        body |= {"accepted": accepted, "rules": [] if accepted else ["low_resolution"], "photo": None, "box": None}
        await call("verdict", **body, feedback="", corrected=[], seconds=4.0, blind=False)
        items = (await call("lease", **wanted))["items"]
        await call("renew", ids=[item["id"] for item in items])
    await browser.client.aclose()
    return found


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--decisions", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--database", default="sqlite", help="sqlite, postgres, or the URL of an empty database")
    o = parser.parse_args()
    with ExitStack() as stack:
        where = o.database
        if where == "sqlite":
            where = str(Path(stack.enter_context(TemporaryDirectory())) / "reviews.db")
        elif where == "postgres":
            programs = server_programs()
            if programs is None:
                raise SystemExit("PostgreSQL is not installed: apt-get install postgresql")
            where = stack.enter_context(PostgresServer(programs, durable=True)).database()
        kind = where.partition("://")[0] if "://" in where else "sqlite"
        print(f"{machine()}\n{kind}, {o.decisions} decisions, seed {o.seed}\n")
        with open_store(where) as store:
            store.add(drawn(o.decisions, o.seed), base="/nowhere")
            Accounts(store).add(NAME, PASSWORD)
        with Server(where, "--double", "0.1") as server:
            found = asyncio.run(measure(server, o.repeats, o.seed))
    print("| what | times | median ms | 99th percentile ms | median ms of the server's CPU |\n|---|---|---|---|---|")
    for name, times in found.items():
        walls, cpu = zip(*times, strict=True)
        worst = sorted(walls)[math.ceil(0.99 * len(walls)) - 1]
        shown = (statistics.median(walls), worst, statistics.median(cpu))
        print(f"| {SHOWN[name]} | {len(times)} | " + " | ".join(f"{number:.1f}" for number in shown) + " |")


if __name__ == "__main__":
    main()
