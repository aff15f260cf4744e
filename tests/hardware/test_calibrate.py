"""All probes one after the other, on tiny sizes."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from lm_offload.hardware.calibrate import calibrate
from lm_offload.kernels.resolve import resolve_kernels
from lm_offload.units import MIB
from tests.hardware.probing import check
from tests.hardware.profiles import TINY_EFFORT


@pytest.mark.parametrize("as_file", [True, False])
def test_a_whole_calibration(tmp_path: Path, as_file: bool) -> None:
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(bytes(MIB))
    stages: list[str] = []
    planned_s: list[float] = []

    def report(stage: str, done_s: float, total_s: float) -> None:
        stages.append(stage)
        planned_s.append(done_s)
        assert total_s == TINY_EFFORT.seconds

    start_s = time.perf_counter()
    found = calibrate(
        resolve_kernels(1),
        weights if as_file else tmp_path,
        TINY_EFFORT,
        8 * MIB,
        report,
    )
    assert time.perf_counter() - start_s < 10
    assert planned_s == sorted(planned_s)
    assert planned_s[0] == 0.0
    assert planned_s[-1] < TINY_EFFORT.seconds
    assert stages[0] == "disk writes"
    assert "products 1 of 1" in stages
    assert not found.is_sound  # 8 MiB are less than the cache
    profile = found.profile
    check([profile.disk_read.bytes_per_s, profile.disk_write.bytes_per_s])
    check(profile.cpu.product_flops.values())
    assert profile.cpu.threads == 1
    assert [path.name for path in tmp_path.iterdir()] == [weights.name]
