"""Units that were computed before, again, without a call of Python for every operation.

While weights stream through the caches, what Python needs for one operation has left them: a call
takes some 20 us instead of 3. Decode asks for the same operations on the same memory sweep after
sweep, so they are written down once and replayed in one call for each unit, as CUDA graphs do::

    sweep 1   python -> norm, python -> q k v, python -> rotary ...     nothing is known
    sweep 2   the same, written down                                    it came twice: worth it
    sweep 3   python -> replay
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import replace

import torch
from torch import Tensor

from lm_offload.kernels.base import Kernels, Recording
from lm_offload.sequence import MicroBatch

MOST_RECORDINGS = 2048  # a few KB each: some dozen batch sizes of a large model
SPARE = 2  # a tensor that outgrows its memory gets this many times what it needs


class Replays:
    """Recordings by what was computed; `key` stands for all addresses, sizes and constants."""

    def __init__(self, kernels: Kernels) -> None:
        self.possible = kernels.record() is not None
        self._kernels = kernels
        self._recordings: dict[Hashable, Recording | None] = {}

    def run(self, key: Hashable, compute: Callable[[Kernels], None]) -> None:
        """Compute with the kernels it is given, which may have been done before."""
        if key not in self._recordings:
            self._remember(key)
            compute(self._kernels)
        elif (recording := self._recordings[key]) is not None:
            recording.replay()
        else:
            self._record(key, compute)

    def forget(self) -> None:
        """Something has moved."""
        self._recordings.clear()

    def _remember(self, key: Hashable) -> None:
        if len(self._recordings) >= MOST_RECORDINGS:
            self._recordings.clear()
        self._recordings[key] = None

    def _record(self, key: Hashable, compute: Callable[[Kernels], None]) -> None:
        recording = self._kernels.record()
        compute(recording.kernels if recording else self._kernels)
        if recording and recording.complete:
            self._recordings[key] = recording


class SteadyTensors:
    """Copies of tensors that lie in the same place sweep after sweep, by name."""

    def __init__(self, on_move: Callable[[], None]) -> None:
        self._on_move = on_move
        self._memory: dict[str, Tensor] = {}
        self._views: dict[tuple[str, torch.Size], Tensor] = {}

    def place(self, name: str, x: Tensor) -> Tensor:
        """x where the last tensor of this name and dtype was."""
        key = name, x.shape
        if key not in self._views:
            self._views[key] = self._room(name, x)
        return self._views[key].copy_(x)

    def _room(self, name: str, x: Tensor) -> Tensor:
        if name not in self._memory or self._memory[name].numel() < x.numel():
            self._memory[name] = torch.empty(SPARE * x.numel(), dtype=x.dtype)
            self._views.clear()
            self._on_move()
        return self._memory[name][: x.numel()].view(x.shape)


def placed(rows: MicroBatch, number: int, steady: SteadyTensors) -> MicroBatch:
    """A micro-batch whose tensors lie where those of its predecessors of this number did."""

    def place(name: str, x: Tensor) -> Tensor:
        return steady.place(f"{name} {number}", x)

    return replace(
        rows,
        query_starts=place("query starts", rows.query_starts),
        context_lens=place("context lengths", rows.context_lens),
        block_tables=place("block tables", rows.block_tables),
        slots=place("slots", rows.slots),
        rotary=tuple(
            (place(f"cosines {kind}", cos), place(f"sines {kind}", sin))
            for kind, (cos, sin) in enumerate(rows.rotary)
        ),
    )
