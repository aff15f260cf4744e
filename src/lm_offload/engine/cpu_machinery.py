"""Puts the rooms together for a plan whose units the CPU computes, on memory and disk."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from lm_offload.engine.cpu_memory import arenas_of, context_of, states_of
from lm_offload.engine.cut_files import in_units_of
from lm_offload.engine.disk_executor import disk_executor
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
    scheduler_of,
    store_of,
)
from lm_offload.engine.model_files import ModelFiles
from lm_offload.engine.prefix_folder import PrefixFolder
from lm_offload.engine.residents import LoadProgress, load_resident, row_tables
from lm_offload.engine.spilling import staged_cache, swap_store, whole_blocks
from lm_offload.kernels.base import Kernels
from lm_offload.kvcache.cache import KVCache
from lm_offload.kvcache.kept_states import KeptStates
from lm_offload.kvcache.recurrent_states import RecurrentStates
from lm_offload.kvcache.swap_choice import SwapChoice, swap_never
from lm_offload.models.base import Context
from lm_offload.models.registry import load_model
from lm_offload.pipeline.expert_functions import ExpertFunctions
from lm_offload.pipeline.joined_units import joined_units
from lm_offload.pipeline.runner import ModelRunner
from lm_offload.pipeline.runner_parts import Buffers
from lm_offload.pipeline.staged_cache import StagedCache
from lm_offload.pipeline.sweep_rows import SweepRows
from lm_offload.pipeline.trace import Trace
from lm_offload.plan import Plan
from lm_offload.storage.arena import Arena, MemoryTier
from lm_offload.storage.gather_size import GATHER_THREADS
from lm_offload.storage.weight_store import WeightStore


class _Loaded(NamedTuple):
    """The memory of a plan, and what lies in it."""

    files: ModelFiles
    plan: Plan
    tier: MemoryTier
    arenas: dict[str, Arena]
    cache: KVCache
    staged: StagedCache | None
    store: WeightStore


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
    made = _load(in_units_of(plan, files), plan, overlap, on_load, kv_folder)
    files, arenas, store, staged = made.files, made.arenas, made.store, made.staged
    context, buffers = (
        context_of(files, plan, kernels, arenas),
        buffers_in(arenas, plan, files.config),
    )
    functions = None
    if files.config.is_moe:
        functions = expert_functions(files, context, buffers, arenas, plan, store)
    states = states_of(files, plan, arenas)
    joined = () if trace.by_unit else _joined(made, functions)
    experts = experts_on_demand(files, plan, store, functions, joined) if functions else None
    schedule = schedule_of(files, plan, experts, joined)
    executor = disk_executor(files, store, staged, plan, schedule, trace, overlap)
    prefixes = None
    if prefix_folder is not None:
        prefixes = prefix_folder.store(files, kernels, whole_blocks(files, made.cache, staged))
    swap = swap_store(made.cache, staged, arenas, kv_folder)
    drop = staged.cache.places.renew if staged else None
    kept = KeptStates(plan.kept_states) if states else None
    return Machinery(
        plan,
        store,
        _runner(made, context, buffers, functions, states),
        executor,
        scheduler_of(plan, made.cache, prefixes, swap, swap_pays, drop, kept),
        made.cache,
        prefixes,
        staged,
        swap,
        retention_over(made.cache, executor, store, files, plan),
        ExpertUses(functions, experts) if functions and experts else None,
        tiers=(made.tier,),
    )


def _load(
    files: ModelFiles, plan: Plan, overlap: bool, on_load: LoadProgress, kv_folder: Path | None
) -> _Loaded:
    """All memory, with the resident weights in it; what was opened is closed again on errors."""
    tier, arenas = arenas_of(plan)
    cache = open_cache(files, plan, tier, overlap)
    with ExitStack() as undo:
        staged = staged_cache(files, plan, arenas, kv_folder) if plan.spill.layers else None
        if staged is not None:
            undo.callback(staged.close)
        store = store_of(files, plan, arenas["staging ring"])
        undo.callback(store.close)
        load_resident(store, plan, files, arenas["resident weights"], on_load)
        undo.pop_all()
    return _Loaded(files, plan, tier, arenas, cache, staged, store)


def _runner(
    made: _Loaded,
    context: Context,
    buffers: Buffers,
    experts: ExpertFunctions | None,
    states: RecurrentStates | None,
) -> ModelRunner:
    files, plan = made.files, made.plan
    tables = row_tables(made.store, plan, files)
    requests = min(GATHER_THREADS, plan.micro_batch_tokens)
    return ModelRunner(
        files.units,
        load_model(files.config.model_type),
        context,
        made.store,
        SweepRows(tables, buffers.hidden, requests, buffers.layer_inputs),
        made.cache,
        made.staged,
        buffers,
        plan.micro_batch_tokens,
        experts=experts,
        states=states,
    )


def _joined(made: _Loaded, experts: ExpertFunctions | None) -> frozenset[int]:
    """Units that are one task with their neighbours."""
    files, spilled = made.files, made.staged.units if made.staged else ()
    tabled = [
        layer
        for layer, units in (experts_by_layer(files) if experts else {}).items()
        if experts and experts.has_table(layer) and all(map(made.store.has_home, units))
    ]
    model = load_model(files.config.model_type)
    return joined_units(files.units, files.config, model, spilled, tabled)
