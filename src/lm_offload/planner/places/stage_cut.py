"""Where to cut a model for several devices so that the slowest stage is as fast as can be.

::

    seconds[stage, from, to]                    of layers `from` up to `to` on the device of a stage
    best[stage, to] = min over from of max(best[stage - 1, from], seconds[stage, from, to])

A stage takes as long as it computes, or as its device is sent what it has no room for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from lm_offload.planner.costs.memory import Sizes, kv_bytes
from lm_offload.planner.costs.model_sizes import ModelSizes
from lm_offload.planner.costs.ring_depth import RingDepth
from lm_offload.planner.costs.stage_memory import layer_starts, stage_memory_table
from lm_offload.planner.costs.unit_cost import UnitCosts
from lm_offload.planner.request import DeviceBudget, Request
from lm_offload.planner.sweeps.mean_sweeps import mean_decode, mean_prefill

Seconds = NDArray[np.float64]


def best_cut(
    request: Request, model: ModelSizes, sizes: Sizes, depth: RingDepth
) -> tuple[int, ...] | None:
    """The layers with which stages end; None if no cut with rings of `depth` units fits."""
    return balanced(_seconds(request, model, sizes, depth))


def balanced(seconds: Seconds) -> tuple[int, ...] | None:
    """The layers with which stages end so that the slowest is as fast as can be.

    seconds[stages, layers + 1, layers + 1] of each stage from one layer up to another; infinite
    where it does not fit. None where no cut fits.
    """
    best_s = np.full(seconds.shape[1], np.inf)  # of all layers before each, on the devices so far
    best_s[0] = 0.0
    starts = []
    for stage_s in seconds:
        slowest_s = np.maximum(best_s[:, None], stage_s)
        starts.append(slowest_s.argmin(axis=0))
        best_s = slowest_s.min(axis=0)
    if best_s[-1] == np.inf:
        return None
    ends = [len(best_s) - 1]
    for start in reversed(starts[1:]):
        ends.append(int(start[ends[-1]]))
    return tuple(reversed(ends))


def _seconds(request: Request, model: ModelSizes, sizes: Sizes, depth: RingDepth) -> Seconds:
    """Of every possible stage in all sweeps of a wave: its computes, or its uploads if longer."""
    assert request.device is not None
    assert request.profile.h2d is not None
    bytes_per_s = max(request.profile.h2d.bytes_per_s.rates)
    room = _room_bytes(request.device, model, sizes)
    size_bytes = _between(model, [unit.size_bytes for unit in model.units])
    ring_bytes = sum(sorted(unit.size_bytes for unit in model.units)[-depth.units :])
    over_bytes = size_bytes - (room - ring_bytes)
    upload_s = np.where(size_bytes <= room, 0.0, over_bytes / bytes_per_s)
    fits = (size_bytes <= room) | (room >= ring_bytes)
    seconds = sum(
        sweeps * np.maximum(_between(model, unit_s), upload_s)
        for sweeps, unit_s in _phases(request, model, sizes)
    )
    layers = np.arange(size_bytes.shape[0])
    return np.where(fits & (layers[:, None] < layers), seconds, np.inf)


def _room_bytes(device: DeviceBudget, model: ModelSizes, sizes: Sizes) -> NDArray[np.int64]:
    """What every possible stage leaves to weights on each device, [stages, from, to]."""
    count, units = model.config.num_layers, len(model.units)
    layers = np.arange(count + 1)
    cache_bytes = kv_bytes(model, sizes) // count * (layers - layers[:, None])
    nothing = range(0), range(units - 1, units)  # no layers, without and with the end of the model
    left_bytes = [
        [part.budget_bytes - _other_bytes(model, sizes, part, it) for it in nothing]
        for part in device.stages
    ]
    is_last = np.where(layers == count, 1, 0)
    room_bytes: NDArray[np.int64] = np.array(left_bytes)[:, None, is_last] - cache_bytes
    return room_bytes


def _between(model: ModelSizes, values: Sequence[float]) -> Seconds:
    """Sums over the units from one layer up to another, with what lies before all and behind."""
    before = np.array([0, *accumulate(values)])
    starts = layer_starts(model)
    ends, begins = [*starts, len(values)], [0, *starts[1:], len(values)]
    sums: Seconds = before[ends] - before[begins][:, None]
    return sums


def _phases(
    request: Request, model: ModelSizes, sizes: Sizes
) -> Iterator[tuple[float, Sequence[float]]]:
    """How many sweeps, and the seconds of units in each."""
    assert request.profile.gpu is not None
    costs, workload = UnitCosts(model, request.profile.gpu, missed_frac=1.0), request.workload
    count = min(sizes.max_sequences, len(workload.prompt_lens))
    for mean in (mean_prefill(workload, sizes, count), mean_decode(workload, count)):
        if mean.sweeps:
            yield mean.sweeps, costs.unit_s(mean.shape, sizes.micro_batch_tokens)


def _other_bytes(model: ModelSizes, sizes: Sizes, part: DeviceBudget, units: range) -> int:
    return sum(size_bytes for _, size_bytes in stage_memory_table(model, sizes, part, units))
