"""Machines in YAML files, and those that ship."""

import pytest

from lm_offload.errors import ConfigError
from lm_offload.hardware.machine_file import load_machine, shipped_machines

MACHINE = """
name: box
source: a test
cpu: {threads: 8, memory_bytes: 64GiB, memory_bytes_per_s: 50GB/s, peak_flops: 1TFLOP/s}
gpu: {threads: 1, memory_bytes: 8GiB, memory_bytes_per_s: 400GB/s, peak_flops: 40TFLOP/s}
h2d: {bytes_per_s: 12GB/s}
d2h: {bytes_per_s: 12GB/s}
disk_bytes: 1TB
disk_read: {bytes_per_s: 2GB/s}
disk_write: {bytes_per_s: 1GB/s}
"""


@pytest.mark.parametrize("name", shipped_machines())
def test_every_machine_that_ships_is_valid_and_has_a_gpu_and_a_source(name):
    machine = load_machine(name)
    assert machine.gpu is not None
    assert machine.gpu.memory_bytes < machine.cpu.memory_bytes
    assert machine.source != "measured"
    assert not machine.fingerprint


def test_the_test_beds_of_the_papers_ship():
    wanted = {"t4-208gb", "t4-192gb", "l4-192gb", "a100-40gb", "rtx3060-laptop", "a6000", "h100"}
    assert wanted <= set(shipped_machines())


def test_a_file_of_the_user(tmp_path):
    file = tmp_path / "box.yaml"
    file.write_text(MACHINE)
    machine = load_machine(file)
    assert load_machine(str(file)) == machine
    assert machine.cpu.memory_bytes == 64 << 30
    assert machine.h2d is not None
    assert machine.h2d.transfer_s(24e9) == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("12GB/s", "12GB", "'12GB'"),
        ("64GiB", "64 parsec", "'64 parsec'"),
        ("1TFLOP/s", "-1TFLOP/s", "'-1TFLOP/s'"),
        ("threads: 8", "threads: 0", "more than zero"),
        ("threads: 8", "thread: 8", "not a known key"),
        ("disk_bytes: 1TB\n", "", "disk_bytes in box.yaml is missing"),
        ("d2h: {bytes_per_s: 12GB/s}\n", "", "has a gpu but no d2h"),
        ("name: box", "name: [box", "cannot be read as YAML"),
    ],
)
def test_what_cannot_be_is_one_sentence(tmp_path, old, new, message):
    file = tmp_path / "box.yaml"
    assert old in MACHINE
    file.write_text(MACHINE.replace(old, new))
    with pytest.raises(ConfigError) as caught:
        load_machine(file)
    text = str(caught.value)
    assert message in text
    assert "box.yaml" in text
    assert "\n" not in text
    assert text.endswith(".")


def test_neither_a_file_nor_a_name():
    words = r"'t4-1gb' \(did you mean t4-192gb\?\) is neither .* a100-40gb, "
    with pytest.raises(ConfigError, match=words):
        load_machine("t4-1gb")


@pytest.mark.parametrize("text", ["", "- 1\n", "text"])
def test_files_that_hold_no_machine(tmp_path, text):
    file = tmp_path / "box.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"box\.yaml is"):
        load_machine(file)
