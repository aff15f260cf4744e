"""What model types call the tensors of their layers, where Hugging Face's names differ."""

from __future__ import annotations

from typing import NamedTuple

from lm_offload.arch.shapes import ModelConfig


class LayerNames(NamedTuple):
    """Norms of what attention and MLP read and of what they add, blocks, and their matrices."""

    attention_reads: str | None = "input_layernorm"
    attention_adds: str | None = None
    mlp_reads: str | None = "post_attention_layernorm"
    mlp_adds: str | None = None
    mlp: str = "mlp"
    gate: str = "gate_proj"
    up: str = "up_proj"
    down: str = "down_proj"
    output: str = "o_proj"
    q_norm: str = "q_norm"
    k_norm: str = "k_norm"
    final_norm: str = "norm"


_BEFORE = LayerNames()
_AROUND = LayerNames(
    attention_adds="post_attention_layernorm",
    mlp_reads="pre_feedforward_layernorm",
    mlp_adds="post_feedforward_layernorm",
)
_AFTER = _AROUND._replace(attention_reads=None, mlp_reads=None)
_HUNYUAN = LayerNames(q_norm="query_layernorm", k_norm="key_layernorm")
_LFM2 = LayerNames(
    attention_reads="operator_norm",
    mlp_reads="ffn_norm",
    mlp="feed_forward",
    gate="w1",
    up="w3",
    down="w2",
    output="out_proj",
    q_norm="q_layernorm",
    k_norm="k_layernorm",
    final_norm="embedding_norm",
)
_NAMES = {
    **dict.fromkeys(("olmo2", "olmo3", "exaone4", "flex_olmo"), _AFTER),
    **dict.fromkeys(("hunyuan_v1_dense", "hunyuan_v1_moe"), _HUNYUAN),
    **dict.fromkeys(("lfm2", "lfm2_moe"), _LFM2),
    "glm4": _BEFORE._replace(
        attention_adds="post_self_attn_layernorm", mlp_adds="post_mlp_layernorm"
    ),
    "afmoe": LayerNames(
        attention_adds="post_attention_layernorm",
        mlp_reads="pre_mlp_layernorm",
        mlp_adds="post_mlp_layernorm",
    ),
    "apertus": LayerNames("attention_layernorm", None, "feedforward_layernorm"),
    "llama4_text": LayerNames(mlp="feed_forward"),
    "granitemoehybrid": LayerNames(mlp="shared_mlp"),
    "starcoder2": LayerNames(up="c_fc", down="c_proj"),
}


def layer_names(config: ModelConfig) -> LayerNames:
    """Of a model's type."""
    if config.model_type in _NAMES:
        return _NAMES[config.model_type]
    return _AROUND if config.post_norms else _BEFORE
