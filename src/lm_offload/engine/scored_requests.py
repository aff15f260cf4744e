"""Sequences whose logits somebody looks at, one for each window of a text."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from collections.abc import Sequence as Items
from functools import partial
from typing import TYPE_CHECKING

from lm_offload.arch.config import ModelConfig
from lm_offload.engine.eval_windows import Window
from lm_offload.engine.requests import check_prompt
from lm_offload.plan import Workload
from lm_offload.sampling import SamplingParams
from lm_offload.sequence import Sequence

if TYPE_CHECKING:
    from torch import Tensor

ScoreConsumer = Callable[[int, int, "Tensor"], None]  # window, position of the first row, logits


def make_scored(
    windows: Items[Window], consumer: ScoreConsumer, config: ModelConfig
) -> list[Sequence]:
    """A sequence for each window, whose logits go to `consumer`; raises RequestError."""
    for index, window in enumerate(windows):
        check_prompt(index, window.token_ids, config, config.max_positions)
    return [
        Sequence(
            index,
            array("i", window.token_ids),
            SamplingParams(max_tokens=1),  # a sequence ends with a token; nobody looks at it
            on_logits=partial(consumer, index),
            logits_from=window.first_row,
        )
        for index, window in enumerate(windows)
    ]


def scored_workload(windows: Items[Window]) -> Workload:
    """Token counts of windows that are to be scored."""
    lengths = tuple(len(window.token_ids) for window in windows)
    scored = sum(len(window.targets) for window in windows)
    return Workload(lengths, (1,) * len(lengths), scored)
