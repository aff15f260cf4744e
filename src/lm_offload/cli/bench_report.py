"""The tables of `lm-offload bench`: the ceiling, and what was measured as a share of it."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from lm_offload.cli.ceiling import Ceiling, PhaseCeiling
from lm_offload.cli.measure import Measured
from lm_offload.cli.report import print_rows
from lm_offload.plan import MachineRates
from lm_offload.units import format_bytes, format_rate


def print_ceiling(console: Console, ceiling: Ceiling, rates: MachineRates) -> None:
    """The least seconds of each phase by resource, computed before anything is measured."""
    table = Table(
        *("phase", "disk", "memory", "compute", "at most", "bound by"),
        title=f"Ceiling (disk {format_rate(rates.disk_read_bytes_per_s)}, memory "
        f"{format_rate(rates.memory_read_bytes_per_s)}, {rates.matmul_flops / 1e9:.0f} GFLOP/s)",
        title_justify="left",
    )
    for name, phase in (("prefill", ceiling.prefill), ("decode", ceiling.decode)):
        if phase.tokens:
            table.add_row(
                name,
                f"{phase.disk_s:.3f} s",
                f"{phase.memory_s:.3f} s",
                f"{phase.compute_s:.3f} s",
                f"{phase.tokens_per_s:.1f} tok/s",
                phase.bound_by,
            )
    console.print(table)


def print_measured(console: Console, measured: Measured, ceiling: Ceiling) -> None:
    """Rates with their share of the ceiling, then times and memory."""
    rows = [("load", f"{measured.load_s:.2f} s")]
    rows.append(("prefill", _rate(measured.prefill_tokens_per_s, ceiling.prefill)))
    if measured.tpot_s is not None:
        rows.append(("decode", _rate(measured.decode_tokens_per_s, ceiling.decode)))
        rows.append(("time per output token", f"{measured.tpot_s * 1e3:.1f} ms"))
    throughput = f"{measured.throughput_tokens_per_s:.2f} tok/s"
    rows.append(("throughput, both phases", throughput))
    rows.append(("time to first token", f"{measured.ttft_s:.3f} s"))
    rows.append(("peak resident set", format_bytes(measured.peak_rss_bytes)))
    print_rows(console, "Measured", rows)


def ceiling_record(ceiling: Ceiling) -> dict[str, Any]:
    """The ceiling for JSON."""
    return {
        "prefill_tokens_per_s": ceiling.prefill.tokens_per_s,
        "decode_tokens_per_s": ceiling.decode.tokens_per_s if ceiling.decode.tokens else None,
        "throughput_tokens_per_s": ceiling.throughput_tokens_per_s,
        "prefill": _phase_record(ceiling.prefill),
        "decode": _phase_record(ceiling.decode),
    }


def _phase_record(phase: PhaseCeiling) -> dict[str, Any]:
    return {**vars(phase), "bound_by": phase.bound_by}


def _rate(tokens_per_s: float, ceiling: PhaseCeiling) -> str:
    share = tokens_per_s / ceiling.tokens_per_s
    return f"{tokens_per_s:.2f} tok/s, {share:.0%} of the ceiling"
