"""What one device holds of a plan, and the queues that bring it."""

from __future__ import annotations

from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lm_offload.device.base import Device
from lm_offload.device.registry import open_device
from lm_offload.device_plan import DevicePlan
from lm_offload.engine.machinery import buffers_in, floats, readers_of
from lm_offload.engine.model_files import ModelFiles
from lm_offload.errors import ConfigError
from lm_offload.kernels.base import Kernels, SwitchedProducts
from lm_offload.kvcache.cache import KVCache
from lm_offload.models.base import Context
from lm_offload.models.workspace import Workspace
from lm_offload.pipeline.disk_queue import DiskQueue
from lm_offload.pipeline.progress import Progress
from lm_offload.pipeline.runner_parts import Buffers
from lm_offload.pipeline.trace import Trace
from lm_offload.pipeline.upload import Uploader
from lm_offload.plan import Plan
from lm_offload.planner.costs.device_memory import UPLOADS_IN_FLIGHT
from lm_offload.planner.places.prompts_here import PROMPT_CACHE
from lm_offload.schedule.task import Task
from lm_offload.storage.arena import Memory, Tier
from lm_offload.storage.unit_views import UnitViews
from lm_offload.storage.weight_store import WeightStore

DEVICE_ARENAS = (
    *("resident weights", "upload ring", "KV cache", PROMPT_CACHE),
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
    prompts: KVCache | None = None  # one layer, for those whose cache lies in host memory


def open_planned(on_device: DevicePlan) -> Device:
    """The device of a plan; raises ConfigError for one that computes nothing."""
    device = open_device(on_device.name, on_device.budget_bytes)
    if device.torch_device.type == "meta":
        device.close()
        raise ConfigError(
            f"{on_device.name} is for plans alone; name a GPU or a stand-in to generate."
        )
    return device


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
    prompts = None
    if on_device.prompt_blocks:
        rest = range(1, files.config.num_layers)
        prompts = _cache(files, on_device.prompt_blocks, tier, rest)
    names = (name for name in sizes if name not in ("KV cache", PROMPT_CACHE))
    memory: dict[str, Memory] = {name: tier.allocate(name, sizes[name]) for name in names}
    weights = UnitViews(files.layouts, memory["upload ring"])
    return DeviceSide(on_device, device, memory, cache, weights, uploader, prompts)


def _cache(files: ModelFiles, blocks: int, tier: Tier, without: Collection[int]) -> KVCache:
    return KVCache(files.config, blocks, files.kv_format, tier, without)


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
    workspace, few_rows = Workspace(floats(side.memory["workspace"])), side.on_device.few_rows
    found = side.device.kernels(kernels)
    if few_rows and isinstance(found, SwitchedProducts):
        found = found.switched_at(few_rows)
    return Context(files.config, found, workspace)


def buffers_of(files: ModelFiles, plan: Plan, side: DeviceSide, result: Memory) -> Buffers:
    """Activations on the device; logits that were computed there are copied into `result`."""
    found = buffers_in(side.memory, plan, files.config)
    return replace(found, result=result.view(0, torch.float32, tuple(found.logits.shape)))


def disk_of(
    files: ModelFiles, store: WeightStore, plan: Plan, progress: Progress, trace: Trace
) -> DiskQueue:
    """Reads of units on disk into the staging ring."""
    return DiskQueue(
        progress,
        lambda task: [block.read for block in store.staging_blocks(task.id.unit, task.ring_offset)],
        readers_of(files, plan),
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
