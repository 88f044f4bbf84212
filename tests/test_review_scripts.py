"""The scripts and the style of the review pages: what a browser may keep of them, and who imports whom."""

from __future__ import annotations

import re
import shutil
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from agpis import review_desk
from agpis.store import Store, open_store
from tests.conftest import ROOT
from tests.review_shop import pages

STATIC = ROOT / "agpis/static"


def folder_of(store: Store) -> str:
    """Where the review page's scripts and style are, under a new server."""
    with pages(store, url="http://localhost", open=True) as person:
        (folder,) = set(re.findall(r'(?:src|href)="(/static/[^/"]+)/[\w.]+"', person.look("/review")))
    return folder


def test_scripts_are_kept_only_under_the_address_of_their_content(tmp_path: Path) -> None:
    with open_store(tmp_path / "reviews.db") as store:
        folder = folder_of(store)
        with pages(store, url="http://localhost", open=True) as person:
            for path in STATIC.iterdir():
                response = person.get(f"{folder}/{path.name}")
                assert response.content == path.read_bytes()
                assert response.headers["cache-control"] == "public, max-age=31536000, immutable"
                kind = {".js": "text/javascript", ".css": "text/css"}[path.suffix]
                assert response.headers["content-type"] == f"{kind}; charset=utf-8"
            assert person.get(f"{folder}/none.js").status_code == 404
            before = person.get("/static/0123456789ab/review.js")  # a page of the version before an update
            assert (before.status_code, before.headers["cache-control"]) == (200, "no-store")


def test_their_address_changes_with_each_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(STATIC, tmp_path / "static")
    monkeypatch.setattr(review_desk.resources, "files", lambda package: tmp_path)
    with open_store(tmp_path / "reviews.db") as store:
        folders = [folder_of(store), folder_of(store)]
        for path in sorted((tmp_path / "static").iterdir()):
            path.write_bytes(path.read_bytes() + b"\n")
            folders.append(folder_of(store))
    assert folders[0] == folders[1]
    assert len(set(folders)) == len(folders) - 1


def test_scripts_import_down_only() -> None:
    imported = {
        path.name: set(re.findall(r'^import [^;]*?"\./([\w.]+)";', path.read_text(), re.MULTILINE))
        for path in STATIC.glob("*.js")
    }
    order = list(TopologicalSorter(imported).static_order())  # CycleError where two need each other
    assert set(order) == imported.keys()
    reached, found = {"review.js"}, {"review.js"}
    while found := {name for each in found for name in imported[each]} - reached:
        reached |= found
    assert reached == imported.keys()
    assert imported["everywhere.js"] == {"outbox.js", "page.js"}  # light: it is on every page
