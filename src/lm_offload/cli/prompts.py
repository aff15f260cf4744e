"""Prompts from the command line or from a file, and results as lines of JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from lm_offload.cli.progress import RunProgress
from lm_offload.errors import RequestError
from lm_offload.sampling import SamplingParams

if TYPE_CHECKING:
    from lm_offload.engine.outputs import CompletionOutput, RequestOutput


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


@dataclass(frozen=True)
class PromptSet:
    """Prompts as they were given and as token ids."""

    texts: Sequence[str]
    token_ids: Sequence[list[int]]

    def announce(self, progress: RunProgress, params: SamplingParams, max_positions: int) -> None:
        """Tell `progress` how many tokens there are to prefill and at most to decode."""
        lengths = [len(ids) for ids in self.token_ids]
        decoded = [min(params.max_tokens, max_positions - length) - 1 for length in lengths]
        progress.expect(params.n * sum(lengths), params.n * sum(decoded))


def write_output(stream: TextIO, prompt: str, output: RequestOutput) -> None:
    """One finished request as a line of JSON, flushed so that an interruption loses nothing."""
    record: dict[str, Any] = {
        "index": output.index,
        "prompt": prompt,
        **_completion(output.outputs[0]),
        "num_prompt_tokens": len(output.prompt_token_ids),
        "num_cached_tokens": output.num_cached_tokens,
        "ttft_s": round(output.ttft_s, 4),
    }
    if len(output.outputs) > 1:
        record["outputs"] = [_completion(completion) for completion in output.outputs]
    stream.write(json.dumps(record, ensure_ascii=False) + "\n")
    stream.flush()


def _completion(completion: CompletionOutput) -> dict[str, Any]:
    record: dict[str, Any] = {
        "text": completion.text,
        "finish_reason": completion.finish_reason,
        "num_output_tokens": len(completion.token_ids),
        "num_drafted_tokens": completion.drafted,
        "num_accepted_tokens": completion.accepted,
    }
    if completion.error is not None:
        record["error"] = completion.error
    if completion.logprobs is not None:
        record["token_ids"] = completion.token_ids
        record["logprobs"] = [
            {token: round(entry.logprob, 5) for token, entry in place.items()}
            for place in completion.logprobs
        ]
    return record
