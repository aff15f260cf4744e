"""Grammars of structured outputs, compiled by llguidance, which is loaded when one is asked for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lm_offload.errors import RequestError, shown
from lm_offload.sampling.guide import Guide
from lm_offload.sampling.reasoning_grammar import after_reasoning
from lm_offload.sampling.structured_outputs import StructuredOutputs

if TYPE_CHECKING:
    from llguidance import LLMatcher
    from llguidance._lib import JsonCompileOptions

MOST_KEPT = 64  # grammars of a model
_Wanted = tuple[StructuredOutputs, bool]  # and whether the text begins within reasoning
WHITESPACE = r"[ \t\r\n]{1,32}"  # without a bound a model may go on with spaces for ever


class Grammars:
    """Compiles each grammar once while it is among the last that were asked for."""

    def __init__(self, tokenizer: str, vocab_size: int, end_tokens: Sequence[int]) -> None:
        """`tokenizer` is the text of a `tokenizer.json` with at most `vocab_size` tokens.

        Raises RequestError without llguidance, and for a tokenizer that it does not read.
        """
        _check_installed()
        from llguidance import LLTokenizer

        if not end_tokens:
            raise RequestError(
                "structured_outputs were given, and this model has no end token to end them with; "
                "leave them out, or name one in its config.json."
            )
        self._end_tokens = frozenset(end_tokens)
        self._compiled: dict[_Wanted, LLMatcher] = {}  # the last used is the last
        try:
            self._tokenizer = LLTokenizer(tokenizer, n_vocab=vocab_size, eos_token=[*end_tokens])
        except ValueError as error:
            raise RequestError(
                f"structured_outputs were given, and llguidance does not read the tokenizer of "
                f"this model ({_first_line(str(error))}); leave them out."
            ) from error

    def guide(self, wanted: StructuredOutputs, within_reasoning: bool = False) -> Guide:
        """One at the beginning of a text; raises RequestError for what cannot be compiled.

        The text may begin within the reasoning that the form comes after. Copies of a matcher share
        what it has computed, and a limit on that: then it is made anew.
        """
        key = wanted, within_reasoning
        matcher = self._compiled.pop(key, None)
        if matcher is None or not _can_begin(matcher):
            matcher = self._compile(*key)
        self._compiled[key] = matcher
        if len(self._compiled) > MOST_KEPT:
            del self._compiled[next(iter(self._compiled))]
        return Guide(matcher, self._end_tokens)

    def _compile(self, wanted: StructuredOutputs, within_reasoning: bool) -> LLMatcher:
        from llguidance import LLMatcher

        try:
            text = _grammar_text(wanted)
            if wanted.after_reasoning is not None:
                way = wanted.after_reasoning
                text = after_reasoning(text, way, within_reasoning, self._special_token)
            failed, messages = LLMatcher.validate_grammar_with_warnings(text, self._tokenizer)
        except ValueError as error:  # of JSON, characters, or GBNF
            raise _refusal(wanted, str(error)) from error
        if failed:
            raise _refusal(wanted, messages[0])
        matcher = LLMatcher(self._tokenizer, text, log_level=0)
        if not all(_can_begin(matcher) for _ in range(2)):
            raise _refusal(wanted, "no token of this model can begin it, or it is too large")
        return matcher

    def _special_token(self, text: str) -> int | None:
        """Which one this text is, if any: grammars name those by their numbers."""
        tokens = self._tokenizer.tokenize_str(text, parse_special=True)
        is_one = len(tokens) == 1 and self._tokenizer.is_special_token(tokens[0])
        return tokens[0] if is_one else None


def _can_begin(matcher: LLMatcher) -> bool:
    """Whether there is a first token; asked of a copy, as one that has failed is of no more use."""
    copy = matcher.deep_copy()
    copy.compute_bitmask()
    return not copy.is_error()


def _grammar_text(wanted: StructuredOutputs) -> str:
    """In llguidance's own form; raises ValueError."""
    from llguidance import LLMatcher, grammar_from

    if wanted.schema is not None:
        return LLMatcher.grammar_from_json_schema(wanted.schema, overrides=_spacing(wanted))
    if wanted.regex is not None:
        return grammar_from("regex", wanted.regex)
    if wanted.choice is not None:
        words = " | ".join(map(json.dumps, wanted.choice))
        return grammar_from("lark", f"start: CHOICE\nCHOICE: {words}")  # one lexeme: thousands fit
    return grammar_from("grammar", wanted.grammar or "")


def _spacing(wanted: StructuredOutputs) -> JsonCompileOptions:
    if wanted.disable_any_whitespace:
        return {"whitespace_flexible": False}
    return {"whitespace_pattern": wanted.whitespace_pattern or WHITESPACE}


def _refusal(wanted: StructuredOutputs, reason: str) -> RequestError:
    kind = wanted.kind
    return RequestError(
        f"The {kind} of structured_outputs cannot be compiled ({_first_line(reason)}); correct it, "
        "or leave out what is not supported."
    )


def _first_line(text: str) -> str:
    return shown((text.strip().splitlines() or [""])[0])


def _check_installed() -> None:
    try:
        import llguidance  # noqa: F401
    except ImportError as error:
        raise RequestError(
            "structured_outputs were given, and llguidance cannot be imported; install it with "
            "pip install 'lm-offload[structured]'."
        ) from error
