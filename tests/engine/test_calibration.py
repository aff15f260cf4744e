"""The profile that plans are made from: given, stored, or measured when there is none."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest

from lm_offload.engine import calibration
from lm_offload.engine.kernel_choice import KernelChoice
from lm_offload.engine.profile_choice import GIVEN_PROFILE, profile_for
from lm_offload.engine.tiny_model import write_tiny_model
from lm_offload.hardware import calibrate as calibrate_module
from lm_offload.hardware.profile import HardwareProfile
from lm_offload.hardware.profile_store import stored_file
from lm_offload.hardware.profile_text import profile_to_dict
from lm_offload.kernels.resolve import resolve_kernels
from lm_offload.units import MIB
from tests.hardware.profiles import TINY_EFFORT
from tests.hardware.test_profile_store import PROFILE

MEMORY_BYTES = 8 * MIB


@pytest.fixture(autouse=True)
def _tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of its own, and measurements that take no time and are taken as sound."""
    monkeypatch.setenv("LM_OFFLOAD_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(GIVEN_PROFILE, raising=False)
    for name in ("START", "TIGHT"):
        monkeypatch.setattr(calibration, name, replace(TINY_EFFORT, file_bytes=0))
    monkeypatch.setattr(calibrate_module, "exceeds_cache", lambda size_bytes: True)
    for module in (calibrate_module, calibration):
        monkeypatch.setattr(module, "ENOUGH_FILE_BYTES", MIB)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    file = tmp_path / "model.safetensors"
    file.write_bytes(bytes(MIB))
    return file


def profile_of(weights: Path) -> HardwareProfile:
    return profile_for(weights, KernelChoice.of(resolve_kernels(1)), MEMORY_BYTES)


def test_the_first_start_measures_and_later_ones_do_not(
    weights: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = profile_of(weights)
    assert "lm-offload profile" in caplog.text
    caplog.clear()
    assert profile_of(weights) == first
    assert not caplog.records
    assert stored_file(first.fingerprint).is_file()


def test_how_far_the_first_measurement_is(weights: Path) -> None:
    stages: list[str] = []
    ends: list[tuple[float, float]] = []

    def report(stage: str, done_s: float, total_s: float) -> None:
        stages.append(stage)
        ends.append((done_s, total_s))

    for _ in range(2):
        profile_for(weights, KernelChoice.of(resolve_kernels(1)), MEMORY_BYTES, report)
    assert {"memory", "disk reads", "interference"} <= set(stages)
    assert stages.count("attention") == 1  # the second start has what the first stored
    assert all(0 <= done_s <= total_s for done_s, total_s in ends)


def test_what_takes_seconds_is_said_before(
    weights: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def stopped(*arguments: object) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(calibration, "_measure", stopped)
    with pytest.raises(KeyboardInterrupt):
        profile_of(weights)
    assert "measured now, in a few seconds" in caplog.text


def test_measurements_in_little_memory_are_for_starts_with_as_little(
    weights: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as little:
        little.setattr(calibrate_module, "exceeds_cache", lambda size_bytes: False)
        rough = profile_of(weights)
        caplog.clear()
        assert profile_of(weights) == rough  # as it was
        assert not caplog.records
    sound = profile_of(weights)  # memory is enough now: measured anew
    assert "measured now" in caplog.text
    assert stored_file(sound.fingerprint) != stored_file(rough.fingerprint)
    with monkeypatch.context() as little:
        little.setattr(calibrate_module, "exceeds_cache", lambda size_bytes: False)
        assert profile_of(weights) == sound


def test_the_disk_of_tiny_weights_is_seen_in_the_cache_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = tmp_path / "tiny.safetensors"
    tiny.write_bytes(bytes(10))
    cache = tmp_path / "cache"
    assert stored_file(profile_of(tiny).fingerprint).is_file()
    assert [path.name for path in cache.iterdir()] == ["profiles"]
    monkeypatch.setattr(calibration, "disk_name", lambda folder: folder.name)
    (cache / "profiles").rename(tmp_path / "old")
    assert profile_of(tiny).fingerprint[-1:] == calibration.ROUGH


def test_a_broken_profile_is_measured_anew(weights: Path) -> None:
    file = stored_file(profile_of(weights).fingerprint)
    file.write_text("{")
    assert profile_of(weights).source == "measured (tiny)"
    assert json.loads(file.read_text())


def test_a_cache_that_cannot_be_written_is_only_a_warning(
    weights: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cache").write_text("a file")
    assert profile_of(weights).source == "measured (tiny)"
    assert "not kept" in caplog.text


def test_a_given_profile_is_taken_as_it_is(
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(profile_to_dict(PROFILE)))
    monkeypatch.setenv(GIVEN_PROFILE, str(file))
    before = file.read_text()
    assert profile_of(weights) == PROFILE
    assert "was measured on another machine: cpu was 'x'" in caplog.text
    assert file.read_text() == before


def test_the_tiny_model_is_a_checkpoint(tmp_path: Path) -> None:
    from lm_offload import LLM

    write_tiny_model(tmp_path, layers=2)
    with LLM(tmp_path, cpu_memory="16MiB", threads=1) as llm:
        assert len(llm.files.units) == 1 + 2 * 2 + 1 + 1
