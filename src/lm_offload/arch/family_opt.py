"""OPT: learned positions, layer norms, biases, an MLP of two matrices."""

from __future__ import annotations

from dataclasses import replace

from lm_offload.arch.common import MAX_LAYERS, MAX_VOCAB_SIZE, parse_bos, parse_dtype
from lm_offload.arch.fields import Fields
from lm_offload.arch.shapes import LayerConfig, ModelConfig

_ACTIVATIONS = ("relu", "gelu")


def parse_opt(fields: Fields) -> ModelConfig:
    """OPT in all its sizes, OPT-350m with its own order of norms and narrow embedding included."""
    fields.must_be("layer_norm_elementwise_affine", True)
    norm_first = fields.flag("do_layer_norm_before", True)
    bias = fields.flag("enable_bias", True)
    return replace(
        _parse_shapes(fields),
        qkv_bias=bias,
        output_bias=bias,
        mlp_bias=bias,
        layer_norms=True,
        gated=False,
        norm_first=norm_first,
        final_norm=norm_first and not fields.flag("_remove_final_layer_norm", False),
        bos_token_id=parse_bos(fields, 2),
        eos_token_ids=fields.token_ids("eos_token_id", (2,)),
    )


def _parse_shapes(fields: Fields) -> ModelConfig:
    fields.must_be("activation_function", *_ACTIVATIONS)
    hidden_size, num_heads = fields.integer("hidden_size"), fields.integer("num_attention_heads")
    if hidden_size % num_heads:
        raise fields.wrong("num_attention_heads", f"a divisor of hidden_size={hidden_size}")
    num_layers = fields.integer("num_hidden_layers", maximum=MAX_LAYERS)
    return ModelConfig(
        model_type="opt",
        vocab_size=fields.integer("vocab_size", maximum=MAX_VOCAB_SIZE),
        hidden_size=hidden_size,
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=num_heads,
        head_dim=hidden_size // num_heads,
        intermediate_size=fields.integer("ffn_dim"),
        max_positions=fields.integer("max_position_embeddings", 2048),
        norm_eps=1e-5,
        activation=fields.text("activation_function", "relu"),
        tie_embeddings=fields.flag("tie_word_embeddings", True),
        dtype=parse_dtype(fields),
        layers=(LayerConfig(),) * num_layers,
        ropes=(),
        attention_scale=(hidden_size // num_heads) ** -0.5,
        embed_size=_embed_size(fields, hidden_size),
    )


def _embed_size(fields: Fields, hidden_size: int) -> int:
    embed_size = fields.integer("word_embed_proj_dim", hidden_size)
    if embed_size > hidden_size:
        raise fields.wrong("word_embed_proj_dim", f"at most hidden_size={hidden_size}")
    return embed_size
