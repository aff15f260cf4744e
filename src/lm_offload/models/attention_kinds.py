"""Which function attends in a layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from lm_offload.models.blocks import attention
from lm_offload.models.gated_attention import gated_attention, scored_attention
from lm_offload.models.shared_attention import shared_attention

if TYPE_CHECKING:
    from torch import Tensor

    from lm_offload.arch.config import ModelConfig
    from lm_offload.micro_batch import MicroBatch
    from lm_offload.models.base import Context, ModelFunctions, Weights
    from lm_offload.quant.kv_blocks import Blocks


class Attention(Protocol):
    """See `blocks.attention`."""

    def __call__(
        self,
        model: ModelFunctions,
        ctx: Context,
        layer: int,
        weights: Weights,
        hidden: Tensor,
        batch: MicroBatch,
        keys: Blocks,
        values: Blocks,
    ) -> None:
        """hidden[T, H] += attention block."""


def attention_of(config: ModelConfig, layer: int) -> Attention:
    """With a gate, over the keys and values of another layer, or neither."""
    if config.attention_gate:
        return scored_attention if config.gate_apart else gated_attention
    return attention if config.layers[layer].kv_of is None else shared_attention
