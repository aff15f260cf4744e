"""The linear program of placement against brute force, and its bounds by duality."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lm_offload.planner.policies.placement import OVERLAPPED, Programs, lower_bounds, solve
from lm_offload.planner.policies.shares import COORDINATES

STEPS = 4  # of a share in the grid of the brute force
RESOURCES = 3


def random_programs(seed, count, capacity):
    """Bytes that move between the tiers, seconds that grow or shrink with what lies where."""
    rng = np.random.default_rng(seed)
    gib = rng.uniform(1, 10, (count, 3))  # of weights, KV, activations
    bytes_slopes = np.zeros((count, len(COORDINATES), 6))
    for row in range(6):
        for coordinate, (what, tier) in enumerate(COORDINATES):
            size = gib[:, ("weights", "kv", "activations").index(what)]
            sign = {row % 3: 1.0, 1: 0.0}.get(("gpu", "cpu", "disk").index(tier), 0.0)
            bytes_slopes[:, coordinate, row] = size * (-1.0 if row % 3 == 1 else sign)
    bytes_constants = np.zeros((count, 6))
    bytes_constants[:, [1, 4]] = gib.sum(axis=1, keepdims=True)
    seconds_constants = rng.uniform(0, 5, (count, 2 * RESOURCES))
    slopes = rng.uniform(-1, 3, (count, len(COORDINATES), 2 * RESOURCES))
    return Programs(
        np.concatenate([seconds_constants, bytes_constants], axis=1),
        np.concatenate([slopes, bytes_slopes], axis=2),
        RESOURCES,
        np.tile(capacity, 2),
        (0, 1, 2, 0, 1, 2),
    )


def total_and_cost_s(programs, index, shares):
    """Seconds and cost of one placement, infinite where it does not fit."""
    values = programs.constants[index] + np.asarray(shares) @ programs.slopes[index]
    if (values[2 * RESOURCES :] > programs.capacities + 1e-9).any():
        return np.inf, np.inf
    total_s = values[:RESOURCES].max() + values[RESOURCES : 2 * RESOURCES].max()
    return total_s, total_s + OVERLAPPED * values[: 2 * RESOURCES].sum()


def grid():
    pairs = [(i / STEPS, j / STEPS) for i in range(STEPS + 1) for j in range(STEPS + 1 - i)]
    return [(*a, *b, *c) for a in pairs for b in pairs for c in pairs]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("capacity", [(3.0, 12.0, 100.0), (100.0, 100.0, 100.0)])
def test_no_placement_on_a_grid_is_better(seed, capacity):
    programs = random_programs(seed, 1, capacity)
    placement = solve(programs, 0)
    assert placement.fits
    found = total_and_cost_s(programs, 0, placement.shares)
    assert (placement.total_s, placement.cost_s) == pytest.approx(found, rel=1e-6)
    best = min(total_and_cost_s(programs, 0, shares)[1] for shares in grid())
    assert placement.cost_s <= best + 1e-9
    assert best <= placement.cost_s * 1.5  # the grid is coarse, not another problem


def test_what_does_not_fit_says_how_much_is_missing():
    programs = random_programs(0, 1, (0.5, 1.0, 2.0))
    placement = solve(programs, 0)
    assert not placement.fits
    gib = programs.constants[0, 2 * RESOURCES + 1]
    assert placement.missing_gib.sum() == pytest.approx(gib - 3.5)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.floats(1, 20), st.floats(5, 40))
@example(10333, 6.0, 6.0)  # a phase whose seconds are all negative, as no real program's are
def test_multipliers_bound_every_program(seed, gpu, cpu):
    programs = random_programs(seed, 4, (gpu, cpu, 100.0))
    placements = [solve(programs, index) for index in range(programs.count)]
    for placement in placements:
        bounds = lower_bounds(programs, [placement.multipliers])
        assert bounds[placement.index] == pytest.approx(placement.cost_s, rel=1e-5)
        for other in placements:
            assert bounds[other.index] <= other.cost_s * (1 + 1e-6)
    found = [placement.multipliers for placement in placements]
    highest = np.max([lower_bounds(programs, [one]) for one in found], axis=0)
    assert lower_bounds(programs, found) == pytest.approx(highest)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.floats(1, 10), st.floats(0, 5))
def test_more_memory_is_never_slower(seed, gpu, more):
    small = solve(random_programs(seed, 1, (gpu, 30.0, 100.0)), 0)
    large = solve(random_programs(seed, 1, (gpu + more, 30.0, 100.0)), 0)
    assert large.cost_s <= small.cost_s * (1 + 1e-7)


def test_what_cannot_be_solved_does_not_fit_and_tells_how_much_is_missing(monkeypatch):
    class Unsolved:
        x = None

    monkeypatch.setattr("scipy.optimize.linprog", lambda *args, **options: Unsolved)
    programs = random_programs(0, 1, (0.5, 1.0, 2.0))
    placement = solve(programs, 0)
    assert not placement.fits
    values = programs.constants[0] + placement.shares @ programs.slopes[0]
    lacking = np.maximum(values[2 * RESOURCES :] - programs.capacities, 0)
    assert placement.missing_gib == pytest.approx(lacking.reshape(2, 3).max(axis=0))
    assert lower_bounds(programs, [placement.multipliers]) == pytest.approx(0.0)
