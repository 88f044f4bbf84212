"""What a bundle says of labelled samples: every picture once through the image graph, every sequence scored.

A sample with a picture that cannot be read is left out and named; it is never scored as a black image. Image errors
keep their own code (docs/errors.md); `foreign_label` is a label that the bundle has no class for.
"""

from __future__ import annotations

import os
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from agpis.bundle import Bundle, FloatArray
from agpis.data import Image
from agpis.errors import ImageError, SettingsError, TrainingError
from agpis.fetch import Fetcher
from agpis.images import Limits, Pixels, decode, letterbox
from agpis.prepare import DECODE_TARGET
from agpis.samples import QUALIFIED, Labelled
from agpis.verdicts import BadSample

PICTURES = 32
"""Pictures through the image graph together."""
HELD = 1 << 30
"""Bytes of tokens kept for later samples that show the same picture; beyond, the oldest are computed again."""


@dataclass(frozen=True, slots=True)
class Scores:
    """A bundle's answers on n labelled samples; row i is `samples[i]`."""

    bundle: str
    """Id of the bundle."""
    rulebook: str
    """Hash of its rulebook."""
    classes: tuple[str, ...]
    """C classes, `qualified` among them."""
    samples: tuple[Labelled, ...]
    probabilities: FloatArray = field(repr=False)
    """float32 (n, C)."""
    feedbacks: tuple[str | None, ...] = field(repr=False)
    """What the model writes; None where it was not decoded."""
    left_out: tuple[BadSample, ...] = ()
    """Samples that could not be scored."""
    threshold: float = 0.3
    """p_qualified from which the bundle submits."""

    def __post_init__(self) -> None:
        wanted = len(self.samples), len(self.classes)
        if self.probabilities.shape != wanted or len(self.feedbacks) != len(self.samples):
            raise ValueError(
                f"probabilities {self.probabilities.shape} and {len(self.feedbacks)} feedbacks for "
                f"{len(self.samples)} samples of {len(self.classes)} classes"
            )

    @property
    def p_qualified(self) -> npt.NDArray[np.float64]:
        """(n,) the paper's p^t."""
        return self.probabilities[:, self.classes.index(QUALIFIED)].astype(np.float64)

    @property
    def qualified(self) -> npt.NDArray[np.bool_]:
        """(n,) whether the reviewer accepted."""
        return np.array([sample.label == QUALIFIED for sample in self.samples], dtype=bool)

    @property
    def skus(self) -> tuple[str, ...]:
        """(n,) what is drawn as one in a bootstrap."""
        return tuple(sample.verdict.sku for sample in self.samples)

    def keys(self) -> list[tuple[object, ...]]:
        """What a sample is, whoever scored it: product, text, pictures and label."""
        return [
            (v.sku, v.title, v.category, *(Image(uri, v.base).location for uri in v.sequence), sample.label)
            for sample in self.samples
            for v in (sample.verdict,)
        ]


def score_samples(
    bundle: Bundle,
    samples: Sequence[Labelled],
    *,
    feedback: bool | int = True,
    seed: int = 0,
    threads: int = 0,
    progress: bool = True,
) -> Scores:
    """Scores every sample with the bundle, as `agpis score` does.

    The samples of one product are done together and a picture's tokens are dropped after the last sample that shows
    it, so that memory follows the largest product and not their number. Of sequences longer than the bundle's K the
    worst window speaks (`Bundle.sequence`).

    Args:
        feedback: decode the feedback of all rejected samples (True), of none, or of that many, drawn by `seed`.
        threads: that fetch and decode; 0: twice the cores. Those of the graphs are the bundle's.
        progress: a bar on standard error.

    Raises:
        TrainingError: `no_samples`, when none is left to score.
        MissingExtra: pictures lie in a store whose package is not installed.
    """
    left: dict[int, BadSample] = {}
    for row, sample in enumerate(samples):
        if sample.label not in bundle.classes:
            message = f"{_place(row, sample)}: the label {sample.label!r} is no class of bundle {bundle.name!r}"
            left[row] = BadSample(_place(row, sample), "foreign_label", message)
    rows = [row for row in range(len(samples)) if row not in left]
    spoken = _spoken([row for row in rows if samples[row].label != QUALIFIED], feedback, seed)
    probabilities = np.zeros((len(samples), len(bundle.classes)), dtype=np.float32)
    feedbacks: dict[int, str] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    times = (TimeElapsedColumn(), TimeRemainingColumn())
    bar = Progress(*columns, *times, console=Console(stderr=True), disable=not progress)
    workers = threads or 2 * (os.cpu_count() or 1)
    with Fetcher(Limits()) as fetcher, ThreadPoolExecutor(workers) as pool, bar:
        task = bar.add_task(f"scoring with {bundle.name}", total=len(rows))
        pictures = _Pictures(bundle, fetcher, pool, Counter(key for row in rows for key in set(_keys(samples[row]))))
        for block in _blocks(samples, rows):
            pictures.read([key for row in block for key in _keys(samples[row])])
            alike: defaultdict[tuple[str, str, int], list[int]] = defaultdict(list)
            for row in block:
                verdict = samples[row].verdict
                bad = next((pictures.bad[key] for key in _keys(samples[row]) if key in pictures.bad), None)
                if bad is not None:
                    left[row] = BadSample(_place(row, samples[row]), bad.code, bad.message)
                else:
                    alike[verdict.title, verdict.category, len(verdict.sequence)].append(row)
            for (title, category, _), same in alike.items():
                tokens = np.stack([pictures.tokens(_keys(samples[row])) for row in same])  # (S, K, P, D)
                probabilities[same] = bundle.sequence(tokens, title, category)
                for at, row in enumerate(same):
                    if row in spoken:
                        feedbacks[row] = bundle.feedback(tokens[at], title, category)
            pictures.drop([key for row in block for key in set(_keys(samples[row]))])
            bar.advance(task, len(block))
    kept = [row for row in rows if row not in left]
    if not kept:
        why = next(iter(left.values())).message if left else "there is none"
        raise TrainingError("no_samples", f"found no sample to score among {len(samples)}; the first: {why}")
    return Scores(
        bundle=bundle.name,
        rulebook=bundle.rulebook.hash,
        classes=bundle.classes,
        samples=tuple(samples[row] for row in kept),
        probabilities=probabilities[kept],
        feedbacks=tuple(feedbacks.get(row) for row in kept),
        left_out=tuple(left[row] for row in sorted(left)),
        threshold=bundle.thresholds["qualified"],
    )


class _Pictures:
    """Tokens of the pictures in use, and why others have none."""

    def __init__(self, bundle: Bundle, fetcher: Fetcher, pool: ThreadPoolExecutor, uses: Mapping[str, int]) -> None:
        self.bad: dict[str, ImageError] = {}
        self._bundle, self._fetcher, self._pool = bundle, fetcher, pool
        self._uses = dict(uses)
        self._tokens: OrderedDict[str, FloatArray] = OrderedDict()  # (P, D) each

    def read(self, keys: Sequence[str]) -> None:
        """Fetches, decodes and embeds those that are not there yet."""
        new = [key for key in dict.fromkeys(keys) if key not in self._tokens and key not in self.bad]
        for at in range(0, len(new), PICTURES):
            part = new[at : at + PICTURES]
            read = dict(zip(part, self._pool.map(self._pixels, part), strict=True))
            self.bad.update((key, found) for key, found in read.items() if isinstance(found, ImageError))
            good = {key: found for key, found in read.items() if not isinstance(found, ImageError)}
            if good:
                tokens = self._bundle.image(np.stack(list(good.values()))).tokens
                self._tokens.update((key, row.copy()) for key, row in zip(good, tokens, strict=True))

    def tokens(self, keys: Sequence[str]) -> FloatArray:
        """Those of one sequence, float32 (K, P, D)."""
        return np.stack([self._tokens[key] for key in keys])

    def drop(self, keys: Sequence[str]) -> None:
        """One use fewer of each; forgets what has none left, and the oldest beyond HELD bytes."""
        for key in keys:
            self._uses[key] -= 1
            if not self._uses[key]:
                self._tokens.pop(key, None)
        while sum(tokens.nbytes for tokens in self._tokens.values()) > HELD:
            self._tokens.popitem(last=False)

    def _pixels(self, location: str) -> Pixels | ImageError:
        try:
            picture = decode(self._fetcher(location), name=location, target=DECODE_TARGET, limits=self._fetcher.limits)
            return letterbox(picture.pixels, self._bundle.size)
        except ImageError as error:
            return error


def _keys(sample: Labelled) -> list[str]:
    """Locations of a sample's pictures, in order."""
    return [Image(uri, sample.verdict.base).location for uri in sample.verdict.sequence]


def _place(row: int, sample: Labelled) -> str:
    return f"sample {row + 1} ({sample.verdict.sku})"


def _blocks(samples: Sequence[Labelled], rows: Sequence[int]) -> Iterator[list[int]]:
    """Rows product by product, whole products together until they show PICTURES pictures."""
    products: defaultdict[str, list[int]] = defaultdict(list)
    for row in rows:
        products[samples[row].verdict.sku].append(row)
    block: list[int] = []
    seen: set[str] = set()
    for members in products.values():
        block += members
        seen.update(key for row in members for key in _keys(samples[row]))
        if len(seen) >= PICTURES:
            yield block
            block, seen = [], set()
    if block:
        yield block


def _spoken(rejected: Sequence[int], feedback: bool | int, seed: int) -> set[int]:
    """Rows whose feedback is decoded."""
    if isinstance(feedback, bool):
        return set(rejected) if feedback else set()
    if feedback < 0:
        raise SettingsError("bad_config", f"feedback is {feedback}; give a number of samples, 0 or more, or True.")
    drawn = np.random.default_rng(seed).permutation(len(rejected))[:feedback]
    return {rejected[at] for at in drawn}
