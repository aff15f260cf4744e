"""Puts the rooms together for a plan with a device: the same parts, placed on three tiers."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from functools import partial

from lm_offload.engine.device_parts import DeviceParts, take_parts
from lm_offload.engine.device_side import (
    buffers_of,
    context_of,
    device_side,
    disk_of,
    indices_of,
    link_of,
)
from lm_offload.engine.host_units import attended_on_host, copies_of, host_units
from lm_offload.engine.machinery import Machinery, floats, scheduler_of
from lm_offload.engine.model_files import ModelFiles
from lm_offload.engine.residents import LoadProgress, row_tables
from lm_offload.kernels.base import Kernels
from lm_offload.kvcache.cache import KVCache
from lm_offload.models.base import Context
from lm_offload.models.registry import load_model
from lm_offload.pipeline.captures import CAPTURED, Captures
from lm_offload.pipeline.device_executor import DeviceExecutor, never, nothing_in_place, stays
from lm_offload.pipeline.device_queue import DeviceQueue
from lm_offload.pipeline.device_resources import DeviceResources
from lm_offload.pipeline.disk_queue import DiskQueue
from lm_offload.pipeline.exchange import Exchange
from lm_offload.pipeline.host_attention import AttentionParts, HostAttention
from lm_offload.pipeline.host_processor import HostProcessor
from lm_offload.pipeline.host_units import HostUnits
from lm_offload.pipeline.progress import Progress
from lm_offload.pipeline.prompt_attention import PromptAttention
from lm_offload.pipeline.runner import ModelRunner
from lm_offload.pipeline.runner_parts import Buffers
from lm_offload.pipeline.split_attention import SplitAttention
from lm_offload.pipeline.sweep_rows import SweepRows
from lm_offload.pipeline.trace import Trace
from lm_offload.plan import Plan
from lm_offload.planner.places.recordings import SHAPES
from lm_offload.schedule.device_sweep import DeviceSweepSchedule, Transfers
from lm_offload.schedule.in_place import NOTHING
from lm_offload.schedule.task import Resource
from lm_offload.storage.arena import MemoryTier


def build_device_machinery(
    files: ModelFiles, plan: Plan, kernels: Kernels, trace: Trace, on_load: LoadProgress
) -> Machinery:
    """Take the memory of both tiers, load what stays, start the threads of the resources."""
    assert plan.device is not None
    attended = attended_on_host(files, plan.device)
    kv_tier = MemoryTier("CPU", dict(plan.memory)["KV cache"]) if attended else None
    whole = () if plan.device.turns else attended  # with all keys and values on the host
    layers = [files.units[unit].index for unit in whole]
    side_of = partial(device_side, files, plan, host=kv_tier, on_host=layers)
    with ExitStack() as undo:
        parts = take_parts(files, plan, kernels, on_load, side_of, undo)
        context = context_of(files, parts.side, parts.kernels)
        attention = _attention(parts, context, kv_tier, attended) if kv_tier else None
        units = _host_units(parts) if plan.device.in_place else None
        runner = _runner(parts, context, attention, units)
        executor = _executor(parts, trace, attention, units)
        undo.pop_all()
    cache = parts.side.cache
    made = runner, executor, scheduler_of(plan, cache), cache
    tiers = *parts.memory.tiers, *([kv_tier] if kv_tier else [])
    return Machinery(plan, parts.store, *made, devices=parts.devices, tiers=tiers)


def _attention(
    parts: DeviceParts, context: Context, tier: MemoryTier, units: frozenset[int]
) -> HostAttention:
    """On the CPU, for all sequences or for those whose cache lies in the `tier` on the host."""
    files, plan, side, turns = parts.files, parts.plan, parts.side, parts.side.on_device.turns
    model, exchange = load_model(files.config.model_type), _exchange(parts)
    both = AttentionParts(model, context, parts.kernels, side.cache, exchange, units)
    if side.prompts is not None:
        return PromptAttention(both, side.prompts)
    if turns is None:
        return HostAttention(both)
    blocks = plan.kv_blocks - side.on_device.kv_blocks
    cache = KVCache(files.config, blocks, files.kv_format, tier)
    return SplitAttention(replace(both, cache=cache), side.cache, turns)


def _exchange(parts: DeviceParts) -> Exchange:
    """On the host what is sent, and behind it what comes back."""
    config, rows = parts.files.config, parts.plan.sweep_tokens
    host = floats(parts.host["attention exchange"])
    sent, queries = rows * (config.query_size + 2 * config.kv_size), rows * config.query_size
    return Exchange(
        config,
        on_device=floats(parts.side.memory["attention exchange"]),
        on_host=host[:sent],
        attended=host[sent : sent + queries],
    )


def _host_units(parts: DeviceParts) -> HostUnits:
    side, hidden = parts.side, _buffers(parts).hidden
    homes = parts.store, side.cache, parts.host
    return host_units(parts.files, side.on_device, parts.kernels, *homes, hidden)


def _runner(
    parts: DeviceParts, context: Context, host: HostAttention | None, units: HostUnits | None
) -> ModelRunner:
    files, plan, side = parts.files, parts.plan, parts.side
    return ModelRunner(
        files.units,
        load_model(files.config.model_type),
        context,
        side.weights,
        SweepRows(row_tables(parts.store, plan, files)),
        side.cache,
        None,
        _buffers(parts),
        plan.micro_batch_tokens,
        host,
        units,
        _captures(parts) if plan.device and plan.device.replays else None,
    )


def _captures(parts: DeviceParts) -> Captures:
    units = sum(unit.kind in CAPTURED for unit in parts.files.units)
    return Captures(parts.side.device.capture, SHAPES * units)


def _buffers(parts: DeviceParts) -> Buffers:
    return buffers_of(parts.files, parts.plan, parts.side, parts.host["logits"])


def _executor(
    parts: DeviceParts, trace: Trace, host: HostAttention | None, units: HostUnits | None
) -> DeviceExecutor:
    progress, store, side = Progress(), parts.store, parts.side
    transfers = _transfers(parts)
    links: dict[Resource, DiskQueue] = {
        "disk_read": disk_of(parts.files, store, parts.plan, progress, trace),
        "h2d": link_of(store, side, bool(transfers.upload_bytes), progress, trace),
    }
    processor = DeviceQueue(side.device.compute, progress, trace)
    if host is None and units is None:
        resources = DeviceResources(links, processor, side.device.d2h)
        return DeviceExecutor(DeviceSweepSchedule(transfers), resources, progress, trace)
    cpu = HostProcessor(side.device, processor, copies_of(host, units), progress, trace)
    resources = DeviceResources(links, processor, side.device.d2h, cpu)
    schedule = DeviceSweepSchedule(transfers, host.units if host else NOTHING)
    in_place, alone = units.units if units else nothing_in_place, host.alone if host else never
    ways = in_place, alone, host.writes_back if host else stays
    return DeviceExecutor(schedule, resources, progress, trace, *ways)


def _transfers(parts: DeviceParts) -> Transfers:
    layouts, plan = parts.files.layouts, parts.plan
    read = indices_of(parts.files, plan.streamed)
    uploaded = [*read, *indices_of(parts.files, plan.resident)]
    return Transfers(
        {index: layouts[index].size_bytes for index in read},
        {index: layouts[index].size_bytes for index in uploaded},
        plan.ring_bytes,
        parts.side.on_device.ring_bytes,
    )
