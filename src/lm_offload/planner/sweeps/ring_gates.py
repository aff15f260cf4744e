"""What has to leave a ring before the next unit may enter, counted instead of named."""

from __future__ import annotations

from functools import lru_cache

from lm_offload.schedule.ring import Key, Ring


@lru_cache(maxsize=512)
def ring_gates(sizes_bytes: tuple[int, ...], ring_bytes: int, sweeps: int) -> tuple[int, ...]:
    """For each unit that enters, sweep after sweep, how many have to have left before.

    Units leave in the order in which they entered, so a number says which.
    """
    ring, left, gates = Ring(ring_bytes), 0, []
    for sweep in range(sweeps):
        for unit, size_bytes in enumerate(sizes_bytes):
            _, evicted = ring.place(Key(sweep, unit), size_bytes)
            left += len(evicted)
            gates.append(left)
    return tuple(gates)
