"""The cost of the review page's calls, in small."""

from __future__ import annotations

import asyncio
from pathlib import Path

from agpis.accounts import Accounts
from agpis.store import open_store
from bench.review_calls import NAME, PASSWORD, SHOWN, Server, measure
from bench.store import drawn


def test_every_call_is_measured_on_the_wall_clock_and_in_the_server(tmp_path: Path) -> None:
    where = tmp_path / "reviews.db"
    with open_store(where) as store:
        store.add(drawn(40, 0), base="/nowhere")
        Accounts(store).add(NAME, PASSWORD)
    with Server(str(where)) as server:
        found = asyncio.run(measure(server, 20, seed=0))
    assert {name: len(times) for name, times in found.items()} == dict.fromkeys(SHOWN, 20)
    assert all(0 < wall < 5000 for times in found.values() for wall, _ in times)
    assert all(0 < sum(cpu for _, cpu in times) < sum(wall for wall, _ in times) for times in found.values())
    with open_store(where) as store:
        assert len(list(store.verdicts())) == 21
