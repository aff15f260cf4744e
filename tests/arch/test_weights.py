import math

import pytest
from safetensors.torch import load_file

from lm_offload.arch.accounting import loaded_bytes, model_parameters, unit_bytes
from lm_offload.arch.config import load_config, parse_config
from lm_offload.arch.weights import build_units, name_candidates
from tests.arch.real_configs import LLAMA_3_1_8B, PUBLISHED_PARAMETERS
from tests.single_experts import with_single_experts
from tests.toy import EVERY_TYPE, make_toy_checkpoint

MIB = 2**20


@pytest.mark.parametrize("name", PUBLISHED_PARAMETERS)
def test_parameters_match_the_published_count(name):
    raw, published = PUBLISHED_PARAMETERS[name]
    assert model_parameters(build_units(parse_config(raw), 64 * MIB)) == published


TOYS = [
    *((model_type, {}) for model_type in EVERY_TYPE),
    *((model_type, {"tie_word_embeddings": True}) for model_type in ("llama", "qwen3", "phi3")),
    ("llama", {"attention_bias": True, "mlp_bias": True}),
    ("qwen3", {"attention_bias": True}),
    ("gemma2", {"attention_bias": True, "tie_word_embeddings": False}),
    ("opt", {"word_embed_proj_dim": 48, "do_layer_norm_before": False}),
    ("opt", {"word_embed_proj_dim": 48, "tie_word_embeddings": False}),
    ("opt", {"enable_bias": False, "_remove_final_layer_norm": True}),
]


@pytest.mark.parametrize(("model_type", "overrides"), TOYS)
def test_units_hold_each_tensor_of_the_file_once(tmp_path, model_type, overrides):
    folder = make_toy_checkpoint(tmp_path, model_type, **overrides)
    config = load_config(folder)
    tensors = with_single_experts(load_file(folder / "model.safetensors"))
    in_file = {
        name.replace("backbone.", "model."): tuple(tensor.shape) for name, tensor in tensors.items()
    }
    units = build_units(config, max_head_bytes=1)
    specs = [spec for unit in units for spec in unit.weights if unit.kind != "head"]
    head = [spec for unit in units for spec in unit.weights if unit.kind == "head"]
    assert {spec.name: spec.shape for spec in specs + head} == in_file
    assert len({(spec.name, spec.rows) for spec in specs}) == len(specs)
    assert (head[0].name in {spec.name for spec in specs}) == config.tie_embeddings
    file_bytes = 4 * sum(_elements(shape) for shape in in_file.values())
    tied_bytes = 4 * head[0].shape[0] * head[0].shape[1] if config.tie_embeddings else 0
    assert sum(unit_bytes(unit, 4) for unit in units) == file_bytes + tied_bytes
    assert 4 * model_parameters(units) == file_bytes


@pytest.mark.parametrize("max_head_bytes", [1, 64 * MIB, 100 * MIB, 10**12])
def test_head_parts_cover_the_vocabulary_in_order(max_head_bytes):
    config = parse_config(LLAMA_3_1_8B)
    head = [unit for unit in build_units(config, max_head_bytes) if unit.kind == "head"]
    rows = [unit.weights[0].rows for unit in head]
    assert [first for first, _ in rows] == [0, *(last for _, last in rows[:-1])]
    assert rows[-1][1] == config.vocab_size
    assert all((last - first) % 64 == 0 for first, last in rows[:-1])
    smallest = 64 * config.hidden_size * 2
    assert all(loaded_bytes(unit, 2) <= max(max_head_bytes, smallest) for unit in head)
    assert [unit.name for unit in head] == [f"head.{i}" for i in range(len(head))]


def test_units_are_in_the_order_of_a_sweep():
    names = [unit.name for unit in build_units(parse_config(LLAMA_3_1_8B), 10**12)]
    assert names[:4] == ["embed", "layers.0.attention", "layers.0.mlp", "layers.1.attention"]
    assert names[-3:] == ["layers.31.mlp", "final_norm", "head.0"]
    assert len(set(names)) == len(names)


def test_row_tables_are_not_loaded():
    embed = build_units(parse_config(LLAMA_3_1_8B), 10**12)[0]
    assert [spec.role for spec in embed.tables] == ["tokens"]
    assert loaded_bytes(embed, 2) == 0
    assert unit_bytes(embed, 2) == 128256 * 4096 * 2


def test_base_model_names_lack_the_prefix():
    assert name_candidates("model.norm.weight") == (
        "model.norm.weight",
        "norm.weight",
        "language_model.model.norm.weight",
        "model.language_model.norm.weight",
        "backbone.norm.weight",
    )
    assert name_candidates("lm_head.weight") == ("lm_head.weight", "language_model.lm_head.weight")


def _elements(shape):
    return math.prod(shape)
