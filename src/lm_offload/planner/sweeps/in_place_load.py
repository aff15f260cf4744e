"""What disk, link, device and CPU have to do in a sweep with units in place on the CPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

from lm_offload.planner.lazy import lazy
from lm_offload.planner.sweeps.device_load import DeviceSweepLoad
from lm_offload.planner.sweeps.host_load import beside_s
from lm_offload.planner.sweeps.link_disturbance import COMPUTE, Slower
from lm_offload.schedule.task import Kind, Task
from lm_offload.step_time import StepTime


@dataclass(frozen=True)
class InPlaceSweepLoad(DeviceSweepLoad):
    """Seconds of a small sweep; `compute_s` is 0 for units that the CPU computes.

    Where `host` attends, it does so in other units.
    """

    micro_batches: Sequence[int] = ()  # tasks of each unit
    in_place_s: Mapping[int, float] = field(default_factory=dict)  # of each of these units
    down_s: float = 0.0  # hidden states of one micro-batch
    up_s: float = 0.0

    @property
    def rows_s(self) -> float:
        """All units, if neither ring holds anything up."""
        host, tasks = self.host, max(self.micro_batches)
        cpu_s = sum(self.in_place_s.values()) + (host.attend_s if host else 0.0)
        link_s = self._trips * (self.down_s + self.up_s + self.wait_s)
        link_s += host.link_s(self.wait_s) if host else 0.0
        return beside_s(self.cpu_s, cpu_s, tasks, link_s)

    @property
    def back_s(self) -> float:
        """Seconds of all copies from the CPU, which uploads leave the link to."""
        return super().back_s + self._trips * max(self.micro_batches) * self.up_s

    @lazy
    def _trips(self) -> int:
        """Of hidden states of a micro-batch; the CPU keeps them from unit to unit."""
        return len(self.in_place_s.keys() - {unit + 1 for unit in self.in_place_s})

    @property
    def counts(self) -> Sequence[int]:
        """A few where there are several micro-batches, which take turns."""
        return self.micro_batches

    def task_s(self, task: Task) -> float:
        """Seconds of a task on the rows of a unit."""
        return self.by_kind[task.id.kind][task.id.unit]

    @lazy
    def by_kind(self) -> Mapping[Kind, Sequence[float]]:
        """Seconds of a task of each kind, of each unit."""
        found, units = super().by_kind, len(self.micro_batches)
        compute_s = [*found["compute"]]
        if self.host is None:
            shared = zip(compute_s, self.micro_batches, strict=True)
            compute_s = [seconds / count for seconds, count in shared]
        for unit, seconds in self.in_place_s.items():
            compute_s[unit] = seconds / self.micro_batches[unit]
        return {
            **found,
            "compute": compute_s,
            "download_hidden": [self.down_s] * units,
            "upload_hidden": [self.up_s] * units,
        }

    @property
    def alone_s(self) -> tuple[float, ...]:
        """See `DeviceSweepLoad.alone_s`."""
        return (*super().alone_s[:COMPUTE], sum(self.in_place_s.values()))

    def slowed(self, by: Slower) -> Self:
        """The same where its resources slow one another; uploads slow products in any case."""
        in_place_s = {unit: by[COMPUTE] * seconds for unit, seconds in self.in_place_s.items()}
        return replace(super().slowed(by), in_place_s=in_place_s)

    def step_time(self, total_s: float) -> StepTime:
        """The record of a sweep that took `total_s`."""
        time = super().step_time(total_s)
        return replace(time, attend_s=time.attend_s + sum(self.in_place_s.values()))
