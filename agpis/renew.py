"""Renewal: what reviewers said of the current bundle's work makes the next bundle (the paper, 5.1: every three months).

    print(renew("reviews.db", Path("bundles"), Renewal(window="90d")))

Samples from the store, split by a hash of the sku; the sequence model trained on from the current bundle, other heads
where asked; stage 1's evidence weighed again (`agpis.weighing`); both bundles on the same held-out verdicts, paired
over products. Everything is written under HOME/renewals/ID first (`agpis.renewal_folder`) and takes its place whole: a
renewal may be killed at any point and goes on when it is asked again.
"""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

from agpis.assemble import assemble
from agpis.bundle import open_bundle
from agpis.bundle_manifest import RulebookEntry, read_manifest, write_manifest
from agpis.checkpoint import Kind
from agpis.errors import SettingsError, TrainingError
from agpis.exchange import moment, write_verdicts
from agpis.graph_weights import checkpoint_of
from agpis.recast import recast
from agpis.renewal_fit import fitted
from agpis.renewal_folder import Home, Plan, write_json
from agpis.renewal_page import Comparison, compared, write_page
from agpis.renewal_samples import Samples, collected, enough, read_samples
from agpis.rule_changes import RuleChanges, rule_changes, with_rules
from agpis.rulebook import Rulebook, load_rulebook
from agpis.train import config_of, train

Head = Literal["compliance", "primary"]
Promote = Literal["better", "always", "never"]
Outcome = Literal["promoted", "kept", "too_few"]
EXIT_CODES: dict[Outcome, int] = {"promoted": 0, "kept": 10, "too_few": 11}
"""Of `agpis renew`; one that fails has the code of its error."""
GENTLE: Mapping[str, Any] = {"optim.lr": 3e-4, "optim.epochs": 4.0}
"""Settings of the sequence model's training where it goes on from a checkpoint; `Renewal.changes` come on top."""
Say = Callable[[str], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewal:
    """What is asked of a renewal."""

    window: str = "90d"
    """How far back verdicts count."""
    until: str = ""
    """Verdicts before then; "": now."""
    bundle: str | None = None
    """The bundle to renew, while the folder has no current one; None: the starter."""
    rulebook: str | None = None
    """Name or path of the rulebook that holds now; None: that of the current bundle."""
    train: tuple[Head, ...] = ()
    """Heads of stage 1 to train besides the sequence model; each brings an image network of its own to the bundle."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the trainings: of the sequence model by name, of heads as `compliance.NAME`, `primary.NAME`."""
    start: str = ""
    """Checkpoint of the sequence model to train on from; "": that of the current bundle, or its graphs' weights."""
    test_days: int | None = None
    """Measure on the last so many days, instead of on a tenth of the skus."""
    least: int = 100
    """Verdicts to train on, under which nothing is done."""
    withheld: float | None = None
    """The threshold holds back at most this share of the sequences; None: as many as the current bundle's does."""
    promote: Promote = "better"
    """`better`: see `Comparison.better`."""
    name: str = "renewed"
    """Bundles are called this, with the day behind it."""
    rounds: int = 1000
    """Bootstrap rounds."""
    seed: int = 0
    """Of the trainings and intervals."""

    def __post_init__(self) -> None:
        if self.withheld is not None and not 0.0 <= self.withheld < 1.0:
            raise SettingsError("bad_setting", f"withheld is {self.withheld}; it is a share, 0 to below 1.")
        if self.least < 20:
            raise SettingsError("bad_setting", f"least is {self.least}; allowed is 20 or more.")
        if self.test_days is not None and self.test_days < 1:
            raise SettingsError("bad_setting", f"test_days is {self.test_days}; allowed is 1 or more.")
        if not self.name or not all(letter.isalnum() or letter in "-_" for letter in self.name):
            raise SettingsError("bad_setting", f"name is {self.name!r}; allowed are letters, digits, - and _.")


def heads(names: Sequence[str]) -> tuple[Head, ...]:
    """Names of heads of stage 1, checked. Raises SettingsError `bad_setting`."""
    found = tuple(head for head in get_args(Head) if head in names)
    if foreign := sorted(set(names) - set(found)):
        raise SettingsError("bad_setting", f"found {', '.join(foreign)} to train; allowed are compliance, primary.")
    return found


@dataclass(frozen=True, slots=True)
class Renewed:
    """How a renewal ended."""

    outcome: Outcome
    id: str
    why: str
    """A sentence."""
    folder: Path
    """HOME/renewals/ID."""
    bundle: Path | None
    """The new bundle; None with too few verdicts."""
    notes: tuple[str, ...]
    comparison: Comparison | None

    @property
    def exit_code(self) -> int:
        """See EXIT_CODES."""
        return EXIT_CODES[self.outcome]

    def __str__(self) -> str:
        lines = [*self.notes, *([str(self.comparison)] if self.comparison is not None else [])]
        lines.append(f"{self.outcome.replace('_', ' ')}: {self.why}")
        if self.bundle is not None:
            lines.append(f"bundle: {self.bundle}; comparison: {self.folder / 'comparison.html'}")
        return "\n".join(lines)


def renew(
    source: str,
    home: Path,
    wanted: Renewal = Renewal(),
    *,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    progress: bool = True,
    say: Say = lambda text: None,
) -> Renewed:
    """Makes a bundle out of verdicts, compares it with the current one, and promotes it where that is asked.

    Args:
        source: a store (SQLite file or database URL), or a file of verdicts (.jsonl, .parquet, .csv).
        home: folder of the bundles, see `agpis.renewal_folder`.

    Raises:
        OutputError: `locked` while another renewal runs in `home`, and those of writing.
        AgpisError: as reading, training and export do. What is finished stays, and the same call goes on.
    """
    place = Home(home)
    with place.lock():
        plan = _planned(place, source, wanted, now(), say)
        return _Run(place, plan, source, wanted, progress, say).done()


def _planned(home: Home, source: str, wanted: Renewal, now: datetime, say: Say) -> Plan:
    """The plan of the renewal that was stopped, or a new one."""
    current = home.current
    if current is None and wanted.bundle is not None:
        current = Path(wanted.bundle).resolve()
    base = None if current is None else str(current)
    question = {**asdict(wanted), "source": source, "base": base}
    if (plan := home.stopped(question, now)) is not None:
        say(f"goes on with {plan.id}, which was stopped")
        return plan
    until = moment(wanted.until, now) if wanted.until else now
    name = read_manifest(current).id if current is not None else ""
    start = str(Path(wanted.start).resolve()) if wanted.start else str(home.checkpoint(name) or "")
    plan = Plan(
        id=home.free_id(f"{wanted.name}-{until:%Y-%m-%d}"),
        began=now.isoformat(),
        since=moment(wanted.window, until).isoformat(),
        until=until.isoformat(),
        base=base,
        start=start,
        question=json.loads(json.dumps(question)),
    )
    home.begin(plan)
    return plan


class _Run:
    """One renewal. Every step leaves its result in the work folder, last of all its files, and is not done again."""

    def __init__(self, home: Home, plan: Plan, source: str, wanted: Renewal, progress: bool, say: Say) -> None:
        self.home, self.plan, self.source, self.wanted = home, plan, source, wanted
        self.progress, self.say = progress, say
        self.work = home.work(plan.id)
        self.base = open_bundle(plan.base)
        self.notes: list[str] = []

    def done(self) -> Renewed:
        rules = self.base.rulebook if self.wanted.rulebook is None else load_rulebook(self.wanted.rulebook)
        changes = rule_changes(self.base.rulebook, rules, compliance="compliance" in self.wanted.train)
        samples = self._samples(changes)
        self.notes += samples.notes
        if (why := enough(samples, self.wanted.least)) is not None:
            return self._ended("too_few", why, None)
        try:
            bundle = self._bundle(samples, rules, changes)
        except TrainingError as error:
            if error.code != "too_few_samples":
                raise
            return self._ended("too_few", error.message, None)
        comparison = self._comparison(samples, bundle)
        promoted, why = self._promoted(comparison)
        final = self.home.folder / self.plan.id
        if not final.exists():
            bundle.rename(final)
        if promoted:
            self.home.promote(self.plan.id)
        for cache in self.work.glob("*/cache"):  # tokens of the pictures: gigabytes, and made again in minutes
            shutil.rmtree(cache, ignore_errors=True)
        return self._ended("promoted" if promoted else "kept", why, comparison)

    def _ended(self, outcome: Outcome, why: str, comparison: Comparison | None) -> Renewed:
        bundle = self.home.folder / self.plan.id
        result = Renewed(
            outcome, self.plan.id, why, self.work, bundle if bundle.exists() else None, tuple(self.notes), comparison
        )
        row = {"outcome": outcome, "why": why, "id": self.plan.id, "base": self.base.name, "notes": list(self.notes)}
        write_json(self.work / "result.json", row)
        return result

    # Steps

    def _samples(self, changes: RuleChanges) -> Samples:
        if not (self.work / "samples.json").exists():
            found = collected(self.source, self.plan.since, self.plan.until, changes, self.wanted.test_days)
            write_verdicts(found.train, self.work / "samples.jsonl")
            write_verdicts(found.held, self.work / "held.jsonl")
            write_json(self.work / "samples.json", {"notes": list(found.notes)})
        return read_samples(self.work)

    def _bundle(self, samples: Samples, rules: Rulebook, changes: RuleChanges) -> Path:
        """The new bundle, whole: under its final name or in the work folder."""
        for folder in (self.home.folder / self.plan.id, self.work / "bundle"):
            if folder.exists():
                self.notes += json.loads((self.work / "bundle.json").read_text(encoding="utf-8"))["notes"]
                return folder
        notes = len(self.notes)
        made: dict[Kind, Path] = {}
        for kind in self.wanted.train:  # first, as the rulebook depends on the non-compliance model
            if (head := self._head(kind, rules)) is not None:
                made[kind] = head
        if "compliance" in self.wanted.train and "compliance" not in made:
            changes = rule_changes(self.base.rulebook, rules)
        if changes.any:
            self.notes += changes.report((*samples.train, *samples.held))
        made["muisc"] = self._sequence_model(changes)
        self.say("exporting")
        scratch = self.work / "bundle.new"
        shutil.rmtree(scratch, ignore_errors=True)
        assemble(
            scratch,
            bundle_id=self.plan.id,
            primary=made.get("primary"),
            compliance=made.get("compliance"),
            muisc=made["muisc"],
            base=self._relabelled(changes),
        )
        self.say(f"weighing stage 1's evidence on {len(samples.validation)} validation verdicts")
        learned = [verdict for verdict in samples.train if verdict.split == "train"]
        own = self.home.of_one_model(self.base.name)
        found = fitted(
            self.base, scratch, learned, samples.validation, changes,
            unseen=lambda verdict: verdict.bundle in own, taught=self.home.taught(self.base.name),
            withheld=self.wanted.withheld,
        )  # fmt: skip
        self.notes += found.notes
        open_bundle(scratch)
        write_json(self.work / "bundle.json", {"sequence": found.sequence, "notes": self.notes[notes:]})
        scratch.rename(self.work / "bundle")
        return self.work / "bundle"

    def _head(self, kind: Head, rules: Rulebook) -> Path | None:
        """The checkpoint of a head of stage 1; None, and a note, where there is too little to learn it from."""
        out = self.work / kind
        own = {name.removeprefix(f"{kind}."): v for name, v in self.wanted.changes.items() if name.startswith(kind)}
        training = config_of(kind, "starter", {"backbone.size": self.base.size.width, "seed": self.wanted.seed, **own})
        if not (out / "config.json").exists():
            self.say(f"training {kind}")
            (self.work / "rulebook-new.yaml").write_text(rules.text(), encoding="utf-8")
            try:
                train(
                    kind, [self.work / "samples.jsonl"], out, training=training,
                    rulebook=str(self.work / "rulebook-new.yaml"), cache=out / "cache", progress=self.progress,
                    say=self.say,
                )  # fmt: skip
            except TrainingError as error:
                if error.code not in ("too_few_samples", "no_readable_image"):
                    raise
                self.notes.append(f"{kind} stays as it is: {error.message}")
                return None
        return out

    def _sequence_model(self, changes: RuleChanges) -> Path:
        out = self.work / "muisc"
        scratch = self.work / "from-scratch.txt"
        if not (out / "config.json").exists():
            self._train_sequence_model(out, changes, scratch)
        if scratch.exists():
            self.notes.append(scratch.read_text(encoding="utf-8"))
        return out

    def _train_sequence_model(self, out: Path, changes: RuleChanges, scratch: Path) -> None:
        start = self._start(changes, scratch)
        own = {name: v for name, v in self.wanted.changes.items() if not name.startswith(("compliance.", "primary."))}
        gentle = {**GENTLE, "start": str(start)} if start is not None else {}
        training = config_of("muisc", "starter", {"seed": self.wanted.seed, **gentle, **own})
        (self.work / "rulebook.yaml").write_text(changes.rulebook.text(), encoding="utf-8")
        self.say("training the sequence model")
        report = train(
            "muisc", [self.work / "samples.jsonl"], out, training=training, rulebook=str(self.work / "rulebook.yaml"),
            base=self.base.folder, cache=out / "cache", progress=self.progress, say=self.say,
        )  # fmt: skip
        self.say(str(report))

    def _start(self, changes: RuleChanges, scratch: Path) -> Path | None:
        """The checkpoint to train on from, for the new classes; None, and the reason in a file: from scratch."""
        if changes.old.k != changes.new.k:
            return None
        try:
            folder = Path(self.plan.start) if self.plan.start else checkpoint_of(self.base, self.work / "start")
            return recast(folder, changes.rulebook, self.work / "start-recast")
        except TrainingError as error:
            if self.wanted.start:
                raise
            scratch.write_text(f"The sequence model is trained from scratch: {error.message}", encoding="utf-8")
            return None

    def _relabelled(self, changes: RuleChanges) -> Path:
        """The base bundle, its rules under the names that they have now."""
        if not changes.renamed:
            return self.base.folder
        out = self.work / "base"
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(self.base.folder, out)
        old = self.base.rulebook
        rules = [rule.model_copy(update={"id": changes.renamed.get(rule.id, rule.id), "was": ()}) for rule in old.rules]
        named = with_rules(old, rules)
        (out / "rulebook.yaml").write_text(named.text(), encoding="utf-8")
        entry = RulebookEntry(hash=named.hash, classes=named.classes, single_rules=named.single_rules)
        write_manifest(out, read_manifest(out).model_copy(update={"rulebook": entry}))
        return out

    # Old and new

    def _comparison(self, samples: Samples, bundle: Path) -> Comparison:
        path = self.work / "comparison.json"
        if not path.exists():
            self.say(f"comparing on {len(samples.held)} held-out verdicts")
            old, new = (open_bundle(folder) for folder in (self.base.folder, bundle))
            found = compared(old, new, samples.held, rounds=self.wanted.rounds, seed=self.wanted.seed)
            write_page(found, self.work, title=self.plan.id, notes=self.notes, samples=samples)
            write_json(path, found.row())
        return Comparison.from_row(json.loads(path.read_text(encoding="utf-8")))

    def _promoted(self, comparison: Comparison) -> tuple[bool, str]:
        said = comparison.why
        if self.wanted.promote == "always":
            return True, f"asked to, always; {said}"
        if self.wanted.promote == "never":
            return False, f"asked never to; {said}"
        if comparison.better:
            return True, said
        return False, f"{said}: neither interval is wholly above 0, or one is wholly below"
