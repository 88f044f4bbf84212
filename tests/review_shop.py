"""A shop for the tests of the review pages: drawn products, their decisions, accounts, and a server to ask."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from argon2 import PasswordHasher
from starlette.testclient import TestClient

from agpis.accounts import Accounts
from agpis.data import Box, Candidate, Decision, Finding, Violation
from agpis.review import make_app
from agpis.review_desk import Options
from agpis.rulebook import load_rulebook
from agpis.store import Store, open_store
from tests.conftest import draw_photo, save_photo

RULEBOOK = load_rulebook("default")
PASSWORD = "correct horse battery"
HOSTILE = "</script><script>document.title='owned'</script>\"'><img src=x onerror=alert(1)>"
SIZE = (480, 600)


def draw_shop(folder: Path, products: int = 6) -> None:
    """Five drawn photos of each product."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for number in range(products):
        for view in range(5):
            save_photo(folder / f"images/{number}-{view}.jpg", draw_photo(number, view, SIZE))


def decision(number: int, **changes: Any) -> Decision:
    """Three chosen photos, a spare one, and one that was removed for a banner."""
    uris = [f"images/{number}-{view}.jpg" for view in range(5)]
    outcomes = ("primary", "selected", "selected", "spare", "removed")
    banner = Finding("banner", box=Box(10, 20, 300, 90), probability=0.9)
    candidates = tuple(
        Candidate(
            uri,
            *SIZE,
            outcome=outcome,  # type: ignore[arg-type]
            reason="banner" if outcome == "removed" else "",
            findings=(banner,) if outcome == "removed" else (),
        )
        for uri, outcome in zip(uris, outcomes, strict=True)
    )
    made = Decision(
        sku=f"SKU-{number}",
        status="generated",
        title=f"Spotted thing {number}",
        category="Things" if number % 2 else "Objects",
        sequence=tuple(uris[:3]),
        p_qualified=round(0.5 + 0.03 * number, 4),
        violations=(Violation("blur" if number % 2 else "watermark", "single", 0.3, uris[1]),),
        feedback=f"The second photo of {number} is bad.",
        feedback_by="model",
        candidates=candidates,
        bundle="starter",
        rulebook="default 1",
    )
    return replace(made, **changes)


def fill_store(store: Store, folder: Path, products: int = 6, **changes: Any) -> None:
    store.add((decision(number, **changes) for number in range(products)), base=str(folder))


def accounts_of(store: Store) -> Accounts:
    """With a cheap argon2id: the dear one takes a second of a busy machine each time."""
    return Accounts(store, hasher=PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))


def prepare_shop(folder: Path, products: int = 6) -> Path:
    """Photos and a filled store with accounts: Ann, an administrator, and Bob. Tests work on copies of the store."""
    draw_shop(folder, products)
    with open_store(folder / "prepared.db") as store:
        fill_store(store, folder, products)
        for name in ("ann", "bob"):
            accounts_of(store).add(name, PASSWORD, admin=name == "ann")
    return folder


class Person(TestClient):
    """A browser: keeps cookies, knows the mark of its session's pages."""

    mark = ""

    def look(self, path: str) -> str:
        """The text of a page that must be there; its mark is remembered."""
        response = self.get(path)
        assert response.status_code == 200, (path, response.status_code, response.text[:300])
        found = re.search(r'<meta name="csrf" content="(\w+)">', response.text)
        if found:
            self.mark = found[1]
        return response.text

    def sign_in(self, name: str, password: str = PASSWORD) -> Any:
        self.look("/login")
        response = self.submit("/login", name=name, password=password, next="/queue")
        if response.status_code == 303:
            self.look("/queue")
        return response

    def submit(self, path: str, **form: str) -> Any:
        """A form."""
        return self.post(path, data={"csrf": self.mark, **form}, follow_redirects=False)

    def ask(self, path: str, **body: Any) -> Any:
        """A call of the script."""
        return self.post(path, json=body, headers={"X-CSRF": self.mark})

    def lease(self, count: int = 1, **body: Any) -> list[dict[str, Any]]:
        response = self.ask("/api/lease", count=count, **body)
        assert response.status_code == 200, response.text
        items: list[dict[str, Any]] = response.json()["items"]
        return items


@contextmanager
def pages(store: Store, *, url: str = "http://testserver", **options: Any) -> Iterator[Person]:
    """The real application on a store. Other browsers are `another(person)`."""
    app = make_app(store, RULEBOOK, Options(**options), accounts=accounts_of(store))
    with Person(app, base_url=url) as person:
        yield person


def another(person: Person) -> Person:
    """A second browser on the same server."""
    return Person(person.app, base_url=str(person.base_url))


@contextmanager
def shop(prepared: Path, folder: Path, **options: Any) -> Iterator[tuple[Store, Person]]:
    """A copy of the prepared store in `folder`, and a browser that nobody has signed in with."""
    shutil.copy(prepared / "prepared.db", folder / "reviews.db")
    with open_store(folder / "reviews.db") as store, pages(store, **options) as person:
        yield store, person
