"""Parts of a step as tensors, for the sequence models and the baselines; a model's probabilities over all samples."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from agpis.dataset import Pixels, SequenceData
from agpis.errors import TrainingError
from agpis.models.muisc import collate
from agpis.parts import Part

Logits = Callable[[dict[str, Tensor]], Tensor]
"""A batch to logits (b, C)."""


class Batches:
    """`load` of the loop: parts of a step as tensors. Picklable, for the loader's workers.

    A batch holds tokens (b, K, P, D) or pixels uint8 (b, K, S, S, 3), mask (b, K), ids, separator, targets as of
    `collate`, labels (b,), rows int64 (b,) of the samples, bad int64 (m,) rows of images that could not be read,
    samples: number of the step's samples, and whole (2,) float: their weight and the number of their predicted tokens.
    Samples with a bad picture are left out.
    """

    def __init__(
        self,
        data: SequenceData,
        titles: Sequence[Sequence[int]],
        feedbacks: Sequence[Sequence[int]],
        pad: int,
        *,
        tokens: npt.NDArray[Any] | None = None,
        pixels: Pixels | None = None,
        predict_title: bool = False,
        word_dropout: float = 0.0,
        weights: npt.NDArray[np.float32] | None = None,
    ) -> None:
        self.index, self.labels = data.index, data.labels
        self.titles, self.feedbacks, self.pad = list(titles), list(feedbacks), pad
        self.tokens, self.pixels, self.predict_title, self.weights = tokens, pixels, predict_title, weights
        self.word_dropout = word_dropout
        words = [len(f) + (len(t) - 1 if predict_title else 0) for t, f in zip(titles, feedbacks, strict=True)]
        self.words = np.array(words, np.int64)

    def __len__(self) -> int:
        return len(self.labels)

    def __call__(self, part: Part) -> dict[str, Tensor]:
        rows, bad = part.index, np.zeros(0, np.int64)
        index = self.index[rows]
        batch: dict[str, Tensor] = {}
        if self.tokens is not None:
            tokens = self.tokens[np.maximum(index, 0)]
            tokens[index < 0] = 0
            batch["tokens"] = torch.from_numpy(tokens)
        elif self.pixels is not None:
            present = np.flatnonzero(index.ravel() >= 0)
            found, ok = self.pixels(index.ravel()[present])
            side = self.pixels.size
            pixels = np.full((*index.shape, side, side, 3), 255, np.uint8)
            pixels.reshape(-1, side, side, 3)[present] = found
            bad = np.unique(index.ravel()[present[~ok]])
            kept = ~np.isin(index, bad).any(1)
            rows, index, pixels = rows[kept], index[kept], pixels[kept]
            batch["pixels"] = torch.from_numpy(pixels)
        titles = [self.titles[i] for i in rows]
        if self.word_dropout > 0:  # drawn from the step and the sample, so that resume and processes agree
            titles = [
                thinned(title, np.random.default_rng([part.step, int(row)]), self.word_dropout)
                for title, row in zip(titles, rows, strict=True)
            ]
        ids, separator, targets = collate(
            titles, [self.feedbacks[i] for i in rows], self.pad, predict_title=self.predict_title
        )
        labels = self.labels[part.whole]
        weight = float(len(labels)) if self.weights is None else float(self.weights[labels].sum())
        return batch | {
            "mask": torch.from_numpy((index >= 0).astype(np.float32)),
            "ids": ids,
            "separator": separator,
            "targets": targets,
            "labels": torch.from_numpy(self.labels[rows]),
            "rows": torch.from_numpy(rows),
            "bad": torch.from_numpy(bad),
            "samples": torch.tensor(len(part.whole)),
            "whole": torch.tensor([weight, float(self.words[part.whole].sum())], dtype=torch.float32),
        }


def thinned(title: Sequence[int], rng: np.random.Generator, share: float) -> list[int]:
    """Without a share of its tokens; the separator, last, stays."""
    kept = rng.random(len(title) - 1) >= share
    return [token for token, stays in zip(title, kept, strict=False) if stays] + [title[-1]]


def class_probabilities(
    forward: Logits, model: nn.Module, batches: Batches, size: int = 64, *, bad: set[int] | None = None
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Class probabilities (n, C) of all readable samples and their rows (n,); see `outputs`."""
    return outputs(lambda batch: torch.softmax(forward(batch).float(), -1), model, batches, size, bad=bad)


def outputs(
    forward: Callable[[dict[str, Tensor]], Tensor],
    model: nn.Module,
    batches: Batches,
    size: int = 64,
    *,
    bad: set[int] | None = None,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """What `forward` gives (n, ...) of all readable samples, and their rows (n,); the model is in eval mode meanwhile.

    Args:
        bad: collects the rows of images that could not be read.

    Raises:
        TrainingError: `no_readable_image` where no sample is left.
    """
    device, was = next(model.parameters()).device, model.training
    model.eval()
    found, rows = [], []
    everything = np.arange(len(batches))
    with torch.inference_mode():
        for at in range(0, len(batches), size):
            batch = batches(Part(everything[at : at + size], everything[at : at + size], 0))
            if bad is not None:
                bad.update(batch["bad"].tolist())
            if len(batch["labels"]):
                values = forward({key: value.to(device) for key, value in batch.items()})
                found.append(values.float().cpu().numpy())
                rows.append(batch["rows"].numpy())
    model.train(was)
    if not found:
        raise TrainingError("no_readable_image", "no sample to be scored has readable pictures.")
    return np.concatenate(found), np.concatenate(rows)


def class_weights(labels: npt.NDArray[np.int64], classes: int, exponent: float) -> npt.NDArray[np.float32] | None:
    """(C,) weights frequency ** -exponent with mean 1 over the samples; None for exponent 0."""
    if exponent == 0.0:
        return None
    counts = np.bincount(labels, minlength=classes).astype(np.float64)
    weights = np.where(counts > 0, np.maximum(counts, 1.0) ** -exponent, 0.0)
    found: npt.NDArray[np.float32] = (weights * counts.sum() / (weights * counts).sum()).astype(np.float32)
    return found
