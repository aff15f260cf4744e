"""Puts together what computes units in host memory beside a device, as a plan says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from lm_offload.arch.weights import attention_units
from lm_offload.device_plan import DevicePlan
from lm_offload.engine.device_side import indices_of
from lm_offload.engine.machinery import floats
from lm_offload.engine.model_files import ModelFiles
from lm_offload.kernels.base import Kernels
from lm_offload.kvcache.cache import KVCache
from lm_offload.models.base import Context
from lm_offload.models.registry import load_model
from lm_offload.models.workspace import Workspace
from lm_offload.pipeline.host_attention import HostAttention
from lm_offload.pipeline.host_processor import Copy
from lm_offload.pipeline.host_units import HostUnits
from lm_offload.schedule.in_place import InPlace
from lm_offload.storage.arena import Arena
from lm_offload.storage.weight_store import WeightStore

if TYPE_CHECKING:
    from torch import Tensor

    from lm_offload.schedule.task import Task


def host_units(
    files: ModelFiles,
    plan: DevicePlan,
    kernels: Kernels,
    store: WeightStore,
    cache: KVCache,
    arenas: Mapping[str, Arena],
    hidden: Tensor,
) -> HostUnits:
    """The units that the CPU computes, with its own workspace and a copy of `hidden` states.

    `kernels` are the CPU's, hidden [sweep_tokens, H] f32 lies on the device.
    """
    config = files.config
    units = frozenset(indices_of(files, plan.in_place))
    rows = plan.in_place_rows
    return HostUnits(
        load_model(config.model_type),
        Context(config, kernels, Workspace(floats(arenas["workspace"]))),
        store,
        cache,
        InPlace(units, rows),
        on_device=hidden,
        on_host=arenas["hidden states"].view(0, torch.float32, (rows, config.hidden_size)),
    )


def attended_on_host(files: ModelFiles, plan: DevicePlan) -> frozenset[int]:
    """Attention units of which keys and values lie in host memory, where the CPU attends."""
    every = attention_units(files.units)
    return every if plan.attention != "device" else every & {*indices_of(files, plan.in_place)}


def copies_of(attention: HostAttention | None, units: HostUnits | None) -> Copy:
    """Source and target of a copy between device and CPU."""

    def copy_of(task: Task) -> tuple[Tensor, Tensor]:
        is_hidden = task.id.kind in ("download_hidden", "upload_hidden")
        side = units if is_hidden else attention
        assert side is not None
        return side.copy_of(task)

    return copy_of
