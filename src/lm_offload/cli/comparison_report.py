"""A mean sweep of each phase by resource, predicted and measured; what to do where they part."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from lm_offload.plan import Figures
from lm_offload.planner.reasons.comparison import (
    AWAITED,
    PARTS,
    Deviation,
    deviations,
    step_seconds,
)
from lm_offload.units import format_seconds

RESOURCES = {
    "cpu_s": "computing",
    "wait_s": "waiting for weights",
    "overhead_s": "the engine itself",
    "total_s": "in all",
    "disk_read_s": "the disk",
    "h2d_s": "the link",
    "gpu_s": "the device",
    "attend_s": "the CPU beside it",
}
LAUNCHING = "launching on the device"  # all that the CPU's thread computes where there is one
SHOWN_FRAC = 0.01  # of a sweep: what takes less in both is left out
JUDGED_FRAC = 0.05  # of a sweep: what takes less has no ratio that says anything


def print_comparison(console: Console, predicted: Figures, measured: Figures) -> None:
    """Parts of a sweep, their sum and what works beside them; a warning where it is off."""
    table = Table(
        *("phase", "resource", "predicted", "measured", "ratio"),
        title="Predicted and measured, a mean sweep: its parts, their sum, what works beside them",
        title_justify="left",
    )
    for column in table.columns[2:]:
        column.justify = "right"
    for phase in predicted.step_s:
        _add_phase(table, phase, predicted, measured)
    console.print(table)
    for deviation in deviations(predicted, measured):
        text = _sentence(deviation, bool(predicted.step_s[deviation.phase].gpu_s))
        console.print(f"warning: {text}", style="yellow", highlight=False)


def _add_phase(table: Table, phase: str, predicted: Figures, measured: Figures) -> None:
    before, after = (step_seconds(figures.step_s[phase]) for figures in (predicted, measured))
    if not before["total_s"] or not after["total_s"]:
        return
    on_device = before["gpu_s"] > 0
    for name in (*PARTS, "total_s", *AWAITED):
        pair = before[name], after[name]
        shares = pair[0] / before["total_s"], pair[1] / after["total_s"]
        if max(shares) >= SHOWN_FRAC:
            words = _words(name, on_device)
            ratio = f"{pair[1] / pair[0]:.2f}" if min(shares) >= JUDGED_FRAC else ""
            table.add_row(phase, words, *map(format_seconds, pair), ratio)
    table.add_section()


def _words(name: str, on_device: bool) -> str:
    return LAUNCHING if name == "cpu_s" and on_device else RESOURCES[name]


def _sentence(deviation: Deviation, on_device: bool) -> str:
    measured, predicted = map(format_seconds, (deviation.measured_s, deviation.predicted_s))
    return (
        f"a {deviation.phase} sweep took {deviation.ratio:.2f} times as long as predicted; what is "
        f"off most is {_words(deviation.resource, on_device)} ({measured} instead of {predicted}); "
        "`lm-offload profile` measures this machine anew."
    )
