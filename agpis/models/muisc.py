"""MUIsC, the multi-image sequence classifier of Fan et al. (KDD '22, arXiv 2206.12994, section 3.4): the whole model.

Notable:
- encoder (3.4.1): the tokens of all images in one sequence, one learned position per token of the sequence, N^s
  post-norm transformer blocks over it; any K by masking the tokens of absent images
- decoder (3.4.2): GPT-2 blocks (pre-norm) over title, separator and feedback in one causal sequence; cross-attention
  to the images only in chosen blocks (the authors use the last of three)
- class head on the hidden state of the separator; LM head tied to the word embedding, on the feedback alone (3.4.3)
- options beyond the paper, off by default: computed comparison of the images (comparison.py); the title predicted
  too, an LM head of its own (the authors' later notes; the category before the title is `agpis.inputs.Text`'s)
- defined for less than everything: fewer images than K are masked, an empty title leaves the separator alone

Backbones live in backbones.py; `Muisc` starts from their tokens, so that a frozen one can be cached, and
`SequenceModel` joins the two.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from agpis.errors import TrainingError
from agpis.models.backbones import Backbone
from agpis.models.comparison import Compare, Shortcut, TokenLayout


@dataclass(frozen=True, slots=True)
class MuiscConfig:
    """Shape of the model. The defaults are the paper's where it gives them."""

    classes: int
    """C: qualified, the learned rules, other."""
    vocabulary: int
    """Token ids of the decoder's tokenizer."""
    tokens: int = 197
    """Tokens an image brings, class token included (ViT-B/16 at 224: 197)."""
    token_width: int = 768
    """Width of those tokens."""
    k: int = 3
    """Images of a sequence, K."""
    width: int = 768
    """D of encoder and decoder."""
    encoder_blocks: int = 1
    """N^s."""
    encoder_heads: int = 12
    """Attention heads of an encoder block."""
    encoder_mlp: int = 3072
    """Hidden width of an encoder block's MLP."""
    decoder_blocks: int = 3
    """N^d."""
    decoder_heads: int = 12
    """Attention heads of a decoder block."""
    decoder_mlp: int = 3072
    """Hidden width of a decoder block's MLP."""
    cross_attention: tuple[int, ...] = (2,)
    """Decoder blocks with cross-attention, from 0."""
    positions: int = 1024
    """Longest text in tokens."""
    encoder_epsilon: float = 1e-12
    """Layer norm of the encoder (ViT's value)."""
    decoder_epsilon: float = 1e-5
    """Layer norm of the decoder (GPT-2's value)."""
    dropout: float = 0.1
    """After embeddings, attention and MLP, in training."""
    lambda_nlg: float = 0.1
    """Weight of the feedback loss, eq. (4)."""
    lambda_mcc: float = 1.0
    """Weight of the class loss, eq. (4)."""
    predict_title: bool = False
    """Also predict the title's tokens (the authors' later notes)."""
    tied: bool = True
    """LM head tied to the word embedding; False: one of its own, from scratch (the authors' later notes)."""
    class_token: bool = False
    """The first token of an image stands for the whole (ViT)."""
    compare: bool = False
    """Add computed comparison of the images (comparison.py), which wins the pair rules. Always on with a layout."""
    layout: TokenLayout | None = None
    """Set when the tokens come from our image graphs, which carry descriptors and what stage 1 knows."""
    signature: int = 0
    """Without a layout: the last columns of every token are the image's colour signature (`ColouredBackbone`)."""
    pool: int | None = None
    """Side to which a square grid is averaged before the encoder (starter: 7 to 4), for speed."""
    hide: float = 0.0
    """Share of training sequences whose looks are hidden (tokens; with a layout their learned columns and the product
    embeddings): the model then leans on comparison and on what stage 1 knows, which carries over to other shops."""

    def __post_init__(self) -> None:
        for heads in (self.encoder_heads, self.decoder_heads):
            if self.width % heads:
                raise TrainingError("bad_config", f"width {self.width} is not divisible by {heads} heads.")
        if not self.cross_attention or not all(0 <= b < self.decoder_blocks for b in self.cross_attention):
            raise TrainingError(
                "bad_config",
                f"cross_attention is {self.cross_attention}; it names at least one of the blocks 0 to "
                f"{self.decoder_blocks - 1}.",
            )
        if self.layout is not None and (self.layout.tokens, self.layout.width) != (self.tokens, self.token_width):
            raise TrainingError(
                "bad_config",
                f"layout gives tokens of {self.layout.tokens} x {self.layout.width}, the config says "
                f"{self.tokens} x {self.token_width}.",
            )
        if not 0 <= self.signature < self.token_width or (self.signature and self.layout is not None):
            raise TrainingError(
                "bad_config",
                f"signature is {self.signature}: it is a part of the {self.token_width} columns of a token, and of "
                "plain tokens only.",
            )
        if self.hide > 0 and not (self.compare or self.layout is not None):
            raise TrainingError("bad_config", "hide needs compare or a layout: else nothing of the images is left.")
        if self.pool is not None and (self.side**2 != self.grid or not 1 <= self.pool <= self.side):
            raise TrainingError(
                "bad_config",
                f"pool is {self.pool}; it needs a square grid of at least that side, found {self.grid} tokens.",
            )

    @property
    def extra(self) -> int:
        """Tokens of an image that are not places of a grid: class token, knowledge token."""
        return int(self.layout is not None or self.class_token)

    @property
    def grid(self) -> int:
        """Grid tokens of an image."""
        return self.tokens - self.extra

    @property
    def side(self) -> int:
        """Side of the grid, where it is square."""
        return math.isqrt(self.grid)

    @property
    def memory_tokens(self) -> int:
        """Tokens per image that the decoder sees."""
        return self.tokens if self.pool is None else self.pool * self.pool + self.extra


class Attention(nn.Module):
    """Multi-head scaled dot-product attention with separate projections."""

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)

    def split(self, x: Tensor) -> Tensor:
        return x.view(x.shape[0], x.shape[1], self.heads, -1).transpose(1, 2)  # (B, H, T, D/H)

    def forward(self, x: Tensor, source: Tensor, mask: Tensor | None) -> Tensor:
        """x (B, T, D) attends to source (B, M, D); `mask` bool, True = may be seen, broadcast to (B, H, T, M)."""
        return self.attend(x, self.split(self.key(source)), self.split(self.value(source)), mask)

    def attend(self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        """As `forward`, with keys and values (B, H, M, D/H) at hand."""
        y = F.scaled_dot_product_attention(
            self.split(self.query(x)), keys, values, attn_mask=mask, dropout_p=self.dropout if self.training else 0.0
        )
        attended: Tensor = self.out(y.transpose(1, 2).flatten(2))
        return attended


class EncoderBlock(nn.Module):
    """Post-norm transformer block: attention, add, norm, MLP (exact gelu), add, norm."""

    def __init__(self, width: int, heads: int, mlp: int, epsilon: float, dropout: float) -> None:
        super().__init__()
        self.attention = Attention(width, heads, dropout)
        self.norm1 = nn.LayerNorm(width, epsilon)
        self.expand, self.project = nn.Linear(width, mlp), nn.Linear(mlp, width)
        self.norm2 = nn.LayerNorm(width, epsilon)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        x = self.norm1(x + self.drop(self.attention(x, x, mask)))
        x = self.norm2(x + self.drop(self.project(F.gelu(self.expand(x)))))
        return x


class DecoderBlock(nn.Module):
    """GPT-2 block: pre-norm self-attention, cross-attention where chosen, pre-norm MLP (tanh gelu)."""

    def __init__(self, width: int, heads: int, mlp: int, epsilon: float, dropout: float, cross: bool) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, epsilon)
        self.attention = Attention(width, heads, dropout)
        self.norm_cross = nn.LayerNorm(width, epsilon) if cross else None
        self.cross = Attention(width, heads, dropout) if cross else None
        self.norm2 = nn.LayerNorm(width, epsilon)
        self.expand, self.project = nn.Linear(width, mlp), nn.Linear(mlp, width)
        self.drop = nn.Dropout(dropout)

    def read(self, x: Tensor, past: Tensor | None, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Self-attention half, which sees no image. x (B, T, D); past and present (2, B, H, T', D/H)."""
        y = self.norm1(x)
        keys, values = self.attention.split(self.attention.key(y)), self.attention.split(self.attention.value(y))
        if past is not None:
            keys, values = torch.cat([past[0], keys], dim=2), torch.cat([past[1], values], dim=2)
        return x + self.drop(self.attention.attend(y, keys, values, mask)), torch.stack([keys, values])

    def look(self, x: Tensor, memory: Tensor, memory_mask: Tensor | None) -> Tensor:
        """Cross-attention, where this block has it, and MLP; each position for itself."""
        if self.cross is not None and self.norm_cross is not None:
            x = x + self.drop(self.cross(self.norm_cross(x), memory, memory_mask))
        y = F.gelu(self.expand(self.norm2(x)), approximate="tanh")
        x = x + self.drop(self.project(y))
        return x


class Muisc(nn.Module):
    """Tokens of K images and a text in, class logits and next-token logits out."""

    pooling: Tensor

    def __init__(self, config: MuiscConfig) -> None:
        super().__init__()
        self.config = config
        same = config.layout is None and config.token_width == config.width
        self.project = nn.Identity() if same else nn.Linear(config.token_width, config.width)
        comparing = config.compare or config.layout is not None
        self.compare = (
            Compare(config.k, config.width, config.layout, config.class_token, config.signature) if comparing else None
        )
        self.shortcut = Shortcut(config.k, config.classes, config.layout) if comparing else None
        # The knowledge token's columns mean something else than the grid's.
        self.know = nn.Linear(config.token_width, config.width) if config.layout is not None else None
        self.image_positions = nn.Parameter(torch.zeros(config.k * config.memory_tokens, config.width))
        self.encoder = nn.ModuleList(
            EncoderBlock(config.width, config.encoder_heads, config.encoder_mlp, config.encoder_epsilon, config.dropout)
            for _ in range(config.encoder_blocks)
        )
        self.words = nn.Embedding(config.vocabulary, config.width)
        self.text_positions = nn.Embedding(config.positions, config.width)
        self.decoder = nn.ModuleList(
            DecoderBlock(
                config.width,
                config.decoder_heads,
                config.decoder_mlp,
                config.decoder_epsilon,
                config.dropout,
                block in config.cross_attention,
            )
            for block in range(config.decoder_blocks)
        )
        self.final_norm = nn.LayerNorm(config.width, config.decoder_epsilon)
        self.class_head = nn.Linear(config.width, config.classes)
        self.lm_head = None if config.tied else nn.Linear(config.width, config.vocabulary, bias=False)
        self.drop = nn.Dropout(config.dropout)
        if config.pool is not None:
            self.register_buffer("pooling", pooling_matrix(config.side, config.pool), persistent=False)
        self.apply(_initialise)
        nn.init.normal_(self.image_positions, std=0.02)

    # encoder

    def encode(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Sequence features, the decoder's memory.

        Args:
            tokens: float (S, K, P, token_width).
            mask: float (S, K), 1 where there is an image, 0 where it is absent.

        Returns:
            float (S, K * memory_tokens, width).
        """
        config, layout = self.config, self.config.layout
        if layout is not None:
            p = layout.side * layout.side
            grid, whole = tokens[:, :, :p], tokens[:, :, p:]
        else:
            grid, whole = tokens[:, :, config.extra :], tokens[:, :, : config.extra]
        if self.training and config.hide > 0:
            shown = (torch.rand(len(tokens), 1, 1, 1, device=tokens.device) >= config.hide).to(tokens.dtype)
            if layout is not None:
                grid = torch.cat([grid[..., : layout.learned] * shown, grid[..., layout.learned :]], dim=-1)
                whole = torch.cat([whole[..., : layout.knowledge], whole[..., layout.knowledge :] * shown], dim=-1)
            else:
                grid, whole = grid * shown, whole * shown
        match = facts = None
        if self.compare is not None:
            match, facts, _ = self.compare(tokens, mask)
        if config.pool is not None:
            grid = self.pooling @ grid  # (S, K, pool * pool, ...)
            match = self.pooling @ match if match is not None else None
        x = self.project(grid)
        if match is not None:
            x = x + match
        if config.extra:
            y = self.project(whole) if self.know is None else self.know(whole)
            if facts is not None:
                y = y + facts[:, :, None]
            x = torch.cat([x, y] if layout is not None else [y, x], dim=2)
        elif facts is not None:
            x = x + facts[:, :, None]
        x = x.flatten(1, 2) + self.image_positions  # (S, K * M, W)
        x = self.drop(x)
        seen = self.memory_mask(mask)
        for block in self.encoder:
            x = block(x, seen)
        memory: Tensor = x
        return memory

    def memory_mask(self, mask: Tensor) -> Tensor:
        """Image mask (S, K) to a bool mask over the memory, (S, 1, 1, K * memory_tokens)."""
        return mask.repeat_interleave(self.config.memory_tokens, dim=1)[:, None, None, :] > 0.5

    def known(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Class logits (S, C) straight from comparison and stage 1; zeros where the model has no such path."""
        parts = self.shortcuts(tokens, mask)
        return torch.stack(parts).sum(0) if parts else tokens.new_zeros((tokens.shape[0], self.config.classes))

    def shortcuts(self, tokens: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        """The parts of `known`: of the pair facts and, with a layout, of stage 1."""
        if self.compare is None or self.shortcut is None:
            return ()
        found: tuple[Tensor, ...] = self.shortcut(tokens, mask, self.compare.facts(tokens, mask)[1])
        return found

    # decoder

    def embed(self, ids: Tensor, start: int | Tensor = 0) -> Tensor:
        """Token ids (B, T) at the positions from `start` on."""
        places = torch.arange(ids.shape[1], device=ids.device) + start
        embedded: Tensor = self.drop(self.words(ids) + self.text_positions(places))
        return embedded

    def decode(self, ids: Tensor, memory: Tensor, memory_mask: Tensor) -> Tensor:
        """Hidden states (B, T, width) of texts (B, T); padding on the right only, which no earlier token can see."""
        x = self.embed(ids)
        mask = causal_mask(ids.shape[1], 0, ids.device)
        for block in self.decoder:
            assert isinstance(block, DecoderBlock)
            x, _ = block.read(x, None, mask)
            x = block.look(x, memory, memory_mask)
        hidden: Tensor = self.final_norm(x)
        return hidden

    def lm_logits(self, hidden: Tensor) -> Tensor:
        """Next-token logits."""
        if self.lm_head is not None:
            logits: Tensor = self.lm_head(hidden)
            return logits
        return hidden @ self.words.weight.T

    def forward(
        self, tokens: Tensor, mask: Tensor, ids: Tensor, separator: Tensor, wanted: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Class logits (S, C) and LM logits (S, T, V).

        Args:
            ids: int64 (S, T) title, separator, feedback, end, padding.
            separator: int64 (S,) index of the separator in each row of `ids`.
            wanted: bool (S, T), True at the tokens to be predicted: LM logits (N, V) of these alone are then given, in
                order, which in training is most of the time saved.
        """
        memory = self.encode(tokens, mask)
        hidden = self.decode(ids, memory, self.memory_mask(mask))
        at_separator = hidden[torch.arange(len(ids), device=ids.device), separator]
        spoken = hidden if wanted is None else hidden[:, :-1][wanted[:, 1:]]
        return self.class_head(at_separator) + self.known(tokens, mask), self.lm_logits(spoken)

    def score(self, tokens: Tensor, memory: Tensor, mask: Tensor, ids: Tensor) -> Tensor:
        """Class logits (S, C) of S sequences and their memory under ONE title (1, T) that ends with the separator.

        Equal to `forward`, but what sees no image is computed once for all sequences, and in the last block the
        separator alone.
        """
        seen = self.memory_mask(mask)
        first = min(self.config.cross_attention)
        x = self.embed(ids)
        causal = causal_mask(ids.shape[1], 0, ids.device)
        for index, block in enumerate(self.decoder):
            assert isinstance(block, DecoderBlock)
            x, _ = block.read(x, None, causal)
            if index == len(self.decoder) - 1:
                x = x[:, -1:]
            if index == first:
                x = x.expand(memory.shape[0], -1, -1)
            x = block.look(x, memory, seen)
        logits: Tensor = self.class_head(self.final_norm(x)[:, -1]) + self.known(tokens, mask)
        return logits

    def step(self, ids: Tensor, memory: Tensor, memory_mask: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """One greedy step with a key-value cache.

        Args:
            ids: int64 (1, T) the tokens not yet in the cache.
            memory_mask: float (1, M) over the memory's tokens.
            past: float (blocks, 2, 1, H, T', width / H), T' = 0 at first.

        Returns:
            logits (1, V) after the last token, and the cache with T' + T tokens.
        """
        x = self.embed(ids, past.shape[4])
        mask = causal_mask(ids.shape[1], past.shape[4], ids.device)
        seen = memory_mask[:, None, None, :] > 0.5
        present = []
        for index, block in enumerate(self.decoder):
            assert isinstance(block, DecoderBlock)
            x, cache = block.read(x, past[index], mask)
            present.append(cache)
            x = block.look(x, memory, seen)
        return self.lm_logits(self.final_norm(x[:, -1])), torch.stack(present)


class SequenceModel(nn.Module):
    """MUIsC with the backbone whose tokens it reads; None where they are cached from a bundle's image graph."""

    def __init__(self, muisc: Muisc, backbone: Backbone | None = None) -> None:
        super().__init__()
        self.muisc, self.backbone = muisc, backbone

    def tokens(self, pixels: Tensor, mask: Tensor) -> Tensor:
        """uint8 (S, K, H, W, 3) -> (S, K, P, D); absent images (mask 0) are not computed and give zeros."""
        if self.backbone is None:
            raise TrainingError("bad_config", "this model has no backbone of its own; give it tokens.")
        present = mask > 0.5
        found: Tensor = self.backbone(pixels[present])
        tokens = found.new_zeros((*present.shape, *found.shape[1:]))
        tokens[present] = found
        return tokens


def losses(
    config: MuiscConfig,
    class_logits: Tensor,
    lm_logits: Tensor,
    labels: Tensor,
    ids: Tensor,
    targets: Tensor,
    *,
    weights: Tensor | None = None,
    whole: tuple[float, float] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Total, class and feedback loss, eq. (2) to (4).

    Args:
        lm_logits: (S, T, V), or (N, V) of the wanted tokens alone, see `Muisc.forward`.
        labels: int64 (S,) class indices.
        ids: int64 (S, T) as in `Muisc.forward`.
        targets: bool (S, T), True at the tokens to be predicted (feedback and end; the title too where wanted).
        weights: (C,) weight of each class; None: all alike.
        whole: what the sums are divided by: weight of the samples, number of predicted tokens. None: of this batch. A
            part of a step gives the step's, so that the parts' losses add up to the step's.
    """
    wanted = targets[:, 1:]
    samples, words = whole or (
        float(len(labels)) if weights is None else float(weights[labels].sum()),
        float(wanted.sum()),
    )
    spoken = lm_logits[:, :-1][wanted] if lm_logits.ndim == 3 else lm_logits
    mcc = F.cross_entropy(class_logits, labels, weight=weights, reduction="sum") / max(samples, 1e-12)
    nlg = F.cross_entropy(spoken, ids[:, 1:][wanted], reduction="sum") / max(words, 1.0)
    return config.lambda_mcc * mcc + config.lambda_nlg * nlg, mcc, nlg


def collate(
    titles: Sequence[Sequence[int]], feedbacks: Sequence[Sequence[int]], pad: int, *, predict_title: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Title ids (separator last) and feedback ids (end last) to `ids` (S, T), `separator` (S,), `targets` (S, T)."""
    longest = max((len(t) + len(f) for t, f in zip(titles, feedbacks, strict=True)), default=0)
    ids = torch.full((len(titles), longest), pad, dtype=torch.long)
    targets = torch.zeros((len(titles), longest), dtype=torch.bool)
    for row, (title, feedback) in enumerate(zip(titles, feedbacks, strict=True)):
        end = len(title) + len(feedback)
        ids[row, :end] = torch.tensor([*title, *feedback])
        targets[row, 1 if predict_title else len(title) : end] = True
    separator = torch.tensor([len(title) - 1 for title in titles], dtype=torch.long)
    return ids, separator, targets


def causal_mask(length: int, past: int, device: torch.device) -> Tensor:
    """bool (T, T' + T): token t sees the past and everything up to itself."""
    row = torch.arange(length, device=device)[:, None] + past
    return torch.arange(length + past, device=device)[None] <= row


def pooling_matrix(side: int, to: int) -> Tensor:
    """float (to * to, side * side) that averages a side x side grid to to x to, as adaptive average pooling does."""
    rows = torch.zeros(to, side)
    for index in range(to):
        start, end = math.floor(index * side / to), math.ceil((index + 1) * side / to)
        rows[index, start:end] = 1.0 / (end - start)
    return torch.kron(rows, rows)


def _initialise(module: nn.Module) -> None:
    """GPT-2's initialisation: normal 0.02, biases 0."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
