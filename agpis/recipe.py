"""Training of the sequence model, and the recipe of a whole starter bundle.

    python -m agpis.recipe starter --data ../shared/data --leave-out kickstart,oxid --out runs/x

makes a whole starter bundle out of catalogues of approved products (`catalog.jsonl`) and the simulator:

1. simulate labelled pictures and copies, fine-tune the image model on them (`train_image.py`);
2. simulate sequences, put their pictures through the finished image model once, train MUIsC on the tokens
   (`train_muisc`);
3. export.
"""

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from agpis.batches import thinned
from agpis.bundle import Bundle, Qualified, Threshold, open_bundle
from agpis.bundle_manifest import UNSET, Choice, Kinship, Limit, Naming
from agpis.checkpoint import Checkpoint, load_weights, write_checkpoint
from agpis.errors import TrainingError
from agpis.export import Contents, export_bundle, restate
from agpis.images import Size, letterbox
from agpis.inputs import SEPARATOR, Text, train_tokenizer
from agpis.left_out import calibrate_rules, find_paths, mean_of, set_rules, weigh_starter
from agpis.lessons import SequenceLessons, image_lessons, sequence_lessons
from agpis.loop import Optim, Part, fit
from agpis.models.muisc import Muisc, MuiscConfig, SequenceModel, collate, losses
from agpis.models.single import VIEWS, ImageConfig, ImageModel
from agpis.models.things import Things
from agpis.rulebook import Rulebook, load_rulebook
from agpis.simulate import Catalogued, Stock, Style, held_out, load
from agpis.simulate.variants import variants
from agpis.train_image import ImageTraining, new_image_model, tokens_through_graph, train_image
from agpis.two_paths import Paths, weigh

# The sequence model --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MuiscTraining:
    """`train_muisc`: sequences with class and feedback, on cached tokens."""

    optim: Optim = field(default_factory=lambda: Optim(steps=1100, batch=32, lr=1e-3, weight_decay=0.05, average=0.99))
    """Loop."""
    word_dropout: float = 0.5
    """Share of a title's words that is left out: a whole title tells which product it is."""
    prior: float | None = 0.71
    """Share of qualified sequences where the model will be used (the paper's, 4.1); None leaves that of training."""


def train_muisc(
    model: Muisc, lessons: SequenceLessons, text: Text, training: MuiscTraining, *, seed: int, progress: bool = True
) -> list[dict[str, float]]:
    """Trains on tokens (n, K, P, D); then shifts the class biases from the training shares to `prior`."""
    config = model.config
    titles = [text.title(title, category) for title, category in zip(lessons.titles, lessons.categories, strict=True)]
    feedbacks = [text.feedback(words) for words in lessons.feedbacks]
    tokens, mask = torch.from_numpy(lessons.tokens), torch.from_numpy(lessons.mask)
    labels = torch.from_numpy(lessons.labels)

    def loss(part: Part) -> dict[str, Tensor]:
        index, rows = part.index, torch.from_numpy(part.index)
        shown = [titles[i] for i in index]
        if training.word_dropout > 0:
            draws = (np.random.default_rng([part.step, int(i)]) for i in index)
            shown = [thinned(title, draw, training.word_dropout) for title, draw in zip(shown, draws, strict=True)]
        ids, separator, targets = collate(
            shown, [feedbacks[i] for i in index], text.pad, predict_title=config.predict_title
        )
        classes, words = model(tokens[rows].float(), mask[rows], ids, separator)
        total, mcc, nlg = losses(config, classes.float(), words.float(), labels[rows], ids, targets)
        return {"total": total * part.share, "classes": mcc * part.share, "feedback": nlg * part.share}

    rows = fit(model, loss, len(labels), training.optim, seed=seed, name="muisc", progress=progress)
    if training.prior is not None:
        share = float((labels == 0).float().mean())
        if 0.0 < share < 1.0:
            shift = torch.full((config.classes,), math.log((1 - training.prior) / (1 - share)))
            shift[0] = math.log(training.prior / share)
            with torch.no_grad():
                model.class_head.bias.add_(shift)
    return rows


PICTURED = 600
"""Products whose pictures say what is usual."""

# The starter ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StarterTraining:
    """`agpis.recipe starter`: the whole recipe. Defaults are those of the bundle in the package."""

    seed: int = 0
    """Of everything drawn: samples, initial weights, order."""
    variants: tuple[int, int] = (0, 0)
    """Mirrored, stretched and recoloured ones of each product with several pictures, and of each other one;
    bench/LOG.md has what 2 and 1 did."""
    images: int = 32000
    """Labelled pictures."""
    triples: int = 2400
    """(picture, copy, other) for descriptors."""
    sequences: int = 7000
    """Labelled sequences."""
    shares: tuple[float, float, float, float] = (0.40, 0.20, 0.18, 0.22)
    """Of qualified, single, pair, multi among them; `MuiscTraining.prior` undoes the shift."""
    size: int = 224
    """Side of the image graph's input in pixels."""
    tower: str = "efficientnet_lite0"
    """Image tower."""
    token_width: int = 128
    """D of the tokens."""
    descriptor: int = 64
    """E of the patch descriptors."""
    width: int = 128
    """D of the sequence model."""
    heads: int = 4
    """Its attention heads."""
    decoder_blocks: int = 3
    """N^d; cross-attention in the last."""
    pool: int = 4
    """Side of the pooled token grid."""
    vocabulary: int = 2000
    """Entries of the byte-level BPE."""
    max_title: int = 32
    """Tokens of a title."""
    max_feedback: int = 32
    """Tokens of feedback."""
    dropout: float = 0.1
    """In the sequence model."""
    hide: float = 0.3
    """See `MuiscConfig.hide`."""
    image: ImageTraining = field(default_factory=ImageTraining)
    """Of the image model."""
    muisc: MuiscTraining = field(default_factory=MuiscTraining)
    """Of the sequence model."""


def train_starter(
    products: Sequence[Catalogued],
    out: Path,
    training: StarterTraining,
    *,
    rulebook: Rulebook | None = None,
    thresholds: dict[Limit, Threshold] | None = None,
    calibration: dict[str, Any] | None = None,
    metrics: dict[str, Any] | None = None,
    files: dict[str, str] | None = None,
    sources: Sequence[str] = (),
    hold_out: float = 0.0,
    bundle_id: str = "starter",
    checkpoints: Path | None = None,
    paths: Paths | None = None,
    trained: Path | None = None,
    rules: Mapping[str, tuple[float, float]] | None = None,
    progress: bool = True,
) -> Bundle:
    """Runs the recipe and exports the bundle to `out`.

    Args:
        products: approved products; see `agpis.simulate.load`.
        hold_out: share of styles that were left out of `products`, for the record.
        checkpoints: folder for the two models' checkpoints; that of the sequence model is one of `agpis train muisc`.
        trained: checkpoint of an image model that an earlier run of the recipe left, to train the sequence model on.
        paths: how the sequence model's paths weigh, as `agpis.left_out.find_paths` found it for the same recipe.
        rules: scale and shift of the rules' logits, as `agpis.left_out.calibrate_rules` found them for the same recipe.

    Raises:
        TrainingError: too few products, or an export that differs from torch.
    """
    rulebook = rulebook or load_rulebook("default")
    stock, style = stock_of(products, training), Style.train()

    def say(text: str) -> None:
        if progress:
            print(text, file=sys.stderr, flush=True)

    begin = time.monotonic()
    log: dict[str, list[dict[str, float]]] = {}
    if trained is None:
        image, log["image"] = train_starter_image(stock, training, rulebook, checkpoints=checkpoints, progress=progress)
        say(f"image model after {time.monotonic() - begin:.0f} s")
    else:
        image = new_image_model(image_config(training, rulebook), pretrained=False)
        load_weights(trained, image)
    if rules is not None:
        set_rules(image, rulebook, rules)

    torch.manual_seed(training.seed)
    rng = np.random.default_rng([training.seed, 1])  # the same sequences with and without the image stage
    lessons = sequence_lessons(
        stock,
        rulebook,
        rng,
        style,
        tokens_through_graph(image),
        count=training.sequences,
        shares=dict(zip(("qualified", "single", "pair", "multi"), training.shares, strict=True)),
        size=training.size,
    )
    say(f"{training.sequences} sequences after {time.monotonic() - begin:.0f} s")
    tokenizer_json = tokenizer_for(lessons, [product.title for product in products], rulebook, training.vocabulary)
    text = text_of(tokenizer_json, training)
    layout = image.config.layout
    muisc = Muisc(
        MuiscConfig(
            classes=len(rulebook.classes),
            vocabulary=text.vocabulary,
            tokens=layout.tokens,
            token_width=layout.width,
            k=rulebook.k,
            width=training.width,
            encoder_heads=training.heads,
            encoder_mlp=2 * training.width,
            decoder_blocks=training.decoder_blocks,
            decoder_heads=training.heads,
            decoder_mlp=4 * training.width,
            cross_attention=(training.decoder_blocks - 1,),
            positions=training.max_title + 1 + training.max_feedback,
            dropout=training.dropout,
            hide=training.hide,
            layout=layout,
            pool=min(training.pool, layout.side),
        )
    )
    log["muisc"] = train_muisc(muisc, lessons, text, training.muisc, seed=training.seed, progress=progress)
    if paths is not None:
        weigh(muisc, paths)
    say(f"sequence model after {time.monotonic() - begin:.0f} s")
    contents = Contents(
        id=bundle_id,
        rulebook=rulebook,
        rulebook_yaml=rulebook.text(),
        tokenizer_json=tokenizer_json,
        max_title=training.max_title,
        max_feedback=training.max_feedback,
        thresholds={**UNSET, **(thresholds or {})},
        calibration=calibration or {},
        training={
            "command": "agpis.recipe starter",
            "sources": list(sources),
            "hold_out": hold_out,
            "config": asdict(training),
            "products": len(products),
            "paths": asdict(paths or Paths()),
            "rules": {rule: list(pair) for rule, pair in (rules or {}).items()},
            "last_losses": {name: rows[-1] for name, rows in log.items()},
            "image_checkpoint": trained is not None,
            "torch": torch.__version__,
        },
        metrics=metrics or {},
        files=files or {},
        things=things_of(stock, training),
    )
    bundle = export_bundle(out, image, muisc, contents)
    if checkpoints is not None:
        write_checkpoint(checkpoints / "muisc", muisc_checkpoint(bundle, muisc, contents), SequenceModel(muisc, None))
    say(f"{out} after {time.monotonic() - begin:.0f} s")
    return bundle


def stock_of(products: Sequence[Catalogued], training: StarterTraining) -> Stock:
    """What the recipe draws from: the products and their variants."""
    several, single = training.variants
    return Stock([*products, *variants(products, several=several, single=single, seed=training.seed)])


def things_of(stock: Stock, training: StarterTraining) -> Things | None:
    """What pictures show in words, on the first pictures of up to PICTURED products; None where the tower is another or
    its first parts are trained too, since both then need parts of their own."""
    if training.tower != "efficientnet_lite0" or training.image.part != "late":
        return None
    frame = Size(width=training.size, height=training.size)
    step = max(1, len(stock.products) // PICTURED)
    return Things.imagenet(np.stack([letterbox(product.pictures[0], frame) for product in stock.products[::step]]))


def image_config(training: StarterTraining, rulebook: Rulebook) -> ImageConfig:
    """Shape of the starter's image model."""
    return ImageConfig(
        rules=len(rulebook.single_rules),
        size=training.size,
        tower=training.tower,
        width=training.token_width,
        descriptor=training.descriptor,
    )


def train_starter_image(
    stock: Stock,
    training: StarterTraining,
    rulebook: Rulebook,
    *,
    checkpoints: Path | None = None,
    progress: bool = True,
) -> tuple[ImageModel, list[dict[str, float]]]:
    """Draws pictures, trains the image model on them and leaves it in `checkpoints`/image; model and losses."""
    begin = time.monotonic()
    config = image_config(training, rulebook)
    torch.manual_seed(training.seed)
    image = new_image_model(config)
    pictures = image_lessons(
        stock,
        rulebook,
        np.random.default_rng(training.seed),
        Style.train(),
        count=training.images,
        triples=training.triples,
        size=training.size,
        views=VIEWS,
    )
    if progress:
        drawn = f"{training.images} pictures and {training.triples} triples after {time.monotonic() - begin:.0f} s"
        print(drawn, file=sys.stderr, flush=True)
    rows = train_image(image, pictures, training.image, seed=training.seed, progress=progress)
    if checkpoints is not None:
        save_checkpoint(checkpoints / "image", image, config)
    return image, rows


def muisc_checkpoint(bundle: Bundle, muisc: Muisc, contents: Contents) -> Checkpoint:
    """What `agpis train muisc` would write of the sequence model of `bundle`: a start for training on reviews."""
    return Checkpoint(
        kind="muisc",
        model=asdict(muisc.config),
        backbone=None,
        rulebook_yaml=contents.rulebook_yaml,
        tokens_of=bundle.manifest.graphs[bundle.manifest.roles["tokens"]].sha256,
        text=bundle.manifest.text.model_dump(exclude={"file", "sha256"}),
        tokenizer_json=contents.tokenizer_json,
        training=dict(contents.training),
    )


def tokenizer_for(lessons: SequenceLessons, titles: Iterable[str], rulebook: Rulebook, vocabulary: int) -> str:
    """tokenizer.json trained on titles, feedback and the rulebook's phrases."""
    phrases = [phrase for rule in rulebook.rules for phrase in rule.phrases()]
    return str(train_tokenizer([*titles, *lessons.titles, *lessons.feedbacks, *phrases], vocabulary).to_str())


def text_of(tokenizer_json: str, training: StarterTraining) -> Text:
    """The text inputs of a tokenizer that is not on disk yet."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "tokenizer.json"
        path.write_text(tokenizer_json, encoding="utf-8")
        return Text(path, max_title=training.max_title, max_feedback=training.max_feedback, separator=SEPARATOR)


def save_checkpoint(folder: Path, model: nn.Module, config: Any) -> None:
    """weights.safetensors and config.json of the recipe's image model."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, folder / "weights.safetensors")
    (folder / "config.json").write_text(json.dumps(asdict(config), indent=1) + "\n", encoding="utf-8")


def catalogues(data: Path, leave_out: Iterable[str] = ()) -> tuple[Path, ...]:
    """The catalog.jsonl files under `data`, without the sources left out. Raises TrainingError on an unknown source."""
    found = {path.parent.name: path for path in sorted(data.glob("*/catalog.jsonl"))}
    left = set(leave_out)
    if not found:
        raise TrainingError("no_products", f"{data} holds no */catalog.jsonl.")
    if left - set(found):
        raise TrainingError("unknown_source", f"leave_out names {sorted(left - set(found))}; allowed: {sorted(found)}.")
    return tuple(path for name, path in found.items() if name not in left)


def main(arguments: Sequence[str] | None = None) -> None:
    """`python -m agpis.recipe starter` trains; `... image` trains the image model alone; `... rules` calibrates its
    rules and `... paths` weighs the sequence model's paths on sources left out of it; `... figures` puts thresholds
    and figures into a finished bundle."""
    parser = argparse.ArgumentParser(prog="agpis.recipe", description=__doc__)
    parser.add_argument("what", choices=["starter", "image", "rules", "paths", "figures"])
    parser.add_argument("--out", type=Path, required=True, help="bundle folder")
    parser.add_argument("--data", type=Path, help="folder of catalogues")
    parser.add_argument("--leave-out", default="", help="sources not to train on, comma-separated")
    parser.add_argument("--hold-out", type=float, default=0.0, help="share of styles not to train on, in every source")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--budget", type=float, default=1.0, help="factor on samples and steps")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--id", default="starter")
    parser.add_argument("--sources", default="", help="rules, paths: sources left out, or their held-out styles")
    parser.add_argument("--image", type=Path, help="starter: checkpoint of an image model of the same sources")
    parser.add_argument(
        "--rules", type=Path, nargs="+", help="starter: what `rules` printed for the same recipe; the mean of several"
    )
    parser.add_argument(
        "--paths", type=Path, nargs="+", help="starter, paths: what `paths` printed for it; the mean of several"
    )
    parser.add_argument("--dry", action="store_true", help="paths: print the weights, change nothing")
    parser.add_argument("--figures", type=Path, help="JSON of bench.starter and the benches beside it")
    parser.add_argument("--card", type=Path, help="MODEL_CARD.md to put into the bundle")
    options = parser.parse_args(arguments)
    figures = json.loads(options.figures.read_text("utf-8")) if options.figures else {}
    thresholds = {name: Threshold(**entry) for name, entry in figures.get("thresholds", {}).items()}
    calibration, metrics = figures.get("calibration", {}), figures.get("metrics", {})
    files = {"MODEL_CARD.md": options.card.read_text("utf-8")} if options.card else {}
    if options.what == "figures":
        if not figures:
            parser.error("figures needs --figures")
        restate(
            options.out,
            thresholds=thresholds,
            calibration=calibration,
            qualified=Qualified(**figures.get("qualified", {})),
            kinship=Kinship(**figures["kinship"]) if "kinship" in figures else None,
            choice=Choice(**figures["choice"]) if "choice" in figures else None,
            naming=Naming(**figures["naming"]) if "naming" in figures else None,
            metrics=metrics,
            files=files,
        )
        return
    if options.data is None:
        parser.error(f"{options.what} needs --data")
    torch.set_num_threads(options.threads)
    checkpoints = options.out.parent / f"{options.out.name}-checkpoints"
    if options.what == "rules":
        left_out = [options.data / name / "catalog.jsonl" for name in options.sources.split(",") if name]
        if not left_out:
            parser.error("rules needs --sources that the image model was not trained on")
        checkpoint = options.image or checkpoints / "image"
        print(json.dumps(calibrate_rules(checkpoint, load(left_out), seed=options.seed), indent=1))
        return
    given = Paths(**mean_of([path.read_text("utf-8") for path in options.paths])) if options.paths else None
    if options.what == "paths":
        names = [name for name in options.sources.split(",") if name]
        manifest = open_bundle(options.out).manifest
        seen = set(names) & set(manifest.trained_on)
        if given is None and (not names or (seen and not manifest.hold_out)):
            parser.error(f"paths needs --sources that {options.out} was not trained on; found {names}, seen {seen}")
        if given is None:
            products = load([options.data / name / "catalog.jsonl" for name in names])
            products = [p for p in products if p.source not in seen or held_out(p, manifest.hold_out)]
            given = find_paths(options.out, checkpoints / "muisc", products, seed=options.seed)
        if not options.dry:
            weigh_starter(options.out, checkpoints / "muisc", given)
        print(json.dumps(asdict(given)))
        return
    paths = catalogues(options.data, [name for name in options.leave_out.split(",") if name])
    products = [product for product in load(paths) if not held_out(product, options.hold_out)]
    training = scaled(StarterTraining(seed=options.seed), options.budget)
    if options.what == "image":
        train_starter_image(stock_of(products, training), training, load_rulebook("default"), checkpoints=checkpoints)
        return
    train_starter(
        products,
        options.out,
        training,
        thresholds=thresholds,
        calibration=calibration,
        metrics=metrics,
        files=files,
        sources=[path.parent.name for path in paths],
        hold_out=options.hold_out,
        bundle_id=options.id,
        checkpoints=checkpoints,
        trained=options.image,
        paths=given,
        rules=mean_of([path.read_text("utf-8") for path in options.rules]) if options.rules else None,
    )


def scaled(training: StarterTraining, budget: float) -> StarterTraining:
    """With samples and steps multiplied."""

    def shorter(optim: Optim) -> Optim:
        return replace(optim, steps=max(1, round(optim.steps * budget)))

    return replace(
        training,
        images=max(64, round(training.images * budget)),
        triples=max(16, round(training.triples * budget)),
        sequences=max(64, round(training.sequences * budget)),
        image=replace(training.image, optim=shorter(training.image.optim)),
        muisc=replace(training.muisc, optim=shorter(training.muisc.optim)),
    )


if __name__ == "__main__":
    main()
