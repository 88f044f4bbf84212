"""Table 3 of the paper on agpis-sim: what each part of MUIsC adds, on the common frozen EfficientNet-Lite0.

    python -m bench.table3 --benchmark runs/sim-small --scale small --out runs/tables

Five rows, each the one before plus a part: single tower (late fusion); the sequence encoder over all tokens, its mean
to a class head; the decoder, which reads the class at the separator, without title and without feedback; feedback as a
second target; the title. Below the line, options beyond the paper: computed comparison of the images (for the pair
rules), whole titles in training (every row with a title leaves out half of its words, see `word_dropout`), and those of
the authors' later notes. With the same --out as bench.table2, rows that both tables have are trained once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import torch

from bench.table2 import BUDGETS
from bench.tables import Row, arguments, difference, open_benchmark, run_rows, show, summary

STEPS = (
    Row("late fusion", "late"),
    Row("+ encoder", "encoder"),
    Row("+ decoder", "muisc", title=False, feedback=False),
    Row("+ feedback", "muisc", title=False),
    Row("MUIsC", "muisc"),
)
OPTIONS = (
    Row("MUIsC + comparison", "muisc", compare=True, hide=0.3),
    Row("MUIsC, whole titles", "muisc", word_dropout=0.0),
    Row("MUIsC, category before title", "muisc", category=True),
    Row("MUIsC, title predicted", "muisc", predict_title=True, word_dropout=0.0),
    Row("MUIsC, LM head from scratch", "muisc", tied=False),
)


def main(options: Sequence[str] | None = None) -> None:
    """Trains what is missing and prints the table; see the module."""
    chosen = arguments("table3", __doc__).parse_args(options)
    torch.set_num_threads(chosen.threads)
    budget, folder = BUDGETS[chosen.scale][0], chosen.out / "common"
    only = {"finished": chosen.finished}
    bench = open_benchmark(chosen.benchmark, budget.samples)
    entries = run_rows(bench, [row for row in STEPS if chosen.rows in row.name], budget, folder, **only)
    rates = {entry["rate"] for entry in entries if entry["row"] == "MUIsC"} or set(budget.rates)
    # Options change little: they take the learning rate that was found for MUIsC, but for the one that table 2 tunes.
    tuned = [row for row in OPTIONS if row.compare and chosen.rows in row.name]
    entries += run_rows(bench, tuned, budget, folder, **only)
    alike = [row for row in OPTIONS if not row.compare and chosen.rows in row.name]
    entries += run_rows(bench, alike, replace(budget, rates=tuple(sorted(rates))), folder, **only)
    found = summary(entries)
    text = [show("Table 3, common backbone: frozen EfficientNet-Lite0 (ImageNet)", found, len(budget.seeds))]
    names = [row.name for row in STEPS if row.name in found]
    steps = list(pairwise(names))
    steps += [("MUIsC", row.name) for row in OPTIONS if row.name in found and "MUIsC" in found]
    for before, after in steps:
        value, low, high = difference(bench, entries, after, before, folder)
        text.append(f"{before} -> {after}: {100 * value:+.1f} AUC points [{100 * low:+.1f}, {100 * high:+.1f}]")
        print(text[-1])
    (chosen.out / "table3.md").write_text("\n\n".join(text) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
