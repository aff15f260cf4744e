"""Data parallelism over single-threaded processes on one machine (`torchrun`, gloo).

On cores that other work uses too, processes that meet once a step lose far less time than
threads that meet at every operation. Without `torchrun` everything here is the identity.
"""

import os
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor


def join_group() -> None:
    """Meet the other processes that `torchrun` started, if it did."""
    if "RANK" in os.environ:
        dist.init_process_group("gloo")


def rank_and_world() -> tuple[int, int]:
    """This process's number and how many there are; (0, 1) alone."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def sum_(tensors: Sequence[Tensor], scale: float = 1.0) -> None:
    """Replace each tensor by `scale` times its sum over the processes, in place."""
    if not dist.is_initialized():
        return
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    dist.all_reduce(flat)
    for tensor, part in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor)).mul_(scale)


def from_first(value: float) -> float:
    """The first process's value, so that decisions by the clock agree."""
    box = torch.tensor([value], dtype=torch.float64)
    if dist.is_initialized():
        dist.broadcast(box, src=0)
    return box.item()
