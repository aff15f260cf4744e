"""What a row of a prompt costs the engine beside its kernels: index tensors, angles, token ids."""

from __future__ import annotations

from array import array
from collections import defaultdict
from contextlib import AbstractContextManager, ExitStack
from statistics import median

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

FEW, MANY = BLOCK_TOKENS, MAX_POSITIONS - 1  # rows of a prompt, all of it in one sweep
SWEEPS, FIRST_SWEEPS = 20, 2  # of each


def measure_row_s(
    profile: HardwareProfile, kernels: Kernels, memory_bytes: int, traffic: Traffic
) -> float:
    """Seconds that a row more of a prompt adds to a sweep beside its tasks.

    `memory_bytes` bound what is read for `traffic`.
    """
    reads = MemoryReads(kernels.threads, memory_bytes)
    beside_s: dict[int, list[float]] = defaultdict(list)
    with ExitStack() as stack:
        engines = {
            rows: stack.enter_context(_engine(rows, profile, kernels, reads))
            for rows in (FEW, MANY)
        }
        for index in range(-FIRST_SWEEPS, SWEEPS):
            for rows, engine in engines.items():
                reads.begin(traffic)
                seconds = _beside_tasks_s(engine, rows)
                if index >= 0:
                    beside_s[rows].append(seconds)
    return max(median(beside_s[MANY]) - median(beside_s[FEW]), 0.0) / (MANY - FEW)


def _engine(
    rows: int, profile: HardwareProfile, kernels: Kernels, reads: MemoryReads
) -> AbstractContextManager[Engine]:
    return empty_engine(Case(1, rows=rows), Workload((rows,), (1,)), profile, kernels, reads)


def _beside_tasks_s(engine: Engine, rows: int) -> float:
    """Of one sweep over a prompt of its own, which ends with its first token."""
    params = SamplingParams(max_tokens=1, ignore_eos=True)
    engine.add([Sequence(0, array("i", [1] * rows), params)])
    engine.step()
    return engine.records[-1].time.overhead_s
