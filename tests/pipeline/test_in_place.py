"""Small and large sweeps in turn: every unit computes on its own bytes, on either side."""

from __future__ import annotations

import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_offload.device.stand_in import StandIn
from lm_offload.pipeline.device_executor import DeviceExecutor
from lm_offload.pipeline.device_queue import DeviceQueue
from lm_offload.pipeline.device_resources import DeviceResources
from lm_offload.pipeline.disk_queue import DiskQueue
from lm_offload.pipeline.host_processor import HostProcessor
from lm_offload.pipeline.progress import Progress
from lm_offload.pipeline.trace import ChromeTrace
from lm_offload.pipeline.upload import Uploader
from lm_offload.schedule.device_sweep import DeviceSweepSchedule, Transfers
from lm_offload.schedule.in_place import NOTHING
from lm_offload.units import MIB
from tests.pipeline.harness import FakeBlock, mark

MICRO_BATCHES = 2


class Rig:
    """Units 1, 3, ... in host memory, some on disk; a count of units for each micro-batch."""

    def __init__(self, units: int, more: int, error: BaseException | None = None) -> None:
        self._last, self._error = units - 1, error
        self.small, self.on_cpu = False, frozenset(range(1, units - 1, 2))
        self._read = dict.fromkeys(range(2, units, 4), 9)
        upload = dict.fromkeys((*self.on_cpu, *self._read), 9)
        self._ring, self._device_ring = torch.zeros(2, 9 + more, dtype=torch.uint8)
        self.on_device, self.on_host = torch.zeros(2, MICRO_BATCHES)
        self.device, progress = StandIn("standin", MIB, 1e9), Progress()
        self._uploader = Uploader(self.device.h2d, 4)
        trace = ChromeTrace([str(unit) for unit in range(units)])
        processor = DeviceQueue(self.device.compute, progress, trace)
        host = HostProcessor(self.device, processor, self._copy_of, progress, trace)
        links = {
            "disk_read": DiskQueue(progress, self._reads, 2, trace),
            "h2d": DiskQueue(progress, self._uploads, 2, trace, "upload"),
        }
        resources = DeviceResources(links, processor, self.device.d2h, host)
        schedule = DeviceSweepSchedule(Transfers(self._read, upload, 9 + more, 9 + more))
        parts = schedule, resources, progress, trace
        self.executor = DeviceExecutor(*parts, lambda: self.on_cpu if self.small else NOTHING)

    def sweep(self, small: bool):
        self.small = small
        self.on_device.zero_()
        counts = [MICRO_BATCHES] * self._last + [1]
        return self.executor.run_sweep(counts, self._compute)

    def close(self):
        self.executor.close()
        self.device.close()

    def _reads(self, task):
        place = self._ring[task.ring_offset : task.ring_offset + task.size_bytes]
        return [FakeBlock(memoryview(place.numpy()), mark(task), 0.0, None).read]

    def _uploads(self, task):
        source = self._ring[task.source_offset : task.source_offset + task.size_bytes]
        if task.source_offset < 0:
            source = torch.full((task.size_bytes,), 200 + task.id.unit, dtype=torch.uint8)
        place = self._device_ring[task.ring_offset : task.ring_offset + task.size_bytes]
        return self._uploader.copies(source, place)

    def _copy_of(self, task):
        place = slice(task.id.micro_batch, task.id.micro_batch + 1)
        sides = self.on_device[place], self.on_host[place]
        return sides if task.id.kind == "download_hidden" else sides[::-1]

    def _compute(self, task):
        unit, micro_batch = task.id.unit, task.id.micro_batch
        if task.id.kind == "download":
            return
        on_cpu = self.small and unit in self.on_cpu
        assert task.resource == ("cpu" if on_cpu else "gpu")
        if on_cpu and self._error is not None:
            raise self._error
        if unit == self._last:
            assert self.on_device.tolist() == [unit] * MICRO_BATCHES
            return
        side = self.on_host if on_cpu else self.on_device
        assert side[micro_batch] == unit, f"{task} before the unit before it"
        self._check_weights(task)
        time.sleep(0.0003 * (task.id.sweep % 2))
        side[micro_batch] += 1

    def _check_weights(self, task):
        unit = task.id.unit
        if task.ring_offset >= 0:
            wanted = mark(task) if unit in self._read else 200 + unit
            place = self._device_ring[task.ring_offset : task.ring_offset + 9]
            assert place.tolist() == [wanted] * 9, f"{task} reads other weights"


@settings(max_examples=15)
@given(st.integers(4, 9), st.integers(0, 30), st.lists(st.booleans(), min_size=4, max_size=10))
def test_every_unit_computes_on_its_own_weights_and_rows(units, more, small):
    rig = Rig(units, more)
    times = [rig.sweep(it) for it in small]
    rig.close()
    for it, step in zip(small, times, strict=True):
        assert (step.attend_s > 0) == it


def test_units_in_place_are_not_uploaded():
    rig = Rig(8, 0)
    moved = [rig.sweep(small).h2d_bytes for small in (False, True, True, True)]
    rig.close()
    assert moved[-1] < moved[0]


def test_an_error_of_the_cpu_ends_the_sweep():
    rig = Rig(6, 20, ValueError("no such rows"))
    rig.sweep(small=False)
    with pytest.raises(ValueError, match="no such rows"):
        rig.sweep(small=True)
    rig.close()
