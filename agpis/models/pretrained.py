"""The decoder's start: a published GPT-2 by hub name or folder, its first N^d blocks and its tokenizer (3.4.2).

Key mapping, with `i` a block; GPT-2 keeps linear layers transposed, and files may have `transformer.` before each name:

    wte, wpe                       words, text_positions
    h.i.{ln_1,ln_2}                decoder.i.{norm1,norm2}
    h.i.attn.c_attn                decoder.i.attention.{query,key,value}, cut and transposed
    h.i.attn.c_proj                decoder.i.attention.out, transposed
    h.i.mlp.{c_fc,c_proj}          decoder.i.{expand,project}, transposed
    ln_f                           final_norm

Left over on purpose: blocks from N^d on, `lm_head` (tied to the words), and the stored causal masks of old files.
New, and so not in a GPT-2: cross-attention, the encoder and its positions, the class head, an LM head of one's own,
the rows of added tokens.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from agpis.errors import TrainingError
from agpis.inputs import PAD, SEPARATOR
from agpis.models.hub import first_line, hub_file, not_found, read_config
from agpis.models.muisc import Muisc

if TYPE_CHECKING:
    from tokenizers import Tokenizer

END_OF_TEXT = "<|endoftext|>"  # of OpenAI's vocabulary
CLS, SEP, MASK, UNKNOWN, BERT_PAD = "[CLS]", "[SEP]", "[MASK]", "[UNK]", "[PAD]"  # of BERT's

LEFT_OVER = re.compile(r"lm_head\.weight|h\.\d+\.attn\.(bias|masked_bias)")


class Renamed:
    """Takes the values of a state dict one after another under new names, and keeps account of it."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        self.left = dict(state)
        """What nobody has taken."""
        self.found: dict[str, Tensor] = {}
        """What was taken, by its new name."""
        self.missing: list[str] = []
        """What was asked for and is not there."""

    def take(self, key: str) -> Tensor | None:
        """The value of `key`, which then counts as taken."""
        if key not in self.left:
            self.missing.append(key)
        return self.left.pop(key, None)

    def plain(self, theirs: str, ours: str, names: tuple[str, ...] = ("weight", "bias")) -> None:
        """A module's values as they are."""
        for name in names:
            value = self.take(f"{theirs}.{name}")
            if value is not None:
                self.found[f"{ours}.{name}"] = value

    def turned(self, theirs: str, *ours: str) -> None:
        """A transposed linear layer (in, out), cut along its outputs into as many as there are names."""
        weight, bias = self.take(f"{theirs}.weight"), self.take(f"{theirs}.bias")
        if weight is None or bias is None:
            return
        for name, w, b in zip(ours, weight.T.chunk(len(ours)), bias.chunk(len(ours)), strict=True):
            self.found[f"{name}.weight"], self.found[f"{name}.bias"] = w.contiguous(), b.contiguous()

    def gpt2_block(self, theirs: str, ours: str) -> None:
        """Self-attention, MLP and norms of a GPT-2 block."""
        self.plain(f"{theirs}.ln_1", f"{ours}.norm1")
        self.plain(f"{theirs}.ln_2", f"{ours}.norm2")
        self.turned(f"{theirs}.attn.c_attn", *(f"{ours}.attention.{n}" for n in ("query", "key", "value")))
        self.turned(f"{theirs}.attn.c_proj", f"{ours}.attention.out")
        self.turned(f"{theirs}.mlp.c_fc", f"{ours}.expand")
        self.turned(f"{theirs}.mlp.c_proj", f"{ours}.project")

    def drop(self, keys: Iterable[str]) -> list[str]:
        """Takes `keys` out without a use; returns them."""
        keys = sorted(keys)
        for key in keys:
            del self.left[key]
        return keys


@dataclass(frozen=True, slots=True)
class Loaded:
    """What `load_gpt2` did not touch on either side."""

    new: tuple[str, ...]
    """Our weights that a GPT-2 does not have; they keep their initial values."""
    rows: int
    """Rows of the word embedding that were added."""
    left: tuple[str, ...]
    """Keys of the file that were left over on purpose."""


def gpt2_config(name: str, blocks: int = 3) -> dict[str, Any]:
    """The fields of `MuiscConfig` that a GPT-2 determines, its first `blocks` blocks taken.

    `vocabulary` is that of `decoder_tokenizer(name)`, added tokens included.

    Raises:
        TrainingError: `weights_not_found`; `bad_checkpoint` when it is no GPT-2, or not of the form of `Muisc`;
            `bad_config` when it has fewer blocks.
    """
    tokenizer, _ = _tokenizer(name)
    return {**_shape(name, blocks), "vocabulary": int(tokenizer.get_vocab_size())}


def load_gpt2(model: Muisc, name: str) -> Loaded:
    """Copies words, positions, the first N^d blocks and the final norm of the GPT-2 `name` into `model`; strict.

    Words that `model` has beyond the GPT-2's are new tokens: their rows become the mean of the old ones. Rows of a
    padded vocabulary that `model` does not have are left out.

    Raises:
        TrainingError: as `gpt2_config`; `bad_config` when the model's shape is another, the fields listed;
            `bad_checkpoint` when keys are missing or unexpected, the keys listed.
    """
    config = model.config
    wanted = _shape(name, config.decoder_blocks)
    other = [
        f"{key} {getattr(config, key)} and not {value}"
        for key, value in wanted.items()
        if getattr(config, key) != value
    ]
    if other:
        raise TrainingError("bad_config", f"the model does not have the form of {name}: {', '.join(other)}.")
    state = Renamed({key.removeprefix("transformer."): value for key, value in read_weights(name).items()})
    state.plain("wte", "words", ("weight",))
    state.plain("wpe", "text_positions", ("weight",))
    for i in range(config.decoder_blocks):
        state.gpt2_block(f"h.{i}", f"decoder.{i}")
    state.plain("ln_f", "final_norm")
    beyond = re.compile(r"h\.(\d+)\.")
    left = state.drop(
        key
        for key in list(state.left)
        if LEFT_OVER.fullmatch(key) or ((found := beyond.match(key)) and int(found[1]) >= config.decoder_blocks)
    )
    ours = model.state_dict()
    rows = 0
    if "words.weight" in state.found:
        words = state.found["words.weight"].float()
        rows = max(0, config.vocabulary - len(words))
        words = torch.cat([words[: config.vocabulary], words.mean(0, keepdim=True).expand(rows, -1)])
        state.found["words.weight"] = words
    shapes = [f"{key} {tuple(v.shape)}" for key, v in state.found.items() if key in ours and ours[key].shape != v.shape]
    if state.missing or state.left or shapes:
        raise TrainingError(
            "bad_checkpoint",
            f"{name} is no GPT-2 of its own config.json: missing {state.missing}, unexpected {sorted(state.left)}, "
            f"other shape {shapes}.",
        )
    model.load_state_dict({**ours, **{key: value.float() for key, value in state.found.items()}})
    return Loaded(tuple(sorted(set(ours) - set(state.found))), rows, tuple(left))


def read_weights(name: str) -> dict[str, Tensor]:
    """Every weight of a hub repository or folder: safetensors, else a PyTorch file read without unpickling; shards too.

    Raises TrainingError `weights_not_found`, `bad_checkpoint`.
    """
    for file in ("model.safetensors", "pytorch_model.bin"):
        path, index = hub_file(name, file), None
        if path is None:
            index = hub_file(name, f"{file}.index.json")
        if path is None and index is None:
            continue
        state: dict[str, Tensor] = {}
        try:
            parts = (
                [file] if index is None else sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
            )
            for part in parts:
                found = hub_file(name, Path(part).name)
                if found is None:
                    raise TrainingError(
                        "weights_not_found", f"{name} lacks {part}, which its index names. Fetch it again."
                    )
                one = load_file(found) if file.endswith("s") else torch.load(found, "cpu", weights_only=True)
                state.update(one)
        except TrainingError:
            raise
        except Exception as error:  # damaged files raise whatever their reader raises
            raise TrainingError(
                "bad_checkpoint", f"{name} cannot be loaded: {first_line(error)} Copy it again."
            ) from error
        return state
    raise not_found(name, "there is no model.safetensors and no pytorch_model.bin.")


def decoder_tokenizer(name: str) -> tuple[str, dict[str, str]]:
    """A GPT-2's tokenizer as `tokenizer.json` of the package tokenizers, and what `agpis.inputs.Text` calls its tokens.

    The separator follows the tokenizer: BERT's vocabulary has its mask token [MASK], with [SEP] as end and [PAD]; a
    byte-level BPE gets the added tokens <sep> and <pad>, and ends with <|endoftext|>.

    Returns:
        the JSON text, and the names of `separator`, `end` and `pad`.

    Raises:
        TrainingError: `weights_not_found`; `bad_checkpoint` when the tokenizer is of neither kind.
    """
    tokenizer, names = _tokenizer(name)
    return tokenizer.to_str(), names


def _shape(name: str, blocks: int) -> dict[str, Any]:
    row = read_config(name)
    try:
        width = int(row["n_embd"])
        shape = {
            "width": width,
            "decoder_blocks": blocks,
            "decoder_heads": int(row["n_head"]),
            "decoder_mlp": int(row.get("n_inner") or 4 * width),
            "positions": int(row.get("n_positions") or row["n_ctx"]),
            "decoder_epsilon": float(row.get("layer_norm_epsilon", 1e-5)),
        }
        depth = int(row["n_layer"])
    except (KeyError, TypeError, ValueError) as error:
        raise TrainingError("bad_checkpoint", f"config.json of {name} is not a GPT-2's: {error!r}.") from error
    strange = [
        f"{key} {row[key]!r}"
        for key, allowed in {
            "model_type": ("gpt2",),
            "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
            "scale_attn_weights": (True,),
            "scale_attn_by_inverse_layer_idx": (False,),
        }.items()
        if row.get(key, allowed[0]) not in allowed
    ]
    if strange:
        raise TrainingError(
            "bad_checkpoint",
            f"{name} is not of GPT-2's form: {', '.join(strange)}. Give a GPT-2 with the tanh gelu, such as "
            "uer/gpt2-chinese-cluecorpussmall or gpt2.",
        )
    if not 1 <= blocks <= depth:
        raise TrainingError(
            "bad_config", f"{name} has {depth} blocks; {blocks} are asked for, allowed are 1 to {depth}."
        )
    return shape


def _tokenizer(name: str) -> "tuple[Tokenizer, dict[str, str]]":
    from tokenizers import Tokenizer

    try:
        tokenizer = next(t for t in (_from_json(name), _byte_level(name), _bert(name)) if t is not None)
    except StopIteration:
        raise not_found(name, "there is no tokenizer.json, no vocab.json with merges.txt and no vocab.txt.") from None
    except TrainingError:
        raise
    except Exception as error:  # the package raises plain Exception
        raise TrainingError(
            "bad_checkpoint", f"the tokenizer of {name} cannot be read: {first_line(error)} Copy it again."
        ) from error
    assert isinstance(tokenizer, Tokenizer)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    vocabulary = tokenizer.get_vocab()
    if {MASK, SEP, BERT_PAD} <= set(vocabulary):
        tokenizer.add_special_tokens([t for t in (BERT_PAD, UNKNOWN, CLS, SEP, MASK) if t in vocabulary])
        tokenizer.decoder = _bert_decoder()
        return tokenizer, {"separator": MASK, "end": SEP, "pad": BERT_PAD}
    if END_OF_TEXT in vocabulary:
        tokenizer.add_special_tokens([END_OF_TEXT, SEPARATOR, PAD])
        return tokenizer, {"separator": SEPARATOR, "end": END_OF_TEXT, "pad": PAD}
    raise TrainingError(
        "bad_checkpoint",
        f"the tokenizer of {name} has neither {MASK}, {SEP} and {BERT_PAD} (BERT's vocabulary) nor {END_OF_TEXT} "
        "(byte-level BPE); give a GPT-2 with one of the two.",
    )


def _from_json(name: str) -> "Tokenizer | None":
    from tokenizers import Tokenizer

    path = hub_file(name, "tokenizer.json")
    return None if path is None else Tokenizer.from_file(str(path))


def _byte_level(name: str) -> "Tokenizer | None":
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    vocabulary, merges = hub_file(name, "vocab.json"), hub_file(name, "merges.txt")
    if vocabulary is None or merges is None:
        return None
    tokenizer = Tokenizer(models.BPE.from_file(str(vocabulary), str(merges)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _bert(name: str) -> "Tokenizer | None":
    """BERT's word pieces, with the options of tokenizer_config.json."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    vocabulary = hub_file(name, "vocab.txt")
    if vocabulary is None:
        return None
    path = hub_file(name, "tokenizer_config.json")
    options: dict[str, Any] = {} if path is None else json.loads(path.read_text("utf-8"))
    tokenizer = Tokenizer(models.WordPiece.from_file(str(vocabulary), unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.BertNormalizer(
        lowercase=bool(options.get("do_lower_case", True)),
        strip_accents=options.get("strip_accents"),
        handle_chinese_chars=bool(options.get("tokenize_chinese_chars", True)),
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def _bert_decoder() -> Any:
    """Word pieces to text, without the spaces that BERT's own decoder leaves around Chinese characters."""
    from tokenizers import Regex, decoders

    chinese = r"[\p{Han}\u3000-\u303f\uff00-\uffef]"  # characters, and full-width punctuation
    spaces = Regex(rf"(?<={chinese}) +| +(?={chinese})")
    return decoders.Sequence([decoders.WordPiece(), decoders.Fuse(), decoders.Replace(spaces, "")])
