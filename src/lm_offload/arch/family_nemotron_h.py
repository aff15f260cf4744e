"""Nemotron-H and Nemotron 3: a layer is a state space, attention, an MLP or experts."""

from __future__ import annotations

from dataclasses import replace

from lm_offload.arch.common import Defaults, parse_decoder
from lm_offload.arch.experts import Choice, Groups, with_experts, with_groups
from lm_offload.arch.fields import Fields
from lm_offload.arch.recurrent import ScanShape
from lm_offload.arch.scan_fields import Keys, scan_sizes, step_limits
from lm_offload.arch.shapes import LayerConfig, ModelConfig

_KEYS = Keys(
    heads=("mamba_num_heads", 128),
    groups=("n_groups", 8),
    key_dim=("ssm_state_size", 128),
    taps=("conv_kernel", 4),
)
_DEFAULTS = Defaults(4096, bos=1, eos=(2,), kv_heads=8, head_dim=128)
_PATTERN = "hybrid_override_pattern"
_LETTERS = {"M": "linear_attention", "*": "full_attention", "-": "mlp", "E": "moe"}
_OLDER = {"mamba": "linear_attention", "attention": "full_attention"}
_LAYERS = {
    "linear_attention": LayerConfig(rope_index=None, recurrent=True, feeds=False),
    "full_attention": LayerConfig(rope_index=None, feeds=False),
    "mlp": LayerConfig(mixes=False, dense=True),
    "moe": LayerConfig(mixes=False),
}


def parse_nemotron_h(fields: Fields) -> ModelConfig:
    """Nemotron-H: no positions but those of the states; experts of Nemotron 3 without gates."""
    _refuse_others(fields)
    kinds = _kinds(fields)
    norm_eps = fields.number("layer_norm_epsilon", 1e-5)
    config = parse_decoder(_as_decoder(fields, len(kinds), norm_eps), _DEFAULTS)
    config = replace(
        config,
        layers=tuple(_LAYERS[kind] for kind in kinds),
        ropes=(),
        recurrent=_shape(fields, norm_eps),
        activation="relu2",
        gated=False,
    )
    return _with_experts(config, fields, "mlp" in kinds) if "moe" in kinds else config


def _refuse_others(fields: Fields) -> None:
    fields.must_be("mlp_hidden_act", "relu2")
    fields.must_be("mamba_hidden_act", "silu")
    fields.must_be("attention_bias", False)
    fields.must_be("mlp_bias", False)
    fields.must_be("n_shared_experts", 1)


def _as_decoder(fields: Fields, layers: int, norm_eps: float) -> Fields:
    """The keys that other types have, without what only they use."""
    if fields.integer("num_hidden_layers", layers) != layers:
        raise fields.wrong("num_hidden_layers", f"as many as there are kinds of layers, {layers},")
    left_out = {"num_attention_heads": 32, "intermediate_size": 21_504, "hidden_size": 4096}
    given = {key: value for key, value in fields.raw.items() if value is not None}
    unused = dict.fromkeys(("partial_rotary_factor", "rope_scaling", "rope_theta", "hidden_act"))
    known = {"num_hidden_layers": layers, "rms_norm_eps": norm_eps}
    return Fields({**left_out, **given, **unused, **known}, fields.where)


def _kinds(fields: Fields) -> list[str]:
    """Of each layer: a list of words, or a letter for each."""
    keys = ("layers_block_type", "layer_types")
    key = next((key for key in keys if fields.get(key) is not None), _PATTERN)
    given = fields.get(key)
    if isinstance(given, str) and key == _PATTERN:
        given = [_LETTERS.get(letter) for letter in given]
    listed = given if isinstance(given, list) else []
    words = [_OLDER.get(word, word) if isinstance(word, str) else None for word in listed]
    if not words or not {*words} <= {*_LAYERS}:
        raise fields.wrong(key, f"layers out of {(*_LAYERS,)}, or a pattern of {(*_LETTERS,)}")
    if not {"linear_attention", "full_attention"} <= {*words}:
        raise fields.wrong(key, "a layer of linear_attention and one of full_attention")
    return [word for word in words if word]


def _shape(fields: Fields, norm_eps: float) -> ScanShape:
    """Steps have no least one, as where these models were trained; transformers has in prompts."""
    sizes = scan_sizes(fields, _KEYS)
    least, most = step_limits(fields, "time_step_limit")
    return ScanShape(
        *sizes[:3],
        fields.integer("mamba_head_dim", 64),
        sizes.taps,
        least_step=least,
        most_step=most,
        norm_eps=norm_eps,
        bias=fields.flag("use_bias", False),
        convolution_bias=fields.flag("use_conv_bias", True),
    )


def _with_experts(config: ModelConfig, fields: Fields, has_mlps: bool) -> ModelConfig:
    """Chosen by sigmoids and a bias, and one of another width that every token uses."""
    dense_size = config.intermediate_size if has_mlps else 0
    narrowed = 0 if fields.get("moe_latent_size") is None else _narrowed(fields, config)
    config = with_experts(config, fields, "n_routed_experts", Choice(8, 2))
    config = with_groups(config, fields, Groups(1, 1))
    return replace(
        config,
        dense_size=dense_size,
        intermediate_size=fields.integer("moe_intermediate_size", 7688),
        shared_size=fields.integer("moe_shared_expert_intermediate_size", 7688),
        scaled_to_one=fields.flag("norm_topk_prob", True),
        routed_scale=fields.number("routed_scaling_factor", 1.0),
        choice_bias=True,
        narrowed_size=narrowed,
        summed_experts=narrowed > 0,
    )


def _narrowed(fields: Fields, config: ModelConfig) -> int:
    """Experts of Nemotron 3 Super read and add a narrower vector."""
    return fields.integer("moe_latent_size", maximum=config.hidden_size)
