"""Options of `generate` that say how tokens are drawn, against the same values in Python."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from lm_offload import LLM, SamplingParams, StructuredOutputs
from tests.cli.conftest import Run

PROMPT = "def read(path):"
CASES = [
    (["--min-tokens", "9", "--stop", "e"], {"min_tokens": 9, "stop": "e"}),
    (
        ["--logit-bias", "300=4.5", "--logit-bias", "301=-inf"],
        {"logit_bias": {300: 4.5, 301: float("-inf")}},
    ),
    (["--bad-words", "Return", "--bad-words", "path"], {"bad_words": ["Return", "path"]}),
    (
        ["--allowed-token-ids", "300", "--allowed-token-ids", "301"],
        {"allowed_token_ids": [300, 301]},
    ),
    (
        ["--stop", "e", "--include-stop-str-in-output", "--no-skip-special-tokens"],
        {"stop": "e", "include_stop_str_in_output": True, "skip_special_tokens": False},
    ),
    (["--truncate-prompt-tokens", "3"], {"truncate_prompt_tokens": 3}),
    (["--regex", "[a-f]{4}"], {"structured_outputs": StructuredOutputs(regex="[a-f]{4}")}),
    (
        ["--choice", "yes", "--choice", "no"],
        {"structured_outputs": StructuredOutputs(choice=["yes", "no"])},
    ),
]


@pytest.fixture(scope="module")
def llm(demo: Path) -> LLM:
    return LLM(demo, cpu_memory="64MiB")


def record_of(run: Run, demo: Path, *arguments: str) -> dict[str, object]:
    options = ["--max-tokens", "12", "--cpu-memory", "64MiB", "--json", "-q"]
    done = run("generate", str(demo), "--prompt", PROMPT, *options, *arguments)
    assert done.returncode == 0, done.stderr
    record: dict[str, object] = json.loads(done.stdout)
    return record


@pytest.mark.parametrize(("arguments", "values"), CASES, ids=lambda it: str(it)[:30])
def test_options_mean_what_they_mean_in_python(
    run: Run, demo: Path, llm: LLM, arguments: list[str], values: dict[str, object]
) -> None:
    (output,) = llm.generate(PROMPT, SamplingParams(max_tokens=12, **values))
    record = record_of(run, demo, *arguments)
    assert record["text"] == output.text
    assert record["num_prompt_tokens"] == len(output.prompt_token_ids)
    plain = record_of(run, demo)
    assert (record["text"], record["num_prompt_tokens"]) != (
        plain["text"],
        plain["num_prompt_tokens"],
    )


def test_a_file_says_the_same(run: Run, demo: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    values = {"logit-bias": ["300=4.5"], "bad-words": ["return"], "min-tokens": 5}
    config.write_text(yaml.safe_dump(values))
    arguments = ["--logit-bias", "300=4.5", "--bad-words", "return", "--min-tokens", "5"]
    found = record_of(run, demo, "--config", str(config))
    assert found["text"] == record_of(run, demo, *arguments)["text"]


def test_a_schema_is_read_from_a_file(run: Run, demo: Path, llm: LLM, tmp_path: Path) -> None:
    schema = {"type": "array", "items": {"enum": [1, 2]}, "maxItems": 2}
    file = tmp_path / "schema.json"
    file.write_text(json.dumps(schema))
    record = record_of(run, demo, "--json-schema", str(file))
    held = StructuredOutputs(json=schema)
    (output,) = llm.generate(PROMPT, SamplingParams(max_tokens=12, structured_outputs=held))
    assert record["text"] == output.text
    assert set(json.loads(output.text)) <= {1, 2}


def test_log_probabilities_of_the_prompt_are_in_the_record(run: Run, demo: Path, llm: LLM) -> None:
    (output,) = llm.generate(PROMPT, SamplingParams(max_tokens=12, prompt_logprobs=2))
    record = record_of(run, demo, "--prompt-logprobs", "2")
    assert record["prompt_token_ids"] == output.prompt_token_ids
    wanted = [
        place and {str(token): pytest.approx(it.logprob, abs=1e-3) for token, it in place.items()}
        for place in output.prompt_logprobs or ()
    ]
    assert record["prompt_logprobs"] == wanted
    assert wanted[0] is None
    assert len(wanted) == record["num_prompt_tokens"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--logit-bias", "5"], "logit-bias is 5; allowed is TOKEN=VALUE, as in 13=-5"),
        (["--logit-bias", "a=5"], "logit-bias is a=5"),
        (["--logit-bias", "5=1=2"], "logit-bias is 5=1=2"),
        (["--logit-bias", "5=nan"], "logit_bias is {5: nan}"),
        (["--logit-bias", "99999=1"], "logit_bias has the token id 99999"),
        (["--min-tokens", "200"], "min_tokens is 200; allowed is 0 to max_tokens"),
        (["--bad-words", ""], "bad_words is"),
        (["--regex", "("], "The regex of structured_outputs cannot be compiled"),
        (["--regex", "a", "--choice", "b"], "structured_outputs has regex, choice; give exactly"),
        (["--json-schema", "nowhere.json"], "--json-schema nowhere.json cannot be read"),
        (["--prefix-cache", ""], "prefix_cache is ''; allowed is a path"),
    ],
)
def test_values_that_are_none_are_one_sentence(
    run: Run, demo: Path, arguments: list[str], words: str
) -> None:
    done = run("generate", str(demo), "--prompt", PROMPT, *arguments)
    assert done.returncode in (2, 7), done.stderr
    assert words in done.stderr.replace("\n", " ")
    assert done.stderr.startswith("error: ")
