"""Single-image models on any backbone: primary selection and non-compliant content (the paper, 3.3.1).

`ImageClassifier` is a backbone and a `Head`: one vector an image -> LayerNorm -> MLP -> logits. Non-compliance also has
a local head over the tokens, of which the strongest speaks, so that a small mark is not averaged away. The head stands
apart from the backbone, so that it can be trained on cached tokens where the backbone is frozen.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from agpis.errors import TrainingError
from agpis.models.backbones import Backbone


@dataclass(frozen=True, slots=True)
class HeadConfig:
    """What the head says, and its shape."""

    role: Literal["primary", "compliance"]
    """`primary`: one logit an image; `compliance`: non-compliance and the single rules."""
    rules: int = 0
    """R, learned single rules of the rulebook (compliance)."""
    hidden: int = 256
    """Width of the MLP's hidden layer, and of the local head."""
    dropout: float = 0.1
    """Before the outputs, in training."""

    def __post_init__(self) -> None:
        if self.role not in ("primary", "compliance"):
            raise TrainingError("bad_config", f"role is {self.role!r}; allowed are 'primary' and 'compliance'.")
        if self.rules < 0 or (self.role == "primary" and self.rules):
            raise TrainingError("bad_config", f"rules is {self.rules}; allowed is 0 for primary, else 0 or more.")
        if self.hidden < 1 or not 0.0 <= self.dropout < 1.0:
            raise TrainingError(
                "bad_config",
                f"hidden is {self.hidden} and dropout {self.dropout}; hidden must be at least 1, dropout in [0, 1).",
            )


class Head(nn.Module):
    """Vector and tokens of an image in, logits out; see `ImageClassifier.forward` for their names."""

    def __init__(self, config: HeadConfig, width: int) -> None:
        super().__init__()
        self.config = config
        outputs = 1 + config.rules
        self.norm = nn.LayerNorm(width)
        self.hidden = nn.Linear(width, config.hidden)
        self.out = nn.Linear(config.hidden, outputs)
        self.drop = nn.Dropout(config.dropout)
        self.local: nn.Sequential | None = None
        if config.role == "compliance":
            last = nn.Linear(config.hidden, outputs)
            self.local = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, config.hidden), nn.GELU(), last)
            nn.init.constant_(last.bias, -2.0)  # most pictures break no rule

    def forward(self, pooled: Tensor, places: Tensor) -> dict[str, Tensor]:
        """pooled (N, D), places (N, P, D): the tokens without the class token -> logits by name."""
        logits = self.out(self.drop(F.gelu(self.hidden(self.norm(pooled)))))  # (N, 1 + R)
        if self.local is None:
            return {"primary": logits[:, 0]}
        logits = logits + self.local(places).amax(1)  # (N, P, 1 + R) -> the strongest place
        return {"noncompliant": logits[:, 0], "rules": logits[:, 1:]}


class ImageClassifier(nn.Module):
    """A backbone and a head."""

    def __init__(self, config: HeadConfig, backbone: Backbone) -> None:
        super().__init__()
        self.config, self.backbone = config, backbone
        self.head = Head(config, backbone.width)

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """uint8 (N, S, S, 3) -> logits and tokens by name.

        Returns:
            primary (N,), or noncompliant (N,) and rules (N, R): logits, whose sigmoids are p^primary, p^nc and the
            rules' probabilities; thresholds are set on those. tokens (N, P, D).
        """
        tokens: Tensor = self.backbone(pixels)
        return {**self.of_tokens(tokens), "tokens": tokens}

    def of_tokens(self, tokens: Tensor) -> dict[str, Tensor]:
        """The logits alone, of the backbone's tokens (N, P, D).

        For `primary` one token an image does, the pooled one, (N, 1, D): pooled again, it stays as it is.
        """
        places = tokens[:, 1:] if self.backbone.class_token else tokens
        found: dict[str, Tensor] = self.head(self.backbone.pooled(tokens), places)
        return found


def primary_loss(
    logits: Tensor, group: Tensor, chosen: Tensor, *, images: int | None = None, products: int | None = None
) -> Tensor:
    """Eq. (1): among a product's candidates the approved primary is the likeliest.

    Args:
        logits: (N,) of all candidates of a batch.
        group: int64 (N,) the product each belongs to.
        chosen: bool (N,) True for an approved primary.
        images: number of candidates that the mean is over; default N. Where a step is cut into parts, that of the
            whole step: the sum over the parts is then the loss of the step.
        products: likewise, of approved primaries that have other candidates beside them.

    The paper trains p^primary as a binary classifier of single images (it is thresholded later), which the binary
    cross-entropy does; the softmax over a product's own candidates adds what only the comparison tells.
    """
    binary = F.binary_cross_entropy_with_logits(logits, chosen.to(logits.dtype), reduction="sum")
    binary = binary / (len(logits) if images is None else images)
    same = group[:, None] == group[None]  # (N, N)
    several = chosen & (same.sum(1) > 1)
    if not bool(several.any()):
        return binary
    total = torch.logsumexp(logits[None].masked_fill(~same, float("-inf")), dim=1)
    return binary + (total - logits)[several].sum() / (int(several.sum()) if products is None else products)
