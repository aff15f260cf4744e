"""The schedule of a policy: its tasks, how far it runs ahead, and its timeline with durations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import assert_never

from lm_offload.planner.policies.policy import Policy
from lm_offload.planner.policies.scene import Scene
from lm_offload.planner.policies.task_bytes import Key, flows_of, transfer_bytes
from lm_offload.planner.sweeps.timeline import Timeline, simulate
from lm_offload.schedule.block import LOAD_WEIGHTS, Block, UnitKind
from lm_offload.schedule.cgopipe import MICRO_BATCHES_AHEAD as CGOPIPE_MICRO_BATCHES_AHEAD
from lm_offload.schedule.cgopipe import UNITS_AHEAD as CGOPIPE_UNITS_AHEAD
from lm_offload.schedule.cgopipe import cgopipe
from lm_offload.schedule.flexgen import flexgen
from lm_offload.schedule.pipo import pipo, pipo_memory
from lm_offload.schedule.task import Task, TaskId
from lm_offload.schedule.zigzag import micro_batches_ahead as zigzag_ahead
from lm_offload.schedule.zigzag import zigzag


def policy_block(scene: Scene, num_layers: int, num_sweeps: int) -> Block:
    """The first layers of a model and its head, as often as there are sweeps."""
    layers: tuple[UnitKind, ...] = ("attention", "mlp") * num_layers
    flows = flows_of(scene, transfer_bytes(scene))
    return Block((*layers, "head"), scene.policy.num_micro_batches, flows, num_sweeps)


def policy_tasks(policy: Policy, block: Block) -> Iterator[Task]:
    """The tasks of a block in the order of the policy's schedule."""
    match policy.schedule:
        case "flexgen":
            return flexgen(block)
        case "pipo":
            return pipo(block)
        case "pipo-memory":
            return pipo_memory(block)
        case "zigzag":
            return zigzag(block, policy.prefetch_units)
        case "cgopipe":
            return cgopipe(block)
    assert_never(policy.schedule)


def units_ahead(policy: Policy) -> int:
    """How many units have a weight buffer beside the one that computes."""
    ahead = {"pipo-memory": 0, "zigzag": policy.prefetch_units, "cgopipe": CGOPIPE_UNITS_AHEAD}
    return ahead.get(policy.schedule, 1)


def micro_batches_ahead(scene: Scene) -> int:
    """How many micro-batches have KV and hidden buffers beside the one that computes."""
    if scene.policy.schedule == "cgopipe":
        return CGOPIPE_MICRO_BATCHES_AHEAD
    return zigzag_ahead(scene.splits_attention) if scene.policy.schedule == "zigzag" else 1


def pages(policy: Policy) -> int:
    """Into how many tasks the load of a unit's weights is cut."""
    return policy.num_micro_batches if policy.schedule == "cgopipe" else 1


def timeline(
    scene: Scene, seconds: Mapping[Key, float], block: Block, last: TaskId | None = None
) -> Timeline:
    """When each task of a block starts and ends; `seconds` by kind of task and unit.

    Up to the task `last`, if one is named: in program order nothing before it needs what follows.
    """
    parts, units = pages(scene.policy), block.units
    durations = {
        key: task_s / parts if key[0] in LOAD_WEIGHTS else task_s for key, task_s in seconds.items()
    }

    def duration_s(task: Task) -> float:
        return durations.get((task.id.kind, units[task.id.unit]), 0.0)

    tasks = policy_tasks(scene.policy, block)
    return simulate(tasks if last is None else _through(tasks, last), duration_s)


def _through(tasks: Iterator[Task], last: TaskId) -> Iterator[Task]:
    for task in tasks:
        yield task
        if task.id == last:
            return
