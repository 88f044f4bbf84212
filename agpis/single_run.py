"""One training of a single-image model on any backbone: its pictures, its loop, what it reports and writes.

A sample is one picture, or the candidates of one product. With a frozen backbone the tokens are made once and cached
and the head alone is trained; else pictures are decoded in the loader's workers. A picture that cannot be read is
counted and named, and no sample that needs it is trained on.
"""

import hashlib
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from accelerate.utils import gather_object
from torch import Tensor

from agpis.checkpoint import Checkpoint, write_checkpoint
from agpis.data import Image
from agpis.errors import TrainingError
from agpis.image_tokens import Cached, cached_tokens
from agpis.images import Limits
from agpis.loop import BackboneTraining, Optim, Part, fit
from agpis.models.backbones import BackboneConfig, new_backbone
from agpis.models.heads import HeadConfig, ImageClassifier
from agpis.pixels import BadImage, Pixels
from agpis.processes import processes
from agpis.rulebook import Rulebook
from agpis.token_source import fingerprint

Int64 = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]
Bool = npt.NDArray[np.bool_]

NAMED = 20
"""Bad pictures that are printed by name; the report and the checkpoint have all."""
CHUNK = 64
"""Pictures at a time outside of training."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SingleTraining(BackboneTraining):
    """What the trainings of single-image models share. The paper's learning rate of the backbone is 1.5e-4 (4.2)."""

    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    """Image network."""
    optim: Optim = field(default_factory=lambda: Optim(batch=64, lr=1.5e-3, epochs=10, patience=3))
    """Loop; a sample is a picture, for primary selection one choice among a product's candidates."""
    hidden: int = 256
    """See `HeadConfig`."""


@dataclass(frozen=True, slots=True)
class SingleReport:
    """What a training was made of and came to."""

    counts: dict[str, dict[str, int]]
    """Split -> what -> number, bad pictures left out as far as they were known before training."""
    bad: tuple[BadImage, ...]
    """Pictures that could not be read; none of them was trained on."""
    metrics: dict[str, Any]
    """As the checkpoint has them: thresholds, and figures on the validation split."""
    notes: tuple[str, ...]
    """Sentences on what could not be done, and why."""
    log: tuple[dict[str, float], ...]
    """Rows of the loop."""

    def __str__(self) -> str:
        lines = [f"{split}: " + ", ".join(f"{n} {what}" for what, n in c.items()) for split, c in self.counts.items()]
        lines += [f"{name}: {value:.4f}" for name, value in self.metrics.items() if isinstance(value, float)]
        thresholds = self.metrics.get("thresholds", {})
        lines += [f"threshold {name}: {entry['value']:.4f} ({entry['data']})" for name, entry in thresholds.items()]
        lines += self.notes
        if self.bad:
            codes = Counter(bad.code for bad in self.bad)
            lines.append("left out, unreadable: " + ", ".join(f"{n} {code}" for code, n in sorted(codes.items())))
            lines += [f"  {bad.message}" for bad in self.bad[:NAMED]]
            if len(self.bad) > NAMED:
                lines.append(f"  and {len(self.bad) - NAMED} more; the checkpoint's config.json names them")
        return "\n".join(lines)


# Samples -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Samples of several pictures each, end to end."""

    start: Int64
    """(n + 1,) sample i has the places start[i] to start[i + 1]."""
    rows: Int64
    """(T,) picture at each place."""
    needed: Bool
    """(T,) without this picture the sample says nothing."""

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]], needed: Sequence[int]) -> Self:
        """`rows` of the samples, and in each the position of the picture that is needed."""
        start = np.concatenate([[0], np.cumsum([len(r) for r in rows])]).astype(np.int64)
        marked = np.zeros(int(start[-1]), np.bool_)
        marked[start[:-1] + np.array(needed, np.int64)] = True
        return cls(start, np.array([row for r in rows for row in r], np.int64), marked)

    def __len__(self) -> int:
        return len(self.start) - 1

    @property
    def sizes(self) -> Int64:
        """(n,) pictures of each sample."""
        return np.diff(self.start)

    def places(self, samples: Int64) -> tuple[Int64, Int64]:
        """All places of these samples, and for each the position of its sample in `samples`."""
        sizes = self.sizes[samples]
        owner = np.repeat(np.arange(len(samples)), sizes)
        within = np.arange(len(owner)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        return self.start[samples][owner] + within, owner

    def usable(self, ok: Bool) -> tuple[Bool, Bool]:
        """Samples (n,) whose needed pictures are ok (M,), and places (T,) of such samples that are."""
        good = ok[self.rows]
        owner = np.repeat(np.arange(len(self)), self.sizes)
        samples = np.bincount(owner, self.needed & ~good, minlength=len(self)) == 0
        return samples, good & samples[owner]

    def kept(self, ok: Bool) -> tuple[Self, Int64]:
        """Without pictures that are not ok and samples that need one; and the samples (m,) that are left."""
        samples, places = self.usable(ok)
        owner = np.repeat(np.arange(len(self)), self.sizes)
        sizes = np.bincount(owner[places], minlength=len(self))[samples]
        start = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        return type(self)(start, self.rows[places], self.needed[places]), np.flatnonzero(samples)


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """The pictures of one part that could be read."""

    part: Part
    places: Int64
    """(m,) in the table."""
    owner: Int64
    """(m,) position in `part.index`."""
    bad: dict[int, BadImage]
    """Pictures that could not be read, by row."""


class Loader:
    """Part -> (pixels or tokens, `Batch`); picklable, for the workers."""

    def __init__(self, table: Table, source: Pixels | Cached) -> None:
        self.table, self.source = table, source

    def __call__(self, part: Part) -> tuple[Tensor, Batch]:
        """uint8 (m, S, S, 3), or float16 tokens (m, P, D), and what they are."""
        places, owner = self.table.places(part.index)
        data, ok, bad = _read(self.source, self.table.rows[places])
        lost = np.unique(owner[~ok & self.table.needed[places]])
        keep = ok & ~np.isin(owner, lost)
        return _tensor(data[keep]), Batch(part, places[keep], owner[keep], bad)


def _read(source: Pixels | Cached, rows: Int64) -> tuple[npt.NDArray[Any], Bool, dict[int, BadImage]]:
    if isinstance(source, Cached):
        return source.tokens[rows], source.ok[rows], {}
    data, ok = source(rows)
    return data, ok, {int(row): source.bad(int(row)) for row in rows[~ok]}


def _tensor(data: npt.NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(data))


def distinct(images: Iterable[Sequence[Image]]) -> tuple[tuple[Image, ...], list[list[int]]]:
    """Images distinct by location, and for each sample the rows of its own."""
    seen: dict[str, int] = {}
    found: list[Image] = []
    rows = []
    for several in images:
        mine = []
        for image in several:
            row = seen.setdefault(image.location, len(found))
            if row == len(found):
                found.append(image)
            mine.append(row)
        rows.append(mine)
    return tuple(found), rows


# One run -------------------------------------------------------------------------------------------------------------


class Run:
    """Model, pictures and what is found out about them, for either role."""

    def __init__(
        self,
        head: HeadConfig,
        training: SingleTraining,
        images: tuple[Image, ...],
        folder: Path,
        limits: Limits,
        progress: bool,
    ) -> None:
        torch.manual_seed(training.seed)
        self.model = ImageClassifier(head, new_backbone(training.backbone)).eval()
        self.training, self.images, self.progress = training, images, progress
        self.bad: dict[int, BadImage] = {}
        self.notes: list[str] = []
        self.readable = np.ones(len(images), np.bool_)
        """(M,) what is known before training, and so is the same in every process."""
        size = self.model.backbone.size
        self.source: Pixels | Cached
        if training.freeze:
            self.source = cached_tokens(
                images, self._tokens(), size, folder, self._key(), limits=limits, progress=progress
            )
            self.readable = self.source.ok
            self.bad = dict(zip(np.flatnonzero(~self.readable).tolist(), self.source.bad, strict=True))
        else:
            self.source = Pixels(images, size, limits)
            self._probe()

    def _tokens(self) -> Callable[[npt.NDArray[np.uint8]], Float32]:
        """The frozen backbone as a function; for primary selection the pooled token alone, a hundredth of the room."""
        backbone = self.model.backbone
        device = processes().device

        def tokens(pixels: npt.NDArray[np.uint8]) -> Float32:
            with torch.inference_mode():
                found = backbone.to(device)(torch.from_numpy(pixels).to(device))
                if self.model.config.role == "primary":
                    found = backbone.pooled(found)[:, None]
            return np.asarray(found.float().cpu().numpy())

        return tokens

    def _key(self) -> str:
        """Identity of the cached tokens: the backbone's weights, and whether they are pooled."""
        backbone, role = self.model.backbone, self.model.config.role
        return (
            f"{backbone.config.name} {backbone.config.architecture} {fingerprint(backbone)} pooled {role == 'primary'}"
        )

    def _probe(self) -> None:
        """A wrong folder is found out before training: some pictures, evenly over all, are read first."""
        rows = np.unique(np.linspace(0, len(self.images) - 1, 32).astype(np.int64))
        _, ok, bad = _read(self.source, rows)
        self.bad |= bad
        if not ok.any():
            raise TrainingError(
                "no_readable_image",
                f"none of {len(rows)} pictures that were tried could be read; the first: {bad[int(rows[0])].message} "
                "Correct the samples.",
            )

    @property
    def ok(self) -> Bool:
        """(M,) not known to be bad by now."""
        ok = np.ones(len(self.images), np.bool_)
        ok[list(self.bad)] = False
        return ok

    def outputs(self, data: Tensor) -> dict[str, Tensor]:
        """Logits in single precision, of pixels or of cached tokens on the model's device."""
        found = self.model.of_tokens(data.float()) if self.training.freeze else self.model(data)
        return {name: value.float() for name, value in found.items() if name != "tokens"}

    def probabilities(self, rows: Int64) -> tuple[dict[str, Float32], Bool]:
        """Sigmoids of the outputs, (M, ...), and ok (M,): the pictures of `rows` that could be read; NaN elsewhere."""
        device = processes().device
        self.model.to(device).eval()
        found: dict[str, Float32] = {}
        seen = np.zeros(len(self.images), np.bool_)
        wanted = np.unique(rows)
        for part in np.split(wanted, range(CHUNK, len(wanted), CHUNK)):
            data, ok, bad = _read(self.source, part)
            self.bad |= bad
            if not ok.any():
                continue
            seen[part[ok]] = True
            with torch.inference_mode():
                for name, logits in self.outputs(_tensor(data[ok]).to(device)).items():
                    values = torch.sigmoid(logits).cpu().numpy()
                    if name not in found:
                        found[name] = np.full((len(self.images), *values.shape[1:]), np.nan, np.float32)
                    found[name][part[ok]] = values
        return found, seen

    def fit(
        self,
        table: Table,
        loss: Callable[[Batch, dict[str, Tensor]], dict[str, Tensor]],
        validate: Callable[[], float] | None,
        folder: Path,
        *,
        names: Sequence[str] = ("total",),
        question: Mapping[str, Any],
    ) -> list[dict[str, float]]:
        """The loop over the samples of `table`.

        Args:
            loss: the contributions of a batch; where all its pictures are bad, it is not asked and adds nothing.
            names: of the losses.
            folder, question: see `agpis.loop.fit`; what the run stands on already is added to the question.
        """
        training, head = self.training, self.model.head

        def contributions(given: tuple[Tensor, Batch]) -> dict[str, Tensor]:
            data, batch = given
            self.bad |= batch.bad
            if not len(batch.places):
                nothing = torch.stack([p.sum() for p in head.parameters()]).sum() * 0.0
                return dict.fromkeys(names, nothing)
            return loss(batch, self.outputs(data))

        optim = training.optim
        if validate is None and optim.patience:
            self.notes.append("No validation figure: trained to the end, without early stopping.")
            optim = replace(optim, patience=0)
        digest = hashlib.sha256("\n".join(image.location for image in self.images).encode(errors="surrogatepass"))
        for array in (table.start, table.rows, table.needed):
            digest.update(array.tobytes())
        asked = {
            "head": asdict(self.model.config),
            "backbone": asdict(training.backbone),
            "freeze": training.freeze,
            "samples": digest.hexdigest(),
        }
        log = fit(
            head if training.freeze else self.model,
            contributions,
            len(table),
            optim,
            seed=training.seed,
            name=self.model.config.role,
            load=Loader(table, self.source),
            workers=0 if training.freeze else training.workers,
            slower=() if training.freeze else [(self.model.backbone, training.tower_rate)],
            validate=validate,
            folder=folder,
            question={**asked, **question},
            progress=self.progress,
        )
        self.bad = dict(gather_object(list(self.bad.items())))  # those that other processes have met
        return log

    def finish(
        self,
        out: Path,
        rulebook: Rulebook,
        counts: dict[str, dict[str, int]],
        metrics: dict[str, Any],
        log: list[dict[str, float]],
    ) -> SingleReport:
        """Writes the checkpoint; with several processes the first writes it for all."""
        role = self.model.config.role
        bad = tuple(self.bad[row] for row in sorted(self.bad))
        report = SingleReport(counts, bad, metrics, tuple(self.notes), tuple(log))
        training = {
            "command": f"agpis train {role}",
            "config": asdict(self.training),
            "samples": counts,
            "bad": [asdict(b) for b in bad],
            "notes": list(report.notes),
            "last_losses": log[-1] if log else {},
            "torch": torch.__version__,
        }
        if processes().is_main_process:
            model, backbone = asdict(self.model.config), asdict(self.model.backbone.config)
            written = Checkpoint(role, model, backbone, rulebook.text(), training=training, metrics=metrics)
            write_checkpoint(out, written, self.model)
            if self.progress:
                print(report, file=sys.stderr, flush=True)
        return report
