"""`eval`: perplexity alone, a format beside the own precision, and what cannot be compared."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run

SHORT = ["--tokens", "300", "--context", "128", "--threads", "1"]

pytestmark = pytest.mark.usefixtures("cache")


def test_perplexity_is_the_same_where_weights_are_streamed(run: Run, demo: Path) -> None:
    resident = run("eval", str(demo), *SHORT, "--json")
    streamed = run("eval", str(demo), *SHORT, "--json", "--cpu-memory", "12MiB")
    (row,) = json.loads(resident.stdout)["formats"]
    (other,) = json.loads(streamed.stdout)["formats"]
    assert row["weight_format"] == "bf16"
    assert row["tokens"] == 299
    assert 5 < row["perplexity"] < 100
    assert row["mean_kl"] is None
    assert other["nats"] == row["nats"]


def test_a_lossy_format_is_compared_with_the_own_precision(
    run: Run, demo: Path, cache: Path
) -> None:
    done = run("eval", str(demo), *SHORT, "--weight-format", "int8", "--json")
    own, lossy = json.loads(done.stdout)["formats"]
    assert (own["weight_format"], lossy["weight_format"]) == ("bf16", "int8:64")
    assert lossy["weight_bytes"] < own["weight_bytes"]
    assert 0 < lossy["mean_kl"] < 1e-3
    assert 0.9 < lossy["top1_agreement"] <= 1
    assert lossy["perplexity"] == pytest.approx(own["perplexity"], rel=0.01)
    assert {path.name for path in cache.iterdir()} == {"quantized"}


def test_the_table_is_for_people(run: Run, demo: Path, tmp_path: Path) -> None:
    text = tmp_path / "mine.py"
    text.write_text("import os\n\nfor name in os.listdir():\n    print(name)\n")
    done = run("eval", str(demo), "--text", str(text), "--threads", "1")
    assert done.returncode == 0, done.stderr
    assert "tokens of mine.py predicted" in done.stdout


def test_a_quantized_folder_has_nothing_to_be_compared_with(
    run: Run, demo: Path, tmp_path: Path
) -> None:
    folder = str(tmp_path / "made")
    run("quantize", str(demo), "--format", "int8", "-o", folder, "-q")
    alone = run("eval", folder, *SHORT, "--json")
    assert json.loads(alone.stdout)["formats"][0]["weight_format"] == "int8:64"
    beside = run("eval", folder, *SHORT, "--weight-format", "int8")
    assert beside.returncode == 2
    assert "holds int8:64, beside which nothing can be compared" in beside.stderr


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--context", "2049"], "takes 1 to 2048 tokens"),
        (["--text", "missing.txt"], "missing.txt cannot be read as text"),
        (["--text", "empty.txt"], "less than 2 tokens"),
    ],
)
def test_bad_requests_are_refused(
    run: Run,
    demo: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    given: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.txt").touch()
    done = run("eval", str(demo), *given)
    assert done.returncode == 7
    assert message in done.stderr
