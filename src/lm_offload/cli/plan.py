"""`lm-offload plan`: what would be resident and how fast it would run; reads only headers."""

from __future__ import annotations

import dataclasses
import json
from typing import Annotated

import typer
from rich.console import Console

from lm_offload.cli import options
from lm_offload.cli.report import print_plan
from lm_offload.engine.llm import LLM
from lm_offload.plan import Plan, Workload


def plan(
    model: options.Model,
    batch_size: Annotated[int, typer.Option(min=1, help="Number of prompts.")] = 1,
    prompt_len: Annotated[int, typer.Option(min=1, help="Tokens of each prompt.")] = 128,
    gen_len: Annotated[int, typer.Option(min=1, help="Tokens to generate for each.")] = 128,
    cpu_memory: options.CpuMemory = None,
    threads: options.Threads = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON.")] = False,
) -> None:
    """Show the plan for a workload without loading weights."""
    workload = Workload((prompt_len,) * batch_size, (gen_len,) * batch_size)
    with LLM(model, cpu_memory=cpu_memory, threads=threads) as llm:
        chosen = llm.plan_for(workload)
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(chosen)))
        return
    console = Console()
    print_plan(console, chosen)
    _print_prediction(console, chosen, prompt_len)


def _print_prediction(console: Console, chosen: Plan, prompt_len: int) -> None:
    prompt_tokens = prompt_len * chosen.max_sequences
    console.print(
        f"predicted: prefill {prompt_tokens / chosen.predicted_prefill_s:.1f} tok/s, decode "
        f"{chosen.max_sequences / chosen.predicted_decode_s:.2f} tok/s "
        f"({chosen.predicted_decode_s * 1e3:.0f} ms a sweep)"
    )
