"""`lm-offload plan`: prediction and reasons, other machines, saved plans, verification."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from rich.console import Console

from lm_offload.cli.plan import _print_notes
from lm_offload.cli.plan_table import print_plan
from lm_offload.demo import demo_path
from lm_offload.units import MIB, PAGE_BYTES
from tests.cli.conftest import Run
from tests.hardware.test_profile_store import PROFILE
from tests.planner.test_stages import plan_of

SIZES = ["--batch-size", "2", "--prompt-len", "24", "--gen-len", "6"]
STREAMED = ["--cpu-memory", "12MiB"]


def planned(run: Run, *arguments: str) -> dict[str, Any]:
    done = run("plan", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_table_tells_prediction_bounds_and_reasons(run: Run, demo: Path) -> None:
    done = run("plan", str(demo), *SIZES, *STREAMED)
    assert done.returncode == 0, done.stderr
    text = " ".join(done.stdout.split())
    for words in (
        "while outputs end early: none",
        "time to first token",
        "decode is bound by",
        "2x faster disk",
        "1 GiB more",
    ):
        assert words in text
    for title in ("CPU memory", "Predicted", "What would help", "Other plans"):
        assert title in done.stdout


def test_json_holds_plan_prediction_and_explanation(run: Run, demo: Path) -> None:
    found = planned(run, str(demo), *SIZES, *STREAMED)
    assert found["weight_format"] == found["kv_format"] == "bf16"
    predicted, explanation = found["predicted"], found["explanation"]
    assert predicted["peak_bytes"]["disk"] == found["streamed_bytes"] > 0
    assert predicted["step_s"]["decode"]["disk_read_s"] > 0
    assert explanation["bottleneck"]["decode"] == "disk"
    assert found["spare"]["sequences"] == 0
    assert "in flight" in found["spare"]["reason"]
    ceiling = explanation["ceiling"]["decode"]
    most = ceiling["tokens"] / ceiling["disk_s"]  # which a plan may reach that only reads
    assert most >= predicted["decode_tokens_per_s"] * (1 - 1e-12)
    lossy = {one["plan"]["weight_format"]: one["reason"] for one in explanation["runners_up"]}
    assert "--weight-format auto" in lossy["int4:64"]


def test_auto_takes_the_format_that_is_fastest_by_prediction(run: Run, demo: Path) -> None:
    found = planned(run, str(demo), *SIZES, *STREAMED, "--weight-format", "auto")
    assert found["weight_format"] == "int4:64"
    exact = planned(run, str(demo), *SIZES, *STREAMED, "--weight-format", "auto", "--exact")
    assert exact["weight_format"] == "bf16"
    forbidden = planned(run, str(demo), *SIZES, *STREAMED, "--exact")["explanation"]
    assert {one["plan"]["weight_format"] for one in forbidden["runners_up"]} <= {"bf16"}


def test_a_bare_config_is_planned_as_a_checkpoint_is(run: Run, demo: Path, tmp_path: Path) -> None:
    file, bare = tmp_path / "plan.yaml", str(demo / "config.json")
    made = planned(run, str(demo), *SIZES, *STREAMED, "--save", str(file))
    given = planned(run, bare, *SIZES, "--plan", str(file))
    pages = 2 * len(made["streamed"]) * PAGE_BYTES  # where units and their norms begin in a file
    assert given["streamed_bytes"] == pytest.approx(made["streamed_bytes"], abs=pages)
    assert dict(given["memory"])["KV cache"] == dict(made["memory"])["KV cache"]
    found = planned(run, bare, *SIZES, *STREAMED)
    assert found["max_sequences"] == made["max_sequences"]
    for plan in (given, found):
        run_s = plan["predicted"]["run_s"]
        assert run_s == pytest.approx(made["predicted"]["run_s"], rel=0.02)


def test_a_model_that_ships_on_a_machine_that_ships(run: Run) -> None:
    done = run("plan", "llama-3.1-8b", "--machine", "t4-208gb", "--cpu-memory", "4GiB", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["streamed"]
    said = " ".join(done.stderr.split())
    assert "uses the CPU and the disk" in said
    assert "lm-offload simulate" in said
    roomy = planned(run, "llama-3.1-8b", "--machine", "t4-208gb")
    assert not roomy["streamed"]


def test_an_unknown_model_is_told_what_ships(run: Run) -> None:
    done = run("plan", "llama-3-8b")
    assert done.returncode == 4
    assert "llama-3.1-8b" in done.stderr


def test_a_saved_plan_runs_and_can_be_edited(run: Run, demo: Path, tmp_path: Path) -> None:
    file = tmp_path / "plan.yaml"
    assert run("plan", str(demo), *SIZES, *STREAMED, "--save", str(file)).returncode == 0
    record = yaml.safe_load(file.read_text())
    common = [str(demo), "--prompt", "def add(", "--max-tokens", "5", "-q"]
    free = run("generate", *common)
    bound = run("generate", *common, "--plan", str(file))
    assert bound.returncode == 0, bound.stderr
    assert bound.stdout == free.stdout
    record["resident"].append(record["streamed"].pop())
    record["budget"] = "1GiB"
    file.write_text(yaml.safe_dump(record))
    moved = planned(run, str(demo), *SIZES, "--plan", str(file))
    assert moved["resident"] == sorted(record["resident"], key=moved["resident"].index)
    record["kv_blocks"] = 0
    file.write_text(yaml.safe_dump(record))
    done = run("bench", str(demo), *SIZES, "--plan", str(file))
    assert done.returncode == 2
    assert "kv_blocks in plan.yaml is 0" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["DEMO", "--machine", "t4-208gb", "--threads", "2"], "--threads was given with --machine"),
        (["DEMO", "--machine", "nowhere"], "neither a file nor a machine"),
        (["DEMO", "--machine", "t4-208gb", "--cpu-memory", "1TiB"], "no more than that"),
        (["opt-30b", "--verify"], "a checkpoint on this machine only"),
        (["DEMO", "--plan", "missing.yaml"], "missing.yaml"),
        (["DEMO", "--save", "no/such/plan.yaml"], "cannot be written"),
        (["DEMO", "--objective", "fun"], "'fun'"),
        (["DEMO", "--weight-format", "int3"], "int3"),
    ],
)
def test_what_cannot_be_planned_is_said(
    run: Run, demo: Path, arguments: list[str], words: str
) -> None:
    done = run("plan", *[str(demo) if word == "DEMO" else word for word in arguments])
    assert done.returncode == 2, done.stderr
    assert words in " ".join(done.stderr.split())


def test_a_mixture_reads_what_its_rows_use(run: Run) -> None:
    machine = str(Path(__file__).parents[1] / "machine.yaml")
    options = ["--cpu-memory", "8GiB", "--machine", machine, "--batch-size", "1"]
    done = run("plan", "qwen3-30b-a3b", *options)
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stdout.split())
    assert "of experts what its rows use" in said
    found = planned(run, "qwen3-30b-a3b", *options)
    assert found["expert_ring_bytes"] > 0
    read_bytes = found["predicted"]["step_s"]["decode"]["read_bytes"]
    assert read_bytes == pytest.approx(found["streamed_bytes"] * 8 / 128, rel=0.01)


def test_gpt_oss_is_planned_as_it_was_published(run: Run) -> None:
    """Experts in MXFP4, all else in bf16."""
    machine = str(Path(__file__).parents[1] / "machine.yaml")
    options = ["--cpu-memory", "8GiB", "--machine", machine]
    found = planned(run, "gpt-oss-20b", *options)
    assert (found["weight_format"], found["kv_format"]) == ("mxfp4", "bf16")
    weights_bytes = dict(found["memory"])["resident weights"] + found["streamed_bytes"]
    experts = 24 * 32 * 3 * 2880**2
    wanted = experts * 4.25 / 8 + 2 * (20_914_757_184 - experts - 201_088 * 2880)
    assert weights_bytes == pytest.approx(wanted, rel=0.002)
    done = run("plan", "gpt-oss-20b", *options, "--weight-format", "int4")
    assert done.returncode == 2
    assert "experts of this model are mxfp4 already" in " ".join(done.stderr.split())


def test_a_device_does_not_compute_experts(run: Run) -> None:
    done = run("plan", "mixtral-8x7b", "--machine", "t4-208gb", "--gpu-memory", "12GiB")
    assert done.returncode == 2
    assert "for a mixture of experts, which only the CPU computes" in done.stderr


def test_verify_runs_the_best_plans_and_looks_at_their_order(run: Run) -> None:
    found = planned(run, str(demo_path()), *SIZES, *STREAMED, "--threads", "1", "--verify")
    verified = found["verification"]
    assert verified["workload"]["gen_len"] == 6
    assert len(verified["plans"]) > 1
    for plan in verified["plans"]:
        assert plan["measured"]["decode_tokens_per_s"] > 0
        assert plan["predicted"].keys() <= plan["measured"].keys()
    assert verified["ranking"]["wrong_pairs"] <= verified["ranking"]["pairs"]


def test_the_bytes_of_a_draft_model_are_told(run: Run, demo: Path) -> None:
    drafting = ["--draft-model", str(demo), "--speculation", "draft-model"]
    found = planned(run, str(demo), *SIZES, "--cpu-memory", "32MiB", *drafting)
    assert dict(found["memory"])["draft model weights"] > 10**7
    assert found["streamed_bytes"] > 0
    done = run("plan", str(demo / "config.json"), *SIZES, *drafting)
    assert done.returncode != 0
    assert "is a bare config, whose tokens cannot be compared" in " ".join(done.stderr.split())


def test_a_plan_for_the_gpu_of_a_described_machine(run: Run, tmp_path: Path) -> None:
    sizes = ["--machine", "t4-208gb", "--gpu-memory", "8GiB", "--gen-len", "8"]
    saved, wanted = tmp_path / "plan.yaml", ["--in-place", "none"]
    found = planned(run, "llama-3.1-8b", *sizes, *wanted, "--save", str(saved))
    assert found["device"]["uploaded_bytes"] > 0
    assert sum(size for _, size in found["device"]["memory"]) <= 8 << 30
    why = found["explanation"]
    assert why["bottleneck"]["decode"] == "link"
    assert why["ceiling"]["decode"]["link_s"] > why["ceiling"]["decode"]["memory_s"]
    changes = {one["change"]: one["speedup"] for one in why["what_ifs"]}
    assert changes["2x faster link"] > 1.3
    assert changes["1 GiB more GPU memory"] > 1.05
    refused = run("plan", "llama-3.1-8b", *sizes, "--speculation", "prompt-lookup")
    assert refused.returncode == 2
    assert "drafts are not verified on a device" in " ".join(refused.stderr.split())
    again = planned(run, "llama-3.1-8b", "--machine", "t4-208gb", "--gen-len", "8",
                    "--plan", str(saved))  # fmt: skip
    assert again["device"] == found["device"]
    assert again["predicted"] == found["predicted"]


def test_mlps_stay_in_memory_that_is_faster_than_the_link(run: Run) -> None:
    sizes = ["--machine", "t4-208gb", "--gpu-memory", "8GiB", "--gen-len", "8"]
    found = planned(run, "llama-3.1-8b", *sizes)
    device, why = found["device"], found["explanation"]
    assert device["in_place"]
    assert why["bottleneck"]["decode"] == "CPU memory"
    assert why["ceiling"]["decode"]["link_s"] < why["ceiling"]["decode"]["memory_s"]
    assert why["in_place"]["on_cpu_s"] < why["in_place"]["upload_s"]


def test_a_machine_without_a_gpu_has_no_gpu_memory(run: Run, demo: Path) -> None:
    machine = Path(__file__).parents[1] / "machine.yaml"
    done = run("plan", str(demo), *SIZES, "--machine", str(machine), "--gpu-memory", "1GiB")
    assert done.returncode == 2
    assert "has no GPU" in " ".join(done.stderr.split())


def test_devices_in_turn_are_told_with_their_stretches() -> None:
    console = Console(record=True, width=200, file=io.StringIO())
    plan = plan_of(450 * MIB, 450 * MIB)
    print_plan(console, plan)
    text = console.export_text()
    for number, stage in enumerate(plan.device.stages):
        first, last = stage.units[0], stage.units[-1]
        assert f"Stage {number}, {first} to {last} in {len(stage.begins)} stretches on" in text


@pytest.mark.parametrize(
    ("budget", "shared"),
    [("1GiB", "no prefixes are shared"), ("12GiB", r"states behind \d+ prefixes are kept")],
)
def test_recurrent_layers_are_named(run: Run, budget: str, shared: str) -> None:
    machine = str(Path(__file__).parents[1] / "null_machine.yaml")
    options = ("--machine", machine, "--cpu-memory", budget, "--weight-format", "int4:64")
    done = run("plan", "qwen3.5-35b-a3b", *SIZES, *options)
    assert done.returncode == 0, done.stderr
    text = " ".join(done.stdout.split())
    assert "recurrent states" in text
    assert ("kept states" in text) == (budget == "12GiB")
    assert re.search(f"as layers are recurrent, {shared} and nothing is drafted", text)


def test_a_profile_that_was_disturbed_is_told_with_the_plan():
    texts = []
    for disturbed_frac in (0.0, 0.5):
        console = Console(record=True, width=200, file=io.StringIO())
        profile = replace(PROFILE, disturbed_frac=disturbed_frac)
        _print_notes(console, SimpleNamespace(profile=profile, device=None))
        texts.append(console.export_text())
    assert texts[0] == ""
    assert "50%" in texts[1]
