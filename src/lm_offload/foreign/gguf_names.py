"""The names of GGUF's tensors in Hugging Face's words, by architecture.

They are those of the gguf package's table. Experts are in `gguf_experts.py`.
"""

from __future__ import annotations

from collections.abc import Mapping

ROPE_FREQS = "rope_freqs.weight"  # these three belong to the config
ROPE_LONG, ROPE_SHORT = "rope_factors_long.weight", "rope_factors_short.weight"
ROPE_FACTORS = (ROPE_FREQS, ROPE_LONG, ROPE_SHORT)

QUERY_BIAS, UP_BIAS = "blk.0.attn_q.bias", "blk.0.ffn_up.bias"  # tell whether a model has some
QUERY_NORM = "blk.0.attn_q_norm.weight"

_TOP = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "token_embd_norm": "model.embedding_norm",  # as LFM2 has it: in front of the head
    "output": "lm_head",
}
_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_AFTER_ATTENTION = {"post_attention_norm": "post_attention_layernorm"}
_AFTER = _AFTER_ATTENTION | {"post_ffw_norm": "post_feedforward_layernorm"}
_AROUND = _AFTER | {"ffn_norm": "pre_feedforward_layernorm"}
_FUSED = {"ffn_up": "mlp.gate_up_proj"}
_HUNYUAN = {"attn_q_norm": "self_attn.query_layernorm", "attn_k_norm": "self_attn.key_layernorm"}
_DELTA = _AFTER_ATTENTION | {
    "attn_qkv": "linear_attn.in_proj_qkv",
    "attn_gate": "linear_attn.in_proj_z",
    "ssm_in": "linear_attn.in_proj_qkvz",
    "ssm_ba": "linear_attn.in_proj_ba",
    "ssm_beta": "linear_attn.in_proj_b",
    "ssm_alpha": "linear_attn.in_proj_a",
    "ssm_conv1d": "linear_attn.conv1d",
    "ssm_norm": "linear_attn.norm",
    "ssm_out": "linear_attn.out_proj",
}
_MAMBA = {
    "ssm_in": "mamba.in_proj",
    "ssm_conv1d": "mamba.conv1d",
    "ssm_norm": "mamba.norm",
    "ssm_out": "mamba.out_proj",
    "ffn_gate": "shared_mlp.gate_proj",
    "ffn_up": "shared_mlp.up_proj",
    "ffn_down": "shared_mlp.output_linear",
}
_LATENT = {
    "attn_q_a": "self_attn.q_a_proj",
    "attn_q_a_norm": "self_attn.q_a_layernorm",
    "attn_q_b": "self_attn.q_b_proj",
    "attn_kv_a_mqa": "self_attn.kv_a_proj_with_mqa",
    "attn_kv_a_norm": "self_attn.kv_a_layernorm",
    "attn_kv_b": "self_attn.kv_b_proj",
    "attn_k_b": "self_attn.k_b_proj",
    "attn_v_b": "self_attn.v_b_proj",
}
_AFMOE = _AFTER_ATTENTION | {
    "attn_gate": "self_attn.gate_proj",
    "ffn_norm": "pre_mlp_layernorm",
    "post_ffw_norm": "post_mlp_layernorm",
}
_LFM2 = {
    "attn_norm": "operator_norm",
    "attn_output": "self_attn.out_proj",
    "attn_q_norm": "self_attn.q_layernorm",
    "attn_k_norm": "self_attn.k_layernorm",
    "shortconv.conv": "conv.conv",
    "shortconv.in_proj": "conv.in_proj",
    "shortconv.out_proj": "conv.out_proj",
    "ffn_norm": "ffn_norm",
    "ffn_gate": "feed_forward.w1",
    "ffn_up": "feed_forward.w3",
    "ffn_down": "feed_forward.w2",
}
_OTHERS: Mapping[str, Mapping[str, str]] = {
    "gpt-oss": _AFTER_ATTENTION,
    "seed_oss": _AFTER_ATTENTION,
    "olmo2": _AFTER,
    "exaone4": _AFTER,
    "gemma2": _AROUND,
    "gemma3": _AROUND,
    "phi3": _FUSED | {"attn_qkv": "self_attn.qkv_proj"},
    "glm4": _FUSED
    | {
        "post_attention_norm": "post_self_attn_layernorm",
        "post_ffw_norm": "post_mlp_layernorm",
    },
    "starcoder2": {"ffn_up": "mlp.c_fc", "ffn_down": "mlp.c_proj"},
    "glm4moe": _AFTER_ATTENTION,
    "hunyuan-dense": _HUNYUAN,
    "hunyuan-moe": _HUNYUAN,
    **dict.fromkeys(("qwen3next", "qwen35", "qwen35moe"), _DELTA),
    "granitehybrid": _MAMBA,
    "lfm2": _LFM2,
    "lfm2moe": _LFM2,
    "afmoe": _AFMOE,
    "deepseek2": _LATENT,
}
_SINKS = ("attn_sinks.weight", "self_attn.sinks")  # no module of their own, nor have these
_VECTORS = {
    "ssm_a": "A_log",
    "ssm_d": "D",
    "ssm_dt.bias": "dt_bias",
}


def hugging_face_name(name: str, arch: str) -> str | None:
    """`blk.3.attn_q.weight` is `model.layers.3.self_attn.q_proj.weight`; None if not known."""
    if not name.startswith("blk."):
        return _joined(_TOP, name)
    layer, _, tensor = name.removeprefix("blk.").partition(".")
    names = {**_LAYER, **_OTHERS.get(arch, {})}
    found = _joined(names, tensor) or _without_module(names, tensor)
    return f"model.layers.{layer}.{found}" if found and layer.isdigit() else None


def _without_module(names: Mapping[str, str], name: str) -> str | None:
    if name == _SINKS[0]:
        return _SINKS[1]
    block = names.get("ssm_out", "").removesuffix("out_proj")
    return f"{block}{_VECTORS[name]}" if block and name in _VECTORS else None


def _joined(names: Mapping[str, str], name: str) -> str | None:
    stem, _, suffix = name.rpartition(".")
    return f"{names[stem]}.{suffix}" if stem in names and suffix in ("weight", "bias") else None
