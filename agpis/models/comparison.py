"""What the images of a sequence hold of one another, computed rather than learned.

A few thousand sequences of a few hundred products do not teach a transformer to compare pictures: it learns the
products instead. `Compare` gives each image token its best cosine in every other image, and each image the summary of
its pairs; `Shortcut` leads those, and what stage 1 knows, straight to the class logits. Both are options of the model
(`MuiscConfig.compare`, `MuiscConfig.layout`), off in the paper's form.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PAIR_FACTS = 6  # numbers that `Compare.facts` gives of an ordered pair of images


@dataclass(frozen=True, slots=True)
class TokenLayout:
    """What the columns of our image graphs' tokens (P, D) mean: side * side grid tokens, then one knowledge token."""

    side: int = 7
    """Side of the grid."""
    learned: int = 61
    """Columns of a grid token: projected features ..."""
    descriptor: int = 64
    """... then the L2-normalised descriptor of the place ..."""
    colour: int = 3
    """... then its mean colour."""
    knowledge: int = 30
    """Columns of the knowledge token: logits of stage 1, then the product embedding (L2-normalised) ..."""
    signature: int = 0
    """... then the colour signature (L2-normalised, see colour.py) to the end; 0: it carries none."""

    @property
    def tokens(self) -> int:
        """Tokens of an image, P."""
        return self.side * self.side + 1

    @property
    def width(self) -> int:
        """Columns, D."""
        return self.learned + self.descriptor + self.colour


class Compare(nn.Module):
    """Tells each image token what the other images of the sequence hold of it.

    Tokens with a layout bring their own descriptors, product embedding and colours. Plain tokens (any tower's) are
    standardised over their columns and normalised; their mean is the embedding; their last `signature` columns, the
    same in all tokens of an image, are its colour signature. An absent image, and the image's own column, give 0.
    """

    def __init__(
        self, k: int, width: int, layout: TokenLayout | None, class_token: bool = False, signature: int = 0
    ) -> None:
        super().__init__()
        self.layout, self.class_token = layout, class_token
        self.signature = signature if layout is None else layout.signature
        self.grid = nn.Linear(k, width)
        self.image = nn.Linear(PAIR_FACTS * k, width)

    def forward(self, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """tokens (S, K, P, D), mask (S, K).

        Returns:
            additions to the grid tokens (S, K, G, W) and to an image as a whole (S, K, W), and the pair facts
            (S, K, 6K).
        """
        match, facts = self.facts(tokens, mask)
        return self.grid(match), self.image(facts), facts

    def cosines(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Cosines of all places (S, K, G, K, G) and of the images as wholes (S, K, K); mean colours where known.

        Plain tokens are not standardised one by one, which would write the grid several times over: their means and
        lengths come out of the products, and an image as a whole is the mean of its standardised tokens.
        """
        layout, s, k = self.layout, tokens.shape[0], tokens.shape[1]
        if layout is not None:
            p, start = layout.side * layout.side, layout.learned
            grid = tokens[:, :, :p]
            flat = grid[..., start : start + layout.descriptor].flatten(1, 2)  # (S, K*G, E)
            embedding = tokens[:, :, p, layout.knowledge : layout.width - layout.signature]
            colour = grid[..., start + layout.descriptor :].mean(2)
            cosine = (flat @ flat.transpose(1, 2)).view(s, k, p, k, p)
            return cosine, embedding @ embedding.transpose(1, 2), colour
        grid = tokens[:, :, int(self.class_token) :, : tokens.shape[-1] - self.signature]
        p, e = grid.shape[2], grid.shape[3]
        with torch.autocast(tokens.device.type, enabled=False):  # differences of large products
            flat = grid.float().flatten(1, 2)
            mean = flat.mean(-1, keepdim=True)
            products = flat @ flat.transpose(1, 2) - e * mean @ mean.transpose(1, 2)
            length = torch.diagonal(products, dim1=1, dim2=2).clamp_min(1e-6).rsqrt()
            cosine = (products * length[:, :, None] * length[:, None]).view(s, k, p, k, p)
            whole = cosine.mean((2, 4))  # products of the images' mean descriptors
            own = torch.diagonal(whole, dim1=1, dim2=2).clamp_min(1e-6).rsqrt()
            return cosine, whole * own[:, :, None] * own[:, None], None

    def likeness(self, tokens: Tensor) -> Tensor | None:
        """Dot products of the colour signatures (S, K, K), where the tokens carry them."""
        if not self.signature:
            return None
        own = F.normalize(tokens[:, :, -1, -self.signature :].float(), dim=-1)  # an absent image is all zeros
        return own @ own.transpose(1, 2)

    def facts(self, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Best match of each place in each image (S, K, G, K); of each image with each: (S, K, 6K)."""
        cosines, whole, colour = self.cosines(tokens)
        k = tokens.shape[1]
        others = (1.0 - torch.eye(k, dtype=tokens.dtype, device=tokens.device)) * mask[:, None, :]  # (S, K, K)
        match = cosines.amax(-1) * others[:, :, None, :]
        cosine = whole * others
        if colour is None:
            distance = match.amin(2)  # the place that is found again worst
        else:
            distance = (colour[:, :, None] - colour[:, None]).abs().sum(-1) * others
        mean = match.mean(2)
        high = (match > 0.8).to(tokens.dtype).mean(2)  # share of places found again almost unchanged
        back = mean.transpose(1, 2) * others  # how much of the other is found here: tells a crop from its whole
        likeness = self.likeness(tokens)
        colours = torch.zeros_like(cosine) if likeness is None else likeness.to(cosine.dtype) * others
        return match, torch.cat([mean, high, back, cosine, distance, colours], dim=-1)


class Shortcut(nn.Module):
    """Class logits straight from the pair facts, and from what stage 1 knows where the tokens carry it.

    The strongest rule of any image, the primary's, the best and the worst matches: a few thousand simulated sequences
    do not teach the decoder to pass these on, and they are what carries over to shops that it never saw. The two kinds
    have a head each: beside logits of stage 1, cosines would be too small to be heard.
    """

    def __init__(self, k: int, classes: int, layout: TokenLayout | None, hidden: int = 64) -> None:
        super().__init__()
        self.layout, self.k = layout, k
        self.pairs = FactHead(2 * PAIR_FACTS + 1, classes, hidden)
        self.knowledge = FactHead(3 * layout.knowledge, classes, hidden) if layout else None

    def forward(self, tokens: Tensor, mask: Tensor, pairs: Tensor) -> tuple[Tensor, ...]:
        """tokens (S, K, P, D), mask (S, K), pairs (S, K, 6K) of `Compare.facts`.

        Returns:
            logits (S, C) of the pair facts and, with a layout, of stage 1's knowledge.
        """
        k = self.k
        present = mask[:, :, None] * mask[:, None, :]
        apart = present * (1.0 - torch.eye(k, dtype=tokens.dtype, device=tokens.device)) > 0.5  # (S, K, K)
        each = pairs.view(*pairs.shape[:2], PAIR_FACTS, k).transpose(2, 3)  # (S, K, K, 6)
        most = each.masked_fill(~apart[..., None], -1.0).amax((1, 2))
        least = each.masked_fill(~apart[..., None], 4.0).amin((1, 2))
        found: tuple[Tensor, ...] = (self.pairs(torch.cat([most, least, mask.mean(1, keepdim=True)], dim=-1)),)
        if self.layout is not None and self.knowledge is not None:
            layout = self.layout
            known = tokens[:, :, layout.side * layout.side, : layout.knowledge]
            low = known.masked_fill(mask[..., None] < 0.5, -3.0)  # the lowest logit that tokens hold
            rest = low[:, 1:].amax(1) if k > 1 else low[:, 0]
            found += (self.knowledge(torch.cat([low.amax(1), known[:, 0], rest], dim=-1)),)
        return found


class FactHead(nn.Module):
    """A linear and a small nonlinear head over facts (S, F), added: logits (S, C)."""

    def __init__(self, facts: int, classes: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(facts)
        self.direct = nn.Linear(facts, classes)
        self.expand, self.project = nn.Linear(facts, hidden), nn.Linear(hidden, classes)

    def forward(self, facts: Tensor) -> Tensor:
        facts = self.norm(facts)
        return self.direct(facts) + self.project(F.gelu(self.expand(facts)))  # type: ignore[no-any-return]

    def scale(self, factor: float) -> None:
        """Multiplies the logits, in the weights."""
        with torch.no_grad():
            for linear in (self.direct, self.project):
                linear.weight.mul_(factor)
                linear.bias.mul_(factor)
