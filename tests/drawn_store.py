"""A store of reviews in a file, for the tests of the loop."""

from __future__ import annotations

from pathlib import Path

import pytest

from agpis.store import Store, open_store


def a_store(folder: Path) -> Store:
    """The store `reviews.db` in the folder, made where there is none."""
    pytest.importorskip("sqlalchemy", reason="needs the web extra")
    folder.mkdir(parents=True, exist_ok=True)
    return open_store(folder / "reviews.db")
