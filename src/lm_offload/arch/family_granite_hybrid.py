"""Granite 4: state spaces and a few layers that attend, or these alone; with experts or without."""

from __future__ import annotations

from dataclasses import replace

from lm_offload.arch.experts import Choice, with_experts
from lm_offload.arch.families_llama import parse_granite
from lm_offload.arch.fields import Fields
from lm_offload.arch.recurrent import ScanShape
from lm_offload.arch.scan_fields import Keys, scan_sizes, step_limits
from lm_offload.arch.shapes import LayerConfig, ModelConfig

_KEYS = Keys(
    heads=("mamba_n_heads", 128),
    groups=("mamba_n_groups", 1),
    key_dim=("mamba_d_state", 256),
    taps=("mamba_d_conv", 4),
)
_RECURRENT = ("mamba", "linear_attention")  # as older configs call it, and newer ones
_ATTENDS = ("attention", "full_attention")


def parse_granitemoehybrid(fields: Fields) -> ModelConfig:
    """Granite 4: an expert that every token uses beside the others, or alone if there are none."""
    fields.must_be("hidden_act", "silu")
    fields.must_be("mlp_bias", False)
    fields.must_be("normalization_function", "rmsnorm")
    fields.must_be("position_embedding_type", "nope", "rope")
    norm_eps = fields.number("rms_norm_eps", 1e-6)
    config = parse_granite(fields)
    rotated = fields.get("position_embedding_type") == "rope"
    layers = _layers(fields, config.num_layers, rotated)
    config = replace(
        config,
        layers=layers,
        ropes=config.ropes if rotated else (),
        recurrent=_shape(fields, norm_eps) if any(it.recurrent for it in layers) else None,
    )
    return _with_mlps(config, fields)


def _with_mlps(config: ModelConfig, fields: Fields) -> ModelConfig:
    shared = fields.integer("shared_intermediate_size", 1024)
    if fields.integer("num_local_experts", 8, minimum=0) == 0:
        return replace(config, intermediate_size=shared)
    config = with_experts(config, fields, "num_local_experts", Choice(8, 2))
    return replace(config, shared_size=shared)


def _layers(fields: Fields, count: int, rotated: bool) -> tuple[LayerConfig, ...]:
    key = "layer_types" if fields.get("layer_types") is not None else "layers_block_type"
    kinds = fields.kinds(key, count, (*_RECURRENT, *_ATTENDS))
    if not {*kinds} & {*_ATTENDS}:
        raise fields.wrong(key, "a list with a layer of attention")
    rope = 0 if rotated else None
    return tuple(LayerConfig(rope_index=rope, recurrent=kind in _RECURRENT) for kind in kinds)


def _shape(fields: Fields, norm_eps: float) -> ScanShape:
    sizes = scan_sizes(fields, _KEYS)
    width = fields.integer("mamba_expand", 2) * fields.integer("hidden_size")
    given = fields.get("mamba_d_head", "auto")
    value_dim = width // sizes.heads if given == "auto" else fields.integer("mamba_d_head")
    if value_dim * sizes.heads != width:
        raise fields.wrong("mamba_d_head", f"{width} channels in {sizes.heads} heads")
    least, most = step_limits(fields, "time_step_limit")
    return ScanShape(
        *sizes[:3],
        value_dim,
        sizes.taps,
        least_step=least,
        most_step=most,
        norm_eps=norm_eps,
        bias=fields.flag("mamba_proj_bias", False),
        convolution_bias=fields.flag("mamba_conv_bias", True),
    )
