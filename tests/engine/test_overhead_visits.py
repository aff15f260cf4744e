"""When the engine is visited in a calibration, and what is made of it."""

from __future__ import annotations

import pytest
import torch

from lm_offload.engine import overhead_visits
from lm_offload.engine.empty_sweeps import Case
from lm_offload.engine.overhead import CACHED_RUNS, IN_CACHE, TURNS
from lm_offload.engine.overhead_visits import Visits
from lm_offload.engine.prompt_cost import LONG, MANY, SHORT
from lm_offload.kernels.resolve import resolve_kernels
from lm_offload.units import MIB

STAGES_S = (0.0, 1.0, 4.0, 6.0, 6.5, 9.0)  # planned seconds behind, of 10


@pytest.mark.parametrize(
    ("count", "before"), [(1, []), (2, [0.0]), (3, [0.0, 4.0]), (4, [0.0, 4.0, 6.0])]
)
def test_all_visits_but_the_last_are_spread_over_the_stages(
    count: int, before: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    visits, made, reported = (
        Visits((), (), resolve_kernels(1), MIB, count),
        list[float](),
        list[str](),
    )
    monkeypatch.setattr(overhead_visits, "sampled_sweeps_s", lambda *of: made.append(now_s) or {})
    monkeypatch.setattr(overhead_visits, "sampled_prompts_s", lambda *of: {})
    report = visits.between(lambda stage, done_s, total_s: reported.append(stage))
    for now_s in STAGES_S:
        report(str(now_s), now_s, 10.0)
    assert made == before
    assert reported == [*map(str, STAGES_S)]


def test_what_is_typical_is_that_of_all_visits(monkeypatch: pytest.MonkeyPatch) -> None:
    key, seconds = (Case(2), IN_CACHE), iter(([9.0, 9.0], [1.0, 2.0, 3.0]))
    monkeypatch.setattr(overhead_visits, "sampled_sweeps_s", lambda *of: {key: next(seconds)})
    prompts = {SHORT: [0.0], LONG: [0.0], MANY: [0.0]}
    monkeypatch.setattr(overhead_visits, "sampled_prompts_s", lambda *of: prompts)
    visits = Visits(TURNS, (), resolve_kernels(1), MIB, 2)
    visits.visit()
    visits.visit()
    assert visits.sweeps_s == {key: 3.0}
    assert visits.prompt_costs == (0.0, 0.0)


def test_a_visit_leaves_torch_its_threads() -> None:
    threads = torch.get_num_threads()
    visits = Visits(TURNS[1:], CACHED_RUNS, resolve_kernels(1), MIB, 99)
    torch.set_num_threads(3)
    visits.visit()
    assert torch.get_num_threads() == 3
    torch.set_num_threads(threads)
    assert {*CACHED_RUNS} <= {*visits.sweeps_s}
    assert all(second > 0 for second in visits.sweeps_s.values())


def test_a_run_counts_by_its_mean_and_runs_by_their_median(monkeypatch: pytest.MonkeyPatch) -> None:
    case, traffic = CACHED_RUNS[0]
    runs = iter(([1.0, 1.0, 2.5], [9.0, 9.0, 9.0], [2.0, 2.0, 2.0]))
    monkeypatch.setattr(overhead_visits, "sampled_sweeps_s", lambda *of: {})
    monkeypatch.setattr(overhead_visits, "run_sweeps_s", lambda *of: next(runs))
    prompts = {SHORT: [0.0], LONG: [0.0], MANY: [0.0]}
    monkeypatch.setattr(overhead_visits, "sampled_prompts_s", lambda *of: prompts)
    visits = Visits((), ((case, traffic),) * 3, resolve_kernels(1), MIB)
    visits.visit()
    assert visits.sweeps_s == {(case, traffic): 2.0}  # of 1.5, 9 and 2
