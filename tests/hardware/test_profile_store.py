from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest

from lm_offload.errors import ConfigError
from lm_offload.hardware.curve import Curve
from lm_offload.hardware.link import Link
from lm_offload.hardware.processor import Processor
from lm_offload.hardware.profile import HardwareProfile
from lm_offload.hardware.profile_store import (
    load_stored,
    read_profile,
    store,
    stored_file,
    write_profile,
)

FINGERPRINT = (("cpu", "x"), ("disk", "sda"), ("lm_offload", "1.0"), ("torch", "2.0"))
LINK = Link(Curve((1.0,), (1e9,)))
PROFILE = HardwareProfile(
    "x", "measured (full)", Processor(2, 1 << 30, 1e10, 1e12), 1 << 40, LINK, LINK,
    fingerprint=FINGERPRINT,
)  # fmt: skip

pytestmark = pytest.mark.usefixtures("cache")


def test_what_is_stored_is_loaded(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert load_stored(FINGERPRINT) is None
    store(PROFILE)
    assert load_stored(FINGERPRINT) == PROFILE
    assert stored_file(FINGERPRINT).parent == cache / "profiles"
    assert not caplog.records


def test_another_machine_has_another_file() -> None:
    store(PROFILE)
    assert load_stored((("cpu", "y"), *FINGERPRINT[1:])) is None


def test_a_stale_profile_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    store(PROFILE)
    assert load_stored((*FINGERPRINT[:3], ("torch", "3.0"))) is None
    (record,) = caplog.records
    assert "torch was '2.0' and is '3.0'" in record.getMessage()


def test_a_foreign_profile_is_not_used(caplog: pytest.LogCaptureFixture) -> None:
    foreign = replace(PROFILE, fingerprint=(("cpu", "y"), *FINGERPRINT[1:]))
    write_profile(stored_file(FINGERPRINT), foreign)
    assert load_stored(FINGERPRINT) is None
    assert "cpu was 'y' and is 'x'" in caplog.text


@pytest.mark.parametrize("text", ["", "no json", "[1]", '{"name": "x"}', "\ud800"])
def test_a_broken_profile_is_not_used(text: str, caplog: pytest.LogCaptureFixture) -> None:
    store(PROFILE)
    stored_file(FINGERPRINT).write_bytes(text.encode("utf-8", "surrogatepass"))
    with caplog.at_level(logging.WARNING):
        assert load_stored(FINGERPRINT) is None
    (record,) = caplog.records
    assert "broken" in record.getMessage()


def test_what_was_there_before_stays_beside_the_new_one() -> None:
    store(PROFILE)
    file = stored_file(FINGERPRINT)
    file.write_text("edited by a person")
    store(PROFILE)
    assert read_profile(file) == PROFILE
    assert file.with_suffix(".json.old").read_text() == "edited by a person"
    assert len(list(file.parent.iterdir())) == 2


def test_a_folder_that_cannot_be_written_is_an_error(cache: Path) -> None:
    cache.write_text("a file")
    with pytest.raises(ConfigError, match="cannot be written"):
        store(PROFILE)


@pytest.mark.parametrize("text", ["", "nonsense", json.dumps([]), '{"a": NaN}'])
def test_a_file_that_is_no_profile_is_an_error(tmp_path: Path, text: str) -> None:
    file = tmp_path / "profile.json"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"profile\.json"):
        read_profile(file)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_profile(tmp_path / "missing.json")
