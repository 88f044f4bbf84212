"""The paper's single-tower baselines (4.3): one image network for the whole sequence, no text, no decoder.

Early fusion joins the pictures into one picture before the network, late fusion joins the network's features and puts
an MLP on them. Each predicts the classes of the rulebook, or, in the binary variant of Table 2, qualified or not.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from agpis.errors import TrainingError
from agpis.models.backbones import Backbone
from agpis.models.muisc import Muisc

WHITE = 255  # the ground of THE one resize, `agpis.images.letterbox`


@dataclass(frozen=True, slots=True)
class BaselineConfig:
    """Fusion, classes and shape."""

    classes: int
    """C, the rulebook's classes. The binary variant has two outputs instead: qualified, not."""
    fusion: Literal["early", "late"]
    """Pictures joined before the network, or features after it."""
    binary: bool = False
    """Qualified or not, instead of the classes."""
    k: int = 3
    """K, pictures of a sequence; shorter ones are filled up with absent pictures."""
    hidden: int = 512
    """Width of the MLP's hidden layer."""
    dropout: float = 0.1
    """Before the outputs, in training."""
    width: int = 1280
    """D of the backbone; the default is EfficientNet-Lite0's."""

    def __post_init__(self) -> None:
        if self.fusion not in ("early", "late"):
            raise TrainingError("bad_config", f"fusion is {self.fusion!r}; allowed are 'early' and 'late'.")
        if self.classes < 2 or min(self.k, self.hidden, self.width) < 1 or not 0.0 <= self.dropout < 1.0:
            raise TrainingError(
                "bad_config",
                f"classes {self.classes}, k {self.k}, hidden {self.hidden}, width {self.width}, "
                f"dropout {self.dropout}: classes must be at least 2, the others at least 1, dropout in [0, 1).",
            )

    @property
    def outputs(self) -> int:
        """Number of logits."""
        return 2 if self.binary else self.classes


class Baseline(nn.Module):
    """Features of a sequence -> logits. With `backbone` None pooled features come in, as cached ones do."""

    def __init__(self, config: BaselineConfig, backbone: Backbone | None = None) -> None:
        super().__init__()
        if backbone is not None and backbone.width != config.width:
            raise TrainingError(
                "bad_config",
                f"width (={config.width}) must be the backbone's (={backbone.width}); set it to backbone.width.",
            )
        self.config, self.backbone = config, backbone
        joined_width = config.width * (config.k if config.fusion == "late" else 1)
        self.norm = nn.LayerNorm(config.width)
        self.hidden = nn.Linear(joined_width, config.hidden)
        self.drop = nn.Dropout(config.dropout)
        self.out = nn.Linear(config.hidden, config.outputs)

    def forward(self, pooled: Tensor, mask: Tensor) -> Tensor:
        """Logits (n, C), or (n, 2) in the binary variant.

        Args:
            pooled: late fusion (n, K, D), one vector a picture; early (n, 1, D), of the joined picture. K may be
                smaller than the model's.
            mask: (n, K) true (or 1) where there is a picture; what stands elsewhere in `pooled` is not read. Early
                fusion takes any mask: absent pictures are white already.

        Raises:
            TrainingError: `bad_config` on more pictures than the model takes.
        """
        config = self.config
        features = self.norm(pooled)  # (n, K, D)
        if config.fusion == "late":
            _check_k(features.shape[1], config.k)
            features = features.masked_fill(~mask.bool()[..., None], 0.0)
            features = F.pad(features, (0, 0, 0, config.k - features.shape[1]))
        logits: Tensor = self.out(self.drop(F.gelu(self.hidden(features.flatten(1)))))
        return logits

    def pooled(self, pixels: Tensor, mask: Tensor) -> Tensor:
        """What `forward` takes, through the backbone: uint8 (n, K, S, S, 3), (n, K) -> (n, K, D), early (n, 1, D).

        Raises TrainingError `bad_config` without a backbone, and on more pictures than the model takes.
        """
        backbone, k = self.backbone, self.config.k
        if backbone is None:
            raise TrainingError("bad_config", "this Baseline has no backbone; build it with one, or give it features.")
        present = mask.bool()
        _check_k(pixels.shape[1], k)
        if self.config.fusion == "early":
            missing = k - pixels.shape[1]  # the place of a picture in the joined one depends on K alone
            whole = joined(F.pad(pixels, (0, 0) * 3 + (0, missing)), F.pad(present, (0, missing)))
            return backbone.pooled(backbone(whole))[:, None]
        found = backbone.pooled(backbone(pixels[present]))  # (number of pictures, D)
        rows = found.new_zeros(*present.shape, found.shape[-1])
        rows[present] = found
        return rows


def _check_k(found: int, k: int) -> None:
    if found > k:
        raise TrainingError("bad_config", f"found {found} pictures a sequence; this model takes at most k (={k}).")


def joined(pixels: Tensor, mask: Tensor) -> Tensor:
    """Early fusion: the K pictures side by side in one; uint8 (n, K, S, S, 3), mask (n, K) -> uint8 (n, S, S, 3).

    They stand row by row in a grid of ceil(sqrt(K)) columns, in the middle of white, each made smaller by averaging
    with its proportions kept (a row of three would leave each a third of the side, or squeeze it). Absent ones are
    white.
    """
    n, k, side = pixels.shape[:3]
    if k == 1:
        return torch.where(mask.bool()[:, 0, None, None, None], pixels[:, 0], WHITE).to(torch.uint8)
    columns = math.ceil(math.sqrt(k))
    rows, cell = math.ceil(k / columns), side // columns
    planes = pixels.flatten(0, 1).permute(0, 3, 1, 2).float()  # (n * K, 3, S, S)
    small = F.interpolate(planes, size=(cell, cell), mode="area").round().view(n, k, 3, cell, cell)
    small = small.masked_fill(~mask.bool()[..., None, None, None], float(WHITE))
    small = torch.cat([small, small.new_full((n, rows * columns - k, 3, cell, cell), float(WHITE))], dim=1)
    grid = small.view(n, rows, columns, 3, cell, cell).permute(0, 3, 1, 4, 2, 5)  # (n, 3, rows, cell, columns, cell)
    grid = grid.reshape(n, 3, rows * cell, columns * cell)
    down, right = side - rows * cell, side - columns * cell
    grid = F.pad(grid, (right // 2, right - right // 2, down // 2, down - down // 2), value=float(WHITE))
    return grid.permute(0, 2, 3, 1).to(torch.uint8)


def qualified_probability(logits: Tensor, binary: bool) -> Tensor:
    """p^t: the probability of `qualified`, (n,), of logits (n, C) or, `binary`, (n, 2). It is the first in both."""
    if binary and logits.shape[-1] != 2:
        raise TrainingError("bad_config", f"binary logits have 2 columns; found {logits.shape[-1]}.")
    return torch.softmax(logits, dim=-1)[:, 0]


def baseline_loss(logits: Tensor, labels: Tensor, *, binary: bool, weights: Tensor | None = None) -> Tensor:
    """Cross-entropy of the classes, the paper's 3.4.3, or of qualified or not: the mean over the samples.

    Args:
        logits: (n, C), or (n, 2) in the binary variant.
        labels: int64 (n,) position in the rulebook's classes; 0 is qualified.
        weights: (C,) of the classes, see `agpis.batches.class_weights`; the binary variant reads them too. The mean is
            over n and not over the weights, so that the parts of a step add up (each times its share of the samples).
    """
    target = (labels != 0).long() if binary else labels
    each = F.cross_entropy(logits, target, reduction="none")
    return (each if weights is None else each * weights.to(each.dtype)[labels]).mean()


class EncoderOnly(nn.Module):
    """MUIsC without its decoder, a row of the ablation: the mean of the sequence encoder's output -> class logits."""

    def __init__(self, muisc: Muisc) -> None:
        super().__init__()
        self.muisc = muisc
        self.out = nn.Linear(muisc.config.width, muisc.config.classes)
        for unused in (muisc.decoder, muisc.words, muisc.text_positions, muisc.class_head, muisc.final_norm):
            unused.requires_grad_(False)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """tokens (S, K, P, D), mask (S, K) -> (S, C)."""
        memory = self.muisc.encode(tokens, mask)
        seen = mask.repeat_interleave(self.muisc.config.memory_tokens, dim=1)[..., None]
        logits: Tensor = self.out((memory * seen).sum(1) / seen.sum(1))
        return logits + self.muisc.known(tokens, mask)
