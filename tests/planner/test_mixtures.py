"""Plans for mixtures of experts: what every token uses stays first, reads by how many are used."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm_offload.hardware.curve import Curve
from lm_offload.hardware.profile import HardwareProfile
from lm_offload.plan import Workload
from lm_offload.planner.costs.expert_sizes import (
    ExpertPlacement,
    most_experts,
    rows_of_used,
    used_frac,
)
from lm_offload.planner.costs.sweep_shape import Piece, SweepShape
from lm_offload.planner.costs.unit_cost import UnitCosts
from lm_offload.planner.decided.fixed_plan import fixed_plan
from lm_offload.planner.decided.plan_choice import choice_of
from lm_offload.planner.reasons.ceiling import CeilingModel
from lm_offload.planner.sweeps.expert_time import LayerExperts
from lm_offload.planner.sweeps.mixture_time import MixtureSweepTimes
from lm_offload.planner.sweeps.sweep_load import SweepLoad
from lm_offload.planner.sweeps.sweep_recurrence import sweep_seconds
from lm_offload.units import MIB
from tests.planner.machines import PLAIN
from tests.planner.requests import PROFILE, TINY, make_request, plan

MIXTURE = TINY | {
    "model_type": "mixtral",
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
}
EXPERT_BYTES = 3 * 256 * 512 * 4
CHAT = Workload((16,), (32,))


def decode(rows: int) -> SweepShape:
    return SweepShape((Piece(rows, 1, 20),), rows)


def times(resident: int, ring_experts: int, profile: HardwareProfile = PLAIN) -> MixtureSweepTimes:
    (model,) = make_request(MIXTURE, CHAT, 0).models
    assert model.experts is not None
    return MixtureSweepTimes(
        costs=UnitCosts(model, profile.cpu, missed_frac=1.0),
        profile=profile,
        streamed=frozenset(),
        ring_bytes=0,
        micro_batch_tokens=64,
        rows_in_memory=True,
        read_block_bytes=1 << 20,
        read_concurrency=2,
        sampling_threads=1,
        experts=ExpertPlacement(model.experts.spread(resident), ring_experts * EXPERT_BYTES),
    )


def test_what_every_token_uses_stays_in_memory_before_any_expert() -> None:
    found = plan(MIXTURE, CHAT, 20 * MIB)
    assert not [name for name in found.streamed if ".expert." not in name]
    assert [name for name in found.resident if ".expert." in name]
    assert found.ring_bytes == 0
    assert found.expert_ring_bytes >= EXPERT_BYTES
    assert found.used_bytes <= found.budget_bytes


def test_experts_in_memory_are_spread_over_the_layers() -> None:
    found = plan(MIXTURE, CHAT, 28 * MIB)
    layers = [name.split(".")[1] for name in found.resident if ".expert." in name]
    counts = [layers.count(str(layer)) for layer in range(3)]
    assert sum(counts) > 3
    assert max(counts) - min(counts) <= 1


@given(st.integers(7 * MIB, 60 * MIB))
def test_a_budget_holds_and_more_memory_is_never_slower(budget_bytes: int) -> None:
    less, more = (plan(MIXTURE, CHAT, it) for it in (budget_bytes, budget_bytes + 4 * MIB))
    for found in (less, more):
        assert sum(size for _, size in found.memory) <= found.budget_bytes
    assert more.predicted.run_s <= less.predicted.run_s * 1.02


def test_everything_that_fits_is_resident() -> None:
    found = plan(MIXTURE, CHAT, 100 * MIB)
    assert not found.streamed
    assert found.expert_ring_bytes == found.ring_bytes == 0


def test_reads_are_those_of_the_experts_that_rows_use() -> None:
    for rows, experts in ((1, 2.0), (2, 3.5), (64, 8.0)):
        read = times(0, 3).load(decode(rows)).read_bytes
        assert read == pytest.approx(3 * experts * EXPERT_BYTES, rel=0.01)
    half = times(12, 3).load(decode(1)).read_bytes
    assert half == pytest.approx(3 * 2.0 * EXPERT_BYTES / 2, rel=0.01)


def test_used_experts() -> None:
    (model,) = make_request(MIXTURE, CHAT, 0).models
    assert used_frac(model.config, 1) == pytest.approx(2 / 8)
    assert used_frac(model.config, 2) == pytest.approx(1 - 0.75**2)
    assert used_frac(model.config, 1000) == pytest.approx(1.0)


def test_reads_begin_when_the_router_has_been_computed() -> None:
    """1 s of attention, a router of 0.5, reads of 2, all computed in 1, of it the last in 0.25."""
    layer = LayerExperts(read_s=2.0, read_bytes=1, compute_s=1.0, last_s=0.25, waits=False)
    load = SweepLoad([1.0, 0.5, 1.0], {}, 0.0, 1, experts={1: layer})
    assert sweep_seconds([load], {}, 0, 8) == pytest.approx([1.5 + 2.0 + 0.25 + 1.0])
    waiting = replace(load, experts={1: replace(layer, waits=True)})
    assert sweep_seconds([waiting], {}, 0, 8) == pytest.approx([1.5 + 2.0 + 1.0 + 1.0])
    resident = replace(load, experts={1: replace(layer, read_s=0.0)})
    assert sweep_seconds([resident], {}, 0, 8) == pytest.approx([1.5 + 1.0 + 1.0])


def test_other_units_are_read_while_experts_are() -> None:
    """The last unit's read of 1 s ends with the experts', so the CPU need not wait for it."""
    layer = LayerExperts(read_s=1.0, read_bytes=1, compute_s=3.0, last_s=0.5, waits=False)
    load = SweepLoad([0.5, 0.5, 0.5], {2: 1.0}, 0.0, 2, experts={1: layer})
    assert sweep_seconds([load], {2: 10}, 10, 100) == pytest.approx([1.0 + 3.0 + 0.5])


@pytest.mark.parametrize("rows", [1, 4, 64])
@pytest.mark.parametrize("ring", [1, 3])
def test_the_quick_estimate_agrees_with_the_recurrence(rows: int, ring: int) -> None:
    found = times(5, ring)
    load = found.load(decode(rows))
    assert found.steady_s(decode(rows)) == pytest.approx(
        found.simulated_s([load, load])[-1], rel=0.02
    )


def test_experts_that_fit_leave_room_for_a_ring_of_others() -> None:
    (model,) = make_request(MIXTURE, CHAT, 0).models
    assert model.experts is not None
    assert most_experts(model.experts, EXPERT_BYTES, 2) is None
    found = most_experts(model.experts, 7 * EXPERT_BYTES, 2)
    assert found is not None
    assert len(found.resident) == 5
    assert found.ring_bytes == 2 * EXPERT_BYTES
    everything = most_experts(model.experts, 24 * EXPERT_BYTES, 2)
    assert everything == ExpertPlacement(frozenset(range(24)), 0)


def test_a_given_plan_is_predicted_alike() -> None:
    request = make_request(MIXTURE, CHAT, 20 * MIB)
    found = plan(MIXTURE, CHAT, 20 * MIB)
    again = fixed_plan(request, choice_of(found))
    assert again.memory == found.memory
    assert again.predicted.decode_tokens_per_s == pytest.approx(found.predicted.decode_tokens_per_s)


def test_the_ceiling_counts_what_a_token_uses() -> None:
    """One token after the other: two of eight experts in each of three layers, from disk."""
    request = make_request(MIXTURE, CHAT, 20 * MIB)
    (model,) = request.models
    found = plan(MIXTURE, CHAT, 20 * MIB)
    on_disk = sum(model.bytes_by_name[name] for name in found.streamed)
    ceiling = CeilingModel(model, found, PROFILE).ceiling(CHAT)
    assert ceiling.decode.disk_s == pytest.approx(31 * on_disk * 2 / 8 / 1.6e9, rel=0.01)
    assert found.predicted.decode_tokens_per_s <= ceiling.decode.tokens_per_s


@pytest.mark.parametrize("rows", [1, 2, 4, 16, 300])
def test_rows_of_a_used_expert_lie_around_their_mean(rows: int) -> None:
    (model,) = make_request(MIXTURE, CHAT, 0).models
    chances = [math.comb(rows, r) * 0.25**r * 0.75 ** (rows - r) for r in range(1, rows + 1)]
    mean = sum(r * it for r, it in enumerate(chances, 1)) / sum(chances)
    squares = sum(r * r * it for r, it in enumerate(chances, 1)) / sum(chances)
    spread = math.sqrt(max(squares - mean**2, 0.0))
    fewer, more = rows_of_used(model.config, rows)
    assert fewer == pytest.approx(max(mean - spread, 1.0), abs=0.51)
    assert more == pytest.approx(mean + spread, abs=0.51)


def test_uneven_rows_take_longer_where_products_do() -> None:
    """Eight rows take eight times as long as four here, so those of two and six take longer."""
    curve = Curve((4.0, 8.0), (8e9, 2e9))
    profile = replace(PLAIN, cpu=replace(PLAIN.cpu, product_flops={"fp32": curve}))
    found = times(24, 3, profile)
    (expert,) = {it.unit.kind: it for it in found.costs.model.experts.units}.values()
    flat_s = 3 * 8 * used_frac(found.costs.model.config, 16) * 2.0 * 3 * 256 * 512 * 4 / 8e9
    assert expert.size_bytes == EXPERT_BYTES
    assert found.costs.experts_s(decode(16), 64) > 1.2 * flat_s


def test_threads_that_hand_over_blocks_hold_up_experts_that_are_read() -> None:
    slower = replace(PLAIN, disk_read=replace(PLAIN.disk_read, block_s=1e-3))
    blocks = -(-EXPERT_BYTES // (1 << 20))
    for resident, read in ((0, 6.0), (12, 3.0), (24, 0.0)):
        plain, held_up = (times(resident, 3, it).load(decode(1)) for it in (PLAIN, slower))
        more_s = held_up.cpu_s - plain.cpu_s
        assert more_s == pytest.approx(read * blocks * 1e-3, rel=0.05)


def test_the_first_read_of_a_layer_finds_the_disk_idle() -> None:
    rate = PLAIN.disk_read.bytes_per_s.at(1 << 20)
    alone = Curve((float(EXPERT_BYTES),), (rate / 3,))
    slower = replace(PLAIN, disk_read=replace(PLAIN.disk_read, burst_bytes_per_s=alone))
    for rows in (1, 64):
        plain, burst = (times(0, 3, it).load(decode(rows)) for it in (PLAIN, slower))
        more_s = 3 * (2 * EXPERT_BYTES / rate - PLAIN.disk_read.request_s)
        assert burst.disk_s - plain.disk_s == pytest.approx(more_s, rel=0.05)
