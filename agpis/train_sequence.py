"""Training of sequence models on reviewed sequences: MUIsC, and what it shares with the baselines.

The pictures of a sequence come as cached tokens, where the image tower is frozen (a bundle's image graph, or a
backbone), or as pixels decoded in the loader's workers, where the tower is trained too.
"""

import hashlib
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from agpis.bundle import Bundle, open_bundle
from agpis.calibration import fit_qualified
from agpis.checkpoint import Checkpoint, write_checkpoint
from agpis.dataset import BadImage, Cached, Pixels, SequenceData, cached_tokens, sequence_data
from agpis.errors import TrainingError
from agpis.inputs import END, PAD, SEPARATOR, Text, train_tokenizer
from agpis.loop import Optim, Part, fit
from agpis.metrics import auc
from agpis.models.backbones import Backbone, BackboneConfig, new_backbone
from agpis.models.comparison import TokenLayout
from agpis.models.muisc import Muisc, MuiscConfig, SequenceModel, collate, losses
from agpis.models.pretrained import decoder_tokenizer, gpt2_config, load_gpt2
from agpis.rulebook import Rulebook
from agpis.samples import Labelled
from agpis.train_image import graph_of_tokens

NAMED = 20  # bad pictures that are named on screen
MINIMUM = 20  # samples of a split under which training says no


@dataclass(frozen=True, slots=True)
class MuiscTraining:
    """`agpis train muisc`: the sequence model on reviewed sequences."""

    optim: Optim = field(default_factory=lambda: Optim(batch=32, lr=1e-3, epochs=6, weight_decay=0.05, patience=3))
    """Loop."""
    backbone: BackboneConfig | None = None
    """Image tower; None: the tokens of the base bundle's image graph, which is the fastest and needs the least data."""
    freeze: bool = True
    """Leave the backbone as it is and cache its tokens; False trains it too."""
    tower_rate: float = 0.1
    """Learning rate of a trained backbone, as a part of the rest's."""
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
    dropout: float = 0.1
    """In encoder and decoder."""
    hide: float = 0.0
    """See `MuiscConfig.hide`; for tokens of a bundle."""
    lambda_nlg: float = 0.1
    """Weight of the feedback loss, eq. (4)."""
    lambda_mcc: float = 1.0
    """Weight of the class loss, eq. (4)."""
    class_weights: float = 0.0
    """Exponent of 1 / frequency as the weight of a class in the loss; 0: all alike, 1: balanced."""
    prior: float | None = None
    """Share of qualified sequences where the model will be used; None: that of the samples."""
    workers: int = 2
    """Processes that decode pictures, when the backbone is trained."""
    seed: int = 0
    """Of initial weights, order and dropout."""

    def __post_init__(self) -> None:
        if self.backbone is None and not self.freeze:
            raise TrainingError("bad_config", "freeze is False, but the tokens come from a bundle; name a backbone.")
        if self.word_dropout and self.predict_title:
            raise TrainingError("bad_config", "word_dropout leaves out words that predict_title wants predicted.")
        if not 0.0 <= self.word_dropout < 1.0:
            raise TrainingError("bad_config", f"word_dropout is {self.word_dropout}; allowed is 0 to below 1.")
        if not 0.0 <= self.class_weights <= 1.0:
            raise TrainingError("bad_config", f"class_weights is {self.class_weights}; allowed is 0 to 1.")


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


# Pictures ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """Where tokens come from, and what they are."""

    tokens: int
    width: int
    class_token: bool = False
    layout: TokenLayout | None = None
    cached: Cached | None = None
    """None: the backbone is trained, on pixels."""
    pixels: Pixels | None = None
    backbone: Backbone | None = None
    tokens_of: str = ""
    """Sha256 of the bundle's graph that made the tokens."""


def bundle_source(bundle: Bundle, data: SequenceData, folder: Path, *, progress: bool = True) -> Source:
    """Tokens of a bundle's image graph."""
    manifest = bundle.manifest
    graph = manifest.graphs[manifest.roles["tokens"]]
    if bundle.size.width != bundle.size.height:
        raise TrainingError("bad_config", f"bundle {bundle.name} takes {bundle.size}; training needs a square input.")
    cached = cached_tokens(
        data.images,
        lambda pixels: bundle.image(pixels).tokens,
        bundle.size.width,
        folder,
        graph.sha256,
        progress=progress,
    )
    layout = TokenLayout(**manifest.token_layout) if manifest.token_layout else None
    return Source(cached.tokens.shape[1], cached.tokens.shape[2], layout=layout, cached=cached, tokens_of=graph.sha256)


def backbone_source(
    config: BackboneConfig, data: SequenceData, folder: Path, *, freeze: bool, progress: bool = True
) -> Source:
    """A backbone's tokens: cached when it is frozen, else to be made in every step."""
    backbone = new_backbone(config).eval()
    shape = (backbone.tokens, backbone.width, backbone.class_token)
    if not freeze:
        return Source(*shape, pixels=Pixels(data.images, backbone.size), backbone=backbone)
    for parameter in backbone.parameters():
        parameter.requires_grad_(False)
    tokens_of = graph_of_tokens(backbone) if not torch.cuda.is_available() else _tokens_on_gpu(backbone)
    cached = cached_tokens(data.images, tokens_of, backbone.size, folder, fingerprint(backbone), progress=progress)
    return Source(*shape, cached=cached, backbone=backbone.cpu())


def _tokens_on_gpu(backbone: Backbone) -> Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]:
    backbone.cuda()

    def tokens(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16):
            return np.asarray(backbone(torch.from_numpy(pixels).cuda()).float().cpu().numpy(), np.float32)

    return tokens


def fingerprint(module: nn.Module) -> str:
    """Sha256 over names and values of all weights."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(
            value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes() if value.ndim else str(value).encode()
        )
    return digest.hexdigest()


# Batches -------------------------------------------------------------------------------------------------------------


class Batches:
    """`load` of the loop: parts of a step as tensors. Picklable, for the loader's workers.

    A batch holds tokens (b, K, P, D) or pixels uint8 (b, K, S, S, 3), mask (b, K), ids, separator, targets as of
    `collate`, labels (b,), rows int64 (b,) of the samples, bad int64 (m,) rows of images that could not be read,
    samples: number of the step's samples, and whole (2,) float: their weight and the number of their predicted tokens.
    Samples with a bad picture are left out.
    """

    def __init__(
        self,
        data: SequenceData,
        titles: Sequence[Sequence[int]],
        feedbacks: Sequence[Sequence[int]],
        pad: int,
        *,
        tokens: npt.NDArray[Any] | None = None,
        pixels: Pixels | None = None,
        predict_title: bool = False,
        word_dropout: float = 0.0,
        weights: npt.NDArray[np.float32] | None = None,
    ) -> None:
        self.index, self.labels = data.index, data.labels
        self.titles, self.feedbacks, self.pad = list(titles), list(feedbacks), pad
        self.tokens, self.pixels, self.predict_title, self.weights = tokens, pixels, predict_title, weights
        self.word_dropout = word_dropout
        words = [len(f) + (len(t) - 1 if predict_title else 0) for t, f in zip(titles, feedbacks, strict=True)]
        self.words = np.array(words, np.int64)

    def __len__(self) -> int:
        return len(self.labels)

    def __call__(self, part: Part) -> dict[str, Tensor]:
        rows, bad = part.index, np.zeros(0, np.int64)
        index = self.index[rows]
        batch: dict[str, Tensor] = {}
        if self.tokens is not None:
            tokens = self.tokens[np.maximum(index, 0)]
            tokens[index < 0] = 0
            batch["tokens"] = torch.from_numpy(tokens)
        elif self.pixels is not None:
            present = np.flatnonzero(index.ravel() >= 0)
            found, ok = self.pixels(index.ravel()[present])
            side = self.pixels.size
            pixels = np.full((*index.shape, side, side, 3), 255, np.uint8)
            pixels.reshape(-1, side, side, 3)[present] = found
            bad = index.ravel()[present[~ok]]
            kept = ~np.isin(index, bad).any(1)
            rows, index, pixels = rows[kept], index[kept], pixels[kept]
            batch["pixels"] = torch.from_numpy(pixels)
        titles = [self.titles[i] for i in rows]
        if self.word_dropout > 0:  # drawn from the step and the sample, so that resume and processes agree
            titles = [
                _thinned(title, np.random.default_rng([part.step, int(row)]), self.word_dropout)
                for title, row in zip(titles, rows, strict=True)
            ]
        ids, separator, targets = collate(
            titles, [self.feedbacks[i] for i in rows], self.pad, predict_title=self.predict_title
        )
        labels = self.labels[part.whole]
        weight = float(len(labels)) if self.weights is None else float(self.weights[labels].sum())
        return batch | {
            "mask": torch.from_numpy((index >= 0).astype(np.float32)),
            "ids": ids,
            "separator": separator,
            "targets": targets,
            "labels": torch.from_numpy(self.labels[rows]),
            "rows": torch.from_numpy(rows),
            "bad": torch.from_numpy(bad),
            "samples": torch.tensor(len(part.whole)),
            "whole": torch.tensor([weight, float(self.words[part.whole].sum())], dtype=torch.float64),
        }


def _thinned(title: Sequence[int], rng: np.random.Generator, share: float) -> list[int]:
    """Without a share of its tokens; the separator, last, stays."""
    kept = rng.random(len(title) - 1) >= share
    return [token for token, stays in zip(title, kept, strict=False) if stays] + [title[-1]]


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


def class_probabilities(
    forward: Callable[[dict[str, Tensor]], Tensor], model: nn.Module, batches: Batches, size: int = 64
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Class probabilities (n, C) of all readable samples and their rows (n,); the model is in eval mode meanwhile."""
    device, was = next(model.parameters()).device, model.training
    model.eval()
    found, rows = [], []
    everything = np.arange(len(batches))
    with torch.inference_mode():
        for at in range(0, len(batches), size):
            batch = batches(Part(everything[at : at + size], everything[at : at + size], 0))
            if len(batch["labels"]):
                logits = forward({key: value.to(device) for key, value in batch.items()})
                found.append(torch.softmax(logits.float(), -1).cpu().numpy())
                rows.append(batch["rows"].numpy())
    model.train(was)
    if not found:
        raise TrainingError("no_readable_image", "no sample to be scored has readable pictures.")
    return np.concatenate(found), np.concatenate(rows)


def muisc_logits(model: SequenceModel) -> Callable[[dict[str, Tensor]], Tensor]:
    """Class logits of a batch; what stands behind the separator is seen by no class."""

    def forward(batch: dict[str, Tensor]) -> Tensor:
        mask = batch["mask"]
        tokens = batch["tokens"].float() if "tokens" in batch else model.tokens(batch["pixels"], mask)
        nothing = torch.zeros_like(batch["targets"])
        return model.muisc(tokens, mask, batch["ids"], batch["separator"], nothing)[0]  # type: ignore[no-any-return]

    return forward


def class_weights(labels: npt.NDArray[np.int64], classes: int, exponent: float) -> npt.NDArray[np.float32] | None:
    """(C,) weights frequency ** -exponent with mean 1 over the samples; None for exponent 0."""
    if exponent == 0.0:
        return None
    counts = np.bincount(labels, minlength=classes).astype(np.float64)
    weights = np.where(counts > 0, np.maximum(counts, 1.0) ** -exponent, 0.0)
    return (weights * counts.sum() / (weights * counts).sum()).astype(np.float32)  # type: ignore[no-any-return]


def shift_prior(head: nn.Linear, share: float, prior: float | None) -> None:
    """Moves the class biases from the share of qualified in training to `prior`."""
    if prior is None or not 0.0 < share < 1.0:
        return
    shift = torch.full((head.out_features,), math.log((1 - prior) / (1 - share)))
    shift[0] = math.log(prior / share)
    with torch.no_grad():
        head.bias.add_(shift.to(head.bias.device))


# The run -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Report:
    """What a run used, left out and reached."""

    samples: dict[str, int]
    """Split -> samples trained or measured on."""
    bad_images: tuple[BadImage, ...]
    left_out: int
    """Samples without which it was trained, because of those."""
    figures: dict[str, float]
    """On the validation split."""
    seconds: float
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [", ".join(f"{n} {split}" for split, n in self.samples.items()) + f" samples, {self.seconds:.0f} s"]
        lines += [f"validation {name}: {value:.4f}" for name, value in self.figures.items() if name != "samples"]
        lines += self.notes
        if self.bad_images:
            lines.append(f"left out {self.left_out} samples, for {len(self.bad_images)} pictures that cannot be read:")
            lines += [f"  {bad.message}" for bad in self.bad_images[:NAMED]]
            if len(self.bad_images) > NAMED:
                lines.append(f"  and {len(self.bad_images) - NAMED} more")
        return "\n".join(lines)


def prepared(samples: Sequence[Labelled], rulebook: Rulebook, k: int) -> SequenceData:
    """Samples as arrays. Raises TrainingError `too_few_samples`."""
    data = sequence_data(samples, rulebook, k)
    train = data.where("train")
    if len(train) < MINIMUM or len(set(train.labels.tolist())) < 2:
        raise TrainingError(
            "too_few_samples",
            f"found {len(train)} samples to train on, of {len(set(train.labels.tolist()))} classes; at least {MINIMUM} "
            "of 2 classes are needed (accepted and rejected sequences).",
        )
    return data


def digest(data: SequenceData) -> str:
    """Hash of what is trained on: images by name, order, labels and texts."""
    found = hashlib.sha256("\0".join(image.location for image in data.images).encode())
    found.update(data.index.tobytes() + data.labels.tobytes())
    found.update("\0".join((*data.titles, *data.categories, *data.feedbacks)).encode())
    return found.hexdigest()


def validation_auc(probabilities: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> float:
    """AUC of p_qualified; NaN where all samples are of one kind."""
    return auc(probabilities[:, 0], labels == 0)


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
            "pool": training.pool,
            "hide": training.hide if training.compare or source.layout is not None else 0.0,
            **brought,
            "vocabulary": text.vocabulary,
        }
    )
    model = Muisc(config)
    if training.decoder:
        load_gpt2(model, training.decoder)
    return model


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
    begin = time.monotonic()
    torch.manual_seed(training.seed)
    k = rulebook.k
    data = prepared(samples, rulebook, k)
    cache = cache or out / "cache"
    if training.backbone is None:
        source = bundle_source(open_bundle(base), data, cache, progress=progress)
    else:
        source = backbone_source(training.backbone, data, cache, freeze=training.freeze, progress=progress)
    bad_images: tuple[BadImage, ...] = ()
    total = len(data)
    if source.cached is not None:
        bad_images = source.cached.bad
        data = data.kept(source.cached.ok)
    train, validation = data.where("train"), data.where("validation")
    tokenizer_json, names = tokenizer_of(training, train, rulebook)
    text = text_of(
        tokenizer_json,
        names,
        max_title=training.max_title,
        max_feedback=training.max_feedback,
        category=training.category,
    )
    model = SequenceModel(
        new_muisc(training, source, rulebook, text, k), source.backbone if source.cached is None else None
    )
    weights = class_weights(train.labels, len(rulebook.classes), training.class_weights)

    def batches(part: SequenceData) -> Batches:
        titles = [text.title(title, category) for title, category in zip(part.titles, part.categories, strict=True)]
        return Batches(
            part,
            titles,
            [text.feedback(words) for words in part.feedbacks],
            text.pad,
            tokens=source.cached.tokens if source.cached is not None else None,
            pixels=source.pixels,
            predict_title=training.predict_title,
            word_dropout=training.word_dropout if part is train else 0.0,
            weights=weights,
        )

    unread: set[int] = set()
    logits = muisc_logits(model)
    held = batches(validation) if len(validation) else None
    notes = [] if held else ["There is no validation split: the last weights are kept, and nothing is calibrated."]

    def validate() -> float:
        assert held is not None
        probabilities, rows = class_probabilities(logits, model, held)
        return validation_auc(probabilities, held.labels[rows])

    slower = [(model.backbone, training.tower_rate)] if model.backbone is not None else []
    log = fit(
        model,
        muisc_loss(model, torch.from_numpy(weights) if weights is not None else None, unread),
        len(train),
        training.optim,
        seed=training.seed,
        name="muisc",
        load=batches(train),
        workers=0 if source.cached is not None else training.workers,
        slower=slower,
        validate=validate if held else None,
        folder=out,
        question={"model": asdict(model.muisc.config), "training": asdict(training), "samples": digest(train)},
        progress=progress,
    )
    model.cpu()
    share = float((train.labels == 0).mean())
    shift_prior(model.muisc.class_head, share, training.prior)
    figures: dict[str, float] = {}
    metrics: dict[str, Any] = {}
    if held is not None:
        probabilities, rows = class_probabilities(logits, model, held)
        good = held.labels[rows] == 0
        figures = {"auc": validation_auc(probabilities, held.labels[rows]), "samples": float(len(rows))}
        metrics["validation"] = figures
        if good.any() and not good.all():
            temperature, shift = fit_qualified(probabilities, good)
            said = f"{len(rows)} validation samples of {', '.join(sources) or 'the reviews'}"
            metrics["qualified"] = {"temperature": temperature, "shift": shift, "data": said}
        else:
            notes.append("The validation split holds verdicts of one kind only: nothing is calibrated.")
    if source.pixels is not None:
        bad_images = tuple(source.pixels.bad(row) for row in sorted(unread))
    left_out = total - len(data) if source.cached is not None else int(np.isin(data.index, list(unread)).any(1).sum())
    report = Report(
        samples={"train": len(train), "validation": len(validation)},
        bad_images=bad_images,
        left_out=left_out,
        figures=figures,
        seconds=time.monotonic() - begin,
        notes=tuple(notes),
    )
    checkpoint = Checkpoint(
        kind="muisc",
        model=asdict(model.muisc.config),
        backbone=asdict(source.backbone.config) if source.backbone is not None else None,
        rulebook_yaml=rulebook.text(),
        tokens_of=source.tokens_of,
        text={
            "max_title": training.max_title,
            "max_feedback": training.max_feedback,
            "category": training.category,
            **names,
        },
        tokenizer_json=tokenizer_json,
        training={
            "command": "agpis train muisc",
            "config": asdict(training),
            "sources": list(sources),
            "samples": report.samples,
            "left_out": report.left_out,
            "losses": log[-1] if log else {},
            "torch": torch.__version__,
        },
        metrics=metrics,
    )
    write_checkpoint(out, checkpoint, SequenceModel(model.muisc, source.backbone))
    return report
