"""Checkpoints of trained models: a folder of safetensors and JSON, safe to open from strangers.

config.json          what `Checkpoint` says
weights.safetensors  the module's weights
rulebook.yaml        the rulebook it was trained for
tokenizer.json       of a sequence model
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from agpis.errors import TrainingError

FORMAT_VERSION = 1
Kind = Literal["primary", "compliance", "muisc", "baseline"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Everything about a trained model besides its weights."""

    kind: Kind
    model: dict[str, Any]
    """Fields of the model's own config dataclass."""
    backbone: dict[str, Any] | None
    """Fields of `BackboneConfig`; None where the tokens come from a bundle's image graph."""
    rulebook_yaml: str
    """The rulebook, as one file without `extends`."""
    tokens_of: str = ""
    """Sha256 of the image graph that made the tokens, where `backbone` is None."""
    text: dict[str, Any] = field(default_factory=dict)
    """max_title, max_feedback, category, separator, end, pad of a sequence model."""
    tokenizer_json: str = ""
    training: dict[str, Any] = field(default_factory=dict)
    """Config of the run and its data report."""
    metrics: dict[str, Any] = field(default_factory=dict)
    """Validation figures; `thresholds` and `qualified` (calibration) are taken over by the export."""


def write_checkpoint(folder: Path, checkpoint: Checkpoint, module: nn.Module) -> None:
    """Writes the folder; config.json last, so that its presence means that the checkpoint is complete."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").unlink(missing_ok=True)
    save_file(
        {key: value.contiguous().cpu() for key, value in module.state_dict().items()}, folder / "weights.safetensors"
    )
    (folder / "rulebook.yaml").write_text(checkpoint.rulebook_yaml, encoding="utf-8")
    row = asdict(checkpoint)
    del row["rulebook_yaml"], row["tokenizer_json"]
    if checkpoint.tokenizer_json:
        (folder / "tokenizer.json").write_text(checkpoint.tokenizer_json, encoding="utf-8")
    text = json.dumps({"format": FORMAT_VERSION, **row}, indent=1, ensure_ascii=False)
    (folder / "config.json").write_text(text + "\n", encoding="utf-8")


def read_checkpoint(folder: Path, *kinds: Kind) -> Checkpoint:
    """What config.json, rulebook.yaml and tokenizer.json say; opens no weights.

    Raises:
        TrainingError: `bad_checkpoint` when it is none, damaged, or not of one of `kinds`.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise TrainingError(
            "bad_checkpoint",
            f"no checkpoint at {folder}: config.json is missing; give a folder that `agpis train` wrote.",
        )
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
        version = row.pop("format")
        if version != FORMAT_VERSION:
            raise TrainingError("bad_checkpoint", f"{path} has format {version!r}; this AGPIS reads {FORMAT_VERSION}.")
        tokenizer = folder / "tokenizer.json"
        found = Checkpoint(
            **row,
            rulebook_yaml=(folder / "rulebook.yaml").read_text(encoding="utf-8"),
            tokenizer_json=tokenizer.read_text(encoding="utf-8") if tokenizer.is_file() else "",
        )
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise TrainingError("bad_checkpoint", f"{path} is no checkpoint's: {error}. Train again.") from error
    if found.kind not in (kinds or KINDS):
        raise TrainingError(
            "bad_checkpoint", f"{folder} is a {found.kind!r} checkpoint; wanted {' or '.join(kinds or KINDS)}."
        )
    return found


def load_weights(folder: Path, module: nn.Module) -> None:
    """Loads weights.safetensors, strict. Raises TrainingError `bad_checkpoint`, missing and foreign keys listed."""
    path = folder / "weights.safetensors"
    if not path.is_file():
        raise TrainingError("bad_checkpoint", f"no checkpoint at {folder}: {path.name} is missing.")
    try:
        found: dict[str, Tensor] = load_file(path)
    except Exception as error:  # safetensors raises its own error type, which shares no base but Exception
        raise TrainingError("bad_checkpoint", f"{path} cannot be read: {error}. Train again.") from error
    wanted = module.state_dict()
    missing, foreign = sorted(set(wanted) - set(found)), sorted(set(found) - set(wanted))
    shapes = [k for k in wanted if k in found and wanted[k].shape != found[k].shape]
    if missing or foreign or shapes:
        raise TrainingError(
            "bad_checkpoint",
            f"{path} does not fit the model: missing {missing}, foreign {foreign}, other shape {shapes}. "
            "Load it with the config.json beside it.",
        )
    module.load_state_dict(found)
