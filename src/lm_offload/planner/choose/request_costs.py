"""What units cost on the processors of a request, on the threads that a plan gives them."""

from __future__ import annotations

from dataclasses import dataclass, field

from lm_offload.device_plan import TurnCosts
from lm_offload.hardware.profile import HardwareProfile
from lm_offload.kvcache.cache import kv_block_bytes
from lm_offload.plan import ThreadPlan
from lm_offload.planner.choose.common import Common
from lm_offload.planner.costs.memory import Sizes
from lm_offload.planner.costs.model_sizes import ModelSizes
from lm_offload.planner.costs.unit_cost import UnitCosts
from lm_offload.planner.request import Request
from lm_offload.planner.sweeps.split_time import turn_costs

MISSED_STEPS = 20  # in which shares of weights are told apart: plans of about one size share costs


@dataclass(frozen=True)
class RequestCosts:
    """Costs of units under one request; what searches have in common is computed once."""

    request: Request
    common: Common = field(default_factory=Common, compare=False)
    _profiles: dict[ThreadPlan, HardwareProfile] = field(default_factory=dict, compare=False)
    _turns: dict[tuple[object, ...], TurnCosts] = field(default_factory=dict, compare=False)

    def profile_of(self, threads: ThreadPlan) -> HardwareProfile:
        """The request's machine on these threads."""
        if threads not in self._profiles:
            self._profiles[threads] = self.common.on_threads(self.request.profile, threads)
        return self._profiles[threads]

    def costs_on(
        self, threads: ThreadPlan, model: ModelSizes, sizes: Sizes, moves: bool
    ) -> UnitCosts:
        """Where units are computed; its last-level cache keeps a part of what a sweep needs."""
        profile = self.profile_of(threads)
        processor = profile.gpu if self.request.device and profile.gpu else profile.cpu
        if processor is profile.cpu and not moves:
            processor = self.common.joining(processor)
        kv_bytes = sizes.kv_blocks * kv_block_bytes(model.config, model.kv_format)
        missed_frac = 1.0 if moves else processor.missed_frac(model.units_bytes + kv_bytes)
        steps = round(missed_frac * MISSED_STEPS)
        return self.common.costs(model, processor, steps / MISSED_STEPS)

    def replayed(self, costs: UnitCosts) -> UnitCosts:
        """The same where the device replays what it launched before."""
        processor = self.common.replaying(costs.processor)
        return self.common.costs(costs.model, processor, costs.missed_frac)

    def least_costs(self, model: ModelSizes, sizes: Sizes, moves: bool = False) -> UnitCosts:
        """The costs of units if nothing were streamed or uploaded; `moves`: something is."""
        costs = self.costs_on(self.request.default_threads, model, sizes, moves)
        return self.replayed(costs) if costs.processor.replay_s else costs

    def turn_costs_of(self, threads: ThreadPlan, model: ModelSizes, sizes: Sizes) -> TurnCosts:
        """What decides how sweeps are cut in which both processors attend."""
        key = threads, id(model), sizes.max_sequences, sizes.micro_batch_tokens
        if key not in self._turns:
            on_both = self.costs_on(threads, model, sizes, True), self.cpu_costs(model, threads)
            self._turns[key] = turn_costs(*on_both, self.request.workload, sizes)
        return self._turns[key]

    def cpu_costs(self, model: ModelSizes, threads: ThreadPlan | None = None) -> UnitCosts:
        """What units cost on the CPU, beside a device that computes others."""
        profile = self.profile_of(threads or self.request.default_threads)
        return self.common.costs(model, profile.cpu, missed_frac=1.0)
