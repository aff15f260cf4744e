"""Nodes of a pretended /sys/devices/system/node, and what is done with them."""

from __future__ import annotations

import logging
import mmap
import os
from pathlib import Path

import pytest

from lm_offload.hardware import machine, numa
from lm_offload.hardware.fingerprint import fingerprint_of
from lm_offload.hardware.numa import Node, interleaved_nodes, numa_nodes
from lm_offload.kernels.resolve import resolve_kernels
from lm_offload.storage.arena import MemoryTier
from lm_offload.storage.interleave import MBIND, interleave


def tree(root: Path, **cpulists: str) -> Path:
    for name, cores in cpulists.items():
        (root / name).mkdir()
        (root / name / "cpulist").write_text(cores + "\n")
    (root / "online").write_text("0\n")
    (root / "node_list").mkdir()
    return root


@pytest.mark.parametrize(
    ("cpulists", "allowed", "found"),
    [
        ({"node0": "0-3"}, range(4), {0: (0, 1, 2, 3)}),
        ({"node1": "2,6-7", "node0": "0-1,4"}, range(8), {0: (0, 1, 4), 1: (2, 6, 7)}),
        ({"node0": "0-3", "node1": "4-7"}, {1, 2}, {0: (1, 2)}),
        ({"node0": "0-3", "node1": "4-7"}, {3, 4}, {0: (3,), 1: (4,)}),
        ({"node0": "0-1", "node2": "", "node10": "2"}, range(3), {0: (0, 1), 10: (2,)}),
        ({}, range(4), {}),
    ],
)
def test_nodes_are_those_with_cores_that_may_be_used(tmp_path, cpulists, allowed, found):
    nodes = numa_nodes(tree(tmp_path, **cpulists), allowed)
    assert nodes == tuple(Node(number, cores) for number, cores in found.items())


def test_a_system_that_does_not_say_has_none(tmp_path):
    assert numa_nodes(tmp_path / "missing") == ()
    (tmp_path / "node0").mkdir()
    assert numa_nodes(tmp_path, {0}) == ()


@pytest.fixture
def two_nodes(tmp_path, monkeypatch) -> None:
    """A machine with the same cores on two nodes."""
    core = min(os.sched_getaffinity(0))
    root = tree(tmp_path, node0=str(core), node1=str(core))
    monkeypatch.setattr(numa.numa_nodes, "__defaults__", (root, None))


def test_two_nodes_are_named_in_the_fingerprint(two_nodes, tmp_path):
    kernels = resolve_kernels(1)
    assert dict(fingerprint_of(kernels, tmp_path, "1"))["numa_nodes"] == "2"
    assert machine.describe_machine().numa_nodes == 2
    assert interleaved_nodes() == (0, 1)


def test_one_node_changes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(numa.numa_nodes, "__defaults__", (tree(tmp_path, node0="0-9999"), None))
    assert "numa_nodes" not in dict(fingerprint_of(resolve_kernels(1), tmp_path, "1"))
    assert interleaved_nodes() == ()


def test_pages_lie_on_the_nodes_or_a_warning_says_why_not(caplog):
    mapping = mmap.mmap(-1, 1 << 16)
    with caplog.at_level(logging.WARNING):
        done = interleave(mapping, [0])
    assert done or os.uname().machine not in MBIND or "numactl" in caplog.text
    mapping[:] = b"x" * len(mapping)
    mapping.close()


def test_nodes_that_are_not_there_cost_a_warning_only(caplog):
    tier = MemoryTier("CPU", 1 << 16, nodes=[900])
    assert "900" not in caplog.text
    assert ("numactl" in caplog.text) == (os.uname().machine in MBIND)
    assert int(tier.whole().fill_(3).sum()) == 3 << 16
