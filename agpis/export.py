"""torch to ONNX and a bundle; the numbers are compared before anything is written.

Each graph goes through a small wrapper module that owns the exported signature (graphs.py). Weights are rounded to half
precision, stored so and calculated with in single: half the size of the package. On the starter this moves tokens by
0.5 % of their largest value; evaluation runs through the bundle and so sees it.
"""

import copy
import json
import logging
import math
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn

from agpis.bundle import Bundle, describe, open_bundle, sha256
from agpis.bundle_manifest import (
    FORMAT_VERSION,
    ROLES,
    Choice,
    Graph,
    Kinship,
    Limit,
    Manifest,
    Naming,
    Qualified,
    Resize,
    RulebookEntry,
    TextEntry,
    Threshold,
    write_manifest,
)
from agpis.bundle_manifest import Things as ThingsEntry
from agpis.errors import OutputError, TrainingError
from agpis.graphs import DecoderGraph, Exported, ImageGraph, SequenceGraph
from agpis.inputs import END, PAD, SEPARATOR, Text
from agpis.models.muisc import Muisc, MuiscConfig
from agpis.models.single import ImageModel
from agpis.models.things import Things
from agpis.rulebook import Rulebook
from agpis.titles import nouns

OPSET = 18
TOLERANCE = 1e-3  # of the largest value of an output; single precision in another order of operations gives 1e-5
HALF_FROM = 1024  # weights with fewer elements stay in single precision

Feed = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True, slots=True)
class Contents:
    """Everything a bundle is made of besides the two models."""

    id: str
    """Name of the bundle, as decisions state it."""
    rulebook: Rulebook
    """The rulebook the models were trained for."""
    rulebook_yaml: str
    """Its text, as one file without `extends`."""
    tokenizer_json: str
    """The tokenizer of the sequence model."""
    max_title: int
    """Tokens kept of a title."""
    max_feedback: int
    """Tokens of feedback."""
    thresholds: Mapping[Limit, Threshold]
    """Of everything that has one."""
    category: bool = False
    """Category before the title."""
    calibration: Mapping[str, Any] = field(default_factory=dict)
    """For the duplicate matchers."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """Configs of the runs."""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    """Figures at export."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Further text files, such as MODEL_CARD.md."""
    things: Things | None = None
    """What pictures show, in words; only where the first parts of the image model's tower are ImageNet's."""


def export_bundle(out: Path, image: ImageModel, sequence: Muisc, contents: Contents, *, half: bool = True) -> Bundle:
    """Exports both models, compares them with ONNX Runtime, writes the folder, opens it once.

    Args:
        out: folder; replaced as a whole when it holds a bundle, must not exist otherwise.
        half: store weights in half precision.

    Raises:
        TrainingError: `export_differs` when torch and ONNX disagree, `bad_config` when the models do not fit the
            rulebook; nothing is written then.
        OutputError: `out` exists and is no bundle.
    """
    _fits(image, sequence, contents)
    with new_bundle(out) as folder:
        (folder / "rulebook.yaml").write_text(contents.rulebook_yaml, encoding="utf-8")
        (folder / "tokenizer.json").write_text(contents.tokenizer_json, encoding="utf-8")
        text = text_entry(  # before the graphs, which take minutes
            folder / "tokenizer.json",
            sequence.config,
            max_title=contents.max_title,
            max_feedback=contents.max_feedback,
            category=contents.category,
        )
        graphs = {
            "image": image_graph(
                ImageGraph(image, contents.things), folder / "image.onnx", image.config.size, half=half
            )
        }
        graphs |= sequence_graphs(sequence, folder, half=half)
        for name, words in contents.files.items():
            (folder / name).write_text(words, encoding="utf-8")
        write_manifest(folder, _manifest(text, graphs, image, sequence, contents))
    return open_bundle(out)


@contextmanager
def new_bundle(out: Path) -> Iterator[Path]:
    """A scratch folder that takes the place of `out` at the end, once the bundle in it opens.

    Nothing is written where the body raises, or where the result is no sound bundle.

    Raises:
        OutputError: `not_a_bundle` when `out` exists, is not empty and holds no bundle; before the body runs.
        BundleError, TrainingError: `bad_config`, when the result cannot be used.
    """
    if out.is_file() or (out.is_dir() and not (out / "manifest.json").is_file() and any(out.iterdir())):
        raise OutputError("not_a_bundle", f"{out} exists and is no bundle; give another folder or remove it.")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "bundle"
        folder.mkdir()
        yield folder
        check_matchable(open_bundle(folder).manifest)  # what cannot be opened is not written
        if out.exists():
            shutil.rmtree(out)
        out.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(folder, out)


def check_matchable(manifest: Manifest) -> None:
    """The dense duplicate matcher needs one square input and a square grid of at least 2 x 2 patches.

    Raises TrainingError `bad_config`.
    """
    graph = manifest.graphs[manifest.roles["patches"]]
    shape = next(tensor.shape for tensor in graph.outputs if tensor.name == "patches")
    count = shape[1] if len(shape) == 3 else None
    square = isinstance(count, int) and count >= 4 and math.isqrt(count) ** 2 == count
    if not square or manifest.resize.width != manifest.resize.height:
        raise TrainingError(
            "bad_config",
            f"output 'patches' of {graph.file} has the shape {list(shape)} for inputs of {manifest.resize.width} x "
            f"{manifest.resize.height}; the duplicate matcher needs (N, G * G, E) with G of 2 or more, over a square "
            "input. Take the patches from another graph.",
        )


def image_graph(module: Exported, path: Path, size: int, *, half: bool = True) -> Graph:
    """Exports a module of pixels uint8 (N, size, size, 3), compared at two batch sizes. Raises as `export_graph`."""
    rng = np.random.default_rng(0)
    feeds = [{"pixels": rng.integers(0, 256, (n, size, size, 3), dtype=np.uint8)} for n in (2, 5)]
    return export_graph(module, path, {"pixels": {0: torch.export.Dim.DYNAMIC}}, feeds, half=half)


def sequence_graphs(model: Muisc, folder: Path, *, half: bool = True) -> dict[str, Graph]:
    """Exports `sequence` and `decoder`, compared at two batch sizes, two K and two title lengths.

    Raises as `export_graph`.
    """
    config = model.config
    tokens = (config.k, config.tokens, config.token_width)
    memory = config.k * config.memory_tokens
    cache = (config.decoder_blocks, 2, 1, config.decoder_heads)
    rng = np.random.default_rng(0)

    def sequences(n: int, present: int, title: int) -> Feed:
        mask = np.zeros((n, config.k), np.float32)
        mask[:, :present] = 1.0
        return {
            "tokens": rng.standard_normal((n, *tokens), dtype=np.float32),
            "mask": mask,
            "ids": rng.integers(0, config.vocabulary, (1, title)),
        }

    def steps(length: int, past: int) -> Feed:
        return {
            "ids": rng.integers(0, config.vocabulary, (1, length)),
            "memory": rng.standard_normal((1, memory, config.width), dtype=np.float32),
            "memory_mask": np.ones((1, memory), np.float32),
            "past": rng.standard_normal((*cache, past, config.width // config.decoder_heads), dtype=np.float32),
        }

    free = torch.export.Dim.DYNAMIC
    few = max(1, config.k - 1)
    return {
        "sequence": export_graph(
            SequenceGraph(model),
            folder / "sequence.onnx",
            {"tokens": {0: free}, "mask": {0: free}, "ids": {1: free}},
            [sequences(2, config.k, 5), sequences(7, few, 9), sequences(1, few, 1)],
            half=half,
        ),
        "decoder": export_graph(
            DecoderGraph(model),
            folder / "decoder.onnx",
            {"ids": {1: free}, "memory": {}, "memory_mask": {}, "past": {4: free}},
            [steps(4, 3), steps(1, 6), steps(5, 0)],
            half=half,
        ),
    }


def restate(
    folder: Path,
    *,
    thresholds: Mapping[Limit, Threshold],
    calibration: Mapping[str, Any],
    qualified: Qualified,
    metrics: Mapping[str, Any],
    files: Mapping[str, str],
    kinship: Kinship | None = None,
    choice: Choice | None = None,
    naming: Naming | None = None,
) -> Bundle:
    """Writes thresholds, calibration, figures and text files into a bundle; its graphs stay as they are.

    So do `kinship`, `choice` and `naming`, where they are None, and thresholds and calibration that are left out.

    Figures of a recipe come from bundles that left sources out, the shipped one is trained on all.
    Raises BundleError where `folder` is no sound bundle.
    """
    manifest = open_bundle(folder).manifest
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    changed = manifest.model_dump(mode="json") | {
        "thresholds": {
            name: entry.model_dump(mode="json") for name, entry in {**manifest.thresholds, **thresholds}.items()
        },
        "calibration": dict(calibration) or manifest.calibration,
        "qualified": qualified.model_dump(mode="json"),
        "metrics": dict(metrics),
    }
    for name, entry in (("kinship", kinship), ("choice", choice), ("naming", naming)):
        if entry is not None:
            changed[name] = entry.model_dump(mode="json")
    write_manifest(folder, Manifest.model_validate(changed))
    return open_bundle(folder)


def export_graph(
    module: Exported,
    path: Path,
    free: Mapping[str, Mapping[int, Any]],
    feeds: Sequence[Feed],
    *,
    half: bool = True,
    tolerance: float = TOLERANCE,
) -> Graph:
    """Writes one graph, its numbers compared with torch's on every feed (the first is also traced).

    Args:
        free: per input, the free dimensions.

    Raises:
        TrainingError: `export_failed` when the model has no graph of that shape, `export_differs`.
    """
    names, outputs = module.inputs, module.outputs
    module = copy.deepcopy(module).eval().cpu()
    if half:
        round_half(module)
    with warnings.catch_warnings():
        # torch's exporter warns of its own future (copied tree specs, aliases); nothing a caller could mend.
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # else it names every package that it does not need
        try:
            program = torch.onnx.export(
                module,
                tuple(torch.from_numpy(feeds[0][name]) for name in names),
                input_names=list(names),
                output_names=list(outputs),
                dynamic_shapes=tuple(dict(free[name]) for name in names),
                opset_version=OPSET,
                dynamo=True,
                external_data=False,
                optimize=True,
                verbose=False,
            )
        except Exception as error:  # the exporter's errors share no base but Exception
            raise TrainingError(
                "export_failed",
                f"{type(module).__name__} cannot be exported: {str(error).strip()}. Nothing was written.",
            ) from error
    assert program is not None
    proto = program.model_proto
    if half:
        store_half(proto)
    del proto.metadata_props[:]
    proto.doc_string = ""
    for node in proto.graph.node:  # torch's traces name files of this machine
        del node.metadata_props[:]
        node.doc_string = ""
    for value in [*proto.graph.value_info, *proto.graph.input, *proto.graph.output, *proto.graph.initializer]:
        del value.metadata_props[:]
    onnx.checker.check_model(proto)
    data = proto.SerializeToString()
    session = compare(module, data, feeds, tolerance)
    path.write_bytes(data)
    return Graph(
        file=path.name,
        sha256=sha256(path),
        inputs=tuple(describe(node) for node in session.get_inputs()),
        outputs=tuple(describe(node) for node in session.get_outputs()),
    )


def compare(
    module: Exported, data: bytes, feeds: Sequence[Feed], tolerance: float = TOLERANCE
) -> onnxruntime.InferenceSession:
    """Runs torch and ONNX Runtime on every feed. Raises TrainingError `export_differs` beyond `tolerance`."""
    names, outputs = module.inputs, module.outputs
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    for feed in feeds:
        found = session.run(list(outputs), {name: feed[name] for name in names})
        with torch.inference_mode():
            expected = module(*(torch.from_numpy(feed[name]) for name in names))
        for name, ours, theirs in zip(outputs, expected, found, strict=True):
            reference = ours.numpy()
            # Relative where numbers are large: tokens and logits of a sure model are not of order 1.
            scale = max(1.0, float(np.abs(reference).max())) if reference.size else 1.0
            same = reference.shape == theirs.shape
            worst = float(np.abs(reference - theirs).max()) / scale if same and reference.size else 0.0
            if not same or not worst <= tolerance:  # `not <=` also catches NaN
                shapes = {key: value.shape for key, value in feed.items()}
                raise TrainingError(
                    "export_differs",
                    f"output {name!r} of {type(module).__name__} differs between torch {reference.shape} and ONNX "
                    f"Runtime {theirs.shape} by {worst:.2g}; allowed is {tolerance:.2g} (inputs {shapes}). "
                    "Nothing was written.",
                )
    return session


def round_half(module: nn.Module) -> None:
    """Large weights to the nearest half-precision value, in place: what is compared is what is stored."""
    with torch.no_grad():
        for values in [*module.parameters(), *module.buffers()]:
            if values.dtype == torch.float32 and values.numel() >= HALF_FROM:
                values.copy_(values.half().float())


def store_half(model: onnx.ModelProto) -> None:
    """Large float weights to float16 with a Cast behind each, which ONNX Runtime folds away on opening."""
    graph = model.graph
    casts = []
    for tensor in graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT or int(np.prod(tensor.dims)) < HALF_FROM:
            continue
        values = onnx.numpy_helper.to_array(tensor)
        limit = float(np.finfo(np.float16).max)
        name = tensor.name
        tensor.CopyFrom(onnx.numpy_helper.from_array(values.clip(-limit, limit).astype(np.float16), f"{name}.half"))
        casts.append(onnx.helper.make_node("Cast", [tensor.name], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def _fits(image: ImageModel, sequence: Muisc, contents: Contents) -> None:
    layout, config, rulebook = image.config.layout, sequence.config, contents.rulebook
    for what, found, wanted in (
        ("rules of the image model", image.config.rules, len(rulebook.single_rules)),
        ("classes of the sequence model", config.classes, len(rulebook.classes)),
        ("K of the sequence model", config.k, rulebook.k),
        ("tokens of an image", config.tokens, layout.tokens),
        ("width of a token", config.token_width, layout.width),
    ):
        if found != wanted:
            raise TrainingError(
                "bad_config", f"{what}: the model has {found}, the bundle needs {wanted} (rulebook {rulebook.id})."
            )


def text_entry(
    path: Path,
    config: MuiscConfig,
    *,
    max_title: int,
    max_feedback: int,
    category: bool,
    separator: str = SEPARATOR,
    end: str = END,
    pad: str = PAD,
) -> TextEntry:
    """What the manifest says of the tokenizer at `path`, used with the decoder of `config`.

    Raises:
        TrainingError: `bad_config` when it has more entries than the decoder, or texts may be longer than that reads.
        ValueError: it lacks one of the three special tokens.
    """
    text = Text(path, max_title=max_title, max_feedback=max_feedback, separator=separator, end=end, pad=pad)
    if text.vocabulary > config.vocabulary:
        raise TrainingError(
            "bad_config",
            f"the tokenizer has {text.vocabulary} entries, the sequence model only {config.vocabulary}. Give the "
            "tokenizer that it was trained with.",
        )
    if max_title + 1 + max_feedback > config.positions:
        raise TrainingError(
            "bad_config",
            f"title and feedback may take {max_title + 1 + max_feedback} tokens, the decoder has "
            f"{config.positions} positions.",
        )
    return TextEntry(
        sha256=sha256(path),
        max_title=max_title,
        max_feedback=max_feedback,
        category=category,
        separator=separator,
        end=end,
        pad=pad,
    )


def known_things() -> ThingsEntry:
    """The manifest's entry of `Things.imagenet`."""
    return ThingsEntry(
        words=tuple(noun.words for noun in nouns()), data="agpis/nouns.yaml; classes of ImageNet by EfficientNet-Lite0"
    )


def _manifest(
    text: TextEntry, graphs: Mapping[str, Graph], image: ImageModel, sequence: Muisc, contents: Contents
) -> Manifest:
    return Manifest(
        format=FORMAT_VERSION,
        id=contents.id,
        rulebook=RulebookEntry(
            hash=contents.rulebook.hash,
            classes=tuple(contents.rulebook.classes),
            single_rules=tuple(contents.rulebook.single_rules),
        ),
        graphs=dict(graphs),
        roles={role: {"sequence": "sequence", "feedback": "decoder"}.get(role, "image") for role in ROLES},
        resize=Resize(width=image.config.size, height=image.config.size),
        k=sequence.config.k,
        token_layout=asdict(image.config.layout),
        things=None if contents.things is None else known_things(),
        text=text,
        thresholds=dict(contents.thresholds),
        calibration=json.loads(json.dumps(dict(contents.calibration))),
        training=json.loads(json.dumps(dict(contents.training))),
        metrics=json.loads(json.dumps(dict(contents.metrics))),
    )
