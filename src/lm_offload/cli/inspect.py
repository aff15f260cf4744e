"""`lm-offload inspect`: what a checkpoint is made of and what would fit; reads headers only."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from lm_offload.cli import options
from lm_offload.cli.inspection import Inspection, inspect_model
from lm_offload.cli.report import print_json, print_rows, report_console
from lm_offload.plan import Workload
from lm_offload.units import format_bytes


def inspect(
    model: options.Model,
    batch_size: options.BatchSize = 1,
    prompt_len: options.PromptLen = 128,
    gen_len: options.GenLen = 128,
    cpu_memory: options.CpuMemory = None,
    weight_format: options.WeightFormat = None,
    exact: options.Exact = False,
    as_json: options.Json = False,
    config: options.ConfigFile = None,
) -> None:
    """Show a checkpoint's units and what of them would fit in memory for a workload."""
    workload = Workload((prompt_len,) * batch_size, (gen_len,) * batch_size)
    found = inspect_model(model, workload, cpu_memory, weight_format, exact)
    if as_json:
        print_json(found)
        return
    console = report_console(as_json)
    _print_model(console, found)
    _print_fit(console, found)


def _print_model(console: Console, found: Inspection) -> None:
    table = Table("units", "count", "bytes", title=found.name, title_justify="left")
    for kind in found.kinds:
        table.add_row(kind.kind, str(kind.count), format_bytes(kind.size_bytes))
    table.add_section()
    table.add_row("all", "", format_bytes(found.weight_bytes))
    console.print(table)
    matrices = f" with matrices in {found.weight_format}" if found.weight_format else ""
    state = (
        f", {format_bytes(found.state_bytes)} of state per sequence" if found.state_bytes else ""
    )
    console.print(
        f"{found.model_type}, {found.parameters / 1e6:.1f} M parameters in {found.dtype}{matrices},"
        f" context {found.max_positions}, {format_bytes(found.kv_bytes_per_token)} of KV cache per "
        f"token{state}"
    )
    if found.conversion:
        console.print(f"Read from another format: {found.conversion}")


def _print_fit(console: Console, found: Inspection) -> None:
    fits = "yes" if found.fits else "no, a part would stay on disk"
    rows = [
        ("budget", format_bytes(found.budget_bytes)),
        ("smallest that works", format_bytes(found.smallest_budget_bytes)),
        ("enough for all in memory", format_bytes(found.resident_budget_bytes)),
        ("all fits in the budget", fits if found.runs else "no, it would not run"),
    ]
    if found.runs:
        rows.append(("resident in memory", format_bytes(found.tier_bytes["cpu"])))
        rows.append(("streamed from disk", format_bytes(found.tier_bytes["disk"])))
    if found.rows_on_disk_bytes:
        size = format_bytes(found.rows_on_disk_bytes)
        rows.append(("embedding rows on disk", f"{size}, of which a sweep reads a row per token"))
    print_rows(console, "For this workload", rows)
    if found.profile is None and not found.fits:
        console.print(
            "What is resident follows from a machine of middling speed, as this one has not been "
            "measured: lm-offload plan measures it in a few seconds."
        )
