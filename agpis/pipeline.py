"""Products in, decisions out: the paper's two stages over one product at a time. Knows no engine and no files.

Fetches and prepares ahead, batches the image graph over several products, and leaves the decision on each to
`agpis.case`.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from agpis.bundle import Bundle, open_bundle
from agpis.case import Case
from agpis.clock import Clock
from agpis.data import Decision, Product
from agpis.decision import Judged, failed
from agpis.errors import AgpisError
from agpis.fetch import Fetcher
from agpis.prepare import Preparer, Shot
from agpis.rulebook import Rulebook, load_rulebook
from agpis.settings import Settings

LOOKAHEAD = 96
"""Images that may be fetched and decoded ahead of the graphs: bounds memory, keeps the threads busy."""
BATCH = 32
"""Images per call of the image graph, filled from several products."""


class Pipeline:
    """Picklable callable `pipeline(products) -> decisions`, one decision a product, in order, streamed.

    `bundle` is a folder (None: the starter in the package). Each image is fetched, decoded and put through each
    graph once. A product that cannot be judged becomes a decision with status `failed` and an error code.
    Raises BundleError, RulebookError or SettingsError on first use, never at the ten-thousandth product.
    """

    def __init__(self, bundle: str | os.PathLike[str] | None = None, settings: Settings | None = None) -> None:
        self._bundle_path = None if bundle is None else os.fspath(bundle)
        self.settings = settings or Settings()
        self.clock = Clock()
        self._open: tuple[Bundle, Rulebook] | None = None

    def __reduce__(self) -> tuple[type[Pipeline], tuple[str | None, Settings]]:
        return type(self), (self._bundle_path, self.settings)

    def open(self) -> tuple[Bundle, Rulebook]:
        """Open bundle and rulebook, and check that they fit each other. Called by the first product if not before."""
        if self._open is None:
            bundle = open_bundle(self._bundle_path, threads=self.settings.graph_threads)
            rulebook = bundle.rulebook if self.settings.rulebook is None else load_rulebook(self.settings.rulebook)
            self._open = bundle, rulebook
        return self._open

    @property
    def k(self) -> int:
        """Images of a sequence."""
        return self.settings.images or self.open()[1].k

    def __call__(self, products: Iterable[Product]) -> Iterator[Decision]:
        for case in self.cases(products):
            try:
                yield case.decide()
            except AgpisError as error:
                yield failed(case.product, error.code, error.message, case.bundle, case.rulebook, case.shots)
            except Exception as error:
                # One product's surprise must not cost the others; the code makes it countable.
                message = f"{type(error).__name__}: {error}"
                yield failed(case.product, "internal", message, case.bundle, case.rulebook, case.shots)

    def cases(self, products: Iterable[Product]) -> Iterator[Case]:
        """Each product with the image graph's answers, not decided yet: for who wants more than the decision."""
        bundle, rulebook = self.open()
        settings = self.settings
        with (
            Fetcher(settings.limits) as fetcher,
            ThreadPoolExecutor(settings.fetch_threads or 2 * (os.cpu_count() or 1), "agpis-fetch") as pool,
        ):
            prepare = Preparer(
                rulebook,
                bundle.size,
                fetcher,
                limits=settings.limits,
                thumbnail_side=settings.thumbnails,
                on=settings.on,
                clock=self.clock,
            )
            try:
                for batch in _batches(_prepared(products, prepare, pool)):
                    yield from self._judged(batch, bundle, rulebook)
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _judged(self, batch: list[tuple[Product, list[Shot]]], bundle: Bundle, rulebook: Rulebook) -> Iterator[Case]:
        pixels = [shot.pixels for _, shots in batch for shot in shots if shot.pixels is not None]
        outputs = None
        if pixels:
            with self.clock.stage("image graph", len(pixels)):
                outputs = bundle.image(np.stack(pixels))
        position = 0
        for product, shots in batch:
            judged: list[Judged] = []
            for index, shot in enumerate(shots):
                if shot.pixels is None or outputs is None:
                    continue
                judged.append(Judged.read(index, shot, outputs, position))
                position += 1
            yield Case(product, shots, judged, bundle, rulebook, self.settings, self.clock)


def _prepared(
    products: Iterable[Product], prepare: Preparer, pool: ThreadPoolExecutor
) -> Iterator[tuple[Product, list[Shot]]]:
    """Products with their shots, in order; at most LOOKAHEAD images are under way or waiting."""
    waiting: deque[tuple[Product, list[Future[Shot]]]] = deque()
    under_way = 0
    for product in products:
        images = () if product.error is not None else product.images
        waiting.append((product, [pool.submit(prepare, image, product.category) for image in images]))
        under_way += len(images)
        while under_way > LOOKAHEAD or len(waiting) > LOOKAHEAD:
            product, futures = waiting.popleft()
            under_way -= len(futures)
            yield product, [future.result() for future in futures]
    for product, futures in waiting:
        yield product, [future.result() for future in futures]


def _batches(items: Iterator[tuple[Product, list[Shot]]]) -> Iterator[list[tuple[Product, list[Shot]]]]:
    """Whole products until about BATCH images are together."""
    batch: list[tuple[Product, list[Shot]]] = []
    images = 0
    for product, shots in items:
        batch.append((product, shots))
        images += len(shots)
        if images >= BATCH or len(batch) >= BATCH:
            yield batch
            batch, images = [], 0
    if batch:
        yield batch


__all__ = ["Pipeline", "Settings"]
