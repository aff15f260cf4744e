"""The search over programs finds what solving every one finds, and solves few of them."""

import numpy as np
import pytest

from lm_offload.planner.policies.placement import solve
from lm_offload.planner.policies.space import SAME, PlacementSpace
from tests.planner.policies.test_placement import random_programs

COUNT = 60


def sequences(seed):
    return np.random.default_rng(seed).integers(1, 9, COUNT).astype(float)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("gpu", [0.5, 6.0])
def test_the_best_is_the_best_of_all(seed, gpu):
    programs = random_programs(seed, COUNT, (gpu, 12.0, 8.0))
    blocks = sequences(seed)
    solved = [solve(programs, index) for index in range(COUNT)]
    values = [s.cost_s / blocks[s.index] for s in solved if s.fits]
    space = PlacementSpace(programs, blocks)
    best = space.best(np.arange(COUNT))
    assert space.value_s(best) <= min(values) * (1 + 2 * SAME)
    assert space.solved < COUNT / 2


def test_members_limit_the_search():
    space = PlacementSpace(random_programs(1, COUNT, (6.0, 12.0, 8.0)), sequences(1))
    members = np.arange(7, 20)
    assert space.best(members).index in members


def test_the_smallest_of_those_below_a_limit():
    programs, blocks = random_programs(2, COUNT, (6.0, 12.0, 8.0)), sequences(2)
    space = PlacementSpace(programs, blocks)
    everything = np.arange(COUNT)
    limit_s = 1.5 * space.value_s(space.best(everything))
    solved = [solve(programs, index) for index in range(COUNT)]
    below = [blocks[s.index] for s in solved if s.fits and s.cost_s / blocks[s.index] < limit_s]
    assert blocks[space.smallest(everything, limit_s).index] == min(below)
    assert space.smallest(everything, 0.1 * limit_s) is None


def test_what_was_learnt_bounds_programs_with_more_memory():
    small = random_programs(3, COUNT, (6.0, 12.0, 8.0))
    space = PlacementSpace(small, sequences(3))
    before = space.best(space.everything)
    more = space.alike(random_programs(3, COUNT, (7.0, 12.0, 8.0)), before)
    after = more.best(more.everything)
    assert more.value_s(after) <= space.value_s(before) * (1 + 2 * SAME)
    assert more.solved < COUNT / 4


def test_what_cannot_fit_is_proven_without_solving_all():
    space = PlacementSpace(random_programs(0, COUNT, (0.1, 0.2, 0.3)), sequences(0))
    assert space.best(np.arange(COUNT)) is None
    assert space.solved < COUNT / 2
