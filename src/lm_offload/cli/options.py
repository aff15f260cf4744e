"""The options that several commands share, each declared once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[
    str, typer.Argument(help="Folder of a Hugging Face checkpoint, or a hub id in the local cache.")
]
CpuMemory = Annotated[
    str | None,
    typer.Option(
        "--cpu-memory",
        help="Budget for weights, KV cache, staging and activations together: 8GiB, 500MB, 80%. "
        "Default: what is free, less a margin.",
        show_default=False,
        envvar="LM_OFFLOAD_CPU_MEMORY",
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        help="Threads to compute with; default: every core allowed.",
        show_default=False,
        envvar="LM_OFFLOAD_THREADS",
    ),
]
Overlap = Annotated[
    bool, typer.Option(help="Read the next weights while computing; off is for comparison.")
]
TraceFile = Annotated[
    Path | None,
    typer.Option("--trace", help="Write a Chrome trace of reads, waits and compute (Perfetto)."),
]
MaxTokens = Annotated[int, typer.Option(help="Most tokens to generate for each prompt.")]
Temperature = Annotated[float, typer.Option(help="0 is greedy.")]
TopK = Annotated[int, typer.Option(help="Draw from the K likeliest tokens; 0 is all.")]
TopP = Annotated[float, typer.Option(help="Draw from the likeliest tokens that sum to P.")]
MinP = Annotated[float, typer.Option(help="Ignore tokens less likely than P times the likeliest.")]
Seed = Annotated[int, typer.Option(help="Seed of the random numbers.")]
Stop = Annotated[list[str] | None, typer.Option(help="End at this text; may be repeated.")]
IgnoreEos = Annotated[bool, typer.Option("--ignore-eos", help="Go on after an end token.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no figures.")]
