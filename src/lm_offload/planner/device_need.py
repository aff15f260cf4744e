"""The error where no plan fits both budgets: the smallest of each that works, byte by byte."""

from __future__ import annotations

from collections.abc import Sequence

from lm_offload.planner.device_memory import (
    device_memory_table,
    host_memory_table,
    upload_block_bytes,
)
from lm_offload.planner.memory import Sizes
from lm_offload.planner.request import ModelSizes, Request
from lm_offload.units import KIB, format_bytes

Rows = Sequence[tuple[str, int]]


def device_need(request: Request, sizes: Sizes) -> str:
    """The message, for the model in the format that needs least; `sizes` are the smallest."""
    assert request.device is not None
    model = min(request.models, key=lambda model: max(u.size_bytes for u in model.units))
    device, host = device_rows(request, model, sizes), host_rows_of(request, model, sizes)
    return (
        f"A GPU memory budget of {format_bytes(request.device.budget_bytes)} and a CPU memory "
        f"budget of {format_bytes(request.budget_bytes)} were given, the smallest that work for "
        f"this model and these prompts are {_kib(device)} KiB and {_kib(host)} KiB; raise "
        f"--gpu-memory or --cpu-memory, or shorten the prompts or outputs:"
        f"{_lines('GPU', device)}{_lines('CPU', host)}"
    )


def device_rows(request: Request, model: ModelSizes, sizes: Sizes) -> Rows:
    """Bytes on the device with a ring of one unit."""
    assert request.device is not None
    ring_bytes = max(unit.size_bytes for unit in model.units)
    return [("upload ring", ring_bytes), *device_memory_table(model, sizes, request.device)]


def host_rows_of(request: Request, model: ModelSizes, sizes: Sizes) -> Rows:
    """Bytes on the host with a ring of one unit."""
    link = request.profile.h2d
    block_bytes = upload_block_bytes(model, link.block_bytes if link else 0)
    ring_bytes = max(unit.size_bytes for unit in model.units)
    return [("staging ring", ring_bytes), *host_memory_table(model, sizes, False, block_bytes)]


def _kib(rows: Rows) -> int:
    return -(-sum(size_bytes for _, size_bytes in rows) // KIB)


def _lines(tier: str, rows: Rows) -> str:
    return "".join(f"\n  {tier} {name:<22}{format_bytes(size)}" for name, size in rows)
