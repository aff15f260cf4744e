"""Configs with recurrent layers: shapes, bytes, and what is refused."""

import json

import pytest

from lm_offload.arch.accounting import STATE_FLOPS, attention_flops, kv_bytes_per_token
from lm_offload.arch.config import parse_config
from lm_offload.arch.recurrent import RecurrentShape
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
    assert config.recurrent == RecurrentShape(16, 32, 128, 128, 4, fused=True)
    assert (config.num_experts, config.experts_per_token, config.shared_size) == (512, 10, 512)
    assert (config.ropes[0].rotary_dim, config.head_dim) == (64, 256)
    assert config.state_bytes == 36 * 4 * (32 * 128 * 128 + 3 * 8192)
    assert kv_bytes_per_token(config, Format("bf16")) == 12 * 2 * 2 * 256 * 2
    states = STATE_FLOPS * 36 * 32 * 128 * 128
    assert attention_flops(config, 100) == 4 * 4096 * 12 * 100 + states


def test_qwen3_5_35b_a3b_is_read_from_the_whole_too():
    raw = raw_config("qwen3.5-35b-a3b")
    config = find_config("qwen3.5-35b-a3b")
    assert config.recurrent == RecurrentShape(16, 32, 128, 128, 4, fused=False)
    assert (config.num_experts, config.experts_per_token, config.attention_layers) == (256, 8, 10)
    text = {key: value for key, value in raw.items() if key not in ("source", "dtype")}
    whole = {"model_type": "qwen3_5_moe", "text_config": text, "dtype": raw["dtype"]}
    assert parse_config(whole) == config


def test_large_projections_alone_take_formats():
    units = build_units(find_config("qwen3-next-80b-a3b"), 64 * MIB)
    names = {unit.name: unit for unit in units}
    format = parse_format("int4:64")
    taken = {spec.role for spec in names["layers.0.recurrent"].loaded if spec.takes(format)}
    assert taken == {"qkvz_proj", "o_proj"}
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
