"""A small resident model that says what may come next, for all sequences of a sweep together.

Each sequence has a shadow: one of the small model with the same prompt, which is decoded as any
other. When the big model has spoken, the shadow takes over its tokens: keys and values of those
that were right stay, what was wrong is cut off and overwritten by the next step::

    big       a b c | d e X        (d, e) was right, f was not
    shadow    a b c | d e f        computed up to e: X is the one row of its next step

Tokens are drawn with the random numbers of the request, so that a model that agrees with the big
one in its probabilities agrees with it in its tokens, too; at temperature 0 that is greedy.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Sequence as Items
from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary, finalize

import torch
from torch import Tensor

from lm_offload.arch.config import ModelConfig
from lm_offload.engine.diagnosis import explain_bad_logits
from lm_offload.engine.machinery import Machinery
from lm_offload.engine.proposers import Draft, Wanted
from lm_offload.engine.scoring import row_of
from lm_offload.sampling.draw import sample
from lm_offload.sequence import Batch, Chunk, Sequence

LATE_ROWS = 2  # of a sequence in a step when its last draft was right


@dataclass(eq=False)
class _Shadow:
    """The same tokens in the small model, and how many of the output are the big one's."""

    sequence: Sequence
    release: Callable[[], object]  # gives its KV blocks back, at the end of the other at last
    known: int = 0

    def follow(self, sequence: Sequence) -> None:
        """Take over the tokens of `sequence`; computed ones stay up to the first that differs."""
        mine, said = self.sequence, sequence.output
        same = self.known
        while same < min(len(mine.output), len(said)) and mine.output[same] == said[same]:
            same += 1
        mine.output[same:] = said[same:]
        mine.num_computed = min(mine.num_computed, len(mine.prompt) + same, mine.num_tokens - 1)
        self.known = len(said)


class DraftModel:
    """Runs the small model, whose weights and KV cache are resident as its plan says."""

    def __init__(self, machinery: Machinery, config: ModelConfig, vocab_size: int) -> None:
        self._machinery = machinery
        self._config = config
        self._vocab_size = min(vocab_size, config.vocab_size)  # tokens that both models have
        self._has_all = self._vocab_size == vocab_size
        self._shadows: WeakKeyDictionary[Sequence, _Shadow] = WeakKeyDictionary()
        self.step_s: tuple[int, float] | None = None  # sequences and seconds of the last step

    def follow(self, sequence: Sequence) -> Sequence | None:
        """The shadow of a sequence with its tokens; None where there can be none."""
        if (shadow := self._shadows.get(sequence)) is None:
            if (shadow := self._admitted(sequence)) is None:
                return None
            self._shadows[sequence] = shadow
        new = sequence.output[shadow.known :]
        if max(new, default=0) >= self._vocab_size:
            return None
        shadow.follow(sequence)
        return shadow.sequence

    def draft(self, wanted: Items[Wanted]) -> list[Draft]:
        """Tokens that may follow sequences that `follow` was just called for."""
        shadows = [self._shadows[sequence].sequence for sequence, _ in wanted]
        first = [len(shadow.output) for shadow in shadows]
        self._catch_up(shadows)
        for step in range(max(count for _, count in wanted)):
            pairs = zip(shadows, wanted, strict=True)
            self._step([shadow for shadow, (_, count) in pairs if count > step])
        return [tuple(it.output[start:]) for it, start in zip(shadows, first, strict=True)]

    def forget(self, sequence: Sequence) -> None:
        """Give the place of a finished sequence back."""
        if shadow := self._shadows.pop(sequence, None):
            shadow.release()

    def close(self) -> None:
        """Give memory and files back."""
        self._machinery.close()

    def _admitted(self, sequence: Sequence) -> _Shadow | None:
        """A shadow with KV blocks, if there is room for one more and the model takes its prompt."""
        room = self._config.max_positions - len(sequence.prompt)
        if room <= 1 or len(self._shadows) == self._machinery.plan.max_sequences:
            return None
        if max(sequence.prompt) >= self._vocab_size:
            return None
        most = min(sequence.params.most_tokens, room)
        params = replace(sequence.params, max_tokens=most, prompt_logprobs=None)
        rules = sequence.rules if self._has_all else None
        mine = Sequence(sequence.index, sequence.prompt, params, seed=sequence.seed, rules=rules)
        mine.guide = sequence.guide.copy() if sequence.guide and self._has_all else None
        blocks = self._machinery.scheduler.blocks
        if not blocks.admit(mine, mine.max_tokens):
            return None
        return _Shadow(mine, finalize(sequence, blocks.release, mine))

    def _catch_up(self, shadows: Items[Sequence]) -> None:
        """Compute what does not fit into one step, a prompt for example."""
        rows = self._machinery.plan.sweep_tokens
        while sum(shadow.num_uncomputed for shadow in shadows) > rows:
            self._run(_early_chunks(shadows, rows))

    def _step(self, shadows: Items[Sequence]) -> None:
        """One more token for each."""
        chunks = [Chunk(it, it.num_computed, it.num_tokens) for it in shadows]
        start_s = time.perf_counter()
        logits = self._run(chunks)[:, : self._vocab_size]
        tokens = sample(logits, [row_of(shadow) for shadow in shadows])
        for shadow, token in zip(shadows, tokens, strict=True):
            shadow.append(token)
        if all(chunk.stop - chunk.start <= LATE_ROWS for chunk in chunks):
            self.step_s = len(shadows), time.perf_counter() - start_s

    def _run(self, chunks: Iterable[Chunk]) -> Tensor:
        """Logits [R, V] f32 of the chunks that are complete; raises CheckpointError for NaN."""
        batch = Batch(tuple(chunks))
        logits, _ = self._machinery.runner.run(batch, self._machinery.executor)
        if len(logits) and not bool(torch.isfinite(logits.amax(dim=-1)).all()):
            raise explain_bad_logits(self._machinery)
        for chunk in batch.chunks:
            chunk.sequence.num_computed = chunk.stop
        return logits


def _early_chunks(shadows: Items[Sequence], rows: int) -> Iterator[Chunk]:
    """At most `rows` rows, none of them the last of its sequence."""
    for shadow in shadows:
        start = shadow.num_computed
        stop = min(shadow.num_tokens - 1, start + rows)
        if stop > start:
            rows -= stop - start
            yield Chunk(shadow, start, stop)
