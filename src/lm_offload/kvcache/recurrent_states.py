"""What recurrent layers keep of sequences: a slot for each in flight, of one size at any length.

A sequence has the slot of its lane. It is not cleared: rows that begin a sequence do not read it.
"""

from __future__ import annotations

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
                memory.view(start + matrices_bytes, torch.float32, inputs).zero_(),
                memory.view(start, torch.float32, matrices).zero_(),
            )
    return found
