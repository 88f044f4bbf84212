"""Models of transformers by hub name or folder: files found, configurations read, weights loaded strictly and safely.

Weights are safetensors, or PyTorch files read with `weights_only` (transformers' default): nothing is unpickled, and no
code of a repository is run.
"""

import copy
import inspect
import json
import logging
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from agpis.errors import TrainingError

UNUSED_PARTS = frozenset(
    {"pooler", "classifier", "cls_classifier", "distillation_classifier", "head", "text_model", "text_projection"}
    | {"visual_projection", "logit_scale", "logit_bias", "position_ids", "mask_token"}
)
"""What a checkpoint may hold beyond the tokens' network: poolers, classifier heads, the text tower and joint space of
a two-tower model, stored indices, the mask token of masked pretraining."""


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps transformers and the hub's client from printing progress and warnings."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
    from transformers.utils import logging as theirs

    verbosity, bars = theirs.get_verbosity(), theirs.is_progress_bar_enabled()
    client = logging.getLogger("huggingface_hub")
    level, disabled = client.level, are_progress_bars_disabled()
    theirs.set_verbosity(logging.CRITICAL)
    theirs.disable_progress_bar()
    client.setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if not disabled:
            disable_progress_bars()
        try:
            yield
        finally:
            theirs.set_verbosity(verbosity)
            if bars:
                theirs.enable_progress_bar()
            client.setLevel(level)
            if not disabled:
                enable_progress_bars()


def hub_file(name: str, file: str) -> Path | None:
    """A file of a hub repository or folder, fetched if need be; None when it is known that there is no such file.

    Raises TrainingError `weights_not_found` when the repository or folder cannot be had, or cannot be asked.
    """
    from huggingface_hub import _CACHED_NO_EXIST, hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    if Path(name).is_dir():
        return Path(name) / file if (Path(name) / file).is_file() else None
    try:
        with quiet():
            return Path(hf_hub_download(name, file))
    except LocalEntryNotFoundError as error:  # no connection: nothing is known of a file that is not in the cache
        if try_to_load_from_cache(name, file) is _CACHED_NO_EXIST:
            return None
        raise not_found(name, f"{file} is not in the cache, and the hub cannot be reached.") from error
    except EntryNotFoundError:
        return None
    except (OSError, ValueError) as error:  # ValueError: what cannot be a repository's name
        raise not_found(name, error) from error


def not_found(name: str, reason: object) -> TrainingError:
    """The error for weights that cannot be had."""
    return TrainingError(
        "weights_not_found",
        f"{name!r} is neither a folder here nor could it be fetched from the Hugging Face hub: {first_line(reason)} "
        "Download it on a machine with internet (hf download NAME --local-dir FOLDER), copy the folder, and give its "
        "path as the name.",
    )


def read_config(name: str) -> dict[str, Any]:
    """config.json of a hub repository or folder. Raises TrainingError `weights_not_found`, `bad_checkpoint`."""
    path = hub_file(name, "config.json")
    if path is None:
        raise not_found(name, "there is no config.json.")
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise TrainingError("bad_checkpoint", f"{path} is no JSON: {error}. Copy it again.") from error
    if not isinstance(row, dict) or not isinstance(row.get("model_type"), str):
        raise TrainingError("bad_checkpoint", f"{path} has no model_type; it is not a transformers model's.")
    return row


def vision_config(name: str) -> Any:
    """The transformers configuration of a vision model; of a two-tower model its vision tower's."""
    row = read_config(name)
    if isinstance(row.get("vision_config"), dict):
        default = {"clip": "clip_vision_model", "siglip": "siglip_vision_model"}.get(row["model_type"], "")
        row = {"model_type": default, **row["vision_config"]}
    return made_config(name, row)


def load_strict(name: str, config: Any, *, called: str = "") -> nn.Module:
    """The tokens' network of `config` with the weights of `name` (`called` so in errors); float32.

    Raises TrainingError: `weights_not_found`; `bad_checkpoint`, the keys listed, when a weight is missing or of another
    shape, or one is left over that is not of `UNUSED_PARTS`.
    """
    kind = _class(config)
    try:
        with quiet():
            model, info = kind.from_pretrained(
                name,
                config=config,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # listed below with the rest
                trust_remote_code=False,
                **_without_pooler(kind),
            )
    except OSError as error:
        raise not_found(name, error) from error
    except Exception as error:  # damaged files raise whatever their reader raises
        raise TrainingError(
            "bad_checkpoint", f"{called or name} cannot be loaded: {first_line(error)} Copy it again."
        ) from error

    def strange(keys: Iterable[str]) -> list[str]:
        return sorted(key for key in keys if not UNUSED_PARTS & set(key.split(".")[:2]))

    missing, unexpected = strange(info["missing_keys"]), strange(info["unexpected_keys"])
    shapes = sorted(str(row[0]) for row in info["mismatched_keys"])
    if missing or unexpected or shapes:
        raise TrainingError(
            "bad_checkpoint",
            f"{called or name} does not fit {kind.__name__}: missing {missing}, unexpected {unexpected}, "
            f"other shape {shapes}. Only {', '.join(sorted(UNUSED_PARTS))} may be missing or left over.",
        )
    whole: nn.Module = model.float()
    return whole


def made_config(name: str, row: dict[str, Any]) -> Any:
    """The transformers configuration of `row`, which holds model_type and its fields; SigLIP's pooler switched off.

    Raises TrainingError `bad_checkpoint`, `bad_config`.
    """
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    kind = row.get("model_type")
    if kind not in CONFIG_MAPPING:
        raise TrainingError("bad_checkpoint", f"{name} is of type {kind!r}, which this transformers does not know.")
    try:
        with quiet():
            config = CONFIG_MAPPING[kind].from_dict(row)
    except Exception as error:  # a value of another type; each class says so in its own way
        raise TrainingError(
            "bad_checkpoint", f"the configuration of {name} cannot be used: {first_line(error)}"
        ) from error
    if getattr(config, "num_channels", 3) != 3:
        raise TrainingError("bad_config", f"{name} wants {config.num_channels} channels; pictures have 3.")
    if hasattr(config, "vision_use_head"):
        config.vision_use_head = False  # SigLIP's attention pooler
    return config


class ZeroBorder(nn.Module):
    """Zeros around a map (N, C, H, W), as `nn.ConstantPad2d`, made by concatenation.

    ONNX Runtime 1.31 joins a Pad of zeros with the max pooling behind it (BiT's stem) into a pooling that pads with
    minus infinity, which gives other numbers where all values at the border are negative.
    """

    def __init__(self, padding: Sequence[int]) -> None:
        super().__init__()
        self.padding = tuple(padding)  # left, right, top, bottom

    def forward(self, x: Tensor) -> Tensor:
        left, right, top, bottom = self.padding
        row = torch.zeros_like(x[:, :, :1])
        x = torch.cat([row] * top + [x] + [row] * bottom, dim=2)
        column = torch.zeros_like(x[:, :, :, :1])
        return torch.cat([column] * left + [x] + [column] * right, dim=3)


def exportable(model: nn.Module) -> nn.Module:
    """`model` with the parts replaced, in place, that ONNX Runtime would calculate differently."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.ConstantPad2d) and child.value == 0:
                setattr(module, name, ZeroBorder(child.padding))
    return model


def _class(config: Any) -> Any:
    from transformers.models.auto.modeling_auto import MODEL_MAPPING

    kind = MODEL_MAPPING.get(type(config), None)
    if kind is None or kind.main_input_name != "pixel_values" or config.model_type == "vit_mae":
        raise TrainingError(
            "bad_config",
            f"a model of type {config.model_type!r} cannot be a backbone: it takes no pictures, or (vit_mae) drops "
            "patches at random. Give a vision model such as ViT, DINOv2, SigLIP, ResNet, BiT or ConvNeXt.",
        )
    return kind


def _without_pooler(kind: Any) -> dict[str, bool]:
    return {"add_pooling_layer": False} if "add_pooling_layer" in inspect.signature(kind.__init__).parameters else {}


def new_model(config: Any) -> nn.Module:
    """A network of `config` with new weights."""
    kind = _class(config)
    with quiet():
        model: nn.Module = kind(config, **_without_pooler(kind))
    return model


def resized(name: str, model: nn.Module, size: int) -> nn.Module:
    """`model` for pictures of `size`: its table of positions interpolated, where it has one."""
    config: Any = copy.deepcopy(model.config)
    if not hasattr(config, "image_size") or config.image_size == size:
        return model
    patch = getattr(config, "patch_size", 1)
    patch = int(patch if isinstance(patch, int) else patch[0])
    before = int(config.image_size) // patch
    config.image_size = size
    target = new_model(config)
    wanted, state = target.state_dict(), model.state_dict()
    for key, value in state.items():
        if key in wanted and wanted[key].shape != value.shape:
            if "position_embedding" not in key:
                raise TrainingError(
                    "bad_config", f"{name} cannot take pictures of {size} px: {key} is tied to its own size."
                )
            antialias = config.model_type == "dinov2_with_registers"  # as its own code does
            state[key] = resize_positions(value, before, size // patch, antialias=antialias)
    target.load_state_dict(state)
    return target.train(model.training)


def resize_positions(table: Tensor, before: int, after: int, *, antialias: bool = False) -> Tensor:
    """Position embeddings (..., T + before^2, D) to (..., T + after^2, D), bicubic as in ViT's and DINOv2's own code.

    T tokens in front (class, distillation) have no place and are kept.
    """
    front = table.shape[-2] - before * before
    rows = table.reshape(-1, table.shape[-1])
    grid = rows[front:].T.reshape(1, -1, before, before).float()  # (1, D, before, before)
    grid = F.interpolate(grid, size=(after, after), mode="bicubic", align_corners=False, antialias=antialias)
    rows = torch.cat([rows[:front], grid.flatten(2)[0].T.to(rows.dtype)])
    return rows.view(*table.shape[:-2], *rows.shape)


def preprocessing(name: str) -> dict[str, Any]:
    """preprocessor_config.json of `name`, empty when there is none."""
    path = hub_file(name, "preprocessor_config.json")
    if path is None:
        return {}
    try:
        row: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        inner: dict[str, Any] = row.get("image_processor", row)
        return inner
    except (ValueError, AttributeError) as error:
        raise TrainingError("bad_checkpoint", f"{path} is no JSON object: {error}. Copy it again.") from error


def normalisation(name: str, row: dict[str, Any]) -> tuple[list[float] | None, list[float] | None]:
    """Mean and standard deviation of pixels / 255, or None and None where the model has no preprocessing of its own."""
    mean, std = row.get("image_mean"), row.get("image_std")
    if not row.get("do_normalize", True):
        mean, std = [0.0] * 3, [1.0] * 3
    if mean is None or std is None:
        return None, None
    # (x * factor - mean) / std, written for x / 255
    factor = float(row.get("rescale_factor", 1 / 255)) if row.get("do_rescale", True) else 1.0
    try:
        means, stds = ([float(v) / (255 * factor) for v in values] for values in (mean, std))
    except (TypeError, ValueError, ZeroDivisionError):
        means, stds = [], []
    if len(means) != 3 or len(stds) != 3 or not all(v > 0 for v in stds):
        raise TrainingError(
            "bad_checkpoint",
            f"preprocessor_config.json of {name} has image_mean {mean}, image_std {std}; "
            "each has 3 numbers, those of image_std above 0.",
        )
    return means, stds


def own_size(row: dict[str, Any], config: Any) -> int:
    """Side in pixels that the model's preprocessing gives, else its configuration's, else 224."""
    for key in ("crop_size", "size") if row.get("do_center_crop", True) else ("size",):
        found = row.get(key)
        if isinstance(found, dict):
            found = found.get("height", found.get("shortest_edge"))
        if isinstance(found, int) and found > 0:
            return found
    side: Any = getattr(config, "image_size", 224)
    return int(side if isinstance(side, int) else side[0])


def first_line(error: object) -> str:
    """The first line of an error, with a full stop."""
    return f"{(str(error).strip().splitlines() or [type(error).__name__])[0].rstrip('.')}."
