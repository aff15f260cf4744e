"""What recurrent layers keep of sequences: a slot for each in flight, of one size at any length.

A sequence has the slot of its lane. It is not cleared: rows that begin a sequence do not read it.
Slots of another memory hold states behind prefixes (kvcache/kept_states.py says which); they are
copied, layer by layer, to the slot of a sequence that goes on there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from lm_offload.arch.recurrent import F32_BYTES

if TYPE_CHECKING:
    from torch import Tensor

    from lm_offload.arch.config import ModelConfig
    from lm_offload.storage.arena import Memory


class State(NamedTuple):
    """Of one layer, f32."""

    inputs: Tensor  # [slots, taps - 1, channels], the last ones of the convolution, oldest first
    matrices: Tensor  # [slots, heads, key_dim, value_dim]


class RecurrentStates:
    """The states of each recurrent layer by its number: of sequences in flight, and kept ones."""

    def __init__(self, in_flight: Mapping[int, State], kept: Mapping[int, State]) -> None:
        self.in_flight = in_flight
        self._kept = kept

    def load(self, layer: int, copies: Iterable[tuple[int, int]]) -> None:
        """From the slot of a kept state to that of a sequence, each pair of `copies`."""
        for kept, lane in copies:
            _copy(self._kept[layer], kept, self.in_flight[layer], lane)

    def save(self, layer: int, copies: Iterable[tuple[int, int]]) -> None:
        """From the slot of a sequence to that of a kept state, each pair of `copies`."""
        for lane, kept in copies:
            _copy(self.in_flight[layer], lane, self._kept[layer], kept)


def _copy(source: State, from_slot: int, target: State, to_slot: int) -> None:
    for part, whole in zip(source, target, strict=True):
        whole[to_slot].copy_(part[from_slot])


def states_in(memory: Memory, config: ModelConfig, slots: int) -> dict[int, State]:
    """The states of each recurrent layer in memory of `slots` times config.state_bytes."""
    import torch

    shape = config.recurrent
    assert shape is not None
    inputs = (slots, shape.taps - 1, shape.channels)
    matrices = (slots, shape.heads, shape.key_dim, shape.value_dim)
    matrices_bytes = slots * shape.matrix_floats * F32_BYTES
    found: dict[int, State] = {}
    for layer, place in enumerate(config.layers):
        if place.recurrent:
            start = len(found) * slots * shape.state_bytes
            found[layer] = State(
                memory.view(start + matrices_bytes, torch.float32, inputs),
                memory.view(start, torch.float32, matrices),
            )
    return found
