"""Puts the rooms together for one plan: memory, stores, cache, executor, runner, scheduler."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

import torch

from lm_offload.device.base import Device
from lm_offload.engine.model_files import ModelFiles
from lm_offload.kernels.base import Kernels
from lm_offload.kvcache.blocks import BlockAllocator
from lm_offload.kvcache.cache import KVCache
from lm_offload.models.base import Context
from lm_offload.models.registry import load_model
from lm_offload.models.workspace import Workspace
from lm_offload.pipeline.disk_queue import DiskQueue
from lm_offload.pipeline.executor import Executor, OverlappedExecutor, SerialExecutor
from lm_offload.pipeline.progress import Progress
from lm_offload.pipeline.runner import Buffers, ModelRunner
from lm_offload.pipeline.trace import Trace
from lm_offload.plan import Plan
from lm_offload.schedule.sweep import SweepSchedule
from lm_offload.scheduler.scheduler import Scheduler
from lm_offload.storage.arena import Arena, MemoryTier
from lm_offload.storage.row_table import ResidentRows
from lm_offload.storage.weight_store import ReadSettings, Rows, WeightStore

F32_BYTES = 4
ARENAS = ("resident weights", "staging ring", "KV cache", "hidden states", "workspace", "logits")
LoadProgress = Callable[[int, int], None]  # bytes read so far, bytes to read


@dataclass(frozen=True)
class Machinery:
    """All parts of an engine that runs one plan."""

    plan: Plan
    store: WeightStore
    runner: ModelRunner
    executor: Executor
    scheduler: Scheduler
    device: Device | None = None

    def close(self) -> None:
        """Stop the threads and close the files and the device."""
        self.executor.close()
        self.store.close()
        if self.device is not None:
            self.device.close()


def build_machinery(
    files: ModelFiles,
    plan: Plan,
    kernels: Kernels,
    trace: Trace,
    overlap: bool,
    on_load: LoadProgress,
) -> Machinery:
    """Allocate everything the plan says, load what is resident, start the reader threads."""
    sizes = dict(plan.memory)
    tier = MemoryTier("CPU", sum(sizes[name] for name in ARENAS))
    arenas = {name: tier.allocate(name, sizes[name]) for name in ARENAS if name != "KV cache"}
    cache = KVCache(files.config, plan.kv_blocks, files.kv_format, tier)
    settings = ReadSettings(plan.read_block_bytes, plan.read_concurrency)
    layouts = [*files.layouts, *([files.table_layout] if files.table_layout else [])]
    store = WeightStore(files.checkpoint, layouts, settings, arenas["staging ring"])
    try:
        load_resident(store, plan, files, arenas["resident weights"], on_load)
    except BaseException:
        store.close()
        raise
    context = Context(files.config, kernels, _workspace(arenas["workspace"]))
    runner = ModelRunner(
        files.units,
        load_model(files.config.model_type),
        context,
        store,
        row_tables(store, plan, files),
        cache,
        _buffers(files, plan, arenas),
        plan.micro_batch_tokens,
    )
    executor = _executor(store, plan, files, trace, overlap)
    allocator = BlockAllocator(plan.kv_blocks)
    scheduler = Scheduler(allocator, plan.sweep_tokens, plan.max_sequences, plan.scored_rows)
    return Machinery(plan, store, runner, executor, scheduler)


def load_resident(
    store: WeightStore, plan: Plan, files: ModelFiles, arena: Arena, on_load: LoadProgress
) -> None:
    """Read the units that stay in host memory into `arena`."""
    resident = set(plan.resident)
    wanted = [index for index, unit in enumerate(files.units) if unit.name in resident]
    wanted += [len(files.units)] if plan.table_resident and files.table_layout else []
    layouts = [*files.layouts, files.table_layout]
    homes, offset = {}, 0
    for index in wanted:
        layout = layouts[index]
        assert layout is not None
        homes[index] = arena.slice(offset, layout.size_bytes)
        offset += layout.size_bytes
    done_bytes = 0
    with closing(store.load(homes)) as counts:
        for count in counts:
            done_bytes += count
            on_load(done_bytes, offset)


def row_tables(store: WeightStore, plan: Plan, files: ModelFiles) -> dict[str, Rows]:
    """Where the rows of each embedding table come from."""
    tables: dict[str, Rows] = {}
    for spec in files.units[0].tables:
        if spec.role == "tokens" and files.head_is_table:
            heads = [index for index, unit in enumerate(files.units) if unit.kind == "head"]
            names = {files.units[index].name for index in heads}
            if names <= set(plan.resident):
                parts = [store.acquire(index, -1)["head"] for index in heads]
                tables[spec.role] = ResidentRows(parts)
                continue
        elif plan.table_resident:
            tables[spec.role] = ResidentRows([store.acquire(len(files.units), -1)[spec.role]])
            continue
        tables[spec.role] = store.row_table(files.units[0], spec.role)
    return tables


def _workspace(arena: Arena) -> Workspace:
    return Workspace(arena.view(0, torch.float32, (arena.size_bytes // F32_BYTES,)))


def _buffers(files: ModelFiles, plan: Plan, arenas: dict[str, Arena]) -> Buffers:
    config, rows = files.config, plan.logit_rows
    hidden = arenas["hidden states"].view(0, torch.float32, (plan.sweep_tokens, config.hidden_size))
    logits = arenas["logits"].view(0, torch.float32, (rows, config.vocab_size))
    normed = arenas["logits"].view(logits.nbytes, torch.float32, (rows, config.embed_size))
    return Buffers(hidden, normed, logits, result=logits)


def _executor(
    store: WeightStore, plan: Plan, files: ModelFiles, trace: Trace, overlap: bool
) -> Executor:
    streamed = set(plan.streamed)
    streamed_bytes = {
        index: layout.size_bytes
        for index, layout in enumerate(files.layouts)
        if layout.name in streamed
    }
    progress = Progress()
    disk = DiskQueue(
        progress,
        lambda task: store.staging_blocks(task.id.unit, task.ring_offset),
        plan.read_concurrency if streamed else 0,
        trace,
    )
    schedule = SweepSchedule(streamed_bytes, plan.ring_bytes)
    make = OverlappedExecutor if overlap else SerialExecutor
    return make(schedule, disk, progress, trace)
