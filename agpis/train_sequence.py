"""Training of MUIsC on reviewed sequences.

The pictures of a sequence come as cached tokens, where the image tower is frozen (a bundle's image graph, or a
backbone), or as pixels decoded in the loader's workers, where the tower is trained too (token_source.py).
"""

import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agpis.assemble import open_model
from agpis.batches import Batches, Logits, class_weights
from agpis.bundle import open_bundle
from agpis.calibration import fit_qualified
from agpis.checkpoint import Checkpoint
from agpis.dataset import SequenceData
from agpis.errors import TrainingError
from agpis.inputs import END, PAD, SEPARATOR, Text, train_tokenizer
from agpis.loop import Optim
from agpis.models.backbones import BackboneConfig
from agpis.models.muisc import Muisc, MuiscConfig, SequenceModel, losses
from agpis.models.pretrained import decoder_tokenizer, gpt2_config, load_gpt2
from agpis.processes import processes
from agpis.rulebook import Rulebook, parse_rulebook
from agpis.samples import Labelled
from agpis.sequence_run import Measured, Report, SequenceRun, SequenceTraining, in_main
from agpis.token_source import Source, backbone_source, bundle_source, fingerprint
from agpis.two_paths import Paths, weigh, weighed


@dataclass(frozen=True, slots=True, kw_only=True)
class MuiscTraining(SequenceTraining):
    """`agpis train muisc`: the sequence model on reviewed sequences."""

    optim: Optim = field(default_factory=lambda: Optim(batch=32, lr=1e-3, epochs=6, weight_decay=0.05, patience=3))
    """Loop."""
    backbone: BackboneConfig | None = None
    """Image tower; None: the tokens of the base bundle's image graph, which is the fastest and needs the least data."""
    start: str = ""
    """Checkpoint of `agpis train muisc` on the same tokens, or of a recipe, to go on from: its weights, and with them
    shape, tokenizer and lengths of texts, are taken in place of what is said here; empty: from scratch."""
    decoder: str = ""
    """A GPT-2 of transformers by hub name or path, whose first blocks and tokenizer are taken; empty: from scratch."""
    width: int = 128
    """D of encoder and decoder; a pretrained decoder brings its own."""
    heads: int = 4
    """Attention heads; a pretrained decoder brings its own."""
    encoder_blocks: int = 1
    """N^s."""
    decoder_blocks: int = 3
    """N^d; cross-attention in the last, as the authors have it."""
    pool: int | None = 4
    """Side to which a square token grid is averaged, for speed; None: every token."""
    compare: bool = True
    """Computed comparison of the images (comparison.py); False is the paper's form."""
    vocabulary: int = 2000
    """Entries of a new tokenizer (byte-level BPE)."""
    max_title: int = 32
    """Tokens of category and title."""
    max_feedback: int = 32
    """Tokens of feedback."""
    category: bool = False
    """Category before the title (the authors' later notes)."""
    word_dropout: float = 0.0
    """Share of a title's tokens left out in training: on few products a whole title tells which product it is, and
    the model learns the product by heart."""
    predict_title: bool = False
    """Predict the title's tokens too (the authors' later notes)."""
    tied: bool = True
    """LM head tied to the word embedding; False: from scratch (the authors' later notes)."""
    hide: float = 0.0
    """See `MuiscConfig.hide`; for tokens of a bundle."""
    lambda_nlg: float = 0.1
    """Weight of the feedback loss, eq. (4)."""
    lambda_mcc: float = 1.0
    """Weight of the class loss, eq. (4)."""
    prior: float | None = None
    """Share of qualified sequences where the model will be used; None: that of the samples."""

    def __post_init__(self) -> None:
        SequenceTraining.__post_init__(self)
        if self.backbone is None and not self.freeze:
            raise TrainingError("bad_config", "freeze is False, but the tokens come from a bundle; name a backbone.")
        if self.start and self.decoder:
            raise TrainingError("bad_config", "start and decoder both bring weights and a tokenizer; give one of them.")
        if self.word_dropout and self.predict_title:
            raise TrainingError(
                "bad_config",
                "word_dropout leaves out words that predict_title wants predicted; set word_dropout to 0 with it.",
            )
        for name, share in (("word_dropout", self.word_dropout), ("hide", self.hide)):
            if not 0.0 <= share < 1.0:
                raise TrainingError("bad_config", f"{name} is {share}; allowed is 0 to below 1.")
        if self.prior is not None and not 0.0 < self.prior < 1.0:
            raise TrainingError("bad_config", f"prior is {self.prior}; it is a share, between 0 and 1, or null.")
        least = min(self.width, self.heads, self.encoder_blocks, self.decoder_blocks, self.max_title, self.max_feedback)
        if least < 1 or (self.pool is not None and self.pool < 1):
            raise TrainingError(
                "bad_config",
                f"width {self.width}, heads {self.heads}, encoder_blocks {self.encoder_blocks}, decoder_blocks "
                f"{self.decoder_blocks}, max_title {self.max_title}, max_feedback {self.max_feedback}, pool "
                f"{self.pool}: all must be at least 1 (pool may be null).",
            )


PRESETS: dict[str, MuiscTraining] = {
    "starter": MuiscTraining(hide=0.3, word_dropout=0.5),
    "paper": MuiscTraining(
        optim=Optim(batch=64, lr=1.5e-4, epochs=10, weight_decay=0.01),
        backbone=BackboneConfig("vit_b16"),
        freeze=False,
        tower_rate=1.0,
        decoder="uer/gpt2-chinese-cluecorpussmall",
        width=768,
        heads=12,
        pool=None,
        compare=False,
        max_title=64,
        max_feedback=64,
        workers=8,
    ),
}
"""`paper`: section 4.2 (ViT-B/16, first 3 of a GPT-2's blocks, D = 768, AdamW, lr 1.5e-4, batch 64, 10 epochs)."""


def muisc_loss(
    model: SequenceModel, weights: Tensor | None = None, bad: set[int] | None = None
) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    """Loss of the loop; collects the rows of unreadable images in `bad`."""
    config = model.muisc.config

    def loss(batch: dict[str, Tensor]) -> dict[str, Tensor]:
        if bad is not None:
            bad.update(int(row) for row in batch["bad"])
        if not len(batch["labels"]):
            nothing = model.muisc.class_head.weight.sum() * 0.0
            return {"total": nothing, "classes": nothing, "feedback": nothing}
        mask, ids, targets = batch["mask"], batch["ids"], batch["targets"]
        tokens = batch["tokens"].float() if "tokens" in batch else model.tokens(batch["pixels"], mask)
        classes, words = model.muisc(tokens, mask, ids, batch["separator"], targets)
        whole = batch["whole"]
        total, mcc, nlg = losses(
            config,
            classes.float(),
            words.float(),
            batch["labels"],
            ids,
            targets,
            weights=weights.to(classes.device) if weights is not None else None,
            whole=(float(whole[0]), float(whole[1])),
        )
        return {"total": total, "classes": mcc, "feedback": nlg}

    return loss


def muisc_logits(model: SequenceModel) -> Logits:
    """Class logits of a batch; what stands behind the separator is seen by no class."""

    def forward(batch: dict[str, Tensor]) -> Tensor:
        mask = batch["mask"]
        tokens = batch["tokens"].float() if "tokens" in batch else model.tokens(batch["pixels"], mask)
        nothing = torch.zeros_like(batch["targets"])
        logits: Tensor = model.muisc(tokens, mask, batch["ids"], batch["separator"], nothing)[0]
        return logits

    return forward


def tokenizer_of(training: MuiscTraining, data: SequenceData, rulebook: Rulebook) -> tuple[str, dict[str, str]]:
    """tokenizer.json, and the names of separator, end and pad in it."""
    if training.decoder:
        return decoder_tokenizer(training.decoder)
    phrases = [phrase for rule in rulebook.rules for phrase in rule.phrases()]
    categories = dict.fromkeys(data.categories) if training.category else ()
    texts = [*data.titles, *data.feedbacks, *categories, *phrases]
    return str(train_tokenizer(texts, training.vocabulary).to_str()), {"separator": SEPARATOR, "end": END, "pad": PAD}


def text_of(tokenizer_json: str, names: dict[str, str], *, max_title: int, max_feedback: int, category: bool) -> Text:
    """The text inputs of a tokenizer that is not on disk yet."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "tokenizer.json"
        path.write_text(tokenizer_json, encoding="utf-8")
        return Text(path, max_title=max_title, max_feedback=max_feedback, category=category, **names)


def new_muisc(training: MuiscTraining, source: Source, rulebook: Rulebook, text: Text, k: int) -> Muisc:
    """The untrained model; a pretrained decoder is loaded."""
    width, heads = training.width, training.heads
    brought: dict[str, Any] = gpt2_config(training.decoder, training.decoder_blocks) if training.decoder else {}
    width = brought.get("width", width)
    config = MuiscConfig(
        **{
            "classes": len(rulebook.classes),
            "tokens": source.tokens,
            "token_width": source.width,
            "k": k,
            "width": width,
            "encoder_blocks": training.encoder_blocks,
            "encoder_heads": brought.get("decoder_heads", heads),
            "encoder_mlp": 4 * width,
            "decoder_blocks": training.decoder_blocks,
            "decoder_heads": heads,
            "decoder_mlp": 4 * width,
            "cross_attention": (training.decoder_blocks - 1,),
            "positions": training.max_title + training.max_feedback + 2,
            "dropout": training.dropout,
            "lambda_nlg": training.lambda_nlg,
            "lambda_mcc": training.lambda_mcc,
            "predict_title": training.predict_title,
            "tied": training.tied,
            "class_token": source.class_token,
            "compare": training.compare,
            "layout": source.layout,
            "signature": source.signature,
            "pool": fitting_pool(training, source),
            "hide": training.hide if training.compare or source.layout is not None else 0.0,
            **brought,
            "vocabulary": text.vocabulary,
        }
    )
    longest = training.max_title + 1 + training.max_feedback
    if longest > config.positions:
        raise TrainingError(
            "bad_config",
            f"title and feedback may take {longest} tokens, {training.decoder} has {config.positions} positions; lower "
            "max_title or max_feedback.",
        )
    model = Muisc(config)
    if training.decoder:
        load_gpt2(model, training.decoder)
    return model


def started(training: MuiscTraining, source: Source, rulebook: Rulebook) -> tuple[Muisc, Checkpoint]:
    """The model of the checkpoint `start` with its weights, under this training's dropout, hiding and loss.

    Raises TrainingError `bad_checkpoint` where it is none of MUIsC, or one of other image tokens or another rulebook.
    """
    module, checkpoint = open_model(Path(training.start), "muisc")
    assert isinstance(module, SequenceModel)
    config = module.muisc.config
    classes = parse_rulebook(checkpoint.rulebook_yaml, f"{training.start}/rulebook.yaml").classes
    own = source.tokens_of or (fingerprint(source.backbone) if source.backbone is not None else "")
    theirs = checkpoint.tokens_of or (fingerprint(module.backbone) if module.backbone is not None else "")
    for what, found, wanted in (
        ("source of image tokens", theirs[:12], own[:12]),
        ("list of classes", tuple(classes), tuple(rulebook.classes)),
        ("K", config.k, rulebook.k),
    ):
        if found != wanted:
            raise TrainingError(
                "bad_checkpoint",
                f"start is {training.start}, whose {what} is {found}; this training's is {wanted}. Give a checkpoint "
                "of the same base and rulebook, or leave start out.",
            )
    model = Muisc(
        replace(
            config,
            dropout=training.dropout,
            lambda_nlg=training.lambda_nlg,
            lambda_mcc=training.lambda_mcc,
            predict_title=training.predict_title,
            hide=training.hide if config.compare or config.layout is not None else 0.0,
        )
    )
    model.load_state_dict(module.muisc.state_dict())
    return model, checkpoint


def log_odds_shift(share: float, prior: float | None) -> float:
    """What to add to the log odds of qualified, learned where a `share` is qualified, to use them where `prior` is."""
    if prior is None or not 0.0 < share < 1.0:
        return 0.0
    return math.log(prior / (1.0 - prior)) - math.log(share / (1.0 - share))


def fitting_pool(training: MuiscTraining, source: Source) -> int | None:
    """The `pool` of the training, None where the tokens are no square grid of at least that side."""
    grid = source.tokens - int(source.class_token or source.layout is not None)
    side = math.isqrt(grid)
    return training.pool if training.pool is not None and side * side == grid and training.pool <= side else None


def train_muisc(
    samples: Sequence[Labelled],
    rulebook: Rulebook,
    training: MuiscTraining,
    out: Path,
    *,
    base: Path | None = None,
    cache: Path | None = None,
    sources: Sequence[str] = (),
    progress: bool = True,
) -> Report:
    """Trains MUIsC on reviewed sequences and writes a checkpoint to `out`.

    Args:
        base: bundle whose image graph makes the tokens, where the training names no backbone; None: the starter.
        cache: folder of cached tokens; None: `out`/cache.
        sources: names of the sample files, for the record.

    Raises:
        TrainingError: too few samples, no readable picture, weights or settings that do not fit, a diverged loss.
    """

    def source_of(data: SequenceData) -> Source:
        folder = cache or out / "cache"
        if training.backbone is None:
            return bundle_source(open_bundle(base), data, folder, progress=progress)
        return backbone_source(training.backbone, data, folder, freeze=training.freeze, progress=progress)

    run = SequenceRun(samples, rulebook, source_of, training, sources)
    source, train = run.source, run.train
    limits: dict[str, Any] = {
        "max_title": training.max_title,
        "max_feedback": training.max_feedback,
        "category": training.category,
    }
    if training.start:
        muisc, begun = started(training, source, rulebook)
        tokenizer_json, limits = begun.tokenizer_json, {name: begun.text[name] for name in limits}
        names = {name: begun.text[name] for name in ("separator", "end", "pad")}
        text = text_of(tokenizer_json, names, **limits)
        run.names += [name for name in begun.training.get("sources", ()) if name not in run.names]
    else:
        tokenizer_json, names = tokenizer_of(training, train, rulebook)
        text = text_of(tokenizer_json, names, **limits)
        muisc = new_muisc(training, source, rulebook, text, rulebook.k)
    model = SequenceModel(muisc, source.backbone if source.cached is None else None)
    config = asdict(model.muisc.config)
    if not training.start and model.muisc.config.pool != training.pool:
        run.notes.append(
            f"pool {training.pool} is left out: it needs a square grid of at least that side, the images have "
            f"{source.tokens} tokens."
        )
    weights = class_weights(train.labels, len(rulebook.classes), training.class_weights)

    def batches(part: SequenceData, **options: Any) -> Batches:
        titles = [text.title(title, category) for title, category in zip(part.titles, part.categories, strict=True)]
        feedbacks = [text.feedback(words) for words in part.feedbacks]
        return run.batches(part, titles, feedbacks, text.pad, **options)

    logits = muisc_logits(model)
    held = batches(run.validation) if len(run.validation) else None
    log = run.fit(
        model,
        muisc_loss(model, torch.from_numpy(weights) if weights is not None else None, run.unread),
        logits,
        batches(train, predict_title=training.predict_title, word_dropout=training.word_dropout, weights=weights),
        held,
        out,
        name="muisc",
        slower=[(model.backbone, training.tower_rate)] if model.backbone is not None else [],
        config=config,
        progress=progress,
    )
    metrics: dict[str, Any] = {}
    if held is not None and model.muisc.shortcut is not None:
        metrics["paths"] = asdict(balanced(model, held))
    measured = run.measured(model, logits, held)
    if measured is not None and measured.both:
        metrics["qualified"] = calibration(measured, training.prior, sources)
    elif training.prior is not None:
        counted = np.ones(len(rulebook.classes), np.float32) if weights is None else weights
        each = counted[train.labels]
        shift = log_odds_shift(float(each[train.labels == 0].sum() / each.sum()), training.prior)
        with torch.no_grad():
            model.muisc.class_head.bias[0] += shift
    fields = {
        "model": config,
        "backbone": asdict(source.backbone.config) if source.backbone is not None else None,
        "tokens_of": source.tokens_of,
        "text": {**limits, **names},
        "tokenizer_json": tokenizer_json,
    }
    return run.write("muisc", SequenceModel(model.muisc, source.backbone), fields, metrics, measured, log, out)


def balanced(model: SequenceModel, held: Batches) -> Paths:
    """Both paths of the model weighed on the validation split (two_paths.py), alike in all processes."""
    paths = in_main(lambda: weighed(model.to(processes().device), held))
    model.cpu()
    if not processes().is_main_process:
        weigh(model.muisc, paths)
    return paths


def calibration(measured: Measured, prior: float | None, sources: Sequence[str]) -> dict[str, Any]:
    """`qualified` of the checkpoint's metrics: temperature and shift fitted on the validation split, then the prior."""
    good = measured.labels == 0
    temperature, shift = fit_qualified(measured.probabilities, good)
    said = f"{len(good)} validation samples of {', '.join(sources) or 'the reviews'}"
    if prior is not None:
        said += f", moved to {prior:g} qualified"
    return {
        "temperature": temperature,
        "shift": round(shift + log_odds_shift(float(good.mean()), prior), 4),
        "data": said,
    }
