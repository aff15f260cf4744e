"""What people call a model, wherever it lies, and where hub ids are found."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lm_offload.engine.model_folder import model_name


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("/data/llama-1.1b", "llama-1.1b"),
        ("/hub/models--org--model/snapshots/0123abc", "org--model"),
        ("/data/here/../there", "there"),
    ],
)
def test_the_name_is_that_of_the_folder_or_the_repository(folder, name):
    assert model_name(Path(folder)) == name


@pytest.fixture
def hub(toy, tmp_path):
    """HF_HOME with org/tiny as `hf download` leaves it: links into a folder of blobs."""
    repository = tmp_path / "hub" / "models--org--tiny"
    snapshot, blobs = repository / "snapshots" / "0123abc", repository / "blobs"
    for folder in (snapshot, blobs, repository / "refs"):
        folder.mkdir(parents=True)
    (repository / "refs" / "main").write_text("0123abc")
    for number, file in enumerate(toy("llama").iterdir()):
        (blobs / str(number)).write_bytes(file.read_bytes())
        (snapshot / file.name).symlink_to(f"../../blobs/{number}")
    return tmp_path


def inspect(model: str, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lm_offload", "inspect", model, "--json"]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HF_HOME": str(home), **environment},
    )


def test_a_hub_id_is_found_in_the_local_cache(hub):
    done = inspect("org/tiny", hub, HF_HUB_OFFLINE="1")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["name"] == "org--tiny"


def test_a_hub_id_that_was_not_downloaded_is_one_sentence(hub):
    done = inspect("org/other", hub)
    assert done.returncode == 4
    assert "hf download org/other" in done.stderr
    assert done.stderr.count("\n") == 1
