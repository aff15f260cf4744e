"""The config of each type from the metadata of its file: what its own config.json says."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lm_offload.arch.config import ModelConfig, parse_config
from lm_offload.arch.fields import Fields
from lm_offload.arch.shapes import LatentShape
from lm_offload.arch.weight_spec import LATENT_UP, WeightSpec
from lm_offload.errors import CheckpointError, UnsupportedModelError
from lm_offload.foreign import gguf_dense
from lm_offload.foreign.gguf_architectures import ARCHITECTURES
from lm_offload.foreign.gguf_header import read_gguf_header
from lm_offload.foreign.gguf_latent import latent_up
from lm_offload.foreign.gguf_model import open_gguf
from lm_offload.foreign.gguf_names import hugging_face_name
from lm_offload.storage.direct_file import open_files
from tests.foreign.gguf_files import write_gguf
from tests.foreign.gguf_toys import GGUF_TOYS, factors_of
from tests.quantized import toy_shapes


def open_toy(toy, folder, name, **metadata):
    """The toy's own config, and that of its file."""
    model_type, fields = GGUF_TOYS[name]
    source = toy(model_type, **(toy_shapes(model_type) | fields))
    path = write_gguf(source, folder / "gguf", "F16", vectors=factors_of(fields), **metadata)
    return parse_config(json.loads((source / "config.json").read_text())), open_gguf(path)


def nearly(config: ModelConfig) -> ModelConfig:
    """With numbers that went through a float32 in seven digits."""
    ropes = tuple(
        replace(
            rope,
            attention_factor=float(f"{rope.attention_factor:.6g}"),
            short_factor=tuple(float(f"{it:.6g}") for it in rope.short_factor),
            long_factor=tuple(float(f"{it:.6g}") for it in rope.long_factor),
        )
        for rope in config.ropes
    )
    return replace(config, dtype="float32", ropes=ropes)


@pytest.mark.parametrize("name", [name for name in GGUF_TOYS if name != "mistral"])
def test_config_is_that_of_hugging_face(toy, tmp_path, name):
    wanted, model = open_toy(toy, tmp_path, name)
    if name == "qwen3_next":  # its projections are not fused in files
        shape = replace(wanted.recurrent, fused=False)
        wanted = replace(wanted, model_type="qwen3_5_moe_text", recurrent=shape)
    if wanted.model_type == "granitemoehybrid":  # positions are not rotated, so any number will do
        wanted = replace(wanted, max_positions=1 << 20)
    assert nearly(parse_config(model.config)) == nearly(wanted)


def test_the_27b_models_divide_scores_by_another_number():
    """It is not in their files; llama.cpp knows them by their number of layers."""
    shapes = {"hidden_size": 32, "num_attention_heads": 4, "head_dim": 16}
    for config, layers in ((gguf_dense.gemma2, 46), (gguf_dense.gemma3, 62)):
        for found, scalar in ((layers, 32 / 4), (26, 16)):
            read = config(Fields({}), {**shapes, "num_hidden_layers": found}, ())
            assert read["query_pre_attn_scalar"] == scalar


def test_models_that_see_are_read_as_their_text_models():
    """llama.cpp has the part that sees in a file of its own."""
    for arch, kind in (("qwen2vl", "qwen2"), ("qwen3vl", "qwen3"), ("qwen3vlmoe", "qwen3_moe")):
        read = ARCHITECTURES[arch].config
        assert read is ARCHITECTURES[kind.replace("_", "")].config


def test_layers_that_guess_further_tokens_are_left_out(toy, tmp_path):
    """Published files of GLM-4.5 have one behind the last layer."""
    extra = {"blk.3.attn_norm.weight": [1.0] * 64, "blk.3.nextn.enorm.weight": [1.0] * 64}
    counts = {"glm4moe.block_count": 4, "glm4moe.nextn_predict_layers": 1}
    source = toy("glm4_moe", **toy_shapes("glm4_moe"))
    model = open_gguf(write_gguf(source, tmp_path / "a", "F16", vectors=extra, **counts))
    assert model.config["num_hidden_layers"] == 3
    assert not any(".layers.3." in name for name in model.checkpoint.tensors)
    counts["glm4moe.nextn_predict_layers"] = 4
    with pytest.raises(CheckpointError, match="less than block_count=4"):
        open_gguf(write_gguf(source, tmp_path / "b", "F16", vectors=extra, **counts))


def test_a_pattern_of_windows_may_be_a_period(toy, tmp_path):
    for pattern, slides in ((2, [True, False, True]), (1, [False] * 3), (0, [True] * 3)):
        key = {"olmo2.attention.sliding_window_pattern": pattern}
        _, model = open_toy(toy, tmp_path / str(pattern), "olmo3", **key)
        assert [it.window is not None for it in parse_config(model.config).layers] == slides


def test_early_files_of_qwen2_moe_do_not_say_widths(toy, tmp_path):
    arch = "qwen2moe"
    lengths = {
        f"{arch}.{key}": None
        for key in ("expert_feed_forward_length", "expert_shared_feed_forward_length")
    }
    _, model = open_toy(toy, tmp_path, "qwen2_moe", **lengths)
    assert model.config["moe_intermediate_size"] == 88 // 2
    assert model.config["shared_expert_intermediate_size"] == 88


def test_early_files_of_qwen3_next_have_fused_projections(toy, tmp_path):
    source = toy("qwen3_next", **toy_shapes("qwen3_next"))
    file = write_gguf(source, tmp_path, "F16")
    header = read_gguf_header(file)
    fused = {"blk.0.ssm_in.weight", *header.tensors} - {"blk.0.attn_qkv.weight"}
    fields = Fields({k.removeprefix("qwen3next."): v for k, v in header.metadata.items()})
    read = ARCHITECTURES["qwen3next"].config
    assert read(fields, {"num_hidden_layers": 4}, fused)["model_type"] == "qwen3_next"


def test_early_files_of_deepseek_have_keys_of_all_heads(toy, tmp_path):
    """And one tensor for what is made of the narrow vector."""
    sizes = {"key_length_mla": None, "value_length_mla": None, "key_length": 56, "value_length": 40}
    wanted, model = open_toy(
        toy,
        tmp_path,
        "deepseek_v2",
        **{f"deepseek2.attention.{key}": size for key, size in sizes.items()},
    )
    assert parse_config(model.config).latent == wanted.latent
    assert hugging_face_name("blk.0.attn_kv_b.weight", "deepseek2") == (
        "model.layers.0.self_attn.kv_b_proj.weight"
    )


def test_both_parts_of_the_latent_matrix_must_be_there(toy, tmp_path):
    _, model = open_toy(toy, tmp_path, "deepseek_v3")
    name = "model.layers.1.self_attn.kv_b_proj.weight"
    spec = WeightSpec(name, LATENT_UP, (4 * (24 + 16), 64))
    tensors = dict(model.checkpoint.tensors)
    values = name.replace("kv_b_proj", "v_b_proj")
    shape = LatentShape(64, 64, 32, 24, 16)
    del tensors[values]
    with pytest.raises(CheckpointError, match=r"v_b_proj\.weight of toy\.gguf is missing"):
        latent_up(replace(model.checkpoint, tensors=tensors), shape, spec)
    with pytest.raises(CheckpointError, match=r"has shape \[4, 64, 24\], its metadata asks for"):
        latent_up(model.checkpoint, replace(shape, other_dim=20, value_dim=20), spec)


def test_rates_of_decay_are_below_zero(toy, tmp_path):
    """A logarithm of another number would make nothing but NaN."""
    toys = toy("qwen3_5_text", **toy_shapes("qwen3_5_text"))
    source = Path(shutil.copytree(toys, tmp_path / "source"))
    tensors = load_file(source / "model.safetensors")
    name = "model.layers.0.linear_attn.A_log"
    save_file(tensors | {name: torch.full((4,), -200.0)}, source / "model.safetensors")
    model = open_gguf(write_gguf(source, tmp_path / "gguf", "F16"))
    tensor = model.tensor(WeightSpec(name, "decay_log", (4,)), None)
    with pytest.raises(CheckpointError, match=r"A_log of toy\.gguf has rates of decay"):
        list(tensor.pieces(open_files(tensor.paths)))


@pytest.mark.parametrize(
    ("name", "metadata", "message"),
    [
        ("qwen3_5", {"qwen35.ssm.inner_size": 63}, "a multiple of ssm.time_step_rank=4"),
        ("granitemoehybrid", {"granitehybrid.ssm.inner_size": 65}, "a multiple of embedding_l"),
        ("gpt_oss", {"gpt-oss.attention.sliding_window": None}, "no attention.sliding_window"),
        ("gpt_oss", {"gpt-oss.rope.scaling.attn_factor": 1.2}, "attn_factor=1.2"),
        ("gpt_oss", {"gpt-oss.block_count": 2**31 - 1}, "an integer from 1 to 10000"),
        ("olmo3", {"olmo2.attention.sliding_window_pattern": [True]}, "a list of 3 times true"),
        ("phi3 longrope", {"phi3.rope.scaling.original_context_length": None}, "original_context"),
        ("qwen3_moe", {"qwen3moe.expert_weights_scale": 2.5}, "expert_weights_scale=2.5"),
    ],
)
def test_metadata_that_means_something_else_is_refused(toy, tmp_path, name, metadata, message):
    with pytest.raises(CheckpointError, match=message):
        open_toy(toy, tmp_path, name, **metadata)


def test_a_rope_that_is_not_computed_is_refused(toy, tmp_path):
    with pytest.raises(UnsupportedModelError, match=r"rotates 8 of 16 channels of a head"):
        open_toy(toy, tmp_path, "olmo2", **{"olmo2.rope.dimension_count": 8})


def test_factors_for_one_length_alone_are_refused(toy, tmp_path):
    source = toy("phi3", **toy_shapes("phi3"))
    path = write_gguf(source, tmp_path, "F16", vectors={"rope_factors_long.weight": [1.0] * 8})
    with pytest.raises(CheckpointError, match=r"rope_factors_short\.weight is missing"):
        open_gguf(path)


def test_a_tensor_that_nothing_reads_is_refused(toy, tmp_path):
    """A bias that were left out would change every text."""
    source = toy("glm4", **toy_shapes("glm4"))
    extra = {"blk.0.attn_output.bias": [0.5] * 64}
    with pytest.raises(UnsupportedModelError, match=r"o_proj\.bias of toy is none that .* glm4"):
        open_gguf(write_gguf(source, tmp_path / "a", "F16", vectors=extra))
    later = {"blk.2.attn_output.bias": [0.5] * 64}
    with pytest.raises(UnsupportedModelError, match=r"layers\.2\..*o_proj\.bias of toy is none"):
        open_gguf(write_gguf(source, tmp_path / "c", "F16", vectors=later))
    strange = {"blk.0.attn_rel_b.weight": [0.5] * 64}
    with pytest.raises(UnsupportedModelError, match=r"attn_rel_b\.weight .* architecture glm4 has"):
        open_gguf(write_gguf(source, tmp_path / "b", "F16", vectors=strange))
