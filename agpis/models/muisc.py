"""MUIsC, the multi-image sequence classifier of Fan et al. (KDD '22, arXiv 2206.12994, section 3.4): the whole model.

Notable:
- encoder (3.4.1): the tokens of all images in one sequence, one learned position per token of the sequence, N^s
  post-norm transformer blocks over it; any K by masking the tokens of absent images
- decoder (3.4.2): GPT-2 blocks (pre-norm) over title, separator and feedback in one causal sequence; cross-attention
  to the images only in chosen blocks (the authors use the last of three)
- class head on the hidden state of the separator; LM head tied to the word embedding, on the feedback alone (3.4.3)
- where our tokens carry descriptors (`TokenLayout`), `Compare` tells every token how well it is found again in the
  other images, because a few hundred products are too few to learn comparison from. Off in the paper's form.

Image towers live in towers.py; this model starts from their tokens, so that a frozen tower can be cached.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from agpis.errors import TrainingError


@dataclass(frozen=True, slots=True)
class TokenLayout:
    """What the columns of our image graphs' tokens (P, D) mean: side * side grid tokens, then one knowledge token."""

    side: int = 7
    """Side of the grid."""
    learned: int = 61
    """Columns of a grid token: projected features ..."""
    descriptor: int = 64
    """... then the L2-normalised descriptor of the place ..."""
    colour: int = 3
    """... then its mean colour."""
    knowledge: int = 30
    """Columns of the knowledge token: logits of stage 1, then the product embedding (L2-normalised) to the end."""

    @property
    def tokens(self) -> int:
        """Tokens of an image, P."""
        return self.side * self.side + 1

    @property
    def width(self) -> int:
        """Columns, D."""
        return self.learned + self.descriptor + self.colour


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
    layout: TokenLayout | None = None
    """Set when the tokens come from our image graphs: `Compare` is then used."""
    pool: int | None = None
    """Side to which a grid is averaged before the encoder (starter: 7 to 4), for speed."""
    hide: float = 0.0
    """Share of training sequences whose learned columns and product embeddings are hidden: the model then leans on
    comparison and on what stage 1 knows, which carries over to other shops better than looks do."""

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
        if self.pool is not None and self.layout is None:
            raise TrainingError("bad_config", "pool needs a layout: only our grids are known to be square.")

    @property
    def memory_tokens(self) -> int:
        """Tokens per image that the decoder sees."""
        if self.layout is None or self.pool is None:
            return self.tokens
        return self.pool * self.pool + 1


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
        return self.out(y.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


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
        return self.norm2(x + self.drop(self.project(F.gelu(self.expand(x)))))  # type: ignore[no-any-return]


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
        return x + self.drop(self.project(y))  # type: ignore[no-any-return]


class Compare(nn.Module):
    """Tells each token of our image graphs what the other images of the sequence hold of it.

    A grid token gets, for every image j, the best cosine of its descriptor among j's descriptors; the knowledge token
    gets the mean and spread of those, the cosine of the product embeddings, and the distance of the mean colours.
    An absent image, and the token's own, give 0.
    """

    def __init__(self, layout: TokenLayout, k: int, width: int) -> None:
        super().__init__()
        self.layout = layout
        self.grid = nn.Linear(k, width)
        self.image = nn.Linear(5 * k, width)

    def forward(self, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """tokens (S, K, P, D), mask (S, K) -> additions: grid tokens (S, K, P-1, W), knowledge tokens (S, K, W)."""
        match, facts = self.facts(tokens, mask)
        return self.grid(match), self.image(facts)

    def facts(self, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Best match of each place in each image (S, K, P-1, K); of each image with each: (S, K, 5K)."""
        layout = self.layout
        s, k, p = tokens.shape[0], tokens.shape[1], layout.side * layout.side
        start = layout.learned
        grid = tokens[:, :, :p]
        flat = grid[..., start : start + layout.descriptor].flatten(1, 2)  # (S, K*P, E)
        match = flat @ flat.transpose(1, 2)  # (S, K*P, K*P)
        match = match.view(s, k * p, k, p).amax(-1).view(s, k, p, k)
        others = (1.0 - torch.eye(k, dtype=tokens.dtype, device=tokens.device)) * mask[:, None, :]  # (S, K, K)
        match = match * others[:, :, None, :]
        embedding = tokens[:, :, p, layout.knowledge :]
        cosine = (embedding @ embedding.transpose(1, 2)) * others
        colour = grid[..., start + layout.descriptor :].mean(2)  # (S, K, 3)
        distance = (colour[:, :, None] - colour[:, None]).abs().sum(-1) * others
        mean = match.mean(2)
        high = (match > 0.8).to(tokens.dtype).mean(2)  # share of places found again almost unchanged
        back = mean.transpose(1, 2) * others  # how much of the other is found here: tells a crop from its whole
        return match, torch.cat([mean, high, back, cosine, distance], dim=-1)


class Shortcut(nn.Module):
    """Class logits straight from what stage 1 knows: the strongest rule of any image, the primary's, the best matches.

    A few thousand simulated sequences do not teach the decoder to pass these on, and they are what carries over to
    shops that it never saw.
    """

    def __init__(self, layout: TokenLayout, k: int, classes: int, hidden: int = 64) -> None:
        super().__init__()
        self.layout, self.k = layout, k
        facts = 3 * layout.knowledge + 10 + 1
        self.norm = nn.LayerNorm(facts)
        self.direct = nn.Linear(facts, classes)
        self.expand, self.project = nn.Linear(facts, hidden), nn.Linear(hidden, classes)

    def forward(self, tokens: Tensor, mask: Tensor, pairs: Tensor) -> Tensor:
        """tokens (S, K, P, D), mask (S, K), pairs (S, K, 5K) of `Compare.facts` -> (S, C)."""
        layout, k = self.layout, self.k
        known = tokens[:, :, layout.side * layout.side, : layout.knowledge]
        low = known.masked_fill(mask[..., None] < 0.5, -3.0)  # the lowest logit that tokens hold
        present = mask[:, :, None] * mask[:, None, :]
        apart = present * (1.0 - torch.eye(k, dtype=tokens.dtype, device=tokens.device)) > 0.5  # (S, K, K)
        each = pairs.view(*pairs.shape[:2], 5, k).transpose(2, 3)  # (S, K, K, 5)
        most = each.masked_fill(~apart[..., None], -1.0).amax((1, 2))
        least = each.masked_fill(~apart[..., None], 4.0).amin((1, 2))
        rest = low[:, 1:].amax(1) if k > 1 else low[:, 0]
        facts = torch.cat([low.amax(1), known[:, 0], rest, most, least, mask.mean(1, keepdim=True)], dim=-1)
        facts = self.norm(facts)
        return self.direct(facts) + self.project(F.gelu(self.expand(facts)))  # type: ignore[no-any-return]


class Muisc(nn.Module):
    """Tokens of K images and a text in, class logits and next-token logits out."""

    def __init__(self, config: MuiscConfig) -> None:
        super().__init__()
        self.config = config
        same = config.layout is None and config.token_width == config.width
        self.project = nn.Identity() if same else nn.Linear(config.token_width, config.width)
        if config.layout is not None:
            self.compare: Compare | None = Compare(config.layout, config.k, config.width)
            # The knowledge token's columns mean something else than the grid's.
            self.know: nn.Linear | None = nn.Linear(config.token_width, config.width)
            self.shortcut: Shortcut | None = Shortcut(config.layout, config.k, config.classes)
        else:
            self.compare, self.know, self.shortcut = None, None, None
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
        self.drop = nn.Dropout(config.dropout)
        if config.layout is not None and config.pool is not None:
            self.register_buffer("pooling", pooling_matrix(config.layout.side, config.pool), persistent=False)
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
        layout = self.config.layout
        if layout is None or self.compare is None or self.know is None:
            x = self.project(tokens)
        else:
            grid, known = tokens[:, :, : layout.side * layout.side], tokens[:, :, layout.side * layout.side]
            match, facts = self.compare(tokens, mask)
            if self.training and self.config.hide > 0:
                shown = (torch.rand(len(tokens), 1, 1, 1, device=tokens.device) >= self.config.hide).to(tokens.dtype)
                grid = torch.cat([grid[..., : layout.learned] * shown, grid[..., layout.learned :]], dim=-1)
                known = torch.cat(
                    [known[..., : layout.knowledge], known[..., layout.knowledge :] * shown[:, 0]], dim=-1
                )
            if self.config.pool is not None:
                pooling: Tensor = self.pooling  # type: ignore[assignment]
                grid, match = pooling @ grid, pooling @ match  # (S, K, pool * pool, ...)
            x = torch.cat([self.project(grid) + match, (self.know(known) + facts)[:, :, None]], dim=2)
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
        """Class logits (S, C) straight from stage 1; zeros where the tokens carry none."""
        if self.compare is None or self.shortcut is None:
            return tokens.new_zeros((tokens.shape[0], self.config.classes))
        return self.shortcut(tokens, mask, self.compare.facts(tokens, mask)[1])  # type: ignore[no-any-return]

    # decoder

    def embed(self, ids: Tensor, start: int | Tensor = 0) -> Tensor:
        """Token ids (B, T) at the positions from `start` on."""
        places = torch.arange(ids.shape[1], device=ids.device) + start
        return self.drop(self.words(ids) + self.text_positions(places))  # type: ignore[no-any-return]

    def decode(self, ids: Tensor, memory: Tensor, memory_mask: Tensor) -> Tensor:
        """Hidden states (B, T, width) of texts (B, T); padding on the right only, which no earlier token can see."""
        x = self.embed(ids)
        mask = causal_mask(ids.shape[1], 0, ids.device)
        for block in self.decoder:
            assert isinstance(block, DecoderBlock)
            x, _ = block.read(x, None, mask)
            x = block.look(x, memory, memory_mask)
        return self.final_norm(x)  # type: ignore[no-any-return]

    def lm_logits(self, hidden: Tensor) -> Tensor:
        """Next-token logits; tied to the word embedding."""
        return hidden @ self.words.weight.T

    def forward(self, tokens: Tensor, mask: Tensor, ids: Tensor, separator: Tensor) -> tuple[Tensor, Tensor]:
        """Class logits (S, C) and LM logits (S, T, V).

        Args:
            ids: int64 (S, T) title, separator, feedback, end, padding.
            separator: int64 (S,) index of the separator in each row of `ids`.
        """
        memory = self.encode(tokens, mask)
        hidden = self.decode(ids, memory, self.memory_mask(mask))
        at_separator = hidden[torch.arange(len(ids), device=ids.device), separator]
        return self.class_head(at_separator) + self.known(tokens, mask), self.lm_logits(hidden)

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


def losses(
    config: MuiscConfig, class_logits: Tensor, lm_logits: Tensor, labels: Tensor, ids: Tensor, targets: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Total, class and feedback loss, eq. (2) to (4).

    Args:
        labels: int64 (S,) class indices.
        ids: int64 (S, T) as in `Muisc.forward`.
        targets: bool (S, T), True at the tokens to be predicted (feedback and end; the title too where wanted).
    """
    mcc = F.cross_entropy(class_logits, labels)
    wanted = targets[:, 1:]
    nlg = F.cross_entropy(lm_logits[:, :-1][wanted], ids[:, 1:][wanted])
    return config.lambda_mcc * mcc + config.lambda_nlg * nlg, mcc, nlg


def collate(
    titles: Sequence[Sequence[int]], feedbacks: Sequence[Sequence[int]], pad: int, *, predict_title: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Title ids (separator last) and feedback ids (end last) to `ids` (S, T), `separator` (S,), `targets` (S, T)."""
    longest = max(len(t) + len(f) for t, f in zip(titles, feedbacks, strict=True))
    ids = torch.full((len(titles), longest), pad, dtype=torch.long)
    targets = torch.zeros((len(titles), longest), dtype=torch.bool)
    for row, (title, feedback) in enumerate(zip(titles, feedbacks, strict=True)):
        end = len(title) + len(feedback)
        ids[row, :end] = torch.tensor([*title, *feedback])
        targets[row, 1 if predict_title else len(title) : end] = True
    separator = torch.tensor([len(title) - 1 for title in titles])
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
