"""What a plan puts on disk of the KV cache: layers that lie there, and preempted sequences."""

from __future__ import annotations

from pathlib import Path

from lm_offload.engine.model_files import ModelFiles
from lm_offload.kvcache.cache import KVCache, kv_block_bytes
from lm_offload.kvcache.spilled import SpilledCache
from lm_offload.kvcache.spilled_size import spilled_block_bytes
from lm_offload.kvcache.spilled_swap import SpilledSwap
from lm_offload.kvcache.swap_file import SwapFile, SwapStore
from lm_offload.kvcache.whole_blocks import BlockBytes, WholeBlocks
from lm_offload.pipeline.staged_cache import StagedCache
from lm_offload.plan import Plan
from lm_offload.storage.arena import Arena
from lm_offload.storage.spill_file import SpillFile
from lm_offload.storage.spill_folder import spill_folder


def staged_cache(
    files: ModelFiles, plan: Plan, arenas: dict[str, Arena], folder: Path | None
) -> StagedCache:
    """The part of the KV cache that the plan puts on disk."""
    config, format, spill = files.config, files.kv_format, plan.spill
    file_blocks = spill.file_blocks(plan.kv_blocks)
    file = SpillFile(folder or spill_folder(), file_blocks * spilled_block_bytes(config, format))
    cache = SpilledCache(
        config,
        format,
        spill.layers,
        plan.kv_blocks,
        spill.ring_blocks,
        arenas["KV staging"],
        file,
        plan.read_block_bytes,
    )
    return StagedCache(config, files.units, spill, cache, plan.micro_batch_tokens)


def whole_blocks(files: ModelFiles, cache: KVCache, staged: StagedCache | None) -> BlockBytes:
    """Blocks with all their layers, wherever these lie."""
    if staged is None:
        return cache
    config, format = files.config, files.kv_format
    layer_bytes = {layer: kv_block_bytes(config, format, [layer]) for layer in config.kv_layers}
    return WholeBlocks(cache, staged.cache, layer_bytes)


def swap_store(
    cache: KVCache, staged: StagedCache | None, arenas: dict[str, Arena], folder: Path | None
) -> SwapStore | None:
    """Where preempted sequences may go; None without memory for a block on its way."""
    if "KV swap" not in arenas:
        return None
    memory = None
    if cache.block_bytes:
        memory = SwapFile(cache, arenas["KV swap"], folder or spill_folder())
    return SpilledSwap(staged.cache, memory) if staged else memory
