"""A stand-in is measured as the engine uses it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lm_offload.device.stand_in import StandIn
from lm_offload.hardware import timing
from lm_offload.hardware.device_probe import DeviceProbe
from lm_offload.hardware.machine_file import load_machine
from lm_offload.hardware.profile_text import profile_from_dict, profile_to_dict
from lm_offload.kernels.device_kernels import DeviceKernels
from lm_offload.kernels.resolve import resolve_kernels
from lm_offload.quant.packed import PackedWeight
from lm_offload.units import MIB
from tests.clock import fake_clock


def test_attention_of_a_device() -> None:
    """With its own kernels and events, in the memory that it has: what does not fit is left out."""
    device = StandIn("standin", 48 * MIB, 1e9)
    profile = load_machine(Path(__file__).parents[1] / "device_machine.yaml")
    found = DeviceProbe(device, resolve_kernels(1), MIB, 24 * MIB).added_to(profile, 1.0)
    device.close()
    gpu = found.gpu
    assert gpu is not None
    for curves in (gpu.decode_attention_bytes_per_s, gpu.prefill_attention_flops):
        assert "bf16/128x1" in curves  # and others, as far as the time goes
        assert all(rate > 0 for curve in curves.values() for rate in curve.rates)
    [decode_sizes] = {curve.sizes for curve in gpu.decode_attention_bytes_per_s.values()}
    assert decode_sizes == (256.0,)  # 16 contexts of 2048 take 64 MiB


def test_products_of_a_device_are_measured_as_they_will_be_switched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By kernels whose first way is slow: they are asked for it in one row alone."""
    clock = fake_clock(monkeypatch, timing)
    asked: list[tuple[bool, int]] = []

    class TwoWays(DeviceKernels):
        def __init__(self, few_rows: int = 64) -> None:
            super().__init__()
            self.few_rows = few_rows

        def switched_at(self, rows: int) -> TwoWays:
            return TwoWays(rows)

        def linear(self, x, weight, out, bias=None) -> None:
            if isinstance(weight, PackedWeight):
                asked.append((len(x) <= self.few_rows, len(x)))
                clock.sleep(0.01 if len(x) <= self.few_rows else 0.0001)

    device = StandIn("standin", 48 * MIB, 1e9)
    profile = load_machine(Path(__file__).parents[1] / "device_machine.yaml")
    probe = DeviceProbe(device, resolve_kernels(1), MIB, 8 * MIB)
    space = device.tier(8 * MIB).allocate("kernels", 8 * MIB)
    kernels, few_rows = probe._switched(TwoWays(), space, 0.1)
    device.close()
    assert (few_rows, kernels.few_rows) == (1, 1)
    assert {(True, 8), (False, 8)} <= {*asked}
    again = replace(profile, gpu=replace(profile.gpu, few_rows=few_rows))
    assert profile_from_dict(profile_to_dict(again), "a test") == again
