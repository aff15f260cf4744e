"""The replay against the scheduler that it replays."""

from __future__ import annotations

from array import array
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from lm_offload.engine.requests import workload_of
from lm_offload.kvcache.blocks import BlockAllocator
from lm_offload.kvcache.cache import blocks_for
from lm_offload.plan import Workload
from lm_offload.planner.costs.memory import Sizes
from lm_offload.planner.costs.sweep_shape import Piece, SweepGroup
from lm_offload.planner.sweeps.replay import sweeps_of
from lm_offload.sampling import SamplingParams
from lm_offload.scheduler.scheduler import Scheduler
from lm_offload.sequence import Batch, Sequence
from tests.planner.requests import TINY, plan

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
    return batches_of(made(workload), sizes)


def made(workload: Workload) -> list[Sequence]:
    scored = 0 if workload.scored_tokens else None
    return [
        Sequence(i, array("i", [0] * prompt), SamplingParams(max_tokens=output,
                 prompt_logprobs=scored))
        for i, (prompt, output) in enumerate(
            zip(workload.prompt_lens, workload.output_lens, strict=True)
        )
    ]  # fmt: skip


def batches_of(sequences: list[Sequence], sizes: Sizes) -> list[Seen]:
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


def compare(sweeps: list[SweepGroup], batches: list[Seen]) -> None:
    assert len(sweeps) == len(batches)
    for sweep, batch in zip(sweeps, batches, strict=True):
        found = [
            (rows, context) for count, rows, context in sweep.shape.pieces for _ in range(count)
        ]
        assert Seen(sorted(found), sweep.shape.logit_rows, sweep.prompt_rows) == batch


@settings(max_examples=60)
@given(PAIRS, st.integers(1, 40), st.integers(1, 4), st.integers(0, 5), st.booleans())
def test_it_makes_the_sweeps_of_the_scheduler(pairs, rows, in_flight, spare_blocks, scored):
    prompts, outputs = (tuple(column) for column in zip(*pairs, strict=True))
    workload = Workload(prompts, outputs, scored_tokens=sum(prompts) if scored else 0)
    blocks = max(map(blocks_for, workload.total_lens)) + spare_blocks
    sizes = Sizes(blocks, in_flight, max(rows, in_flight), 1, 3 if scored else 0)
    batches = scheduled(workload, sizes)
    groups = list(sweeps_of(workload, sizes))
    compare(unrolled(groups), batches)
    assert sum(group.first_tokens for group in groups) == len(prompts)
    assert sum(group.finished for group in groups) == len(prompts)


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.integers(2, 30), st.integers(1, 9)), min_size=1, max_size=6),
    st.integers(6, 80),
)
def test_a_common_prefix_is_computed_and_held_once(pairs, rows):
    tails, outputs = (tuple(column) for column in zip(*pairs, strict=True))
    workload = Workload(
        tuple(32 + tail for tail in tails), outputs, shared_lens=(0,) + (32,) * (len(tails) - 1)
    )
    sequences = made(workload)
    for index, sequence in enumerate(sequences):
        sequence.prompt[32:] = array("i", [index + 1] * tails[index])
        sequence.prefix_root = b"root"
    assert workload_of(sequences).shared_lens == workload.shared_lens
    blocks = sum(map(blocks_for, workload.own_lens))
    sizes = Sizes(blocks, len(tails), max(rows, len(tails)), 1)
    compare(unrolled(list(sweeps_of(workload, sizes))), batches_of(sequences, sizes))


def test_plans_for_a_common_prefix_have_fewer_blocks() -> None:
    lengths = (90,) * 4, (10,) * 4
    apart = plan(TINY, Workload(*lengths), 1 << 26)
    shared = plan(TINY, Workload(*lengths, shared_lens=(0, 80, 80, 80)), 1 << 26)
    assert (apart.kv_blocks, shared.kv_blocks) == (28, 13)
    assert shared.predicted.ttft_s < 0.5 * apart.predicted.ttft_s


def test_sweeps_that_repeat_are_counted() -> None:
    workload = Workload((10, 10), (5, 9))
    groups = list(sweeps_of(workload, Sizes(10, 2, 20, 20)))
    assert [group.count for group in groups] == [1, 4, 4]
    assert groups[0].shape.pieces == (Piece(2, 10, 10),)
    assert groups[1].shape.pieces == (Piece(2, 1, 11),)
    assert groups[2].shape.pieces == (Piece(1, 1, 15),)
    assert [group.finished for group in groups] == [0, 1, 1]
