"""Where the image tokens of a sequence training come from: a bundle's image graph or a frozen backbone, whose tokens
are made once and cached; or a backbone that is trained too, on pixels.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from agpis.bundle import Bundle
from agpis.dataset import Cached, Pixels, SequenceData, cached_tokens
from agpis.errors import TrainingError
from agpis.models.backbones import Backbone, BackboneConfig, new_backbone
from agpis.models.comparison import TokenLayout
from agpis.processes import processes
from agpis.train_image import graph_of_tokens

TokensOf = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]
"""uint8 (N, S, S, 3) -> (N, P, D)."""


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """Where tokens come from, and what they are."""

    tokens: int
    """P, tokens an image."""
    width: int
    """D, columns of a token."""
    class_token: bool = False
    """The first token stands for the whole image."""
    signature: int = 0
    """The last columns of every token are the image's colour signature."""
    layout: TokenLayout | None = None
    """What the columns mean, where a bundle says it."""
    cached: Cached | None = None
    """None: the backbone is trained, on pixels."""
    pixels: Pixels | None = None
    """The pictures, where nothing is cached."""
    backbone: Backbone | None = None
    """None: the tokens are a bundle's."""
    tokens_of: str = ""
    """Sha256 of the bundle's graph that made the tokens."""


def bundle_source(bundle: Bundle, data: SequenceData, folder: Path, *, progress: bool = True) -> Source:
    """Tokens of a bundle's image graph. Raises TrainingError `bad_config` where its input is not square."""
    manifest = bundle.manifest
    graph = manifest.graphs[manifest.roles["tokens"]]
    if bundle.size.width != bundle.size.height:
        raise TrainingError("bad_config", f"bundle {bundle.name} takes {bundle.size}; training needs a square input.")
    cached = cached_tokens(
        data.images,
        lambda pixels: bundle.image(pixels).tokens,
        bundle.size.width,
        folder,
        graph.sha256,
        progress=progress,
    )
    layout = TokenLayout(**manifest.token_layout) if manifest.token_layout else None
    return Source(cached.tokens.shape[1], cached.tokens.shape[2], layout=layout, cached=cached, tokens_of=graph.sha256)


def backbone_source(
    config: BackboneConfig, data: SequenceData, folder: Path, *, freeze: bool, progress: bool = True
) -> Source:
    """A backbone's tokens: cached when it is frozen, else to be made in every step."""
    backbone = new_backbone(config).eval()
    shape = (backbone.tokens, backbone.width, backbone.class_token, backbone.signature)
    if not freeze:
        return Source(*shape, pixels=Pixels(data.images, backbone.size), backbone=backbone)
    for parameter in backbone.parameters():
        parameter.requires_grad_(False)
    made: list[TokensOf] = []

    def tokens_of(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        if not made:  # the export takes seconds, and where all tokens are there already it is not needed
            device = processes().device
            made.append(_tokens_on(device, backbone) if device.type == "cuda" else graph_of_tokens(backbone))
        return made[0](pixels)

    cached = cached_tokens(data.images, tokens_of, backbone.size, folder, fingerprint(backbone), progress=progress)
    return Source(*shape, cached=cached, backbone=backbone.cpu())


def _tokens_on(device: torch.device, backbone: Backbone) -> TokensOf:
    backbone.to(device)

    def tokens(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16):
            found = backbone(torch.from_numpy(pixels).to(device))
            return np.asarray(found.float().cpu().numpy(), np.float32)

    return tokens


def fingerprint(module: nn.Module) -> str:
    """Sha256 over names and values of all weights."""
    digest = hashlib.sha256(b"tokens 2")  # another number where a backbone's tokens change and its weights do not
    if signature := getattr(module, "signature", 0):
        digest.update(f"signature {signature}".encode())
    for name, value in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(
            value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes() if value.ndim else str(value).encode()
        )
    return digest.hexdigest()
