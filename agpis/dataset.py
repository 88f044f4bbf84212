"""Samples to arrays to train on. The names of what belongs to it (pixels, tokens, labels of images) are here too.

Without torch: training, evaluation and benchmarks read the same arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from agpis.data import Image
from agpis.errors import TrainingError
from agpis.image_labels import Group, ImageLabel, image_labels, label_arrays, primary_groups, read_image_labels
from agpis.image_tokens import Cached, cached_tokens
from agpis.pixels import BadImage, Pixels
from agpis.rulebook import Rulebook
from agpis.samples import SPLITS, Labelled

__all__ = [
    "BadImage",
    "Cached",
    "Group",
    "ImageLabel",
    "Pixels",
    "SequenceData",
    "cached_tokens",
    "image_labels",
    "label_arrays",
    "primary_groups",
    "read_image_labels",
    "sequence_data",
]

Int64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class SequenceData:
    """n sequences over M distinct images. Rows of `images` stay what they are in every selection of sequences."""

    images: tuple[Image, ...]
    """M images, distinct by location."""
    index: Int64
    """(n, K) row in `images`, -1 where the sequence is shorter."""
    labels: Int64
    """(n,) position in the rulebook's classes."""
    titles: tuple[str, ...]
    categories: tuple[str, ...]
    feedbacks: tuple[str, ...]
    """What the decoder shall write; "yes" where accepted."""
    skus: tuple[str, ...]
    splits: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def mask(self) -> Bool:
        """(n, K) True where there is an image."""
        return self.index >= 0

    def take(self, rows: npt.NDArray[Any] | Sequence[int]) -> SequenceData:
        """The sequences of these rows (m,), in that order, or where bool (n,) is True; the images stay the same."""
        given = np.asarray(rows)
        chosen = np.flatnonzero(given) if given.dtype == np.bool_ else given.astype(np.int64)
        texts = {
            name: tuple(getattr(self, name)[i] for i in chosen)
            for name in ("titles", "categories", "feedbacks", "skus", "splits")
        }
        return SequenceData(self.images, self.index[chosen], self.labels[chosen], **texts)

    def where(self, split: str) -> SequenceData:
        """The sequences of one split. Raises TrainingError `bad_split`."""
        if split not in SPLITS:
            raise TrainingError("bad_split", f"found split {split!r}, allowed are {', '.join(SPLITS)}")
        return self.take([i for i, side in enumerate(self.splits) if side == split])

    def kept(self, ok: Bool) -> SequenceData:
        """Without the sequences that need an image that is not ok (M,)."""
        if ok.shape != (len(self.images),):
            raise ValueError(f"ok has shape {ok.shape}, wanted ({len(self.images)},)")
        return self.take(np.flatnonzero((ok[self.index] | ~self.mask).all(axis=1)))


def sequence_data(samples: Sequence[Labelled], rulebook: Rulebook, k: int) -> SequenceData:
    """Samples as arrays; `k` images a sequence.

    Of a longer sequence the first image and the image to blame stay, then the first others, all in their order. Where
    k is 1 the image to blame stays alone. Raises TrainingError `bad_config` for k < 1 and for a label that is no class
    of the rulebook.
    """
    if k < 1:
        raise TrainingError("bad_config", f"found k {k}, allowed is 1 or more; give the length of the sequences")
    classes = {name: i for i, name in enumerate(rulebook.classes)}
    foreign = sorted({sample.label for sample in samples} - set(classes))
    if foreign:
        raise TrainingError(
            "bad_config",
            f"found labels {', '.join(foreign)}, which are no classes of the rulebook {rulebook.id!r};"
            " label the samples with the rulebook that is trained for",
        )
    rows: dict[str, int] = {}
    images: list[Image] = []
    index = np.full((len(samples), k), -1, np.int64)
    for i, sample in enumerate(samples):
        verdict = sample.verdict
        for place, at in enumerate(_kept_places(len(verdict.sequence), verdict.image_index, k)):
            image = Image(verdict.sequence[at], verdict.base)
            row = rows.setdefault(image.location, len(images))
            if row == len(images):
                images.append(image)
            index[i, place] = row
    return SequenceData(
        images=tuple(images),
        index=index,
        labels=np.array([classes[sample.label] for sample in samples], np.int64),
        titles=tuple(sample.verdict.title for sample in samples),
        categories=tuple(sample.verdict.category for sample in samples),
        feedbacks=tuple(sample.text for sample in samples),
        skus=tuple(sample.verdict.sku for sample in samples),
        splits=tuple(sample.split for sample in samples),
    )


def _kept_places(length: int, blamed: int | None, k: int) -> list[int]:
    """Positions, in order, of the images of a sequence that the model sees."""
    first = [0] if blamed is None else [0, blamed] if k > 1 else [blamed]
    return sorted(list(dict.fromkeys([*first, *range(length)]))[:k])
