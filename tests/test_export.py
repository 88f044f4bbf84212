"""Export: numbers are compared before anything is written, and a difference stops it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from agpis.bundle import open_bundle
from agpis.bundle_manifest import UNSET, Kinship, Qualified, Threshold
from agpis.errors import OutputError, TrainingError
from agpis.export import Contents, compare, export_bundle, export_graph, restate, store_half
from agpis.inputs import Text, train_tokenizer
from agpis.models.muisc import Muisc, MuiscConfig
from agpis.models.single import ImageConfig, ImageModel
from agpis.models.towers import TinyTower
from agpis.recipe import main as recipe
from agpis.rulebook import load_rulebook

FREE = torch.export.Dim.DYNAMIC


class Scale(nn.Module):
    """A graph small enough to look through."""

    inputs = ("x",)
    outputs = ("y",)

    def __init__(self, factor: float = 2.0, batch: int | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((64, 64), factor))
        self.batch = batch

    def forward(self, x: Tensor) -> tuple[Tensor]:
        y = x @ self.weight
        return (y + 1.0 if self.batch is not None and x.shape[0] != self.batch else y,)


def feeds(*counts: int) -> list[dict[str, np.ndarray[Any, Any]]]:
    rng = np.random.default_rng(0)
    return [{"x": rng.standard_normal((n, 64), dtype=np.float32)} for n in counts]


def test_graph_is_written_with_its_signature(tmp_path: Path) -> None:
    graph = export_graph(Scale(), tmp_path / "scale.onnx", {"x": {0: FREE}}, feeds(2, 5))
    assert graph.inputs[0].name == "x"
    assert graph.inputs[0].shape[1] == 64
    assert isinstance(graph.inputs[0].shape[0], str)  # free
    model = onnx.load(tmp_path / "scale.onnx")
    (weight,) = [t for t in model.graph.initializer if t.dims == [64, 64]]
    assert weight.data_type == onnx.TensorProto.FLOAT16
    assert str(Path.cwd()).encode() not in (tmp_path / "scale.onnx").read_bytes()  # no path of this machine


def test_a_graph_that_is_right_for_one_batch_only_is_not_written(tmp_path: Path) -> None:
    """Traced at two rows, other at five: a graph with a free batch cannot be had of it."""
    with pytest.raises(
        TrainingError, match=r"(?s)Scale cannot be exported: .*static shape of 2 .*Nothing was written"
    ) as e:
        export_graph(Scale(batch=2), tmp_path / "scale.onnx", {"x": {0: FREE}}, feeds(2, 5))
    assert e.value.code == "export_failed"
    assert not (tmp_path / "scale.onnx").exists()


def test_compare_stops_at_a_difference(tmp_path: Path) -> None:
    export_graph(Scale(2.0), tmp_path / "scale.onnx", {"x": {0: FREE}}, feeds(2), half=False)
    data = (tmp_path / "scale.onnx").read_bytes()
    compare(Scale(2.0), data, feeds(2, 7))
    with pytest.raises(
        TrainingError, match=r"output 'y' of Scale differs .* allowed is 0.001 .*Nothing was written"
    ) as e:
        compare(Scale(2.1), data, feeds(3))
    assert e.value.code == "export_differs"


def test_compare_stops_at_nan(tmp_path: Path) -> None:
    export_graph(Scale(), tmp_path / "scale.onnx", {"x": {0: FREE}}, feeds(2), half=False)
    with pytest.raises(TrainingError, match="differs"):
        compare(Scale(float("nan")), (tmp_path / "scale.onnx").read_bytes(), feeds(2))


def test_half_precision_is_kept_inside_its_range() -> None:
    weight = np.full((40, 40), 1e6, np.float32)
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 40])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 40])],
        [onnx.numpy_helper.from_array(weight, "w")],
    )
    model = onnx.helper.make_model(graph)
    store_half(model)
    assert np.isfinite(onnx.numpy_helper.to_array(model.graph.initializer[0])).all()
    onnx.checker.check_model(model)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[ImageModel, Muisc, Contents]:
    torch.manual_seed(0)
    rulebook = load_rulebook("default")
    image = ImageModel(
        ImageConfig(rules=len(rulebook.single_rules), size=64, tower="tiny", width=96, descriptor=16), TinyTower()
    )
    layout = image.config.layout
    tokenizer = train_tokenizer(["round lamp", "square box"] * 3, 280)
    path = tmp_path_factory.mktemp("text") / "tokenizer.json"
    tokenizer.save(str(path))
    sequence = Muisc(
        MuiscConfig(
            classes=len(rulebook.classes),
            vocabulary=Text(path, max_title=4, max_feedback=4).vocabulary,
            tokens=layout.tokens,
            token_width=layout.width,
            width=16,
            encoder_heads=2,
            encoder_mlp=16,
            decoder_blocks=2,
            decoder_heads=2,
            decoder_mlp=16,
            cross_attention=(0,),  # not the last: the graph must do without that short cut
            positions=16,
            layout=layout,
            pool=1,
        )
    )
    contents = Contents(
        id="parts",
        rulebook=rulebook,
        rulebook_yaml=rulebook.text(),
        tokenizer_json=path.read_text("utf-8"),
        max_title=4,
        max_feedback=4,
        thresholds=UNSET,
    )
    return image.eval(), sequence.eval(), contents


def test_bundle_gives_torch_numbers_and_replaces_what_is_there(
    parts: tuple[ImageModel, Muisc, Contents], tiny_bundle: Path, tmp_path: Path
) -> None:
    image, sequence, contents = parts
    folder = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    (folder / "old.txt").write_text("old")
    bundle = export_bundle(folder, image, sequence, contents, half=False)
    assert (bundle.name, bundle.folder) == (contents.id, folder)
    assert not (folder / "old.txt").exists()
    pixels = np.random.default_rng(1).integers(0, 256, (6, 64, 64, 3), dtype=np.uint8)
    found = bundle.image(pixels)
    with torch.inference_mode():
        out = image(torch.from_numpy(pixels))
        np.testing.assert_allclose(found.p_primary, torch.sigmoid(out["primary"]).numpy(), atol=1e-5)
        np.testing.assert_allclose(found.tokens, out["tokens"].numpy(), atol=1e-4)
        tokens = out["tokens"].view(2, 3, *out["tokens"].shape[1:])
        ids = torch.tensor([bundle.text.title("round lamp")])
        logits, _ = sequence(tokens, torch.ones(2, 3), ids.expand(2, -1), torch.full((2,), ids.shape[1] - 1))
    scored = bundle.sequence(found.tokens.reshape(2, 3, *found.tokens.shape[1:]), "round lamp")
    np.testing.assert_allclose(scored, torch.softmax(logits, -1).numpy(), atol=1e-5)


def test_figures_are_restated_and_nothing_else(tiny_bundle: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    thresholds = {**UNSET, "primary": Threshold(value=0.7, data="a test")}
    bundle = restate(
        folder,
        thresholds=thresholds,
        calibration={"a": 1},
        qualified=Qualified(temperature=2.0, shift=0.5, data="a test"),
        metrics={"auc": 0.9},
        files={"MODEL_CARD.md": "weak"},
    )
    assert bundle.manifest.qualified.temperature == 2.0
    assert bundle.thresholds["primary"] == 0.7
    assert bundle.calibration == {"a": 1}
    assert bundle.manifest.metrics == {"auc": 0.9}
    assert (folder / "MODEL_CARD.md").read_text() == "weak"
    changed = {path.name for path in folder.iterdir() if before.get(path.name) != path.read_bytes()}
    assert changed == {"manifest.json", "MODEL_CARD.md"}
    told = Kinship(middle=-0.4, width=0.05, removed=-0.35, data="a test")
    figures = {"thresholds": thresholds, "calibration": {}, "qualified": Qualified(), "metrics": {}, "files": {}}
    assert bundle.manifest.kinship == Kinship()
    assert restate(folder, **figures, kinship=told).manifest.kinship == told
    assert restate(folder, **figures).manifest.kinship == told


def test_the_recipe_puts_figures_into_a_bundle(tiny_bundle: Path, tmp_path: Path) -> None:
    folder, path = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle")), tmp_path / "figures.json"
    figures = {name: entry.model_dump() for name, entry in UNSET.items()} | {
        "duplicate": {"value": 0.8, "data": "a test"}
    }
    kinship = Kinship(middle=-0.4, width=0.05, removed=-0.35, data="a test")
    path.write_text(json.dumps({"thresholds": figures, "kinship": kinship.model_dump(), "metrics": {"auc": 0.9}}))
    recipe(["figures", "--out", str(folder), "--figures", str(path)])
    manifest = open_bundle(folder).manifest
    assert manifest.kinship == kinship
    assert (manifest.thresholds["duplicate"].value, manifest.metrics) == (0.8, {"auc": 0.9})


def test_models_that_do_not_fit_are_refused(parts: tuple[ImageModel, Muisc, Contents], tmp_path: Path) -> None:
    image, sequence, contents = parts
    other = ImageModel(replace(image.config, rules=3), TinyTower())
    with pytest.raises(TrainingError, match="rules of the image model: the model has 3, the bundle needs 19"):
        export_bundle(tmp_path / "bundle", other, sequence, contents)
    with pytest.raises(TrainingError, match="title and feedback may take 25 tokens, the decoder has 16 positions"):
        export_bundle(tmp_path / "bundle", image, sequence, replace(contents, max_title=20))
    assert not (tmp_path / "bundle").exists()


def test_foreign_folders_are_left_alone(parts: tuple[ImageModel, Muisc, Contents], tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="exists and is no bundle; give another folder") as caught:
        export_bundle(tmp_path, *parts)
    assert caught.value.code == "not_a_bundle"
    assert (tmp_path / "notes.txt").read_text() == "mine"
