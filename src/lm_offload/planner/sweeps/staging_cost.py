"""What Python does in a sweep for a KV cache on disk: groups that are built, staged and read.

::

    staging = windows * groups * micro_batch_s                  index tensors of each group
            + layers * groups * (task_s + STAGING_CALLS * call_s)   its read, and tails in place

Hand-offs of runs to the readers are counted with those of weights, see `SweepTimes`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from lm_offload.hardware.processor import Processor
from lm_offload.planner.costs.sweep_shape import SweepShape
from lm_offload.planner.sweeps.kv_reads import LayerReads, SpillCosts

STAGING_CALLS = 4  # tails are taken and put into the ring, and taken and kept again


def staging_s(
    spilled: SpillCosts, shape: SweepShape, cpu: Processor, cached_frac: float = 1.0
) -> float:
    """Seconds of Python beside the tasks that compute; `cached_frac` of what it takes uncached."""
    group_s = cached_frac * (cpu.task_s + STAGING_CALLS * cpu.call_s)
    return sum(
        layer.groups * (cpu.micro_batch_s + layers * group_s)
        for layer, layers in _by_window(spilled, shape)
    )


def runs_of_kv(spilled: SpillCosts, shape: SweepShape) -> float:
    """Transfers of a sweep that readers are handed, of all layers."""
    return sum(layer.runs * layers for layer, layers in _by_window(spilled, shape))


def _by_window(spilled: SpillCosts, shape: SweepShape) -> Iterator[tuple[LayerReads, int]]:
    """One layer with each window, and how many there are."""
    for window, layers in Counter(spilled.windows.values()).items():
        yield spilled.layer(shape, window), layers
