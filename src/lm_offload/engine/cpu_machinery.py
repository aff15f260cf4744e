"""Puts the rooms together for a plan whose units the CPU computes, on memory and disk."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from lm_offload.engine.cut_files import in_units_of
from lm_offload.engine.expert_parts import (
    ExpertUses,
    expert_functions,
    experts_by_layer,
    experts_on_demand,
    schedule_of,
)
from lm_offload.engine.lending import open_cache, retention_over
from lm_offload.engine.machinery import (
    Machinery,
    buffers_in,
    floats,
    on_threads,
    readers_of,
    scheduler_of,
    store_of,
)
from lm_offload.engine.model_files import ModelFiles
from lm_offload.engine.prefix_folder import PrefixFolder
from lm_offload.engine.residents import LoadProgress, load_resident, row_tables
from lm_offload.engine.spilling import staged_cache, swap_store, whole_blocks
from lm_offload.hardware.numa import interleaved_nodes
from lm_offload.kernels.base import Kernels
from lm_offload.kvcache.cache import KVCache
from lm_offload.kvcache.kept_states import KeptStates
from lm_offload.kvcache.recurrent_states import RecurrentStates, states_in
from lm_offload.kvcache.swap_choice import SwapChoice, swap_never
from lm_offload.models.base import Context
from lm_offload.models.registry import load_model
from lm_offload.models.workspace import Workspace
from lm_offload.pipeline.disk_queue import DiskQueue, Transfer
from lm_offload.pipeline.executor import Disk, Executor, OverlappedExecutor, SerialExecutor
from lm_offload.pipeline.expert_functions import ExpertFunctions
from lm_offload.pipeline.joined_units import joined_units
from lm_offload.pipeline.progress import Progress
from lm_offload.pipeline.runner import ModelRunner
from lm_offload.pipeline.runner_parts import Buffers
from lm_offload.pipeline.staged_cache import StagedCache
from lm_offload.pipeline.sweep_rows import SweepRows
from lm_offload.pipeline.trace import Trace
from lm_offload.plan import Plan
from lm_offload.schedule.sweep import SweepSchedule
from lm_offload.schedule.task import Task
from lm_offload.storage.arena import Arena, MemoryTier
from lm_offload.storage.gather_size import GATHER_THREADS
from lm_offload.storage.weight_store import WeightStore

ARENAS = (  # what is read into again and again comes first: the last ones lie in small pages
    *("staging ring", "KV staging", "KV swap", "resident weights", "recurrent states"),
    *("kept states", "hidden states", "layer inputs", "inner rows", "expert inputs"),
    *("expert sums", "workspace", "logits", "KV cache"),
)
WRITE_THREADS = 2  # blocks of the KV cache on their way to the disk


def build_cpu_machinery(
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
    files = in_units_of(plan, files)
    tier, arenas = _memory(plan)
    cache = open_cache(files, plan, tier, overlap)
    with ExitStack() as undo:
        staged = staged_cache(files, plan, arenas, kv_folder) if plan.spill.layers else None
        if staged is not None:
            undo.callback(staged.close)
        store = store_of(files, plan, arenas["staging ring"])
        undo.callback(store.close)
        load_resident(store, plan, files, arenas["resident weights"], on_load)
        undo.pop_all()
    context, buffers = (
        _context(files, plan, kernels, arenas),
        buffers_in(arenas, plan, files.config),
    )
    functions = None
    if files.config.is_moe:
        functions = expert_functions(files, context, buffers, arenas, plan, store)
    states = _states(files, plan, arenas)
    runner = _runner(files, plan, context, store, cache, staged, buffers, functions, states)
    joined = () if trace.by_unit else _joined(files, staged, store, functions)
    experts = experts_on_demand(files, plan, store, functions, joined) if functions else None
    schedule = schedule_of(files, plan, experts, joined)
    executor = _executor(files, store, staged, plan, schedule, trace, overlap)
    prefixes = None
    if prefix_folder is not None:
        prefixes = prefix_folder.store(files, kernels, whole_blocks(files, cache, staged))
    swap = swap_store(cache, staged, arenas, kv_folder)
    drop = staged.cache.places.renew if staged else None
    kept = KeptStates(plan.kept_states) if states else None
    scheduler = scheduler_of(plan, cache, prefixes, swap, swap_pays, drop, kept)
    retention = retention_over(cache, executor, store, files, plan)
    parts = store, runner, executor, scheduler, cache
    used = ExpertUses(functions, experts) if functions and experts else None
    return Machinery(plan, *parts, prefixes, staged, swap, retention, used, tiers=(tier,))


def _memory(plan: Plan) -> tuple[MemoryTier, dict[str, Arena]]:
    """One mapping with an arena for each purpose; the rest of it is for the KV cache."""
    planned = dict(plan.memory)
    sizes = {name: planned[name] for name in ARENAS if name in planned}
    tier = MemoryTier("CPU", sum(sizes.values()), interleaved_nodes())
    return tier, {name: tier.allocate(name, sizes[name]) for name in sizes if name != "KV cache"}


def _context(files: ModelFiles, plan: Plan, kernels: Kernels, arenas: dict[str, Arena]) -> Context:
    workspace = Workspace(floats(arenas["workspace"]))
    return Context(files.config, on_threads(kernels, plan), workspace)


def _runner(
    files: ModelFiles,
    plan: Plan,
    context: Context,
    store: WeightStore,
    cache: KVCache,
    staged: StagedCache | None,
    buffers: Buffers,
    experts: ExpertFunctions | None,
    states: RecurrentStates | None,
) -> ModelRunner:
    tables, requests = row_tables(store, plan, files), min(GATHER_THREADS, plan.micro_batch_tokens)
    return ModelRunner(
        files.units,
        load_model(files.config.model_type),
        context,
        store,
        SweepRows(tables, buffers.hidden, requests, buffers.layer_inputs),
        cache,
        staged,
        buffers,
        plan.micro_batch_tokens,
        experts=experts,
        states=states,
    )


def _states(files: ModelFiles, plan: Plan, arenas: dict[str, Arena]) -> RecurrentStates | None:
    """Of recurrent layers, a slot for each sequence in flight, and those behind prefixes."""
    config, count = files.config, plan.kept_states
    if config.recurrent is None:
        return None
    kept = states_in(arenas["kept states"], config, count) if count else {}
    return RecurrentStates(states_in(arenas["recurrent states"], config, plan.lanes), kept)


def _joined(
    files: ModelFiles,
    staged: StagedCache | None,
    store: WeightStore,
    experts: ExpertFunctions | None,
) -> frozenset[int]:
    """Units that are one task with their neighbours."""
    model, spilled = load_model(files.config.model_type), staged.units if staged else ()
    tabled = [
        layer
        for layer, units in (experts_by_layer(files) if experts else {}).items()
        if experts and experts.has_table(layer) and all(map(store.has_home, units))
    ]
    return joined_units(files.units, files.config, model, spilled, tabled)


def _executor(
    files: ModelFiles,
    store: WeightStore,
    staged: StagedCache | None,
    plan: Plan,
    schedule: SweepSchedule,
    trace: Trace,
    overlap: bool,
) -> Executor:
    progress = Progress()

    def reads_of(task: Task) -> list[Transfer]:
        if staged is not None and task.id.kind == "read_kv":
            return staged.reads(task)
        part = range(task.unit_offset, task.unit_offset + task.size_bytes)
        blocks = store.staging_blocks(task.id.unit, task.ring_offset, part)
        return [block.read for block in blocks]

    reads = DiskQueue(progress, reads_of, readers_of(files, plan), trace)
    writers = WRITE_THREADS if staged else 0
    writes_of = staged.writes if staged else _writes_nothing
    writes = DiskQueue(progress, writes_of, writers, trace, "disk-write")
    disk = Disk(reads, writes, plan.spill.ring_blocks)
    make = OverlappedExecutor if overlap else SerialExecutor
    return make(schedule, disk, progress, trace)


def _writes_nothing(task: Task) -> list[Transfer]:
    """Of an engine whose KV cache lies in memory."""
    return []
