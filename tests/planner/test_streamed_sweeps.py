"""Reads and computes of sweeps against what can be reckoned by hand: 1 MB takes 1 ms."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm_offload.hardware.curve import Curve
from lm_offload.hardware.profile import Interference
from lm_offload.plan import KVSpill
from lm_offload.planner.costs.sweep_shape import Piece, SweepGroup, SweepShape
from lm_offload.planner.sweeps import sweep_recurrence
from lm_offload.planner.sweeps.disturbance import Disturbance, disturbance
from lm_offload.planner.sweeps.run_time import SIMULATED_SWEEPS, time_run
from lm_offload.planner.sweeps.sweep_load import SweepLoad
from tests.planner.machines import PLAIN, disturbed
from tests.planner.sweep_loads import LATE, MEGABYTE, TIMES, WHOLE, load_of, steady_s, times_of
from tests.planner.sweep_simulation import sweep_seconds
from tests.planner.test_unit_cost import ROWS, sizes


@given(TIMES, st.floats(0, 1e-2))
def test_a_resident_sweep_takes_its_units_and_the_engine(compute_s, overhead_s):
    found = sweep_seconds([load_of(compute_s, {}, overhead_s)] * 2, {}, 0, WHOLE)
    assert found == pytest.approx([sum(compute_s) + overhead_s] * 2)


@given(TIMES, st.integers(1, 10 * MEGABYTE), st.integers(1, 4))
def test_a_streamed_sweep_takes_at_least_each_resource_and_at_most_both(compute_s, size, depth):
    reads = dict.fromkeys(range(len(compute_s)), size)
    read_s = size * len(compute_s) / 1e9
    ahead_s = size * depth / 1e9  # the ring is full when the run begins
    found = sum(sweep_seconds([load_of(compute_s, reads)] * 3, reads, size * depth, WHOLE))
    least_s = max(3 * sum(compute_s), 3 * read_s - ahead_s)
    assert least_s * 0.999 <= found <= 3 * (sum(compute_s) + read_s) * 1.001


def test_a_ring_of_two_hides_the_shorter_of_read_and_compute():
    reads = dict.fromkeys(range(8), MEGABYTE)
    assert steady_s([5e-4] * 8, reads, 2 * MEGABYTE) == pytest.approx(8e-3, rel=0.3)
    assert steady_s([3e-3] * 8, reads, 2 * MEGABYTE) == pytest.approx(24e-3, rel=0.01)
    assert steady_s([1e-3] * 8, reads, MEGABYTE) == pytest.approx(16e-3, rel=0.01)


def test_a_run_begins_with_a_full_ring():
    """Two of eight units lie in the ring already, so only six are waited for."""
    reads = dict.fromkeys(range(8), MEGABYTE)
    first_s, second_s = sweep_seconds([load_of([1e-6] * 8, reads)] * 2, reads, 2 * MEGABYTE, WHOLE)
    assert first_s == pytest.approx(6e-3, rel=0.01)
    assert second_s == pytest.approx(8e-3, rel=0.01)


def test_a_steady_sweep_is_bound_by_the_slower_resource():
    ring_bytes = sizes().units[2].size_bytes
    everything = times_of(PLAIN, frozenset({2, 4}), 2 * ring_bytes)
    load, found = everything.load(ROWS), everything.steady(ROWS)
    assert found.read_bytes == 2 * ring_bytes
    assert found.disk_read_s == pytest.approx(2 * ring_bytes / 1e9)
    assert found.total_s == pytest.approx(max(load.cpu_s, load.disk_s))
    assert found.wait_s == pytest.approx(found.total_s - found.cpu_s)
    tight = times_of(PLAIN, frozenset({2, 4}), ring_bytes).steady(ROWS)
    alone_s = load.compute_s[2] + load.compute_s[4]
    assert tight.total_s == pytest.approx(max(load.disk_s, load.cpu_s - alone_s) + alone_s)


def test_sweeps_that_are_alike_are_loaded_once(monkeypatch):
    times, loaded = times_of(PLAIN, frozenset({2, 4}), sizes().units[2].size_bytes), []
    load = type(times).load
    monkeypatch.setattr(
        type(times), "load", lambda it, shape: loaded.append(shape) or load(it, shape)
    )
    prompts = [SweepShape((Piece(1, 64, 64),), 1)] * (SIMULATED_SWEEPS + 4)
    run = time_run([SweepGroup(shape, 1, 64) for shape in prompts], times)
    assert len(run.groups) == len(prompts)
    assert len(loaded) == 2  # of those that are simulated, and of those after them


def test_late_sweeps_of_a_run_wait_for_a_ring_of_one_as_early_ones_do():
    """Beside the engine's own work only the first read can be done."""
    profile = replace(PLAIN, cpu=replace(PLAIN.cpu, sweep_s=4e-4))
    units = frozenset(range(1, len(sizes().units)))
    times = times_of(profile, units, max(unit.size_bytes for unit in sizes().units))
    shapes = [SweepShape((Piece(1, 1, context),), 1) for context in range(10, 10 + LATE)]
    run = time_run([SweepGroup(shape, 1, 0) for shape in shapes], times)
    sweeps_s = [timed.mean.total_s for timed in run.groups]
    assert sweeps_s[-1] == pytest.approx(sweeps_s[SIMULATED_SWEEPS - 1], rel=1e-3)
    load = times.load(shapes[-1])
    assert sweeps_s[-1] >= load.overhead_s + load.disk_s - load.read_s[1]
    assert sweeps_s[-1] > 1.3 * times.steady_s(shapes[-1])
    found = run.groups[-1].mean
    assert found.wait_s == pytest.approx(found.total_s - found.cpu_s - load.overhead_s)


def test_a_ring_of_one_reads_each_unit_alone():
    burst = Curve((1.0,), (0.5e9,))  # half as fast as a queue that never runs dry
    profile = replace(PLAIN, disk_read=replace(PLAIN.disk_read, burst_bytes_per_s=burst))
    unit_bytes = sizes().units[2].size_bytes
    two, one = (times_of(profile, frozenset({2, 4}), count * unit_bytes) for count in (2, 1))
    assert one.load(ROWS).disk_s == pytest.approx(2 * unit_bytes / 0.5e9)
    assert two.load(ROWS).disk_s == pytest.approx(2 * unit_bytes / 1e9)


def test_a_read_that_finds_the_disk_idle_takes_what_a_unit_takes_that_is_read_alone():
    burst = Curve((1.0,), (0.5e9,))
    disk = replace(PLAIN.disk_read, burst_bytes_per_s=burst, request_s=1e-6)
    unit_bytes = sizes().units[2].size_bytes
    two = times_of(replace(PLAIN, disk_read=disk), frozenset({2, 4}), 2 * unit_bytes).load(ROWS)
    assert two.disk_s == pytest.approx(2 * unit_bytes / 1e9)
    assert two.idle_s == pytest.approx(unit_bytes / 0.5e9 - unit_bytes / 1e9)
    reads, ring = {1: 10, 2: 10}, (10, WHOLE)  # each waits until the one before was computed
    alone = SweepLoad([1.0] * 3, {1: 2.0, 2: 2.0}, 0.0, 20)
    for idle_s, total_s in ((0.0, 6.0), (0.5, 7.0)):
        loads = [replace(alone, idle_s=idle_s)] * 2
        assert sweep_recurrence.sweep_seconds(loads, reads, *ring)[-1] == pytest.approx(total_s)


def test_nothing_disturbs_a_streamed_unit_whose_ring_is_not_read_meanwhile():
    profile = disturbed(0.5, 0.5)
    units, unit_bytes = frozenset(range(1, len(sizes().units))), max(sizes().unit_bytes)
    one = times_of(profile, units, unit_bytes).load(ROWS)
    plain = times_of(PLAIN, units, unit_bytes).load(ROWS)
    assert [one.compute_s[unit] for unit in units] == [plain.compute_s[unit] for unit in units]
    assert one.compute_s[0] > plain.compute_s[0]
    ahead = times_of(profile, units, 1 << 30).load(ROWS)
    assert all(ahead.compute_s[unit] > plain.compute_s[unit] for unit in units)


def test_reads_take_longer_into_the_part_of_a_ring_that_lies_in_small_pages():
    burst = Curve((1.0,), (0.5e9,))
    disk = replace(PLAIN.disk_read, burst_bytes_per_s=burst, small_pages_frac=0.25)
    unit_bytes = sizes().units[2].size_bytes
    for units in (1, 2):  # read alone, or behind one another
        times = times_of(replace(PLAIN, disk_read=disk), frozenset({2, 4}), units * unit_bytes)
        huge, half = (replace(times, in_small_pages=share).load(ROWS) for share in (0.0, 0.5))
        assert half.disk_s == pytest.approx(2.5 * huge.disk_s)
        assert half.idle_s == pytest.approx(2.5 * huge.idle_s)


@pytest.mark.parametrize(
    ("overhead_s", "behind_s", "total_s"),
    [(0.0, 9.0, 6.0), (0.0, 0.5, 5.0), (0.0, 0.0, 5.0), (7.0, 9.0, 10.0), (1.0, 9.0, 6.0)],
)
def test_rows_of_the_table_wait_for_blocks_that_are_read_then(overhead_s, behind_s, total_s):
    """A ring of one unit: it is free, and read again, when the sweep before comes to its end."""
    load = SweepLoad([1.0, 1.0, 1.0], {1: 4.0}, overhead_s, 10, behind_s=behind_s)
    found = sweep_recurrence.sweep_seconds([load] * 3, {1: 10}, 10, WHOLE)
    assert found[-1] == pytest.approx(total_s)


def test_who_waits_for_rows_is_not_slowed_by_reads_of_units():
    units, link = frozenset({2, 4}), replace(PLAIN.disk_read, request_s=1e-3)
    loads = []
    for frac in (1.0, 0.5):
        profile = replace(disturbed(1.0, frac), disk_read=link)
        times = times_of(profile, units, 1 << 20)
        from_disk = replace(times, rows_in_memory=False)
        loads.append((times.load(ROWS), from_disk.load(ROWS)))
    added_s = [disk.compute_s[0] - memory.compute_s[0] for memory, disk in loads]
    assert added_s[0] == pytest.approx(added_s[1]) == pytest.approx(from_disk._gather.own_s(4, 64))
    assert loads[1][0].compute_s[1] > loads[0][0].compute_s[1]
    assert loads[0][1].behind_s > loads[0][0].behind_s == 0.0


def test_a_streamed_model_that_would_fit_the_cache_leaves_it_to_the_engine():
    cpu = replace(PLAIN.cpu, sweep_s=8.0, cached_overhead_frac=0.5)
    some = frozenset({2, 4})
    for cache_bytes, sweep_s in ((1 << 30, 4.0), (1 << 10, 8.0)):
        profile = replace(PLAIN, cpu=replace(cpu, cache_bytes=cache_bytes))
        times = times_of(profile, some, 1 << 20)
        assert times.load(ROWS).overhead_s == pytest.approx(sweep_s)


def test_python_stages_each_group_and_hands_over_each_run():
    cpu = replace(PLAIN.cpu, task_s=1e-3, call_s=1e-4, micro_batch_s=1e-2)
    profile = replace(PLAIN, cpu=cpu, disk_read=replace(PLAIN.disk_read, block_s=1e-5))
    decode = SweepShape((Piece(4, 1, 65),), 4)  # four sequences, of each four full blocks
    inside, groups = times_of(profile, frozenset(), 0), (1, 4)
    spills = (KVSpill((0, 1), 5 * 4 // count, 40) for count in groups)
    spilled = [replace(inside, spill=spill) for spill in spills]
    overheads_s = [times.load(decode).overhead_s for times in (inside, *spilled)]
    costs = inside.costs
    python_s = costs.total_fixed_s(decode, inside.micro_batch_tokens)
    for count, total_s in zip(groups, overheads_s[1:], strict=True):
        engine_s = overheads_s[0] + count * (1e-2 + 2 * (1e-3 + 4e-4))
        busy_s = costs.total_s(decode, inside.micro_batch_tokens) + engine_s
        handed_s = 2 * 4 * 1e-5 * (python_s + engine_s) / busy_s
        assert total_s == pytest.approx(engine_s + handed_s)


def test_resources_slow_one_another_for_the_time_that_both_work():
    half = Interference(disk_read_while_computing_frac=0.5, compute_while_reading_frac=1.0)
    busy_cpu = disturbance(10.0, 1.0, half)  # computing all the time, so reads take twice as long
    assert busy_cpu == Disturbance(1.0, 2.0, pytest.approx(0.2))
    busy_disk = disturbance(1.0, 10.0, half)  # reads take 1 s more, as long as computing lasts
    assert busy_disk.slower_disk == pytest.approx(1.1, rel=0.02)
    assert disturbance(5.0, 0.0, half) == Disturbance(1.0, 1.0, 0.0)


def test_interference_makes_a_streamed_sweep_longer():
    ring_bytes = sizes().units[2].size_bytes
    plain, slow = (
        times_of(profile, frozenset({2, 4}), ring_bytes).steady(ROWS)
        for profile in (PLAIN, disturbed(0.8, 0.8))
    )
    assert slow.total_s > plain.total_s
    assert slow.cpu_s > plain.cpu_s
