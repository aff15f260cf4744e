"""Triton's kernels in its interpreter, which runs them on the CPU, program after program."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from lm_offload.kernels.torch_kernels import TorchKernels

if TYPE_CHECKING:
    from lm_offload.kernels.triton_kernels import TritonKernels


@pytest.fixture
def kernels() -> Iterator[TritonKernels]:
    pytest.importorskip("triton", reason="Triton is not installed (lm-offload[gpu])")
    if os.environ.get("TRITON_INTERPRET") != "1":
        pytest.skip("set TRITON_INTERPRET=1 to test in the interpreter beside a GPU")
    from lm_offload.kernels.triton_kernels import TritonKernels

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of numpy: NaN and infinity are meant
        yield TritonKernels(TorchKernels(1))
