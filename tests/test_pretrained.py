"""GPT-2 checkpoints of both kinds, written here by transformers, loaded into MUIsC's decoder; and their tokenizers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn

from agpis.errors import TrainingError
from agpis.inputs import Text
from agpis.models.hub import quiet
from agpis.models.muisc import Muisc, MuiscConfig
from agpis.models.pretrained import decoder_tokenizer, gpt2_config, load_gpt2

CHINESE = [
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"图片与标题不符，。主有水印", "red", "##dish", "lamp", "yes"),
    *">abc12!()",
]
SENTENCES = ["The image has a watermark.", "Two images show the same view.", "yes", "Table lamp, brass > lighting"]


def gpt2(vocabulary: int, *, head: bool, **more: Any) -> nn.Module:
    """Five blocks, 24 wide, with weights far enough from zero to tell blocks apart."""
    from transformers import GPT2Config, GPT2LMHeadModel, GPT2Model

    torch.manual_seed(4)
    shape = {"n_layer": 5, "n_embd": 24, "n_head": 3, "n_positions": 20, "bos_token_id": 1, "eos_token_id": 1}
    config = GPT2Config(vocab_size=vocabulary, **shape | more)
    with quiet():
        model = (GPT2LMHeadModel if head else GPT2Model)(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def write_chinese(folder: Path, **more: Any) -> nn.Module:
    """As uer/gpt2-chinese-cluecorpussmall: BERT's vocabulary in vocab.txt only, an LM head, `transformer.` keys."""
    model = gpt2(len(CHINESE), head=True, **more)
    with quiet():
        model.save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(CHINESE) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": False}))
    return model


def byte_level() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return tokenizer


def write_english(folder: Path, *, padded: int = 0, whole: bool = False) -> nn.Module:
    """As gpt2: byte-level BPE in vocab.json and merges.txt (or tokenizer.json), keys without prefix."""
    tokenizer = byte_level()
    model = gpt2(tokenizer.get_vocab_size() + padded, head=False)
    with quiet():
        model.save_pretrained(folder)
    if whole:
        tokenizer.enable_truncation(4)  # as some files have it; the cut is ours to make
        tokenizer.save(str(folder / "tokenizer.json"))
    else:
        tokenizer.model.save(str(folder))
    return model


def muisc(name: Path, **more: Any) -> Muisc:
    torch.manual_seed(8)
    encoder = {"tokens": 4, "token_width": 24, "encoder_heads": 2, "encoder_mlp": 16}
    return Muisc(MuiscConfig(**{"classes": 5, **encoder, **gpt2_config(str(name)), **more})).eval()


def hidden(model: Muisc, ids: torch.Tensor) -> torch.Tensor:
    """Hidden states of the decoder, its cross-attention silenced."""
    memory, seen = torch.zeros(len(ids), 4, 24), torch.ones(len(ids), 1, 1, 4, dtype=torch.bool)
    with torch.no_grad():
        for i in model.config.cross_attention:
            model.decoder[i].cross.out.weight.zero_()
            model.decoder[i].cross.out.bias.zero_()
        return model.decode(ids, memory, seen)


def truncated(model: nn.Module, blocks: int, ids: torch.Tensor) -> torch.Tensor:
    """The same of transformers' own GPT-2 with only its first blocks."""
    inner = getattr(model, "transformer", model)
    inner.h = inner.h[:blocks]
    inner.config.num_hidden_layers = blocks
    with torch.no_grad():
        found: torch.Tensor = inner(input_ids=ids, use_cache=False).last_hidden_state
    return found


def test_chinese_gpt2(tmp_path: Path) -> None:
    reference = write_chinese(tmp_path)
    assert gpt2_config(str(tmp_path)) == {
        "width": 24,
        "decoder_blocks": 3,
        "decoder_heads": 3,
        "decoder_mlp": 96,
        "positions": 20,
        "decoder_epsilon": 1e-5,
        "vocabulary": len(CHINESE),
    }
    model = muisc(tmp_path)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    loaded = load_gpt2(model, str(tmp_path))
    assert loaded.rows == 0
    assert {key.split(".")[0] for key in loaded.new} == {"image_positions", "encoder", "class_head", "decoder"}
    inside = {key for key in loaded.new if key.startswith("decoder.")}
    assert all(key.startswith(("decoder.2.cross.", "decoder.2.norm_cross.")) for key in inside)
    assert len(inside) == 10
    assert {".".join(key.split(".")[:2]) for key in loaded.left} == {"h.3", "h.4"}
    for key in loaded.new:
        torch.testing.assert_close(model.state_dict()[key], before[key], atol=0, rtol=0)
    ids = torch.randint(0, len(CHINESE), (2, 11), generator=torch.Generator().manual_seed(0))
    found = hidden(model, ids)
    torch.testing.assert_close(found, truncated(reference, 3, ids), atol=1e-5, rtol=1e-5)
    assert (found - truncated(reference, 2, ids)).abs().max() > 0.1  # the third block says something


@pytest.mark.parametrize("whole", [False, True])
def test_byte_level_gpt2_and_its_added_tokens(tmp_path: Path, whole: bool) -> None:
    reference = write_english(tmp_path, whole=whole)
    rows = reference.wte.weight.shape[0]
    model = muisc(tmp_path)
    assert model.config.vocabulary == rows + 2
    loaded = load_gpt2(model, str(tmp_path))
    assert loaded.rows == 2
    words = model.words.weight
    torch.testing.assert_close(words[:rows], reference.wte.weight, atol=0, rtol=0)
    torch.testing.assert_close(words[rows:], reference.wte.weight.mean(0).expand(2, -1))
    ids = torch.randint(0, rows, (2, 11), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(hidden(model, ids), truncated(reference, 3, ids), atol=1e-5, rtol=1e-5)


def test_padded_vocabulary(tmp_path: Path) -> None:
    reference = write_english(tmp_path, padded=7)
    model = muisc(tmp_path)
    assert model.config.vocabulary == reference.wte.weight.shape[0] - 7 + 2
    assert load_gpt2(model, str(tmp_path)).rows == 0
    torch.testing.assert_close(model.words.weight, reference.wte.weight[: model.config.vocabulary], atol=0, rtol=0)


def test_old_files(tmp_path: Path) -> None:
    """pytorch_model.bin with stored masks, `transformer.` keys and half precision."""
    reference = write_chinese(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    for i in range(5):
        state[f"transformer.h.{i}.attn.bias"] = torch.ones(1, 1, 20, 20).tril().bool()
        state[f"transformer.h.{i}.attn.masked_bias"] = torch.tensor(-1e4)
    state["lm_head.weight"] = state["transformer.wte.weight"]
    torch.save({key: value.half() if value.is_floating_point() else value for key, value in state.items()},
               tmp_path / "pytorch_model.bin")  # fmt: skip
    model = muisc(tmp_path)
    assert "lm_head.weight" in load_gpt2(model, str(tmp_path)).left
    ids = torch.arange(10)[None]
    torch.testing.assert_close(hidden(model, ids), truncated(reference.half().float(), 3, ids), atol=1e-5, rtol=1e-5)


def test_shards(tmp_path: Path) -> None:
    reference = write_english(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with quiet():
        reference.save_pretrained(tmp_path, max_shard_size="30KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    model = muisc(tmp_path)
    load_gpt2(model, str(tmp_path))
    ids = torch.arange(10)[None]
    torch.testing.assert_close(hidden(model, ids), truncated(reference, 3, ids), atol=1e-5, rtol=1e-5)
    next(tmp_path.glob("model-*.safetensors")).unlink()
    with pytest.raises(TrainingError, match="which its index names"):
        load_gpt2(model, str(tmp_path))


def test_options_of_the_model_are_new_parts(tmp_path: Path) -> None:
    write_chinese(tmp_path)
    model = muisc(tmp_path, tied=False, cross_attention=(0, 2), token_width=10)
    new = load_gpt2(model, str(tmp_path)).new
    assert {"lm_head.weight", "project.weight", "decoder.0.cross.out.weight", "class_head.bias"} <= set(new)
    assert not {"words.weight", "final_norm.bias", "decoder.0.norm1.weight"} & set(new)


def test_strict(tmp_path: Path) -> None:
    write_chinese(tmp_path)
    model = muisc(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    del state["transformer.h.1.mlp.c_fc.bias"]
    state["transformer.h.2.other"] = torch.zeros(1)
    state["transformer.wpe.weight"] = torch.zeros(9, 24)
    save_file(state, tmp_path / "model.safetensors")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(TrainingError) as caught:
        load_gpt2(model, str(tmp_path))
    assert caught.value.code == "bad_checkpoint"
    for part in (
        "missing ['h.1.mlp.c_fc.bias']",
        "unexpected ['h.2.other']",
        "other shape ['text_positions.weight (9, 24)']",
    ):
        assert part in caught.value.message
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    write_chinese(tmp_path)
    with pytest.raises(TrainingError, match="has 5 blocks; 6 are asked for, allowed are 1 to 5") as caught:
        gpt2_config(str(tmp_path), blocks=6)
    assert caught.value.code == "bad_config"
    model = muisc(tmp_path)
    other = Muisc(replace(model.config, width=48, decoder_epsilon=1e-6))
    with pytest.raises(TrainingError, match="width 48 and not 24, decoder_epsilon 1e-06 and not 1e-05"):
        load_gpt2(other, str(tmp_path))
    path = tmp_path / "config.json"
    row = json.loads(path.read_text())
    for change, message in (
        ({"activation_function": "relu"}, "activation_function 'relu'"),
        ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx True"),
        ({"model_type": "bert"}, "model_type 'bert'"),
        ({"n_head": None}, "is not a GPT-2's"),
    ):
        path.write_text(json.dumps(row | change))
        with pytest.raises(TrainingError, match=message):
            gpt2_config(str(tmp_path))


def test_damaged_and_absent_files(tmp_path: Path) -> None:
    write_chinese(tmp_path)
    model = muisc(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(TrainingError, match="cannot be loaded") as caught:
        load_gpt2(model, str(tmp_path))
    assert caught.value.code == "bad_checkpoint"
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(TrainingError, match=r"no model.safetensors and no pytorch_model.bin") as caught:
        load_gpt2(model, str(tmp_path))
    assert caught.value.code == "weights_not_found"
    torch.save({"wte.weight": Path("a pickled object")}, tmp_path / "pytorch_model.bin")
    with pytest.raises(TrainingError, match="cannot be loaded"):
        load_gpt2(model, str(tmp_path))
    (tmp_path / "vocab.txt").unlink()
    with pytest.raises(TrainingError, match=r"no tokenizer.json, no vocab.json with merges.txt and no vocab.txt"):
        decoder_tokenizer(str(tmp_path))
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(TrainingError, match=r"the tokenizer of .* cannot be read"):
        decoder_tokenizer(str(tmp_path))
    Tokenizer(models.WordLevel({"a": 0}, unk_token="a")).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(TrainingError, match="has neither"):
        decoder_tokenizer(str(tmp_path))


def text_of(folder: Path) -> Text:
    words, names = decoder_tokenizer(str(folder))
    path = folder / "ours.json"
    path.write_text(words, encoding="utf-8")
    return Text(path, max_title=8, max_feedback=16, **names)


def test_chinese_tokenizer(tmp_path: Path) -> None:
    write_chinese(tmp_path)
    _, names = decoder_tokenizer(str(tmp_path))
    assert names == {"separator": "[MASK]", "end": "[SEP]", "pad": "[PAD]"}
    text = text_of(tmp_path)
    assert text.vocabulary == len(CHINESE)
    assert text.title("图片") == [CHINESE.index("图"), CHINESE.index("片"), CHINESE.index("[MASK]")]
    for feedback in ("图片与标题不符。", "主图有水印，reddish lamp"):
        ids = text.feedback(feedback)
        assert ids[-1] == CHINESE.index("[SEP]")
        assert text.words(ids) == feedback
    assert text.feedback("Lamp")[0] == CHINESE.index("[UNK]")  # do_lower_case is false
    (tmp_path / "tokenizer_config.json").unlink()
    assert text_of(tmp_path).feedback("Lamp")[0] == CHINESE.index("lamp")  # BERT's default


def test_chinese_tokenizer_equals_berts_own(tmp_path: Path) -> None:
    write_chinese(tmp_path)
    text = text_of(tmp_path)
    from transformers import BertTokenizer

    with quiet():
        theirs = BertTokenizer.from_pretrained(str(tmp_path))
    for sentence in ("图片与标题不符。reddish", "a(b)! 12 1 2", "水印 lamp\u3000c é"):
        assert text.feedback(sentence)[:-1] == theirs(sentence, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("whole", [False, True])
def test_byte_level_tokenizer(tmp_path: Path, whole: bool) -> None:
    write_english(tmp_path, whole=whole)
    _, names = decoder_tokenizer(str(tmp_path))
    assert names == {"separator": "<sep>", "end": "<|endoftext|>", "pad": "<pad>"}
    text, plain = text_of(tmp_path), byte_level()
    assert text.vocabulary == plain.get_vocab_size() + 2
    assert text.separator == plain.get_vocab_size()
    for sentence in (*SENTENCES, "Ünïcode 图 too"):
        assert text.feedback(sentence)[:-1] == plain.encode(sentence).ids[:15]
        if len(plain.encode(sentence).ids) < 16:
            assert text.words(text.feedback(sentence)) == sentence
