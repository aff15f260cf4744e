"""Unused KV memory that is lent to streamed units, as a plan predicts and decides it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lm_offload.errors import ConfigError
from lm_offload.hardware.profile import HardwareProfile
from lm_offload.plan import Retention, Workload
from lm_offload.planner.choose.predictor import Predictor
from lm_offload.planner.choose.search import make_plan
from lm_offload.planner.choose.spare_sequences import with_spare_sequences
from lm_offload.planner.costs.sweep_shape import Piece, SweepGroup, SweepShape
from lm_offload.planner.decided.fixed_plan import candidate_of_plan, fixed_plan
from lm_offload.planner.decided.plan_choice import PlanChoice, choice_of
from lm_offload.planner.places.candidate import Candidate
from lm_offload.planner.request import Request
from lm_offload.planner.sweeps.kv_lending import KVLending
from lm_offload.planner.sweeps.replay import sweeps_of
from lm_offload.planner.sweeps.sweep_recurrence import sweep_seconds
from tests.planner.machines import PLAIN, with_cpu
from tests.planner.requests import TINY, make_request

LONG = Workload((8,) * 2, (200,) * 2)
LENDING = KVLending({1: 40, 2: 60, 3: 40}, cache_bytes=200, num_blocks=10, waves=1)


def request_of(
    profile: HardwareProfile = PLAIN, workload: Workload = LONG, budget_kib: int = 600
) -> Request:
    """Most weights fit and two units stream, with a cache that is larger than these."""
    return make_request(TINY, workload, budget_kib * 1024, profile)


def decode(context: int, kept_blocks: int = 0) -> SweepShape:
    return SweepShape((Piece(1, 1, context),), 1, kept_blocks)


@pytest.mark.parametrize(
    ("context", "kept_blocks", "kept"),
    [
        (15, 0, {1, 2, 3}),
        (16 * 3 - 1, 0, {1, 2, 3}),
        (16 * 3, 0, {2, 3}),
        (16 * 6, 0, {2}),
        (15, 5, {2}),
        (15, 4, {2, 3}),
        (16 * 7, 0, set()),
        (16 * 99, 3, set()),
    ],
)
def test_units_leave_one_by_one_as_blocks_are_used(context, kept_blocks, kept):
    found = LENDING.kept(decode(context, kept_blocks))
    assert len(found) == len(kept)
    assert 0 <= LENDING.kept_frac(decode(context, kept_blocks)) <= 1


def test_the_mean_counts_every_sweep():
    groups = [SweepGroup(decode(15), 1, 0), SweepGroup(decode(16 * 7), 3, 0)]
    assert LENDING.retention(groups) == Retention(3 / 4, 140 / 4)


def test_prefixes_of_ended_sequences_keep_their_blocks():
    sizes = candidate_of_plan(request_of(), make_plan(request_of())).sizes
    one = replace(sizes, max_sequences=1, kv_blocks=40)
    five = Workload((8,) * 5, (200,) * 5)
    kept = [group.shape.kept_blocks for group in sweeps_of(five, one)]
    assert kept[0] == 0
    assert kept == sorted(kept)
    assert max(kept) == 40 - 13  # all but those of the last sequence


def candidates(
    profile: HardwareProfile = PLAIN, budget_kib: int = 600
) -> tuple[Predictor, Candidate]:
    """The plan's candidate, which can lend but does not."""
    request = request_of(profile, budget_kib=budget_kib)
    found = candidate_of_plan(request, make_plan(request))
    assert found.can_lend
    return Predictor(request), replace(found, lends=False)


@pytest.mark.parametrize("budget_kib", [500, 520, 560])
def test_less_is_read_and_the_run_is_shorter(budget_kib):
    predictor, alone = candidates(budget_kib=budget_kib)
    lends = replace(alone, lends=True)
    without, found = predictor.timed(alone).plan, predictor.timed(lends).plan
    assert without.retention is None
    assert found.retention.units > 0
    read, read_without = (plan.predicted.step_s["decode"].read_bytes for plan in (found, without))
    assert read_without == pytest.approx(without.streamed_bytes)  # a mean over sweeps
    assert read_without - read == pytest.approx(found.retention.size_bytes, rel=0.2)
    assert found.predicted.run_s < without.predicted.run_s
    assert predictor.estimate_s(lends) <= predictor.estimate_s(alone)
    assert predictor.timed_best(alone).plan == found


def test_the_mean_sweep_shows_it_where_units_are_kept_in_it():
    predictor, alone = candidates(budget_kib=608)
    assert predictor.estimate_s(replace(alone, lends=True)) < predictor.estimate_s(alone)
    assert predictor.estimated(alone)[1].lends


def slow_attention(left: float) -> HardwareProfile:
    """A processor that attends slowly, to blocks that lie apart even more so."""
    fast_disk = replace(
        PLAIN.disk_read, bytes_per_s=replace(PLAIN.disk_read.bytes_per_s, rates=(1e12,))
    )
    curve = replace(fast_disk.bytes_per_s, rates=(1e7,))
    cpu = with_cpu(
        decode_attention_bytes_per_s={"fp32": curve}, attention_apart_frac={"fp32": left}
    )
    return replace(cpu, disk_read=fast_disk)


def test_blocks_that_lie_apart_cost_what_was_measured():
    seconds = {}
    for left in (1.0, 0.5):
        predictor, alone = candidates(slow_attention(left))
        ways = [predictor.timed(replace(alone, lends=lends)).score_s for lends in (False, True)]
        seconds[left] = ways[1] / ways[0]
    assert seconds[1.0] == pytest.approx(1, rel=0.01)
    assert 1.5 < seconds[0.5] < 2


def test_the_plan_lends_only_where_that_is_faster():
    assert make_plan(request_of()).retention is not None
    assert make_plan(request_of(slow_attention(0.5))).retention is None


def choice(**changes: object) -> PlanChoice:
    return replace(choice_of(make_plan(request_of())), **changes)


def test_a_saved_plan_says_so():
    assert choice().retention
    assert fixed_plan(request_of(), choice(retention=False)).retention is None
    assert fixed_plan(request_of(), choice(retention=None)).retention is not None
    with pytest.raises(ConfigError, match="retention is true"):
        fixed_plan(request_of(), choice(kv_on_disk=(0,), kv_group_blocks=13, kv_ring_blocks=13))


def test_what_is_not_read_is_never_waited_for():
    predictor, alone = candidates()
    times = predictor.times(replace(alone, lends=True))
    loads = [times.load(decode(context)) for context in (9, 99, 199)]
    assert all(set(load.read_s) < set(times.streamed_bytes) for load in loads[:1])
    full = [predictor.times(alone).load(decode(context)) for context in (9, 99, 199)]
    ring = times.streamed_bytes, times.ring_bytes, times.in_flight_bytes
    pairs = zip(sweep_seconds(loads, *ring), sweep_seconds(full, *ring), strict=True)
    assert all(less <= more for less, more in pairs)


def test_places_for_outputs_that_end_early_leave_it_as_it_is():
    early = Workload((8,) * 4, (200,) * 4, may_end_early=True)
    request = replace(request_of(workload=early), budget_bytes=1 << 20)
    streamed = ("layers.1.attention", "head.0")
    units = (*choice().resident, *choice().streamed)
    one = choice(
        budget=1 << 20, resident=tuple(unit for unit in units if unit not in streamed),
        streamed=streamed, ring=53248, kv_blocks=13, max_sequences=1, sweep_tokens=8,
    )  # fmt: skip
    found = with_spare_sequences(request, fixed_plan(request, one))
    assert found.spare_sequences > 0
    assert found.retention is not None
