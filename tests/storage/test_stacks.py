"""Experts of one tensor read as tensors of their own."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file

from lm_offload.engine.opening import open_model
from lm_offload.errors import CheckpointError
from lm_offload.storage.checkpoint import open_checkpoint
from lm_offload.storage.direct_file import DirectFile
from lm_offload.storage.row_reader import read_tensor
from lm_offload.storage.stacks import with_single_experts
from tests.single_experts import with_single_experts as matrices_of


def test_each_matrix_is_read_from_where_it_lies(toy):
    folder = toy("granitemoe")
    wanted = matrices_of(load_file(folder / "model.safetensors"))
    checkpoint = with_single_experts(open_checkpoint(folder), "granitemoe")
    assert checkpoint.tensors.keys() == wanted.keys()
    file = DirectFile(folder / "model.safetensors")
    try:
        for name, entry in checkpoint.tensors.items():
            assert torch.equal(read_tensor(entry, file).view(entry.shape), wanted[name])
    finally:
        file.close()


def test_other_types_stay_as_they_are(toy):
    checkpoint = open_checkpoint(toy("mixtral"))
    assert with_single_experts(checkpoint, "mixtral") is checkpoint


@pytest.mark.parametrize("shape", [(10, 96, 64), (5, 95, 64), (480, 64)])
def test_what_is_no_stack_of_the_right_matrices_is_refused(toy, tmp_path, shape):
    folder = toy("granitemoe")
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.1.block_sparse_moe.input_linear.weight"] = torch.zeros(shape)
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    with pytest.raises(CheckpointError, match="has shape"):
        open_model(tmp_path)
