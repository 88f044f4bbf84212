"""Weights in the form of the authors' published code (a BERT-style encoder block, a GPT-2 decoder), taken over by name.

Key mapping, with `i` a decoder block and `j` an encoder block (theirs is called `encoder.self` when there is one):

    encoder.wpe.weight                                  image_positions
    encoder.self.attention.self.{query,key,value}       encoder.j.attention.{query,key,value}
    encoder.self.attention.output.{dense,LayerNorm}     encoder.j.attention.out, encoder.j.norm1
    encoder.self.{intermediate,output}.dense            encoder.j.{expand,project}
    encoder.self.output.LayerNorm                       encoder.j.norm2
    decoder.transformer.{wte,wpe}                       words, text_positions
    decoder.transformer.h.i.{ln_1,ln_2}                 decoder.i.{norm1,norm2}
    decoder.transformer.h.i.attn.c_attn                 decoder.i.attention.{query,key,value}, cut and transposed
    decoder.transformer.h.i.attn.c_proj                 decoder.i.attention.out, transposed
    decoder.transformer.h.i.ln_cross_attn               decoder.i.norm_cross
    decoder.transformer.h.i.crossattention.q_attn       decoder.i.cross.query, transposed
    decoder.transformer.h.i.crossattention.c_attn       decoder.i.cross.{key,value}, cut and transposed
    decoder.transformer.h.i.crossattention.c_proj       decoder.i.cross.out, transposed
    decoder.transformer.h.i.mlp.{c_fc,c_proj}           decoder.i.{expand,project}, transposed
    decoder.transformer.ln_f                            final_norm
    decoder.multiple_choice_head.summary                class_head

Their checkpoints hold cross-attention weights in every block, used only in the chosen ones; the others are left out,
as is `decoder.lm_head.weight`, which is tied to the word embedding. The image tower loads by itself.
"""

from torch import Tensor

from agpis.errors import TrainingError
from agpis.models.muisc import Muisc

TOWER = "encoder.image_tower."


def load_authors(model: Muisc, state: dict[str, Tensor]) -> None:
    """Loads `state` (their names, without the image tower or with it) into `model`; strict.

    Raises:
        TrainingError: `bad_checkpoint`, the missing and the foreign keys listed.
    """
    left = {key: value for key, value in state.items() if not key.startswith(TOWER)}
    found: dict[str, Tensor] = {}
    missing: list[str] = []

    def take(key: str) -> Tensor | None:
        if key not in left:
            missing.append(key)
        return left.pop(key, None)

    def plain(theirs: str, ours: str, names: tuple[str, ...] = ("weight", "bias")) -> None:
        for name in names:
            value = take(f"{theirs}.{name}")
            if value is not None:
                found[f"{ours}.{name}"] = value

    def turned(theirs: str, *ours: str) -> None:
        weight, bias = take(f"{theirs}.weight"), take(f"{theirs}.bias")
        if weight is None or bias is None:
            return
        weights, biases = weight.T.chunk(len(ours)), bias.chunk(len(ours))
        for name, w, b in zip(ours, weights, biases, strict=True):
            found[f"{name}.weight"], found[f"{name}.bias"] = w.contiguous(), b.contiguous()

    positions = take("encoder.wpe.weight")
    if positions is not None:
        found["image_positions"] = positions
    for j in range(model.config.encoder_blocks):
        theirs = "encoder.self" if model.config.encoder_blocks == 1 else f"encoder.self.{j}"
        for name in ("query", "key", "value"):
            plain(f"{theirs}.attention.self.{name}", f"encoder.{j}.attention.{name}")
        plain(f"{theirs}.attention.output.dense", f"encoder.{j}.attention.out")
        plain(f"{theirs}.attention.output.LayerNorm", f"encoder.{j}.norm1")
        plain(f"{theirs}.intermediate.dense", f"encoder.{j}.expand")
        plain(f"{theirs}.output.dense", f"encoder.{j}.project")
        plain(f"{theirs}.output.LayerNorm", f"encoder.{j}.norm2")
    plain("decoder.transformer.wte", "words", ("weight",))
    plain("decoder.transformer.wpe", "text_positions", ("weight",))
    for i in range(model.config.decoder_blocks):
        block, ours = f"decoder.transformer.h.{i}", f"decoder.{i}"
        plain(f"{block}.ln_1", f"{ours}.norm1")
        plain(f"{block}.ln_2", f"{ours}.norm2")
        turned(f"{block}.attn.c_attn", *(f"{ours}.attention.{n}" for n in ("query", "key", "value")))
        turned(f"{block}.attn.c_proj", f"{ours}.attention.out")
        turned(f"{block}.mlp.c_fc", f"{ours}.expand")
        turned(f"{block}.mlp.c_proj", f"{ours}.project")
        if i in model.config.cross_attention:
            plain(f"{block}.ln_cross_attn", f"{ours}.norm_cross")
            turned(f"{block}.crossattention.q_attn", f"{ours}.cross.query")
            turned(f"{block}.crossattention.c_attn", f"{ours}.cross.key", f"{ours}.cross.value")
            turned(f"{block}.crossattention.c_proj", f"{ours}.cross.out")
        else:
            for key in [k for k in left if k.startswith((f"{block}.crossattention.", f"{block}.ln_cross_attn."))]:
                del left[key]
    plain("decoder.transformer.ln_f", "final_norm")
    plain("decoder.multiple_choice_head.summary", "class_head")
    left.pop("decoder.lm_head.weight", None)
    if missing or left:
        raise TrainingError(
            "bad_checkpoint", f"the authors' checkpoint does not fit: missing {missing}, foreign {sorted(left)}."
        )
    model.load_state_dict(found)
