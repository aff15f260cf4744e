"""The decision: what is resident, what is streamed, how large everything is, how fast it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from lm_offload.device_plan import DevicePlan
from lm_offload.step_time import StepTime

Objective = Literal["throughput", "latency"]  # seconds of all requests, or of the mean request
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

    @cached_property
    def most_tokens(self) -> int:
        """The longest that any sequence can become."""
        return max(self.total_lens)

    @cached_property
    def mean_prompt(self) -> float:
        """Tokens of the mean prompt."""
        return sum(self.prompt_lens) / len(self.prompt_lens)

    @cached_property
    def mean_computed(self) -> float:
        """Of them, what must be computed."""
        return sum(self.computed_lens) / len(self.prompt_lens)

    @cached_property
    def mean_output(self) -> float:
        """Tokens of the mean output."""
        return sum(self.output_lens) / len(self.prompt_lens)


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
class Plan:
    """Sizes and places on the tiers; what is streamed is read from disk once per sweep.

    Of experts that are streamed, a sweep reads those that any of its rows uses.
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
    streamed_bytes: int  # read in each sweep, at most where there are experts
    predicted: Figures  # for the workload that the plan was made for, without drafts
    draft_rows: int = 0  # rows of a sweep that may verify drafted tokens
    spare_sequences: int = 0  # in flight beyond `max_sequences`, while outputs end early
    kept_states: int = 0  # of recurrent layers, behind prefixes
    spill: KVSpill = IN_MEMORY
    expert_ring_bytes: int = 0  # for experts on disk, which are read where rows use them
    retention: Retention | None = None  # None: unused KV memory is not lent to weights
    device: DevicePlan | None = None
    draft: Plan | None = None  # of the draft model, whose bytes are in `memory`, too

    @property
    def unit_names(self) -> tuple[str, ...]:
        """Of all units that are not on a device."""
        return (*self.resident, *self.streamed)

    @property
    def in_flight_bytes(self) -> int:
        """Of blocks that are read at once, where units are not smaller."""
        return self.read_block_bytes * self.read_concurrency

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
