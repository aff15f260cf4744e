"""The options that say how tokens are drawn and where outputs end, each a field of SamplingParams.

Values are checked there; here is what the command line calls them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from lm_offload.cli.declare import option, unset
from lm_offload.errors import RequestError
from lm_offload.sampling import StructuredOutputs

MaxTokens = Annotated[int, option("Most tokens to generate for each prompt.")]
Temperature = Annotated[float, option("0 is greedy.")]
TopK = Annotated[int, option("Draw from the K likeliest tokens; 0 is all.")]
TopP = Annotated[float, option("Draw from the likeliest tokens that sum to P.")]
MinP = Annotated[float, option("Ignore tokens less likely than P times the likeliest.")]
RepetitionPenalty = Annotated[
    float, option("Divides the logits of tokens in prompt or output; 1 is none.")
]
PresencePenalty = Annotated[
    float, option("Subtracted from the logits of each token in the output.")
]
FrequencyPenalty = Annotated[
    float, option("Subtracted for each time that a token is in the output.")
]
Seed = Annotated[int, option("Seed of the random numbers.")]
Stop = Annotated[list[str] | None, unset("End at this text; may be repeated.")]
IgnoreEos = Annotated[bool, option("Go on after an end token.", "--ignore-eos")]
N = Annotated[int, option("Completions of each prompt.", "--n")]
MinTokens = Annotated[
    int, option("Until there are as many, no end token is drawn and no stop text ends the output.")
]
LogitBias = Annotated[
    list[str] | None,
    unset("TOKEN=VALUE: added to the logit of this token id, as in 13=-5; may be repeated."),
]
BadWords = Annotated[
    list[str] | None, unset("Do not draw the token that would complete this; may be repeated.")
]
AllowedTokenIds = Annotated[
    list[int] | None, unset("Draw this token id and no others; may be repeated.")
]
IncludeStop = Annotated[
    bool,
    option("Leave what ended an output in its text.", "--include-stop-str-in-output"),
]
SkipSpecialTokens = Annotated[bool, option("Leave special tokens out of the text.")]
TruncatePromptTokens = Annotated[
    int | None, unset("Keep only as many tokens of a prompt, the last ones; -1 is what fits.")
]
Logprobs = Annotated[
    int | None,
    unset("Log probabilities of this many tokens in each place of the output."),
]
PromptLogprobs = Annotated[int | None, unset("The same in each place of the prompt.")]

JsonSchema = Annotated[
    Path | None, unset("A file with a JSON schema that every output is to follow.")
]
Regex = Annotated[str | None, unset("A regular expression that every output is to match.")]
Choice = Annotated[list[str] | None, unset("Every output is one of these; may be repeated.")]


def held_to(
    schema: Path | None, regex: str | None, choice: list[str] | None
) -> StructuredOutputs | None:
    """What outputs follow, None for any text; raises RequestError for several and for no file."""
    if schema is None and regex is None and not choice:
        return None
    text = None if schema is None else _read(schema)
    return StructuredOutputs(json=text, regex=regex, choice=choice or None)


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(
            f"--json-schema {file} cannot be read ({error}); give a file with a JSON schema."
        ) from error


def biases(given: list[str] | None) -> dict[int, float] | None:
    """Values of `--logit-bias` by token id; raises RequestError."""
    try:
        pairs = (text.split("=") for text in given or ())
        return {int(token): float(bias) for token, bias in pairs} or None
    except ValueError as error:
        raise RequestError(
            f"logit-bias is {', '.join(given or ())}; allowed is TOKEN=VALUE, as in 13=-5."
        ) from error
