"""What one device holds of a plan, and the host memory that its uploads come from."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from lm_offload.device.base import Device
from lm_offload.device.registry import open_device
from lm_offload.engine.machinery import F32_BYTES
from lm_offload.engine.model_files import ModelFiles
from lm_offload.errors import ConfigError
from lm_offload.kernels.base import Kernels
from lm_offload.kvcache.cache import KVCache
from lm_offload.models.base import Context
from lm_offload.models.workspace import Workspace
from lm_offload.pipeline.disk_queue import DiskQueue
from lm_offload.pipeline.progress import Progress
from lm_offload.pipeline.runner_parts import Buffers
from lm_offload.pipeline.trace import Trace
from lm_offload.pipeline.upload import Uploader, staging_buffers
from lm_offload.plan import DevicePlan, Plan
from lm_offload.planner.device_memory import UPLOADS_IN_FLIGHT
from lm_offload.schedule.task import Task
from lm_offload.storage.arena import Arena, Memory, MemoryTier, Tier
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
class DeviceSide:
    """A device with its memory by purpose, and what lies there."""

    on_device: DevicePlan
    device: Device
    memory: dict[str, Memory]
    cache: KVCache
    weights: UnitViews
    uploader: Uploader


def open_planned(on_device: DevicePlan) -> Device:
    """The device of a plan; raises ConfigError for one that computes nothing."""
    device = open_device(on_device.name, on_device.budget_bytes)
    if device.torch_device.type == "meta":
        device.close()
        raise ConfigError(
            f"{on_device.name} is for plans alone; name a GPU or a stand-in to generate."
        )
    return device


def host_memory(plan: Plan, devices: Sequence[Device]) -> tuple[dict[str, Arena], list[Uploader]]:
    """Pinned arenas, or pageable ones with a pinned stage, or what the driver makes of neither."""
    sizes = dict(plan.memory)
    part_bytes = sizes["upload staging"] // len(devices)
    block_bytes = part_bytes // UPLOADS_IN_FLIGHT
    names = [name for name in HOST_ARENAS if name in sizes]
    tier = MemoryTier("CPU", sum(sizes[name] for name in names))
    arenas = {name: tier.allocate(name, sizes[name]) for name in names}
    pinned = [device.pin(tier.whole()) for device in devices]
    if all(pinned):
        return arenas, [Uploader(device.h2d, block_bytes) for device in devices]
    return arenas, [_staged(device, part_bytes, block_bytes) for device in devices]


def _staged(device: Device, staging_bytes: int, block_bytes: int) -> Uploader:
    """Through buffers of its own, where the system pins at least these."""
    staging = MemoryTier("CPU", staging_bytes).whole()
    pinned = device.pin(staging)
    log.warning(
        "The system refuses to pin the memory of the weights; uploads %s. Raise the limit of "
        "locked memory (ulimit -l).",
        "are copied once more on the way" if pinned else "run at about half the speed of the link",
    )
    buffers = staging_buffers(staging, UPLOADS_IN_FLIGHT) if pinned else None
    return Uploader(device.h2d, block_bytes, buffers)


def device_side(
    files: ModelFiles,
    plan: Plan,
    on_device: DevicePlan,
    device: Device,
    uploader: Uploader,
    host: Tier | None = None,
    on_host: Collection[int] = (),
    others: Collection[int] = (),
) -> DeviceSide:
    """Take the memory of a device; keys and values of the layers `on_host` lie in that tier.

    `others` are layers that another device computes.
    """
    sizes = {name: size for name, size in on_device.memory if name in DEVICE_ARENAS}
    tier = device.tier(sum(sizes.values()))
    blocks = on_device.kv_blocks or plan.kv_blocks
    cache = _cache(files, blocks, tier, {*on_host, *others})
    if host is not None and on_host:
        elsewhere = _cache(files, blocks, host, {*range(files.config.num_layers)} - {*on_host})
        cache.join(elsewhere)
    names = (name for name in sizes if name != "KV cache")
    memory: dict[str, Memory] = {name: tier.allocate(name, sizes[name]) for name in names}
    weights = UnitViews(files.layouts, memory["upload ring"])
    return DeviceSide(on_device, device, memory, cache, weights, uploader)


def _cache(files: ModelFiles, blocks: int, tier: Tier, without: Collection[int]) -> KVCache:
    return KVCache(files.config, blocks, files.kv_format, tier, without)


def store_of(files: ModelFiles, plan: Plan, ring: Arena) -> WeightStore:
    """The store of the weights in host memory and on disk."""
    layouts = [*files.layouts, *([files.table_layout] if files.table_layout else [])]
    settings = ReadSettings(plan.read_block_bytes, plan.read_concurrency)
    return WeightStore(files.checkpoint, layouts, settings, ring)


def load_device(files: ModelFiles, plan: Plan, store: WeightStore, side: DeviceSide) -> None:
    """Units that live on the device are read into the staging ring one by one and copied."""
    offset, home = 0, side.memory["resident weights"]
    with ThreadPoolExecutor(plan.read_concurrency, thread_name_prefix="load") as pool:
        for index in indices_of(files, side.on_device.resident):
            size_bytes = files.layouts[index].size_bytes
            place = home.slice(offset, size_bytes)
            list(pool.map(lambda block: block.read(), store.staging_blocks(index, 0)))
            target = place.view(0, torch.uint8, (size_bytes,))
            if size_bytes:
                for copy in side.uploader.copies(store.memory_of(index, 0), target):
                    copy()
            side.weights.settle(index, place)
            offset += size_bytes


def indices_of(files: ModelFiles, names: Collection[str]) -> list[int]:
    """Units by their names, in order of use."""
    wanted = set(names)
    return [index for index, unit in enumerate(files.units) if unit.name in wanted]


def context_of(files: ModelFiles, side: DeviceSide, kernels: Kernels) -> Context:
    """What units compute with there; `kernels` are those of the CPU."""
    workspace = Workspace(floats(side.memory["workspace"]))
    return Context(files.config, side.device.kernels(kernels), workspace)


def floats(memory: Memory) -> Tensor:
    """All of it as f32."""
    return memory.view(0, torch.float32, (memory.size_bytes // F32_BYTES,))


def buffers_of(files: ModelFiles, plan: Plan, side: DeviceSide, result: Memory) -> Buffers:
    """Activations on the device; logits only where there is room for them."""
    config, memory, f32 = files.config, side.memory, torch.float32
    hidden = memory["hidden states"].view(0, f32, (plan.sweep_tokens, config.hidden_size))
    if "logits" not in memory:
        return Buffers(hidden, normed=hidden[:0], logits=hidden[:0], result=hidden[:0])
    shape = plan.logit_rows, config.vocab_size
    logits = memory["logits"].view(0, f32, shape)
    normed = memory["logits"].view(logits.nbytes, f32, (plan.logit_rows, config.embed_size))
    return Buffers(hidden, normed, logits, result=result.view(0, f32, shape))


def disk_of(
    store: WeightStore, plan: Plan, is_used: bool, progress: Progress, trace: Trace
) -> DiskQueue:
    """Reads of units on disk into the staging ring."""
    return DiskQueue(
        progress,
        lambda task: [block.read for block in store.staging_blocks(task.id.unit, task.ring_offset)],
        plan.read_concurrency if is_used else 0,
        trace,
    )


def link_of(
    store: WeightStore, side: DeviceSide, is_used: bool, progress: Progress, trace: Trace
) -> DiskQueue:
    """Uploads to the ring of a device."""
    ring = side.memory["upload ring"]

    def ends_of(task: Task) -> tuple[Tensor, Tensor]:
        source = store.memory_of(task.id.unit, task.source_offset)
        return source, ring.view(task.ring_offset, torch.uint8, (task.size_bytes,))

    return DiskQueue(
        progress,
        lambda task: side.uploader.copies(*ends_of(task)),
        UPLOADS_IN_FLIGHT if is_used else 0,
        trace,
        "upload",
    )
