"""What searches for one workload have in common, whatever their budgets and profiles.

Plans for more memory or a faster disk ask for the same sweeps, the same tables of bytes and, of a
processor that is the same, the same seconds. Everything here is computed once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from lm_offload.hardware.processor import Processor
from lm_offload.hardware.profile import HardwareProfile
from lm_offload.plan import ThreadPlan, Workload
from lm_offload.planner.costs.memory import Sizes, memory_table
from lm_offload.planner.costs.model_sizes import ModelSizes
from lm_offload.planner.costs.sweep_shape import SweepGroup
from lm_offload.planner.costs.task_cost import joining, replaying
from lm_offload.planner.costs.thread_rates import over_blocks_apart, with_threads
from lm_offload.planner.costs.unit_cost import UnitCosts
from lm_offload.planner.sweeps.in_place_recurrence import Programs
from lm_offload.planner.sweeps.replay import sweeps_of

if TYPE_CHECKING:
    from lm_offload.planner.choose.best_first import Group
    from lm_offload.planner.choose.search import Searched

MOST_GROUPS = 256  # of sweeps that are alike, in one run

Key = tuple[object, ...]


@dataclass(frozen=True)
class Common:
    """Remembers what it was asked for; models and processors are told apart by identity."""

    searched: list[Searched] = field(default_factory=list)
    programs: Programs = field(default_factory=dict)  # of sweeps with units in place
    by_bytes: dict[Key, tuple[ModelSizes, Any]] = field(default_factory=dict)  # see placements.py
    groups: dict[Key, tuple[Sequence[ModelSizes], Sequence[Group]]] = field(default_factory=dict)
    rooms: dict[Key, int] = field(default_factory=dict)  # numbers of budgets and blocks
    _costs: dict[Key, UnitCosts] = field(default_factory=dict)
    _replays: dict[Key, list[SweepGroup]] = field(default_factory=dict)
    _processors: dict[Key, tuple[Processor, Processor]] = field(default_factory=dict)
    _other_bytes: dict[Key, tuple[ModelSizes, int]] = field(default_factory=dict)

    def costs(self, model: ModelSizes, processor: Processor, missed_frac: float) -> UnitCosts:
        """What the units of a model cost on a processor."""
        key = (id(model), id(processor), missed_frac)
        if key not in self._costs:
            self._costs[key] = UnitCosts(model, processor, missed_frac)
        return self._costs[key]

    def on_threads(self, profile: HardwareProfile, threads: ThreadPlan) -> HardwareProfile:
        """The profile with the rates of its CPU on these threads."""
        key = (id(profile.cpu), threads)
        if key not in self._processors:
            self._processors[key] = profile.cpu, with_threads(profile, threads).cpu
        cpu = self._processors[key][1]
        return profile if cpu is profile.cpu else replace(profile, cpu=cpu)

    def over_blocks_apart(self, processor: Processor) -> Processor:
        """The same with attention over a KV cache whose blocks lie apart."""
        return self._changed(processor, over_blocks_apart)

    def replaying(self, processor: Processor) -> Processor:
        """The same where a device replays what it launched before."""
        return self._changed(processor, replaying)

    def joining(self, processor: Processor) -> Processor:
        """The same where all units are in memory."""
        return self._changed(processor, joining)

    def _changed(self, processor: Processor, change: Callable[[Processor], Processor]) -> Processor:
        key = (change.__name__, id(processor))
        if key not in self._processors:
            self._processors[key] = processor, change(processor)
        return self._processors[key][1]

    def sweeps_of(self, workload: Workload, sizes: Sizes) -> list[SweepGroup]:
        """Up to one more than MOST_GROUPS, which depend on neither formats nor micro-batches."""
        rows = sizes.kv_blocks, sizes.max_sequences, sizes.sweep_tokens, sizes.logit_rows
        key = (workload, *rows)
        if key not in self._replays:
            groups = sweeps_of(workload, sizes)
            self._replays[key] = list(islice(groups, MOST_GROUPS + 1))
        return self._replays[key]

    def other_bytes(self, model: ModelSizes, sizes: Sizes, table_resident: bool) -> int:
        """Memory of everything but weights and staging."""
        key = (id(model), sizes, table_resident)
        if key not in self._other_bytes:
            table = memory_table(model, sizes, table_resident)
            self._other_bytes[key] = model, sum(size_bytes for _, size_bytes in table)
        return self._other_bytes[key][1]
