"""Who takes part in the next sweep: every running sequence, and prompts as far as they fit.

A sequence is admitted when the KV blocks of its expected length can be had: its longest where
nothing ends it before, else what the ended outputs of the run let expect. One that becomes longer
takes more as it grows. When there are none, those held for tokens to come are given back, then the
youngest sequence is preempted: it waits again, first in line, and is computed anew as a prompt
with all its tokens, or is read from the disk where it was swapped to. So the oldest always goes on,
and as every sequence fits into an empty cache, each finishes. Admission is in order of arrival,
which is also the order of `_running`.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Collection, Iterable, Mapping

from lm_offload.errors import StorageError
from lm_offload.kvcache.blocks import BlockAllocator
from lm_offload.kvcache.kept_states import KeptStates
from lm_offload.kvcache.shared_blocks import Restore, SharedBlocks, restore_none
from lm_offload.kvcache.stateful_blocks import StatefulBlocks
from lm_offload.kvcache.swap_choice import SwapChoice, swap_never
from lm_offload.kvcache.swap_file import NO_SLOTS, SwapStore
from lm_offload.kvcache.two_memories import TwoMemories
from lm_offload.quant.kv_format import BLOCK_TOKENS
from lm_offload.scheduler.chunks import next_batch
from lm_offload.scheduler.losses import Losses
from lm_offload.scheduler.output_lengths import OutputLengths
from lm_offload.scheduler.swapping import Swapping
from lm_offload.sequence import Batch, Sequence


class Scheduler:
    """Waiting and running sequences, and the KV blocks they hold."""

    def __init__(
        self,
        allocator: BlockAllocator,
        max_tokens: int,
        max_sequences: int,
        scored_rows: int = 0,
        restore: Restore = restore_none,
        shares_in_sweep: bool = True,
        swap: SwapStore = NO_SLOTS,
        swap_pays: SwapChoice = swap_never,
        more: BlockAllocator | None = None,
        kept: KeptStates | None = None,
    ) -> None:
        """`more` are blocks in another memory, of sequences that `allocator` has no room for.

        `kept` are states behind prefixes, without which these are of no use, if layers have any.
        """
        own = SharedBlocks(allocator, restore)
        if kept is not None:
            own = StatefulBlocks(allocator, kept, shares_in_sweep)
        self.blocks = TwoMemories(own, SharedBlocks(more)) if more else own
        self._swaps = Swapping(self.blocks, swap, swap_pays)
        self._lanes = BlockAllocator(max_sequences)
        self._shares_in_sweep = shares_in_sweep
        self._max_tokens = max_tokens  # rows of a sweep
        self._max_sequences = max_sequences
        self._logit_rows = max_sequences + scored_rows
        self._waiting: deque[Sequence] = deque()
        self._running: list[Sequence] = []
        self._lengths = OutputLengths()
        self._may_grow = False  # whether a running sequence may need more blocks than it has
        self.preemptions = 0  # of the run
        self.losses = Losses()

    def add(self, sequences: Iterable[Sequence]) -> None:
        """Queue sequences; each must fit into an empty KV cache. A run begins if none is left."""
        if not self.has_work:
            self._lengths, self._may_grow, self.preemptions = OutputLengths(), False, 0
            self._swaps.begin_run()
        self._waiting.extend(sequences)

    @property
    def has_work(self) -> bool:
        """Whether a sequence is unfinished."""
        return bool(self._waiting or self._running)

    @property
    def swaps(self) -> int:
        """Preemptions of the run that went to the disk."""
        return self._swaps.count

    def schedule(self) -> Batch:
        """The next sweep: one token of each decode, then prompts as far as they fit."""
        self._swaps.settle()
        batch = self._next_batch()
        while not batch.chunks and self._swaps.wait():
            batch = self._next_batch()
        return batch

    def _next_batch(self) -> Batch:
        if self._may_grow:
            self._grow()
        while stranded := next(filter(self.blocks.is_stranded, self._running), None):
            self._preempt(stranded)  # who waits for it may be the next
        self._admit()
        there = [one for one in self._running if not self._swaps.is_arriving(one)]
        rows, logits = self._max_tokens, self._logit_rows
        return next_batch(there, self.blocks, rows, logits, self._shares_in_sweep)

    def _admit(self) -> None:
        while self._waiting and len(self._running) < self._max_sequences:
            sequence = self._waiting[0]
            length = self._lengths.expected_tokens(sequence)
            if not self.blocks.admit(sequence, length):
                if self._running or self._swaps.is_leaving or not self.losses.has_any:
                    return
                self._give_up(self._waiting.popleft())  # too few blocks are left
                continue
            self._may_grow |= length < sequence.max_tokens
            self._waiting.popleft()
            insort(self._running, sequence, key=_arrival)
            (sequence.lane,) = self._lanes.allocate(1)
            self._swaps.bring_back(sequence)

    def _grow(self) -> None:
        """Blocks for the tokens that came last, the oldest sequence first."""
        for sequence in [*self._running]:  # the youngest leave meanwhile
            if sequence.num_tokens > len(sequence.blocks) * BLOCK_TOKENS:
                self._extend(sequence)

    def _extend(self, sequence: Sequence) -> None:
        length = self._lengths.expected_tokens(sequence)
        while sequence.blocks and not self.blocks.extend(sequence, length):
            if not (self._trim_youngest() or self._swaps.wait_for_room()):
                self._preempt(self._youngest_beside(sequence))

    def _youngest_beside(self, sequence: Sequence) -> Sequence:
        """Of those with blocks in the same memory; may be itself."""
        home = self.blocks.home_of(sequence)
        return next(it for it in reversed(self._running) if self.blocks.home_of(it) == home)

    def _trim_youngest(self) -> bool:
        """Take from one sequence the blocks for tokens to come; whether any had some."""
        return any(self.blocks.trim(sequence) for sequence in reversed(self._running))

    def _preempt(self, sequence: Sequence) -> None:
        self._running.remove(sequence)
        self._swaps.release(sequence, self._running)
        self._lanes.free([sequence.lane])
        self._requeue(sequence)

    def _requeue(self, sequence: Sequence) -> None:
        sequence.restart()
        insort(self._waiting, sequence, key=_arrival)
        self.preemptions += 1

    def holders(self, blocks: Collection[int]) -> list[Sequence]:
        """The sequences that have one of these blocks."""
        wanted = set(blocks)
        return [one for one in self._running if not wanted.isdisjoint(one.blocks)]

    def lose(self, sequences: Iterable[Sequence], lost: Mapping[int, StorageError]) -> None:
        """Blocks are lost, and what `sequences` computed with them: they begin again elsewhere.

        Who loses something too often is given up, as is one for which too few blocks are left.
        """
        self.blocks.withdraw(lost)
        self.losses.note(lost)
        for sequence in sequences:
            self._running.remove(sequence)
            self._release(sequence)
            if self.losses.may_try_again(sequence):
                self._requeue(sequence)
            else:
                self._give_up(sequence)

    def _give_up(self, sequence: Sequence) -> None:
        self._swaps.forget(sequence)
        self.losses.give_up(sequence)

    def advance(self, batch: Batch) -> None:
        """Record that the K and V of the known tokens of `batch` are in the cache."""
        for chunk in batch.chunks:
            chunk.sequence.num_computed = chunk.known_stop
            self.blocks.note_computed(chunk.sequence, chunk.start)

    def retire_finished(self) -> list[Sequence]:
        """Take out the sequences that have a finish reason and free their blocks."""
        finished = [sequence for sequence in self._running if sequence.finish_reason]
        for sequence in finished:
            self._release(sequence)
        self._running = [sequence for sequence in self._running if not sequence.finish_reason]
        if finished:
            self._lengths.observe(finished, self._running)
        return finished

    def drop(self, sequences: Iterable[Sequence]) -> None:
        """Forget unfinished sequences, whether they run or wait."""
        for sequence in sequences:
            if sequence in self._running:
                self._running.remove(sequence)
                self._release(sequence)
            else:
                self._waiting.remove(sequence)
                self._swaps.forget(sequence)

    def drop_all(self) -> None:
        """Forget every sequence, after an error or an interruption."""
        self._swaps.drop_all()
        self.drop([*self._running])
        self._waiting.clear()

    def _release(self, sequence: Sequence) -> None:
        self._swaps.forget(sequence)
        self.blocks.release(sequence)
        self._lanes.free([sequence.lane])


def _arrival(sequence: Sequence) -> int:
    return sequence.index
