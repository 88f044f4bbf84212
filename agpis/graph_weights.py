"""The sequence model of a bundle, read back out of its graphs: a start for training where no checkpoint is left.

An exported graph keeps the names of most weights; those that the exporter has transposed are known by the bias that is
added behind them. Whatever is guessed is checked: the model that is read must say what the graph says.
"""

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from agpis.bundle import Bundle
from agpis.checkpoint import Checkpoint, write_checkpoint
from agpis.errors import TrainingError
from agpis.graphs import SequenceGraph
from agpis.models.comparison import TokenLayout
from agpis.models.muisc import Muisc, MuiscConfig, SequenceModel

TOLERANCE = 5e-3
"""Of a log probability and of the memory: the graph's own weights are read, so only the order of sums differs."""
LEAST = 1e-6
"""Probabilities are taken no nearer to 0."""

Weights = dict[str, npt.NDArray[np.float32]]


def checkpoint_of(bundle: Bundle, out: Path) -> Path:
    """Writes the bundle's sequence model to `out` as `agpis train muisc` would have left it; returns `out`.

    Raises TrainingError `bad_checkpoint` where its graphs are none that AGPIS exported from MUIsC, or bring their own
    backbone.
    """
    model = muisc_of(bundle)
    manifest = bundle.manifest
    checkpoint = Checkpoint(
        kind="muisc",
        model=asdict(model.config),
        backbone=None,
        rulebook_yaml=bundle.rulebook.text(),
        tokens_of=manifest.graphs[manifest.roles["tokens"]].sha256,
        text=manifest.text.model_dump(exclude={"file", "sha256"}),
        tokenizer_json=(bundle.folder / manifest.text.file).read_text(encoding="utf-8"),
        training={"command": "read out of the graphs", "bundle": bundle.name, "sources": list(manifest.trained_on)},
    )
    write_checkpoint(out, checkpoint, SequenceModel(model))
    return out


def muisc_of(bundle: Bundle) -> Muisc:
    """The bundle's sequence model with its weights, in evaluation mode. Raises as `checkpoint_of`."""
    path = bundle.folder / bundle.manifest.graphs[bundle.manifest.roles["sequence"]].file
    graph = onnx.load(path).graph
    weights, linears = _weights(graph), _linears(graph)
    why = ""
    for heads in _heads(bundle, weights):
        try:
            model = Muisc(_config(bundle, weights, heads)).eval()
            _fill(model, weights, linears)
        except (KeyError, RuntimeError, ValueError, TrainingError) as error:
            why = f"{type(error).__name__}: {error}"
            continue
        gap = _gap(model, path)
        if gap <= TOLERANCE:
            return model
        why = f"its outputs differ by {gap:.2g}"
    raise TrainingError(
        "bad_checkpoint",
        f"the sequence model of bundle {bundle.name!r} cannot be read out of {path.name} ({why}); give the checkpoint "
        "that it was exported from, or train from scratch.",
    )


def _weights(graph: onnx.GraphProto) -> Weights:
    """Initializers by the name under which they are used, in single precision."""
    found = {}
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype in (np.float16, np.float32):
            found[tensor.name.removesuffix(".half").removeprefix("model.")] = values.astype(np.float32)
    return found


def _linears(graph: onnx.GraphProto) -> list[tuple[str, str, bool]]:
    """Names of weight and bias of each linear layer, and whether the weight is stored as (in, out)."""
    added = {name: node for node in graph.node if node.op_type == "Add" for name in node.input}
    bare = {tensor.name.removesuffix(".half") for tensor in graph.initializer}
    found = []
    for node in graph.node:
        if node.op_type == "Gemm" and len(node.input) == 3:
            found.append((node.input[1], node.input[2], False))
        elif node.op_type == "MatMul" and node.input[1] in bare and node.output[0] in added:
            bias = [name for name in added[node.output[0]].input if name in bare]
            if bias:
                found.append((node.input[1], bias[0], True))
    return [(weight.removeprefix("model."), bias.removeprefix("model."), turned) for weight, bias, turned in found]


def _heads(bundle: Bundle, weights: Weights) -> list[int]:
    """Attention heads of the encoder that may be: as many as the decoder's first, then whatever divides the width."""
    width = weights["words.weight"].shape[1] if "words.weight" in weights else 1
    own = _decoder_heads(bundle)
    return [own, *(n for n in range(1, width + 1) if width % n == 0 and n != own and n <= 32)]


def _decoder_heads(bundle: Bundle) -> int:
    graph = bundle.manifest.graphs[bundle.manifest.roles["feedback"]]
    size = next(tensor.shape[3] for tensor in graph.inputs if tensor.name == "past")
    return int(size)


def _config(bundle: Bundle, weights: Weights, encoder_heads: int) -> MuiscConfig:
    """The shape of the model, from those of its weights. Raises KeyError where one is not there."""
    manifest = bundle.manifest
    graph = manifest.graphs[manifest.roles["sequence"]]
    shape = next(tensor.shape for tensor in graph.inputs if tensor.name == "tokens")
    layout = None if manifest.token_layout is None else TokenLayout(**manifest.token_layout)
    vocabulary, width = weights["words.weight"].shape
    memory, k = weights["image_positions"].shape[0], int(shape[1])
    pooled = "pooling" in weights
    extra = int(layout is not None)
    if layout is None and pooled:
        extra = memory // k - weights["pooling"].shape[0]
    blocks = [_count(weights, part) for part in ("encoder", "decoder")]
    return MuiscConfig(
        classes=len(bundle.classes),
        vocabulary=vocabulary,
        tokens=int(shape[2]),
        token_width=int(shape[3]),
        k=k,
        width=width,
        encoder_blocks=blocks[0],
        encoder_heads=encoder_heads,
        encoder_mlp=weights["encoder.0.expand.bias"].shape[0],
        decoder_blocks=blocks[1],
        decoder_heads=_decoder_heads(bundle),
        decoder_mlp=weights["decoder.0.expand.bias"].shape[0],
        cross_attention=tuple(n for n in range(blocks[1]) if f"decoder.{n}.norm_cross.weight" in weights),
        positions=weights["text_positions.weight"].shape[0],
        class_token=layout is None and extra == 1,
        compare=any(name.startswith("compare.") for name in weights),
        layout=layout,
        pool=math.isqrt(weights["pooling"].shape[0]) if pooled else None,
    )


def _count(weights: Weights, part: str) -> int:
    return 1 + max(int(name.split(".")[1]) for name in weights if name.startswith(f"{part}."))


def _fill(model: Muisc, weights: Weights, linears: list[tuple[str, str, bool]]) -> None:
    """Puts the weights into the model. Raises KeyError for one that is not found."""
    state: dict[str, Tensor] = {}
    free = list(linears)

    def take(name: str, shape: tuple[int, ...]) -> None:
        """One linear layer: by its weight's name, else by its bias's, else any left of its shape."""
        places = [linear for linear in free if _oriented(weights, linear).shape == shape]
        for known in (
            [linear for linear in places if linear[0] == f"{name}.weight"],
            [linear for linear in places if linear[1] == f"{name}.bias"],
            places if f"{name}.bias" not in weights else [],  # the exporter keeps equal tensors once
        ):
            if known:
                free.remove(known[0])
                state[f"{name}.weight"] = torch.from_numpy(_oriented(weights, known[0]).copy())
                state[f"{name}.bias"] = torch.from_numpy(weights[known[0][1]].copy())
                return
        raise KeyError(f"{name}.weight")

    layers = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    # Those that are named come first, so that none of them is taken for one that is not.
    layers.sort(key=lambda layer: f"{layer[0]}.bias" not in weights)
    for name, module in layers:
        if module.bias is not None:
            take(name, tuple(module.weight.shape))
    for name, parameter in model.named_parameters():
        if name not in state:
            state[name] = torch.from_numpy(weights[name].reshape(parameter.shape).copy())
    model.load_state_dict(state, strict=False)


def _oriented(weights: Weights, linear: tuple[str, str, bool]) -> npt.NDArray[np.float32]:
    """The weight of a linear layer, (out, in)."""
    found = weights[linear[0]]
    return found.T if linear[2] else found


def _gap(model: Muisc, path: Path) -> float:
    """Largest difference of an output between the model and the graph, over drawn inputs: of a log probability, or of
    the memory as a part of its largest value."""
    config, rng = model.config, np.random.default_rng(0)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    worst = 0.0
    for images, words in ((config.k, 7), (1, 2)):
        feed: dict[str, Any] = {
            "tokens": rng.standard_normal((3, config.k, config.tokens, config.token_width), dtype=np.float32),
            "mask": np.concatenate([np.ones((3, images)), np.zeros((3, config.k - images))], 1).astype(np.float32),
            "ids": rng.integers(0, config.vocabulary, (1, words)),
        }
        theirs, memory = session.run(["probabilities", "memory"], feed)
        with torch.no_grad():
            own = SequenceGraph(model)(*(torch.from_numpy(values) for values in feed.values()))
        logs = [np.log(np.maximum(p, LEAST)) for p in (own[0].numpy(), theirs)]
        worst = max(worst, float(np.abs(logs[0] - logs[1]).max()))
        worst = max(worst, float(np.abs(own[1].numpy() - memory).max() / np.abs(memory).max()))
    return worst
