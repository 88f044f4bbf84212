"""The commands as a user or a script calls them: in a process of their own, on a pipe."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "transformers", "ray", "onnxruntime", "fastapi", "cv2", "pyarrow", "pydantic")


def agpis(*arguments: str, stdin: str = "", cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "agpis", *arguments], input=stdin, capture_output=True, text=True, cwd=cwd, timeout=280
    )


def rows(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize(
    "code", ["import agpis", "import sys; sys.argv = ['agpis', '--help']; from agpis.cli import main; main()"]
)
def test_import_and_help_load_no_heavy_package(code: str) -> None:
    show = f"import sys, atexit; atexit.register(lambda: print([m for m in {HEAVY!r} if m in sys.modules])); {code}"
    done = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_help_names_every_command() -> None:
    done = agpis("--help")
    for command in ("demo", "generate", "inspect", "compare", "score"):
        assert command in done.stdout
    assert agpis("--version").stdout.startswith("agpis 0.")


def test_generate_on_a_pipe_prints_one_line_of_json(tiny_catalogue: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    source = str(tiny_catalogue / "catalog.jsonl")
    done = agpis("generate", source, "-o", str(tmp_path / "out"), "--bundle", str(tiny_bundle), "--format", "jsonl")
    assert done.returncode == 1, done.stderr  # the torn line is a failed product
    (summary,) = rows(done.stdout)
    assert summary["products"] == 14
    assert summary["complete"] is True
    assert len(rows((tmp_path / "out" / "part-000000.jsonl").read_text())) == 14


def test_inspect_keeps_the_place_of_every_line(tiny_catalogue: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    lines = ['{"image": "images/3-0.jpg", "note": 7}', "not json", '{"image": 5}', '{"image": "images/8-cut.jpg"}']
    lines += ['{"image": "images/absent.jpg"}', "[1]", '{"image": "images/3-1.jpg"}']
    (tiny_catalogue / "lines.jsonl").write_text("\n".join(lines) + "\n")
    out = tmp_path / "answers.jsonl"
    done = agpis(
        "inspect", "--jsonl", str(tiny_catalogue / "lines.jsonl"), "-o", str(out), "--bundle", str(tiny_bundle)
    )
    assert done.returncode == 1
    assert "5 lines could not be answered" in done.stderr
    found = rows(out.read_text())
    codes = [row.get("error", {}).get("code") for row in found]
    assert codes == [None, "bad_line", "bad_line", "truncated", "not_found", "bad_line", None]
    assert found[0]["note"] == 7
    assert (found[0]["width"], found[0]["height"]) == (480, 600)
    assert 0 <= float(found[0]["p_primary"]) <= 1
    assert set(found[6]) == {"image", "width", "height", "p_primary", "p_noncompliant", "findings"}


def test_inspect_takes_images_as_arguments(tiny_catalogue: Path, tiny_bundle: Path) -> None:
    image = str(tiny_catalogue / "images" / "3-0.jpg")
    done = agpis("inspect", image, image, "--bundle", str(tiny_bundle))
    assert done.returncode == 0, done.stderr
    first, second = rows(done.stdout)
    assert first == second
    assert first["image"] == image


def test_compare_gives_boxes_of_a_copy(tiny_catalogue: Path, tiny_bundle: Path) -> None:
    image = str(tiny_catalogue / "images" / "3-0.jpg")
    line = json.dumps({"a": image, "b": image})
    done = agpis("compare", "--jsonl", "-", "--bundle", str(tiny_bundle), stdin=line + "\n")
    assert done.returncode == 0, done.stderr
    (row,) = rows(done.stdout)
    assert {"a", "b", "p_duplicate", "box_a", "box_b"} == set(row)


def test_score_answers_and_refuses_line_by_line(tiny_catalogue: Path, tiny_bundle: Path) -> None:
    images = [str(tiny_catalogue / "images" / f"3-{i}.jpg") for i in range(3)]
    lines = [
        {"sku": "a", "title": "Spotted thing", "images": images},
        {"sku": "b", "title": "Spotted thing", "images": []},
        {"sku": "c", "title": "", "images": images},
        {"sku": "d", "title": "Spotted thing", "category": "Things", "images": images[:1]},
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    done = agpis("score", "--jsonl", "-", "--bundle", str(tiny_bundle), stdin=text)
    found = rows(done.stdout)
    assert [row["sku"] for row in found] == ["a", "b", "c", "d"]
    assert ["error" in row for row in found] == [False, True, True, False]
    violations = found[0]["violations"]
    total = float(found[0]["p_qualified"]) + sum(v["probability"] for v in violations)
    assert 0 < total <= 1.0001
    assert isinstance(found[3]["feedback"], str)


@pytest.mark.parametrize(
    ("arguments", "exit_code", "said"),
    [
        (["generate", "nowhere.jsonl", "-o", "out"], 3, "nowhere.jsonl"),
        (["generate", "c.jsonl", "-o", "out", "--images", "0"], 2, "1 to 50 images"),
        (["generate", "c.jsonl", "-o", "out", "--search", "worst"], 2, "is not one of"),
        (["generate", "c.jsonl", "-o", "out", "--rulebook", "absent.yaml"], 4, "absent.yaml"),
        (["generate", "c.jsonl", "-o", "out", "--bundle", "nobundle"], 4, "no bundle at nobundle"),
        (["generate", "c.jsonl", "-o", "file.txt"], 5, "Cannot write"),
        (["generate", "c.jsonl"], 2, "Missing option"),
        (["inspect"], 2, "one of the two"),
        (["inspect", "--jsonl", "absent.jsonl"], 3, "Cannot read absent.jsonl"),
        (["compare", "--jsonl", "c.jsonl", "--matcher", "best"], 2, "is not one of"),
    ],
)
def test_exit_codes(arguments: list[str], exit_code: int, said: str, tmp_path: Path, tiny_bundle: Path) -> None:
    (tmp_path / "c.jsonl").write_text('{"sku": "a", "title": "b", "images": []}\n')
    (tmp_path / "file.txt").write_text("a file")
    if arguments[0] == "generate" and "--bundle" not in arguments:
        arguments = [*arguments, "--bundle", str(tiny_bundle)]
    done = agpis(*arguments, cwd=tmp_path)
    assert done.returncode == exit_code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
