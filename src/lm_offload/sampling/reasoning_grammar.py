"""Puts reasoning, which is free, before what a text is held to: one grammar for both."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from lm_offload.sampling.reasoning_ways import CHANNELS, CLOSE, OPEN

FORM = "form"
SPACE = r"/[ \n]{0,8}/"  # between them
SpecialToken = Callable[[str], int | None]  # by its text, if it is one


def after_reasoning(form: str, way: str, within: bool, special: SpecialToken) -> str:
    """A grammar of llguidance: reasoning in this way, then `form`, another one.

    Reasoning may be left out, but where the text begins `within` it.
    """
    rules = _channels(special) if way == CHANNELS else _tags(within, special)
    first, *others = _parts(form)
    return json.dumps({"grammars": [{"lark_grammar": rules}, {**first, "name": FORM}, *others]})


def _tags(within: bool, special: SpecialToken) -> str:
    opened = _mark(OPEN, special)
    begun = f"{opened}? thoughts SPACE" if within else f"({opened} thoughts SPACE)?"
    return f"start: {begun} @{FORM}\nSPACE: {SPACE}\n{_thoughts(CLOSE, special)}"


def _channels(special: SpecialToken) -> str:
    names = ("<|channel|>", "<|message|>", "<|start|>")
    channel, message, start = (_mark(name, special) for name in names)
    first = f'({channel} "analysis" {message} thoughts {start} "assistant")?'
    return f'start: {first} {channel} "final" {message} @{FORM}\n{_thoughts("<|end|>", special)}'


def _thoughts(end: str, special: SpecialToken) -> str:
    """Any text and the mark that ends it."""
    if special(end) is None:
        return f"thoughts[suffix={_mark(end, special)}]: /(.|\\n)*/\n"
    return f"thoughts: TEXT {_mark(end, special)}\nTEXT: /(.|\\n)*/\n"


def _mark(text: str, special: SpecialToken) -> str:
    token = special(text)
    return json.dumps(text) if token is None else f"<[{token}]>"


def _parts(form: str) -> list[dict[str, Any]]:
    """Grammars are in JSON, or in Lark's syntax."""
    try:
        parts: list[dict[str, Any]] = json.loads(form)["grammars"]
    except (ValueError, KeyError, TypeError):
        return [{"lark_grammar": form}]
    return parts
