from __future__ import annotations

from functools import partial

import pytest

from lm_offload.hardware import timing
from lm_offload.hardware.timing import (
    Deadline,
    capped_mean,
    typical,
    typical_among_s,
    typical_s,
)
from tests.clock import fake_clock


def test_the_capped_mean_counts_slow_samples_but_none_as_more_than_three_medians() -> None:
    assert capped_mean([3.0]) == 3.0
    assert capped_mean([2.0, 9.0, 4.0]) == 5.0
    assert capped_mean([*[1.0] * 9, 100.0]) == 1.2


def test_a_disturbed_sample_counts_as_little_more_than_others() -> None:
    values = iter([1.0, 100.0, 1.0, 1.0, 100.0, *[1.0] * 100])
    found = typical({"work": lambda: next(values)}, Deadline(0.01))
    assert 1.0 < found["work"] <= (3 + 2 * 3) / 5


def test_samplers_run_in_turns_and_each_at_least_once() -> None:
    calls: list[str] = []
    samplers = {name: (lambda name=name: calls.append(name) or 1.0) for name in "abc"}
    typical(samplers, Deadline(0.0))
    assert calls == ["a", "b", "c"]


def test_no_sampler_runs_after_the_deadline(monkeypatch) -> None:
    clock = fake_clock(monkeypatch, timing)
    starts_s: list[float] = []

    def sample() -> float:
        starts_s.append(clock.now_s)
        clock.sleep(1.0)
        return 1.0

    typical({"one": sample, "other": sample}, Deadline(5.0))
    assert starts_s == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_works_that_the_budget_does_not_reach_are_left_out(monkeypatch) -> None:
    clock = fake_clock(monkeypatch, timing)
    works = {"first": partial(clock.sleep, 0.02), "second": lambda: None}
    assert typical_s(works, 0.0) == {"first": 0.02}


def test_each_work_has_the_time_of_one_call_however_many_make_a_sample(monkeypatch) -> None:
    clock = fake_clock(monkeypatch, timing)
    works = {"short": partial(clock.sleep, 1e-5), "long": partial(clock.sleep, 3e-3)}
    assert typical_s(works, 0.05) == pytest.approx({"short": 1e-5, "long": 3e-3})


def test_each_call_follows_another_whose_seconds_do_not_count(monkeypatch) -> None:
    """What would take a tenth right after a call of its own."""
    clock, before = fake_clock(monkeypatch, timing), list[str]()

    def other() -> None:
        before.append("other")
        clock.sleep(1e-3)

    def work() -> None:
        clock.sleep(1e-4 if before.pop() == "other" else 1e-5)
        before.append("work")

    before.append("work")
    found = typical_among_s({"work": work}, other, 0.5)
    assert found == pytest.approx({"work": 1e-4})


def test_longer_works_take_longer_on_a_clock_that_runs() -> None:
    works = {"short": lambda: sum(range(100)), "long": lambda: sum(range(100_000))}
    found = typical_s(works, 0.05)
    assert 0 < found["short"] < found["long"]
