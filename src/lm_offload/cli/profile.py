"""`lm-offload profile`: measure this machine, so that plans and predictions fit it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lm_offload.cli import options
from lm_offload.cli.profile_report import print_profile
from lm_offload.cli.progress import RunProgress
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
    with RunProgress(people_console(quiet)) as progress:
        found = measure_now(disk_path, kernels, QUICK if quick else FULL, progress.on_measure)
    if output is not None:
        write_profile(output, found)
    if as_json:
        print_json(profile_to_dict(found))
    elif not quiet:
        print_profile(report_console(as_json), found)
