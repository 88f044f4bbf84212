"""Computed comparison of a sequence's images, against plain loops."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from agpis.models.comparison import PAIR_FACTS, Compare, Shortcut, TokenLayout

pytestmark = pytest.mark.usefixtures("one_thread")

K, P, D = 3, 9, 12
LAYOUT = TokenLayout(side=3, learned=4, descriptor=8, colour=3, knowledge=5)


def plain(count: int = 2, seed: int = 0, tokens: int = P) -> tuple[Tensor, Tensor]:
    """Tokens (S, K, P, D) with an absent image in the second sequence, whose tokens are not read."""
    draw = torch.Generator().manual_seed(seed)
    mask = torch.ones(count, K)
    mask[1:, 2] = 0.0
    return torch.randn(count, K, tokens, D, generator=draw) * 3 + 1, mask


def summed(parts: tuple[Tensor, ...]) -> Tensor:
    """The shortcut's logits in all."""
    return torch.stack(parts).sum(0)


def naive(tokens: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Layer norm, normalise, maximum; one pair of images at a time, in double precision."""
    s, k, p, _ = tokens.shape
    x = tokens.astype(np.float64)
    x = x - x.mean(-1, keepdims=True)
    x = x / np.linalg.norm(x, axis=-1, keepdims=True)
    whole = x.mean(2)
    whole = whole / np.linalg.norm(whole, axis=-1, keepdims=True)
    match, facts = np.zeros((s, k, p, k)), np.zeros((s, k, PAIR_FACTS, k))
    for n in range(s):
        for i in range(k):
            for j in range(k):
                if i == j or not mask[n, j]:
                    continue
                best, back = (x[n, i] @ x[n, j].T).max(1), (x[n, j] @ x[n, i].T).max(1)
                match[n, i, :, j] = best
                returned = back.mean() if mask[n, i] else 0.0  # how much of j is found in an absent i
                cosine = whole[n, i] @ whole[n, j]
                facts[n, i, :, j] = best.mean(), (best > 0.8).mean(), returned, cosine, best.min(), 0.0
    return match, facts.reshape(s, k, PAIR_FACTS * k)


def test_facts_of_plain_tokens_are_what_loops_give() -> None:
    tokens, mask = plain(4)
    tokens[0, 1] = tokens[0, 0].flip(0)  # a copy, its places in another order
    compare = Compare(K, 16, None)
    match, facts = compare.facts(tokens, mask)
    expected = naive(tokens.numpy(), mask.numpy())
    np.testing.assert_allclose(match.numpy(), expected[0], atol=1e-5)
    np.testing.assert_allclose(facts.numpy(), expected[1], atol=1e-5)


def test_a_copy_is_found_whatever_its_scale() -> None:
    tokens, mask = plain(1)
    tokens[0, 2] = 5.0 * tokens[0, 0] + 2.0
    match, facts = Compare(K, 16, None).facts(tokens, mask)
    torch.testing.assert_close(match[0, 0, :, 2], torch.ones(P))
    mean, high, back, cosine, worst, _ = facts[0, 0].view(PAIR_FACTS, K)[:, 2].tolist()
    assert (mean, high, back, cosine, worst) == pytest.approx((1.0,) * 5, abs=1e-5)
    assert match[0, 0, :, 1].max() < 0.99


def test_absent_images_and_the_image_itself_give_zeros() -> None:
    tokens, mask = plain(2)
    tokens[1, 2] = 0.0
    match, facts = Compare(K, 16, None).facts(tokens, mask)
    assert not match[:, range(K), :, range(K)].any()
    assert not match[1, :, :, 2].any()
    pairs = facts.view(2, K, PAIR_FACTS, K)
    assert not pairs[:, range(K), :, range(K)].any()
    assert not pairs[1, :, :, 2].any()
    assert not pairs[1, 2].any()


def test_an_absent_image_changes_nothing_for_the_others() -> None:
    tokens, mask = plain(2)
    other = tokens.clone()
    other[1, 2] = 100.0 * torch.randn(P, D, generator=torch.Generator().manual_seed(9))
    compare = Compare(K, 16, None)
    for one, two in zip(compare(tokens, mask), compare(other, mask), strict=True):
        torch.testing.assert_close(one[1, :2], two[1, :2])


def test_the_signature_is_compared_apart() -> None:
    tokens, mask = plain(2)
    own = torch.tensor([[3.0, 0.0], [0.0, 2.0], [3.0, 4.0]])
    wide = torch.cat([tokens, own[None, :, None].expand(2, K, P, 2)], dim=-1)
    wide[1, 2] = tokens[1, 2] = 0.0
    expected, facts = Compare(K, 16, None).facts(tokens, mask)
    match, found = Compare(K, 16, None, signature=2).facts(wide, mask)
    torch.testing.assert_close(match, expected)
    pairs, others = found.view(2, K, PAIR_FACTS, K), facts.view(2, K, PAIR_FACTS, K)
    torch.testing.assert_close(pairs[0, :, :-1], others[0, :, :-1])
    torch.testing.assert_close(pairs[0, :, -1], torch.tensor([[0.0, 0.0, 0.6], [0.0, 0.0, 0.8], [0.6, 0.8, 0.0]]))
    assert not pairs[1, :, -1].any()


def test_a_layout_says_where_the_signature_is() -> None:
    layout = replace(LAYOUT, signature=4)
    draw = torch.Generator().manual_seed(2)
    tokens, mask = torch.randn(1, K, layout.tokens, layout.width, generator=draw), torch.ones(1, K)
    tokens[0, 1, -1, -4:] = 2.0 * tokens[0, 0, -1, -4:]
    compare = Compare(K, 16, layout)
    before = compare.facts(tokens, mask)[1].view(K, PAIR_FACTS, K)
    assert float(before[0, -1, 1]) == pytest.approx(1.0)
    tokens[0, 1, -1, -4:] *= -1.0
    after = compare.facts(tokens, mask)[1].view(K, PAIR_FACTS, K)
    assert float(after[0, -1, 1]) == pytest.approx(-1.0)
    torch.testing.assert_close(after[:, :-1], before[:, :-1])  # no part of the embedding


def test_the_class_token_is_left_out() -> None:
    tokens, mask = plain(2, tokens=P + 1)
    with_class, without = Compare(K, 16, None, class_token=True), Compare(K, 16, None)
    for one, two in zip(with_class.facts(tokens, mask), without.facts(tokens[:, :, 1:], mask), strict=True):
        torch.testing.assert_close(one, two)


@pytest.mark.parametrize("layout", [None, LAYOUT], ids=["plain", "layout"])
def test_gradients_flow(layout: TokenLayout | None) -> None:
    shape = (2, K, P, D) if layout is None else (2, K, layout.tokens, layout.width)
    tokens = torch.randn(shape, generator=torch.Generator().manual_seed(1)).requires_grad_()
    mask = torch.tensor([[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]])
    compare, shortcut = Compare(K, 16, layout), Shortcut(K, 5, layout)
    grid, image, facts = compare(tokens, mask)
    assert (grid.shape, image.shape, facts.shape) == ((2, K, P, 16), (2, K, 16), (2, K, PAIR_FACTS * K))
    (grid.square().sum() + image.square().sum() + summed(shortcut(tokens, mask, facts)).square().sum()).backward()
    assert tokens.grad is not None
    assert bool(torch.isfinite(tokens.grad).all())
    assert bool(tokens.grad.abs().sum((2, 3))[0].min() > 0)
    for module in (compare, shortcut):
        for name, parameter in module.named_parameters():
            assert parameter.grad is not None, name
            assert bool(parameter.grad.any()), name


def test_flat_tokens_are_defined() -> None:
    """All columns alike, as an empty picture may give: no direction, so no cosine, and no division by zero."""
    tokens = torch.full((1, K, P, D), 2.0).requires_grad_()
    match, facts = Compare(K, 16, None).facts(tokens, torch.ones(1, K))
    assert not match.detach().any()
    facts.sum().backward()
    assert tokens.grad is not None
    assert bool(torch.isfinite(tokens.grad).all())


def test_half_precision_of_autocast_does_not_reach_the_products() -> None:
    tokens, mask = plain(2)
    tokens = tokens + 30.0  # differences of large products
    compare = Compare(K, 16, None)
    exact = compare.facts(tokens, mask)[0]
    with torch.autocast("cpu", torch.bfloat16):
        found = compare.facts(tokens, mask)[0]
    torch.testing.assert_close(found, exact, atol=1e-5, rtol=0)


def test_facts_of_a_layout_read_descriptors_embedding_and_colours() -> None:
    draw = np.random.default_rng(3)
    tokens = draw.normal(size=(1, K, LAYOUT.tokens, LAYOUT.width)).astype(np.float32)
    grid = tokens[:, :, :P, 4:12]
    grid /= np.linalg.norm(grid, axis=-1, keepdims=True)
    embedding = tokens[:, :, P, 5:]
    embedding /= np.linalg.norm(embedding, axis=-1, keepdims=True)
    match, facts = Compare(K, 16, LAYOUT).facts(torch.from_numpy(tokens), torch.ones(1, K))
    pairs = facts.view(1, K, PAIR_FACTS, K).numpy()
    for i, j in ((0, 1), (2, 0)):
        best = (grid[0, i] @ grid[0, j].T).max(1)
        np.testing.assert_allclose(match[0, i, :, j].numpy(), best, atol=1e-5)
        colours = tokens[0, :, :P, 12:].mean(1)
        expected = [
            best.mean(),
            (best > 0.8).mean(),
            (grid[0, j] @ grid[0, i].T).max(1).mean(),
            embedding[0, i] @ embedding[0, j],
            np.abs(colours[i] - colours[j]).sum(),
            0.0,  # no signature
        ]
        np.testing.assert_allclose(pairs[0, i, :, j], expected, atol=1e-5)


@pytest.mark.parametrize("layout", [None, LAYOUT], ids=["plain", "layout"])
def test_the_shortcut_sees_present_images_alone(layout: TokenLayout | None) -> None:
    torch.manual_seed(0)
    shape = (2, K, P, D) if layout is None else (2, K, layout.tokens, layout.width)
    tokens = torch.randn(shape)
    mask = torch.tensor([[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]])
    compare, shortcut = Compare(K, 16, layout), Shortcut(K, 4, layout)
    logits = summed(shortcut(tokens, mask, compare.facts(tokens, mask)[1]))
    assert logits.shape == (2, 4)
    other = tokens.clone()
    other[1, 2] = 7.0
    torch.testing.assert_close(summed(shortcut(other, mask, compare.facts(other, mask)[1]))[1], logits[1])
    other[1, 1] = tokens[1, 0]  # a copy is news
    assert not torch.allclose(summed(shortcut(other, mask, compare.facts(other, mask)[1]))[1], logits[1])


@pytest.mark.parametrize("k", [1, 3])
def test_the_shortcut_takes_one_image(k: int) -> None:
    torch.manual_seed(0)
    tokens, mask = torch.randn(1, k, LAYOUT.tokens, LAYOUT.width), torch.zeros(1, k)
    mask[:, 0] = 1.0
    shortcut = Shortcut(k, 4, LAYOUT)
    first = summed(shortcut(tokens, mask, Compare(k, 16, LAYOUT).facts(tokens, mask)[1]))
    assert bool(torch.isfinite(first).all())
    knowledge = tokens.clone()
    knowledge[:, 0, P, : LAYOUT.knowledge] += 1.5 * torch.arange(LAYOUT.knowledge)
    assert not torch.allclose(
        summed(shortcut(knowledge, mask, Compare(k, 16, LAYOUT).facts(knowledge, mask)[1])), first
    )
    looks = tokens.clone()
    looks[:, 0, :P, : LAYOUT.learned] += 1.0  # what stage 1 says, and the pairs, are all that it reads
    torch.testing.assert_close(summed(shortcut(looks, mask, Compare(k, 16, LAYOUT).facts(looks, mask)[1])), first)


def test_pairs_alone_teach_the_shortcut_which_sequences_hold_a_copy() -> None:
    draw = torch.Generator().manual_seed(5)
    tokens = torch.randn(96, K, P, D, generator=draw)
    labels = torch.arange(96) % 2
    tokens[labels == 1, 2] = tokens[labels == 1, 0] + 0.1 * torch.randn(48, P, D, generator=draw)
    mask = torch.ones(96, K)
    torch.manual_seed(0)
    compare = Compare(K, 16, None)
    model = nn.ModuleDict({"compare": compare, "shortcut": Shortcut(K, 2, None)})
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    facts = compare.facts(tokens, mask)[1]
    for _ in range(60):
        loss = nn.functional.cross_entropy(summed(model["shortcut"](tokens[:64], mask[:64], facts[:64])), labels[:64])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    found = summed(model["shortcut"](tokens[64:], mask[64:], facts[64:])).argmax(1)
    assert bool((found == labels[64:]).float().mean() > 0.95)
