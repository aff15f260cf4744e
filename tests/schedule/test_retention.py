"""Which units are kept in lent memory, and the tasks of sweeps in which that changes."""

from __future__ import annotations

from collections import deque
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from lm_offload.schedule.retention import Lending, lend, spread_order
from lm_offload.schedule.sweep import SweepSchedule
from tests.schedule.test_sweep import SWEEPS, TwoResources, cases

SIZES = st.dictionaries(st.integers(0, 40), st.integers(1, 30), min_size=1, max_size=12)


@given(SIZES, st.integers(0, 400))
def test_places_lie_one_before_the_other_at_the_end(sizes, size_bytes):
    lending, stop = lend(sizes, size_bytes), size_bytes
    for unit, offset in zip(lending.units, lending.offsets, strict=True):
        assert offset + sizes[unit] == stop
        stop = offset
    assert stop >= 0
    assert len(set(lending.units)) == len(lending.units)
    if len(lending.units) < len(sizes):
        assert stop < sizes[spread_order(sizes)[len(lending.units)]]


@given(SIZES)
def test_the_order_has_every_unit_once_and_begins_with_a_largest(sizes):
    order = spread_order(sizes)
    assert sorted(order) == sorted(sizes)
    assert sizes[order[0]] == max(sizes.values())


def test_every_beginning_of_the_order_is_spread_evenly():
    order = spread_order(dict.fromkeys(range(32), 10))
    for count in (2, 4, 8, 16):
        kept = sorted(order[:count])
        gaps = [after - before for before, after in pairwise([*kept, kept[0] + 32])]
        assert set(gaps) == {32 // count}


def test_far_means_by_bytes_around_the_sweep():
    assert spread_order({0: 30, 1: 1, 2: 1, 3: 1, 4: 27})[:2] == [0, 4]


LENDING = Lending(100, (7, 3, 5), (70, 50, 20))


def test_units_stay_while_the_next_sweep_leaves_them_alone_and_come_for_longer():
    assert [LENDING.fitting(used) for used in (0, 20, 21, 50, 70, 71, 100)] == [3, 3, 2, 2, 1, 0, 0]
    assert LENDING.choose(0, near_bytes=10, far_bytes=60) == 1
    assert LENDING.choose(3, near_bytes=10, far_bytes=60) == 3
    assert LENDING.choose(3, near_bytes=30, far_bytes=60) == 2
    assert LENDING.choose(2, near_bytes=90, far_bytes=95) == 0
    assert [LENDING.start_bytes(count) for count in range(4)] == [100, 70, 50, 20]


@given(st.integers(0, 3), st.integers(0, 100), st.integers(0, 100))
def test_no_place_is_kept_that_the_next_sweep_may_need(now, used_bytes, growth_bytes):
    count = LENDING.choose(now, used_bytes, used_bytes + growth_bytes)
    assert LENDING.start_bytes(count) >= min(used_bytes, LENDING.size_bytes)
    assert LENDING.choose(count, used_bytes, used_bytes + growth_bytes) == count


UNITS = st.frozensets(st.integers(0, 8))
KEPT = st.lists(UNITS, min_size=SWEEPS + 1, max_size=SWEEPS + 1)


@given(cases(), KEPT, st.lists(st.none() | UNITS, min_size=SWEEPS, max_size=SWEEPS))
def test_a_unit_is_read_unless_it_is_where_it_was_in_the_sweep_before(case, kept, restarts):
    schedule, machine, homed = case.schedule(), TwoResources(case.sizes), set()
    schedule.retained = kept[0]
    reads = deque(schedule.reads(0))
    for sweep in range(SWEEPS):
        if restarts[sweep] is not None:  # what was read ahead is read again
            machine.forget(sweep)
            schedule.restart()
            homed &= schedule.retained  # another unit's home may have been used in between
            schedule.retained = restarts[sweep]
            reads = deque(schedule.reads(sweep))
        streamed = schedule.retained & case.streamed.keys()
        assert schedule.spared & case.streamed.keys() == streamed & homed
        homed = streamed
        schedule.retained = kept[sweep + 1]
        reads.extend(schedule.reads(sweep + 1))
        machine.run(reads, deque(schedule.computes(sweep, case.micro_batches)), case.turns)
        done = {task.unit for task in machine.done if task[:2] == (sweep, "read")}
        assert done >= case.streamed.keys() - homed


def test_a_retained_unit_is_read_once_and_never_released():
    schedule = SweepSchedule({0: 10, 2: 10}, 20, 8)
    schedule.retained = frozenset({2})
    assert [task.ring_offset for task in schedule.reads(0)] == [0, -1]
    assert [task.id.unit for task in schedule.reads(1)] == [0]
    first = list(schedule.computes(0, [1, 1, 1]))
    second = list(schedule.computes(1, [1, 1, 1]))
    assert [(task.id.kind, task.id.unit) for task in first] == [
        *(("compute", 0), ("release", 0), ("compute", 1), ("compute", 2))
    ]
    assert (0, "read", 2, 0) in first[-1].needs
    assert all(need.kind != "read" for need in second[-1].needs)
