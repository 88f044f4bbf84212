"""A drawn shop for the watching tests: decisions and verdicts of many days, with or without a change."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import numpy as np

from agpis.data import Candidate, Decision, Verdict
from agpis.shards import encode_rows

START = date(2026, 3, 2)
"""A Monday."""


def decisions(
    seed: int, count: int, *, bundle: str = "starter", wide: float = 1.0, doubt: float = 0.0, unreadable: float = 0.02
) -> list[Decision]:
    """Products with 3 to 8 images; `wide` scales the widths, `doubt` is added to the log-odds of p_noncompliant."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        quality = rng.normal()  # images of one product are alike
        width = int(rng.choice([800, 1000, 1000, 1200]) * wide)
        candidates = []
        for image in range(int(rng.integers(3, 9))):
            uri = f"{seed}-{number}-{image}.jpg"
            if rng.random() < unreadable:
                candidates.append(Candidate(uri, outcome="removed", reason="not_found"))
                continue
            p_bad = 1 / (1 + np.exp(2 - doubt + quality + rng.normal()))
            removed = p_bad > 0.7
            height = int(width * rng.choice([0.75, 1.0, 1.0]))
            p_first = float(1 / (1 + np.exp(rng.normal() - quality)))
            outcome, reason = ("removed", "watermark") if removed else ("spare", "")
            candidates.append(
                Candidate(uri, width, height, p_first, float(p_bad), outcome=outcome, reason=reason)  # type: ignore[arg-type]
            )
        fit = sum(c.outcome != "removed" for c in candidates)
        p = float(1 / (1 + np.exp(-2 - quality + rng.normal())))
        status = "too_few_images" if fit < 3 else "generated" if p >= 0.3 else "below_threshold"
        found.append(
            Decision(
                f"{seed}-{number}", status, "A thing", sequence=(), p_qualified=p if fit >= 3 else None,
                candidates=tuple(candidates), bundle=bundle, rulebook="default 1",
            )
        )  # fmt: skip
    return found


def write_output(folder: Path, days: Iterable[tuple[date, list[Decision]]]) -> Path:
    """An output folder as `agpis generate` leaves it, a shard a day with that day's time."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").write_text(
        json.dumps({"format_version": 1, "complete": True, "question": {"source": "shop.jsonl", "base": None}})
    )
    for number, (day, of_day) in enumerate(days):
        path = folder / f"part-{number:06d}.jsonl"
        path.write_bytes(encode_rows([decision.row() for decision in of_day], "jsonl"))
        stamp = datetime.combine(day, time(12), UTC).timestamp()
        os.utime(path, (stamp, stamp))
    return folder


def verdicts(
    seed: int,
    start: date,
    days: int,
    a_day: int,
    reject: float,
    *,
    bundle: str = "starter",
    rule: str = "",
    share: float = 0.0,
) -> Iterator[Verdict]:
    """Verdicts of some days; of the rejections `share` name `rule`, the others one of four rules."""
    rng = np.random.default_rng(seed)
    for day in range(days):
        for number in range(a_day):
            moment = datetime.combine(start + timedelta(days=day), time(9, number % 60), UTC)
            rejected = bool(rng.random() < reject)
            named = rule if rng.random() < share else str(rng.choice(["watermark", "duplicate", "blur", "same_view"]))
            yield Verdict(
                f"{seed}-{day}-{number}", "A thing", ("1.jpg", "2.jpg"), not rejected,
                rules=(named,) if rejected else (), time=moment.isoformat(), bundle=bundle,
            )  # fmt: skip


def write_verdicts(path: Path, given: Iterable[Verdict]) -> Path:
    fields = ("sku", "title", "sequence", "accepted", "rules", "time", "bundle")
    lines = [json.dumps({name: getattr(verdict, name) for name in fields}) + "\n" for verdict in given]
    path.write_text("".join(lines), encoding="utf-8")
    return path
