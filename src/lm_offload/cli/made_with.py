"""What lines of an output were made with, so that `--resume` does not mix two runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lm_offload.errors import ConfigError
from lm_offload.sampling import SamplingParams

if TYPE_CHECKING:
    from lm_offload.engine.llm import LLM

MADE_WITH = "made_with"  # the key in a line
MOST_LETTERS = 64  # of a value in each line; of longer ones a digest
Made = Mapping[str, Any]


def model_as_made(llm: LLM) -> dict[str, Any]:
    """The model and its formats, as far as they change texts."""
    from lm_offload.engine.model_folder import model_name

    is_open = len(llm.choices) > 1  # the plan chooses
    formats = llm.files.stored_format, llm.files.kv_format
    weights, kv = ("auto", "auto") if is_open else map(str, formats)
    return {"model": model_name(llm.files.folder), "weight_format": weights, "kv_format": kv}


def sampling_as_made(params: SamplingParams) -> dict[str, Any]:
    """`max_tokens`, and all else that is not the default."""
    given, default = asdict(params), asdict(SamplingParams())
    changed = {name: value for name, value in given.items() if value != default[name]}
    return {
        name: _short(value) for name, value in {**changed, "max_tokens": params.max_tokens}.items()
    }


def digest(value: Any) -> str:
    """Of what JSON can say, whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, default=str)
    return f"sha256:{sha256(text.encode()).hexdigest()[:16]}"


def check_made_with(output: Path, which: str, record: Mapping[str, Any], now: Made) -> None:
    """Raise ConfigError where a line was made with something else; older lines do not say."""
    before = record.get(MADE_WITH)
    if not isinstance(before, dict):
        return
    for name in {**before, **now}:
        was, becomes = before.get(name), now.get(name)
        if was != becomes:
            raise ConfigError(
                f"{output} has a line of {which} that was made with {name} {_said(was)}, now it is "
                f"{_said(becomes)}; give the same again, name another file, or leave --resume out."
            )


def _short(value: Any) -> Any:
    """As JSON gives it back, or a digest."""
    text = json.dumps(value, sort_keys=True, default=str)
    return json.loads(text) if len(text) <= MOST_LETTERS else digest(value)


def _said(value: Any) -> str:
    return "as by default" if value is None else repr(value)
