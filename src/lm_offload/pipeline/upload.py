"""The blocks of an upload: copies through a stream, staged where host memory is not pinned."""

from __future__ import annotations

import queue
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from lm_offload.device.base import Stream
from lm_offload.pipeline.disk_queue import Transfer


@dataclass(frozen=True)
class Uploader:
    """Cuts uploads into copies of one block each; with `staging` buffers they are staged."""

    stream: Stream
    block_bytes: int
    staging: queue.SimpleQueue[Tensor] | None = None  # that are free, each as large as a block

    def copies(self, source: Tensor, target: Tensor) -> list[Transfer]:
        """What fills `target` with `source`, both uint8 of one size."""
        pairs = zip(
            *(torch.split(memory, self.block_bytes) for memory in (source, target)), strict=True
        )
        if self.staging is None:
            return [partial(_copy, self.stream, part, place) for part, place in pairs]
        return [partial(_staged, self.stream, self.staging, *pair) for pair in pairs]


def _copy(stream: Stream, source: Tensor, target: Tensor) -> int:
    """Copy a block and wait for its own end; returns its bytes."""
    stream.copy_async(source, target)
    stream.record().synchronize()
    return source.nbytes


def _staged(stream: Stream, free: queue.SimpleQueue[Tensor], source: Tensor, target: Tensor) -> int:
    """The same by way of a pinned buffer: one is filled while another is under way."""
    buffer = free.get()
    try:
        return _copy(stream, buffer[: source.nbytes].copy_(source), target)
    finally:
        free.put(buffer)


def staging_buffers(memory: Tensor, count: int) -> queue.SimpleQueue[Tensor]:
    """Pinned `memory`, uint8, as `count` buffers of one size."""
    buffers: queue.SimpleQueue[Tensor] = queue.SimpleQueue()
    for buffer in torch.split(memory, memory.numel() // count)[:count]:
        buffers.put(buffer)
    return buffers
