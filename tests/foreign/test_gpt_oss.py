"""Experts of gpt-oss, stacked in a file: each comes out by itself, to the bit."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file

from lm_offload.arch.config import parse_config
from lm_offload.arch.weights import build_units
from lm_offload.errors import CheckpointError
from lm_offload.foreign import pieces
from lm_offload.foreign.folder_model import open_quantized_folder
from lm_offload.quant.format import parse_format
from lm_offload.quant.quantize import dequantize, quantize
from lm_offload.storage.direct_file import open_files
from tests.foreign.mxfp4 import write_mxfp4
from tests.foreign.test_folder_weights import decoded
from tests.quantized import toy_shapes
from tests.single_experts import with_single_experts

BLOCKS = "model.layers.1.mlp.experts.gate_up_proj_blocks"
SCALES = "model.layers.1.mlp.experts.down_proj_scales"


@pytest.fixture(scope="module")
def packed(toy, tmp_path_factory):
    return write_mxfp4(
        toy("gpt_oss", **toy_shapes("gpt_oss")), tmp_path_factory.mktemp("m") / "toy"
    )


@pytest.fixture
def few_rows(monkeypatch):
    """Several pieces of each matrix."""
    monkeypatch.setattr(pieces, "DECODED_WEIGHTS", 1024)


def expert_tensors(folder, wanted=None):
    """The tensors of all experts on their way in."""
    model = open_quantized_folder(folder, "toy")
    units = build_units(parse_config(model.config), 1 << 30)
    specs = [spec for unit in units if unit.kind == "expert" for spec in unit.loaded]
    return [model.tensor(spec, wanted) for spec in specs]


def floats(tensor):
    """What is stored of a tensor in its own precision."""
    files = open_files(tensor.paths)
    found = torch.cat([piece.clone() for piece in tensor.pieces(files)])
    for file in files.values():
        file.close()
    return found


def test_mxfp4_is_kept_to_the_bit(packed, few_rows):
    wanted = with_single_experts(load_file(packed / "oracle" / "model.safetensors"))
    tensors = expert_tensors(packed)
    assert len(tensors) == 3 * 5 * 6
    for tensor in tensors:
        assert tensor.loss == "exact"
        is_matrix = len(tensor.shape) == 2
        assert str(tensor.format) == ("mxfp4" if is_matrix else "bf16")
        found = decoded(tensor) if is_matrix else floats(tensor)
        assert torch.equal(found.float(), wanted[tensor.name])


def test_all_experts_take_as_many_bytes_as_the_stacks(packed):
    held = load_file(packed / "model.safetensors")
    stacks = (value for name, value in held.items() if ".experts." in name)
    wanted = sum(value.numel() * value.itemsize for value in stacks)
    assert sum(tensor.size_bytes for tensor in expert_tensors(packed)) == wanted


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_floats_are_kept_to_the_bit(toy, dtype, few_rows):
    folder = toy("gpt_oss", dtype=dtype)
    wanted = with_single_experts(load_file(folder / "model.safetensors"))
    for tensor in expert_tensors(folder):
        assert tensor.loss == "exact"
        assert torch.equal(floats(tensor), wanted[tensor.name])


def test_floats_may_be_quantized(toy, few_rows):
    folder = toy("gpt_oss", **toy_shapes("gpt_oss"))
    wanted = with_single_experts(load_file(folder / "model.safetensors"))
    for name in ("mxfp4", "int4:32"):
        for tensor in expert_tensors(folder, parse_format(name)):
            if len(tensor.shape) == 2:
                rounded = dequantize(quantize(wanted[tensor.name], tensor.format, "w"))
                assert (str(tensor.format), tensor.loss) == (name, "as asked for")
                assert torch.equal(decoded(tensor), rounded)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (
            BLOCKS,
            lambda old: old[..., :8].contiguous(),
            r"gate_up_proj_blocks is U8 \[5, 256, 2, 8",
        ),
        (
            BLOCKS,
            lambda old: old[:3].clone(),
            r"gate_up_proj_blocks is U8 \[3, .* \[4, 256, 2, 16\]",
        ),
        (SCALES, lambda old: old.float(), r"down_proj_scales is F32 .* asks for U8"),
        (SCALES, None, r"down_proj_scales is missing"),
    ],
)
def test_stacks_that_do_not_fit_are_refused(packed, tmp_path, name, change, message):
    tensors = load_file(packed / "model.safetensors")
    old = tensors.pop(name)
    if change is not None:
        tensors[name] = change(old)
    (tmp_path / "config.json").write_text((packed / "config.json").read_text())
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=message):
        expert_tensors(tmp_path)
