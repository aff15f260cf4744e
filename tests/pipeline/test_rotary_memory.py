"""How much of rotary tables is there at once, against what plans count."""

from __future__ import annotations

import weakref
from collections import Counter

import pytest
from torch import Tensor

from lm_offload import LLM, SamplingParams
from lm_offload.demo import demo_path
from lm_offload.pipeline import sweep_inputs
from lm_offload.planner.costs.memory import F32_BYTES, SWEEPS_ALIVE

ROWS = 32  # of a prompt


class Alive:
    """Bytes of tensors that are there, and the most there ever were."""

    def __init__(self) -> None:
        self._bytes: Counter[int] = Counter()
        self.most_bytes = 0

    def add(self, x: Tensor) -> None:
        self._bytes[id(x)] = x.nbytes
        weakref.finalize(x, self._bytes.pop, id(x))
        self.most_bytes = max(self.most_bytes, self._bytes.total())


def test_tables_are_made_while_those_of_the_last_sweep_are_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    build, alive = sweep_inputs.build_sweep_input, Alive()

    def counted(*args, **kwargs):
        found = build(*args, **kwargs)
        for table in (x for rows in found.micro_batches for pair in rows.rotary for x in pair):
            alive.add(table)
        return found

    monkeypatch.setattr(sweep_inputs, "build_sweep_input", counted)
    with LLM(
        demo_path(), cpu_memory="64MiB", threads=1, speculation="off", prefix_sharing=False
    ) as llm:
        for _ in range(2):
            llm.generate([list(range(3, 3 + ROWS))], SamplingParams(max_tokens=1, ignore_eos=True))
        (rope,) = llm.files.config.ropes
    assert alive.most_bytes == SWEEPS_ALIVE * ROWS * rope.rotary_dim * F32_BYTES
