"""The mean sweeps of a wave of sequences in flight: what a quick estimate looks at."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

from lm_offload.plan import Workload
from lm_offload.planner.memory import Sizes
from lm_offload.planner.sweep_shape import Piece, SweepGroup, SweepShape


class MeanSweeps(NamedTuple):
    """So many sweeps like this one; fractions are of the last, shorter sweep."""

    shape: SweepShape
    sweeps: float


def mean_prefill(workload: Workload, sizes: Sizes) -> MeanSweeps:
    """The sweeps that compute the prompts of one wave, all prompts being of mean length."""
    count, prompt = sizes.max_sequences, _mean(workload.computed_lens)
    context = _mean(workload.prompt_lens)
    most = sizes.sweep_tokens
    if workload.scored_tokens:  # one sweep gives as many scored tokens as it has logits
        most = min(most, sizes.logit_rows)
    together = max(min(most // prompt, count), 1)
    rows = min(most, prompt)
    piece = Piece(together, rows, context - prompt + (prompt + rows) // 2)
    logits = together * rows if workload.scored_tokens else together
    return MeanSweeps(SweepShape((piece,), logits), count * prompt / (together * rows))


def mean_decode(workload: Workload, sizes: Sizes) -> MeanSweeps:
    """The sweeps that decode one wave, at the middle of its growth."""
    context = _mean(workload.prompt_lens) + _mean(workload.output_lens) // 2
    shape = SweepShape((Piece(sizes.max_sequences, 1, context),), sizes.max_sequences)
    return MeanSweeps(shape, _exact_mean(workload.output_lens) - 1)


def counted_s(workload: Workload, sizes: Sizes, sweep_s: Callable[[SweepShape], float]) -> float:
    """Seconds that the objective counts where `sweep_s` gives those of each mean sweep."""
    phases = mean_prefill(workload, sizes), mean_decode(workload, sizes)
    wave_s = sum(mean.sweeps * sweep_s(mean.shape) for mean in phases if mean.sweeps)
    waves = waves_of(workload, sizes)
    return wave_s * ((waves + 1) / 2 if workload.objective == "latency" else waves)


def mean_wave(workload: Workload, sizes: Sizes) -> list[SweepGroup]:
    """The sweeps of one wave of mean sequences, in whole numbers."""
    prefill, decode = mean_prefill(workload, sizes), mean_decode(workload, sizes)
    count, decodes = sizes.max_sequences, round(decode.sweeps)
    first = SweepGroup(
        prefill.shape,
        max(round(prefill.sweeps), 1),
        prefill.shape.rows,
        first_tokens=count,
        finished=0 if decodes else count,
    )
    return [first, SweepGroup(decode.shape, decodes, 0, finished=count)] if decodes else [first]


def waves_of(workload: Workload, sizes: Sizes) -> int:
    """How often the sequences in flight are replaced by others."""
    return math.ceil(len(workload.prompt_lens) / sizes.max_sequences)


@cache
def _exact_mean(lengths: tuple[int, ...]) -> float:
    return statistics.mean(lengths)


def _mean(lengths: tuple[int, ...]) -> int:
    return max(round(_exact_mean(lengths)), 1)
