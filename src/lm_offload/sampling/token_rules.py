"""Tokens that a request forbids or favours, as tensors that are made once for all its tokens."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lm_offload.errors import RequestError
from lm_offload.sampling.params import SamplingParams

if TYPE_CHECKING:
    from torch import Tensor

FORBIDDEN = -math.inf
Words = Collection[Sequence[int]]  # the tokens of each, at least one


@dataclass(frozen=True)
class TokenRules:
    """What is done to logits before penalties, in vLLM's order: tokens are i64 ids, maybe none."""

    allowed: Tensor | None  # all others are forbidden
    banned: Tensor
    words: WordEnds
    min_tokens: int
    ends: Tensor  # forbidden until there are `min_tokens`
    biased: Tensor
    bias: Tensor  # f32, of each of these

    def apply(self, logits: Tensor, output: Sequence[int]) -> None:
        """Change logits [V] of the token after `output` in place; one at least stays possible."""
        if self.allowed is not None:
            kept = logits[self.allowed]
            logits.fill_(FORBIDDEN)
            logits[self.allowed] = kept
        logits[self.banned] = FORBIDDEN
        if completing := self.words.completing(output):
            logits[completing] = FORBIDDEN
        if len(output) < self.min_tokens:
            logits[self.ends] = FORBIDDEN
        logits[self.biased] += self.bias


class WordEnds:
    """Finds the last tokens of words by the tokens before them."""

    def __init__(self, words: Words) -> None:
        self.last_tokens = {word[-1] for word in words}
        self._by_token: dict[int, list[tuple[list[int], int]]] = {}  # the one before the last
        for *before, last in words:
            self._by_token.setdefault(before[-1], []).append((before, last))

    def completing(self, output: Sequence[int]) -> list[int]:
        """Tokens that would complete a word after `output`."""
        likely = self._by_token.get(output[-1], []) if output else []
        return [last for before, last in likely if list(output[-len(before) :]) == before]


def token_rules(
    params: SamplingParams, vocab_size: int, end_tokens: Iterable[int], words: Words
) -> TokenRules | None:
    """The rules of a request, none where it has none; `words` are the tokens of its `bad_words`.

    Raises RequestError for tokens that are not in the vocabulary, and where no token may be left.
    """
    bias = params.logit_bias or {}
    words = [word for word in words if max(word) < vocab_size]  # others are never drawn
    if params.allowed_token_ids is None and not (words or bias or params.min_tokens):
        return None
    _check_in_vocabulary("allowed_token_ids", params.allowed_token_ids or (), vocab_size)
    _check_in_vocabulary("logit_bias", bias, vocab_size)
    ends = {*end_tokens, *params.stop_token_ids} if params.min_tokens else ()
    allowed = params.allowed_token_ids
    rules = TokenRules(
        allowed=None if allowed is None else _ids(allowed),
        banned=_ids({word[0] for word in words if len(word) == 1}),
        words=WordEnds([word for word in words if len(word) > 1]),
        min_tokens=params.min_tokens,
        ends=_ids(token for token in ends if 0 <= token < vocab_size),
        biased=_ids(bias),
        bias=_floats(bias.values()),
    )
    _check_some_left(rules, vocab_size)
    return rules


def _ids(tokens: Iterable[int]) -> Tensor:
    import torch

    return torch.tensor([*tokens], dtype=torch.long)


def _floats(values: Iterable[float]) -> Tensor:
    import torch

    return torch.tensor([*values], dtype=torch.float32)


def _check_in_vocabulary(name: str, tokens: Iterable[int], vocab_size: int) -> None:
    outside = [token for token in tokens if not 0 <= token < vocab_size]
    if outside:
        raise RequestError(
            f"{name} has the token id {outside[0]}, outside 0 to {vocab_size - 1}; use the "
            "tokenizer of this model."
        )


def _check_some_left(rules: TokenRules, vocab_size: int) -> None:
    """Also after any output: as if it always ended with the beginning of every word."""
    logits = _floats([0.0]).repeat(vocab_size)
    rules.apply(logits, ())
    logits[_ids(rules.words.last_tokens)] = FORBIDDEN
    if not bool((logits > FORBIDDEN).any()):
        raise RequestError(
            "allowed_token_ids, bad_words, min_tokens and logit_bias together may leave no token "
            "to draw; allow more."
        )
