"""Which experts of a layer lie in memory: those that were used most in the last sweeps.

An expert that a router has chosen and that lies on disk is read anyway. Read into the home of a
resident one, which it then is instead, it costs nothing but what the other was worth::

    score         of an expert: 1 for the sweep that uses it, DECAY as much for each one before
    takes a home  where its score is higher by MARGIN than the least of those not chosen now

Homes stay with their layer, so each layer finds as many experts in memory as it has homes. A home
of another layer that is visited sooner would be taken when it is needed next: with routers that
choose evenly that loses what fixed homes keep. Where all are used alike, as in large batches,
scores are equal and all stay where they are.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

DECAY = 0.95
MARGIN = 0.95  # just less than a use: one that was never used gives way, equal ones stay


class KeptExperts:
    """The experts of one layer, by number."""

    def __init__(self, sizes_bytes: Sequence[int], resident: Collection[int]) -> None:
        """`resident` ones have homes as large as they are."""
        self._sizes_bytes = np.array(sizes_bytes)
        self._scores = np.zeros(len(sizes_bytes))
        self._arrived = np.isin(np.arange(len(sizes_bytes)), list(resident))
        self._homes_bytes = np.where(self._arrived, self._sizes_bytes, 0)  # 0: has none
        self._least_home_bytes = min((sizes_bytes[expert] for expert in resident), default=0)

    @property
    def resident(self) -> frozenset[int]:
        """Those whose bytes are in their homes."""
        return frozenset(np.flatnonzero(self._arrived).tolist())

    def use(self, chosen: Collection[int]) -> dict[int, int | None]:
        """Those of `chosen` that must be read, and whose home each takes, if any; in their order.

        What took a home counts as resident when it has `arrived`; a home that nobody arrived in
        belongs to nobody and is taken first.
        """
        used = sorted(chosen)
        self._scores *= DECAY
        self._scores[used] += 1.0
        found = self._arrived[used].tolist()
        missing = [expert for expert, lies in zip(used, found, strict=True) if not lies]
        if not missing:
            return {}
        taken = self._take_homes(
            missing, [it for it, lies in zip(used, found, strict=True) if lies]
        )
        return {expert: taken.get(expert) for expert in missing}

    def arrived(self, expert: int) -> None:
        """Its bytes are where they were read to, which may be its home."""
        self._arrived[expert] = self._homes_bytes[expert] > 0

    def _take_homes(self, missing: Sequence[int], needed: Sequence[int]) -> dict[int, int]:
        """The owners of homes that some of `missing` take, the most used ones first.

        Those of experts that are `needed` are not to be had.
        """
        worth = np.where(self._arrived, self._scores, -np.inf)
        worth[self._homes_bytes == 0] = np.inf
        worth[needed] = np.inf
        taken: dict[int, int] = {}
        for expert in sorted(missing, key=self._scores.__getitem__, reverse=True):
            fitting = self._fitting(worth, expert)
            owner = expert if self._homes_bytes[expert] else int(fitting.argmin())
            if self._scores[expert] > fitting[owner] + MARGIN:
                taken[expert] = owner
                self._move(expert, owner)
                worth[[expert, owner]] = np.inf
        return taken

    def _fitting(self, worth: np.ndarray, expert: int) -> np.ndarray:
        """What homes are worth, those that are too small not to be had."""
        if self._sizes_bytes[expert] <= self._least_home_bytes:
            return worth
        return np.where(self._homes_bytes >= self._sizes_bytes[expert], worth, np.inf)

    def _move(self, expert: int, owner: int) -> None:
        home_bytes = self._homes_bytes[owner]
        self._homes_bytes[owner] = 0
        self._homes_bytes[expert] = home_bytes
        self._arrived[[owner, expert]] = False
