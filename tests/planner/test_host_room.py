"""Groups that host memory has room for: nothing is read, and more of it changes nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lm_offload.planner.choose.common import Common
from lm_offload.planner.choose.host_room import fits_host
from lm_offload.planner.choose.search import fastest_plans, make_plan
from lm_offload.planner.reasons.improvements import MORE_MEMORY, OF_HOST, Improvements
from lm_offload.units import MIB
from tests.planner import test_exhaustive as cases
from tests.planner.test_in_place import request_of


def searched(request, common=None):
    common = common or Common()
    fastest_plans(request, common)
    return common.searched[0].search


def placed(search, group):
    return [found for sizes in group.options for found in search.placed(group, sizes)]


@pytest.mark.parametrize("cpu_mib", [40, 56, 72])
def test_where_they_fit_nothing_is_read_and_more_memory_places_nothing_else(cpu_mib):
    request = request_of(2e9, cpu_mib=cpu_mib)
    more = replace(request, budget_bytes=request.budget_bytes + 64 * MIB)
    search, with_more = searched(request), searched(more)
    fitting = [group for group in search.groups if fits_host(request, group)]
    assert bool(fitting) == (cpu_mib > 40)
    for group in fitting:
        found, same = placed(search, group), placed(with_more, group)
        assert found
        assert all(not it.bytes_of(it.streamed) for it in found)
        assert [(it.uploaded, it.device) for it in found] == [
            (it.uploaded, it.device) for it in same
        ]


def test_without_a_device_none_is_left_out():
    request = cases.REQUESTS[0]
    assert not any(fits_host(request, group) for group in searched(request).groups)


def test_only_groups_for_which_host_memory_is_short_are_searched_again():
    request, common = request_of(2e9, cpu_mib=72), Common()
    better = Improvements(request, make_plan(request, common), common)
    floors_s = better._where_host_is_short([0.0] * len(common.searched[0].search.groups))
    left_out = [floor_s > 0 for floor_s in floors_s]
    assert left_out == [fits_host(request, it) for it in common.searched[0].search.groups]
    assert any(left_out)
    assert MORE_MEMORY in OF_HOST
