"""Puts the rooms together for a plan with several devices: a stage of the units on each."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial

from lm_offload.device.base import Device
from lm_offload.device_plan import DevicePlan
from lm_offload.engine.device_parts import DeviceParts, take_parts
from lm_offload.engine.device_side import (
    DeviceSide,
    buffers_of,
    context_of,
    device_side,
    disk_of,
    indices_of,
    link_of,
)
from lm_offload.engine.machinery import Machinery, scheduler_of
from lm_offload.engine.model_files import ModelFiles
from lm_offload.engine.residents import LoadProgress, row_tables
from lm_offload.kernels.base import Kernels
from lm_offload.models.registry import load_model
from lm_offload.pipeline.device_queue import DeviceQueue
from lm_offload.pipeline.progress import Progress
from lm_offload.pipeline.runner import ModelRunner
from lm_offload.pipeline.stage_executor import StageExecutor
from lm_offload.pipeline.stage_launcher import StageResources
from lm_offload.pipeline.stage_runner import StageRunner
from lm_offload.pipeline.sweep_rows import SweepRows
from lm_offload.pipeline.trace import Trace
from lm_offload.pipeline.upload import Uploader
from lm_offload.plan import Plan
from lm_offload.schedule.stages import Stage, StagedSchedule, StagedTransfers


def build_stage_machinery(
    files: ModelFiles, plan: Plan, kernels: Kernels, trace: Trace, on_load: LoadProgress
) -> Machinery:
    """Take the memory of all tiers, load what stays, start the threads of the resources."""
    with ExitStack() as undo:
        parts = take_parts(files, plan, kernels, on_load, partial(_side, files, plan), undo)
        runner = _runner(parts)
        executor = _executor(parts, runner, trace)
        undo.pop_all()
    cache = parts.sides[0].cache  # blocks have the same numbers on every device
    made = runner, executor, scheduler_of(plan, cache), cache
    tiers = parts.memory.tiers
    return Machinery(plan, parts.store, *made, devices=parts.devices, tiers=tiers)


def _side(
    files: ModelFiles, plan: Plan, stage: DevicePlan, device: Device, uploader: Uploader
) -> DeviceSide:
    """A device with the keys and values of the layers that it computes."""
    units = (files.units[index] for index in indices_of(files, stage.units))
    own = {unit.index for unit in units if unit.kind == "attention"}
    others = set(range(files.config.num_layers)) - own
    return device_side(files, plan, stage, device, uploader, others=others)


def _runner(parts: DeviceParts) -> StageRunner:
    files, plan = parts.files, parts.plan
    tables, model = row_tables(parts.store, plan, files), load_model(files.config.model_type)
    runners = [
        ModelRunner(
            files.units,
            model,
            context_of(files, side, parts.kernels),
            side.weights,
            SweepRows(tables),
            side.cache,
            None,
            buffers_of(files, plan, side, parts.host["logits"]),
            plan.micro_batch_tokens,
        )
        for side in parts.sides
    ]
    numbers = {
        unit: number
        for number, side in enumerate(parts.sides)
        for unit in indices_of(files, side.on_device.units)
    }
    stage_of = [numbers[unit] for unit in sorted(numbers)]
    return StageRunner(files.config, files.units, runners, stage_of, plan.micro_batch_tokens)


def _executor(parts: DeviceParts, runner: StageRunner, trace: Trace) -> StageExecutor:
    progress, store, schedule = Progress(), parts.store, _schedule(parts)
    stages = []
    for side in parts.sides:
        device, uploaded = side.device, set(side.on_device.units) - set(side.on_device.resident)
        stages.append(
            StageResources(
                link_of(store, side, bool(uploaded), progress, trace),
                DeviceQueue(device.compute, progress, trace),
                device.d2h,
                DeviceQueue(device.d2h, progress, trace),
            )
        )
    disk = disk_of(parts.files, store, parts.plan, progress, trace)
    return StageExecutor(schedule, disk, stages, runner.rows_of, progress, trace)


def _schedule(parts: DeviceParts) -> StagedSchedule:
    files, plan = parts.files, parts.plan
    stages = []
    for side in parts.sides:
        units = indices_of(files, side.on_device.units)
        stages.append(Stage(units, side.on_device.ring_bytes))
    read = indices_of(files, plan.streamed)
    sizes = [layout.size_bytes for layout in files.layouts]
    uploaded = [*read, *indices_of(files, plan.resident)]
    transfers = StagedTransfers(
        {index: sizes[index] for index in read},
        {index: sizes[index] for index in uploaded},
        plan.ring_bytes,
    )
    return StagedSchedule(stages, transfers)
