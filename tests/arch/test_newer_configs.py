"""Configs of newer types: what published ones say, and what is refused instead of read wrongly."""

from __future__ import annotations

import json

import pytest

from lm_offload.arch.accounting import model_parameters
from lm_offload.arch.config import parse_config
from lm_offload.arch.shipped import CONFIGS, find_config
from lm_offload.arch.weights import build_units
from lm_offload.errors import CheckpointError, UnsupportedModelError

SHAPES = {
    "hidden_size": 512,
    "num_attention_heads": 8,
    "num_hidden_layers": 8,
    "intermediate_size": 96,
    "vocab_size": 99,
}
MSCALES = {"type": "longrope", "short_mscale": 1.2, "long_mscale": 1.3}
ROPE = {"rope_type": "dynamic", "alpha": 1000.0, "factor": 1.0, "rope_theta": 1e4}


def test_llama_4_scout():
    config = find_config("llama-4-scout-17b-16e")
    near, far = config.layers[0], config.layers[3]
    assert (near.window, near.chunked, near.rope_index, near.tempered) == (8192, True, 0, None)
    assert (far.window, far.chunked, far.rope_index, far.tempered) == (None, False, None, 1)
    assert (config.chunk_tokens, config.shared_size, config.dense_size) == (8192, 8192, 0)
    assert (config.ropes[1].growth, config.ropes[1].original_max_positions) == (0.1, 8192)


def test_llama_4_maverick_has_experts_in_every_second_layer():
    raw = json.loads((CONFIGS / "llama-4-scout-17b-16e.json").read_text())
    more = {"interleave_moe_layer_step": 2, "num_local_experts": 128, "use_qk_norm": False}
    config = parse_config({"model_type": "llama4", "text_config": {**raw, **more}})
    assert [layer.dense for layer in config.layers[:4]] == [True, False, True, False]
    assert (config.dense_size, config.intermediate_size) == (16384, 8192)


def test_minimax_m2_and_ministral_3():
    config = find_config("minimax-m2")
    assert (config.ropes[0].rotary_dim, config.head_dim, config.qk_norm_whole) == (64, 128, True)
    config = find_config("ministral-3-8b")
    assert [rope.kind for rope in config.ropes] == ["yarn", "temperature"]
    assert {layer.tempered for layer in config.layers} == {1}
    assert config.layers[0].window is None


def test_older_configs_of_qwen_vl_are_flat():
    rope = {"type": "mrope", "mrope_section": [16, 24, 24]}
    raw = {**SHAPES, "model_type": "qwen2_vl", "num_key_value_heads": 2, "vision_config": {}}
    config = parse_config({**raw, "rope_scaling": rope, "rope_theta": 1e6})
    assert config == parse_config({**raw, "text_config": {**SHAPES, "num_key_value_heads": 2}})
    assert (config.model_type, config.ropes[0].kind, config.ropes[0].theta) == (
        "qwen2",
        "default",
        1e6,
    )


def test_hunyuan_stretches_the_base_of_its_rope():
    config = parse_config({**SHAPES, "model_type": "hunyuan_v1_dense", "rope_parameters": ROPE})
    assert config.ropes[0].kind == "default"
    assert config.ropes[0].theta == pytest.approx(1e4 * 1000 ** (64 / 62))
    raw = {"num_experts": 4, "moe_topk": [2] * 8, "moe_intermediate_size": [96] * 8}
    config = parse_config({**SHAPES, **raw, "model_type": "hunyuan_v1_moe"})
    assert (config.experts_per_token, config.shared_size) == (2, 96)


def test_lfm2_of_the_published_config():
    """LFM2-1.2B: wide as its file says, before two thirds of it are taken."""
    raw = {
        "model_type": "lfm2",
        "hidden_size": 2048,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 65_536,
        "block_ff_dim": 12_288,
        "block_auto_adjust_ff_dim": True,
        "block_multiple_of": 256,
        "block_ffn_dim_multiplier": 1.0,
        "conv_L_cache": 3,
        "tie_embedding": True,
        "full_attn_idxs": [2, 5, 8, 10, 12, 14],
    }
    config = parse_config(raw)
    assert (config.intermediate_size, config.attention_layers, config.recurrent_layers) == (
        8192,
        6,
        10,
    )
    assert config.tie_embeddings
    assert config.state_bytes == 10 * 2 * 2048 * 4
    assert model_parameters(build_units(config, 1 << 30)) == 1_170_340_608


@pytest.mark.parametrize(
    ("model_type", "change"),
    [
        ("ministral3", {"hidden_act": "relu2"}),
        ("ministral3", {"attention_bias": True}),
        ("minimax_m2", {"scoring_func": "softmax"}),
        ("minimax_m2", {"qk_norm_type": "per_head"}),
        ("minimax_m2", {"attn_type_list": [1, 0, 1]}),
        ("glm4_moe_lite", {"topk_method": "greedy"}),
        ("cohere2", {"use_parallel_block": False}),
        ("cohere", {"rotary_pct": 0.5}),
        ("arcee", {"hidden_act": "silu"}),
        ("nemotron", {"hidden_act": "gelu"}),
        ("starcoder2", {"hidden_act": "relu2"}),
        ("stablelm", {"qk_layernorm": True}),
        ("stablelm", {"use_parallel_residual": True}),
        ("hunyuan_v1_dense", {"use_cla": True}),
        ("hunyuan_v1_moe", {"num_experts": 4, "moe_intermediate_size": [64] * 8}),
        ("hunyuan_v1_moe", {"num_experts": 4, "num_shared_expert": 2}),
        ("dots1", {"scoring_func": "softmax"}),
        ("solar_open", {"first_k_dense_replace": 1}),
        ("afmoe", {"score_func": "softmax"}),
        ("afmoe", {"route_norm": False}),
        ("apertus", {"hidden_act": "silu"}),
        ("apertus", {"mlp_bias": True}),
        ("flex_olmo", {"clip_qkv": 8}),
        ("exaone_moe", {"attention_bias": True}),
        ("phimoe", {"num_experts_per_tok": 4}),
        ("phimoe", {"rope_scaling": MSCALES}),
        ("ministral", {"mlp_bias": True}),
    ],
)
def test_what_is_not_computed_is_refused(model_type, change):
    with pytest.raises(UnsupportedModelError, match=list(change)[-1]):
        parse_config({**SHAPES, "model_type": model_type, **change})


@pytest.mark.parametrize(
    ("model_type", "change"),
    [
        ("llama4_text", {"attention_chunk_size": 100}),
        ("llama4_text", {"layer_types": ["sliding_attention"] * 8}),
        ("llama4_text", {"moe_layers": []}),
        ("llama4_text", {"layer_types": [["full_attention"]] * 8}),
        ("llama4_text", {"moe_layers": "all"}),
        ("llama4_text", {"moe_layers": [[0], {}]}),
        ("llama4_text", {"num_local_experts": 10**9}),
        ("arcee", {"vocab_size": 10**9}),
        ("glm4_moe_lite", {"mlp_layer_types": ["dense"] * 8}),
        ("glm4_moe_lite", {"mlp_layer_types": ["sparse"]}),
        ("glm4_moe_lite", {"mlp_layer_types": [["sparse"]] * 8}),
        ("hunyuan_v1_dense", {"rope_parameters": ROPE, "head_dim": 2}),
        ("hunyuan_v1_dense", {"rope_parameters": ROPE, "head_dim": "64"}),
        ("hunyuan_v1_moe", {"num_experts": 4, "moe_topk": [1, 2]}),
        ("hunyuan_v1_moe", {"moe_topk": 1}),
        ("cohere2", {"sliding_window": None}),
        ("lfm2", {"layer_types": ["conv"] * 8}),
        ("lfm2", {"full_attn_idxs": 2}),
        ("lfm2", {"conv_L_cache": 9}),
        ("lfm2_moe", {"num_dense_layers": 8}),
        ("afmoe", {"num_dense_layers": 8}),
        ("afmoe", {"num_experts_per_tok": 65}),
        ("qwen3_vl", {"text_config": None}),
    ],
)
def test_impossible_values_are_refused(model_type, change):
    with pytest.raises(CheckpointError, match="is needed; repair it"):
        parse_config({**SHAPES, "model_type": model_type, **change})
