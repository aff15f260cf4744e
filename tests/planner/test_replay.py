"""The replay against the scheduler that it replays."""

from __future__ import annotations

from array import array
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from lm_offload.kvcache.blocks import BlockAllocator
from lm_offload.kvcache.cache import blocks_for
from lm_offload.plan import Workload
from lm_offload.planner.memory import Sizes
from lm_offload.planner.replay import sweeps_of
from lm_offload.planner.sweep_shape import Piece, SweepGroup
from lm_offload.sampling import SamplingParams
from lm_offload.scheduler.scheduler import Scheduler
from lm_offload.sequence import Batch, Sequence

PAIRS = st.lists(st.tuples(st.integers(1, 60), st.integers(1, 12)), min_size=1, max_size=7)


class Seen(NamedTuple):
    """A batch as it was when it was made."""

    chunks: list[tuple[int, int]]  # rows, context
    logits: int
    prompt_rows: int


def seen(batch: Batch) -> Seen:
    return Seen(
        sorted((chunk.stop - chunk.start, chunk.stop) for chunk in batch.chunks),
        sum(chunk.num_logits for chunk in batch.chunks),
        sum(c.stop - c.start for c in batch.chunks if c.start < len(c.sequence.prompt)),
    )


def scheduled(workload: Workload, sizes: Sizes) -> list[Seen]:
    """The batches of the real scheduler, every sequence running to its last token."""
    scored = 0 if workload.scored_tokens else None
    sequences = [
        Sequence(i, array("i", [0] * prompt), SamplingParams(max_tokens=output,
                 prompt_logprobs=scored))
        for i, (prompt, output) in enumerate(
            zip(workload.prompt_lens, workload.output_lens, strict=True)
        )
    ]  # fmt: skip
    allocator = BlockAllocator(sizes.kv_blocks)
    scheduler = Scheduler(allocator, sizes.sweep_tokens, sizes.max_sequences, sizes.scored_rows)
    scheduler.add(sequences)
    batches = []
    while scheduler.has_work:
        batch = scheduler.schedule()
        batches.append(seen(batch))
        scheduler.advance(batch)
        for sequence in batch.sampled:
            sequence.output.append(0)
            if len(sequence.output) == sequence.params.max_tokens:
                sequence.finish_reason = "length"
        scheduler.retire_finished()
    return batches


def unrolled(groups: list[SweepGroup]) -> list[SweepGroup]:
    """Every sweep by itself."""
    return [
        SweepGroup(group.shape.later(sweep), 1, group.prompt_rows)
        for group in groups
        for sweep in range(group.count)
    ]


@settings(max_examples=60)
@given(PAIRS, st.integers(1, 40), st.integers(1, 4), st.integers(0, 5), st.booleans())
def test_it_makes_the_sweeps_of_the_scheduler(pairs, rows, in_flight, spare_blocks, scored):
    prompts, outputs = (tuple(column) for column in zip(*pairs, strict=True))
    workload = Workload(prompts, outputs, scored_tokens=sum(prompts) if scored else 0)
    blocks = max(map(blocks_for, workload.total_lens)) + spare_blocks
    sizes = Sizes(blocks, in_flight, max(rows, in_flight), 1, 3 if scored else 0)
    batches = scheduled(workload, sizes)
    groups = list(sweeps_of(workload, sizes))
    sweeps = unrolled(groups)
    assert len(sweeps) == len(batches)
    for sweep, batch in zip(sweeps, batches, strict=True):
        found = [
            (rows, context) for count, rows, context in sweep.shape.pieces for _ in range(count)
        ]
        assert Seen(sorted(found), sweep.shape.logit_rows, sweep.prompt_rows) == batch
    assert sum(group.first_tokens for group in groups) == len(prompts)
    assert sum(group.finished for group in groups) == len(prompts)


def test_sweeps_that_repeat_are_counted() -> None:
    workload = Workload((10, 10), (5, 9))
    groups = list(sweeps_of(workload, Sizes(10, 2, 20, 20)))
    assert [group.count for group in groups] == [1, 4, 4]
    assert groups[0].shape.pieces == (Piece(2, 10, 10),)
    assert groups[1].shape.pieces == (Piece(2, 1, 11),)
    assert groups[2].shape.pieces == (Piece(1, 1, 15),)
    assert [group.finished for group in groups] == [0, 1, 1]
