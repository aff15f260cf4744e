"""Where a sweep is cut in two: NEO's load rule, and what the cut hides on a timeline."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm_offload.device_plan import TurnCosts
from lm_offload.schedule.device_sweep import DeviceSweepSchedule, Transfers
from lm_offload.schedule.turns import Seen, first_turn_rows
from tests.schedule.test_host_attention import simulated

COSTS = TurnCosts(row_s=1.0, device_token_s=0.1, cpu_token_s=0.4)


def seconds_of(costs: TurnCosts, own: Seen, others: list[Seen], first: int) -> tuple[float, ...]:
    """G0, G1, A0 and A1 of a cut after `first` rows, single rows."""
    sent = others[: first - round(own.rows)]
    attends = [sum(it.tokens for it in turn) for turn in (sent, others[len(sent) :])]
    rows = own.rows + len(sent), len(others) - len(sent)
    own_s = own.tokens * costs.device_token_s
    return (
        *(rows[0] * costs.row_s + own_s, rows[1] * costs.row_s),
        *(tokens * costs.cpu_token_s for tokens in attends),
    )


def sweep_s(*seconds: float) -> float:
    g0, g1, a0, a1 = seconds
    return max(g0 + g1, a0 + a1, g0 + a0, g1 + a1)


@given(
    st.builds(TurnCosts, *[st.floats(0.01, 2.0)] * 3),
    st.integers(0, 20),
    st.lists(st.integers(1, 30), max_size=20),
)
def test_no_other_cut_is_faster(costs, own_rows, contexts):
    own = Seen(own_rows, 10.0 * own_rows)
    others = [Seen(1, tokens) for tokens in contexts]
    first = first_turn_rows(costs, own, others)
    cuts = range(own_rows, own_rows + len(others) + 1)
    assert first in cuts
    best_s = min(sweep_s(*seconds_of(costs, own, others, cut)) for cut in cuts)
    one_row_s = costs.row_s + costs.cpu_token_s * max(contexts, default=0)
    assert sweep_s(*seconds_of(costs, own, others, first)) <= best_s + one_row_s


def test_neos_rule_holds_where_the_device_has_enough_to_do():
    own, others = Seen(16, 16 * 100), [Seen(1, 100)] * 4
    first = first_turn_rows(COSTS, own, others)
    g0, g1, a0, a1 = seconds_of(COSTS, own, others, first)
    assert first == 16  # the CPU's rows are alone
    assert a1 <= g0
    assert a0 <= g1


@pytest.mark.parametrize(("own", "wanted"), [(0, 10), (4, 10), (12, 12), (30, 30)])
def test_rows_of_the_device_make_its_turn_longer(own, wanted):
    costs = TurnCosts(row_s=1.0, device_token_s=0.0, cpu_token_s=0.0)
    others = [Seen(1, 50)] * max(20 - own, 3)
    assert first_turn_rows(costs, Seen(own, 0), others) == wanted


def test_a_chunk_is_cut_where_it_must_be():
    assert first_turn_rows(COSTS, Seen(0, 0), [Seen(100, 5000)]) == 50


def test_nothing_is_cut_where_nothing_costs():
    assert first_turn_rows(TurnCosts(0, 0, 0), Seen(0, 0), [Seen(1, 8), Seen(1, 8)]) == 0


def test_the_cpu_has_no_part_in_what_the_device_attends_to_alone():
    schedule = DeviceSweepSchedule(Transfers({}, {}, 0, 0), frozenset({0, 2}))
    tasks = [*schedule.computes(0, [2, 2, 2, 1], alone=1)]
    handed = [it.id for it in tasks if it.id.kind in ("send_qkv", "attend", "return_attended")]
    assert {it.micro_batch for it in handed} == {1}
    assert len(handed) == 6


def test_uneven_turns_hide_attention_that_even_ones_do_not():
    """As much of the device's own attention as of the CPU's: the CPU need never be waited for."""
    units = 16
    on_host = frozenset(range(0, units, 2))

    def total_s(alone: int, project: tuple[float, float], attend: tuple[float, float]) -> float:
        schedule = DeviceSweepSchedule(Transfers({}, {}, 0, 0), on_host)
        schedule.transfers(0)
        tasks = schedule.computes(0, [2] * units, alone=alone)
        seconds = {"project": project, "attend": attend, "compute": (0.5, 0.5)}
        nothing = (0.0, 0.0)
        return simulated(
            tasks, lambda it: seconds.get(it.id.kind, nothing)[it.id.micro_batch]
        ).makespan_s

    layers = len(on_host)
    even = total_s(0, (0.5, 0.5), (2.5, 2.5))
    uneven = total_s(1, (1.75, 0.5), (0.0, 2.5))  # half of the CPU's is the device's
    assert even > layers * 4.9
    assert uneven == pytest.approx(layers * 4.25, rel=0.05)  # all that the device does
