"""What the engine costs beside its kernels, measured on models whose kernels have nothing to do.

::

    sweep = sweep_s + sequences * sequence_s + (micro-batches - 1) * micro_batch_s
          + rows * row_s + tasks * task_s + kernels * call_s

with 2 tasks and 14 kernels for each layer, 3 tasks and 4 kernels around them. A layer of decode is
replayed: it has tasks, but no calls of kernels. Two depths of decode and of prompts, two batches
and prompts in micro-batches give five unknowns; where neighbours are joined, as all are in memory,
a task is what a unit adds, `joined_task_s`. What shows in whole prompts only, `row_s` and
`prompt_s`, is measured by itself (engine/prompt_cost.py). Memory is read before each sweep and
between tasks, as it is for weights: what Python needs has left the caches when it is needed again.
It has left them more with large units, and less with tiny ones of a model that stays in the
last-level cache, whose weights pass through the caches of the cores all the same. Of such a
model whole runs are timed, as each sweep finds what the last one has left.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor

from lm_offload.engine.empty_sweeps import Case, Turn
from lm_offload.engine.memory_traffic import Traffic
from lm_offload.engine.overhead_visits import ARENA_BYTES, SMALL_UNITS, Visits
from lm_offload.engine.scoring import are_finite
from lm_offload.engine.tiny_model import VOCAB_SIZE
from lm_offload.hardware.curve import Curve
from lm_offload.hardware.effort import Effort
from lm_offload.hardware.memory_probe import last_level_cache_bytes
from lm_offload.hardware.processor import TINY_TASK_BYTES
from lm_offload.hardware.profile import HardwareProfile
from lm_offload.hardware.timing import typical_s
from lm_offload.kernels.base import Kernels
from lm_offload.sampling import SamplingParams
from lm_offload.sampling.draw import Row, likeliest_of, sample_drafted
from lm_offload.units import MIB, align_down

SHALLOW, DEEP = 2, 10
FEW, MANY = 1, 16  # sequences
CHUNK_TOKENS = 4  # of a prompt in a sweep: more than one row is no decode
LAYER_TASKS, LAYER_KERNELS = 2, 14
OTHER_TASKS, OTHER_KERNELS = 3, 4  # embedding, final norm with its gather, head
TASKS = SHALLOW * LAYER_TASKS + OTHER_TASKS  # of a sweep of a shallow model
EMBED_TASKS, EMBED_KERNELS = 1, 1  # of these, in every micro-batch
LEAST_FRAC = 0.1  # of what the engine takes, however much of it stays in the caches
SAMPLED_VALUES = 1 << 17
SAMPLING_BUDGET_S = 0.02

DECODE, DEEP_DECODE, MANY_DECODE = Case(SHALLOW), Case(DEEP), Case(SHALLOW, MANY)
BY_UNIT, DEEP_BY_UNIT = Case(SHALLOW, by_unit=True), Case(DEEP, by_unit=True)
PROMPT, DEEP_PROMPT = Case(SHALLOW, rows=CHUNK_TOKENS), Case(DEEP, rows=CHUNK_TOKENS)
CUT_PROMPT = Case(SHALLOW, rows=CHUNK_TOKENS, micro_batches=CHUNK_TOKENS)
CASES = (DECODE, DEEP_DECODE, BY_UNIT, DEEP_BY_UNIT, PROMPT, DEEP_PROMPT, CUT_PROMPT)
CACHED_CASES = (DECODE, DEEP_DECODE, BY_UNIT, DEEP_BY_UNIT, MANY_DECODE)

LARGE_UNITS = Traffic(32 * MIB, 32 * MIB, ARENA_BYTES)
IN_CACHE = Traffic(TINY_TASK_BYTES, 0, 16 * MIB)
USED_BYTES = TASKS * TINY_TASK_BYTES  # in such a sweep of a shallow model
TURN: Turn = tuple((case, SMALL_UNITS) for case in CASES)
LARGE_TURN: Turn = (*TURN, (BY_UNIT, LARGE_UNITS), (DEEP_BY_UNIT, LARGE_UNITS))
TURNS: tuple[Turn, ...] = (LARGE_TURN, TURN, TURN)  # in a circle: large units read much
CACHED_RUNS: Turn = tuple((case, IN_CACHE) for case in CACHED_CASES)

_Sweeps = Mapping[tuple[Case, Traffic], float]  # seconds


def visits_of(kernels: Kernels, memory_bytes: int, effort: Effort) -> Visits:
    """To be made while a machine is measured; `memory_bytes` bound what is read between tasks."""
    runs = (*CACHED_RUNS, *_runs_by_bytes(effort, memory_bytes), *CACHED_RUNS)
    return Visits(TURNS, runs, kernels, memory_bytes, effort.visits, effort.sweeps)


def _runs_by_bytes(effort: Effort, memory_bytes: int) -> Iterator[tuple[Case, Traffic]]:
    """Sweeps that use ever more bytes again and again, beyond what the inner caches hold."""
    for frac in effort.cache_fracs:
        size_bytes = align_down(int(frac * last_level_cache_bytes()))
        if USED_BYTES < size_bytes <= min(ARENA_BYTES, memory_bytes):
            yield DECODE, Traffic(TINY_TASK_BYTES, size_bytes - USED_BYTES, size_bytes)


def with_overhead(profile: HardwareProfile, kernels: Kernels, visits: Visits) -> HardwareProfile:
    """The profile with what the engine takes on the CPU: of a task, a sweep, a sequence, a call."""
    sweeps, prompts = visits.sweeps_s, visits.prompt_costs
    seconds = {case: sweeps[case, SMALL_UNITS] for case in CASES}
    call_s = _call_s(sweeps) if kernels.record() is not None else 0.0
    kernel_s = call_s or profile.cpu.kernel_s
    # Where nothing can be replayed, every kernel is counted with `kernel_s`.
    kernels_s = 0.0 if call_s else LAYER_KERNELS * kernel_s
    task, joined_s = _task_times(sweeps, kernels_s), _joined_task_s(sweeps, kernels_s)
    # All but the first of many sequences find what Python needs in the caches, in any sweep.
    more_s = sweeps[MANY_DECODE, IN_CACHE] - sweeps[DECODE, IN_CACHE]
    sequence_s = max(more_s, 0.0) / (MANY - FEW)
    beside_s = seconds[BY_UNIT] - TASKS * task.small_s - FEW * sequence_s
    tiny_s = min(task.tiny_s, task.small_s)
    beside_cached_s = sweeps[BY_UNIT, IN_CACHE] - TASKS * tiny_s - FEW * sequence_s
    cached_frac = min(max(beside_cached_s / beside_s, LEAST_FRAC), 1.0)
    other_s = TASKS * joined_s + FEW * sequence_s + cached_frac * OTHER_KERNELS * kernel_s
    cpu = replace(
        profile.cpu,
        task_s=task.small_s,
        tiny_task_s=tiny_s,
        large_task_s=max(task.large_s, task.small_s),
        joined_task_s=joined_s or None,
        call_s=call_s,
        sweep_s=max(beside_s - OTHER_KERNELS * kernel_s, 0.0),
        sequence_s=sequence_s,
        micro_batch_s=_micro_batch_s(seconds, task.small_s, kernel_s),
        prompt_s=max(prompts.sequence_s - sequence_s, 0.0),
        row_s=prompts.row_s,
        cached_overhead_frac=cached_frac,
        sweep_by_bytes_s=_by_bytes(sweeps, other_s),
        sampled_values_per_s=_sampled_values_per_s(),
    )
    return replace(profile, cpu=cpu)


def _by_bytes(sweeps: _Sweeps, other_s: float) -> Curve:
    """A sweep less `other_s` by the bytes that it uses: one that uses more takes no less."""
    seconds = {
        USED_BYTES + traffic.sweep_bytes: max(sweep_s - other_s, LEAST_FRAC * sweep_s)
        for (case, traffic), sweep_s in sweeps.items()
        if case == DECODE and traffic.task_bytes == TINY_TASK_BYTES
    }
    sizes = sorted(seconds)
    return Curve(tuple(sizes), tuple(accumulate(map(seconds.__getitem__, sizes), max)))


class _TaskTimes(NamedTuple):
    """Of one task, by how much its weights push out of the caches."""

    tiny_s: float
    small_s: float
    large_s: float


def _task_times(sweeps: _Sweeps, kernels_s: float) -> _TaskTimes:
    """What a layer adds beside `kernels_s`, shared by its tasks."""
    beside_s = (
        _layer_s(sweeps, BY_UNIT, DEEP_BY_UNIT, traffic) - kernels_s
        for traffic in (IN_CACHE, SMALL_UNITS, LARGE_UNITS)
    )
    return _TaskTimes(*(max(layer_s, 0.0) / LAYER_TASKS for layer_s in beside_s))


def _joined_task_s(sweeps: _Sweeps, kernels_s: float) -> float:
    """What a unit adds to a task that has others already."""
    layer_s = _layer_s(sweeps, DECODE, DEEP_DECODE, IN_CACHE) - kernels_s
    return max(layer_s, 0.0) / LAYER_TASKS


def _call_s(sweeps: _Sweeps) -> float:
    """Of each kernel that is asked for and not replayed."""
    called_s = _layer_s(sweeps, PROMPT, DEEP_PROMPT) - _layer_s(sweeps, DECODE, DEEP_DECODE)
    return max(called_s, 0.0) / LAYER_KERNELS


def _micro_batch_s(seconds: Mapping[Case, float], task_s: float, kernel_s: float) -> float:
    """What a micro-batch adds to a sweep beside its tasks and their kernels."""
    more_s = (seconds[CUT_PROMPT] - seconds[PROMPT]) / (CUT_PROMPT.micro_batches - 1)
    more_s -= (SHALLOW * LAYER_TASKS + EMBED_TASKS) * task_s
    return max(more_s - (SHALLOW * LAYER_KERNELS + EMBED_KERNELS) * kernel_s, 0.0)


def _layer_s(sweeps: _Sweeps, shallow: Case, deep: Case, traffic: Traffic = SMALL_UNITS) -> float:
    """What a layer more adds to a sweep."""
    return (sweeps[deep, traffic] - sweeps[shallow, traffic]) / (deep.layers - shallow.layers)


def _sampled_values_per_s() -> float:
    """Logits a second that one thread checks and takes the likeliest tokens from."""
    rows = [Row(SamplingParams(), 0, (), ())] * 4
    small, large = (torch.rand(len(rows), width) for width in (VOCAB_SIZE, SAMPLED_VALUES))
    works = [partial(_checked_sample, x, rows) for x in (small, large)]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    small_s, large_s = (typical_s({None: work}, SAMPLING_BUDGET_S / 2)[None] for work in works)
    torch.set_num_threads(threads)
    extra_s = large_s - small_s
    return len(rows) * (SAMPLED_VALUES - VOCAB_SIZE) / max(extra_s, 1e-9)


def _checked_sample(logits: Tensor, rows: list[Row]) -> list[int]:
    """What an engine does with the logits of a sweep."""
    likeliest = likeliest_of(logits)
    assert are_finite(logits, likeliest)
    return [token for (token,) in sample_drafted(logits, likeliest, rows, [()] * len(rows))]
