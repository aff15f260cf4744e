"""Runs a benchmark's workload and reads the clocks."""

from __future__ import annotations

import random
import resource
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lm_offload.arch.config import ModelConfig
from lm_offload.cli.ceiling import Shape
from lm_offload.cli.progress import RunProgress
from lm_offload.errors import RequestError
from lm_offload.sampling import SamplingParams

if TYPE_CHECKING:
    from lm_offload.engine.llm import LLM
    from lm_offload.engine.outputs import RunStats


@dataclass(frozen=True)
class Measured:
    """Figures of one run; decode counts the sweeps without prompt tokens."""

    load_s: float  # headers and resident weights, the probe of the machine left out
    run_s: float  # from the first call to the last token
    prefill_tokens_per_s: float
    decode_tokens_per_s: float
    throughput_tokens_per_s: float  # generated tokens over run_s
    ttft_s: float  # median over the prompts
    tpot_s: float | None  # mean of the decode sweeps, each a token of every sequence in flight
    peak_rss_bytes: int
    decode_sweeps: int
    decode_cpu_frac: float
    decode_wait_frac: float
    read_bytes_per_decode_sweep: float


def check_shape(config: ModelConfig, shape: Shape) -> None:
    """Raise RequestError where prompt and output do not fit the context."""
    if shape.prompt_len + shape.gen_len > config.max_positions:
        raise RequestError(
            f"{shape.prompt_len} prompt and {shape.gen_len} generated tokens were asked for, the "
            f"model's context is {config.max_positions}; lower --prompt-len or --gen-len."
        )


def run_workload(
    llm: LLM, shape: Shape, seed: int, load_s: float, progress: RunProgress
) -> Measured:
    """Generate from random token ids, greedily, `gen_len` tokens for each."""
    prompts = random_prompts(llm.files.config.vocab_size, shape, seed)
    params = SamplingParams(max_tokens=shape.gen_len, ignore_eos=True)
    progress.expect(shape.batch_size * shape.prompt_len, shape.batch_size * (shape.gen_len - 1))
    start_s = time.perf_counter()
    outputs = llm.generate(prompts, params, progress.on_sweep)
    run_s = time.perf_counter() - start_s
    progress.stop()
    tokens = sum(len(output.outputs[0].token_ids) for output in outputs)
    ttft_s = statistics.median(output.ttft_s for output in outputs)
    return _measured(llm.stats, load_s, run_s, tokens, ttft_s)


def random_prompts(vocab_size: int, shape: Shape, seed: int) -> list[list[int]]:
    """Token ids drawn evenly; the same seed gives the same prompts."""
    draw = random.Random(seed)
    return [
        [draw.randrange(vocab_size) for _ in range(shape.prompt_len)]
        for _ in range(shape.batch_size)
    ]


def peak_rss_bytes() -> int:
    """The most memory this process has had resident."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _measured(stats: RunStats, load_s: float, run_s: float, tokens: int, ttft_s: float) -> Measured:
    times = [sweep.time for sweep in stats.decode]
    total_s = sum(time.total_s for time in times) or 1.0
    return Measured(
        load_s=load_s,
        run_s=run_s,
        prefill_tokens_per_s=stats.prefill_tokens_per_s,
        decode_tokens_per_s=stats.decode_tokens_per_s,
        throughput_tokens_per_s=tokens / run_s,
        ttft_s=ttft_s,
        tpot_s=stats.decode_s / len(times) if times else None,
        peak_rss_bytes=peak_rss_bytes(),
        decode_sweeps=len(times),
        decode_cpu_frac=sum(time.cpu_s for time in times) / total_s,
        decode_wait_frac=sum(time.wait_s for time in times) / total_s,
        read_bytes_per_decode_sweep=sum(time.read_bytes for time in times) / max(len(times), 1),
    )
