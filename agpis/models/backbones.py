"""Backbones: uint8 pixels in, tokens out, one interface for every image network.

`Backbone` maps uint8 (N, S, S, 3) to tokens (N, P, D) with normalisation inside, and says S, P, D and whether the
first token is a class token, so that heads, the sequence model, the baselines and the export need not know which
network they stand on. By name:

- `efficientnet_lite0` and, for tests, `tiny`: our own towers
- the paper's four (3.4.1, 4.3): `resnet18`, `resnet50` (He et al., arXiv 1512.03385), `resnetv2_101` (BiT-S-R101x1,
  arXiv 1912.11370), `vit_b16` (ViT-B/16, arXiv 2010.11929); and `vit_tiny` (DeiT-Ti, arXiv 2012.12877, Table 1)
- any other name: a vision model of transformers by hub name or folder (ViT, DINOv2, SigLIP, ResNet, ConvNeXt, ...)

The weights of a checkpoint carry the names that transformers gives them in memory, and those differ between its major
versions: `architecture["transformers"]` says which version wrote them.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from agpis.errors import TrainingError
from agpis.models.colour import ColourSignature
from agpis.models.hub import (
    exportable,
    first_line,
    load_strict,
    made_config,
    new_model,
    normalisation,
    own_size,
    preprocessing,
    resized,
    vision_config,
)
from agpis.models.towers import EfficientNetLite0, TinyTower

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of convolutional nets
HALF = (0.5, 0.5, 0.5)  # mean and std of the original ViT


@dataclass(frozen=True, slots=True)
class BackboneConfig:
    """Which network, and from which weights."""

    name: str = "efficientnet_lite0"
    """A name of `NAMES`, or a vision model of transformers by hub name or path."""
    pretrained: bool = True
    """Start from the network's published weights; False: from scratch."""
    size: int = 0
    """Side of the square input in pixels; 0: the network's own."""
    colours: int = 0
    """Bins a side of the colour signature that is appended to every token (colour.py); 0: none, as in the paper."""
    architecture: dict[str, Any] | None = None
    """The transformers configuration, as a checkpoint keeps it, so that the network is rebuilt without the hub:
    model_type, config, mean, std, transformers (version)."""

    def __post_init__(self) -> None:
        if self.size < 0:
            raise TrainingError("bad_config", f"backbone size is {self.size}; it is a side in pixels, or 0.")
        if self.colours < 0 or self.colours == 1:
            raise TrainingError(
                "bad_config", f"backbone colours is {self.colours}; it is 0, or at least 2 bins a side."
            )
        if self.pretrained and self.architecture is not None:
            raise TrainingError(
                "bad_config",
                "a backbone with an `architecture` gets its weights from the checkpoint that kept it; "
                "give pretrained=False, or leave the architecture out.",
            )


class Backbone(nn.Module):
    """Base: subclasses set the fields and implement `forward`."""

    size: int
    """Side of the square input in pixels."""
    tokens: int
    """P, tokens an image."""
    width: int
    """D, columns of a token."""
    class_token: bool = False
    """The first token stands for the whole image."""
    signature: int = 0
    """The last columns of every token are the image's colour signature."""
    config: BackboneConfig
    """What rebuilds this module without any hub, its weights apart: pretrained is False, size is filled in."""

    def forward(self, pixels: Tensor) -> Tensor:
        """uint8 (N, size, size, 3) -> float (N, P, D)."""
        raise NotImplementedError

    def pooled(self, tokens: Tensor) -> Tensor:
        """One vector an image, (N, D), of tokens (N, P, D): the class token, or the mean."""
        return tokens[:, 0] if self.class_token else tokens.mean(1)


class ConvBackbone(Backbone):
    """One of our own towers; its last map as tokens, row by row, each standardised over its columns.

    A ViT ends in a layer norm, a convolutional net does not: a sequence model on its raw map loses 4 AUC points on
    shops that it was not trained on (bench/LOG.md).
    """

    def __init__(self, config: BackboneConfig, tower: EfficientNetLite0 | TinyTower, size: int) -> None:
        super().__init__()
        if size % 32:
            raise TrainingError("bad_config", f"size {size} of {config.name} is not a multiple of 32.")
        self.tower, self.size = tower, size
        self.config = replace(config, pretrained=False, size=size)
        self.tokens, self.width = (size // 32) ** 2, tower.channels[32]

    def forward(self, pixels: Tensor) -> Tensor:
        tokens = self.tower.late(self.tower.middle(self.tower.first(pixels)[8])).flatten(2).transpose(1, 2)
        return F.layer_norm(tokens, tokens.shape[-1:])


class HubBackbone(Backbone):
    """A vision model of transformers: its last hidden state as tokens, a map row by row, the pooler left out."""

    mean: Tensor
    std: Tensor

    def __init__(
        self, name: str, model: nn.Module, size: int, mean: Sequence[float] | None, std: Sequence[float] | None
    ) -> None:
        """`mean` and `std` are of pixels / 255; None: 0.5 for a token network, ImageNet's for a convolutional one."""
        import transformers

        super().__init__()
        self.model, self.size = exportable(model), size
        training = model.training
        with torch.no_grad():
            try:
                state = model.eval()(pixel_values=torch.zeros(1, 3, size, size)).last_hidden_state
            except Exception as error:  # whatever the architecture says of a size that it cannot take
                raise TrainingError(
                    "bad_config", f"{name} cannot take pictures of {size} px: {first_line(error)}"
                ) from error
        model.train(training)
        if mean is None or std is None:
            mean, std = (IMAGENET_MEAN, IMAGENET_STD) if state.dim() == 4 else (HALF, HALF)
        # Not in the state dict: `config` keeps them.
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)
        _, self.tokens, self.width = _flat(state).shape
        names = {key.rsplit(".", 1)[-1] for key, _ in model.named_parameters()}
        self.class_token = bool(names & {"cls_token", "class_embedding"})
        described: Any = model.config
        kept = json.loads(described.to_json_string(use_diff=False))
        for key in ("id2label", "label2id", "dtype", "torch_dtype", "architectures", "_name_or_path"):
            kept.pop(key, None)  # a classifier's, or of the file that it came from
        architecture = {
            "model_type": kept["model_type"],
            "config": kept,
            "mean": list(mean),
            "std": list(std),
            "transformers": transformers.__version__,
        }
        self.config = BackboneConfig(name, pretrained=False, size=size, architecture=architecture)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.features((pixels.permute(0, 3, 1, 2).float() / 255.0 - self.mean) / self.std)

    def features(self, images: Tensor) -> Tensor:
        """As `forward`, from normalised float (N, 3, size, size)."""
        return _flat(self.model(pixel_values=images).last_hidden_state)


class ColouredBackbone(Backbone):
    """Another backbone with the picture's colour signature (colour.py) behind the columns of every token.

    Towers trained to name things forget colour, which the pair rules ask for. The columns have unit mean square, as
    standardised tokens have.
    """

    def __init__(self, backbone: Backbone, bins: int) -> None:
        super().__init__()
        self.backbone, self.colours = backbone, ColourSignature(bins)
        self.size, self.tokens, self.class_token = backbone.size, backbone.tokens, backbone.class_token
        self.signature = bins * bins
        self.width = backbone.width + self.signature
        self.config = replace(backbone.config, colours=bins)

    def forward(self, pixels: Tensor) -> Tensor:
        tokens, own = self.backbone(pixels), self.colours.bins * self.colours(pixels)
        return torch.cat([tokens, own[:, None].expand(-1, self.tokens, -1).to(tokens.dtype)], dim=2)


def new_backbone(config: BackboneConfig) -> Backbone:
    """The network of `config`, see `BackboneConfig.colours` for what may come on top.

    Raises:
        TrainingError: as `_network`.
    """
    network = _network(replace(config, colours=0))
    return ColouredBackbone(network, config.colours) if config.colours else network


def _network(config: BackboneConfig) -> Backbone:
    """The network alone.

    From scratch, `vit_tiny` takes patches of 8 px below 96 px and of 4 px below 48 px, so that small pictures still
    give 16 tokens and more; `vit_b16` keeps its 16 px. Pretrained position embeddings are interpolated to `size` once.

    Raises:
        TrainingError: `weights_not_found`, `bad_checkpoint` (missing and unexpected keys listed), `bad_config`.
    """
    name, size = config.name, config.size
    if name == "efficientnet_lite0":
        tower = EfficientNetLite0()
        if config.pretrained:
            tower.load_imagenet()
        return ConvBackbone(config, tower, size or 224)
    if name == "tiny":
        return ConvBackbone(config, TinyTower(), size or 64)
    if config.architecture is not None:
        return _rebuilt(config)
    hub = HUB_NAMES.get(name, name)
    if config.pretrained:
        architecture = vision_config(hub)
        processor = preprocessing(hub)
        model = load_strict(hub, architecture)
        size = size or own_size(processor, architecture)
        return HubBackbone(name, resized(name, model, size), size, *normalisation(hub, processor))
    if name in ARCHITECTURES:
        return HubBackbone(name, new_model(ARCHITECTURES[name](size or 224)), size or 224, None, None)
    architecture, processor = vision_config(hub), preprocessing(hub)
    size = size or own_size(processor, architecture)
    if hasattr(architecture, "image_size"):
        architecture.image_size = size
    return HubBackbone(name, new_model(architecture), size, *normalisation(hub, processor))


def _rebuilt(config: BackboneConfig) -> HubBackbone:
    kept = config.architecture or {}
    lacking = {"model_type", "config", "mean", "std"} - set(kept)
    if lacking:
        raise TrainingError("bad_checkpoint", f"the architecture of {config.name} lacks {sorted(lacking)}.")
    architecture = made_config(config.name, {**kept["config"], "model_type": kept["model_type"]})
    size = config.size or int(getattr(architecture, "image_size", 224))
    return HubBackbone(config.name, new_model(architecture), size, kept["mean"], kept["std"])


def _flat(state: Tensor) -> Tensor:
    """Tokens (N, P, D) as they are, a map (N, D, H, W) row by row."""
    return state.flatten(2).transpose(1, 2) if state.dim() == 4 else state


# architectures by short name


def _resnet(layer: str, depths: list[int], widths: list[int]) -> Callable[[int], Any]:
    def build(size: int) -> Any:
        from transformers import ResNetConfig

        return ResNetConfig(embedding_size=64, hidden_sizes=widths, depths=depths, layer_type=layer)

    return build


def _bit101(size: int) -> Any:
    from transformers import BitConfig

    return BitConfig(depths=[3, 4, 23, 3], hidden_sizes=[256, 512, 1024, 2048], layer_type="preactivation")


def _vit(width: int, heads: int, patch: Callable[[int], int]) -> Callable[[int], Any]:
    def build(size: int) -> Any:
        from transformers import ViTConfig

        if size % patch(size):
            raise TrainingError("bad_config", f"size {size} is not a multiple of the ViT's patch of {patch(size)} px.")
        return ViTConfig(
            hidden_size=width,
            num_attention_heads=heads,
            intermediate_size=4 * width,
            image_size=size,
            patch_size=patch(size),
        )

    return build


ARCHITECTURES: dict[str, Callable[[int], Any]] = {
    "resnet18": _resnet("basic", [2, 2, 2, 2], [64, 128, 256, 512]),
    "resnet50": _resnet("bottleneck", [3, 4, 6, 3], [256, 512, 1024, 2048]),
    "resnetv2_101": _bit101,
    "vit_b16": _vit(768, 12, lambda size: 16),
    "vit_tiny": _vit(192, 3, lambda size: 16 if size >= 96 else 8 if size >= 48 else 4),
}
"""Configurations for an input side, by short name."""

HUB_NAMES = {
    "resnet18": "microsoft/resnet-18",
    "resnet50": "microsoft/resnet-50",
    # Google's conversion that is known to be on the hub is bit-50; for 101 give the folder of a converted checkpoint.
    "resnetv2_101": "google/bit-101",
    "vit_b16": "google/vit-base-patch16-224",
    "vit_tiny": "facebook/deit-tiny-patch16-224",
}
"""Where the published weights of the short names are."""

NAMES = ("efficientnet_lite0", "tiny", *ARCHITECTURES)
"""Every short name."""


def count_parameters(module: nn.Module) -> int:
    """Number of weights."""
    return sum(p.numel() for p in module.parameters())


__all__ = [
    "ARCHITECTURES",
    "HUB_NAMES",
    "NAMES",
    "Backbone",
    "BackboneConfig",
    "ColouredBackbone",
    "ConvBackbone",
    "HubBackbone",
    "count_parameters",
    "new_backbone",
]
