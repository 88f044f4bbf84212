"""The simulated reviewer goes home, whatever he was at."""

from __future__ import annotations

import asyncio
import random

from bench.http_reviewer import Browser, Habits, Journal, Reviewer


def test_he_leaves_although_a_cancellation_was_swallowed() -> None:
    async def stubborn() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(60)

    async def leave() -> None:
        reviewer = Reviewer(Browser("http://127.0.0.1:9", Journal()), Habits(), random.Random(0), [])
        reviewer._start(stubborn())
        await asyncio.sleep(0)
        await asyncio.wait_for(reviewer.finish(), 30)
        assert reviewer.journal.strange == []

    asyncio.run(leave())
