"""The folder that renewals work in, and which bundle is the current one.

    HOME/current                the bundle to generate with: a symbolic link to one of those beside it
    HOME/ID/                    a bundle; it has its name only when it is whole
    HOME/renewals/ID/           how it was made: plan.json, samples, checkpoints, comparison.html, result.json

The link is made under another name and renamed over the old one, so that at any moment it leads to a whole bundle.
A renewal without result.json was stopped; the next one goes on with it while it is asked the same and it is not STALE.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from agpis.bundle_manifest import MANIFEST
from agpis.errors import OutputError, output_error
from agpis.locks import locked
from agpis.shards import replace_file
from agpis.verdicts import moment_of

CURRENT, RENEWALS = "current", "renewals"
STALE = timedelta(hours=48)
"""After that long a stopped renewal is not gone on with: there are newer verdicts."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What one renewal is to do; fixed when it begins, so that one that was killed does the same."""

    id: str
    """Of the new bundle."""
    began: str
    """ISO 8601."""
    since: str
    """Verdicts from then ..."""
    until: str
    """... to before then."""
    base: str | None
    """Folder of the current bundle; None: the starter."""
    start: str
    """Checkpoint to train on from; "": the weights in the base's graphs."""
    question: dict[str, Any]
    """What was asked; another question is another renewal."""


class Home:
    """The folder; use it under `lock`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()

    @contextmanager
    def lock(self) -> Iterator[None]:
        """One renewal at a time; the lock dies with the process. Raises OutputError `locked`, and those of writing."""
        try:
            (self.folder / RENEWALS).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise output_error(error, self.folder) from error
        with locked(self.folder / RENEWALS):
            yield

    @property
    def current(self) -> Path | None:
        """The folder of the current bundle; None before the first promotion.

        Raises OutputError `not_a_bundle` where `current` is something else than a link to a bundle.
        """
        link = self.folder / CURRENT
        if not link.is_symlink() and not link.exists():
            return None
        if not link.is_symlink() or not (link / MANIFEST).is_file():
            raise OutputError(
                "not_a_bundle", f"{link} is no symbolic link to a bundle; make it one (ln -sfn), or remove it."
            )
        return link.resolve()

    def promote(self, bundle: str) -> None:
        """Makes the bundle of that id the current one, at once and whole. Raises OutputError."""
        link, new = self.folder / CURRENT, self.folder / f".{CURRENT}.new"
        try:
            new.unlink(missing_ok=True)
            new.symlink_to(bundle)
            new.replace(link)
        except OSError as error:
            raise output_error(error, link) from error

    def work(self, bundle: str) -> Path:
        """Where the bundle of that id is made."""
        return self.folder / RENEWALS / bundle

    def checkpoint(self, bundle: str) -> Path | None:
        """The sequence model's checkpoint that a bundle was exported from, where a renewal made it."""
        found = self.work(bundle) / "muisc"
        return found if bundle and (found / "config.json").is_file() else None

    def of_one_model(self, bundle: str) -> frozenset[str]:
        """Names of the bundles that have the sequence model of this one: those that renewals made it from while they
        kept that model. What they decided was reviewed after the model was trained. "", a verdict without a bundle, is
        among them while no renewal has trained that model."""
        found = {bundle}
        for name in self._behind(bundle):
            path = self.work(name) / "bundle.json"
            if not path.is_file() or json.loads(path.read_text(encoding="utf-8"))["sequence"] != "kept":
                return frozenset(found)
            found.add(json.loads((self.work(name) / "result.json").read_text(encoding="utf-8"))["base"])
        return frozenset({*found, ""})

    def taught(self, bundle: str) -> frozenset[str]:
        """Skus of the verdicts that the renewals behind a bundle learned from."""
        found: set[str] = set()
        for name in self._behind(bundle):
            if (path := self.work(name) / "samples.jsonl").is_file():  # somebody may have made room
                with path.open(encoding="utf-8") as lines:
                    found.update(json.loads(line)["sku"] for line in lines)
        return frozenset(found)

    def _behind(self, bundle: str) -> Iterator[str]:
        """The bundle and those that it was renewed from, as long as they were made here."""
        behind: set[str] = set()
        while bundle not in behind and (self.work(bundle) / "result.json").is_file():
            behind.add(bundle)
            yield bundle
            bundle = json.loads((self.work(bundle) / "result.json").read_text(encoding="utf-8"))["base"]

    def stopped(self, question: dict[str, Any], now: datetime) -> Plan | None:
        """The renewal that was not finished: the current bundle's own, where it was killed right after the promotion,
        or the last one if the same was asked and it is not stale."""
        current = self.current
        if current is not None and (plan := self._unfinished(self.work(current.name))) is not None:
            return plan
        asked = json.loads(json.dumps(question))
        for path in sorted((self.folder / RENEWALS).glob("*/plan.json"), reverse=True):
            plan = self._unfinished(path.parent)
            began = moment_of(plan.began) if plan is not None else None
            if plan is not None and plan.question == asked and began is not None and now - began < STALE:
                return plan
        return None

    def _unfinished(self, work: Path) -> Plan | None:
        path = work / "plan.json"
        if (work / "result.json").exists() or not path.exists():
            return None
        return Plan(**json.loads(path.read_text(encoding="utf-8")))

    def begin(self, plan: Plan) -> Path:
        """Writes the plan down; returns the folder to work in. Raises OutputError."""
        folder = self.work(plan.id)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise output_error(error, folder) from error
        write_json(folder / "plan.json", asdict(plan))
        return folder

    def free_id(self, wanted: str) -> str:
        """`wanted`, with a number behind it where a bundle or a renewal has that name already."""
        for number in range(1, 10_000):
            name = wanted if number == 1 else f"{wanted}-{number}"
            if not (self.folder / name).exists() and not self.work(name).exists():
                return name
        raise OutputError("not_empty", f"{self.folder} holds 9,999 bundles named {wanted}; choose another name.")


def write_json(path: Path, row: Any) -> None:
    """Writes JSON, whole or not at all. Raises OutputError."""
    replace_file(path, (json.dumps(row, indent=1, ensure_ascii=False) + "\n").encode())
