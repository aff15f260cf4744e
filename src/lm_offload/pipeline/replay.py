"""Units that were computed before, again, without a call of Python for every operation.

While weights stream through the caches, what Python needs for one operation has left them: a call
takes some 20 us instead of 3. Decode asks for the same operations on the same memory sweep after
sweep, so they are written down once and replayed in one call for each unit, as CUDA graphs do::

    sweep 1   python -> norm, python -> q k v, python -> rotary ...     nothing is known
    sweep 2   the same, written down                                    it came twice: worth it
    sweep 3   python -> replay

What is staged lies in another place of its ring every time; a replay is told how far.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from lm_offload.kernels.base import Kernels, Recording
from lm_offload.micro_batch import MicroBatch

MOST_RECORDINGS = 2048  # a few KB each: some dozen batch sizes of a large model
SPARE = 2  # a tensor that outgrows its memory gets this many times what it needs


class Place(NamedTuple):
    """Where the staged weights of a unit and its staged keys and values begin, in bytes."""

    weights: int
    cache: int


NOT_STAGED = Place(0, 0)


class Replays:
    """Recordings by what was computed.

    `key` stands for all sizes, constants and addresses but those that `Place` tells.
    """

    def __init__(self, kernels: Kernels) -> None:
        self.possible = kernels.record() is not None
        self._kernels = kernels
        self._recordings: dict[Hashable, tuple[Recording, Place] | None] = {}

    def run(
        self, key: Hashable, compute: Callable[[Kernels], None], place: Place = NOT_STAGED
    ) -> None:
        """Compute with the kernels it is given, which may have been done before."""
        if key not in self._recordings:
            self._remember(key)
            compute(self._kernels)
        elif (known := self._recordings[key]) is not None:
            recording, recorded = known
            recording.replay(place.weights - recorded.weights, place.cache - recorded.cache)
        else:
            self._record(key, compute, place)

    def forget(self) -> None:
        """Something has moved."""
        self._recordings.clear()

    def _remember(self, key: Hashable) -> None:
        if len(self._recordings) >= MOST_RECORDINGS:
            self._recordings.clear()
        self._recordings[key] = None

    def _record(self, key: Hashable, compute: Callable[[Kernels], None], place: Place) -> None:
        recording = self._kernels.record()
        compute(recording.kernels if recording else self._kernels)
        if recording and recording.complete:
            self._recordings[key] = recording, place


class SteadyTensors:
    """Copies of tensors that lie in the same place sweep after sweep, by name.

    They are refilled when what reads them is idle: a copy from the host to a device is waited for.
    """

    def __init__(self, on_move: Callable[[], None], device: torch.device) -> None:
        self._on_move = on_move
        self._device = device
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
            self._memory[name] = self._new(x)
            self._views.clear()
            self._on_move()
        return self._memory[name][: x.numel()].view(x.shape)

    def _new(self, x: Tensor) -> Tensor:
        return torch.empty(SPARE * x.numel(), dtype=x.dtype, device=self._device)


def at_rest(rows: MicroBatch, kind: Hashable, steady: SteadyTensors) -> MicroBatch:
    """A micro-batch whose tensors lie where those of its predecessors with its first row did.

    `kind` tells apart what has the same rows but other tensors.
    """

    def place(name: str, x: Tensor) -> Tensor:
        return steady.place(f"{name} {kind} {rows.start}", x)

    return replace(
        rows,
        query_starts=place("query starts", rows.query_starts),
        context_lens=place("context lengths", rows.context_lens),
        block_tables=place("block tables", rows.block_tables),
        slots=place("slots", rows.slots),
        states=None if rows.states is None else place("states", rows.states),
        rotary=tuple(
            (place(f"cosines {rope}", cos), place(f"sines {rope}", sin))
            for rope, (cos, sin) in enumerate(rows.rotary)
        ),
        chunked=rows.chunked and at_rest(rows.chunked, ("chunks", kind), steady),
    )
