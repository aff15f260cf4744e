import json

import pytest
from transformers import AutoConfig

from lm_offload.arch.config import load_config, parse_config, supported_model_types
from lm_offload.arch.fields import Fields
from tests.arch import real_configs
from tests.arch.real_configs import PUBLISHED_PARAMETERS
from tests.toy import EVERY_TYPE, make_toy_checkpoint


@pytest.mark.parametrize("name", PUBLISHED_PARAMETERS)
def test_both_spellings_of_a_config_mean_the_same(name):
    raw, _ = PUBLISHED_PARAMETERS[name]
    newer = json.loads(AutoConfig.for_model(**raw).to_json_string())
    assert "rope_scaling" not in newer
    assert "torch_dtype" not in newer
    assert parse_config(newer) == parse_config(raw)


NEEDED = {
    "hunyuan_v1_moe": {"num_experts": 4},  # transformers' own default is one
    "granitemoehybrid": {"layer_types": ["mamba"] * 13 + ["attention"]},  # and none that attends
    "nemotron_h": {"layers_block_type": ["mamba", "attention"] + ["moe"] * 12},
}


@pytest.mark.parametrize("model_type", EVERY_TYPE)
def test_missing_keys_have_the_defaults_of_transformers(model_type):
    shapes = {
        "hidden_size": 512,
        "num_attention_heads": 32,
        "num_hidden_layers": 14,
        "intermediate_size": 96,
        "ffn_dim": 96,
        "vocab_size": 99,
        **NEEDED.get(model_type, {}),
    }
    full = json.loads(AutoConfig.for_model(model_type, **shapes).to_json_string())
    assert parse_config({"model_type": model_type, **shapes}) == parse_config(full)


def test_supported_types_are_those_with_a_toy():
    assert supported_model_types() == tuple(sorted(EVERY_TYPE))


def test_llama_3_1_rope():
    config = parse_config(real_configs.LLAMA_3_1_8B)
    (rope,) = config.ropes
    assert (rope.kind, rope.theta, rope.rotary_dim) == ("llama3", 500000.0, 128)
    assert (rope.factor, rope.original_max_positions) == (8.0, 8192)
    assert config.max_positions == 131072
    assert config.eos_token_ids == (128001,)


def test_windows_by_layer():
    def windows(raw):
        return [layer.window for layer in parse_config(raw).layers]

    assert windows(real_configs.MISTRAL_7B_V01) == [4096] * 32
    assert windows(real_configs.QWEN_2_5_7B) == [None] * 28
    assert windows({**real_configs.QWEN_2_5_7B, "use_sliding_window": True})[27:] == [None]
    upper = {**real_configs.QWEN_2_5_7B, "use_sliding_window": True, "max_window_layers": 26}
    assert windows(upper)[25:] == [None, 131072, 131072]
    assert windows(real_configs.GEMMA_2_9B)[:4] == [4096, None, 4096, None]
    assert windows(real_configs.GEMMA_3_1B)[:7] == [512] * 5 + [None, 512]
    assert windows({**real_configs.PHI_3_MINI_4K, "sliding_window": None}) == [None] * 32


def test_gemma_constants():
    config = parse_config(real_configs.GEMMA_2_9B)
    assert (config.attention_softcap, config.final_softcap) == (50.0, 30.0)
    assert config.embed_scale == 3584**0.5
    assert config.attention_scale == 1 / 16
    assert config.tie_embeddings
    switched_off = parse_config({**real_configs.GEMMA_2_9B, "attn_logit_softcapping": None})
    assert switched_off.attention_softcap is None


def test_gemma_3_has_a_local_and_a_global_rope():
    stretched = {**real_configs.GEMMA_3_1B, "rope_scaling": {"factor": 8.0, "rope_type": "linear"}}
    config = parse_config(stretched)
    far, near = config.ropes
    assert (far.kind, far.theta, far.factor) == ("linear", 1e6, 8.0)
    assert (near.kind, near.theta) == ("default", 1e4)
    assert [layer.rope_index for layer in config.layers[:7]] == [1, 1, 1, 1, 1, 0, 1]
    assert config.eos_token_ids == (1, 106)


def test_phi_3_longrope():
    config = parse_config(real_configs.PHI_3_MINI_128K)
    (rope,) = config.ropes
    assert (rope.kind, rope.factor, rope.original_max_positions) == ("longrope", 32.0, 4096)
    assert rope.attention_factor == pytest.approx(1.1902380714238083)
    for older in ("su", "yarn"):
        section = {**real_configs.PHI_3_MINI_128K["rope_scaling"], "type": older}
        renamed = {**real_configs.PHI_3_MINI_128K, "rope_scaling": section}
        assert parse_config(renamed) == config


@pytest.mark.parametrize(
    ("section", "positions"),
    [
        ({"type": "linear", "factor": 4.0}, 16384),
        ({"type": "dynamic", "factor": 2.0}, 8192),
        ({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4096}, 16384),
        ({"rope_type": "default"}, 4096),
    ],
)
def test_rope_scaling_stretches_the_context(section, positions):
    raw = {**real_configs.LLAMA_2_7B, "rope_scaling": section}
    assert parse_config(raw).max_positions == positions


def test_opt_350m_is_narrow_and_normalises_last():
    config = parse_config(real_configs.OPT_350M)
    assert (config.embed_size, config.hidden_size) == (512, 1024)
    assert not config.norm_first
    assert not config.final_norm
    assert config.ropes == ()


def test_end_tokens_come_from_the_generation_config(tmp_path):
    folder = make_toy_checkpoint(tmp_path, "llama")
    assert load_config(folder).eos_token_ids == (2,)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [5, 7]}))
    assert load_config(folder).eos_token_ids == (5, 7)


def test_fields_treat_null_as_missing():
    fields = Fields({"a": None, "b": 3})
    assert fields.integer("a", 7) == 7
    assert fields.integer("b") == 3
    assert fields.optional_number("a", 2.0) is None
    assert fields.optional_number("c", 2.0) == 2.0
