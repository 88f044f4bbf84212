"""One training on reviewed sequences, MUIsC's or a baseline's: its samples, its loop, what it reports and writes.

With several processes all read the same samples and run the loop together; the main one then measures, calibrates and
writes the checkpoint while the others wait, and its report is every process's.
"""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from accelerate.utils import broadcast_object_list, gather_object
from torch import Tensor, nn

from agpis.batches import Batches, Logits, class_probabilities
from agpis.checkpoint import Checkpoint, Kind, write_checkpoint
from agpis.dataset import BadImage, SequenceData, sequence_data
from agpis.errors import TrainingError
from agpis.loop import BackboneTraining, fit
from agpis.metrics import auc
from agpis.processes import processes
from agpis.rulebook import Rulebook
from agpis.samples import Labelled
from agpis.token_source import Source

NAMED = 20
"""Bad pictures that are named on screen."""
MINIMUM = 20
"""Samples to train on, under which training says no."""
Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class Report:
    """What a run used, left out and reached."""

    samples: dict[str, int]
    """Split -> samples trained or measured on."""
    bad_images: tuple[BadImage, ...]
    left_out: int
    """Samples without which it was trained, because of those."""
    figures: dict[str, float]
    """On the validation split."""
    seconds: float
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [", ".join(f"{n} {split}" for split, n in self.samples.items()) + f" samples, {self.seconds:.0f} s"]
        lines += [f"validation {name}: {value:.4f}" for name, value in self.figures.items() if name != "samples"]
        lines += self.notes
        if self.bad_images:
            lines.append(f"left out {self.left_out} samples, for {len(self.bad_images)} pictures that cannot be read:")
            lines += [f"  {bad.message}" for bad in self.bad_images[:NAMED]]
            if len(self.bad_images) > NAMED:
                lines.append(f"  and {len(self.bad_images) - NAMED} more")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceTraining(BackboneTraining):
    """What the trainings on reviewed sequences share."""

    class_weights: float = 0.0
    """Exponent of 1 / frequency as the weight of a class in the loss; 0: all alike, 1: balanced."""

    def __post_init__(self) -> None:
        BackboneTraining.__post_init__(self)  # slots: the class is made anew, so that super() does not find itself
        if not 0.0 <= self.class_weights <= 1.0:
            raise TrainingError("bad_config", f"class_weights is {self.class_weights}; allowed is 0 to 1.")


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """The trained model on the validation samples whose pictures could be read."""

    probabilities: npt.NDArray[np.float32]
    """(n, C), or (n, 2) of a binary baseline; qualified first."""
    labels: npt.NDArray[np.int64]
    """(n,)."""

    @property
    def both(self) -> bool:
        """Accepted and rejected sequences are among them."""
        return 0 < int((self.labels == 0).sum()) < len(self.labels)

    def figures(self) -> dict[str, float]:
        """AUC of p_qualified, where it can be said, and the number of samples."""
        found = {"auc": auc(self.probabilities[:, 0], self.labels == 0)} if self.both else {}
        return {**found, "samples": float(len(self.labels))}


class SequenceRun:
    """Samples and pictures of one run, and what is found out about them."""

    def __init__(
        self,
        samples: Sequence[Labelled],
        rulebook: Rulebook,
        source_of: Callable[[SequenceData], Source],
        training: SequenceTraining,
        names: Sequence[str] = (),
    ) -> None:
        """`source_of` gives the pictures of the samples; `names` of the sample files, for the record.

        Raises TrainingError `too_few_samples`, and as `source_of` does.
        """
        self.begin = time.monotonic()
        self.rulebook, self.training, self.names = rulebook, training, list(names)
        self.data = sequence_data(samples, rulebook, rulebook.k)
        _check_enough(self.data)
        torch.manual_seed(training.seed)
        self.source = source_of(self.data)
        self.total, self.notes, self.unread = len(self.data), list[str](), set[int]()
        if self.source.cached is not None:
            self.data = self.data.kept(self.source.cached.ok)
            _check_enough(self.data, self.source.cached.bad)
        self.train, self.validation = self.data.where("train"), self.data.where("validation")

    def batches(
        self, part: SequenceData, titles: Sequence[Sequence[int]], feedbacks: Sequence[Sequence[int]], pad: int,
        **options: Any,
    ) -> Batches:  # fmt: skip
        """Batches of one split, from the run's pictures; `options` as `Batches` has them."""
        source = self.source
        cached = source.cached.tokens if source.cached is not None else None
        return Batches(part, titles, feedbacks, pad, tokens=cached, pixels=source.pixels, **options)

    def fit(
        self,
        model: nn.Module,
        loss: Callable[[Any], dict[str, Tensor]],
        logits: Logits,
        train: Batches,
        held: Batches | None,
        out: Path,
        *,
        name: str,
        slower: Sequence[tuple[nn.Module, float]],
        config: Mapping[str, Any],
        progress: bool,
    ) -> list[dict[str, float]]:
        """The loop; see `agpis.loop.fit`. `config` of the model is part of what makes it another run."""
        log = fit(
            model,
            loss,
            len(train),
            self.training.optim,
            seed=self.training.seed,
            name=name,
            load=train,
            workers=0 if self.source.cached is not None else self.training.workers,
            slower=slower,
            validate=(lambda: self._measure(logits, model, held).figures().get("auc", float("nan"))) if held else None,
            folder=out,
            question={
                "model": dict(config),
                "training": {key: value for key, value in asdict(self.training).items() if key != "workers"},
                "tokens_of": self.source.tokens_of,
                "samples": digest(self.train),
            },
            progress=progress,
        )
        self.unread = set(gather_object(sorted(self.unread)))  # those that other processes have met
        return log

    def measured(self, model: nn.Module, logits: Logits, held: Batches | None) -> Measured | None:
        """The trained model over the validation samples, by the main process for all; None without any."""

        def measure() -> tuple[Measured | None, set[int]]:
            found = self._measure(logits, model.to(processes().device), held) if held is not None else None
            return found, self.unread

        found, self.unread = in_main(measure)
        model.cpu()
        if found is None:
            self.notes.append("There is no validation split: the last weights are kept, and nothing is calibrated.")
        elif not found.both:
            self.notes.append("The validation split holds verdicts of one kind: nothing is chosen or calibrated by it.")
        return found

    def _measure(self, logits: Logits, model: nn.Module, held: Batches) -> Measured:
        probabilities, rows = class_probabilities(logits, model, held, bad=self.unread)
        return Measured(probabilities, held.labels[rows])

    def write(
        self,
        kind: Kind,
        module: nn.Module,
        fields: Mapping[str, Any],
        metrics: Mapping[str, Any],
        measured: Measured | None,
        log: Sequence[dict[str, float]],
        out: Path,
    ) -> Report:
        """Writes the checkpoint; the main process does it for all.

        Args:
            fields: model, backbone and texts of the `Checkpoint`.
            metrics: besides those of validation.
        """
        figures = measured.figures() if measured is not None else {}

        def written() -> Report:
            report = self._report(figures)
            training = {
                "command": f"agpis train {kind}",
                "config": asdict(self.training),
                "sources": self.names,
                "samples": report.samples,
                "left_out": report.left_out,
                "notes": list(report.notes),
                "losses": log[-1] if log else {},
                "torch": torch.__version__,
            }
            shown = {**({"validation": figures} if figures else {}), **metrics}
            checkpoint = Checkpoint(
                kind=kind, rulebook_yaml=self.rulebook.text(), training=training, metrics=shown, **fields
            )
            write_checkpoint(out, checkpoint, module)
            return report

        return in_main(written)

    def _report(self, figures: dict[str, float]) -> Report:
        source = self.source
        bad = source.cached.bad if source.cached is not None else ()
        left_out = self.total - len(self.data)
        if source.pixels is not None:
            bad = tuple(source.pixels.bad(row) for row in sorted(self.unread))
            left_out = int(np.isin(self.data.index, sorted(self.unread)).any(1).sum())
        return Report(
            samples={"train": len(self.train), "validation": len(self.validation)},
            bad_images=bad,
            left_out=left_out,
            figures=figures,
            seconds=time.monotonic() - self.begin,
            notes=tuple(self.notes),
        )


def in_main(make: Callable[[], Made]) -> Made:
    """What the main process makes, given to every process; the others wait for it."""
    made: list[Made | None] = [make() if processes().is_main_process else None]
    found: Made = broadcast_object_list(made)[0]
    return found


def _check_enough(data: SequenceData, bad: Sequence[BadImage] = ()) -> None:
    labels = data.where("train").labels
    if len(labels) >= MINIMUM and len(set(labels.tolist())) > 1:
        return
    without = f", without those of {len(bad)} pictures that cannot be read (the first: {bad[0].message})" if bad else ""
    raise TrainingError(
        "too_few_samples",
        f"found {len(labels)} samples to train on, of {len(set(labels.tolist()))} classes{without}; at least {MINIMUM} "
        "of 2 classes are needed (accepted and rejected sequences).",
    )


def digest(data: SequenceData) -> str:
    """Hash of what is trained on: images by name, order, labels and texts."""
    found = hashlib.sha256("\0".join(image.location for image in data.images).encode(errors="surrogatepass"))
    found.update(data.index.tobytes() + data.labels.tobytes())
    found.update("\0".join((*data.titles, *data.categories, *data.feedbacks)).encode(errors="surrogatepass"))
    return found.hexdigest()
