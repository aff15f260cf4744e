"""The rate at which the disk gives what was read before, as engines that stream read it."""

from __future__ import annotations

from pathlib import Path

from lm_offload.hardware.disk_reader import DiskReader, Way
from lm_offload.hardware.memory_probe import probe_memory
from lm_offload.storage.direct_file import DirectFile
from lm_offload.units import MIB

WAYS = (Way(8 * MIB, 2), Way(4 * MIB, 2), Way(4 * MIB, 4), Way(2 * MIB, 4))
RING_BYTES = 16 * MIB
FIRST_READ_S = 1.5  # of what is read again
SAMPLE_S = 0.1


class DiskMeter:
    """Reads `file` again and again, into memory that is mapped once.

    Short passes into fresh buffers came at 1.0 to 2.7 GB/s where these come at 2.8 to 3.1 and the
    engine streams at 2.9.
    """

    def __init__(self, file: Path) -> None:
        self._memory = probe_memory(RING_BYTES)
        self._reader = DiskReader(DirectFile(file), self._memory.buffer)
        self._reader.read_first(WAYS[0], FIRST_READ_S)
        self._samplers = {way: self._reader.sampler(way, SAMPLE_S) for way in WAYS}

    def read(self) -> dict[Way, float]:
        """Bytes per second of each way, now."""
        return {way: 1 / byte_s() for way, byte_s in self._samplers.items()}

    def best_bytes_per_s(self) -> float:
        """Of the best way, now."""
        return max(self.read().values())
