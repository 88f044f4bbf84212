"""The review pages under attack: each case is tried against the real application, and refused."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from uuid import uuid4

import pytest

from agpis.accounts import MAX_BY_ADDRESS, MAX_BY_BOTH, WINDOW, Accounts, Refused, csrf_mark, token_hash
from agpis.data import Candidate
from agpis.records import Given, Query
from agpis.review_guard import MAX_BODY, POLICY
from agpis.store import Store, open_store, utc_now
from tests.review_shop import (
    HOSTILE,
    PASSWORD,
    Person,
    accounts_of,
    another,
    decision,
    draw_shop,
    pages,
    prepare_shop,
    shop,
)

KEY = "00000000-0000-4000-8000-000000000001"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare_shop(tmp_path_factory.mktemp("drawn"))


@pytest.fixture
def ann(tmp_path: Path, drawn: Path) -> Iterator[Person]:
    """A browser that Ann, an administrator, has signed in with."""
    with shop(drawn, tmp_path) as (_, person):
        assert person.sign_in("ann").status_code == 303
        yield person


@pytest.fixture(scope="module")
def me(tmp_path_factory: pytest.TempPathFactory, drawn: Path) -> Iterator[Person]:
    """The browser of one person in open mode; shared by cases that change nothing."""
    with shop(drawn, tmp_path_factory.mktemp("open"), url="http://localhost", open=True) as (_, person):
        person.look("/queue")
        yield person


def store_of(person: Person) -> Store:
    store: Store = person.app.state.desk.store  # type: ignore[attr-defined]
    return store


# Sessions ------------------------------------------------------------------------------------------------------------


def test_nothing_but_the_login_is_open(ann: Person) -> None:
    stranger = another(ann)
    item = ann.lease()[0]
    for path in ("/", "/queue", "/review", "/review/1", "/history?sku=SKU-0", "/day", "/team", "/people", "/account"):
        response = stranger.get(path, follow_redirects=False)
        assert response.status_code == 303, path
        assert response.headers["location"].startswith("/login?next="), path
        assert "Spotted" not in response.text
    for path in ("/api/session", f"/image/{item['id']}/0/small"):
        assert stranger.get(path).status_code == 401, path
    stranger.look("/login")  # a token of a visitor gives the mark for forms, and nothing else
    for path in ("lease", "renew", "release", "verdict", "undo"):
        assert stranger.ask(f"/api/{path}", ids=[], count=1).status_code in (401, 422), path
    assert stranger.ask("/api/lease", count=1).json()["code"] == "signed_out"


def test_a_guessed_or_stolen_hash_opens_no_session(ann: Person) -> None:
    token = ann.cookies["agpis_session"]
    assert len(token) >= 43  # 256 bits
    for guess in (token_hash(token), csrf_mark(token), token[:-1] + ("A" if token[-1] != "A" else "B"), ""):
        stranger = another(ann)
        stranger.cookies.set("agpis_session", guess)
        assert stranger.get("/queue", follow_redirects=False).status_code == 303
    with store_of(ann) as store:  # what lies in the database is not what opens a session
        assert store.session(token) is None
        assert store.session(token_hash(token)) is not None


def test_the_cookie_of_a_session(tmp_path: Path, drawn: Path) -> None:
    with shop(drawn, tmp_path) as (_, person):
        cookie = person.sign_in("ann").headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=lax" in cookie
        assert "secure" not in cookie
    with open_store(tmp_path / "reviews.db") as store, pages(store, url="https://testserver") as person:
        response = person.sign_in("ann")
        assert response.status_code == 303
        session = response.headers["set-cookie"]
        assert session.startswith("__Host-agpis_session=")
        assert "; Secure" in session
        assert "Path=/" in session


def test_signing_out_ends_the_session_and_gives_back_what_was_held(ann: Person) -> None:
    token = ann.cookies["agpis_session"]
    held = ann.lease(2)
    bob = another(ann)
    bob.sign_in("bob")
    assert {item["id"] for item in bob.lease(6)}.isdisjoint(item["id"] for item in held)
    assert ann.submit("/logout").status_code == 303
    ann.cookies.set("agpis_session", token)
    assert ann.get("/queue", follow_redirects=False).status_code == 303
    assert {item["id"] for item in bob.lease(6)} >= {item["id"] for item in held}


def test_a_disabled_account_is_out_at_once(ann: Person) -> None:
    bob = another(ann)
    bob.sign_in("bob")
    assert ann.submit("/people", name="bob", action="disable").status_code == 200
    assert bob.get("/queue", follow_redirects=False).status_code == 303
    assert bob.sign_in("bob").status_code == 403
    assert ann.submit("/people", name="ann", action="disable").status_code == 422  # not oneself
    assert ann.submit("/people", name="bob", action="enable").status_code == 200
    assert bob.sign_in("bob").status_code == 303


def test_only_an_administrator_sees_people_and_figures_by_reviewer(ann: Person) -> None:
    bob = another(ann)
    bob.sign_in("bob")
    for item in bob.lease(1):
        assert bob.ask("/api/verdict", key=KEY, decision=item["id"], v=item["v"], accepted=True).status_code == 200
    assert bob.get("/people").status_code == 403
    assert bob.submit("/people", name="eve", password=PASSWORD, action="add", admin="1").status_code == 403
    assert store_of(ann).reviewer("eve") is None
    assert "By reviewer" not in bob.look("/team")
    assert "By reviewer" in ann.look("/team")


def test_a_verdict_is_of_the_session_whatever_the_body_says(ann: Person) -> None:
    item = ann.lease()[0]
    body = {"key": KEY, "decision": item["id"], "v": item["v"], "accepted": True}
    assert ann.ask("/api/verdict", **body, reviewer="bob").status_code == 422
    assert ann.ask("/api/verdict", **body).status_code == 200
    bob = another(ann)
    bob.sign_in("bob")
    assert bob.ask("/api/undo", key=KEY).json() == {"item": None}  # another's verdict
    assert bob.ask("/api/verdict", **body).status_code in (409, 422)
    assert [verdict.reviewer for verdict in store_of(ann).verdicts()] == ["ann"]


def test_changing_the_password_signs_out_everywhere(ann: Person) -> None:
    elsewhere = another(ann)
    elsewhere.sign_in("ann")
    assert ann.submit("/account", old="wrong", new="a new long password").status_code == 422
    assert ann.submit("/account", old=PASSWORD, new="short").status_code == 422
    assert ann.submit("/account", old=PASSWORD, new="a new long password").status_code == 303
    for browser in (ann, elsewhere):
        assert browser.get("/queue", follow_redirects=False).status_code == 303
    assert ann.sign_in("ann").status_code == 403
    assert ann.sign_in("ann", "a new long password").status_code == 303


def test_sign_in_leads_to_no_other_site(ann: Person) -> None:
    for wanted in ("https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)", "/a\r\nX-Y: z"):
        ann.look("/login")
        response = ann.submit("/login", name="ann", password=PASSWORD, next=wanted)
        assert response.status_code == 303
        assert response.headers["location"] == "/queue", wanted
        assert "x-y" not in response.headers


# Cross-site requests -------------------------------------------------------------------------------------------------


def test_no_post_without_the_mark_of_its_own_session(ann: Person) -> None:
    item = ann.lease()[0]
    bob = another(ann)
    bob.sign_in("bob")
    body = {"key": KEY, "decision": item["id"], "v": item["v"], "accepted": True}
    for headers in ({}, {"X-CSRF": ""}, {"X-CSRF": "0" * 64}, {"X-CSRF": bob.mark}):
        assert ann.post("/api/verdict", json=body, headers=headers).status_code == 403, headers
    # What a form of another site can send: no JSON, and no mark.
    text = {"content-type": "text/plain", "X-CSRF": ann.mark}
    assert ann.post("/api/verdict", content=json.dumps(body), headers=text).status_code == 403
    assert ann.post("/api/verdict", data={"csrf": ann.mark, **body}).status_code == 422  # a form is no verdict
    for path in ("/logout", "/people", "/account", "/login"):
        assert ann.post(path, data={"name": "x"}, follow_redirects=False).status_code == 403, path
        assert ann.post(path, data={"csrf": bob.mark}, follow_redirects=False).status_code == 403, path
    assert list(store_of(ann).verdicts()) == []
    for method in ("PUT", "DELETE", "PATCH"):
        assert ann.request(method, "/api/verdict", json=body).status_code == 403


def test_the_right_mark_from_another_site_is_refused(ann: Person) -> None:
    mark = {"X-CSRF": ann.mark}
    for header, value, status in (
        ("Origin", "https://evil.example", 403),
        ("Origin", "null", 403),
        ("Origin", "http://testserver", 200),
        ("Sec-Fetch-Site", "cross-site", 403),
        ("Sec-Fetch-Site", "same-site", 403),
        ("Sec-Fetch-Site", "same-origin", 200),
    ):
        response = ann.post("/api/renew", json={"ids": []}, headers={**mark, header: value})
        assert response.status_code == status, (header, value)


def test_open_mode_answers_to_names_of_this_machine_only(tmp_path: Path, drawn: Path) -> None:
    with open_store(tmp_path / "reviews.db") as store:
        store.add([decision(0)], base=str(drawn))
        with pages(store, url="http://localhost:8765", open=True, reviewer="me") as person:
            person.look("/queue")
            assert person.lease()[0]["sku"] == "SKU-0"
            for host in ("evil.example", "evil.example:8765", "localhost.evil.example", "127.0.0.1.evil.example", ""):
                assert person.get("/queue", headers={"host": host}).status_code == 421, host
                assert "SKU" not in person.get("/queue", headers={"host": host}).text
            for host in ("127.0.0.1:8765", "[::1]:8765", "LOCALHOST"):
                assert person.get("/queue", headers={"host": host}).status_code == 200, host
            assert person.post("/api/renew", json={"ids": []}).status_code == 403  # other sites reach localhost too


# Brute force ---------------------------------------------------------------------------------------------------------


def test_guessing_a_password_is_stopped_and_the_right_one_too(ann: Person) -> None:
    eve = another(ann)
    for _ in range(MAX_BY_BOTH):
        assert eve.sign_in("bob", "a wrong password").status_code == 403
    response = eve.sign_in("bob", PASSWORD)
    assert response.status_code == 429
    assert "Too many failed attempts. Wait 15 minutes" in response.text
    assert eve.sign_in("BOB ", PASSWORD).status_code == 429  # another spelling is the same account
    assert eve.sign_in("ann", PASSWORD).status_code == 303  # other accounts are not locked


def test_limits_hold_by_address_and_end_with_the_window(tmp_path: Path) -> None:
    moment = utc_now()
    with open_store(tmp_path / "reviews.db", now=lambda: moment) as store:
        hasher = accounts_of(store)._hasher
        accounts = Accounts(store, now=lambda: moment, hasher=hasher)
        accounts.add("ann", PASSWORD)
        for number in range(MAX_BY_ADDRESS):
            store.note_failed_login(f"guess{number}", "10.0.0.9")
        with pytest.raises(Refused, match="too_many_logins"):
            accounts.sign_in("ann", PASSWORD, "10.0.0.9")
        # Another process on the same database, another address; and the first address when the window is over.
        with open_store(tmp_path / "reviews.db", now=lambda: moment) as second:
            others = Accounts(second, now=lambda: moment, hasher=hasher)
            with pytest.raises(Refused, match="too_many_logins"):
                others.sign_in("ann", PASSWORD, "10.0.0.9")
            assert others.sign_in("ann", PASSWORD, "10.0.0.8")
        moment += WINDOW + timedelta(seconds=1)
        assert accounts.sign_in("ann", PASSWORD, "10.0.0.9")


def test_an_unknown_name_and_a_wrong_password_look_alike(ann: Person) -> None:
    eve = another(ann)
    answers = [eve.sign_in(name, "a wrong password") for name in ("bob", "nobody-of-that-name", "a\0b")]
    assert {answer.status_code for answer in answers} == {403}
    assert all("Name or password is wrong." in answer.text for answer in answers)


def test_passwords_are_hashed_with_argon2id_and_cheaper_hashes_are_renewed(ann: Person) -> None:
    before = store_of(ann).reviewer("ann")
    assert before is not None
    assert before.password_hash.startswith("$argon2id$v=19$m=8,")  # the tests' own
    assert Accounts(store_of(ann)).sign_in("ann", PASSWORD, "10.0.0.1")
    after = store_of(ann).reviewer("ann")
    assert after is not None
    assert after.password_hash.startswith("$argon2id$v=19$m=65536,t=3,")
    assert PASSWORD not in after.password_hash


# Bodies --------------------------------------------------------------------------------------------------------------


def test_oversized_bodies_are_refused_before_they_are_read(ann: Person) -> None:
    headers = {"X-CSRF": ann.mark, "content-type": "application/json"}
    assert ann.post("/api/verdict", content=b"x" * (MAX_BODY + 1), headers=headers).status_code == 413

    sent = 0

    def endless() -> Iterator[bytes]:  # without a length
        nonlocal sent
        for _ in range(100):
            sent += 1
            yield b"y" * 8192

    assert ann.post("/api/verdict", content=endless(), headers=headers).status_code == 413
    form = f"csrf={ann.mark}&name=" + "z" * MAX_BODY
    kind = {"content-type": "application/x-www-form-urlencoded"}
    assert ann.post("/login", content=form, headers=kind).status_code == 413


@pytest.mark.parametrize(
    "change",
    [
        {"feedback": "x" * 4001},
        {"rules": ["Banner; DROP TABLE"]},
        {"rules": ["a"] * 31},
        {"photo": 99},
        {"photo": 3},  # not in the sequence
        {"photo": -1},
        {"photo": 1, "box": [0, 0, 481, 10]},
        {"photo": 1, "box": [-1, 0, 10, 10]},
        {"photo": 1, "box": [0, 0, 0, 10]},
        {"box": [0, 0, 10, 10]},  # of which photo?
        {"corrected": [0, 0]},
        {"corrected": [7]},
        {"key": "not-a-uuid"},
        {"seconds": 1e9},
        {"seconds": -1},
        {"accepted": "yes"},
        {"decision": 2**60},
        {"more": 1},
        {"feedback": "half \ud800 a letter"},
    ],
)
def test_a_verdict_that_cannot_be_meant_is_refused(me: Person, change: dict[str, object]) -> None:
    item = me.lease()[0]
    body = {"key": KEY, "decision": item["id"], "v": item["v"], "accepted": False, "rules": ["banner"]}
    text = json.dumps({**body, **change})
    headers = {"X-CSRF": me.mark, "content-type": "application/json"}
    response = me.post("/api/verdict", content=text, headers=headers)
    assert response.status_code == 422, response.text
    assert list(store_of(me).verdicts()) == []


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a":' * 5000, "null", "\xff"])
def test_a_body_that_is_no_verdict(me: Person, text: str) -> None:
    headers = {"X-CSRF": me.mark, "content-type": "application/json"}
    assert me.post("/api/verdict", content=text.encode("latin-1"), headers=headers).status_code in (400, 422)


@pytest.mark.parametrize(
    "path",
    ["/queue?status=x", "/queue?band=0-9", "/queue?reviewed=no", "/queue?after=x", "/image/1/0/huge", "/nowhere"],
)
def test_addresses_that_cannot_be_meant(me: Person, path: str) -> None:
    assert me.get(path).status_code in (404, 422)


# Script in texts -----------------------------------------------------------------------------------------------------


class Elements(HTMLParser):
    """Elements, and attributes that would run script, as a browser's parser finds them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.bad: list[str] = []
        self.scripts: list[str] = []
        self._in = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        values = dict(attrs)
        self._in = "data" if values.get("type") == "application/json" else tag
        self.bad += [name for name in values if name.startswith("on") or name == "style"]
        self.bad += [
            str(v) for k, v in attrs if k in ("href", "src", "action") and not str(v).startswith(("/", "#", "data:,"))
        ]

    def handle_endtag(self, tag: str) -> None:
        self._in = ""

    def handle_data(self, data: str) -> None:
        if self._in == "data":
            json.loads(data)  # still JSON
        elif self._in in ("script", "style") and data.strip():
            self.scripts.append(data)


def test_script_in_titles_feedback_and_skus_stays_text(tmp_path: Path, drawn: Path) -> None:
    hostile = {"title": HOSTILE, "category": HOSTILE, "feedback": HOSTILE, "bundle": HOSTILE}
    with shop(drawn, tmp_path) as (store, ann):
        store.add([decision(9, sku=HOSTILE, **hostile)], base=str(drawn))
        ann.sign_in("ann")
        assert ann.submit("/people", name="<b>x</b>", password=PASSWORD, action="add").status_code in (200, 422)
        item = next(item for item in ann.lease(10) if item["sku"] == HOSTILE)
        assert item["title"] == HOSTILE  # JSON carries it whole; the script puts it in as text
        body = {"key": KEY, "decision": item["id"], "v": item["v"], "accepted": False, "rules": ["banner"]}
        assert ann.ask("/api/verdict", **body, feedback=HOSTILE).status_code == 200
        seen = 0
        for path in (
            "/queue?reviewed=any", "/queue?reviewed=any&text=" + "%3Cscript%3E", "/history", "/day", "/team", "/people",
            "/queue?category=%22%3E%3Cscript%3Ealert(1)%3C/script%3E", "/review?text=%3C/script%3E%3Cscript%3E",
            "/login?next=%22%3E%3Cscript%3Ealert(1)%3C/script%3E",
        ):  # fmt: skip
            response = ann.get(path, params={"sku": HOSTILE} if path == "/history" else None)
            assert response.status_code == 200, path
            page = Elements(response.text)
            assert page.scripts == [], path
            assert page.bad == [], path
            assert page.tags.count("script") <= 3, path
            assert "onerror=alert(1)>" not in response.text, path
            assert response.headers["content-security-policy"] == POLICY
            seen += "&lt;/script&gt;&lt;script&gt;" in response.text
        assert seen >= 4


def test_every_response_carries_the_headers(ann: Person) -> None:
    for path in (
        "/login",
        "/queue",
        "/api/session",
        "/static/0123456789ab/review.js",
        "/static/0123456789ab/none.js",
        "/nowhere",
        "/image/1/0/small",
    ):
        headers = ann.get(path).headers
        assert headers["x-content-type-options"] == "nosniff", path
        assert headers["x-frame-options"] == "DENY", path
        assert "default-src 'none'" in headers["content-security-policy"], path
        assert "unsafe" not in headers["content-security-policy"], path
        assert "cache-control" in headers, path


# Pictures ------------------------------------------------------------------------------------------------------------


def test_a_picture_is_named_by_number_only(ann: Person) -> None:
    number = ann.lease()[0]["id"]
    good = ann.get(f"/image/{number}/0/small")
    assert good.status_code == 200
    assert good.headers["content-type"] == "image/webp"
    assert good.headers["cache-control"] == "private, max-age=86400"
    for path in (
        f"/image/{number}/99/small", f"/image/{number}/-1/small", f"/image/{number}/0/..%2f..%2fetc%2fpasswd",
        f"/image/{number}/..%2f0/small", "/image/../../etc/passwd", "/image/99999999999999999999/0/small",
        "/image/4242/0/small", "/static/0/..%2freview.py", "/static/0/%2e%2e/__init__.py", "/static//etc/passwd",
    ):  # fmt: skip
        response = ann.get(path)
        assert response.status_code in (404, 422), path
        assert "root:" not in response.text
        assert "import" not in response.text


def test_pictures_outside_the_decisions_own_sources_are_not_read(tmp_path: Path, drawn: Path) -> None:
    """A catalogue is written by strangers: each of these names a real picture, none of which may be shown."""
    inside = tmp_path / "shop"
    draw_shop(inside, 1)
    secret = drawn / "images/1-0.jpg"
    (tmp_path / "secret.jpg").write_bytes(secret.read_bytes())
    (inside / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    uris = (
        "images/0-0.jpg", "../secret.jpg", "images/../../secret.jpg", str(tmp_path / "secret.jpg"), "link.jpg",
        f"file://{tmp_path}/secret.jpg", f"FILE://localhost{tmp_path}/secret.jpg", f"local://{tmp_path}/secret.jpg",
        f"simplecache::file://{tmp_path}/secret.jpg", "data:image/png;base64,AAAA", "images/0-0.jpg\0", "",
        f"file://{inside}/images/0-1.jpg", str(inside / "images/0-2.jpg"), "x" * 5000,
    )  # fmt: skip
    shown = {0, 12, 13}
    with open_store(tmp_path / "reviews.db") as store:
        made = decision(
            0, sequence=uris[:1], violations=(), candidates=tuple(Candidate(uri) for uri in uris if "\0" not in uri)
        )
        store.add([made], base=str(inside))
        with pages(store, url="http://localhost", open=True) as person:
            person.look("/queue")
            names = [uri for uri in uris if "\0" not in uri]
            for number, uri in enumerate(names):
                response = person.get(f"/image/1/{number}/small")
                assert response.status_code == 200
                kind = response.headers["content-type"]
                assert kind == ("image/webp" if uris.index(uri) in shown else "image/svg+xml"), uri
                assert response.headers["x-content-type-options"] == "nosniff"
                assert not re.search(str(tmp_path), response.text), "a placeholder tells no path"


def test_a_form_with_many_fields_or_bad_letters_is_no_form(ann: Person) -> None:
    kind = {"content-type": "application/x-www-form-urlencoded"}
    for body in (f"csrf={ann.mark}&" + "a=1&" * 200, b"csrf=" + ann.mark.encode() + b"&name=\xff"):
        assert ann.post("/logout", content=body, headers=kind, follow_redirects=False).status_code == 403


def test_keys_of_verdicts_are_their_reviewers(ann: Person) -> None:
    """Somebody who learns a key can neither take the verdict over nor change it."""
    first, second = ann.lease(2)
    key = str(uuid4())
    store_of(ann).give(Given(key, first["id"], "ann", True))
    body = {"key": key, "decision": second["id"], "v": second["v"], "accepted": False, "rules": ["blur"]}
    assert ann.ask("/api/verdict", **body).status_code == 422
    assert [v.accepted for v in store_of(ann).verdicts()] == [True]
    assert store_of(ann).count(Query(reviewed="done")) == 1
