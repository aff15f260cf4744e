"""What the engine costs beside its kernels, measured on models whose kernels have nothing to do.

::

    sweep = sweep_s + sequences * sequence_s + tasks * task_s + kernels * call_s

with 2 tasks and 14 kernels for each layer, 3 tasks and 4 kernels around them. A layer of decode is
replayed: it has tasks, but no calls of kernels. Two depths of decode and of prompts and two batches
give the four unknowns.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from lm_offload.engine.empty_sweeps import Case, typical_sweeps_s
from lm_offload.engine.tiny_model import VOCAB_SIZE
from lm_offload.hardware.profile import HardwareProfile
from lm_offload.hardware.timing import typical_s
from lm_offload.kernels.base import Kernels
from lm_offload.sampling import SamplingParams
from lm_offload.sampling.draw import Row, sample

SHALLOW, DEEP = 2, 10
FEW, MANY = 1, 16  # sequences
CHUNK_TOKENS = 2  # of a prompt in a sweep: more than one row is no decode
LAYER_TASKS, LAYER_KERNELS = 2, 14
OTHER_TASKS, OTHER_KERNELS = 3, 4  # embedding, final norm with its gather, head
SAMPLED_VALUES = 1 << 17
SAMPLING_BUDGET_S = 0.02

DECODE, DEEP_DECODE, MANY_DECODE = Case(SHALLOW), Case(DEEP), Case(SHALLOW, MANY)
PROMPT, DEEP_PROMPT = Case(SHALLOW, rows=CHUNK_TOKENS), Case(DEEP, rows=CHUNK_TOKENS)
CASES = (DECODE, DEEP_DECODE, MANY_DECODE, PROMPT, DEEP_PROMPT)


def with_overhead(profile: HardwareProfile, kernels: Kernels, memory_bytes: int) -> HardwareProfile:
    """The profile with what the engine takes on the CPU: of a task, a sweep, a sequence, a call.

    `memory_bytes` bound what is read between tasks.
    """
    seconds = typical_sweeps_s(CASES, profile, kernels, memory_bytes)
    layer_s = (seconds[DEEP_DECODE] - seconds[DECODE]) / (DEEP - SHALLOW)
    called_layer_s = (seconds[DEEP_PROMPT] - seconds[PROMPT]) / (DEEP - SHALLOW)
    replays = kernels.record() is not None
    call_s = max(called_layer_s - layer_s, 0.0) / LAYER_KERNELS if replays else 0.0
    kernel_s = call_s or profile.cpu.kernel_s
    if not call_s:  # nothing can be replayed, and every kernel is counted with `kernel_s`
        layer_s -= LAYER_KERNELS * kernel_s
    task_s = max(layer_s, 0.0) / LAYER_TASKS
    sequence_s = max(seconds[MANY_DECODE] - seconds[DECODE], 0.0) / (MANY - FEW)
    others_s = (SHALLOW * LAYER_TASKS + OTHER_TASKS) * task_s + OTHER_KERNELS * kernel_s
    cpu = replace(
        profile.cpu,
        task_s=task_s,
        call_s=call_s,
        sweep_s=max(seconds[DECODE] - others_s - FEW * sequence_s, 0.0),
        sequence_s=sequence_s,
        sampled_values_per_s=_sampled_values_per_s(),
    )
    return replace(profile, cpu=cpu)


def _sampled_values_per_s() -> float:
    """Logits a second that one thread checks and takes the likeliest tokens from."""
    rows = [Row(SamplingParams(), 0, (), ())] * 4
    small, large = (torch.rand(len(rows), width) for width in (VOCAB_SIZE, SAMPLED_VALUES))
    works = {x.shape[1]: partial(_checked_sample, x, rows) for x in (small, large)}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    seconds = typical_s(works, SAMPLING_BUDGET_S)
    torch.set_num_threads(threads)
    extra_s = seconds[SAMPLED_VALUES] - seconds[VOCAB_SIZE]
    return len(rows) * (SAMPLED_VALUES - VOCAB_SIZE) / max(extra_s, 1e-9)


def _checked_sample(logits: Tensor, rows: list[Row]) -> list[int]:
    """What an engine does with the logits of a sweep."""
    assert bool(torch.isfinite(logits.amax(dim=-1)).all())
    return sample(logits, rows)
