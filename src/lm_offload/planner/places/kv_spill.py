"""Which layers keep their keys and values on disk, and how they are staged.

Every layer's cache is read once in a sweep, so no layer is worth more than another, but for a
window past which nothing is read. Spread evenly, the disk reads for one layer while
others compute; a sweep ends with a layer on disk and begins with reads beside resident layers::

    layers    0  1  2  3  4  5        half of them on disk
    on disk      x     x     x

A home per layer rather than per sequence keeps sequences alike (each costs a sweep the same), needs
memory for tails only, and is the choice that is made for weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from lm_offload.arch.config import ModelConfig
from lm_offload.kvcache.cache import blocks_for, kv_block_bytes
from lm_offload.kvcache.spilled_size import spillable_layers, spilled_block_bytes, tails_bytes
from lm_offload.plan import KVSpill, Workload
from lm_offload.planner.costs.memory import Sizes, kv_bytes, memory_table
from lm_offload.planner.costs.model_sizes import ModelSizes
from lm_offload.planner.request import Request

WORTH_FRAC = 0.1  # of the budget; a smaller cache makes no room that is worth its reads


class Staging(NamedTuple):
    """Groups that the sequences in flight are cut into, and groups that the ring holds."""

    groups: int
    depth: int


# From comfortable to as small as it gets: a group uses a layer's weights once more, a ring that
# holds whole layers lets the disk read on while other layers compute.
STAGINGS = (Staging(1, 2), Staging(4, 4), Staging(1 << 20, 2))


def spills(request: Request, model: ModelSizes, sizes: Sizes) -> Iterator[KVSpill]:
    """What could be put on disk to make room for weights, for the sequences, or for both."""
    if request.draft_rows:
        return  # a drafted token that is wrong would fill a block, which is written once
    if request.device is not None:
        return  # which has the whole cache in its memory
    if model.experts is not None:
        return  # whose reads depend on what routers say
    if not spillable_layers(model.config):
        return
    if not request.spill_bytes or not is_worth_reads(model, sizes, request.budget_bytes):
        return
    resident_bytes = model.units_bytes + model.table_bytes
    smallest_bytes = max(unit.size_bytes for unit in model.units)
    if _missing_bytes(request, model, sizes, resident_bytes) <= 0:
        return  # everything fits
    known = set()
    for staging in STAGINGS:
        spill = _staged(request.workload, sizes, staging)
        for weight_bytes in (resident_bytes, smallest_bytes):
            count = _layers_needed(request, model, replace(sizes, spill=spill), weight_bytes)
            known.add(replace(spill, layers=spread_layers(model.config, count)))
    yield from (spill for spill in known if _has_room(request, model, sizes, spill))


def is_worth_reads(model: ModelSizes, sizes: Sizes, budget_bytes: int) -> bool:
    """Whether the cache is large enough, in a budget, for layers of it to be put on disk."""
    return kv_bytes(model, sizes) >= WORTH_FRAC * budget_bytes


def spread_layers(config: ModelConfig, count: int) -> tuple[int, ...]:
    """`count` layers: those with a window first, each kind spread evenly, late ones first."""
    able = spillable_layers(config)
    windowed = [index for index in able if config.layers[index].window]
    others = [index for index in able if not config.layers[index].window]
    first = min(count, len(windowed))
    return tuple(sorted([*_spread(windowed, first), *_spread(others, count - first)]))


def _spread(layers: Sequence[int], count: int) -> Iterator[int]:
    for place, layer in enumerate(layers):
        if (place + 1) * count // len(layers) > place * count // len(layers):
            yield layer


def _staged(workload: Workload, sizes: Sizes, staging: Staging) -> KVSpill:
    """A ring that holds several groups of at least the longest sequence."""
    longest = blocks_for(workload.most_tokens)
    group_blocks = max(longest, -(-sizes.kv_blocks // staging.groups))
    return KVSpill((), group_blocks, staging.depth * group_blocks)


def _layers_needed(request: Request, model: ModelSizes, sizes: Sizes, weight_bytes: int) -> int:
    """The fewest layers on disk with which `weight_bytes` fit beside everything else; 1 or more.

    Each frees as much as any other, but for rounding: the count is guessed and then corrected.
    """
    count, most = 1, len(spillable_layers(model.config))
    tail_bytes = tails_bytes(model.config, model.kv_format, 1, sizes.max_sequences)
    layer_bytes = kv_block_bytes(model.config, model.kv_format, spread_layers(model.config, 1))
    freed_bytes = max(sizes.kv_blocks * layer_bytes - tail_bytes, 1)
    while count < most:
        layers = spread_layers(model.config, count)
        spilled = replace(sizes, spill=replace(sizes.spill, layers=layers))
        missing_bytes = _missing_bytes(request, model, spilled, weight_bytes)
        if missing_bytes <= 0:
            break
        count = min(count + math.ceil(missing_bytes / freed_bytes), most)
    return count


def _missing_bytes(request: Request, model: ModelSizes, sizes: Sizes, weight_bytes: int) -> int:
    table = memory_table(model, sizes, table_resident=False)
    return sum(size for _, size in table) + weight_bytes - request.budget_bytes


def _has_room(request: Request, model: ModelSizes, sizes: Sizes, spill: KVSpill) -> bool:
    block_bytes = spilled_block_bytes(model.config, model.kv_format)
    return spill.file_blocks(sizes.kv_blocks) * block_bytes <= request.spill_bytes
