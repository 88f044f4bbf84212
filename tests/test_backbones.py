"""Backbones: short names, checkpoints written here in transformers' own form, rebuilding, sizes, strictness, export."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from agpis.errors import TrainingError
from agpis.export import export_graph
from agpis.graphs import TokensGraph
from agpis.models.backbones import BackboneConfig, HubBackbone, count_parameters, new_backbone
from agpis.models.hub import load_strict, quiet, resize_positions, vision_config

VIT = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "image_size": 32,
    "patch_size": 8,
}


def transformer(name: str, **more: Any) -> nn.Module:
    """A small model of transformers with weights far enough from zero to tell models apart."""
    import transformers as hf

    makers: dict[str, Callable[[], nn.Module]] = {
        "vit": lambda: hf.ViTModel(hf.ViTConfig(**VIT | more)),
        "vit_classifier": lambda: hf.ViTForImageClassification(hf.ViTConfig(**VIT | more)),
        "dinov2": lambda: hf.Dinov2Model(hf.Dinov2Config(**VIT | more)),
        "dinov2_registers": lambda: hf.Dinov2WithRegistersModel(hf.Dinov2WithRegistersConfig(**VIT | more)),
        "siglip": lambda: hf.SiglipModel(
            hf.SiglipConfig(
                text_config={**VIT, "vocab_size": 20, "bos_token_id": 1, "eos_token_id": 2},
                vision_config=VIT | more,
            )
        ),
        "clip_vision": lambda: hf.CLIPVisionModel(hf.CLIPVisionConfig(**VIT | more)),
        "resnet": lambda: hf.ResNetModel(
            hf.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
        ),
        "bit": lambda: hf.BitModel(hf.BitConfig(embedding_size=32, hidden_sizes=[32, 64], depths=[1, 1], num_groups=8)),
        "convnext": lambda: hf.ConvNextModel(hf.ConvNextConfig(hidden_sizes=[8, 16], depths=[1, 1], num_stages=2)),
    }
    torch.manual_seed(1)
    with quiet():
        model = makers[name]().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def write(model: nn.Module, folder: Path, **processor: Any) -> str:
    with quiet():
        model.save_pretrained(folder)
    if processor:
        (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return str(folder)


def pictures(count: int, size: int) -> torch.Tensor:
    return torch.randint(0, 256, (count, size, size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def tokens(backbone: nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = backbone.eval()(pixels)
    return found


MEANS = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.4]}


@pytest.mark.parametrize(
    ("name", "count", "width", "class_token"),
    [
        ("vit", 17, 32, True),
        ("vit_classifier", 17, 32, True),
        ("dinov2", 17, 32, True),
        ("dinov2_registers", 21, 32, True),
        ("siglip", 16, 32, False),
        ("clip_vision", 17, 32, True),
        ("resnet", 16, 16, False),
        ("bit", 16, 64, False),
        ("convnext", 16, 16, False),
    ],
)
def test_any_vision_model_by_path(tmp_path: Path, name: str, count: int, width: int, class_token: bool) -> None:
    model = transformer(name)
    path = write(model, tmp_path / "model", **MEANS, size={"height": 32, "width": 32})
    backbone = new_backbone(BackboneConfig(path))
    assert (backbone.size, backbone.tokens, backbone.width, backbone.class_token) == (32, count, width, class_token)
    pixels = pictures(3, 32)
    images = (pixels.numpy() / 255.0 - MEANS["image_mean"]) / MEANS["image_std"]  # as the model's own processor does
    inner = {"vit_classifier": lambda: model.vit, "siglip": lambda: model.vision_model}.get(name, lambda: model)()
    with torch.inference_mode():
        state = inner(pixel_values=torch.from_numpy(images.transpose(0, 3, 1, 2)).float()).last_hidden_state
    if state.dim() == 4:
        state = state.permute(0, 2, 3, 1).reshape(3, count, width)
    found = tokens(backbone, pixels)
    torch.testing.assert_close(found, state, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(backbone.pooled(found), found[:, 0] if class_token else found.mean(1))
    assert (found[0] - found[1]).abs().max() > 1e-3  # else the comparison says nothing

    # a checkpoint's config, through JSON, rebuilds it without the folder
    kept = BackboneConfig(**json.loads(json.dumps({key: getattr(backbone.config, key) for key in FIELDS})))
    for file in Path(path).iterdir():
        file.unlink()
    again = new_backbone(kept)
    again.load_state_dict(backbone.state_dict())
    torch.testing.assert_close(tokens(again, pixels), found, atol=0, rtol=0)
    assert again.config == backbone.config


FIELDS = ("name", "pretrained", "size", "architecture")


@pytest.mark.parametrize(
    ("name", "size", "count", "width", "millions"),
    [
        ("resnet18", 64, 4, 512, 11.18),  # without the classifier, as published: 11.69 - 0.51
        ("resnet50", 64, 4, 2048, 23.51),  # 25.56 - 2.05
        ("resnetv2_101", 64, 4, 2048, 42.50),  # 44.54 - 2.05
        ("vit_b16", 64, 17, 768, 85.21),  # 86.57 - 0.77, positions of 16 and not 196 patches
        ("vit_tiny", 64, 65, 192, 5.39),
        ("vit_tiny", 96, 37, 192, 5.49),
        ("vit_tiny", 32, 65, 192, 5.36),
        ("efficientnet_lite0", 64, 4, 1280, 3.36),
        ("tiny", 64, 4, 16, 0.001448),
    ],
)
def test_short_names_from_scratch(name: str, size: int, count: int, width: int, millions: float) -> None:
    backbone = new_backbone(BackboneConfig(name, pretrained=False, size=size))
    assert (backbone.size, backbone.tokens, backbone.width) == (size, count, width)
    assert backbone.class_token == name.startswith("vit")
    assert count_parameters(backbone) / 1e6 == pytest.approx(millions, rel=0.01)
    assert tokens(backbone, pictures(2, size)).shape == (2, count, width)


def test_normalisation_without_a_preprocessor(tmp_path: Path) -> None:
    for name, mean, std in (
        ("vit", [0.5, 0.5, 0.5], [0.5, 0.5, 0.5]),
        ("resnet", [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ):
        backbone = new_backbone(BackboneConfig(write(transformer(name), tmp_path / name), size=32))
        assert backbone.config.architecture is not None
        assert (backbone.config.architecture["mean"], backbone.config.architecture["std"]) == (mean, std)


@pytest.mark.parametrize(
    ("processor", "mean", "std"),
    [
        ({"do_normalize": False}, [0, 0, 0], [1, 1, 1]),
        ({"image_mean": [127.5] * 3, "image_std": [127.5] * 3, "do_rescale": False}, [0.5] * 3, [0.5] * 3),
        ({"image_mean": [0.0] * 3, "image_std": [1.0] * 3, "rescale_factor": 1 / 127.5}, [0.0] * 3, [0.5] * 3),
        ({"image_processor": {"image_mean": [0.1] * 3, "image_std": [0.2] * 3}}, [0.1] * 3, [0.2] * 3),
    ],
)
def test_unusual_preprocessing(tmp_path: Path, processor: dict[str, Any], mean: list[float], std: list[float]) -> None:
    backbone = new_backbone(BackboneConfig(write(transformer("vit"), tmp_path, **processor)))
    assert backbone.config.architecture is not None
    assert backbone.config.architecture["mean"] == pytest.approx(mean)
    assert backbone.config.architecture["std"] == pytest.approx(std)


@pytest.mark.parametrize("name", ["vit", "dinov2", "dinov2_registers", "siglip", "clip_vision"])
def test_positions_follow_the_size(tmp_path: Path, name: str) -> None:
    model = transformer(name)
    path = write(model, tmp_path, **MEANS)
    inner = model.vision_model if name == "siglip" else model
    for size in (56, 24):
        backbone = new_backbone(BackboneConfig(path, size=size))
        assert isinstance(backbone, HubBackbone)
        images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(2))
        more = {} if name.startswith("dinov2") else {"interpolate_pos_encoding": True}  # DINOv2 always does
        with torch.inference_mode():
            state = inner(pixel_values=images, **more).last_hidden_state
            found = backbone.features(images)
        torch.testing.assert_close(found, state, atol=1e-4, rtol=1e-4)


def test_positions_of_the_same_size_are_kept() -> None:
    table = torch.randn(1, 11, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(resize_positions(table, 3, 3), table, atol=1e-6, rtol=0)
    grown = resize_positions(table, 3, 6)
    assert grown.shape == (1, 38, 4)
    torch.testing.assert_close(grown[:, :2], table[:, :2])  # class and distillation tokens


def test_own_size(tmp_path: Path) -> None:
    path = write(
        transformer("dinov2"), tmp_path / "a", crop_size={"height": 24, "width": 24}, size={"shortest_edge": 28}
    )
    assert new_backbone(BackboneConfig(path)).size == 24
    path = write(transformer("resnet"), tmp_path / "b", size={"shortest_edge": 40})
    assert new_backbone(BackboneConfig(path)).size == 40
    assert new_backbone(BackboneConfig(write(transformer("vit"), tmp_path / "c"))).size == 32


def test_scratch_from_a_folder_needs_no_weights(tmp_path: Path) -> None:
    path = write(transformer("vit"), tmp_path)
    (tmp_path / "model.safetensors").unlink()
    backbone = new_backbone(BackboneConfig(path, pretrained=False, size=48))
    assert (backbone.tokens, backbone.config.pretrained) == (37, False)
    with pytest.raises(TrainingError, match="no file named") as caught:
        new_backbone(BackboneConfig(path))
    assert caught.value.code == "weights_not_found"


def test_half_precision_weights_become_single(tmp_path: Path) -> None:
    backbone = new_backbone(BackboneConfig(write(transformer("vit").half(), tmp_path)))
    assert {parameter.dtype for parameter in backbone.parameters()} == {torch.float32}


def damaged(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> str:
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    return str(folder)


def test_strict(tmp_path: Path) -> None:
    write(transformer("vit"), tmp_path)

    def spoil(state: dict[str, torch.Tensor]) -> None:
        del state["layernorm.bias"]
        state["other.weight"] = torch.zeros(2)
        state["embeddings.cls_token"] = torch.zeros(1, 1, 5)

    with pytest.raises(TrainingError) as caught:
        new_backbone(BackboneConfig(damaged(tmp_path, spoil)))
    assert caught.value.code == "bad_checkpoint"
    for part in (
        "missing ['layernorm.bias']",
        "unexpected ['other.weight']",
        "other shape ['embeddings.cls_token']",
        "Only classifier,",
    ):
        assert part in caught.value.message


def test_damaged_files(tmp_path: Path) -> None:
    path = write(transformer("vit"), tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(TrainingError, match="cannot be loaded") as caught:
        new_backbone(BackboneConfig(path))
    assert caught.value.code == "bad_checkpoint"
    for text, message in (
        ("{", "is no JSON"),
        ("[]", "has no model_type"),
        ('{"model_type": "x"}', "of type 'x'"),
        ('{"model_type": "gpt2"}', "takes no pictures"),
        ('{"model_type": "vit_mae"}', "drops patches at random"),
        ('{"model_type": "vit", "num_channels": 1}', "pictures have 3"),
        ('{"model_type": "vit", "hidden_size": "wide"}', "cannot be used"),
    ):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(TrainingError, match=message):
            new_backbone(BackboneConfig(path))
    write(transformer("vit"), tmp_path, image_mean=[0.5], image_std=[0.5])
    with pytest.raises(TrainingError, match="each has 3 numbers"):
        new_backbone(BackboneConfig(path))


def test_a_pickle_is_not_run(tmp_path: Path) -> None:
    path = write(transformer("vit"), tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").unlink()
    mark = tmp_path / "ran"
    torch.save({"layernorm.bias": Evil(mark)}, tmp_path / "model" / "pytorch_model.bin")
    with pytest.raises(TrainingError, match="cannot be loaded") as caught:
        new_backbone(BackboneConfig(path))
    assert caught.value.code == "bad_checkpoint"
    assert not mark.exists()


class Evil:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("name", ["microsoft/resnet-18", "no such/folder/at all", "../nowhere"])
def test_what_cannot_be_fetched(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # what HF_HUB_OFFLINE=1 sets; without it the client tries for 20 s
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(TrainingError, match="give its path as the name") as caught:
        new_backbone(BackboneConfig(name))
    assert caught.value.code == "weights_not_found"


class Hub(BaseHTTPRequestHandler):
    """What the hub's client asks of a hub: the files of shop/vit, and of shop/broken all but one."""

    folder: Path

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        repository, _, file = self.path.lstrip("/").partition("/resolve/main/")
        path = self.folder / Path(file).name
        if repository == "shop/broken" and file == "preprocessor_config.json":
            self.send_response(400)
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif repository not in ("shop/vit", "shop/broken") or not path.is_file():
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound" if repository == "shop/vit" else "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            data = path.read_bytes()
            self.send_response(200)
            self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
            self.send_header("X-Repo-Commit", "a" * 40)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


ASK_THE_HUB = """
import sys, torch
from agpis.errors import TrainingError
from agpis.models.backbones import BackboneConfig, new_backbone
for name in sys.argv[1:]:
    try:
        backbone = new_backbone(BackboneConfig(name))
        total = sum(v.double().sum() for v in backbone.state_dict().values())
        print(backbone.config.architecture["mean"], float(total))
    except TrainingError as error:
        print(error.code, error.message)
"""


def ask_the_hub(port: int, cache: Path, *names: str) -> list[str]:
    """In a process of its own, because the hub's address is read on import."""
    environment = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    environment |= {"HF_ENDPOINT": f"http://127.0.0.1:{port}", "HF_HOME": str(cache), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", ASK_THE_HUB, *names], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_by_hub_name(tmp_path: Path) -> None:
    model = transformer("vit")
    write(model, tmp_path / "files")  # no preprocessor_config.json
    handler = type("Handler", (Hub,), {"folder": tmp_path / "files"})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            lines = ask_the_hub(server.server_port, tmp_path / "cache", "shop/vit", "shop/other", "shop/broken")
        finally:
            server.shutdown()
            thread.join()
    found, missing, refused = lines
    inner = sum(float(v.double().sum()) for name, v in model.state_dict().items() if not name.startswith("pooler"))
    mean, _, total = found.rpartition(" ")
    assert mean == "[0.5, 0.5, 0.5]"
    assert float(total) == pytest.approx(inner, rel=1e-6)
    assert missing.startswith("weights_not_found 'shop/other'")
    assert refused.startswith("weights_not_found 'shop/broken'")  # never a guess at how pictures are normalised


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"name": "tiny", "size": 40}, "not a multiple of 32"),
        ({"name": "vit_b16", "pretrained": False, "size": 40}, "not a multiple of the ViT's patch of 16"),
        ({"name": "vit_b16", "size": -1}, "size is -1"),
        ({"name": "x", "architecture": {}}, "give pretrained=False"),
        ({"name": "x", "pretrained": False, "architecture": {}}, r"lacks \['config', 'mean', 'model_type', 'std'\]"),
    ],
)
def test_contradictions_are_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        new_backbone(BackboneConfig(**config))


def test_nothing_is_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = write(transformer("siglip"), tmp_path)
    capfd.readouterr()
    load_strict(path, vision_config(path))
    new_backbone(BackboneConfig(path, size=48))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["vit", "dinov2_registers", "siglip", "resnet", "bit", "convnext"])
def test_exports_with_free_batch(tmp_path: Path, name: str) -> None:
    backbone = new_backbone(BackboneConfig(write(transformer(name), tmp_path), size=32))
    feeds = [{"pixels": pictures(count, 32).numpy()} for count in (2, 5, 1)]
    free = {"pixels": {0: torch.export.Dim.DYNAMIC}}
    graph = export_graph(TokensGraph(backbone), tmp_path / "graph.onnx", free, feeds, half=False, tolerance=1e-4)
    assert graph.outputs[0].name == "tokens"
    assert np.issubdtype(feeds[0]["pixels"].dtype, np.uint8)
