"""PIPO's two pipelines (arXiv 2504.03664), reconstructed from its task types and buffers.

Attention and MLP are separate units, a task waits only for what it needs, and nothing waits for
a whole step. The performance pipeline has two weight buffers: the next unit is loaded while this
one computes::

    h2d  | w0 | w1   | w2   |         w2 waits until unit 0 has left its buffer
    gpu       | c0 |   | c1 | c2 |
    d2h            |s0|     |s1|s2|   keys and values on their way home

The memory pipeline has one: a unit is loaded when the one before is done::

    h2d  | w0 |    | w1   |    | w2   |
    gpu       | c0 |      | c1 |      | c2 |
"""

from __future__ import annotations

from collections.abc import Iterator

from lm_offload.schedule.block import Block
from lm_offload.schedule.pipelined import Depth, pipelined
from lm_offload.schedule.task import Task


def pipo(block: Block) -> Iterator[Task]:
    """The performance pipeline: two weight buffers."""
    return pipelined(block, Depth(units=1))


def pipo_memory(block: Block) -> Iterator[Task]:
    """The memory pipeline: one weight buffer, no load runs ahead."""
    return pipelined(block, Depth(units=0))
