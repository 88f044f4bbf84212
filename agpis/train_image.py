"""Training of the image model: labelled pictures, and copies whose geometry is known."""

import math
import tempfile
from collections.abc import Callable, Sequence
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

PARTS = ("late", "middle", "whole")


@dataclass(frozen=True, slots=True)
class ImageTraining:
    """`train_image`: pictures labelled by the simulator, and copies with known geometry."""

    optim: Optim = field(
        default_factory=lambda: Optim(steps=1000, batch=32, lr=1.5e-3, weight_decay=0.05, average=0.995)
    )
    """Loop; a step also takes `copies` pairs."""
    copies: int = 8
    """Triples (picture, copy of it, another view or sister) a step, for descriptors and product embedding."""
    tower_rate: float = 0.15
    """Learning rate of the tower, as a part of the heads'."""
    part: str = "late"
    """What of the tower is trained: its `late` part (stride 32), from the `middle` on (stride 16 too), or the `whole`
    of it. The rest stays as ImageNet made it and runs through ONNX Runtime, once a picture."""
    temperature: float = 0.07
    """InfoNCE of the descriptors."""
    weight_rules: float = 10.0
    """Weights of the losses: single rules (mean over rules) ..."""
    weight_noncompliant: float = 0.5
    """... p_noncompliant ..."""
    weight_places: float = 0.5
    """... the places of marks ..."""
    weight_primary: float = 2.0
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
    marks = torch.from_numpy(lessons.marks)
    names = ("rules", "known", "noncompliant", "primary", "primary_known", "view", "words")
    tensors: dict[str, Tensor] = {name: torch.from_numpy(getattr(lessons, name)) for name in names}
    frequency = tensors["rules"].mean(0).clamp_min(1e-3)
    weight = ((1 - frequency) / frequency).sqrt().clamp(1.0, 8.0)  # rare rules count more, but not fully balanced
    pixels = lessons.pixels, lessons.triples.reshape(-1, *lessons.pixels.shape[1:])
    if training.part not in PARTS:
        raise TrainingError("bad_config", f"part is {training.part!r}; allowed are {list(PARTS)}.")
    frozen = FrozenTower.of(model, pixels[0], pixels[1], training)
    with torch.no_grad():
        few = np.ascontiguousarray(pixels[0][:: max(1, len(pixels[0]) // 400)])
        model.standardise(model.early(torch.from_numpy(few))[2])
        model.rule_scale.fill_(1.0)
        model.rule_shift.copy_(-weight.log())  # what the weights of the loss add to the logits
    members = np.arange(3)

    def halves(index: npt.NDArray[np.int64], third: npt.NDArray[np.int64]) -> tuple[Tensor, Tensor, Tensor]:
        """grid of pictures and triples, fine and texture of the pictures."""
        if frozen is None:
            batch = torch.from_numpy(np.concatenate([pixels[0][index], pixels[1][third]]))
            grid, fine, texture = model.early(batch.to(model.learned.weight.device))
            return grid, fine[: len(index)], texture[: len(index)]
        return frozen.halves(model, index, third)

    def outputs(index: npt.NDArray[np.int64], triples: npt.NDArray[np.int64]) -> tuple[dict[str, Tensor], ...]:
        """Of the pictures, and of the members of the triples."""
        grid, fine, texture = halves(index, (3 * triples[:, None] + members).ravel())
        deep, n = model.deep(grid), len(index)
        own = {**model.judged(grid[:n], fine, texture, deep[:n]), **model.matched(grid[:n], deep[:n])}
        return tuple(
            {key: value.float() for key, value in out.items()} for out in (own, model.matched(grid[n:], deep[n:]))
        )

    def loss(part: Part) -> dict[str, Tensor]:
        """Sums over the part divided by the step's counts; the contrasts, which know only their part, by its share."""
        drawn = np.random.default_rng([seed + 1, part.step, part.index[0]])
        pairs = drawn.integers(len(lessons.triples), size=training.copies)
        rows, whole = torch.from_numpy(part.index), torch.from_numpy(part.whole)
        out, more = outputs(part.index, pairs)
        device = out["rules"].device
        target = {key: value[rows].to(device) for key, value in tensors.items()}

        def mean(losses: Tensor, key: str) -> Tensor:
            return (losses * target[key]).sum() / tensors[key][whole].sum().clamp_min(1.0)

        rules = mean(
            F.binary_cross_entropy_with_logits(
                out["raw"], target["rules"], pos_weight=weight.to(device), reduction="none"
            ),
            "known",
        )
        faulty = F.binary_cross_entropy_with_logits(out["noncompliant"], target["noncompliant"]) * part.share
        primary = mean(
            F.binary_cross_entropy_with_logits(out["primary"], target["primary"], reduction="none"),
            "primary_known",
        )
        view = F.cross_entropy(out["views"], target["view"], ignore_index=-1, label_smoothing=0.1, reduction="sum") / (
            tensors["view"][whole] >= 0
        ).sum().clamp_min(1)
        patches = more["patches"]
        patches = patches.view(training.copies, 3, *patches.shape[1:])
        places = torch.from_numpy(lessons.places[pairs]).long().to(device)
        match = patch_loss(patches, places, training.temperature) * part.share
        embedding = more["embedding"].view(training.copies, 3, -1)
        products, styles = (torch.from_numpy(a[pairs]).to(device) for a in (lessons.products, lessons.styles))
        same = product_loss(embedding, products, styles) * part.share
        named = F.binary_cross_entropy_with_logits(words(8.0 * out["embedding"]), target["words"], reduction="none")
        named = named.sum(1).mean() / 20.0 * part.share
        placed = place_loss(out["places"], marks[rows].to(device), (target["known"] > target["rules"])) * part.share
        total = (
            training.weight_rules * rules
            + training.weight_noncompliant * faulty
            + training.weight_places * placed
            + training.weight_primary * primary
            + training.weight_view * view
            + training.weight_patches * match
            + training.weight_embedding * (same + named)
        )
        return {
            "total": total,
            "rules": rules,
            "noncompliant": faulty,
            "places": placed,
            "primary": primary,
            "view": view,
            "patches": match,
            "embedding": same,
            "words": named,
        }

    late = [(module, training.tower_rate) for module in model.tower.late_modules()]
    if training.part == "middle":
        late += [(module, training.tower_rate) for module in model.tower.middle_modules()]
    slower: list[tuple[nn.Module, float]] = [(model.tower, training.tower_rate if frozen is None else 0.0), *late]
    if frozen is not None:  # the weight gradient of depthwise convolutions takes half of the time on a CPU
        slower += [(module.depthwise, 0.0) for module in model.tower.modules() if isinstance(module, MBConv)]
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's overloads lack it
    rows = fit(
        together, loss, len(lessons.pixels), training.optim, seed=seed, name="image", slower=slower, progress=progress
    )
    model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # as above
    fit_projection(model, lessons.pixels[:: max(1, len(lessons.pixels) // 400)])
    return rows


@dataclass(frozen=True, slots=True)
class FrozenTower:
    """What of the tower is not trained, run over pictures and triples through ONNX Runtime."""

    late: bool
    """All but the late part is frozen, and this gives `early`'s maps; else `first`'s."""
    pictures: Callable[[npt.NDArray[np.int64]], Sequence[Tensor]]
    """Numbers (n,) -> those maps of these pictures."""
    triples: Sequence[Tensor]
    """Of the pictures of the triples: grid; or the stride-8 map and colours."""

    @classmethod
    def of(
        cls,
        model: ImageModel,
        pictures: npt.NDArray[np.uint8],
        triples: npt.NDArray[np.uint8],
        training: ImageTraining,
    ) -> "FrozenTower | None":
        """None where all of the tower is trained. Maps of pictures are kept where one comes more than once, since
        those of 32,000 take 9 GB, and made anew where it does not."""
        if training.part == "whole":
            return None
        late, optim = training.part == "late", training.optim
        graph = _EarlyGraph(model) if late else _FirstGraph(model)
        more = (
            features(graph, triples, ("grid",))
            if late
            else features(graph, triples, ("fine", "colours"), model.tower.channels[8])
        )
        if optim.steps and optim.steps * optim.batch <= len(pictures):
            session = _session(graph, pictures.shape[1], half=False)

            def fresh(index: npt.NDArray[np.int64]) -> Sequence[Tensor]:
                found = session.run(list(graph.outputs), {"pixels": pictures[index]})
                return [torch.from_numpy(values) for values in found]

            return cls(late, fresh, more)
        kept = features(graph, pictures, graph.outputs)
        return cls(late, lambda index: [values[torch.from_numpy(index)] for values in kept], more)

    def halves(
        self, model: ImageModel, index: npt.NDArray[np.int64], third: npt.NDArray[np.int64]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """grid of pictures and triples, fine and texture of the pictures; on the model's device."""
        device, rows, last = model.learned.weight.device, torch.from_numpy(third), torch.channels_last
        own = [values.float().to(device) for values in self.pictures(index)]
        more = [values[rows].float().to(device) for values in self.triples]
        if self.late:
            grid, fine, texture = own
            grid = torch.cat([grid, *more])
        else:
            fine, colours, facts = own
            near = torch.cat([fine[:, -model.tower.channels[8] :], more[0]])
            grid = model.gridded(near.contiguous(memory_format=last), torch.cat([colours, more[1]]))
            texture = model.textured(facts, grid[: len(index)])
        return grid.contiguous(memory_format=last), fine.contiguous(memory_format=last), texture


class _EarlyGraph(Exported):
    inputs = ("pixels",)
    outputs = ("grid", "fine", "texture")

    def __init__(self, model: ImageModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.model.early(pixels)


class _FirstGraph(Exported):
    inputs = ("pixels",)
    outputs = ("fine", "colours", "facts")

    def __init__(self, model: ImageModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.model.first(pixels)


def features(
    graph: Exported, pixels: npt.NDArray[np.uint8], names: Sequence[str], last: int = 0, batch: int = 32
) -> tuple[Tensor, ...]:
    """Those outputs of a graph for all pixels (N, H, W, 3), maps in half precision, through ONNX Runtime: twice as fast
    as torch on a CPU. Of the first of them only the `last` columns, where that is given."""
    session = _session(graph, pixels.shape[1], half=False)
    found: list[Tensor] = []
    for start in range(0, len(pixels), batch):
        part = session.run(list(names), {"pixels": np.ascontiguousarray(pixels[start : start + batch])})
        for at, values in enumerate(part):
            values = values[:, -last:] if at == 0 else values
            if len(found) == at:
                kind = torch.half if values.ndim == 4 else torch.float32
                found.append(torch.empty((len(pixels), *values.shape[1:]), dtype=kind))
            found[at][start : start + len(values)] = torch.from_numpy(values)
    return tuple(found)


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


def place_loss(places: Tensor, marks: Tensor, kept: Tensor) -> Tensor:
    """Cross entropy of the places: none outside of a mark or where the rule is kept, and the better half inside.

    A mark's box holds places without it (between the letters of a watermark), so half of them may say nothing.

    Args:
        places: (N, R, S * S) logits.
        marks: (N, R, 4) left, top, right, bottom in parts of the sides, or NaN.
        kept: bool (N, R) where the rule is known to be kept.
    """
    side = math.isqrt(places.shape[2])
    quiet = F.softplus(places).mean(2)  # cross entropy with 0
    loss = (quiet * kept).sum() / kept.sum().clamp_min(1)
    row, rule = torch.nonzero(~marks[..., 0].isnan(), as_tuple=True)
    if not len(row):
        return loss
    found, box = places[row, rule], marks[row, rule]  # (M, S * S), (M, 4)
    centre = (torch.arange(side, device=places.device) + 0.5) / side
    reach = 0.5 / side  # a mark smaller than a place lies in one all the same
    across = (centre > box[:, 0:1] - reach) & (centre < box[:, 2:3] + reach)
    down = (centre > box[:, 1:2] - reach) & (centre < box[:, 3:4] + reach)
    inside = (down[:, :, None] & across[:, None, :]).flatten(1)
    middle = torch.where(inside, found.detach(), torch.nan).nanmedian(1, keepdim=True).values
    strong, outside = inside & (found >= middle), ~inside
    there = (F.softplus(-found) * strong).sum(1) / strong.sum(1).clamp_min(1)
    elsewhere = (F.softplus(found) * outside).sum(1) / outside.sum(1).clamp_min(1)
    return loss + (there + elsewhere).mean()


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
            maps.append(model.deep(model.early(torch.from_numpy(np.ascontiguousarray(part)))[0]))
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
