import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_offload.arch.config import load_config, parse_config
from lm_offload.errors import CheckpointError, UnsupportedModelError
from tests.arch.real_configs import (
    GEMMA_2_9B,
    GEMMA_3_1B,
    LLAMA_2_7B,
    LLAMA_3_1_8B,
    MISTRAL_7B_V01,
    OPT_1_3B,
    PHI_3_MINI_128K,
    PUBLISHED_PARAMETERS,
    QWEN_2_5_7B,
)

LLAMA3 = LLAMA_3_1_8B["rope_scaling"]
LONGROPE = PHI_3_MINI_128K["rope_scaling"]
KINDS_28 = ["sliding_attention"] * 28


@pytest.mark.parametrize(
    ("base", "change", "message"),
    [
        (
            LLAMA_2_7B,
            {"model_type": "mamba"},
            "model_type 'mamba', supported are afmoe, apertus, ",
        ),
        (LLAMA_2_7B, {"model_type": "gemma3n"}, "model_type 'gemma3n'"),
        (
            LLAMA_2_7B,
            {"model_type": "mistral3", "text_config": {"model_type": "mamba2"}},
            "text_config has model_type 'mamba2'",
        ),
        (LLAMA_2_7B, {"rope_scaling": {"type": "mrope"}}, "rope type 'mrope', supported are"),
        (LLAMA_2_7B, {"rope_parameters": {"full_attention": {}}}, "differs by layer type"),
        (LLAMA_2_7B, {"hidden_act": "relu2"}, "hidden_act='relu2', supported here: 'silu'"),
        (LLAMA_2_7B, {"quantization_config": {"bits": 4}}, "has quantization_config"),
        (LLAMA_2_7B, {"torch_dtype": "float8_e4m3fn"}, "dtype 'float8_e4m3fn', supported are"),
        (LLAMA_2_7B, {"partial_rotary_factor": 0.5}, "partial_rotary_factor=0.5"),
        (MISTRAL_7B_V01, {"attention_bias": True}, "attention_bias=True"),
        (
            MISTRAL_7B_V01,
            {"layer_types": ["full_attention"] * 31 + ["sliding_attention"]},
            "layer_types",
        ),
        (QWEN_2_5_7B, {"mlp_bias": True}, "mlp_bias=True"),
        (GEMMA_2_9B, {"use_bidirectional_attention": True}, "use_bidirectional_attention=True"),
        (GEMMA_3_1B, {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping=50.0"),
        (PHI_3_MINI_128K, {"rope_scaling": {"type": "linear", "factor": 2}}, "'linear'"),
        (OPT_1_3B, {"activation_function": "tanh"}, "activation_function='tanh'"),
        (OPT_1_3B, {"layer_norm_elementwise_affine": False}, "layer_norm_elementwise_affine"),
    ],
)
def test_unknown_features_are_refused(base, change, message):
    with pytest.raises(UnsupportedModelError, match=message) as caught:
        parse_config({**base, **change})
    assert_one_sentence(caught.value)


@pytest.mark.parametrize(
    ("base", "change", "message"),
    [
        (LLAMA_2_7B, {"model_type": None}, "model_type=None, but a value is needed"),
        (LLAMA_2_7B, {"model_type": 3}, "model_type=3, but a string"),
        (LLAMA_2_7B, {"hidden_size": None}, "hidden_size=None, but a value"),
        (LLAMA_2_7B, {"hidden_size": 4096.0}, "hidden_size=4096.0, but an integer"),
        (LLAMA_2_7B, {"hidden_size": True}, "hidden_size=True, but an integer"),
        (LLAMA_2_7B, {"hidden_size": "4096"}, "hidden_size='4096', but an integer"),
        (LLAMA_2_7B, {"hidden_size": 4097}, "num_attention_heads=32, but a divisor"),
        (LLAMA_2_7B, {"head_dim": 0}, "head_dim=0"),
        (LLAMA_2_7B, {"head_dim": 127}, "head_dim=127, but an even rotary"),
        (LLAMA_2_7B, {"vocab_size": -1}, "vocab_size=-1, but an integer from 1"),
        (LLAMA_2_7B, {"num_hidden_layers": 0}, "num_hidden_layers=0"),
        (LLAMA_2_7B, {"num_hidden_layers": 10**15}, "num_hidden_layers"),
        (
            LLAMA_2_7B,
            {"model_type": "smollm3", "no_rope_layers": [1, 0]},
            "a list of 32 times 0 or 1",
        ),
        (LLAMA_2_7B, {"model_type": "gemma3"}, "no text_config, but an object"),
        (
            LLAMA_2_7B,
            {"model_type": "deepseek_v2", "kv_lora_rank": 33},
            "kv_lora_rank=33, but an even",
        ),
        (
            QWEN_2_5_7B,
            {"layer_types": [1] * 5000},
            r"layer_types=\[1, 1, .*\.\.\., but a list of 28",
        ),
        (LLAMA_2_7B, {"vocab_size": 10**4000}, r"vocab_size=10+\.\.\., but an integer from"),
        (LLAMA_2_7B, {"num_key_value_heads": 5}, "num_key_value_heads=5, but a divisor of 32"),
        (LLAMA_2_7B, {"rms_norm_eps": "1e-5"}, "rms_norm_eps='1e-5', but a number"),
        (LLAMA_2_7B, {"rms_norm_eps": float("nan")}, "rms_norm_eps=nan"),
        (LLAMA_2_7B, {"rope_theta": 0}, "rope_theta=0"),
        (LLAMA_2_7B, {"rope_theta": 1.0}, "rope_theta=1.0"),
        (LLAMA_2_7B, {"rope_scaling": "linear"}, "rope_scaling='linear', but an object"),
        (LLAMA_2_7B, {"rope_scaling": {"type": "linear"}}, "rope_scaling has no factor"),
        (LLAMA_2_7B, {"rope_scaling": {"type": "linear", "factor": 0}}, "factor=0"),
        (LLAMA_2_7B, {"tie_word_embeddings": "no"}, "tie_word_embeddings='no', but true or false"),
        (LLAMA_2_7B, {"eos_token_id": "</s>"}, "eos_token_id='</s>', but a token id"),
        (LLAMA_2_7B, {"eos_token_id": [1, None]}, "eos_token_id="),
        (LLAMA_2_7B, {"rope_scaling": {"type": "linear", "factor": 1e308}}, "below 1e"),
        (
            LLAMA_2_7B,
            {"rope_scaling": {"type": "dynamic", "factor": 2}, "head_dim": 2},
            "a rotary dimension above 2",
        ),
        (PHI_3_MINI_128K, {"original_max_position_embeddings": 1}, "an integer from 2"),
        (LLAMA_3_1_8B, {"rope_scaling": {**LLAMA3, "high_freq_factor": 0.5}}, "at least low"),
        (MISTRAL_7B_V01, {"sliding_window": 0}, "sliding_window=0"),
        (QWEN_2_5_7B, {"layer_types": ["full_attention"]}, "a list of 28"),
        (QWEN_2_5_7B, {"layer_types": ["chunked_attention"] * 28}, "a list of 28"),
        (QWEN_2_5_7B, {"layer_types": KINDS_28}, "a window for the layers"),
        (GEMMA_2_9B, {"sliding_window": None}, "sliding_window=None, but a window"),
        (GEMMA_3_1B, {"rope_parameters": {"rope_type": "default"}}, "one object for each"),
        (
            PHI_3_MINI_128K,
            {"rope_scaling": {**LONGROPE, "long_factor": [1.0]}},
            r"long_factor=\[1.0\], but a list of 48 numbers",
        ),
        (
            PHI_3_MINI_128K,
            {"rope_scaling": {**LONGROPE, "short_factor": ["x"] * 48}},
            "short_factor='x', but a number",
        ),
        (OPT_1_3B, {"num_attention_heads": 7}, "a divisor of hidden_size=2048"),
        (OPT_1_3B, {"word_embed_proj_dim": 4096}, "at most hidden_size=2048"),
    ],
)
def test_inconsistent_values_are_named(base, change, message):
    with pytest.raises(CheckpointError, match=message) as caught:
        parse_config({**base, **change})
    assert not isinstance(caught.value, UnsupportedModelError)
    assert_one_sentence(caught.value)


@pytest.mark.parametrize("name", PUBLISHED_PARAMETERS)
def test_errors_name_the_place_that_was_given(name):
    raw, _ = PUBLISHED_PARAMETERS[name]
    changed = {
        **raw,
        "vocab_size": 0,
        "text_config": {**raw.get("text_config", {}), "vocab_size": 0},
    }
    with pytest.raises(CheckpointError, match=r"^toy\.gguf.* has vocab_size=0"):
        parse_config(changed, where="toy.gguf")


NESTED = "[" * 100_000


@pytest.mark.parametrize(
    "content", [NESTED, "", "{", "[1]", "\xff", '{"model_type": "llama"}', "null"]
)
def test_files_that_are_no_config(tmp_path, content):
    (tmp_path / "config.json").write_text(content, encoding="latin-1")
    with pytest.raises(CheckpointError):
        load_config(tmp_path)


def test_no_config_at_all(tmp_path):
    with pytest.raises(CheckpointError, match=r"has no config\.json"):
        load_config(tmp_path)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["rope_type", "factor", "x"]), inner, max_size=3)
    ),
    max_leaves=4,
)
NAMES = st.sampled_from(list(PUBLISHED_PARAMETERS))


@settings(max_examples=200, deadline=None)
@given(name=NAMES, data=st.data())
def test_no_value_breaks_the_parser(name, data):
    raw, _ = PUBLISHED_PARAMETERS[name]
    section = raw.get("rope_scaling")
    changed = {**raw, data.draw(st.sampled_from([*raw, "layer_types"])): data.draw(JSON_VALUES)}
    if section:
        key = data.draw(st.sampled_from(list(section)))
        changed["rope_scaling"] = {**section, key: data.draw(JSON_VALUES)}
    try:
        config = parse_config(changed)
    except CheckpointError as error:
        assert_one_sentence(error)
    else:
        assert len(config.layers) == config.num_layers


def test_arch_does_not_need_torch():
    code = "import sys, lm_offload.arch.weights, lm_offload.arch.accounting as a; "
    code += "assert not {'torch', 'transformers', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def assert_one_sentence(error):
    text = str(error)
    assert text.endswith(".")
    assert "\n" not in text
