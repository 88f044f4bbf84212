"""A simulated reviewer at the review pages: what the scripts of agpis/static do, over HTTP and without a browser.

He signs in, has five sequences at hand, looks, judges; a verdict lies in his outbox until the server has answered it,
and is sent again after 1, 2, 4 and then every 7.5 seconds where it does not answer. What he knows goes into a
`Journal`. Unlike a browser he fetches no pictures, and now and then loses an answer or sends a verdict twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx

AHEAD = 5
"""Sequences at hand (supply.js)."""
PAUSE = 0.2
"""Seconds in which nobody has seen a sequence yet (desk.js)."""
TIMEOUT = 20.0
"""Seconds (outbox.js)."""
RENEWED = 60.0
"""Seconds after which leases are lengthened (supply.js)."""
REFUSED = (404, 409, 413, 422)
"""Answers after which a verdict is not sent again (outbox.js)."""


@dataclass(slots=True)
class Sent:
    """A verdict that has been sent at least once. Times are seconds of `time.monotonic`."""

    reviewer: str
    body: dict[str, Any]
    state: Literal["waits", "confirmed", "refused"] = "waits"
    answered: float = 0.0
    new: int = 0
    """Answers that it was not there before."""
    again: int = 0
    """Answers that it was."""
    tries: int = 0
    why: str = ""

    @property
    def key(self) -> str:
        return str(self.body["key"])

    @property
    def decision(self) -> int:
        return int(self.body["decision"])


@dataclass(frozen=True, slots=True)
class Grant:
    """A decision that the server gave to a reviewer, or left with him."""

    reviewer: str
    decision: int
    asked: float
    """When he asked: his lease runs from then at the earliest."""
    got: float
    """When he had the answer."""


@dataclass(slots=True)
class Journal:
    """What all reviewers know."""

    sent: list[Sent] = field(default_factory=list)
    grants: list[Grant] = field(default_factory=list)
    times: dict[str, list[float]] = field(default_factory=dict)
    """Milliseconds of answered requests, by what was asked for."""
    flying: int = 0
    """Verdicts on their way at this moment."""
    lost: int = 0
    """Requests of the script without an answer: the server was away, or the reviewer did not wait."""
    strange: list[str] = field(default_factory=list)
    """Answers that no server should give."""


@dataclass(frozen=True, slots=True)
class Habits:
    """How a reviewer works; shares are of verdicts."""

    think: float = 1.0
    """Mean seconds before a verdict."""
    twice: float = 0.05
    """Sent twice at once."""
    hasty: float = 0.03
    """Sent on a connection that is given up within 30 ms."""
    browses: float = 0.05
    """Followed by a look at the queue page; the page of the review is opened anew afterwards."""
    skips: float = 0.02


class Browser:
    """One browser: cookies, the mark of its session, and the script's calls."""

    def __init__(self, url: str, journal: Journal) -> None:
        self.client = httpx.AsyncClient(base_url=url, timeout=TIMEOUT, headers={"Sec-Fetch-Site": "same-origin"})
        self.journal = journal
        self.me = self._csrf = ""

    async def sign_in(self, name: str, password: str) -> None:
        """Through the form. Raises httpx.HTTPError where that does not work."""
        self.me = name
        self._csrf = _mark(await self.client.get("/login", follow_redirects=True))
        form = {"csrf": self._csrf, "name": name, "password": password, "next": "/review"}
        begin = time.perf_counter()
        signed = await self.client.post("/login", data=form)
        if signed.status_code != 303:
            raise httpx.HTTPError(f"found {signed.status_code}, wanted 303: {signed.text[:200]}")
        self._note("sign in", begin)
        await self.open("/review", "review page")

    async def open(self, path: str, what: str) -> bool:
        """Open a page; False where the server does not answer."""
        begin = time.perf_counter()
        try:
            page = await self.client.get(path)
        except httpx.HTTPError:
            return False
        if page.status_code != 200:
            self.journal.strange.append(f"{path}: {page.status_code}")
            return False
        self._note(what, begin)
        self._csrf = _mark(page)
        return True

    async def call(
        self, path: str, body: dict[str, Any], *, timeout: float = TIMEOUT, again: bool = False
    ) -> tuple[int, Any]:
        """outbox.js's `call`: status and JSON; status 0 where no answer came."""
        begin = time.perf_counter()
        try:
            answer = await asyncio.wait_for(
                self.client.post(path, json=body, headers={"X-CSRF": self._csrf}), timeout=timeout
            )
            if answer.status_code == 403 and not again:
                session = await self.client.get("/api/session")
                if session.status_code != 200 or session.json()["reviewer"] != self.me:
                    return 401, None
                self._csrf = session.json()["csrf"]
                return await self.call(path, body, timeout=timeout, again=True)
            data = answer.json()
        except (httpx.HTTPError, TimeoutError, ValueError):
            self.journal.lost += 1
            return 0, None
        if answer.status_code == 200:
            self._note(path.rpartition("/")[2], begin)
        else:
            self.journal.strange.append(f"{path}: {answer.status_code} {data.get('code')}")
        return answer.status_code, data

    def _note(self, what: str, begin: float) -> None:
        self.journal.times.setdefault(what, []).append(1000 * (time.perf_counter() - begin))


def _mark(page: httpx.Response) -> str:
    found = re.search(r'<meta name="csrf" content="(\w+)">', page.text)
    return found[1] if found else ""


class Reviewer:
    """One reviewer at his desk; `work` until a time, then `finish`.

    Args:
        filter: the query part of the page's address, such as "?status=generated".
        rules: that he gives as reasons.
    """

    def __init__(
        self, browser: Browser, habits: Habits, dice: random.Random, rules: Sequence[str], filter: str = ""
    ) -> None:
        self.browser, self.habits, self.dice, self.rules, self.filter = browser, habits, dice, rules, filter
        self.journal = browser.journal
        self.items: list[dict[str, Any]] = []
        self.passing: list[int] = []
        self.done: set[int] = set()
        self.outbox: list[Sent] = []
        self._filling = False
        self._opened = 0
        """How often the page was opened anew: what was asked for before is not for this page."""
        self._put_in = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def work(self, end: float) -> None:
        """Judge until `end` of `time.monotonic`."""
        self._start(self._send_all())
        self._start(self._renew())
        await self._fill()
        while time.monotonic() < end:
            if not self.items:
                await asyncio.sleep(0.05)
                continue
            await asyncio.sleep(PAUSE + self.dice.expovariate(1 / max(1e-3, self.habits.think - PAUSE)))
            if not self.items or time.monotonic() >= end:  # a lease may be gone meanwhile
                continue
            if self.dice.random() < self.habits.skips:
                self.passing.append(self.items.pop(0)["id"])
                self._start(self._fill())
                continue
            self._judge(self.items.pop(0))
            if self.dice.random() < self.habits.browses:
                await self._browse()

    async def finish(self, patience: float = 60.0) -> None:
        """Wait until the outbox is empty, as he would before he closes the laptop; then close the browser."""
        end = time.monotonic() + patience
        while self.outbox and time.monotonic() < end:
            await asyncio.sleep(0.05)
        while self._tasks:  # asyncio.wait_for of Python 3.11 can swallow a cancellation that comes with its answer
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks, timeout=1.0)
        await self.browser.client.aclose()

    def _start(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.journal.strange.append(f"{self.browser.me}: {task.exception()!r}")

    def _judge(self, item: dict[str, Any]) -> None:
        accepted = self.dice.random() < 0.6
        photo = None if accepted or self.dice.random() < 0.5 else self.dice.choice(item["sequence"])
        key = str(uuid.UUID(int=self.dice.getrandbits(128), version=4))
        body = {"key": key, "decision": item["id"], "v": item["v"], "accepted": accepted, "box": None, "corrected": []}
        rules = [] if accepted else self.dice.sample(self.rules, self.dice.choice((1, 1, 2)))
        words = "" if accepted or self.dice.random() < 0.7 else f"Simulated, {key[:8]}."
        body |= {"rules": rules, "photo": photo, "feedback": words, "seconds": 1.0, "blind": False}
        sent = Sent(self.browser.me, body)
        self.journal.sent.append(sent)
        self.outbox.append(sent)
        self.done.add(item["id"])
        self._put_in.set()

    async def _browse(self) -> None:
        """The queue page, and back: what was at hand is asked for again, what waits to be sent is not."""
        if await self.browser.open(f"/queue{self.filter}", "queue page"):
            await self.browser.open(f"/review{self.filter}", "review page")
            self.items, self.passing, self.done = [], [], {sent.decision for sent in self.outbox}
            self._filling = False
            self._opened += 1
            self._start(self._fill())

    # outbox.js: flush and drain ---------------------------------------------------------------------------------------

    async def _send_all(self) -> None:
        wait = 1.0
        while True:
            pause: float | None = None
            self._put_in.clear()
            while self.outbox:
                sent = self.outbox[0]
                status = await self._send(sent)
                if status == 200 or status in REFUSED:
                    sent.state = "confirmed" if status == 200 else "refused"
                    sent.answered = time.monotonic()
                    self.outbox.pop(0)
                    wait = 1.0
                else:
                    wait = min(2 * wait, 15.0)
                    pause = wait / 2
                    break
            self._start(self._fill())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._put_in.wait(), pause)

    async def _send(self, sent: Sent) -> int:
        chance = self.dice.random()
        hasty = chance < self.habits.hasty
        times = 2 if not hasty and chance < self.habits.hasty + self.habits.twice else 1
        timeout = self.dice.uniform(0.0, 0.03) if hasty else TIMEOUT
        self.journal.flying += times
        try:
            calls = [self.browser.call("/api/verdict", sent.body, timeout=timeout) for _ in range(times)]
            answers = await asyncio.gather(*calls)
        finally:
            self.journal.flying -= times
        sent.tries += times
        for status, data in answers:
            if status == 200:
                sent.new += not data["again"]
                sent.again += data["again"]
            elif status in REFUSED:
                sent.why = data["code"]
        return max(status for status, _ in answers)  # two answers agree, or one is missing (0)

    # supply.js: fill and renew ----------------------------------------------------------------------------------------

    async def _fill(self) -> None:
        if self._filling or len(self.items) >= AHEAD:
            return
        self._filling, opened = True, self._opened
        waiting = len(self.outbox)
        wanted = {"count": min(20, AHEAD + waiting), "first": None, "passing": self.passing[-500:], "blind": False}
        asked = time.monotonic()
        status, data = await self.browser.call("/api/lease", {**wanted, "filter": self.filter})
        if status == 200:
            self._granted([item["id"] for item in data["items"]], asked)
        if opened != self._opened:
            return
        self._filling = False
        if status != 200:
            await asyncio.sleep(2.0)
            self._start(self._fill())
            return
        before = len(self.items)
        held = {item["id"] for item in self.items} | self.done
        self.items += [item for item in data["items"] if item["id"] not in held]
        if not self.items:
            await asyncio.sleep(1.5 if waiting else 15.0)
            self._start(self._fill())
        elif data["items"] and before < len(self.items) < AHEAD:
            self._start(self._fill())

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEWED)
            asked = time.monotonic()
            status, data = await self.browser.call("/api/renew", {"ids": [item["id"] for item in self.items]})
            if status == 200:
                self._granted(data["held"], asked)
                lost = set(data["asked"]) - set(data["held"])
                self.items = [item for item in self.items if item["id"] not in lost]

    def _granted(self, ids: Sequence[int], asked: float) -> None:
        got = time.monotonic()
        self.journal.grants += [Grant(self.browser.me, id, asked, got) for id in ids]
