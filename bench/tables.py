"""What Tables 2 and 3 share: rows trained with one budget on agpis-sim, measured on sources that none has seen.

Every row gets the same samples, epochs, batch, schedule, early stopping and tuning: each learning rate of `RATES` is
tried once (seed 0), the best on the validation source is kept, and the row is trained with every seed. Nothing is
chosen on the unseen sources. One line of `results.jsonl` is written a run; a command that was stopped goes on with the
runs that are missing.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from agpis.batches import Batches, class_probabilities
from agpis.dataset import Pixels, SequenceData, cached_tokens, sequence_data
from agpis.inputs import END, PAD, SEPARATOR, Text, train_tokenizer
from agpis.loop import Optim, fit
from agpis.metrics import auc, balanced_auc, recall_at_precision
from agpis.models.backbones import Backbone, BackboneConfig, new_backbone
from agpis.models.baselines import Baseline, BaselineConfig, EncoderOnly, joined
from agpis.models.muisc import Muisc, MuiscConfig, SequenceModel, pooling_matrix
from agpis.rulebook import Rulebook, load_rulebook
from agpis.samples import labelled, read_verdicts
from agpis.token_source import fingerprint
from agpis.train_baseline import baseline_logits, baseline_step
from agpis.train_image import graph_of_tokens
from agpis.train_sequence import muisc_logits, muisc_loss, text_of
from agpis.two_paths import Paths, weighed
from bench.machine import machine

SCOPES = ("single", "pair", "multi")
RATES = (3e-4, 1e-3)
"""Learning rates tried for every row."""
PAPER: dict[str, str] = {"MUIsC": "0.800 / 0.795 / 0.774 / 0.791", "best single tower": "0.767 / - / 0.784 (early) / -"}
"""AUC all / single / pair / multi in the paper's Tables 2 and 3, on JD.com's reviews: other data."""

Kind = Literal["early", "late", "encoder", "muisc"]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table."""

    name: str
    kind: Kind
    backbone: BackboneConfig = field(default_factory=lambda: BackboneConfig(colours=6))
    freeze: bool = True
    binary: bool = False
    title: bool = True
    feedback: bool = True
    category: bool = False
    predict_title: bool = False
    tied: bool = True
    word_dropout: float = 0.5
    """Of titles, see `MuiscTraining.word_dropout`."""
    compare: bool = False
    hide: float = 0.0


@dataclass(frozen=True, slots=True)
class Budget:
    """What every row of a table gets."""

    epochs: float
    batch: int
    seeds: tuple[int, ...]
    samples: int = 0
    """Training samples; 0: all."""
    width: int = 128
    """D of encoder and decoder."""
    rates: tuple[float, ...] = RATES
    weight_decay: float = 0.05
    average: float = 0.98
    """Decay of the weights' moving average."""
    dropout: float = 0.1
    validations: int = 0
    """In a run; 0: one an epoch."""
    held: int = 0
    """Validation samples; 0: all."""

    def optim(self, rate: float, count: int) -> Optim:
        """The loop's settings for `count` training samples."""
        optim = Optim(
            batch=self.batch, lr=rate, epochs=self.epochs, weight_decay=self.weight_decay, average=self.average
        )
        return replace(optim, evaluate=-(-optim.total(count) // self.validations)) if self.validations else optim


@dataclass
class Benchmark:
    """agpis-sim in memory: three parts over one list of images."""

    train: SequenceData
    validation: SequenceData
    unseen: SequenceData
    rulebook: Rulebook
    cache: Path
    text: Text
    with_category: Text

    def parts(self) -> dict[str, SequenceData]:
        """By name."""
        return {"train": self.train, "validation": self.validation, "unseen": self.unseen}


def open_benchmark(folder: Path, samples: int = 0) -> Benchmark:
    """Reads the benchmark's two files; `samples` of the training part (0: all), from the start."""
    rulebook = load_rulebook("default")
    rows = [s for name in ("samples.jsonl", "unseen.jsonl") for s in labelled(read_verdicts(folder / name), rulebook)]
    data = sequence_data(rows, rulebook, rulebook.k)
    train, validation, unseen = (data.where(split) for split in ("train", "validation", "test"))
    if samples:
        train = train.take(np.arange(min(samples, len(train))))
    phrases = [phrase for rule in rulebook.rules for phrase in rule.phrases()]
    tokenizer = train_tokenizer([*train.titles, *train.feedbacks, *dict.fromkeys(train.categories), *phrases], 2000)
    names = {"separator": SEPARATOR, "end": END, "pad": PAD}
    text, with_category = (
        text_of(tokenizer.to_str(), names, max_title=24, max_feedback=24, category=category)
        for category in (False, True)
    )
    return Benchmark(train, validation, unseen, rulebook, folder / "cache", text, with_category)


# Pictures ------------------------------------------------------------------------------------------------------------

_towers: dict[str, tuple[Backbone, Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]]] = {}


def tower(config: BackboneConfig) -> tuple[Backbone, Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]]:
    """A frozen backbone and the function that runs it, once a process."""
    key = json.dumps(asdict(config), sort_keys=True)
    if key not in _towers:
        backbone = new_backbone(config).eval()
        _towers[key] = backbone, graph_of_tokens(backbone)
    return _towers[key]


SIDE = 4  # of the pooled token grid, which every row of a frozen backbone reads
_tokens: dict[str, npt.NDArray[np.float16]] = {}


def frozen_tokens(bench: Benchmark, config: BackboneConfig, *, mean: bool) -> npt.NDArray[np.float16]:
    """(M, 16, D) tokens of all images of the benchmark, pooled to 4 x 4; or their means (M, 1, D)."""
    backbone, run = tower(config)
    key = f"{fingerprint(backbone)} pooled {SIDE}"
    if key not in _tokens:
        pooling = pooling_matrix(math.isqrt(backbone.tokens), SIDE).numpy()

        def pooled(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
            tokens = run(pixels)
            whole = tokens.mean(1, keepdims=True)
            return np.concatenate([pooling @ tokens, whole], axis=1)

        found = cached_tokens(bench.unseen.images, pooled, backbone.size, bench.cache, key)
        assert not found.bad, found.bad[:3]
        _tokens[key] = np.asarray(found.tokens)
    return _tokens[key][:, -1:] if mean else _tokens[key][:, :-1]


def joined_tokens(bench: Benchmark, data: SequenceData, name: str, config: BackboneConfig) -> npt.NDArray[np.float16]:
    """(n, 1, D): the pooled features of each sequence's pictures joined into one, for early fusion."""
    backbone, run = tower(config)
    path = bench.cache / f"joined-{name}-{len(data)}-{fingerprint(backbone)[:16]}.npy"
    if not path.is_file():
        pixels = Pixels(data.images, backbone.size)
        rows = []
        for at in range(0, len(data), 32):
            index = data.index[at : at + 32]
            present = np.flatnonzero(index.ravel() >= 0)
            found, ok = pixels(index.ravel()[present])
            assert ok.all()
            whole = np.full((*index.shape, backbone.size, backbone.size, 3), 255, np.uint8)
            whole.reshape(-1, *whole.shape[2:])[present] = found
            one = joined(torch.from_numpy(whole), torch.from_numpy(index >= 0)).numpy()
            rows.append(backbone.pooled(torch.from_numpy(run(one))).numpy()[:, None].astype(np.float16))
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, np.concatenate(rows))
    joint: npt.NDArray[np.float16] = np.load(path)
    return joint


class Decoded(Pixels):
    """Pixels that are decoded once a process: every row and seed reads the same small pictures."""

    _kept: ClassVar[dict[tuple[int, str], npt.NDArray[np.uint8]]] = {}

    def __call__(self, rows: Any) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
        names = [(self.size, self.images[int(row)].location) for row in rows]
        missing = [row for row, name in zip(rows, names, strict=True) if name not in self._kept]
        if missing:
            found, ok = super().__call__(np.asarray(missing))
            assert ok.all()
            for row, pixels in zip(missing, found, strict=True):
                self._kept[self.size, self.images[int(row)].location] = pixels
        return np.stack([self._kept[name] for name in names]), np.ones(len(names), np.bool_)


def batches(bench: Benchmark, row: Row, part: str, most: int = 0) -> Batches:
    """The batches of one part for one row; `most` samples of it (0: all), from the start."""
    data, text = bench.parts()[part], bench.text
    if most:
        data = data.take(np.arange(min(most, len(data))))
    nothing: list[list[int]] = [[] for _ in range(len(data))]
    if row.kind == "muisc":
        wanted = bench.with_category if row.category else text
        titles = [
            wanted.title(title, category) if row.title else [text.separator]
            for title, category in zip(data.titles, data.categories, strict=True)
        ]
        feedbacks = [text.feedback(words) for words in data.feedbacks] if row.feedback else nothing
    else:
        titles, feedbacks = [[text.separator]] * len(data), nothing
    options: dict[str, Any] = {"predict_title": row.predict_title}
    if part == "train" and row.kind == "muisc" and row.title:
        options["word_dropout"] = row.word_dropout
    if not row.freeze:
        size = new_backbone(row.backbone).size if not row.backbone.size else row.backbone.size
        return Batches(data, titles, feedbacks, text.pad, pixels=Decoded(data.images, size), **options)
    if row.kind == "early":
        alone = replace(data, index=np.arange(len(data), dtype=np.int64)[:, None])
        return Batches(
            alone, titles, feedbacks, text.pad, tokens=joined_tokens(bench, data, part, row.backbone)[:, :1], **options
        )
    tokens = frozen_tokens(bench, row.backbone, mean=row.kind == "late")
    return Batches(data, titles, feedbacks, text.pad, tokens=tokens, **options)


# Rows ----------------------------------------------------------------------------------------------------------------


def new_model(bench: Benchmark, row: Row, budget: Budget) -> nn.Module:
    """The untrained model of a row."""
    classes, k = len(bench.rulebook.classes), bench.rulebook.k
    backbone = tower(row.backbone)[0] if row.freeze else new_backbone(row.backbone)
    own = None if row.freeze else backbone
    if row.kind in ("early", "late"):
        config = BaselineConfig(
            classes=classes,
            fusion="early" if row.kind == "early" else "late",
            binary=row.binary,
            k=k,
            width=backbone.width,
            dropout=budget.dropout,
        )
        return Baseline(config, own)
    muisc = Muisc(
        MuiscConfig(
            classes=classes,
            vocabulary=bench.text.vocabulary,
            tokens=SIDE * SIDE if row.freeze else backbone.tokens,
            token_width=backbone.width,
            k=k,
            width=budget.width,
            encoder_heads=4,
            encoder_mlp=4 * budget.width,
            decoder_heads=4,
            decoder_mlp=4 * budget.width,
            positions=64,
            dropout=budget.dropout,
            lambda_nlg=0.1 if row.feedback else 0.0,
            predict_title=row.predict_title,
            tied=row.tied,
            class_token=backbone.class_token,
            compare=row.compare,
            signature=backbone.signature,
            hide=row.hide,
        )
    )
    return EncoderOnly(muisc) if row.kind == "encoder" else SequenceModel(muisc, own)


def logits_of(model: nn.Module) -> Callable[[dict[str, Tensor]], Tensor]:
    """The function that gives a batch's class logits."""
    if isinstance(model, Baseline):
        return baseline_logits(model)
    if isinstance(model, EncoderOnly):
        return lambda batch: model(batch["tokens"].float(), batch["mask"])
    assert isinstance(model, SequenceModel)
    return muisc_logits(model)


def loss_of(model: nn.Module) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    """The function that gives a batch's losses."""
    if isinstance(model, Baseline):
        return baseline_step(model)
    if isinstance(model, SequenceModel):
        return muisc_loss(model)
    forward = logits_of(model)

    def loss(batch: dict[str, Tensor]) -> dict[str, Tensor]:
        summed = nn.functional.cross_entropy(forward(batch).float(), batch["labels"], reduction="sum")
        return {"total": summed / float(batch["samples"])}

    return loss


def run(bench: Benchmark, row: Row, budget: Budget, rate: float, seed: int, folder: Path) -> dict[str, Any]:
    """Trains one row once and measures it; returns the line of results.jsonl and keeps the scores beside it."""
    begin = time.monotonic()
    torch.manual_seed(seed)
    model = new_model(bench, row, budget)
    held = batches(bench, row, "validation", budget.held)
    unseen, train = (batches(bench, row, part) for part in ("unseen", "train"))
    logits = logits_of(model)

    def scores(part: Batches) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
        probabilities, rows = class_probabilities(logits, model, part, size=128)
        return probabilities[:, 0], part.labels[rows] == 0, part.labels[rows]

    def validate() -> float:
        p, good, _ = scores(held)
        return auc(p, good)

    fit(
        model,
        loss_of(model),
        len(train),
        budget.optim(rate, len(train)),
        seed=seed,
        name=row.name,
        load=train,
        workers=0,
        validate=validate,
        progress=False,
    )
    paths = weighed(model, held, size=128) if isinstance(model, SequenceModel) else Paths()
    p, good, labels = scores(unseen)
    name = f"{row.name}-{rate:g}-{seed}".replace("/", "_").replace(" ", "_")
    np.save(folder / f"{name}.npy", p)
    return {
        "row": row.name,
        "rate": rate,
        "seed": seed,
        "validation": round(validate(), 4),
        "paths": asdict(paths),
        **{key: round(value, 4) for key, value in figures(p, good, labels, bench.rulebook).items()},
        "weights": sum(v.numel() for v in model.parameters() if v.requires_grad),
        "seconds": round(time.monotonic() - begin),
        "scores": f"{name}.npy",
    }


def figures(
    p: npt.NDArray[np.float32], good: npt.NDArray[np.bool_], labels: npt.NDArray[np.int64], rulebook: Rulebook
) -> dict[str, float]:
    """AUC of all, AUC on the balanced single, pair and multi subsets (4.1), recall at precision."""
    scopes = {rule.id: rule.scope for rule in rulebook.rules}
    scope = np.array(["qualified" if i == 0 else scopes.get(rulebook.classes[i], "other") for i in labels])
    found = {"all": auc(p, good)}
    for name in SCOPES:
        part = good | (scope == name)
        found[name] = balanced_auc(p[part], good[part])
    for precision in (0.80, 0.85, 0.90):
        found[f"R@P{precision:.2f}"] = recall_at_precision(p, good, precision)
    return found


def run_rows(
    bench: Benchmark, rows: Iterable[Row], budget: Budget, folder: Path, *, finished: bool = False
) -> list[dict[str, Any]]:
    """Every row with every rate (seed 0) and, with the best, every seed; finished runs are read from results.jsonl.

    With `finished` nothing is trained: rows are shown with the runs that are there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "results.jsonl"
    done: dict[tuple[str, float, int], dict[str, Any]] = {}
    if path.is_file():
        for line in path.read_text("utf-8").splitlines():
            entry = json.loads(line)
            done[entry["row"], entry["rate"], entry["seed"]] = entry

    def once(row: Row, rate: float, seed: int) -> dict[str, Any]:
        key = (row.name, rate, seed)
        if key not in done:
            done[key] = run(bench, row, budget, rate, seed, folder)
            with path.open("a", encoding="utf-8") as out:
                out.write(json.dumps(done[key]) + "\n")
            print(done[key], flush=True)
        return done[key]

    found = []
    for row in rows:
        if finished:
            mine = [entry for key, entry in done.items() if key[0] == row.name]
            tried = [entry for entry in mine if entry["seed"] == budget.seeds[0]]
            if tried:
                best = max(tried, key=lambda entry: entry["validation"])["rate"]
                found += [entry for entry in mine if entry["rate"] == best]
            continue
        tried = [once(row, rate, budget.seeds[0]) for rate in budget.rates]
        best = max(tried, key=lambda entry: entry["validation"])["rate"]
        found += [once(row, best, seed) for seed in budget.seeds]
    return found


# Output --------------------------------------------------------------------------------------------------------------

COLUMNS = ("all", *SCOPES, "R@P0.80", "R@P0.85", "R@P0.90")


def summary(entries: Sequence[dict[str, Any]]) -> dict[str, dict[str, tuple[float, float]]]:
    """Row -> figure -> mean and standard deviation over seeds."""
    names = list(dict.fromkeys(entry["row"] for entry in entries))
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for name in names:
        mine = [entry for entry in entries if entry["row"] == name]
        found[name] = {
            key: (
                float(np.mean([entry[key] for entry in mine])),
                float(np.std([entry[key] for entry in mine], ddof=1)) if len(mine) > 1 else 0.0,
            )
            for key in (*COLUMNS, "validation", "seconds")
        } | {"runs": (float(len(mine)), 0.0)}
    return found


def difference(
    bench: Benchmark, entries: Sequence[dict[str, Any]], a: str, b: str, folder: Path, rounds: int = 1000
) -> tuple[float, float, float]:
    """AUC of row `a` less that of `b`, mean over seeds, with its paired bootstrap interval over products (95 %)."""
    labels, skus = bench.unseen.labels, np.asarray(bench.unseen.skus)
    good = labels == 0

    def scores(row: str) -> list[npt.NDArray[np.float32]]:
        return [np.load(folder / entry["scores"]) for entry in entries if entry["row"] == row]

    one, two = scores(a), scores(b)

    def value(rows: npt.NDArray[np.int64]) -> float:
        means = [float(np.mean([auc(p[rows], good[rows]) for p in group])) for group in (one, two)]
        return means[0] - means[1]

    _, groups = np.unique(skus, return_inverse=True)
    members = [np.flatnonzero(groups == g) for g in range(groups.max() + 1)]
    rng = np.random.default_rng(0)
    drawn = [
        value(np.concatenate([members[g] for g in rng.integers(len(members), size=len(members))]))
        for _ in range(rounds)
    ]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return value(np.arange(len(good))), float(low), float(high)


def show(title: str, found: dict[str, dict[str, tuple[float, float]]], seeds: int) -> str:
    """The table on screen; returns it as Markdown, for docs/results.md."""
    table = Table(title=title)
    head = ("row", "AUC", *SCOPES, *COLUMNS[4:], "validation AUC", "seeds", "s a run")
    for column in head:
        table.add_column(column, justify="left" if column == "row" else "right")
    markdown = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name, values in found.items():
        cells = [name]
        cells += [f"{values[key][0]:.3f} ± {values[key][1]:.3f}" for key in COLUMNS[:4]]
        cells += [f"{values[key][0]:.3f}" for key in COLUMNS[4:]]
        cells += [f"{values['validation'][0]:.3f}", f"{values['runs'][0]:.0f}", f"{values['seconds'][0]:.0f}"]
        table.add_row(*cells)
        markdown.append("| " + " | ".join(cells) + " |")
    Console(width=160).print(table)
    print(f"mean ± standard deviation over {seeds} seeds; unseen sources; {machine()}")
    return "\n".join(markdown)


def arguments(name: str, doc: str | None) -> argparse.ArgumentParser:
    """The options that both tables take."""
    parser = argparse.ArgumentParser(prog=f"bench.{name}", description=doc)
    parser.add_argument("--benchmark", type=Path, required=True, help="folder of bench.agpis_sim")
    parser.add_argument("--scale", choices=("tiny", "small", "paper"), default="small")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--rows", default="", help="only rows whose name contains this")
    parser.add_argument("--finished", action="store_true", help="train nothing, show the runs that are there")
    parser.add_argument("--threads", type=int, default=2)
    return parser


__all__ = ["Budget", "Row", "arguments", "difference", "open_benchmark", "run_rows", "show", "summary"]
