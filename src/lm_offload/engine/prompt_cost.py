"""What prompts cost the engine beside its tasks: index tensors, angles, token ids, blocks."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Mapping
from collections.abc import Sequence as Items
from contextlib import ExitStack
from statistics import median
from typing import NamedTuple

from lm_offload.engine.empty_sweeps import Case, empty_engine
from lm_offload.engine.engine import Engine
from lm_offload.engine.memory_traffic import MemoryReads, Traffic
from lm_offload.engine.tiny_model import MAX_POSITIONS
from lm_offload.hardware.profile import HardwareProfile
from lm_offload.kernels.base import Kernels
from lm_offload.plan import Workload
from lm_offload.quant.kv_format import BLOCK_TOKENS
from lm_offload.sampling import SamplingParams
from lm_offload.sequence import Sequence

SHORT, LONG = Case(1, rows=BLOCK_TOKENS), Case(1, rows=MAX_POSITIONS - 1)
MANY = Case(1, sequences=16, rows=BLOCK_TOKENS)
FIRST_SWEEPS = 2  # of each, that do not count


class PromptCosts(NamedTuple):
    """Seconds of a sweep for each row of a prompt, and for each sequence that begins in it."""

    row_s: float
    sequence_s: float


def sampled_prompts_s(
    count: int, profile: HardwareProfile, kernels: Kernels, memory_bytes: int, traffic: Traffic
) -> dict[Case, list[float]]:
    """What sweeps that take whole prompts take beside their tasks, so many of each case.

    `memory_bytes` bound what is read for `traffic`.
    """
    reads = MemoryReads(kernels.threads, memory_bytes)
    taken_s: dict[Case, list[float]] = defaultdict(list)
    with ExitStack() as stack:
        engines = {
            case: stack.enter_context(empty_engine(case, _workload(case), profile, kernels, reads))
            for case in (SHORT, LONG, MANY)
        }
        for index in range(-FIRST_SWEEPS, count):
            for case, engine in engines.items():
                reads.begin(traffic)
                seconds = _beside_tasks_s(engine, case)
                if index >= 0:
                    taken_s[case].append(seconds)
    return taken_s


def prompt_costs(samples: Mapping[Case, Items[float]]) -> PromptCosts:
    """What rows and prompts add, by the typical sweep of each case."""
    seconds = {case: median(values) for case, values in samples.items()}
    row_s = max(seconds[LONG] - seconds[SHORT], 0.0) / (LONG.rows - SHORT.rows)
    more_s = seconds[MANY] - seconds[SHORT]
    of_rows_s = (MANY.sequences - 1) * (MANY.rows - 1) * row_s
    return PromptCosts(row_s, max(more_s - of_rows_s, 0.0) / (MANY.sequences - 1))


def _workload(case: Case) -> Workload:
    return Workload((case.rows,) * case.sequences, (1,) * case.sequences)


def _beside_tasks_s(engine: Engine, case: Case) -> float:
    """Of one sweep over prompts of its own, which end with their first tokens."""
    params = SamplingParams(max_tokens=1, ignore_eos=True)
    prompts = (array("i", [1] * case.rows) for _ in range(case.sequences))
    engine.add(Sequence(index, prompt, params) for index, prompt in enumerate(prompts))
    engine.step()
    return engine.records[-1].time.overhead_s
