"""An engine whose threads change between sweeps, over a KV cache that is taken as filled."""

from __future__ import annotations

import statistics
from array import array
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.engine_turns import engine_of
from lm_offload import LLM, SamplingParams
from lm_offload.engine.engine import Engine
from lm_offload.plan import Plan, ThreadPlan
from lm_offload.sequence import Sequence

if TYPE_CHECKING:
    from lm_offload.kernels.base import Kernels

GEN_LEN = 128
SWEEPS, WARM_UP = 4, 2  # at a time with one setting; the first ones record what the others replay


class SwitchedEngine:
    """An engine with so many readers whose threads change between sweeps."""

    def __init__(self, llm: LLM, plan: Plan, readers: int, batch: int, context: int) -> None:
        self._kernels, self._shape = SwitchedKernels(llm.kernels), (batch, context)
        plan = replace(plan, read_concurrency=readers)
        self._context = engine_of(llm, plan, kernels=self._kernels)

    def __enter__(self) -> SwitchedEngine:
        self._engine = self._context.__enter__()
        decode_s(self._engine, *self._shape)  # starts threads, touches the ring
        return self

    def __exit__(self, *error: Any) -> None:
        self._context.__exit__(*error)

    def sweep_s(self, threads: ThreadPlan) -> float:
        """Mean seconds of some sweeps with these threads."""
        self._kernels.use(threads)
        self._engine.machinery.runner.forget()
        return decode_s(self._engine, *self._shape)


class SwitchedKernels:
    """Kernels whose threads change between sweeps."""

    def __init__(self, kernels: Kernels) -> None:
        self._all = self._now = kernels

    def use(self, threads: ThreadPlan) -> None:
        """What `build_cpu_machinery` does with a plan's threads."""
        torch.set_num_threads(threads.sampling)
        self._now = self._all.with_threads(threads.compute, threads.attention)

    def with_threads(self, compute: int, attention: int) -> SwitchedKernels:
        """Itself: `use` has the say."""
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._now, name)


def decode_s(engine: Engine, batch: int, context: int) -> float:
    """Mean seconds of some sweeps; the first ones still find what was read before a change."""
    seconds = []
    for _ in range(SWEEPS):
        if not engine.has_work:
            engine.add(filled_sequences(batch, context))
        engine.records.clear()
        engine.step()
        seconds.append(engine.records[-1].time.total_s)
    return statistics.mean(seconds[WARM_UP:])


def filled_sequences(batch: int, context: int) -> list[Sequence]:
    """Sequences that are taken to be prefilled but for their last token."""
    params = SamplingParams(max_tokens=GEN_LEN, ignore_eos=True)
    prompt = array("i", [1] * context)
    return [Sequence(index, prompt, params, num_computed=context - 1) for index in range(batch)]
