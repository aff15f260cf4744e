from __future__ import annotations

import json
from pathlib import Path

import pytest

from lm_offload.engine import calibration
from lm_offload.hardware import calibrate as calibrate_module
from lm_offload.hardware import effort
from lm_offload.hardware.profile_store import read_profile, stored_file
from lm_offload.hardware.profile_text import profile_from_dict
from lm_offload.units import MIB
from tests.cli.conftest import Run
from tests.hardware.profiles import TINY_EFFORT


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own, and measurements that take no time."""
    monkeypatch.setenv("LM_OFFLOAD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(effort, "QUICK", TINY_EFFORT)
    monkeypatch.setattr(effort, "FULL", TINY_EFFORT)
    monkeypatch.setattr(calibration, "available_memory_bytes", lambda: 32 * MIB)
    monkeypatch.setattr(calibrate_module, "exceeds_cache", lambda size_bytes: True)
    monkeypatch.setattr(calibrate_module, "ENOUGH_FILE_BYTES", MIB)
    return tmp_path / "cache"


def test_it_shows_what_it_stores(run: Run, cache: Path) -> None:
    done = run("profile", "--quick", "--threads", "1")
    assert done.returncode == 0, done.stderr
    for words in ("memory reads", "disk writes", "Products", "int4:64", "Decode attention"):
        assert words in done.stdout
    (file,) = (cache / "profiles").iterdir()
    assert read_profile(file).cpu.threads == 1
    assert [path.name for path in cache.iterdir()] == ["profiles"]  # the measured file is gone


def test_json_and_a_file_hold_the_same_profile(run: Run, tmp_path: Path) -> None:
    output = tmp_path / "machine.json"
    done = run("profile", "--threads", "1", "--json", "--output", str(output))
    assert done.returncode == 0, done.stderr
    profile = profile_from_dict(json.loads(done.stdout), "stdout")
    assert read_profile(output) == profile
    assert read_profile(stored_file(profile.fingerprint)) == profile


def test_the_disk_of_a_folder(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    assert run("profile", "--disk-path", str(folder), "--quiet", "--threads", "1").returncode == 0
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--disk-path", "/nowhere"], "is not a folder"),
        (["--disk-path", "/proc"], "name a folder with --disk-path"),
        (["--output", "/nowhere/profile.json"], "cannot be written"),
        (["--threads", "1000000"], "threads were given"),
    ],
)
def test_what_cannot_be_is_said_in_one_sentence(
    run: Run, cache: Path, arguments: list[str], words: str
) -> None:
    done = run("profile", *arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert not (cache / "profiles").exists()


def test_an_interruption_leaves_nothing_behind(
    run: Run, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(calibrate_module, "InterferenceVisits", interrupt)
    output = tmp_path / "machine.json"
    assert run("profile", "--output", str(output)).returncode != 0
    assert not output.exists()
    assert list(cache.iterdir()) == []
