"""Puts the rooms together for one plan: memory, stores, cache, executor, runner, scheduler."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from lm_offload.device.base import Device
from lm_offload.engine.lending import open_cache, retention_over, streamed_bytes
from lm_offload.engine.model_files import ModelFiles
from lm_offload.engine.prefix_folder import PrefixFolder
from lm_offload.engine.residents import LoadProgress, load_resident, row_tables
from lm_offload.hardware.numa import interleaved_nodes, numa_nodes, spread_threads
from lm_offload.kernels.base import Kernels
from lm_offload.kvcache.blocks import BlockAllocator
from lm_offload.kvcache.cache import KVCache
from lm_offload.kvcache.prefix_store import PrefixStore
from lm_offload.kvcache.shared_blocks import restore_none
from lm_offload.kvcache.spilled import SpilledCache
from lm_offload.kvcache.spilled_size import spilled_block_bytes
from lm_offload.kvcache.spilled_swap import SpilledSwap
from lm_offload.kvcache.swap_choice import SwapChoice, swap_never
from lm_offload.kvcache.swap_file import NO_SLOTS, SwapFile, SwapStore
from lm_offload.models.base import Context
from lm_offload.models.registry import load_model
from lm_offload.models.workspace import Workspace
from lm_offload.pipeline.disk_queue import DiskQueue, Transfer
from lm_offload.pipeline.executor import Disk, Executor, OverlappedExecutor, SerialExecutor
from lm_offload.pipeline.progress import Progress
from lm_offload.pipeline.retention import Retention
from lm_offload.pipeline.runner import ModelRunner
from lm_offload.pipeline.runner_parts import Buffers, Runner
from lm_offload.pipeline.staged_cache import StagedCache
from lm_offload.pipeline.trace import Trace
from lm_offload.plan import Plan
from lm_offload.schedule.sweep import SweepSchedule
from lm_offload.schedule.task import Task
from lm_offload.scheduler.scheduler import Scheduler
from lm_offload.storage.arena import Arena, MemoryTier
from lm_offload.storage.spill_file import SpillFile
from lm_offload.storage.spill_folder import spill_folder
from lm_offload.storage.weight_store import ReadSettings, WeightStore

F32_BYTES = 4
ARENAS = (
    *("resident weights", "staging ring", "KV cache"),
    *("KV staging", "KV swap", "hidden states", "workspace", "logits"),
)
WRITE_THREADS = 2  # blocks of the KV cache on their way to the disk


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
    retention: Retention | None = None  # of streamed weights in unused KV memory
    devices: tuple[Device, ...] = ()  # what computes, if not the CPU

    def close(self) -> None:
        """Stop the threads and close the files and the device."""
        self.executor.close()
        self.store.close()
        if self.swap is not None:
            self.swap.close()
        if self.staged is not None:
            self.staged.close()
        for device in self.devices:
            device.close()


def build_machinery(
    files: ModelFiles,
    plan: Plan,
    kernels: Kernels,
    trace: Trace,
    overlap: bool,
    on_load: LoadProgress,
    prefix_folder: PrefixFolder | None = None,
    kv_folder: Path | None = None,
    swap_pays: SwapChoice = swap_never,
) -> Machinery:
    """Allocate everything the plan says, load what is resident, start the reader threads."""
    sizes = {name: size_bytes for name, size_bytes in plan.memory if name in ARENAS}
    tier = MemoryTier("CPU", sum(sizes.values()), interleaved_nodes())
    arenas = {name: tier.allocate(name, sizes[name]) for name in sizes if name != "KV cache"}
    cache = open_cache(files, plan, tier, overlap)
    staged = _staged_cache(files, plan, arenas, kv_folder) if plan.spill.layers else None
    settings = ReadSettings(plan.read_block_bytes, plan.read_concurrency)
    layouts = [*files.layouts, *([files.table_layout] if files.table_layout else [])]
    store = WeightStore(files.checkpoint, layouts, settings, arenas["staging ring"])
    try:
        load_resident(store, plan, files, arenas["resident weights"], on_load)
    except BaseException:
        store.close()
        if staged is not None:
            staged.close()
        raise
    context = Context(files.config, on_threads(kernels, plan), _workspace(arenas["workspace"]))
    runner = ModelRunner(
        files.units,
        load_model(files.config.model_type),
        context,
        store,
        row_tables(store, plan, files),
        cache,
        staged,
        _buffers(files, plan, arenas),
        plan.micro_batch_tokens,
    )
    executor = _executor(store, staged, plan, files, trace, overlap)
    # Blocks of spilled layers come and go by file, which the prefix cache does not know.
    kept = prefix_folder if not plan.spill.layers else None
    prefixes = kept.store(files, kernels, cache) if kept else None
    swap = _swap_store(cache, staged, arenas, kv_folder)
    drop = staged.cache.places.renew if staged else None
    scheduler = scheduler_of(plan, cache, prefixes, swap, swap_pays, drop)
    retention = retention_over(cache, executor, store, files, plan)
    parts = store, runner, executor, scheduler, cache
    return Machinery(plan, *parts, prefixes, staged, swap, retention)


def scheduler_of(
    plan: Plan,
    cache: KVCache,
    prefixes: PrefixStore | None = None,
    swap: SwapStore | None = None,
    swap_pays: SwapChoice = swap_never,
    drop: Callable[[list[int]], None] | None = None,
) -> Scheduler:
    """The scheduler of a plan; `prefixes` are looked up in a folder.

    Who wants to know of blocks that are free is the cache, or `drop`. Of a cache in two memories
    the device's blocks come first.
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
    )


def on_threads(kernels: Kernels, plan: Plan) -> Kernels:
    """The kernels on the plan's threads; torch's own become those of sampling.

    Torch counts the cores that affinity leaves but not the cgroup's quota. Where it computes too,
    its one pool gets the threads of the kernels.
    """
    spread_threads(numa_nodes())
    torch.set_num_threads(plan.threads.sampling)
    return kernels.with_threads(plan.threads.compute, plan.threads.attention)


def _staged_cache(
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


def _swap_store(
    cache: KVCache, staged: StagedCache | None, arenas: dict[str, Arena], folder: Path | None
) -> SwapStore | None:
    """Where preempted sequences may go; None without memory for a block on its way."""
    if "KV swap" not in arenas:
        return None
    memory = None
    if cache.block_bytes:
        memory = SwapFile(cache, arenas["KV swap"], folder or spill_folder())
    return SpilledSwap(staged.cache, memory) if staged else memory


def _workspace(arena: Arena) -> Workspace:
    return Workspace(arena.view(0, torch.float32, (arena.size_bytes // F32_BYTES,)))


def _buffers(files: ModelFiles, plan: Plan, arenas: dict[str, Arena]) -> Buffers:
    config, rows = files.config, plan.logit_rows
    hidden = arenas["hidden states"].view(0, torch.float32, (plan.sweep_tokens, config.hidden_size))
    logits = arenas["logits"].view(0, torch.float32, (rows, config.vocab_size))
    normed = arenas["logits"].view(logits.nbytes, torch.float32, (rows, config.embed_size))
    return Buffers(hidden, normed, logits, result=logits)


def _executor(
    store: WeightStore,
    staged: StagedCache | None,
    plan: Plan,
    files: ModelFiles,
    trace: Trace,
    overlap: bool,
) -> Executor:
    streamed = streamed_bytes(files, plan)
    progress = Progress()

    def reads_of(task: Task) -> list[Transfer]:
        if staged is not None and task.id.kind == "read_kv":
            return staged.reads(task)
        return [block.read for block in store.staging_blocks(task.id.unit, task.ring_offset)]

    readers = plan.read_concurrency if streamed or staged else 0
    reads = DiskQueue(progress, reads_of, readers, trace)
    writers = WRITE_THREADS if staged else 0
    writes_of = staged.writes if staged else _writes_nothing
    writes = DiskQueue(progress, writes_of, writers, trace, "disk-write")
    disk = Disk(reads, writes, plan.spill.ring_blocks)
    schedule = SweepSchedule(streamed, plan.ring_bytes)
    make = OverlappedExecutor if overlap else SerialExecutor
    return make(schedule, disk, progress, trace)


def _writes_nothing(task: Task) -> list[Transfer]:
    """Of an engine whose KV cache lies in memory."""
    return []
