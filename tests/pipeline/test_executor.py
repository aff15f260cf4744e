from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_offload.errors import StorageError
from tests.pipeline.harness import Rig, overlaps, reader_threads, runs_ahead, spans

SIZES = st.lists(st.none() | st.integers(1, 30), min_size=1, max_size=7)
MIXED = [12, None, 7, 20, None, 9]


@settings(max_examples=30)
@given(
    SIZES, st.integers(0, 60), st.booleans(), st.lists(st.integers(1, 3), min_size=7, max_size=7)
)
def test_every_unit_computes_on_its_own_weights_in_order(sizes, extra, overlap, counts):
    rig = Rig(sizes, max((size for size in sizes if size), default=0) + extra, overlap)
    counts = counts[: len(sizes)]
    times = [rig.sweep(counts) for _ in range(4)]
    rig.executor.close()
    wanted = [(s, u, m) for s in range(4) for u, count in enumerate(counts) for m in range(count)]
    assert rig.computed == wanted
    if not overlap:
        streamed_bytes = sum(size for size in sizes if size)
        assert [step.read_bytes for step in times] == [streamed_bytes] * 4


KEPT = st.tuples(st.frozensets(st.integers(0, 6)), st.booleans())


@settings(max_examples=40)
@given(SIZES, st.integers(0, 60), st.lists(KEPT, min_size=5, max_size=5))
def test_units_that_are_retained_for_a_while_and_given_up_in_time_or_at_once(sizes, extra, steps):
    rig = Rig(sizes, max((size for size in sizes if size), default=0) + extra, read_s=1e-4)
    retained = frozenset[int]()  # in the next sweep, whose reads are under way
    for kept, at_once in steps:
        if at_once:
            retained &= kept
            rig.executor.retain(retained)
            rig.executor.read_again()
        rig.scribble(set(range(len(sizes))) - retained)
        rig.executor.retain(kept)
        rig.sweep()
        retained = kept
    rig.executor.close()
    assert rig.computed == [(sweep, unit, 0) for sweep in range(5) for unit in range(len(sizes))]


def test_reading_again_after_a_disk_failed_ends_with_its_error():
    def fail(task):
        return StorageError("gone") if task.id.sweep == 1 else None

    rig = Rig(MIXED, 40, fail=fail)

    def run() -> None:
        for _ in range(3):
            rig.sweep()
            rig.executor.read_again()

    with pytest.raises(StorageError, match="gone"):
        run()
    rig.executor.close()


def test_reads_run_beside_computes_and_into_the_next_sweep():
    rig = Rig(MIXED, 40, read_s=0.002, compute_s=0.004)
    for _ in range(3):
        rig.sweep()
    rig.executor.close()
    assert overlaps(rig.trace, "read", "compute") > 5
    assert runs_ahead(rig.trace, "read")


def test_nothing_overlaps_when_overlap_is_off():
    rig = Rig(MIXED, 40, overlap=False, read_s=0.002, compute_s=0.004, in_flight_bytes=40)
    for _ in range(3):
        rig.sweep()
    rig.executor.close()
    assert overlaps(rig.trace, "read", "compute") == 0
    assert len(spans(rig.trace, "read")) == 3 * 4


@pytest.mark.parametrize("overlap", [True, False])
def test_step_time_adds_up(overlap):
    rig = Rig(MIXED, 40, overlap, read_s=0.003, compute_s=0.002)
    rig.sweep()
    step = rig.sweep()
    rig.executor.close()
    assert step.cpu_s >= 6 * 0.002
    assert step.total_s >= step.cpu_s + step.wait_s
    assert step.overhead_s == pytest.approx(step.total_s - step.cpu_s - step.wait_s)
    assert 0 < step.disk_read_s <= step.total_s * 1.5
    if not overlap:
        assert step.wait_s >= 4 * 0.003
        assert step.read_bytes == 48


def test_bytes_of_all_sweeps_together_are_those_of_the_streamed_units():
    rig = Rig(MIXED, 48)
    total = sum(rig.sweep().read_bytes for _ in range(5))
    while rig.disk.moved_bytes["read"] < 6 * 48:  # the reads of the sixth sweep run ahead
        time.sleep(0.001)
    rig.executor.close()
    assert 5 * 48 <= total <= rig.disk.moved_bytes["read"] == 6 * 48


def test_a_resident_sweep_has_no_threads_reads_or_waits():
    before = reader_threads()
    rig = Rig([None] * 4, 0)
    step = rig.sweep()
    assert reader_threads() == before
    assert (step.read_bytes, step.wait_s, step.disk_read_s) == (0, 0, 0)
    rig.executor.close()


@pytest.mark.parametrize("overlap", [True, False])
def test_a_failing_read_surfaces_where_the_cpu_waits(overlap):
    error = StorageError("Reading failed.")
    rig = Rig(
        MIXED, 40, overlap, fail=lambda task: error if task.id[:3] == (1, "read", 3) else None
    )
    rig.sweep()
    with pytest.raises(StorageError) as caught:
        rig.sweep()
    assert caught.value is error
    assert (1, 3, 0) not in rig.computed
    rig.executor.close()
    assert not reader_threads()


def test_an_error_of_the_computation_leaves_the_executor_closable():
    rig = Rig(MIXED, 40, read_s=0.01)
    with pytest.raises(ZeroDivisionError):
        rig.executor.run_sweep([1] * 6, lambda task: 1 / 0)
    rig.executor.close()
    assert not reader_threads()


@pytest.mark.parametrize("read_s", [0.0, 0.05])
def test_closing_does_not_wait_for_what_is_queued(read_s):
    rig = Rig([30] * 200, 3000, read_s=read_s)
    time.sleep(0.01)
    rig.executor.close()
    if read_s:  # for half of the ring the readers would need seconds
        assert rig.disk.moved_bytes["read"] < 1500
    assert not reader_threads()
    rig.executor.close()  # a second time does no harm
