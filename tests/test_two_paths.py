"""The two paths of a model with comparison, weighed where it was not trained."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from agpis.models.muisc import Muisc, MuiscConfig
from agpis.two_paths import Paths, fit_paths, weigh


def drawn(count: int = 1500) -> tuple[Tensor, Tensor, Tensor]:
    """Truth follows half of the known path; the learned path is five times too loud and mostly noise."""
    draw = torch.Generator().manual_seed(0)
    signal = torch.randn(count, generator=draw)
    known = torch.zeros(count, 3)
    known[:, 0] = 2.0 * signal
    learned = torch.zeros(count, 3)
    learned[:, 0] = 5.0 * torch.randn(count, generator=draw) + 3.0
    good = torch.rand(count, generator=draw) < torch.sigmoid(signal + 1.0)
    return learned, known, good


def test_the_noisy_path_is_turned_down_and_the_other_kept() -> None:
    learned, known, good = drawn()
    paths = fit_paths(learned, known, good)
    assert paths.learned < 0.1
    assert paths.known == pytest.approx(0.5, abs=0.15)
    assert paths.shift == pytest.approx(1.0 + 0.693, abs=0.4)  # two other classes of logit 0

    def loss(a: float, b: float, shift: float) -> float:
        logits = a * learned + b * known
        odds = logits[:, 0] + shift - torch.logsumexp(logits[:, 1:], 1)
        return float(torch.nn.functional.binary_cross_entropy_with_logits(odds, good.float()))

    best = loss(paths.learned, paths.known, paths.shift)
    assert best < loss(1.0, 1.0, 0.0)
    for factor in (0.5, 2.0):
        assert best <= loss(paths.learned, factor * paths.known, paths.shift)
    assert best <= loss(paths.learned, paths.known, paths.shift + 0.5)


def test_few_samples_leave_the_paths_as_they_are() -> None:
    learned, known, good = drawn(4)
    good[0], good[1] = True, False
    paths = fit_paths(learned, known, good)
    assert 0.1 < paths.learned < 4.0
    assert 0.1 < paths.known < 4.0


def test_verdicts_of_one_kind_weigh_nothing() -> None:
    learned, known, _ = drawn(10)
    with pytest.raises(ValueError, match="accepted and rejected"):
        fit_paths(learned, known, torch.ones(10, dtype=torch.bool))


def test_weights_hold_the_factors() -> None:
    torch.manual_seed(0)
    config = MuiscConfig(
        classes=4, vocabulary=20, tokens=4, token_width=8, width=8, encoder_heads=2, encoder_mlp=16, decoder_blocks=1,
        decoder_heads=2, decoder_mlp=16, cross_attention=(0,), positions=8, compare=True,
    )  # fmt: skip
    model = Muisc(config).eval()
    tokens, mask = torch.randn(2, 3, 4, 8), torch.ones(2, 3)
    ids, separator = torch.tensor([[3, 4], [5, 4]]), torch.tensor([1, 1])
    with torch.no_grad():
        known = model.known(tokens, mask)
        learned = model(tokens, mask, ids, separator)[0] - known
        weigh(model, Paths(0.25, 1.5, 0.7))
        found = model(tokens, mask, ids, separator)[0]
    expected = 0.25 * learned + 1.5 * known
    expected[:, 0] += 0.7
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_model_without_comparison_stays_as_it_is() -> None:
    config = MuiscConfig(
        classes=4, vocabulary=20, tokens=4, token_width=8, width=8, encoder_heads=2, encoder_mlp=16, decoder_blocks=1,
        decoder_heads=2, decoder_mlp=16, cross_attention=(0,), positions=8,
    )  # fmt: skip
    model = Muisc(config)
    before = model.class_head.weight.clone()
    weigh(model, Paths(0.25, 1.5, 0.7))
    assert torch.equal(before, model.class_head.weight)
