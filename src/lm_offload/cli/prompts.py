"""Prompts from the command line or from a file, and results as lines of JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from lm_offload.engine.outputs import RequestOutput
from lm_offload.errors import RequestError


def read_prompts(prompts: list[str], file: Path | None) -> list[str]:
    """All prompts, those of the file last; raises RequestError if there is none."""
    found = [*prompts, *(_lines(file) if file else [])]
    if not found:
        raise RequestError("No prompt was given; use --prompt TEXT or --prompts-file FILE.")
    return found


def _lines(file: Path) -> Iterator[str]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"{file} cannot be read as text ({error}); check the path.") from error
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield _prompt(line, f"{file.name}:{number}") if file.suffix == ".jsonl" else line


def _prompt(line: str, place: str) -> str:
    try:
        prompt = json.loads(line)["prompt"]
    except (ValueError, TypeError, KeyError):
        prompt = None
    if not isinstance(prompt, str):
        raise RequestError(f'{place} is not a line like {{"prompt": "text"}}; correct it.')
    return prompt


def write_output(stream: TextIO, output: RequestOutput) -> None:
    """One finished request as a line of JSON, flushed so that an interruption loses nothing."""
    record = {
        "index": output.index,
        "prompt": output.prompt,
        "text": output.text,
        "finish_reason": output.outputs[0].finish_reason,
        "num_prompt_tokens": len(output.prompt_token_ids),
        "num_output_tokens": len(output.outputs[0].token_ids),
        "ttft_s": round(output.ttft_s, 4),
    }
    stream.write(json.dumps(record, ensure_ascii=False) + "\n")
    stream.flush()
