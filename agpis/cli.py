"""The command line. Every command parses, calls one public function, prints; errors become exit codes here only.

Exit codes: 0 done; 1 done, but with products or lines that failed; 2 the command cannot be meant; 3 catalogue or other
source; 4 bundle or rulebook; 5 output folder or store; 6 a package is missing; 7 a limit of monitor is crossed; 130
stopped by Ctrl-C (run again to go on).
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer

from agpis import __version__, monitor_commands, review_commands, training_commands, verdict_commands
from agpis.errors import (
    AgpisError,
    BundleError,
    CatalogueError,
    ImageError,
    MissingExtra,
    OutputError,
    RulebookError,
    SettingsError,
    SourceError,
    StoreError,
    TrainingError,
    output_error,
)

if TYPE_CHECKING:
    from agpis.bundle import Bundle
    from agpis.engine import Options, Summary
    from agpis.rulebook import Rulebook

EXIT_CODES: dict[type[AgpisError], int] = {
    SettingsError: 2,
    CatalogueError: 3,
    ImageError: 3,
    SourceError: 3,
    BundleError: 4,
    RulebookError: 4,
    TrainingError: 4,
    StoreError: 5,
    OutputError: 5,
    MissingExtra: 6,
}
FAILED = 1
INTERRUPTED = 130

app = typer.Typer(
    name="agpis",
    help="Ordered, rule-compliant product-image sequences out of a shop's raw photos.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="markdown",
    epilog="Exit codes: 0 done, 1 some products or lines failed, 2 wrong usage, 3 catalogue or other source, "
    "4 bundle or rulebook, 5 output or store, 6 missing package, 7 a limit of monitor crossed, 130 stopped by Ctrl-C.",
)

BundleOption = Annotated[
    str | None, typer.Option("--bundle", help="Folder of a bundle; the starter in the package when left out.")
]
RulebookOption = Annotated[
    str | None,
    typer.Option(
        "--rulebook", help="default, amazon, google, walmart, ebay, or your own YAML; the bundle's own if left out."
    ),
]
MatcherOption = Annotated[
    Literal["dense", "edgeboxes"],
    typer.Option("--matcher", help="How duplicates are found: on the image graph's patches, or as in the paper."),
]
OutFile = Annotated[str, typer.Option("-o", "--out", help="Output file, JSON lines; - for standard output.")]


def main() -> None:
    """Entry point of the `agpis` command."""
    try:
        code = app(standalone_mode=False)  # a command that raised typer.Exit: its code
    except AgpisError as error:
        _fail(error)
    except typer.Abort:
        sys.exit(INTERRUPTED)
    except KeyboardInterrupt:
        sys.stderr.write("agpis: stopped. Finished shards are kept; run the same command to go on.\n")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except Exception as error:
        if (show := getattr(error, "show", None)) is None:
            raise
        show()  # a usage error of typer: its own text and exit code 2
        sys.exit(getattr(error, "exit_code", 2))
    sys.exit(code if isinstance(code, int) else 0)


def _fail(error: AgpisError) -> NoReturn:
    sys.stderr.write(f"agpis: {error.message}  [{error.code}]\n")
    sys.exit(next(code for kind, code in EXIT_CODES.items() if isinstance(error, kind)))


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"agpis {__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Ordered, rule-compliant product-image sequences out of a shop's raw photos."""


@app.command()
def demo(
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for decisions and report.")] = Path("demo"),
) -> None:
    """Run the main job on the sample catalogue inside the package."""
    from agpis.console import sample_catalogue
    from agpis.engine import Options

    _generate(str(sample_catalogue()), out, Options(format="jsonl", title="AGPIS sample catalogue"), explain=True)


@app.command()
def generate(
    source: Annotated[str, typer.Argument(help="A catalogue: folder, JSONL, Parquet or a shop's file; path or URL.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for decisions, report and the shop's file.")],
    bundle: BundleOption = None,
    rulebook: RulebookOption = None,
    images: Annotated[
        int | None, typer.Option("--images", help="K, images per sequence with the primary. [default: the rulebook's]")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option("--threshold", help="Lowest p_qualified to submit. [default: the bundle's, 0.3]")
    ] = None,
    search: Annotated[
        Literal["best", "random"],
        typer.Option(
            "--search", help="best: highest p_qualified, fewest doubts; random: primary and the rest at random."
        ),
    ] = "best",
    matcher: MatcherOption = "dense",
    feedback: Annotated[
        Literal["never", "rejected", "always"],
        typer.Option("--feedback", help="Decode the model's feedback text: never, rejected or always."),
    ] = "never",
    seed: Annotated[int, typer.Option("--seed", help="Seed of --search random.")] = 0,
    source_format: Annotated[
        str | None, typer.Option("--source-format", help="Format of the catalogue. [default: guessed from its content]")
    ] = None,
    base: Annotated[
        str | None,
        typer.Option("--base", help="Folder or URL of relative image addresses. [default: where the catalogue lies]"),
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", help="Only the first N products.")] = None,
    format: Annotated[
        Literal["parquet", "jsonl"], typer.Option("--format", help="Format of the decisions.")
    ] = "parquet",
    report: Annotated[bool, typer.Option("--report/--no-report", help="Write report.html.")] = True,
    only_sequence: Annotated[
        bool, typer.Option("--only-sequence", help="Leave spare images out of the shop's file.")
    ] = False,
) -> None:
    """Choose, check and order the images of every product of a catalogue.

    Writes part-*.parquet (or .jsonl), manifest.json and report.html; for a shop's file also that file again, with
    only its image columns changed. Run again after an interruption: finished products are not done twice.
    """
    from agpis.engine import Options
    from agpis.pipeline import Settings

    settings = Settings(
        rulebook=rulebook,
        images=images,
        threshold=threshold,
        search=search,
        matcher=matcher,
        feedback=feedback,
        seed=seed,
    )
    options = Options(
        bundle=bundle,
        settings=settings,
        source_format=source_format,
        base=base,
        format=format,
        limit=limit,
        report=report,
        only_sequence=only_sequence,
    )
    _generate(source, out, options)


@app.command()
def inspect(
    images: Annotated[list[str] | None, typer.Argument(help="Images: paths or URLs.")] = None,
    jsonl: Annotated[
        str | None, typer.Option("--jsonl", help='A file with {"image"} a line; - for standard input.')
    ] = None,
    out: OutFile = "-",
    bundle: BundleOption = None,
    rulebook: RulebookOption = None,
) -> None:
    """Judge single images: size, p_primary, p_noncompliant and findings, one JSON line each."""
    from agpis import judge

    if bool(images) == bool(jsonl):
        raise SettingsError("bad_arguments", "Give images, or --jsonl FILE; one of the two.")
    lines = ({"image": image} for image in images) if images else _lines(str(jsonl))
    opened, rules = _open(bundle, rulebook)
    _print_lines(judge.inspect(lines, opened, rules, base=_base(jsonl)), out)


@app.command()
def compare(
    jsonl: Annotated[str, typer.Option("--jsonl", help='A file with {"a", "b"} a line; - for standard input.')],
    out: OutFile = "-",
    bundle: BundleOption = None,
    matcher: MatcherOption = "dense",
) -> None:
    """Say for pairs of images whether one is a copy or a crop of the other, and where."""
    from agpis import judge

    opened, rules = _open(bundle, None)
    _print_lines(judge.compare(_lines(jsonl), opened, rules, matcher=matcher, base=_base(jsonl)), out)


@app.command()
def score(
    jsonl: Annotated[
        str,
        typer.Option("--jsonl", help='A file with {"sku", "title", "category"?, "images": [...]} a line; - for stdin.'),
    ],
    out: OutFile = "-",
    bundle: BundleOption = None,
    feedback: Annotated[bool, typer.Option("--feedback/--no-feedback", help="Decode the feedback text.")] = True,
) -> None:
    """Give the probability that a reviewer accepts each sequence, the likely violations and the feedback."""
    from agpis import judge

    opened, rules = _open(bundle, None)
    _print_lines(judge.score(_lines(jsonl), opened, rules, feedback=feedback, base=_base(jsonl)), out)


def _open(bundle: str | None, rulebook: str | None) -> tuple[Bundle, Rulebook]:
    from agpis.bundle import open_bundle
    from agpis.rulebook import load_rulebook

    opened = open_bundle(bundle)
    return opened, opened.rulebook if rulebook is None else load_rulebook(rulebook)


def _base(jsonl: str | None) -> str:
    """Relative images in a file of lines are relative to that file."""
    return "" if jsonl in (None, "-") else str(Path(str(jsonl)).parent)


def _lines(path: str) -> Iterator[dict[str, Any]]:
    """JSON lines; a line that is none keeps its place as an error."""
    try:
        file = sys.stdin.buffer if path == "-" else Path(path).open("rb")  # noqa: SIM115, `with` below closes it
    except OSError as error:
        raise CatalogueError("not_found", f"Cannot read {path}: {error.strerror}.") from error
    with file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise ValueError(f"it is a {type(row).__name__}, not an object")
            except ValueError as error:
                message = f"Line {number} is not a JSON object: {error}."
                row = {"line": number, "error": {"code": "bad_line", "message": message}}
            yield row


def _print_lines(lines: Iterable[dict[str, Any]], out: str) -> None:
    failed = 0
    with _opened(out) as write:
        for line in lines:
            failed += "error" in line
            write(json.dumps(line, ensure_ascii=False) + "\n")
    if failed:
        sys.stderr.write(f"agpis: {failed} line{'s' * (failed != 1)} could not be answered; see `error` there.\n")
        raise typer.Exit(FAILED)


@contextmanager
def _opened(out: str) -> Iterator[Callable[[str], object]]:
    """Standard output, or a file that appears under its name only when whole."""
    if out == "-":
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(encoding="utf-8")
        yield sys.stdout.write
        return
    path = Path(out)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            yield file.write
        temporary.replace(path)
    except OSError as error:
        raise output_error(error, path) from error


def _generate(source: str, out: Path, options: Options, *, explain: bool = False) -> None:
    from agpis.console import RunDisplay
    from agpis.engine import generate as run

    with RunDisplay(source, options) as display:
        summary: Summary = run(source, out, options, progress=display.update)
    display.close(summary, explain=explain)
    if not summary.complete:
        raise typer.Exit(INTERRUPTED)
    if summary.totals.statuses.get("failed"):
        raise typer.Exit(FAILED)


for commands in (training_commands, review_commands, verdict_commands, monitor_commands):
    commands.register(app)
