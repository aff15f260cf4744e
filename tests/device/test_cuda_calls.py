"""What the CUDA device asks of torch, and in which order; torch's answers are played."""

from __future__ import annotations

import pytest
import torch

from lm_offload.device.base import ALLOCATOR_BYTES, CONTEXT_BYTES
from lm_offload.device.cuda import PINNED_BEFORE, CudaDevice, CudaEvent
from lm_offload.errors import DeviceError, DeviceMemoryError
from lm_offload.units import GIB, MIB
from tests.device.played_cuda import TOTAL_BYTES, PlayedCuda


@pytest.fixture
def cuda(monkeypatch):
    return PlayedCuda(monkeypatch)


def test_work_runs_on_its_device_and_stream_and_gives_both_back(cuda):
    seen = []
    CudaDevice("cuda:1").compute.launch(lambda: seen.extend(cuda.current))
    assert seen == ["cuda:1", "on cuda:1"]
    assert cuda.current == []


def test_memory_is_given_back_whoever_still_looks_at_it(cuda):
    device = CudaDevice("cuda:1")
    view = device.tier(MIB).allocate("kept", 4096).view(0, torch.uint8, (4096,))
    cuda.calls.clear()
    device.close()
    assert view.untyped_storage().nbytes() == 0
    assert cuda.calls == ["synchronize", "empty_cache"]


def test_what_torch_keeps_is_given_back_before_free_memory_is_counted(cuda):
    CudaDevice("cuda:1").memory()
    assert cuda.calls == ["empty_cache"]


def test_the_allocator_is_limited_until_the_device_is_closed(cuda):
    device = CudaDevice("cuda:1", 4 * GIB)
    left_bytes = 4 * GIB - CONTEXT_BYTES + ALLOCATOR_BYTES
    assert cuda.fraction == pytest.approx(left_bytes / TOTAL_BYTES)
    device.close()
    assert cuda.fraction == 1.0


def test_host_memory_is_unpinned_when_no_copy_is_under_way(cuda):
    device, memory = CudaDevice("cuda:1"), torch.zeros(4096, dtype=torch.uint8)
    assert device.pin(memory)
    device.close()
    device.close()
    assert cuda.calls[:3] == ["register 4096", "synchronize", "unregister"]
    assert cuda.calls.count("unregister") == 1


@pytest.mark.parametrize(("error", "pinned"), [(PINNED_BEFORE, True), (1, False)])
def test_memory_that_cannot_be_pinned_is_not_unpinned(cuda, monkeypatch, error, pinned):
    def raise_the_last_error(*shape, device):
        raise torch.AcceleratorError("CUDA error: invalid argument")

    monkeypatch.setattr(torch, "zeros", raise_the_last_error)
    cuda.register_error = error
    device = CudaDevice("cuda:1")
    assert device.pin(torch.ones(4096, dtype=torch.uint8)) is pinned
    device.close()
    assert "unregister" not in cuda.calls


def test_a_gpu_that_is_lost_can_be_closed(cuda, monkeypatch):
    def lost():
        raise torch.AcceleratorError("CUDA error: unspecified launch failure")

    device = CudaDevice("cuda:1")
    device.pin(torch.ones(4096, dtype=torch.uint8))
    monkeypatch.setattr(torch.cuda, "synchronize", lost)
    monkeypatch.setattr(torch.cuda, "empty_cache", lost)
    device.close()
    assert cuda.calls == ["register 4096", "unregister"]


def test_a_gpu_that_cannot_even_be_chosen_can_be_closed(cuda, monkeypatch):
    device = CudaDevice("cuda:1")
    device.pin(torch.ones(4096, dtype=torch.uint8))

    def lost(device):
        raise torch.AcceleratorError("CUDA error: device unavailable")

    monkeypatch.setattr(torch.cuda, "device", lost)
    device.close()
    assert device._pinned == []


@pytest.mark.parametrize("name", ["Stream", "get_device_name"])
@pytest.mark.parametrize(
    ("words", "kind"),
    [("all CUDA-capable devices are busy", DeviceError), ("out of memory", DeviceMemoryError)],
)
def test_a_gpu_that_others_hold_is_one_sentence(cuda, monkeypatch, name, words, kind):
    def busy(device):
        raise torch.AcceleratorError(f"CUDA error: {words}")

    monkeypatch.setattr(torch.cuda, name, busy)
    with pytest.raises(kind, match="making a context"):
        CudaDevice("cuda:1")


def test_events_of_a_lost_gpu_are_one_sentence(cuda):
    class Lost:
        def elapsed_time(self, end):
            raise torch.AcceleratorError("CUDA error: unspecified launch failure")

    event, device = CudaEvent(Lost(), torch.device("cuda:1")), CudaDevice("cuda:1")
    with pytest.raises(DeviceError, match="unspecified launch failure"):
        event.elapsed_s(event)
    device.compute._stream.wait_event = Lost().elapsed_time
    with pytest.raises(DeviceError, match="unspecified launch failure"):
        device.compute.wait(event)


@pytest.fixture
def graphs(cuda, monkeypatch):
    """Graphs that note when they begin and end; torch's are not in every build."""

    class Graph:
        def capture_begin(self, pool, capture_error_mode):
            cuda.calls.append(f"begin in {pool}, {capture_error_mode}")

        def capture_end(self):
            cuda.calls.append("end")

        def reset(self):
            cuda.calls.append("reset")

    pools = iter("abc")
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: next(pools))
    monkeypatch.setattr("lm_offload.device.cuda.gpu_kernels", lambda device, torch_ones: "triton")
    device = CudaDevice("cuda:1")
    device.kernels(None)
    return device


def test_graphs_share_a_pool_until_all_are_gone(cuda, graphs):
    kept = [graphs.capture(lambda: cuda.calls.append("work")) for _ in range(2)]
    assert cuda.calls == ["begin in a, thread_local", "work", "end"] * 2
    kept.clear()
    cuda.calls.clear()
    kept.append(graphs.capture(lambda: None))
    assert cuda.calls == ["begin in b, thread_local", "end"]
    graphs.close()
    assert "reset" in cuda.calls


def test_a_capture_that_fails_is_ended(cuda, graphs):
    def work():
        raise torch.AcceleratorError("CUDA error: operation not permitted when stream is capturing")

    with pytest.raises(DeviceError, match="not permitted"):
        graphs.capture(work)
    assert cuda.calls == ["begin in a, thread_local", "end"]


def test_operations_of_torch_alone_are_not_taken_down(cuda, monkeypatch):
    monkeypatch.setattr("lm_offload.device.cuda.gpu_kernels", lambda device, of_torch: of_torch)
    device = CudaDevice("cuda:1")
    device.kernels(None)
    assert device.capture(lambda: None) is None
