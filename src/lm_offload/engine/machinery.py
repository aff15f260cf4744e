"""The parts of an engine that runs one plan, and those that are made alike wherever it computes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lm_offload.arch.config import ModelConfig
from lm_offload.device.base import Device
from lm_offload.engine.expert_parts import ExpertUses
from lm_offload.engine.lending import streamed_bytes
from lm_offload.engine.model_files import ModelFiles
from lm_offload.hardware.core_groups import spread_threads
from lm_offload.kernels.base import Kernels
from lm_offload.kvcache.blocks import BlockAllocator
from lm_offload.kvcache.cache import KVCache
from lm_offload.kvcache.kept_states import KeptStates
from lm_offload.kvcache.prefix_store import PrefixStore
from lm_offload.kvcache.shared_blocks import restore_none
from lm_offload.kvcache.swap_choice import SwapChoice, swap_never
from lm_offload.kvcache.swap_file import NO_SLOTS, SwapStore
from lm_offload.pipeline.executor import Executor
from lm_offload.pipeline.retention import Retainer
from lm_offload.pipeline.runner_parts import Buffers, Runner
from lm_offload.pipeline.staged_cache import StagedCache
from lm_offload.plan import Plan
from lm_offload.scheduler.scheduler import Scheduler
from lm_offload.storage.arena import Arena, Memory, MemoryTier
from lm_offload.storage.blocks import reader_threads
from lm_offload.storage.weight_store import ReadSettings, WeightStore

F32_BYTES = 4


@dataclass(frozen=True)
class Machinery:
    """All parts of an engine that runs one plan."""

    plan: Plan
    store: WeightStore
    runner: Runner
    executor: Executor
    scheduler: Scheduler
    cache: KVCache
    prefixes: PrefixStore | None = None  # what outlives the process
    staged: StagedCache | None = None  # layers whose KV cache lies on disk
    swap: SwapStore | None = None  # where preempted sequences may go
    retention: Retainer | None = None  # of streamed weights in unused KV memory
    experts: ExpertUses | None = None  # of a mixture
    devices: tuple[Device, ...] = ()  # what computes, if not the CPU
    tiers: tuple[MemoryTier, ...] = ()  # of host memory

    def close(self) -> None:
        """Stop the threads, close the files and the devices, give the memory back."""
        self.executor.close()
        self.store.close()
        if self.swap is not None:
            self.swap.close()
        if self.staged is not None:
            self.staged.close()
        for device in self.devices:
            device.close()
        for tier in self.tiers:
            tier.release()


def scheduler_of(
    plan: Plan,
    cache: KVCache,
    prefixes: PrefixStore | None = None,
    swap: SwapStore | None = None,
    swap_pays: SwapChoice = swap_never,
    drop: Callable[[list[int]], None] | None = None,
    kept: KeptStates | None = None,
) -> Scheduler:
    """The scheduler of a plan; `prefixes` are looked up in a folder.

    Who wants to know of blocks that are free is the cache, or `drop`. Of a cache in two memories
    the device's blocks come first. `kept` are states behind prefixes, if layers have any.
    """
    first = (plan.device and plan.device.kv_blocks) or plan.kv_blocks
    others = plan.kv_blocks - first
    return Scheduler(
        BlockAllocator(first, drop or cache.drop),
        plan.sweep_tokens,
        plan.lanes,
        plan.logit_rows - plan.lanes,
        restore=prefixes.restore if prefixes else restore_none,
        shares_in_sweep=not plan.spill.layers,
        swap=swap or NO_SLOTS,
        swap_pays=swap_pays,
        more=BlockAllocator(others, first=first) if others else None,
        kept=kept,
    )


def on_threads(kernels: Kernels, plan: Plan) -> Kernels:
    """The kernels on the plan's threads; torch's own become those of sampling.

    Torch counts the cores that affinity leaves but not the cgroup's quota. Where it computes too,
    its one pool gets the threads of the kernels.
    """
    spread_threads(max(plan.threads.compute, plan.threads.attention))
    torch.set_num_threads(plan.threads.sampling)
    return kernels.with_threads(plan.threads.compute, plan.threads.attention)


def store_of(files: ModelFiles, plan: Plan, ring: Arena) -> WeightStore:
    """The store of the weights in host memory and on disk."""
    layouts = [*files.layouts, *([files.table_layout] if files.table_layout else [])]
    settings = ReadSettings(plan.read_block_bytes, plan.read_concurrency)
    return WeightStore(files.checkpoint, layouts, settings, ring)


def readers_of(files: ModelFiles, plan: Plan) -> int:
    """Threads that read, of which the largest unit on disk decides; none where nothing is read."""
    sizes = streamed_bytes(files, plan).values()
    if not sizes and not plan.spill.layers:
        return 0
    return reader_threads(max(sizes, default=0), plan.read_block_bytes, plan.read_concurrency)


def floats(memory: Memory) -> Tensor:
    """All of it as f32."""
    return memory.view(0, torch.float32, (memory.size_bytes // F32_BYTES,))


def buffers_in(memory: Mapping[str, Memory], plan: Plan, config: ModelConfig) -> Buffers:
    """Activations of the processor with this memory; logits only where there is room for them."""
    f32, rows = torch.float32, plan.logit_rows
    hidden = memory["hidden states"].view(0, f32, (plan.sweep_tokens, config.hidden_size))
    inputs = None
    if "layer inputs" in memory:
        shape = plan.sweep_tokens, config.num_layers, config.layer_input_size
        inputs = memory["layer inputs"].view(0, f32, shape)
    inner = None
    if "inner rows" in memory:
        inner = memory["inner rows"].view(0, f32, (plan.sweep_tokens, config.intermediate_size))
    if "logits" not in memory:
        return Buffers(hidden, normed=hidden[:0], logits=hidden[:0], result=hidden[:0])
    logits = memory["logits"].view(0, f32, (rows, config.vocab_size))
    normed = memory["logits"].view(logits.nbytes, f32, (rows, config.embed_size))
    return Buffers(hidden, normed, logits, result=logits, layer_inputs=inputs, inner=inner)
