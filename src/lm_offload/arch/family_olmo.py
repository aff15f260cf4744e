"""OLMo 2, OLMo 3, OLMoE and FlexOlmo, and EXAONE 4, which normalises where OLMo 2 does."""

from __future__ import annotations

from dataclasses import replace

from lm_offload.arch.common import (
    Defaults,
    parse_decoder,
    parse_window,
    with_windows,
)
from lm_offload.arch.experts import (
    Choice,
    Groups,
    typed_dense,
    with_dense_layers,
    with_experts,
    with_groups,
)
from lm_offload.arch.fields import Fields
from lm_offload.arch.local_rope import with_local_rope
from lm_offload.arch.shapes import ModelConfig


def parse_olmo2(fields: Fields) -> ModelConfig:
    """OLMo 2: norms of what blocks add; queries and keys normalised, all heads together."""
    return replace(_parse_olmo(fields, 2048), pre_norms=False, post_norms=True)


def parse_olmo3(fields: Fields) -> ModelConfig:
    """OLMo 3: a window in three of four layers, whose rope is never stretched."""
    fields = Fields({"rope_theta": 500_000.0, **fields.raw}, fields.where)
    plain = dict.fromkeys(("rope_scaling", "rope_parameters"))  # read by with_local_rope
    config = parse_olmo2(Fields({**fields.raw, **plain}, fields.where))
    sliding = [(layer + 1) % 4 != 0 for layer in range(config.num_layers)]
    config = with_windows(config, fields, parse_window(fields, 4096), sliding)
    theta = fields.number("rope_theta", above=1)
    return with_local_rope(config, fields, theta, theta)


def parse_olmoe(fields: Fields) -> ModelConfig:
    """OLMoE: a router and experts instead of one MLP, norms before both blocks."""
    config = with_experts(_parse_olmo(fields, 4096), fields, "num_experts", Choice(64, 8))
    return replace(config, scaled_to_one=fields.flag("norm_topk_prob", False))


def parse_flex_olmo(fields: Fields) -> ModelConfig:
    """FlexOlmo: OLMo 2 with experts, which read hidden states as they are."""
    fields = Fields({"rope_theta": 500_000.0, "eos_token_id": 100_257, **fields.raw}, fields.where)
    config = with_experts(_parse_olmo(fields, 4096, 1e-6), fields, "num_experts", Choice(7, 5))
    return replace(
        config,
        scaled_to_one=fields.flag("norm_topk_prob", False),
        pre_norms=False,
        post_norms=True,
        summed_experts=True,
    )


def parse_exaone4(fields: Fields) -> ModelConfig:
    """EXAONE 4: queries and keys normalised by head, norms of what blocks add."""
    config = _parse_exaone(fields, Defaults(2048, bos=0, eos=(2,), kv_heads=32, norm_eps=1e-5))
    return replace(config, pre_norms=False, post_norms=True)


def parse_exaone_moe(fields: Fields) -> ModelConfig:
    """K-EXAONE: EXAONE 4 with norms in front of blocks and experts as those of GLM-4.5."""
    config = _parse_exaone(fields, Defaults(2048, bos=1, eos=(53,), kv_heads=32, norm_eps=1e-5))
    config = with_experts(config, fields, "num_experts", Choice(64, 8))
    narrow = fields.integer("moe_intermediate_size", 1024)
    config = with_dense_layers(config, typed_dense(config, fields), narrow)
    return replace(
        with_groups(config, fields, Groups(1, 1)),
        shared_size=narrow * fields.integer("num_shared_experts", 1),
        scaled_to_one=fields.flag("norm_topk_prob", True),
        routed_scale=fields.number("routed_scaling_factor", 2.5),
        choice_bias=True,
    )


def _parse_exaone(fields: Fields, defaults: Defaults) -> ModelConfig:
    """Queries and keys normalised by head; beside a window only its layers rotate."""
    fields.must_be("attention_bias", False)
    config = parse_decoder(fields, defaults)
    window = parse_window(fields, 4096)
    period = fields.get("sliding_window_pattern", 4)
    period = len(period) if isinstance(period, str) else period
    period = Fields({"sliding_window_pattern": period}, fields.where).integer(
        "sliding_window_pattern", minimum=0
    )
    sliding = [
        window is not None and period > 0 and (layer + 1) % period != 0
        for layer in range(config.num_layers)
    ]
    config = with_windows(config, fields, window, sliding)
    layers = (
        replace(layer, rope_index=None if window and not layer.window else 0)
        for layer in config.layers
    )
    return replace(config, layers=tuple(layers), qk_norm=True)


def _parse_olmo(fields: Fields, max_positions: int, norm_eps: float = 1e-5) -> ModelConfig:
    fields.must_be("clip_qkv")
    bias = fields.flag("attention_bias", False)
    config = parse_decoder(fields, Defaults(max_positions, eos=(50279,), norm_eps=norm_eps))
    return replace(config, qkv_bias=bias, output_bias=bias, qk_norm_whole=True)
