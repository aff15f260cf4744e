"""Log probabilities of chosen and of likely tokens, from the model's own logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

ROWS_AT_ONCE = 4  # rows of a large vocabulary whose softmax is in memory at once


@dataclass(frozen=True)
class Logprob:
    """Natural logarithm of a token's probability, its rank by likelihood from 1, and its text."""

    logprob: float
    rank: int
    decoded_token: str | None = None  # none without a tokenizer


def logprobs_of(logits: Tensor, chosen: Sequence[int], count: int) -> list[dict[int, Logprob]]:
    """For each row of logits [R, V] its chosen token and the `count` likeliest, by token id."""
    found: list[dict[int, Logprob]] = []
    for start in range(0, len(chosen), ROWS_AT_ONCE):
        stop = start + ROWS_AT_ONCE
        found += _some_rows(logits[start:stop], chosen[start:stop], count)
    return found


def _some_rows(logits: Tensor, chosen: Sequence[int], count: int) -> list[dict[int, Logprob]]:
    table = logits.log_softmax(dim=-1)
    index = logits.new_tensor(chosen).long().unsqueeze(1)
    own = table.gather(1, index)
    ranks = (table > own).sum(dim=1).add(1).tolist()
    values, tokens = table.topk(count, dim=-1)
    rows = zip(tokens.tolist(), values.tolist(), strict=True)
    likely = [
        {
            token: Logprob(value, rank)
            for rank, (token, value) in enumerate(zip(*row, strict=True), 1)
        }
        for row in rows
    ]
    for row, token, value, rank in zip(likely, chosen, own.flatten().tolist(), ranks, strict=True):
        row.setdefault(token, Logprob(value, rank))
    return likely
