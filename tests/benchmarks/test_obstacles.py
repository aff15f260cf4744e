"""What a machine lacks becomes one line in a row, and the rest goes on."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from benchmarks.cgroup_version import CgroupUnavailableError
from benchmarks.compare import rows_in
from benchmarks.gpu import __main__ as gpu
from benchmarks.peer_rows import RunFile
from benchmarks.peers import environments, obstacles
from benchmarks.peers import run as runs
from benchmarks.peers.case import Case
from benchmarks.peers.environments import LLAMA_CPP, LM_OFFLOAD, OPENVINO, ensure_environment
from benchmarks.peers.run import Driver

from benchmarks import entry
from lm_offload.errors import ConfigError

GIB = 1 << 30


@pytest.fixture
def case(tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    (model / "model.safetensors").write_bytes(bytes(1000))
    return Case(model, batch=1, prompt_len=8, gen_len=4)


def error_of(spec, case):
    row = Driver(10.0, install=False).measure(spec, case)
    assert row["peer"] == spec.name
    return row["error"]


def test_too_little_memory_is_said(case, monkeypatch):
    monkeypatch.setattr(obstacles, "available_memory_bytes", lambda: 1100)
    assert error_of(LM_OFFLOAD, case).startswith("too little memory: 1.12 KiB needed to hold")
    limited = replace(case, limit_bytes=GIB)
    obstacles.check_conversion(LM_OFFLOAD, limited)
    with pytest.raises(RuntimeError, match=r"2\.93 KiB needed to convert the weights"):
        obstacles.check_conversion(OPENVINO, limited)


def test_too_little_disk_for_converted_weights_is_said(case, tmp_path, monkeypatch):
    monkeypatch.setattr(obstacles, "weight_file_bytes", lambda model: 1 << 60)
    monkeypatch.setattr(obstacles, "work_dir", lambda spec, case: tmp_path / "work" / "there")
    with pytest.raises(RuntimeError, match=r"too little disk: .* needed for the converted weights"):
        obstacles.check_disk(LLAMA_CPP, case)
    obstacles.check_disk(LM_OFFLOAD, case)  # converts nothing


def test_a_peer_that_is_not_installed_is_said(case, tmp_path, monkeypatch):
    monkeypatch.setattr(environments, "PEERS_DIR", tmp_path)
    message = error_of(LLAMA_CPP, case)
    assert message == "llama_cpp is not installed; `make bench-peers` does it"


@pytest.mark.parametrize(
    ("stderr", "told"),
    [
        ("Temporary failure in name resolution\nERROR: No matching", "no network"),
        ("after connection broken by 'NameResolutionError(\nERROR: No matching", "no network"),
        ("one\nERROR: cmake failed\n", "ERROR: cmake failed"),
        ("", "no output"),
    ],
)  # fmt: skip
def test_a_peer_that_does_not_install_says_why(tmp_path, monkeypatch, stderr, told):
    done = subprocess.CompletedProcess([], 1, "", stderr)
    monkeypatch.setattr(environments, "PEERS_DIR", tmp_path)
    monkeypatch.setattr(environments.venv, "create", lambda *args, **kwargs: None)
    monkeypatch.setattr(environments.subprocess, "run", lambda *args, **kwargs: done)
    with pytest.raises(RuntimeError) as raised:
        ensure_environment(LLAMA_CPP)
    assert str(raised.value) == f"llama_cpp could not be installed: {told}"


def test_without_cgroups_engines_with_a_budget_run_and_say_so(case, monkeypatch):
    @contextmanager
    def session(command, environment, limit_bytes, timeout_s):
        if limit_bytes is not None:
            raise CgroupUnavailableError("No memory control group here.")
        yield SimpleNamespace(generate=lambda gen_len: {"error": None, "gen": gen_len})

    known = {"version": "1", "fixed_overhead_bytes": 0}
    monkeypatch.setattr(runs, "Session", session)
    monkeypatch.setattr(Driver, "_ready", lambda self, spec, case: known)
    limited, driver = replace(case, limit_bytes=GIB), Driver(1.0)
    row = driver.measure(LM_OFFLOAD, limited)
    assert (row["limit_kind"], row["gen"]) == ("in-process", case.gen_len)
    assert "no memory limit of its own" in driver.measure(LLAMA_CPP, limited)["error"]


def test_a_message_names_no_home(monkeypatch):
    assert runs.without_paths(f"in {Path.home()}/x") == "in ~/x"


@pytest.mark.parametrize("text", ["{bad", "[1]"])
def test_a_result_file_that_is_broken_is_one_line(tmp_path, text):
    (tmp_path / "out.json").write_text(text)
    with pytest.raises(ConfigError, match=r"out\.json .*; name another file"):
        RunFile(tmp_path / "out.json", dict)
    with pytest.raises(ConfigError, match=r"out\.json .*; name another file"):
        rows_in(tmp_path / "out.json")


def test_a_program_that_cannot_run_ends_with_one_line(capsys):
    def main() -> None:
        raise ConfigError("It cannot be.")

    with pytest.raises(SystemExit) as stop:
        entry.run(main)
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: It cannot be.\n"


def test_the_gpu_benchmark_writes_no_weights_where_there_is_no_gpu(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["gpu", "--preset", "8b"])
    monkeypatch.setattr(gpu, "missing_gpu", lambda: "there is no driver.")
    with pytest.raises(ConfigError, match=r"no GPU to measure: there is no driver"):
        gpu.main()
    assert list(tmp_path.iterdir()) == []
