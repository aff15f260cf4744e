"""torch.cuda as a played GPU: host memory, streams that do their work at once, a log of calls."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lm_offload.units import GIB

FREE_BYTES, TOTAL_BYTES = 8 * GIB, 16 * GIB


class PlayedCuda:
    """What was asked of it, in `calls`; the current device and stream, in order of entry."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.calls: list[str] = []
        self.current: list[str] = []
        self.fraction = 1.0
        self.register_error = 0
        self.allocated: list[torch.Tensor] = []
        empty = torch.empty

        def allocate(*shape: int, **options: Any) -> torch.Tensor:
            tensor = empty(*shape, dtype=options.get("dtype"))
            self.allocated.append(tensor)
            return tensor

        patch.setattr(torch, "empty", allocate)
        for name in ("synchronize", "empty_cache"):
            patch.setattr(torch.cuda, name, lambda *_, name=name: self.calls.append(name))
        patch.setattr(torch.cuda, "get_device_name", lambda name: "a played GPU")
        patch.setattr(torch.cuda, "device", lambda device: self._within(str(device)))
        patch.setattr(torch.cuda, "stream", lambda stream: self._within(stream.name))
        patch.setattr(torch.cuda, "Stream", lambda device: SimpleNamespace(name=f"on {device}"))
        patch.setattr(torch.cuda, "mem_get_info", lambda device: (FREE_BYTES, TOTAL_BYTES))
        patch.setattr(torch.cuda, "cudart", self._runtime)
        patch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda device: self.fraction)
        patch.setattr(torch.cuda, "set_per_process_memory_fraction", self._set_fraction)

    @contextlib.contextmanager
    def _within(self, name: str):
        self.current.append(name)
        yield
        self.current.pop()

    def _set_fraction(self, fraction: float, device: torch.device) -> None:
        self.fraction = fraction

    def _runtime(self) -> Any:
        def register(address: int, size_bytes: int, flags: int) -> int:
            assert self.current[-1:] == ["cuda:1"]
            self.calls.append(f"register {size_bytes}")
            return self.register_error

        def unregister(address: int) -> int:
            assert self.current[-1:] == ["cuda:1"]
            self.calls.append("unregister")
            return 0

        return SimpleNamespace(cudaHostRegister=register, cudaHostUnregister=unregister)
