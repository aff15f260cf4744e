"""The blocks of an upload: copies through a stream, staged where host memory is not pinned."""

from __future__ import annotations

import queue
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lm_offload.device.base import Stream


@dataclass(frozen=True)
class Copy:
    """A block of host memory, and the device memory that it goes to; both uint8."""

    stream: Stream
    source: Tensor
    target: Tensor

    def read(self) -> int:
        """Copy it and wait for its own end; returns its bytes."""
        self.stream.copy_async(self.source, self.target)
        self.stream.record().synchronize()
        return self.source.nbytes


@dataclass(frozen=True)
class StagedCopy:
    """The same by way of a pinned buffer: one is filled while another is under way."""

    stream: Stream
    source: Tensor
    target: Tensor
    buffers: queue.SimpleQueue[Tensor]  # that are free, each at least as large as a block

    def read(self) -> int:
        """Copy it and wait for its own end; returns its bytes."""
        buffer = self.buffers.get()
        try:
            staged = buffer[: self.source.nbytes].copy_(self.source)
            self.stream.copy_async(staged, self.target)
            self.stream.record().synchronize()
        finally:
            self.buffers.put(buffer)
        return self.source.nbytes


@dataclass(frozen=True)
class Uploader:
    """Cuts uploads into blocks; with `staging` buffers they are staged."""

    stream: Stream
    block_bytes: int
    staging: queue.SimpleQueue[Tensor] | None = None

    def blocks(self, source: Tensor, target: Tensor) -> Sequence[Copy | StagedCopy]:
        """The copies that fill `target` with `source`, both uint8 of one size."""
        pairs = zip(
            *(torch.split(memory, self.block_bytes) for memory in (source, target)), strict=True
        )
        staging = self.staging
        if staging is None:
            return [Copy(self.stream, part, place) for part, place in pairs]
        return [StagedCopy(self.stream, part, place, staging) for part, place in pairs]


def staging_buffers(memory: Tensor, count: int) -> queue.SimpleQueue[Tensor]:
    """Pinned `memory`, uint8, as `count` buffers of one size."""
    buffers: queue.SimpleQueue[Tensor] = queue.SimpleQueue()
    for buffer in torch.split(memory, memory.numel() // count)[:count]:
        buffers.put(buffer)
    return buffers
