"""How far a model that compares its images listens to what it learned of looks, and how far to what is computed.

MUIsC with comparison adds two class logits: the decoder's, which on few products knows the products by heart and is
far too sure on others, and the shortcut's, from facts that hold on any product. Two factors and a shift of `qualified`,
fitted on samples that the model was not trained on, put each in its place. It is a temperature for each path (Guo et
al., ICML '17, section 4.2), and unlike one temperature for both it changes the order of the sequences.
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
ROUNDS = 60


@dataclass(frozen=True, slots=True)
class Paths:
    """What was fitted."""

    learned: float = 1.0
    """Factor of the decoder's class logits."""
    known: float = 1.0
    """Factor of the shortcut's."""
    shift: float = 0.0
    """Added to the logit of `qualified`."""


def path_logits(model: SequenceModel) -> Callable[[dict[str, Tensor]], Tensor]:
    """A batch to (b, 2, C): class logits of the decoder, and of the shortcut."""

    def forward(batch: dict[str, Tensor]) -> Tensor:
        mask = batch["mask"]
        tokens = batch["tokens"].float() if "tokens" in batch else model.tokens(batch["pixels"], mask)
        known = model.muisc.known(tokens, mask)
        nothing = torch.zeros_like(batch["targets"])
        both = model.muisc(tokens, mask, batch["ids"], batch["separator"], nothing)[0]
        return torch.stack([both - known, known], dim=1)

    return forward


def fit_paths(learned: Tensor, known: Tensor, good: Tensor) -> Paths:
    """The factors and the shift under which p_qualified is likeliest right.

    Args:
        learned, known: float (n, C) logits, `qualified` first.
        good: bool (n,). Raises ValueError where all are the same.
    """
    if bool(good.all()) or not bool(good.any()):
        raise ValueError("the paths are weighed on accepted and rejected sequences")
    first, second, target = learned.double(), known.double(), good.double()
    free = torch.zeros(3, dtype=torch.float64, requires_grad=True)  # log factors, shift
    optimizer = torch.optim.LBFGS([free], max_iter=ROUNDS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        logits = free[0].exp() * first + free[1].exp() * second
        odds = logits[:, 0] + free[2] - torch.logsumexp(logits[:, 1:], dim=1)
        found = F.binary_cross_entropy_with_logits(odds, target)
        found = found + PRIOR / len(target) * (free[0].square() + free[1].square() + 0.1 * free[2].square())
        found.backward()  # type: ignore[no-untyped-call]  # torch has no types here
        return found

    optimizer.step(loss)  # type: ignore[no-untyped-call]  # nor here
    factors, shift = free.detach()[:2].exp(), float(free.detach()[2])
    return Paths(round(float(factors[0]), 4), round(float(factors[1]), 4), round(shift, 4))


def weigh(model: Muisc, paths: Paths) -> None:
    """Writes the factors and the shift into the weights of class head and shortcut."""
    if model.shortcut is None:
        return
    with torch.no_grad():
        for tensor in (model.class_head.weight, model.class_head.bias):
            tensor.mul_(paths.learned)
        model.class_head.bias[0] += paths.shift
        for linear in (model.shortcut.direct, model.shortcut.project):
            linear.weight.mul_(paths.known)
            linear.bias.mul_(paths.known)


def weighed(model: SequenceModel, held: Batches, *, size: int = 64) -> Paths:
    """`fit_paths` on held-out samples, written into the model; nothing without a shortcut, or with one kind alone."""
    if model.muisc.shortcut is None or not len(held):
        return Paths()
    logits, rows = outputs(path_logits(model), model, held, size)
    good = torch.from_numpy(held.labels[rows] == 0)
    if bool(good.all()) or not bool(good.any()):
        return Paths()
    found = torch.from_numpy(logits)
    paths = fit_paths(found[:, 0], found[:, 1], good)
    weigh(model.muisc, paths)
    return paths
