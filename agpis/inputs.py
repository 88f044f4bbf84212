"""Pixels and text to the named inputs of the graphs; used by training and runtime alike.

Normalisation is inside the graphs, so pixels stay uint8. Text goes through the bundle's own tokenizer
(`tokenizer.json` of the package `tokenizers`); the decoder reads title and separator, then writes the feedback.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from agpis.images import Picture, Size, letterbox

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PAD, SEPARATOR, END = "<pad>", "<sep>", "<end>"
SPECIAL = (PAD, SEPARATOR, END)

Pixels = npt.NDArray[np.uint8]
Ids = npt.NDArray[np.int64]


def stack(pictures: Sequence[Picture | Pixels], size: Size, fill: int = 255) -> Pixels:
    """Decoded pictures to the image graph's `pixels`: uint8 (N, H, W, 3), each through THE one resize.

    An array that already has the size is taken as it is.
    """
    batch = np.empty((len(pictures), size.height, size.width, 3), dtype=np.uint8)
    for place, picture in zip(batch, pictures, strict=True):
        pixels = picture.pixels if isinstance(picture, Picture) else picture
        place[...] = pixels if pixels.shape == place.shape else letterbox(pixels, size, fill)
    return batch


class Text:
    """Title and feedback to token ids and back.

    Args:
        path: `tokenizer.json` with the tokens <pad>, <sep> and <end> (or the names given).
        max_title: tokens kept of category and title together, from the start.
        max_feedback: tokens the decoder may write.
        category: put the category before the title (the authors' later notes; off in the paper).
    """

    def __init__(
        self,
        path: Path,
        *,
        max_title: int,
        max_feedback: int,
        category: bool = False,
        separator: str = SEPARATOR,
        end: str = END,
        pad: str = PAD,
    ) -> None:
        from tokenizers import Tokenizer

        self.tokenizer: Tokenizer = Tokenizer.from_file(str(path))
        self.max_title, self.max_feedback, self.category = max_title, max_feedback, category
        found = {name: self.tokenizer.token_to_id(name) for name in (separator, end, pad)}
        missing = [name for name, token in found.items() if token is None]
        if missing:
            raise ValueError(
                f"{path} lacks the tokens {missing}; a tokenizer of AGPIS has {separator}, {end} and {pad}"
            )
        ids = {name: token for name, token in found.items() if token is not None}
        self.separator, self.end, self.pad = ids[separator], ids[end], ids[pad]

    @property
    def vocabulary(self) -> int:
        """Number of token ids."""
        return int(self.tokenizer.get_vocab_size())

    def title(self, title: str, category: str = "") -> list[int]:
        """Ids of the title (behind the category, where the bundle wants it), cut at `max_title`, separator last."""
        words = f"{category} > {title}" if self.category and category else title
        ids: list[int] = self.tokenizer.encode(words, add_special_tokens=False).ids
        return [*ids[: self.max_title], self.separator]

    def feedback(self, feedback: str) -> list[int]:
        """Ids of the feedback with the end token, cut at `max_feedback`."""
        ids: list[int] = self.tokenizer.encode(feedback, add_special_tokens=False).ids
        return [*ids[: self.max_feedback - 1], self.end]

    def words(self, ids: Sequence[int]) -> str:
        """Inverse of `feedback`; special tokens left out."""
        return str(self.tokenizer.decode([int(i) for i in ids], skip_special_tokens=True)).strip()


def train_tokenizer(texts: Sequence[str], vocabulary: int) -> Tokenizer:
    """A byte-level BPE of `vocabulary` entries trained on `texts`; every string can be written with it.

    Deterministic: the same texts in the same order give the same tokenizer.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer
