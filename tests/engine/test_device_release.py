"""Nothing of a device is held when a run has ended, however it ended: no pins, no memory."""

from __future__ import annotations

import itertools
import threading

import pytest

from lm_offload.device.stand_in import StandIn
from lm_offload.engine import device_parts
from lm_offload.errors import DeviceError
from lm_offload.pipeline.progress import Progress
from lm_offload.storage.arena import MemoryTier
from tests.engine.device_harness import PROMPTS, STAND_IN, open_on_device
from tests.engine.harness import GREEDY, PLENTY, generate, tokens_of

TWO = f"{STAND_IN},{STAND_IN}"
LOST = DeviceError("The GPU failed while computing (unspecified launch failure); start again.")


class Held:
    """What was pinned and is not unpinned, and host memory that was taken and not given back."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.devices: list[StandIn] = []
        self.tiers: list[MemoryTier] = []
        pin, make, release = StandIn.pin, MemoryTier.__init__, MemoryTier.release

        def pinned(device, memory):
            self.devices.append(device)
            return pin(device, memory)

        def made(tier, *args):
            self.tiers.append(tier)
            make(tier, *args)

        def released(tier):
            self.tiers.remove(tier)
            release(tier)

        patch.setattr(StandIn, "pin", pinned)
        patch.setattr(MemoryTier, "__init__", made)
        patch.setattr(MemoryTier, "release", released)

    @property
    def pins(self) -> int:
        return sum(len(device._pinned) for device in self.devices)


@pytest.fixture
def held(monkeypatch) -> Held:
    return Held(monkeypatch)


def interrupt_at(monkeypatch, number: int, error: type[BaseException] | Exception) -> None:
    """The main thread gets `error` where it waits for the time of that number."""
    wait, numbers = Progress.wait, itertools.count()

    def interrupted(progress, needs):
        is_main = threading.current_thread() is threading.main_thread()
        if is_main and next(numbers) == number:
            raise error
        return wait(progress, needs)

    monkeypatch.setattr(Progress, "wait", interrupted)


@pytest.mark.parametrize("pins", [True, False])
@pytest.mark.parametrize("device", [STAND_IN, TWO])
def test_close_gives_all_memory_back(toy, monkeypatch, held, device, pins):
    if not pins:  # all but the staging buffers
        monkeypatch.setattr(StandIn, "pin", lambda device, memory: memory.nbytes <= 64 << 10)
    with open_on_device(toy("llama"), "2MiB", device=device) as llm:
        tokens_of(llm, PROMPTS)
        assert len(held.tiers) == 1 + len(device.split(",")) * (1 if pins else 2)
    assert held.tiers == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, LOST])
@pytest.mark.parametrize("device", [STAND_IN, TWO])
@pytest.mark.parametrize("number", [0, 5])
def test_ctrl_c_and_a_lost_device_in_a_sweep(toy, monkeypatch, held, device, number, error):
    folder = toy("llama")
    with open_on_device(folder, "2MiB", device=device) as llm:
        with monkeypatch.context() as patch:
            interrupt_at(patch, number, error)
            kind = error if isinstance(error, type) else type(error)
            with pytest.raises(kind):
                llm.generate(PROMPTS, GREEDY)
        assert held.devices
        assert held.pins == 0
        assert held.tiers == []
        assert tokens_of(llm, PROMPTS) == generate(folder, PLENTY, PROMPTS)
        assert held.pins > 0


@pytest.mark.parametrize("device", [STAND_IN, TWO])
def test_ctrl_c_while_loading(toy, monkeypatch, held, device):
    def interrupt(*args) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(device_parts, "load_device", interrupt)
    with open_on_device(toy("llama"), "2MiB", device=device) as llm:
        with pytest.raises(KeyboardInterrupt):
            llm.generate(PROMPTS, GREEDY)
        assert held.devices
        assert held.pins == 0
