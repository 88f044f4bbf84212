"""The words a reviewer would write about a broken rule: the rulebook's phrasings with their slots filled."""

from __future__ import annotations

from typing import Literal

from agpis.rulebook import Rule
from agpis.simulate.drawing import EVERYWHERE, Rng

Language = Literal["en", "zh"]
ACCEPTED = "yes"
"""Feedback of an accepted sequence (the paper, 3.4)."""

_WHERE: dict[Language, dict[str, str]] = {
    "en": {
        "top left": "at the top left",
        "top": "at the top",
        "top right": "at the top right",
        "left": "on the left",
        "centre": "in the middle",
        "right": "on the right",
        "bottom left": "at the bottom left",
        "bottom": "at the bottom",
        "bottom right": "at the bottom right",
    },
    "zh": {
        "top left": "左上角",
        "top": "上方",
        "top right": "右上角",
        "left": "左侧",
        "centre": "中间",
        "right": "右侧",
        "bottom left": "左下角",
        "bottom": "下方",
        "bottom right": "右下角",
    },
}


def place(where: str, language: Language) -> str:
    """`drawing.PLACES` word -> the phrase that fills {where}; "" for everywhere: then no phrase with a place fits."""
    return "" if where in ("", EVERYWHERE) else _WHERE[language][where]


def feedback(rule: Rule, rng: Rng, language: Language = "en", index: int | None = None, where: str = "") -> str:
    """One of the rule's phrasings. Those that name the image or the place are three times as likely as bare ones."""
    full = rule.phrases(language, index, place(where, language))
    bare = set(rule.phrases(language))
    weights = [1.0 if phrase in bare else 3.0 for phrase in full]
    return full[int(rng.choice(len(full), p=[w / sum(weights) for w in weights]))]
