"""Training of the image model: labelled pictures, and copies whose geometry is known."""

import math
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from agpis.errors import TrainingError
from agpis.export import export_graph
from agpis.graphs import Exported, ImageGraph, TokensGraph
from agpis.lessons import ImageLessons
from agpis.loop import Optim, Part, fit
from agpis.models.backbones import Backbone
from agpis.models.single import ImageConfig, ImageModel
from agpis.models.towers import TOWERS, EfficientNetLite0, MBConv


@dataclass(frozen=True, slots=True)
class ImageTraining:
    """`train_image`: pictures labelled by the simulator, and copies with known geometry."""

    optim: Optim = field(default_factory=lambda: Optim(steps=900, batch=32, lr=1.5e-3, average=0.995))
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
    names = ("rules", "known", "noncompliant", "primary", "primary_known", "view", "words")
    tensors: dict[str, Tensor] = {name: torch.from_numpy(getattr(lessons, name)) for name in names}
    frequency = tensors["rules"].mean(0).clamp_min(1e-3)
    weight = ((1 - frequency) / frequency).sqrt().clamp(1.0, 8.0)  # rare rules count more, but not fully balanced
    pixels = lessons.pixels, lessons.triples.reshape(-1, *lessons.pixels.shape[1:])
    cache = None if training.whole else [early_features(model, part) for part in pixels]
    members = np.arange(3)

    def outputs(index: npt.NDArray[np.int64], triples: npt.NDArray[np.int64]) -> dict[str, Tensor]:
        third = (3 * triples[:, None] + members).ravel()
        device = model.learned.weight.device
        if cache is None:
            batch = np.concatenate([pixels[0][index], pixels[1][third]])
            out: dict[str, Tensor] = model(torch.from_numpy(batch).to(device))
        else:
            rows, more = torch.from_numpy(index), torch.from_numpy(third)
            grid, texture = (
                torch.cat([a[rows].float(), b[more].float()]).to(device) for a, b in zip(*cache, strict=True)
            )
            out = model.late(grid.contiguous(memory_format=torch.channels_last), texture)
        return {key: value.float() for key, value in out.items()}

    def loss(part: Part) -> dict[str, Tensor]:
        """Sums over the part divided by the step's counts; the contrasts, which know only their part, by its share."""
        n = len(part.index)
        drawn = np.random.default_rng([seed + 1, part.step, part.index[0]])
        pairs = drawn.integers(len(lessons.triples), size=training.copies)
        rows, whole = torch.from_numpy(part.index), torch.from_numpy(part.whole)
        out = outputs(part.index, pairs)
        device = out["rules"].device
        target = {key: value[rows].to(device) for key, value in tensors.items()}

        def mean(losses: Tensor, key: str) -> Tensor:
            return (losses * target[key]).sum() / tensors[key][whole].sum().clamp_min(1.0)

        rules = mean(
            F.binary_cross_entropy_with_logits(
                out["rules"][:n], target["rules"], pos_weight=weight.to(device), reduction="none"
            ),
            "known",
        )
        faulty = F.binary_cross_entropy_with_logits(out["noncompliant"][:n], target["noncompliant"]) * part.share
        primary = mean(
            F.binary_cross_entropy_with_logits(out["primary"][:n], target["primary"], reduction="none"),
            "primary_known",
        )
        view = F.cross_entropy(
            out["views"][:n], target["view"], ignore_index=-1, label_smoothing=0.1, reduction="sum"
        ) / (tensors["view"][whole] >= 0).sum().clamp_min(1)
        patches = out["patches"][n:]
        patches = patches.view(training.copies, 3, *patches.shape[1:])
        places = torch.from_numpy(lessons.places[pairs]).long().to(device)
        match = patch_loss(patches, places, training.temperature) * part.share
        embedding = out["embedding"][n:].view(training.copies, 3, -1)
        products, styles = (torch.from_numpy(a[pairs]).to(device) for a in (lessons.products, lessons.styles))
        same = product_loss(embedding, products, styles) * part.share
        named = F.binary_cross_entropy_with_logits(words(8.0 * out["embedding"][:n]), target["words"], reduction="none")
        named = named.sum(1).mean() / 20.0 * part.share
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
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's overloads lack it
    rows = fit(
        together, loss, len(lessons.pixels), training.optim, seed=seed, name="image", slower=slower, progress=progress
    )
    model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # as above
    fit_projection(model, lessons.pixels[:: max(1, len(lessons.pixels) // 400)])
    return rows


class _EarlyGraph(Exported):
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
    session = _session(ImageGraph(model), model.config.size, half=True)

    def tokens(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        return np.asarray(session.run(["tokens"], {"pixels": pixels})[0])

    return tokens


def graph_of_tokens(backbone: Backbone) -> Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]:
    """A function uint8 (N, S, S, 3) -> (N, P, D) that runs a backbone through ONNX Runtime."""
    session = _session(TokensGraph(backbone), backbone.size, half=False)

    def tokens(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        return np.asarray(session.run(["tokens"], {"pixels": pixels})[0])

    return tokens


def _session(module: Exported, size: int, *, half: bool) -> Any:
    drawn = np.random.default_rng(0).integers(0, 256, (2, size, size, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "graph.onnx"
        export_graph(module, path, {"pixels": {0: torch.export.Dim.DYNAMIC}}, [{"pixels": drawn}], half=half)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = torch.get_num_threads()
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        return onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])


def _through_graph(
    module: Exported, pixels: npt.NDArray[np.uint8], outputs: Sequence[str], batch: int = 32
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
        keep = torch.randperm(len(pair))[:768].to(pair.device)
        pair, cell = pair[keep], cell[keep]
    anchors = patches[pair, 1, cell]  # (A, E)
    others = patches[:, [0, 2]].reshape(-1, width)  # (P * 2 * G*G, E)
    logits = anchors @ others.T / temperature
    target = places[pair, cell]
    column = torch.arange(count * 2 * cells, device=patches.device)
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
    own = torch.eye(len(flat), dtype=torch.bool, device=flat.device)
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
