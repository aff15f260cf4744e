"""Several devices side by side: every unit computes on its own bytes, rows arrive in time."""

from __future__ import annotations

import time
from threading import Barrier

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_offload.device.stand_in import StandIn
from lm_offload.errors import StorageError
from lm_offload.pipeline.device_queue import DeviceQueue
from lm_offload.pipeline.disk_queue import DiskQueue
from lm_offload.pipeline.progress import Progress
from lm_offload.pipeline.stage_executor import StageExecutor
from lm_offload.pipeline.stage_launcher import StageResources
from lm_offload.pipeline.trace import ChromeTrace
from lm_offload.pipeline.upload import Uploader
from lm_offload.units import MIB
from tests.pipeline.harness import FakeBlock, mark
from tests.schedule.test_stages import schedule_of

UNITS = st.lists(
    st.tuples(st.sampled_from(["device", "host", "disk"]), st.integers(1, 30)),
    min_size=3,
    max_size=6,
)
ROWS = 8  # that a device has a place for


class Rig:
    """An executor over bytes. A row is a list of the units that have computed it, in f32."""

    def __init__(
        self, units, cuts, more=(0,) * 4, errors=None, work=lambda task: None, devices=None
    ):
        self.units, self._errors, self._work = units, errors or {}, work
        self.schedule = schedule_of(units, cuts, more, devices)
        stages, transfers = self.schedule.stages, self.schedule._transfers
        self.stage_of = {unit: n for n, stage in enumerate(stages) for unit in stage.units}
        self.ring = torch.zeros(transfers.ring_bytes, dtype=torch.uint8)
        self.rings = [torch.zeros(stage.ring_bytes, dtype=torch.uint8) for stage in stages]
        self.rows = [torch.zeros(ROWS, len(units)) for _ in stages]
        self.devices = [StandIn(f"standin {n}", MIB, 1e9) for n in range(len(stages))]
        self.results: list[list[list[float]]] = []
        self.trace = ChromeTrace([str(unit) for unit in range(len(units))])
        progress = Progress()
        self.resources = [
            StageResources(
                DiskQueue(progress, self._uploads, 2, self.trace, "upload"),
                DeviceQueue(device.compute, progress, self.trace),
                device.d2h,
                DeviceQueue(device.d2h, progress, self.trace),
            )
            for device in self.devices
        ]
        disk = DiskQueue(progress, self._reads, 2, self.trace)
        parts = self.schedule, disk, self.resources, self._rows_of
        self.executor = StageExecutor(*parts, progress, self.trace)

    def sweep(self, counts):
        return self.executor.run_sweep(counts, self._compute)

    def close(self):
        self.executor.close()
        for device in self.devices:
            device.close()

    def _rows_of(self, task):
        unit, row = task.id.unit, task.id.micro_batch
        source, target = (self.rows[self.stage_of[it]] for it in (unit, unit + 1))
        return source[row], target[row]

    def _reads(self, task):
        place = self.ring[task.ring_offset : task.ring_offset + task.size_bytes]
        error = self._errors.get("disk")
        return [FakeBlock(memoryview(place.numpy()), mark(task), 0.0, error).read]

    def _uploads(self, task):
        start, stage = task.source_offset, self.stage_of[task.id.unit]
        source = self.ring[start : start + task.size_bytes]
        if start < 0:
            source = torch.full((task.size_bytes,), 255 - task.id.unit, dtype=torch.uint8)
        place = self.rings[stage][task.ring_offset : task.ring_offset + task.size_bytes]
        return Uploader(self.devices[stage].h2d, 8).copies(source, place)

    def _compute(self, task):
        sweep, kind, unit, row = task.id
        stage = self.stage_of[unit]
        if stage and "device" in self._errors:
            raise self._errors["device"]
        if kind == "download":
            self.results.append(self.rows[self.stage_of[len(self.units) - 1]].tolist())
            return
        home, size = self.units[unit]
        wanted = mark(task) if home == "disk" else 255 - unit
        for work in (self._work, lambda task: None):  # looks at its weights before and after
            if home != "device":
                place = self.rings[stage][task.ring_offset : task.ring_offset + size]
                assert place.tolist() == [wanted] * size, f"{task} reads other weights"
            work(task)
        self.rows[stage][row, unit] = self.rows[stage][row, unit - 1] + 1 if unit else sweep


@settings(max_examples=25)
@given(UNITS, st.sets(st.integers(1, 2), min_size=1), st.integers(1, ROWS),
       st.lists(st.integers(0, 50), min_size=4, max_size=4), st.booleans())  # fmt: skip
def test_rows_pass_all_units_on_their_own_bytes(units, cuts, rows, more, in_turn):
    rig = Rig(units, sorted(cuts), more, devices=2 if in_turn else None)
    times = [rig.sweep([rows] * len(units)) for _ in range(3)]
    rig.close()
    for sweep, found in enumerate(rig.results):
        assert found[:rows] == [[float(sweep + unit) for unit in range(len(units))]] * rows
    assert len(rig.results) == 3
    for step in times:
        assert len(step.devices) == len(rig.devices)
        assert step.gpu_s == pytest.approx(sum(it.gpu_s for it in step.devices) / len(rig.devices))


def test_devices_work_at_the_same_time_and_say_how_long():
    meeting, least_s = Barrier(2), 0.002

    def work(task):
        if (task.id.unit, task.id.micro_batch) in {(1, 1), (2, 0)}:  # one on each device
            meeting.wait(timeout=60)  # for the other, which fails where they take turns
        time.sleep(least_s)

    rig = Rig([("device", 1)] * 4, [2], work=work)
    step = rig.sweep([ROWS] * 4)
    rig.close()
    for number, resources in enumerate(rig.resources):
        track = next(it for it, name in rig.trace._names.items() if name == f"gpu{number}")
        events = [event for event in rig.trace._events if event["tid"] == track]
        computed_us = [event["dur"] for event in events if event["cat"] == "compute"]
        assert len(computed_us) == 2 * ROWS
        assert resources.time().gpu_s == pytest.approx(sum(computed_us) / 1e6)
        assert resources.time().gpu_s >= 2 * ROWS * least_s
    assert 2 * ROWS * least_s <= step.devices[-1].gpu_s <= step.total_s
    assert {event["cat"] for event in rig.trace._events} >= {"compute", "send_hidden"}
    assert {*rig.trace._names.values()} >= {"gpu0", "gpu1", "d2h0", "d2h1"}


def test_links_of_devices_in_turn_work_at_the_same_time():
    rig = Rig([("host", 3000)] * 12, range(1, 12), (0, 6000, 6000), devices=2)
    for device in rig.devices:
        device._bytes_per_s = 2e6  # 3 ms for each unit, as nothing is pinned
    for _ in range(3):
        rig.sweep([1] * 12)
    rig.close()
    uploads = [event for event in rig.trace._events if event["cat"] == "upload"]
    spans = [
        [(it["ts"], it["ts"] + it["dur"]) for it in uploads if rig.trace._names[it["tid"]] == name]
        for name in ("h2d0", "h2d1")
    ]
    beside = [max(a, c) < min(b, d) for a, b in spans[0] for c, d in spans[1]]
    assert sum(beside) > 20  # of some 20 uploads on each link


@pytest.mark.parametrize("where", ["disk", "device"])
def test_an_error_ends_the_sweep_and_close_still_works(where):
    units = [("device", 1), ("disk", 9), ("host", 9), ("disk", 9)]
    rig = Rig(units, [2], errors={where: StorageError("gone")})
    with pytest.raises(StorageError, match="gone"):
        rig.sweep([2] * 4)
    rig.close()
