"""Ctrl-C that ends an answer between two sweeps, so that the model stays loaded."""

from __future__ import annotations

import signal
from types import FrameType


class Interruption:
    """In its `with` block the first Ctrl-C only sets `requested`, the second raises.

    An exception in the middle of a sweep would throw away everything that is loaded.
    """

    def __init__(self) -> None:
        self.requested = False

    def __enter__(self) -> Interruption:
        self._before = signal.signal(signal.SIGINT, self._on_signal)
        return self

    def __exit__(self, *error: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
