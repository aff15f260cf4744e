"""The zig-zag order of FlexGen (arXiv 2303.06865) without its barrier, with any prefetch depth.

Loads run `prefetch_units` units ahead, and attention on the CPU one micro-batch ahead of the
GPU. A unit's weights travel in one piece, so what a micro-batch needs can be stuck behind them::

    h2d  | w1          | a2 | w2          | a4 |      a: attention's output of a micro-batch
    gpu  | c0 | c1 |        | c2 | c3 |        | c4 |
    cpu  | a1 | a2 |  a3 |
"""

from __future__ import annotations

from collections.abc import Iterator

from lm_offload.schedule.block import Block
from lm_offload.schedule.pipelined import Depth, pipelined
from lm_offload.schedule.task import Task


def zigzag(block: Block, prefetch_units: int) -> Iterator[Task]:
    """The tasks of all sweeps with `prefetch_units` + 1 weight buffers."""
    return pipelined(block, Depth(prefetch_units, micro_batches_ahead(block.flows.host_attention)))


def micro_batches_ahead(host_attention: bool) -> int:
    """With attention on the CPU one micro-batch attends while another is ready for the GPU."""
    return 2 if host_attention else 1
