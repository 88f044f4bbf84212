"""Table 2 of the paper on agpis-sim: single-tower baselines and MUIsC.

    python -m bench.agpis_sim --scale small --out runs/sim-small
    python -m bench.table2 --benchmark runs/sim-small --scale small --out runs/tables

Two parts. `common backbone`: every row stands on the same ImageNet-pretrained EfficientNet-Lite0, frozen, so that the
rows differ in fusion, decoder, feedback and title alone; this part judges the method. `from scratch`: the paper's four
backbones without their pretrained weights, which cannot be had here, on small pictures; it shows that the rows exist
and train, and says little about the method. The paper's own figures stand beside; its data are JD.com's reviews.

On 2 cores: tiny 5 minutes, small about 2 hours (finished runs are kept; stop and go on as you like).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch

from agpis.models.backbones import BackboneConfig
from bench.tables import Budget, Row, arguments, difference, open_benchmark, run_rows, show, summary

COMMON = (
    Row("early fusion, binary", "early", binary=True),
    Row("early fusion", "early"),
    Row("late fusion, binary", "late", binary=True),
    Row("late fusion", "late"),
    Row("MUIsC", "muisc"),
    Row("MUIsC + comparison", "muisc", compare=True, hide=0.3),
)
SINGLE_TOWER = tuple(row.name for row in COMMON if row.kind in ("early", "late"))

SCRATCH_SIZE = 64  # px; from scratch at 224 px would take days on two cores


def scratch(size: int) -> tuple[Row, ...]:
    """The paper's backbones, untrained. ViT in DeiT-Tiny's shape: ViT-B/16 has 86 million weights for 2,000 samples."""
    rows = []
    for name in ("resnet18", "vit_tiny", "resnet50", "resnetv2_101"):
        config = BackboneConfig(name, pretrained=False, size=size)
        rows += [
            Row(f"{name}, early fusion", "early", backbone=config, freeze=False),
            Row(f"{name}, late fusion", "late", backbone=config, freeze=False),
        ]
    vit = BackboneConfig("vit_tiny", pretrained=False, size=size)
    rows.append(Row("vit_tiny, late fusion, binary", "late", backbone=vit, freeze=False, binary=True))
    rows.append(Row("vit_tiny, MUIsC", "muisc", backbone=vit, freeze=False))
    return tuple(rows)


BUDGETS = {
    "tiny": (Budget(epochs=2, batch=32, seeds=(0, 1), rates=(1e-3,), width=32), None),
    "small": (
        Budget(epochs=4, batch=64, seeds=(0, 1, 2)),
        Budget(epochs=2, batch=32, seeds=(0, 1, 2), samples=800, rates=(3e-4,), validations=1, held=200),
    ),
    "paper": (Budget(epochs=10, batch=64, seeds=(0, 1, 2), width=768), Budget(epochs=10, batch=64, seeds=(0, 1, 2))),
}
"""Scale -> budget of the common backbone's rows, and of the rows from scratch."""


def main(options: Sequence[str] | None = None) -> None:
    """Trains what is missing and prints the table; see the module."""
    parser = arguments("table2", __doc__)
    parser.add_argument("--part", choices=("common", "scratch", "both"), default="both")
    chosen = parser.parse_args(options)
    torch.set_num_threads(chosen.threads)
    common, from_scratch = BUDGETS[chosen.scale]
    text = []
    if chosen.part in ("common", "both"):
        bench = open_benchmark(chosen.benchmark, common.samples)
        rows = [row for row in COMMON if chosen.rows in row.name]
        folder = chosen.out / "common"
        entries = run_rows(bench, rows, common, folder, finished=chosen.finished)
        found = summary(entries)
        text.append(show("Table 2, common backbone: frozen EfficientNet-Lite0 (ImageNet)", found, len(common.seeds)))
        towers = [name for name in found if name in SINGLE_TOWER]
        if towers:
            best = max(towers, key=lambda name: found[name]["all"][0])
            for name in found:
                if name.startswith("MUIsC"):
                    value, low, high = difference(bench, entries, name, best, folder)
                    text.append(
                        f"{name} less {best}: {100 * value:+.1f} AUC points [{100 * low:+.1f}, {100 * high:+.1f}]"
                        " (95 %, paired bootstrap over products, mean over seeds); the paper: +3.3"
                    )
                    print(text[-1])
    if chosen.part in ("scratch", "both") and from_scratch is not None:
        bench = open_benchmark(chosen.benchmark, from_scratch.samples)
        size = 224 if chosen.scale == "paper" else SCRATCH_SIZE
        rows = [row for row in scratch(size) if chosen.rows in row.name]
        entries = run_rows(bench, rows, from_scratch, chosen.out / "scratch", finished=chosen.finished)
        title = f"Table 2, from scratch: {from_scratch.samples or 'all'} samples, {size} px"
        text.append(show(title, summary(entries), len(from_scratch.seeds)))
    (Path(chosen.out) / "table2.md").write_text("\n\n".join(text) + "\n", encoding="utf-8")
    question = json.loads((chosen.benchmark / "benchmark.json").read_text("utf-8"))
    print(f"agpis-sim {question['hash'][:12]}, {question['counts']}")


if __name__ == "__main__":
    main()
