"""NUMA nodes of this process: which cores and which memory are near each other.

A core reads the memory of its own node faster than that of another, and each node has memory
controllers of its own. The rows of a product are handed out to whichever thread comes for them, so
no thread reads the same weights again and there is nothing to place near it: pages lie on all nodes
in turn, so that every controller works in every product, and weights are in memory once.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from lm_offload.kernels.worker_cores import spread_workers

NODES = Path("/sys/devices/system/node")


@dataclass(frozen=True)
class Node:
    """A node and those of its cores that this process may use."""

    number: int
    cores: tuple[int, ...]


def numa_nodes(root: Path = NODES, allowed: Collection[int] | None = None) -> tuple[Node, ...]:
    """The nodes with allowed cores, by number; none where the system does not say.

    `allowed` are the cores of this process's affinity if they are not given.
    """
    cores = _affinity() if allowed is None else allowed
    folders = {int(path.name[4:]): path for path in root.glob("node*") if path.name[4:].isdigit()}
    found = (
        Node(number, tuple(core for core in _listed(folders[number]) if core in cores))
        for number in sorted(folders)
    )
    return tuple(node for node in found if node.cores)


def interleaved_nodes() -> tuple[int, ...]:
    """The nodes that memory is to lie on in turn; empty where there is one."""
    nodes = numa_nodes()
    return tuple(node.number for node in nodes) if len(nodes) > 1 else ()


def spread_threads(nodes: Collection[Node]) -> None:
    """Let the threads of native kernels run on all nodes, each on the cores of one.

    Nothing changes on one node.
    """
    if len(nodes) > 1:
        spread_workers([node.cores for node in nodes])


def _affinity() -> Collection[int]:
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return range(os.cpu_count() or 1)


def _listed(node: Path) -> list[int]:
    """The cores of a node, which are written as 0-3,8-11; none if they cannot be read."""
    try:
        text = (node / "cpulist").read_text().strip()
    except OSError:
        return []
    ranges = [part.partition("-") for part in text.split(",") if part]
    return [
        core
        for first, dash, last in ranges
        for core in range(int(first), int(last if dash else first) + 1)
    ]
