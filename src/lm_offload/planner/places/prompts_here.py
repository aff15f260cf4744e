"""Whether a device attends to prompts whose keys and values lie in host memory.

They are there when they are made, so nothing has to come back from the CPU. One layer's keys and
values of the prompts of a sweep need room, in what the weights have left.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from lm_offload.planner.costs.device_memory import attention_scratch_bytes
from lm_offload.planner.costs.memory import Sizes, kv_bytes_of
from lm_offload.planner.costs.model_sizes import ModelSizes
from lm_offload.planner.costs.sweep_shape import SweepShape
from lm_offload.planner.places.candidate import Candidate, Memory
from lm_offload.planner.request import Request
from lm_offload.planner.sweeps.mean_sweeps import mean_prefill
from lm_offload.quant.kv_format import BLOCK_TOKENS
from lm_offload.units import align_up

PROMPT_CACHE = "prompt cache"
GAIN = 1.02  # of a sweep of prompts; less is not worth the memory

SweepSeconds = Callable[[Candidate, SweepShape], float]


def with_prompts_here(request: Request, candidate: Candidate, sweep_s: SweepSeconds) -> Candidate:
    """`candidate` with prompts attended to on the device, if that is faster and has room."""
    device, sizes = candidate.device, candidate.sizes
    if device is None or request.device is None or not _can_be(candidate):
        return candidate
    rows = _memory(candidate.model, sizes)
    left_bytes = request.device.budget_bytes - candidate.peak_bytes["gpu"]
    if sum(size_bytes for _, size_bytes in rows) > left_bytes:
        return candidate
    memory = (*device.other_memory, *rows)
    blocks = prompt_blocks(sizes)
    here = replace(candidate, device=replace(device, other_memory=memory, prompt_blocks=blocks))
    count = min(sizes.max_sequences, len(request.workload.prompt_lens))
    shape = mean_prefill(request.workload, sizes, count).shape
    return here if GAIN * sweep_s(here, shape) < sweep_s(candidate, shape) else candidate


def prompt_blocks(sizes: Sizes) -> int:
    """Enough for the rows of a sweep, the last block of each sequence being filled in part."""
    sequences = min(sizes.max_sequences, sizes.sweep_tokens)
    return min(-(-sizes.sweep_tokens // BLOCK_TOKENS) + sequences, sizes.sweep_tokens)


def _memory(model: ModelSizes, sizes: Sizes) -> Memory:
    here = replace(sizes, kv_blocks=prompt_blocks(sizes))
    return (
        (PROMPT_CACHE, align_up(kv_bytes_of(model, here.kv_blocks, 1))),
        ("prompt scratch", align_up(attention_scratch_bytes(model, here))),
    )


def _can_be(candidate: Candidate) -> bool:
    """One device, and the CPU attends to all and does nothing else."""
    device = candidate.device
    if device is None or device.prompt_blocks or device.stages or device.in_place:
        return False
    return candidate.sizes.attention == "cpu" and not candidate.sizes.in_place_rows
