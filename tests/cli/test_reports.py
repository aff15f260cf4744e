"""`inspect` and `doctor`."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from lm_offload.cli import checkup
from lm_offload.cli.report import print_rows
from tests.cli.conftest import Run


def inspect(run: Run, demo: Path, *arguments: str) -> dict[str, object]:
    done = run("inspect", str(demo), "--json", *arguments)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_inspect_adds_up_to_the_weights(run: Run, demo: Path) -> None:
    found = inspect(run, demo)
    assert sum(unit["size_bytes"] for unit in found["units"]) == found["weight_bytes"]
    assert sum(kind["size_bytes"] for kind in found["kinds"]) == found["weight_bytes"]
    assert found["parameters"] * 2 == found["weight_bytes"]
    assert found["fits"]


def test_an_untied_embedding_counts_too(run: Run, toy) -> None:
    found = inspect(run, toy("llama"))
    assert sum(unit["size_bytes"] for unit in found["units"]) == found["weight_bytes"]


def test_inspect_counts_embedding_rows_that_stay_on_disk(run: Run, toy) -> None:
    found = inspect(
        run, toy("llama"), "--prompt-len", "8", "--gen-len", "8", "--cpu-memory", "300K"
    )
    (table,) = (unit for unit in found["units"] if unit["kind"] == "embed")
    assert (table["size_bytes"], table["tier"]) == (found["rows_on_disk_bytes"], "disk")
    assert not found["fits"]


@pytest.mark.parametrize("key", ["smallest_budget_bytes", "resident_budget_bytes"])
def test_the_budgets_it_names_are_exact(run: Run, demo: Path, key: str) -> None:
    sizes = ["--batch-size", "2", "--prompt-len", "30", "--gen-len", "10"]
    budget = inspect(run, demo, *sizes)[key]
    at = inspect(run, demo, *sizes, "--cpu-memory", str(budget))
    below = inspect(run, demo, *sizes, "--cpu-memory", str(int(str(budget)) // 2))
    flag = "runs" if key.startswith("smallest") else "fits"
    assert at[flag]
    assert not below[flag]


@pytest.mark.parametrize("budget", ["3MiB", "12MiB", "20MiB"])
def test_inspect_and_plan_say_the_same_of_a_budget(run: Run, demo: Path, budget: str) -> None:
    found = inspect(run, demo, "--cpu-memory", budget)
    planned = json.loads(run("plan", str(demo), "--cpu-memory", budget, "--json").stdout)
    tiers = found["tier_bytes"]
    assert isinstance(tiers, dict)
    assert tiers["cpu"] == dict(planned["memory"])["resident weights"]
    assert found["profile"] == "null machine"


def test_inspect_measures_nothing_and_says_so(
    run: Run, demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LM_OFFLOAD_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("LM_OFFLOAD_PROFILE")
    assert inspect(run, demo)["profile"] is None
    assert "of middling speed" in run("inspect", str(demo), "--cpu-memory", "12MiB").stdout
    assert not (tmp_path / "cache").exists()


def test_inspect_reads_no_weights(run: Run, demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> int:
        raise AssertionError("a weight was read")

    monkeypatch.setattr("lm_offload.storage.direct_file.DirectFile.read_into", fail)
    done = run("inspect", str(demo), "--cpu-memory", "12MiB")
    assert done.returncode == 0, done.stderr
    assert "smallest that works" in done.stdout
    assert "streamed from disk" in done.stdout


def test_doctor_names_what_is_missing_and_its_cost(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lm_offload.storage.direct_file.os.O_DIRECT", 0, raising=False)
    monkeypatch.delattr("lm_offload.storage.direct_file.os.O_DIRECT")
    done = run("doctor", str(tmp_path), "--json")
    assert done.returncode == 0, done.stderr
    found = {finding["name"]: finding for finding in json.loads(done.stdout)["findings"]}
    direct = found[f"direct reads at {tmp_path}"]
    assert direct["value"] is False
    assert "page cache" in direct["cost"]
    assert direct["name"] in json.loads(done.stdout)["missing"]
    assert found["torch"]["value"]
    assert found["cores"]["value"] >= 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("kernels", "in_use", "words"),
    [
        ("native-amx+onednn-bf16", True, None),
        ("native-avx512-bf16", True, None),
        ("native-avx512-vnni", False, "AMX, or AVX512-BF16 of AMD, would be faster"),
        ("torch", False, "AVX512-BF16 or AMX would be faster"),
    ],
)
def test_doctor_says_whether_bf16_units_are_used(
    monkeypatch: pytest.MonkeyPatch, kernels: str, in_use: bool, words: str | None
) -> None:
    resolved = SimpleNamespace(name=kernels)
    monkeypatch.setattr("lm_offload.kernels.resolve.resolve_kernels", lambda cores: resolved)
    found = {finding.name: finding for finding in checkup._kernels(1)}
    units = found["products of bf16 in use"]
    assert units.value is in_use
    assert (units.cost is None) if words is None else words in str(units.cost)


def test_doctor_prints_a_table(run: Run, demo: Path) -> None:
    done = run("doctor", str(demo))
    assert done.returncode == 0, done.stderr
    for word in ("kernels", "cgroup", "transformers", "Hugging Face"):
        assert word in done.stdout


def test_doctor_wants_a_place_that_exists(run: Run) -> None:
    done = run("doctor", "no/such/place")
    assert done.returncode == 2
    assert "does not exist" in done.stderr


def test_doctor_says_what_plans_are_made_from(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def profile() -> dict[str, str]:
        findings = json.loads(run("doctor", str(tmp_path), "--json").stdout)["findings"]
        return dict(next(one for one in findings if one["name"] == "profile"))

    assert profile()["value"].endswith("null_machine.yaml")
    monkeypatch.delenv("LM_OFFLOAD_PROFILE")
    monkeypatch.setenv("LM_OFFLOAD_CACHE", str(tmp_path / "cache"))
    assert profile()["value"] == "none"
    assert "lm-offload profile" in profile()["cost"]


def test_paths_are_shown_whole_in_narrow_terminals(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    monkeypatch.setenv("COLUMNS", "60")
    made = Console(file=io.StringIO(), width=60)
    print_rows(made, "made", [("folder", str(folder))])
    for shown in (made.file.getvalue(), run("doctor", str(folder)).stdout):
        assert "…" not in shown
        assert shown.count("long") > 20
