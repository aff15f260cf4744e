"""A disk that has another pace than the profile is noticed, once there is enough to tell."""

from dataclasses import replace

import pytest

from lm_offload import LLM, SamplingParams, Workload
from lm_offload.demo import demo_path
from lm_offload.engine import disk_pace
from lm_offload.engine.disk_pace import LEAST_READ_S, warn_of_pace
from lm_offload.engine.outputs import SweepRecord
from lm_offload.step_time import StepTime


@pytest.fixture(scope="module")
def plan():
    with LLM(demo_path(), cpu_memory="12MiB") as llm:
        return llm.plan_for(Workload((8,), (8,)))


def sweeps(plan, ratio: float, read_s: float, prefill_tokens: int = 0) -> list[SweepRecord]:
    """Sweeps that read for `read_s` in all, at the predicted rate times `ratio`."""
    predicted = plan.predicted.step_s["decode"]
    rate = ratio * predicted.read_bytes / predicted.disk_read_s
    time = StepTime(read_s, 0.0, read_s, read_s, rate * read_s)
    record = SweepRecord(prefill_tokens, 1, time)
    return [replace(record, time=replace(time, read_bytes=0.0, disk_read_s=0.0)), record]


@pytest.mark.parametrize("ratio", [0.3, 3.0])
def test_another_pace_is_warned_of_with_both_rates(plan, ratio, caplog):
    assert warn_of_pace(plan, sweeps(plan, ratio, 2 * LEAST_READ_S))
    assert "lm-offload profile" in caplog.text
    assert caplog.text.count(" GB/s") == 2


@pytest.mark.parametrize(
    ("ratio", "read_s", "prefill_tokens"),
    [(0.8, 2 * LEAST_READ_S, 0), (1.3, 2 * LEAST_READ_S, 0), (0.3, 0.9 * LEAST_READ_S, 0),
     (0.3, 2 * LEAST_READ_S, 16)],
)  # fmt: skip
def test_drift_little_reading_and_prefill_say_nothing(plan, ratio, read_s, prefill_tokens, caplog):
    assert not warn_of_pace(plan, sweeps(plan, ratio, read_s, prefill_tokens))
    assert not caplog.text


def test_a_run_warns_once(caplog, monkeypatch):
    monkeypatch.setattr(disk_pace, "LEAST_READ_S", 0.0)
    monkeypatch.setattr(disk_pace, "MOST_RATIO", 1.0)  # no pace is as expected
    with LLM(demo_path(), cpu_memory="12MiB", speculation="off") as llm:
        for _ in range(2):
            llm.generate([[1, 2, 3]], SamplingParams(max_tokens=4, ignore_eos=True))
    assert caplog.text.count("measures it anew") == 1
