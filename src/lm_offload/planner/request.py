"""What a plan is made from: a model in one or more formats, a workload, a machine, a budget."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from lm_offload.arch.config import ModelConfig
from lm_offload.arch.halves import are_cut
from lm_offload.device_plan import AttentionOn, InPlaceKind
from lm_offload.hardware.profile import HardwareProfile
from lm_offload.plan import Plan, Speculation, ThreadPlan, Workload
from lm_offload.planner.costs.model_sizes import ModelSizes


@dataclass(frozen=True)
class DeviceBudget:
    """A device that is to compute, and how much of its memory may be used.

    Of several devices it is their sum, and each of the `stages` is one of them.
    """

    name: str
    budget_bytes: int
    fixed_bytes: int = 0  # of these, what context and libraries take
    attention: AttentionOn | None = None  # where it must be computed; None: where it is faster
    in_place: InPlaceKind | None = None  # what the CPU must compute in sweeps of few rows
    stages: tuple[DeviceBudget, ...] = ()

    @property
    def each(self) -> tuple[DeviceBudget, ...]:
        """Of every device."""
        return self.stages or (self,)

    def changed(self, budget_of: Callable[[DeviceBudget], int]) -> DeviceBudget:
        """The same devices, each with as many bytes as `budget_of` says."""
        if not self.stages:
            return replace(self, budget_bytes=budget_of(self))
        return joined([stage.changed(budget_of) for stage in self.stages])


def joined(stages: Sequence[DeviceBudget]) -> DeviceBudget:
    """Several devices that compute all units, one after the other."""
    return DeviceBudget(
        name=",".join(stage.name for stage in stages),
        budget_bytes=sum(stage.budget_bytes for stage in stages),
        fixed_bytes=sum(stage.fixed_bytes for stage in stages),
        attention="device",
        in_place="none",
        stages=tuple(stages),
    )


@dataclass(frozen=True)
class Request:
    """Everything a plan is made from; `models` are the formats that may be chosen."""

    models: Sequence[ModelSizes]
    workload: Workload
    profile: HardwareProfile
    budget_bytes: int
    speculation: Speculation = "off"
    threads: int | None = None  # of products and attention, where the user says so
    draft_rows: int = 0  # that a plan must have
    kept_states: int = 0  # of recurrent layers that a plan must have room for
    draft_slack: float = 1.01  # slower without drafts at most, for the memory of their rows
    spill_bytes: int = 0  # of disk that a KV cache may take
    device: DeviceBudget | None = None  # None: the CPU computes; else `profile` has gpu and h2d

    @cached_property
    def default_threads(self) -> ThreadPlan:
        """What was asked for, or every core; sampling has seldom enough to do for more than one."""
        threads = self.threads or self.profile.cpu.threads
        return ThreadPlan(threads, threads, sampling=1)

    @property
    def config(self) -> ModelConfig:
        """Of the model, whatever its format."""
        return self.models[0].config

    @cached_property
    def with_cut(self) -> Sequence[ModelSizes]:
        """`models`, and where no device computes those that can be with MLPs of two units each."""
        cut = [model.cut for model in self.models if model.cut is not None]
        return self.models if self.device else [*self.models, *cut]

    def model_of(self, plan: Plan) -> ModelSizes:
        """The model in the formats and units of a plan that was made for the request."""
        wanted = plan.weight_format, plan.kv_format
        whole = next(
            model
            for model in self.models
            if (str(model.weight_format), str(model.kv_format)) == wanted
        )
        return in_units(whole, plan.unit_names)


def in_units(model: ModelSizes, names: Iterable[str]) -> ModelSizes:
    """The model in the units that names are of: those of whole MLPs, or of cut ones."""
    return model.cut if model.cut is not None and are_cut(names) else model
