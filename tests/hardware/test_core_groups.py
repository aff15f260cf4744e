"""Groups of cores of pretended machines, and threads that are given them."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from lm_offload.hardware import core_groups
from lm_offload.hardware.core_groups import spread_threads
from lm_offload.hardware.numa import Node
from lm_offload.kernels.resolve import resolve_kernels
from lm_offload.kernels.worker_cores import spread_workers

torch = pytest.importorskip("torch")


def siblings(root: Path, *lists: str) -> Path:
    """Cores whose hardware threads are listed so."""
    for core, text in enumerate(lists):
        folder = root / f"cpu{core}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(text + "\n")
    return root


@pytest.mark.parametrize(
    ("threads", "nodes", "groups"),
    [
        (2, [(0, 1)], [[0], [1]]),
        (2, [(0, 1, 2, 3, 4)], [[0, 1], [2, 3, 4]]),
        (3, [(5, 7)], [[5], [5], [7]]),
        (4, [(0, 1, 2, 3), (4, 5, 6, 7)], [[0, 1], [4, 5], [2, 3], [6, 7]]),
        (3, [(0, 1), (2, 3)], [[0], [2, 3], [1]]),
        (1, [(0, 1)], [[0, 1]]),
    ],
)
def test_each_thread_has_cores_of_its_own(tmp_path, threads, nodes, groups):
    found = [Node(number, cores) for number, cores in enumerate(nodes)]
    assert core_groups.core_groups(threads, found, tmp_path) == groups


def test_hardware_threads_of_one_core_stay_together(tmp_path):
    root = siblings(tmp_path, "0,2", "1,3", "0,2", "1,3")
    nodes = [Node(0, (0, 1, 2, 3))]
    assert core_groups.core_groups(2, nodes, root) == [[0, 2], [1, 3]]
    assert core_groups.core_groups(4, nodes, root) == [[0], [2], [1], [3]]


def test_a_system_without_nodes_has_groups_too(monkeypatch):
    called = []
    monkeypatch.setattr(core_groups, "numa_nodes", tuple)
    monkeypatch.setattr(core_groups, "spread_workers", called.append)
    spread_threads(1)
    assert called == []
    spread_threads(2)
    assert {core for group in called[0] for core in group} == os.sched_getaffinity(0)


@pytest.fixture
def cores_given_back():
    """Whatever cores threads were told to keep to, they may use all of them again."""
    yield
    spread_workers([sorted(os.sched_getaffinity(0))] * 2)


def product_error(threads: int) -> float:
    """By how much a native product on so many threads is off."""
    x, weight, out = torch.randn(4, 64), torch.randn(96, 64), torch.empty(4, 96)
    resolve_kernels(threads).linear(x, weight, out)
    return float((out - x @ weight.T).abs().max())


def test_cores_that_are_not_there_are_a_hint_that_cannot_be_followed(cores_given_back):
    core = min(os.sched_getaffinity(0))
    for groups in ([(core,), (99_999,)], [(core,), (core,)], [(-1,), ()], [(core,)], []):
        spread_workers(groups)
        assert product_error(3) < 1e-4


def pool_workers() -> list[int]:
    """The pool's workers: those that can be sent to a core."""
    core = min(os.sched_getaffinity(0))
    spread_workers([(core,), (core,)])
    started = {thread.native_id for thread in threading.enumerate()}
    others = {int(name) for name in os.listdir("/proc/self/task")} - started
    return [number for number in others if os.sched_getaffinity(number) == {core}]


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core")
def test_a_worker_makes_way_for_the_caller(cores_given_back):
    pytest.importorskip("lm_offload.kernels._native")
    product_error(2)
    workers, cores = pool_workers(), sorted(os.sched_getaffinity(0))[:2]
    spread_workers([cores[:1], cores[1:]])
    beside = [number for number in workers if os.sched_getaffinity(number) == {cores[1]}]
    assert beside  # the first worker, the third ...

    def run_on(caller: int) -> None:
        os.sched_setaffinity(0, {caller})
        assert product_error(2) < 1e-4

    for caller, left in (cores, cores[::-1], cores):
        thread = threading.Thread(target=run_on, args=(caller,))
        thread.start()
        thread.join()
        for number in workers:
            assert os.sched_getaffinity(number) == {left if number in beside else caller}
