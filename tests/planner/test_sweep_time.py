"""What the engine, rows of the table and prompts add to a sweep."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lm_offload.hardware.curve import Curve
from lm_offload.planner.costs.gather_cost import GatherCost
from lm_offload.planner.costs.sweep_shape import Piece, SweepShape
from lm_offload.planner.costs.unit_cost import UnitCosts
from lm_offload.planner.sweeps.engine_time import fixed_s
from tests.planner.machines import PLAIN, disturbed
from tests.planner.requests import TINY
from tests.planner.sweep_loads import times_of
from tests.planner.test_unit_cost import ROWS, sizes


def test_every_micro_batch_after_the_first_has_its_overhead_and_its_own_gather() -> None:
    profile = replace(PLAIN, cpu=replace(PLAIN.cpu, sweep_s=1.0, micro_batch_s=0.1))
    times = times_of(profile, frozenset(), 0)
    four, one = (replace(times, micro_batch_tokens=rows) for rows in (1, 4))
    assert one.load(ROWS).overhead_s == pytest.approx(1.0)
    assert four.load(ROWS).overhead_s == pytest.approx(1.3)
    link = replace(PLAIN.disk_read, request_s=1e-3)
    gather = GatherCost(sizes().config, link, queue_bytes=0)
    assert gather.apart_s(5, 2, 0.0) == pytest.approx(
        2 * gather.apart_s(2, 2, 0.0) + gather.apart_s(1, 1, 0.0)
    )
    assert gather.apart_s(4, 1, 0.0) > gather.apart_s(4, 4, 0.0) > 1e-3


def test_a_prompt_takes_time_in_the_sweep_in_which_it_begins() -> None:
    times, slower = (
        times_of(replace(PLAIN, cpu=replace(PLAIN.cpu, prompt_s=s)), frozenset(), 0)
        for s in (0.0, 1.0)
    )
    begins = Piece(3, 8, 8), Piece(2, 1, 1), Piece(2, 8, 24), Piece(1, 1, 9)
    shape = SweepShape(begins, 8)
    assert slower.load(shape).overhead_s - times.load(shape).overhead_s == pytest.approx(3.0)


def test_each_block_takes_time_of_a_thread_that_runs_python() -> None:
    """All of it does where tasks have a fixed cost that outweighs their kernels, none without."""
    slow = replace(PLAIN, disk_read=replace(PLAIN.disk_read, block_s=1.0))
    kernels_only = replace(times_of(slow, frozenset({1}), 1 << 30), read_block_bytes=4096)
    assert kernels_only.load(ROWS).overhead_s == 0.0
    profile = replace(slow, cpu=replace(slow.cpu, task_s=1e6))
    blocks = {}
    for streamed in (frozenset[int](), frozenset({1}), frozenset({1, 2})):
        times = replace(times_of(profile, streamed, 1 << 30), read_block_bytes=4096)
        found = [times.load(ROWS).overhead_s, times.steady(ROWS).overhead_s]
        assert found[0] == pytest.approx(found[1])
        sizes_bytes = [times.streamed_bytes[unit] for unit in streamed]
        blocks[streamed] = round(found[0]), sum(-(-size // 4096) for size in sizes_bytes)
    assert all(counted == expected for counted, expected in blocks.values())
    assert blocks[frozenset({1, 2})][0] > blocks[frozenset({1})][0] > 0


def test_blocks_hold_up_kernels_of_prompts_unless_they_are_waited_for() -> None:
    """Each of a thousand hand-overs takes 1 us; the disk takes longer than prompts, or shorter."""
    prompt = SweepShape((Piece(1, 64, 64),), 1)
    times = replace(times_of(PLAIN, frozenset({1, 2}), 1 << 30), read_block_bytes=4096)
    blocks = sum(-(-size // 4096) for size in times.streamed_bytes.values())
    computing_s = times.costs.total_s(prompt, times.micro_batch_tokens)
    for slower, share in ((1e-3, 1.0), (1e3, None)):
        rates = PLAIN.disk_read.bytes_per_s.scaled(1 / slower)
        disk = replace(PLAIN.disk_read, bytes_per_s=rates, block_s=1e-6)
        held = replace(times, profile=replace(PLAIN, disk_read=disk))
        lost_s = held.load(prompt).overhead_s
        expected = share or computing_s / held.load(prompt).disk_s
        assert lost_s == pytest.approx(blocks * 1e-6 * expected)
        assert held.load(ROWS).overhead_s == 0.0  # decode is replayed: only Python would lose


def test_what_reads_cost_products_in_any_case_is_not_counted_twice() -> None:
    prompt = SweepShape((Piece(1, 64, 64),), 1)
    disk = replace(PLAIN.disk_read, block_s=1e-6)
    lost_s = [
        times_of(replace(profile, disk_read=disk), frozenset({1, 2}), 1 << 30)
        .load(prompt)
        .overhead_s
        for profile in (PLAIN, disturbed(1.0, 0.99), disturbed(1.0, 0.5))
    ]
    assert lost_s[0] > lost_s[1] > lost_s[2] == 0.0


def test_decode_in_memory_finds_the_engine_in_the_cache_and_prompts_never() -> None:
    cpu = replace(PLAIN.cpu, sweep_s=8.0, sequence_s=1.0, cached_overhead_frac=0.5)
    prompt = SweepShape((Piece(1, 64, 64),), 1)
    for cache_bytes, missed_frac, decode_s in ((1 << 30, 0.0, 4.0), (1 << 10, 1.0, 8.0)):
        kept = replace(cpu, cache_bytes=cache_bytes)
        times = times_of(replace(PLAIN, cpu=kept), frozenset(), 0)
        times = replace(times, costs=UnitCosts(times.costs.model, kept, missed_frac))
        assert times.load(ROWS).overhead_s == pytest.approx(decode_s + ROWS.sequences)
        assert times.load(prompt).overhead_s == pytest.approx(8.0 + 1)


def test_the_more_bytes_sweeps_use_the_less_of_the_engine_is_in_the_cache() -> None:
    model = sizes()
    used_bytes = UnitCosts(model, PLAIN.cpu, 0.0).used_bytes(ROWS)
    assert used_bytes > model.units_bytes
    curve = Curve((used_bytes / 4, used_bytes * 4), (1.0, 4.0))
    cpu = replace(PLAIN.cpu, sweep_s=8.0, sweep_by_bytes_s=curve)
    times = replace(
        times_of(replace(PLAIN, cpu=cpu), frozenset(), 0), costs=UnitCosts(model, cpu, 0.5)
    )
    assert times.load(ROWS).overhead_s == pytest.approx(2.0)
    assert [fixed_s(cpu, size) for size in (1.0, 1e12)] == [1.0, 4.0]


def test_only_the_first_of_many_rows_is_waited_for_and_once_behind_units() -> None:
    link = replace(PLAIN.disk_read, request_s=1.0)
    config = sizes({**TINY, "vocab_size": 1 << 20}).config  # rows are far from one another
    idle, behind = (GatherCost(config, link, queue_bytes=size) for size in (0, 10**9))
    few_s, many_s = (idle.seconds(rows, rows, 0.5) for rows in (1, 24))
    assert 1.0 < few_s < many_s < 1.01
    assert behind.seconds(24, 24, 0.5) - many_s == pytest.approx(0.5)  # 1 GB/s


def test_rows_of_all_micro_batches_are_fetched_at_once_as_memory_allows() -> None:
    link = replace(PLAIN.disk_read, request_s=1.0)
    config = sizes({**TINY, "vocab_size": 1 << 20}).config  # rows are far from one another
    gather = GatherCost(config, link, queue_bytes=0)
    assert gather.seconds(24, 8, 0.0) == gather.seconds(24, 24, 0.0) < 1.01
    assert gather.seconds(24, 1, 0.0) == pytest.approx(24.0, rel=1e-4)  # memory for one request
    assert gather.apart_s(24, 8, 0.0) == pytest.approx(3.0, rel=1e-2)


def test_rows_take_what_was_measured_of_single_ones_or_of_pieces_of_a_table() -> None:
    """A table of 131 rows is one request."""
    small, large = (sizes({**TINY, "vocab_size": count}).config for count in (131, 1 << 20))
    rates = Curve((8192, 65536), (1e6, 4e6)), Curve((1 << 12, 1 << 16), (2e8, 2.5e7))
    link = replace(PLAIN.disk_read, rows_bytes_per_s=rates[0], pieces_bytes_per_s=rates[1])
    table_bytes = small.vocab_size * small.embed_size * small.itemsize
    found_s = GatherCost(small, link, 0).seconds(64, 64, 0.0)
    assert found_s == pytest.approx(table_bytes / rates[1].at(table_bytes))
    far = GatherCost(large, link, 0)
    for rows in (1, 4, 8):  # of two pages each
        assert far.seconds(rows, rows, 0.0) == pytest.approx(rows * 8192 / rates[0].at(rows * 8192))
    later = GatherCost(large, replace(link, request_s=2e-3), 0)  # who is awake asks at once
    assert later.seconds(8, 1, 0.0) == pytest.approx(8192 / 1e6 + 7 * 2e-3)
    slow = replace(link, request_s=9.0)
    assert GatherCost(small, slow, 0).seconds(64, 64, 0.0) == pytest.approx(9.0)
