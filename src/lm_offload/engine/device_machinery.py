"""Puts the rooms together for a plan with a device: the same parts, placed on three tiers."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor

from lm_offload.arch.weights import attention_units
from lm_offload.device.base import Device
from lm_offload.device.registry import open_device
from lm_offload.engine.host_units import copies_of, host_units
from lm_offload.engine.machinery import F32_BYTES, Machinery, on_threads, scheduler_of
from lm_offload.engine.model_files import ModelFiles
from lm_offload.engine.residents import LoadProgress, load_resident, row_tables
from lm_offload.errors import ConfigError
from lm_offload.kernels.base import Kernels
from lm_offload.kvcache.cache import KVCache
from lm_offload.models.base import Context
from lm_offload.models.registry import load_model
from lm_offload.models.workspace import Workspace
from lm_offload.pipeline.device_executor import DeviceExecutor, DeviceResources
from lm_offload.pipeline.device_queue import DeviceQueue
from lm_offload.pipeline.disk_queue import DiskQueue
from lm_offload.pipeline.exchange import Exchange
from lm_offload.pipeline.host_attention import HostAttention
from lm_offload.pipeline.host_processor import HostProcessor
from lm_offload.pipeline.host_units import HostUnits
from lm_offload.pipeline.progress import Progress
from lm_offload.pipeline.runner import Buffers, ModelRunner
from lm_offload.pipeline.trace import Trace
from lm_offload.pipeline.upload import Uploader, staging_buffers
from lm_offload.plan import DevicePlan, Plan
from lm_offload.planner.device_memory import UPLOADS_IN_FLIGHT
from lm_offload.schedule.device_sweep import DeviceSweepSchedule, Transfers
from lm_offload.schedule.task import Resource, Task
from lm_offload.storage.arena import Arena, Memory, MemoryTier
from lm_offload.storage.unit_views import UnitViews
from lm_offload.storage.weight_store import ReadSettings, WeightStore

log = logging.getLogger(__name__)

HOST_ARENAS = (  # on the link, but for the workspace
    *("resident weights", "staging ring", "logits", "attention exchange"),
    *("hidden states", "workspace"),
)
DEVICE_ARENAS = (
    *("resident weights", "upload ring", "KV cache"),
    *("hidden states", "workspace", "logits", "attention exchange"),
)


@dataclass(frozen=True)
class _Parts:
    """What is built first and used by everything else."""

    plan: Plan
    on_device: DevicePlan
    files: ModelFiles
    device: Device
    store: WeightStore
    host: dict[str, Arena]
    memory: dict[str, Memory]  # of the device
    cache: KVCache
    weights: UnitViews
    uploader: Uploader
    kernels: Kernels  # of the CPU


def build_device_machinery(
    files: ModelFiles, plan: Plan, kernels: Kernels, trace: Trace, on_load: LoadProgress
) -> Machinery:
    """Take the memory of both tiers, load what stays, start the threads of the resources."""
    assert plan.device is not None
    with ExitStack() as undo:
        device = open_device(plan.device.name, plan.device.budget_bytes)
        undo.callback(device.close)
        if device.torch_device.type == "meta":
            raise ConfigError(
                f"{plan.device.name} is for plans alone; name a GPU or a stand-in to generate."
            )
        parts = _parts(files, plan, plan.device, device, on_threads(kernels, plan))
        undo.callback(parts.store.close)
        load_resident(parts.store, plan, files, parts.host["resident weights"], on_load)
        _load_device(parts)
        context = _context(parts)
        host = _host_attention(parts, context) if plan.device.attention == "cpu" else None
        units = None
        if plan.device.in_place:
            memory = parts.host, _hidden(parts)
            units = host_units(files, plan.device, parts.kernels, parts.store, *memory)
        runner = _runner(parts, context, host, units)
        executor = _executor(parts, trace, host, units)
        undo.pop_all()
    scheduler = scheduler_of(plan, parts.cache)
    return Machinery(plan, parts.store, runner, executor, scheduler, parts.cache, device=device)


def _parts(
    files: ModelFiles, plan: Plan, on_device: DevicePlan, device: Device, kernels: Kernels
) -> _Parts:
    host, uploader = _host_memory(plan, device)
    memory, cache = _device_memory(files, plan, on_device, device)
    layouts = [*files.layouts, *([files.table_layout] if files.table_layout else [])]
    settings = ReadSettings(plan.read_block_bytes, plan.read_concurrency)
    store = WeightStore(files.checkpoint, layouts, settings, host["staging ring"])
    weights = UnitViews(layouts, memory["upload ring"])
    return _Parts(
        plan, on_device, files, device, store, host, memory, cache, weights, uploader, kernels
    )


def _host_memory(plan: Plan, device: Device) -> tuple[dict[str, Arena], Uploader]:
    """Pinned arenas, or pageable ones with a pinned stage, or what the driver makes of neither."""
    sizes = dict(plan.memory)
    staging_bytes = sizes["upload staging"]
    block_bytes = staging_bytes // UPLOADS_IN_FLIGHT
    names = [name for name in HOST_ARENAS if name in sizes]
    tier = MemoryTier("CPU", sum(sizes[name] for name in names))
    arenas = {name: tier.allocate(name, sizes[name]) for name in names}
    if device.pin(tier.whole()):
        return arenas, Uploader(device.h2d, block_bytes)
    staging = MemoryTier("CPU", staging_bytes).whole()
    pinned = device.pin(staging)
    log.warning(
        "The system refuses to pin the memory of the weights; uploads %s. Raise the limit of "
        "locked memory (ulimit -l).",
        "are copied once more on the way" if pinned else "run at about half the speed of the link",
    )
    buffers = staging_buffers(staging, UPLOADS_IN_FLIGHT) if pinned else None
    return arenas, Uploader(device.h2d, block_bytes, buffers)


def _device_memory(
    files: ModelFiles, plan: Plan, on_device: DevicePlan, device: Device
) -> tuple[dict[str, Memory], KVCache]:
    """Its arenas, and the KV cache there or, where the CPU attends, in host memory."""
    sizes = {name: size for name, size in on_device.memory if name in DEVICE_ARENAS}
    tier, cache_tier = device.tier(sum(sizes.values())), None
    if on_device.attention == "cpu":
        cache_tier = MemoryTier("CPU", dict(plan.memory)["KV cache"])
    cache = KVCache(files.config, plan.kv_blocks, files.kv_format, cache_tier or tier)
    names = (name for name in sizes if name != "KV cache")
    return {name: tier.allocate(name, sizes[name]) for name in names}, cache


def _load_device(parts: _Parts) -> None:
    """Units that live on the device are read into the staging ring one by one and copied."""
    offset, home = 0, parts.memory["resident weights"]
    with ThreadPoolExecutor(parts.plan.read_concurrency, thread_name_prefix="load") as pool:
        for index in _indices(parts.files, parts.on_device.resident):
            size_bytes = parts.files.layouts[index].size_bytes
            place = home.slice(offset, size_bytes)
            list(pool.map(lambda block: block.read(), parts.store.staging_blocks(index, 0)))
            target = place.view(0, torch.uint8, (size_bytes,))
            if size_bytes:
                for copy in parts.uploader.copies(parts.store.memory_of(index, 0), target):
                    copy()
            parts.weights.settle(index, place)
            offset += size_bytes


def _indices(files: ModelFiles, names: Sequence[str]) -> list[int]:
    wanted = set(names)
    return [index for index, unit in enumerate(files.units) if unit.name in wanted]


def _context(parts: _Parts) -> Context:
    workspace = Workspace(_floats(parts.memory["workspace"]))
    return Context(parts.files.config, parts.device.kernels(parts.kernels), workspace)


def _host_attention(parts: _Parts, context: Context) -> HostAttention:
    """The exchange on the host is what is sent, and behind it what comes back."""
    config, rows = parts.files.config, parts.plan.sweep_tokens
    host = _floats(parts.host["attention exchange"])
    sent, queries = rows * (config.query_size + 2 * config.kv_size), rows * config.query_size
    exchange = Exchange(
        config,
        on_device=_floats(parts.memory["attention exchange"]),
        on_host=host[:sent],
        attended=host[sent : sent + queries],
    )
    model = load_model(config.model_type)
    return HostAttention(model, context, parts.kernels, parts.cache, exchange)


def _hidden(parts: _Parts) -> Tensor:
    """Of all rows of a sweep, on the device."""
    shape = parts.plan.sweep_tokens, parts.files.config.hidden_size
    return parts.memory["hidden states"].view(0, torch.float32, shape)


def _floats(memory: Memory) -> Tensor:
    return memory.view(0, torch.float32, (memory.size_bytes // F32_BYTES,))


def _runner(
    parts: _Parts, context: Context, host: HostAttention | None, units: HostUnits | None
) -> ModelRunner:
    files, plan = parts.files, parts.plan
    return ModelRunner(
        files.units,
        load_model(files.config.model_type),
        context,
        parts.weights,
        row_tables(parts.store, plan, files),
        parts.cache,
        None,
        _buffers(parts),
        plan.micro_batch_tokens,
        host,
        units,
    )


def _buffers(parts: _Parts) -> Buffers:
    config, plan, memory = parts.files.config, parts.plan, parts.memory
    rows, f32 = plan.logit_rows, torch.float32
    logits = memory["logits"].view(0, f32, (rows, config.vocab_size))
    return Buffers(
        hidden=_hidden(parts),
        normed=memory["logits"].view(logits.nbytes, f32, (rows, config.embed_size)),
        logits=logits,
        result=parts.host["logits"].view(0, f32, (rows, config.vocab_size)),
    )


def _executor(
    parts: _Parts, trace: Trace, host: HostAttention | None, units: HostUnits | None
) -> DeviceExecutor:
    progress, plan, store = Progress(), parts.plan, parts.store
    transfers = _transfers(parts)
    disk = DiskQueue(
        progress,
        lambda task: [block.read for block in store.staging_blocks(task.id.unit, task.ring_offset)],
        plan.read_concurrency if transfers.read_bytes else 0,
        trace,
    )
    h2d = DiskQueue(
        progress,
        lambda task: parts.uploader.copies(*_ends_of(parts, task)),
        UPLOADS_IN_FLIGHT if transfers.upload_bytes else 0,
        trace,
        "upload",
    )
    processor = DeviceQueue(parts.device.compute, progress, trace)
    links: dict[Resource, DiskQueue] = {"disk_read": disk, "h2d": h2d}
    if host is None and units is None:
        resources = DeviceResources(links, processor, parts.device.d2h)
        return DeviceExecutor(DeviceSweepSchedule(transfers), resources, progress, trace)
    cpu = HostProcessor(parts.device, processor, copies_of(host, units), progress, trace)
    resources = DeviceResources(links, processor, parts.device.d2h, cpu)
    on_host = attention_units(parts.files.units) if host else frozenset()
    schedule = DeviceSweepSchedule(transfers, on_host)
    more = (units.units,) if units else ()
    return DeviceExecutor(schedule, resources, progress, trace, *more)


def _transfers(parts: _Parts) -> Transfers:
    layouts, plan = parts.files.layouts, parts.plan
    read = _indices(parts.files, plan.streamed)
    uploaded = [*read, *_indices(parts.files, plan.resident)]
    return Transfers(
        {index: layouts[index].size_bytes for index in read},
        {index: layouts[index].size_bytes for index in uploaded},
        plan.ring_bytes,
        parts.on_device.ring_bytes,
    )


def _ends_of(parts: _Parts, task: Task) -> tuple[Tensor, Tensor]:
    """Where an upload comes from and where it goes."""
    source = parts.store.memory_of(task.id.unit, task.source_offset)
    ring = parts.memory["upload ring"]
    return source, ring.view(task.ring_offset, torch.uint8, (task.size_bytes,))
