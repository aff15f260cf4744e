"""Both implementations of the kernels, for probes that measure them."""

from __future__ import annotations

import pytest

from lm_offload.kernels.base import Kernels
from lm_offload.kernels.resolve import resolve_kernels
from lm_offload.kernels.torch_kernels import TorchKernels


@pytest.fixture(params=["resolved", "torch"])
def kernels(request: pytest.FixtureRequest) -> Kernels:
    return resolve_kernels(1) if request.param == "resolved" else TorchKernels(1)
