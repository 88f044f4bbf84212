"""How fast the whole job is, where its time goes, and how far it is from its two bounds.

    python -m bench.speed                    # ../shared/data/magento and 7-candidate products made from it
    python -m bench.speed --memory           # peak memory of a run of 500 and of 20,000 products
    python -m bench.speed --data FOLDER      # a catalogue of your own: FOLDER/catalog.jsonl

The bounds are measured in the same process right before each run: decoding alone (fetch, decode and resize, in as many
threads as the pipeline uses) and the image graph alone (the same images, already decoded). No run can beat the sum of
the two on the same cores. Each figure is the median of --repeats.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from agpis import catalogue
from agpis.data import Image, Product
from agpis.fetch import Fetcher
from agpis.images import Limits, decode, letterbox
from agpis.pipeline import BATCH, Pipeline, Settings
from agpis.prepare import DECODE_TARGET
from bench.machine import machine

CANDIDATES = 7
"""Candidates a product has on average in the paper's data."""


def sevens(products: list[Product]) -> list[Product]:
    """Products of exactly 7 candidates out of a catalogue's images, neighbours together, as many as there are."""
    images = [image for product in products for image in product.images]
    return [
        Product(
            f"seven-{start // CANDIDATES}",
            products[0].title,
            products[0].category,
            tuple(images[start : start + CANDIDATES]),
        )
        for start in range(0, len(images) - CANDIDATES + 1, CANDIDATES)
    ]


def bounds(pipeline: Pipeline, products: list[Product]) -> tuple[float, float]:
    """Images/s of decoding alone and of the image graph alone."""
    bundle, _ = pipeline.open()
    limits = Limits()
    images = [image for product in products for image in product.images]

    def ready(image: Image) -> np.ndarray:
        return letterbox(
            decode(fetcher(image.location), name=image.uri, target=DECODE_TARGET, limits=limits).pixels, bundle.size
        )

    with Fetcher(limits) as fetcher, ThreadPoolExecutor(2 * (os.cpu_count() or 1)) as pool:
        start = time.perf_counter()
        pixels = list(pool.map(ready, images))
        decoding = len(images) / (time.perf_counter() - start)
    bundle.image(np.stack(pixels[:BATCH]))
    start = time.perf_counter()
    for at in range(0, len(pixels), BATCH):
        bundle.image(np.stack(pixels[at : at + BATCH]))
    return decoding, len(pixels) / (time.perf_counter() - start)


def measure(name: str, products: list[Product], bundle: str | None, repeats: int) -> dict[str, object]:
    """Run the pipeline over the products, print a line per repeat and the table of stages."""
    images = sum(len(product.images) for product in products)
    runs: list[tuple[float, float, float, float]] = []
    clocks: list[dict[str, float]] = []
    for repeat in range(repeats):
        pipeline = Pipeline(bundle, Settings())
        pipeline.open()
        decoding, graph = bounds(pipeline, products)
        start = time.perf_counter()
        decided = sum(1 for _ in pipeline(products))
        seconds = time.perf_counter() - start
        if decided != len(products):
            raise SystemExit(f"{decided} decisions for {len(products)} products")
        runs.append((images / seconds, decided / seconds, decoding, graph))
        clocks.append(dict(pipeline.clock.seconds))
        print(f"  run {repeat + 1}: {images / seconds:.0f} images/s; decode {decoding:.0f}, image graph {graph:.0f}")
    speed, products_s, decoding, graph = (statistics.median(run[i] for run in runs) for i in range(4))
    both = 1 / (1 / decoding + 1 / graph)
    print(f"{name}: {len(products)} products, {images} images, median of {repeats}")
    print(f"  whole job          {products_s:8.1f} products/s  {speed:8.1f} images/s")
    print(f"  decode alone       {decoding:27.1f} images/s  (whole job reaches {speed / decoding:.0%})")
    print(f"  image graph alone  {graph:27.1f} images/s  (whole job reaches {speed / graph:.0%})")
    print(f"  both, one after the other {both:20.1f} images/s  (whole job reaches {speed / both:.0%})")
    stages = {stage: statistics.median(clock.get(stage, 0.0) for clock in clocks) for stage in clocks[0]}
    total = sum(stages.values())
    print("  share of the time spent in stages, summed over threads:")
    for stage, seconds in sorted(stages.items(), key=lambda item: -item[1]):
        print(f"    {stage:15s} {seconds / total:6.1%}  {1000 * seconds / images:7.2f} ms/image")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"  peak memory of this process so far {peak:.0f} MiB")
    return {
        "name": name,
        "images_s": speed,
        "products_s": products_s,
        "decode": decoding,
        "graph": graph,
        "stages": stages,
    }


def memory(data: Path, bundle: str | None, sizes: tuple[int, ...]) -> None:
    """Peak resident memory of `agpis generate` over catalogues of these sizes, each in a process of its own."""
    rows = [json.loads(line) for line in (data / "catalog.jsonl").read_text(encoding="utf-8").splitlines()]
    with tempfile.TemporaryDirectory() as folder:
        for size in sizes:
            source = Path(folder) / f"{size}.jsonl"
            with source.open("w", encoding="utf-8") as file:
                for i in range(size):
                    row = rows[i % len(rows)]
                    uris = [str((data / uri).resolve()) for uri in row["images"]]
                    file.write(json.dumps({**row, "sku": f"{row['sku']}-{i}", "images": uris}) + "\n")
            code = (
                "import resource, sys, time; from agpis.engine import Options, generate; start = time.time();"
                f"s = generate({str(source)!r}, {str(Path(folder) / str(size))!r}, Options(bundle={bundle!r}));"
                "peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024;"
                "print(s.totals.products, peak, time.time() - start)"
            )
            found = subprocess.run(
                [sys.executable, "-c", code], check=True, capture_output=True, text=True
            ).stdout.split()
            print(f"  {int(found[0]):6d} products: peak {int(found[1])} MiB, {float(found[2]):.0f} s, report included")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/magento"), help="folder with catalog.jsonl")
    parser.add_argument("--bundle", default=None)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--memory", action="store_true", help="measure peak memory at --sizes instead of speed")
    parser.add_argument("--sizes", type=int, nargs="+", default=[500, 20_000])
    options = parser.parse_args()
    print(f"machine: {machine()}")
    if options.memory:
        memory(options.data, options.bundle, tuple(options.sizes))
        return
    products = list(catalogue.read(str(options.data / "catalog.jsonl")))
    measure(options.data.name, products, options.bundle, options.repeats)
    measure(
        f"{options.data.name}, {CANDIDATES} candidates a product", sevens(products), options.bundle, options.repeats
    )


if __name__ == "__main__":
    main()
