"""Reading memory for the sake of its speed: with native code and without."""

from __future__ import annotations

import sys

import pytest
import torch

import lm_offload.kernels
from lm_offload.kernels.memory import read_memory


@pytest.mark.parametrize("count", [0, 5, 1 << 14, 100_001])
def test_reading_changes_nothing(count: int) -> None:
    data = torch.arange(count, dtype=torch.float32)
    read_memory(data, threads=2)
    assert torch.equal(data, torch.arange(count, dtype=torch.float32))


def test_without_native_code_torch_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(lm_offload.kernels, "_native", raising=False)
    monkeypatch.setitem(sys.modules, "lm_offload.kernels._native", None)
    read_memory(torch.ones(1000), threads=1)
