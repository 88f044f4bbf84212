"""What an installed AGPIS has: everything that the checkout's package has."""

from __future__ import annotations

import pytest

from tests.conftest import ROOT


def test_the_wheel_holds_the_whole_package() -> None:
    """Migrations, templates, scripts, rulebooks, the starter bundle and the sample are files beside the code."""
    wheel = pytest.importorskip("hatchling.builders.wheel", reason="needs the dev extra (hatchling)")
    held = {file.distribution_path for file in wheel.WheelBuilder(str(ROOT)).recurse_included_files()}
    there = {path.relative_to(ROOT) for path in (ROOT / "agpis").rglob("*") if path.is_file()}
    assert held == {path.as_posix() for path in there if "__pycache__" not in path.parts}
    assert {"agpis/migrations/env.py", "agpis/static/review.js", "agpis/templates/review/layout.html"} <= held
