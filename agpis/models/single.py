"""One image in, everything stage 1 knows of it out: the paper's 3.3.1 (primary, non-compliance) on one shared tower.

`ImageModel` yields p_primary, p_noncompliant, the single rules, the view, patch descriptors for the duplicate matcher
(3.3.2: "pretrained DNN patch features", here trained further) and the tokens of the sequence model. Small marks are
seen by a local head on the stride-16 map (the strongest place speaks), the whole by a global head, texture faults
(noise, blur, compression) by the mean and spread of the early maps, light, ground and frame by `Measures`. The model
runs in two halves, so that a frozen early tower can be cached.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from agpis.errors import TrainingError
from agpis.models.comparison import TokenLayout
from agpis.models.measures import Measures
from agpis.models.towers import Tower

SIGNATURE = 36  # columns of the colour signature, the last of `Measures`
VIEWS = ("front", "back", "side", "top", "bottom", "detail", "pack", "lifestyle", "multi")


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """Shape of the heads."""

    rules: int
    """R, the rulebook's single rules that are learned."""
    size: int = 224
    """Side of the square input in pixels; a multiple of 32."""
    tower: str = "efficientnet_lite0"
    """A name of `towers.TOWERS`."""
    local: int = 96
    """Width of the local head."""
    hidden: int = 256
    """Width of the global head."""
    descriptor: int = 64
    """E, width of a patch descriptor."""
    width: int = 128
    """D, width of a token."""
    dropout: float = 0.2
    """Before the global head's outputs, in training."""

    def __post_init__(self) -> None:
        least = max(2 + self.rules + len(VIEWS) + SIGNATURE + 1, self.descriptor + 4)
        if self.width < least:
            raise TrainingError(
                "bad_config", f"width is {self.width}; tokens of {self.rules} rules need at least {least} columns."
            )

    @property
    def layout(self) -> TokenLayout:
        """The columns of the tokens this model makes."""
        return TokenLayout(
            side=self.size // 32,
            learned=self.width - self.descriptor - 3,
            descriptor=self.descriptor,
            colour=3,
            knowledge=2 + self.rules + len(VIEWS),
            signature=SIGNATURE,
        )


class ImageModel(nn.Module):
    """Tower and heads. Input uint8 (N, size, size, 3)."""

    def __init__(self, config: ImageConfig, tower: Tower) -> None:
        super().__init__()
        self.config, self.tower = config, tower
        layout, channels = config.layout, tower.channels
        near = channels[16] + channels[8] + 3  # the stride-16 grid: features, finer features, colour
        self.near = nn.Conv2d(near, config.local, 1)
        self.far = nn.Conv2d(channels[32], config.local, 1)
        self.around = nn.Conv2d(config.local, config.local, 5, padding=2, groups=config.local)
        self.local = nn.Conv2d(config.local, config.rules + 1, 1)  # the rules, then non-compliance
        self.measures = Measures()
        texture = 2 * (channels[4] + channels[8] + channels[16]) + Measures.width
        self.texture_norm = nn.LayerNorm(texture)
        self.hidden = nn.Linear(channels[32] + texture, config.hidden)
        self.out = nn.Linear(config.hidden, 2 + config.rules + len(VIEWS))  # primary, non-compliance, rules, views
        self.describe = nn.Conv2d(near, config.local, 1)
        self.descriptor = nn.Conv2d(config.local + near, config.descriptor, 1)
        self.learned = nn.Conv2d(channels[32], layout.learned, 1)
        self.embedding = nn.Linear(channels[32], config.width - layout.knowledge - layout.signature)
        self.drop = nn.Dropout(config.dropout)
        assert self.local.bias is not None
        nn.init.constant_(self.local.bias, -2.0)

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        return self.late(*self.early(pixels))

    def early(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """What a frozen early tower gives, to be cached: grid (N, C16 + C8 + 3, G, G), texture (N, T):
        mean and spread of the early maps, then `Measures`."""
        maps = self.tower.early(pixels)
        statistics = []
        for stride in (4, 8, 16):
            mean = maps[stride].mean((2, 3))
            square = (maps[stride] * maps[stride]).mean((2, 3))
            statistics += [mean, torch.sqrt((square - mean * mean).clamp_min(0.0) + 1e-5)]
        colours = F.avg_pool2d((pixels.permute(0, 3, 1, 2).float() - 127.0) / 128.0, 16)  # (N, 3, G, G)
        grid = torch.cat([maps[16], F.avg_pool2d(maps[8], 2), colours], dim=1)
        return grid, torch.cat([*statistics, self.measures(pixels)], dim=1)

    def late(self, grid: Tensor, texture: Tensor) -> dict[str, Tensor]:
        """Outputs by name, from what `early` gives.

        Returns:
            primary, noncompliant (N,), rules (N, R), views (N, V): logits; tokens (N, P, D); patches (N, G*G, E)
            L2-normalised, G = size / 16; evidence (N, G*G) logits; embedding (N, D - knowledge - signature),
            L2-normalised.
        """
        config = self.config
        deep = self.tower.late(grid[:, : self.tower.channels[16]])  # (N, C32, G / 2, G / 2)
        far = F.interpolate(self.far(deep), scale_factor=2.0, mode="nearest")
        seen = F.relu(self.near(grid) + far)
        places = self.local(F.relu(seen + self.around(seen))).flatten(2)  # (N, R + 1, G*G)
        strongest = places.amax(-1)

        pooled = deep.mean((2, 3))
        hidden = F.relu(self.hidden(torch.cat([pooled, self.texture_norm(texture)], dim=1)))
        out = self.out(self.drop(hidden))
        primary = out[:, 0]
        noncompliant = out[:, 1] + strongest[:, -1]
        rules = out[:, 2 : 2 + config.rules] + strongest[:, :-1]
        views = out[:, 2 + config.rules :]

        described = self.descriptor(torch.cat([F.relu(self.describe(grid)), grid], dim=1))  # (N, E, G, G)
        patches = F.normalize(described, dim=1)
        coarse = F.normalize(F.avg_pool2d(described, 2), dim=1)
        embedding = F.normalize(self.embedding(pooled), dim=1)
        colours = F.avg_pool2d(grid[:, -3:], 2)
        tokens = torch.cat([self.learned(deep), coarse, colours], dim=1).flatten(2).transpose(1, 2)
        known = torch.cat([primary[:, None], noncompliant[:, None], rules, views], dim=1)
        # Logits of a sure model are large; tokens should stay of one order.
        known = torch.cat([known.clamp(-12.0, 12.0) / 4.0, embedding, texture[:, -SIGNATURE:]], dim=1)
        return {
            "primary": primary,
            "noncompliant": noncompliant,
            "rules": rules,
            "views": views,
            "tokens": torch.cat([tokens, known[:, None]], dim=1),  # (N, side * side + 1, D)
            "patches": patches.flatten(2).transpose(1, 2),
            "evidence": places[:, -1],
            "embedding": embedding,
        }
