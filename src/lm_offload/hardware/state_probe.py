"""The gated delta rule of recurrent layers: how fast rows of a sequence move its state on."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from lm_offload.hardware.curve import Curve
from lm_offload.hardware.product_probe import work_s
from lm_offload.hardware.replayed_call import replay_of
from lm_offload.hardware.timing import typical_s
from lm_offload.kernels.base import Kernels
from lm_offload.micro_batch import MicroBatch
from lm_offload.storage.arena import Arena

KEY_HEADS, HEADS, DIM = 16, 32, 128  # of Qwen3-Next
CHANNELS = (2 * KEY_HEADS + HEADS) * DIM
STATE_VALUES = HEADS * DIM * DIM
F32_BYTES = torch.float32.itemsize


def measure_states(
    kernels: Kernels, arena: Arena, rows: Sequence[int], kernel_s: float, budget_s: float
) -> Curve | None:
    """Values of a state times rows a second, by rows of a sequence in a call.

    Each call finds the state of another layer; `kernel_s` is taken off. None where `arena` is too
    small for one.
    """
    layers = arena.size_bytes // (F32_BYTES * STATE_VALUES)
    if not layers:
        return None
    states = arena.view(0, torch.float32, (layers, HEADS, DIM, DIM)).zero_()
    works = {count: state_work(kernels, states, count) for count in rows}
    seconds = typical_s(works, budget_s)
    rates = {
        float(count): count * STATE_VALUES / work_s(s, kernel_s) for count, s in seconds.items()
    }
    return Curve.through(rates)


def state_work(kernels: Kernels, states: Tensor, rows: int) -> Callable[[], None]:
    """A function that moves the next of `states` on; by one row it is replayed, as in decode."""
    batch = _batch(rows)
    assert batch.states is not None
    slot, endless = batch.states, itertools.cycle(range(len(states)))
    x, gates = torch.randn(rows, CHANNELS), torch.randn(2, rows, KEY_HEADS, HEADS // KEY_HEADS)
    factors, out = torch.zeros(HEADS), torch.empty(rows, HEADS * DIM)

    def move(on: Kernels) -> None:
        on.gated_delta(x, gates[0], gates[1], factors, factors, states, batch, out)

    replay = replay_of(kernels, move) if rows == 1 else None
    call = partial(move, kernels) if replay is None else partial(replay, 0, 0)

    def work() -> None:
        slot.fill_(next(endless))
        call()

    return work


def _batch(rows: int) -> MicroBatch:
    """Rows of one sequence that has begun before."""
    return MicroBatch(
        start=0,
        stop=rows,
        positions=torch.arange(1, rows + 1),
        query_starts=torch.tensor([0, rows], dtype=torch.int32),
        context_lens=torch.tensor([rows + 1], dtype=torch.int32),
        block_tables=torch.zeros(1, 1, dtype=torch.int32),
        slots=torch.zeros(rows, dtype=torch.int64),
        states=torch.zeros(1, dtype=torch.int32),
    )
