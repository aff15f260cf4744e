"""Preempted sequences on disk: they come back as they were, whatever the disk does meanwhile."""

from __future__ import annotations

import logging
import random
import threading

from hypothesis import given
from hypothesis import strategies as st

from lm_offload.kvcache.blocks import BlockAllocator
from lm_offload.kvcache.cache import blocks_for
from lm_offload.kvcache.swap_choice import Preemption
from lm_offload.scheduler.scheduler import Scheduler
from lm_offload.sequence import Sequence
from tests.scheduler.harness import SHAPES, Disk, Model, make_sequences, run_all


def swap_always(preemption: Preemption) -> bool:
    return True


def strangers(*lengths: int, root: bytes | None = None) -> list[Sequence]:
    """Prompts with nothing in common, and outputs that may become long."""
    shapes = [(index, length - 1, 1, 200, 1) for index, length in enumerate(lengths)]
    return make_sequences(shapes, root, ignore_eos=False)


class Run:
    """A scheduler whose blocks last for few tokens, its model and its disk."""

    def __init__(self, sequences: list[Sequence], blocks: int, slots: int = 99, **disk) -> None:
        self.model = Model()
        self.disk = Disk(self.model, slots, **disk)
        self.allocator = BlockAllocator(blocks)
        self.scheduler = Scheduler(self.allocator, 1000, 8, swap=self.disk, swap_pays=swap_always)
        self.add(sequences)

    def add(self, sequences: list[Sequence]) -> None:
        self.scheduler.add(sequences)
        self.scheduler._lengths.expected_tokens = lambda sequence: sequence.num_tokens

    def sweep(self) -> list[int]:
        """One sweep whose outputs all go on; who was in it."""
        batch = self.scheduler.schedule()
        self.model.run(batch)
        self.scheduler.advance(batch)
        for sequence in batch.sampled:
            sequence.append(0)
        return [chunk.sequence.index for chunk in batch.chunks]

    def sweep_until(self, preemptions: int) -> None:
        while self.scheduler.preemptions < preemptions:
            self.sweep()

    def settle(self) -> None:
        while self.scheduler._swaps.wait():
            pass

    def end(self, sequence: Sequence) -> None:
        sequence.finish_reason = "stop"
        self.scheduler.retire_finished()


@given(
    SHAPES,
    st.integers(0, 8),
    st.integers(1, 5),
    st.integers(0, 60),
    st.sampled_from([b"r", None]),
    st.integers(0, 40),
    st.sampled_from([5, 30, 1 << 30]),
    st.randoms(use_true_random=False),
)
def test_the_same_tokens_whatever_goes_to_the_disk(
    shapes, spare, in_flight, more_rows, root, slots, breaks_at, chance: random.Random
):
    wanted = make_sequences(shapes, root)
    roomy = BlockAllocator(sum(blocks_for(sequence.max_tokens) for sequence in wanted))
    run_all(wanted, Scheduler(roomy, 10_000, len(wanted)), roomy)
    sequences, model = make_sequences(shapes, root, ignore_eos=False), Model()
    allocator = BlockAllocator(max(blocks_for(one.max_tokens) for one in sequences) + spare)
    scheduler = Scheduler(
        allocator,
        in_flight + more_rows,
        in_flight,
        swap=Disk(model, slots, breaks_at),
        swap_pays=lambda preemption: chance.random() < 0.8,
    )
    run_all(sequences, scheduler, allocator, model)
    assert [one.output for one in sequences] == [one.output for one in wanted]
    assert 0 <= scheduler.swaps <= scheduler.preemptions
    assert scheduler._swaps._free.num_free == slots


def test_only_tokens_of_the_last_block_are_computed_again():
    old, young = sequences = strangers(14, 40)
    run = Run(sequences, blocks=6)
    run.sweep_until(preemptions=1)
    assert (run.scheduler.swaps, len(run.disk.written)) == (1, 3)
    computed = young.redone_to
    run.settle()
    run.end(old)
    run.sweep()
    assert run.model.redone == computed - 48
    assert len(young.blocks) >= 4


def test_who_is_alone_is_waited_for_and_the_others_go_on_meanwhile():
    old, other, young = sequences = strangers(14, 14, 40)
    run = Run(sequences, blocks=7)
    run.sweep_until(preemptions=1)
    assert run.sweep() == [0, 1]
    run.end(old)
    run.end(other)
    assert run.sweep() == [2]
    assert young.num_computed > 40


def test_a_sequence_that_comes_back_does_not_hold_up_the_others():
    sequences = strangers(14, 14, 40)
    run = Run(sequences, blocks=7)
    run.sweep_until(preemptions=1)
    run.settle()
    run.disk._thread.submit(gate := Gate())
    run.end(sequences[1])
    assert run.sweep() == [0]  # 2 is admitted and being read
    assert run.scheduler._swaps.is_arriving(sequences[2])
    gate.open()
    run.settle()
    assert run.sweep() == [0, 2]


def test_preempted_again_it_writes_only_what_is_new():
    old, other, young = sequences = strangers(14, 14, 40)
    run = Run(sequences, blocks=7)
    run.sweep_until(preemptions=1)
    assert len(run.disk.written) == 3
    run.settle()
    run.end(other)
    run.sweep()
    run.settle()
    run.sweep_until(preemptions=2)
    assert run.scheduler.swaps == 2
    assert len(run.disk.written) == young.redone_to // 16 > 3
    run.end(old)
    assert run.sweep() == [2]


def test_who_is_preempted_on_its_way_back_is_still_on_disk():
    old, other, _ = sequences = strangers(15, 14, 40)
    run = Run(sequences, blocks=7)
    run.sweep_until(preemptions=1)
    run.settle()
    run.disk._thread.submit(gate := Gate())
    run.end(other)
    run.sweep_until(preemptions=2)  # the first read has not begun
    gate.open()
    assert run.scheduler.swaps == 2
    assert len(run.disk.written) == 3
    run.end(old)
    assert run.sweep() == [2]
    assert run.model.redone <= 16


def test_blocks_that_others_use_are_not_written():
    sequences = make_sequences([(0, 40, 1, 200, 3)], b"root", ignore_eos=False)
    run = Run(sequences, blocks=8)
    run.sweep_until(preemptions=1)
    assert len(run.disk.written) == sequences[2].redone_to // 16 - 2


def test_what_is_still_in_memory_is_not_read():
    _, other, young = sequences = strangers(14, 14, 40, root=b"root")
    run = Run(sequences, blocks=7)
    run.sweep_until(preemptions=1)
    run.settle()
    run.end(other)
    assert run.sweep() == [0, 2]
    assert young.num_shared_blocks == 3


def test_a_disk_that_fails_is_left_alone_for_the_rest_of_the_run(caplog):
    sequences = strangers(14, 40, 40)
    run = Run(sequences, blocks=9, breaks_at=0)
    with caplog.at_level(logging.WARNING):
        run.sweep_until(preemptions=1)
        run.settle()
        run.sweep_until(preemptions=2)
    assert run.scheduler.swaps == 0
    assert [record.message for record in caplog.records] == [
        "The disk failed. Sequences that make room are computed again."
    ]
    run.end(sequences[0])
    assert run.sweep() == [1]
    assert run.model.redone == sequences[1].redone_to


def test_without_slots_everything_is_computed_again():
    sequences = strangers(14, 40)
    run = Run(sequences, blocks=6, slots=2)
    run.sweep_until(preemptions=1)
    assert run.scheduler.swaps == 0
    assert run.disk.written == []


def test_dropped_sequences_leave_nothing_behind():
    sequences = strangers(14, 14, 40)
    run = Run(sequences, blocks=7)
    run.sweep_until(preemptions=1)
    run.scheduler.drop_all()
    assert run.allocator.num_free == 7
    assert run.scheduler._swaps._free.num_free == 99
    run.add(again := strangers(14, 14, 40))
    assert run.sweep() == [0, 1, 2]
    assert again[2].num_computed == 40


class Gate:
    """A move that takes until it is opened."""

    def __init__(self) -> None:
        self._opened = threading.Event()

    def __call__(self) -> None:
        self._opened.wait()

    def open(self) -> None:
        self._opened.set()
