"""The disk or computing again, against what can be reckoned by hand: 1 MB takes the disk 1 ms."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from lm_offload.kvcache.swap_choice import Preemption, swap_never
from lm_offload.plan import IN_MEMORY as IN_MEMORY_SPILL
from lm_offload.plan import KVSpill, Workload
from lm_offload.planner.choose.search import make_plan
from lm_offload.planner.choose.swap_cost import SwapCost, swap_choice
from lm_offload.planner.costs.memory import moved_block_bytes
from lm_offload.planner.costs.sweep_shape import Piece, SweepShape
from lm_offload.units import GIB, MIB
from tests.planner.machines import PLAIN
from tests.planner.requests import TINY, make_request
from tests.planner.test_sweep_time import times_of

SLOT_BYTES = 50_000
CONTEXTS = (100, 60, 80)
IN_MEMORY = SwapCost(times_of(PLAIN, frozenset(), 0), SLOT_BYTES, sweep_tokens=64)
ALL = frozenset(range(len(IN_MEMORY.times.costs.model.units)))
STREAMED = replace(IN_MEMORY, times=times_of(PLAIN, ALL, MIB))


def leaving(first_block: int, num_computed: int, written: int | None = None) -> Preemption:
    blocks = num_computed // 16 - first_block
    return Preemption(first_block, num_computed, blocks if written is None else written, CONTEXTS)


def test_an_idle_disk_costs_nothing_up_to_the_time_of_a_sweep():
    sweep_s = IN_MEMORY.times.steady(SweepShape((Piece(3, 1, 80),), 3)).total_s
    blocks = int(sweep_s / (SLOT_BYTES / 1e9))
    assert IN_MEMORY.swap_s(leaving(0, 16 * blocks)) == 0.0
    more = blocks + 4
    exposed_s = 2 * (more * SLOT_BYTES / 1e9 - sweep_s)
    assert IN_MEMORY.swap_s(leaving(0, 16 * more)) == pytest.approx(exposed_s)


def test_where_reads_bind_every_byte_counts_and_rows_are_free():
    gone = leaving(2, 16 * 6)
    assert STREAMED.swap_s(gone) == pytest.approx(2 * 4 * SLOT_BYTES / 1e9)
    assert STREAMED.recompute_s(gone) == 0.0
    assert not STREAMED.pays(gone)


def test_where_computing_binds_the_disk_is_cheaper():
    small = replace(IN_MEMORY, slot_bytes=1000)
    assert small.recompute_s(leaving(0, 96)) > 0.0
    assert small.pays(leaving(0, 96))
    assert not replace(IN_MEMORY, slot_bytes=10**9).pays(leaving(0, 96))


def test_what_is_on_disk_is_not_written_and_what_is_partly_filled_is_computed():
    first, again = STREAMED.swap_s(leaving(0, 96)), STREAMED.swap_s(leaving(0, 96, written=1))
    assert first - again == pytest.approx(5 * SLOT_BYTES / 1e9)
    partly = IN_MEMORY.swap_s(leaving(0, 15))
    assert partly == IN_MEMORY.recompute_s(leaving(0, 15)) > 0.0


def test_blocks_that_others_use_are_not_computed():
    assert IN_MEMORY.recompute_s(leaving(5, 96)) < IN_MEMORY.recompute_s(leaving(0, 96))


def test_a_few_rows_in_each_sweep_are_hidden_by_its_reads_and_many_at_once_are_not():
    few, many = (replace(STREAMED, sweep_tokens=rows) for rows in (4, 10_000))
    assert few.recompute_s(leaving(0, 600)) == 0.0
    assert many.recompute_s(leaving(0, 600)) > 0.0


def test_the_choice_is_logged(caplog):
    with caplog.at_level(logging.DEBUG):
        STREAMED.pays(leaving(2, 100, written=3))
    (record,) = caplog.records
    assert "100 tokens makes room" in record.message
    assert "swap 4 blocks (3 to write)" in record.message


def test_only_plans_with_spare_sequences_and_room_on_disk_swap():
    request = make_request(TINY, Workload((20,) * 4, (40,) * 4), GIB)
    plan = make_plan(request)
    spare = replace(plan, spare_sequences=2, sweep_tokens=plan.sweep_tokens + 2)
    roomy = replace(request, spill_bytes=GIB)
    assert swap_choice(roomy, plan) is swap_never
    assert swap_choice(request, spare) is swap_never
    assert swap_choice(roomy, spare) is not swap_never


def test_layers_on_disk_are_not_moved_but_need_room_there_for_slots():
    request = make_request(TINY, Workload((20,) * 4, (40,) * 4), GIB)
    (model,) = request.models
    plan = make_plan(request)
    layer_bytes = moved_block_bytes(model, IN_MEMORY_SPILL) // 3
    spill = KVSpill((0, 2), 16, 32)
    assert moved_block_bytes(model, spill) == layer_bytes
    assert moved_block_bytes(model, KVSpill((0, 1, 2), 16, 32)) == 0
    sizes = {"spare_sequences": 2, "sweep_tokens": plan.sweep_tokens + 2, "spill": spill}
    spare = replace(plan, **sizes)
    room_bytes = plan.kv_blocks * 5 * layer_bytes
    assert swap_choice(replace(request, spill_bytes=room_bytes - 1), spare) is swap_never
    choice = swap_choice(replace(request, spill_bytes=room_bytes), spare)
    assert choice.__self__.slot_bytes == layer_bytes
