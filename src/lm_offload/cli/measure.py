"""Runs a benchmark's workload and reads the clocks."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lm_offload.arch.config import ModelConfig
from lm_offload.cli.memory_mark import MemoryMark
from lm_offload.errors import RequestError
from lm_offload.plan import Figures, Workload
from lm_offload.sampling import SamplingParams
from lm_offload.step_time import StepTime, mean_step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lm_offload.engine.llm import LLM
    from lm_offload.engine.outputs import RunStats, SweepRecord


@dataclass(frozen=True)
class Shape:
    """A benchmark's workload: all prompts of one length, all outputs of one length."""

    batch_size: int
    prompt_len: int
    gen_len: int

    @property
    def workload(self) -> Workload:
        """The same as the token counts of each request."""
        return Workload((self.prompt_len,) * self.batch_size, (self.gen_len,) * self.batch_size)


@dataclass(frozen=True)
class Measured(Figures):
    """Figures of one run, and what a prediction does not say."""

    throughput_tokens_per_s: float  # generated tokens over run_s
    peak_rss_bytes: int  # of the process, interpreter and libraries included
    decode_sweeps: int
    drafted: int  # tokens that were guessed and verified
    accepted: int  # of these


def check_shape(config: ModelConfig, shape: Shape) -> None:
    """Raise RequestError where prompt and output do not fit the context."""
    if shape.prompt_len + shape.gen_len > config.max_positions:
        raise RequestError(
            f"{shape.prompt_len} prompt and {shape.gen_len} generated tokens were asked for, the "
            f"model's context is {config.max_positions}; lower --prompt-len or --gen-len."
        )


def run_workload(
    llm: LLM, shape: Shape, seed: int, memory: MemoryMark, on_sweep: Callable[[SweepRecord], None]
) -> Measured:
    """Generate from random token ids, greedily, `gen_len` tokens for each."""
    prompts = random_prompts(llm.files.config.vocab_size, shape, seed)
    params = SamplingParams(max_tokens=shape.gen_len, ignore_eos=True)
    start_s = time.perf_counter()
    outputs = llm.generate(prompts, params, on_sweep)
    run_s = time.perf_counter() - start_s
    for output in outputs:
        output.check_complete()
    tokens = sum(len(output.outputs[0].token_ids) for output in outputs)
    ttft_s = statistics.median(output.ttft_s for output in outputs)
    return _measured(llm.stats, run_s, tokens / run_s, ttft_s, memory)


def warm_up(llm: LLM) -> None:
    """One sweep of one token: starts threads, touches the ring and the code of the kernels."""
    llm.generate([[0]], SamplingParams(max_tokens=1, ignore_eos=True))


def random_prompts(vocab_size: int, shape: Shape, seed: int) -> list[list[int]]:
    """Token ids drawn evenly; the same seed gives the same prompts."""
    draw = random.Random(seed)
    return [
        [draw.randrange(vocab_size) for _ in range(shape.prompt_len)]
        for _ in range(shape.batch_size)
    ]


def _measured(
    stats: RunStats, run_s: float, throughput: float, ttft_s: float, memory: MemoryMark
) -> Measured:
    steps = {"prefill": _mean_of(stats.prefill), "decode": _mean_of(stats.decode)}
    read_bytes = round(_mean_of(stats.sweeps).read_bytes)
    return Measured(
        prefill_tokens_per_s=stats.prefill_tokens_per_s,
        decode_tokens_per_s=stats.decode_tokens_per_s,
        ttft_s=ttft_s,
        tpot_s=stats.tpot_s,
        run_s=run_s,
        step_s=steps,
        peak_bytes={"cpu": memory.taken_bytes(), "disk": read_bytes},
        throughput_tokens_per_s=throughput,
        peak_rss_bytes=memory.peak_rss_bytes(),
        decode_sweeps=len(stats.decode),
        drafted=stats.drafted,
        accepted=stats.accepted,
    )


def _mean_of(sweeps: Sequence[SweepRecord]) -> StepTime:
    return mean_step((sweep.time, 1.0) for sweep in sweeps)
