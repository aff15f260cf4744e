"""The decision: what is resident, what is streamed, and how large everything is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Workload:
    """What is to be generated, as far as the plan depends on it: token counts per request."""

    prompt_lens: tuple[int, ...]
    output_lens: tuple[int, ...]
    scored_tokens: int = 0  # prompt tokens whose log probabilities are wanted

    @property
    def total_lens(self) -> tuple[int, ...]:
        """The longest that each sequence can become."""
        pairs = zip(self.prompt_lens, self.output_lens, strict=True)
        return tuple(prompt + output for prompt, output in pairs)


@dataclass(frozen=True)
class MachineRates:
    """What the first plan needs to know of the machine."""

    disk_read_bytes_per_s: float
    memory_read_bytes_per_s: float
    matmul_flops: float  # per second, in a product of many rows
    read_block_bytes: int  # the block size and concurrency that reached the disk's rate
    read_concurrency: int


@dataclass(frozen=True)
class Plan:
    """Sizes and places on the CPU and disk tiers; what is streamed is read once per sweep."""

    budget_bytes: int
    kv_format: str  # as users write formats
    resident: tuple[str, ...]  # names of units, in execution order
    streamed: tuple[str, ...]
    table_resident: bool  # whether the embedding table is in memory too
    ring_bytes: int
    kv_blocks: int
    max_sequences: int  # in flight
    sweep_tokens: int  # most rows of a sweep
    micro_batch_tokens: int
    read_block_bytes: int
    read_concurrency: int
    memory: tuple[tuple[str, int], ...]  # purpose, bytes: everything that counts in the budget
    streamed_bytes: int  # read in each sweep
    predicted_prefill_s: float
    predicted_decode_s: float  # of one sweep
    scored_rows: int = 0  # rows of a sweep that may want logits beside the sampled ones

    @property
    def logit_rows(self) -> int:
        """Most rows of a sweep whose logits are wanted."""
        return self.max_sequences + self.scored_rows

    @property
    def used_bytes(self) -> int:
        """Sum of the memory table."""
        return sum(size_bytes for _, size_bytes in self.memory)
