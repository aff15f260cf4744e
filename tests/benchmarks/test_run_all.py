"""A suite that fails or is interrupted goes on where it was."""

from __future__ import annotations

import pytest
from benchmarks.make_checkpoint import PRESETS, checkpoint_bytes
from benchmarks.run_all import command, run_parts, run_suite
from benchmarks.suite import Part, Suite, full, quick

from benchmarks import run_all

PARTS = (Part("a", "bench_a"), Part("b", "bench_b", ("--x", "1"), 2.0))


@pytest.fixture
def calls(monkeypatch):
    """Modules in the order in which they were run; those of `failing` fail."""
    ran, failing = [], set()

    def run(words):
        ran.append(words[0].removeprefix("benchmarks.bench_"))
        return ran[-1] not in failing

    monkeypatch.setattr(run_all, "ends_well", run)
    return ran, failing


def test_a_part_that_failed_is_run_again_and_keeps_its_file(tmp_path, calls):
    ran, failing = calls
    failing.add("b")
    assert run_parts(PARTS, tmp_path) == ["b"]
    (tmp_path / "b.json").write_text("{}")  # what it had measured
    failing.clear()
    assert run_parts(PARTS, tmp_path) == []
    assert ran == ["a", "b", "b"]
    assert (tmp_path / "b.json").exists()


def test_a_run_that_ended_well_begins_anew(tmp_path, calls):
    ran, _ = calls
    (tmp_path / "a.json").write_text("{}")  # of another day
    run_parts(PARTS, tmp_path)
    assert not (tmp_path / "a.json").exists()
    run_parts(PARTS, tmp_path)
    assert ran == ["a", "b", "a", "b"]


def test_an_interruption_loses_nothing(tmp_path, calls, monkeypatch):
    ran, _ = calls
    kept = run_all.ends_well

    def interrupted(words):
        if words[0] == "benchmarks.bench_b" and len(ran) == 1:
            ran.append("interrupted")
            raise KeyboardInterrupt
        return kept(words)

    monkeypatch.setattr(run_all, "ends_well", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_parts(PARTS, tmp_path)
    run_parts(PARTS, tmp_path)
    assert ran == ["a", "interrupted", "b"]


def test_the_command_of_a_part(tmp_path):
    assert command(PARTS[1], tmp_path / "b.json") == [
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
    assert run_suite(suite, tmp_path) == ["c"]
    assert ran == ["a"]
    assert "0.25b: too little disk: 3 GiB needed; only what needs no" in capsys.readouterr().out


def test_an_interrupted_suite_says_where_its_results_lie(tmp_path, monkeypatch, capsys):
    def interrupted(suite, out):
        raise KeyboardInterrupt

    monkeypatch.setattr(run_all, "run_suite", interrupted)
    monkeypatch.setattr("sys.argv", ["run_all", "--out", str(tmp_path)])
    assert run_all.main() == 130
    assert f"interrupted; what is measured lies in {tmp_path}" in capsys.readouterr().out
