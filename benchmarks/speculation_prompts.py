"""Prompts whose continuations repeat themselves, or do not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice

from benchmarks.speculation_case import Case, open_llm
from lm_offload import LLM
from lm_offload.demo import demo_path

SEED_TOKENS = 8
FUNCTION_CHARACTERS = 700  # of a function that is shown whole
REPEATED_CHARACTERS = 120  # of its beginning, to be continued


def loop_prompts(case: Case) -> list[list[int]]:
    """For each round a few tokens and what a resident model says after them."""
    starts = [[7 + 31 * index + 5 * place for place in range(SEED_TOKENS)]
              for index in range(case.rounds)]  # fmt: skip
    params = replace(case.params, max_tokens=case.prompt_len - SEED_TOKENS)
    with open_llm(case, starts, resident=True, speculation="off") as llm:
        outputs = llm.generate(starts, params)
    return [it.prompt_token_ids + it.outputs[0].token_ids for it in outputs]


def code_prompts(case: Case) -> list[list[int]]:
    """For each round a function of the held-out text and its beginning once more."""
    return _encoded(case, (f"{it}\n\n\n{it[:REPEATED_CHARACTERS]}" for it in _functions(case)))


def text_prompts(case: Case) -> list[list[int]]:
    """For each round the beginning of a function of the held-out text."""
    return [tokens[: case.prompt_len] for tokens in _encoded(case, _functions(case))]


def _functions(case: Case) -> Iterator[str]:
    text = (demo_path() / "heldout.txt").read_text(encoding="utf-8")
    pieces = text.split("\ndef ")[1:]
    long = (piece for piece in pieces if len(piece) >= FUNCTION_CHARACTERS)
    return (f"def {piece[:FUNCTION_CHARACTERS]}" for piece in islice(long, case.rounds))


def _encoded(case: Case, texts: Iterable[str]) -> list[list[int]]:
    with LLM(case.model, threads=case.threads) as llm:
        return [llm.tokenizer.encode(text) for text in texts]
