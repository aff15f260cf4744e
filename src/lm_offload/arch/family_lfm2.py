"""LFM2: most layers are short convolutions, some attend; an MLP or experts in each."""

from __future__ import annotations

from dataclasses import replace

from lm_offload.arch.common import Defaults, parse_decoder
from lm_offload.arch.experts import Choice, with_dense_layers, with_experts
from lm_offload.arch.fields import Fields
from lm_offload.arch.recurrent import MOST_TAPS, convolution_shape
from lm_offload.arch.shapes import LayerConfig, ModelConfig

_DEFAULTS = Defaults(128_000, bos=1, eos=(2,), kv_heads=8, tied=True)
_KINDS = ("conv", "full_attention")


def parse_lfm2(fields: Fields) -> ModelConfig:
    """The dense models."""
    fields = Fields({"intermediate_size": 12_288, **fields.raw}, fields.where)
    if fields.get("block_ff_dim") is not None:
        given = {"intermediate_size": fields.integer("block_ff_dim")}
        fields = Fields({**fields.raw, **given}, fields.where)
    config = _parse(fields)
    if not fields.flag("block_auto_adjust_ff_dim", True):
        return config
    return replace(config, intermediate_size=_adjusted(fields, config.intermediate_size))


def parse_lfm2_moe(fields: Fields) -> ModelConfig:
    """Experts behind the first layers, chosen by sigmoids and maybe a bias."""
    fields = Fields({"intermediate_size": 7168, **fields.raw}, fields.where)
    config = with_experts(_parse(fields), fields, "num_experts", Choice(32, 4))
    first = fields.integer("num_dense_layers", 2, minimum=0)
    if first >= config.num_layers:
        raise fields.wrong("num_dense_layers", f"an integer from 0 to {config.num_layers - 1}")
    narrow = fields.integer("moe_intermediate_size", 1792)
    dense = [layer < first for layer in range(config.num_layers)]
    return replace(
        with_dense_layers(config, dense, narrow),
        scaled_to_one=fields.flag("norm_topk_prob", True),
        routed_scale=fields.number("routed_scaling_factor", 1.0),
        choice_bias=fields.flag("use_expert_bias", True),
    )


def _parse(fields: Fields) -> ModelConfig:
    """What both share."""
    known = {
        "rope_theta": 1e6,
        **fields.raw,
        "rms_norm_eps": fields.number("norm_eps", 1e-5),
        "tie_word_embeddings": fields.flag(
            "tie_embedding", fields.flag("tie_word_embeddings", True)
        ),
    }
    config = parse_decoder(Fields(known, fields.where), _DEFAULTS)
    taps = fields.integer("conv_L_cache", 3, minimum=2, maximum=MOST_TAPS)
    convolves = _convolves(fields, config.num_layers)
    shape = convolution_shape(config.hidden_size, taps, fields.flag("conv_bias", False))
    return replace(
        config,
        layers=tuple(LayerConfig(recurrent=each) for each in convolves),
        recurrent=shape if any(convolves) else None,
        qk_norm=True,
    )


def _convolves(fields: Fields, count: int) -> list[bool]:
    """Which layers do: by their kinds, or all that are not listed as attending."""
    attend = fields.get("full_attn_idxs", list(range(count)))
    if not isinstance(attend, list):
        raise fields.wrong("full_attn_idxs", "a list of numbers of layers")
    kinds = [_KINDS[layer in attend] for layer in range(count)]
    if fields.get("layer_types") is not None:
        kinds = fields.kinds("layer_types", count, _KINDS)
    if "full_attention" not in kinds:
        raise fields.wrong("layer_types", "a list with a layer of full_attention")
    return [kind == "conv" for kind in kinds]


def _adjusted(fields: Fields, size: int) -> int:
    """Two thirds of the width, times a factor, rounded up to whole multiples."""
    size, factor = int(2 * size / 3), fields.optional_number("block_ffn_dim_multiplier", 1.0)
    if factor is None:
        return size
    step = fields.integer("block_multiple_of", 256)
    return -(-int(factor * size) // step) * step
