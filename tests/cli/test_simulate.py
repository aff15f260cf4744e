"""`simulate`: figures of a described machine, without a model or a measurement."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.conftest import Done, Run

CASE = ("--config", "opt-6.7b", "--machine", "t4-208gb", "--prompt-len", "64", "--gen-len", "16")
QUICK = (*CASE, "--batch-size", "8", "--micro-batches", "2")
POLICY = """
weights: {gpu: 20%, cpu: 80%}
kv: {cpu: 100%}
activations: {cpu: 100%}
micro_batch_size: 8
num_micro_batches: 3
prefill: {compute: gpu, attention: gpu}
decode: {compute: gpu, attention: cpu}
schedule: flexgen
weight_format: fp16
kv_format: fp16
"""


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    file = tmp_path / "policy.yaml"
    file.write_text(POLICY)
    return file


def simulated(run: Run, *arguments: str) -> dict[str, Any]:
    done = run("simulate", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def refused(run: Run, *arguments: str, status: int = 2) -> str:
    done = run("simulate", *arguments)
    assert done.returncode == status, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    return done.stderr


def test_a_search_says_what_it_chose_and_why(run: Run) -> None:
    found = simulated(run, *QUICK)
    assert found["batch_size"] == 8
    assert 0 < found["throughput_tokens_per_s"] <= 1.000001 * found["ceiling_tokens_per_s"]
    seconds = found["ttft_s"] + 15 * found["tpot_s"]
    assert found["throughput_tokens_per_s"] == pytest.approx(8 * 16 / seconds)
    for tier, size_bytes in found["peak_bytes"].items():
        assert size_bytes <= found["capacity_bytes"][tier]
    changes = [runner_up["change"] for runner_up in found["runners_up"]]
    assert "fp16 weights" in changes or found["policy"]["weight_format"] == "fp16"
    assert all(gain >= 0.999 for gain in found["gains"].values())
    for phase in found["phases"].values():
        assert all(0 <= share <= 1.000001 for share in phase["busy_frac"].values())
        assert sum(phase["critical_path_s"].values()) > 0


def test_people_read_a_table(run: Run) -> None:
    done = run("simulate", *QUICK)
    assert done.returncode == 0, done.stderr
    for word in ("generation", "ceiling", "capacity", "critical", "Runners-up", "bound by"):
        assert word in done.stdout


def test_a_saved_policy_simulates_the_same(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "saved.yaml"
    found = simulated(run, *QUICK, "--exact", "--save", str(file))
    assert yaml.safe_load(file.read_text()) == found["policy"]
    again = simulated(run, *CASE, "--policy", str(file))
    assert again["tpot_s"] == found["tpot_s"]
    assert again["runners_up"] == []


def test_options_edit_a_given_policy(run: Run, policy: Path) -> None:
    found = simulated(run, *CASE, "--plan", str(policy), "--batch-size", "12", "--schedule", "pipo")
    assert found["batch_size"] == 12
    assert found["policy"]["micro_batch_size"] == 4
    assert found["policy"]["schedule"] == "pipo"


def test_constraints_hold(run: Run) -> None:
    options = (
        "--weight-format",
        "int8",
        "--exact",
        "--pin",
        "attention=cpu",
        "--pin",
        "weights=cpu",
    )
    assert "--exact" in refused(run, *QUICK, *options)
    found = simulated(run, *QUICK, *options[:2], *options[3:], "--schedule", "zigzag")["policy"]
    assert found["weight_format"] == "int8:64"
    assert found["decode"]["attention"] == "cpu"
    assert found["weights"] == {"cpu": 1.0}
    assert found["schedule"] == "zigzag"


def test_latency_is_searched_for_one_sequence(run: Run) -> None:
    assert simulated(run, *CASE, "--objective", "latency")["batch_size"] == 1


def test_a_trace_opens_as_json(run: Run, policy: Path, tmp_path: Path) -> None:
    file = tmp_path / "trace.json"
    simulated(run, *CASE, "--policy", str(policy), "--trace", str(file))
    events = json.loads(file.read_text())["traceEvents"]
    tracks = {event["args"]["name"] for event in events if event["ph"] == "M"}
    assert {"gpu", "cpu", "h2d", "d2h"} <= tracks
    assert {"attend layers.0.attention", "compute head"} <= {event["name"] for event in events}


def test_files_of_the_user_and_settings(run: Run, tmp_path: Path, policy: Path) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text(f"model: opt-6.7b\nmachine: t4-208gb\npolicy: {policy}\ngen-len: 4\n")
    assert simulated(run, "--settings", str(settings))["gen_len"] == 4


def test_what_contradicts_a_given_policy_is_refused(run: Run, policy: Path) -> None:
    given = (*CASE, "--policy", str(policy))
    for option in (("--search",), ("--exact",), ("--pin", "kv=cpu"), ("--kv-format", "int8")):
        assert f"{option[0]} was given together with --policy" in refused(run, *given, *option)
    assert "cannot be cut into 3" in refused(run, *given, "--batch-size", "10")


def test_a_policy_that_does_not_fit_is_refused(run: Run, policy: Path) -> None:
    policy.write_text(POLICY.replace("gpu: 20%, cpu: 80%", "gpu: 100%").replace("8\n", "800\n"))
    case = ("--config", "opt-30b", *CASE[2:], "--policy", str(policy))
    message = refused(run, *case, status=3)
    assert "policy.yaml lacks" in message
    assert "of GPU memory" in message


def test_bad_names_and_numbers(run: Run, tmp_path: Path) -> None:
    assert "neither a file nor a folder nor a model" in refused(
        run, "--config", "gpt-9", *CASE[2:], status=4
    )
    assert "nor a machine that ships" in refused(run, *CASE[:2], "--machine", "abacus")
    assert "--pin 'kv' was given" in refused(run, *CASE, "--pin", "kv")
    assert "Format 'int3' is not known" in refused(run, *CASE, "--kv-format", "int3")
    assert _usage_error(run("simulate", *CASE, "--schedule", "best"))


def _usage_error(done: Done) -> bool:
    return done.returncode == 2 and "zigzag" in done.stderr
