"""Properties of every schedule of a block, shown on timelines with arbitrary durations."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_offload.planner.sweeps.timeline import Timeline, simulate
from lm_offload.schedule.block import (
    HOST_LOAD_HIDDEN,
    HOST_LOAD_KV,
    HOST_STORE_HIDDEN,
    HOST_STORE_KV,
    LOAD_HIDDEN,
    LOAD_KV,
    LOAD_WEIGHTS,
    STORE_HIDDEN,
    STORE_KV,
    Block,
    Flows,
)
from lm_offload.schedule.cgopipe import cgopipe
from lm_offload.schedule.flexgen import flexgen
from lm_offload.schedule.pipo import pipo, pipo_memory
from lm_offload.schedule.task import Task
from lm_offload.schedule.zigzag import micro_batches_ahead, zigzag

SCHEDULES = {
    "flexgen": flexgen,
    "pipo": pipo,
    "pipo-memory": pipo_memory,
    "zigzag-1": lambda block: zigzag(block, 1),
    "zigzag-3": lambda block: zigzag(block, 3),
    "cgopipe": cgopipe,
}
WEIGHT_BUFFERS = {"pipo-memory": 1, "zigzag-3": 4, "cgopipe": 3}  # 2 for all others
FLOWS = {
    "nothing moves": Flows(),
    "weights from the host": Flows(load_weights=("upload",)),
    "everything from disk": Flows(LOAD_WEIGHTS, LOAD_KV, STORE_KV, LOAD_HIDDEN, STORE_HIDDEN),
    "attention on the host": Flows(
        load_weights=("stage", "upload"),
        load_kv=("read_kv",),
        store_kv=("write_kv",),
        load_hidden=("upload_hidden",),
        store_hidden=("download_hidden",),
        host_attention=True,
    ),
    "all on the CPU": Flows(
        ("read",), HOST_LOAD_KV, HOST_STORE_KV, HOST_LOAD_HIDDEN, HOST_STORE_HIDDEN, "cpu"
    ),
}
BLOCKS = st.builds(
    lambda layers, micro_batches, flows, sweeps: Block(
        (*("attention", "mlp") * layers, "head"), micro_batches, FLOWS[flows], sweeps
    ),
    st.integers(1, 3),
    st.integers(1, 4),
    st.sampled_from(list(FLOWS)),
    st.integers(1, 2),
)
SEEDS = st.integers(0, 10**6)
every_schedule = pytest.mark.parametrize("name", SCHEDULES)


def timed(tasks: list[Task], seed: int) -> Timeline:
    draw = random.Random(seed)
    return simulate(tasks, lambda task: 0.0 if task.id.kind == "sync" else draw.uniform(0.1, 3.0))


@every_schedule
@given(BLOCKS)
@settings(max_examples=15)
def test_tasks_come_after_what_they_need_and_have_names_of_their_own(name, block):
    seen = set()
    for task in SCHEDULES[name](block):
        assert set(task.needs) <= seen
        assert task.id not in seen
        seen.add(task.id)


@every_schedule
@given(BLOCKS)
@settings(max_examples=8)
def test_every_unit_is_computed_once_for_every_micro_batch(name, block):
    tasks = list(SCHEDULES[name](block))
    computed = [
        (task.id.sweep, task.id.unit, task.id.micro_batch)
        for task in tasks
        if task.id.kind == "compute"
    ]
    assert computed == [tuple(place) for place in block.places()]
    attended = Counter(task.id.kind for task in tasks)["attend"]
    attention_units = block.num_sweeps * block.units.count("attention")
    assert attended == block.flows.host_attention * attention_units * block.num_micro_batches


@every_schedule
@given(BLOCKS, SEEDS)
@settings(max_examples=15)
def test_weights_are_there_before_their_unit_and_buffers_are_never_exceeded(name, block, seed):
    if not block.flows.load_weights:
        return
    times = timed(list(SCHEDULES[name](block)), seed)
    last = block.flows.load_weights[-1]
    loads, uses = {}, {}
    for task in times.tasks:
        key = (task.id.sweep, task.id.unit)
        span = (times.starts_s[task.id], times.ends_s[task.id])
        if task.id.kind == last:
            loads.setdefault(key, []).append(span)
        elif task.id.kind in ("project", "compute"):
            uses.setdefault(key, []).append(span)
    assert loads.keys() == uses.keys()
    for key, spans in loads.items():
        assert max(end for _, end in spans) <= min(start for start, _ in uses[key])
    held = [
        (min(start for start, _ in loads[key]), max(end for _, end in uses[key])) for key in loads
    ]
    assert most_at_once(held) <= WEIGHT_BUFFERS.get(name, 2)


@every_schedule
@given(BLOCKS, SEEDS)
@settings(max_examples=15)
def test_keys_and_values_never_fill_more_than_their_buffers(name, block, seed):
    if not block.flows.load_kv:
        return
    times = timed(list(SCHEDULES[name](block)), seed)
    first = block.flows.load_kv[-1]
    user = "attend" if block.flows.host_attention else "compute"
    held = [
        (start_s, times.ends_s[task_id._replace(kind=user)])
        for task_id, start_s in times.starts_s.items()
        if task_id.kind == first
    ]
    ahead = 2 if name == "cgopipe" else 1
    if name.startswith("zigzag"):
        ahead = micro_batches_ahead(block.flows.host_attention)
    assert most_at_once(held) <= ahead + 1


@every_schedule
@given(BLOCKS, SEEDS)
@settings(max_examples=8)
def test_a_micro_batch_passes_the_units_in_order(name, block, seed):
    times = timed(list(SCHEDULES[name](block)), seed)
    for micro_batch in range(block.num_micro_batches):
        spans = [
            (start_s, times.ends_s[task_id])
            for task_id, start_s in sorted(times.starts_s.items())
            if task_id.kind == "compute" and task_id.micro_batch == micro_batch
        ]
        spans.sort()
        assert all(end <= start for (_, end), (start, _) in pairwise(spans))


@given(BLOCKS, SEEDS)
@settings(max_examples=8)
def test_nothing_crosses_a_barrier_of_flexgen(block, seed):
    times = timed(list(flexgen(block)), seed)
    barriers = sorted(end_s for task_id, end_s in times.ends_s.items() if task_id.kind == "sync")
    for task_id, start_s in times.starts_s.items():
        inside = [end_s for end_s in barriers if start_s < end_s < times.ends_s[task_id]]
        assert not inside, task_id


@given(st.lists(st.tuples(st.floats(0.1, 5), st.floats(0.1, 5)), min_size=2, max_size=12))
def test_pipo_follows_its_recurrence(times):
    """start_c(u) = max(end_c(u-1), end_w(u)), start_w(u) = max(end_w(u-1), end_c(u-2))."""
    units = tuple("mlp" for _ in times)
    block = Block(units, 1, Flows(load_weights=("upload",)))
    loads, computes = zip(*times, strict=True)

    def duration_s(task: Task) -> float:
        return (loads if task.id.kind == "upload" else computes)[task.id.unit]

    end_w, end_c = [0.0], [0.0, 0.0]
    for load_s, compute_s in times:
        end_w.append(max(end_w[-1], end_c[-2]) + load_s)
        end_c.append(max(end_c[-1], end_w[-1]) + compute_s)
    assert simulate(pipo(block), duration_s).makespan_s == pytest.approx(end_c[-1])
    alone_s = simulate(pipo_memory(block), duration_s).makespan_s
    assert alone_s == pytest.approx(sum(loads) + sum(computes))


@pytest.mark.parametrize(("load_s", "micro_batches"), [(0.5, 4), (3.0, 4), (4.0, 4), (9.0, 4)])
def test_what_flexgens_barrier_costs(load_s, micro_batches):
    """max(load, comp) + (K - 1) comp for each unit, where no barrier gives max(load, K comp)."""
    block = Block(("mlp",) * 40, micro_batches, Flows(load_weights=("upload",)))

    def makespan_s(tasks) -> float:
        return simulate(
            tasks, lambda task: {"upload": load_s, "compute": 1.0}.get(task.id.kind, 0.0)
        ).makespan_s

    with_barrier = max(load_s, 1.0) + micro_batches - 1
    without = max(load_s, micro_batches)
    assert makespan_s(flexgen(block)) == pytest.approx(40 * with_barrier, rel=0.1)
    assert makespan_s(pipo(block)) == pytest.approx(40 * without, rel=0.1)


def test_pages_let_hidden_states_through():
    """With attention on the CPU, a load in one piece holds up every micro-batch behind it."""
    flows = Flows(load_weights=("upload",), host_attention=True)
    block = Block(("attention", "mlp") * 8 + ("head",), 8, flows, 2)
    seconds = {"upload": 6.0, "attend": 0.5, "project": 0.2, "compute": 0.5}

    def makespan_s(tasks, pages: int) -> float:
        def duration_s(task: Task) -> float:
            return seconds.get(task.id.kind, 0.1) / (pages if task.id.kind == "upload" else 1)

        return simulate(tasks, duration_s).makespan_s

    paged_s = makespan_s(cgopipe(block), block.num_micro_batches)
    assert paged_s < 0.9 * makespan_s(zigzag(block, 2), 1)
    assert paged_s < 0.7 * makespan_s(flexgen(block), 1)


def most_at_once(spans: list[tuple[float, float]]) -> int:
    """The largest number of spans that overlap; those that only touch do not."""
    marks = sorted([(end, -1) for _, end in spans] + [(start, 1) for start, _ in spans])
    most = held = 0
    for _, change in marks:
        held += change
        most = max(most, held)
    return most
