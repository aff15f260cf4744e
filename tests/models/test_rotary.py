import math

import pytest
import torch
from transformers import AutoConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from lm_offload.arch.config import parse_config
from lm_offload.models.rotary import rotary_tables
from tests.arch import real_configs

POSITIONS = torch.tensor([0, 1, 17, 4095, 4096, 20000, 131071])
SECTIONS = {
    "default": None,
    "linear": {"type": "linear", "factor": 4.0},
    "llama3": real_configs.LLAMA_3_1_8B["rope_scaling"],
    "yarn": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768},
    "yarn deepseek": {
        "rope_type": "yarn",
        "factor": 40.0,
        "original_max_position_embeddings": 4096,
        "beta_fast": 32,
        "beta_slow": 1,
        "mscale": 0.707,
        "mscale_all_dim": 0.707,
    },
    "yarn not truncated": {
        "rope_type": "yarn",
        "factor": 8.0,
        "original_max_position_embeddings": 4096,
        "truncate": False,
        "beta_fast": 16.0,
        "beta_slow": 2.0,
    },
}


@pytest.mark.parametrize("name", SECTIONS)
def test_tables_equal_those_of_transformers(name):
    raw = {**real_configs.LLAMA_3_1_8B, "rope_scaling": SECTIONS[name]}
    ((cos, sin),) = rotary_tables(parse_config(raw), POSITIONS)
    oracle = LlamaRotaryEmbedding(AutoConfig.for_model(**raw))
    their_cos, their_sin = oracle(torch.zeros(1), POSITIONS[None])
    assert cos.shape == sin.shape == (len(POSITIONS), 64)
    # A rounding of the frequency in its last bit turns into this much at position 131071.
    torch.testing.assert_close(cos, their_cos[0, :, :64], atol=1e-2, rtol=0)
    torch.testing.assert_close(sin, their_sin[0, :, :64], atol=1e-2, rtol=0)
    near = POSITIONS < 4096
    torch.testing.assert_close(cos[near], their_cos[0, near, :64], atol=3e-4, rtol=0)


def test_one_table_for_each_rope():
    local = parse_config(real_configs.GEMMA_3_1B)
    tables = rotary_tables(local, POSITIONS)
    assert len(tables) == 2
    assert not torch.equal(tables[0][0], tables[1][0])
    assert rotary_tables(parse_config(real_configs.OPT_1_3B), POSITIONS) == ()


def test_longrope_switches_by_the_planned_length_of_each_sequence():
    config = parse_config(real_configs.PHI_3_MINI_128K)
    positions = torch.tensor([100, 100])
    ((cos, _),) = rotary_tables(config, positions, torch.tensor([4096, 4097]))
    ((short, _),) = rotary_tables(config, positions)
    assert torch.equal(cos[0], short[0])
    factor = math.sqrt(1 + math.log(32) / math.log(4096))
    long_factor = torch.tensor(real_configs.PHI_3_MINI_128K["rope_scaling"]["long_factor"])
    periods = 10000.0 ** (torch.arange(48) / 48)
    torch.testing.assert_close(cos[1], factor * (100 / (long_factor * periods)).cos())


def test_dynamic_theta_grows_only_beyond_the_window():
    raw = {**real_configs.LLAMA_2_7B, "rope_scaling": {"type": "dynamic", "factor": 2.0}}
    config, positions = parse_config(raw), torch.tensor([50, 50, 50])
    ((cos, _),) = rotary_tables(config, positions, torch.tensor([10, 4096, 8192]))
    assert torch.equal(cos[0], cos[1])
    theta = 10000.0 * (2 * 8192 / 4096 - 1) ** (128 / 126)
    expected = (50 / theta ** (torch.arange(64) / 64)).cos()
    torch.testing.assert_close(cos[2], expected, atol=1e-4, rtol=0)
