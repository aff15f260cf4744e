"""Which rows of a sweep's logits belong to which sequence, and what is recorded of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from operator import attrgetter, itemgetter

import numpy as np
import torch
from torch import Tensor

from lm_offload.sampling.draw import Row
from lm_offload.sampling.logprobs import logprobs_of
from lm_offload.sequence import Batch, Chunk, Sequence

_IS_SCORED = attrgetter("is_scored")


def row_of(sequence: Sequence) -> Row:
    """What the draw of the next token of `sequence` depends on beside the logits."""
    it = sequence
    return Row(it.params, it.seed, it.prompt, it.output, it.rules, it.guide)


def are_finite(logits: Tensor, likeliest: list[int]) -> bool:
    """Whether tokens can be drawn from logits [R, V]: the largest of each row tells of NaN, too."""
    largest = logits.numpy()[np.arange(len(likeliest)), likeliest]
    return bool(np.isfinite(largest).all())


def is_scored(batch: Batch) -> bool:
    """Whether logits of any prompt are wanted; all others are those that tokens are drawn from."""
    return any(map(_IS_SCORED, batch.chunks))


def sampled_rows(batch: Batch) -> list[int]:
    """The rows of logits that tokens are drawn from, where some are of prompts."""
    return [
        row
        for chunk, _, last in _spans(batch)
        if chunk.completes
        for row in range(last - 1 - len(chunk.draft), last)
    ]


def score_prompts(batch: Batch, logits: Tensor) -> None:
    """Hand the logits of prompts to who wants them; they are overwritten by the next sweep."""
    for chunk, first, last in _spans(batch):
        if chunk.is_scored:
            consume = chunk.sequence.on_logits or partial(_record, chunk.sequence)
            consume(chunk.stop - chunk.num_logits, logits[first:last])


def _record(sequence: Sequence, start: int, logits: Tensor) -> None:
    """Record the log probabilities of the prompt tokens after each of these rows."""
    following = list(sequence.prompt[start + 1 : start + 1 + len(logits)])
    count = sequence.params.prompt_logprobs or 0
    sequence.prompt_logprobs += logprobs_of(logits[: len(following)], following, count)


@dataclass(frozen=True)
class Scored:
    """A token of a sequence that wants its log probability, and its row of logits."""

    sequence: Sequence
    token: int
    row: int


def score_outputs(scored: Iterable[Scored], logits: Tensor) -> None:
    """Record log probabilities of tokens, in order of their rows of logits, several at once."""
    for run in _runs(scored):
        first, count = run[0].row, run[0].sequence.params.logprobs or 0
        rows = logits[first : first + len(run)]
        found = logprobs_of(rows, [one.token for one in run], count)
        for one, logprobs in zip(run, found, strict=True):
            one.sequence.logprobs.append(logprobs)


def _runs(scored: Iterable[Scored]) -> Iterator[list[Scored]]:
    """Neighbouring rows of which as many likely tokens are wanted."""
    keyed = (
        (one.row - place, one.sequence.params.logprobs, one) for place, one in enumerate(scored)
    )
    for _, run in groupby(keyed, key=itemgetter(0, 1)):
        yield [one for *_, one in run]


def without(batch: Batch, logits: Tensor, left_out: Collection[Sequence]) -> tuple[Batch, Tensor]:
    """A sweep's batch and its logits less those of some sequences."""
    rows = [
        row
        for chunk, first, last in _spans(batch)
        if chunk.sequence not in left_out
        for row in range(first, last)
    ]
    chunks = (chunk for chunk in batch.chunks if chunk.sequence not in left_out)
    return Batch(tuple(chunks)), logits[torch.tensor(rows, dtype=torch.long)]


def _spans(batch: Batch) -> Iterator[tuple[Chunk, int, int]]:
    """Each chunk that has logits, with the first and one past the last of its rows of logits."""
    start = 0
    for chunk in batch.chunks:
        if count := chunk.num_logits:
            yield chunk, start, start + count
        start += count
