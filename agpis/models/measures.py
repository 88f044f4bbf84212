"""What can be measured of a picture's light, ground and edges, as inputs of the heads.

A tower trained on ImageNet is made to overlook exposure, white balance, turned and cut-off things; a head that is given
the measures need not find them in its maps.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from agpis.models.colour import ColourSignature

TONES = 16
DIRECTIONS = 24
STRAIGHTEST = 4


class Measures(nn.Module):
    """uint8 (N, H, W, 3) -> float (N, width): about 0 to 1 each.

    Tones: shares of 16 levels of light in the whole picture, and in the product. Ground: its colour, how much of the
    rim has it. Product: its mean colour, its share of the picture, how far it touches the four sides. Straight lines:
    the longest straight runs along which the picture, or the product's outline, jumps, by column and by row: an edge
    that the frame cut. Directions: shares of 24 directions of the gradient, folded at 180 degrees.
    """

    width = 2 * TONES + 4 + 3 + 1 + 4 + 4 * STRAIGHTEST + DIRECTIONS + 36

    levels: Tensor
    sobel: Tensor
    directions: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.colours = ColourSignature(6)
        self.register_buffer("levels", torch.linspace(0.0, 1.0, TONES), persistent=False)
        self.register_buffer("directions", torch.arange(DIRECTIONS) * (torch.pi / DIRECTIONS), persistent=False)
        sobel = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]) / 8.0
        self.register_buffer("sobel", torch.stack([sobel, sobel.T])[:, None], persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """The measures, the colour signature's 36 columns last."""
        half = F.avg_pool2d(pixels.permute(0, 3, 1, 2).float() / 255.0, 2)  # (N, 3, H / 2, W / 2)
        rgb = F.avg_pool2d(half, 2)
        product, ground, rim = self.colours.product(rgb)  # (N, P), (N, 3), (N,)
        light = rgb.mean(1).flatten(1)  # (N, P)
        sides = rgb.shape[2:]
        mask = product.view(-1, 1, *sides)
        area = product.mean(1, keepdim=True)
        whole = product / product.sum(1, keepdim=True).clamp_min(1e-3)
        tones = self.soft(light)  # (N, TONES, P)
        grey = half.mean(1, keepdim=True)
        found = [
            tones.mean(2),
            (tones * whole[:, None]).sum(2),
            ground,
            rim[:, None],
            (rgb.flatten(2) * whole[:, None]).sum(2),
            area,
            torch.stack(
                [mask[:, 0, 0].mean(1), mask[:, 0, -1].mean(1), mask[:, 0, :, 0].mean(1), mask[:, 0, :, -1].mean(1)], 1
            ),
            self.straight(grey, 0.08),
            self.straight(mask, 0.5),
            self.turned(rgb.mean(1, keepdim=True)),
            self.colours.of(rgb, product),
        ]
        return torch.cat(found, dim=1)

    def soft(self, values: Tensor) -> Tensor:
        """Shares of values (N, P) in the two nearest levels, (N, TONES, P)."""
        near = 1.0 - (values[:, None] - self.levels[None, :, None]).abs() * (TONES - 1)
        return near.clamp_min(0.0)

    def straight(self, values: Tensor, jump: float) -> Tensor:
        """Shares of the rows that jump at the same column, and of the columns at the same row: the four largest each.

        values (N, 1, h, w) -> (N, 2 * STRAIGHTEST).
        """
        across = torch.sigmoid(((values[..., 1:] - values[..., :-1]).abs() - jump) * (8.0 / jump)).mean(2)[:, 0]
        down = torch.sigmoid(((values[..., 1:, :] - values[..., :-1, :]).abs() - jump) * (8.0 / jump)).mean(3)[:, 0]
        return torch.cat([torch.topk(lines, STRAIGHTEST, dim=1).values for lines in (across, down)], dim=1)

    def turned(self, grey: Tensor) -> Tensor:
        """Shares of the directions of the gradient, weighted by its strength; (N, 1, h, w) -> (N, DIRECTIONS)."""
        gradient = F.conv2d(grey, self.sobel).flatten(2)  # (N, 2, P)
        strength = torch.sqrt(gradient.square().sum(1) + 1e-8)
        # cos(2 (angle - direction)) of the doubled angle, without atan2: (x^2 - y^2, 2 x y) / strength^2
        twice = (
            torch.stack(
                [gradient[:, 0].square() - gradient[:, 1].square(), 2.0 * gradient[:, 0] * gradient[:, 1]], dim=1
            )
            / strength.square().clamp_min(1e-6)[:, None]
        )
        axes = torch.stack([torch.cos(2.0 * self.directions), torch.sin(2.0 * self.directions)])  # (2, DIRECTIONS)
        close = torch.einsum("nap,ad->ndp", twice, axes)
        near = (
            torch.exp((close - 1.0) * 24.0)
            * torch.where(strength > 0.02, strength, torch.zeros_like(strength))[:, None]
        )
        shares = near.sum(2)
        return shares / shares.sum(1, keepdim=True).clamp_min(1e-4)
