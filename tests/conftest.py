"""Shared parts of the tests: real ones, made small. Nothing here needs the network."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The development catalogues beside the checkout; skipped where they are absent, never in CI."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI must have {folder}")
        pytest.skip("needs the development catalogues in ../shared/data")
    return folder
