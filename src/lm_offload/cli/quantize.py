"""`lm-offload quantize`: make quantized weights now, for the cache or as a folder of their own."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from lm_offload.cli import options
from lm_offload.cli.progress import RunProgress
from lm_offload.cli.report import people_console, print_json, print_rows, report_console
from lm_offload.errors import ConfigError
from lm_offload.units import format_bytes


def quantize(
    model: options.Model,
    weight_format: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="int8 or int4, with a group size of 32, 64 or 128 as in int4:64 (the default), "
            "int8:row, int4:64:sym; fp8, the same as fp8:row, or fp8:128. None for what others "
            "quantized: it is converted.",
            show_default=False,
        ),
    ] = None,
    group_size: Annotated[
        int | None,
        typer.Option(help="The same as a group size in --format.", show_default=False),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="A folder of its own, new or empty, that then is a MODEL; default: the cache, "
            "where the other commands find it.",
            show_default=False,
        ),
    ] = None,
    threads: options.Threads = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    config: options.ConfigFile = None,
) -> None:
    """Quantize the weights of a model, one unit at a time; what is interrupted is gone on with."""
    from lm_offload.engine.quantized_export import quantize_model
    from lm_offload.hardware.limits import check_threads

    if weight_format is None and group_size is not None:
        raise ConfigError(f"--group-size {group_size} was given without --format; name one.")
    wanted = weight_format if group_size is None else f"{weight_format}:{group_size}"
    start_s = time.perf_counter()
    with RunProgress(people_console(quiet)) as progress:
        made = quantize_model(model, wanted, output, check_threads(threads), progress.on_quantize)
    record = {**vars(made), "folder": str(made.folder), "seconds": time.perf_counter() - start_s}
    if as_json:
        print_json(record)
    elif not quiet:
        _print_summary(record)


def _print_summary(record: dict[str, Any]) -> None:
    before_bytes = record["checkpoint_bytes"]
    share = f"{record['size_bytes'] / before_bytes:.0%} of {format_bytes(before_bytes)}"
    rows = [
        ("folder", record["folder"]),
        ("size", f"{format_bytes(record['size_bytes'])}, {share} in its own precision"),
        ("bytes per weight of a matrix", f"{record['bytes_per_weight']:.4f}"),
        ("seconds", f"{record['seconds']:.1f}"),
    ]
    if record["conversion"]:
        rows.append(("converted", record["conversion"]))
    print_rows(report_console(False), f"{record['model']} in {record['format']}", rows)
