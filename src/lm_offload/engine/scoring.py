"""Which rows of a sweep's logits belong to which sequence, and what is recorded of them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from lm_offload.sampling.draw import Row
from lm_offload.sampling.logprobs import logprobs_of
from lm_offload.sequence import Batch, Chunk, Sequence


def row_of(sequence: Sequence) -> Row:
    """What the draw of the next token of `sequence` depends on beside the logits."""
    return Row(sequence.params, sequence.seed, sequence.prompt, sequence.output)


def sampled_logits(batch: Batch, logits: Tensor) -> Tensor:
    """The rows of logits [R, V] that a token is drawn from; all of them but where prompts score."""
    rows = [last - 1 for chunk, _, last in _spans(batch) if chunk.completes]
    return logits if len(rows) == len(logits) else logits[torch.tensor(rows, dtype=torch.long)]


def score_prompts(batch: Batch, logits: Tensor) -> None:
    """Record the log probabilities of prompt tokens where they are asked for."""
    for chunk, first, _ in _spans(batch):
        if chunk.is_scored:
            sequence = chunk.sequence
            following = list(sequence.prompt[chunk.start + 1 : chunk.stop + 1])
            count = sequence.params.prompt_logprobs or 0
            rows = logits[first : first + len(following)]
            sequence.prompt_logprobs += logprobs_of(rows, following, count)


def score_outputs(sequences: list[Sequence], tokens: list[int], logits: Tensor) -> None:
    """Record the log probabilities of chosen tokens where they are asked for."""
    for row, (sequence, token) in enumerate(zip(sequences, tokens, strict=True)):
        if (count := sequence.params.logprobs) is not None:
            sequence.logprobs += logprobs_of(logits[row : row + 1], [token], count)


def _spans(batch: Batch) -> Iterator[tuple[Chunk, int, int]]:
    """Each chunk that has logits, with the first and one past the last of its rows of logits."""
    start = 0
    for chunk in batch.chunks:
        if chunk.num_logits:
            yield chunk, start, start + chunk.num_logits
        start += chunk.num_logits
