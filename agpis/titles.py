"""Whether a picture shows what the title names, from general knowledge: nouns, and what a classifier of ImageNet takes
photographs of such things for.

The sequence model learns titles from the shop it is trained on; of another shop's words it knows nothing, and another
product's title is chance to it. An image graph with the output `things` says for each line of `nouns.yaml` how much
likelier the picture shows such a thing than a product's picture usually does, and this module finds the lines that a
title names. English; titles without a noun of the list say nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

import numpy as np
import numpy.typing as npt
import yaml

FloatArray = npt.NDArray[np.float32]

LONGEST = 3
"""Words of a term."""
_PLURALS = (("ies", "y"), ("ches", "ch"), ("shes", "sh"), ("sses", "ss"), ("xes", "x"), ("s", ""))


@dataclass(frozen=True, slots=True)
class Noun:
    """A line of `nouns.yaml`."""

    words: tuple[str, ...]
    classes: tuple[int, ...]
    """Of ImageNet (ILSVRC 2012), 0 to 999."""


@lru_cache(1)
def nouns() -> tuple[Noun, ...]:
    """The lines of the list in the package, in order."""
    groups: Mapping[str, Mapping[str, Sequence[int]]] = yaml.safe_load(
        files("agpis").joinpath("nouns.yaml").read_text(encoding="utf-8")
    )
    return tuple(
        Noun(tuple(word.strip() for word in words.split(",")), tuple(classes))
        for group in groups.values()
        for words, classes in group.items()
    )


def stem(word: str) -> str:
    """A word without its plural's ending: "watches" and "watch" are one, and so are "jeans" and "jean"."""
    for ending, instead in _PLURALS:
        if word.endswith(ending) and not word.endswith("ss") and len(word) - len(ending) + len(instead) > 2:
            return word[: -len(ending)] + instead
    return word


def _words(text: str) -> list[str]:
    return [stem(word) for word in re.findall(r"[a-z0-9]+", text.lower())]


class Titles:
    """Finds nouns in titles.

    Args:
        lines: words of each column of `things`; see `Noun.words`.
    """

    def __init__(self, lines: Iterable[Sequence[str]]) -> None:
        self.columns: dict[tuple[str, ...], tuple[int, ...]] = {}
        for column, words in enumerate(lines):
            for word in words:
                key = tuple(_words(word))
                if column not in self.columns.get(key, ()):
                    self.columns[key] = (*self.columns.get(key, ()), column)

    def named(self, text: str) -> tuple[int, ...]:
        """Columns of the nouns in a text, in order; of "water bottle" those of the bottle for water, not of water."""
        words, found, at = _words(text), dict[int, None](), 0
        while at < len(words):
            for length in range(min(LONGEST, len(words) - at), 0, -1):
                if (columns := self.columns.get(tuple(words[at : at + length]))) is not None:
                    found.update(dict.fromkeys(columns))
                    at += length
                    break
            else:
                at += 1
        return tuple(found)

    def fits(self, title: str, category: str, things: npt.NDArray[np.floating]) -> FloatArray | None:
        """How much likelier than usual N pictures show one of the things that the title names, log ratios (N,); by the
        category where the title names none, and None where neither does.

        Args:
            things: (N, G) of the image graph.
        """
        columns = self.named(title) or self.named(category)
        return np.asarray(things[:, columns].max(axis=1), np.float32) if columns else None
