"""The seconds of a sweep by formula: sums within a resource, maxima across those that overlap.

::

    pipelined    max( sum of each resource , chain )
    pipo-memory  max( sum of each resource , sum over units( load + max(K device, chain) ) )
    flexgen      sum over units( sum over the K steps between two barriers( longest part ) )
    chain        what one micro-batch passes through, one task after the other
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from lm_offload.planner.policies.scene import Scene
from lm_offload.planner.policies.task_bytes import Key, chains_of
from lm_offload.schedule.block import Flows, Transfers, UnitKind
from lm_offload.schedule.task import Resource

COMPUTES: Transfers = ("project", "send_qkv", "attend", "return_attended", "compute")


def estimated_step_s(
    scene: Scene, seconds: Mapping[Key, float], busy_s: Mapping[Resource, float]
) -> float:
    """Seconds of one sweep in the steady state; at most what the simulation gives."""
    chains = chains_of(scene)
    sums = _Sums(seconds, chains, scene.policy.num_micro_batches)
    units = scene.model.units
    slowest_s = max(busy_s.values())
    if scene.policy.schedule == "flexgen":
        neighbours = Counter(
            zip(units[-1:] + units[:-1], units, units[1:] + units[:1], strict=True)
        )
        return max(slowest_s, sum(n * sums.barriers_s(*u) for u, n in neighbours.items()))
    kinds = Counter(units)
    if scene.policy.schedule == "pipo-memory":
        return max(slowest_s, sum(n * sums.loaded_s(unit) for unit, n in kinds.items()))
    first_s = sums.of("attention", chains.load_hidden)  # the first unit makes its own
    return max(slowest_s, sum(n * sums.chain_s(unit) for unit, n in kinds.items()) - first_s)


class _Sums:
    """Sums of the seconds of tasks that cannot overlap."""

    def __init__(self, seconds: Mapping[Key, float], chains: Flows, num_micro_batches: int) -> None:
        self._seconds = seconds
        self._chains = chains
        self._num_micro_batches = num_micro_batches

    def of(self, unit: UnitKind, kinds: Transfers) -> float:
        """Tasks of one unit or micro-batch, one after the other."""
        return sum(self._seconds.get((kind, unit), 0.0) for kind in kinds)

    def chain_s(self, unit: UnitKind) -> float:
        """One micro-batch through one unit."""
        return self.of(unit, self._chains.load_hidden + COMPUTES + self._chains.store_hidden)

    def loaded_s(self, unit: UnitKind) -> float:
        """One unit that is loaded first: no load overlaps with its computation."""
        device_s = self._num_micro_batches * self.of(unit, ("project", "compute"))
        return self.of(unit, self._chains.load_weights) + max(device_s, self.of(unit, COMPUTES))

    def barriers_s(self, before: UnitKind, unit: UnitKind, after: UnitKind) -> float:
        """One unit under FlexGen's barriers; the neighbours are loaded and stored beside it."""
        if self._num_micro_batches == 1:
            return self._step_s(unit, after, after, before)
        first_s = self._step_s(unit, after, unit, before)
        last_s = self._step_s(unit, None, after, unit)
        between_s = self._step_s(unit, None, unit, unit)
        return first_s + (self._num_micro_batches - 2) * between_s + last_s

    def _step_s(
        self, unit: UnitKind, loaded: UnitKind | None, fetched: UnitKind, stored: UnitKind
    ) -> float:
        """From one barrier to the next: the longest of chains and of sums of a link."""

        def both(loads: Transfers, kv_loads: Transfers) -> float:
            weights_s = self.of(loaded, loads) if loaded else 0.0
            return weights_s + self.of(fetched, kv_loads)

        return max(
            self.of(loaded, self._chains.load_weights) if loaded else 0.0,
            self.of(fetched, self._chains.load_kv),
            self.of(stored, self._chains.store_kv),
            both(("stage",), ("stage_kv",)) + self.of(unit, COMPUTES),
            both(("upload",), ("upload_kv",)) + self.of(unit, ("return_attended",)),
            both(("read",), ("read_kv",)),
        )
