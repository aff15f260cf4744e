"""One sentence for every reason why there is no GPU; torch's own answers are played."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lm_offload import LLM
from lm_offload.device import registry
from lm_offload.device.registry import open_device
from lm_offload.errors import ConfigError, DeviceError


@pytest.fixture
def play(monkeypatch):
    def set_state(
        build: str | None,
        usable: bool,
        count: int,
        driver: bool,
        capability=(8, 0),
        built_for=("sm_75", "sm_80", "compute_90"),
    ):
        monkeypatch.setattr(torch.version, "cuda", build)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: usable)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
        monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: [*built_for])
        monkeypatch.setattr(registry, "_DRIVER", Path("/" if driver else "/nowhere"))

    return set_state


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ((None, False, 0, True), "built for CPUs only; install one with CUDA"),
        (("13.0", False, 0, False), "no NVIDIA driver; install one"),
        (("13.0", False, 0, True), "shows no GPU; check nvidia-smi"),
        (("13.0", False, 1, True), "driver is too old for CUDA 13.0"),
        (("13.0", True, 1, True, (6, 1)), "compute capability 6.1, allowed is 7.5 or later"),
        (("13.0", True, 1, True, (7, 5), ("sm_80",)), "has no code for cuda:0, .* is 7.5; install"),
        (("13.0", True, 1, True, (12, 0), ("sm_90",)), "has no code for cuda:0, .* is 12.0"),
    ],
)
def test_what_is_missing_is_said(play, toy, state, words):
    play(*state)
    with pytest.raises(ConfigError, match=words) as caught:
        LLM(toy("llama"), gpu_memory="1GiB")
    assert "leave GPU memory out" in str(caught.value)


@pytest.mark.parametrize("options", [{"device": "cuda:0"}, {"gpu_memory": "1GiB"}])
def test_nothing_is_said_to_be_given_that_was_not(play, toy, options):
    play(None, False, 0, True)
    with pytest.raises(ConfigError, match=r"^cuda:0 is wanted, but this torch") as caught:
        LLM(toy("llama"), **options)
    assert "leave GPU memory out, and the device, to compute" in str(caught.value)


@pytest.mark.parametrize(
    ("capability", "runs"),
    [((8, 6), True), ((7, 5), True), ((12, 0), True), ((7, 0), False), ((8, 0), True)],
)
def test_code_runs_on_its_own_major_version_and_ptx_on_later_ones(capability, runs):
    assert registry._has_code_for(capability, ["sm_75", "sm_80", "sm_100a", "compute_90"]) is runs


def test_a_torch_for_other_gpus(play, monkeypatch):
    play(None, True, 1, True)
    monkeypatch.setattr(torch.version, "hip", "7.0")
    with pytest.raises(ConfigError, match="built for ROCm; install one with CUDA"):
        open_device("cuda:0")


def test_a_gpu_that_is_not_there(play):
    play("13.0", True, 2, True)
    with pytest.raises(ConfigError, match="cuda:2 was given, this machine has 2 GPUs"):
        open_device("cuda:2")


@pytest.mark.parametrize(
    "words",
    [
        "CUDA unknown error - this may be due to an incorrectly set up environment",
        "No CUDA GPUs are available",
        "CUDA driver initialization failed, you might not have a CUDA gpu.",
    ],
)
def test_a_driver_that_fails_at_the_first_call_is_one_sentence(play, monkeypatch, words):
    def fail(device):
        raise RuntimeError(words)

    play("13.0", True, 1, True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", fail)
    with pytest.raises(DeviceError, match=f"making a context .{words[:12]}"):
        open_device("cuda:0")


def test_a_name_that_is_none():
    with pytest.raises(ConfigError, match="'tpu' is no device"):
        open_device("tpu")


@pytest.mark.parametrize(
    "name",
    ["standin:2parsec", "standin:0", "standin:2GB/s:lots", "standin:2GB/s:1GiB:more", "standin:-1"],
)
def test_what_a_stand_in_may_be_is_said_in_one_sentence(name):
    with pytest.raises(ConfigError, match=f"'{name}' is no device; a stand-in is standin, "):
        open_device(name)


def test_what_a_device_for_plans_may_be_is_said_in_one_sentence():
    with pytest.raises(ConfigError, match=r"'null:2parsec' is no device; .* null:24GiB\.$"):
        open_device("null:2parsec")
