"""Training: ONE loop for every model, one config dataclass per command, checkpoints without pickle.

    python -m agpis.train starter --data ../shared/data --leave-out kickstart,oxid --out runs/x

makes a whole starter bundle out of catalogues of approved products (`catalog.jsonl`) and the simulator:

1. simulate labelled pictures and copies, fine-tune the image model on them (`train_image`);
2. simulate sequences, put their pictures through the finished image model once, train MUIsC on the tokens
   (`train_muisc`);
3. export.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from agpis.bundle import Bundle, Threshold
from agpis.errors import TrainingError
from agpis.inputs import SEPARATOR, Text, train_tokenizer
from agpis.lessons import ImageLessons, SequenceLessons, image_lessons, sequence_lessons
from agpis.models.muisc import Muisc, MuiscConfig, collate, losses
from agpis.models.single import VIEWS, ImageConfig, ImageModel
from agpis.models.towers import TOWERS, EfficientNetLite0, MBConv
from agpis.rulebook import Rulebook, load_rulebook
from agpis.simulate import Catalogued, Stock, Style, load

Batch = Callable[[npt.NDArray[np.int64]], dict[str, Tensor]]


@dataclass(frozen=True, slots=True)
class Optim:
    """How one model is trained."""

    steps: int
    """Optimiser steps."""
    batch: int
    """Samples a step."""
    lr: float
    """Peak learning rate; warm-up is linear, then a cosine to a hundredth."""
    weight_decay: float = 0.02
    """AdamW, on matrices only."""
    warmup: float = 0.06
    """Share of the steps that warm up."""
    clip: float = 1.0
    """Gradient norm."""
    bf16: bool = True
    """Autocast to bfloat16 in the forward pass."""

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 1:
            raise TrainingError("bad_config", f"steps {self.steps} and batch {self.batch} must be at least 1.")


def fit(
    model: nn.Module,
    loss: Batch,
    count: int,
    optim: Optim,
    *,
    seed: int,
    name: str,
    slower: Sequence[tuple[nn.Module, float]] = (),
    progress: bool = True,
) -> list[dict[str, float]]:
    """THE training loop: AdamW, warm-up and cosine, clipping; seeded shuffling without replacement.

    Args:
        loss: indices (batch,) -> named losses; "total" is minimised, the others are only shown.
        count: number of samples.
        slower: modules with a factor on the learning rate (0 freezes).

    Returns:
        One row of mean losses for about every twentieth part of the run.

    Raises:
        TrainingError: `diverged` when the loss is not finite.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    rates = {id(p): factor for module, factor in slower for p in module.parameters()}
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        factor = rates.get(id(parameter), 1.0)
        parameter.requires_grad_(factor > 0)
        if factor > 0:
            groups.setdefault((factor, parameter.ndim > 1), []).append(parameter)
    optimizer = torch.optim.AdamW(
        [
            {"params": p, "lr": 0.0, "factor": factor, "weight_decay": optim.weight_decay if decay else 0.0}
            for (factor, decay), p in groups.items()
        ]
    )
    trained = [p for group in groups.values() for p in group]
    warm = max(1, round(optim.warmup * optim.steps))
    order = np.zeros(0, dtype=np.int64)
    rows: list[dict[str, float]] = []
    sums: dict[str, float] = {}
    every = max(1, optim.steps // 20)
    start, seen = time.monotonic(), 0
    model.train()
    for step in range(optim.steps):
        while len(order) < optim.batch:
            order = np.concatenate([order, rng.permutation(count)])
        index, order = order[: optim.batch], order[optim.batch :]
        share = (step - warm) / max(1, optim.steps - warm)
        scale = (step + 1) / warm if step < warm else 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share))
        for group in optimizer.param_groups:
            group["lr"] = optim.lr * scale * group["factor"]
        with torch.autocast("cpu", torch.bfloat16, enabled=optim.bf16):
            found = loss(index)
        total = found["total"]
        if not bool(torch.isfinite(total)):
            raise TrainingError("diverged", f"{name}: the loss is {float(total.detach())} at step {step}; lower lr.")
        optimizer.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(trained, optim.clip)
        optimizer.step()
        for key, value in found.items():
            sums[key] = sums.get(key, 0.0) + float(value.detach())
        seen += 1
        if seen == every or step == optim.steps - 1:
            rows.append({"step": float(step + 1), **{key: value / seen for key, value in sums.items()}})
            rate = (step + 1) * optim.batch / (time.monotonic() - start)
            if progress:
                shown = "  ".join(f"{key} {value:.4f}" for key, value in rows[-1].items() if key != "step")
                print(f"{name} {step + 1}/{optim.steps}  {shown}  {rate:.0f}/s", file=sys.stderr, flush=True)
            sums, seen = {}, 0
    model.eval()
    return rows


def save_checkpoint(folder: Path, model: nn.Module, config: Any) -> None:
    """weights.safetensors and config.json of one model. No pickle: safe to open from strangers."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {key: value.contiguous() for key, value in model.state_dict().items()}
    save_file(state, folder / "weights.safetensors")
    (folder / "config.json").write_text(json.dumps(asdict(config), indent=1) + "\n", encoding="utf-8")


def load_weights(folder: Path, model: nn.Module) -> None:
    """Loads weights.safetensors, strict. Raises TrainingError `bad_checkpoint`, missing and foreign keys listed."""
    path = folder / "weights.safetensors"
    if not path.is_file():
        raise TrainingError("bad_checkpoint", f"no checkpoint at {folder}: {path.name} is missing.")
    found, wanted = load_file(path), model.state_dict()
    missing, foreign = sorted(set(wanted) - set(found)), sorted(set(found) - set(wanted))
    shapes = [k for k in wanted if k in found and wanted[k].shape != found[k].shape]
    if missing or foreign or shapes:
        raise TrainingError(
            "bad_checkpoint",
            f"{path} does not fit the model: missing {missing}, foreign {foreign}, other shape {shapes}. "
            "Load it with the config.json beside it.",
        )
    model.load_state_dict(found)


# The image model -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ImageTraining:
    """`train_image`: pictures labelled by the simulator, and copies with known geometry."""

    optim: Optim = field(default_factory=lambda: Optim(steps=700, batch=32, lr=1.5e-3))
    """Loop; a step also takes `copies` pairs."""
    copies: int = 8
    """Triples (picture, copy of it, another view or sister) a step, for descriptors and product embedding."""
    tower_rate: float = 0.15
    """Learning rate of the tower, as a part of the heads'."""
    whole: bool = False
    """Train the early half of the tower too. Off, it stays as ImageNet made it and is cached: four times as fast."""
    temperature: float = 0.07
    """InfoNCE of the descriptors."""
    weight_rules: float = 4.0
    """Weights of the losses: single rules (mean over rules) ..."""
    weight_primary: float = 1.0
    """... p_primary ..."""
    weight_view: float = 0.4
    """... view ..."""
    weight_patches: float = 0.4
    """... descriptors ..."""
    weight_embedding: float = 0.3
    """... product embedding (contrast, and the title's words from it)."""


def new_image_model(config: ImageConfig, *, pretrained: bool = True) -> ImageModel:
    """An untrained image model, on an ImageNet tower where there is one."""
    if config.tower not in TOWERS:
        raise TrainingError("bad_config", f"tower is {config.tower!r}; allowed are {sorted(TOWERS)}.")
    tower = TOWERS[config.tower]()
    if pretrained and isinstance(tower, EfficientNetLite0):
        tower.load_imagenet()
    return ImageModel(config, tower)


def train_image(
    model: ImageModel, lessons: ImageLessons, training: ImageTraining, *, seed: int, progress: bool = True
) -> list[dict[str, float]]:
    """Fine-tunes tower and heads jointly; afterwards fits the learned token columns (`fit_projection`)."""
    words = nn.Linear(model.embedding.out_features, lessons.words.shape[1])
    together = nn.ModuleDict({"model": model, "words": words})
    rng = np.random.default_rng(seed + 1)
    names = ("rules", "known", "noncompliant", "primary", "primary_known", "view", "words")
    tensors: dict[str, Tensor] = {name: torch.from_numpy(getattr(lessons, name)) for name in names}
    frequency = tensors["rules"].mean(0).clamp_min(1e-3)
    weight = ((1 - frequency) / frequency).sqrt().clamp(1.0, 8.0)  # rare rules count more, but not fully balanced
    pixels = lessons.pixels, lessons.triples.reshape(-1, *lessons.pixels.shape[1:])
    cache = None if training.whole else [early_features(model, part) for part in pixels]
    members = np.arange(3)

    def outputs(index: npt.NDArray[np.int64], triples: npt.NDArray[np.int64]) -> dict[str, Tensor]:
        third = (3 * triples[:, None] + members).ravel()
        if cache is None:
            batch = np.concatenate([pixels[0][index], pixels[1][third]])
            out: dict[str, Tensor] = model(torch.from_numpy(batch))
        else:
            rows, more = torch.from_numpy(index), torch.from_numpy(third)
            grid, texture = (torch.cat([a[rows].float(), b[more].float()]) for a, b in zip(*cache, strict=True))
            out = model.late(grid.contiguous(memory_format=torch.channels_last), texture)
        return {key: value.float() for key, value in out.items()}

    def loss(index: npt.NDArray[np.int64]) -> dict[str, Tensor]:
        n = len(index)
        pairs = rng.integers(len(lessons.triples), size=training.copies)
        rows = torch.from_numpy(index)
        out = outputs(index, pairs)
        known = tensors["known"][rows]
        rules = F.binary_cross_entropy_with_logits(
            out["rules"][:n], tensors["rules"][rows], pos_weight=weight, reduction="none"
        )
        rules = (rules * known).sum() / known.sum().clamp_min(1.0)
        faulty = F.binary_cross_entropy_with_logits(out["noncompliant"][:n], tensors["noncompliant"][rows])
        primary_known = tensors["primary_known"][rows]
        primary = F.binary_cross_entropy_with_logits(out["primary"][:n], tensors["primary"][rows], reduction="none")
        primary = (primary * primary_known).sum() / primary_known.sum().clamp_min(1.0)
        view = out["views"].new_zeros(())
        if bool((tensors["view"][rows] >= 0).any()):
            view = F.cross_entropy(out["views"][:n], tensors["view"][rows], ignore_index=-1, label_smoothing=0.1)
        patches = out["patches"][n:]
        patches = patches.view(training.copies, 3, *patches.shape[1:])
        match = patch_loss(patches, torch.from_numpy(lessons.places[pairs]).long(), training.temperature)
        embedding = out["embedding"][n:].view(training.copies, 3, -1)
        same = product_loss(
            embedding, torch.from_numpy(lessons.products[pairs]), torch.from_numpy(lessons.styles[pairs])
        )
        named = F.binary_cross_entropy_with_logits(
            words(8.0 * out["embedding"][:n]), tensors["words"][rows], reduction="none"
        )
        named = named.sum(1).mean() / 20.0
        total = (
            training.weight_rules * rules
            + faulty
            + training.weight_primary * primary
            + training.weight_view * view
            + training.weight_patches * match
            + training.weight_embedding * (same + named)
        )
        return {
            "total": total,
            "rules": rules,
            "noncompliant": faulty,
            "primary": primary,
            "view": view,
            "patches": match,
            "embedding": same,
            "words": named,
        }

    late = [(module, training.tower_rate) for module in model.tower.late_modules()]
    slower: list[tuple[nn.Module, float]] = [(model.tower, training.tower_rate if training.whole else 0.0), *late]
    if not training.whole:  # the weight gradient of depthwise convolutions takes half of the time on a CPU
        slower += [(module.depthwise, 0.0) for module in model.tower.modules() if isinstance(module, MBConv)]
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    rows = fit(
        together, loss, len(lessons.pixels), training.optim, seed=seed, name="image", slower=slower, progress=progress
    )
    model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    fit_projection(model, lessons.pixels[:: max(1, len(lessons.pixels) // 400)])
    return rows


class _EarlyGraph(nn.Module):
    inputs = ("pixels",)
    outputs = ("grid", "texture")

    def __init__(self, model: ImageModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        return self.model.early(pixels)


def early_features(model: ImageModel, pixels: npt.NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
    """`ImageModel.early` of all pixels in half precision, through ONNX Runtime: twice as fast as torch on a CPU."""
    parts = list(_through_graph(_EarlyGraph(model), pixels, ("grid", "texture")))
    return torch.cat([torch.from_numpy(p[0]).half() for p in parts]), torch.cat([torch.from_numpy(p[1]) for p in parts])


def tokens_through_graph(model: ImageModel) -> Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]:
    """A function (N, H, W, 3) -> (N, P, D) that runs the image graph exactly as it will be exported."""
    from agpis.export import ImageGraph

    session = _session(ImageGraph(model), model.config.size, half=True)

    def tokens(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        return np.asarray(session.run(["tokens"], {"pixels": pixels})[0])

    return tokens


def _session(module: nn.Module, size: int, *, half: bool) -> Any:
    import tempfile

    import onnxruntime

    from agpis.export import export_graph

    drawn = np.random.default_rng(0).integers(0, 256, (2, size, size, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "graph.onnx"
        export_graph(module, path, {"pixels": {0: torch.export.Dim.DYNAMIC}}, [{"pixels": drawn}], half=half)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = torch.get_num_threads()
        return onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])


def _through_graph(
    module: nn.Module, pixels: npt.NDArray[np.uint8], outputs: Sequence[str], batch: int = 32
) -> Iterable[list[npt.NDArray[np.float32]]]:
    session = _session(module, pixels.shape[1], half=False)
    for start in range(0, len(pixels), batch):
        yield session.run(list(outputs), {"pixels": np.ascontiguousarray(pixels[start : start + batch])})


def patch_loss(patches: Tensor, places: Tensor, temperature: float) -> Tensor:
    """InfoNCE between a patch of a copy and the same place of its source.

    Against it stand all other places of the source but the neighbours, and all places of all other pictures.

    Args:
        patches: (P, 3, G*G, E) of source, copy, another view or sister.
        places: int64 (P, G*G) for each patch of the copy the source patch that shows the same, or -1.
    """
    count, _, cells, width = patches.shape
    side = math.isqrt(cells)
    pair, cell = torch.nonzero(places >= 0, as_tuple=True)
    if not len(pair):
        return patches.sum() * 0.0
    if len(pair) > 768:  # enough for the gradient; all of them would be a 1600 x 4700 matrix
        keep = torch.randperm(len(pair))[:768]
        pair, cell = pair[keep], cell[keep]
    anchors = patches[pair, 1, cell]  # (A, E)
    others = patches[:, [0, 2]].reshape(-1, width)  # (P * 2 * G*G, E)
    logits = anchors @ others.T / temperature
    target = places[pair, cell]
    column = torch.arange(count * 2 * cells)
    where = column[None] - (pair * 2 * cells)[:, None]
    inside = (where >= 0) & (where < cells)
    apart = torch.maximum(
        (where // side - target[:, None] // side).abs(), (where % side - target[:, None] % side).abs()
    )
    logits = logits.masked_fill(inside & (apart == 1), float("-inf"))
    return F.cross_entropy(logits, pair * 2 * cells + target)


def product_loss(embedding: Tensor, products: Tensor, styles: Tensor, temperature: float = 0.1) -> Tensor:
    """Supervised contrast (https://arxiv.org/abs/2004.11362): views and copies of one product lie together.

    Args:
        embedding: (P, 3, W), L2-normalised.
        products: int64 (P, 3) product of each picture.
        styles: int64 (P, 3) style; sisters (same style, another product) are neither pulled nor pushed.
    """
    flat, product, style = embedding.flatten(0, 1), products.flatten(), styles.flatten()
    near = product[:, None] == product[None]
    own = torch.eye(len(flat), dtype=torch.bool)
    aside = own | ((style[:, None] == style[None]) & ~near)
    logits = (flat @ flat.T / temperature).masked_fill(aside, float("-inf"))
    log_share = logits - torch.logsumexp(logits, dim=1, keepdim=True)
    wanted = near & ~own
    return -(log_share.masked_fill(~wanted, 0.0).sum(1) / wanted.sum(1).clamp_min(1)).mean()


def fit_projection(model: ImageModel, pixels: npt.NDArray[np.uint8]) -> None:
    """Sets the learned token columns to the principal components of the finished stride-32 map, of unit variance.

    No loss of stage 1 reaches these columns, and the sequence model is trained on cached tokens, so they are fitted.
    """
    with torch.no_grad():
        maps = []
        for part in np.array_split(pixels, max(1, len(pixels) // 32)):
            grid, _ = model.early(torch.from_numpy(np.ascontiguousarray(part)))
            maps.append(model.tower.late(grid[:, : model.tower.channels[16]]))
        flat = torch.cat(maps).permute(0, 2, 3, 1).flatten(0, 2).double()  # (N * P, C)
        mean = flat.mean(0)
        values, vectors = torch.linalg.eigh((flat - mean).T @ (flat - mean) / len(flat))
        wide = model.learned.out_channels
        basis = vectors[:, -wide:].flip(1).T / values[-wide:].flip(0).clamp_min(1e-6).sqrt()[:, None]
        if len(basis) < wide:
            basis = F.pad(basis, (0, 0, 0, wide - len(basis)))
        model.learned.weight.copy_(basis.float()[:, :, None, None])
        assert model.learned.bias is not None
        model.learned.bias.copy_(-(basis @ mean).float())


# The sequence model --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MuiscTraining:
    """`train_muisc`: sequences with class and feedback, on cached tokens."""

    optim: Optim = field(default_factory=lambda: Optim(steps=2400, batch=32, lr=1e-3, weight_decay=0.05))
    """Loop."""
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

    def loss(index: npt.NDArray[np.int64]) -> dict[str, Tensor]:
        rows = torch.from_numpy(index)
        ids, separator, targets = collate(
            [titles[i] for i in index], [feedbacks[i] for i in index], text.pad, predict_title=config.predict_title
        )
        classes, words = model(tokens[rows].float(), mask[rows], ids, separator)
        total, mcc, nlg = losses(config, classes.float(), words.float(), labels[rows], ids, targets)
        return {"total": total, "classes": mcc, "feedback": nlg}

    rows = fit(model, loss, len(labels), training.optim, seed=seed, name="muisc", progress=progress)
    if training.prior is not None:
        share = float((labels == 0).float().mean())
        if 0.0 < share < 1.0:
            shift = torch.full((config.classes,), math.log((1 - training.prior) / (1 - share)))
            shift[0] = math.log(training.prior / share)
            with torch.no_grad():
                model.class_head.bias.add_(shift)
    return rows


# The starter ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StarterTraining:
    """`agpis train starter`: the whole recipe. Defaults are those of the bundle in the package."""

    seed: int = 0
    """Of everything drawn: samples, initial weights, order."""
    images: int = 12000
    """Labelled pictures."""
    triples: int = 3000
    """(picture, copy, other) for descriptors."""
    sequences: int = 12000
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
    image: ImageTraining = field(default_factory=ImageTraining)
    """Of the image model."""
    muisc: MuiscTraining = field(default_factory=MuiscTraining)
    """Of the sequence model."""


DEFAULT_THRESHOLDS: dict[str, Threshold] = {
    "primary": Threshold(value=0.3, data="not set on data"),
    "noncompliant": Threshold(value=0.5, data="not set on data"),
    "duplicate": Threshold(value=0.5, data="not set on data"),
    "qualified": Threshold(value=0.3, data="the paper's submission threshold (5.1)"),
}


def train_starter(
    products: Sequence[Catalogued],
    out: Path,
    training: StarterTraining,
    *,
    rulebook: Rulebook | None = None,
    thresholds: dict[str, Threshold] | None = None,
    calibration: dict[str, Any] | None = None,
    metrics: dict[str, Any] | None = None,
    files: dict[str, str] | None = None,
    sources: Sequence[str] = (),
    bundle_id: str = "starter",
    checkpoints: Path | None = None,
    progress: bool = True,
) -> Bundle:
    """Runs the recipe and exports the bundle to `out`.

    Args:
        products: approved products; see `agpis.simulate.load`.
        checkpoints: folder for the two models' checkpoints.

    Raises:
        TrainingError: too few products, or an export that differs from torch.
    """
    from agpis.export import Contents, export_bundle

    rulebook = rulebook or load_rulebook("default")
    stock, style = Stock(list(products)), Style.train()

    def say(text: str) -> None:
        if progress:
            print(text, file=sys.stderr, flush=True)

    begin = time.monotonic()
    config = ImageConfig(
        rules=len(rulebook.single_rules),
        size=training.size,
        tower=training.tower,
        width=training.token_width,
        descriptor=training.descriptor,
    )
    torch.manual_seed(training.seed)
    rng = np.random.default_rng(training.seed)
    pictures = image_lessons(
        stock, rulebook, rng, style, count=training.images, triples=training.triples, size=training.size, views=VIEWS
    )
    say(f"{training.images} pictures and {training.triples} triples after {time.monotonic() - begin:.0f} s")
    image = new_image_model(config)
    log = {"image": train_image(image, pictures, training.image, seed=training.seed, progress=progress)}
    if checkpoints is not None:
        save_checkpoint(checkpoints / "image", image, config)
    del pictures
    say(f"image model after {time.monotonic() - begin:.0f} s")

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
    layout = config.layout
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
            layout=layout,
            pool=min(training.pool, layout.side),
        )
    )
    log["muisc"] = train_muisc(muisc, lessons, text, training.muisc, seed=training.seed, progress=progress)
    if checkpoints is not None:
        save_checkpoint(checkpoints / "muisc", muisc, muisc.config)
    say(f"sequence model after {time.monotonic() - begin:.0f} s")
    contents = Contents(
        id=bundle_id,
        rulebook=rulebook,
        rulebook_yaml=rulebook.text(),
        tokenizer_json=tokenizer_json,
        max_title=training.max_title,
        max_feedback=training.max_feedback,
        thresholds=thresholds or DEFAULT_THRESHOLDS,
        calibration=calibration or {},
        training={
            "command": "agpis.train starter",
            "sources": list(sources),
            "config": asdict(training),
            "products": len(products),
            "last_losses": {name: rows[-1] for name, rows in log.items()},
            "torch": torch.__version__,
        },
        metrics=metrics or {},
        files=files or {},
    )
    bundle = export_bundle(out, image, muisc, contents)
    say(f"{out} after {time.monotonic() - begin:.0f} s")
    return bundle


def tokenizer_for(lessons: SequenceLessons, titles: Iterable[str], rulebook: Rulebook, vocabulary: int) -> str:
    """tokenizer.json trained on titles, feedback and the rulebook's phrases."""
    phrases = [phrase for rule in rulebook.rules for phrase in rule.phrases()]
    return str(train_tokenizer([*titles, *lessons.titles, *lessons.feedbacks, *phrases], vocabulary).to_str())


def text_of(tokenizer_json: str, training: StarterTraining) -> Text:
    """The text inputs of a tokenizer that is not on disk yet."""
    import tempfile

    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "tokenizer.json"
        path.write_text(tokenizer_json, encoding="utf-8")
        return Text(path, max_title=training.max_title, max_feedback=training.max_feedback, separator=SEPARATOR)


def catalogues(data: Path, leave_out: Iterable[str] = ()) -> tuple[Path, ...]:
    """The catalog.jsonl files under `data`, without the sources left out. Raises TrainingError on an unknown source."""
    found = {path.parent.name: path for path in sorted(data.glob("*/catalog.jsonl"))}
    left = set(leave_out)
    if not found:
        raise TrainingError("no_products", f"{data} holds no */catalog.jsonl.")
    if left - set(found):
        raise TrainingError(
            "unknown_source", f"leave_out names {sorted(left - set(found))}; {data} has {sorted(found)}."
        )
    return tuple(path for name, path in found.items() if name not in left)


def main(arguments: Sequence[str] | None = None) -> None:
    """`python -m agpis.train starter`."""
    parser = argparse.ArgumentParser(prog="agpis.train", description=__doc__)
    parser.add_argument("what", choices=["starter"])
    parser.add_argument("--data", type=Path, required=True, help="folder of catalogues")
    parser.add_argument("--out", type=Path, required=True, help="bundle folder")
    parser.add_argument("--leave-out", default="", help="sources not to train on, comma-separated")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--budget", type=float, default=1.0, help="factor on samples and steps")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--id", default="starter")
    parser.add_argument(
        "--figures", type=Path, help="JSON with thresholds, calibration and metrics of bench/starter.py"
    )
    parser.add_argument("--card", type=Path, help="MODEL_CARD.md to put into the bundle")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    left = [name for name in options.leave_out.split(",") if name]
    paths = catalogues(options.data, left)
    figures = json.loads(options.figures.read_text("utf-8")) if options.figures else {}
    train_starter(
        load(paths),
        options.out,
        scaled(StarterTraining(seed=options.seed), options.budget),
        thresholds={k: Threshold(**v) for k, v in figures["thresholds"].items()} if figures else None,
        calibration=figures.get("calibration"),
        metrics=figures.get("metrics"),
        files={"MODEL_CARD.md": options.card.read_text("utf-8")} if options.card else None,
        sources=[path.parent.name for path in paths],
        bundle_id=options.id,
        checkpoints=options.out.parent / f"{options.out.name}-checkpoints",
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
