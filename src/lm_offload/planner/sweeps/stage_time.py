"""Seconds of sweeps over several devices, rows of one after the other's.

::

    a stretch whose weights are there  hands on each micro-batch when it has computed it:
                                       lead = its computes / micro-batches
    one that goes unit by unit         the first one with its last unit:
                                       lead = all, but the other micro-batches of the last span
    one stretch for each device        its computes are as long as its uploads at least, since
                                       its link waits for its ring before its turn
    sweep = max(leads + the longest rest of one + sends + overhead,
                computes of a device, uploads of a device, reads)
    with a ring of one unit uploads and the computes of what is uploaded come one after the other

The executor's own tasks have the last word; this form gives the search its speed. Devices are taken
to be alike, and a send to take both ways of the link, through the host.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields

from lm_offload.planner.costs.sweep_shape import SweepShape
from lm_offload.planner.costs.unit_work import F32_BYTES
from lm_offload.planner.places.candidate import DevicePlacement
from lm_offload.planner.sweeps.device_load import DeviceSweepLoad
from lm_offload.planner.sweeps.device_time import DeviceSweepTimes
from lm_offload.planner.sweeps.sweep_load import SweepLoad
from lm_offload.planner.sweeps.sweep_simulation import simulated_seconds
from lm_offload.schedule.stages import Stage, StagedSchedule, StagedTransfers, virtual_stages
from lm_offload.schedule.task import Task
from lm_offload.step_time import DeviceTime, StepTime, of_devices

MOST_SIMULATED = 16  # micro-batches of a sweep; of more each stands for several
BY_MICRO_BATCH = ("embed", "attention", "mlp")


@dataclass(frozen=True)
class StagedLoad(DeviceSweepLoad):
    """Seconds of one sweep; `compute_s` are those of all micro-batches of a unit together."""

    stages: Sequence[Stage] = ()
    unit_counts: Sequence[int] = ()
    unit_bytes: Mapping[int, int] = field(default_factory=dict)  # of those that are uploaded
    send_s: float = 0.0  # of all rows, from one device to the next

    @property
    def counts(self) -> Sequence[int]:
        """Compute tasks of each unit; one may stand for several micro-batches."""
        return self.unit_counts

    def task_s(self, task: Task) -> float:
        """Seconds of a micro-batch of a unit, or of its way to the next device."""
        count = self.unit_counts[task.id.unit]
        is_sent = task.id.kind == "send_hidden"
        return (self.send_s if is_sent else self.compute_s[task.id.unit]) / count

    def time_of(self, stage: Stage) -> DeviceTime:
        """What its device and its link do."""
        uploaded = [unit for unit in stage.units if unit in self.upload_s]
        return DeviceTime(
            sum(self.compute_s[unit] for unit in stage.units),
            sum(self.upload_s[unit] for unit in uploaded),
            sum(self.unit_bytes[unit] for unit in uploaded),
        )

    def step_time(self, total_s: float) -> StepTime:
        """The record of a sweep that took `total_s`; the caller waits but for the overhead."""
        return StepTime(
            total_s=total_s,
            cpu_s=min(self.overhead_s, total_s),
            wait_s=max(total_s - self.overhead_s, 0.0),
            disk_read_s=self.disk_s,
            read_bytes=self.read_bytes,
            **of_devices([self.time_of(stage) for stage in self.stages]),
        )


@dataclass(frozen=True)
class StagedTimes(DeviceSweepTimes):
    """Times of one way to run a model on several devices."""

    stages: tuple[Stage, ...] = ()

    @property
    def reads_wait(self) -> bool:
        """Never: sums of steady sweeps stand for all."""
        return False

    def load(self, shape: SweepShape) -> StagedLoad:
        """What the resources have to do in a sweep; they are taken not to disturb one another."""
        load, counts = self._load(shape, self.on_host), self._counts(shape)
        return StagedLoad(
            **vars(load),
            stages=self.stages,
            unit_counts=counts,
            unit_bytes=self.uploaded_bytes,
            send_s=self._send_s(shape, max(counts)),
        )

    def steady(self, shape: SweepShape) -> StepTime:
        """One of many sweeps alike, without simulation; a little optimistic."""
        load = self.load(shape)
        device_s = max(self._device_s(load, stage) for stage in self.stages)
        return load.step_time(max(self._flow_s(load), device_s, load.disk_s))

    def _device_s(self, load: StagedLoad, stage: Stage) -> float:
        """Of one device alone: uploads beside computes, or after them with a ring of one unit."""
        time, uploaded = load.time_of(stage), [it for it in stage.units if it in load.upload_s]
        largest_bytes = max((self.uploaded_bytes[unit] for unit in uploaded), default=0)
        if stage.ring_bytes >= 2 * largest_bytes:
            return max(time.gpu_s, time.h2d_s)
        return max(time.gpu_s, time.h2d_s + sum(load.compute_s[unit] for unit in uploaded))

    def _flow_s(self, load: StagedLoad) -> float:
        """From the first unit to the last, each stretch when the one before hands on."""
        count, stretches = max(load.unit_counts), virtual_stages(self.stages)
        waits = len(stretches) == len(self.stages)
        leads, rests = [], []
        for stretch in stretches:
            stage = Stage(stretch.units, self.stages[stretch.device].ring_bytes)
            time, spans = load.time_of(stage), self._spans(stage)
            busy_s = max(time.gpu_s, time.h2d_s) if waits and spans > 1 else time.gpu_s
            rests.append(busy_s * (1 - 1 / count) / spans)
            leads.append(busy_s - rests[-1])
        sends_s = (len(stretches) - 1) * load.send_s / count
        return sum(leads) + max(rests) + sends_s + load.overhead_s

    def steady_s(self, shape: SweepShape) -> float:
        """Seconds of the same."""
        return self.steady(shape).total_s

    def simulated_s(self, loads: Sequence[SweepLoad]) -> list[float]:
        """Seconds of sweeps that follow one another, by the executor's own tasks."""
        transfers = StagedTransfers(self.streamed_bytes, self.uploaded_bytes, self.ring_bytes)
        schedule = StagedSchedule(self.stages, transfers)
        return simulated_seconds(loads, schedule.transfers, schedule.computes)

    def _counts(self, shape: SweepShape) -> list[int]:
        micro_batches = min(-(-shape.rows // self.micro_batch_tokens), MOST_SIMULATED)
        kinds = (sized.unit.kind for sized in self.costs.model.units)
        return [micro_batches if kind in BY_MICRO_BATCH else 1 for kind in kinds]

    def _spans(self, stage: Stage) -> int:
        """About how many spans a stage has."""
        uploaded_bytes = sum(self.uploaded_bytes.get(unit, 0) for unit in stage.units)
        largest_bytes = max((self.uploaded_bytes.get(unit, 0) for unit in stage.units), default=0)
        room_bytes = max(stage.ring_bytes - largest_bytes, largest_bytes, 1)
        return max(-(-uploaded_bytes // room_bytes), 1)

    def _send_s(self, shape: SweepShape, count: int) -> float:
        down, up = self._links
        size_bytes = shape.rows * self.costs.model.config.hidden_size * F32_BYTES // count
        return count * (down.transfer_s(size_bytes) + up.transfer_s(size_bytes))


def times_on_stages(times: DeviceSweepTimes, stages: Sequence[DevicePlacement]) -> StagedTimes:
    """The same sweeps where several devices compute."""
    known = {item.name: getattr(times, item.name) for item in fields(DeviceSweepTimes)}
    return StagedTimes(**known, stages=tuple(Stage(it.units, it.ring_bytes) for it in stages))
