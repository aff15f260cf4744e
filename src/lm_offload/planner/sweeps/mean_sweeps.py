"""The mean sweeps of a wave of sequences in flight: what a quick estimate looks at."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from lm_offload.plan import Workload
from lm_offload.planner.costs.memory import Sizes
from lm_offload.planner.costs.sweep_shape import Piece, SweepGroup, SweepShape


class MeanSweeps(NamedTuple):
    """So many sweeps like this one; fractions are of the last, shorter sweep."""

    shape: SweepShape
    sweeps: float


def mean_prefill(workload: Workload, sizes: Sizes, count: int) -> MeanSweeps:
    """The sweeps that compute `count` prompts of one wave, all of them of mean length."""
    prompt, context = _tokens(workload.mean_computed), _tokens(workload.mean_prompt)
    most, is_scored = sizes.sweep_tokens, workload.scored_tokens > 0
    if is_scored:  # one sweep gives as many scored tokens as it has logits
        most = min(most, sizes.logit_rows)
    return _prefill(prompt, context, workload.mean_output, most, is_scored, count)


def mean_decode(workload: Workload, count: int) -> MeanSweeps:
    """The sweeps that decode one wave of `count` sequences, at the middle of its growth."""
    context = _tokens(workload.mean_prompt) + _tokens(workload.mean_output) // 2
    return _decode(context, workload.mean_output - 1, count)


@lru_cache(maxsize=1024)
def _prefill(
    prompt: int, context: int, output: float, most: int, is_scored: bool, count: int
) -> MeanSweeps:
    """Of prompts with so many tokens to compute, in sweeps of at most so many rows."""
    together = max(min(most // prompt, count), 1)
    rows = min(most, prompt)
    piece = Piece(together, rows, context - prompt + (prompt + rows) // 2)
    logits = together * rows if is_scored else together
    alone = count * prompt / (together * rows)
    sweeps = _beside_decodes(alone, prompt, output, most, count) if alone > 1 else alone
    return MeanSweeps(SweepShape((piece,), logits), sweeps)


def _beside_decodes(alone: float, prompt: int, output: float, most: int, count: int) -> float:
    """Sweeps until all prompts are computed, where those that are done decode and take rows.

    d sequences decode after t sweeps, d' = (most - d) / prompt, until all but the last one do. Full
    as these sweeps are, there are no more than the rows of all sequences fill.
    """
    others = min(count, most) - 1
    filled = (count * prompt + others * (output - 1)) / most
    return max(alone, min(-prompt * math.log1p(-others / most), filled))


@lru_cache(maxsize=1024)
def _decode(context: int, sweeps: float, count: int) -> MeanSweeps:
    return MeanSweeps(SweepShape((Piece(count, 1, context),), count), sweeps)


def counted_s(workload: Workload, sizes: Sizes, sweep_s: Callable[[SweepShape], float]) -> float:
    """Seconds that the objective counts where `sweep_s` gives those of each mean sweep.

    Waves of as many sequences as may be in flight, and one of those that are left.
    """
    waves, left = divmod(len(workload.prompt_lens), sizes.max_sequences)
    wave_s = _wave_s(workload, sizes, sizes.max_sequences, sweep_s)
    run_s = waves * wave_s + (_wave_s(workload, sizes, left, sweep_s) if left else 0.0)
    if workload.objective == "throughput":
        return run_s
    finished_s = sizes.max_sequences * wave_s * waves * (waves + 1) / 2 + left * run_s
    return finished_s / len(workload.prompt_lens)


def _wave_s(
    workload: Workload, sizes: Sizes, count: int, sweep_s: Callable[[SweepShape], float]
) -> float:
    phases = mean_prefill(workload, sizes, count), mean_decode(workload, count)
    return sum(mean.sweeps * sweep_s(mean.shape) for mean in phases if mean.sweeps)


def mean_wave(workload: Workload, sizes: Sizes) -> list[SweepGroup]:
    """The sweeps of one wave of mean sequences, in whole numbers."""
    count = sizes.max_sequences
    prefill, decode = mean_prefill(workload, sizes, count), mean_decode(workload, count)
    decodes = round(decode.sweeps)
    sweeps = max(round(prefill.sweeps), 1)
    first = SweepGroup(
        prefill.shape,
        sweeps,
        round(count * workload.mean_computed / sweeps),
        first_tokens=count,
        finished=0 if decodes else count,
    )
    return [first, SweepGroup(decode.shape, decodes, 0, finished=count)] if decodes else [first]


def waves_of(workload: Workload, sizes: Sizes) -> int:
    """How often the sequences in flight are replaced by others."""
    return math.ceil(len(workload.prompt_lens) / sizes.max_sequences)


def _tokens(mean: float) -> int:
    return max(round(mean), 1)
