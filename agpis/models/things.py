"""What a picture shows, in words of shops: the last part of the tower as ImageNet made it, beside the one that was
trained further, and its classes summed over the lines of `agpis.titles.nouns`.

The first parts of the starter's tower stay as ImageNet made them, so that the two last parts share them.
"""

import copy
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from agpis.models.towers import EfficientNetLite0, imagenet_classifier
from agpis.titles import nouns

LEAST = 1e-4
"""Probability added to both sides of a ratio: below it a classifier's answers are noise."""


class Things(nn.Module):
    """Stride-16 map (N, C16, G, G) of the tower's first parts -> (N, L): how much likelier the picture shows a thing of
    each line than pictures of products do, natural log of the ratio.

    Args:
        tower: as ImageNet made it; its last part is copied.
        weight, bias: of ImageNet's classifier, (1000, 1280) and (1000,).
        lines: classes of each of the L lines.
    """

    usual: Tensor
    members: Tensor

    def __init__(self, tower: EfficientNetLite0, weight: Tensor, bias: Tensor, lines: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*copy.deepcopy(tower.late_modules()))
        members = torch.zeros(len(weight), len(lines))
        for line, classes in enumerate(lines):
            members[list(classes), line] = 1.0
        self.classify = nn.Linear(weight.shape[1], len(weight))
        with torch.no_grad():
            self.classify.weight.copy_(weight)
            self.classify.bias.copy_(bias)
        self.register_buffer("members", members)
        self.register_buffer("usual", torch.full((len(lines),), 1.0 / len(weight)))
        self.requires_grad_(False)

    def forward(self, grid: Tensor) -> Tensor:
        return torch.log(self.shares(grid) + LEAST) - torch.log(self.usual + LEAST)

    def shares(self, grid: Tensor) -> Tensor:
        """Probability (N, L) that the picture shows a thing of each line."""
        found = F.relu6(self.blocks(grid)).mean((2, 3))
        return torch.softmax(self.classify(found).float(), dim=1) @ self.members

    @classmethod
    def imagenet(cls, pictures: npt.NDArray[np.uint8]) -> "Things":
        """On `agpis.titles.nouns`; what is usual is taken from pictures of products, uint8 (n, H, W, 3).

        Raises TrainingError `missing_weights`.
        """
        tower = EfficientNetLite0().eval()
        tower.load_imagenet()
        found = cls(tower, *imagenet_classifier(), [noun.classes for noun in nouns()])
        with torch.inference_mode():
            parts = (torch.from_numpy(pictures[at : at + 32]) for at in range(0, len(pictures), 32))
            found.settle([tower.middle(tower.first(part)[8]) for part in parts])
        return found

    @torch.inference_mode()
    def settle(self, grids: Sequence[Tensor]) -> None:
        """Takes what pictures of products usually show from theirs."""
        self.usual.copy_(torch.cat([self.shares(grid) for grid in grids]).mean(0))
