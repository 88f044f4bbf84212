"""How far a model that compares its images listens to what it learned of looks, and how far to what is computed.

MUIsC with comparison adds class logits of up to three paths: the decoder's, which on few products knows the products by
heart and is far too sure on others, and the shortcut's, from facts of the pairs and from what stage 1 knows, which hold
on any product. A factor for each and a shift of `qualified`, fitted on samples that the model was not trained on, put
each in its place. It is a temperature for each path (Guo et al., ICML '17, section 4.2), and unlike one temperature
for all it changes the order of the sequences.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from agpis.batches import Batches, outputs
from agpis.models.muisc import Muisc, SequenceModel

PRIOR = 2.0
"""Samples that speak for leaving things as they are: a few validation samples should not turn a path off."""
ROUNDS = 80


@dataclass(frozen=True, slots=True)
class Paths:
    """What was fitted."""

    learned: float = 1.0
    """Factor of the decoder's class logits."""
    pairs: float = 1.0
    """Factor of the pair facts'."""
    knowledge: float = 1.0
    """Factor of those of stage 1, where the tokens carry its knowledge."""
    shift: float = 0.0
    """Added to the logit of `qualified`."""


def parts_of(model: Muisc, tokens: Tensor, mask: Tensor, ids: Tensor, separator: Tensor) -> Tensor:
    """Class logits (S, P, C) of the paths, P = 1 to 3; they add up to those of `Muisc.forward`."""
    nothing = torch.zeros(ids.shape, dtype=torch.bool, device=ids.device)
    whole = model(tokens, mask, ids, separator, nothing)[0]
    known = model.shortcuts(tokens, mask)
    return torch.stack([whole - sum(known), *known], dim=1)


def path_logits(model: SequenceModel) -> Callable[[dict[str, Tensor]], Tensor]:
    """A batch to `parts_of`."""

    def forward(batch: dict[str, Tensor]) -> Tensor:
        mask = batch["mask"]
        tokens = batch["tokens"].float() if "tokens" in batch else model.tokens(batch["pixels"], mask)
        return parts_of(model.muisc, tokens, mask, batch["ids"], batch["separator"])

    return forward


def fit_paths(logits: Tensor, good: Tensor) -> Paths:
    """The factors and the shift under which p_qualified is likeliest right.

    Args:
        logits: float (n, P, C) of the paths, P = 2 or 3, `qualified` first.
        good: bool (n,). Raises ValueError where all are the same.
    """
    if bool(good.all()) or not bool(good.any()):
        raise ValueError("the paths are weighed on accepted and rejected sequences")
    parts, target = logits.double(), good.double()
    count = parts.shape[1]
    free = torch.zeros(count + 1, dtype=torch.float64, requires_grad=True)  # log factors, shift
    optimizer = torch.optim.LBFGS([free], max_iter=ROUNDS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        together = (free[:count].exp()[None, :, None] * parts).sum(1)
        odds = together[:, 0] + free[count] - torch.logsumexp(together[:, 1:], dim=1)
        found = F.binary_cross_entropy_with_logits(odds, target)
        found = found + PRIOR / len(target) * (free[:count].square().sum() + 0.1 * free[count].square())
        found.backward()  # type: ignore[no-untyped-call]  # torch has no types here
        return found

    optimizer.step(loss)  # type: ignore[no-untyped-call]  # nor here
    factors = [round(float(value), 4) for value in free.detach()[:count].exp()]
    learned, pairs, knowledge = (*factors, 1.0, 1.0)[:3]
    return Paths(learned, pairs, knowledge, round(float(free.detach()[count]), 4))


def weigh(model: Muisc, paths: Paths) -> None:
    """Writes the factors and the shift into the weights of class head and shortcut."""
    if model.shortcut is None:
        return
    with torch.no_grad():
        for tensor in (model.class_head.weight, model.class_head.bias):
            tensor.mul_(paths.learned)
        model.class_head.bias[0] += paths.shift
    model.shortcut.pairs.scale(paths.pairs)
    if model.shortcut.knowledge is not None:
        model.shortcut.knowledge.scale(paths.knowledge)


def weighed(model: SequenceModel, held: Batches, *, size: int = 64) -> Paths:
    """`fit_paths` on held-out samples, written into the model; nothing without a shortcut, or with one kind alone."""
    if model.muisc.shortcut is None or not len(held):
        return Paths()
    logits, rows = outputs(path_logits(model), model, held, size)
    good = torch.from_numpy(held.labels[rows] == 0)
    if bool(good.all()) or not bool(good.any()):
        return Paths()
    paths = fit_paths(torch.from_numpy(logits), good)
    weigh(model.muisc, paths)
    return paths
