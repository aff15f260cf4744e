"""CGOPipe of MoE-Lightning (arXiv 2411.11217): paged weights, attention on the CPU, lookahead 2.

While layer i computes, layer i + 1 is loaded in as many pages as there are micro-batches, so that
the hidden states of a micro-batch slip between two pages; the CPU attends two micro-batches
ahead::

    h2d  | a0 | p0  | a1 | p1  | a2 | p2  |      a: attention's output, p: a page of weights
    gpu       | c0 q2 |  | c1 q3 |  | c2 q4 |    c: output projection and MLP, q: projections
    d2h           |q2|       |q3|       |q4|
    cpu  |  a1  |    |  a2  |  |  a3  |
"""

from __future__ import annotations

from collections.abc import Iterator

from lm_offload.schedule.block import Block
from lm_offload.schedule.pipelined import Depth, pipelined
from lm_offload.schedule.task import Task

UNITS_AHEAD = 2  # attention and MLP of one layer
MICRO_BATCHES_AHEAD = 2


def cgopipe(block: Block) -> Iterator[Task]:
    """The tasks of all sweeps; two layers' weights are held at most."""
    return pipelined(block, Depth(UNITS_AHEAD, MICRO_BATCHES_AHEAD, block.num_micro_batches))
