"""The part of a plan that concerns a device: what lies there, and what the CPU does beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# Where a device computes, with the KV cache there, or a part of it in each memory.
AttentionOn = Literal["device", "cpu", "both"]
InPlaceKind = Literal["none", "mlp", "layers"]  # what of host memory the CPU computes beside it


@dataclass(frozen=True)
class TurnCosts:
    """What decides how rows are cut into two micro-batches; seconds of one layer, calibrated."""

    row_s: float  # of the device, for one row more in its products
    device_token_s: float  # of its attention, for one token that a row sees
    cpu_token_s: float  # the same of the CPU


@dataclass(frozen=True)
class DevicePlan:
    """The part of a plan that lies on a device, which computes all but what is said here.

    Of several devices it is the sum, and each of the `stages` is the part of one.
    """

    name: str
    budget_bytes: int
    resident: tuple[str, ...]  # names of units, in execution order; all others are uploaded
    ring_bytes: int  # for units that are uploaded in each sweep
    memory: tuple[tuple[str, int], ...]  # purpose, bytes: everything that counts in the budget
    uploaded_bytes: int  # in each sweep, or in each large one where there are small ones
    attention: AttentionOn = "device"
    kv_blocks: int = 0  # of the plan's, those in its memory where both attend
    turns: TurnCosts | None = None  # and what rows cost there
    # Units that the CPU computes in small sweeps, not uploaded then; of attention with KV there.
    in_place: tuple[str, ...] = ()
    in_place_rows: int = 0  # most rows of such a sweep
    units: tuple[str, ...] = ()  # of a stage, what it computes
    begins: tuple[str, ...] = ()  # of these, the first of each stretch
    stages: tuple[DevicePlan, ...] = ()
    replays: bool = False  # what decode launches, recorded as graphs: it follows from the rest
    few_rows: int = 0  # that multiply a packed weight as it is, as was measured; 0: not measured
    prompt_blocks: int = 0  # for prompts that it attends to, the KV cache being on the host: so too

    @property
    def used_bytes(self) -> int:
        """Sum of the memory table."""
        return sum(size_bytes for _, size_bytes in self.memory)
