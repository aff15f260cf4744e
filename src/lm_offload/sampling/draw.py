"""One token per row: the likeliest, or drawn with a random number that belongs to the sequence.

The random number of a token depends on the seed of its request and on its position alone, so the
text does not depend on which other requests share the sweep.
"""

from __future__ import annotations

from collections.abc import Sequence as Rows
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lm_offload.sampling.params import SamplingParams
from lm_offload.sampling.penalties import penalise
from lm_offload.sampling.token_rules import FORBIDDEN

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from lm_offload.sampling.guide import Guide
    from lm_offload.sampling.token_rules import TokenRules

MIN_TEMPERATURE = 1e-30  # float32 divides logits by smaller ones to infinity
# Tokens that are looked at first: torch.topk takes a heap up to this part of a vocabulary.
LIKELY_PART, LEAST_LIKELY = 64, 64
LEAST_PROBABILITY = np.float32(1e-45)  # the smallest above 0; forbidden tokens have 0


class Row(NamedTuple):
    """What the draw of one row depends on beside its logits."""

    params: SamplingParams
    seed: int
    prompt: Rows[int]
    output: Rows[int]
    rules: TokenRules | None = None
    guide: Guide | None = None

    @property
    def takes_likeliest(self) -> bool:
        """Whether the token is the likeliest one of the model."""
        is_free = self.rules is None and self.guide is None
        return self.params.temperature == 0 and is_free and not self.params.has_penalties

    @property
    def position(self) -> int:
        """Of the token to be drawn."""
        return len(self.prompt) + len(self.output)


def likeliest_of(logits: Tensor) -> list[int]:
    """The likeliest token of each row of logits [R, V] f32.

    By numpy, which takes a tenth of torch's time for it.
    """
    tokens: list[int] = logits.numpy().argmax(axis=-1).tolist()
    return tokens


def sample(logits: Tensor, rows: Rows[Row]) -> list[int]:
    """One token per row of logits [R, V] f32, which stay as they are."""
    drawn = sample_drafted(logits, likeliest_of(logits), rows, [()] * len(rows))
    return [tokens[0] for tokens in drawn]


def sample_drafted(
    logits: Tensor, likeliest: Rows[int], rows: Rows[Row], drafts: Rows[Rows[int]]
) -> list[list[int]]:
    """For each row one token, and one more for each token of its draft that was drawn.

    logits [R, V] f32 are those after each row and after each token of its draft, of which
    `likeliest` are the likeliest tokens. Every token is drawn as it would be without drafts, so
    these change nothing but how many come at once.
    """
    starts = accumulate((1 + len(draft) for draft in drafts), initial=0)
    return [
        _sample_run(logits, first, likeliest, row, draft)
        for first, row, draft in zip(starts, rows, drafts, strict=False)
    ]


def _sample_run(
    logits: Tensor, first: int, likeliest: Rows[int], row: Row, draft: Rows[int]
) -> list[int]:
    """The tokens of one row and its draft, whose logits begin at row `first`."""
    as_it_is = row.takes_likeliest
    if as_it_is and not draft:
        return [likeliest[first]]
    tokens: list[int] = []
    for index, token in enumerate(likeliest[first : first + 1 + len(draft)]):
        if not as_it_is:
            now = row._replace(output=[*row.output, *tokens]) if tokens else row
            token = _sample_row(logits[first + index].clone(), now)
        tokens.append(token)
        if index == len(draft) or token != draft[index]:
            break
    return tokens


def _sample_row(logits: Tensor, row: Row) -> int:
    """One token of logits [V]; row by row so that a large vocabulary needs one row of scratch."""
    if row.guide is not None:
        row.guide.apply(logits, row.output)
    if row.rules is not None:
        _apply_rules(logits, row, row.rules)
    if row.params.has_penalties:
        penalise(logits, row.params, row.prompt, row.output)
    if row.params.temperature == 0:
        return likeliest_of(logits[None])[0]
    return _draw(logits, row.params, uniform(row.seed, row.position))


def _apply_rules(logits: Tensor, row: Row, rules: TokenRules) -> None:
    """Rules give way where they would leave no token that the guide allows."""
    if row.guide is None:
        rules.apply(logits, row.output)
        return
    ruled = logits.clone()
    rules.apply(ruled, row.output)
    if bool(ruled.max() > FORBIDDEN):
        logits.copy_(ruled)


def _draw(logits: Tensor, params: SamplingParams, number: float) -> int:
    """The token at `number` in [0, 1) of the cumulative distribution that the limits leave.

    It is nearly always among the likeliest, and finding those takes a tenth of sorting all.
    """
    heat = max(params.temperature, MIN_TEMPERATURE)
    probabilities = logits.sub_(logits.max()).div_(heat).softmax(-1)
    width = len(probabilities)
    likely = min(params.top_k or max(width // LIKELY_PART, LEAST_LIKELY), width)
    values, tokens = probabilities.topk(likely)
    index = _place_of(number, values.numpy(), params, probabilities)
    if index is None:
        values, tokens = probabilities.sort(descending=True)
        index = _place_of(number, values.numpy(), params, probabilities)
    return int(tokens[index])


def _place_of(
    number: float, values: NDArray[np.float32], params: SamplingParams, probabilities: Tensor
) -> int | None:
    """Of the token among the likeliest, whose probabilities are `values`; None if it is not there.

    It is there where these are all that the limits leave, or where nothing is limited.
    """
    cumulative = values.cumsum(dtype=np.float64)
    least = params.min_p * values[0] or LEAST_PROBABILITY
    keep = (cumulative - values < params.top_p) & (values >= least)
    kept, most = int(keep.sum()), min(params.top_k or len(probabilities), len(probabilities))
    total = float(cumulative[kept - 1])
    if kept == len(values) < most:  # others may be left, too
        if params.top_p < 1 or params.min_p > 0:
            return None
        total = float(probabilities.sum())
        if number * total >= cumulative[-1]:
            return None
    return min(int(cumulative.searchsorted(number * total, side="right")), kept - 1)


def uniform(seed: int, position: int) -> float:
    """A number in [0, 1) from a seed and a position: SplitMix64 over both (Steele et al., 2014)."""
    mask = (1 << 64) - 1
    state = (seed * 0x9E3779B97F4A7C15 + (position + 1) * 0xD1B54A32D192ED03) & mask
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        state = ((state ^ (state >> shift)) * factor) & mask
    return ((state ^ (state >> 31)) >> 11) / (1 << 53)
