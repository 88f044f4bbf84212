"""Turned pictures: which look the same, and the AUC without them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from bench import turned
from bench.turned import RULE, Turned, figures, likeness, told
from tests.test_choice import shop


def turns(picture: np.ndarray) -> list[float]:
    return [likeness(picture, np.ascontiguousarray(np.rot90(picture, quarter))) for quarter in (1, 2, 3)]


def test_a_disc_looks_the_same_turned_and_a_bottle_does_not() -> None:
    disc = np.full((160, 120, 3), 255, np.uint8)
    cv2.circle(disc, (60, 80), 44, (160, 30, 30), -1)
    assert min(turns(disc)) > 0.99  # the frame turns with it, the letterbox stays square
    bar = np.full((160, 120, 3), 255, np.uint8)
    bar[10:150, 50:70] = 20
    assert turns(bar)[1] > 0.99
    assert max(turns(bar)[0], turns(bar)[2]) < 0.3
    bar[10:60, 50:70] = (200, 200, 20)
    assert turns(bar)[1] < 0.9
    assert likeness(np.full_like(bar, 9), np.full_like(bar, 200)) == 1.0


def test_what_looks_the_same_is_left_out() -> None:
    same = np.array([[0.99, 0.5, 0.2], [0.1, 0.2, 0.3]])
    scores = np.array([[0.5, 0.1, 0.9, 0.8], [0.4, 0.7, 0.6, 0.3]])
    found = Turned(("a", "b"), same, {RULE: scores})

    def naive(positive: list[float]) -> float:
        return float(np.mean([p > n for p in positive for n in (0.5, 0.4)]))

    assert told(found, RULE, 1.0).value == pytest.approx(naive([0.1, 0.9, 0.8, 0.7, 0.6, 0.3]))
    assert told(found, RULE, 0.9).value == pytest.approx(naive([0.9, 0.8, 0.7, 0.6, 0.3]))
    assert figures(found)["look the same"] == {"above 0.8": 0.1667, "above 0.9": 0.1667, "above 0.95": 0.1667}


def test_the_command_prints_shares_and_aucs(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shop(tmp_path, "one", 0)
    turned.main([str(tiny_bundle), "one", "--data", str(tmp_path), "--count", "6"])
    text = capsys.readouterr().out
    assert "all: 6 pictures of" in text
    assert "look the same, correlation above 0.9: " in text
    assert "AUC of rotation: all 0." in text
