"""What a unit does to the rows of one micro-batch, whoever has a part in it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from lm_offload.arch.weight_spec import MLP_KINDS
from lm_offload.arch.weights import Unit
from lm_offload.kernels.base import Kernels
from lm_offload.kvcache.cache import KVCache
from lm_offload.kvcache.recurrent_states import RecurrentStates
from lm_offload.micro_batch import MicroBatch
from lm_offload.pipeline.expert_functions import ExpertFunctions
from lm_offload.pipeline.host_attention import HostAttention
from lm_offload.pipeline.micro_batches import SweepInput
from lm_offload.pipeline.unit_functions import UnitFunctions
from lm_offload.schedule.task import Task
from lm_offload.storage.unit_views import Views


@dataclass(frozen=True)
class RowFunctions:
    """Of embedding and layers, but for single experts; hidden [sweep_tokens, H] f32."""

    functions: UnitFunctions
    cache: KVCache
    hidden: Tensor
    host: HostAttention | None  # attention on the CPU where a device computes
    experts: ExpertFunctions | None  # of a mixture
    states: RecurrentStates | None  # of recurrent layers

    def host_of(self, unit: int) -> HostAttention | None:
        """Who attends on the CPU, if that has a part in the unit."""
        return self.host if self.host and unit in self.host.units else None

    def compute(
        self,
        task: Task,
        unit: Unit,
        weights: Views,
        sweep: SweepInput,
        kernels: Kernels,
    ) -> None:
        """The unit on the rows that `task` names."""
        rows = sweep.micro_batches[task.id.micro_batch]
        if self.experts is not None and self.experts.takes_rows(unit):
            self.experts.compute_rows(unit, weights, rows, kernels)
        elif unit.kind in MLP_KINDS:
            self.functions.mlp(unit, weights, rows, kernels)
        elif host := self.host_of(task.id.unit):
            hidden = self.hidden[rows.start : rows.stop]
            host.compute(task, unit.index, weights, hidden, rows)
        elif unit.kind == "attention":
            self._attend(unit, weights, rows, kernels)
        elif self.states is not None and unit.kind == "recurrent":
            self.functions.recur(weights, rows, self.states.in_flight[unit.index], kernels)
        else:
            self.functions.embed(weights, rows, sweep, kernels)

    def _attend(self, unit: Unit, weights: Views, rows: MicroBatch, kernels: Kernels) -> None:
        keys, values = self.cache.keys[unit.index], self.cache.values[unit.index]
        self.functions.attend(unit, weights, rows, keys, values, kernels)
