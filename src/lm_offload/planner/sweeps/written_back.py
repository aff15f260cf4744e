"""What the CPU has to do in a sweep of prompts that a device attends to: it stores them."""

from __future__ import annotations

from dataclasses import dataclass

from lm_offload.hardware.link import Link
from lm_offload.planner.costs.sweep_shape import SweepShape
from lm_offload.planner.costs.unit_cost import UnitCosts
from lm_offload.planner.costs.unit_work import F32_BYTES
from lm_offload.planner.sweeps.host_load import HostLoad, counted_tasks
from lm_offload.schedule.task import Task


@dataclass(frozen=True)
class WrittenBack(HostLoad):
    """See `HostLoad`; `attend` are the seconds of storing, and nothing comes back."""

    def steady_s(self, device_s: float, wait_s: float) -> float:
        """All units, if neither ring holds anything up."""
        return max(device_s, self.attend_s, self.sent_s)

    def task_s(self, task: Task, device_s: float) -> float:
        """Seconds of a task of a unit that takes `device_s` on the device."""
        seconds = {"send_qkv": self.down_s * self.counts[task.id.unit]}
        seconds["attend"] = self.attend[task.id.unit]
        return seconds.get(task.id.kind, device_s) / self.counts[task.id.unit]


def written_back(
    costs: UnitCosts, shape: SweepShape, most: int, down: Link, on_host: frozenset[int]
) -> WrittenBack:
    """Of a sweep in micro-batches of at most `most` rows; `costs` are the CPU's."""
    config, once = costs.model.config, costs.model.once_in_sweep
    tasks = counted_tasks(shape, most)
    kv_bytes = 2 * shape.rows * config.kv_size
    store_s = costs.processor.operation_s("store_kv", kv_bytes * (F32_BYTES + config.itemsize))
    return WrittenBack(
        most_rows=most,
        counts=[1 if alone else tasks for alone in once],
        attend=[store_s if unit in on_host else 0.0 for unit in range(len(once))],
        project_frac=0.0,
        down_s=down.transfer_s(kv_bytes * F32_BYTES / tasks),
        up_s=0.0,
    )


def are_whole_prompts(shape: SweepShape) -> bool:
    """Whether a sweep computes all tokens that it sees."""
    return all(piece.rows == piece.context for piece in shape.pieces)
