"""The recurrence over three tiers gives the seconds of the executor's tasks on a timeline."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm_offload.planner.sweeps import device_recurrence
from lm_offload.planner.sweeps.device_load import DeviceSweepLoad
from lm_offload.planner.sweeps.host_load import HostLoad
from lm_offload.planner.sweeps.in_place_load import InPlaceSweepLoad
from lm_offload.planner.sweeps.in_place_recurrence import in_place_sweep_seconds
from lm_offload.planner.sweeps.ring_gates import ring_gates
from lm_offload.planner.sweeps.split_load import SplitLoad
from lm_offload.planner.sweeps.written_back import WrittenBack
from lm_offload.schedule.device_sweep import DeviceSweepSchedule, Transfers
from lm_offload.schedule.ring import Key, Ring
from tests.planner import device_simulation
from tests.planner.in_place_simulation import in_place_seconds

SECONDS = st.floats(1e-4, 1e-2)
SIZES = st.lists(st.integers(1, 9), min_size=1, max_size=7)
Run = tuple[list[DeviceSweepLoad], Transfers, frozenset[int]]


@st.composite
def homes(draw: st.DrawFn, units: int) -> Transfers:
    """Units of any size on the device, in host memory or on disk, and rings that take them."""
    numbers = st.sets(st.integers(0, units - 1))
    upload = {unit: draw(st.integers(1, 9)) for unit in sorted(draw(numbers))}
    read = {unit: size for unit, size in upload.items() if draw(st.booleans())}
    rings = [max(sizes.values(), default=0) + draw(st.integers(0, 30)) for sizes in (read, upload)]
    return Transfers(read, upload, *rings)


@st.composite
def runs(draw: st.DrawFn, attends: bool, both: bool = False) -> Run:
    """Sweeps of one model; where the CPU attends, in other micro-batches from sweep to sweep.

    `both`: the device attends, too, to some of them alone.
    """
    units, sweeps = draw(st.integers(3, 9)), draw(st.integers(1, 4))
    transfers = draw(homes(units))
    inner = st.sets(st.integers(1, units - 2), min_size=1)
    on_host = frozenset(draw(inner)) if attends else frozenset[int]()
    loads = [draw(sweep_loads(units, transfers, on_host)) for _ in range(sweeps)]
    if both:
        loads = [draw(split_loads(load, on_host)) for load in loads]
    return loads, transfers, on_host


@st.composite
def sweep_loads(
    draw: st.DrawFn, units: int, transfers: Transfers, on_host: frozenset[int]
) -> DeviceSweepLoad:
    return DeviceSweepLoad(
        compute_s=[draw(SECONDS) for _ in range(units)],
        read_s={unit: draw(SECONDS) for unit in transfers.read_bytes},
        overhead_s=draw(SECONDS),
        read_bytes=0,
        upload_s={unit: draw(SECONDS) for unit in transfers.upload_bytes},
        host=draw(host_loads(units, on_host)) if on_host else None,
        wait_s=draw(SECONDS),
    )


@st.composite
def host_loads(draw: st.DrawFn, units: int, on_host: frozenset[int]) -> HostLoad:
    tasks = draw(st.integers(1, 3))
    return HostLoad(
        most_rows=1,
        counts=[tasks] * (units - 1) + [1],
        attend=[draw(SECONDS) if unit in on_host else 0.0 for unit in range(units)],
        project_frac=draw(st.floats(0.1, 0.9)),
        down_s=draw(SECONDS),
        up_s=draw(SECONDS),
    )


@st.composite
def split_loads(draw: st.DrawFn, load: DeviceSweepLoad, on_host: frozenset[int]) -> DeviceSweepLoad:
    """The same sweep with attention on both, in turns of which the CPU has no part in the first."""
    turns, units = draw(st.integers(1, 3)), len(load.compute_s)
    alone = draw(st.integers(0, turns))
    own, *products = [[draw(SECONDS) for _ in range(units)] for _ in range(turns + 1)]
    own = [seconds * (unit in on_host) for unit, seconds in enumerate(own)]
    assert load.host is not None
    host = SplitLoad(
        **{**vars(load.host), "counts": [turns] * (units - 1) + [1]},
        products=products,
        own=own,
        shares=[0.0] * alone + [draw(st.floats(0.1, 1)) for _ in range(turns - alone)],
        links_s=[(draw(SECONDS), draw(SECONDS)) for _ in range(turns)],
    )
    compute_s = [sum(parts) + draw(SECONDS) for parts in zip(own, *products, strict=True)]
    return replace(load, compute_s=compute_s, host=host)


@st.composite
def writing_runs(draw: st.DrawFn) -> Run:
    """Sweeps of which some are of prompts that the device attends to and the CPU stores."""
    loads, transfers, on_host = draw(runs(attends=True))
    writes = [draw(st.booleans()) for _ in loads]
    pairs = zip(loads, writes, strict=True)
    loads = [
        replace(load, host=WrittenBack(**vars(load.host))) if back else load for load, back in pairs
    ]
    return loads, transfers, on_host


@given(runs(attends=False) | runs(attends=True) | runs(attends=True, both=True) | writing_runs())
def test_the_recurrence_gives_the_seconds_of_the_tasks(run: Run) -> None:
    assert device_recurrence.device_sweep_seconds(*run) == pytest.approx(
        device_simulation.device_sweep_seconds(*run), rel=1e-9
    )


@st.composite
def small_loads(draw: st.DrawFn, large: DeviceSweepLoad, units: frozenset[int]) -> InPlaceSweepLoad:
    """The same sweep with `units` in place."""
    count = len(large.compute_s)
    tasks = max(large.host.counts) if large.host else draw(st.integers(1, 3))
    values = {
        **vars(large),
        "compute_s": [0.0 if it in units else s for it, s in enumerate(large.compute_s)],
        "upload_s": {it: s for it, s in large.upload_s.items() if it not in units},
        "host": large.host and without(large.host, units),
    }
    return InPlaceSweepLoad(
        **values,
        micro_batches=[tasks] * (count - 1) + [1],
        in_place_s={it: draw(SECONDS) for it in sorted(units)},
        down_s=draw(SECONDS),
        up_s=draw(SECONDS),
    )


def without(host: HostLoad, units: frozenset[int]) -> HostLoad | None:
    """Attention that is not in place."""
    attend = [0.0 if it in units else s for it, s in enumerate(host.attend)]
    return replace(host, attend=attend) if any(attend) else None


@given(runs(attends=False) | runs(attends=True), st.data())
def test_so_does_that_of_sweeps_with_units_in_place(run: Run, data: st.DataObject) -> None:
    larges, transfers, on_host = run
    inner = set(range(1, len(larges[0].compute_s) - 1))
    allowed = sorted(inner & transfers.upload_bytes.keys() - transfers.read_bytes.keys())
    units = frozenset(it for it in allowed if data.draw(st.booleans()))
    in_place = [units if data.draw(st.booleans()) else frozenset[int]() for _ in larges]
    loads = [
        data.draw(small_loads(load, moved)) if moved else load
        for load, moved in zip(larges, in_place, strict=True)
    ]
    simulated = in_place_seconds(loads, in_place, DeviceSweepSchedule(transfers, on_host))
    found = in_place_sweep_seconds(loads, in_place, transfers, on_host)
    assert found == pytest.approx(simulated, rel=1e-9)


@given(SIZES, st.integers(0, 30), st.integers(1, 4))
def test_gates_count_the_units_whose_place_is_taken(sizes: list[int], more: int, sweeps: int):
    ring_bytes = max(sizes) + more
    ring, entered, left = Ring(ring_bytes), list[Key](), list[Key]()
    gates = ring_gates(tuple(sizes), ring_bytes, sweeps)
    for number, gate in enumerate(gates):
        sweep, unit = divmod(number, len(sizes))
        entered.append(Key(sweep, unit))
        left += ring.place(entered[-1], sizes[unit])[1]
        assert entered[:gate] == left


def in_turns(wait_s: float) -> float:
    """Seconds of two layers and a head in two micro-batches, of which sends take longest."""
    host = HostLoad(1, [2, 2, 2, 2, 1], [1.0, 0.0, 1.0, 0.0, 0.0], 0.5, down_s=6.0, up_s=1.0)
    load = DeviceSweepLoad([4.0, 4.0, 4.0, 4.0, 0.0], {}, 0.0, 0, host=host, wait_s=wait_s)
    run = [load], Transfers({}, {}, 0, 0), frozenset({0, 2})
    return device_recurrence.device_sweep_seconds(*run)[0]


def test_what_comes_back_does_not_wait_for_what_goes_down():
    """The CPU has done with the first micro-batch at 7.5, while the second goes down until 13.

    ::

        gpu   0 p p 2   8.5 c m p' 12.5   14.5 c m p' 18.5   20.5 c' m' 23.5   26.5 c' m' 29.5
        d2h   1  s0  7  s1  13  s0'  19  s1'  25
        h2d   7.5 r0 8.5   13.5 r1 14.5   19.5 r0' 20.5   25.5 r1' 26.5
    """
    assert in_turns(wait_s=0.0) == pytest.approx(29.5)


def test_but_for_the_blocks_of_uploads_on_the_link():
    assert in_turns(wait_s=0.5) == pytest.approx(30.0)
