"""Seconds in which rows move the states of one recurrent layer on."""

from __future__ import annotations

from lm_offload.arch.config import ModelConfig
from lm_offload.arch.recurrent import F32_BYTES
from lm_offload.hardware.attention_rates import HeadShape
from lm_offload.hardware.processor import Processor
from lm_offload.planner.costs.sweep_shape import Piece
from lm_offload.quant.format import Format


def states_s(
    config: ModelConfig, kv_format: Format, processor: Processor, piece: Piece, most: int
) -> float:
    """States are read and written once in each micro-batch of at most `most` rows.

    As it was measured by rows of a sequence in a micro-batch; else `_unmeasured_s`.
    """
    assert config.recurrent is not None
    values = piece.sequences * config.recurrent.matrix_floats
    curve = processor.state_values_per_s
    if curve is None:
        return _unmeasured_s(config, kv_format, processor, piece, most)
    whole, rest = divmod(piece.rows, most)
    rows = {most: whole, rest: 1}
    return sum(count * values * at / curve.at(at) for at, count in rows.items() if at)


def _unmeasured_s(
    config: ModelConfig, kv_format: Format, processor: Processor, piece: Piece, most: int
) -> float:
    """At the memory's rate; what rows compute with a state lies in caches, as with attention of
    prompts, and is taken to be as fast.
    """
    shape = config.recurrent
    assert shape is not None
    values = piece.sequences * shape.matrix_floats
    heads = HeadShape(config.head_dim, config.num_heads // config.num_kv_heads)
    flops = shape.flops_per_value * piece.rows * values
    computed_s = processor.prefill_attention_s(kv_format, heads, piece.rows, flops)
    moved_bytes = 2 * F32_BYTES * values * -(-piece.rows // most)
    return max(moved_bytes / processor.memory_bytes_per_s, computed_s)
