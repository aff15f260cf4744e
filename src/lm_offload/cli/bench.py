"""`lm-offload bench`: ceiling and prediction of a workload first, then what is measured."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from rich.console import Console

from lm_offload.cli import options, sampling_options
from lm_offload.cli.bench_report import ceiling_record, print_ceiling, print_measured
from lm_offload.cli.comparison_report import print_comparison
from lm_offload.cli.measure import Measured, Shape, check_shape, run_workload, warm_up
from lm_offload.cli.memory_mark import mark_memory
from lm_offload.cli.plan_table import print_plan
from lm_offload.cli.progress import RunProgress
from lm_offload.cli.report import people_console, print_json, report_console
from lm_offload.hardware.machine import describe_machine
from lm_offload.hardware.profile_text import profile_to_dict
from lm_offload.plan import Plan
from lm_offload.planner.reasons.phase_ceiling import Ceiling

if TYPE_CHECKING:
    from lm_offload.engine.llm import LLM
    from lm_offload.engine.outputs import RunStats


def bench(
    model: options.Model,
    batch_size: options.BatchSize = 1,
    prompt_len: options.PromptLen = 128,
    gen_len: options.GenLen = 32,
    seed: sampling_options.Seed = 0,
    cpu_memory: options.CpuMemory = None,
    gpu_memory: options.GpuMemory = None,
    device: options.Device = None,
    attention: options.Attention = "auto",
    in_place: options.InPlace = "auto",
    weight_format: options.WeightFormatOrAuto = None,
    kv_format: options.KvFormat = None,
    spill_dir: options.SpillDir = None,
    exact: options.Exact = False,
    objective: options.Objective = "throughput",
    speculation: options.Speculation = "auto",
    draft_model: options.DraftModel = None,
    saved_plan: options.SavedPlan = None,
    threads: options.Threads = None,
    overlap: options.Overlap = True,
    prefix_sharing: options.PrefixSharing = True,
    trace: options.TraceFile = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    config: options.ConfigFile = None,
) -> None:
    """Generate from random prompts, greedily and past end tokens; print plan, ceiling, rates."""
    from lm_offload.engine.llm import LLM

    shape = Shape(batch_size, prompt_len, gen_len)
    console = report_console(as_json, quiet and as_json)
    with RunProgress(people_console(quiet)) as progress:
        start_s = time.perf_counter()
        llm = LLM(
            model,
            cpu_memory=cpu_memory,
            gpu_memory=gpu_memory,
            device=device,
            attention=attention,
            in_place=in_place,
            threads=threads,
            overlap=overlap,
            prefix_sharing=prefix_sharing,
            trace=trace,
            weight_format=weight_format,
            kv_format=kv_format,
            spill_dir=spill_dir,
            exact=exact,
            objective=objective,
            speculation=speculation,
            draft_model=draft_model,
            plan=saved_plan,
            on_load=progress.on_load,
            on_quantize=progress.on_quantize,
            on_measure=progress.on_measure,
        )
        open_s = time.perf_counter() - start_s
        with llm:
            check_shape(llm.files.config, shape)
            plan, ceiling = _announce(llm, shape, console)
            memory = mark_memory()
            load_s = open_s + _load_s(llm, shape)
            warm_up(llm)
            progress.expect(batch_size * prompt_len, batch_size * (gen_len - 1))
            measured = run_workload(llm, shape, seed, memory, progress.on_sweep)
            progress.stop()
    predicted = plan.predicted if overlap else None  # that of a run that overlaps
    print_measured(console, measured, ceiling, load_s, predicted)
    if predicted:
        print_comparison(console, predicted, measured)
    if as_json:
        print_json(_record(llm, shape, plan, ceiling, measured, load_s))


def _announce(llm: LLM, shape: Shape, console: Console) -> tuple[Plan, Ceiling]:
    """Plan and ceiling, printed; quantizing, where it is needed, is no part of loading."""
    from lm_offload.engine.planning import ceiling_for

    plan = llm.plan_for(shape.workload)
    ceiling = ceiling_for(llm.choices, plan, shape.workload, llm.profile)
    print_plan(console, plan)
    print_ceiling(console, ceiling, llm.profile, on_device=plan.device is not None)
    llm.prepare(plan)
    return plan, ceiling


def _load_s(llm: LLM, shape: Shape) -> float:
    start_s = time.perf_counter()
    llm.load(shape.workload)
    return time.perf_counter() - start_s


def _preemptions(stats: RunStats) -> dict[str, int]:
    """Where sequences had to wait for room in the KV cache."""
    if not stats.preemptions:
        return {}
    return {
        "preemptions": stats.preemptions,
        "swapped": stats.swapped,
        "redone_tokens": stats.redone_tokens,
    }


def _experts(stats: RunStats) -> dict[str, int]:
    """Of a mixture: what its rows used, and what was not in memory."""
    if not stats.experts_used:
        return {}
    return {"experts_used": stats.experts_used, "experts_read": stats.experts_read}


def _record(
    llm: LLM, shape: Shape, plan: Plan, ceiling: Ceiling, measured: Measured, load_s: float
) -> dict[str, Any]:
    return {
        "load_s": load_s,
        "prefill_tokens_per_s": measured.prefill_tokens_per_s,
        "decode_tokens_per_s": measured.decode_tokens_per_s,
        "throughput_tokens_per_s": measured.throughput_tokens_per_s,
        "ttft_s": measured.ttft_s,
        "tpot_s": measured.tpot_s,
        "peak_rss_bytes": measured.peak_rss_bytes,
        "cached_tokens": llm.stats.cached_tokens,
        **_preemptions(llm.stats),
        **_experts(llm.stats),
        "workload": shape,
        "ceiling": ceiling_record(ceiling),
        "predicted": plan.predicted,
        "measured": measured,
        "plan": plan,
        "machine": {
            **vars(describe_machine()),
            "kernels": llm.kernels.name,
            "threads": llm.kernels.threads,
            "profile": profile_to_dict(llm.profile),
        },
    }
