"""Configs of Gemma 4: as they are published, as transformers writes them, and what is refused."""

from __future__ import annotations

import json

import pytest
from transformers import AutoConfig

from lm_offload.arch.config import parse_config
from lm_offload.errors import CheckpointError, UnsupportedModelError

PUBLISHED = {
    "model_type": "gemma4_text",
    "vocab_size": 99,
    "hidden_size": 512,
    "intermediate_size": 96,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 64,
    "global_head_dim": 128,
    "num_global_key_value_heads": 2,
    "attention_k_eq_v": True,
    "hidden_size_per_layer_input": 0,
}


def test_heads_by_kind_and_by_number_mean_the_same():
    newer = json.loads(AutoConfig.for_model(**PUBLISHED).to_json_string())
    assert "per_layer_config" in newer
    config = parse_config(PUBLISHED)
    assert parse_config(newer) == config
    assert config.kv_shapes == {(4, 64): 10, (2, 128): 2}
    assert [layer.values_of_keys for layer in config.layers] == 2 * [*5 * [False], True]
    assert (config.ropes[0].rotary_dim, config.ropes[0].still) == (128, 48)


def test_heads_of_layers_that_see_everything_are_fewer_only_where_values_are_made_of_keys():
    config = parse_config({**PUBLISHED, "attention_k_eq_v": False})
    assert config.kv_shapes == {(4, 64): 10, (4, 128): 2}


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"use_bidirectional_attention": "all"}, UnsupportedModelError, "'vision'"),
        ({"layer_types": ["sliding_attention"] * 12}, CheckpointError, "in the last layer"),
        ({"num_kv_shared_layers": 12}, CheckpointError, "a layer of each kind"),
        ({"num_kv_shared_layers": 7}, CheckpointError, "a layer of each kind"),
        ({"num_global_key_value_heads": 3}, CheckpointError, "a divisor of 8"),
        ({"per_layer_config": {"05": {"v_head_dim": 3}}}, UnsupportedModelError, "v_head_dim"),
        ({"hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 98}, CheckpointError,
         "at least vocab_size=99"),
        ({"rope_parameters": {"full_attention": {"rope_type": "yarn"}}}, UnsupportedModelError,
         "proportional"),
    ],
)  # fmt: skip
def test_what_is_refused(change, error, words):
    with pytest.raises(error, match=words):
        parse_config({**PUBLISHED, **change})
