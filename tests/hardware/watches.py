"""Watches of a machine whose pace and whose other work a test says."""

from __future__ import annotations

from dataclasses import dataclass

from lm_offload.hardware.watch import Watch


@dataclass
class Machine:
    """How it is just now; a test changes it."""

    now_s: float = 0.0
    pulse_s: float = 1.0
    busy_frac: float = 0.0

    def watch(self) -> Watch:
        """Of this machine."""
        return Watch(lambda: self.pulse_s, lambda: self, lambda: self.now_s)


def quiet_watch() -> Watch:
    """Of a machine on which nothing happens."""
    return Machine().watch()
