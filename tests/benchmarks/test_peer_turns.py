"""Made-up engines take turns: pairs, orders, failures, and where the time goes."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from benchmarks.bench_peers import Schedule, first_visits
from benchmarks.ceilings import Rates, Weights
from benchmarks.peer_rows import RunFile
from benchmarks.peer_turns import Cell, CellTurns
from benchmarks.peers.case import Case
from benchmarks.peers.environments import PEERS
from benchmarks.peers.run import base_row
from benchmarks.peers.session import SessionError

from benchmarks import bench_peers, peer_turns
from tests.clock import fake_clock

OURS, LLAMA, AIRLLM = PEERS["lm_offload"], PEERS["llama_cpp"], PEERS["airllm"]
RATES = {"lm_offload": 20.0, "llama_cpp": 10.0, "airllm": 1.0}


class MadeUpDriver:
    """Notes who ran, a second each; one of `broken` fails when opened or, by number, at a run."""

    def __init__(self, clock, broken=None):
        self.ran, self._broken, self._sleep = [], broken or {}, clock.sleep

    @contextmanager
    def opened(self, spec, case):
        if self._broken.get(spec.name) == 0:
            raise SessionError("oom-killed")
        yield lambda gen_len: self._generate(spec, case, gen_len)

    def _generate(self, spec, case, gen_len):
        self.ran.append((spec, gen_len))
        self._sleep(1.0)
        runs = sum(one == spec for one, _ in self.ran)
        if self._broken.get(spec.name) == runs:
            raise SessionError("timeout after 5 s")
        rate = RATES[spec.name] * (1 + 0.1 * runs)
        figures = {"decode_tokens_per_s": rate, "prefill_tokens_per_s": rate, "peak_rss_bytes": 1}
        return base_row(spec, case) | figures | {"error": None}


@pytest.fixture
def clock(monkeypatch):
    return fake_clock(monkeypatch, bench_peers, peer_turns)


@pytest.fixture
def cell(tmp_path, monkeypatch):
    meter = SimpleNamespace(read=lambda: Rates(1e9, 1e9, None))
    monkeypatch.setattr(peer_turns, "RateMeter", lambda *args: meter)
    monkeypatch.setattr(peer_turns, "weights_of", lambda *args: Weights(100.0, 50.0, 40.0))
    return Cell(Case(tmp_path, batch=1, prompt_len=8, gen_len=6), OURS, (LLAMA, AIRLLM))


def visited(cell, driver, rounds=2, left_s=60.0):
    file = RunFile(None, dict)
    schedule = Schedule(file, rounds, left_s)
    first_visits(schedule, driver, file, [cell])
    return file, schedule


def test_pairs_take_turns_after_a_run_that_is_not_counted(cell, clock):
    driver = MadeUpDriver(clock)
    file, _ = visited(cell, driver)
    assert driver.ran[:2] == [(OURS, 2), (LLAMA, 2)]
    measured = [spec for spec, gen_len in driver.ran if gen_len == 6]
    assert measured == [LLAMA, OURS, OURS, LLAMA, AIRLLM, OURS, OURS, AIRLLM]
    rows = {row["peer"]: row for row in file.result()["rows"]}
    assert len(file.rounds(cell.case, LLAMA)) == rows["airllm"]["rounds"] == 2
    assert rows["lm_offload"]["rounds"] == 4
    assert "ours_over_this_decode_interval" in rows["llama_cpp"]


@pytest.mark.parametrize("failing_run", [0, 1, 3])
def test_a_peer_that_fails_leaves_the_others_alone(cell, clock, failing_run):
    file, schedule = visited(cell, MadeUpDriver(clock, {"llama_cpp": failing_run}))
    assert file.failed(cell.case, LLAMA)
    assert len(file.rounds(cell.case, AIRLLM)) == 2
    assert schedule.widest() is None


def test_without_ours_the_others_are_measured_alone(cell, clock):
    file, _ = visited(cell, MadeUpDriver(clock, {"lm_offload": 0}))
    assert file.failed(cell.case, OURS)
    assert file.rounds(cell.case, LLAMA) == [1.0, 1.0]


def test_time_that_is_left_goes_to_the_widest_interval(cell, clock):
    driver = MadeUpDriver(clock)
    file, schedule = visited(cell, driver, rounds=20, left_s=20.0)
    assert len(file.rounds(cell.case, LLAMA)) == 5  # of two runs, in half of the time
    assert len(file.rounds(cell.case, AIRLLM)) == 4
    for wanted in (AIRLLM, LLAMA):  # whose rounds vary most, and what is left then
        assert schedule.widest() == (cell, wanted)
        with CellTurns(driver, file, cell) as turns:
            turns.take(wanted, schedule.until(cell, 5.0))
            assert len(file.rounds(cell.case, wanted)) < 20
            turns.take(wanted, schedule.until(cell, 100.0))
    assert schedule.widest() is None
