"""Types with an MLP of two matrices, with layer norms, or with both."""

from __future__ import annotations

from dataclasses import replace

from lm_offload.arch.common import Defaults, parse_decoder, parse_window, with_one_window
from lm_offload.arch.fields import Fields
from lm_offload.arch.shapes import ModelConfig

_APERTUS_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 12e6,
    "factor": 8.0,
    "original_max_position_embeddings": 8192,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
}


def parse_arcee(fields: Fields) -> ModelConfig:
    """AFM: Llama with squares of what is above zero in place of gates."""
    bias, mlp_bias = fields.flag("attention_bias", False), fields.flag("mlp_bias", False)
    defaults = Defaults(4096, bos=128_000, eos=(128_001,), norm_eps=1e-5)
    config = _parse_plain(fields, "relu2", "rms_norm_eps", defaults)
    return replace(config, qkv_bias=bias, output_bias=bias, mlp_bias=mlp_bias)


def parse_nemotron(fields: Fields) -> ModelConfig:
    """Nemotron 3, 4 and Minitron: layer norms that store scales less one, part of heads rotated."""
    fields = Fields({"partial_rotary_factor": 0.5, **fields.raw}, fields.where)
    bias, mlp_bias = fields.flag("attention_bias", False), fields.flag("mlp_bias", False)
    config = _parse_plain(fields, "relu2", "norm_eps", Defaults(4096, bos=2, eos=(3,)))
    config = replace(config, qkv_bias=bias, output_bias=bias, mlp_bias=mlp_bias)
    return replace(config, layer_norms=True, norm_biases=True)


def parse_starcoder2(fields: Fields) -> ModelConfig:
    """StarCoder 2: layer norms, biases everywhere, one window for all layers."""
    bias = fields.flag("use_bias", True)
    defaults = Defaults(4096, bos=50_256, eos=(50_256,), kv_heads=2, tied=True)
    config = _parse_plain(fields, "gelu_tanh", "norm_epsilon", defaults)
    config = with_one_window(config, fields, parse_window(fields))
    config = replace(config, qkv_bias=bias, output_bias=bias, mlp_bias=bias)
    return replace(config, layer_norms=True, norm_biases=True)


def parse_apertus(fields: Fields) -> ModelConfig:
    """Apertus: queries and keys normalised by head, an activation with learned parameters."""
    fields.must_be("hidden_act", "xielu")
    fields.must_be("mlp_bias", False)
    bias = fields.flag("attention_bias", False)
    fields = Fields({"rope_theta": 12e6, **fields.raw, "hidden_act": None}, fields.where)
    if fields.section("rope_scaling") is None and fields.section("rope_parameters") is None:
        fields = Fields({**fields.raw, "rope_scaling": _APERTUS_ROPE}, fields.where)
    config = parse_decoder(fields, Defaults(65_536, bos=1, eos=(2,), norm_eps=1e-5))
    config = replace(config, activation="xielu", gated=False, qk_norm=True)
    return replace(config, qkv_bias=bias, output_bias=bias)


def parse_stablelm(fields: Fields) -> ModelConfig:
    """StableLM: layer norms, a quarter of each head rotated, gates."""
    fields.must_be("qk_layernorm", False)
    fields.must_be("use_parallel_residual", False)
    fields.must_be("mlp_bias", False)
    epsilon = fields.number("layer_norm_eps", 1e-5)
    known = {"partial_rotary_factor": 0.25, **fields.raw, "rms_norm_eps": epsilon}
    config = parse_decoder(
        Fields(known, fields.where), Defaults(4096, bos=0, eos=(0,), kv_heads=32)
    )
    bias = fields.flag("use_qkv_bias", False)
    return replace(config, qkv_bias=bias, layer_norms=True, norm_biases=True)


def _parse_plain(
    fields: Fields, activation: str, epsilon_key: str, defaults: Defaults
) -> ModelConfig:
    """Two matrices and one activation between them; the norms' epsilon may have another name."""
    known = ("relu2",) if activation == "relu2" else ("gelu_pytorch_tanh", "gelu_new")
    fields.must_be("hidden_act", *known)
    given = {"rms_norm_eps": fields.number(epsilon_key, 1e-5), "hidden_act": None}
    config = parse_decoder(Fields({**fields.raw, **given}, fields.where), defaults)
    return replace(config, activation=activation, gated=False)
