from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lm_offload.arch.config import load_config
from lm_offload.kvcache.cache import BLOCK_TOKENS, blocks_for
from lm_offload.pipeline.micro_batches import build_sweep_input, divided, on_device
from lm_offload.sampling import SamplingParams
from lm_offload.sequence import Batch, Chunk, Sequence
from tests.toy import VOCAB_SIZE


@pytest.fixture(scope="module")
def config(toy):
    return load_config(toy("llama"))


@st.composite
def batches(draw):
    """Sequences with scattered KV blocks, each with a chunk somewhere in its known tokens."""
    chunks, free = [], draw(st.permutations(range(40)))
    for index in range(draw(st.integers(1, 5))):
        prompt = draw(st.lists(st.integers(0, VOCAB_SIZE - 1), min_size=1, max_size=60))
        output = draw(st.lists(st.integers(0, VOCAB_SIZE - 1), max_size=40))
        sequence = Sequence(index, prompt, SamplingParams(), output)
        count = blocks_for(sequence.num_tokens)
        sequence.blocks, free = list(free[:count]), free[count:]
        start = draw(st.integers(0, sequence.num_tokens - 1))
        stop = draw(st.integers(start + 1, sequence.num_tokens))
        chunks.append(Chunk(sequence, start, stop))
    return Batch(tuple(chunks))


@given(batches(), st.integers(1, 70))
def test_micro_batches_cut_the_rows_of_a_sweep(config, batch, max_rows):
    sweep = build_sweep_input(config, batch, max_rows)
    edges = [(rows.start, rows.stop) for rows in sweep.micro_batches]
    assert edges[0][0] == 0
    assert edges[-1][1] == batch.num_tokens == len(sweep.token_ids)
    assert all(before[1] == after[0] for before, after in itertools.pairwise(edges))
    assert {stop - start for start, stop in edges[:-1]} <= {max_rows}
    assert edges[-1][1] - edges[-1][0] <= max_rows


@given(batches(), st.integers(1, 70), st.integers(1, 200))
def test_a_micro_batch_ends_with_the_first_turn(config, batch, max_rows, turn_rows):
    sweep = build_sweep_input(config, batch, max_rows, turn_rows=turn_rows)
    stops = [rows.stop for rows in sweep.micro_batches]
    assert min(turn_rows, batch.num_tokens) in stops
    assert stops[-1] == batch.num_tokens
    assert all(rows.num_tokens <= max_rows for rows in sweep.micro_batches)
    turns = [len(range(0, min(turn_rows, stops[-1]), max_rows))]
    turns.append(len(range(turn_rows, stops[-1], max_rows)))
    assert len(stops) == sum(turns)


def test_waves_are_apart_and_states_belong_to_the_ends_of_a_chunk(config):
    first, second = (Sequence(i, [1] * 40, SamplingParams(), lane=i + 5) for i in range(2))
    for sequence in (first, second):
        sequence.blocks = [0, 1, 2]
    chunks = (
        Chunk(first, 0, 32, saves=7),
        Chunk(first, 32, 40, wave=1),
        Chunk(second, 32, 40, wave=1, loads=7),
    )
    sweep = build_sweep_input(config, Batch(chunks), 20)
    assert [rows.num_tokens for rows in sweep.micro_batches] == [20, 12, 16]
    assert [rows.saves for rows in sweep.micro_batches] == [(), ((5, 7),), ()]
    assert [rows.loads for rows in sweep.micro_batches] == [(), (), ((7, 6),)]


@given(batches(), st.data())
def test_a_micro_batch_is_divided_between_sequences(config, batch, data):
    first = data.draw(st.integers(0, len(batch.chunks)))
    (rows,) = build_sweep_input(config, batch, 1000).micro_batches
    chunks = batch.chunks[:first], batch.chunks[first:]
    found = divided(rows, sum(chunk.stop - chunk.start for chunk in chunks[0]))
    assert [part is not None for part in found] == [bool(part) for part in chunks]
    start = 0
    for part, own in zip(found, chunks, strict=True):
        if part is None:
            continue
        (wanted,) = build_sweep_input(config, Batch(own), 1000).micro_batches
        assert (part.start, part.num_tokens) == (start, wanted.num_tokens)
        for name in ("positions", "query_starts", "context_lens", "slots"):
            assert getattr(part, name).tolist() == getattr(wanted, name).tolist()
        tables, width = part.block_tables, wanted.block_tables.shape[1]
        assert tables[:, :width].tolist() == wanted.block_tables.tolist()
        assert tables.is_contiguous()
        start = part.stop


@given(batches(), st.integers(1, 70))
def test_each_row_knows_its_token_position_and_slot(config, batch, max_rows):
    sweep = build_sweep_input(config, batch, max_rows)
    positions = torch.cat([rows.positions for rows in sweep.micro_batches]).tolist()
    slots = torch.cat([rows.slots for rows in sweep.micro_batches]).tolist()
    wanted = [(c.sequence, p) for c in batch.chunks for p in range(c.start, c.stop)]
    for row, (sequence, position) in enumerate(wanted):
        assert positions[row] == position
        assert int(sweep.token_ids[row]) == (sequence.prompt + sequence.output)[position]
        block, offset = divmod(slots[row], BLOCK_TOKENS)
        assert (block, offset) == (
            sequence.blocks[position // BLOCK_TOKENS],
            position % BLOCK_TOKENS,
        )


@given(batches(), st.integers(1, 70))
def test_attention_sees_each_sequence_up_to_its_last_row(config, batch, max_rows):
    by_block = {c.sequence.blocks[0]: c.sequence for c in batch.chunks}
    for rows in build_sweep_input(config, batch, max_rows).micro_batches:
        starts = rows.query_starts.tolist()
        assert (starts[0], starts[-1]) == (0, rows.num_tokens)
        for index, length in enumerate(rows.context_lens.tolist()):
            assert length == int(rows.positions[starts[index + 1] - 1]) + 1
            sequence = by_block[int(rows.block_tables[index, 0])]
            used = blocks_for(length)
            assert rows.block_tables[index, :used].tolist() == sequence.blocks[:used]


@given(batches(), st.integers(1, 70))
def test_logits_are_wanted_of_last_known_tokens(config, batch, max_rows):
    sweep = build_sweep_input(config, batch, max_rows)
    rows, row = [], 0
    for chunk in batch.chunks:
        row += chunk.stop - chunk.start
        if chunk.stop == chunk.sequence.num_tokens:
            rows.append(row - 1)
    assert sweep.logit_rows.tolist() == rows
    assert len(rows) == len(batch.sampled)


@given(batches())
def test_index_tensors_have_the_types_that_kernels_read(config, batch):
    for rows in build_sweep_input(config, batch, 8).micro_batches:
        narrow = (rows.query_starts, rows.context_lens, rows.block_tables)
        assert {tensor.dtype for tensor in narrow} == {torch.int32}
        assert {rows.positions.dtype, rows.slots.dtype} == {torch.int64}
        assert all(tensor.is_contiguous() for tensor in (*narrow, rows.slots))


def test_all_that_kernels_read_goes_to_the_device(config):
    """A pointer to host memory would fail in the first kernel of a GPU."""
    sequence = Sequence(0, [1, 2, 3], SamplingParams(), [])
    sequence.blocks = [0]
    batch, meta = Batch((Chunk(sequence, 0, 3),)), torch.device("meta")
    sweep = on_device(build_sweep_input(config, batch, 8), meta, meta)
    (rows,) = sweep.micro_batches
    read = rows.query_starts, rows.context_lens, rows.block_tables, rows.slots, *rows.rotary[0]
    assert all(tensor.is_meta for tensor in (*read, sweep.logit_rows))
    assert not any(tensor.is_meta for tensor in (rows.positions, sweep.token_ids))
