"""From logits to tokens: greedy, or drawn with random numbers that belong to the sequence.

The random number of a token depends on the seed of its request and on its position alone, so the
text does not depend on which other requests share the sweep.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lm_offload.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Sequence as Rows

    from torch import Tensor


@dataclass(frozen=True)
class SamplingParams:
    """How to draw tokens and when to stop; names and meaning as in vLLM."""

    max_tokens: int = 16
    temperature: float = 0.0  # 0 is greedy
    top_k: int = 0  # 0 is all
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False

    def __post_init__(self) -> None:
        """Raise RequestError for values outside their range."""
        _check("max_tokens", self.max_tokens, self.max_tokens >= 1, "at least 1")
        finite = math.isfinite(self.temperature) and self.temperature >= 0
        _check("temperature", self.temperature, finite, "0 (greedy) or a positive number")
        _check("top_k", self.top_k, self.top_k >= 0, "0 (all) or a positive number")
        _check("top_p", self.top_p, 0 < self.top_p <= 1, "above 0 and at most 1")
        _check("min_p", self.min_p, 0 <= self.min_p < 1, "at least 0 and below 1")
        _check("stop", self.stop, all(self.stop), "non-empty strings")


def _check(name: str, value: object, valid: bool, allowed: str) -> None:
    if not valid:
        raise RequestError(f"{name} is {value!r}; allowed is {allowed}.")


def sample(logits: Tensor, params: Rows[SamplingParams], positions: Rows[int]) -> list[int]:
    """One token per row of logits [R, V] f32; `positions` are those of the new tokens.

    Overwrites the rows that are drawn at random.
    """
    tokens: list[int] = logits.argmax(dim=-1).tolist()
    drawn = [row for row, param in enumerate(params) if param.temperature > 0]
    for row in drawn:
        tokens[row] = _draw(logits[row], params[row], positions[row])
    return tokens


def _draw(logits: Tensor, params: SamplingParams, position: int) -> int:
    """One token of logits [V], row by row so that a large vocabulary needs one row of scratch."""
    probabilities, tokens = logits.div_(params.temperature).softmax(-1).sort(descending=True)
    keep = (probabilities.cumsum(-1) - probabilities) < params.top_p
    keep &= probabilities >= params.min_p * probabilities[0]
    if params.top_k:
        keep[params.top_k :] = False
    cumulative = probabilities.mul_(keep).cumsum(-1)
    target = uniform(params.seed, position) * float(cumulative[-1])
    index = int((cumulative <= target).sum().clamp_(max=int(keep.sum()) - 1))
    return int(tokens[index])


def uniform(seed: int, position: int) -> float:
    """A number in [0, 1) from a seed and a position: SplitMix64 over both (Steele et al., 2014)."""
    mask = (1 << 64) - 1
    state = (seed * 0x9E3779B97F4A7C15 + (position + 1) * 0xD1B54A32D192ED03) & mask
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        state = ((state ^ (state >> shift)) * factor) & mask
    return ((state ^ (state >> 31)) >> 11) / (1 << 53)
