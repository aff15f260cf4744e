from lm_offload.arch.accounting import (
    attention_flops,
    kv_bytes_per_token,
    unit_flops,
    workspace_floats,
)
from lm_offload.arch.config import parse_config
from lm_offload.arch.shipped import find_config
from lm_offload.arch.weights import build_units
from lm_offload.quant.format import Format
from tests.arch.real_configs import GEMMA_2_9B, LLAMA_3_1_8B, MISTRAL_7B_V01, OPT_350M


def test_kv_bytes():
    assert kv_bytes_per_token(parse_config(LLAMA_3_1_8B), Format("bf16")) == 131072
    assert kv_bytes_per_token(parse_config(GEMMA_2_9B), Format("fp32")) == 2 * 42 * 8 * 256 * 4


def test_flops_are_twice_the_matrices():
    units = {unit.name: unit for unit in build_units(parse_config(LLAMA_3_1_8B), 10**12)}
    assert unit_flops(units["layers.0.mlp"]) == 2 * 3 * 4096 * 14336
    assert unit_flops(units["layers.0.attention"]) == 2 * (2 * 4096 * 4096 + 2 * 4096 * 1024)
    assert unit_flops(units["head.0"]) == 2 * 128256 * 4096
    assert unit_flops(units["embed"]) == unit_flops(units["final_norm"]) == 0


def test_embedding_that_is_projected_costs_flops():
    embed = build_units(parse_config(OPT_350M), 10**12)[0]
    assert unit_flops(embed) == 2 * 512 * 1024


def test_attention_flops_stop_growing_at_the_window():
    llama, mistral = parse_config(LLAMA_3_1_8B), parse_config(MISTRAL_7B_V01)
    assert attention_flops(llama, 1000) == 4 * 4096 * 32 * 1000
    assert attention_flops(mistral, 4096) == attention_flops(mistral, 30000)
    gemma = parse_config(GEMMA_2_9B)
    assert attention_flops(gemma, 8192) == 4 * 16 * 256 * 21 * (4096 + 8192)


def test_workspace_grows_with_the_rows():
    config = parse_config(LLAMA_3_1_8B)
    assert workspace_floats(config, 64, 1) == 64 * (4096 + 2 * 14336)
    assert workspace_floats(config, 1, 1) == 4096 + 2 * 14336


def test_experts_have_room_for_who_uses_them():
    """Two floats of a row beside what is between their products, where those are the widest."""
    config = find_config("mixtral-8x7b")
    assert workspace_floats(config, 64, 1) == 64 * (2 * (4096 + 14336) + 2)
