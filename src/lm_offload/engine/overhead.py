"""What the engine costs beside its kernels, measured on models whose kernels have nothing to do.

::

    sweep = sweep_s + sequences * sequence_s + tasks * task_s + kernels * kernel_s

with 2 tasks and 14 kernels for each layer, 3 tasks and 4 kernels around them. Two depths and two
batches give the three unknowns.
"""

from __future__ import annotations

import tempfile
import time
from array import array
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from lm_offload.engine.engine import Engine
from lm_offload.engine.machinery import build_machinery
from lm_offload.engine.model_files import open_model
from lm_offload.engine.planning import plan_for
from lm_offload.engine.tiny_model import VOCAB_SIZE, write_tiny_model
from lm_offload.hardware.profile import HardwareProfile
from lm_offload.hardware.timing import trimmed_mean, typical_s
from lm_offload.kernels.base import Kernels
from lm_offload.pipeline.trace import NullTrace
from lm_offload.plan import Workload
from lm_offload.sampling import SamplingParams
from lm_offload.sampling.draw import Row, sample
from lm_offload.sequence import Sequence
from lm_offload.units import MIB

SHALLOW, DEEP = 2, 10
FEW, MANY = 1, 16  # sequences
SWEEPS = 150
BUDGET_BYTES = 8 * MIB
LAYER_TASKS, LAYER_KERNELS = 2, 14
OTHER_TASKS, OTHER_KERNELS = 3, 4  # embedding, final norm with its gather, head
SAMPLED_VALUES = 1 << 17
SAMPLING_BUDGET_S = 0.02


def with_overhead(profile: HardwareProfile, kernels: Kernels) -> HardwareProfile:
    """The profile with `task_s`, `sweep_s`, `sequence_s` and `sampled_values_per_s` of the CPU."""
    shallow_s = _sweep_s(profile, kernels, SHALLOW, FEW)
    layer_s = (_sweep_s(profile, kernels, DEEP, FEW) - shallow_s) / (DEEP - SHALLOW)
    many_s = _sweep_s(profile, kernels, SHALLOW, MANY)
    kernel_s = profile.cpu.kernel_s
    task_s = max(layer_s - LAYER_KERNELS * kernel_s, 0.0) / LAYER_TASKS
    sequence_s = max(many_s - shallow_s, 0.0) / (MANY - FEW)
    others_s = SHALLOW * layer_s + OTHER_TASKS * task_s + OTHER_KERNELS * kernel_s
    sweep_s = max(shallow_s - others_s - FEW * sequence_s, 0.0)
    cpu = replace(
        profile.cpu,
        task_s=task_s,
        sweep_s=sweep_s,
        sequence_s=sequence_s,
        sampled_values_per_s=_sampled_values_per_s(),
    )
    return replace(profile, cpu=cpu)


def _sweep_s(profile: HardwareProfile, kernels: Kernels, layers: int, sequences: int) -> float:
    """A decode sweep of a tiny model, everything resident, from schedule to sampled tokens."""
    with tempfile.TemporaryDirectory() as folder:
        write_tiny_model(Path(folder), layers)
        files = open_model(folder)
        workload = Workload((1,) * sequences, (SWEEPS + 2,) * sequences)
        plan = plan_for([files], workload, profile, BUDGET_BYTES, kernels.threads)
        machinery = build_machinery(files, plan, kernels, NullTrace(), True, lambda *_: None)
        engine = Engine(machinery, (), lambda sequence, token: False)
        engine.add(_sequences(sequences))
        try:
            return trimmed_mean([_step_s(engine) for _ in range(SWEEPS)][2:])
        finally:
            machinery.close()


def _sequences(count: int) -> list[Sequence]:
    params = SamplingParams(max_tokens=SWEEPS + 2, ignore_eos=True)
    return [Sequence(index, array("i", [index]), params) for index in range(count)]


def _step_s(engine: Engine) -> float:
    start_s = time.perf_counter()
    engine.step()
    return time.perf_counter() - start_s


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
