"""Samples on disk: pictures, and one verdict a line."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import cv2

from agpis.data import Verdict
from agpis.simulate.sequence_samples import Sample


def write_samples(samples: Iterable[Sample], folder: str | Path) -> Path:
    """Write `images/*.jpg` and `samples.jsonl` (the fields of `agpis.data.Verdict`, uris relative to `folder`).

    All pictures are saved as JPEG of one quality, clean or broken. The sku is that of the product, so that a split
    by sku keeps all samples of a product together. Returns the path of samples.jsonl.
    """
    root = Path(folder)
    (root / "images").mkdir(parents=True, exist_ok=True)
    path = root / "samples.jsonl"
    with path.open("w", encoding="utf-8") as out:
        for number, sample in enumerate(samples):
            uris = []
            for i, picture in enumerate(sample.candidates):
                uri = f"images/{number:06d}-{i}.jpg"
                _, data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 95])
                (root / uri).write_bytes(data.tobytes())
                uris.append(uri)
            verdict = Verdict(
                sku=f"{sample.source}/{sample.sku}" if sample.source else sample.sku,
                title=sample.title,
                category=sample.category,
                sequence=tuple(uris[: len(sample.pictures)]),
                candidates=tuple(uris),
                accepted=sample.rule == "qualified",
                rules=() if sample.rule == "qualified" else (sample.rule,),
                image_index=sample.image_index,
                box=sample.box,
                feedback=sample.feedback,
                reviewer="simulator",
            )
            out.write(json.dumps(asdict(verdict), ensure_ascii=False) + "\n")
    return path
