"""A plan as people read it: where every byte of the budgets goes, and what is streamed."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from lm_offload.arch.halves import are_cut
from lm_offload.device_plan import DevicePlan
from lm_offload.plan import Plan
from lm_offload.planner.reasons.in_place_reason import in_place_text
from lm_offload.units import format_bytes


def print_plan(console: Console, plan: Plan) -> None:
    """What is resident, what is streamed, and where every byte of the budgets goes."""
    _print_memory(console, "CPU", plan)
    units = len(plan.resident) + len(plan.streamed)
    if plan.device is not None:
        units += len(plan.device.resident)
        _print_device(console, plan, plan.device, units)
    console.print(_host_text(plan, units))
    if plan.retention is not None:
        console.print(
            f"Retention: about {plan.retention.units:.0f} streamed units lie in unused KV memory, "
            f"{format_bytes(round(plan.retention.size_bytes))} less read in a mean sweep."
        )


def _print_device(console: Console, plan: Plan, device: DevicePlan, units: int) -> None:
    """The same of all devices, which hold some of so many units."""
    for part in device.stages or (device,):
        _print_memory(console, part.name, part)
    most = "up to " * bool(device.in_place)
    console.print(
        f"{len(device.resident)} of {units} units on {device.name}, "
        f"{most}{format_bytes(device.uploaded_bytes)} uploaded in each sweep; "
        f"{_attention(plan, device)}{_in_place(device)}{_replays(device)}."
    )
    _print_stages(console, device)


def _host_text(plan: Plan, units: int) -> str:
    """What is in CPU memory, what is read, and how a sweep is cut."""
    place = "in CPU memory" if plan.device else "resident"
    drafts = f"; up to {plan.draft_rows} drafted tokens a sweep" if plan.draft_rows else ""
    spare = f", {plan.spare_sequences} more while outputs end early" * bool(plan.spare_sequences)
    some = f"{plan.max_sequences} sequence{'s' * (plan.max_sequences > 1)} in flight{spare}"
    return (
        f"{len(plan.resident)} of {units} units {place}, {_streamed(plan)}; {some}, "
        f"{plan.sweep_tokens} tokens a sweep in micro-batches of {plan.micro_batch_tokens}; "
        f"keys and values in {plan.kv_format}{_spilled(plan)}{drafts}{_recurrent(plan)}."
    )


def _recurrent(plan: Plan) -> str:
    """What cannot be where layers keep a state, and how many prefixes can go on."""
    if "recurrent states" not in dict(plan.memory):
        return ""
    kept = plan.kept_states
    shared = f"states behind {kept} prefixes are kept" if kept else "no prefixes are shared"
    return f"; as layers are recurrent, {shared} and nothing is drafted"


def _streamed(plan: Plan) -> str:
    """What a sweep reads; of experts those that its rows use."""
    size = format_bytes(plan.streamed_bytes)
    if not plan.expert_ring_bytes:
        return f"{size} streamed from disk in each sweep{_cut(plan)}"
    read = "".join(
        f", {format_bytes(round(step.read_bytes))} in a mean sweep of {phase}"
        for phase, step in plan.predicted.step_s.items()
    )
    return f"up to {size} streamed from disk in each sweep, of experts what its rows use{read}"


def _cut(plan: Plan) -> str:
    """What makes the ring smaller."""
    if not are_cut(plan.unit_names):
        return ""
    ring = format_bytes(plan.ring_bytes)
    return f", MLPs as two units each, for which a ring of {ring} is enough"


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
