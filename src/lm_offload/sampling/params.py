"""What a request asks of sampling; names and meaning as in vLLM."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real

from lm_offload.errors import RequestError

MAX_LOGPROBS = 20
MAX_COMPLETIONS = 16384
_WHOLE = ("max_tokens", "top_k", "seed", "n", "logprobs", "prompt_logprobs")
_MAY_BE_NONE = ("max_tokens", "seed", "logprobs", "prompt_logprobs")
_REAL = ("temperature", "top_p", "min_p")
_PENALTIES = ("repetition_penalty", "presence_penalty", "frequency_penalty")


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

    def __post_init__(self) -> None:
        """Bring values into one form, and check every one."""
        self._unify()
        self._check_types()
        self._check_draw()
        self._check_penalties()
        for name in ("logprobs", "prompt_logprobs"):
            count = getattr(self, name)
            valid = count is None or 0 <= count <= MAX_LOGPROBS
            _check(name, count, valid, f"none, or 0 to {MAX_LOGPROBS}")
        _check("max_tokens", self.max_tokens, self.most_tokens >= 1, "at least 1")
        _check("n", self.n, 1 <= self.n <= MAX_COMPLETIONS, f"1 to {MAX_COMPLETIONS}")
        _check("stop", self.stop, all(self.stop), "non-empty strings")

    def _unify(self) -> None:
        if self.top_k == -1:
            object.__setattr__(self, "top_k", 0)
        for name in ("stop", "stop_token_ids"):
            value = getattr(self, name)
            several = isinstance(value, Iterable) and not isinstance(value, (str, bytes, Mapping))
            unified = () if value is None else tuple(value) if several else (value,)
            object.__setattr__(self, name, unified)

    def _check_types(self) -> None:
        for name in (*_WHOLE, *_REAL, *_PENALTIES):
            kind, words = (Integral, "a whole number") if name in _WHOLE else (Real, "a number")
            value = getattr(self, name)
            unset = value is None and name in _MAY_BE_NONE
            right = isinstance(value, kind) and not isinstance(value, bool)
            _check(name, value, unset or right, words)
        words_only = all(isinstance(word, str) for word in self.stop)
        _check("stop", self.stop, words_only, "strings")
        ids_only = all(isinstance(token, Integral) for token in self.stop_token_ids)
        _check("stop_token_ids", self.stop_token_ids, ids_only, "token ids")
        switch = isinstance(self.ignore_eos, bool)
        _check("ignore_eos", self.ignore_eos, switch, "True or False")

    def _check_draw(self) -> None:
        finite = _is_finite(self.temperature) and self.temperature >= 0
        _check("temperature", self.temperature, finite, "0 (greedy) or a positive number")
        _check("top_k", self.top_k, self.top_k >= 0, "0 (all) or a positive number")
        _check("top_p", self.top_p, 0 < self.top_p <= 1, "above 0 and at most 1")
        _check("min_p", self.min_p, 0 <= self.min_p < 1, "at least 0 and below 1")

    def _check_penalties(self) -> None:
        repetition = self.repetition_penalty
        valid = _is_finite(repetition) and repetition > 0
        _check("repetition_penalty", repetition, valid, "a positive number; 1 is none")
        for name in _PENALTIES[1:]:
            value = getattr(self, name)
            _check(name, value, -2 <= value <= 2, "-2 to 2; 0 is none")

    @property
    def most_tokens(self) -> int:
        """`max_tokens` as a number: without one, more than any context holds."""
        return sys.maxsize if self.max_tokens is None else self.max_tokens

    @property
    def has_penalties(self) -> bool:
        """Whether earlier tokens change the logits."""
        return (self.repetition_penalty, self.presence_penalty, self.frequency_penalty) != (1, 0, 0)


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number that no float holds
        return False


def _check(name: str, value: object, valid: bool, allowed: str) -> None:
    if not valid:
        raise RequestError(f"{name} is {value!r}; allowed is {allowed}.")
