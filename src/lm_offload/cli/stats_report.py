"""What a run took, in a few lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console

from lm_offload.step_time import StepTime
from lm_offload.units import format_bytes, format_rate

if TYPE_CHECKING:
    from lm_offload.engine.outputs import RunStats


def print_stats(console: Console, stats: RunStats) -> None:
    """Prefill and decode apart, and what bound the decode."""
    cached = f", {stats.cached_tokens} prompt tokens cached" if stats.cached_tokens else ""
    line = f"prefill {stats.prefill_tokens_per_s:.1f} tok/s ({stats.prefill_s:.2f} s){cached}"
    if stats.decode:
        line += f", decode {stats.decode_tokens_per_s:.2f} tok/s ({stats.decode_s:.2f} s)"
    console.print(line)
    if stats.drafted:
        console.print(f"{stats.accepted} of {stats.drafted} drafted tokens were accepted")
    if stats.preemptions:
        console.print(
            f"{stats.preemptions} times a sequence made room in the KV cache: "
            f"{stats.preemptions - stats.swapped} recomputed, {stats.swapped} swapped to disk, "
            f"{stats.redone_tokens} tokens were computed again"
        )
    if stats.retained_bytes:
        console.print(
            f"{format_bytes(stats.retained_bytes)} of weights were not read, since up to "
            f"{stats.retained_units} streamed units lay in KV memory that was not in use"
        )
    if stats.experts_read:
        found = 1 - stats.experts_read / stats.experts_used
        console.print(f"{found:.0%} of the experts that were used lay in memory")
    if stats.decode:
        times = [sweep.time for sweep in stats.decode]
        console.print(_decode_line(times))
        _print_devices(console, times)


def _decode_line(times: Sequence[StepTime]) -> str:
    """What each resource did of the mean sweep."""
    total_s, busy_s = sum(time.total_s for time in times), sum(time.disk_read_s for time in times)
    read_bytes = sum(time.read_bytes for time in times)
    line = f"decode sweep {total_s / len(times) * 1e3:.1f} ms: CPU busy "
    line += f"{sum(time.cpu_s for time in times) / total_s:.0%}, waiting for weights "
    line += f"{sum(time.wait_s for time in times) / total_s:.0%}"
    if read_bytes:
        line += f", disk busy {busy_s / total_s:.0%} at {format_rate(read_bytes / busy_s)}"
    if upload_bytes := sum(time.h2d_bytes for time in times):
        h2d_s = sum(time.h2d_s for time in times)
        line += f", link busy {h2d_s / total_s:.0%} at {format_rate(upload_bytes / h2d_s)}"
    if gpu_s := sum(time.gpu_s for time in times):
        line += f", device computing {gpu_s / total_s:.0%}"
    if attend_s := sum(time.attend_s for time in times):
        line += f", CPU computing {attend_s / total_s:.0%}"
    return line


def _print_devices(console: Console, times: Sequence[StepTime]) -> None:
    """Each of several devices in the sweeps given."""
    total_s = sum(time.total_s for time in times)
    for number, of_one in enumerate(zip(*(time.devices for time in times), strict=True)):
        gpu_s, h2d_s, h2d_bytes = (sum(values) for values in zip(*of_one, strict=True))
        line = f"stage {number}: computing {gpu_s / total_s:.0%}"
        if h2d_bytes:
            line += f", link busy {h2d_s / total_s:.0%} at {format_rate(h2d_bytes / h2d_s)}"
        console.print(line)
