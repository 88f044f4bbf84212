"""The accounts, sessions and failed logins of a store. On both databases."""

from __future__ import annotations

from datetime import timedelta

import pytest

from agpis.errors import StoreError
from agpis.records import Query
from agpis.store import Store
from tests.stores import FakeClock, clock, database, decision, empty_databases, postgres, store

__all__ = ["clock", "database", "empty_databases", "postgres", "store"]  # fixtures


def test_accounts_and_their_sessions(store: Store, clock: FakeClock) -> None:
    ann = store.add_reviewer("Ann", "hash-1", admin=True)
    store.add_reviewer("bob", "hash-2")
    assert store.reviewer("ANN") == ann
    assert "hash-1" not in repr(ann)
    assert store.reviewer("a\0") is None
    assert [(r.name, r.admin) for r in store.reviewers()] == [("Ann", True), ("bob", False)]
    with pytest.raises(StoreError, match="already"):
        store.add_reviewer("ann", "x")
    for name in ("", " ann", "a\nb", "a\0b", "x" * 101):
        with pytest.raises(StoreError, match="printable"):
            store.add_reviewer(name, "x")
    end = clock.time + timedelta(hours=8)
    made = store.open_session("ann", "token-1", end)
    assert store.session("token-1") == made
    assert made.reviewer == ann
    assert store.session("token-2") is None
    store.set_password("Ann", "hash-3")
    assert store.session("token-1") is None
    assert store.reviewer("Ann").password_hash == "hash-3"  # type: ignore[union-attr]
    store.open_session("bob", "token-3", end)
    store.open_session("bob", "token-4", end)
    store.close_session("token-3")
    assert store.session("token-3") is None
    assert store.session("token-4") is not None
    clock.pass_by(8 * 3600)
    assert store.session("token-4") is None
    for call in (lambda: store.set_password("eve", "x"), lambda: store.disable("eve"),
                 lambda: store.open_session("eve", "t", end)):  # fmt: skip
        with pytest.raises(StoreError, match="no reviewer"):
            call()


def test_a_disabled_reviewer_is_out_and_his_leases_are_free(store: Store, clock: FakeClock) -> None:
    store.add([decision(0)])
    store.add_reviewer("Ann", "hash")
    end = clock.time + timedelta(hours=1)
    store.open_session("Ann", "token", end)
    (item,) = store.lease("Ann", Query())
    store.disable("ann")
    assert store.session("token") is None
    assert store.reviewer("ann").disabled  # type: ignore[union-attr]
    assert [i.id for i in store.lease("bob", Query())] == [item.id]
    with pytest.raises(StoreError, match="no reviewer"):
        store.open_session("ann", "t2", end)
    store.disable("ann", False)
    store.open_session("ann", "t2", end)


def test_failed_logins_are_counted_by_name_and_address(store: Store, clock: FakeClock) -> None:
    begin = clock.time
    for name, address in (("Ann", "10.0.0.1"), ("ann", "10.0.0.2"), ("bob", "10.0.0.1")):
        store.note_failed_login(name, address)
        clock.pass_by(60)
    assert store.failed_logins(begin, name="ANN") == 2
    assert store.failed_logins(begin, address="10.0.0.1") == 2
    assert store.failed_logins(begin, name="ann", address="10.0.0.1") == 1
    assert store.failed_logins(begin + timedelta(seconds=60), name="ann") == 1
    store.clear_failed_logins("ann")
    assert store.failed_logins(begin) == 1
    clock.pass_by(3 * 86400)
    store.note_failed_login("bob", "10.0.0.3")
    assert store.failed_logins(begin) == 1  # the old ones are forgotten
