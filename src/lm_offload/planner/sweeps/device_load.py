"""What disk, link, device and CPU have to do in one sweep of a device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Self

from lm_offload.planner.sweeps.host_load import HostLoad
from lm_offload.planner.sweeps.link_disturbance import ATTEND, DISK, DOWN, UP, Slower, shared
from lm_offload.planner.sweeps.sweep_load import SweepLoad
from lm_offload.planner.sweeps.written_back import WrittenBack
from lm_offload.schedule.task import Kind, Task
from lm_offload.step_time import StepTime


@dataclass(frozen=True)
class DeviceSweepLoad(SweepLoad):
    """Seconds of one sweep: of each unit on the device, of each read and of each upload."""

    upload_s: Mapping[int, float] = field(default_factory=dict)
    upload_bytes: int = 0
    host: HostLoad | None = None  # where the CPU attends
    wait_s: float = 0.0  # for blocks of uploads on the link, of each copy that comes back

    @property
    def h2d_s(self) -> float:
        """Seconds of all uploads."""
        return sum(self.upload_s.values())

    @property
    def back_s(self) -> float:
        """Seconds of all copies from the CPU, which uploads leave the link to."""
        return self.host.back_s if self.host else 0.0

    @property
    def fill_s(self) -> float:
        """Enough to fill both rings."""
        return self.disk_s + self.h2d_s

    def transfer_s(self, task: Task) -> float:
        """Seconds of a read or an upload."""
        return (self.upload_s if task.id.kind == "upload" else self.read_s)[task.id.unit]

    @property
    def rows_s(self) -> float:
        """All units, beside the CPU if that attends."""
        return self.host.steady_s(self.cpu_s, self.wait_s) if self.host else self.cpu_s

    @property
    def counts(self) -> Sequence[int]:
        """One for all micro-batches, but a few where the CPU attends to one beside others."""
        return self.host.counts if self.host else super().counts

    @property
    def alone(self) -> int:
        """Leading micro-batches that the CPU has no part in."""
        return self.host.alone if self.host else 0

    @property
    def writes_back(self) -> bool:
        """Whether the CPU only stores what the device has attended to."""
        return isinstance(self.host, WrittenBack)

    def task_s(self, task: Task) -> float:
        """Seconds of a task on the rows of a unit."""
        if self.host is None:
            return super().task_s(task)
        return self.host.task_s(task, self.compute_s[task.id.unit])

    @property
    def by_kind(self) -> Mapping[Kind, Sequence[float]]:
        """Seconds of a task of each kind, of each unit, where all micro-batches are alike."""
        if self.host is None:
            return {"compute": self.compute_s}
        turn, units = self.host.turns(self.compute_s)[0], len(self.compute_s)
        return {
            "project": turn.project_s,
            "compute": turn.compute_s,
            "attend": turn.attend_s,
            "send_qkv": [turn.down_s] * units,
            "return_attended": [turn.up_s] * units,
        }

    @property
    def alone_s(self) -> tuple[float, ...]:
        """Seconds of disk, uploads, what is sent down, and of attention and products on the CPU."""
        host = self.host
        beside = (host.sent_s, host.attend_s) if host else (0.0, 0.0)
        return (self.disk_s, self.h2d_s, *beside, 0.0)

    def beside_copies(self) -> Self:
        """The same where uploads share the link with what comes back."""
        if not self.upload_s or not self.back_s:
            return self
        least_s = max(self.disk_s, self.rows_s + self.overhead_s)
        longer = shared(self.h2d_s, self.back_s, least_s)
        upload_s = {unit: longer * seconds for unit, seconds in self.upload_s.items()}
        return replace(self, upload_s=upload_s)

    def slowed(self, by: Slower) -> Self:
        """The same where its resources slow one another."""
        return replace(
            self,
            read_s={unit: by[DISK] * seconds for unit, seconds in self.read_s.items()},
            upload_s={unit: by[UP] * seconds for unit, seconds in self.upload_s.items()},
            host=self.host.slowed(by[DOWN], by[ATTEND]) if self.host else None,
        )

    def step_time(self, total_s: float) -> StepTime:
        """The record of a sweep that took `total_s`; the caller waits but for the overhead."""
        return StepTime(
            total_s=total_s,
            cpu_s=min(self.overhead_s, total_s),
            wait_s=max(total_s - self.overhead_s, 0.0),
            disk_read_s=self.disk_s,
            read_bytes=self.read_bytes,
            gpu_s=self.cpu_s,
            h2d_s=self.h2d_s,
            h2d_bytes=self.upload_bytes,
            attend_s=self.host.attend_s if self.host else 0.0,
        )


class DeviceSums(NamedTuple):
    """Seconds of all reads, of all uploads, of all units, and of the engine itself."""

    disk_s: float
    h2d_s: float
    rows_s: float
    overhead_s: float
