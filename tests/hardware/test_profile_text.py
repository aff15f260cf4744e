from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import yaml
from hypothesis import given, settings

from lm_offload.errors import ConfigError
from lm_offload.hardware import profile_text
from lm_offload.hardware.curve import Curve
from lm_offload.hardware.profile import HardwareProfile
from lm_offload.hardware.profile_text import profile_from_dict, profile_to_dict
from tests.hardware.profiles import profiles

EXAMPLE: dict[str, Any] = yaml.safe_load(str(profile_text.__doc__).split("::\n\n")[1])


@settings(max_examples=25)
@given(profiles)
def test_json_and_yaml_give_the_same_profile_back(profile: HardwareProfile) -> None:
    values = profile_to_dict(profile)
    assert profile_from_dict(json.loads(json.dumps(values)), "profile.json") == profile
    assert (
        profile_from_dict(yaml.safe_load(yaml.safe_dump(values, sort_keys=False)), "m.yaml")
        == profile
    )


def test_the_example_means_what_it_says() -> None:
    profile = profile_from_dict(EXAMPLE, "machine.yaml")
    assert profile.cpu.memory_bytes == 208 << 30
    assert profile.cpu.memory_bytes_per_s == 60e9
    assert profile.cpu.peak_flops == 2e12
    assert profile.disk_bytes == 1500e9
    assert profile.disk_read.bytes_per_s == Curve((65536, 1 << 20), (0.4e9, 1.6e9))
    assert profile.disk_write.bytes_per_s.at(4096) == 1e9


def changed(path: str, value: object) -> dict[str, Any]:
    """The example with one value set, or taken out where the value is `...`."""
    values = copy.deepcopy(EXAMPLE)
    *folders, last = path.split("/")
    place = values
    for folder in folders:
        place = place.setdefault(folder, {})
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return values


@pytest.mark.parametrize(
    ("path", "text", "value"),
    [
        ("cpu/memory_bytes_per_s", "2.6GiB/s", 2.6 * 2**30),
        ("cpu/memory_bytes_per_s", "1e9", 1e9),
        ("cpu/memory_bytes_per_s", " 300 MB/s ", 300e6),
        ("cpu/peak_flops", "65TFLOP/s", 65e12),
        ("cpu/peak_flops", "65 GFLOPS", 65e9),
        ("cpu/kernel_s", "10us", 10e-6),
        ("cpu/kernel_s", 0, 0.0),
        ("cpu/sampled_values_per_s", "2G/s", 2e9),
        ("cpu/cache_bytes", "32MiB", 32 << 20),
        ("disk_read/request_s", "0.1ms", 1e-4),
    ],
)
def test_numbers_carry_units(path: str, text: object, value: float) -> None:
    profile = profile_from_dict(changed(path, text), "machine.yaml")
    record, name = path.split("/")
    assert getattr(getattr(profile, record), name) == pytest.approx(value)


def test_names_of_formats_are_those_of_the_package() -> None:
    values = changed("cpu/product_flops", {"INT4": "1TFLOP/s"})
    values["cpu"]["decode_attention_bytes_per_s"] = {"bf16/64x8": 1e9}
    cpu = profile_from_dict(values, "machine.yaml").cpu
    assert list(cpu.product_flops) == ["int4:64"]
    assert list(cpu.decode_attention_bytes_per_s) == ["bf16/64x8"]


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("cpu/threads", -1, "cpu.threads in machine.yaml is -1; allowed is a whole number"),
        ("cpu/threads", 2.5, "is 2.5; allowed is a whole number"),
        ("cpu/threads", True, "is True"),
        ("cpu/threads", 0, "is 0; allowed is more than zero"),
        ("cpu/threads", ..., "cpu.threads in machine.yaml is missing; allowed is a whole number"),
        ("cpu", ..., "cpu in machine.yaml is missing; allowed is a mapping"),
        ("cpu", 3, "cpu in machine.yaml is 3; allowed is a mapping"),
        ("name", 3, "name in machine.yaml is 3; allowed is a text"),
        ("cpu/ram", "8GiB", "cpu.ram in machine.yaml is not a known key; allowed is threads"),
        ("cpu/memory_bytes_per_s", "300Gb/s", "'300Gb/s'; allowed is a rate such as 300GB/s"),
        ("cpu/memory_bytes_per_s", "fast", "'fast'"),
        ("cpu/memory_bytes_per_s", None, "None"),
        ("cpu/peak_flops", float("nan"), "nan"),
        ("cpu/peak_flops", "1e400", "'1e400'"),
        ("cpu/kernel_s", "10 minutes", "allowed is seconds such as 10us"),
        ("disk_bytes", "80%", "allowed is a size such as 16GiB"),
        ("disk_bytes", 0, "disk_bytes in machine.yaml is 0; allowed is more than zero"),
        ("disk_read/bytes_per_s", {}, "disk_read.bytes_per_s in machine.yaml is empty"),
        ("disk_read/bytes_per_s", {"4KiB": -1}, "disk_read.bytes_per_s.4KiB"),
        ("disk_read/bytes_per_s", {"big": 1}, "'big'; allowed is a size"),
        ("disk_read/bytes_per_s", {"4KiB": 1, 4096: 2}, "given twice"),
        ("cpu/product_flops", [1], "is [1]; allowed is a mapping"),
        ("cpu/product_flops", {"int5": 1}, "int5 in machine.yaml is not a known key"),
        ("cpu/product_flops", {"int4": 1, "int4:64": 1}, "given twice, as int4:64"),
        ("cpu/prefill_attention_flops", {"bf16/64": 1}, "a format and shape of heads"),
        ("cpu/operation_bytes_per_s", {"sigmoid": 1}, "allowed is rms_norm"),
        ("interference/disk_read_while_computing_frac", 1.5, "allowed is a share"),
        ("interference/disk_read_while_computing_frac", 0, "more than zero"),
        ("fingerprint", {"cpu": 1}, "fingerprint in machine.yaml is 1; allowed is a text"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(path: str, value: object, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        profile_from_dict(changed(path, value), "machine.yaml")
    assert words in str(caught.value)
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("values", [None, 3, "text", [], [EXAMPLE]])
def test_what_is_no_mapping_is_refused(values: object) -> None:
    with pytest.raises(ConfigError, match=r"machine\.yaml is .*; allowed is a mapping"):
        profile_from_dict(values, "machine.yaml")
