"""Renewal: from verdicts to the next bundle, under a rulebook that changed, killed and run again."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from agpis import renewal_fit, stacking, trees
from agpis.bundle import STARTER, open_bundle
from agpis.bundle_manifest import Stacking, read_manifest
from agpis.checkpoint import read_checkpoint
from agpis.data import Verdict
from agpis.errors import OutputError, SettingsError
from agpis.locks import locked
from agpis.renew import Renewal, renew
from agpis.renewal_fit import fitted
from agpis.renewal_folder import RENEWALS, STALE, Home, Plan
from agpis.renewal_page import Comparison
from agpis.rule_changes import rule_changes
from agpis.samples import split_of
from agpis.verdict_commands import register
from agpis.verdicts import read_verdicts
from tests.conftest import ROOT
from tests.drawn_reviews import write_reviews
from tests.drawn_store import a_store
from tests.test_leading import TRUE
from tests.test_rule_changes import ADDED, RENAMED

pytestmark = pytest.mark.usefixtures("one_thread")

NOW = datetime(2026, 6, 30, 12, tzinfo=UTC)
FAST = {"optim.steps": 4, "optim.epochs": 0, "optim.batch": 16, "optim.bf16": False, "optim.evaluate": 2}


@pytest.fixture(scope="module")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with drawn verdicts of the last days, and two rulebooks beside it."""
    folder = tmp_path_factory.mktemp("reviews")
    given = [v for v in read_verdicts(write_reviews(folder, 150)) if isinstance(v, Verdict)]
    days = [(NOW - timedelta(days=1 + number % 80)).isoformat() for number in range(len(given))]
    with a_store(folder) as store:
        store.import_verdicts(replace(v, split="", time=day) for v, day in zip(given, days, strict=True))
        store.import_verdicts([replace(given[0], sku="old", split="", time="2026-01-01T00:00:00+00:00")])
    head = "id: shop\nversion: 2\nextends: default\ndrop: [banner, same_view]\nrules:"
    (folder / "rules.yaml").write_text(head + RENAMED + ADDED)
    return folder


def wanted(reviews: Path, bundle: Path, **more: object) -> Renewal:
    options = {"bundle": str(bundle), "rulebook": str(reviews / "rules.yaml"), "changes": FAST, "rounds": 200, **more}
    return Renewal(**options)  # type: ignore[arg-type]


KILLED = """
import os, signal, sys
from datetime import UTC, datetime
from pathlib import Path
from agpis.renew import Renewal, renew
source, home, bundle, rules, where = sys.argv[1:]
def say(text):
    if text.startswith(where):
        os.kill(os.getpid(), signal.SIGKILL)
changes = {fast!r}
wanted = Renewal(bundle=bundle, rulebook=rules, changes=changes, rounds=200, promote="always")
renew(source, Path(home), wanted, now=lambda: datetime(2026, 6, 30, 12, tzinfo=UTC), progress=False, say=say)
"""


@pytest.fixture(scope="module")
def killed(reviews: Path, tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of bundles whose first renewal was killed twice: before the export, and before the comparison."""
    home = tmp_path_factory.mktemp("killed") / "bundles"
    arguments = [str(reviews / "reviews.db"), str(home), str(tiny_bundle), str(reviews / "rules.yaml")]
    for where in ("exporting", "comparing"):
        program = [sys.executable, "-c", KILLED.format(fast=FAST), *arguments, where]
        ended = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=400, check=False)
        assert ended.returncode == -signal.SIGKILL, ended.stderr
        assert not (home / "current").exists()
        assert [path.name for path in home.iterdir()] == [RENEWALS]
    return home


@pytest.mark.timeout(900)
def test_a_killed_renewal_goes_on_and_ends_once(killed: Path, reviews: Path, tiny_bundle: Path) -> None:
    work = killed / RENEWALS / "renewed-2026-06-30"
    trained = (work / "muisc" / "weights.safetensors").stat().st_mtime_ns
    asked = wanted(reviews, tiny_bundle, promote="always")
    said: list[str] = []
    later = NOW + timedelta(hours=2)
    found = renew(str(reviews / "reviews.db"), killed, asked, now=lambda: later, progress=False, say=said.append)
    assert said[0] == "goes on with renewed-2026-06-30, which was stopped"
    assert (found.outcome, found.exit_code, found.id) == ("promoted", 0, "renewed-2026-06-30")
    assert (work / "muisc" / "weights.safetensors").stat().st_mtime_ns == trained
    assert (killed / "current").readlink() == Path("renewed-2026-06-30")
    assert not (work / "muisc" / "cache").exists()
    bundle = open_bundle(killed / "current")
    assert bundle.name == "renewed-2026-06-30"

    # the rulebook of now, and what was known under the old names
    assert "promotion" in bundle.classes
    assert "mood" in bundle.classes
    assert {"banner", "same_view"}.isdisjoint(bundle.classes)
    assert bundle.single_rules[0] == "promotion"
    text = "\n".join(found.notes)
    assert "banner is called promotion now" in text
    assert "mood is new: 0 verdicts name it" in text
    assert "same_view is dropped" in text

    # what it was trained on and measured by
    held = [v for v in read_verdicts(work / "held.jsonl") if isinstance(v, Verdict)]
    used = [v for v in read_verdicts(work / "samples.jsonl") if isinstance(v, Verdict)]
    assert {split_of(v.sku) for v in held} == {"test"}
    assert {v.split for v in used} == {"train", "validation"}
    assert "old" not in {v.sku for v in (*held, *used)}  # before the window
    assert len(held) + len(used) == 300
    comparison = found.comparison
    assert comparison is not None
    assert (comparison.verdicts, comparison.new, comparison.old) == (len(held), bundle.name, "tiny")
    written = json.loads((work / "comparison.json").read_text())
    assert Comparison.from_row(written).row() == comparison.row()  # NaN is not itself
    page = (work / "comparison.html").read_text()
    for part in (
        bundle.name,
        "banner is called promotion now",
        "held-out verdicts",
        f"{comparison.figures['auc'].first:.3f}",
    ):
        assert part in page
    assert f"| {comparison.figures['auc'].first:.3f} |" in (work / "comparison.md").read_text()
    start = read_checkpoint(work / "start")
    assert start.training["command"] == "read out of the graphs"
    thresholds = read_manifest(killed / "current").thresholds
    assert "withholds" in thresholds["qualified"].data or "Evidence is not weighed" in text

    # killed between the promotion and its record: nothing is done twice, and the next one begins at the new bundle
    (work / "result.json").unlink()
    again = renew(str(reviews / "reviews.db"), killed, asked, now=lambda: later, progress=False)
    assert (again.outcome, again.id, again.notes) == ("promoted", found.id, found.notes)
    assert again.comparison is not None
    assert again.comparison.row() == comparison.row()
    assert Home(killed).checkpoint(bundle.name) == (work / "muisc").resolve()


def test_a_stopped_renewal_is_gone_on_with_for_two_days(tmp_path: Path) -> None:
    home = Home(tmp_path)
    question = {"window": "90d"}
    with home.lock():
        home.begin(Plan("r", NOW.isoformat(), "", "", None, "", question))
        assert home.stopped(question, NOW + timedelta(hours=1)) is not None
        assert home.stopped({"window": "30d"}, NOW) is None
        assert home.stopped(question, NOW + STALE) is None
        (home.work("r") / "result.json").write_text("{}")
        assert home.stopped(question, NOW) is None
        assert home.free_id("r") == "r-2"


def test_current_leads_to_a_whole_bundle_or_is_refused(tmp_path: Path, tiny_bundle: Path) -> None:
    home = Home(tmp_path)
    assert home.current is None
    (tmp_path / "a").symlink_to(tiny_bundle)
    home.promote("a")
    assert home.current == tiny_bundle.resolve()
    (tmp_path / "b").mkdir()
    home.promote("b")
    with pytest.raises(OutputError, match="is no symbolic link to a bundle"):
        _ = home.current


def test_one_renewal_at_a_time(tmp_path: Path, reviews: Path, tiny_bundle: Path) -> None:
    (tmp_path / RENEWALS).mkdir()
    with locked(tmp_path / RENEWALS), pytest.raises(OutputError, match="Another run is writing") as caught:
        renew(str(reviews / "reviews.db"), tmp_path, wanted(reviews, tiny_bundle), progress=False)
    assert caught.value.code == "locked"


def test_too_few_verdicts_change_nothing(tmp_path: Path, reviews: Path, tiny_bundle: Path) -> None:
    import typer

    app = typer.Typer()
    register(app)
    few = tmp_path / "few.jsonl"
    lines = (reviews / "verdicts.jsonl").read_text().splitlines()[:30]
    few.write_text("\n".join(lines))
    options = ["renew", str(few), "--bundles", str(tmp_path / "home"), "--bundle", str(tiny_bundle)]
    ended = CliRunner().invoke(app, options)
    assert ended.exit_code == 11
    assert "too few: " in ended.output
    assert not (tmp_path / "home" / "current").exists()
    (result,) = (tmp_path / "home" / RENEWALS).glob("*/result.json")
    assert json.loads(result.read_text())["outcome"] == "too_few"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"withheld": 1.0}, "a share"),
        ({"least": 3}, "20 or more"),
        ({"name": "a/b"}, "letters"),
        ({"test_days": 0}, "1"),
    ],
)
def test_what_cannot_be_meant(change: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Renewal(**change)  # type: ignore[arg-type]


def test_what_is_fitted_on_the_validation_verdicts(reviews: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    """Of a base with stacking: its trees are tried, the evidence is weighed, the threshold set as was asked, and the
    base's sequence model kept where it does as well."""
    from tests.test_stacking import fitted as drawn_trees

    base, new = tmp_path / "base", tmp_path / "new"
    for folder in (base, new):
        shutil.copytree(tiny_bundle, folder)
    entry = Stacking(features=stacking.FEATURES, data="drawn rows")
    trees.put(base, trees.to_onnx(drawn_trees()[0]), entry)
    rulebook = open_bundle(base).rulebook
    checked = [v for v in read_verdicts(reviews / "verdicts.jsonl") if isinstance(v, Verdict)][:60]
    same, asked = rule_changes(rulebook, rulebook), [replace(v, split="validation") for v in checked[:45]]
    seen: list[str] = []

    def unseen(verdict: Verdict) -> bool:
        seen.append(verdict.sku)
        return verdict.split != "validation"

    (new / "mark.txt").write_text("of the trained one", encoding="utf-8")
    made = fitted(open_bundle(base), new, checked[45:], asked, same, unseen=unseen, withheld=0.25)
    led, trees_said, models = made.notes
    assert led.startswith("The choice of the primary stays: first images are known of ")
    assert trees_said.startswith("Stacking of tiny: AUC on the validation verdicts ")
    manifest = read_manifest(new)
    assert manifest.weighing is not None
    assert manifest.thresholds["qualified"].data.startswith("withholds 25.0% of ")
    trained, kept, *_, low, _ = (float(number) for number in re.findall(r"-?[01]\.\d{3}", models))
    assert 0.0 <= min(trained, kept) <= max(trained, kept) <= 1.0
    assert (made.sequence == "kept") == (low <= 0.0) == (not (new / "mark.txt").exists())
    assert len(seen) > 45  # of all verdicts whose sequence is still submitted
    assert open_bundle(new).thresholds["qualified"] == manifest.thresholds["qualified"].value


def test_the_choice_of_the_primary_is_learned(tmp_path: Path) -> None:
    """Right images that are told by their looks alone: the fit is taken, and said; of noise it is not."""
    from tests.test_leading import SEEN, told

    manifest = read_manifest(STARTER)
    for wanted_looks, taken in ((SEEN, True), ((0.0,) * 4, False)):
        drawn = [told(300, 0, wanted=wanted_looks)[i] for i in range(300)]
        if not taken:  # what leads has nothing to do with anything
            rng = np.random.default_rng(0)
            drawn = [replace(lead, right=frozenset([int(rng.integers(6))])) for lead in drawn]
        start = TRUE.model_copy(update={"data": "simulated"})
        found, (note,) = renewal_fit._led(drawn, start, manifest)
        assert note.startswith("Choice of the primary: right in ")
        assert ("the looks of images heard" in note) == taken
        assert found == manifest.choice if not taken else len(found.looks) == 4 and "150 reviewed" in found.data
    # weights that were fitted on these very products look better than they are
    drawn = told(300, 0, wanted=SEEN)
    before = renewal_fit.learned(drawn, TRUE, "from: simulated").choice
    again, (note,) = renewal_fit._led(drawn, before, manifest, {lead.sku for lead in drawn})
    assert "fitted on nearly all of these products" in note
    assert again is not None
    assert again.data == "300 uploads of 150 reviewed products, from: simulated"
    _, (note,) = renewal_fit._led(drawn, before, manifest, {lead.sku for lead in drawn[:200]})
    assert " of 100 of products that were not learned from before " in note


def test_what_a_model_kept_has_not_seen(tmp_path: Path) -> None:
    home = Home(tmp_path)
    for name, base, sequence in (("b", "a", "trained"), ("c", "b", "kept"), ("d", "c", "kept"), ("e", "x", "kept")):
        home.work(name).mkdir(parents=True)
        (home.work(name) / "bundle.json").write_text(json.dumps({"sequence": sequence, "notes": []}))
        (home.work(name) / "result.json").write_text(json.dumps({"base": base}))
        (home.work(name) / "samples.jsonl").write_text(json.dumps({"sku": f"of {name}"}) + "\n")
    assert home.of_one_model("d") == {"d", "c", "b"}
    assert home.of_one_model("b") == {"b"}
    assert home.of_one_model("e") == {"e", "x", ""}
    assert home.of_one_model("x") == {"x", ""}
    assert home.taught("d") == {"of d", "of c", "of b"}
    assert home.taught("x") == frozenset()
    (home.work("d") / "samples.jsonl").unlink()  # somebody made room
    (home.work("c") / "bundle.json").unlink()
    assert home.taught("d") == {"of c", "of b"}
    assert home.of_one_model("d") == {"d", "c"}  # nothing is taken for unseen that may have been seen
