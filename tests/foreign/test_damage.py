"""Foreign checkpoints that contradict themselves: one sentence that names what is wrong."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import struct

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from lm_offload.engine.opening import open_model, prepared
from lm_offload.errors import CheckpointError, LMOffloadError, UnsupportedModelError
from tests.foreign.cases import CASES
from tests.foreign.folders import compressed_section, write_folder
from tests.foreign.gguf_files import write_gguf
from tests.quantized import toy_shapes

MODULE = "model.layers.1.mlp.up_proj."
NAMED = r"model\.layers\.\d\.[a-z_.]+"


@pytest.fixture(scope="module")
def file(toy, tmp_path_factory):
    folder = tmp_path_factory.mktemp("gguf")
    return write_gguf(toy("llama", **toy_shapes("llama")), folder, "Q8_0")


@pytest.fixture
def copy(toy, tmp_path, monkeypatch):
    """A folder of a case, with some of its config and of its tensors replaced."""
    monkeypatch.setenv("LM_OFFLOAD_CACHE", str(tmp_path / "cache"))

    def make(case, changes, tensors=None):
        section, packer, *_ = CASES[case]
        source = toy("llama", **toy_shapes("llama"))
        folder = write_folder(source, tmp_path / "model", section | changes, packer)
        held = load_file(folder / "model.safetensors")
        for suffix, value in (tensors or {}).items():
            old = held.pop(MODULE + suffix)
            if value is not None:
                held[MODULE + suffix] = value(old)
        save_file(held, folder / "model.safetensors")
        return folder

    return make


@settings(max_examples=60)
@given(st.data())
def test_a_gguf_file_that_is_cut_off_or_damaged_is_refused_or_read(file, tmp_path, data):
    whole = bytearray(file.read_bytes())
    header_bytes = len(whole) - 60_000  # about where the weights begin
    if data.draw(st.booleans()):
        changed = whole[: data.draw(st.integers(0, len(whole) - 1))]
    else:
        changed = whole
        changed[data.draw(st.integers(0, header_bytes))] ^= data.draw(st.integers(1, 255))
    path = tmp_path / "damaged.gguf"
    path.write_bytes(changed)
    with contextlib.suppress(LMOffloadError):
        open_model(path)  # any other error fails
        assert len(changed) == file.stat().st_size


@pytest.mark.parametrize("cut", [0, 3, 20, 200, 3000])
def test_a_gguf_header_that_is_cut_off(file, tmp_path, cut):
    path = tmp_path / "cut.gguf"
    path.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(
        CheckpointError, match=r"GGUF file cut\.gguf is damaged or not one that can"
    ):
        open_model(path)


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (struct.pack("<4sIQQQ", b"GGUF", 3, 1, 1, 1 << 29), "its header claims 536870944 bytes"),
        (struct.pack("<4sIQQ", b"GGUF", 3, 1 << 40, 0), "it has the tensor '' twice"),
        (struct.pack("<4sIQQ", b"GGUF", 3, 1, 1 << 40), "it has the key '' twice"),
        (
            struct.pack("<4sIQQQ1sIIQ", b"GGUF", 3, 1, 1, 1, b"k", 9, 8, 1 << 40),
            "its header claims 8796093022257 bytes",
        ),
    ],
    ids=["text", "tensors", "keys", "vocabulary"],
)
def test_a_header_that_claims_gigabytes_of_a_large_file_is_not_read_that_far(
    tmp_path, start, message
):
    path = tmp_path / "large.gguf"
    path.write_bytes(start)
    os.truncate(path, 1 << 30)
    with pytest.raises(CheckpointError, match=message):
        open_model(path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"llama.block_count": None}, r"toy\.gguf, llama has no block_count, but a value"),
        ({"llama.block_count": 4}, r"layers\.3\.input_layernorm\.weight is missing"),
        (
            {"llama.feed_forward_length": 96},
            r"gate_proj\.weight of .* its metadata asks for \[96, 64",
        ),
        ({"llama.attention.head_count": 3}, "toy has num_key_value_heads=2, but a divisor of 3"),
        ({"llama.expert_count": 8}, "has no expert_used_count, but a value"),
        ({"llama.rope.dimension_count": 8}, "rotates 8 of 16 channels"),
        ({"llama.rope.scaling.type": "longrope"}, r"rope\.scaling\.type='longrope'"),
        ({"tokenizer.ggml.tokens": ["a"] * 200}, "has 131 rows, its vocabulary has 200 tokens"),
        ({"general.alignment": "x"}, "its alignment is 'x'"),
    ],
)
def test_metadata_that_does_not_fit(toy, tmp_path, fields, message):
    path = write_gguf(toy("llama", **toy_shapes("llama")), tmp_path, "Q8_0", **fields)
    with pytest.raises(CheckpointError, match=message):
        open_model(path)


def test_other_architectures_are_refused(toy, tmp_path):
    source = shutil.copytree(toy("llama", **toy_shapes("llama")), tmp_path / "source")
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps(config | {"model_type": "minicpm"}))
    path = write_gguf(source, tmp_path, "F16")
    with pytest.raises(
        UnsupportedModelError, match="architecture 'minicpm', supported as GGUF are"
    ):
        open_model(path)


def test_a_part_that_is_missing_is_named(toy, tmp_path):
    path = write_gguf(toy("llama", **toy_shapes("llama")), tmp_path, "F16", tensors_of_part=9)
    (tmp_path / "toy-00003-of-00004.gguf").unlink()
    with pytest.raises(
        CheckpointError, match=r"toy-00003-of-00004\.gguf is missing beside toy-00001"
    ):
        open_model(path)


def test_a_file_that_is_no_gguf(tmp_path):
    (tmp_path / "model.bin").write_bytes(b"x")
    with pytest.raises(
        CheckpointError, match=r"is not a folder; give the folder .* a GGUF file, or"
    ):
        open_model(tmp_path / "model.bin")


@pytest.mark.parametrize(
    ("case", "changes", "tensors", "message"),
    [
        ("gptq", {"group_size": 64}, {}, NAMED + r"qzeros is I32 \[2, 8\], but the quantization_"),
        ("gptq", {"group_size": 48}, {}, NAMED + "weight has 64 columns, which the group size 48"),
        ("gptq", {"bits": 8}, {}, NAMED + r"qweight is I32 \[8, 64\], .* asks for I32 \[16, 64\]"),
        ("gptq", {"bits": 3}, {}, "has bits=3, supported here: 4, 8"),
        ("gptq", {"bits": None}, {}, "has bits=None, but a value is needed"),
        ("gptq", {"checkpoint_format": "marlin"}, {}, "has checkpoint_format='marlin'"),
        ("gptq", {"desc_act": True}, {"g_idx": None}, r"up_proj\.g_idx is missing from model"),
        ("gptq", {}, {"scales": None}, r"up_proj\.scales is missing from model"),
        ("gptq", {"quant_method": "quip"}, {}, "quant_method 'quip', read are gptq, awq"),
        ("awq", {"version": "gemv"}, {}, "has version='gemv'"),
        ("awq", {"group_size": 64}, {}, NAMED + "qzeros is I32"),
        ("compressed int4", {"format": "nvfp4-pack-quantized"}, {}, "has format='nvfp4-pack"),
        ("compressed int4", {"config_groups": {}}, {}, NAMED + "weight is quantized in a way that"),
        ("compressed int4", {}, {"weight_scale": None}, r"up_proj\.weight_scale is missing"),
        (
            "compressed int4",
            compressed_section(
                "pack-quantized", {"num_bits": 4, "strategy": "group", "group_size": 64}
            ),
            {},
            NAMED + r"weight_scale is F16 \[64, 2\], .* asks for F16 or BF16 or F32 \[64, 1\]",
        ),
        ("fp8 blocks", {"weight_block_size": [64, 64]}, {}, NAMED + "weight_scale_inv is F32"),
        ("fp8 blocks", {"weight_block_size": 128}, {}, "a list of two positive numbers"),
    ],
)
def test_config_and_tensors_that_do_not_fit(copy, case, changes, tensors, message):
    with pytest.raises(CheckpointError, match=message):
        open_model(copy(case, changes, tensors))


@pytest.mark.parametrize(
    ("case", "suffix", "dtype", "message"),
    [
        ("compressed fp8 by tensor", "weight", torch.float8_e4m3fn, "has dtype F8_E4M3"),
        ("compressed int8", "weight", torch.int8, "has dtype I8"),
        ("fp8 blocks", "weight", torch.float8_e4m3fn, "has dtype F8_E4M3"),
        ("gptq", "qweight", torch.int32, "is missing from model"),
        ("awq", "qweight", torch.int32, "is missing from model"),
        ("compressed int4", "weight_packed", torch.int32, "is missing from model"),
    ],
)
def test_a_vector_that_is_quantized_is_refused_by_name(copy, case, suffix, dtype, message):
    folder, module = copy(case, {}), "model.layers.1.input_layernorm."
    held = load_file(folder / "model.safetensors")
    held[module + suffix] = held.pop(module + "weight").to(dtype)
    save_file(held, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=rf"1\.input_layernorm\.weight {message}"):
        open_model(folder)


def test_a_quantized_embedding_is_refused_by_name(copy):
    folder = copy("fp8 blocks", {"weight_block_size": [131, 64]})
    held = load_file(folder / "model.safetensors")
    name = "model.embed_tokens.weight"
    held = {name: held[name].to(torch.float8_e4m3fn), f"{name}_scale_inv": torch.ones(1, 1)}
    save_file(
        load_file(folder / "oracle" / "model.safetensors") | held, folder / "model.safetensors"
    )
    with pytest.raises(
        UnsupportedModelError, match=r"embed_tokens\.weight is fp8, but an embedding"
    ):
        open_model(folder)


@pytest.mark.parametrize(
    ("case", "changes", "tensors", "message"),
    [
        ("gptq asymmetric", {"sym": True}, {}, NAMED + "qzeros has zeros other than 8"),
        (
            "gptq activation order",
            {"desc_act": False},
            {},
            NAMED + "g_idx has columns in activation order, which the quantization_config",
        ),
        (
            "gptq activation order",
            {},
            {"g_idx": lambda t: t + 9},
            r"up_proj\.g_idx has groups from 9",
        ),
        (
            "gptq",
            {},
            {"scales": lambda t: t * torch.inf},
            r"up_proj\.weight has scales that are not",
        ),
        ("fp8 blocks", {}, {"weight_scale_inv": lambda t: t * torch.nan}, "not finite"),
        (
            "fp8 blocks",
            {},
            {"weight": lambda t: (t.float() * torch.nan).to(t.dtype)},
            r"up_proj\.weight holds NaN or infinite values",
        ),
        (
            "fp8 blocks",
            {},
            {"weight_scale_inv": lambda t: t * 1e38 / t.max()},
            r"up_proj\.weight holds NaN or infinite values",
        ),
        (
            "compressed int4",
            {},
            {"weight_shape": lambda t: t * 2},
            r"up_proj\.weight_shape holds \[\d+, \d+\], but config\.json asks for \[",
        ),
        (
            "compressed fp8 by channel",
            {},
            {"weight_scale": lambda t: t * torch.inf},
            r"up_proj\.weight_scale holds values that are not finite",
        ),
    ],
)
def test_weights_that_contradict_the_config_leave_nothing(
    copy, tmp_path, case, changes, tensors, message
):
    files = open_model(copy(case, changes, tensors))
    with pytest.raises(CheckpointError, match=message):
        prepared(files, 1, lambda done, total: None)
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []
