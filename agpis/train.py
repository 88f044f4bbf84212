"""`agpis train`: a file of verdicts in, a checkpoint out. Presets, and what the four kinds of model share.

The configs are `PrimaryTraining`, `ComplianceTraining` (train_single.py), `MuiscTraining` (train_sequence.py) and
`BaselineTraining` (train_baseline.py); loop.py holds the one loop.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agpis.checkpoint import Kind
from agpis.configs import overridden
from agpis.errors import SettingsError, TrainingError
from agpis.image_labels import image_labels, primary_groups, read_image_labels
from agpis.loop import Optim
from agpis.models.backbones import BackboneConfig
from agpis.processes import processes
from agpis.rulebook import Rulebook, load_rulebook
from agpis.samples import Labelled, labelled, report, split_by_time, window
from agpis.train_baseline import BaselineTraining, train_baseline
from agpis.train_sequence import PRESETS as MUISC_PRESETS
from agpis.train_sequence import MuiscTraining, train_muisc
from agpis.train_single import ComplianceTraining, PrimaryTraining, train_compliance, train_primary
from agpis.verdicts import BadSample, read_verdicts

Training = PrimaryTraining | ComplianceTraining | MuiscTraining | BaselineTraining

_VIT = BackboneConfig("vit_b16")
_PAPER = Optim(batch=64, lr=1.5e-4, epochs=10, weight_decay=0.01)  # 4.2

PRESETS: dict[Kind, dict[str, Training]] = {
    "primary": {
        "starter": PrimaryTraining(),
        "paper": PrimaryTraining(backbone=_VIT, freeze=False, tower_rate=1.0, optim=_PAPER, workers=8),
    },
    "compliance": {
        "starter": ComplianceTraining(),
        "paper": ComplianceTraining(backbone=_VIT, freeze=False, tower_rate=1.0, optim=_PAPER, workers=8),
    },
    "muisc": dict(MUISC_PRESETS),
    "baseline": {
        "starter": BaselineTraining(),
        "paper": BaselineTraining(backbone=_VIT, freeze=False, tower_rate=1.0, optim=_PAPER, workers=8),
    },
}
"""`starter`: small and frozen, for a laptop. `paper`: ViT-B/16 trained as a whole, for a GPU."""


@dataclass(frozen=True, slots=True)
class Window:
    """Which verdicts count, by time; the paper retrains on the last three months (5.1)."""

    days: int | None = None
    """Only verdicts of the last so many days."""
    until: str | None = None
    """ISO 8601; only verdicts before. None: now."""
    test_days: int | None = None
    """Keep the days after `until` as the test split, instead of a tenth of the skus."""


def config_of(kind: Kind, preset: str, changes: dict[str, Any]) -> Training:
    """A preset with changes. Raises SettingsError `bad_setting`."""
    presets = PRESETS[kind]
    if preset not in presets:
        raise SettingsError("bad_setting", f"{kind} has no preset {preset!r}; allowed are {', '.join(presets)}.")
    return overridden(presets[preset], changes)


def read_samples(
    paths: Sequence[Path], rulebook: Rulebook, when: Window = Window()
) -> tuple[list[Labelled], list[BadSample]]:
    """Labelled samples of one or more files of verdicts, and the lines that are none.

    Raises:
        TrainingError: a file cannot be read, or one sku stands on two sides of the split.
        SettingsError: `bad_window`.
    """
    verdicts = [verdict for path in paths for verdict in read_verdicts(path)]
    if when.test_days is not None:
        verdicts = list(split_by_time(verdicts, when.days or 90, when.test_days, when.until).verdicts)
    else:
        verdicts = window(verdicts, until=when.until, days=when.days)
    bad: list[BadSample] = []
    return labelled(verdicts, rulebook, bad=bad), bad


def train(
    kind: Kind,
    paths: Sequence[Path],
    out: Path,
    *,
    training: Training,
    rulebook: str | None = None,
    base: Path | None = None,
    labels: Path | None = None,
    cache: Path | None = None,
    when: Window = Window(),
    progress: bool = True,
    say: Callable[[str], object] = print,
) -> Any:
    """Trains one model on verdicts and writes its checkpoint to `out`; returns the run's report.

    Args:
        paths: files of verdicts (.jsonl or .parquet), docs/samples.md.
        training: see `config_of`.
        rulebook: name or path; None: that of the base bundle for muisc, else `default`.
        base: muisc: bundle whose image graph makes the tokens, where no backbone is named; None: the starter.
        labels: compliance: a file of image labels, in place of or beside the verdicts.
        cache: folder of cached tokens, to be shared by runs.
        say: takes what there is to say before the training; of several processes the main one says it.

    Raises:
        AgpisError: as reading and training do; nothing half-written is left but the state to go on from.
    """
    if not processes().is_main_process:
        say = _silent
    sources = [path.name for path in paths]
    if rulebook is None and kind == "muisc" and training_reads_bundle(training):
        from agpis.bundle import open_bundle

        rules = open_bundle(base).rulebook
    else:
        rules = load_rulebook(rulebook or "default")
    samples, bad = read_samples(paths, rules, when)
    say(str(report(samples, rules, bad)))
    if kind == "muisc":
        assert isinstance(training, MuiscTraining)
        return train_muisc(samples, rules, training, out, base=base, cache=cache, sources=sources, progress=progress)
    if kind == "baseline":
        assert isinstance(training, BaselineTraining)
        return train_baseline(samples, rules, training, out, cache=cache, sources=sources, progress=progress)
    if kind == "primary":
        assert isinstance(training, PrimaryTraining)
        return train_primary(primary_groups(samples), rules, training, out, cache=cache, progress=progress)
    assert isinstance(training, ComplianceTraining)
    marked = image_labels(samples, rules)
    if labels is not None:
        wrong: list[BadSample] = []
        marked += read_image_labels(labels, rules, bad=wrong)
        if wrong:
            say(f"{labels.name}: {len(wrong)} lines left out, the first: {wrong[0].message}")
    if not marked:
        raise TrainingError(
            "too_few_samples",
            "found no label of a single image: give accepted sequences, rejections of single rules with image_index, "
            "or a file of image labels.",
        )
    return train_compliance(marked, rules, training, out, cache=cache, progress=progress)


def _silent(_: str) -> None:
    pass


def training_reads_bundle(training: Training) -> bool:
    """Whether the tokens come from a bundle."""
    return isinstance(training, MuiscTraining) and training.backbone is None
