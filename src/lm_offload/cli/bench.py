"""`lm-offload bench`: the ceiling of a workload first, then what is measured beside it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from lm_offload.cli import options
from lm_offload.cli.bench_report import ceiling_record, print_ceiling, print_measured
from lm_offload.cli.ceiling import Ceiling, CeilingModel, Shape
from lm_offload.cli.measure import Measured, check_shape, run_workload
from lm_offload.cli.progress import RunProgress
from lm_offload.cli.report import people_console, print_json, print_plan, report_console
from lm_offload.hardware.machine import describe_machine
from lm_offload.plan import Plan, Workload

if TYPE_CHECKING:
    from lm_offload.engine.llm import LLM


def bench(
    model: options.Model,
    batch_size: options.BatchSize = 1,
    prompt_len: options.PromptLen = 128,
    gen_len: options.GenLen = 32,
    seed: options.Seed = 0,
    cpu_memory: options.CpuMemory = None,
    kv_format: options.KvFormat = None,
    threads: options.Threads = None,
    overlap: options.Overlap = True,
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
            threads=threads,
            overlap=overlap,
            trace=trace,
            kv_format=kv_format,
            on_load=progress.on_load,
        )
        open_s = time.perf_counter() - start_s
        with llm:
            plan, ceiling = _predict(llm, shape)
            print_plan(console, plan)
            print_ceiling(console, ceiling, llm.rates)
            load_s = open_s + _load_s(llm, shape)
            measured = run_workload(llm, shape, seed, load_s, progress)
            print_measured(console, measured, ceiling)
    if as_json:
        print_json(_record(llm, plan, ceiling, measured))


def _predict(llm: LLM, shape: Shape) -> tuple[Plan, Ceiling]:
    config, units = llm.files.config, llm.files.units
    check_shape(config, shape)
    plan = llm.plan_for(_workload(shape))
    return plan, CeilingModel(config, units, plan, llm.rates).ceiling(shape)


def _load_s(llm: LLM, shape: Shape) -> float:
    start_s = time.perf_counter()
    llm.load(_workload(shape))
    return time.perf_counter() - start_s


def _workload(shape: Shape) -> Workload:
    return Workload((shape.prompt_len,) * shape.batch_size, (shape.gen_len,) * shape.batch_size)


def _record(llm: LLM, plan: Plan, ceiling: Ceiling, measured: Measured) -> dict[str, Any]:
    return {
        "load_s": measured.load_s,
        "prefill_tokens_per_s": measured.prefill_tokens_per_s,
        "decode_tokens_per_s": measured.decode_tokens_per_s,
        "throughput_tokens_per_s": measured.throughput_tokens_per_s,
        "ttft_s": measured.ttft_s,
        "tpot_s": measured.tpot_s,
        "peak_rss_bytes": measured.peak_rss_bytes,
        "workload": ceiling.shape,
        "ceiling": ceiling_record(ceiling),
        "measured": measured,
        "plan": plan,
        "machine": {
            **vars(describe_machine()),
            "kernels": llm.kernels.name,
            "threads": llm.kernels.threads,
            "rates": llm.rates,
        },
    }
