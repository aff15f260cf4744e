"""Configs that ship as data, and configs that can be planned but not run."""

import json
import math
import shutil

import pytest

from lm_offload.arch.accounting import kv_bytes_per_token, model_parameters, unit_flops
from lm_offload.arch.config import load_config, parse_config
from lm_offload.arch.shapes import LatentShape
from lm_offload.arch.shipped import CONFIGS, find_config, shipped_models
from lm_offload.arch.weights import build_units
from lm_offload.errors import CheckpointError, UnsupportedModelError
from lm_offload.quant.format import Format

MIB = 2**20
PUBLISHED_PARAMETERS = {
    "opt-6.7b": 6_658_473_984,
    "opt-13b": 12_853_473_280,
    "opt-30b": 29_974_540_288,
    "opt-66b": 65_719_701_504,
    "opt-175b": 174_604_468_224,
    "llama-7b": 6_738_415_616,
    "llama-13b": 13_015_864_320,
    "llama-30b": 32_528_943_616,
    "llama-65b": 65_285_660_672,
    "llama-2-7b": 6_738_415_616,
    "llama-2-13b": 13_015_864_320,
    "llama-2-70b": 68_976_648_192,
    "llama-3.1-8b": 8_030_261_248,
    "llama-3.1-70b": 70_553_706_496,
    "mixtral-8x7b": 46_702_792_704,
    "qwen3-30b-a3b": 30_532_122_624,
    "mixtral-8x22b": 140_620_634_112,
    "gpt-oss-20b": 20_914_757_184,
    "gpt-oss-120b": 116_829_156_672,
    "glm-4.5-air": 106_852_251_264,
    "deepseek-v3": 671_026_419_200,
    "deepseek-v2-lite": 15_706_484_224,
    "llama-4-scout-17b-16e": 107_769_861_120,
    "minimax-m2": 228_689_764_864,
    "ministral-3-8b": 8_489_553_920,
    "qwen3-next-80b-a3b": 81_324_862_720 - 1_650_471_424,  # layers that guess tokens
    "granite-4.0-h-small": 32_207_337_984,
    "nemotron-3-nano-30b-a3b": 31_577_940_288,
    "qwen3.5-35b-a3b": 35_951_822_704 - 844_640_768 - 446_571_248,  # and the vision tower
}


def raw_config(name):
    return json.loads((CONFIGS / f"{name}.json").read_text())


def test_every_config_that_ships_has_its_published_size_and_a_source():
    assert set(shipped_models()) == PUBLISHED_PARAMETERS.keys()
    for name, published in PUBLISHED_PARAMETERS.items():
        assert model_parameters(build_units(find_config(name), 64 * MIB)) == published
        assert raw_config(name)["source"]


def test_names_are_not_case_sensitive():
    assert find_config("OPT-30B") == find_config("opt-30b")


def test_a_bare_config_file_is_enough(tmp_path, toy):
    folder = toy("llama")
    bare = tmp_path / "described.json"
    shutil.copyfile(folder / "config.json", bare)
    assert load_config(bare) == find_config(str(bare)) == find_config(str(folder))


def test_errors_of_a_bare_file_name_it(tmp_path):
    bare = tmp_path / "described.json"
    bare.write_text('{"model_type": "llama"}')
    with pytest.raises(CheckpointError, match=r"described\.json has no hidden_size"):
        load_config(bare)


def test_an_unknown_name_lists_those_that_ship():
    with pytest.raises(
        CheckpointError,
        match=r"'opt-9b' \(did you mean opt-66b\?\) is neither .* mixtral-8x7b, .*, opt-13b",
    ):
        find_config("opt-9b")


def test_mixtures_of_experts():
    mixtral, qwen = find_config("mixtral-8x7b"), find_config("qwen3-30b-a3b")
    assert mixtral.is_moe
    assert qwen.is_moe
    assert not find_config("llama-2-7b").is_moe
    assert (mixtral.num_experts, mixtral.experts_per_token) == (8, 2)
    assert (qwen.num_experts, qwen.experts_per_token) == (128, 8)
    assert (mixtral.intermediate_size, qwen.intermediate_size) == (14336, 768)
    assert parse_config(raw_config("mixtral-8x7b")).scaled_to_one


def test_gpt_oss():
    config = find_config("gpt-oss-20b")
    assert (config.num_experts, config.experts_per_token, config.expert_format) == (32, 4, "mxfp4")
    assert [layer.window for layer in config.layers[:4]] == [128, None, 128, None]
    (rope,) = config.ropes
    assert (rope.kind, rope.factor, rope.theta, rope.truncate) == ("yarn", 32.0, 150_000.0, False)
    assert config.max_positions == 131_072
    assert (config.gate_limit, config.gate_slope) == (7.0, 1.702)
    short = {"model_type", "vocab_size", "hidden_size", "num_attention_heads", "intermediate_size"}
    raw = raw_config("gpt-oss-20b")
    kept = {key: raw[key] for key in (*short, "num_hidden_layers", "quantization_config")}
    assert parse_config(kept | {"num_local_experts": 32}) == config
    router = next(u for u in build_units(config, 64 * MIB) if u.name == "layers.3.router")
    assert [(spec.role, spec.shape) for spec in router.loaded] == [
        ("input_norm", (2880,)), ("router", (32, 2880)), ("router_bias", (32,))
    ]  # fmt: skip


def test_glm_4_5_air():
    config = find_config("glm-4.5-air")
    assert (config.num_experts, config.experts_per_token, config.mixture_layers) == (128, 8, 45)
    assert (config.dense_size, config.intermediate_size, config.shared_size) == (10944, 1408, 1408)
    assert (config.ropes[0].rotary_dim, config.head_dim, config.query_size) == (64, 128, 12288)
    units = build_units(config, 64 * MIB)
    kinds = [unit.kind for unit in units if unit.name.startswith(("layers.0.", "layers.1."))]
    assert kinds == ["attention", "mlp", "attention", "router", *["expert"] * 128]
    assert not any(unit.index == 46 for unit in units if unit.kind == "attention")


def test_deepseek():
    config, lite = find_config("deepseek-v3"), find_config("deepseek-v2-lite")
    assert (config.mixture_layers, config.expert_groups, config.groups_per_token) == (58, 8, 4)
    assert (config.head_dim, config.kv_size, config.ropes[0].rotary_dim) == (576, 576, 64)
    assert config.latent == LatentShape(1536, 512, 64, 128, 128)
    assert lite.latent == LatentShape(None, 512, 64, 128, 128)
    assert (lite.mixture_layers, lite.shared_size, lite.expert_groups) == (26, 2816, 1)
    mscale = 0.1 * math.log(40) + 1.0  # YaRN's, which queries and keys are both multiplied with
    assert config.attention_scale == pytest.approx(192**-0.5 * mscale**2)
    assert config.ropes[0].attention_factor == lite.ropes[0].attention_factor == 1.0
    assert kv_bytes_per_token(lite, Format("bf16")) == 27 * 2 * 576 * 2


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("deepseek-v3", {"scoring_func": "softmax"}),
        ("deepseek-v3", {"topk_method": "greedy"}),
        ("deepseek-v3", {"moe_layer_freq": 2}),
        ("deepseek-v2-lite", {"topk_method": "noaux_tc"}),
        ("deepseek-v2-lite", {"norm_topk_prob": True}),
    ],
)
def test_other_routers_of_deepseek_are_refused(name, change):
    with pytest.raises(UnsupportedModelError, match=next(iter(change))):
        parse_config({**raw_config(name), **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"first_k_dense_replace": 46}, "first_k_dense_replace=46, but an integer from 0 to 45"),
        ({"n_group": 3}, "n_group=3, but a divisor of 128"),
        ({"n_group": 128}, "n_group=128, but a divisor of 128 that leaves two in each"),
        ({"n_group": 4, "topk_group": 5}, "topk_group=5, but an integer from 1 to 4"),
        ({"n_group": 32, "topk_group": 1}, "topk_group=1, but an integer from 2 to 32"),
        ({"n_shared_experts": -1}, "n_shared_experts=-1, but an integer"),
    ],
)
def test_impossible_groups_are_refused(change, message):
    with pytest.raises(CheckpointError, match=message):
        parse_config({**raw_config("glm-4.5-air"), **change})


def test_gpt_oss_in_other_formats_is_refused():
    raw = raw_config("gpt-oss-20b") | {"quantization_config": {"quant_method": "fp8"}}
    with pytest.raises(UnsupportedModelError, match="has quantization_config"):
        parse_config(raw)


def test_layers_without_experts_are_refused():
    raw = raw_config("qwen3-30b-a3b")
    for change in ({"decoder_sparse_step": 2}, {"mlp_only_layers": [0]}):
        with pytest.raises(UnsupportedModelError, match=next(iter(change))):
            parse_config(raw | change)


def test_both_spellings_of_the_number_of_experts():
    raw = raw_config("qwen3-30b-a3b")
    newer = {key: value for key, value in raw.items() if key != "num_experts"}
    assert parse_config(newer | {"num_local_experts": 128}) == parse_config(raw)


def test_a_mixture_of_experts_is_accounted_for():
    config = find_config("mixtral-8x7b")
    units = build_units(config, 64 * MIB)
    first = [unit for unit in units if unit.name.startswith("layers.0.")]
    assert [unit.kind for unit in first] == ["attention", "router", *["expert"] * 8]
    assert first[-1].name == "layers.0.expert.7"
    assert unit_flops(first[-1]) == 2 * 3 * 4096 * 14336
    assert unit_flops(first[1]) == 2 * 8 * 4096
    assert kv_bytes_per_token(config, Format("bf16")) == 2 * 32 * 8 * 128 * 2
    assert len({unit.name for unit in units}) == len(units)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_local_experts": 1}, "num_local_experts=1, but an integer from 2"),
        ({"num_experts_per_tok": 9}, "num_experts_per_tok=9, but at most num_local_experts=8"),
        ({"num_experts_per_tok": "two"}, "num_experts_per_tok='two', but an integer"),
    ],
)
def test_impossible_experts_are_refused(change, message):
    with pytest.raises(CheckpointError, match=message):
        parse_config({**raw_config("mixtral-8x7b"), **change})
