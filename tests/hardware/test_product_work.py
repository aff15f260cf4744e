"""Products that are timed: another matrix at each call, replayed where they can be."""

from __future__ import annotations

from typing import cast

import pytest
import torch

from lm_offload.hardware.memory_probe import probe_memory
from lm_offload.hardware.product_probe import PLAIN, matrices
from lm_offload.hardware.product_work import (
    LAYER_PRODUCTS,
    empty_call,
    measure_work_s,
    product_work,
)
from lm_offload.kernels.base import Kernels
from lm_offload.quant.format import parse_format
from lm_offload.units import MIB
from tests.hardware.probing import BUDGET_S


class Recorder:
    """Kernels and their recording at once: notes where inputs and outputs lie, and the shifts."""

    complete = True

    def __init__(self, records: bool) -> None:
        self.kernels = self
        self.records = records
        self.ends = set[tuple[int, int]]()
        self.weights = list[int]()
        self.shifts = list[tuple[int, int]]()

    def record(self) -> Recorder | None:
        return self if self.records else None

    def linear(self, x: torch.Tensor, weight: torch.Tensor, out: torch.Tensor) -> None:
        self.ends.add((x.data_ptr(), out.data_ptr()))
        self.weights.append(weight.data_ptr())

    def replay(self, weights_shift: int, cache_shift: int) -> None:
        self.shifts.append((weights_shift, cache_shift))


@pytest.mark.parametrize(("rows", "places"), [(1, 1), (15, 1), (16, LAYER_PRODUCTS)])
@pytest.mark.parametrize("records", [True, False])
def test_many_rows_come_from_other_places_at_each_call(
    rows: int, places: int, records: bool
) -> None:
    kernels = Recorder(records)
    weights = matrices(probe_memory(MIB), PLAIN, 128)
    work = product_work(cast("Kernels", kernels), weights, rows)
    for _ in range(3 * LAYER_PRODUCTS):
        work()
    assert len(kernels.ends) == places
    assert len(kernels.shifts) == (3 * LAYER_PRODUCTS if records else 0)


@pytest.mark.parametrize("name", ["bf16", "int4:64"])
def test_a_replay_is_told_where_the_next_matrix_lies(name: str) -> None:
    kernels, format = Recorder(True), parse_format(name)
    weights = matrices(probe_memory(MIB), format, 128)[:3]
    work = product_work(cast("Kernels", NotingPacked(kernels)), weights, 1)
    for _ in range(4):
        work()
    step = format.matrix_bytes(128, 128)
    assert kernels.shifts == [(0, 0), (step, 0), (2 * step, 0), (0, 0)]


class NotingPacked:
    """Records without a look at the weights."""

    complete = True

    def __init__(self, recorder: Recorder) -> None:
        self.kernels = self
        self.replay = recorder.replay

    def record(self) -> NotingPacked:
        return self

    def linear(self, x: object, weight: object, out: object) -> None:
        pass


def test_without_recordings_every_matrix_is_asked_for() -> None:
    kernels = Recorder(False)
    weights = matrices(probe_memory(MIB), PLAIN, 128)[:3]
    work = product_work(cast("Kernels", kernels), weights, 1)
    for _ in range(4):
        work()
    assert kernels.weights == [weights[at].data_ptr() for at in (0, 1, 2, 0)]


def test_a_work_takes_time(kernels: Kernels) -> None:
    empty_call(kernels)()
    assert 0 < measure_work_s(kernels, BUDGET_S) < 1
