"""Configs with recurrent layers: shapes, bytes, and what is refused."""

import json
import math

import pytest

from lm_offload.arch.accounting import attention_flops, kv_bytes_per_token
from lm_offload.arch.config import parse_config
from lm_offload.arch.recurrent import DeltaShape, ScanShape
from lm_offload.arch.shipped import CONFIGS, find_config
from lm_offload.arch.weights import build_units
from lm_offload.errors import CheckpointError, UnsupportedModelError
from lm_offload.quant.format import Format, parse_format

MIB = 2**20


def raw_config(name):
    return json.loads((CONFIGS / f"{name}.json").read_text())


def test_qwen3_next_80b_a3b():
    config = find_config("qwen3-next-80b-a3b")
    assert (config.num_layers, config.attention_layers, config.recurrent_layers) == (48, 12, 36)
    assert [layer.recurrent for layer in config.layers[:5]] == [True, True, True, False, True]
    assert config.recurrent == DeltaShape(16, 32, 128, 128, 4, fused=True)
    assert (config.num_experts, config.experts_per_token, config.shared_size) == (512, 10, 512)
    assert (config.ropes[0].rotary_dim, config.head_dim) == (64, 256)
    assert config.state_bytes == 36 * 4 * (32 * 128 * 128 + 3 * 8192)
    assert kv_bytes_per_token(config, Format("bf16")) == 12 * 2 * 2 * 256 * 2
    states = 7 * 36 * 32 * 128 * 128
    assert attention_flops(config, 100) == 4 * 4096 * 12 * 100 + states


def test_qwen3_5_35b_a3b_is_read_from_the_whole_too():
    raw = raw_config("qwen3.5-35b-a3b")
    config = find_config("qwen3.5-35b-a3b")
    assert config.recurrent == DeltaShape(16, 32, 128, 128, 4, fused=False)
    assert (config.num_experts, config.experts_per_token, config.attention_layers) == (256, 8, 10)
    text = {key: value for key, value in raw.items() if key not in ("source", "dtype")}
    whole = {"model_type": "qwen3_5_moe", "text_config": text, "dtype": raw["dtype"]}
    assert parse_config(whole) == config


def test_granite_4_h_small():
    config = find_config("granite-4.0-h-small")
    assert config.recurrent == ScanShape(
        *(1, 128, 128, 64, 4), 0.0, math.inf, norm_eps=1e-5, bias=False, convolution_bias=True
    )
    assert [index for index, layer in enumerate(config.layers) if layer.attends] == [5, 15, 25, 35]
    assert (config.mixture_layers, config.shared_size, config.ropes) == (40, 1536, ())
    assert config.state_bytes == 36 * 4 * (128 * 64 * 128 + 3 * (8192 + 256))
    states = 5 * 36 * 128 * 64 * 128
    assert attention_flops(config, 100) == 4 * 4096 * 4 * 100 + states


def test_nemotron_3_nano():
    config = find_config("nemotron-3-nano-30b-a3b")
    counts = config.recurrent_layers, config.attention_layers, config.mixture_layers
    assert counts == (23, 6, 23)
    assert config.kv_layers == (5, 12, 19, 26, 33, 42)
    units = build_units(config, 64 * MIB)
    kept = [unit.name for unit in units if unit.kind != "expert"]
    kinds = ["recurrent", "router", "recurrent", "router", "recurrent", "attention"]
    assert kept[1:7] == [f"layers.{layer}.{kind}" for layer, kind in enumerate(kinds)]
    expert = next(unit for unit in units if unit.kind == "expert")
    assert [spec.role for spec in expert.loaded] == ["up_proj", "down_proj"]


def test_nemotron_3_super():
    """Its experts read and add 1024 of 4096 channels: a step after them widens their sum."""
    raw = raw_config("nemotron-3-nano-30b-a3b")
    change = {"hidden_size": 4096, "moe_latent_size": 1024, "moe_intermediate_size": 2688}
    config = parse_config({**raw, **change})
    units = {unit.name: unit for unit in build_units(config, 64 * MIB)}
    shapes = {spec.role: spec.shape for spec in units["layers.1.expert.0"].loaded}
    assert shapes == {"up_proj": (2688, 1024), "down_proj": (1024, 2688)}
    assert [spec.shape for spec in units["layers.1.mlp"].loaded] == [(4096, 1024)]
    assert units["layers.1.router"].loaded[-1].shape == (1024, 4096)
    assert "layers.0.mlp" not in units


def test_patterns_of_nemotron_h_are_letters_or_words():
    raw = raw_config("nemotron-3-nano-30b-a3b")
    letters = raw.pop("hybrid_override_pattern")
    words = {"M": "mamba", "*": "attention", "E": "moe", "-": "mlp"}
    listed = {**raw, "layers_block_type": [words[letter] for letter in letters]}
    assert parse_config(listed) == find_config("nemotron-3-nano-30b-a3b")
    mixed = parse_config({**raw, "hybrid_override_pattern": "M-*" + letters[3:]})
    assert (mixed.layers[1].dense, mixed.dense_size, mixed.mixture_layers) == (True, 1856, 22)


def test_large_projections_alone_take_formats():
    units = build_units(find_config("qwen3-next-80b-a3b"), 64 * MIB)
    names = {unit.name: unit for unit in units}
    format = parse_format("int4:64")
    taken = {spec.role for spec in names["layers.0.recurrent"].loaded if spec.takes(format)}
    assert taken == {"qkvz_proj", "o_proj"}
    scans = build_units(find_config("granite-4.0-h-small"), 64 * MIB)
    specs = {spec.role: spec for spec in scans[1].loaded}
    assert {role for role, spec in specs.items() if spec.takes(format)} == {"in_proj", "o_proj"}
    assert specs["in_proj"].view_shape == (2 * 8192 + 256, 4096)
    assert specs["step_proj"].rows == (2 * 8192 + 256, 2 * 8192 + 256 + 128)
    assert "layers.0.attention" not in names
    assert "layers.3.recurrent" not in names
    queries = next(it for it in names["layers.3.attention"].loaded if it.role == "q_proj")
    assert queries.shape == (2 * 16 * 256, 2048)  # with a gate for each value


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"layer_types": ["linear_attention"] * 48}, CheckpointError, "a layer of full_attention"),
        ({"layer_types": ["full_attention"] * 47}, CheckpointError, "a list of 48 out of"),
        ({"layer_types": ["sliding_attention"] * 48}, CheckpointError, "a list of 48 out of"),
        ({"full_attention_interval": 64}, CheckpointError, "a layer of full_attention"),
        ({"linear_num_value_heads": 24}, CheckpointError, "a multiple of 16 key heads"),
        ({"linear_conv_kernel_dim": 9}, CheckpointError, "an integer from 2 to 8"),
        ({"linear_key_head_dim": 512}, CheckpointError, "an integer from 1 to 256"),
        ({"hidden_act": "gelu"}, UnsupportedModelError, "hidden_act='gelu'"),
        ({"attn_output_gate": False}, UnsupportedModelError, "attn_output_gate=False"),
        ({"decoder_sparse_step": 2}, UnsupportedModelError, "decoder_sparse_step=2"),
        ({"mlp_only_layers": [3]}, UnsupportedModelError, "mlp_only_layers"),
    ],
)
def test_what_is_refused(change, error, message):
    with pytest.raises(error, match=message):
        parse_config({**raw_config("qwen3-next-80b-a3b"), **change})


@pytest.mark.parametrize(
    ("name", "change", "error", "message"),
    [
        ("granite", {"layer_types": ["mamba"] * 40}, CheckpointError, "a layer of attention"),
        ("granite", {"layer_types": ["mamba"] * 39}, CheckpointError, "a list of 40 out of"),
        ("granite", {"layer_types": None}, CheckpointError, "a list of 40 out of"),
        ("granite", {"mamba_n_groups": 3}, CheckpointError, "a divisor of 128 heads"),
        ("granite", {"mamba_d_head": 32}, CheckpointError, "8192 channels in 128 heads"),
        ("granite", {"mamba_n_heads": 100}, CheckpointError, "mamba_d_head"),
        ("granite", {"mamba_d_head": "wide"}, CheckpointError, "an integer"),
        ("granite", {"mamba_d_state": 512}, CheckpointError, "an integer from 1 to 256"),
        ("granite", {"mamba_d_conv": 9}, CheckpointError, "an integer from 2 to 8"),
        ("granite", {"time_step_limit": [0.1]}, CheckpointError, "a list of two numbers"),
        ("granite", {"time_step_limit": [0.9, 0.1]}, CheckpointError, "a list of two numbers"),
        ("granite", {"time_step_limit": [0.0, "x"]}, CheckpointError, "a list of two numbers"),
        ("granite", {"time_step_limit": 3}, CheckpointError, "a list of two numbers"),
        ("granite", {"num_local_experts": 1}, CheckpointError, "an integer from 2"),
        ("granite", {"hidden_act": "gelu"}, UnsupportedModelError, "hidden_act='gelu'"),
        ("granite", {"position_embedding_type": "alibi"}, UnsupportedModelError, "'nope', 'rope'"),
        ("nemotron", {"hybrid_override_pattern": "ME*X"}, CheckpointError, "layers out of"),
        ("nemotron", {"hybrid_override_pattern": 3}, CheckpointError, "layers out of"),
        ("nemotron", {"hybrid_override_pattern": None}, CheckpointError, "layers out of"),
        ("nemotron", {"layers_block_type": [["moe"]]}, CheckpointError, "layers out of"),
        ("nemotron", {"hybrid_override_pattern": "MEME"}, CheckpointError, "full_attention"),
        ("nemotron", {"num_hidden_layers": 51}, CheckpointError, "kinds of layers, 52"),
        ("nemotron", {"n_groups": 5}, CheckpointError, "a divisor of 64 heads"),
        ("nemotron", {"n_routed_experts": 4}, CheckpointError, "num_experts_per_tok"),
        ("nemotron", {"moe_latent_size": 2689}, CheckpointError, "an integer from 1 to 2688"),
        ("nemotron", {"n_shared_experts": 2}, UnsupportedModelError, "n_shared_experts=2"),
        ("nemotron", {"mlp_hidden_act": "silu"}, UnsupportedModelError, "mlp_hidden_act='silu'"),
        ("nemotron", {"mlp_bias": True}, UnsupportedModelError, "mlp_bias=True"),
    ],
)
def test_what_is_refused_of_state_spaces(name, change, error, message):
    names = {"granite": "granite-4.0-h-small", "nemotron": "nemotron-3-nano-30b-a3b"}
    with pytest.raises(error, match=message):
        parse_config({**raw_config(names[name]), **change})


def test_limits_of_steps_as_transformers_writes_them():
    raw = raw_config("granite-4.0-h-small")
    for most in (math.inf, {"__float__": "Infinity"}, 1e30):
        assert parse_config({**raw, "time_step_limit": [0.0, most]}) == parse_config(raw)
    shape = parse_config({**raw, "time_step_limit": [0.1, 2]}).recurrent
    assert (shape.least_step, shape.most_step) == (0.1, 2.0)
