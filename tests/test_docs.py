"""The documents say what the code does: error codes, commands, files, fields."""

from __future__ import annotations

import ast
import dataclasses
import re
from pathlib import Path

from agpis.bundle import open_bundle
from agpis.cli import EXIT_CODES, app
from agpis.data import STATUSES, Candidate, Decision
from agpis.errors import OUTPUT_CODES
from agpis.samples import SAMPLE_CODES
from bench.card import card, graph_sizes, into_readme
from bench.sheets import recorded
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
ERRORS = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
CATALOGUES = (ROOT / "docs" / "catalogues.md").read_text(encoding="utf-8")
KINDS = {
    "AgpisError",
    "BundleError",
    "CatalogueError",
    "ImageError",
    "OutputError",
    "RulebookError",
    "SettingsError",
    "SourceError",
    "StoreError",
    "TrainingError",
}


def raised() -> set[str]:
    """Every literal code that the package raises."""
    codes = set()
    for path in (ROOT / "agpis").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in KINDS and node.args:
                first = node.args[0]
                if isinstance(first, ast.Constant) and isinstance(first.value, str):
                    codes.add(first.value)
    return codes


def test_every_code_that_is_raised_is_documented() -> None:
    codes = raised() | set(OUTPUT_CODES) | set(SAMPLE_CODES)
    assert len(codes) > 60
    assert sorted(code for code in codes if f"`{code}`" not in ERRORS + CATALOGUES) == []


def test_readme_names_every_command_exit_code_status_and_field() -> None:
    commands = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    assert {"demo", "generate", "inspect", "compare", "score"} <= commands
    for command in commands - {"demo"}:
        assert f"agpis {command}" in README
    for code in {0, 1, 130, *EXIT_CODES.values()}:
        assert f"| {code} |" in README
    for status in STATUSES:
        assert f"`{status}`" in README
    for kind in (Decision, Candidate):
        for field in dataclasses.fields(kind):
            assert field.name == "thumbnail" or f"`{field.name}`" in README, field.name


def test_readme_has_a_line_for_every_module() -> None:
    tree = README.split("## Files")[1].split("## Limits")[0]
    modules = [path.relative_to(ROOT / "agpis") for path in (ROOT / "agpis").glob("*.py")]
    packages = [path.parent.name for path in (ROOT / "agpis").glob("*/__init__.py")]
    missing = [
        str(path) for path in modules if not path.name.startswith("__") and not re.search(rf"\b{path.name}\b", tree)
    ]
    missing += [name for name in packages if f"{name}/" not in tree]
    assert missing == []


def test_links_in_the_documents_lead_somewhere() -> None:
    for document in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for link in re.findall(r"\]\(([^)#]+)[^)]*\)", document.read_text(encoding="utf-8")):
            if "://" not in link:
                assert (document.parent / link).exists(), f"{document.name}: {link}"


def test_the_figures_are_those_in_the_shipped_bundles_manifest() -> None:
    """`python -m bench.card` says how to make README, docs/model-card.md and MODEL_CARD.md anew."""
    bundle = open_bundle(None)
    manifest, sizes = bundle.manifest, graph_sizes(bundle.folder, bundle.manifest)
    assert manifest.metrics["left_out"]
    assert into_readme(README, manifest) == README
    assert (bundle.folder / "MODEL_CARD.md").read_text(encoding="utf-8") == card(manifest, sizes)
    record = recorded(ROOT / "docs" / "card")
    assert record["graphs"] == {name: graph.sha256 for name, graph in manifest.graphs.items()}
    shown = card(manifest, sizes, record, "card")
    assert (ROOT / "docs" / "model-card.md").read_text(encoding="utf-8") == shown
    assert {sheet["file"] for sheet in record["sheets"] if sheet["file"]} == {
        path.name for path in (ROOT / "docs" / "card").glob("*.jpg")
    }


def test_no_document_names_a_path_of_one_machine() -> None:
    for document in [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "bench").glob("*.py")]:
        assert not re.search(r"(?<![\w./])/(work|root|home|tmp)/", document.read_text(encoding="utf-8")), document


def test_paths() -> None:
    assert Path(ROOT / "LICENSE").read_text(encoding="utf-8").lstrip().startswith("Apache License")
