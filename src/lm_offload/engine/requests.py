"""Checks prompts and makes sequences of them."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable
from collections.abc import Sequence as Items
from secrets import randbits

from lm_offload.arch.config import ModelConfig
from lm_offload.engine.bad_words import word_tokens
from lm_offload.engine.prompt_forms import PlainPrompt
from lm_offload.engine.tokenizer import Tokenizer
from lm_offload.errors import RequestError
from lm_offload.kvcache.block_keys import shared_lens
from lm_offload.plan import Workload
from lm_offload.sampling import SamplingParams, StructuredOutputs
from lm_offload.sampling.grammars import Grammars
from lm_offload.sampling.guide import Guide
from lm_offload.sampling.reasoning_ways import END_TOKENS, begins_within
from lm_offload.sampling.token_rules import TokenRules, token_rules
from lm_offload.sequence import Sequence

SEED_BITS = 31


def make_sequences(
    prompts: Items[PlainPrompt],
    params: SamplingParams | Items[SamplingParams],
    config: ModelConfig,
    tokenizer: Callable[[], Tokenizer],
    grammars: Callable[[], Grammars],
) -> list[Sequence]:
    """`n` sequences per prompt; raises RequestError for what cannot be served."""
    now_s = time.perf_counter()
    sequences: list[Sequence] = []
    rules_of = _RulesOnce(config, tokenizer)
    each = zip(prompts, _params_of_each(params, len(prompts)), strict=True)
    for request, (prompt, one) in enumerate(each):
        ids = tokenizer().encode(prompt) if isinstance(prompt, str) else list(prompt)
        ids = ids[-one.kept_tokens(config.max_positions) :]
        check_prompt(request, ids, config, config.max_positions - 1)  # room for a token
        rules = rules_of(one)
        held_to = one.structured_outputs
        one = _with_room(one, config.max_positions - len(ids))
        seed = randbits(SEED_BITS) if one.seed is None else one.seed
        sequences += [
            Sequence(
                len(sequences) + sample,
                array("i", ids),
                one,
                request=request,
                seed=seed + sample,
                rules=rules,
                guide=_guide(held_to, ids, tokenizer, grammars) if held_to else None,
                prompt_logprobs=[None],
                arrival_s=now_s,
            )
            for sample in range(one.n)
        ]
    return sequences


def _guide(
    wanted: StructuredOutputs,
    prompt: Items[int],
    tokenizer: Callable[[], Tokenizer],
    grammars: Callable[[], Grammars],
) -> Guide:
    """The place of an output in its grammar; a prompt may end within reasoning."""
    way = wanted.after_reasoning
    if way is None:
        return grammars().guide(wanted)
    prompt_end = tokenizer().decode_all(prompt[-END_TOKENS:])
    return grammars().guide(wanted, begins_within(way, prompt_end))


class _RulesOnce:
    """The token rules of parameters, made once where many prompts share them."""

    def __init__(self, config: ModelConfig, tokenizer: Callable[[], Tokenizer]) -> None:
        self._config = config
        self._tokenizer = tokenizer
        self._made: dict[int, TokenRules | None] = {}  # by identity: large lists are slow to hash

    def __call__(self, params: SamplingParams) -> TokenRules | None:
        if id(params) not in self._made:
            self._made[id(params)] = self._make(params)
        return self._made[id(params)]

    def _make(self, params: SamplingParams) -> TokenRules | None:
        words = word_tokens(params.bad_words, self._encode)
        config = self._config
        return token_rules(params, config.vocab_size, config.eos_token_ids, words)

    def _encode(self, text: str) -> list[int]:
        return self._tokenizer().encode_words(text)


def _with_room(params: SamplingParams, room: int) -> SamplingParams:
    """The same with no more tokens than there is room for."""
    most = min(params.most_tokens, room)
    return (
        params
        if params.max_tokens == most
        else params.clone(max_tokens=most, min_tokens=min(params.min_tokens, most))
    )


def _params_of_each(
    params: SamplingParams | Items[SamplingParams], count: int
) -> Items[SamplingParams]:
    """Those of each of `count` prompts; raises RequestError where their number is another."""
    if isinstance(params, SamplingParams):
        return [params] * count
    if not isinstance(params, Items) or not all(isinstance(it, SamplingParams) for it in params):
        raise RequestError(
            f"Sampling parameters are {params!r}; allowed is SamplingParams(...), one for all "
            "prompts or a list with one for each."
        )
    if len(params) != count:
        raise RequestError(
            f"{len(params)} sampling parameters were given for {count} prompts; give one "
            "for all or one for each."
        )
    return params


def workload_of(sequences: Items[Sequence]) -> Workload:
    """Token counts of these requests."""
    return Workload(
        tuple(len(sequence.prompt) for sequence in sequences),
        tuple(sequence.params.most_tokens for sequence in sequences),
        sum(
            len(sequence.prompt) - sequence.logits_from
            for sequence in sequences
            if sequence.is_scored
        ),
        shared_lens=shared_lens(sequences),
        may_end_early=any(sequence.may_end_early for sequence in sequences),
    )


def check_prompt(index: int, ids: Items[int], config: ModelConfig, most: int) -> None:
    """Raise RequestError for a prompt that has no tokens, or others than the model can take."""
    if not ids:
        raise RequestError(
            f"Prompt {index} has no tokens: it is empty, or its characters are not in the "
            "vocabulary; give at least one token."
        )
    if len(ids) > most:
        raise RequestError(
            f"Prompt {index} has {len(ids)} tokens, the model's context is "
            f"{config.max_positions}; shorten it."
        )
    if min(ids) < 0 or max(ids) >= config.vocab_size:
        raise RequestError(
            f"Prompt {index} has a token id outside 0 to {config.vocab_size - 1}; use the "
            "tokenizer of this model."
        )
