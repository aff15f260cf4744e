"""`lm-offload demo`: the main job on the embedded model, in less memory than the model needs."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from lm_offload.cli import options
from lm_offload.cli.report import print_plan, print_stats
from lm_offload.demo import demo_path
from lm_offload.engine.llm import LLM
from lm_offload.sampling import SamplingParams
from lm_offload.units import format_bytes

DEMO_PROMPT = "import os\n\n\nclass FileCache:\n"


def demo(
    prompt: Annotated[str, typer.Option(help="Python source to continue.")] = DEMO_PROMPT,
    max_tokens: options.MaxTokens = 96,
    temperature: options.Temperature = 0.0,
    seed: options.Seed = 0,
    cpu_memory: options.CpuMemory = "12MiB",
    threads: options.Threads = None,
    overlap: options.Overlap = True,
    trace: options.TraceFile = None,
    quiet: options.Quiet = False,
) -> None:
    """Write Python with the embedded model, streaming from disk what the budget does not hold."""
    console = Console(stderr=True, quiet=quiet)
    params = SamplingParams(max_tokens, temperature, seed=seed)
    with LLM(
        demo_path(), cpu_memory=cpu_memory, threads=threads, overlap=overlap, trace=trace
    ) as llm:
        console.print(
            f"{format_bytes(llm.files.weight_bytes)} of weights in a budget of "
            f"{format_bytes(llm.budget_bytes)}"
        )
        typer.echo(prompt, nl=False)
        for piece in llm.stream(prompt, params):
            typer.echo(piece, nl=False)
        typer.echo()
        if llm.plan:
            print_plan(console, llm.plan)
        print_stats(console, llm.stats)
