"""AFMoE (Trinity of Arcee): gated attention with windows, experts whose sum is normalised."""

from __future__ import annotations

from dataclasses import replace

from lm_offload.arch.common import Defaults, parse_decoder, parse_window, with_windows
from lm_offload.arch.experts import Choice, with_dense_layers, with_experts
from lm_offload.arch.fields import Fields
from lm_offload.arch.shapes import ModelConfig


def parse_afmoe(fields: Fields) -> ModelConfig:
    """Norms around both blocks; only layers with a window are rotated."""
    _refuse_others(fields)
    config = parse_decoder(fields, Defaults(16_384, head_dim=128, norm_eps=1e-5))
    config = _with_experts(_with_layers(config, fields), fields)
    scale = config.hidden_size**0.5 if fields.flag("mup_enabled", False) else 1.0
    return replace(
        config,
        embed_scale=scale,
        qk_norm=True,
        post_norms=True,
        attention_gate=True,
        gate_apart=True,
    )


def _refuse_others(fields: Fields) -> None:
    fields.must_be("hidden_act", "silu")
    fields.must_be("attention_bias", False)
    fields.must_be("score_func", "sigmoid")
    fields.must_be("route_norm", True)
    fields.must_be("n_group", 1)
    fields.must_be("topk_group", 1)


def _with_layers(config: ModelConfig, fields: Fields) -> ModelConfig:
    period = fields.integer("global_attn_every_n_layers", 4)
    sliding = [(layer + 1) % period != 0 for layer in range(config.num_layers)]
    config = with_windows(config, fields, parse_window(fields, 1024), sliding)
    layers = (replace(it, rope_index=0 if it.window else None) for it in config.layers)
    return replace(config, layers=tuple(layers))


def _with_experts(config: ModelConfig, fields: Fields) -> ModelConfig:
    """Behind the first layers, and beside them one or more that every token uses."""
    config = with_experts(config, fields, "num_experts", Choice(64, 6))
    first = fields.integer("num_dense_layers", 1, minimum=0)
    if first >= config.num_layers:
        raise fields.wrong("num_dense_layers", f"an integer from 0 to {config.num_layers - 1}")
    narrow = fields.integer("moe_intermediate_size", 1408)
    dense = [layer < first for layer in range(config.num_layers)]
    return replace(
        with_dense_layers(config, dense, narrow),
        shared_size=narrow * fields.integer("num_shared_experts", 2),
        routed_scale=fields.number("route_scale", 1.0),
        choice_bias=True,
        summed_experts=True,
    )
