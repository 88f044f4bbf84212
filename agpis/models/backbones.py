"""Backbones: uint8 pixels in, tokens out, one interface for every image network.

`Backbone` maps uint8 (N, S, S, 3) to tokens (N, P, D) with normalisation inside, and says S, P, D and whether the
first token is a class token, so that heads, the sequence model, the baselines and the export need not know which
network they stand on. By name: the starter's EfficientNet-Lite0, the paper's four (3.4.1, 4.3), or any vision model of
transformers by hub name or path.
"""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from agpis.models.towers import EfficientNetLite0, TinyTower


@dataclass(frozen=True, slots=True)
class BackboneConfig:
    """Which network, and from which weights."""

    name: str = "efficientnet_lite0"
    """A name of `NAMES`, or a vision model of transformers by hub name or path."""
    pretrained: bool = True
    """Start from the network's published weights; False: from scratch."""
    size: int = 0
    """Side of the square input in pixels; 0: the network's own."""
    architecture: dict[str, Any] | None = None
    """The transformers configuration, as a checkpoint keeps it, so that the network is rebuilt without the hub."""


class Backbone(nn.Module):
    """Base: subclasses set the four fields and implement `forward`."""

    size: int
    """Side of the square input in pixels."""
    tokens: int
    """P, tokens an image."""
    width: int
    """D, columns of a token."""
    class_token: bool = False
    """The first token stands for the whole image."""
    config: BackboneConfig

    def forward(self, pixels: Tensor) -> Tensor:
        """uint8 (N, size, size, 3) -> float (N, P, D)."""
        raise NotImplementedError

    def pooled(self, tokens: Tensor) -> Tensor:
        """One vector an image, (N, D), of tokens (N, P, D): the class token, or the mean."""
        return tokens[:, 0] if self.class_token else tokens.mean(1)


class ConvBackbone(Backbone):
    """One of our own towers; its last map as tokens, row by row."""

    def __init__(self, config: BackboneConfig, tower: EfficientNetLite0 | TinyTower, size: int) -> None:
        super().__init__()
        self.config, self.tower, self.size = config, tower, size
        self.tokens, self.width = (size // 32) ** 2, tower.channels[32]

    def forward(self, pixels: Tensor) -> Tensor:
        return self.tower.late(self.tower.early(pixels)[16]).flatten(2).transpose(1, 2)


def new_backbone(config: BackboneConfig) -> Backbone:
    """The network of `config`; see the helper's contract (to be completed in this file)."""
    if config.name == "efficientnet_lite0":
        tower = EfficientNetLite0()
        if config.pretrained:
            tower.load_imagenet()
        return ConvBackbone(config, tower, config.size or 224)
    if config.name == "tiny":
        return ConvBackbone(config, TinyTower(), config.size or 64)
    raise NotImplementedError(config.name)


NAMES = ("efficientnet_lite0", "tiny")


def count_parameters(module: nn.Module) -> int:
    """Number of weights."""
    return sum(p.numel() for p in module.parameters())


__all__ = ["NAMES", "Backbone", "BackboneConfig", "ConvBackbone", "count_parameters", "new_backbone"]
