"""`lm-offload demo`: the main job on the embedded model, in less memory than the model needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from lm_offload.cli import options, sampling_options
from lm_offload.cli.line_file import StandardOutput
from lm_offload.cli.made_with import model_as_made, sampling_as_made
from lm_offload.cli.plan_table import print_plan
from lm_offload.cli.progress import RunProgress
from lm_offload.cli.prompts import PromptSet, write_output
from lm_offload.cli.report import people_console
from lm_offload.cli.stats_report import print_stats
from lm_offload.cli.streaming import stream_text
from lm_offload.demo import demo_path
from lm_offload.sampling import SamplingParams
from lm_offload.units import format_bytes

if TYPE_CHECKING:
    from lm_offload.engine.llm import LLM

DEMO_PROMPT = "def read_file(path):"


def demo(
    prompt: Annotated[str, typer.Option(help="Python source to continue.")] = DEMO_PROMPT,
    max_tokens: sampling_options.MaxTokens = 96,
    temperature: sampling_options.Temperature = 0.0,
    seed: sampling_options.Seed = 0,
    cpu_memory: options.CpuMemory = "12MiB",
    weight_format: options.WeightFormatOrAuto = None,
    kv_format: options.KvFormat = None,
    exact: options.Exact = False,
    speculation: options.Speculation = "auto",
    threads: options.Threads = None,
    overlap: options.Overlap = True,
    trace: options.TraceFile = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    config: options.ConfigFile = None,
) -> None:
    """Write Python with the embedded model, streaming from disk what the budget does not hold."""
    from lm_offload.engine.llm import LLM

    console = people_console(quiet)
    params = SamplingParams(max_tokens=max_tokens, temperature=temperature, seed=seed)
    with RunProgress(console) as progress:
        llm = LLM(
            demo_path(),
            cpu_memory=cpu_memory,
            threads=threads,
            overlap=overlap,
            trace=trace,
            weight_format=weight_format,
            kv_format=kv_format,
            exact=exact,
            speculation=speculation,
            on_quantize=progress.on_quantize,
            on_measure=progress.on_measure,
        )
        with llm:
            console.print(
                f"{format_bytes(llm.files.weight_bytes)} of weights in a budget of "
                f"{format_bytes(llm.budget_bytes)}"
            )
            _complete(llm, prompt, params, progress, as_json)
            if llm.plan:
                print_plan(console, llm.plan)
            print_stats(console, llm.stats)


def _complete(
    llm: LLM, prompt: str, params: SamplingParams, progress: RunProgress, as_json: bool
) -> None:
    prompts = PromptSet([prompt], [llm.tokenizer.encode(prompt)])
    prompts.announce(progress, params, llm.files.config.max_positions)
    if as_json:
        output = llm.generate(prompts.token_ids, params)[0]
        made = {**model_as_made(llm), **sampling_as_made(params)}
        write_output(StandardOutput(), 0, prompt, output, made)
        return
    stream_text(llm, prompts.token_ids[0], params, progress, opening=prompt)
