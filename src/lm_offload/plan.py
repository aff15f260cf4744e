"""The decision: what is resident, what is streamed, how large everything is, how fast it is."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from typing import Any, Literal, NamedTuple

Objective = Literal["throughput", "latency"]  # seconds of all requests, or of the mean request
ComputedOn = Literal["device", "cpu"]  # where a device computes
AttentionOn = Literal["device", "cpu", "both"]  # with the KV cache there, or a part in each memory
OnOom = Literal["stop", "replan"]  # a run whose device has no memory left
# Drafts where they pay, never, always from the text, always from a draft model.
Speculation = Literal["auto", "off", "prompt-lookup", "draft-model"]


@dataclass(frozen=True)
class Workload:
    """What is to be generated, as far as the plan depends on it: token counts per request."""

    prompt_lens: tuple[int, ...]
    output_lens: tuple[int, ...]
    scored_tokens: int = 0  # prompt tokens whose log probabilities are wanted
    objective: Objective = "throughput"
    shared_lens: tuple[int, ...] = ()  # of each prompt what an earlier one has too; () is none
    may_end_early: bool = False  # whether outputs may be shorter than `output_lens`

    @cached_property
    def computed_lens(self) -> tuple[int, ...]:
        """Tokens of each prompt that must be computed."""
        return self._unshared(self.prompt_lens)

    @cached_property
    def own_lens(self) -> tuple[int, ...]:
        """The positions that each sequence can come to hold in the KV cache for itself."""
        return self._unshared(self.total_lens)

    def _unshared(self, lengths: tuple[int, ...]) -> tuple[int, ...]:
        if not self.shared_lens:
            return lengths
        pairs = zip(lengths, self.shared_lens, strict=True)
        return tuple(length - shared for length, shared in pairs)

    @cached_property
    def total_lens(self) -> tuple[int, ...]:
        """The longest that each sequence can become."""
        pairs = zip(self.prompt_lens, self.output_lens, strict=True)
        return tuple(prompt + output for prompt, output in pairs)


class DeviceTime(NamedTuple):
    """Seconds of one device in a sweep, and what its link brought."""

    gpu_s: float
    h2d_s: float
    h2d_bytes: float


@dataclass(frozen=True)
class StepTime:
    """Seconds of one sweep by resource; the same record whether predicted or measured."""

    total_s: float
    cpu_s: float  # computing
    wait_s: float  # the CPU idle because weights were not there yet
    disk_read_s: float  # the disk busy
    read_bytes: float  # weights and KV cache
    kv_read_bytes: float = 0.0
    gpu_s: float = 0.0  # the device computing, by its events; cpu_s is then what launching took
    h2d_s: float = 0.0  # the link to the device busy
    h2d_bytes: float = 0.0
    attend_s: float = 0.0  # the CPU attending, or computing units, beside the device
    devices: tuple[DeviceTime, ...] = ()  # of several; seconds above are then their means

    @property
    def gpu_busy_frac(self) -> float:
        """The share of the sweep in which the device computes."""
        return self.gpu_s / self.total_s if self.total_s else 0.0

    @property
    def overhead_s(self) -> float:
        """Neither computing nor waiting: what the engine itself costs."""
        return self.total_s - self.cpu_s - self.wait_s


def mean_step(steps: Iterable[tuple[StepTime, float]]) -> StepTime:
    """The mean of times with weights; all zero if there are none."""
    names = [field.name for field in dataclasses.fields(StepTime) if field.name != "devices"]
    values_of = attrgetter(*names)
    taken = [(step, weight) for step, weight in steps]
    weighted = [(values_of(step), weight) for step, weight in taken]
    total_weight = sum(weight for _, weight in weighted) or 1.0
    means = {
        name: sum(values[index] * weight for values, weight in weighted) / total_weight
        for index, name in enumerate(names)
    }
    of_devices = zip(*(step.devices for step, _ in taken), strict=True)
    weights = [weight / total_weight for _, weight in taken]
    return StepTime(**means, devices=tuple(_mean_device(times, weights) for times in of_devices))


def _mean_device(times: Iterable[DeviceTime], weights: Iterable[float]) -> DeviceTime:
    """Of one device in several sweeps; the weights sum to one."""
    weighted = [
        [value * weight for value in time] for time, weight in zip(times, weights, strict=True)
    ]
    return DeviceTime(*map(sum, zip(*weighted, strict=True)))


def of_devices(times: Sequence[DeviceTime]) -> dict[str, Any]:
    """The fields of a `StepTime` that several devices share."""
    gpu_s, h2d_s, h2d_bytes = map(sum, zip(*times, strict=True))
    count = len(times)
    return {
        "gpu_s": gpu_s / count,
        "h2d_s": h2d_s / count,
        "h2d_bytes": h2d_bytes,
        "devices": tuple(times),
    }


@dataclass(frozen=True)
class Figures:
    """How fast a workload runs and what it takes, predicted or measured: the same keys."""

    prefill_tokens_per_s: float  # prompt tokens over the sweeps that have any
    decode_tokens_per_s: float  # over the sweeps that have none; 0 without decode
    ttft_s: float  # median over the prompts
    tpot_s: float | None  # mean of the decode sweeps, each a token of every sequence in flight
    run_s: float  # from the first call to the last token
    step_s: Mapping[str, StepTime]  # mean sweep of "prefill" and of "decode"
    peak_bytes: Mapping[str, int]  # by tier: memory beside interpreter and libraries, streamed


@dataclass(frozen=True)
class ThreadPlan:
    """Threads of each kind of task; the readers come on top, they sleep while the disk works."""

    compute: int  # of a matrix product and of an elementwise kernel
    attention: int  # of attention over the cache
    sampling: int  # torch's own, which draw tokens and make index tensors

    @classmethod
    def on(cls, cores: int) -> ThreadPlan:
        """Every core for each of them, which is torch's default."""
        return cls(cores, cores, cores)


@dataclass(frozen=True)
class KVSpill:
    """Layers whose keys and values lie on disk, and how attention gets them.

    Some sequences of one layer, a group, are read together into a ring of memory.
    """

    layers: tuple[int, ...] = ()
    group_blocks: int = 0  # most blocks of a group
    ring_blocks: int = 0  # of one layer each

    def file_blocks(self, kv_blocks: int) -> int:
        """Blocks of one layer in the file."""
        return len(self.layers) * kv_blocks


IN_MEMORY = KVSpill()


@dataclass(frozen=True)
class Retention:
    """Streamed units that unused KV memory is predicted to hold, the mean over a run's sweeps."""

    units: float
    size_bytes: float  # not read in a sweep


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
    in_place: tuple[str, ...] = ()  # units that the CPU computes in small sweeps, not uploaded then
    in_place_rows: int = 0  # most rows of such a sweep
    units: tuple[str, ...] = ()  # of a stage, what it computes
    stages: tuple[DevicePlan, ...] = ()

    @property
    def used_bytes(self) -> int:
        """Sum of the memory table."""
        return sum(size_bytes for _, size_bytes in self.memory)


@dataclass(frozen=True)
class Plan:
    """Sizes and places on the tiers; what is streamed is read from disk once per sweep.

    Every unit is resident in host memory, streamed, or resident on the device if there is one.
    """

    budget_bytes: int
    weight_format: str  # of matrices, as users write formats: bf16, int8:64, int4:64
    kv_format: str
    resident: tuple[str, ...]  # names of units, in execution order
    streamed: tuple[str, ...]
    table_resident: bool  # whether the embedding table is in memory too
    ring_bytes: int
    kv_blocks: int
    max_sequences: int  # in flight
    sweep_tokens: int  # most rows of a sweep
    micro_batch_tokens: int
    scored_rows: int  # rows of a sweep that may want logits beside the sampled ones
    read_block_bytes: int
    read_concurrency: int  # reader threads: each has one block in flight
    threads: ThreadPlan
    memory: tuple[tuple[str, int], ...]  # purpose, bytes: everything that counts in the budget
    streamed_bytes: int  # read in each sweep
    predicted: Figures  # for the workload that the plan was made for, without drafts
    draft_rows: int = 0  # rows of a sweep that may verify drafted tokens
    spare_sequences: int = 0  # in flight beyond `max_sequences`, while outputs end early
    spill: KVSpill = IN_MEMORY
    retention: Retention | None = None  # None: unused KV memory is not lent to weights
    device: DevicePlan | None = None
    draft: Plan | None = None  # of the draft model, whose bytes are in `memory`, too

    @property
    def logit_rows(self) -> int:
        """Most rows of a sweep whose logits are wanted."""
        return self.lanes + max(self.scored_rows, self.draft_rows)

    @property
    def lanes(self) -> int:
        """Most sequences in flight, at their longest or not."""
        return self.max_sequences + self.spare_sequences

    @property
    def sequence_blocks(self) -> int:
        """Most KV blocks of one sequence, which has all of them in one memory."""
        on_device = self.device.kv_blocks if self.device else 0
        return max(on_device, self.kv_blocks - on_device)

    @property
    def used_bytes(self) -> int:
        """Sum of the memory table."""
        return sum(size_bytes for _, size_bytes in self.memory)
