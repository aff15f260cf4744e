"""What the CPU does in a sweep where it attends beside a device, and how far that is hidden.

::

    units = max(device, CPU, (device + CPU) / micro-batches + link)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from lm_offload.hardware.link import Link
from lm_offload.planner.costs.model_sizes import ModelSizes
from lm_offload.planner.costs.sweep_shape import SweepShape
from lm_offload.planner.costs.unit_cost import UnitCosts
from lm_offload.planner.costs.unit_work import F32_BYTES
from lm_offload.schedule.host_attention import most_rows
from lm_offload.schedule.task import Task

MOST_COUNTED = 2  # micro-batches that are simulated; of more each stands for several


class Turn(NamedTuple):
    """Seconds of one micro-batch: of each unit on the device and on the CPU, and on the link."""

    project_s: Sequence[float]  # until the CPU attends, 0 for units without attention
    compute_s: Sequence[float]  # all else
    attend_s: Sequence[float]
    down_s: float
    up_s: float


@dataclass(frozen=True)
class HostLoad:
    """Seconds of each unit on the CPU, and of one micro-batch on the link."""

    most_rows: int  # of a micro-batch
    counts: Sequence[int]  # tasks of each unit
    attend: Sequence[float]  # seconds, 0 for units without attention
    project_frac: float  # of what a split unit takes on the device
    down_s: float  # of one task
    up_s: float

    @property
    def alone(self) -> int:
        """Leading micro-batches that the CPU has no part in."""
        return 0

    @property
    def attend_s(self) -> float:
        """Seconds of all units on the CPU."""
        return sum(self.attend)

    @property
    def sent_s(self) -> float:
        """Seconds of all that goes down."""
        return self.down_s * self._tasks

    @property
    def back_s(self) -> float:
        """Seconds of all copies that come back."""
        return self.up_s * self._tasks

    @property
    def _tasks(self) -> int:
        """That the CPU attends to."""
        return sum(
            count for count, seconds in zip(self.counts, self.attend, strict=True) if seconds
        )

    def slowed(self, down: float, attend: float) -> HostLoad:
        """The same with factors on what goes down and on attention."""
        seconds = [attend * it for it in self.attend]
        return replace(self, attend=seconds, down_s=down * self.down_s)

    def steady_s(self, device_s: float, wait_s: float) -> float:
        """All units, if neither ring holds anything up; what comes back waits for uploads."""
        return beside_s(device_s, self.attend_s, max(self.counts), self.link_s(wait_s))

    def link_s(self, wait_s: float) -> float:
        """All ways of one micro-batch down and up, which waits for uploads each time."""
        units = len(self.attend) - self.attend.count(0.0)
        return units * (self.down_s + self.up_s + wait_s)

    def turns(self, compute_s: Sequence[float]) -> list[Turn]:
        """Of each micro-batch, all alike; `compute_s` of each unit on the device."""
        whole = [seconds / count for seconds, count in zip(compute_s, self.counts, strict=True)]
        project = [
            self.project_frac * seconds if attended else 0.0
            for seconds, attended in zip(whole, self.attend, strict=True)
        ]
        rest = [seconds - before for seconds, before in zip(whole, project, strict=True)]
        attend = [seconds / count for seconds, count in zip(self.attend, self.counts, strict=True)]
        return [Turn(project, rest, attend, self.down_s, self.up_s)] * max(self.counts)

    def task_s(self, task: Task, device_s: float) -> float:
        """Seconds of a task of a unit that takes `device_s` on the device."""
        kind, unit = task.id.kind, task.id.unit
        if kind == "send_qkv":
            return self.down_s
        if kind == "return_attended":
            return self.up_s
        if kind == "attend":
            return self.attend[unit] / self.counts[unit]
        before_frac = self.project_frac if self.attend[unit] else 0.0
        frac = before_frac if kind == "project" else 1 - before_frac
        return frac * device_s / self.counts[unit]


def host_load(
    costs: UnitCosts,
    shape: SweepShape,
    micro_batch_tokens: int,
    down: Link,
    up: Link,
    project_frac: float,
    on_host: frozenset[int],
) -> HostLoad:
    """The CPU's part of a sweep, attention of the units `on_host`; `costs` are the CPU's."""
    most = most_rows(shape.rows, micro_batch_tokens)
    tasks = counted_tasks(shape, most)
    attend = costs.attention_s(shape, most)
    down_s, up_s = round_trip_s(costs.model, -(-shape.rows // tasks), down, up)
    return HostLoad(
        most_rows=most,
        counts=[1 if once else tasks for once in costs.model.once_in_sweep],
        attend=[s if it in on_host else 0.0 for it, s in enumerate(attend)],
        project_frac=project_frac,
        down_s=down_s,
        up_s=up_s,
    )


def beside_s(device_s: float, attend_s: float, tasks: int, link_s: float) -> float:
    """The longer of device and CPU, or what of both no micro-batch can hide."""
    return max(device_s, attend_s, (device_s + attend_s) / tasks + link_s)


def counted_tasks(shape: SweepShape, most: int) -> int:
    """Micro-batches of at most `most` rows, as far as they are told apart."""
    return min(-(-shape.rows // most), MOST_COUNTED)


def round_trip_s(model: ModelSizes, rows: int, down: Link, up: Link) -> tuple[float, float]:
    """Of one task of one unit: queries, keys and values down, what was attended up."""
    config = model.config
    sent = config.query_size + 2 * config.kv_size
    down_s = down.transfer_s(rows * sent * F32_BYTES)
    return down_s, up.transfer_s(rows * config.query_size * F32_BYTES)


def project_frac(model: ModelSizes) -> float:
    """What of a split unit comes before attention, by weights: all but the output projection."""
    specs = next(sized.unit.loaded for sized in model.units if sized.unit.kind == "attention")
    weights = {spec.role: spec.elements for spec in specs if spec.is_matrix}
    return 1 - weights["o_proj"] / sum(weights.values())
