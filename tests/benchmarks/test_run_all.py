"""A suite that fails or is interrupted goes on where it was."""

from __future__ import annotations

import itertools
import math
import time

import pytest
from benchmarks.checkpoint_files import checkpoint_bytes
from benchmarks.checkpoint_shapes import PRESETS
from benchmarks.run_all import RESERVE_S, command, ends_well, run_parts, run_suite, time_limit
from benchmarks.suite import Part, Suite, full, quick
from benchmarks.time_limit import GRACE_S, START_S, Share, TimeLimit

from benchmarks import run_all
from benchmarks import time_limit as time_limit_module
from tests.clock import fake_clock

PARTS = (Part("a", "bench_a"), Part("b", "bench_b", ("--x", "1"), 2.0))
NO_LIMIT = TimeLimit(math.inf, {})


@pytest.fixture
def calls(monkeypatch):
    """Modules in the order in which they were run; those of `failing` fail."""
    ran, failing = [], set()

    def run(words, most_s=math.inf):
        ran.append(words[0].removeprefix("benchmarks.bench_"))
        return ran[-1] not in failing

    monkeypatch.setattr(run_all, "ends_well", run)
    return ran, failing


def test_a_part_that_failed_is_run_again_and_keeps_its_file(tmp_path, calls):
    ran, failing = calls
    failing.add("b")
    assert run_parts(PARTS, tmp_path, NO_LIMIT) == ["b"]
    (tmp_path / "b.json").write_text("{}")  # what it had measured
    failing.clear()
    assert run_parts(PARTS, tmp_path, NO_LIMIT) == []
    assert ran == ["a", "b", "b"]
    assert (tmp_path / "b.json").exists()


def test_a_run_that_ended_well_begins_anew(tmp_path, calls):
    ran, _ = calls
    (tmp_path / "a.json").write_text("{}")  # of another day
    run_parts(PARTS, tmp_path, NO_LIMIT)
    assert not (tmp_path / "a.json").exists()
    run_parts(PARTS, tmp_path, NO_LIMIT)
    assert ran == ["a", "b", "a", "b"]


def test_an_interruption_loses_nothing(tmp_path, calls, monkeypatch):
    ran, _ = calls
    kept = run_all.ends_well

    def interrupted(words, most_s=math.inf):
        if words[0] == "benchmarks.bench_b" and len(ran) == 1:
            ran.append("interrupted")
            raise KeyboardInterrupt
        return kept(words, most_s)

    monkeypatch.setattr(run_all, "ends_well", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_parts(PARTS, tmp_path, NO_LIMIT)
    run_parts(PARTS, tmp_path, NO_LIMIT)
    assert ran == ["a", "interrupted", "b"]


def test_the_command_of_a_part(tmp_path):
    assert command(PARTS[1], tmp_path / "b.json", NO_LIMIT.share(PARTS[1], ())) == [
        "benchmarks.bench_b", "--x", "1", "--minutes", "2", "--json", str(tmp_path / "b.json"),
    ]  # fmt: skip


@pytest.mark.parametrize("suite", [quick(), full()])
def test_a_suite_names_each_part_once_and_has_a_checkpoint(suite):
    names = [part.name for part in suite.parts]
    assert len(set(names)) == len(names)
    assert checkpoint_bytes(PRESETS[suite.preset], "bf16") > 0


def test_too_little_disk_for_the_checkpoint(monkeypatch, calls):
    monkeypatch.setattr(run_all, "checkpoint_bytes", lambda *args: 1 << 60)
    with pytest.raises(RuntimeError, match="too little disk"):
        run_all.make_model(quick())
    assert calls[0] == []


def test_without_the_checkpoint_the_other_parts_are_run(tmp_path, monkeypatch, calls, capsys):
    ran, _ = calls
    suite = Suite(
        "0.25b", (PARTS[0], Part("c", "bench_c", ("--model", ".checkpoints/llama-0.25b")))
    )

    def no_room(suite):
        raise RuntimeError("too little disk: 3 GiB needed")

    monkeypatch.setattr(run_all, "make_model", no_room)
    monkeypatch.setattr(run_all, "note_limits", lambda: None)
    monkeypatch.setattr(run_all, "profile_machine", lambda suite: None)
    assert run_suite(suite, tmp_path, 0.0) == ["c"]
    assert ran == ["a"]
    assert "0.25b: too little disk: 3 GiB needed; only what needs no" in capsys.readouterr().out


def test_an_interrupted_suite_says_where_its_results_lie(tmp_path, monkeypatch, capsys):
    def interrupted(suite, out, start_s):
        raise KeyboardInterrupt

    monkeypatch.setattr(run_all, "run_suite", interrupted)
    monkeypatch.setattr("sys.argv", ["run_all", "--out", str(tmp_path)])
    assert run_all.main() == 130
    assert f"interrupted; what is measured lies in {tmp_path}" in capsys.readouterr().out


TIMED = (
    Part("fixed", "bench_fixed", weight=10),
    Part("long", "bench_long", weight=60, stretches=True),
    Part("short", "bench_short", weight=30, stretches=True),
)


@pytest.fixture
def clock(monkeypatch):
    return fake_clock(monkeypatch, run_all, time_limit_module)


def suite_of(seconds, clock, tmp_path, monkeypatch, limit_s=100.0):
    """Runs TIMED, whose parts take what `seconds` says of what they are told; what that was."""
    had = {}

    def run(words, most_s=math.inf):
        name = words[0].removeprefix("benchmarks.bench_")
        told = dict(itertools.pairwise(words)).get("--minutes")
        had[name] = told and 60 * float(told) + START_S
        taken_s = seconds[name](had[name])
        clock.sleep(min(taken_s, most_s))
        return taken_s <= most_s

    monkeypatch.setattr(run_all, "ends_well", run)
    suite = Suite("0.25b", TIMED, limit_s + RESERVE_S)
    start_s = clock.monotonic()
    failed = run_parts(TIMED, tmp_path, time_limit(suite, tmp_path, start_s))
    return had, failed, clock.monotonic() - start_s


def as_told(told_s):
    return told_s


def test_parts_share_the_time_by_weight(tmp_path, clock, monkeypatch):
    seconds = {"fixed": lambda _: 10.0, "long": as_told, "short": as_told}
    had, failed, taken_s = suite_of(seconds, clock, tmp_path, monkeypatch)
    assert had == {"fixed": None, "long": pytest.approx(60, 1e-3), "short": pytest.approx(30, 1e-3)}
    assert not failed
    assert taken_s == pytest.approx(100, abs=0.1)


def test_what_a_part_takes_beyond_its_share_the_later_ones_lack(tmp_path, clock, monkeypatch):
    seconds = {"fixed": lambda _: 14.0, "long": lambda told_s: told_s + 15, "short": as_told}
    had, failed, taken_s = suite_of(seconds, clock, tmp_path, monkeypatch)
    assert had["long"] == pytest.approx(86 * 60 / 90, 1e-3)
    assert had["short"] == pytest.approx(86 * 30 / 90 - 15, 1e-3)
    assert not failed
    assert taken_s == pytest.approx(100, abs=0.1)


def test_a_part_that_does_not_end_is_cut_off_and_the_rest_goes_on(
    tmp_path, clock, monkeypatch, capsys
):
    seconds = {"fixed": lambda _: 9999.0, "long": as_told, "short": as_told}
    had, failed, taken_s = suite_of(seconds, clock, tmp_path, monkeypatch)
    assert failed == ["fixed"]
    assert had["long"] == pytest.approx(75 * 60 / 90, 1e-3)  # 1.5 times 10 s and 10 s are gone
    assert taken_s == pytest.approx(100, abs=0.1)
    assert (
        "25 s, its share 10 s, cut off; start again for the rest of it" in capsys.readouterr().out
    )


def test_how_long_a_part_took_is_its_weight_the_next_time(tmp_path, clock, monkeypatch):
    seconds = {"fixed": lambda _: 14.0, "long": as_told, "short": as_told}
    suite_of(seconds, clock, tmp_path, monkeypatch)
    had, _, taken_s = suite_of(seconds, clock, tmp_path, monkeypatch)
    assert had["long"] == pytest.approx(86 * 60 / 90, 1e-3)
    assert taken_s == pytest.approx(100, abs=0.1)


def test_a_run_that_goes_on_has_the_share_of_what_is_left(tmp_path, clock, monkeypatch):
    seconds = {"fixed": lambda _: 10.0, "long": as_told, "short": lambda _: 9999.0}
    _, failed, taken_s = suite_of(seconds, clock, tmp_path, monkeypatch)
    assert failed == ["short"]
    assert taken_s < 100 + GRACE_S + 0.1
    had, failed, taken_s = suite_of({"short": as_told}, clock, tmp_path, monkeypatch)
    assert list(had) == ["short"]
    assert not failed
    assert taken_s < 40


def test_a_suite_without_a_limit_keeps_the_minutes_of_its_parts():
    share = NO_LIMIT.share(PARTS[1], PARTS[:1])
    assert share == Share(math.inf, math.inf)
    assert share.minutes(PARTS[1]) == 2.0
    assert share.minutes(PARTS[0]) is None


def test_cutting_off_ends_the_process(tmp_path, monkeypatch):
    (tmp_path / "sleeper.py").write_text("import time; time.sleep(60)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    start_s = time.monotonic()
    assert not ends_well(["sleeper"], 1.0)
    assert time.monotonic() - start_s < 30


def test_the_quick_suite_fits_its_time():
    suite = quick()
    assert suite.limit_s == 600
    assert sum(part.weight for part in suite.parts) < suite.limit_s - RESERVE_S
