"""Probes on tiny sizes give rates that can be used, whatever machine runs this."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from lm_offload.device.stand_in import StandIn
from lm_offload.errors import ConfigError
from lm_offload.hardware import timing
from lm_offload.hardware.attention_probe import measure_attention
from lm_offload.hardware.attention_rates import HeadShape
from lm_offload.hardware.cache_probe import measure_cache
from lm_offload.hardware.calibrate import calibrate
from lm_offload.hardware.curve import Curve
from lm_offload.hardware.device_probe import DeviceProbe
from lm_offload.hardware.device_products import crossing
from lm_offload.hardware.disk_probe import ALL_WAYS, FEW_WAYS, LATENCY, PREFERRED, measure_reads
from lm_offload.hardware.disk_reader import DiskReader, Way
from lm_offload.hardware.disk_writes import measure_writes, temporary_file
from lm_offload.hardware.interference_probe import measure_block_s, measure_interference
from lm_offload.hardware.machine_file import load_machine
from lm_offload.hardware.memory_probe import (
    last_level_cache_bytes,
    measure_memory,
    probe_memory,
)
from lm_offload.hardware.operation_probe import measure_operations
from lm_offload.hardware.product_ends import ENOUGH_TURNS, NO_ENDS, ProductEnds
from lm_offload.hardware.product_probe import (
    FORMATS,
    PLAIN,
    Products,
    matrices,
    measure_kernel_s,
)
from lm_offload.hardware.profile import OPERATIONS, THREADED_WORK
from lm_offload.hardware.profile_text import profile_from_dict, profile_to_dict
from lm_offload.hardware.quantize_probe import measure_quantizing
from lm_offload.hardware.thread_probe import measure_speedups
from lm_offload.kernels.base import Kernels
from lm_offload.kernels.device_kernels import DeviceKernels
from lm_offload.kernels.resolve import resolve_kernels
from lm_offload.kernels.torch_kernels import TorchKernels
from lm_offload.quant.format import parse_format
from lm_offload.quant.packed import PackedWeight
from lm_offload.storage.direct_file import DirectFile
from lm_offload.units import MIB, PAGE_BYTES
from tests.hardware.profiles import TINY_EFFORT

BUDGET_S = 0.01


@pytest.fixture(params=["resolved", "torch"])
def kernels(request: pytest.FixtureRequest) -> Kernels:
    return resolve_kernels(1) if request.param == "resolved" else TorchKernels(1)


def check(curves: Iterable[Curve]) -> None:
    """Rates that a planner can work with."""
    for curve in curves:
        assert curve.sizes == tuple(sorted(set(curve.sizes)))
        assert len(curve.sizes) == len(curve.rates) > 0
        assert all(math.isfinite(rate) and rate > 0 for rate in curve.rates)


@pytest.mark.parametrize("file_bytes", [10, 3 * PAGE_BYTES + 5, 3 * MIB])
@pytest.mark.parametrize("memory_bytes", [1, 4 * MIB])
@pytest.mark.parametrize("ways", [(PREFERRED, LATENCY), FEW_WAYS])
def test_reads_of_any_file(
    tmp_path: Path, file_bytes: int, memory_bytes: int, ways: tuple[Way, ...]
) -> None:
    path = tmp_path / "weights"
    path.write_bytes(bytes(file_bytes))
    file, memory = DirectFile(path), probe_memory(memory_bytes)
    with DiskReader(file, memory.buffer) as reader:
        link = measure_reads(reader, ways, BUDGET_S)
        assert reader.known_bytes == file_bytes
        interference = measure_interference(reader, LATENCY, torch.ones(9).sum, BUDGET_S)
        block_s = measure_block_s(reader, 2, torch.ones(9).sum, BUDGET_S)
    file.close()
    check([link.bytes_per_s])
    assert link.bytes_per_s.sizes[0] == PAGE_BYTES
    assert link.first_bytes_per_s > 0
    assert link.request_s > 0
    assert Way(link.block_bytes, link.concurrency) in ways
    assert 0 < interference.compute_while_reading_frac <= 1
    assert 0 <= block_s < 1
    assert 0 < interference.disk_read_while_computing_frac <= 1


@pytest.mark.parametrize(("ring_bytes", "places"), [(2 * MIB, 2), (16 * MIB, 4), (1, 1), (None, 4)])
def test_samples_read_into_a_ring_of_the_size_that_they_are_given(
    tmp_path: Path, ring_bytes: int | None, places: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "weights"
    path.write_bytes(bytes(8 * MIB))
    file, memory, seen = DirectFile(path), probe_memory(4 * MIB), set[int]()

    def read_into(target: memoryview, offset: int) -> int:
        seen.add(np.frombuffer(target, np.uint8).ctypes.data)
        return len(target)

    with DiskReader(file, memory.buffer) as reader:
        reader.read_first(Way(MIB, 2), BUDGET_S)
        reader.known_bytes = 8 * MIB
        monkeypatch.setattr(file, "read_into", read_into)
        reader.sampler(Way(MIB, 2), BUDGET_S, ring_bytes)()
    file.close()
    assert len(seen) == places


def test_blocks_of_units_have_the_rate_of_the_way_that_was_chosen() -> None:
    from lm_offload.hardware.disk_probe import _costs_by_size

    costs = {Way(MIB, 2): 3.0, Way(MIB, 8): 1.0, Way(PAGE_BYTES, 2): 9.0, Way(PAGE_BYTES, 8): 5.0}
    assert _costs_by_size(costs, Way(4 * MIB, 2)) == {MIB: 3.0, PAGE_BYTES: 5.0}
    assert _costs_by_size(costs, Way(4 * MIB, 4)) == {MIB: 1.0, PAGE_BYTES: 5.0}


def test_the_preferred_way_stays_unless_another_is_clearly_better() -> None:
    from lm_offload.hardware.disk_probe import _way_to_stream

    costs = dict.fromkeys(ALL_WAYS, 1.0)
    assert _way_to_stream({**costs, Way(MIB, 4): 0.95}) == PREFERRED
    assert _way_to_stream({**costs, Way(MIB, 4): 0.8}) == Way(MIB, 4)
    assert _way_to_stream({**costs, LATENCY: 0.1, Way(MIB, 1): 0.1}) == PREFERRED


def test_writes_leave_a_file_that_can_be_read_and_then_nothing(tmp_path: Path) -> None:
    with temporary_file(tmp_path / "new") as path:
        link = measure_writes(path, 3 * MIB, BUDGET_S)
        assert 0 < path.stat().st_size <= 3 * MIB
        assert path.read_bytes()[-PAGE_BYTES:] != bytes(PAGE_BYTES)
    check([link.bytes_per_s])
    assert list((tmp_path / "new").iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="--disk-path"), temporary_file(tmp_path / "file"):
        pass


def test_an_interruption_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), temporary_file(tmp_path):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_room_is_an_error_in_one_sentence(tmp_path: Path) -> None:
    with temporary_file(tmp_path) as path, pytest.raises(ConfigError, match="cannot be written"):
        measure_writes(path, 1 << 60, BUDGET_S)


def test_memory_by_threads() -> None:
    curve = measure_memory(probe_memory(MIB), 3, 10 * BUDGET_S)
    check([curve])
    assert curve.sizes == (1.0, 2.0, 3.0)


@pytest.mark.parametrize("make", [resolve_kernels, TorchKernels])
def test_speed_by_threads(make: Callable[[int], Kernels]) -> None:
    speedups = measure_speedups(make(3), probe_memory(2 * MIB), 0.6)
    assert tuple(speedups) == THREADED_WORK
    check(speedups.values())
    assert all(curve.sizes[0] == 1.0 and curve.at(1) == 1.0 for curve in speedups.values())
    assert speedups["cached_product_row"].sizes == (1.0, 2.0, 3.0)
    assert make is resolve_kernels or torch.get_num_threads() == 3


def test_probe_memory_keeps_its_limit() -> None:
    assert probe_memory(2 * MIB + 5).size_bytes == 2 * MIB
    assert probe_memory(0).size_bytes == MIB


def test_the_last_level_cache_is_the_largest(tmp_path: Path) -> None:
    assert last_level_cache_bytes(tmp_path) > 0
    for index, size in enumerate(("32K", "512K", "32768K", "48K")):
        (tmp_path / f"index{index}").mkdir()
        (tmp_path / f"index{index}" / "size").write_text(size + "\n")
    assert last_level_cache_bytes(tmp_path) == 32 * MIB


@pytest.mark.parametrize("format", FORMATS, ids=str)
def test_products(kernels: Kernels, format) -> None:
    assert len(matrices(probe_memory(MIB), format, 3072)) >= 2
    products = Products(3072, 1e-6, cached=False)
    for _ in range(2):
        products.measure(kernels, probe_memory(MIB), [format], (1, 3), BUDGET_S)
    check([products.flops(format)])


def test_formats_that_are_measured_side_by_side_have_curves_of_their_own(kernels: Kernels) -> None:
    products = Products(256, 0.0, cached=True)
    products.measure(kernels, probe_memory(4 * MIB), FORMATS, (1, 64), 0.2)
    curves = [products.flops(format) for format in FORMATS]
    check(curves)
    assert [curve.sizes for curve in curves] == [(1.0, 64.0)] * len(FORMATS)
    assert len({curve.rates for curve in curves}) == len(FORMATS)


class SlowEnds:
    """Products that take 1 ns a weight and row, 2 ns an input and 8 ns an output."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def linear(self, x: Tensor, weight: Tensor, out: Tensor) -> None:
        (rows, inputs), outputs = x.shape, out.shape[1]
        self.now_s += 1e-9 * rows * (inputs * outputs + 2 * inputs + 8 * outputs)


def test_inputs_and_outputs_of_products_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = SlowEnds()
    monkeypatch.setattr(timing.time, "perf_counter", lambda: kernels.now_s)
    ends = ProductEnds(0.0)
    for _ in range(ENOUGH_TURNS):
        assert ends.of(PLAIN) == NO_ENDS
        ends.measure(kernels, probe_memory(4 * MIB), PLAIN, 1.0)
    assert ends.of(PLAIN) == pytest.approx((2e-9, 8e-9))


def test_where_there_is_no_room_for_them_nothing_is_known(kernels: Kernels) -> None:
    ends = ProductEnds(0.0)
    for _ in range(ENOUGH_TURNS):
        ends.measure(kernels, probe_memory(MIB).slice(0, MIB // 4), PLAIN, BUDGET_S)
    assert ends.of(PLAIN) == NO_ENDS


def test_a_kernel_takes_time(kernels: Kernels) -> None:
    assert 0 < measure_kernel_s(kernels, BUDGET_S) < 1


@pytest.mark.parametrize("memory_bytes", [MIB, 8 * MIB])
@pytest.mark.parametrize("budget_s", [0.0, BUDGET_S])
def test_the_cache(kernels: Kernels, memory_bytes: int, budget_s: float) -> None:
    found = measure_cache(kernels, probe_memory(memory_bytes), 1e-6, budget_s)
    assert 0 < found.cache_bytes <= memory_bytes
    assert 0 <= found.cached_start_s < 1
    assert 0 <= found.start_s < 1


def test_attention(kernels: Kernels) -> None:
    shapes = {"bf16": [HeadShape(64, 1), HeadShape(64, 4)], "fp32": [HeadShape(64, 4)]}
    rates = measure_attention(kernels, shapes, (5, 64), probe_memory(MIB), 1e-6, 0.5)
    for curves in (rates.decode_bytes_per_s, rates.prefill_flops):
        assert curves.keys() == {"bf16/64x1", "bf16/64x4", "fp32/64x4"}
        check(curves.values())
    assert rates.decode_bytes_per_s["bf16/64x4"].sizes == (5.0, 64.0)
    assert rates.prefill_flops["bf16/64x4"].sizes == (3.0, 32.5)  # the mean over the rows


def test_contexts_that_do_not_fit_are_left_out(kernels: Kernels) -> None:
    shapes = {"bf16": [HeadShape(64, 1)]}
    rates = measure_attention(kernels, shapes, (16, 1 << 20), probe_memory(MIB), 0.0, BUDGET_S)
    assert rates.decode_bytes_per_s["bf16/64x1"].sizes == (16,)


def test_attention_over_blocks_that_lie_apart(kernels: Kernels) -> None:
    shapes = {"bf16": [HeadShape(64, 1), HeadShape(64, 4)], "int4:64": [HeadShape(64, 1)]}
    rates = measure_attention(kernels, shapes, (16, 512), probe_memory(4 * MIB), 1e-6, 0.5)
    assert rates.apart_frac.keys() == {"bf16", "int4:64"}
    assert all(0 < frac <= 1 for frac in rates.apart_frac.values())


class RotatedTensors(TorchKernels):
    """Remembers what was rotated."""

    def __init__(self) -> None:
        super().__init__(1)
        self.seen: list[torch.Tensor] = []

    def rotary(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> None:
        super().rotary(x, cos, sin)
        self.seen.append(x)


def test_what_operations_are_measured_on_stays_of_usual_size() -> None:
    """What shrinks from call to call ends as subnormal numbers, slow on some processors."""
    kernels = RotatedTensors()
    measure_operations(kernels, (1,), 1e-6, 0.2)
    assert len(kernels.seen) > 20
    assert 0.1 < kernels.seen[-1].abs().mean() < 1.0
    assert kernels.seen[-1].abs().max() < 2.0


def test_operations(kernels: Kernels) -> None:
    curves = measure_operations(kernels, (1, 20), 1e-6, 0.05)
    assert set(curves) <= set(OPERATIONS)
    assert "rms_norm" in curves
    check(curves.values())


def test_quantizing() -> None:
    forward, back = measure_quantizing([parse_format("int8")], BUDGET_S)
    assert back["int8:64"] > 0
    assert all(rate > 0 for rate in forward.values())


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


@pytest.mark.parametrize(
    ("as_it_is", "as_floats", "few_rows"),
    [((1, 2, 4), (3, 3, 3), 16), ((1, 2, 3), (9, 9, 9), 32), ((4, 4, 4), (3, 3, 3), 1)],
)
def test_packed_products_are_switched_where_their_times_cross(as_it_is, as_floats, few_rows):
    seconds = {}
    for rows, first_s, second_s in zip((8, 16, 32), as_it_is, as_floats, strict=True):
        seconds |= {(rows, True): first_s, (rows, False): second_s}
    assert crossing(seconds) == few_rows
    assert crossing({**seconds, (64, True): 1}) == few_rows  # for more there was no time


def test_products_of_a_device_are_measured_as_they_will_be_switched() -> None:
    """By kernels whose first way is slow: they are asked for it in one row alone."""
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
                time.sleep(0.01 if len(x) <= self.few_rows else 0.0001)

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
