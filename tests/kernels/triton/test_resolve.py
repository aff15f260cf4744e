"""What computes on a GPU, and what is said where Triton cannot."""

from __future__ import annotations

import logging
import sys

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


def test_a_kernel_that_fails_is_one_warning(kernels, monkeypatch, caplog):
    def broken(*_arguments):
        raise RuntimeError("Failed to find C compiler.\nmore of it")

    monkeypatch.setattr("lm_offload.kernels.triton_rows.rms_norm", broken)
    monkeypatch.setattr(torch, "ones", lambda *shape, device: torch.zeros(*shape))
    with caplog.at_level(logging.WARNING):
        gpu_kernels(torch.device("cuda:0"), TorchKernels(1))
    assert "(Failed to find C compiler.)" in caplog.text


def test_triton_is_taken_where_it_works(kernels, monkeypatch, caplog):
    zeros = torch.zeros
    monkeypatch.setattr(torch, "ones", lambda *shape, device: zeros(*shape) + 1)
    fallback = TorchKernels(1)
    chosen = gpu_kernels(torch.device("cuda:0"), fallback)
    assert chosen.name == "triton"
    assert not caplog.records
