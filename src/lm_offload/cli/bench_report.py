"""The tables of `lm-offload bench`: ceiling, measurement, and prediction beside it."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from lm_offload.cli.measure import Measured
from lm_offload.cli.report import print_rows
from lm_offload.hardware.profile import HardwareProfile
from lm_offload.plan import Figures
from lm_offload.planner.ceiling import Ceiling, PhaseCeiling
from lm_offload.planner.comparison import Deviation, deviations, step_seconds
from lm_offload.units import format_bytes, format_rate

RESOURCES = {
    "disk_read_s": "the disk",
    "h2d_s": "the link",
    "gpu_s": "the device",
    "attend_s": "the CPU beside it",
    "cpu_s": "computing",
    "wait_s": "waiting for weights",
    "overhead_s": "the engine itself",
    "total_s": "all",
}


def print_ceiling(
    console: Console, ceiling: Ceiling, profile: HardwareProfile, on_device: bool
) -> None:
    """The least seconds of each phase by resource, computed before anything is measured."""
    rates = f"disk {format_rate(max(profile.disk_read.bytes_per_s.rates))}, "
    processor = profile.cpu
    if on_device and profile.gpu and profile.h2d:
        rates += f"link {format_rate(max(profile.h2d.bytes_per_s.rates))}, "
        processor = profile.gpu
    rates += f"memory {format_rate(processor.memory_bytes_per_s)}"
    table = Table(
        *("phase", "disk", *(["link"] if on_device else []), "memory", "compute"),
        *("at most", "bound by"),
        title=f"Ceiling ({rates}, {processor.peak_flops / 1e9:.0f} GFLOP/s)",
        title_justify="left",
    )
    for name, phase in (("prefill", ceiling.prefill), ("decode", ceiling.decode)):
        if phase.tokens:
            table.add_row(
                name,
                f"{phase.disk_s:.3f} s",
                *([f"{phase.link_s:.3f} s"] if on_device else []),
                f"{phase.memory_s:.3f} s",
                f"{phase.compute_s:.3f} s",
                f"{phase.tokens_per_s:.1f} tok/s",
                phase.bound_by,
            )
    console.print(table)


def print_measured(console: Console, measured: Measured, ceiling: Ceiling, load_s: float) -> None:
    """Rates with their share of the ceiling, then times and memory."""
    rows = [("load", f"{load_s:.2f} s")]
    rows.append(("prefill", _rate(measured.prefill_tokens_per_s, ceiling.prefill)))
    if measured.tpot_s is not None:
        rows.append(("decode", _rate(measured.decode_tokens_per_s, ceiling.decode)))
        rows.append(("time per output token", f"{measured.tpot_s * 1e3:.1f} ms"))
    if measured.drafted:
        rows.append(("drafted tokens", f"{measured.drafted}, {measured.accepted} accepted"))
    throughput = f"{measured.throughput_tokens_per_s:.2f} tok/s"
    rows.append(("throughput, both phases", throughput))
    rows.append(("time to first token", f"{measured.ttft_s:.3f} s"))
    rows.append(("peak resident set", format_bytes(measured.peak_rss_bytes)))
    print_rows(console, "Measured", rows)


def print_comparison(console: Console, predicted: Figures, measured: Figures) -> None:
    """Seconds of a mean sweep by resource, predicted and measured; a warning where they part."""
    table = Table(
        *("phase", "resource", "predicted", "measured", "measured / predicted"),
        title="Predicted and measured, a mean sweep",
        title_justify="left",
    )
    for phase, step in predicted.step_s.items():
        after = step_seconds(measured.step_s[phase])
        for name, before_s in step_seconds(step).items():
            if before_s and after[name]:
                ratio = f"{after[name] / before_s:.2f}"
                table.add_row(phase, RESOURCES[name], _ms(before_s), _ms(after[name]), ratio)
    console.print(table)
    for deviation in deviations(predicted, measured):
        console.print(f"warning: {_sentence(deviation)}", style="yellow", highlight=False)


def ceiling_record(ceiling: Ceiling) -> dict[str, Any]:
    """The ceiling for JSON."""
    return {
        "prefill_tokens_per_s": ceiling.prefill.tokens_per_s,
        "decode_tokens_per_s": ceiling.decode.tokens_per_s if ceiling.decode.tokens else None,
        "throughput_tokens_per_s": ceiling.throughput_tokens_per_s,
        "prefill": _phase_record(ceiling.prefill),
        "decode": _phase_record(ceiling.decode),
    }


def _sentence(deviation: Deviation) -> str:
    change = f"{abs(deviation.ratio - 1):.0%} {'longer' if deviation.ratio > 1 else 'shorter'}"
    return (
        f"a {deviation.phase} sweep took {change} than predicted; what is off most is "
        f"{RESOURCES[deviation.resource]} ({_ms(deviation.measured_s)} instead of "
        f"{_ms(deviation.predicted_s)}); `lm-offload profile` measures this machine anew."
    )


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.2f} ms"


def _phase_record(phase: PhaseCeiling) -> dict[str, Any]:
    return {**vars(phase), "bound_by": phase.bound_by}


def _rate(tokens_per_s: float, ceiling: PhaseCeiling) -> str:
    share = tokens_per_s / ceiling.tokens_per_s
    return f"{tokens_per_s:.2f} tok/s, {share:.0%} of the ceiling"
