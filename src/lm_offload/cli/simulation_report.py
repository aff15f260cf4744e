"""A simulated run as people read it."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from lm_offload.cli.report import print_rows
from lm_offload.cli.simulation import Simulation, critical_path_s
from lm_offload.planner.policies.job import PHASES
from lm_offload.planner.policies.memory import TIERS, capacities
from lm_offload.planner.policies.policy import PhasePolicy, Policy, Share
from lm_offload.planner.policies.reasons import bottleneck, ceiling_tokens_per_s, phase_time
from lm_offload.units import format_bytes

NAMES = {
    "gpu": "GPU",
    "cpu": "CPU",
    "disk": "disk",
    "h2d": "link to the GPU",
    "d2h": "link from the GPU",
    "disk_read": "disk, reads",
    "disk_write": "disk, writes",
}
WORTH_SAYING = 1.005  # a gain below this is none


def print_simulation(console: Console, found: Simulation) -> None:
    """Policy, rates, memory, resources, and why it is this policy."""
    title = f"{found.model} on {found.job.machine.name}"
    print_rows(console, title, [*_policy_rows(found.policy), *_rate_rows(found)])
    _print_memory(console, found)
    _print_resources(console, found)
    for phase in PHASES:
        console.print(f"{bottleneck(found.job, found.policy, found.time, phase)}.")
    _print_runners_up(console, found)
    _print_gains(console, found)


def _policy_rows(policy: Policy) -> list[tuple[str, str]]:
    sequences = f"{policy.num_micro_batches} x {policy.micro_batch_size} sequences"
    return [
        ("block", sequences),
        ("weights", f"{policy.weight_format}, {_places(policy.weights)}"),
        ("KV cache", f"{policy.kv_format}, {_places(policy.kv)}"),
        ("activations", _places(policy.activations)),
        ("prefill computed", _devices(policy.prefill)),
        ("decode computed", _devices(policy.decode)),
        ("schedule", f"{policy.schedule}, units read ahead: {policy.prefetch_units}"),
    ]


def _places(share: Share) -> str:
    parts = ((tier, getattr(share, tier)) for tier in TIERS)
    return ", ".join(f"{part:.1%} {NAMES[tier]}" for tier, part in parts if part)


def _devices(devices: PhasePolicy) -> str:
    if devices.compute == devices.attention:
        return f"on the {NAMES[devices.compute]}"
    return f"on the {NAMES[devices.compute]}, attention on the {NAMES[devices.attention]}"


def _rate_rows(found: Simulation) -> list[tuple[str, str]]:
    time = found.time
    rates = {
        "prefill": time.prefill_tokens_per_s,
        "decode": time.decode_tokens_per_s,
        "generation, both phases": time.generation_tokens_per_s,
        "its ceiling": ceiling_tokens_per_s(time),
    }
    return [(name, f"{rate:.2f} tok/s") for name, rate in rates.items()]


def _print_memory(console: Console, found: Simulation) -> None:
    table = Table("tier", "peak", "capacity", title="Memory", title_justify="left")
    peak, sizes = found.job.peak_bytes(found.policy), capacities(found.job.machine)
    for tier in TIERS:
        table.add_row(NAMES[tier], format_bytes(peak.of(tier)), format_bytes(sizes[tier]))
    console.print(table)


def _print_resources(console: Console, found: Simulation) -> None:
    """How much each resource works, and how much of it is on the critical path."""
    columns = [f"{phase} {what}" for phase in PHASES for what in ("busy", "critical")]
    table = Table("resource", *columns, title="Resources", title_justify="left")
    sweeps = [phase_time(found.time, phase) for phase in PHASES]
    critical = [critical_path_s(found.timeline(phase)) for phase in PHASES]
    for resource in dict.fromkeys(name for sweep in sweeps for name in sweep.busy_s):
        cells = []
        for sweep, path_s in zip(sweeps, critical, strict=True):
            share = path_s.get(resource, 0.0) / sum(path_s.values())
            cells += [f"{sweep.busy_frac(resource):.0%}", f"{share:.0%}"]
        table.add_row(NAMES.get(resource, resource), *cells)
    console.print(table)


def _print_runners_up(console: Console, found: Simulation) -> None:
    if not found.runners_up:
        return
    table = Table("instead", "slower", "tok/s", "block", "because", title="Runners-up")
    table.title_justify = "left"
    for it in found.runners_up:
        rate = f"{it.ranked.time.generation_tokens_per_s:.2f}"
        block = str(it.ranked.policy.block_size)
        table.add_row(it.change, f"{it.slower:.2f}x", rate, block, str(it.reason))
    console.print(table)


def _print_gains(console: Console, found: Simulation) -> None:
    worth = [gain for gain in found.gains if gain.speedup >= WORTH_SAYING]
    gains = ", ".join(f"{gain.change} {gain.speedup:.2f}x" for gain in worth)
    if found.gains:
        console.print(f"With more of one thing, faster by: {gains or 'nothing'}.")
