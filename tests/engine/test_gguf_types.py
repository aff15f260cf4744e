"""GGUF files of each type: the tokens and logits of transformers with the same weights."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from lm_offload.arch.config import parse_config
from lm_offload.arch.weights import build_units
from lm_offload.engine.opening import open_model
from lm_offload.engine.quantized_export import quantize_model
from lm_offload.foreign.gguf_model import open_gguf
from tests.engine.harness import PLENTY, generate, smallest_budget
from tests.engine.test_foreign import CLOSE, PROMPTS, check_tokens
from tests.foreign.gguf_files import write_gguf
from tests.foreign.gguf_toys import GGUF_TOYS, factors_of
from tests.foreign.test_folder_weights import decoded
from tests.quantized import toy_shapes
from tests.single_experts import with_single_experts


def gguf_of(toy, folder, name, format_of):
    model_type, fields = GGUF_TOYS[name]
    source = toy(model_type, **(toy_shapes(model_type) | fields))
    window = (
        {"llama.attention.sliding_window": fields["sliding_window"]} if name == "mistral" else {}
    )
    return write_gguf(source, folder / "gguf", format_of, vectors=factors_of(fields), **window)


@pytest.mark.parametrize("name", GGUF_TOYS)
def test_floats(toy, tmp_path, monkeypatch, name):
    file = gguf_of(toy, tmp_path, name, "F32")
    assert open_model(file, exact=True).conversion.is_exact
    check_tokens(file, file.parent / "oracle", monkeypatch, 1e-4)


@pytest.mark.parametrize(
    "name",
    [
        *("gemma3", "phi3 longrope", "granite", "glm4", "qwen2_moe"),
        *("ernie4_5_moe", "hunyuan_v1_moe", "granitemoe", "dots1"),
        *("qwen3_next", "qwen3_5", "qwen3_5 with wide heads", "granitemoehybrid"),
        *("deepseek_v2 with even heads", "lfm2_moe", "afmoe"),
    ],
)
def test_codes(toy, tmp_path, monkeypatch, name):
    file = gguf_of(toy, tmp_path, name, "Q8_0")
    check_tokens(file, file.parent / "oracle", monkeypatch, CLOSE)


def test_heads_in_turns_keep_their_codes(toy, tmp_path):
    """Columns are moved with their scales where groups lie within heads."""
    file = gguf_of(toy, tmp_path, "qwen3_5 with wide heads", "Q8_0")
    wanted = load_file(file.parent / "oracle" / "model.safetensors")
    model = open_gguf(file)
    units = build_units(parse_config(model.config), 1 << 30)
    specs = [spec for unit in units if unit.kind == "recurrent" for spec in unit.loaded]
    tensors = {spec.name: model.tensor(spec, None) for spec in specs if spec.is_matrix}
    moved = [
        it
        for name, it in tensors.items()
        if name.endswith(("in_proj_qkv.weight", "out_proj.weight"))
    ]
    assert len(moved) == 6
    for tensor in moved:
        assert str(tensor.format) == "int8:32"
        assert torch.equal(decoded(tensor), wanted[tensor.name])


def as_published(name: str) -> str:
    """Of gpt-oss: experts in MXFP4, matrices around them in eight bits."""
    return "MXFP4" if ".experts." in name else "F16" if "embed" in name else "Q8_0"


def test_mxfp4(toy, tmp_path, monkeypatch):
    file = gguf_of(toy, tmp_path, "gpt_oss", as_published)
    files = open_model(file, exact=True)
    assert str(files.stored_format) == "mxfp4"
    assert files.conversion.summary == ("45 x MXFP4 to mxfp4 (exact); 13 x Q8_0 to int8:32 (exact)")
    check_tokens(file, file.parent / "oracle", monkeypatch, CLOSE)


def test_mxfp4_is_kept_to_the_bit(toy, tmp_path):
    """Every expert is what the gguf package makes of its bytes, and takes as many of them."""
    file = gguf_of(toy, tmp_path, "gpt_oss", as_published)
    wanted = with_single_experts(load_file(file.parent / "oracle" / "model.safetensors"))
    model = open_gguf(file)
    units = build_units(parse_config(model.config), 1 << 30)
    specs = [spec for unit in units if unit.kind == "expert" for spec in unit.loaded]
    matrices = [model.tensor(spec, None) for spec in specs if spec.is_matrix]
    assert len(matrices) == 3 * 5 * 3
    for tensor in matrices:
        assert torch.equal(decoded(tensor), wanted[tensor.name])
        assert tensor.size_bytes == tensor.format.matrix_bytes(*tensor.shape)


def test_mxfp4_in_every_budget_and_as_a_folder(toy, tmp_path):
    file = gguf_of(toy, tmp_path, "gpt_oss", as_published)
    wanted = generate(file, PLENTY, PROMPTS)
    smallest = smallest_budget(file, PROMPTS, 8)
    assert generate(file, smallest, PROMPTS) == wanted
    quantize_model(file, None, tmp_path / "made", 1, lambda done, total: None)
    assert generate(tmp_path / "made", PLENTY, PROMPTS) == wanted


def test_mxfp4_of_other_mixtures(toy, tmp_path, monkeypatch):
    file = gguf_of(toy, tmp_path, "qwen3_moe", as_published)
    assert str(open_model(file, exact=True).stored_format) == "mxfp4"
    check_tokens(file, file.parent / "oracle", monkeypatch, CLOSE)


def test_mxfp4_of_a_model_without_experts(toy, tmp_path, monkeypatch):
    """No file is made so, but one could be."""
    file = gguf_of(toy, tmp_path, "qwen3", "MXFP4")
    check_tokens(file, file.parent / "oracle", monkeypatch, CLOSE)
