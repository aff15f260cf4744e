"""The tables of `lm-offload bench`: the ceiling, and what was measured beside the prediction."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from lm_offload.cli.measure import Measured
from lm_offload.hardware.profile import HardwareProfile
from lm_offload.plan import Figures
from lm_offload.planner.reasons.phase_ceiling import Ceiling, PhaseCeiling
from lm_offload.units import format_bytes, format_rate, format_seconds


class _Row(NamedTuple):
    """A line of the table of figures; empty cells are not known or make no sense."""

    name: str
    predicted: str
    measured: str
    of_ceiling: str = ""


def print_ceiling(
    console: Console, ceiling: Ceiling, profile: HardwareProfile, on_device: bool
) -> None:
    """The least seconds of each phase by resource, computed before anything is measured."""
    table = Table(
        *("phase", "disk", *(["link"] if on_device else []), "memory", "compute"),
        *("at most", "bound by"),
        title="Ceiling: the least time of a phase, all its sweeps together",
        title_justify="left",
    )
    for column in table.columns[1:-1]:
        column.justify = "right"
    for name, phase in (("prefill", ceiling.prefill), ("decode", ceiling.decode)):
        if phase.tokens:
            table.add_row(
                name,
                format_seconds(phase.disk_s),
                *([format_seconds(phase.link_s)] if on_device else []),
                format_seconds(phase.memory_s),
                format_seconds(phase.compute_s),
                _rate(phase.tokens_per_s),
                phase.bound_by,
            )
    console.print(table)
    console.print(f"It follows from: {_rates(profile, on_device)}.", highlight=False)


def print_measured(
    console: Console,
    measured: Measured,
    ceiling: Ceiling,
    load_s: float,
    predicted: Figures | None,
) -> None:
    """Rates, times and memory, beside the prediction where there is one."""
    columns = ["", *(["predicted"] if predicted else []), "measured", "of the ceiling"]
    table = Table(*columns, title="Measured", title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    for row in _rows(measured, ceiling, load_s, predicted):
        table.add_row(row.name, *([row.predicted] if predicted else []), *row[2:])
    console.print(table)
    if measured.drafted:
        console.print(
            f"{measured.accepted} of {measured.drafted} drafted tokens were accepted; what is "
            "predicted is a run without drafts."
        )


def ceiling_record(ceiling: Ceiling) -> dict[str, Any]:
    """The ceiling for JSON."""
    return {
        "prefill_tokens_per_s": ceiling.prefill.tokens_per_s,
        "decode_tokens_per_s": ceiling.decode.tokens_per_s if ceiling.decode.tokens else None,
        "throughput_tokens_per_s": ceiling.throughput_tokens_per_s,
        "prefill": _phase_record(ceiling.prefill),
        "decode": _phase_record(ceiling.decode),
    }


def _rows(
    measured: Measured, ceiling: Ceiling, load_s: float, predicted: Figures | None
) -> Iterator[_Row]:
    expected = predicted or measured  # whose column is then not shown
    yield _Row("load", "", format_seconds(load_s))
    yield _rate_row("prefill", "prefill_tokens_per_s", expected, measured, ceiling.prefill)
    yield _time_row("time to first token", expected.ttft_s, measured.ttft_s)
    if measured.tpot_s is not None and expected.tpot_s is not None:
        yield _rate_row("decode", "decode_tokens_per_s", expected, measured, ceiling.decode)
        yield _time_row("time per output token", expected.tpot_s, measured.tpot_s)
    yield _time_row("all prompts", expected.run_s, measured.run_s)
    yield _throughput_row(expected, measured, ceiling)
    yield _Row("peak resident set", "", format_bytes(measured.peak_rss_bytes))


def _time_row(name: str, predicted_s: float, measured_s: float) -> _Row:
    return _Row(name, format_seconds(predicted_s), format_seconds(measured_s))


def _rate_row(
    name: str, field: str, predicted: Figures, measured: Figures, ceiling: PhaseCeiling
) -> _Row:
    """A rate with its share of the ceiling."""
    expected, found = getattr(predicted, field), getattr(measured, field)
    return _Row(name, _rate(expected), _rate(found), f"{found / ceiling.tokens_per_s:.0%}")


def _throughput_row(predicted: Figures, measured: Measured, ceiling: Ceiling) -> _Row:
    found = measured.throughput_tokens_per_s
    expected = found * measured.run_s / predicted.run_s
    share = found / ceiling.throughput_tokens_per_s
    return _Row("throughput", _rate(expected), _rate(found), f"{share:.0%}")


def _rates(profile: HardwareProfile, on_device: bool) -> str:
    """What the ceiling is computed from."""
    rates = f"disk {format_rate(max(profile.disk_read.bytes_per_s.rates))}, "
    processor = profile.cpu
    if on_device and profile.gpu and profile.h2d:
        rates += f"link {format_rate(max(profile.h2d.bytes_per_s.rates))}, "
        processor = profile.gpu
    rates += f"memory {format_rate(processor.memory_bytes_per_s)}, "
    return f"{rates}products {processor.peak_flops / 1e9:.0f} GFLOP/s"


def _phase_record(phase: PhaseCeiling) -> dict[str, Any]:
    return {**vars(phase), "bound_by": phase.bound_by}


def _rate(tokens_per_s: float) -> str:
    return f"{tokens_per_s:.2f} tok/s"
