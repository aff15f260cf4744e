"""`lm-offload plan`: what would be resident and how fast it would run; probes, loads nothing."""

from __future__ import annotations

from rich.console import Console

from lm_offload.cli import options
from lm_offload.cli.report import print_json, print_plan, report_console
from lm_offload.plan import Plan, Workload


def plan(
    model: options.Model,
    batch_size: options.BatchSize = 1,
    prompt_len: options.PromptLen = 128,
    gen_len: options.GenLen = 128,
    cpu_memory: options.CpuMemory = None,
    kv_format: options.KvFormat = None,
    threads: options.Threads = None,
    as_json: options.Json = False,
    config: options.ConfigFile = None,
) -> None:
    """Show the plan for a workload without loading weights."""
    from lm_offload.engine.llm import LLM

    workload = Workload((prompt_len,) * batch_size, (gen_len,) * batch_size)
    with LLM(model, cpu_memory=cpu_memory, threads=threads, kv_format=kv_format) as llm:
        chosen = llm.plan_for(workload)
    if as_json:
        print_json(chosen)
        return
    console = report_console(as_json)
    print_plan(console, chosen)
    _print_prediction(console, chosen, prompt_len)


def _print_prediction(console: Console, chosen: Plan, prompt_len: int) -> None:
    prompt_tokens = prompt_len * chosen.max_sequences
    console.print(
        f"predicted: prefill {prompt_tokens / chosen.predicted_prefill_s:.1f} tok/s, decode "
        f"{chosen.max_sequences / chosen.predicted_decode_s:.2f} tok/s "
        f"({chosen.predicted_decode_s * 1e3:.0f} ms a sweep)"
    )
