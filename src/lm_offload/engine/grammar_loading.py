"""Compiles the grammars of requests with the tokenizer of the checkpoint."""

from __future__ import annotations

from collections.abc import Callable

from lm_offload.arch.config import ModelConfig
from lm_offload.engine.tokenizer import Tokenizer
from lm_offload.sampling.grammars import Grammars


def load_grammars(tokenizer: Callable[[], Tokenizer], config: ModelConfig) -> Grammars:
    """Those of a model; raises RequestError where they cannot be compiled for its tokenizer."""
    text, size = tokenizer().as_json()
    ends = [token for token in config.eos_token_ids if 0 <= token < config.vocab_size]
    return Grammars(text, max(size, config.vocab_size), ends)
