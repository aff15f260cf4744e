"""`quantize`, `cache` and `--weight-format`: made once, found again, deleted only when told to."""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path

import pytest

from lm_offload.storage.packed_index import DATA_FILE
from tests.cli.conftest import Run
from tests.foreign.gguf_files import write_gguf
from tests.quantized import damage

PROMPT = ["--prompt", "def add(", "--max-tokens", "4", "-q"]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory, demo: Path) -> Path:
    """A cache with the demo model in int8."""
    from lm_offload.engine.quantized_export import quantize_model

    folder = tmp_path_factory.mktemp("filled")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LM_OFFLOAD_CACHE", str(folder))
        quantize_model(demo, "int8", None, 1, lambda done, total: None)
    return folder


@pytest.fixture
def cache(filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it that the test may change."""
    shutil.copytree(filled, tmp_path / "cache")  # keeps the times of the files
    monkeypatch.setenv("LM_OFFLOAD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_quantized_text_comes_from_the_cache(run: Run, cache: Path, demo: Path) -> None:
    before = sorted(cache.rglob("*"))
    first = run("generate", str(demo), *PROMPT, "--weight-format", "int8")
    again = run("generate", str(demo), *PROMPT, "--weight-format", "int8:64", "--cpu-memory", "9M")
    assert first.returncode == again.returncode == 0, first.stderr + again.stderr
    assert first.stdout == again.stdout
    assert sorted(cache.rglob("*")) == before


def test_quantize_says_what_it_made(run: Run, cache: Path, demo: Path) -> None:
    done = run("quantize", str(demo), "--format", "int8", "--group-size", "64", "--json")
    made = json.loads(done.stdout)
    assert Path(made["folder"]).is_relative_to(cache)
    assert made["format"] == "int8:64"
    assert made["bytes_per_weight"] == 1 + 2 / 64
    table = run("quantize", str(demo), "--format", "int8")
    assert "1.0312" in table.stdout


def test_a_folder_of_its_own_is_a_model(run: Run, cache: Path, demo: Path, tmp_path: Path) -> None:
    wanted = run("generate", str(demo), *PROMPT, "--weight-format", "int8").stdout
    made = run("quantize", str(demo), "--format", "int8", "-o", str(tmp_path / "made"), "-q")
    assert made.returncode == 0, made.stderr
    assert made.stdout == ""
    shutil.rmtree(cache)
    assert run("generate", str(tmp_path / "made"), *PROMPT).stdout == wanted
    found = json.loads(run("inspect", str(tmp_path / "made"), "--json").stdout)
    assert found["weight_format"] == "int8:64"
    assert sum(unit["size_bytes"] for unit in found["units"]) == found["weight_bytes"]


def test_fp8_is_made_and_runs(run: Run, demo: Path, tmp_path: Path) -> None:
    folder = str(tmp_path / "made")
    made = json.loads(run("quantize", str(demo), "--format", "fp8", "-o", folder, "--json").stdout)
    assert (made["format"], made["folder"]) == ("fp8:row", folder)
    assert 1 < made["bytes_per_weight"] < 1.05
    done = run("generate", folder, *PROMPT)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout) > len("def add(")
    asked = json.loads(run("inspect", folder, "--json").stdout)
    assert asked["weight_format"] == "fp8:row"


def test_plans_know_the_smaller_weights_and_make_none(
    run: Run, demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LM_OFFLOAD_CACHE", str(tmp_path))
    budget = ["--cpu-memory", "12MiB", "--json"]
    plan = json.loads(run("plan", str(demo), *budget, "--weight-format", "int4:64").stdout)
    found = json.loads(run("inspect", str(demo), *budget, "--weight-format", "int4:64").stdout)
    assert plan["streamed"] == []
    assert found["fits"]
    assert list(tmp_path.iterdir()) == []


def test_a_gguf_file_is_a_model(
    run: Run, demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LM_OFFLOAD_CACHE", str(tmp_path / "cache"))
    file = write_gguf(demo, tmp_path / "own", "BF16")
    shutil.copy(demo / "tokenizer.json", file.parent)
    wanted = run("generate", str(demo), *PROMPT)
    found = run("generate", str(file), *PROMPT, "--exact")
    assert (found.returncode, found.stdout) == (0, wanted.stdout), found.stderr
    lossy = write_gguf(demo, tmp_path / "lossy", "Q5_1")
    assert (
        "x Q5_1 to int8:32 (lossy"
        in json.loads(run("inspect", str(lossy), "--json").stdout)["conversion"]
    )
    made = run("quantize", str(lossy), "-o", str(tmp_path / "made"))
    assert "x Q5_1 to int8:32 (lossy" in " ".join(made.stdout.split()), made.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["generate", "DEMO", *PROMPT, "--weight-format", "int3"], 2, "'int3' is not known"),
        (["generate", "DEMO", *PROMPT, "--weight-format", "int8", "--exact"], 2, "not exact"),
        (["plan", "DEMO", "--weight-format", "fp16"], 2, "for a checkpoint in bf16"),
        (["quantize", "DEMO", "--format", "int4:100"], 2, "'int4:100' is not known"),
        (["quantize", "DEMO", "--format", "int4:64", "--group-size", "32"], 2, "is not known"),
        (["quantize", "DEMO", "--format", "bf16"], 2, "bf16 already"),
        (["quantize", "DEMO"], 2, "No format was given"),
        (["quantize", "DEMO", "--group-size", "32"], 2, "given without --format"),
        (["quantize", "DEMO", "--format", "int8", "-o", "DEMO"], 2, "new or empty"),
        (["quantize", "no/such/model", "--format", "int8"], 4, "does not exist"),
        (["cache", "clear", "nothing", "--yes"], 2, "No model in"),
        (["cache", "clear"], 2, "give --yes where nobody can be asked"),
    ],
)
def test_errors(
    run: Run, demo: Path, cache: Path, arguments: list[str], status: int, words: str
) -> None:
    done = run(*[str(demo) if word == "DEMO" else word for word in arguments])
    assert done.returncode == status, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_the_cache_is_listed(run: Run, cache: Path) -> None:
    (entry,) = json.loads(run("cache", "list", "--json").stdout)["entries"]
    assert entry["model"].startswith("model-")
    assert (entry["format"], entry["state"]) == ("int8:64", "complete")
    data = Path(entry["folder"]) / DATA_FILE
    assert data.stat().st_size <= entry["size_bytes"] < data.stat().st_size + 100_000
    assert "int8:64" in run("cache", "list").stdout


def test_the_cache_is_cleared_and_nothing_else(run: Run, cache: Path) -> None:
    (cache / "keep").write_text("mine")
    named = run("cache", "clear", "model", "--yes")
    assert named.returncode == 0, named.stderr
    assert "int8-64" in named.stderr
    assert "1 deleted" in named.stderr
    assert [path.name for path in cache.rglob("*")] == ["quantized", "keep"]
    assert json.loads(run("cache", "clear", "--yes", "--json").stdout)["deleted"] == []


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("answer", "left"), [("y\n", 0), ("n\n", 1), ("", 1)])
def test_clear_asks(
    run: Run, cache: Path, monkeypatch: pytest.MonkeyPatch, answer: str, left: int
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    done = run("cache", "clear")
    assert (done.returncode == 0) is (left == 0)
    assert len(list(cache.rglob(DATA_FILE))) == left


def test_verify_names_what_is_damaged(run: Run, cache: Path) -> None:
    assert run("cache", "verify").stdout.startswith("sound: model-")
    damage(next(cache.rglob(DATA_FILE)), 77)
    done = run("cache", "verify")
    assert done.returncode == 4
    assert "damaged: model-" in done.stdout
    assert "is damaged in layers.0.attention" in done.stderr
    (entry,) = json.loads(run("cache", "verify", "--json").stdout)["entries"]
    assert "layers.0.attention" in entry["error"]
