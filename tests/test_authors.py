"""Parity with the authors' published code: their weights and outputs, and an independent reference for other shapes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from agpis.errors import TrainingError
from agpis.models.authors import TOWER, load_authors, load_authors_tower
from agpis.models.backbones import BackboneConfig, HubBackbone, new_backbone
from agpis.models.muisc import Muisc, MuiscConfig, losses

PARITY = Path(__file__).parent / "data" / "muisc-parity"
State = dict[str, torch.Tensor]


def vit(width: int, layers: int, heads: int, mlp: int, size: int, patch: int) -> HubBackbone:
    """A ViT of that form with new weights."""
    config = {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": mlp,
        "image_size": size,
        "patch_size": patch,
        "layer_norm_eps": 1e-12,
    }
    kept = {"model_type": "vit", "config": config, "mean": [0.5] * 3, "std": [0.5] * 3}
    backbone = new_backbone(BackboneConfig("authors", pretrained=False, size=size, architecture=kept))
    assert isinstance(backbone, HubBackbone)
    return backbone.eval()


def authors_model() -> tuple[HubBackbone, Muisc]:
    config = json.loads((PARITY / "config.json").read_text())
    image, encoder, decoder = config["image_encoder"], config["sequence_encoder"], config["decoder"]
    backbone = vit(*(image[key] for key in ("hidden", "layers", "heads", "mlp", "image", "patch")))
    assert (backbone.tokens, backbone.width, backbone.class_token) == (image["tokens_per_image"], image["hidden"], True)
    shape = MuiscConfig(
        classes=config["classes"],
        vocabulary=decoder["vocab"],
        tokens=backbone.tokens,
        token_width=backbone.width,
        k=config["images_per_sequence"],
        width=decoder["hidden"],
        encoder_blocks=encoder["layers"],
        encoder_heads=encoder["heads"],
        encoder_mlp=encoder["mlp"],
        decoder_blocks=decoder["layers"],
        decoder_heads=decoder["heads"],
        decoder_mlp=4 * decoder["hidden"],
        cross_attention=tuple(decoder["cross_attention_in_blocks"]),
        positions=decoder["positions"],
        encoder_epsilon=encoder["layer_norm_eps"],
        decoder_epsilon=decoder["layer_norm_eps"],
    )
    return backbone, Muisc(shape).eval()


def test_equal_to_the_authors_code_from_pixels_on() -> None:
    state, data = load_file(PARITY / "weights.safetensors"), load_file(PARITY / "io.safetensors")
    backbone, model = authors_model()
    load_authors_tower(backbone, state)
    load_authors(model, state)
    pixels = data["pixel_values"]  # (S, K, 3, H, W), normalised already
    mask = torch.ones(pixels.shape[:2])
    with torch.inference_mode():
        tokens = backbone.features(pixels.flatten(0, 1)).unflatten(0, pixels.shape[:2])
        memory = model.encode(tokens, mask)
        classes, words = model(tokens, mask, data["input_ids"], data["separator_index"])
        targets = data["labels"] != -100
        _, mcc, nlg = losses(model.config, classes, words, data["class_labels"], data["input_ids"], targets)
    torch.testing.assert_close(tokens, data["image_features"], atol=1e-4, rtol=0)
    torch.testing.assert_close(memory, data["sequence_features"], atol=1e-4, rtol=0)
    torch.testing.assert_close(classes, data["class_logits"], atol=1e-4, rtol=0)
    real = data["attention_mask"].bool()  # what padding positions say is of no use to anybody
    torch.testing.assert_close(words[real], data["lm_logits"][real], atol=1e-4, rtol=0)
    torch.testing.assert_close(mcc, data["mcc_loss"][0], atol=1e-4, rtol=0)
    torch.testing.assert_close(nlg, data["nlg_loss"][0], atol=1e-4, rtol=0)


def test_uint8_pictures_are_normalised_into_the_same_features() -> None:
    backbone, _ = authors_model()
    pixels = torch.randint(0, 256, (2, 48, 48, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        images = (pixels.permute(0, 3, 1, 2) / 255 - 0.5) / 0.5
        torch.testing.assert_close(backbone(pixels), backbone.features(images), atol=1e-6, rtol=0)


def test_authors_weights_are_taken_strictly() -> None:
    state = load_file(PARITY / "weights.safetensors")
    del state["decoder.transformer.ln_f.bias"], state[f"{TOWER}layernorm.bias"]
    state["decoder.other"] = state[f"{TOWER}other"] = torch.zeros(1)
    state["encoder.wpe.weight"] = torch.zeros(31, 32)
    backbone, model = authors_model()
    with pytest.raises(TrainingError) as caught:
        load_authors(model, state)
    for part in ("missing ['decoder.transformer.ln_f.bias']", "foreign ['decoder.other']", "shape ['image_positions']"):
        assert part in caught.value.message
    with pytest.raises(TrainingError, match="the authors' image tower does not fit") as caught:
        load_authors_tower(backbone, state)
    for part in ("missing ['layernorm.bias']", "unexpected ['other']"):
        assert part in caught.value.message
    with pytest.raises(TrainingError, match="the backbone is tiny"):
        load_authors_tower(new_backbone(BackboneConfig("tiny", pretrained=False)), state)


# another form: 4 decoder blocks, cross-attention in block 1, 2 encoder blocks, 3 tower layers, K = 2

WIDTH, HEADS, MLP, WORDS, TEXT, K, TOKENS, CLASSES = 24, 3, 40, 30, 16, 2, 5, 7
TOWER_LAYERS, ENCODER_BLOCKS, DECODER_BLOCKS, CROSS = 3, 2, 4, 1
VIT_EPSILON, GPT2_EPSILON = 1e-12, 1e-5


def other_state() -> State:
    """Weights of that form in the authors' naming."""
    generator = torch.Generator().manual_seed(5)
    state: State = {}

    def add(key: str, *shape: int) -> None:
        state[key] = 0.3 * torch.randn(*shape, generator=generator)

    def linear(key: str, out: int, into: int) -> None:
        add(f"{key}.weight", out, into)
        add(f"{key}.bias", out)

    def conv1d(key: str, into: int, out: int) -> None:  # GPT-2's transposed linear layer
        add(f"{key}.weight", into, out)
        add(f"{key}.bias", out)

    def norm(key: str) -> None:
        add(f"{key}.weight", WIDTH)
        state[f"{key}.weight"] += 1.0
        add(f"{key}.bias", WIDTH)

    tower = "encoder.image_tower"
    add(f"{tower}.embeddings.cls_token", 1, 1, WIDTH)
    add(f"{tower}.embeddings.position_embeddings", 1, TOKENS, WIDTH)
    add(f"{tower}.embeddings.patch_embeddings.projection.weight", WIDTH, 3, 8, 8)
    add(f"{tower}.embeddings.patch_embeddings.projection.bias", WIDTH)
    for j in range(TOWER_LAYERS):
        layer = f"{tower}.encoder.layer.{j}"
        for name in ("query", "key", "value"):
            linear(f"{layer}.attention.attention.{name}", WIDTH, WIDTH)
        linear(f"{layer}.attention.output.dense", WIDTH, WIDTH)
        linear(f"{layer}.intermediate.dense", MLP, WIDTH)
        linear(f"{layer}.output.dense", WIDTH, MLP)
        norm(f"{layer}.layernorm_before")
        norm(f"{layer}.layernorm_after")
    norm(f"{tower}.layernorm")
    linear(f"{tower}.pooler.dense", WIDTH, WIDTH)
    add("encoder.wpe.weight", K * TOKENS, WIDTH)
    for j in range(ENCODER_BLOCKS):
        block = f"encoder.self.{j}"
        for name in ("query", "key", "value"):
            linear(f"{block}.attention.self.{name}", WIDTH, WIDTH)
        linear(f"{block}.attention.output.dense", WIDTH, WIDTH)
        norm(f"{block}.attention.output.LayerNorm")
        linear(f"{block}.intermediate.dense", MLP, WIDTH)
        linear(f"{block}.output.dense", WIDTH, MLP)
        norm(f"{block}.output.LayerNorm")
    add("decoder.transformer.wte.weight", WORDS, WIDTH)
    add("decoder.transformer.wpe.weight", TEXT, WIDTH)
    for i in range(DECODER_BLOCKS):
        block = f"decoder.transformer.h.{i}"
        for name in ("ln_1", "ln_2", "ln_cross_attn"):
            norm(f"{block}.{name}")
        conv1d(f"{block}.attn.c_attn", WIDTH, 3 * WIDTH)
        conv1d(f"{block}.attn.c_proj", WIDTH, WIDTH)
        conv1d(f"{block}.crossattention.q_attn", WIDTH, WIDTH)
        conv1d(f"{block}.crossattention.c_attn", WIDTH, 2 * WIDTH)
        conv1d(f"{block}.crossattention.c_proj", WIDTH, WIDTH)
        conv1d(f"{block}.mlp.c_fc", WIDTH, MLP)
        conv1d(f"{block}.mlp.c_proj", MLP, WIDTH)
    norm("decoder.transformer.ln_f")
    linear("decoder.multiple_choice_head.summary", CLASSES, WIDTH)
    state["decoder.lm_head.weight"] = state["decoder.transformer.wte.weight"].clone()
    return state


def reference(
    state: State, pixels: torch.Tensor, ids: torch.Tensor, separator: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Image features, sequence features, class logits, LM logits, written out with plain torch operations.

    pixels (S, K, 3, 16, 16), ids (S, T).
    """

    def linear(x: torch.Tensor, key: str) -> torch.Tensor:
        return x @ state[f"{key}.weight"].T + state[f"{key}.bias"]

    def conv1d(x: torch.Tensor, key: str) -> torch.Tensor:
        return x @ state[f"{key}.weight"] + state[f"{key}.bias"]

    def norm(x: torch.Tensor, key: str, epsilon: float) -> torch.Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scale = torch.sqrt((centred * centred).mean(-1, keepdim=True) + epsilon)
        return centred / scale * state[f"{key}.weight"] + state[f"{key}.bias"]

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, causal: bool = False) -> torch.Tensor:
        heads = []
        step = WIDTH // HEADS
        for h in range(HEADS):
            part = slice(h * step, (h + 1) * step)
            scores = q[..., part] @ k[..., part].transpose(-1, -2) / step**0.5
            if causal:
                scores = scores + torch.full(scores.shape[-2:], float("-inf")).triu(1)
            heads.append(torch.softmax(scores, -1) @ v[..., part])
        return torch.cat(heads, -1)

    tower = "encoder.image_tower"
    kernel = state[f"{tower}.embeddings.patch_embeddings.projection.weight"].reshape(WIDTH, -1)
    cells = pixels.flatten(0, 1).unfold(2, 8, 8).unfold(3, 8, 8)  # (S*K, 3, 2, 2, 8, 8)
    cells = cells.permute(0, 2, 3, 1, 4, 5).reshape(len(cells), 4, -1)
    x = cells @ kernel.T + state[f"{tower}.embeddings.patch_embeddings.projection.bias"]
    x = torch.cat([state[f"{tower}.embeddings.cls_token"].repeat(len(x), 1, 1), x], 1)
    x = x + state[f"{tower}.embeddings.position_embeddings"]
    for j in range(TOWER_LAYERS):
        layer = f"{tower}.encoder.layer.{j}"
        y = norm(x, f"{layer}.layernorm_before", VIT_EPSILON)
        q, k, v = (linear(y, f"{layer}.attention.attention.{name}") for name in ("query", "key", "value"))
        x = x + linear(attend(q, k, v), f"{layer}.attention.output.dense")
        y = F.gelu(linear(norm(x, f"{layer}.layernorm_after", VIT_EPSILON), f"{layer}.intermediate.dense"))
        x = x + linear(y, f"{layer}.output.dense")
    features = norm(x, f"{tower}.layernorm", VIT_EPSILON).reshape(len(pixels), K, TOKENS, WIDTH)

    m = features.reshape(len(pixels), K * TOKENS, WIDTH) + state["encoder.wpe.weight"]
    for j in range(ENCODER_BLOCKS):
        block = f"encoder.self.{j}"
        q, k, v = (linear(m, f"{block}.attention.self.{name}") for name in ("query", "key", "value"))
        y = linear(attend(q, k, v), f"{block}.attention.output.dense")
        m = norm(m + y, f"{block}.attention.output.LayerNorm", VIT_EPSILON)
        y = linear(F.gelu(linear(m, f"{block}.intermediate.dense")), f"{block}.output.dense")
        m = norm(m + y, f"{block}.output.LayerNorm", VIT_EPSILON)

    t = state["decoder.transformer.wte.weight"][ids] + state["decoder.transformer.wpe.weight"][: ids.shape[1]]
    for i in range(DECODER_BLOCKS):
        block = f"decoder.transformer.h.{i}"
        q, k, v = conv1d(norm(t, f"{block}.ln_1", GPT2_EPSILON), f"{block}.attn.c_attn").split(WIDTH, -1)
        t = t + conv1d(attend(q, k, v, causal=True), f"{block}.attn.c_proj")
        if i == CROSS:
            q = conv1d(norm(t, f"{block}.ln_cross_attn", GPT2_EPSILON), f"{block}.crossattention.q_attn")
            k, v = conv1d(m, f"{block}.crossattention.c_attn").split(WIDTH, -1)
            t = t + conv1d(attend(q, k, v), f"{block}.crossattention.c_proj")
        y = conv1d(norm(t, f"{block}.ln_2", GPT2_EPSILON), f"{block}.mlp.c_fc")
        y = 0.5 * y * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (y + 0.044715 * y**3)))
        t = t + conv1d(y, f"{block}.mlp.c_proj")
    t = norm(t, "decoder.transformer.ln_f", GPT2_EPSILON)
    classes = linear(t[torch.arange(len(t)), separator], "decoder.multiple_choice_head.summary")
    return features, m, classes, t @ state["decoder.lm_head.weight"].T


def test_another_form_loads_by_the_documented_mapping(tmp_path: Path) -> None:
    save_file(other_state(), tmp_path / "theirs.safetensors")
    state = load_file(tmp_path / "theirs.safetensors")
    backbone = vit(WIDTH, TOWER_LAYERS, HEADS, MLP, 16, 8)
    shape = MuiscConfig(
        classes=CLASSES,
        vocabulary=WORDS,
        tokens=TOKENS,
        token_width=WIDTH,
        k=K,
        width=WIDTH,
        encoder_blocks=ENCODER_BLOCKS,
        encoder_heads=HEADS,
        encoder_mlp=MLP,
        decoder_blocks=DECODER_BLOCKS,
        decoder_heads=HEADS,
        decoder_mlp=MLP,
        cross_attention=(CROSS,),
        positions=TEXT,
        encoder_epsilon=VIT_EPSILON,
        decoder_epsilon=GPT2_EPSILON,
    )
    model = Muisc(shape).eval()
    load_authors_tower(backbone, state)
    load_authors(model, state)

    generator = torch.Generator().manual_seed(6)
    pixels = torch.randn(3, K, 3, 16, 16, generator=generator)
    ids = torch.randint(0, WORDS, (3, 9), generator=generator)
    separator, mask = torch.tensor([2, 5, 8]), torch.ones(3, K)
    with torch.inference_mode():
        tokens = backbone.features(pixels.flatten(0, 1)).unflatten(0, (3, K))
        ours = (tokens, model.encode(tokens, mask), *model(tokens, mask, ids, separator))
        theirs = reference(state, pixels, ids, separator)
    for found, wanted in zip(ours, theirs, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)
        assert (wanted[0] - wanted[1]).abs().max() > 0.1  # else the comparison says nothing
