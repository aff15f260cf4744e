"""The blocks of an upload: copies through a stream, staged where host memory is not pinned."""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass, field
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
    _order: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def copies(self, source: Tensor, target: Tensor) -> list[Transfer]:
        """What fills `target` with `source`, both uint8 of one size."""
        pairs = zip(
            *(torch.split(memory, self.block_bytes) for memory in (source, target)), strict=True
        )
        move = self._copy if self.staging is None else self._staged
        return [partial(move, part, place) for part, place in pairs]

    def _copy(self, source: Tensor, target: Tensor) -> int:
        """Copy a block and wait for its own end; returns its bytes."""
        with self._order:  # another thread's block between them would be waited for, too
            self.stream.copy_async(source, target)
            end = self.stream.record()
        end.synchronize()
        return source.nbytes

    def _staged(self, source: Tensor, target: Tensor) -> int:
        """The same by way of a pinned buffer: one is filled while another is under way."""
        assert self.staging is not None
        buffer = self.staging.get()
        try:
            return self._copy(buffer[: source.nbytes].copy_(source), target)
        finally:
            self.staging.put(buffer)


def staging_buffers(memory: Tensor, count: int) -> queue.SimpleQueue[Tensor]:
    """Pinned `memory`, uint8, as `count` buffers of one size."""
    buffers: queue.SimpleQueue[Tensor] = queue.SimpleQueue()
    for buffer in torch.split(memory, memory.numel() // count)[:count]:
        buffers.put(buffer)
    return buffers
