"""The names of GGUF's tensors in Hugging Face's words, for the Llama family."""

from __future__ import annotations

from collections.abc import Mapping

_TOP = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
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
ROPE_FACTORS = "rope_freqs.weight"  # belongs to the config


def hugging_face_name(name: str) -> str | None:
    """`blk.3.attn_q.weight` is `model.layers.3.self_attn.q_proj.weight`; None if not known."""
    stem, _, suffix = name.rpartition(".")
    if not stem.startswith("blk."):
        return _joined(_TOP, stem, suffix)
    layer, _, module = stem.removeprefix("blk.").partition(".")
    found = _joined(_LAYER, module, suffix)
    return f"model.layers.{layer}.{found}" if found and layer.isdigit() else None


def _joined(names: Mapping[str, str], stem: str, suffix: str) -> str | None:
    return f"{names[stem]}.{suffix}" if stem in names and suffix in ("weight", "bias") else None
