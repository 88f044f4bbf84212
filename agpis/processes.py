"""The processes of one training: how many there are, and what they tell each other (accelerate, torch.distributed)."""

import os
from collections.abc import Iterator, Sequence
from datetime import timedelta

import torch
import torch.distributed as dist
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env
from torch import Tensor, nn

BUCKET = 32 * 1024 * 1024  # elements that are summed in one go: 128 MB of float32


def processes() -> PartialState:
    """Device, number and rank of this process, as `accelerate launch` or torchrun started it; one process otherwise.

    To be used instead of `PartialState()`, which takes several processes without CUDA for single ones. The time limit
    on waiting is long, since all wait for the main process while it validates.
    """
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or (several and not torch.cuda.is_available())
    return PartialState(cpu=cpu, timeout=timedelta(hours=12))


def share_weights(module: nn.Module) -> None:
    """Gives every process the main process's parameters and buffers."""
    if not _several():
        return
    with torch.no_grad():
        for tensor in [*module.parameters(), *module.buffers()]:
            value = tensor.contiguous()
            dist.broadcast(value, 0)
            tensor.copy_(value)


def number_of_main(number: float, device: torch.device) -> float:
    """The main process's number (float64), on every process."""
    if not _several():
        return number
    value = torch.tensor(number, dtype=torch.float64, device=device)
    dist.broadcast(value, 0)
    return float(value)


def sum_over_processes(values: Tensor) -> Tensor:
    """In place; the same bits on every process."""
    if _several():
        dist.all_reduce(values)
    return values


def sum_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Sums `.grad` over the processes; the same bits on every process. None stays None where no process has one."""
    if not _several():
        return
    used = sum_over_processes(
        torch.tensor([float(p.grad is not None) for p in parameters], device=parameters[0].device)
    )
    missing = [p.grad is None for p in parameters]
    nowhere = [count == 0.0 for count in used.tolist()] if any(missing) else missing  # reading `used` makes CUDA wait
    for bucket in _buckets(parameters):
        flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in bucket])
        dist.all_reduce(flat)
        for parameter, piece in zip(bucket, torch.split(flat, [p.numel() for p in bucket]), strict=True):
            if parameter.grad is None:
                parameter.grad = torch.empty_like(parameter)
            parameter.grad.copy_(piece.view(parameter.shape))
    for parameter, empty in zip(parameters, nowhere, strict=True):
        if empty:
            parameter.grad = None


def _several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def _buckets(parameters: Sequence[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    bucket: list[nn.Parameter] = []
    for parameter in parameters:
        if bucket and (bucket[0].dtype != parameter.dtype or sum(p.numel() for p in bucket) > BUCKET):
            yield bucket
            bucket = []
        bucket.append(parameter)
    if bucket:
        yield bucket
