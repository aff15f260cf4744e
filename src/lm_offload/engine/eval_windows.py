"""Cuts a text into windows, so that every token but the first is predicted exactly once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile

from lm_offload.engine.tokenizer import Tokenizer
from lm_offload.errors import RequestError


@dataclass(frozen=True)
class Window:
    """Tokens to compute, and what is to be predicted at the last `len(targets)` of them."""

    token_ids: Sequence[int]
    targets: Sequence[int]

    @property
    def first_row(self) -> int:
        """Position of the first prediction that counts."""
        return len(self.token_ids) - len(self.targets)


def cut_text(tokenizer: Tokenizer, text: str, context: int, max_tokens: int) -> list[Window]:
    """Windows of at most `context` tokens over the first `max_tokens` tokens of `text`.

    Raises RequestError for windows or a text in which nothing can be predicted.
    """
    ids = tokenizer.encode(text)
    pairs = takewhile(lambda pair: pair[0] == pair[1], zip(tokenizer.encode(""), ids, strict=False))
    prefix = [token for token, _ in pairs]  # of every text, as a BOS token is
    ids = ids[: len(prefix) + max_tokens]
    if len(ids) < 2:
        raise RequestError("The text has less than 2 tokens, so none can be predicted; give more.")
    if context < max(len(prefix), 1):
        raise RequestError(
            f"A context of {context} tokens was given; allowed is {max(len(prefix), 1)} and more."
        )
    return list(_windows(ids, prefix, context))


def _windows(ids: Sequence[int], prefix: Sequence[int], context: int) -> Iterator[Window]:
    """Each begins with `prefix`, which `ids` begin with too, or else with the token before."""
    step = context - max(len(prefix), 1) + 1
    for start in range(max(len(prefix), 1), len(ids), step):
        targets = ids[start : start + step]
        head = prefix or ids[start - 1 : start]
        yield Window([*head, *targets[:-1]], targets)
