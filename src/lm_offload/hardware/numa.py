"""NUMA nodes of this process: which cores and which memory are near each other.

A core reads the memory of its own node faster than that of another, and each node has memory
controllers of its own. The rows of a product are handed out to whichever thread comes for them, so
no thread reads the same weights again and there is nothing to place near it: pages lie on all nodes
in turn, so that every controller works in every product, and weights are in memory once.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from lm_offload.hardware.core_lists import affinity, listed_cores

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
    cores = affinity() if allowed is None else allowed
    folders = {int(path.name[4:]): path for path in root.glob("node*") if path.name[4:].isdigit()}
    listed = {number: listed_cores(folders[number] / "cpulist") for number in sorted(folders)}
    found = (
        Node(number, tuple(core for core in on_node if core in cores))
        for number, on_node in listed.items()
    )
    return tuple(node for node in found if node.cores)


def interleaved_nodes() -> tuple[int, ...]:
    """The nodes that memory is to lie on in turn; empty where there is one."""
    nodes = numa_nodes()
    return tuple(node.number for node in nodes) if len(nodes) > 1 else ()
