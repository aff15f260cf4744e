"""Disk, link and device side by side: every unit computes on its own bytes, errors end the wait."""

from __future__ import annotations

import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_offload.device.stand_in import StandIn
from lm_offload.device.worker_stream import WorkerEvent
from lm_offload.errors import DeviceError, StorageError
from lm_offload.pipeline.device_executor import DeviceExecutor
from lm_offload.pipeline.device_queue import DeviceQueue
from lm_offload.pipeline.device_resources import DeviceResources
from lm_offload.pipeline.disk_queue import DiskQueue
from lm_offload.pipeline.progress import Progress
from lm_offload.pipeline.trace import ChromeTrace
from lm_offload.pipeline.upload import Uploader, staging_buffers
from lm_offload.schedule.device_sweep import DeviceSweepSchedule, Transfers
from lm_offload.units import MIB
from tests.pipeline.harness import FakeBlock, mark, overlaps, runs_ahead

UNITS = st.lists(
    st.tuples(st.sampled_from(["device", "host", "disk"]), st.integers(1, 30)),
    min_size=1,
    max_size=6,
)


class Rig:
    """An executor over bytes; a unit on disk gets other bytes in every sweep."""

    def __init__(self, units, more=(0, 0), staged=False, errors=None, read_s=0.0, compute_s=0.0):
        self.computed: list[tuple[int, int, int]] = []
        self.units, self._errors = units, errors or {}
        self._read_s, self._compute_s = read_s, compute_s
        read = {i: size for i, (home, size) in enumerate(units) if home == "disk"}
        upload = {i: size for i, (home, size) in enumerate(units) if home != "device"}
        sizes = [
            max(part.values(), default=0) + add
            for part, add in zip((read, upload), more, strict=True)
        ]
        self.ring, self.device_ring = (torch.zeros(size, dtype=torch.uint8) for size in sizes)
        self.device = StandIn("standin", MIB, 1e9)
        staging = staging_buffers(torch.zeros(16, dtype=torch.uint8), 2) if staged else None
        self.uploader = Uploader(self.device.h2d, 8, staging)
        self.trace, progress = ChromeTrace([str(i) for i in range(len(units))]), Progress()
        links = {
            "disk_read": DiskQueue(progress, self._reads, 2, self.trace),
            "h2d": DiskQueue(progress, self._uploads, 2, self.trace, "upload"),
        }
        queue = DeviceQueue(self.device.compute, progress, self.trace)
        resources = DeviceResources(links, queue, self.device.d2h)
        schedule = DeviceSweepSchedule(Transfers(read, upload, *sizes))
        self.executor = DeviceExecutor(schedule, resources, progress, self.trace)

    def sweep(self, counts=None):
        return self.executor.run_sweep(counts or [1] * len(self.units), self._compute)

    def close(self):
        self.executor.close()
        self.device.close()

    def _reads(self, task):
        place = self.ring[task.ring_offset : task.ring_offset + task.size_bytes]
        memory, error = memoryview(place.numpy()), self._errors.get("disk")
        return [FakeBlock(memory, mark(task), self._read_s, error).read]

    def _uploads(self, task):
        start = task.source_offset
        source = self.ring[start : start + task.size_bytes]
        if start < 0:
            source = torch.full((task.size_bytes,), 255 - task.id.unit, dtype=torch.uint8)
        place = self.device_ring[task.ring_offset : task.ring_offset + task.size_bytes]
        return self.uploader.copies(source, place)

    def _compute(self, task):
        if task.id.kind == "download":
            return
        if "device" in self._errors:
            raise self._errors["device"]
        home, size = self.units[task.id.unit]
        wanted = mark(task) if home == "disk" else 255 - task.id.unit
        for _ in range(2):  # at the beginning and at the end of the computation
            if home != "device":
                place = self.device_ring[task.ring_offset : task.ring_offset + size]
                assert place.tolist() == [wanted] * size, f"{task} reads other weights"
            time.sleep(self._compute_s / 2)
        self.computed.append((task.id.sweep, task.id.unit, task.id.micro_batch))


@settings(max_examples=25)
@given(
    UNITS, st.tuples(st.integers(0, 50), st.integers(0, 50)), st.booleans(),
    st.lists(st.integers(1, 3), min_size=6, max_size=6),
)  # fmt: skip
def test_every_unit_computes_on_its_own_bytes_in_order(units, more, staged, counts):
    rig, counts = Rig(units, more, staged), counts[: len(units)]
    times = [rig.sweep(counts) for _ in range(4)]
    rig.close()
    wanted = [(s, u, m) for s in range(4) for u, count in enumerate(counts) for m in range(count)]
    assert rig.computed == wanted
    assert all(step.gpu_s >= 0 and step.total_s >= step.wait_s for step in times)


def test_links_and_device_work_side_by_side_and_into_the_next_sweep():
    rig = Rig([("disk", 20)] * 6, (40, 40), read_s=0.004, compute_s=0.004)
    for _ in range(4):
        rig.sweep()
    rig.close()
    for link in ("read", "upload"):
        assert overlaps(rig.trace, link, "compute") > 5
        assert runs_ahead(rig.trace, link)


@pytest.mark.parametrize("where", ["disk", "device"])
def test_an_error_ends_the_sweep_and_close_still_works(where):
    rig = Rig([("device", 1), ("disk", 9), ("host", 9)], errors={where: StorageError("gone")})
    with pytest.raises(StorageError, match="gone"):
        rig.sweep()
    rig.close()


def test_a_device_that_fails_to_say_how_long_it_took_ends_the_sweep(monkeypatch):
    """And does not leave the caller waiting for ever."""

    def lost(event, since):
        raise DeviceError("gone")

    monkeypatch.setattr(WorkerEvent, "elapsed_s", lost)
    rig = Rig([("device", 1), ("host", 9)])
    with pytest.raises(DeviceError, match="gone"):
        rig.sweep()
    rig.close()


def test_a_transfer_that_cannot_be_begun_ends_the_sweep(monkeypatch):
    def refuse(uploader, source, target):
        raise DeviceError("gone")

    monkeypatch.setattr(Uploader, "copies", refuse)
    rig = Rig([("device", 1), ("host", 9)])
    with pytest.raises(DeviceError, match="gone"):
        rig.sweep()
    rig.close()
