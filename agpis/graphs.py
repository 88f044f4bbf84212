"""What each exported graph takes and gives: wrapper modules with the names of their inputs and outputs.

The starter has one `ImageGraph` for all image roles; a bundle out of checkpoints has a graph per role.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from agpis.models.backbones import Backbone
from agpis.models.heads import ImageClassifier
from agpis.models.muisc import Muisc
from agpis.models.single import ImageModel
from agpis.models.things import Things


class Exported(nn.Module):
    """A module with the names of the exported signature, in the order of `forward`."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class ImageGraph(Exported):
    """pixels uint8 (N, H, W, 3) -> every image role, and what the picture shows where `things` is given.

    p_noncompliant is that any single rule is broken, were the rules independent (`agpis.models.single.any_of`).
    """

    inputs = ("pixels",)
    outputs: tuple[str, ...] = ("p_primary", "p_noncompliant", "rules", "tokens", "patches", "evidence")

    def __init__(self, model: ImageModel, things: Things | None = None) -> None:
        super().__init__()
        self.model, self.things = model, things
        if things is not None:
            self.outputs = (*self.outputs, "things")

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        early = self.model.early(pixels)
        out = self.model.late(*early)
        found: tuple[Tensor, ...] = (
            torch.sigmoid(out["primary"]),
            torch.sigmoid(out["noncompliant"]),
            torch.sigmoid(out["rules"]),
            out["tokens"],
            out["patches"],
            torch.sigmoid(out["evidence"]),
        )
        if self.things is not None:
            found += (self.things(early[0][:, : self.model.tower.channels[16]]),)
        return found


class SequenceGraph(Exported):
    """tokens (S, K, P, D), mask (S, K), ids (1, T) -> probabilities (S, C), memory (S, M, W)."""

    inputs = ("tokens", "mask", "ids")
    outputs = ("probabilities", "memory")

    def __init__(self, model: Muisc) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor, mask: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        memory = self.model.encode(tokens, mask)
        return torch.softmax(self.model.score(tokens, memory, mask, ids), dim=-1), memory


class DecoderGraph(Exported):
    """ids (1, T), memory (1, M, W), memory_mask (1, M), past -> logits (1, V), present."""

    inputs = ("ids", "memory", "memory_mask", "past")
    outputs = ("logits", "present")

    def __init__(self, model: Muisc) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor, memory: Tensor, memory_mask: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        return self.model.step(ids, memory, memory_mask, past)


class PrimaryGraph(Exported):
    """pixels uint8 (N, H, W, 3) -> p_primary (N,)."""

    inputs = ("pixels",)
    outputs = ("p_primary",)

    def __init__(self, model: ImageClassifier) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        return (torch.sigmoid(self.model(pixels)["primary"]),)


class ComplianceGraph(Exported):
    """pixels uint8 (N, H, W, 3) -> p_noncompliant (N,), rules (N, R); on a square grid patches and evidence too.

    Patches (N, G * G, D) are the grid tokens, L2-normalised; evidence (N, G * G) is what the local head says of each.
    """

    inputs = ("pixels",)

    def __init__(self, model: ImageClassifier) -> None:
        super().__init__()
        self.model = model
        self.outputs = ("p_noncompliant", "rules")
        if has_square_grid(model.backbone):
            self.outputs += ("patches",) if model.head.local is None else ("patches", "evidence")

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        tokens = self.model.backbone(pixels)
        logits = self.model.of_tokens(tokens)
        found: tuple[Tensor, ...] = (torch.sigmoid(logits["noncompliant"]), torch.sigmoid(logits["rules"]))
        places = tokens[:, 1:] if self.model.backbone.class_token else tokens
        if "patches" in self.outputs:
            found += (F.normalize(places, dim=-1),)
        if "evidence" in self.outputs and self.model.head.local is not None:
            found += (torch.sigmoid(self.model.head.local(places)[..., 0]),)
        return found


class TokensGraph(Exported):
    """pixels uint8 (N, H, W, 3) -> tokens (N, P, D)."""

    inputs = ("pixels",)
    outputs = ("tokens",)

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        return (self.backbone(pixels),)


def has_square_grid(backbone: Backbone) -> bool:
    """Whether the tokens, the class token left out, are a grid of at least 2 x 2, as the duplicate matcher needs."""
    grid = backbone.tokens - int(backbone.class_token)
    return grid >= 4 and math.isqrt(grid) ** 2 == grid
