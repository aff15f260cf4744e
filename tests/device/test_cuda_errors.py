"""Errors of CUDA become those of this package; torch's own words are played."""

from __future__ import annotations

import pytest
import torch

from lm_offload.device.cuda import CudaDevice
from lm_offload.device.cuda_errors import errors_named
from lm_offload.errors import DeviceError, DeviceMemoryError
from lm_offload.units import GIB, MIB
from tests.device.played_cuda import PlayedCuda

ASKED = "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 15.77 GiB"


@pytest.mark.parametrize(
    ("error", "lacking_bytes"),
    [
        (torch.OutOfMemoryError(ASKED), 20 * MIB),
        (torch.OutOfMemoryError("CUDA out of memory."), 0),
        (torch.AcceleratorError("CUDA error: out of memory"), 0),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"), 0),
        (RuntimeError("Triton Error [CUDA]: out of memory"), 0),
    ],
)
def test_memory_that_is_lacking_is_counted(error, lacking_bytes):
    told = pytest.raises(DeviceMemoryError, match="no memory left for computing")
    with told as caught, errors_named("computing"):
        raise error
    assert caught.value.lacking_bytes == lacking_bytes


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (torch.AcceleratorError("CUDA error: unspecified launch failure\nCompile with"), "unspec"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling"), "CUBLAS_STATUS"),
    ],
)
def test_a_lost_gpu_is_told_in_the_words_of_cuda(error, words):
    told = pytest.raises(DeviceError, match=rf"while computing \(CUDA error: {words}")
    with told as caught, errors_named("computing"):
        raise error
    assert not isinstance(caught.value, DeviceMemoryError)


def test_other_errors_pass():
    error = RuntimeError("workspace exhausted")
    with pytest.raises(RuntimeError, match="workspace") as caught, errors_named("computing"):
        raise error
    assert caught.value is error


def test_of_a_plan_s_memory_what_is_not_free_is_lacking(monkeypatch):
    def refuse(*args, **options):
        raise torch.OutOfMemoryError(ASKED)

    PlayedCuda(monkeypatch)
    device = CudaDevice("cuda:0")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (3 * GIB, 16 * GIB))
    monkeypatch.setattr(torch, "empty", refuse)
    with pytest.raises(DeviceMemoryError, match=r"1\.00 GiB lacking") as caught:
        device.tier(4 * GIB)
    assert caught.value.lacking_bytes == GIB
