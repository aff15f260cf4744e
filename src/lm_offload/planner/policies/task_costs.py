"""The duration of every task of a step, and what a sweep costs each resource."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from lm_offload.hardware.link import Link
from lm_offload.planner.policies.compute_costs import compute_seconds
from lm_offload.planner.policies.scene import Scene
from lm_offload.planner.policies.task_bytes import Key, chains_of, transfer_bytes
from lm_offload.schedule.block import LOAD_WEIGHTS, TRANSFER_RESOURCE, UnitKind
from lm_offload.schedule.task import Kind, Resource


def task_seconds(scene: Scene) -> dict[Key, float]:
    """Seconds of one task of each kind; weights: of a whole unit."""
    moved = transfer_bytes(scene)
    transfers = {key: _transfer_s(scene, key[0], size) for key, size in moved.items()}
    return transfers | compute_seconds(scene)


def resource_seconds(scene: Scene, seconds: Mapping[Key, float]) -> dict[Resource, float]:
    """Seconds that each resource works in one sweep: the sum of its tasks."""
    busy: defaultdict[Resource, float] = defaultdict(float)
    for (kind, unit), task_s in seconds.items():
        repeats = 1 if kind in LOAD_WEIGHTS else scene.policy.num_micro_batches
        busy[resource_of(scene, kind)] += _units(scene, kind, unit) * repeats * task_s
    return dict(busy)


def _units(scene: Scene, kind: Kind, unit: UnitKind) -> int:
    """Units of a sweep that have such a task; the first one makes its own hidden states."""
    if unit == "head":
        return 1
    makes_own = unit == "attention" and kind in chains_of(scene).load_hidden
    return scene.model.num_layers - makes_own


def resource_of(scene: Scene, kind: Kind) -> Resource:
    """Where a kind of task runs."""
    return TRANSFER_RESOURCE.get(kind, scene.devices.compute)


def _transfer_s(scene: Scene, kind: Kind, size_bytes: float) -> float:
    if TRANSFER_RESOURCE[kind] == "cpu":
        copy = scene.machine.host_copy
        return copy.transfer_s(size_bytes) if copy else 0.0
    if kind == "download_kv" and scene.on_gpu and not scene.policy.kv_pinned:
        return _download_kv_s(scene, size_bytes)
    return _link(scene, TRANSFER_RESOURCE[kind]).transfer_s(size_bytes)


def _link(scene: Scene, resource: Resource) -> Link:
    if resource == "h2d":
        return scene.h2d
    if resource == "d2h":
        return scene.d2h
    return scene.machine.disk_read if resource == "disk_read" else scene.machine.disk_write


def _download_kv_s(scene: Scene, size_bytes: float) -> float:
    """To homes that are not pinned; what goes on to disk passes through a pinned buffer."""
    share = scene.policy.kv
    paged_bytes = size_bytes * share.cpu / (share.cpu + share.disk)
    pageable = scene.machine.d2h_pageable or scene.d2h
    return pageable.transfer_s(paged_bytes) + scene.d2h.transfer_s(size_bytes - paged_bytes)
