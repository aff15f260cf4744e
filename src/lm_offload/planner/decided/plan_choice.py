"""What of a plan is decided: all that its file says, and all that a plan is made from again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lm_offload.device_plan import AttentionOn, DevicePlan
from lm_offload.plan import Plan, ThreadPlan


@dataclass(frozen=True)
class DeviceChoice:
    """The decisions of a plan on a device; of several devices, joined, with one in each stage."""

    name: str
    budget: int  # bytes
    resident: tuple[str, ...]
    ring: int  # bytes
    attention: AttentionOn = "device"
    kv_blocks: int = 0  # of those of the plan, where both attend
    in_place: tuple[str, ...] = ()
    in_place_rows: int = 0
    begins: tuple[str, ...] = ()  # the first units of the stretches of a stage
    stages: tuple[DeviceChoice, ...] = ()

    @property
    def each(self) -> tuple[DeviceChoice, ...]:
        """Of every device."""
        return self.stages or (self,)

    @property
    def in_place_layers(self) -> int:
        """Layers whose attention is computed in place, with keys and values there."""
        return sum(name.endswith(".attention") for name in self.in_place)


@dataclass(frozen=True)
class PlanChoice:
    """The decisions of a plan, in the order in which they are written."""

    weight_format: str
    kv_format: str
    budget: int  # bytes
    resident: tuple[str, ...]
    streamed: tuple[str, ...]
    table_resident: bool
    ring: int  # bytes
    kv_blocks: int
    max_sequences: int
    sweep_tokens: int
    micro_batch_tokens: int
    scored_rows: int
    draft_rows: int
    read_block: int  # bytes
    read_concurrency: int
    threads: ThreadPlan | None = None  # None: every core
    kv_on_disk: tuple[int, ...] = ()  # layers
    kv_group_blocks: int = 0
    kv_ring_blocks: int = 0
    spare_sequences: int = 0
    kept_states: int = 0
    retention: bool | None = None  # None: as predicted to be faster
    expert_ring: int = 0  # bytes
    device: DeviceChoice | None = None


def choice_of(plan: Plan) -> PlanChoice:
    """What of a plan is a decision."""
    return PlanChoice(
        weight_format=plan.weight_format,
        kv_format=plan.kv_format,
        budget=plan.budget_bytes,
        resident=plan.resident,
        streamed=plan.streamed,
        table_resident=plan.table_resident,
        ring=plan.ring_bytes,
        kv_blocks=plan.kv_blocks,
        max_sequences=plan.max_sequences,
        sweep_tokens=plan.sweep_tokens,
        micro_batch_tokens=plan.micro_batch_tokens,
        scored_rows=plan.scored_rows,
        draft_rows=plan.draft_rows,
        read_block=plan.read_block_bytes,
        read_concurrency=plan.read_concurrency,
        threads=plan.threads,
        kv_on_disk=plan.spill.layers,
        kv_group_blocks=plan.spill.group_blocks,
        kv_ring_blocks=plan.spill.ring_blocks,
        spare_sequences=plan.spare_sequences,
        kept_states=plan.kept_states,
        retention=plan.retention is not None if plan.streamed else None,
        expert_ring=plan.expert_ring_bytes,
        device=_device_of(plan),
    )


def _device_of(plan: Plan) -> DeviceChoice | None:
    if plan.device is None:
        return None
    return joined(list(map(_choice_on, plan.device.stages or (plan.device,))))


def _choice_on(found: DevicePlan) -> DeviceChoice:
    return DeviceChoice(
        name=found.name,
        budget=found.budget_bytes,
        resident=found.resident,
        ring=found.ring_bytes,
        attention=found.attention,
        kv_blocks=found.kv_blocks,
        in_place=found.in_place,
        in_place_rows=found.in_place_rows,
        begins=found.begins,
    )


def joined(stages: Sequence[DeviceChoice]) -> DeviceChoice:
    """Of one device, or the sum of several."""
    if len(stages) == 1:
        return stages[0]
    return DeviceChoice(
        name=",".join(stage.name for stage in stages),
        budget=sum(stage.budget for stage in stages),
        resident=tuple(name for stage in stages for name in stage.resident),
        ring=sum(stage.ring for stage in stages),
        stages=tuple(stages),
    )
