"""`lm-offload profile`: measure this machine, so that plans and predictions fit it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from lm_offload.cli import options
from lm_offload.cli.display import make_display
from lm_offload.cli.profile_report import print_profile
from lm_offload.cli.report import people_console, print_json, report_console
from lm_offload.engine.output_file import check_writable


def profile(
    quick: Annotated[
        bool, typer.Option("--quick", help="About 10 s instead of 60 s, in less memory: coarser.")
    ] = False,
    disk_path: Annotated[
        Path | None,
        typer.Option(
            help="Folder on the disk to measure, that of a model for example; a file is written "
            "there for a moment. Default: the cache folder of lm-offload.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Write the profile to this JSON file too.",
            show_default=False,
            callback=check_writable,
        ),
    ] = None,
    threads: options.Threads = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    config: options.ConfigFile = None,
) -> None:
    """Measure this machine and keep the result for every later plan on it."""
    from lm_offload.engine.calibration import measure_now
    from lm_offload.hardware.effort import FULL, QUICK
    from lm_offload.hardware.limits import check_threads
    from lm_offload.hardware.profile_store import write_profile
    from lm_offload.hardware.profile_text import profile_to_dict
    from lm_offload.kernels.resolve import resolve_kernels

    kernels = resolve_kernels(check_threads(threads))
    with _Progress(people_console(quiet)) as progress:
        found = measure_now(disk_path, kernels, QUICK if quick else FULL, progress.show)
    if output is not None:
        write_profile(output, found)
    if as_json:
        print_json(profile_to_dict(found))
    elif not quiet:
        print_profile(report_console(as_json), found)


class _Progress:
    """The stage under way and the time left, taken off the terminal at the end."""

    def __init__(self, console: Console) -> None:
        self._display = make_display(console, time.monotonic())

    def show(self, stage: str, done_s: float, total_s: float) -> None:
        """See `hardware.visits.Report`."""
        left_s = round(total_s - done_s)
        words = f"measuring {stage}, {left_s // 60}:{left_s % 60:02} left"
        states = {"profile": (round(done_s * 1e3), round(total_s * 1e3), words)}
        self._display.show(states, time.monotonic())

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *error: object) -> None:
        self._display.stop()
