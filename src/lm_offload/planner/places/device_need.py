"""The error where no plan fits both budgets: the smallest of each that works, byte by byte."""

from __future__ import annotations

from collections.abc import Sequence

from lm_offload.planner.costs.device_memory import device_memory_table, host_rows_beside
from lm_offload.planner.costs.memory import Sizes
from lm_offload.planner.costs.model_sizes import ModelSizes
from lm_offload.planner.costs.stage_memory import even_cut, stage_memory_table
from lm_offload.planner.request import Request
from lm_offload.units import KIB, format_bytes

Rows = Sequence[tuple[str, int]]


def device_need(request: Request, sizes: Sizes) -> str:
    """The message, for the model in the format that needs least; `sizes` are the smallest."""
    assert request.device is not None
    model = min(request.models, key=lambda model: max(u.size_bytes for u in model.units))
    host = host_rows_of(request, model, sizes)
    if request.device.stages:
        return _stages_need(request, model, sizes, host)
    device = device_rows(request, model, sizes)
    return (
        f"A GPU memory budget of {format_bytes(request.device.budget_bytes)} and a CPU memory "
        f"budget of {format_bytes(request.budget_bytes)} were given, the smallest that work for "
        f"this model and these prompts are {_kib(device)} KiB and {_kib(host)} KiB; raise "
        f"--gpu-memory or --cpu-memory, or shorten the prompts or outputs:"
        f"{_lines('GPU', device)}{_lines('CPU', host)}"
    )


def _stages_need(request: Request, model: ModelSizes, sizes: Sizes, host: Rows) -> str:
    """The same for several devices with as many layers on each, as far as that goes."""
    assert request.device is not None
    budgets = request.device.stages
    if len(budgets) > model.config.num_layers:
        return (
            f"{len(budgets)} devices were given for a model of {model.config.num_layers} layers, "
            "each computes one at least; give fewer."
        )
    tables = [
        [("upload ring", _ring_bytes(model)), *stage_memory_table(model, sizes, budget, units)]
        for budget, units in zip(budgets, even_cut(model, len(budgets)), strict=True)
    ]
    given = ", ".join(format_bytes(budget.budget_bytes) for budget in budgets)
    needed = ", ".join(f"{_kib(rows)} KiB" for rows in tables)
    lines = "".join(_lines(budget.name, rows) for budget, rows in zip(budgets, tables, strict=True))
    return (
        f"GPU memory budgets of {given} and a CPU memory budget of "
        f"{format_bytes(request.budget_bytes)} were given, for this model and these prompts "
        f"{needed} and {_kib(host)} KiB are enough; raise --gpu-memory or --cpu-memory, or shorten "
        f"the prompts or outputs:{lines}{_lines('CPU', host)}"
    )


def device_rows(request: Request, model: ModelSizes, sizes: Sizes) -> Rows:
    """Bytes on the device with a ring of one unit."""
    assert request.device is not None
    return [("upload ring", _ring_bytes(model)), *device_memory_table(model, sizes, request.device)]


def host_rows_of(request: Request, model: ModelSizes, sizes: Sizes) -> Rows:
    """Bytes on the host with a ring of one unit."""
    return [("staging ring", _ring_bytes(model)), *host_rows_beside(request, model, sizes)]


def _ring_bytes(model: ModelSizes) -> int:
    return max(unit.size_bytes for unit in model.units)


def _kib(rows: Rows) -> int:
    return -(-sum(size_bytes for _, size_bytes in rows) // KIB)


def _lines(tier: str, rows: Rows) -> str:
    return "".join(f"\n  {tier} {name:<22}{format_bytes(size)}" for name, size in rows)
