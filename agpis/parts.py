"""Which samples a step takes, and how they are shared out, decoded and brought to the device."""

import functools
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from accelerate.utils import send_to_device
from torch.utils.data import DataLoader, Dataset

from agpis.errors import AgpisError

Index = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Part:
    """The samples of one process and micro-batch."""

    index: Index
    """(b,) these samples."""
    whole: Index
    """(batch,) all samples of the optimiser step, over all processes and micro-batches."""
    step: int
    """Optimiser step, from 0."""

    @property
    def share(self) -> float:
        """This part's share of the step."""
        return len(self.index) / len(self.whole)


@dataclass(frozen=True, slots=True)
class Parts(Dataset[Any]):
    """All parts of one process's run, by position: the micro-batches of step 0, those of step 1, ...

    The order is seeded shuffling without replacement: the samples' permutations, one an epoch, end to end.
    """

    count: int
    """Samples there are."""
    batch: int
    """Samples a step."""
    seed: int
    """Of the order."""
    accumulate: int = 1
    """Micro-batches a step."""
    processes: int = 1
    """Processes that share a step ..."""
    rank: int = 0
    """... and which of them this one is."""
    load: Callable[[Part], Any] | None = None
    """Makes the batch of a part; None: the part itself."""

    def part(self, position: int) -> Part:
        """A function of these fields alone."""
        step, micro = divmod(position, self.accumulate)
        whole = self._whole(step)
        index = np.array_split(whole, self.accumulate * self.processes)[micro * self.processes + self.rank]
        return Part(index, whole, step)

    def __getitem__(self, position: int) -> Any:
        """The batch; an AgpisError of `load` is given back, since a worker process could only raise its text."""
        part = self.part(position)
        if self.load is None:
            return part
        try:
            return self.load(part)
        except AgpisError as error:
            return error

    def _whole(self, step: int) -> Index:
        first = step * self.batch
        epochs = range(first // self.count, (first + self.batch - 1) // self.count + 1)
        order = np.concatenate([_permutation(self.seed, epoch, self.count) for epoch in epochs])
        return order[first - epochs[0] * self.count :][: self.batch]


def batches(parts: Parts, first: int, end: int, workers: int, device: torch.device) -> Iterator[Any]:
    """The batches from position `first` on, before `end`, on the device; the workers start at once.

    There are at most as many workers as cores that this process may use: more only wait for each other.

    Raises:
        AgpisError: that of `load`.
    """
    workers = min(workers, _cores())
    loader = DataLoader(
        parts,
        batch_size=None,
        sampler=range(first, end),
        num_workers=workers if parts.load is not None else 0,
        collate_fn=_same,
        pin_memory=device.type == "cuda" and parts.load is not None,
        worker_init_fn=_start_worker,
    )
    before = cv2.getNumThreads()
    if workers:  # a forked worker hangs when it touches the threads that OpenCV has here, so there must be none
        cv2.setNumThreads(1)
    made = iter(loader)
    if workers:
        cv2.setNumThreads(before)
    return _moved(made, device)


def _moved(made: Iterator[Any], device: torch.device) -> Iterator[Any]:
    for batch in made:
        if isinstance(batch, AgpisError):
            raise batch
        yield send_to_device(batch, device, non_blocking=True)


def _cores() -> int:
    """That this process may use: fewer than the machine's in a container or under taskset."""
    if (allowed := getattr(os, "sched_getaffinity", None)) is not None:
        return len(allowed(0))
    return os.cpu_count() or 1


def _same(batch: Any) -> Any:
    return batch


def _start_worker(_: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group, but only the loop decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if cv2.getNumThreads() != 1:  # a worker a core; a forked one has it from the parent
        cv2.setNumThreads(1)


@functools.lru_cache(maxsize=2)
def _permutation(seed: int, epoch: int, count: int) -> Index:
    return np.random.default_rng([seed, epoch]).permutation(count).astype(np.int64, copy=False)
