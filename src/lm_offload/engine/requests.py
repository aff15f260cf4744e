"""Checks prompts and makes sequences of them."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable
from collections.abc import Sequence as Items
from dataclasses import replace

from lm_offload.arch.config import ModelConfig
from lm_offload.engine.tokenizer import Tokenizer
from lm_offload.errors import ConfigError, RequestError
from lm_offload.hardware.limits import allowed_cores
from lm_offload.plan import Workload
from lm_offload.sampling import SamplingParams
from lm_offload.sequence import Sequence

Prompt = str | Items[int]


def make_sequences(
    prompts: Items[Prompt],
    params: SamplingParams | Items[SamplingParams],
    config: ModelConfig,
    tokenizer: Callable[[], Tokenizer],
) -> list[Sequence]:
    """`n` sequences per prompt; raises RequestError for what cannot be served."""
    if isinstance(params, SamplingParams):
        params = [params] * len(prompts)
    if len(params) != len(prompts):
        raise RequestError(
            f"{len(params)} sampling parameters were given for {len(prompts)} prompts; give one "
            "for all or one for each."
        )
    now_s = time.perf_counter()
    sequences: list[Sequence] = []
    for request, (prompt, one) in enumerate(zip(prompts, params, strict=True)):
        ids = tokenizer().encode(prompt) if isinstance(prompt, str) else list(prompt)
        _check(request, ids, config)
        room = config.max_positions - len(ids)
        one = replace(one, max_tokens=min(one.max_tokens, room))
        for sample in range(one.n):
            sequences.append(
                Sequence(
                    len(sequences),
                    array("i", ids),
                    one,
                    request=request,
                    seed=one.seed + sample,
                    prompt_logprobs=[None],
                    arrival_s=now_s,
                )
            )
    return sequences


def check_threads(threads: int | None) -> int:
    """Threads to compute with: as given, or every core this process may use."""
    cores = allowed_cores()
    if threads is not None and not 1 <= threads <= cores:
        raise ConfigError(
            f"{threads} threads were given; allowed are 1 to {cores}, the cores that cgroup and "
            "affinity leave to this process."
        )
    return threads or cores


def workload_of(sequences: Items[Sequence]) -> Workload:
    """Token counts of these requests."""
    return Workload(
        tuple(len(sequence.prompt) for sequence in sequences),
        tuple(sequence.params.max_tokens for sequence in sequences),
        sum(
            len(sequence.prompt)
            for sequence in sequences
            if sequence.params.prompt_logprobs is not None
        ),
    )


def _check(index: int, ids: list[int], config: ModelConfig) -> None:
    if not ids:
        raise RequestError(f"Prompt {index} is empty; give at least one token.")
    if len(ids) >= config.max_positions:
        raise RequestError(
            f"Prompt {index} has {len(ids)} tokens, the model's context is "
            f"{config.max_positions}; shorten it."
        )
    if min(ids) < 0 or max(ids) >= config.vocab_size:
        raise RequestError(
            f"Prompt {index} has a token id outside 0 to {config.vocab_size - 1}; use the "
            "tokenizer of this model."
        )
