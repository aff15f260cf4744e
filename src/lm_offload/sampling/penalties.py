"""Makes tokens that were used before less likely, or more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lm_offload.sampling.params import SamplingParams

if TYPE_CHECKING:
    from torch import Tensor


def penalise(
    logits: Tensor, params: SamplingParams, prompt: Sequence[int], output: Sequence[int]
) -> None:
    """Change logits [V] in place.

    Repetition (Keskar et al., 2019) divides positive and multiplies negative logits of every
    token of prompt and output; presence and frequency subtract for those of the output.
    """
    if params.repetition_penalty != 1:
        seen = logits.new_tensor(sorted({*prompt, *output})).long()
        values = logits[seen]
        factor = params.repetition_penalty
        logits[seen] = values.where(values < 0, values / factor).where(values > 0, values * factor)
    counts = Counter(output)
    if counts and (params.presence_penalty or params.frequency_penalty):
        used = logits.new_tensor(list(counts)).long()
        times = logits.new_tensor(list(counts.values()))
        logits[used] -= params.presence_penalty + params.frequency_penalty * times
