"""The CPU beside a device: in order, side by side, and its errors end the sweep."""

from __future__ import annotations

import time
from threading import Barrier, Event

import pytest
import torch

from lm_offload.device.stand_in import StandIn
from lm_offload.pipeline.device_executor import DeviceExecutor
from lm_offload.pipeline.device_queue import DeviceQueue
from lm_offload.pipeline.device_resources import DeviceResources
from lm_offload.pipeline.disk_queue import DiskQueue
from lm_offload.pipeline.host_processor import HostProcessor
from lm_offload.pipeline.progress import Progress
from lm_offload.pipeline.trace import ChromeTrace
from lm_offload.schedule.device_sweep import DeviceSweepSchedule, Transfers
from lm_offload.units import MIB

UNITS, MICRO_BATCHES = 6, 2
STEPS = {"project": 0, "attend": 1, "compute": 2}
SIDE_BY_SIDE = {("attend", 0), ("project", 1)}  # kinds and micro-batches


class Rig:
    """A counter for each micro-batch on either side; every step raises it and finds the last."""

    def __init__(self, meeting: Barrier | None = None, error: BaseException | None = None) -> None:
        self._meeting, self._error = meeting, error
        self.attended_s = 0.0
        self.holds_sends = False
        self.returned = Event()
        self.on_device, self.on_host = torch.zeros(2, MICRO_BATCHES)
        self.device, progress = StandIn("standin", MIB, 1e9), Progress()
        trace = ChromeTrace([str(unit) for unit in range(UNITS)])
        processor = DeviceQueue(self.device.compute, progress, trace)
        host = HostProcessor(self.device, processor, self._copy_of, progress, trace)
        links = {name: DiskQueue(progress, list, 0, trace) for name in ("disk_read", "h2d")}
        resources = DeviceResources(links, processor, self.device.d2h, host)
        schedule = DeviceSweepSchedule(Transfers({}, {}, 0, 0), frozenset(range(0, UNITS, 2)))
        self.executor = DeviceExecutor(schedule, resources, progress, trace)

    def sweep(self):
        return self.executor.run_sweep([MICRO_BATCHES] * UNITS, self._do)

    def close(self):
        self.executor.close()
        self.device.close()

    def _copy_of(self, task):
        if self.holds_sends and task.id[2:] == (0, 1) and task.id.kind == "send_qkv":
            self.device.d2h.launch(self._hold)
        place = slice(task.id.micro_batch, task.id.micro_batch + 1)
        sides = self.on_device[place], self.on_host[place]
        return sides if task.id.kind == "send_qkv" else sides[::-1]

    def _hold(self):
        assert self.returned.wait(60)

    def _do(self, task):
        if task.id.kind == "compute" and task.id[2:] == (0, 0):
            self.returned.set()
        if task.id.kind == "download":
            return
        if self._error is not None and task.id.kind == "attend":
            raise self._error
        sweep, _, unit, micro_batch = task.id
        steps_before = 4 * (sweep * UNITS + unit) // 2 if unit % 2 == 0 else None
        side = self.on_host if task.id.kind == "attend" else self.on_device
        if steps_before is not None:
            assert side[micro_batch] == steps_before + STEPS[task.id.kind]
        start_s = time.perf_counter()
        if self._meeting and unit % 2 == 0 and (task.id.kind, micro_batch) in SIDE_BY_SIDE:
            self._meeting.wait()
        side[micro_batch] += 1
        if task.id.kind == "attend":
            self.attended_s += time.perf_counter() - start_s


def test_every_step_finds_what_the_last_one_left():
    rig = Rig()
    for _ in range(20):
        rig.sweep()
    rig.close()


def test_the_cpu_attends_while_the_device_computes():
    rig = Rig(Barrier(2, timeout=60))  # where each waits for the other, in every layer
    times = rig.sweep()
    rig.close()
    assert 0 < rig.attended_s <= times.attend_s


def test_what_comes_back_does_not_wait_for_what_goes_down():
    rig = Rig()
    rig.holds_sends = True  # the second micro-batch, until the first one is back
    rig.sweep()
    rig.close()


def test_an_error_of_attention_ends_the_sweep():
    rig = Rig(error=ValueError("no such block"))
    with pytest.raises(ValueError, match="no such block"):
        rig.sweep()
    rig.close()
