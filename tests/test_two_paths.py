"""The two paths of a model with comparison, weighed where it was not trained."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from agpis.models.comparison import TokenLayout
from agpis.models.muisc import Muisc, MuiscConfig
from agpis.two_paths import Paths, fit_paths, parts_of, weigh


def drawn(count: int = 1500) -> tuple[Tensor, Tensor]:
    """Truth follows half of the known path; the learned path is five times too loud and mostly noise."""
    draw = torch.Generator().manual_seed(0)
    signal = torch.randn(count, generator=draw)
    known = torch.zeros(count, 3)
    known[:, 0] = 2.0 * signal
    learned = torch.zeros(count, 3)
    learned[:, 0] = 5.0 * torch.randn(count, generator=draw) + 3.0
    good = torch.rand(count, generator=draw) < torch.sigmoid(signal + 1.0)
    return torch.stack([learned, known], dim=1), good


def test_the_noisy_path_is_turned_down_and_the_other_kept() -> None:
    logits, good = drawn()
    paths = fit_paths(logits, good)
    assert paths.learned < 0.1
    assert paths.knowledge == 1.0
    assert paths.pairs == pytest.approx(0.5, abs=0.15)
    assert paths.shift == pytest.approx(1.0 + 0.693, abs=0.4)  # two other classes of logit 0

    def loss(a: float, b: float, shift: float) -> float:
        found = a * logits[:, 0] + b * logits[:, 1]
        odds = found[:, 0] + shift - torch.logsumexp(found[:, 1:], 1)
        return float(torch.nn.functional.binary_cross_entropy_with_logits(odds, good.float()))

    best = loss(paths.learned, paths.pairs, paths.shift)
    assert best < loss(1.0, 1.0, 0.0)
    for factor in (0.5, 2.0):
        assert best <= loss(paths.learned, factor * paths.pairs, paths.shift)
    assert best <= loss(paths.learned, paths.pairs, paths.shift + 0.5)


def test_few_samples_leave_the_paths_as_they_are() -> None:
    logits, good = drawn(4)
    good[0], good[1] = True, False
    paths = fit_paths(logits, good)
    assert 0.1 < paths.learned < 4.0
    assert 0.1 < paths.pairs < 4.0


def test_verdicts_of_one_kind_weigh_nothing() -> None:
    logits, _ = drawn(10)
    with pytest.raises(ValueError, match="accepted and rejected"):
        fit_paths(logits, torch.ones(10, dtype=torch.bool))


@pytest.mark.parametrize("layout", [None, TokenLayout(side=2, learned=2, descriptor=3, colour=3, knowledge=4)])
def test_weights_hold_the_factors(layout: TokenLayout | None) -> None:
    torch.manual_seed(0)
    count = 4 if layout is None else layout.tokens
    config = MuiscConfig(
        classes=4, vocabulary=20, tokens=count, token_width=8, width=8, encoder_heads=2, encoder_mlp=16,
        decoder_blocks=1, decoder_heads=2, decoder_mlp=16, cross_attention=(0,), positions=8,
        compare=layout is None, layout=layout,
    )  # fmt: skip
    model = Muisc(config).eval()
    tokens, mask = torch.randn(2, 3, count, 8), torch.ones(2, 3)
    ids, separator = torch.tensor([[3, 4], [5, 4]]), torch.tensor([1, 1])
    factors = torch.tensor([0.25, 1.5, 0.5])[: 2 if layout is None else 3]
    with torch.no_grad():
        parts = parts_of(model, tokens, mask, ids, separator)
        assert parts.shape == (2, len(factors), 4)
        torch.testing.assert_close(parts.sum(1), model(tokens, mask, ids, separator)[0], rtol=1e-4, atol=1e-5)
        weigh(model, Paths(0.25, 1.5, 0.5, 0.7))
        found = model(tokens, mask, ids, separator)[0]
    expected = (factors[None, :, None] * parts).sum(1)
    expected[:, 0] += 0.7
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_model_without_comparison_stays_as_it_is() -> None:
    config = MuiscConfig(
        classes=4, vocabulary=20, tokens=4, token_width=8, width=8, encoder_heads=2, encoder_mlp=16, decoder_blocks=1,
        decoder_heads=2, decoder_mlp=16, cross_attention=(0,), positions=8,
    )  # fmt: skip
    model = Muisc(config)
    before = model.class_head.weight.clone()
    weigh(model, Paths(0.25, 1.5, 0.5, 0.7))
    assert torch.equal(before, model.class_head.weight)
