"""What a request asks of sampling; names and meaning as in vLLM."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Integral, Real
from typing import Any, Self

from lm_offload.errors import RequestError
from lm_offload.keywords import known_fields
from lm_offload.sampling.param_names import ELSEWHERE
from lm_offload.sampling.param_values import as_biases, as_number, as_tuple, check, is_a, is_finite
from lm_offload.sampling.structured_outputs import StructuredOutputs

MAX_LOGPROBS = 20
MAX_COMPLETIONS = 16384
_WHOLE = ("max_tokens", "top_k", "seed", "n", "logprobs", "prompt_logprobs")
_WHOLE_TOO = ("min_tokens", "truncate_prompt_tokens")
_MAY_BE_NONE = ("max_tokens", "seed", "logprobs", "prompt_logprobs", "truncate_prompt_tokens")
_REAL = ("temperature", "top_p", "min_p")
_PENALTIES = ("repetition_penalty", "presence_penalty", "frequency_penalty")
_SWITCHES = ("ignore_eos", "include_stop_str_in_output", "skip_special_tokens")
_TEXTS = ("stop", "bad_words")
_TOKENS = ("stop_token_ids", "allowed_token_ids")


@known_fields(RequestError, ELSEWHERE)
@dataclass(frozen=True)
class SamplingParams:
    """How to draw tokens and when to stop; raises RequestError for values outside their range.

    Where vLLM has another way to say the default (`top_k=-1`, `stop=None`), that is taken, too.
    Without `max_tokens` (None) output may fill the model's context; without `seed` (None) every
    request draws one of its own, so that the same call gives another text each time.
    """

    max_tokens: int | None = 16
    temperature: float = 0.0  # 0 is greedy
    top_k: int = 0  # 0 or -1 is all
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0  # divides the logits of tokens in prompt or output
    presence_penalty: float = 0.0  # subtracted for each token in the output
    frequency_penalty: float = 0.0  # subtracted for each time a token is in the output
    seed: int | None = 0
    n: int = 1  # completions of each prompt; they differ where the temperature is above 0
    stop: str | Sequence[str] = ()  # kept as a tuple
    stop_token_ids: Sequence[int] = ()  # kept as a tuple
    ignore_eos: bool = False
    logprobs: int | None = None  # most likely tokens to report beside each chosen one
    prompt_logprobs: int | None = None
    min_tokens: int = 0  # until then no end token is drawn, and no stop string ends the text
    logit_bias: Mapping[int, float] | None = field(default=None, hash=False)  # added to logits
    bad_words: str | Sequence[str] = ()  # never completed by their last token; kept as a tuple
    allowed_token_ids: Sequence[int] | None = None  # no other is drawn; kept as a tuple
    include_stop_str_in_output: bool = False  # the text keeps what ended it
    skip_special_tokens: bool = True  # in the text
    truncate_prompt_tokens: int | None = None  # how many to keep, the last ones; -1 is what fits
    structured_outputs: StructuredOutputs | None = None  # what the text is held to

    def __post_init__(self) -> None:
        """Bring values into one form, and check every one."""
        self._unify()
        self._check_types()
        self._check_draw()
        self._check_penalties()
        self._check_lengths()
        for name in _TEXTS:
            words = getattr(self, name)
            check(name, words, all(words), "non-empty strings")
        held = self.structured_outputs
        valid = held is None or isinstance(held, StructuredOutputs)
        check("structured_outputs", held, valid, "none, or StructuredOutputs(...)")
        some = self.allowed_token_ids != ()
        check("allowed_token_ids", self.allowed_token_ids, some, "none, or at least one token id")

    def clone(self, **changes: Any) -> Self:
        """A copy, with other values for `changes`: fields cannot be assigned to."""
        return replace(self, **changes)

    def _unify(self) -> None:
        for name in ("stop", "bad_words", "stop_token_ids"):
            object.__setattr__(self, name, as_tuple(getattr(self, name)))
        if self.allowed_token_ids is not None:
            object.__setattr__(self, "allowed_token_ids", as_tuple(self.allowed_token_ids))
        if self.logit_bias is not None:
            object.__setattr__(self, "logit_bias", as_biases(self.logit_bias))

    def _check_types(self) -> None:
        for name in (*_WHOLE, *_WHOLE_TOO, *_REAL, *_PENALTIES):
            real = name in (*_REAL, *_PENALTIES)
            kind, words = (Real, "a number") if real else (Integral, "a whole number")
            value = getattr(self, name)
            unset = value is None and name in _MAY_BE_NONE
            check(name, value, unset or is_a(value, kind), words)
            if not unset:
                object.__setattr__(self, name, as_number(value, float if real else int))
        if self.top_k == -1:
            object.__setattr__(self, "top_k", 0)
        for name in _TEXTS:
            texts = getattr(self, name)
            check(name, texts, all(isinstance(text, str) for text in texts), "strings")
        for name in _TOKENS:
            tokens = getattr(self, name) or ()
            check(name, tokens, all(is_a(token, Integral) for token in tokens), "token ids")
        for name in _SWITCHES:
            switch = getattr(self, name)
            check(name, switch, isinstance(switch, bool), "True or False")

    def _check_draw(self) -> None:
        finite = is_finite(self.temperature) and self.temperature >= 0
        check("temperature", self.temperature, finite, "0 (greedy) or a positive number")
        check("top_k", self.top_k, self.top_k >= 0, "0 (all) or a positive number")
        check("top_p", self.top_p, 0 < self.top_p <= 1, "above 0 and at most 1")
        check("min_p", self.min_p, 0 <= self.min_p < 1, "at least 0 and below 1")

    def _check_penalties(self) -> None:
        repetition = self.repetition_penalty
        valid = is_finite(repetition) and repetition > 0
        check("repetition_penalty", repetition, valid, "a positive number; 1 is none")
        for name in _PENALTIES[1:]:
            value = getattr(self, name)
            check(name, value, -2 <= value <= 2, "-2 to 2; 0 is none")

    def _check_lengths(self) -> None:
        for name in ("logprobs", "prompt_logprobs"):
            count = getattr(self, name)
            valid = count is None or 0 <= count <= MAX_LOGPROBS
            check(name, count, valid, f"none, or 0 to {MAX_LOGPROBS}")
        check("max_tokens", self.max_tokens, self.most_tokens >= 1, "at least 1")
        least = self.min_tokens
        check("min_tokens", least, 0 <= least <= self.most_tokens, "0 to max_tokens")
        check("n", self.n, 1 <= self.n <= MAX_COMPLETIONS, f"1 to {MAX_COMPLETIONS}")
        kept = self.truncate_prompt_tokens
        valid = kept is None or kept >= 1 or kept == -1
        check("truncate_prompt_tokens", kept, valid, "none, -1 (what fits) or at least 1")

    @property
    def most_tokens(self) -> int:
        """`max_tokens` as a number: without one, more than any context holds."""
        return sys.maxsize if self.max_tokens is None else self.max_tokens

    def kept_tokens(self, max_positions: int) -> int:
        """Tokens of a longer prompt that are kept, in a context of so many positions."""
        kept = self.truncate_prompt_tokens
        return sys.maxsize if kept is None else max_positions - 1 if kept == -1 else kept

    @property
    def has_penalties(self) -> bool:
        """Whether earlier tokens change the logits."""
        return (self.repetition_penalty, self.presence_penalty, self.frequency_penalty) != (1, 0, 0)
