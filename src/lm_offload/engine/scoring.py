"""Which rows of a sweep's logits belong to which sequence, and what is recorded of them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from collections.abc import Sequence as Items
from functools import partial

import torch
from torch import Tensor

from lm_offload.sampling.draw import Row
from lm_offload.sampling.logprobs import logprobs_of
from lm_offload.sequence import Batch, Chunk, Sequence


def row_of(sequence: Sequence) -> Row:
    """What the draw of the next token of `sequence` depends on beside the logits."""
    return Row(sequence.params, sequence.seed, sequence.prompt, sequence.output)


def sampled_logits(batch: Batch, logits: Tensor) -> Tensor:
    """The rows of logits [R, V] that tokens are drawn from; all of them but where prompts score."""
    rows = [
        row
        for chunk, _, last in _spans(batch)
        if chunk.completes
        for row in range(last - 1 - len(chunk.draft), last)
    ]
    return logits if len(rows) == len(logits) else logits[torch.tensor(rows, dtype=torch.long)]


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


def score_output(sequence: Sequence, tokens: Items[int], logits: Tensor, first: int) -> None:
    """Record the log probabilities of tokens, whose logits begin at row `first`, where wanted."""
    if (count := sequence.params.logprobs) is not None:
        sequence.logprobs += logprobs_of(logits[first : first + len(tokens)], tokens, count)


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
        if chunk.num_logits:
            yield chunk, start, start + chunk.num_logits
        start += chunk.num_logits
