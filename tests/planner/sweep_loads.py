"""Sweeps that can be reckoned by hand: 1 MB takes the plain disk 1 ms."""

from __future__ import annotations

from hypothesis import strategies as st

from lm_offload.hardware.profile import HardwareProfile
from lm_offload.planner.costs.unit_cost import UnitCosts
from lm_offload.planner.sweeps.run_time import SIMULATED_SWEEPS
from lm_offload.planner.sweeps.sweep_load import SweepLoad
from lm_offload.planner.sweeps.sweep_time import SweepTimes
from tests.planner.sweep_simulation import sweep_seconds
from tests.planner.test_unit_cost import sizes

MEGABYTE = 10**6
LATE = SIMULATED_SWEEPS + 4
WHOLE = 1 << 40  # units are read in one part
TIMES = st.lists(st.floats(1e-4, 1e-2), min_size=1, max_size=12)


def load_of(compute_s: list[float], reads: dict[int, int], overhead_s: float = 0.0) -> SweepLoad:
    """Reads in bytes, at 1 GB/s."""
    read_s = {unit: size / 1e9 for unit, size in reads.items()}
    return SweepLoad(compute_s, read_s, overhead_s, sum(reads.values()))


def steady_s(compute_s: list[float], reads: dict[int, int], ring_bytes: int) -> float:
    """The last of three sweeps alike."""
    return sweep_seconds([load_of(compute_s, reads)] * 3, reads, ring_bytes, WHOLE)[-1]


def times_of(profile: HardwareProfile, streamed: frozenset[int], ring_bytes: int) -> SweepTimes:
    model = sizes()
    return SweepTimes(
        costs=UnitCosts(model, profile.cpu, missed_frac=1.0),
        profile=profile,
        streamed=streamed,
        ring_bytes=ring_bytes,
        micro_batch_tokens=64,
        rows_in_memory=True,
        read_block_bytes=1 << 20,
        read_concurrency=2,
        sampling_threads=1,
    )
