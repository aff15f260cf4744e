"""The recurrence gives the seconds of the executor's tasks on a timeline."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm_offload.planner.sweeps import sweep_recurrence
from lm_offload.planner.sweeps.kv_reads import LayerReads
from lm_offload.planner.sweeps.sweep_load import SweepLoad
from tests.planner import sweep_simulation

SECONDS = st.floats(1e-4, 1e-2)


@st.composite
def layers(draw: st.DrawFn) -> LayerReads:
    groups, reads = draw(st.integers(1, 11)), draw(st.booleans())
    return LayerReads(
        groups=groups,
        group_blocks=draw(st.integers(1, 9)),
        read_bytes=draw(st.integers(100, 900)) if reads else 0,
        read_s=draw(SECONDS) if reads else 0.0,
        write_bytes=draw(st.integers(100, 900)),
        write_s=draw(SECONDS),
    )


@st.composite
def runs(draw: st.DrawFn, spilled: bool) -> tuple[list[SweepLoad], dict[int, int], int, int, int]:
    """Sweeps of one model: units of any size, some of them streamed, some with a cache on disk."""
    units, sweeps = draw(st.integers(2, 9)), draw(st.integers(1, 4))
    numbers = st.sets(st.integers(0, units - 1))
    streamed = {unit: draw(st.integers(1, 9)) for unit in sorted(draw(numbers))}
    ring_bytes = draw(st.integers(max(streamed.values(), default=1), 30))
    attention = draw(numbers) - {0, units - 1} if spilled else set[int]()
    loads = [
        SweepLoad(
            compute_s=[draw(SECONDS) for _ in range(units)],
            read_s={unit: draw(SECONDS) for unit in streamed},
            overhead_s=draw(SECONDS),
            read_bytes=0,
            idle_s=draw(st.just(0.0) | SECONDS),
            kv={unit: draw(layers()) for unit in sorted(attention)},
        )
        for _ in range(sweeps)
    ]
    kv_ring_blocks = draw(st.integers(1, 30)) if attention else 0
    return loads, streamed, ring_bytes, draw(st.integers(1, 9)), kv_ring_blocks


@given(runs(spilled=False) | runs(spilled=True))
def test_the_recurrence_gives_the_seconds_of_the_tasks(run):
    assert sweep_recurrence.sweep_seconds(*run) == pytest.approx(
        sweep_simulation.sweep_seconds(*run), rel=1e-9
    )
