"""Inputs of decode sweeps that were moved on against those that are made anew."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from lm_offload.arch.config import ModelConfig, load_config
from lm_offload.kvcache.cache import blocks_for, numbered_blocks
from lm_offload.micro_batch import MicroBatch
from lm_offload.pipeline.continued import ROTARY_ROWS, Continued
from lm_offload.pipeline.micro_batches import TABLE_STEP, SweepInput, build_sweep_input
from lm_offload.quant.kv_format import BLOCK_TOKENS
from lm_offload.sampling import SamplingParams
from lm_offload.sequence import Batch, Chunk, Sequence

MOST_ROWS = 999


@pytest.fixture(scope="module", params=["llama", "gemma3_text", "phi3", "opt"])
def config(request, toy) -> ModelConfig:
    return load_config(toy(request.param))


class Run:
    """Sequences that decode, a token of each in every sweep."""

    def __init__(self, config: ModelConfig, prompt_lens: list[int]) -> None:
        self.config = config
        self.continued = Continued(config, numbered_blocks)
        self.sequences = [
            Sequence(index, [7] * length, SamplingParams(max_tokens=999), output=[1], lane=index)
            for index, length in enumerate(prompt_lens)
        ]
        self._free = iter(range(1, 9999))

    def batch(self) -> Batch:
        """The next sweep, in which every sequence has got a token and the blocks for it."""
        for sequence in self.sequences:
            sequence.output.append(len(sequence.output) * 3 + sequence.index)
            while len(sequence.blocks) < blocks_for(sequence.num_tokens):
                sequence.blocks.append(next(self._free))
        ends = [(sequence, sequence.num_tokens) for sequence in self.sequences]
        return Batch(tuple(Chunk(sequence, stop - 1, stop) for sequence, stop in ends))

    def made(self, batch: Batch) -> SweepInput:
        return build_sweep_input(self.config, batch, MOST_ROWS)

    def begin(self) -> SweepInput:
        batch = self.batch()
        found = self.made(batch)
        self.continued.begin(batch, found)
        return found


def tensors(sweep: SweepInput, contexts: list[int]) -> Iterator[Tensor]:
    """What kernels read of it: of tables no more than the blocks of a context."""
    yield from (sweep.token_ids, sweep.logit_rows)
    (rows,) = sweep.micro_batches
    yield from (rows.positions, rows.query_starts, rows.context_lens, rows.slots)
    yield from (x for pair in rows.rotary for x in pair)
    yield from (
        table[: blocks_for(n)] for table, n in zip(rows.block_tables, contexts, strict=True)
    )


def check(found: SweepInput | None, run: Run, batch: Batch) -> None:
    assert found is not None
    contexts = [chunk.stop for chunk in batch.chunks]
    pairs = zip(tensors(found, contexts), tensors(run.made(batch), contexts), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


@pytest.mark.parametrize("prompt_lens", [[5], [BLOCK_TOKENS - 2, 3, 40], [2] * (ROTARY_ROWS + 6)])
def test_moved_on_they_are_what_would_be_made(config, prompt_lens):
    run = Run(config, prompt_lens)
    first, sweeps = run.begin(), 3 * BLOCK_TOKENS if len(prompt_lens) < 9 else 3
    for _ in range(sweeps):
        batch = run.batch()
        found = run.continued.follow(batch)
        check(found, run, batch)
        assert found is first  # at the same addresses


def test_blocks_that_moved_are_found(config):
    run = Run(config, [40, 20])
    run.begin()
    run.sequences[1].blocks[0] = 777
    batch = run.batch()
    check(run.continued.follow(batch), run, batch)


def one_less(batch: Batch) -> Batch:
    return Batch(batch.chunks[1:])


def turned(batch: Batch) -> Batch:
    return Batch(batch.chunks[::-1])


def with_a_prompt(batch: Batch) -> Batch:
    return Batch((*batch.chunks, Chunk(Sequence(9, [7, 8], SamplingParams()), 0, 2)))


def with_a_draft(batch: Batch) -> Batch:
    first, *others = batch.chunks
    return Batch((first._replace(stop=first.stop + 1, draft=(5,)), *others))


def with_a_state(batch: Batch) -> Batch:
    first, *others = batch.chunks
    return Batch((first._replace(saves=3), *others))


def in_another_lane(batch: Batch) -> Batch:
    batch.chunks[0].sequence.lane = 17
    return batch


def again(batch: Batch) -> Batch:
    """A sequence that was preempted and is computed once more, one row in this sweep."""
    first, *others = batch.chunks
    return Batch((Chunk(first.sequence, 3, 4), *others))


CHANGES = (one_less, turned, with_a_prompt, with_a_draft, with_a_state, in_another_lane, again)


@pytest.mark.parametrize("change", CHANGES)
def test_another_batch_is_made_anew(config, change):
    run = Run(config, [6, 9])
    run.begin()
    batch = run.batch()
    assert run.continued.follow(change(batch)) is None


def test_a_sweep_left_out_is_not_followed(config):
    run = Run(config, [6, 9])
    run.begin()
    run.batch()
    assert run.continued.follow(run.batch()) is None


def test_tables_that_are_too_narrow_are_made_anew(config):
    run = Run(config, [TABLE_STEP * BLOCK_TOKENS - 2])
    run.begin()
    batch = run.batch()
    assert run.continued.follow(batch) is None
    assert run.made(batch).micro_batches[0].block_tables.shape == (1, 2 * TABLE_STEP)


def test_prompts_and_micro_batches_are_not_followed(config):
    run = Run(config, [6, 9])
    batch = run.batch()
    run.continued.begin(batch, build_sweep_input(config, batch, 1))
    assert run.continued.follow(run.batch()) is None
    prompt = Sequence(0, [7] * 6, SamplingParams(), output=[])
    prompt.blocks = [1]
    batch = Batch((Chunk(prompt, 0, 6),))
    run.continued.begin(batch, run.made(batch))
    prompt.output.append(4)
    assert run.continued.follow(Batch((Chunk(prompt, 6, 7),))) is None


def test_rows_that_depend_on_chunks_are_made_anew(config):
    run = Run(config, [6])
    batch = run.batch()
    made = run.made(batch)
    rows: MicroBatch = made.micro_batches[0]
    run.continued.begin(batch, replace(made, micro_batches=(replace(rows, chunked=rows),)))
    assert run.continued.follow(run.batch()) is None
