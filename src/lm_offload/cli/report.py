"""Plans and figures as people read them, and JSON as machines do."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.table import Table

from lm_offload.plan import DevicePlan, Plan
from lm_offload.planner.in_place_reason import in_place_text
from lm_offload.step_time import StepTime
from lm_offload.units import format_bytes, format_rate

if TYPE_CHECKING:
    from lm_offload.engine.outputs import RunStats


def people_console(quiet: bool) -> Console:
    """Where people read: standard error, so that results can be piped."""
    return Console(stderr=True, quiet=quiet)


def report_console(as_json: bool, quiet: bool = False) -> Console:
    """Where a report goes: standard output, unless that is for JSON."""
    return Console(stderr=as_json, quiet=quiet)


def print_json(result: object) -> None:
    """One JSON object on a line of standard output; dataclasses become objects."""
    typer.echo(json.dumps(result, default=_as_dict))


def print_rows(console: Console, title: str, rows: Iterable[tuple[str, str]]) -> None:
    """A titled table of names and values."""
    table = Table(title=title, title_justify="left", show_header=False)
    for name, value in rows:
        table.add_row(name, value)
    console.print(table)


def _as_dict(value: Any) -> dict[str, Any]:
    return dataclasses.asdict(value)


def print_plan(console: Console, plan: Plan) -> None:
    """What is resident, what is streamed, and where every byte of the budgets goes."""
    _print_memory(console, "CPU", plan)
    units, place = len(plan.resident) + len(plan.streamed), "resident"
    if plan.device is not None:
        for part in plan.device.stages or (plan.device,):
            _print_memory(console, part.name, part)
        units += len(plan.device.resident)
        place, most = "in CPU memory", "up to " * bool(plan.device.in_place)
        console.print(
            f"{len(plan.device.resident)} of {units} units on {plan.device.name}, "
            f"{most}{format_bytes(plan.device.uploaded_bytes)} uploaded in each sweep; "
            f"{_attention(plan, plan.device)}{_in_place(plan.device)}{_replays(plan.device)}."
        )
        _print_stages(console, plan.device)
    drafts = f"; up to {plan.draft_rows} drafted tokens a sweep" if plan.draft_rows else ""
    spare = f", {plan.spare_sequences} more while outputs end early" * bool(plan.spare_sequences)
    some = f"{plan.max_sequences} sequence{'s' * (plan.max_sequences > 1)} in flight{spare}"
    console.print(
        f"{len(plan.resident)} of {units} units {place}, {format_bytes(plan.streamed_bytes)} "
        f"streamed from disk in each sweep; {some}, "
        f"{plan.sweep_tokens} tokens a sweep in micro-batches of {plan.micro_batch_tokens}; "
        f"keys and values in {plan.kv_format}{_spilled(plan)}{drafts}."
    )
    if plan.retention is not None:
        console.print(
            f"Retention: about {plan.retention.units:.0f} streamed units lie in unused KV memory, "
            f"{format_bytes(round(plan.retention.size_bytes))} less read in a mean sweep."
        )


def _attention(plan: Plan, device: DevicePlan) -> str:
    if device.attention != "both":
        prompts = ", to whole prompts on the device" if device.prompt_blocks else ""
        return f"attention on the {device.attention}{prompts}"
    step = plan.predicted.step_s["decode"]
    return (
        f"attention on both: {device.kv_blocks} of {plan.kv_blocks} KV blocks are there, so that "
        f"in decode the CPU attends for {step.attend_s * 1e3:.1f} ms while {device.name} computes "
        f"for {step.gpu_s * 1e3:.1f} ms of a sweep of {step.total_s * 1e3:.1f} ms"
    )


def _in_place(device: DevicePlan) -> str:
    if not device.in_place:
        return ""
    rows = f"in sweeps of up to {device.in_place_rows} rows"
    return f"; {rows} {in_place_text(device.in_place)} computed on the CPU instead of uploaded"


def _replays(device: DevicePlan) -> str:
    return "; decode replays its launches as graphs" if device.replays else ""


def _print_stages(console: Console, device: DevicePlan) -> None:
    for number, stage in enumerate(device.stages):
        stretches = len(stage.begins)
        parts = f" in {stretches} stretches" * (stretches > 1)
        console.print(
            f"Stage {number}, {stage.units[0]} to {stage.units[-1]}{parts} on {stage.name}: "
            f"{len(stage.resident)} of {len(stage.units)} units stay, "
            f"{format_bytes(stage.uploaded_bytes)} uploaded in each sweep."
        )


def _print_memory(console: Console, tier: str, plan: Plan | DevicePlan) -> None:
    table = Table("purpose", "memory", title=f"{tier} memory", title_justify="left")
    table.columns[1].justify = "right"
    for purpose, size_bytes in plan.memory:
        table.add_row(purpose, format_bytes(size_bytes))
    table.add_section()
    table.add_row("planned", format_bytes(plan.used_bytes))
    table.add_row("budget", format_bytes(plan.budget_bytes))
    console.print(table)


def _spilled(plan: Plan) -> str:
    """Which part of the KV cache is read in a decode sweep."""
    if not plan.spill.layers:
        return ""
    read_bytes = plan.predicted.step_s["decode"].kv_read_bytes
    return (
        f", those of {len(plan.spill.layers)} layers on disk, of which a decode sweep reads "
        f"{format_bytes(round(read_bytes))}"
    )


def print_stats(console: Console, stats: RunStats) -> None:
    """Prefill and decode apart, and what bound the decode."""
    cached = f", {stats.cached_tokens} prompt tokens cached" if stats.cached_tokens else ""
    console.print(
        f"prefill {stats.prefill_tokens_per_s:.1f} tok/s ({stats.prefill_s:.2f} s){cached}, "
        f"decode {stats.decode_tokens_per_s:.2f} tok/s ({stats.decode_s:.2f} s)"
    )
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
