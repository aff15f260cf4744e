"""What computes on a GPU, and what is said where Triton cannot."""

from __future__ import annotations

import contextlib
import importlib
import logging
import sys

import pytest
import torch

from lm_offload.kernels.torch_kernels import TorchKernels
from lm_offload.kernels.triton_resolve import gpu_kernels


def test_other_devices_have_torch(caplog):
    fallback = TorchKernels(1)
    assert gpu_kernels(torch.device("cpu"), fallback) is fallback
    assert not caplog.records


def test_without_triton_there_is_one_warning(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "lm_offload.kernels.triton_kernels", None)
    fallback = TorchKernels(1)
    with caplog.at_level(logging.WARNING):
        assert gpu_kernels(torch.device("cuda:0"), fallback) is fallback
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "cuda:0" in caplog.text
    assert "lm-offload[gpu]" in caplog.text


@pytest.fixture
def played_gpu(monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """Tensors that are made on it are in host memory, where the interpreter runs kernels."""
    to = torch.Tensor.to

    def stay(tensor, target):
        return tensor if isinstance(target, torch.device) else to(tensor, target)

    monkeypatch.setattr(torch.Tensor, "to", stay)
    monkeypatch.setattr(torch.cuda, "device", contextlib.nullcontext)
    return torch.device("cuda:0")


def test_a_kernel_that_fails_is_one_warning(kernels, played_gpu, monkeypatch, caplog):
    def broken(*_arguments):
        raise RuntimeError("Failed to find C compiler.\nmore of it")

    monkeypatch.setattr("lm_offload.kernels.triton_rows.rms_norm", broken)
    fallback = TorchKernels(1)
    with caplog.at_level(logging.WARNING):
        assert gpu_kernels(played_gpu, fallback) is fallback
    assert "(Failed to find C compiler.)" in caplog.text


def test_a_wrong_result_is_noticed(kernels, played_gpu, monkeypatch, caplog):
    def doubled(x, weight, out, bias, add):
        right(x, weight, out, bias, add)
        out *= 2

    module = "lm_offload.kernels.triton_kernels"
    right = importlib.import_module(module).packed_product
    monkeypatch.setattr(f"{module}.packed_product", doubled)
    fallback = TorchKernels(1)
    assert gpu_kernels(played_gpu, fallback) is fallback
    assert "linear did not compute what torch does" in caplog.text


def test_triton_is_taken_where_it_works(kernels, played_gpu, caplog):
    chosen = gpu_kernels(played_gpu, TorchKernels(1))
    assert chosen.name == "triton"
    assert not caplog.records
