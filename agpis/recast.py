"""A sequence model for another list of classes: what it knows of the rules that stay goes on.

Every row of its outputs belongs to a class. Rows of rules that stay are moved, also under a new id; those of dropped
rules go; a new rule begins as `other`, and shares its probability with it, so that p_qualified is what it was.
"""

import math
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from agpis.assemble import open_model
from agpis.checkpoint import write_checkpoint
from agpis.errors import TrainingError
from agpis.models.muisc import Muisc, SequenceModel
from agpis.rulebook import Rulebook, parse_rulebook
from agpis.samples import OTHER

OUTPUTS = ("class_head", "pairs.direct", "pairs.project", "knowledge.direct", "knowledge.project")
"""Linear layers with a row for each class."""


def recast(folder: Path, rulebook: Rulebook, out: Path) -> Path:
    """Writes the checkpoint `folder` for the classes of `rulebook` to `out`; returns where it is then.

    That is `folder` itself where its classes are those. Raises TrainingError `bad_checkpoint` where it is no checkpoint
    of MUIsC.
    """
    module, checkpoint = open_model(folder, "muisc")
    if not isinstance(module, SequenceModel):
        raise TrainingError("bad_checkpoint", f"{folder} holds no sequence model.")
    before = parse_rulebook(checkpoint.rulebook_yaml, f"{folder}/rulebook.yaml").classes
    if tuple(before) == tuple(rulebook.classes):
        return folder
    rows, new = _rows(before, rulebook)
    config = replace(module.muisc.config, classes=len(rulebook.classes))
    model = Muisc(config)
    state = {name: _moved(name, values, rows) for name, values in module.muisc.state_dict().items()}
    # Whatever of its probability `other` had is shared by those that begin as it.
    sharing = [*new, len(rulebook.classes) - 1]
    state["class_head.bias"][sharing] -= math.log(len(sharing))
    model.load_state_dict(state)
    shape = {**checkpoint.model, "classes": config.classes}
    write_checkpoint(
        out, replace(checkpoint, model=shape, rulebook_yaml=rulebook.text()), SequenceModel(model, module.backbone)
    )
    return out


def _rows(before: tuple[str, ...], rulebook: Rulebook) -> tuple[list[int], list[int]]:
    """For each class of the rulebook the row that it is taken from, and which of them are new."""
    old = {rulebook.now(name): row for row, name in enumerate(before)}
    rows = [old.get(name, before.index(OTHER)) for name in rulebook.classes]
    return rows, [place for place, name in enumerate(rulebook.classes) if name not in old]


def _moved(name: str, values: Tensor, rows: list[int]) -> Tensor:
    layer = name.removeprefix("shortcut.").rpartition(".")[0]
    return values[torch.tensor(rows)].clone() if layer in OUTPUTS else values
