"""`lm-offload generate`: complete prompts with a model that need not fit in memory."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, TextIO

import typer
from rich.console import Console

from lm_offload.cli import options
from lm_offload.cli.progress import RunProgress
from lm_offload.cli.prompts import read_prompts, write_output
from lm_offload.cli.report import print_plan, print_stats
from lm_offload.engine.llm import LLM
from lm_offload.sampling import SamplingParams


def generate(
    model: options.Model,
    prompt: Annotated[list[str] | None, typer.Option(help="May be repeated.")] = None,
    prompts_file: Annotated[
        Path | None, typer.Option(help='One prompt a line, or .jsonl with {"prompt": ...}.')
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Append finished prompts as JSON lines.")
    ] = None,
    chat: Annotated[bool, typer.Option("--chat", help="Use the model's chat template.")] = False,
    max_tokens: options.MaxTokens = 128,
    temperature: options.Temperature = 0.0,
    top_k: options.TopK = 0,
    top_p: options.TopP = 1.0,
    min_p: options.MinP = 0.0,
    seed: options.Seed = 0,
    stop: options.Stop = None,
    ignore_eos: options.IgnoreEos = False,
    cpu_memory: options.CpuMemory = None,
    threads: options.Threads = None,
    overlap: options.Overlap = True,
    trace: options.TraceFile = None,
    show_plan: Annotated[bool, typer.Option("--show-plan", help="Print the plan.")] = False,
    json_lines: Annotated[bool, typer.Option("--json", help="Print JSON lines.")] = False,
    quiet: options.Quiet = False,
) -> None:
    """Complete one prompt, streamed to the terminal, or many, each as soon as it is finished."""
    console = Console(stderr=True, quiet=quiet)
    prompts = read_prompts(prompt or [], prompts_file)
    params = SamplingParams(
        max_tokens, temperature, top_k, top_p, min_p, seed, tuple(stop or ()), ignore_eos
    )
    with RunProgress(console, len(prompts) * max_tokens) as progress:
        llm = LLM(
            model,
            cpu_memory=cpu_memory,
            threads=threads,
            overlap=overlap,
            trace=trace,
            on_load=progress.on_load,
        )
        with llm, _sink(output) as sink:
            if len(prompts) == 1 and not (output or json_lines):
                _stream_one(llm, prompts[0], params, chat)
            else:
                _write_all(llm, prompts, params, chat, progress, sink)
            if show_plan and llm.plan:
                print_plan(console, llm.plan)
            print_stats(console, llm.stats)


def _stream_one(llm: LLM, prompt: str, params: SamplingParams, chat: bool) -> None:
    for piece in llm.stream(_encoded(llm, prompt, chat), params):
        typer.echo(piece, nl=False)
    typer.echo()


def _write_all(
    llm: LLM,
    prompts: list[str],
    params: SamplingParams,
    chat: bool,
    progress: RunProgress,
    sink: TextIO,
) -> None:
    encoded = [_encoded(llm, prompt, chat) for prompt in prompts]
    for result in llm.generate_each(encoded, params, progress.on_tokens):
        write_output(sink, result)


def _encoded(llm: LLM, prompt: str, chat: bool) -> str | list[int]:
    if not chat:
        return prompt
    return llm.tokenizer.apply_chat_template([{"role": "user", "content": prompt}])


@contextlib.contextmanager
def _sink(output: Path | None) -> Iterator[TextIO]:
    if output is None:
        yield sys.stdout
        return
    with output.open("a", encoding="utf-8") as file:
        yield file
