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
as is `decoder.lm_head.weight`, which is tied to the word embedding.

The image tower is a ViT of transformers in the naming of its checkpoints: `encoder.image_tower.X` is `X` of a
ViTModel's file (embeddings.*, encoder.layer.j.*, layernorm.*); its pooler, which nothing uses, is left out.
"""

import tempfile
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from agpis.errors import TrainingError
from agpis.models.backbones import Backbone, HubBackbone
from agpis.models.hub import load_strict
from agpis.models.muisc import Muisc
from agpis.models.pretrained import Renamed

TOWER = "encoder.image_tower."


def load_authors(model: Muisc, state: dict[str, Tensor]) -> None:
    """Loads `state` (their names, without the image tower or with it) into `model`; strict.

    Raises:
        TrainingError: `bad_checkpoint`, the missing and the foreign keys listed.
    """
    taken = Renamed({key: value for key, value in state.items() if not key.startswith(TOWER)})
    positions = taken.take("encoder.wpe.weight")
    if positions is not None:
        taken.found["image_positions"] = positions
    for j in range(model.config.encoder_blocks):
        theirs = "encoder.self" if model.config.encoder_blocks == 1 else f"encoder.self.{j}"
        for name in ("query", "key", "value"):
            taken.plain(f"{theirs}.attention.self.{name}", f"encoder.{j}.attention.{name}")
        taken.plain(f"{theirs}.attention.output.dense", f"encoder.{j}.attention.out")
        taken.plain(f"{theirs}.attention.output.LayerNorm", f"encoder.{j}.norm1")
        taken.plain(f"{theirs}.intermediate.dense", f"encoder.{j}.expand")
        taken.plain(f"{theirs}.output.dense", f"encoder.{j}.project")
        taken.plain(f"{theirs}.output.LayerNorm", f"encoder.{j}.norm2")
    taken.plain("decoder.transformer.wte", "words", ("weight",))
    taken.plain("decoder.transformer.wpe", "text_positions", ("weight",))
    for i in range(model.config.decoder_blocks):
        block, ours = f"decoder.transformer.h.{i}", f"decoder.{i}"
        taken.gpt2_block(block, ours)
        if i in model.config.cross_attention:
            taken.plain(f"{block}.ln_cross_attn", f"{ours}.norm_cross")
            taken.turned(f"{block}.crossattention.q_attn", f"{ours}.cross.query")
            taken.turned(f"{block}.crossattention.c_attn", f"{ours}.cross.key", f"{ours}.cross.value")
            taken.turned(f"{block}.crossattention.c_proj", f"{ours}.cross.out")
        else:
            taken.drop(
                k for k in list(taken.left) if k.startswith((f"{block}.crossattention.", f"{block}.ln_cross_attn."))
            )
    taken.plain("decoder.transformer.ln_f", "final_norm")
    taken.plain("decoder.multiple_choice_head.summary", "class_head")
    taken.drop({"decoder.lm_head.weight"} & set(taken.left))
    ours_all = model.state_dict()
    shapes = [key for key, value in taken.found.items() if key in ours_all and ours_all[key].shape != value.shape]
    lacking = sorted(set(ours_all) - set(taken.found)) if not taken.missing else []
    if taken.missing or taken.left or shapes or lacking:
        raise TrainingError(
            "bad_checkpoint",
            f"the authors' checkpoint does not fit: missing {taken.missing}, foreign {sorted(taken.left)}, other shape "
            f"{shapes}, without a counterpart {lacking}.",
        )
    model.load_state_dict(taken.found)


def load_authors_tower(backbone: Backbone, state: dict[str, Tensor]) -> None:
    """Loads the image tower of `state` into `backbone`, a ViT of the same form; strict.

    The weights go through a checkpoint on disk, because transformers keeps its naming there from version to version.

    Raises:
        TrainingError: `bad_config` when the backbone is no ViT; `bad_checkpoint`, missing and unexpected keys listed.
    """
    kind = backbone.config.architecture["model_type"] if backbone.config.architecture else backbone.config.name
    if not isinstance(backbone, HubBackbone) or kind != "vit":
        raise TrainingError("bad_config", f"the authors' image tower is a ViT; the backbone is {kind}.")
    tower = {key.removeprefix(TOWER): value for key, value in state.items() if key.startswith(TOWER)}
    with tempfile.TemporaryDirectory() as folder:
        save_file(tower, Path(folder) / "model.safetensors", metadata={"format": "pt"})
        loaded = load_strict(folder, backbone.model.config, called="the authors' image tower")
    backbone.model.load_state_dict(loaded.state_dict())
