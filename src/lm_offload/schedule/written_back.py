"""Prompts that a device attends to although their keys and values belong into host memory.

Where all tokens that a sweep sees are computed in it, keys and values are on the device when they
are made. The device attends to them there, and the host gets them for later sweeps::

    gpu   | a0 | m0 | a1     | m1 | a2     | ...     a: attention, whole; m: MLP
    d2h        | s0 |        | s1 |                  s: keys and values of a micro-batch
    cpu             | k0 |        | k1 |             k: they are stored in the cache
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from lm_offload.schedule.host_attention import after_projection
from lm_offload.schedule.task import Task, TaskId


def written_back(tasks: Iterable[Task], units: frozenset[int]) -> Iterator[Task]:
    """`tasks` of one sweep in which the device computes all, and those that write back.

    Keys and values of `units` leave behind each compute; the next such unit leaves others in the
    same place, so it waits until they are stored, and so does the end of the sweep.
    """
    stored: dict[int, TaskId] = {}
    for task in tasks:
        sweep, kind, unit, micro_batch = task.id
        if kind == "download":
            yield replace(task, needs=(*task.needs, *stored.values()))
            continue
        if kind != "compute" or unit not in units:
            yield task
            continue
        before = stored.get(micro_batch)
        yield replace(task, needs=(*task.needs, before)) if before else task
        yield from after_projection(task.id)
        stored[micro_batch] = TaskId(sweep, "attend", unit, micro_batch)
