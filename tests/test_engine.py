"""The local engine: everything exactly once, whatever stops it; one test a way to be stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agpis.data import Decision
from agpis.engine import Options, generate
from agpis.errors import BundleError, CatalogueError, OutputError, SettingsError
from agpis.manifest import Manifest
from agpis.pipeline import Settings
from agpis.shards import read_decisions

OPEN = Settings(primary_threshold=0.0, noncompliant_threshold=1.0, threshold=0.0)
"""Lets an almost untrained bundle through to the second stage."""
SKUS = ["P0", "P1", "P2", "line 4", "P3", "P4", "P5", "empty", "P6", "P7", "P8", "P9", "P10", "P11"]


def decisions(folder: Path) -> list[Decision]:
    return list(read_decisions(sorted(folder.glob("part-*"))))


def many(catalogue: Path, path: Path, count: int) -> Path:
    """A catalogue of `count` products out of the tiny one's, with absolute image paths."""
    rows = [json.loads(line) for line in (catalogue / "catalog.jsonl").read_text().splitlines() if line.endswith("}")]
    with path.open("w") as file:
        for i in range(count):
            row = rows[i % len(rows)]
            images = [str(catalogue / uri) for uri in row["images"]]
            file.write(json.dumps({**row, "sku": f"{row['sku']}/{i}", "images": images}) + "\n")
    return path


def test_every_product_is_in_the_output_once_and_in_order(
    tiny_catalogue: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    options = Options(bundle=str(tiny_bundle), settings=OPEN)
    summary = generate(str(tiny_catalogue / "catalog.jsonl"), tmp_path / "out", options)
    found = decisions(tmp_path / "out")
    assert [d.sku for d in found] == SKUS
    assert summary.complete
    assert summary.totals.products == len(SKUS)
    by_sku = {d.sku: d for d in found}
    assert by_sku["line 4"].status == "failed"
    assert by_sku["line 4"].error is not None
    assert by_sku["empty"].status == "too_few_images"
    assert by_sku["P3"].status == "generated"
    assert len(by_sku["P3"].sequence) == 3
    assert [c.outcome for c in by_sku["P3"].candidates].count("primary") == 1
    broken = {c.uri: c.reason for c in by_sku["P8"].candidates if c.outcome == "removed"}
    assert broken["images/8-cut.jpg"] == "truncated"
    assert broken["images/8-html.jpg"] == "html"
    assert broken["images/8-missing.jpg"] == "not_found"
    assert (tmp_path / "out" / "report.html").stat().st_size > 10_000
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["complete"] is True
    assert manifest["totals"]["products"] == len(SKUS)
    assert not (tmp_path / "out" / "manifest.journal").exists()
    assert not (tmp_path / "out" / ".thumbnails").exists()


def test_both_formats_hold_the_same_decisions(tiny_catalogue: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    found = {}
    for fmt in ("parquet", "jsonl"):
        options = Options(bundle=str(tiny_bundle), settings=OPEN, format=fmt, report=False)
        generate(str(tiny_catalogue / "catalog.jsonl"), tmp_path / fmt, options)
        found[fmt] = decisions(tmp_path / fmt)
    assert found["parquet"] == found["jsonl"]


def test_a_second_run_does_nothing_again(tiny_catalogue: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    options = Options(bundle=str(tiny_bundle), settings=OPEN)
    source = str(tiny_catalogue / "catalog.jsonl")
    generate(source, tmp_path / "out", options)
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    summary = generate(source, tmp_path / "out", options)
    assert summary.complete
    assert summary.resumed == len(SKUS)
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == before


def test_another_question_in_the_same_folder_is_refused(
    tiny_catalogue: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    source = str(tiny_catalogue / "catalog.jsonl")
    generate(source, tmp_path / "out", Options(bundle=str(tiny_bundle), settings=OPEN, limit=2))
    with pytest.raises(OutputError, match=r"another limit: limit was 2, is 3\. Choose another folder"):
        generate(source, tmp_path / "out", Options(bundle=str(tiny_bundle), settings=OPEN, limit=3))


def test_foreign_files_are_not_touched(tiny_catalogue: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "part-1.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"part-\* files but no manifest\.json"):
        generate(str(tiny_catalogue / "catalog.jsonl"), tmp_path, Options(bundle=str(tiny_bundle)))
    assert (tmp_path / "part-1.txt").read_text() == "mine"


def test_a_damaged_manifest_is_reported(tiny_catalogue: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"format_version": 1, "comp')
    with pytest.raises(OutputError, match="cannot be read") as caught:
        generate(str(tiny_catalogue / "catalog.jsonl"), tmp_path, Options(bundle=str(tiny_bundle)))
    assert caught.value.code == "bad_manifest"


def test_wrong_source_bundle_and_options_fail_before_any_output(tiny_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(CatalogueError):
        generate(str(tmp_path / "absent.jsonl"), tmp_path / "out", Options(bundle=str(tiny_bundle)))
    (tmp_path / "some.jsonl").write_text('{"sku": "a", "title": "b", "images": []}\n')
    with pytest.raises(BundleError):
        generate(str(tmp_path / "some.jsonl"), tmp_path / "out", Options(bundle=str(tmp_path / "no-bundle")))
    with pytest.raises(SettingsError, match="a number of products, 1 or more"):
        Options(limit=0)
    with pytest.raises(SettingsError, match="1 to 50 images"):
        Settings(images=0)
    with pytest.raises(SettingsError, match="probability from 0 to 1"):
        Settings(threshold=1.5)
    assert not (tmp_path / "out").exists()


RUN = """
import sys
from agpis.engine import Options, generate
from agpis.pipeline import Settings
settings = Settings(primary_threshold=0.0, noncompliant_threshold=1.0, threshold=0.0)
def show(totals, decision):
    print(totals.products, flush=True)
summary = generate(sys.argv[1], sys.argv[2], Options(bundle=sys.argv[3], settings=settings, shard=32), progress=show)
print("complete" if summary.complete else "incomplete", flush=True)
"""


def start(source: Path, out: Path, bundle: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", RUN, str(source), str(out), str(bundle)], stdout=subprocess.PIPE, text=True
    )


def wait_for_products(process: subprocess.Popen[str], count: int) -> None:
    assert process.stdout is not None
    while line := process.stdout.readline():
        if line.strip().isdigit() and int(line) >= count:
            return
    pytest.fail("the run ended before it could be interrupted")


@pytest.mark.parametrize("kill_at", [0, 32, 96])
def test_kill_minus_nine_loses_and_doubles_nothing(
    tiny_catalogue: Path, tiny_bundle: Path, tmp_path: Path, kill_at: int
) -> None:
    source = many(tiny_catalogue, tmp_path / "many.jsonl", 150)
    process = start(source, tmp_path / "out", tiny_bundle)
    wait_for_products(process, kill_at)
    process.kill()
    process.communicate()
    again = start(source, tmp_path / "out", tiny_bundle)
    assert again.communicate()[0].splitlines()[-1] == "complete"
    found = [d.sku for d in decisions(tmp_path / "out")]
    assert found == [json.loads(line)["sku"] for line in source.read_text().splitlines()]


def test_ctrl_c_finishes_the_shard_and_the_rerun_goes_on(
    tiny_catalogue: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    source = many(tiny_catalogue, tmp_path / "many.jsonl", 300)
    process = start(source, tmp_path / "out", tiny_bundle)
    wait_for_products(process, 32)
    process.send_signal(signal.SIGINT)
    assert process.communicate()[0].splitlines()[-1] == "incomplete"
    finished = len(decisions(tmp_path / "out"))
    assert 32 <= finished < 300
    assert finished % 32 == 0
    again = start(source, tmp_path / "out", tiny_bundle)
    assert again.communicate()[0].splitlines()[-1] == "complete"
    assert len({d.sku for d in decisions(tmp_path / "out")}) == 300
    assert len(decisions(tmp_path / "out")) == 300


def test_a_torn_journal_line_is_a_shard_to_make_again(tmp_path: Path) -> None:
    question = {"source": "x"}
    manifest = Manifest(tmp_path, question)
    from agpis.manifest import describe

    for name, first in (("part-000000.jsonl", 0), ("part-000001.jsonl", 2)):
        manifest.append(describe(name, first, [Decision("a", "generated"), Decision("b", "failed")]))
    manifest.close()
    journal = tmp_path / "manifest.journal"
    journal.write_bytes(journal.read_bytes()[:-7])
    again = Manifest(tmp_path, question)
    assert [shard.name for shard in again.shards] == ["part-000000.jsonl"]
    assert again.totals.products == 2
    again.append(describe("part-000001.jsonl", 2, [Decision("a", "generated")]))
    again.close()
    assert [shard.count for shard in Manifest(tmp_path, question).shards] == [2, 1]


def test_two_runs_cannot_write_to_one_folder(tiny_catalogue: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    source = many(tiny_catalogue, tmp_path / "many.jsonl", 150)
    process = start(source, tmp_path / "out", tiny_bundle)
    wait_for_products(process, 0)
    try:
        with pytest.raises(OutputError, match="Another run is writing"):
            generate(str(source), tmp_path / "out", Options(bundle=str(tiny_bundle), settings=OPEN))
    finally:
        process.kill()
        process.communicate()


LIMITED = """
import sys
import resource, signal
from agpis.engine import Options, generate
from agpis.errors import OutputError
from agpis.pipeline import Pipeline, Settings
Pipeline(sys.argv[3]).open()
{restrict}
try:
    generate(sys.argv[1], sys.argv[2], Options(bundle=sys.argv[3]))
except OutputError as error:
    print(error.code, error.message)
"""


def refused(restrict: str, source: Path, out: Path, bundle: Path) -> str:
    code = LIMITED.format(restrict=restrict)
    done = subprocess.run(
        [sys.executable, "-c", code, str(source), str(out), str(bundle)], capture_output=True, text=True
    )
    assert not done.stderr, done.stderr
    return done.stdout


def test_a_full_disk_is_reported_and_resumed(tiny_catalogue: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    # The kernel refuses files above 6 kB, as it refuses any on a full disk.
    small = "resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))"
    source = tiny_catalogue / "catalog.jsonl"
    assert refused(small, source, tmp_path / "out", tiny_bundle).startswith("disk_full Cannot write")
    assert not list((tmp_path / "out").glob("*.tmp"))
    generate(str(source), tmp_path / "out", Options(bundle=str(tiny_bundle)))
    assert [d.sku for d in decisions(tmp_path / "out")] == SKUS


def test_a_read_only_folder_is_reported(tiny_catalogue: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    # Permissions do not stop root, but nobody may make a folder in /sys.
    folder = Path("/sys/kernel") if os.geteuid() == 0 else tmp_path
    folder.chmod(0o555) if os.geteuid() else None
    with pytest.raises(OutputError, match="Choose another place") as caught:
        generate(str(tiny_catalogue / "catalog.jsonl"), folder / "out", Options(bundle=str(tiny_bundle)))
    assert caught.value.code == "not_writable"


def test_output_that_is_a_file_is_reported(tiny_catalogue: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(OutputError, match="Cannot write") as caught:
        generate(str(tiny_catalogue / "catalog.jsonl"), tmp_path / "out", Options(bundle=str(tiny_bundle)))
    assert caught.value.code == "not_a_folder"


def test_a_changed_source_is_noticed(tiny_catalogue: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    source = many(tiny_catalogue, tmp_path / "many.jsonl", 10)
    options = Options(bundle=str(tiny_bundle), settings=OPEN)
    generate(str(source), tmp_path / "out", options)
    time.sleep(0.01)
    many(tiny_catalogue, source, 11)
    with pytest.raises(OutputError, match="another source_state"):
        generate(str(source), tmp_path / "out", options)
