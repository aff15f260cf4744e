import os

import pytest

from lm_offload.hardware import limits


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Writes the files of a pretended cgroup; `groups` is the content of /proc/self/cgroup."""
    real_read, state = limits._read_text, {"groups": ""}
    monkeypatch.setattr(limits, "CGROUP_ROOT", tmp_path)
    monkeypatch.setattr(limits, "_free_memory_bytes", lambda: 1000)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(8))
    monkeypatch.setattr(
        limits,
        "_read_text",
        lambda path: state["groups"] if str(path) == "/proc/self/cgroup" else real_read(path),
    )

    def write(groups: str, files: dict[str, str]) -> None:
        state["groups"] = groups
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)

    return write


def test_without_a_cgroup_free_memory_and_affinity_count(machine):
    machine("", {})
    assert limits.available_memory_bytes() == 1000
    assert limits.allowed_cores() == 8


V2 = "0::/outer/job\n"
V1 = "9:name=systemd:/\n4:memory:/outer/job\n2:cpu,cpuacct:/outer/job\n"


@pytest.mark.parametrize(
    ("groups", "files", "left"),
    [
        (V2, {"outer/job/memory.max": "500\n", "outer/job/memory.current": "100\n"}, 400),
        (V2, {"outer/job/memory.max": "max\n", "outer/job/memory.current": "100\n"}, 1000),
        (V2, {"outer/memory.max": "300\n", "outer/memory.current": "100\n"}, 200),
        (V2, {"outer/memory.max": "300\n", "outer/memory.current": "301\n"}, 0),
        (V2, {"outer/memory.max": "5000\n", "outer/memory.current": "100\n"}, 1000),
        (
            V1,
            {
                "memory/outer/job/memory.limit_in_bytes": "700\n",
                "memory/outer/job/memory.usage_in_bytes": "50\n",
            },
            650,
        ),
        (
            V1,
            {
                "memory/outer/job/memory.limit_in_bytes": "9223372036854771712\n",
                "memory/outer/job/memory.usage_in_bytes": "50\n",
            },
            1000,
        ),
    ],
)
def test_the_tightest_memory_limit_counts(machine, groups, files, left):
    machine(groups, files)
    assert limits.available_memory_bytes() == left


@pytest.mark.parametrize(
    ("groups", "files", "cores"),
    [
        (V2, {"outer/job/cpu.max": "300000 100000\n"}, 3),
        (V2, {"outer/job/cpu.max": "50000 100000\n"}, 1),
        (V2, {"outer/job/cpu.max": "max 100000\n"}, 8),
        (V2, {"outer/cpu.max": "200000 100000\n", "outer/job/cpu.max": "max 100000\n"}, 2),
        (
            V1,
            {
                "cpu/outer/job/cpu.cfs_quota_us": "250000\n",
                "cpu/outer/job/cpu.cfs_period_us": "100000\n",
            },
            2,
        ),
        (
            V1,
            {
                "cpu/outer/job/cpu.cfs_quota_us": "-1\n",
                "cpu/outer/job/cpu.cfs_period_us": "100000\n",
            },
            8,
        ),
    ],
)
def test_the_tightest_core_limit_counts(machine, groups, files, cores):
    machine(groups, files)
    assert limits.allowed_cores() == cores


def test_this_machine_has_memory_and_cores():
    assert limits.available_memory_bytes() > 0
    assert 1 <= limits.allowed_cores() <= (os.cpu_count() or 1)
