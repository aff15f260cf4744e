"""Memory on both sides of a link, and what is measured between them and beside them."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lm_offload.device.base import Device
from lm_offload.hardware.attention_probe import attention_work
from lm_offload.hardware.attention_rates import HeadShape
from lm_offload.hardware.disk_reader import DiskReader, Way
from lm_offload.hardware.link import Link
from lm_offload.hardware.link_interference import LinkInterference
from lm_offload.hardware.link_probe import (
    COPIES,
    Copies,
    copy_all,
    measure_link,
    measure_staged,
    with_opposed,
)
from lm_offload.hardware.processor_probe import memory_bound_product
from lm_offload.hardware.profile import HardwareProfile
from lm_offload.hardware.together import Work, left_of_each
from lm_offload.kernels.base import Kernels
from lm_offload.storage.arena import Arena, Memory, MemoryTier
from lm_offload.storage.direct_file import DirectFile
from lm_offload.units import PAGE_BYTES, align_down

ATTENTION, CONTEXT = HeadShape(128, 4), 1024  # that the CPU attends to beside uploads
FIRST_READ_S = 0.02


class LinkPlaces(NamedTuple):
    """Of one size each; `pinned` is so only where the system allows it."""

    device: Device
    there: Tensor
    pinned: Tensor
    pageable: Arena
    is_pinned: bool

    @classmethod
    def taken(cls, device: Device, there: Memory) -> LinkPlaces:
        """Beside that memory of the device as much of the host, twice."""
        size_bytes = there.size_bytes
        pinned = MemoryTier("probe", size_bytes).whole().fill_(1)
        pageable = MemoryTier("probe", size_bytes).allocate("pageable", size_bytes)
        _whole(pageable).fill_(1)
        return cls(device, _whole(there), pinned, pageable, device.pin(pinned))

    def links(self, part_s: float) -> dict[str, Any]:
        """The links of a profile, by name."""
        up, pageable = self.device.h2d, _whole(self.pageable)
        h2d, d2h = self._both(self.pinned, part_s)
        staged = measure_staged(up, pageable, self.pinned, self.there, part_s / 2)
        copied, d2h_pageable = self._both(pageable, part_s)
        return {
            "h2d": h2d if self.is_pinned else staged,
            "d2h": d2h,
            "host_copy": copied,
            "d2h_pageable": d2h_pageable,
            "h2d_staged": staged,
        }

    def disturbed(
        self, profile: HardwareProfile, kernels: Kernels, weights: Path | None, part_s: float
    ) -> LinkInterference:
        """What uploads and work on the CPU and on the disk leave of one another."""
        link = profile.h2d
        assert link is not None
        upload = partial(self._upload, min(link.block_bytes, self.there.nbytes // COPIES))
        attend = attention_work(self.pageable, "decode", ATTENTION, CONTEXT)(kernels)
        attending = left_of_each(upload, attend, part_s)
        computing = left_of_each(upload, memory_bound_product(kernels, self.pageable), part_s)
        reading = self._beside_reads(upload, profile.disk_read, weights, part_s)
        return LinkInterference(*reading, *attending, *computing)

    def _both(self, host: Tensor, part_s: float) -> tuple[Link, Link]:
        """Up and down between that memory and the device, alone and together."""
        up, down = self.device.h2d, self.device.d2h
        links = (
            measure_link(up, host, self.there, part_s / 2),
            measure_link(down, self.there, host, part_s / 2),
        )
        half_bytes = align_down(host.nbytes // 2)
        low, high = slice(0, half_bytes), slice(half_bytes, 2 * half_bytes)
        ways: tuple[Copies, Copies] = (
            partial(copy_all, up, host[low], self.there[low]),
            partial(copy_all, down, self.there[high], host[high]),
        )
        return with_opposed(links, ways, half_bytes, part_s / 2)

    def _upload(self, size_bytes: int) -> None:
        copy_all(self.device.h2d, self.pinned, self.there, size_bytes)

    def _beside_reads(
        self, upload: Work, disk: Link, weights: Path | None, part_s: float
    ) -> tuple[float, float]:
        """Nothing is known of a disk from which there is nothing to read."""
        if weights is None:
            return 1.0, 1.0
        most_bytes = min(disk.block_bytes or PAGE_BYTES, self.pageable.size_bytes // 2)
        way = Way(align_down(most_bytes), disk.concurrency)
        with (
            closing(DirectFile(weights)) as file,
            DiskReader(file, self.pageable.buffer) as reader,
        ):
            reader.read_first(way, FIRST_READ_S)
            read = reader.burst_sampler(way.block_bytes * way.depth, way)
            return left_of_each(upload, read, part_s)


def _whole(memory: Memory) -> Tensor:
    return memory.view(0, torch.uint8, (memory.size_bytes,))
