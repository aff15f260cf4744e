"""`lm-offload chat`: a conversation in the terminal, by the chat template of the model."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.console import Console

from lm_offload.cli import options, sampling_options
from lm_offload.cli.conversation import HELP, Conversation, converse
from lm_offload.cli.progress import RunProgress
from lm_offload.cli.report import people_console
from lm_offload.plan import Workload
from lm_offload.sampling import SamplingParams

CONTEXT_LEN = 4096  # of most conversations; more is planned for when it is needed


def chat(
    model: options.Model,
    system: Annotated[
        str | None, typer.Option(help="What the model is told first.", show_default=False)
    ] = None,
    context_len: Annotated[
        int, typer.Option(min=2, help="Tokens of a conversation to reserve memory for.")
    ] = CONTEXT_LEN,
    max_tokens: sampling_options.MaxTokens = 512,
    temperature: sampling_options.Temperature = 0.0,
    top_k: sampling_options.TopK = 0,
    top_p: sampling_options.TopP = 1.0,
    min_p: sampling_options.MinP = 0.0,
    repetition_penalty: sampling_options.RepetitionPenalty = 1.0,
    seed: sampling_options.Seed = 0,
    stop: sampling_options.Stop = None,
    cpu_memory: options.CpuMemory = None,
    gpu_memory: options.GpuMemory = None,
    device: options.Device = None,
    attention: options.Attention = "auto",
    in_place: options.InPlace = "auto",
    on_oom: options.OnOom = "stop",
    weight_format: options.WeightFormatOrAuto = None,
    kv_format: options.KvFormat = None,
    spill_dir: options.SpillDir = None,
    exact: options.Exact = False,
    speculation: options.Speculation = "auto",
    draft_model: options.DraftModel = None,
    saved_plan: options.SavedPlan = None,
    threads: options.Threads = None,
    prefix_cache: options.PrefixCache = None,
    prefix_cache_limit: options.PrefixCacheLimit = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    config: options.ConfigFile = None,
) -> None:
    """Talk with a model; /reset forgets the conversation, /exit or Ctrl-D ends it."""
    from lm_offload.engine.llm import LLM

    params = SamplingParams(
        max_tokens=max_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        seed=seed,
        stop=tuple(stop or ()),
    )
    console = people_console(quiet)
    with RunProgress(console) as progress:
        llm = LLM(
            model,
            cpu_memory=cpu_memory,
            gpu_memory=gpu_memory,
            device=device,
            attention=attention,
            in_place=in_place,
            on_oom=on_oom,
            threads=threads,
            weight_format=weight_format,
            kv_format=kv_format,
            spill_dir=spill_dir,
            exact=exact,
            speculation=speculation,
            draft_model=draft_model,
            plan=saved_plan,
            prefix_cache=prefix_cache,
            prefix_cache_limit=prefix_cache_limit,
            on_load=progress.on_load,
            on_quantize=progress.on_quantize,
            on_measure=progress.on_measure,
        )
        with llm:
            conversation = Conversation(llm, params, progress, system)
            conversation.check_template()
            llm.load(_workload(min(context_len, llm.files.config.max_positions), max_tokens))
            progress.stop()
            _converse(conversation, as_json, console)


def _converse(conversation: Conversation, as_json: bool, console: Console) -> None:
    """With editing of lines and a hint where somebody types."""
    interactive = sys.stdin.isatty()
    if interactive:
        import readline  # noqa: F401  input() then has a history and edits lines

        console.print(HELP, style="dim")
    converse(conversation, as_json, interactive)


def _workload(context_len: int, max_tokens: int) -> Workload:
    output_len = min(max_tokens, context_len - 1)
    return Workload((context_len - output_len,), (output_len,))
