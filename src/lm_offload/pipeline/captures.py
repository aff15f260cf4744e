"""Units of decode that a device has taken down, launched again in one call for each of them.

Where weights stay on the device and few rows are computed, Python and the driver need longer to
launch the kernels of a unit than these take. A unit is launched as it is when it comes first, which
compiles kernels and opens libraries; then it is taken down, and compared with what it was::

    sweep 1      python -> norm, python -> q k v, python -> rotary ...
    sweep 2      the graph, and the same from python: the bits must be equal
    sweep 3 ...  the graph

All it reads and writes lies where it did: weights that stay, the cache, a workspace, and the index
tensors of a sweep, which are refilled in place (see `SteadyTensors`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable

import torch
from torch import Tensor

from lm_offload.device.base import Graph, Work
from lm_offload.errors import DeviceError

CAPTURED = frozenset({"attention", "mlp"})  # kinds of units that ask the device nothing
Capture = Callable[[Work], Graph | None]

log = logging.getLogger(__name__)


class Captures:
    """Graphs by what was computed; `key` stands for all sizes, constants and addresses."""

    def __init__(self, capture: Capture, most: int) -> None:
        self._capture = capture
        self._most = most  # graphs that there is memory for
        self._found: dict[Hashable, Graph | None] = {}
        self._given_up = False

    def begin(self) -> None:
        """Between sweeps, when the device is idle: room for other batch sizes, if there is none."""
        if len(self._found) > self._most:
            self.forget()

    def forget(self) -> None:
        """Something has moved."""
        self._found.clear()

    def run(self, key: Hashable, work: Work, changed: Tensor) -> None:
        """Do `work`, or replay it; called by what a stream launches.

        `changed` f32 is what it works on in place. All else that it writes it writes alike when it
        is done twice.
        """
        if self._given_up or len(self._found) > self._most:
            work()
        elif key not in self._found:
            self._found[key] = None
            work()
        elif (graph := self._found[key]) is not None:
            graph.replay()
        elif (graph := self._taken_down(work)) is None:
            work()
        elif self._is_right(graph, work, changed):
            self._found[key] = graph

    def _taken_down(self, work: Work) -> Graph | None:
        try:
            graph = self._capture(work)
        except DeviceError as error:
            self._give_up(str(error))
            return None
        if graph is None:
            self._give_up("this device has none")
        return graph

    def _is_right(self, graph: Graph, work: Work, changed: Tensor) -> bool:
        """Whether it does what Python does, which has then been done.

        The graph comes first: what it fails to write nobody has written for it.
        """
        before = changed.clone()
        graph.replay()
        found = changed.clone()
        changed.copy_(before)
        work()
        if torch.equal(found.view(torch.int32), changed.view(torch.int32)):
            return True
        self._give_up(f"a replay differed by up to {float((found - changed).abs().max()):.3g}")
        return False

    def _give_up(self, reason: str) -> None:
        """Those that were found stay until nothing runs."""
        self._given_up = True
        log.warning(
            "Launches are not replayed as CUDA graphs (%s); decode of few sequences is slower than "
            "predicted.",
            reason,
        )
