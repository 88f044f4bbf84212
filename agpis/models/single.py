"""One image in, everything stage 1 knows of it out: the paper's 3.3.1 (primary, non-compliance) on one shared tower.

`ImageModel` yields p_primary, p_noncompliant, the single rules, the view, patch descriptors for the duplicate matcher
(3.3.2: "pretrained DNN patch features", here trained further) and the tokens of the sequence model. Small marks are
seen by a local head on a grid of stride 8 (the strongest place speaks), the whole by a global head, texture faults
(noise, blur, compression) by the mean and spread of the early maps, light, ground and frame by `Measures`. A picture is
non-compliant when any rule is broken: p_noncompliant is what the rules' probabilities say together. The model runs in
two halves, so that a frozen early tower can be cached.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from agpis.columns import SCALE
from agpis.columns import VIEWS as VIEWS
from agpis.errors import TrainingError
from agpis.models.comparison import TokenLayout
from agpis.models.measures import Measures
from agpis.models.towers import Tower

SIGNATURE = 36  # columns of the colour signature, the last of `Measures`


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """Shape of the heads."""

    rules: int
    """R, the rulebook's single rules that are learned."""
    size: int = 224
    """Side of the square input in pixels; a multiple of 32."""
    tower: str = "efficientnet_lite0"
    """A name of `towers.TOWERS`."""
    local: int = 64
    """Width of the local head."""
    hidden: int = 256
    """Width of the global head."""
    descriptor: int = 64
    """E, width of a patch descriptor."""
    width: int = 128
    """D, width of a token."""
    dropout: float = 0.4
    """In the global head, in training: pictures of one product are many, and it learns the products by heart."""

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

    texture_mean: Tensor
    texture_spread: Tensor
    rule_scale: Tensor
    rule_shift: Tensor

    def __init__(self, config: ImageConfig, tower: Tower) -> None:
        super().__init__()
        self.config, self.tower = config, tower
        layout, channels = config.layout, tower.channels
        near = channels[16] + channels[8] + 3  # the stride-16 grid: features, finer features, colour
        self.near = nn.Conv2d(near, config.local, 1)
        self.far = nn.Conv2d(channels[32], config.local, 1)
        self.fine = nn.Conv2d(4 * channels[4] + channels[8], config.local, 1)
        self.around = nn.ModuleList(nn.Conv2d(config.local, config.local, 3, padding=1) for _ in range(2))
        self.local = nn.Conv2d(config.local, config.rules, 1)
        self.measures = Measures()
        texture = 2 * (channels[4] + channels[8] + channels[16]) + Measures.width
        self.register_buffer("texture_mean", torch.zeros(texture))
        self.register_buffer("texture_spread", torch.ones(texture))
        self.facts = nn.Sequential(
            nn.Linear(texture, config.hidden), nn.ReLU(), nn.Dropout(config.dropout),
            nn.Linear(config.hidden, config.hidden), nn.ReLU(),
        )  # fmt: skip
        self.hidden = nn.Linear(channels[32], config.hidden)
        self.out = nn.Linear(2 * config.hidden, 1 + config.rules + len(VIEWS))  # primary, rules, views
        self.register_buffer("rule_scale", torch.ones(config.rules))
        self.register_buffer("rule_shift", torch.zeros(config.rules))
        self.describe = nn.Conv2d(near, config.local, 1)
        self.descriptor = nn.Conv2d(config.local + near, config.descriptor, 1)
        self.learned = nn.Conv2d(channels[32], layout.learned, 1)
        self.embedding = nn.Linear(channels[32], config.width - layout.knowledge - layout.signature)
        self.drop = nn.Dropout(config.dropout)
        assert self.local.bias is not None
        nn.init.constant_(self.local.bias, -2.0)

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        return self.late(*self.early(pixels))

    def early(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the tower's parts before the last give, to be cached where they are frozen.

        Returns:
            grid (N, C16 + C8 + 3, G, G), G = size / 16; fine (N, 4 * C4 + C8, 2 G, 2 G); texture (N, T): mean and
            spread of the early maps, then `Measures`.
        """
        fine, colours, facts = self.first(pixels)
        grid = self.gridded(fine[:, -self.tower.channels[8] :], colours)
        return grid, fine, self.textured(facts, grid)

    def first(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the tower's first part gives: fine as in `early`, colours (N, 3, G, G), and of the texture what needs
        no stride-16 map."""
        maps = self.tower.first(pixels)
        colours = F.avg_pool2d((pixels.permute(0, 3, 1, 2).float() - 127.0) / 128.0, 16)
        fine = torch.cat([F.pixel_unshuffle(maps[4], 2), maps[8]], dim=1)
        return fine, colours, torch.cat([_spread(maps[4]), _spread(maps[8]), self.measures(pixels)], dim=1)

    def gridded(self, near: Tensor, colours: Tensor) -> Tensor:
        """grid of `early`, from the stride-8 map (N, C8, 2 G, 2 G), the last columns of fine, and colours."""
        return torch.cat([self.tower.middle(near), F.avg_pool2d(near, 2), colours], dim=1)

    def textured(self, facts: Tensor, grid: Tensor) -> Tensor:
        """texture of `early`, from what `first` says of it and grid."""
        before, measured = facts[:, : -Measures.width], facts[:, -Measures.width :]
        return torch.cat([before, _spread(grid[:, : self.tower.channels[16]]), measured], dim=1)

    def deep(self, grid: Tensor) -> Tensor:
        """The stride-32 map (N, C32, G / 2, G / 2) of the stride-16 grid."""
        return self.tower.late(grid[:, : self.tower.channels[16]])

    def standardise(self, texture: Tensor) -> None:
        """Sets what texture (n, T) is measured against: its mean and spread over n pictures."""
        self.texture_mean.copy_(texture.mean(0))
        self.texture_spread.copy_(texture.std(0).clamp_min(1e-3))

    def late(self, grid: Tensor, fine: Tensor, texture: Tensor) -> dict[str, Tensor]:
        """Outputs by name, from what `early` gives: those of `judged` and `matched`, and tokens (N, P, D)."""
        deep = self.deep(grid)
        out = {**self.judged(grid, fine, texture, deep), **self.matched(grid, deep)}
        coarse = F.normalize(F.avg_pool2d(out.pop("described"), 2), dim=1)
        colours = F.avg_pool2d(grid[:, -3:], 2)
        tokens = torch.cat([self.learned(deep), coarse, colours], dim=1).flatten(2).transpose(1, 2)
        known = torch.cat([out["primary"][:, None], out["noncompliant"][:, None], out["rules"], out["views"]], dim=1)
        # Logits of a sure model are large; tokens should stay of one order.
        known = torch.cat([known.clamp(-12.0, 12.0) / SCALE, out["embedding"], texture[:, -SIGNATURE:]], dim=1)
        return {**out, "tokens": torch.cat([tokens, known[:, None]], dim=1)}  # (N, side * side + 1, D)

    def judged(self, grid: Tensor, fine: Tensor, texture: Tensor, deep: Tensor) -> dict[str, Tensor]:
        """What is said of each picture, in logits.

        Returns:
            primary (N,), views (N, V); raw (N, R) what the heads say of the rules, and rules (N, R) the same
            calibrated: raw * rule_scale + rule_shift; noncompliant (N,): that at least one rule is broken, were they
            independent: 1 - prod(1 - p_rule); places (N, R, 4 G * G): what the local head says of each place;
            evidence (N, 4 G * G): the places of the likeliest rule.
        """
        rules = self.config.rules
        seen = self.near(grid) + F.interpolate(self.far(deep), scale_factor=2.0, mode="nearest")
        seen = F.relu(self.fine(fine) + F.interpolate(seen, scale_factor=2.0, mode="nearest"))
        for around in self.around:
            seen = F.relu(seen + around(seen))
        places = self.local(seen).flatten(2)
        facts = self.facts(((texture - self.texture_mean) / self.texture_spread).clamp(-6.0, 6.0))
        hidden = torch.cat([F.relu(self.hidden(deep.mean((2, 3)))), facts], dim=1)
        out = self.out(self.drop(hidden)).float()
        raw = out[:, 1 : 1 + rules] + places.amax(-1).float()
        calibrated = raw * self.rule_scale + self.rule_shift
        likeliest = (calibrated == calibrated.amax(1, keepdim=True)).to(places.dtype)
        return {
            "primary": out[:, 0],
            "views": out[:, 1 + rules :],
            "raw": raw,
            "rules": calibrated,
            "noncompliant": any_of(calibrated),
            "places": places,
            "evidence": (places * likeliest[:, :, None]).sum(1),
        }

    def matched(self, grid: Tensor, deep: Tensor) -> dict[str, Tensor]:
        """What pictures are compared by.

        Returns:
            described (N, E, G, G); patches (N, G * G, E), the same L2-normalised; embedding (N, D - knowledge -
            signature), L2-normalised.
        """
        described = self.descriptor(torch.cat([F.relu(self.describe(grid)), grid], dim=1))
        return {
            "described": described,
            "patches": F.normalize(described, dim=1).flatten(2).transpose(1, 2),
            "embedding": F.normalize(self.embedding(deep.mean((2, 3))), dim=1),
        }


def _spread(maps: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, 2 C): mean and standard deviation of each channel."""
    mean = maps.mean((2, 3))
    square = (maps * maps).mean((2, 3))
    return torch.cat([mean, torch.sqrt((square - mean * mean).clamp_min(0.0) + 1e-5)], dim=1)


def any_of(logits: Tensor) -> Tensor:
    """Logit (N,) of at least one of R independent events with logits (N, R)."""
    doubt = F.softplus(logits.clamp(-30.0, 30.0)).sum(1).clamp_min(1e-6)  # -log of the probability of none
    return doubt + torch.log1p(-torch.exp(-doubt))
