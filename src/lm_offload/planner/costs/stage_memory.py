"""The parts of a model that several devices compute, and the memory of each beside its weights."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from lm_offload.planner.costs.device_memory import device_memory_table
from lm_offload.planner.costs.memory import Sizes, kv_bytes
from lm_offload.planner.costs.model_sizes import ModelSizes
from lm_offload.planner.request import DeviceBudget
from lm_offload.units import align_up

Rows = tuple[tuple[str, int], ...]  # purpose, bytes


def stage_memory_table(
    model: ModelSizes, sizes: Sizes, budget: DeviceBudget, units: Sequence[int]
) -> Rows:
    """Everything on the device of a stage but weights and ring: the KV cache of its layers, and
    logits only beside the last unit."""
    layers = sum(model.units[unit].unit.kind == "attention" for unit in units)
    cache_bytes = align_up(kv_bytes(model, sizes) // model.config.num_layers * layers)
    changed = {"KV cache": cache_bytes}
    if len(model.units) - 1 not in units:
        changed["logits"] = 0
    rows = ((name, changed.get(name, n)) for name, n in device_memory_table(model, sizes, budget))
    return tuple((name, size_bytes) for name, size_bytes in rows if size_bytes)


def even_cut(model: ModelSizes, stages: int) -> list[range]:
    """Stages of as many layers each, as far as that goes."""
    starts = layer_starts(model)
    firsts = [starts[stage * len(starts) // stages] for stage in range(1, stages)]
    return [range(*pair) for pair in pairwise([0, *firsts, len(model.units)])]


def layer_starts(model: ModelSizes) -> list[int]:
    """The units with which layers begin."""
    units = enumerate(model.units)
    return [index for index, sized in units if sized.unit.kind == "attention"]
