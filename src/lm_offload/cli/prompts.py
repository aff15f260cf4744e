"""Prompts from the command line or from a file, those that are left, and results as records."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lm_offload.cli.line_file import (
    STANDARD_STREAM,
    LineSink,
    name_of,
    read_records,
    text_lines,
)
from lm_offload.cli.made_with import MADE_WITH, Made, check_made_with
from lm_offload.cli.progress import RunProgress
from lm_offload.errors import ConfigError, RequestError
from lm_offload.sampling import SamplingParams

if TYPE_CHECKING:
    from lm_offload.engine.completion import CompletionOutput
    from lm_offload.engine.outputs import RequestOutput
    from lm_offload.sampling.logprobs import Logprob


def read_prompts(prompts: list[str], file: Path | None) -> list[str]:
    """All prompts, those of the file last; raises RequestError if there is none."""
    found = [*prompts, *(_prompts_in(file) if file else [])]
    if not found:
        place = f"{name_of(file)} holds no prompt" if file else "No prompt was given"
        raise RequestError(f"{place}; use --prompt TEXT or --prompts-file FILE, one prompt a line.")
    return found


def _prompts_in(file: Path) -> Iterator[str]:
    if file.suffix == ".json":
        raise RequestError(
            f"{file} was given, one JSON value; give a .jsonl file with a line for each prompt, "
            '{"prompt": "text"}, or a text file.'
        )
    for place, line in text_lines(file):
        yield _prompt(line, place) if file.suffix == ".jsonl" else line


def _prompt(line: str, place: str) -> str:
    try:
        record = json.loads(line)
    except ValueError:
        record = None
    prompt = record.get("prompt") if isinstance(record, dict) else None
    if not isinstance(prompt, str):
        raise RequestError(f'{place} is not a line like {{"prompt": "text"}}; correct it.')
    others = [repr(name) for name in record if name != "prompt"]
    if others:
        raise RequestError(
            f'{place} has {", ".join(others)} beside "prompt", which is all that a line may have: '
            "options are those of the command, for all prompts; take the rest out."
        )
    return prompt


@dataclass(frozen=True)
class PromptSet:
    """Prompts as they were given and as token ids."""

    texts: Sequence[str]
    token_ids: Sequence[list[int]]

    def announce(self, progress: RunProgress, params: SamplingParams, max_positions: int) -> None:
        """Tell `progress` how many tokens there are to prefill and at most to decode."""
        most = params.kept_tokens(max_positions)
        lengths = [min(len(ids), most) for ids in self.token_ids]
        decoded = [min(params.most_tokens, max_positions - length) - 1 for length in lengths]
        progress.expect(params.n * sum(lengths), params.n * sum(decoded))


def left_to_do(prompts: Sequence[str], output: Path | None, made: Made) -> list[int]:
    """Indices of the prompts that `output` has no line of, or one with an error.

    Raises ConfigError for no file, and for a line of another prompt or made with other options.
    """
    if output in (None, STANDARD_STREAM):
        raise ConfigError("--resume was given without --output FILE; name the file to go on with.")
    done = set()
    for record in read_records(output, {"index": int}):
        index = record["index"]
        if not 0 <= index < len(prompts) or record.get("prompt") != prompts[index]:
            raise ConfigError(
                f"{output} has a line of prompt {index} that is of other prompts than these; name "
                "another file, or leave --resume out."
            )
        if "error" not in record:
            check_made_with(output, f"prompt {index}", record, made)
            done.add(index)
    return [index for index in range(len(prompts)) if index not in done]


def write_output(
    sink: LineSink, index: int, prompt: str, output: RequestOutput, made: Made
) -> None:
    """One finished request, the prompt with that `index`, as a line of JSON."""
    record: dict[str, Any] = {
        "index": index,
        "prompt": prompt,
        **_completion(output.outputs[0]),
        "num_prompt_tokens": len(output.prompt_token_ids),
        "num_cached_tokens": output.num_cached_tokens,
        "ttft_s": round(output.ttft_s, 4),
    }
    if output.prompt_scores is not None:
        record["prompt_token_ids"] = output.prompt_token_ids
        record["prompt_logprobs"] = [
            place and _log_probabilities(place) for place in output.prompt_scores
        ]
    if len(output.outputs) > 1:
        record["outputs"] = [_completion(completion) for completion in output.outputs]
    record[MADE_WITH] = made
    sink.write(record)


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
    if completion.scores is not None:
        record["token_ids"] = completion.token_ids
        record["logprobs"] = [_log_probabilities(place) for place in completion.scores]
    return record


def _log_probabilities(place: Mapping[int, Logprob]) -> dict[int, float]:
    """Of one place, by token id."""
    return {token: round(entry.logprob, 5) for token, entry in place.items()}
