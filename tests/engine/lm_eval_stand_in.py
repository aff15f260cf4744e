"""As much of lm-evaluation-harness as the adapter stands on, for where it is not installed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest


class CacheHook:
    def add_partial(self, kind: str, arguments: Any, answer: Any) -> None:
        """Nothing is kept."""


class TemplateLM:
    def __init__(self) -> None:
        self.cache_hook = CacheHook()

    @property
    def tokenizer_name(self) -> str:
        raise NotImplementedError

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> Any:
        pairs = []
        for request in requests:
            context, continuation = request.args
            before = self.tok_encode(context) if context else [self.prefix_token_id]
            own = len(before) if context else 0
            whole = self.tok_encode(context + continuation)
            pairs.append((request.args, before, whole[own:]))
        return self._loglikelihood_tokens(pairs, disable_tqdm=disable_tqdm)


def register_model(name: str) -> Any:
    return lambda model: model


def get_rolling_token_windows(
    token_list: list[int], prefix_token: int, max_seq_len: int, context_len: int
) -> Iterator[tuple[list[int], list[int]]]:
    """Windows of full length, of which later ones predict what earlier ones have not."""
    assert context_len == 1
    tokens = [prefix_token, *token_list]
    for first in range(1, len(tokens), max_seq_len):
        last = min(first + max_seq_len, len(tokens))
        start = max(last - 1 - max_seq_len, 0)
        yield tokens[start : last - 1], tokens[first:last]


def make_disjoint_window(pair: tuple[list[int], list[int]]) -> tuple[list[int], list[int]]:
    before, targets = pair
    return before[: len(before) - len(targets) + 1], targets


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `import lm_eval` find this, until the fixture ends."""
    parts = {
        "lm_eval": {},
        "lm_eval.models": {},
        "lm_eval.api": {},
        "lm_eval.api.model": {"TemplateLM": TemplateLM},
        "lm_eval.api.registry": {"register_model": register_model},
        "lm_eval.utils": {
            "get_rolling_token_windows": get_rolling_token_windows,
            "make_disjoint_window": make_disjoint_window,
        },
    }
    for name, contents in parts.items():
        module = ModuleType(name)
        vars(module).update(contents)
        monkeypatch.setitem(sys.modules, name, module)
