from __future__ import annotations

from pathlib import Path

import pytest

from lm_offload.hardware import fingerprint as module
from lm_offload.hardware.fingerprint import disk_name, fingerprint_of, machine_id
from lm_offload.hardware.other_load import OtherLoad
from lm_offload.kernels.resolve import resolve_kernels
from lm_offload.kernels.torch_kernels import TorchKernels


def test_it_names_what_rates_depend_on(tmp_path: Path) -> None:
    found = dict(fingerprint_of(resolve_kernels(1), tmp_path, "1.2.3"))
    assert found["threads"] == "1"
    assert found["lm_offload"] == "1.2.3"
    assert all(found[name] for name in ("cpu", "cores", "memory_gib", "disk", "kernels", "torch"))
    assert str(tmp_path) not in str(found)


def test_the_id_changes_with_the_machine_and_not_with_versions(tmp_path: Path) -> None:
    first = fingerprint_of(resolve_kernels(1), tmp_path, "1.0")
    assert machine_id(first) == machine_id(fingerprint_of(resolve_kernels(1), tmp_path, "2.0"))
    assert machine_id(first) != machine_id(fingerprint_of(resolve_kernels(2), tmp_path, "1.0"))
    assert machine_id(first) != machine_id(fingerprint_of(TorchKernels(1), tmp_path, "1.0"))


def number_of(folder: Path) -> str:
    device = folder.stat().st_dev
    return f"{device >> 8 & 0xFFF}:{device & 0xFF}"


def test_a_partition_is_named_after_its_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    partition = tmp_path / "sda" / "sda1"
    (tmp_path / "sda" / "device").mkdir(parents=True)
    partition.mkdir()
    (partition / "partition").write_text("1\n")
    (tmp_path / "sda" / "device" / "model").write_text("FAST SSD \n")
    (tmp_path / "sda" / "size").write_text("4096\n")
    (tmp_path / number_of(tmp_path)).symlink_to(partition)
    monkeypatch.setattr(module, "DEVICES", tmp_path)
    assert disk_name(tmp_path) == "sda FAST SSD 4096"


def test_a_file_system_without_a_disk_is_named_by_its_mount(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "22 27 0:4095 / /proc rw - proc proc rw\n"
        f"29 1 {number_of(tmp_path)} / /data rw shared:1 - nfs4 server:/data rw,hard\n"
    )
    monkeypatch.setattr(module, "DEVICES", tmp_path / "none")
    monkeypatch.setattr(module, "MOUNTS", mounts)
    assert disk_name(tmp_path) == "nfs4 server:/data"
    mounts.write_text("")
    assert disk_name(tmp_path) == f"device {number_of(tmp_path)}"


def test_the_load_of_others_is_a_share_of_the_cores(tmp_path: Path) -> None:
    assert 0 <= OtherLoad().busy_frac <= 1
    assert OtherLoad(tmp_path / "none").busy_frac == 0
    stat = tmp_path / "stat"
    stat.write_text("cpu  0 0 0 0 0 0 0 0 0 0\n")
    load = OtherLoad(stat)
    stat.write_text("cpu  900000 0 0 5 5 0 0 0 0 0\n")
    assert load.busy_frac == 1
