"""Cores of its own for each thread of the native kernels.

Linux wakes a thread on the core of the one that wakes it rather than on an idle one often enough
that two threads share a core for some ten milliseconds after every wait::

    left to the system   core 0  caller|worker|caller|worker|...    half the pace
                         core 1  idle
    in groups            core 0  caller......
                         core 1  worker......

Which group is the caller's is seen at each run; a worker that is there moves out of its way
(`csrc/worker_seats.h`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lm_offload.hardware.core_lists import affinity, listed_cores
from lm_offload.hardware.numa import Node, numa_nodes
from lm_offload.kernels.worker_cores import spread_workers

CORES = Path("/sys/devices/system/cpu")
Groups = list[list[int]]


def spread_threads(threads: int) -> None:
    """Let each of `threads` threads, the caller among them, run on cores of its own.

    Nothing changes for one thread. The last call counts, for all native kernels of the process.
    """
    if threads > 1:
        nodes = numa_nodes() or (Node(0, tuple(affinity())),)
        spread_workers(core_groups(threads, nodes))


def core_groups(threads: int, nodes: Sequence[Node], root: Path = CORES) -> Groups:
    """As many groups as threads: nodes in turn, each cut into runs of whole processor cores.

    A node with fewer cores than threads of its own gives the same core to several.
    """
    groups: Groups = [[] for _ in range(threads)]
    for turn, node in enumerate(nodes):
        cores = sorted(node.cores, key=lambda core: (_processor_core(core, root), core))
        places = range(turn, threads, len(nodes))
        for index, place in enumerate(places):
            groups[place] = _share(cores, index, len(places))
    return groups


def _share(cores: Sequence[int], index: int, count: int) -> list[int]:
    start = index * len(cores) // count
    return list(cores[start : max((index + 1) * len(cores) // count, start + 1)])


def _processor_core(core: int, root: Path) -> int:
    """The first of the hardware threads that share a processor's core with this one."""
    siblings = root / f"cpu{core}/topology/thread_siblings_list"
    return min(listed_cores(siblings), default=core)
