"""Sets up what lends unused KV memory to streamed units, where a plan has both."""

from __future__ import annotations

from lm_offload.engine.model_files import ModelFiles
from lm_offload.kvcache.cache import KVCache, kv_block_bytes
from lm_offload.kvcache.growing_cache import GrowingCache
from lm_offload.pipeline.executor import Executor, OverlappedExecutor
from lm_offload.pipeline.retention import Retainer
from lm_offload.plan import Plan
from lm_offload.schedule.retention import Lending, lend
from lm_offload.storage.arena import Arena, MemoryTier
from lm_offload.storage.weight_store import WeightStore
from lm_offload.units import align_up


def streamed_bytes(files: ModelFiles, plan: Plan) -> dict[int, int]:
    """Numbers and sizes of the units that are read in every sweep."""
    streamed = set(plan.streamed)
    sizes = ((index, layout) for index, layout in enumerate(files.layouts))
    return {index: layout.size_bytes for index, layout in sizes if layout.name in streamed}


def open_cache(files: ModelFiles, plan: Plan, tier: MemoryTier, overlap: bool) -> KVCache:
    """The KV cache of a plan, one that can lend its memory where the plan says so.

    Attention over its blocks, which lie apart, is some percent slower, so others are as they were.
    """
    if overlap and plan.retention is not None:
        return GrowingCache(files.config, plan.kv_blocks, files.kv_format, tier)
    return KVCache(files.config, plan.kv_blocks, files.kv_format, tier, plan.spill.layers)


def retention_over(
    cache: KVCache, executor: Executor, store: WeightStore, files: ModelFiles, plan: Plan
) -> Retainer | None:
    """What decides from sweep to sweep, where the cache can lend its memory."""
    if not isinstance(cache, GrowingCache) or not isinstance(executor, OverlappedExecutor):
        return None
    sizes_bytes, lending = streamed_bytes(files, plan), _lending(files, plan)
    assert isinstance(cache.memory, Arena)
    for unit, offset in zip(lending.units, lending.offsets, strict=True):
        store.settle(unit, cache.memory.slice(offset, sizes_bytes[unit]))
    return Retainer(lending, sizes_bytes, cache, executor)


def _lending(files: ModelFiles, plan: Plan) -> Lending:
    cache_bytes = plan.kv_blocks * kv_block_bytes(files.config, files.kv_format)
    return lend(streamed_bytes(files, plan), align_up(cache_bytes))
