"""The colours of the product in a picture, computed: what a tower trained to name things forgets.

The last map of an ImageNet tower tells a red shirt from a blue one no better than chance (docs/results.md), and the
mean colour of a picture is mostly its ground's. `ColourSignature` leaves the ground out and counts what is left.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GROUND = (0.04, 0.14)
"""Largest difference of a channel (of 1) from the ground's colour at which a place starts and ends to count."""
REACH = 50.0
"""Chroma beyond this (CIELAB a* and b*) counts as this."""


class ColourSignature(nn.Module):
    """uint8 (N, H, W, 3) -> float (N, bins * bins), L2-normalised: roots of the shares of the product's chroma.

    The dot product of two signatures is the Bhattacharyya coefficient of their histograms over a* and b* (CIELAB, D65),
    0 to 1. A place counts as product by its distance from white (padding) and from the commonest colour of the rim.
    Light is left out: shading and shadows change it from view to view.
    """

    to_xyz: Tensor
    centres: Tensor

    def __init__(self, bins: int = 6) -> None:
        super().__init__()
        self.bins = bins
        centres = torch.linspace(-REACH, REACH, bins)
        self.register_buffer("centres", centres, persistent=False)
        matrix = torch.tensor(
            [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
        )  # linear sRGB to XYZ, IEC 61966-2-1
        self.register_buffer("to_xyz", matrix / torch.tensor([[0.95047], [1.0], [1.08883]]), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        rgb = F.avg_pool2d(pixels.permute(0, 3, 1, 2).float() / 255.0, 4)  # (N, 3, h, w)
        return self.of(rgb, self.product(rgb)[0])

    def of(self, rgb: Tensor, product: Tensor) -> Tensor:
        """The signature of rgb (N, 3, h, w) in 0 to 1, places weighted with product (N, h * w)."""
        a, b = self.chroma(rgb)
        in_a, in_b = self.soft(a), self.soft(b)  # (N, bins, P)
        counts = (in_a * product[:, None]) @ in_b.transpose(1, 2)  # (N, bins, bins)
        return F.normalize(torch.sqrt(counts.flatten(1) + 1e-6), dim=1)

    def product(self, rgb: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Where the product is, of rgb (N, 3, h, w) in 0 to 1.

        Returns:
            how far each place belongs to it (N, h * w), 0 to 1; the ground's colour (N, 3); the share of the rim that
            has that colour (N,).
        """
        rim = torch.cat([rgb[:, :, 0], rgb[:, :, -1], rgb[:, :, :, 0], rgb[:, :, :, -1]], dim=2)  # (N, 3, R)
        rim = F.avg_pool1d(rim, 4)
        apart = (rim[:, :, :, None] - rim[:, :, None]).abs().amax(1)  # (N, R, R)
        alike = torch.exp(-apart / 0.05).sum(2)  # how many others each place of the rim resembles
        ground = (rim * torch.softmax(alike, dim=1)[:, None]).sum(2)  # the commonest colour of the rim
        distance = (rgb - ground[:, :, None, None]).abs().amax(1)
        distance = torch.minimum(distance, (1.0 - rgb).amax(1))
        low, high = GROUND
        own = ((distance - low) / (high - low)).clamp(0.0, 1.0).flatten(1)
        plain = torch.exp(-(rim - ground[:, :, None]).abs().amax(1) / 0.05).mean(1)
        return own, ground, plain

    def chroma(self, rgb: Tensor) -> tuple[Tensor, Tensor]:
        """a* and b* of CIELAB, (N, P) each."""
        linear = torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        xyz = torch.einsum("ij,njp->nip", self.to_xyz, linear.flatten(2))
        root = torch.where(xyz > 0.008856, xyz.clamp_min(1e-6) ** (1.0 / 3.0), 7.787 * xyz + 16.0 / 116.0)
        return 500.0 * (root[:, 0] - root[:, 1]), 200.0 * (root[:, 1] - root[:, 2])

    def soft(self, values: Tensor) -> Tensor:
        """Shares of each value in the two nearest bins, (N, bins, P)."""
        step = 2.0 * REACH / (self.bins - 1)
        near = 1.0 - (values.clamp(-REACH, REACH)[:, None] - self.centres[None, :, None]).abs() / step
        return near.clamp_min(0.0)
