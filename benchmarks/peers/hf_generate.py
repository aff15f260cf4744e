"""Timed greedy generation through transformers' own `generate`, for the peers built on it."""

from __future__ import annotations

import time
from typing import Any

import torch
from benchmarks.peers.protocol import Generate, Generation
from transformers import GenerationConfig, StoppingCriteria


class TokenClock(StoppingCriteria):
    """Never stops anything; notes the time at which each token of the batch is known."""

    def __init__(self) -> None:
        self.times_s: list[float] = []

    def __call__(
        self, input_ids: torch.LongTensor, scores: torch.FloatTensor, **kwargs: Any
    ) -> torch.Tensor:
        """Note the time; (batch,) of False."""
        self.times_s.append(time.perf_counter())
        return torch.zeros(len(input_ids), dtype=torch.bool)


def generator(model: Any, threads: int) -> Generate:
    """What generates with a model on so many threads of torch."""
    torch.set_num_threads(threads)
    model.generation_config = GenerationConfig(do_sample=False, use_cache=True, pad_token_id=0)
    return lambda prompts, gen_len: generate_timed(model, prompts, gen_len)


def generate_timed(model: Any, prompts: list[list[int]], gen_len: int) -> Generation:
    """Exactly `gen_len` greedy tokens for prompts of one common length, no end-of-text stop."""
    input_ids = torch.tensor(prompts)
    clock = TokenClock()
    start_s = time.perf_counter()
    with torch.inference_mode():
        output = model.generate(
            input_ids,
            attention_mask=torch.ones_like(input_ids),
            max_new_tokens=gen_len,
            stopping_criteria=[clock],
        )
    return Generation(
        start_s=start_s,
        first_token_s=clock.times_s[0],
        end_s=clock.times_s[-1],
        token_ids=output[:, input_ids.shape[1] :].tolist(),
    )
